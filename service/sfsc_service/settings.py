"""Every setting of the service: an environment variable `SFSC_NAME` and an option `--name` of `sfsc serve`.

Built by a function of its arguments: `Settings(bundle=..., data=...)`; arguments win over the environment.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from sfsc_bundle.widths import canonical_width

__all__ = ["Settings", "unit_of"]

LogLevel = Literal["debug", "info", "warning", "error"]
StoreKind = Literal["embedded"]
Width = Annotated[str, AfterValidator(canonical_width)]


def _setting(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Settings(BaseSettings):
    """What an operator may choose; each field says what for, in which unit and within which bounds."""

    model_config = SettingsConfigDict(env_prefix="SFSC_", extra="forbid", frozen=True)

    bundle: Path = _setting(Path("models/demo"), "folder", "the bundle to serve")
    samples: Path | None = _setting(
        None,
        "file",
        "the listing whose queries the page offers as samples; unset = the bundle's gallery/gallery.json",
    )
    data: Path = _setting(Path("data"), "folder", "where the embedded store keeps the gallery; created")
    store: StoreKind = _setting("embedded", "store", "which store keeps the gallery: embedded, in this process")
    host: str = _setting("127.0.0.1", "address", "the address to listen on", min_length=1, max_length=255)
    port: int = _setting(8000, "TCP port", "the port to listen on; 0 takes a free one", ge=0, le=65535)
    device: Literal["cpu", "cuda"] = _setting(
        "cpu", "device", "where networks and index compute; one that is missing is an error at start"
    )
    threads: int = _setting(
        0, "threads", "how many threads decode and compute together; 0 = as many as there are cores", ge=0, le=1024
    )
    nice: int = _setting(
        10,
        "nice levels",
        "by how much threads that compute give way to the event loop, and to other processes of the same control "
        "group; 19 where the machine or container is the service's own",
        ge=0,
        le=19,
    )
    slo_ms: float = _setting(
        100.0, "ms", "target from arrival to answer for requests that set no limit of their own", gt=0, le=3.6e6
    )
    floor_width: Width | None = _setting(
        None, "width", "the narrowest width that budgets and load may choose; unset = the bundle's narrowest"
    )
    queue_ms: float = _setting(
        2000.0, "ms", "predicted waiting time above which requests are refused with 429", gt=0, le=3.6e6
    )
    hang_after_s: float = _setting(
        10.0,
        "s",
        "a batch that computes for longer, and for twenty times what it is predicted to, is given up",
        ge=0.01,
        le=3600,
    )
    max_batch: int = _setting(32, "images", "the largest batch", ge=1, le=1024)
    max_k: int = _setting(1024, "hits", "the largest k of a search", ge=1, le=1_000_000)
    max_images: int = _setting(64, "images", "the most images in one call of /embed", ge=1, le=10_000)
    max_items: int = _setting(10_000, "items", "the most items in one bulk call", ge=1, le=1_000_000)
    max_image_bytes: int = _setting(20 * 2**20, "bytes", "the largest encoded image", ge=64, le=32 * 2**20)
    max_image_pixels: int = _setting(
        40_000_000, "pixels", "the largest image; checked before it is decoded", ge=1, le=178_000_000
    )
    max_body_bytes: int = _setting(64 * 2**20, "bytes", "the largest request body", ge=1024, le=2**34)
    max_connections: int = _setting(
        1000, "connections", "the most connections that are open at a time; more are told 503", ge=1, le=1_000_000
    )
    drain_delay_s: float = _setting(
        0.5, "s", "time between turning unready and refusing connections after SIGTERM", ge=0, le=600
    )
    shutdown_grace_s: float = _setting(
        5.0, "s", "time that running requests are given after SIGTERM", ge=0, le=600
    )
    log_level: LogLevel = _setting("info", "level", "how much is logged: debug, info, warning or error")

    @property
    def thread_count(self) -> int:
        """`threads`, with 0 replaced by the number of cores that this process may use."""
        allowed = getattr(os, "sched_getaffinity", None)  # Linux only; counts what a container may use
        return self.threads or (len(allowed(0)) if allowed else os.cpu_count() or 1)


def unit_of(name: str) -> str:
    """The unit of a setting, for help texts."""
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["unit"])
