"""Lines for people and for collectors; what callers send cannot break or flood them."""

import io
import json
import logging

import pytest

from sfsc_service.cli import logs
from sfsc_service.http.request_log import REQUEST_ID
from sfsc_service.settings import LogFormat


def logger_to(written: io.StringIO, format: LogFormat) -> logging.Logger:
    logger = logging.Logger("a", logging.INFO)
    logger.addHandler(logs.log_handler(written, format))
    return logger


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_line_carries_the_id_of_its_request(format: LogFormat) -> None:
    written = io.StringIO()
    logger = logger_to(written, format)
    token = REQUEST_ID.set("abc")
    logger.info("one of %d", 2)
    REQUEST_ID.reset(token)
    logger.info("outside of requests")
    first, second = written.getvalue().splitlines()
    assert "abc" in first
    assert "one of 2" in first
    assert "abc" not in second
    assert "request" not in second.replace("requests", "")


def test_json_lines_are_objects_whatever_is_logged() -> None:
    written = io.StringIO()
    logger = logger_to(written, "json")
    try:
        raise ValueError("two\nlines \ud800")
    except ValueError:
        logger.exception("bad \ud800 %s", "\n{")
    (line,) = written.getvalue().splitlines()
    document = json.loads(line)
    assert (document["level"], document["logger"], document["message"]) == ("error", "a", "bad ? \n{")
    assert "two\nlines" in document["exception"]
    assert document["time"].endswith("+00:00")


def test_a_message_is_one_line_for_people() -> None:
    written = io.StringIO()
    logger = logger_to(written, "console")
    logger.warning("name %s", "x\nERROR forged\x1b[2J\x9b2J\x0b\x85\u2028\x08\x7f")
    assert len(written.getvalue().splitlines()) == 1
    assert [character for character in written.getvalue() if not character.isprintable()] == ["\n"]
    assert r"x\nERROR forged\x1b[2J\x9b2J" in written.getvalue()


def test_a_flood_of_one_kind_leaves_lines_of_another_kind() -> None:
    written = io.StringIO()
    logger = logger_to(written, "console")
    for kind in [*["stranger"] * 1000, "camera-1"]:
        logger.warning("refused: %s", kind, extra={"kind": kind})
    lines = written.getvalue().splitlines()
    assert len(lines) == logs.LINES_PER_WINDOW + 1
    assert lines[-1].endswith("refused: camera-1")


def test_a_flood_of_like_lines_is_cut_short_and_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    written = io.StringIO()
    logger = logger_to(written, "console")

    def bad() -> None:
        logger.warning("Invalid HTTP request received.")

    for _ in range(1000):
        bad()
    logger.warning("something else")
    assert len(written.getvalue().splitlines()) == logs.LINES_PER_WINDOW + 1
    now = logs.WINDOW_S
    bad()
    assert written.getvalue().splitlines()[-1].endswith("received. (990 lines like this were left out)")
