"""Progress of long work: a bar on a terminal, else a plain line every ten seconds. Needs rich."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["Bar", "bar", "counting"]

_SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Progress of counted work; `advance()` is called after every unit."""

    def __init__(self, console: Console, title: str, total: int, done: int, progress: Progress | None) -> None:
        self._console, self._title, self._total, self._done = console, title, total, done
        self._progress = progress
        self._first, self._began, self._said = done, time.monotonic(), time.monotonic()
        self._task = progress.add_task(title, total=total, completed=done, text="", left="") if progress else None

    def advance(self, text: str | None = None) -> None:
        """Count one unit as done; `text` replaces the text behind the bar."""
        self._done += 1
        if self._progress is not None and self._task is not None:
            left = f"{timedelta(seconds=round(self._seconds_left()))} left"
            self._progress.update(self._task, advance=1, left=left)
            if text is not None:
                self._progress.update(self._task, text=text)
        elif self._done == self._total or time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            elapsed = time.monotonic() - self._began
            line = f"{self._title} {self._done}/{self._total}  {text or ''}  {elapsed:.0f} s elapsed"
            self._console.print(f"{line}, {self._seconds_left():.0f} s left", highlight=False, soft_wrap=True)

    def _seconds_left(self) -> float:
        """By the mean speed: work that is done in batches, each of which ends at once, has no current one."""
        elapsed = time.monotonic() - self._began
        return elapsed / max(1, self._done - self._first) * (self._total - self._done)


@contextmanager
def bar(console: Console, title: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Show the progress of `total` units, of which `done` are done already."""
    if not console.is_terminal:
        yield Bar(console, title, total, done, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(console, title, total, done, progress)


@contextmanager
def counting(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """For work that reports its own progress: yields a function of (done, total)."""
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
        ) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
        return
    said = [time.monotonic()]

    def say(done: int, total: int) -> None:
        if done == total or time.monotonic() - said[0] > _SECONDS_BETWEEN_LINES:
            said[0] = time.monotonic()
            console.print(f"{title} {done}/{total}", highlight=False)

    yield say
