"""`sfsc demo` in a process of its own, with its gallery loaded into a new store."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["demo_service"]


@contextmanager
def demo_service(bundle: Path) -> Iterator[str]:
    """The address of the service, ready and filled, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        command = str(Path(sys.executable).with_name("sfsc"))
        words = [command, "demo", "--bundle", str(bundle), "--data", folder, "--port", "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield _address(process)
            finally:
                process.send_signal(signal.SIGTERM)


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("open "):
            return line.split()[1]
    sys.exit("sfsc demo ended before its gallery was loaded")
