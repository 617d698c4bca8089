"""The server process: one uvicorn server on a bound socket, with its reactions to signals.

SIGTERM or SIGINT: /readyz turns 503 → `drain_delay_s`, in which a load balancer notices → no new connections →
open requests get their responses, for at most `shutdown_grace_s` → the store is closed → exit code 0. A further
signal skips the delay or, once it is over, the open requests.

SIGHUP: keys and certificate are read again, then the bundle is swapped (see lifecycle/swap.py). During a swap the
bundle is swapped once more afterwards; before the service serves the signal is ignored.
"""

import asyncio
import errno
import gc
import logging
import math
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from types import FrameType

import uvicorn

from sfsc_service.errors import StartError
from sfsc_service.http.app import create_app
from sfsc_service.http.connections import bounded_connections
from sfsc_service.http.exposure import check_exposure, reread_certificate
from sfsc_service.http.keys import KeyEntry, KeyRing
from sfsc_service.lifecycle.service import Service
from sfsc_service.settings import Settings

__all__ = ["ACCEPTED_AT_ONCE", "address", "bind", "ignore_hangups", "listeners", "serve"]

SPARE_FILES = 512
"""Files beyond those of connections: the database and images."""
ACCEPTED_AT_ONCE = 32
"""Connections that are accepted in a round of the event loop."""
SWITCH_S = 0.0005
"""After how long a thread hands over Python's lock to another one that wants it. With Python's 5 ms, a request
beside a large body that is parsed would wait as long at each of its steps."""

log = logging.getLogger(__name__)


def bind(settings: Settings) -> socket.socket:
    """A socket that is bound but does not listen: until the service serves, connections are refused at once.

    Raises:
        StartError: the address is not available, or may not be listened to (see http/exposure.py).
    """
    bound = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        where = f"{settings.host} port {settings.port}"
        advice = "; SFSC_PORT or --port choose another" if error.errno == errno.EADDRINUSE else ""
        raise StartError(f"host, port: cannot listen on {where}: {error.strerror or error}{advice}") from error
    try:
        check_exposure(settings, bound.getsockname()[0])
    except StartError:
        bound.close()
        raise
    return bound


def address(bound: socket.socket, scheme: str = "http") -> str:
    """The URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{port}"


def listeners(bound: socket.socket) -> list[socket.socket]:
    """A bound socket and copies of it, for each of which the event loop accepts a connection in a round.

    uvloop accepts one for each socket, however many wait: a loop whose rounds take 20 ms would take in 50 a
    second, and all others would wait for many seconds.
    """
    return [bound, *(bound.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]


def ignore_hangups() -> None:
    """Ignore SIGHUP until the service serves; by default it would end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def serve(
    settings: Settings,
    service: Service,
    bound: socket.socket,
    own_keys: Mapping[str, KeyEntry] | None = None,
    *,
    with_demo_load: bool = False,
) -> None:
    """Serve until a signal ends the server; the service is closed then.

    Args:
        own_keys, with_demo_load: as of `create_app`.
    """
    _allow_files(settings.max_connections + SPARE_FILES)
    app = create_app(settings, service, own_keys, with_demo_load=with_demo_load)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_keep_alive=math.ceil(settings.keep_alive_s),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s),
        http=bounded_connections(app),
        proxy_headers=False,  # http/app.py has the layer for them
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ws="none",
        lifespan="on",
    )
    server = _Server(config, service, app.state.keys)
    sys.setswitchinterval(SWITCH_S)
    # What exists now stays. A full collection that visited it would stop the event loop for 50 ms and more.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGHUP, server.handle_hangup)
    server.run(sockets=listeners(bound))


def _allow_files(wanted: int) -> None:
    """Raise the process's limit on open files as far as the system permits; log where that is too little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "max_connections needs %d open files, the system allows %d; connections beyond that will fail",
            wanted,
            allowed,
        )


class _Server(uvicorn.Server):
    """uvicorn's server with a delay before it stops, exit code 0, and swaps.

    uvicorn by itself stops at once and raises the signal again, so that the exit code is not 0.
    """

    def __init__(self, config: uvicorn.Config, service: Service, keys: KeyRing) -> None:
        super().__init__(config)
        self._service, self._keys = service, keys
        self._stop_at: float | None = None
        self._hung_up = False
        self._swap_wanted = False
        self._swap: asyncio.Task[object] | None = None

    def handle_hangup(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        """Note that files are to be read again; `on_tick` does it, because a signal handler must not."""
        self._hung_up = self._swap_wanted = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - both signals mean the same
        if self._stop_at is None:
            self._service.health.draining = True
            self._stop_at = time.monotonic() + self._service.settings.drain_delay_s
        elif self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        if self._hung_up:  # at once, because a key may have been stolen; a swap may take minutes
            self._hung_up = False
            self._keys.reread()
            reread_certificate(self.config.ssl, self._service.settings)
        if self._swap_wanted and self._stop_at is None and (self._swap is None or self._swap.done()):
            self._swap_wanted = False
            self._swap = asyncio.create_task(self._service.swap.run())
        return await super().on_tick(counter)
