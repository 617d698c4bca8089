"""An S3-compatible server as a process: moto's, on loopback. A process, so that it can be stopped and killed."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from live_service import free_port

__all__ = [
    "BUCKET",
    "KEY",
    "SECRET",
    "S3Server",
    "aws_settings",
    "impatient",
    "in_environment",
    "need_s3",
    "s3_server",
]

START_S = 120.0
BUCKET = "gallery"
KEY, SECRET = "AKIAEXAMPLEEXAMPLE00", "a-secret-that-nobody-may-see"


@dataclass(frozen=True, slots=True)
class S3Server:
    """`address`: http://HOST:PORT. `pid`: of its process."""

    address: str
    pid: int

    def empty(self) -> None:
        """Leave the bucket BUCKET, without objects."""
        self.lose_bucket()
        httpx.put(f"{self.address}/{BUCKET}").raise_for_status()

    def lose_bucket(self) -> None:
        httpx.post(f"{self.address}/moto-api/reset").raise_for_status()

    def names(self, bucket: str = BUCKET) -> list[str]:
        """Of all objects, as a client of its own sees them."""
        listing = httpx.get(f"{self.address}/{bucket}").text
        return [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]

    def put(self, name: str, content: bytes) -> None:
        signed = {"Authorization": f"AWS {KEY}:signature"}  # which moto does not look at
        httpx.put(f"{self.address}/{BUCKET}/{name}", content=content, headers=signed).raise_for_status()


def need_s3() -> None:
    for name in ("s3fs", "moto", "flask", "flask_cors"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install '.[s3,dev]'")


def aws_settings(address: str) -> dict[str, str]:
    """What a client finds in its environment."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }


@contextmanager
def in_environment(settings: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield


@contextmanager
def impatient() -> Iterator[None]:
    """Short bounds: while the object store is away, not where a call has to succeed beside others that compute."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in {"_REQUEST_S": 1.0, "_CALL_S": 2.0, "_PROBE_S": 0.5, "_OPEN_S": 0.5}.items():
            patch.setattr(f"sfsc_service.store.milvus.object_images.{name}", seconds)
        yield


@contextmanager
def s3_server(log: Path, port: int = 0) -> Iterator[S3Server]:
    """One with the bucket BUCKET, empty; it keeps all in memory. It has ended when the block ends."""
    port = port or free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    server = S3Server(f"http://127.0.0.1:{port}", process.pid)
    try:
        deadline = time.monotonic() + START_S
        while not _made(server):
            assert process.poll() is None, f"moto did not start; {log} may say why"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


def _made(server: S3Server) -> bool:
    try:
        return httpx.put(f"{server.address}/{BUCKET}").status_code == 200
    except httpx.TransportError:
        return False
