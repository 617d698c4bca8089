"""Tables out of the service's own code: settings, metrics, routes and error codes."""

from pathlib import Path

from markdown_tables import table

from sfsc_service.errors import STATUS
from sfsc_service.http.app import create_app
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings, unit_of

__all__ = ["REFERENCE"]


def settings() -> str:
    """Every setting with its option, default and unit."""
    rows = []
    for name, field in Settings.model_fields.items():
        option = f"`--{name.replace('_', '-')}`" if name != "bundle" else "argument"
        default = "unset" if field.default is None else str(field.default)
        rows.append([f"`SFSC_{name.upper()}`", option, default, unit_of(name), str(field.description)])
    return table(["setting", "option of `sfsc serve`", "default", "unit", "what for"], rows)


def metrics() -> str:
    """Every metric of the service itself."""
    metric_families = Metrics().registry.collect()
    own = sorted((family for family in metric_families if family.name.startswith("sfsc_")), key=lambda f: f.name)
    return table(["metric", "type", "what"], [[f"`{f.name}`", f.type, f.documentation] for f in own])


def routes() -> str:
    """Every route of the OpenAPI document."""
    document = create_app(Settings(bundle=Path("models/demo"), data=Path("unused"))).openapi()
    rows = [
        [f"`{method.upper()} {path}`", operation["summary"], " ".join(sorted(operation["responses"]))]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return table(["call", "what", "statuses"], rows)


def codes() -> str:
    """Every error code with its status."""
    return table(
        ["code", "status", "title"], [[f"`{code}`", str(s), title] for code, (s, title) in STATUS.items()]
    )


REFERENCE = {"settings": settings, "metrics": metrics, "routes": routes, "codes": codes}
