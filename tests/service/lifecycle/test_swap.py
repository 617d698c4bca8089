"""Another bundle while traffic flows: nothing fails, what does not fit is refused, memory stays flat."""

import asyncio
import signal
import subprocess
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import MANIFEST
from sfsc_service.settings import Settings
from tests.service.command import serving, until_ready
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running
from tests.tiny_bundle import make_tiny_bundle

START_TIMEOUT_S = 60.0
CALLS_A_SWAP = 20
NEW = {"space": "new-space", "compatible_with": ["tiny-space"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle folder of the test's own, of tiny-space."""
    return make_tiny_bundle(tmp_path / "bundle").folder


@pytest.fixture
def served(folder: Path, tmp_path: Path) -> Iterator[Live]:
    settings = Settings(bundle=folder, data=tmp_path / "data", port=0, threads=1, slo_ms=2000.0, max_batch=4)
    with running(settings) as made:
        yield made


def swap(live: Live) -> str:
    """In the service's own event loop, as SIGHUP does it."""
    outcome: str = asyncio.run_coroutine_threadsafe(live.service.swap.run(), live.loop).result(START_TIMEOUT_S)
    return outcome


def space_of(live: Live, seed: int = 1, width: str = "0.5") -> str:
    answer = live.post_image("/embed", draw_image(seed), width=width)
    assert answer.status_code == 200, answer.text
    space: str = answer.json()["space"]
    return space


def test_everything_that_the_service_says_of_itself_follows(served: Live, folder: Path) -> None:
    served.put_image("/items/old", draw_image(1), width="0.25")
    made = make_tiny_bundle(folder, widths=("0.25", "0.5", "1.0"), size=24, **NEW)
    assert swap(served) == "done"
    told = served.http.get("/widths").json()
    assert (told["space"], told["compatible_with"]) == ("new-space", ["tiny-space"])
    assert [row["width"] for row in told["widths"]] == ["0.25", "0.5", "1.0"]
    assert all(row["batch_ms"].keys() == {"1", "2", "4"} for row in told["widths"]), "warmed up before the switch"
    assert told["quality"] == made.manifest.quality.model_dump(mode="json")
    assert space_of(served) == "new-space"
    assert served.post_image("/embed", draw_image(1), width="0.75").json()["code"] == "unknown_width"
    assert served.http.get("/readyz").status_code == 200
    assert served.metric("sfsc_swaps_total", outcome="done") == 1.0
    assert served.metric("sfsc_bundle", model="tiny", space="new-space") == 1.0
    assert served.metric("sfsc_bundle", model="tiny", space="tiny-space") == 0.0


def test_the_gallery_stays_and_takes_vectors_of_both_spaces(served: Live, folder: Path) -> None:
    served.put_image("/items/old", draw_image(1), width="0.25")
    make_tiny_bundle(folder, **NEW)
    assert swap(served) == "done"
    served.put_image("/items/new", draw_image(2), width="0.25")
    found = [served.http.get(f"/items/{name}", params={"vectors": True}).json() for name in ("old", "new")]
    assert [item["space"] for item in found] == ["tiny-space", "new-space"]
    for item in found:
        options = {"vector": item["embedding"], "width": "0.25", "space": item["space"], "k": 1}
        hit = served.http.post("/search", json=options).json()["hits"][0]
        assert hit["id"] == item["id"]
    hits = served.post_image("/search", draw_image(1), width="1.0").json()["hits"]
    assert {hit["id"] for hit in hits} == {"old", "new"}


def broken_graph(folder: Path) -> None:
    make_tiny_bundle(folder, **NEW)
    (folder / "w0.5.onnx").write_bytes(b"nothing")


def nothing_but_nan(folder: Path) -> None:
    """Graphs that can be opened and give NaN, at the widest width alone."""
    make_tiny_bundle(folder, nan_widths=("1.0",), **NEW)


def no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("replace", "outcome"),
    [
        pytest.param(lambda folder: make_tiny_bundle(folder, space="other"), "refused", id="another space"),
        pytest.param(lambda folder: make_tiny_bundle(folder, widths=("0.5", "1.0"), **NEW), "refused", id="floor"),
        pytest.param(nothing_but_nan, "refused", id="a network that gives NaN"),
        pytest.param(broken_graph, "failed", id="a broken graph"),
        pytest.param(no_manifest, "failed", id="no manifest"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_bundle_goes_on(
    folder: Path,
    tmp_path: Path,
    replace: Callable[[Path], object],
    outcome: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(bundle=folder, data=tmp_path / "data", port=0, threads=1, max_batch=1, floor_width="0.25")
    with running(settings) as live:
        before = live.http.get("/widths").json()["quality"], space_of(live)
        replace(folder)
        assert swap(live) == outcome
        assert (live.http.get("/widths").json()["quality"], space_of(live)) == before
        assert live.metric("sfsc_swaps_total", outcome=outcome) == 1.0
        assert live.metric("sfsc_swaps_total", outcome="done") == 0.0
    assert sum("the old bundle goes on" in line for line in caplog.text.splitlines()) == 1


def test_a_bundle_of_another_dimension_is_said_to_be_the_one_that_does_not_fit(
    served: Live, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_tiny_bundle(folder, dimension=8, **NEW)
    assert swap(served) == "refused"
    assert space_of(served) == "tiny-space"
    said = "its vectors have 8 numbers and those of the gallery 16, so the gallery cannot be searched with it"
    assert sum("is refused, the old bundle goes on: " in line and said in line for line in caplog.messages) == 1


def test_compatibility_has_a_direction(served: Live, folder: Path) -> None:
    """A bundle that knows nothing of the space being served is refused, even if nothing of it was stored."""
    make_tiny_bundle(folder, **NEW)
    assert swap(served) == "done"
    make_tiny_bundle(folder)
    assert swap(served) == "refused"
    assert space_of(served) == "new-space"


def test_what_was_admitted_before_is_finished_by_the_old_bundle(served: Live, folder: Path) -> None:
    """One request runs and one waits during the swap; the new bundle has another image size."""
    entered, go = threading.Event(), threading.Event()
    runners: dict[str, Any] = served.service.embedder.networks.runners
    real = runners["0.5"]

    def held(images: np.ndarray) -> np.ndarray:
        entered.set()
        assert go.wait(START_TIMEOUT_S)
        result: np.ndarray = real(images)
        return result

    runners["0.5"] = held
    with ThreadPoolExecutor(3) as callers:
        runs = callers.submit(space_of, served, 1)
        assert entered.wait(START_TIMEOUT_S)
        waits = callers.submit(served.put_image, "/items/waits", draw_image(2), width="0.25")
        while served.service.embedder.batcher.waiting < 1:
            time.sleep(0.01)
        make_tiny_bundle(folder, size=24, **NEW)
        assert swap(served) == "done"
        later = callers.submit(space_of, served, 3, "0.25")
        while served.service.embedder.batcher.waiting < 2:
            time.sleep(0.01)
        go.set()
        assert runs.result() == "tiny-space"
        assert waits.result().status_code == 200
        assert later.result() == "new-space"
    assert served.http.get("/items/waits").json()["space"] == "tiny-space"


def test_the_old_networks_are_let_go(served: Live, folder: Path) -> None:
    old = weakref.ref(served.service.embedder.networks)
    space_of(served)
    make_tiny_bundle(folder, **NEW)
    assert swap(served) == "done"
    end = time.monotonic() + START_TIMEOUT_S
    while old() is not None:
        space_of(served)  # a worker holds its last batch until the next one
        assert time.monotonic() < end


def test_swaps_at_the_same_time_come_one_after_the_other(served: Live) -> None:
    decode_now, most = 0, 0
    real = served.service.swap._open

    def watched() -> object:
        nonlocal decode_now, most
        decode_now += 1
        most = max(most, decode_now)
        time.sleep(0.05)
        networks = real()
        decode_now -= 1
        return networks

    served.service.swap._open = watched  # type: ignore[method-assign, assignment]
    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(lambda _: swap(served), range(4))) == ["done"] * 4
    assert most == 1


@contextmanager
def load(url: str, callers: int = 4) -> Iterator["Counter[tuple[str, int]]"]:
    """Requests of all kinds, one after the other in each of some threads; statuses are counted by route."""
    statuses: Counter[tuple[str, int]] = Counter()
    stop = threading.Event()

    def call(caller: int) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=START_TIMEOUT_S) as http:
            n = 0
            while not stop.is_set():
                n += 1
                width, image = ("0.25", "0.5", "0.75", "1.0")[n % 4], draw_image(n % 8)
                item = f"/items/{caller}-{n % 5}"
                for method, path, options in (
                    ("POST", "/embed", {"width": width}),
                    ("PUT", item, {"width": width}),
                    ("POST", "/search", {"k": 3}),
                ):
                    answer = http.request(method, path, content=image, params=options, headers=JPEG)
                    statuses[f"{method} {path}", answer.status_code] += 1
                statuses["GET", http.get(item).status_code] += 1
                statuses["DELETE", http.delete(item).status_code] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join(START_TIMEOUT_S)


def resident_mib(process: "subprocess.Popen[str]") -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def test_fifty_swaps_under_load_fail_nothing_and_keep_memory_flat(folder: Path, tmp_path: Path) -> None:
    """By SIGHUP to a real process, between two bundles that know each other."""
    swaps, settled = 50, 10
    spaces = ("here", "there")
    make_tiny_bundle(folder, space=spaces[0], compatible_with=[spaces[1]])
    words = ["serve", folder, "--data", tmp_path / "data", "--port", 0, "--threads", 2, "--log-level", "error"]
    with serving(*words) as (process, url):
        until_ready(url)
        with httpx.Client(base_url=url, trust_env=False) as http, load(url) as statuses:
            memory = []
            for number in range(1, swaps + 1):
                space, other = spaces[number % 2], spaces[1 - number % 2]
                make_tiny_bundle(folder, seed=number % 2, space=space, compatible_with=[other])
                process.send_signal(signal.SIGHUP)
                end = time.monotonic() + START_TIMEOUT_S
                while http.get("/widths").json()["space"] != space:
                    assert time.monotonic() < end
                    time.sleep(0.02)
                while sum(list(statuses.values())) <= CALLS_A_SWAP * number:
                    assert time.monotonic() < end
                    time.sleep(0.02)
                memory.append(resident_mib(process))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert sum(statuses.values()) > CALLS_A_SWAP * swaps
    assert {status for _, status in statuses} <= {200, 204}, statuses
    assert max(memory[settled:]) <= 1.05 * max(memory[:settled]), memory
