"""The proxy's configuration in a real nginx before two replicas that share a gallery in milvus-lite."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from live_service import free_port, launched
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.store.milvus_galleries import lite_process, need_pymilvus
from tests.tiny_bundle import make_tiny_bundle

CONFIGURATION = Path(__file__).parents[2] / "docker" / "nginx"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
JPEG = {"Content-Type": "image/jpeg"}
START_S = 20.0
WRITERS, ITEMS, KILLED_AFTER = 4, 15, 20


@dataclass(frozen=True)
class Proxied:
    """`proxy`: a client of nginx. `replicas`: a client of each service behind it, and the service's process."""

    proxy: httpx.Client
    replicas: list[tuple[httpx.Client, int]]

    def searches(self) -> list[float]:
        """How many searches each replica has answered."""
        found = [
            re.findall(r"^sfsc_searches_total\S* (\S+)$", at.get("/metrics").text, re.M) for at, _ in self.replicas
        ]
        return [sum(map(float, samples)) for samples in found]


@contextmanager
def nginx(work: Path, ports: list[int]) -> Iterator[httpx.Client]:
    """A client of nginx with the project's configuration, on a port of its own and before other addresses."""
    assert NGINX is not None
    work.mkdir()
    port = free_port()
    text = (CONFIGURATION / "nginx.conf").read_text()
    for given, own in (("listen 8080;", f"listen 127.0.0.1:{port};"), (" /tmp/", f" {work}/")):
        assert given in text
        text = text.replace(given, own)
    (work / "nginx.conf").write_text(text)
    # Debian's nginx does not know `resolve` yet.
    (line,) = re.findall(
        r"^server sfsc-replica:8000 resolve (.+;)$", (CONFIGURATION / "replicas.conf").read_text(), re.M
    )
    (work / "replicas.conf").write_text("".join(f"server 127.0.0.1:{one} {line}\n" for one in ports))
    command = [NGINX, "-e", "stderr", "-p", str(work), "-c", str(work / "nginx.conf")]
    if os.getuid() == 0:  # its workers would become a user who may not enter this folder
        command += ["-g", "user root;"]
    with subprocess.Popen(command) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                wait_until_answered(client, process)
                yield client
        finally:
            process.terminate()


def wait_until_answered(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, "nginx refuses its configuration; see its message above"
        try:
            assert client.get("/readyz").status_code == 200
            return
        except httpx.ConnectError:
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    if NGINX is None:
        pytest.skip("no nginx; tests/system/nginx.sh says how to get one")
    need_pymilvus()
    work = tmp_path_factory.mktemp("proxy")
    bundle = make_tiny_bundle(work / "tiny")
    with ExitStack() as parts:
        port = free_port()
        parts.enter_context(lite_process(work / "milvus", port))
        settings = {
            "SFSC_STORE": f"milvus://127.0.0.1:{port}/default",
            "SFSC_IMAGE_FOLDER": str(work / "images"),
            "SFSC_NICE": "0",
            "SFSC_THREADS": "1",
            "SFSC_TRUSTED_PROXIES": "127.0.0.1",
            "SFSC_ALLOW_OPEN": "true",
        }
        replicas = [parts.enter_context(launched(bundle.folder, work, **settings)) for _ in range(2)]
        ports = [int(client.base_url.port or 0) for client, _ in replicas]
        yield Proxied(parts.enter_context(nginx(work / "nginx", ports)), replicas)


def test_every_kind_of_request_passes_and_both_replicas_answer(proxied: Proxied) -> None:
    proxy = proxied.proxy
    images = [draw_image(n) for n in range(3)]
    for n, image in enumerate(images):
        assert proxy.put(f"/items/i{n}", content=image, headers=JPEG).json()["created"]
    bulk = proxy.post("/items", files=[("image", (f"b/{n}", image)) for n, image in enumerate(images)])
    assert [result["id"] for result in bulk.json()["results"] if result["status"] == 200] == ["b/0", "b/1", "b/2"]
    assert proxy.get("/items/b%2F2/image").content == images[2]
    for _ in range(4):
        found = proxy.post("/search", params={"k": 2}, content=images[1], headers=JPEG).json()
        assert {hit["id"] for hit in found["hits"]} == {"i1", "b/1"}
    assert min(proxied.searches()) >= 1


def test_the_service_sees_the_name_that_was_asked_for_and_metrics_are_not_passed_on(proxied: Proxied) -> None:
    refused = proxied.proxy.get("/items", headers={"Host": "evil.example"})
    assert (refused.status_code, refused.json()["code"]) == (421, "foreign_host")
    assert proxied.proxy.get("/metrics").status_code == 404


def test_bodies_may_be_as_large_as_the_service_takes_them_and_connections_idle_shorter() -> None:
    text = (CONFIGURATION / "nginx.conf").read_text()
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", text)
    fields = Settings.model_fields
    assert int(megabytes) * 2**20 == fields["max_body_bytes"].default
    assert "keepalive_timeout" not in text
    assert fields["keep_alive_s"].default > 60  # nginx's own default


def test_clients_do_not_notice_that_a_replica_is_killed(proxied: Proxied) -> None:
    """They never repeat a request: nginx does. Each write that was acknowledged is there."""
    proxy, (_, doomed) = proxied.proxy, proxied.replicas[1]
    acknowledged: dict[str, bytes] = {}

    def write(writer: int) -> None:
        for n in range(ITEMS):
            name, image = f"{writer}-{n}", draw_image(n % 5)
            answer = proxy.put(f"/items/{name}", content=image, headers=JPEG)
            assert answer.status_code == 200, answer.text
            acknowledged[name] = image
            found = proxy.post("/search", params={"k": 1}, content=image, headers=JPEG)
            assert found.status_code == 200, found.text

    with ThreadPoolExecutor(WRITERS) as pool:
        writing = [pool.submit(write, writer) for writer in range(WRITERS)]
        end = time.monotonic() + START_S
        while len(acknowledged) < KILLED_AFTER and not any(one.done() for one in writing):
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(doomed, signal.SIGKILL)
        for one in writing:
            one.result(START_S)
    assert len(acknowledged) == WRITERS * ITEMS
    listed = {item["id"] for item in json.loads(proxy.get("/items", params={"limit": 1_000}).content)["items"]}
    assert set(acknowledged) <= listed
    for name in ("0-0", "3-14"):
        assert proxy.get(f"/items/{name}/image").content == acknowledged[name]
