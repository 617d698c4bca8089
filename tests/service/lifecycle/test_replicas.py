"""Services that are processes of their own share a gallery in Milvus, and keep nothing of it themselves."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from live_service import free_port, launched
from sfsc_bundle.folder import Bundle
from tests.service.images import draw_image
from tests.service.store.milvus_galleries import lite_process, need_pymilvus

WRITERS, ITEMS, KILLED_AFTER = 4, 15, 20
PATIENCE_S = 20.0


def test_nothing_that_was_acknowledged_is_lost_when_a_replica_is_killed(tiny: Bundle, tmp_path: Path) -> None:
    """Its clients see broken connections, and repeat their requests at the other one."""
    need_pymilvus()
    port = free_port()
    with ExitStack() as parts:
        parts.enter_context(lite_process(tmp_path / "milvus", port))
        shared = {"SFSC_STORE": f"milvus://127.0.0.1:{port}", "SFSC_IMAGE_FOLDER": str(tmp_path / "images")}
        (doomed, pid), (other, _) = (
            parts.enter_context(launched(tiny.folder, tmp_path, **shared, SFSC_NICE="0", SFSC_THREADS="1"))
            for _ in range(2)
        )
        acknowledged: dict[str, bytes] = {}

        def write(writer: int) -> None:
            for n in range(ITEMS):
                name, image = f"{writer}-{n}", draw_image(n % 5)
                put(name, image, doomed if writer % 2 else other, other)
                acknowledged[name] = image

        with ThreadPoolExecutor(WRITERS) as pool:
            writing = [pool.submit(write, writer) for writer in range(WRITERS)]
            wait_until_some(acknowledged)
            os.kill(pid, signal.SIGKILL)
            for one in writing:
                one.result(PATIENCE_S)
        assert len(acknowledged) == WRITERS * ITEMS
        for name, image in acknowledged.items():
            assert other.get(f"/items/{name}/image").content == image
        pages = other.get("/items", params={"limit": 1_000}).json()
        assert {item["id"] for item in pages["items"]} == set(acknowledged)


def put(name: str, image: bytes, first: httpx.Client, then: httpx.Client) -> None:
    """Repeated, as it is no matter whether an attempt that was not answered has happened."""
    client = first
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = client.put(f"/items/{name}", content=image, headers={"Content-Type": "image/jpeg"})
            if answer.status_code == 200:
                return
            assert answer.status_code in (429, 503), answer.text
        except httpx.TransportError:
            client = then
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_some(acknowledged: dict[str, bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(acknowledged) < KILLED_AFTER:
        assert time.monotonic() < deadline
        time.sleep(0.01)
