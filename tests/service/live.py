"""A real service on a real socket: uvicorn in a thread, the embedded store, onnxruntime on the tiny bundle."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from sfsc_service.http.app import create_app
from sfsc_service.http.connections import bounded_connections
from sfsc_service.http.server import address, bind, listeners
from sfsc_service.lifecycle.service import Service
from sfsc_service.settings import Settings

__all__ = ["Live", "running"]

JPEG = {"Content-Type": "image/jpeg"}
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Live:
    """A service that answers at `url`, in `loop`; `http` is a client of it, `server` is uvicorn's."""

    url: str
    app: FastAPI
    http: httpx.Client
    loop: asyncio.AbstractEventLoop
    server: uvicorn.Server

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def post_image(self, path: str, image: bytes, **options: Any) -> httpx.Response:
        return self.http.post(path, content=image, params=options, headers=JPEG)

    def put_image(self, path: str, image: bytes, **options: Any) -> httpx.Response:
        return self.http.put(path, content=image, params=options, headers=JPEG)

    def metric(self, name: str, **labels: str) -> float:
        """One sample of /metrics; 0 where there is none."""
        wanted = name + ("{" + ",".join(f'{k}="{v}"' for k, v in sorted(labels.items())) + "}" if labels else "")
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(wanted + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


class _Server(uvicorn.Server):
    """Tells when it has started; signals are the test run's own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        self.loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        finally:
            self.up.set()


@contextmanager
def running(
    settings: Settings, prepare: Callable[[FastAPI], None] = lambda _: None, *, with_demo_load: bool = False
) -> Iterator[Live]:
    """Serve until the block ends; `prepare` changes the application before it starts."""
    bound = bind(settings)
    app = create_app(settings, with_demo_load=with_demo_load)
    prepare(app)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        http=bounded_connections(app),
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": listeners(bound)})
    thread.start()
    try:
        assert server.up.wait(START_S)
        url = address(bound)
        with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
            end = time.monotonic() + START_S
            while http.get("/readyz").status_code != 200:
                assert time.monotonic() < end, http.get("/readyz").text
                time.sleep(0.05)
            yield Live(url, app, http, server.loop, server)
    finally:
        server.should_exit = True
        thread.join(START_S)
