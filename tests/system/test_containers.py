"""`docker-compose up` on a real engine: the demo gallery and Prometheus, their data, shutdown and images."""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_bundle.image_formats import SUFFIXES
from tests.system.compose import ROOT, Stack, compose_commands, docker, engine, fetch_image, inspect_image, until
from tests.system.dashboard import queries

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

IMAGE, TRAINER, BASE = "sfsc-service:cpu", "sfsc-training", "python:3.11-slim-bookworm"
PROMETHEUS = "prom/prometheus:latest"
GALLERY = ROOT / "models" / "demo" / "gallery"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def docker_engine() -> Iterator[None]:
    with engine():
        yield


@pytest.fixture(scope="module")
def built(docker_engine: None) -> Stack:  # noqa: ARG001 - needed, not read
    """The service's image built from this checkout."""
    stack = Stack()
    stack("build", "sfsc")
    return stack


@pytest.fixture(scope="module")
def stack(built: Stack) -> Iterator[Stack]:
    """Everything up and healthy, the demo gallery loaded."""
    built("down", "--volumes")
    try:
        built.up()
        images = [path for path in GALLERY.iterdir() if path.suffix in SUFFIXES]
        until("gallery loaded", lambda: len(items(built)) == len(images) > 0, 120)
        yield built
    finally:
        built("down", "--volumes")


@pytest.fixture(scope="module")
def trainer(docker_engine: None) -> Iterator[Stack]:  # noqa: ARG001 - needed, not read
    """The training side's image built from this checkout."""
    stack = Stack("sfsc-test-training")
    stack("--profile", "training", "build", "training")
    try:
        yield stack
    finally:
        stack("down", "--volumes")


def api(stack: Stack) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{stack.http}", timeout=10)


def items(stack: Stack) -> dict[str, dict]:
    """The whole gallery over the published port, by id."""
    found: dict[str, dict] = {}
    with api(stack) as client:
        cursor: dict[str, str] = {}
        while True:
            page = client.get("/items", params={"limit": 200} | cursor).raise_for_status().json()
            found |= {item["id"]: item for item in page["items"]}
            if not page["next"]:
                return found
            cursor = {"cursor": page["next"]}


def image_of(stack: Stack, identity: str) -> bytes:
    with api(stack) as client:
        return client.get(f"/items/{identity}/image").raise_for_status().content


def search(stack: Stack, image: bytes, width: str) -> list[dict]:
    headers = {"content-type": "image/jpeg"}
    with api(stack) as client:
        answer = client.post("/search", params={"k": 5, "width": width}, content=image, headers=headers)
        return answer.raise_for_status().json()["hits"]


@pytest.mark.parametrize("profile", ["gpu", "training", "dashboards", "milvus"])
@pytest.mark.usefixtures("docker_engine")
def test_every_compose_that_is_here_accepts_the_file(profile: str) -> None:
    for command in compose_commands():
        for options in ([], ["--profile", profile]):
            subprocess.run([*command, *options, "config", "--quiet"], cwd=ROOT, check=True)


def test_a_search_over_the_published_port_finds_the_image(stack: Stack) -> None:
    wide = next(identity for identity, item in items(stack).items() if item["width"] == "1.0")
    hits = search(stack, image_of(stack, wide), "1.0")
    assert hits[0]["id"] == wide
    assert hits[0]["score"] > 0.999


def test_ports_are_published_on_the_loopback_alone(stack: Stack) -> None:
    for service in ("sfsc", "prometheus"):
        bindings = [b for port in stack.inspect(service)["NetworkSettings"]["Ports"].values() for b in port or []]
        assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}


