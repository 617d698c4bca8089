"""Request bodies as files for wrk: one image each, and many in one call."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from untrained import images, written

__all__ = ["BULK", "Bodies", "draw", "single"]

BULK = 16
COUNT = 32
BOUNDARY = "sfsc-benchmark-boundary"


@dataclass(frozen=True, slots=True)
class Bodies:
    """Files of one kind, and how many images each holds."""

    kind: str
    images: int
    paths: Sequence[Path]


def draw(folder: Path) -> dict[str, Bodies]:
    """The same images as single calls and as bulk calls in JSON and multipart."""
    files = images(COUNT)
    bulks = [files[at : at + BULK] for at in range(0, COUNT, BULK)]
    form = f"multipart/form-data; boundary={BOUNDARY}"
    return {
        "bulk, JSON": Bodies("application/json", BULK, written([_json(bulk) for bulk in bulks], folder, "json")),
        "bulk, multipart": Bodies(form, BULK, written([_multipart(bulk) for bulk in bulks], folder, "form")),
        **single(files, folder),
    }


def single(files: Sequence[bytes], folder: Path) -> dict[str, Bodies]:
    """JPEG files as raw bodies and as forms of one image."""
    form = f"multipart/form-data; boundary={BOUNDARY}"
    return {
        "single": Bodies("image/jpeg", 1, written(list(files), folder, "jpg")),
        "single, multipart": Bodies(form, 1, written([_multipart([data]) for data in files], folder, "one")),
    }


def _json(files: Sequence[bytes]) -> bytes:
    return json.dumps({"image": [base64.b64encode(data).decode() for data in files]}).encode()


def _multipart(files: Sequence[bytes]) -> bytes:
    head = '--{}\r\nContent-Disposition: form-data; name="image"; filename="{}.jpg"\r\n\r\n'
    parts = [head.format(BOUNDARY, n).encode() + data + b"\r\n" for n, data in enumerate(files)]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
