"""What batches cost, kept for the next start: read back only on the same machine with the same graphs."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.engine.cost_file import CostFile, fingerprint
from sfsc_service.engine.costs import Measured
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings

COSTS = {width: {1: Measured(1.5, 2.0), 4: Measured(4.0, 5.0)} for width in ("0.25", "0.5", "0.75", "1.0")}


@pytest.fixture
def kept(tiny: Bundle, tmp_path: Path) -> CostFile:
    (tmp_path / "data").mkdir()
    file = CostFile(tmp_path / "data", fingerprint(tiny.manifest, "cpu", 1))
    file.write(COSTS)
    return file


def test_what_was_written_is_read_back(kept: CostFile) -> None:
    assert kept.read() == COSTS
    assert [path.name for path in kept.path.parent.iterdir()] == ["costs.json"]


def test_no_file_is_no_costs(tmp_path: Path) -> None:
    assert CostFile(tmp_path, {"graphs": {}}).read() is None


@pytest.mark.parametrize(
    "name", ["processor", "cores", "threads", "onnxruntime", "device", "acceleration", "graphs"]
)
def test_costs_of_another_machine_or_bundle_do_not_count(
    kept: CostFile, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    document = json.loads(kept.path.read_text())
    document["fingerprint"][name] = {"0.25": "f" * 64} if name == "graphs" else "another"
    kept.path.write_text(json.dumps(document))
    with caplog.at_level(logging.INFO):
        assert kept.read() is None
    assert len(caplog.records) == 1
    assert name in caplog.text


def broken(document: dict[str, Any], how: str) -> bytes:
    match how:
        case "cut off":
            return json.dumps(document).encode()[:-20]
        case "no text":
            return b"\xff\xfe\x00"
        case "a cost of nothing":
            document["costs"]["0.5"]["1"]["median_ms"] = 0.0
        case "a cost that is no number":
            document["costs"]["0.5"]["1"]["p95_ms"] = float("nan")
        case "no images":
            document["costs"]["0.5"]["0"] = {"median_ms": 1.0, "p95_ms": 1.0}
        case "an unknown field":
            document["more"] = 1
        case "too large":
            document["fingerprint"]["padding"] = "x" * 2**21
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "no text",
        "a cost of nothing",
        "a cost that is no number",
        "no images",
        "an unknown field",
        "too large",
    ],
)
def test_a_broken_file_is_one_line_in_the_log_and_measured_anew(
    kept: CostFile, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept.path.write_bytes(broken(json.loads(kept.path.read_text()), how))
    assert kept.read() is None
    assert len(caplog.records) == 1
    assert str(kept.path) in caplog.text
    assert len(caplog.text.splitlines()) == 1


def test_a_width_that_is_missing_makes_the_file_another_bundles(kept: CostFile) -> None:
    kept.write({width: cells for width, cells in COSTS.items() if width != "0.5"})
    assert kept.read() is None


def test_a_service_starts_with_what_the_last_one_has_left(settings: Settings) -> None:
    first = open_service(settings)
    first.embedder.costs.load(COSTS)
    first.close()
    second = open_service(settings)
    try:
        assert second.embedder.costs.table() == COSTS
    finally:
        second.close()


def test_a_folder_that_is_gone_is_not_made_again(kept: CostFile, tmp_path: Path) -> None:
    kept.path.parent.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        kept.write(COSTS)
    assert not kept.path.parent.exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    service = open_service(settings)
    (settings.data / "costs.json").mkdir()
    service.close()
    assert "the next start will measure the costs again" in caplog.text