def test_the_process_has_no_privileges(stack: Stack) -> None:
    status = dict(line.split(":\t", 1) for line in stack.execute("cat", "/proc/1/status").splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    write = "import pathlib; pathlib.Path('/app/x').touch()"
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.execute("python", "-c", write)


def test_every_container_has_a_limit_of_memory(stack: Stack) -> None:
    limits = {service: stack.inspect(service)["HostConfig"]["Memory"] for service in ("sfsc", "prometheus")}
    assert limits == {"sfsc": 2 * 2**30, "prometheus": 512 * 2**20}


def test_another_container_reaches_the_service_by_its_name_and_a_foreign_name_is_refused(stack: Stack) -> None:
    ask = """
import urllib.error, urllib.request
for host in ("sfsc:8000", "evil.example"):
    request = urllib.request.Request("http://sfsc:8000/items", headers={"Host": host})
    try:
        print(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
    assert stack.execute("python", "-c", ask).split() == ["200", "421"]


def test_the_first_process_is_the_service_and_no_shell(stack: Stack) -> None:
    command = stack.execute("cat", "/proc/1/cmdline").split("\0")
    assert Path(command[0]).name.startswith("python")
    assert command[1:3] == ["/opt/sfsc/bin/sfsc", "demo"]


def test_nothing_complains_in_the_log(stack: Stack) -> None:
    log = stack("logs", "--no-color", "sfsc").lower().splitlines()
    (open_address,) = (line for line in log if "without keys (allow_open)" in line)
    log = "\n".join(line for line in log if line is not open_address)
    assert [word for word in ("traceback", "warning", "error", "telemetry") if word in log] == []


def test_down_and_up_again_keeps_what_was_put(stack: Stack) -> None:
    loaded = items(stack)
    image = image_of(stack, min(loaded))
    with api(stack) as client:
        headers = {"content-type": "image/jpeg"}
        options = {"width": "1.0", "metadata": '{"kept": true}'}
        client.put("/items/mine", params=options, content=image, headers=headers).raise_for_status()
    before = items(stack)
    assert set(before) == set(loaded) | {"mine"}
    stack("down")
    stack.up()
    assert items(stack) == before
    assert "mine" in {hit["id"] for hit in search(stack, image, "1.0")}
    with api(stack) as client:
        assert client.get("/items/mine/image").content == image


def test_prometheus_scrapes_the_service_by_width(stack: Stack) -> None:
    search(stack, image_of(stack, min(items(stack))), "0.25")
    prometheus = httpx.Client(base_url=f"http://127.0.0.1:{stack.prometheus}/api/v1", timeout=10)

    def target_is_up() -> bool:
        targets = prometheus.get("/targets").json()["data"]["activeTargets"]
        return [target["health"] for target in targets] == ["up"]

    def searches_at_the_narrowest() -> float:
        query = {"query": 'sum(sfsc_searches_total{width="0.25"})'}
        found = prometheus.get("/query", params=query).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0

    with prometheus:
        until("target up", target_is_up, 60)
        assert until("searches by width", searches_at_the_narrowest, 60) >= 1


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[httpx.Client]:
    """Prometheus after a minute of every kind of request, so that each metric has been scraped several times."""
    some, headers = image_of(stack, min(items(stack))), {"content-type": "image/jpeg"}
    with api(stack) as client:
        for _ in range(12):
            search(stack, some, "0.25")
            client.put("/items/scraped", content=some, headers=headers).raise_for_status()
            client.delete("/items/scraped").raise_for_status()
            assert client.post("/search", params={"width": 3}, content=some, headers=headers).status_code == 422
            time.sleep(5)
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.prometheus}/api/v1", timeout=10) as made:
        yield made


@pytest.mark.parametrize(("title", "query"), queries())
def test_the_query_of_a_panel_has_an_answer(title: str, query: str, prometheus: httpx.Client) -> None:
    if title == "Age of the measurement":  # nothing was measured here, which is no age
        assert prometheus.get("/query", params={"query": query}).raise_for_status().json()["data"]["result"] == []
        query = query.replace(" > 0", "")
    found = prometheus.get("/query", params={"query": query}).raise_for_status().json()["data"]["result"]
    if title != "Narrowed by load, by width":  # this load is none
        assert found
        assert any(not math.isnan(float(sample["value"][1])) for sample in found)


def test_prometheus_evaluates_every_alert_and_none_fires(prometheus: httpx.Client) -> None:
    (group,) = prometheus.get("/rules").raise_for_status().json()["data"]["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert [rule["name"] for rule in group["rules"] if rule["state"] == "firing"] == []


@pytest.mark.usefixtures("docker_engine")
def test_every_alert_fires_on_its_fault_and_is_silent_without_it() -> None:
    fetch_image(PROMETHEUS)
    mounts = [f"--volume={ROOT / folder}:/{folder}:ro" for folder in ("docker", "tests/system")]
    words = ["test", "rules", "/tests/system/alerts.test.yml"]
    assert "SUCCESS" in docker("run", "--rm", *mounts, "--entrypoint", "promtool", PROMETHEUS, *words)


def test_sigterm_ends_the_service_cleanly(stack: Stack) -> None:
    before = items(stack)
    stack("stop", "sfsc")
    state = stack.state("sfsc")
    # 137 would be the kill at the end of the grace period.
    assert state["ExitCode"] == 0
    assert not state["OOMKilled"]
    stack.up()
    assert items(stack) == before


_LISTING = """
import hashlib, json, os, pathlib, shutil
root = pathlib.Path("/opt/sfsc")
files = [path for top in (root, pathlib.Path("/app")) for path in top.rglob("*")
         if path.is_file() and not path.is_symlink()]
digests = {}
for path in files:
    if path.stat().st_size > 100_000:
        digests.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(str(path))
print(json.dumps({
    "bytecode": [str(path) for path in files if path.suffix == ".pyc"],
    "suites": [str(path) for path in root.rglob("*") if path.is_dir() and path.name in ("test", "tests")],
    "copies": [paths for paths in digests.values() if len(paths) > 1],
    "tools": [name for name in ("cc", "gcc", "g++", "clang", "make", "ld") if shutil.which(name)],
    "pip": [str(path) for path in root.rglob("pip")],
    "torch": [str(path) for path in root.glob("lib/*/site-packages/torch")],
    "cache": [str(path) for path in pathlib.Path("/").glob("root/.cache/*")],
}))
"""


@pytest.mark.usefixtures("built")
def test_the_image_holds_nothing_that_a_service_does_not_need() -> None:
    listing = docker("run", "--rm", "--user", "0", "--entrypoint", "python", IMAGE, "-B", "-c", _LISTING)
    assert {what: found for what, found in json.loads(listing).items() if found} == {}


@pytest.mark.usefixtures("built")
def test_the_demo_bundle_is_where_every_command_looks_for_it() -> None:
    assert "0.25" in docker("run", "--rm", IMAGE, "widths", "models/demo")


@pytest.mark.usefixtures("built")
def test_the_image_runs_without_root_and_has_a_health_check() -> None:
    config = inspect_image(IMAGE)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["sfsc"]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python"]


# Enough to run every step, far too little to learn.
TRIFLE = {
    "data.vehicles.train": 40,
    "data.vehicles.test": 8,
    "optimiser.steps": 2,
    "optimiser.warmup_steps": 1,
    "optimiser.batch": 16,
}


@pytest.mark.usefixtures("built")
def test_a_recipe_leaves_its_bundle_in_models_and_the_next_up_serves_it_with_own_images(
    trainer: Stack, tmp_path: Path
) -> None:
    name = "container-test"
    folder = ROOT / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    owner = {"SFSC_UID": str(os.getuid()), "SFSC_GID": str(os.getgid())}
    options = " ".join(f"--set {key}={value}" for key, value in TRIFLE.items())
    try:
        run = ("--profile", "training", "run", "--rm", "-T", "training")
        trainer(*run, SFSC_RECIPE="demo", SFSC_NAME=name, SFSC_TRAIN_OPTIONS=options, **owner)
        assert open_bundle(folder).manifest.widths == ("0.25", "0.5", "0.75", "1.0")
        assert folder.stat().st_uid == os.getuid()
        for image in sorted(GALLERY.glob("*.jpg"))[:3]:
            shutil.copy(image, tmp_path)
        tmp_path.chmod(0o755)  # the service runs as a user of its own
        trainer.variables |= {"SFSC_BUNDLE": f"models/{name}", "SFSC_IMAGES": str(tmp_path)}
        trainer.up()
        until("images loaded", lambda: items(trainer).keys() == {path.name for path in tmp_path.iterdir()}, 60)
    finally:
        trainer("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("built", "trainer")
def test_the_image_is_small_and_its_sizes_can_be_published() -> None:
    fetch_image(BASE)
    service, trainer, base = (inspect_image(image)["Size"] / MEGABYTE for image in (IMAGE, TRAINER, BASE))
    figures = [
        Figure("service image on top of its base", service - base, "MB", "<= 350"),
        Figure("service image", service, "MB"),
        Figure("training image", trainer, "MB"),
    ]
    if os.environ.get("SFSC_PUBLISH"):  # a test that nobody asked to leaves the checkout as it was
        write_result("container", figures, {"service": IMAGE, "training": TRAINER, "base": BASE, "base_mb": base})
    assert figures[0].met
