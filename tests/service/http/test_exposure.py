"""Where the service may listen: real sockets, and the command as a process with keys and certificates."""

import logging
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.client import Client
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.http.exposure import check_certificate
from sfsc_service.http.keys import file_line, make_key
from sfsc_service.http.server import bind
from sfsc_service.settings import Settings
from tests.service.command import run, serving, until_ready
from tests.service.images import draw_image
from tests.service.raw import hear, request_head

EVERYWHERE = ["0.0.0.0", "::"]
DEADLINE_S = 30.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of `name` for 127.0.0.1 that signs itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


def common_name(url: str) -> str:
    """Whose certificate a service shows."""
    host, port = url.removeprefix("https://").split(":")
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-subject"],
        input=ssl.get_server_certificate((host, int(port))),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.split(r"CN ?= ?", text)[1].strip()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    key, entry = make_key(["read", "write"])
    file = tmp_path / "keys.toml"
    file.write_text(file_line("laptop", entry) + "\n")
    return file, key


@pytest.mark.parametrize("host", EVERYWHERE)
def test_an_open_address_without_keys_is_refused(settings: Settings, host: str) -> None:
    with pytest.raises(StartError, match=r"host: other machines can reach .*SFSC_KEYS.*SFSC_ALLOW_OPEN"):
        bind(settings.model_copy(update={"host": host}))


