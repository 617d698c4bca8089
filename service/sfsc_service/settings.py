"""Every setting of the service: an environment variable `SFSC_NAME` and an option `--name` of the command.

Built by a function of its arguments: `Settings(bundle=..., data=...)`; arguments win over the environment.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    CliToggleFlag,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sfsc_bundle.image_formats import FormatName, available_formats
from sfsc_bundle.local_path import LocalPath
from sfsc_bundle.machine import usable_cpus
from sfsc_bundle.runner import Acceleration, Device
from sfsc_bundle.text_form import text_form
from sfsc_bundle.widths import canonical_width

__all__ = ["ImageFolder", "LogFormat", "LogLevel", "Settings", "http_url", "listed", "setting"]

LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
]
LogFormat = Literal["console", "json"]
SearchKind = Literal["exact", "int8", "ivf", "hnsw"]
QualityTiming = Literal["asked", "idle"]
Width = Annotated[str, AfterValidator(canonical_width)]


def listed(text: str | None) -> tuple[str, ...]:
    """The entries of a setting that is a list separated by commas; none where it is unset."""
    return tuple(entry for entry in (part.strip() for part in (text or "").split(",")) if entry)


def _host_names(text: str) -> str:
    for name in listed(text):
        if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:]+\]", name):
            raise ValueError(
                f"must be names or addresses without scheme and port, such as a.example, found {name}"
            )
    return text.lower()


def _origins(text: str) -> str:
    for origin in listed(text):
        if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?", origin):
            raise ValueError(f"must be origins such as https://shop.example, without a path, found {origin}")
    return text.lower()


def _networks(text: str) -> str:
    try:
        return ",".join(str(ipaddress.ip_network(entry, strict=False)) for entry in listed(text))
    except ValueError as error:
        raise ValueError(f"must be IP addresses or networks such as 10.0.0.0/8: {error}") from None


def _store(text: str) -> str:
    if text != "embedded" and not re.fullmatch(
        r"milvus://([^:@/]+:[^@/]+@)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}(/\w+)?", text
    ):
        raise ValueError(
            "must be embedded or milvus://[USER:PASSWORD@]HOST:PORT/DATABASE; what was found is not shown: it may "
            "hold a password"
        )
    return text


def _image_folder(text: str) -> str:
    if "://" in text and not re.fullmatch(r"[a-z][a-z0-9+]*://([\w.-]+@)?[\w.-]+(/[^/?#@]+)*/?", text):
        raise ValueError(
            "must be a folder or the URL of an object store such as s3://bucket/prefix, without a password, "
            "options or empty names between slashes; what was found is not shown: it may hold a password"
        )
    return text


HealTarget = Annotated[
    str, AfterValidator(lambda name: name if name in ("off", "full") else canonical_width(name))
]
ImageFolder = Annotated[str, AfterValidator(_image_folder)]
StoreName = Annotated[str, AfterValidator(_store)]
HostNames = Annotated[str, AfterValidator(_host_names)]
Origins = Annotated[str, AfterValidator(_origins)]
Networks = Annotated[str, AfterValidator(_networks)]


def http_url(example: str) -> AfterValidator:
    """For `Annotated[str, …]`: the address of an HTTP server; who gives another text is shown the example."""
    return text_form(r"https?://[^/].*", f"http:// or https:// and a host, such as {example}")


def setting(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    """A field of settings; help and documentation show the unit in brackets behind the description."""
    return Field(default, description=f"{description} [{unit}]", **bounds)


class _Environment(EnvSettingsSource):
    """Environment variables, less SFSC_PORT=tcp://IP:PORT, which Kubernetes sets for a Service called `sfsc`."""

    def __call__(self) -> dict[str, Any]:
        given = super().__call__()
        if str(given.get("port", "")).startswith(("tcp://", "udp://", "sctp://")):
            del given["port"]
        return given


