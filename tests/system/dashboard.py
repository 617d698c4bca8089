"""The panels of the Grafana dashboard and their queries."""

import json
from pathlib import Path
from typing import Any

__all__ = ["panels", "queries", "read_dashboard"]

DASHBOARD = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "sfsc.json"


def read_dashboard() -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def panels() -> list[dict[str, Any]]:
    """Every panel but the headings of rows."""
    return [panel for panel in read_dashboard()["panels"] if panel["type"] != "row"]


def queries(interval: str = "1m") -> list[tuple[str, str]]:
    """Title and PromQL of every query, with `$__rate_interval`, which Grafana fills in, replaced."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", interval))
        for panel in panels()
        for target in panel["targets"]
    ]
