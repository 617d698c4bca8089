"""Coverage-guided fuzzing of the code that reads requests, by atheris (extra `fuzz`).

    python benchmarks/fuzz_parsers.py json -runs=100000  # json, form, head or arrow; options of libFuzzer follow

Input that is refused raises `Problem`. Any other exception is a fault, and so is input that takes longer than
libFuzzer's `-timeout`.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["sfsc_service.http", "python_multipart", "uvicorn.protocols"]):
    import uvicorn
    from uvicorn.server import ServerState

    from sfsc_service.client.arrow import arrow_body
    from sfsc_service.errors import Problem
    from sfsc_service.http.arrow_items import read_arrow
    from sfsc_service.http.base64_image import decode_image
    from sfsc_service.http.form import read_form
    from sfsc_service.http.http_protocol import HttpProtocol
    from sfsc_service.http.json_document import read_object
    from sfsc_service.http.parsing import Turns

LOOP = asyncio.new_event_loop()
TURNS = Turns()
PIECE = 61
"""Bytes that arrive at a time, so that every state is met at the end of a piece."""


def read_json(data: bytes) -> None:
    """A document, read whole and with its images cut out."""
    for max_bytes in (len(data), 64):
        with contextlib.suppress(Problem):
            images = read_object(data, max_bytes).get("image")
            for image in images if isinstance(images, list) else [images]:
                decode_image(image, "image")


def read_parts(data: bytes) -> None:
    """A form; its first line is the Content-Type."""
    content_type, _, body = data.partition(b"\n")

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), PIECE):
            yield body[at : at + PIECE]

    with contextlib.suppress(Problem):
        LOOP.run_until_complete(read_form(pieces(), content_type.decode("latin-1"), TURNS, 4, 4, 1000, 1000))


def read_items(data: bytes) -> None:
    """A stream of vectors with four numbers each."""
    with contextlib.suppress(Problem):
        read_arrow(data, 4, 10)


def read_head(data: bytes) -> None:
    """A connection, whose requests are read to their ends and answered."""
    LOOP.run_until_complete(_connection(data))


async def _connection(data: bytes) -> None:
    config = uvicorn.Config(_application, lifespan="off", log_config=None, access_log=False)
    protocol = HttpProtocol(config=config, server_state=ServerState(), app_state={}, _loop=LOOP)
    transport = _Transport()
    protocol.connection_made(transport)
    for at in range(0, len(data), PIECE):
        if transport.closed:
            break
        protocol.data_received(data[at : at + PIECE])
        await asyncio.sleep(0)
    if not transport.closed:
        protocol.eof_received()
    for _ in range(10):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    for task in list(protocol.tasks):
        task.cancel()
    assert not transport.written or transport.written.startswith(b"HTTP/1.1 "), transport.written


async def _application(_scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False


TARGETS = {"json": read_json, "form": read_parts, "head": read_head, "arrow": read_items}
SEEDS = {
    "json": [b'{"image": ["%b", "A\\/="], "metadata": {"n": [1, -2.5e3, null]}, "": "\\u00e9"}' % (300 * b"QUJD")],
    "form": [
        b"multipart/form-data; boundary=B; charset=latin1\n"
        b"--B\r\nContent-Disposition: form-data; name=\"image\"; filename*=utf-8''a\r\n\r\nx\r\n"
        b"--B\r\nContent-Disposition: form-data; name=id\r\nContent-Type: text/plain; charset=utf-8"
        b"\r\n\r\ny\r\n--B--"
    ],
    "head": [
        b"POST /a?b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nt: u\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nxyGET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
        b"PUT / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nxyGET / HTTP/1.1\r\n\r"
        b"\n",
    ],
    "arrow": [arrow_body(["a", "b"], np.eye(4, dtype=np.float32)[:2], [{"n": 1}, None])],
}


def main() -> None:
    """Fuzz one target."""
    target, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[target]):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
