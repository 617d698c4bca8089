"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from sfsc_bundle import progress
from sfsc_bundle.progress import bar, counting


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=100), written


def test_without_a_terminal_the_end_is_one_plain_line() -> None:
    plain, written = console(terminal=False)
    with bar(plain, "loading", 3) as shown:
        for number in range(3):
            shown.advance(f"item {number}")
    (line,) = written.getvalue().splitlines()
    assert line.startswith("loading 3/3  item 2 ")
    assert "\x1b" not in line


def test_without_a_terminal_long_work_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, written = console(terminal=False)
    monkeypatch.setattr(progress.time, "monotonic", iter(range(0, 10_000, 4)).__next__)
    with bar(plain, "loading", 100) as shown:
        for _ in range(40):
            shown.advance()
    assert 5 < len(written.getvalue().splitlines()) < 40


def test_on_a_terminal_there_is_a_bar_that_begins_where_the_work_does() -> None:
    shown_on, written = console(terminal=True)
    with bar(shown_on, "training", 10, done=4) as shown:
        shown.advance("loss 1.5")
    assert "━" in written.getvalue()
    assert "5/10" in written.getvalue()
    assert "loss 1.5" in written.getvalue()


def test_work_that_is_done_in_batches_is_told_for_how_long_it_will_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shown_on, written = console(terminal=True)
    monkeypatch.setattr(progress.time, "monotonic", iter([0, 0, 10, 10, 10]).__next__)
    with bar(shown_on, "images", 30) as shown:
        for _ in range(3):  # a batch of three that has taken 10 s
            shown.advance()
    assert "3/30" in written.getvalue()
    assert "0:01:30 left" in written.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_work_that_reports_its_own_progress(terminal: bool) -> None:
    chosen, written = console(terminal=terminal)
    with counting(chosen, "rendering") as report:
        report(1, 2)
        report(2, 2)
    assert "2/2" in written.getvalue()
    assert ("━" in written.getvalue()) == terminal