@pytest.mark.parametrize("host", EVERYWHERE)
def test_what_says_that_it_is_meant_is_a_warning(
    settings: Settings, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    bind(settings.model_copy(update={"host": host, "allow_open": True})).close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "without keys (allow_open)" in record.message


def test_keys_without_tls_on_an_open_address_are_warned_of(
    settings: Settings, keys: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    everywhere = settings.model_copy(update={"host": "0.0.0.0", "keys": keys[0]})
    bind(everywhere).close()
    assert "without TLS" in caplog.text
    caplog.clear()
    bind(everywhere.model_copy(update={"trusted_proxies": "10.0.0.1/32"})).close()
    bind(everywhere.model_copy(update={"tls_cert": Path("c"), "tls_key": Path("k")})).close()
    assert caplog.text == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("every", ["0.0.0.0/0", "::/0"])
def test_proxies_that_are_every_address_are_warned_of(
    settings: Settings, keys: tuple[Path, str], host: str, every: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxies = {"host": host, "keys": keys[0], "trusted_proxies": f"10.0.0.1/32,{every}"}
    bind(settings.model_copy(update=proxies)).close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"trusted_proxies: {every} is every address" in record.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.3.2.1", "::1"])
def test_the_loopback_needs_nothing(settings: Settings, host: str, caplog: pytest.LogCaptureFixture) -> None:
    bind(settings.model_copy(update={"host": host})).close()
    assert caplog.text == ""


def test_a_proxy_brings_strangers_to_the_loopback(
    settings: Settings, keys: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    proxied = settings.model_copy(update={"trusted_proxies": "127.0.0.1/32", "hosts": "vision.example"})
    with pytest.raises(
        StartError, match=r"trusted_proxies: whoever reaches the proxy .*SFSC_KEYS.*SFSC_ALLOW_OPEN"
    ):
        bind(proxied)
    bind(proxied.model_copy(update={"keys": keys[0]})).close()
    assert caplog.text == ""
    bind(proxied.model_copy(update={"allow_open": True})).close()
    assert "behind the proxy at 127.0.0.1/32 without keys (allow_open)" in caplog.text
    caplog.clear()
    bind(proxied.model_copy(update={"trusted_proxies": None})).close()
    assert "answering under vision.example without keys" in caplog.text


def test_the_command_refuses_an_open_address(tiny: Bundle, tmp_path: Path) -> None:
    done = run("serve", tiny.folder, "--host", "0.0.0.0", "--port", 0, "--data", tmp_path / "data")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("sfsc: host: other machines can reach 0.0.0.0")


def test_the_command_names_a_file_of_keys_that_it_cannot_use(tiny: Bundle, tmp_path: Path) -> None:
    done = run("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--keys", tmp_path / "none.toml")
    assert (done.returncode, done.stderr) == (
        1,
        f"sfsc: keys: {tmp_path}/none.toml cannot be read: No such file or directory\n",
    )


def test_keys_are_reread_on_sighup_while_the_service_serves(
    tiny: Bundle, tmp_path: Path, keys: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SFSC_API_KEY", raising=False)
    file, key = keys
    words = ("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--threads", 1, "--keys", file)
    with serving(*words) as (process, url):
        until_ready(url)
        with Client(url, api_key=key) as client, Client(url) as stranger:
            client.put("x", draw_image(1))
            with pytest.raises(ServiceError) as refusal:
                stranger.widths()
            assert (refusal.value.code, refusal.value.status) == ("key_missing", 401)
            file.write_text(file_line("other", make_key(["read"])[1]))
            process.send_signal(signal.SIGHUP)

            def revoked() -> bool:
                try:
                    client.widths()
                except ServiceError as error:
                    return error.code == "key_unknown"
                return False

            until(revoked)


def test_the_environment_gives_the_key_to_client_and_commands(
    tiny: Bundle, tmp_path: Path, keys: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, key = keys
    words = ("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--threads", 1, "--keys", file)
    with serving(*words) as (_, url):
        until_ready(url)
        refused = run("count", "--url", url)
        assert refused.returncode == 1
        assert "SFSC_API_KEY" in refused.stderr
        assert (
            run("count", "--url", url, SFSC_API_KEY="clé").stderr == "sfsc: the service does not know this key\n"
        )
        assert run("count", "--url", url, SFSC_API_KEY=key).stdout.splitlines() == ["0"]
        monkeypatch.setenv("SFSC_API_KEY", key)
        with Client(url) as client:
            assert client.widths()["model"]


def test_tls_with_a_certificate_that_is_reread_on_sighup(
    tiny: Bundle, tmp_path: Path, keys: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, key = keys
    cert, private = certificate(tmp_path, "first")
    words = ("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--threads", 1, "--keys", file)
    with serving(*words, "--tls-cert", cert, "--tls-key", private) as (process, url):
        assert url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(cert))
        with Client(url, api_key=key, transport=httpx.HTTPTransport(verify=trust)) as client:
            until(client.ready)
            assert client.put("x", draw_image(1))["created"]
            assert client.search(id="x", include_self=True)["hits"][0]["id"] == "x"
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with Client(url, api_key=key) as trusting:
            assert trusting.count() == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(private.with_name("none.pem")))
        with pytest.raises(ServiceError, match=r"SSL_CERT_FILE: .*none\.pem cannot be used: No such file"):
            Client(url)
        monkeypatch.delenv("SSL_CERT_FILE")
        with (
            Client(url) as suspicious,
            pytest.raises(ServiceError, match=r"name the file .* in SSL_CERT_FILE") as no,
        ):
            suspicious.count()
        assert no.value.code == "certificate_not_trusted"
        with Client(url.replace("https:", "http:")) as plain, pytest.raises(ServiceError) as refusal:
            plain.widths()
        assert f"; if it speaks TLS, its address is {url}" in refusal.value.detail
        host, port = url.removeprefix("https://").split(":")
        with trust.wrap_socket(
            socket.create_connection((host, int(port)), 30), server_hostname=host
        ) as connection:
            connection.sendall(request_head("GET", "/livez") * 2 + b"nonsense\r\n\r\n")
            assert re.findall(rb"HTTP/1.1 (\d+)", hear(connection)) == [b"200", b"200", b"400"]
        assert common_name(url) == "first"
        certificate(tmp_path, "second")
        process.send_signal(signal.SIGHUP)
        until(lambda: common_name(url) == "second")
        private.write_text("no key")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert common_name(url) == "second"


def test_the_demo_loads_its_gallery_with_keys_and_tls(tmp_path: Path, keys: tuple[Path, str]) -> None:
    file, key = keys
    cert, private = certificate(tmp_path, "demo")
    words = ("demo", "--data", tmp_path / "data", "--port", 0, "--keys", file, "--tls-cert", cert)
    with serving(*words, "--tls-key", private) as (_, url):
        trust = ssl.create_default_context(cafile=str(cert))
        with Client(url, api_key=key, transport=httpx.HTTPTransport(verify=trust)) as client:
            assert client.widths()["gallery"]["items"] > 0


@pytest.mark.parametrize("broken", ["missing", "not PEM", "of another", "encrypted"])
def test_a_certificate_that_cannot_be_used_is_refused(settings: Settings, tmp_path: Path, broken: str) -> None:
    cert, key = certificate(tmp_path, "mine")
    match broken:
        case "missing":
            cert.unlink()
        case "not PEM":
            cert.write_text("nothing")
        case "of another":
            (tmp_path / "other").mkdir()
            key = certificate(tmp_path / "other", "other")[1]
        case "encrypted":
            words = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:word", "-out", key]
            subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(StartError, match=r"^tls_cert, tls_key: .* cannot be used: .") as refusal:
        check_certificate(settings.model_copy(update={"tls_cert": cert, "tls_key": key}))
    assert "\n" not in str(refusal.value)


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    done = run("serve", tmp_path, "--tls-cert", tmp_path / "c.pem")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "tls_cert, tls_key: both or neither must be set; found tls_cert alone" in done.stderr
