"""A machine with little memory: what does not fit is refused with the numbers, and the rest is served."""

import logging
from pathlib import Path

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.engine.memory_budget import GROWTH_BYTES, MIB, memory_budget
from sfsc_service.errors import StartError
from sfsc_service.http.problems import as_problem
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from tests.bundle.encoded_images import encoded, pattern
from tests.service.live import running


@pytest.fixture
def little(tiny: Bundle, tmp_path: Path) -> Settings:
    """Settings with 64 MiB left for images and bodies."""
    taken = memory_budget().taken
    limit = (taken + GROWTH_BYTES + 96 * MIB) * 16 // 15
    return Settings(bundle=tiny.folder, data=tmp_path, port=0, threads=1, slo_ms=1000.0, memory_bytes=limit)


def test_an_image_that_does_not_fit_is_refused_by_its_header(little: Settings) -> None:
    with running(little) as live:
        answer = live.post_image("/embed", encoded("WEBP", pattern(2400, 2000)))
        assert (answer.status_code, answer.json()["code"]) == (413, "image_too_many_pixels")
        assert "MiB of memory to decode, found a WEBP of 2400×2000, which takes 9" in answer.json()["detail"]
        assert live.post_image("/embed", encoded("JPEG", pattern(2400, 2000))).status_code == 200


def test_a_body_may_have_what_memory_leaves_and_clients_are_told(little: Settings) -> None:
    with running(little) as live:
        most = live.http.get("/widths").json()["limits"]["max_body_bytes"]
        assert 1 * MIB < most < 32 * MIB
        assert most == live.service.settings.max_body_bytes == live.service.memory.bodies
        answer = live.http.post("/embed", content=bytes(most + 1), headers={"Content-Type": "image/png"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert f"at most {most} bytes" in answer.json()["detail"]


def test_the_operator_may_not_choose_a_body_that_does_not_fit(little: Settings) -> None:
    with pytest.raises(
        StartError, match=r"SFSC_MAX_BODY_BYTES: must be at most \d+, which SFSC_MEMORY_BYTES leaves"
    ):
        open_service(little.model_copy(update={"max_body_bytes": 60 * MIB}))


def test_a_lack_of_memory_anywhere_is_not_the_callers_fault() -> None:
    problem = as_problem(MemoryError(), "POST /items")
    assert (problem.code, problem.status, problem.retry_after_s) == ("out_of_memory", 503, 1.0)


def test_the_start_says_what_may_be_taken(little: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sfsc_service"):
        open_service(little).close()
    (line,) = (record.getMessage() for record in caplog.records if "MiB" in record.getMessage())
    assert line.startswith("SFSC_MEMORY_BYTES allows ")
    assert "accepted formats are JPEG PNG WEBP GIF BMP" in line
