"""Settings from the environment."""

import pytest
from pydantic import ValidationError

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.runner import Acceleration
from sfsc_service.settings import Settings, listed


@pytest.mark.parametrize("name", ["bundle", "data", "samples", "floor_width", "port"])
def test_an_empty_variable_is_as_good_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SFSC_{name.upper()}", "")
    assert getattr(Settings(), name) == Settings.model_fields[name].default


@pytest.mark.parametrize("name", ["samples", "floor_width"])
def test_unset_is_what_the_help_shows_as_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SFSC_{name.upper()}", "unset")
    assert getattr(Settings(), name) is None


@pytest.mark.parametrize("link", ["tcp://10.96.12.3:8000", "udp://[fd00::3]:8000"])
def test_the_port_that_kubernetes_sets_for_a_service_called_sfsc_is_none(
    link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFSC_PORT", link)
    assert Settings().port == 8000
    assert Settings(port=9).port == 9
    with pytest.raises(ValidationError, match="port"):
        Settings(port=link)


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("hosts", "Vision.example, nas.lan,[fd00::7]", ("vision.example", "nas.lan", "[fd00::7]")),
        (
            "cors_origins",
            "https://shop.example,http://localhost:3000",
            ("https://shop.example", "http://localhost:3000"),
        ),
        ("trusted_proxies", "10.0.0.1, 172.16.5.4/12,fd00::/8", ("10.0.0.1/32", "172.16.0.0/12", "fd00::/8")),
    ],
)
def test_a_list_is_separated_by_commas(
    name: str, text: str, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SFSC_{name.upper()}", text)
    assert listed(getattr(Settings(), name)) == kept


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts", "https://vision.example"),
        ("hosts", "vision.example:443"),
        ("hosts", "*"),
        ("cors_origins", "shop.example"),
        ("cors_origins", "https://shop.example/"),
        ("cors_origins", "*"),
        ("trusted_proxies", "proxy"),
        ("trusted_proxies", "*"),
    ],
)
def test_an_entry_that_could_never_match_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}\n.*must be"):
        Settings(**{name: text})


@pytest.mark.parametrize("level", ["INFO", "Info", "info"])
def test_the_log_level_is_known_in_any_case(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFSC_LOG_LEVEL", level)
    assert Settings().log_level == "info"
    assert Settings(log_level=level).log_level == "info"


def test_threads_are_as_many_as_cpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.settings.usable_cpus", lambda: 3)
    assert (Settings().thread_count, Settings(threads=5).thread_count) == (3, 5)


@pytest.mark.parametrize("text", ["embedded", "milvus://db:19530/shop", "milvus://me:secret@[::1]:19530"])
def test_a_store_is_embedded_or_a_milvus(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFSC_STORE", text)
    assert Settings().store == text
    assert "secret" not in repr(Settings())


@pytest.mark.parametrize(
    "text", ["sqlite", "milvus://", "milvus://me:secret@db/shop", "http://db:19530", "milvus://db:1/a/b"]
)
def test_another_store_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must be embedded or milvus://") as caught:
        Settings(store=text)
    assert "secret" not in str(first_broken_rule(caught.value))


def test_cuda_graphs_need_a_device_that_has_them() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(cuda_graphs=True)
    assert "cuda_graphs: needs device cuda, found cpu" in first_broken_rule(caught.value).rule
    assert Settings(device="cuda", cuda_graphs=True).acceleration == Acceleration(cuda_graphs=True)
    assert Settings(half=True).acceleration == Acceleration(half=True)


@pytest.mark.parametrize("url", ["s3://shop/images", "s3://shop/images/", "s3://shop", "/var/images"])
def test_images_may_be_in_a_folder_or_an_object_store(url: str) -> None:
    assert Settings(image_folder=url).image_folder == url


@pytest.mark.parametrize("url", ["s3://shop//images", "s3://shop/a//b", "s3://me:secret@shop/a", "s3://shop?a=b"])
def test_what_is_no_plain_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(
        ValidationError, match="without a password, options or empty names between slashes"
    ) as caught:
        Settings(image_folder=url)
    assert "secret" not in str(first_broken_rule(caught.value))
