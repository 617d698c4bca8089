"""Tables out of the code: settings, metrics, routes, error codes, and the import contracts."""

import tomllib
from pathlib import Path

from fastapi.routing import APIRoute
from markdown_tables import table

from sfsc_service.errors import STATUS
from sfsc_service.http.access import access_of
from sfsc_service.http.app import create_app
from sfsc_service.http.routes.collections import PREFIX
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings

__all__ = ["REFERENCE"]


def settings() -> str:
    """Every setting with its option, default and unit."""
    rows = []
    for name, field in Settings.model_fields.items():
        option = f"`--{name.replace('_', '-')}`" if name != "bundle" else "argument"
        default = "unset" if field.default is None else str(field.default)
        rows.append([f"`SFSC_{name.upper()}`", option, default, str(field.description)])
    return table(["setting", "option of `sfsc serve`", "default", "what for [unit]"], rows)


def metrics() -> str:
    """Every metric of the service itself."""
    metric_families = Metrics().registry.collect()
    own = sorted((family for family in metric_families if family.name.startswith("sfsc_")), key=lambda f: f.name)
    return table(["metric", "type", "what"], [[f"`{f.name}`", f.type, f.documentation] for f in own])


def routes() -> str:
    """Every route of the OpenAPI document, but those of galleries once."""
    app = create_app(Settings(bundle=Path("models/demo"), data=Path("unused")))
    document = app.openapi()
    access = {
        (method, route.path): access_of(route)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    rows = [
        [
            f"`{method.upper()} {path}`",
            operation["summary"],
            access[method.upper(), path],
            " ".join(sorted(operation["responses"])),
        ]
        for path, operations in document["paths"].items()
        if not path.startswith(f"{PREFIX}/")
        for method, operation in operations.items()
    ]
    return table(["call", "what", "access", "statuses"], rows)


def codes() -> str:
    """Every error code with its status."""
    return table(
        ["code", "status", "title"], [[f"`{code}`", str(s), title] for code, (s, title) in STATUS.items()]
    )


def layers() -> str:
    """Every layers contract of pyproject.toml, the highest layer first."""
    document = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    contracts = document["tool"]["importlinter"]["contracts"]
    rows = [
        [
            f"`{contract.get('containers', ['all'])[0]}`",
            " > ".join(_neighbours(layer) for layer in contract["layers"]),
        ]
        for contract in contracts
        if contract["type"] == "layers"
    ]
    return table(["package", "layers"], rows)


def _neighbours(layer: str) -> str:
    """Import-linter's `|` keeps neighbours apart, its `:` lets them import each other."""
    return " + ".join(", ".join(part.split()) for part in layer.replace("|", " ").split(":"))


REFERENCE = {"layers": layers, "settings": settings, "metrics": metrics, "routes": routes, "codes": codes}
