"""The command `sfsc` as a process of a test's own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

__all__ = ["ENVIRONMENT", "SFSC", "one_sentence", "run", "serving", "until_ready"]

SFSC = Path(sys.executable).with_name("sfsc")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SFSC_")} | {
    "COLUMNS": "200"
}
START_S = 60.0


def run(
    *words: object, command: Path = SFSC, folder: Path | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [command, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT | environment,
        cwd=folder,
    )


@contextmanager
def serving(
    *words: object,
    command: Path = SFSC,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The process and its address, once it says so."""
    process = subprocess.Popen(
        [command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | (environment or {}),
        cwd=folder,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        found = next(found for line in process.stdout if (found := re.search(r"https?://\S+", line)))
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def until_ready(url: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service has not become ready")


def one_sentence(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in done.stderr.splitlines() if not re.match(r"\d{4}-\d\d-\d\d .* INFO", line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("sfsc: ")
    return lines[0]
