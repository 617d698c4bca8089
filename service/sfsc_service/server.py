"""One uvicorn process: bound socket, quiet logs, and an end in good order.

SIGTERM or SIGINT: unready at once → `drain_delay_s` for whoever balances load to notice → no more connections →
running requests are answered, for at most `shutdown_grace_s` → the store is closed → exit code 0. A second signal
leaves the delay out.
"""

import logging
import math
import socket
import time
from types import FrameType

import uvicorn

from sfsc_service.app import create_app
from sfsc_service.errors import StartError
from sfsc_service.service import Service
from sfsc_service.settings import Settings

__all__ = ["address", "bind", "serve"]

log = logging.getLogger(__name__)


def bind(settings: Settings) -> socket.socket:
    """A bound socket that does not listen: until the service serves, connections are refused, not kept waiting.

    Raises:
        StartError: the address cannot be had.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        where = f"{settings.host} port {settings.port}"
        raise StartError(f"host, port: cannot listen on {where}: {error.strerror or error}") from error
    return bound


def address(bound: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def serve(settings: Settings, service: Service, bound: socket.socket) -> None:
    """Serve until a signal ends it, then close the service."""
    config = uvicorn.Config(
        create_app(settings, service),
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace_s),
        http="httptools",
        proxy_headers=False,
        ws="none",
        lifespan="on",
    )
    _Server(config, service).run(sockets=[bound])


class _Server(uvicorn.Server):
    """uvicorn's own server ends by the signal that it caught, which is no exit code 0, and without a delay."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - both signals mean the same
        if self._leave_at is None:
            self._service.health.draining = True
            self._leave_at = time.monotonic() + self._service.settings.drain_delay_s
        elif self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)