class Settings(BaseSettings):
    """What an operator may choose; each field says what for, in which unit and within which bounds."""

    model_config = SettingsConfigDict(
        env_prefix="SFSC_", env_ignore_empty=True, env_parse_none_str="unset", extra="forbid", frozen=True
    )

    bundle: Path = setting(Path("models/demo"), "folder", "the bundle to serve")
    samples: Path | None = setting(
        None,
        "file",
        "a listing whose queries the gallery page offers as samples; unset: gallery/gallery.json of the bundle",
    )
    data: LocalPath = setting(Path("data"), "folder", "where the store keeps the gallery; made if it is missing")
    store: StoreName = setting(
        "embedded",
        "store",
        "which store keeps the gallery: embedded, in this process, or milvus://HOST:PORT/DATABASE, a Milvus that "
        "several processes share (docs/scale.md); there USER:PASSWORD@ may stand before the host",
        repr=False,
    )
    backup_folder: LocalPath | None = setting(
        None,
        "folder",
        "where POST /maintenance/backup copies the data folder to, under a name; created if it is missing; unset: "
        "that route makes none",
    )
    image_folder: ImageFolder | None = setting(
        None,
        "folder or URL",
        "where the images of a gallery in Milvus are, for all processes that share it: a folder, or "
        "s3://BUCKET/PREFIX (extra `s3`; docs/scale.md); unset: images/ in `data`",
        repr=False,
    )
    search: SearchKind = setting(
        "exact",
        "kind of search",
        "how a gallery of 50,000 items or more is searched where `exact` is not asked for: exact; int8, a scan of "
        "8-bit vectors; ivf, a scan of the nearest of many lists of them. In Milvus it decides the index of a new "
        "gallery of any size: exact, ivf or hnsw (docs/scale.md)",
    )
    host: str = setting("127.0.0.1", "address", "the address to listen on", min_length=1, max_length=255)
    port: int = setting(8000, "TCP port", "the port to listen on; 0: any free port", ge=0, le=65535)
    keys: Path | None = setting(
        None,
        "file",
        "the API keys, lines that `sfsc key` prints, reread on SIGHUP; unset: no key is asked for",
    )
    allow_open: CliToggleFlag[bool] = setting(
        False, "flag", "without keys, let other machines reach it all the same, directly or by a trusted proxy"
    )
    open_metrics: CliToggleFlag[bool] = setting(False, "flag", "with keys, answer /metrics without one, too")
    hosts: HostNames | None = setting(
        None,
        "names, comma-separated",
        "further names that requests may address the service by; loopback names, names without a dot and the "
        "connection's own IP address are always served",
    )
    cors_origins: Origins | None = setting(
        None,
        "origins, comma-separated",
        "the origins whose web pages may call, too, such as https://shop.example; unset: its own pages alone",
    )
    trusted_proxies: Networks | None = setting(
        None,
        "IP addresses or networks, comma-separated",
        "proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; unset: none",
    )
    tls_cert: Path | None = setting(
        None, "PEM file", "the certificate chain of the service, reread on SIGHUP; unset: plain HTTP"
    )
    tls_key: Path | None = setting(None, "PEM file", "the private key of tls_cert")
    device: Device = setting(
        "cpu", "device", "where networks and index compute: cpu or cuda; the start fails where it is missing"
    )
    cuda_graphs: CliToggleFlag[bool] = setting(
        False,
        "flag",
        "on cuda, replay batches of up to 32 images as CUDA graphs; where one cannot be captured, the log says so "
        "and its network runs without (docs/operations.md)",
    )
    half: CliToggleFlag[bool] = setting(
        False,
        "flag",
        "compute networks in half precision; the start fails where vectors have a cosine below 0.9999 with those "
        "of full precision; slower on most CPUs",
    )
    threads: int = setting(
        0,
        "threads",
        "threads for decoding, networks and searches, each; 0: as many as cores, or as the quota has",
        ge=0,
        le=1024,
    )
    nice: int = setting(
        10,
        "nice levels",
        "how much lower the priority of compute threads is than the event loop's; it also counts against other "
        "processes of the same control group: 19 on a machine of the service's own, 0 beside others",
        ge=0,
        le=19,
    )
    slo_ms: float = setting(
        100.0,
        "ms",
        "latency target, arrival to answer, of requests without a limit of their own",
        gt=0,
        le=3.6e6,
    )
    floor_width: Width | None = setting(
        None, "width", "the narrowest width that budgets and load may choose; unset: the bundle's narrowest"
    )
    heal: HealTarget = setting(
        "full",
        "width",
        "the width to which items are embedded again, while the service is idle, if their width was chosen by it; "
        "full: the widest; off: none are",
    )
    quality: QualityTiming = setting(
        "asked",
        "asked or idle",
        "when the quality is measured on the gallery's own images: when it is asked for; or also by itself, while "
        "the service is idle, and again when the gallery has changed by a quarter",
    )
    quality_field: str | None = setting(
        None,
        "field of metadata",
        "the metadata that names what an image shows, for measuring the quality; unset: near copies of images are "
        "searched for",
        min_length=1,
        max_length=256,
    )
    queue_ms: float = setting(
        2000.0,
        "ms",
        "predicted time in the queue above which requests are refused with 429; what has waited for as long all "
        "the same is answered with 503 (images of bulk calls may wait longer); below 100, many are under a crowd",
        gt=0,
        le=3.6e6,
    )
    hang_after_s: float = setting(
        10.0,
        "s",
        "a batch is abandoned, and its worker replaced, after this time and 20 × its predicted time",
        ge=0.01,
        le=3600,
    )
    max_batch: int = setting(32, "images", "the largest batch", ge=1, le=1024)
    max_k: int = setting(1024, "hits", "the largest k of a search", ge=1, le=1_000_000)
    max_images: int = setting(64, "images", "the most images in one call of /embed", ge=1, le=10_000)
    max_items: int = setting(10_000, "items", "the most items in one bulk call", ge=1, le=1_000_000)
    max_collections: int = setting(
        16,
        "collections",
        "the most collections, `default` among them; each has files, threads and memory of its own",
        ge=1,
        le=1000,
    )
    max_image_bytes: int = setting(20 * 2**20, "bytes", "the largest encoded image", ge=64, le=32 * 2**20)
    max_image_pixels: int = setting(
        64_000_000,
        "pixels",
        "the largest image, checked before it is decoded; a JPEG may have four times as many; what an image takes "
        "of `memory_bytes` counts, too",
        ge=1,
        le=178_000_000,
    )
    max_json_bytes: int = setting(
        2**20,
        "bytes",
        "the largest JSON document or NDJSON line, apart from its images and a vector's numbers",
        ge=1024,
        le=2**24,
    )
    max_body_bytes: int = setting(
        64 * 2**20,
        "bytes",
        "the largest request body; unless it is set, less where `memory_bytes` leave less for bodies",
        ge=1024,
        le=2**34,
    )
    memory_bytes: int | None = setting(
        None,
        "bytes",
        "memory that the service may use; images and bodies share what is left when it is ready; unset: what the "
        "control group, RLIMIT_AS and the machine allow",
        ge=2**26,
        le=2**50,
    )
    filter_memory_bytes: int | None = setting(
        None,
        "bytes",
        "memory that fields of metadata may take in each collection, for quick filters; the database is asked "
        "about one without room; unset: a sixteenth of what the service may use, and at least 64 MiB",
        ge=2**20,
        le=2**40,
    )
    accept_tiff: bool = setting(True, "true or false", "whether TIFF images are accepted")
    accept_heif: bool = setting(True, "true or false", "whether HEIC images are, where pillow-heif is installed")
    accept_avif: bool = setting(True, "true or false", "whether AVIF images are accepted")
    max_connections: int = setting(
        1000, "connections", "the most open connections; further ones are answered with 503", ge=1, le=1_000_000
    )
    keep_alive_s: float = setting(
        75.0,
        "s",
        "time that a connection stays open between two requests; longer than the 60 s of most load balancers",
        gt=0,
        le=3600,
    )
    max_connections_per_address: int | None = setting(
        None,
        "connections",
        "the most open connections of one address; further ones are answered with 503; unset, as is right behind "
        "a proxy: no such bound",
        ge=1,
    )
    max_requests_per_address: int | None = setting(
        None,
        "requests",
        "the most requests of one address that are under way; further ones are answered with 429; unset: no such "
        "bound",
        ge=1,
    )
    drain_delay_s: float = setting(
        0.5, "s", "time from SIGTERM, when /readyz turns 503, until connections are refused", ge=0, le=600
    )
    shutdown_grace_s: float = setting(
        5.0, "s", "time that running requests have to finish after SIGTERM", ge=0, le=600
    )
    otlp_url: Annotated[str, http_url("http://127.0.0.1:4318")] | None = setting(
        None,
        "URL",
        "the OTLP receiver (HTTP) that traces are sent to, such as http://127.0.0.1:4318; unset: no traces",
        max_length=2048,
    )
    log_level: LogLevel = setting("info", "level", "the least severe messages to log: debug, info, warning, error")
    log_format: LogFormat = setting("console", "format", "how messages are logged: console, for people, or json")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            found = "tls_cert" if self.tls_key is None else "tls_key"
            raise ValueError(f"tls_cert, tls_key: both or neither must be set; found {found} alone")
        return self

    @model_validator(mode="after")
    def _check_cuda_graphs(self) -> Self:
        if self.cuda_graphs and self.device != "cuda":
            raise ValueError(f"cuda_graphs: needs device cuda, found {self.device}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment."""
        return init_settings, _Environment(settings_cls)

    @property
    def acceleration(self) -> Acceleration:
        """Of the device."""
        return Acceleration(self.cuda_graphs, self.half)

    @property
    def scheme(self) -> Literal["http", "https"]:
        """Of the service's own URL."""
        return "http" if self.tls_cert is None else "https"

    @property
    def formats(self) -> frozenset[FormatName]:
        """The image formats that are accepted: those whose decoders are installed, less what is switched off."""
        switched: tuple[FormatName, ...] = ("TIFF", "HEIF", "AVIF")
        return available_formats() - {name for name in switched if not getattr(self, f"accept_{name.lower()}")}

    @property
    def thread_count(self) -> int:
        """`threads`, with 0 replaced by the number of cores that this process may use."""
        return self.threads or usable_cpus()
