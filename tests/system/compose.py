"""A Docker engine and the project's `docker-compose.yml` on it, for the container tests."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ROOT", "Stack", "compose_commands", "docker", "engine", "fetch_image", "inspect_image", "until"]

ROOT = Path(__file__).parents[2]
STARTER = Path(os.environ.get("SFSC_ENGINE", ROOT.parent / "shared" / "docker" / "engine.sh"))


@contextmanager
def engine() -> Iterator[None]:
    """A running engine; where none answers, SFSC_ENGINE starts one and stops it afterwards."""
    if _answers("docker", "info"):
        yield
        return
    if not STARTER.is_file():
        pytest.skip(f"no Docker engine answers and SFSC_ENGINE is no file: {STARTER}")
    try:
        subprocess.run([STARTER, "up"], check=True)
        yield
    finally:
        subprocess.run([STARTER, "down"], check=True)


def docker(*arguments: str) -> str:
    """Run `docker` and return its standard output. Raises AssertionError with both outputs."""
    return _run(["docker", *arguments], {})


def inspect_image(image: str) -> dict[str, Any]:
    """What the engine knows of an image."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


def fetch_image(image: str) -> None:
    """Pull an image unless it is there: BuildKit keeps no image of the bases that it builds on."""
    if not _answers("docker", "image", "inspect", image):
        docker("pull", "--quiet", image)


def compose_commands() -> list[list[str]]:
    """Compose 2 and Compose 1, whichever are installed."""
    return [command for command in (["docker", "compose"], ["docker-compose"]) if _answers(*command, "version")]


def until(what: str, ask: Any, seconds: float) -> Any:
    """Ask once a second until the answer is truthy, and return it. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"{what} within {seconds:g} s, last answer {answer!r}"
        time.sleep(1)
    return answer


class Stack:
    """The compose file under its own project name and ports, so that a gallery already running is not touched."""

    def __init__(self, project: str = "sfsc-test") -> None:
        self.http, self.prometheus = _free_ports(2)
        self.variables = {"SFSC_HTTP_PORT": str(self.http), "SFSC_PROMETHEUS_PORT": str(self.prometheus)}
        self._command = [*compose_commands()[0], "--project-name", project]

    def __call__(self, *arguments: str, **variables: str) -> str:
        """Run a compose command and return what it prints."""
        return _run([*self._command, *arguments], self.variables | variables)

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self("up", "--detach")
        for service in ("sfsc", "prometheus"):
            until(f"{service} healthy", lambda name=service: self.state(name)["Health"]["Status"] == "healthy", 60)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container, running or not."""
        found: dict[str, Any] = json.loads(docker("inspect", self("ps", "--all", "--quiet", service).strip()))[0]
        return found

    def state(self, service: str) -> dict[str, Any]:
        """The container's state: running, health, exit code."""
        state: dict[str, Any] = self.inspect(service)["State"]
        return state

    def execute(self, *command: str) -> str:
        """Run a command inside the service's container."""
        return self("exec", "-T", "sfsc", *command)


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _run(command: list[str], variables: dict[str, str]) -> str:
    everything = os.environ | variables
    done = subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, check=False)
    printed = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{printed}"
    return done.stdout


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
