"""Services that are processes of their own share a gallery in Milvus, and keep nothing of it themselves."""

import asyncio
import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from live_service import free_port, launched
from sfsc_bundle.folder import Bundle
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from sfsc_service.store.errors import FolderMismatchError
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running
from tests.service.store.milvus_galleries import lite_process, lite_server, need_pymilvus
from tests.tiny_bundle import make_tiny_bundle

REPLICAS, WRITERS, ITEMS = 4, 4, 15
KILLED_AFTER = (15, 30)
"""Acknowledged writes, after each of which one more is killed."""
PATIENCE_S = 20.0
eventually = partial(until, seconds=PATIENCE_S)


def test_nothing_that_was_acknowledged_is_lost_when_replicas_are_killed(tiny: Bundle, tmp_path: Path) -> None:
    """Half of them, in turn: their clients see broken connections, and repeat their requests at others."""
    need_pymilvus()
    port = free_port()
    with ExitStack() as parts:
        parts.enter_context(lite_process(tmp_path / "milvus", port))
        shared = {"SFSC_STORE": f"milvus://127.0.0.1:{port}", "SFSC_IMAGE_FOLDER": str(tmp_path / "images")}
        launch = partial(launched, tiny.folder, tmp_path, **shared, SFSC_NICE="0", SFSC_THREADS="1")
        replicas = [parts.enter_context(launch()) for _ in range(REPLICAS)]
        acknowledged: dict[str, bytes] = {}

        def write(writer: int) -> None:
            for n in range(ITEMS):
                name, image = f"{writer}-{n}", draw_image(n % 5)
                put(name, image, [replicas[(writer + turn) % REPLICAS][0] for turn in range(REPLICAS)])
                acknowledged[name] = image

        with ThreadPoolExecutor(WRITERS) as pool:
            writing = [pool.submit(write, writer) for writer in range(WRITERS)]
            for killed, count in enumerate(KILLED_AFTER):
                wait_until_some(acknowledged, count)
                os.kill(replicas[killed][1], signal.SIGKILL)
            for one in writing:
                one.result(PATIENCE_S)
        assert len(acknowledged) == WRITERS * ITEMS
        other = replicas[-1][0]
        for name, image in acknowledged.items():
            assert other.get(f"/items/{name}/image").content == image
        pages = other.get("/items", params={"limit": 1_000}).json()
        assert {item["id"] for item in pages["items"]} == set(acknowledged)


def put(name: str, image: bytes, replicas: list[httpx.Client]) -> None:
    """Repeated, as it is no matter whether an attempt that was not answered has happened."""
    deadline = time.monotonic() + PATIENCE_S
    clients = itertools.cycle(replicas)
    client = next(clients)
    while True:
        try:
            answer = client.put(f"/items/{name}", content=image, headers={"Content-Type": "image/jpeg"})
            if answer.status_code == 200:
                return
            assert answer.status_code in (429, 503), answer.text
        except httpx.TransportError:
            client = next(clients)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_some(acknowledged: dict[str, bytes], count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(acknowledged) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_bundle_swap_rolls_through_replicas_and_one_of_another_space_is_refused_by_all(tmp_path: Path) -> None:
    need_pymilvus()
    folders = [make_tiny_bundle(tmp_path / f"bundle-{n}").folder for n in range(2)]
    with ExitStack() as parts:
        shared = {
            "store": parts.enter_context(lite_server(tmp_path / "milvus")),
            "image_folder": str(tmp_path / "i"),
        }

        def chosen(folder: Path, data: str) -> Settings:
            settings = Settings(bundle=folder, data=tmp_path / data, port=0, threads=1, slo_ms=2000.0, max_batch=4)
            return settings.model_copy(update=shared)

        replicas = [parts.enter_context(running(chosen(folder, f"{n}"))) for n, folder in enumerate(folders)]
        assert replicas[0].put_image("/items/before", draw_image(1)).status_code == 200
        stop, failures = threading.Event(), list[str]()
        with ThreadPoolExecutor(2) as pool:
            for live in replicas:
                pool.submit(search_until, live, stop, failures)
            try:
                for n, live in enumerate(replicas):
                    make_tiny_bundle(folders[n], space="new", compatible_with=["tiny-space"])
                    assert swap(live) == "done"
                    name = f"by-{n}"
                    assert live.put_image(f"/items/{name}", draw_image(2 + n)).json()["created"]
                    for each in replicas:  # the old space and the new one, by whichever bundle it serves
                        eventually(lambda each=each, name=name: {"before", name} <= found(each))
                for n, live in enumerate(replicas):
                    make_tiny_bundle(folders[n], space="foreign", seed=1)
                    assert swap(live) == "refused"
                    assert live.post_image("/embed", draw_image(1)).json()["space"] == "new"
            finally:
                stop.set()
        assert failures == []
        old = make_tiny_bundle(tmp_path / "old").folder
        for folder, space in ((folders[0], "foreign"), (old, "tiny-space")):
            with pytest.raises(FolderMismatchError, match=f"must hold vectors of the space {space} only"):
                open_service(chosen(folder, "refused"))


def search_until(live: Live, stop: threading.Event, failures: list[str]) -> None:
    with httpx.Client(base_url=live.url) as client:
        while not stop.is_set():
            answer = client.post("/search", content=draw_image(1), headers=JPEG, params={"k": 3})
            if answer.status_code != 200:
                failures.append(answer.text)


def found(live: Live) -> set[str]:
    answer = live.post_image("/search", draw_image(1), k=10)
    assert answer.status_code == 200, answer.text
    return {hit["id"] for hit in answer.json()["hits"]}


def swap(live: Live) -> str:
    """In the service's own event loop, as SIGHUP does it."""
    outcome: str = asyncio.run_coroutine_threadsafe(live.service.swap.run(), live.loop).result(60)
    return outcome
