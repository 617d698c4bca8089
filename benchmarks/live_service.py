"""`sfsc serve` on a socket, for benchmarks and tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

__all__ = ["free_port", "launched", "profiled", "serving", "wait_idle", "wait_ready"]

BIN = Path(sys.executable).parent
COMMAND = (BIN / "sfsc",)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(bundle: Path, work: Path, max_k: int) -> Iterator[httpx.Client]:
    """`sfsc serve` on a real socket with an empty store, until the block ends."""
    with launched(bundle, work, SFSC_MAX_K=str(max_k)) as (client, _):
        yield client


def profiled(bundle: Path, work: Path, command: Sequence[object] = COMMAND, **settings: str) -> str:
    """A new data folder with the costs that `sfsc profile` measures, as an operator would do it before serving."""
    folder = str(work / f"profiled-{time.time_ns()}")
    words = [*command, "profile", bundle, "--data", folder]
    environment = os.environ | settings
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return folder


@contextmanager
def launched(
    bundle: Path, work: Path, command: Sequence[object] = COMMAND, **settings: str
) -> Iterator[tuple[httpx.Client, int]]:
    """The same with any settings, by the names of their environment variables; also the id of the process.

    `SFSC_NICE` is 19 unless given, as docs/operations.md recommends where the service has the machine to itself.

    Args:
        command: what starts `sfsc`, where it is not this environment's.
    """
    port = free_port()
    store = settings.get("SFSC_DATA", work / f"store-{time.time_ns()}")
    words = [*command, "serve", bundle, "--data", store, "--port", port]
    server = subprocess.Popen([str(word) for word in words], env={"SFSC_NICE": "19"} | os.environ | settings)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            wait_ready(client, server)
            yield client, server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def wait_idle(process: int, limit_s: float = 300) -> None:
    """Wait until a service has done its work of a start, such as the check of its store: 10 s without CPU.

    Raises SystemExit where it is never idle.
    """
    deadline, quiet = time.monotonic() + limit_s, 0
    used = _cpu_s(process)
    while quiet < 10 and time.monotonic() < deadline:
        time.sleep(1)
        before, used = used, _cpu_s(process)
        quiet = quiet + 1 if used - before < 0.05 else 0
    if quiet < 10:
        sys.exit(f"the service was not idle for ten seconds within {limit_s:g} s")


def _cpu_s(process: int) -> float:
    """Seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_ready(
    client: httpx.Client, server: "subprocess.Popen[bytes]", path: str = "/readyz", limit_s: float = 60
) -> None:
    """Wait until a health check answers 200. Raises SystemExit where the server ends or takes longer."""
    for _ in range(int(10 * limit_s)):
        if server.poll() is not None:
            sys.exit(f"the service ended with code {server.returncode}")
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    sys.exit(f"the service did not become ready within {limit_s:g} s")
