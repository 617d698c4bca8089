"""The command `sfsc`: serve, demo, profile, widths.

What goes wrong is one sentence on stderr and a non-zero exit code.
"""

import hashlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.errors import SfscError
from sfsc_bundle.folder import open_bundle
from sfsc_service.cli.demo import Entry, demo_entries, folder_entries, load
from sfsc_service.cli.profile import profile
from sfsc_service.engine.malloc import return_large_blocks
from sfsc_service.errors import Problem, ServiceError, StartError
from sfsc_service.http.server import address, bind, ignore_hangups, serve
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings, unit_of
from sfsc_service.store.errors import StoreError

__all__ = ["main"]

EXPECTED = (SfscError, StartError, StoreError, ServiceError)
DEMO_DATA = Path("data")


def main() -> None:
    """Run the command with the process's arguments."""
    try:
        _commands()()
    except EXPECTED as error:
        _fail(str(error), 1)
    except ValidationError as error:
        _fail(str(first_broken_rule(error)), 2)


def _commands() -> typer.Typer:
    app = typer.Typer(
        help="Visual search in which model size is a per-request decision.",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.command("serve", help="Serve a bundle over HTTP.")(_with_settings(_serve, _bundle_argument()))
    app.command("demo", help="Serve the demo bundle with its gallery loaded.")(
        _with_settings(_demo, _images_option())
    )
    app.command("profile", help="Measure what every width costs on this machine, for the service's next start.")(
        _with_settings(_profile, _bundle_argument())
    )
    app.command("widths", help="Print what the widths of a bundle are and cost.")(_widths)
    return app


def _serve(**options: Any) -> None:
    settings = _settings(options)
    _log(settings)
    ignore_hangups()
    return_large_blocks()
    bound = bind(settings)
    service = open_service(settings)
    print(f"serving {service.manifest.name} at {address(bound)}", flush=True)
    serve(settings, service, bound)


def _demo(images: Path | None, **options: Any) -> None:
    settings = _settings(options)
    if "data" not in settings.model_fields_set:
        settings = settings.model_copy(update={"data": _demo_data(images)})
    if "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "warning"})
    _log(settings)
    entries = demo_entries(settings.bundle) if images is None else folder_entries(images)
    ignore_hangups()
    return_large_blocks()
    bound = bind(settings)
    service = open_service(settings)
    threading.Thread(target=_load, args=(address(bound), entries), daemon=True).start()
    serve(settings, service, bound)


def _load(url: str, entries: list[Entry]) -> None:
    console = Console()
    try:
        load(url, entries, console)
    except EXPECTED as error:
        print(f"sfsc: the gallery could not be loaded: {error}", file=sys.stderr, flush=True)
    print(f"open {url}", flush=True)


def _profile(**options: Any) -> None:
    settings = _settings(options)
    _log(settings)
    try:
        profile(settings, Console())
    except Problem as problem:
        raise StartError(problem.detail) from problem
    except OSError as error:
        raise StartError(f"data: costs cannot be written to {settings.data}: {error.strerror}") from error


def _widths(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    table = Table("width", "parameters", "GMAC", "mAP to itself", "mAP to full", title=manifest.name)
    quality = manifest.quality
    for at, submodel in enumerate(manifest.submodels):
        table.add_row(
            submodel.width,
            f"{submodel.parameters:,}",
            f"{submodel.macs / 1e9:.4f}",
            f"{quality.mean_ap[at][at]:.2f}",
            f"{quality.mean_ap[at][-1]:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(f"{quality.dataset}, {quality.protocol}", markup=False)


def _with_settings(command: Callable[..., None], *own: inspect.Parameter) -> Callable[..., None]:
    """Give a command one option per setting, which the help shows with unit, default and variable."""
    names = {parameter.name for parameter in own}
    parameters = [*own, *(option for option in _options() if option.name not in names)]

    def run(**options: Any) -> None:
        command(**options)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options() -> Iterator[inspect.Parameter]:
    for name, field in Settings.model_fields.items():
        option = typer.Option(None, f"--{name.replace('_', '-')}", help=_help(name), show_default=False)
        kind = field.annotation if field.annotation in (int, float) else str
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None)


def _bundle_argument() -> inspect.Parameter:
    argument = typer.Argument(None, help=_help("bundle"), show_default=False)
    return inspect.Parameter("bundle", inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=str | None)


def _images_option() -> inspect.Parameter:
    option = typer.Option(None, "--images", help="load the images under this folder instead of the demo gallery")
    return inspect.Parameter("images", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=Path | None)


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    default = "unset" if field.default is None else field.default
    return f"{field.description} [{unit_of(name)}; default: {default}; SFSC_{name.upper()}]"


def _settings(options: dict[str, Any]) -> Settings:
    return Settings(**{name: value for name, value in options.items() if value is not None})


def _demo_data(images: Path | None) -> Path:
    if images is None:
        return DEMO_DATA / "demo"
    return DEMO_DATA / f"images-{hashlib.sha256(str(images.resolve()).encode()).hexdigest()[:12]}"


def _log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _fail(message: str, code: int) -> NoReturn:
    print(f"sfsc: {message}", file=sys.stderr)
    raise SystemExit(code)
