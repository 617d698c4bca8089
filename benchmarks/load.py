"""Load from wrk: compiled, so that it hardly disturbs a server on the same cores."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLIENTS", "Load", "finish", "post", "start"]

CLIENTS = 16
SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds


def start(
    url: str, bodies: Sequence[Path], seconds: int, *, kind: str = "image/jpeg", clients: int = CLIENTS
) -> "subprocess.Popen[str]":
    """Start keep-alive clients that POST the bodies in turn, each the next one as soon as it has an answer."""
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    words = [wrk, "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "-s", str(SCRIPT), url]
    return subprocess.Popen([*words, "--", kind, *map(str, bodies)], stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> Load:
    """Wait for the end of a load. Raises SystemExit where an answer was not 2xx."""
    output, _ = process.communicate()
    lines = output.splitlines()
    if process.returncode or not lines or not lines[-1].startswith("{"):
        sys.exit(f"wrk failed: {output}")
    load = Load(**json.loads(lines[-1]))
    if load.errors or not load.requests:
        sys.exit(f"wrk: {load.errors} of {load.requests} requests failed")
    return load


def post(
    url: str, bodies: Sequence[Path], seconds: int, *, kind: str = "image/jpeg", clients: int = CLIENTS
) -> Load:
    """Run a load from start to end."""
    return finish(start(url, bodies, seconds, kind=kind, clients=clients))
