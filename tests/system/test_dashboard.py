"""Dashboard and alerts name only metrics that exist; panels are complete and lie beside each other."""

import itertools
import re

import pytest
import yaml

from sfsc_service.metrics import Metrics
from tests.system.dashboard import DASHBOARD, panels, queries, read_dashboard

DOCKER = DASHBOARD.parents[2]
OF_THE_PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
}
METRIC = re.compile(r"\b(?:sfsc|process)_\w+")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of all series that the service can export."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    families = [family for family in Metrics().registry.collect() if family.name.startswith("sfsc_")]
    return OF_THE_PROCESS | {family.name + suffix for family in families for suffix in suffixes[family.type]}


@pytest.fixture(scope="module")
def alerts() -> list[dict]:
    return yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"][0]["rules"]


def test_every_query_names_metrics_that_exist(exported: set[str], alerts: list[dict]) -> None:
    expressions = [expression for _, expression in queries()] + [rule["expr"] for rule in alerts]
    for expression in expressions:
        found = set(METRIC.findall(expression))
        assert found <= exported, expression
        assert found or "up{" in expression, expression


def test_the_dashboard_shows_every_metric_of_the_service_but_those_left_out_on_purpose(exported: set[str]) -> None:
    shown = " ".join(expression for _, expression in queries())
    families = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exported - OF_THE_PROCESS}
    assert {name for name in families if name not in shown} == {"sfsc_preprocess_seconds"}


def test_panels_are_complete() -> None:
    ids = [panel["id"] for panel in read_dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": provisioned()}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


def provisioned() -> str:
    folder = DOCKER / "grafana" / "provisioning" / "datasources"
    (source,) = yaml.safe_load((folder / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    uid: str = source["uid"]
    return uid


def test_panels_lie_on_the_grid_and_do_not_overlap() -> None:
    covered: set[tuple[int, int]] = set()
    for panel in read_dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )
        assert not cells & covered
        covered |= cells


def test_the_dashboard_is_mounted_where_it_is_looked_for() -> None:
    compose = yaml.safe_load((DOCKER.parent / "docker-compose.yml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((DOCKER / "grafana" / "provisioning" / "dashboards" / "files.yml").read_text())[
        "providers"
    ]
    assert mounts[f"./{DASHBOARD.parent.relative_to(DOCKER.parent)}"] == provider["options"]["path"]
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"


def test_every_alert_says_how_urgent_it_is_and_has_a_test(alerts: list[dict]) -> None:
    tested = (DOCKER.parent / "tests" / "system" / "alerts.test.yml").read_text()
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["alert"] in tested
