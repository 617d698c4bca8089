"""Requests that were made to stop a service, one small function for each.

    python benchmarks/attacks.py NAME HOST PORT SECONDS              # repeat one of them, from several connections
    python benchmarks/attacks.py NAME HOST PORT SECONDS harmless     # what it is compared with, see `harmless`

What is sent is made first; then "ready" is printed, and a line is waited for. An attack is called again and again
until the time is up. It opens its own connections and returns the statuses that it saw; none where it was cut off.
A new attack is a function in `ATTACKS`, or one that makes an image, in image_attacks.py.
"""

import base64
import functools
import io
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import repeat

from PIL import Image

from image_attacks import IMAGE_ATTACKS
from mixed_traffic import image

__all__ = ["ATTACKS", "Address", "Attack"]

TIMEOUT_S = 60.0
MB = 2**20
LARGEST_PHOTOGRAPH = 8 * MB
ID, FILE = b'name="id"', b'name="image"; filename="a"'
Act = Callable[["Address"], "list[int]"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service listens."""

    host: str
    port: int

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """A connection; `receive_bytes` bounds what the system takes in for a client that does not read."""
        connection = socket.socket()
        connection.settimeout(TIMEOUT_S)
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.connect((self.host, self.port))
        return connection


@dataclass(frozen=True, slots=True)
class Attack:
    """`connections`: how many callers repeat it at a time; `prepare` makes its body, and returns its length."""

    act: Act
    connections: int = 2
    prepare: Callable[[], int] = lambda: 0


def harmless(attack: Attack) -> Attack:
    """As many callers that send photographs to be embedded, each of as many bytes as a request of the attack.

    A photograph is a small JPEG with a video behind it, as phones write them. It has `LARGEST_PHOTOGRAPH` bytes at
    most, because larger ones would be refused. Beside attacks without a body, the JPEG comes alone.
    """

    def build() -> bytes:
        return image(1, 128, "JPEG").ljust(min(attack.prepare(), LARGEST_PHOTOGRAPH), b"\0")

    whole = upload("/embed?width=0.25", build, "image/jpeg")
    return Attack(whole.act, attack.connections, whole.prepare)


class Sent:
    """Bytes that all callers have sent."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count some more."""
        with self._lock:
            self.bytes += count


SENT = Sent()


def request(address: Address, path: str, kind: str, body: bytes, method: str = "POST") -> list[int]:
    """Send one request with a whole body and read the response to its end."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    with address.connect() as connection:
        return talk(connection, [head.encode() + b"Connection: close\r\n\r\n", body])


def talk(connection: socket.socket, pieces: Iterable[bytes]) -> list[int]:
    """Send pieces until the service cuts the connection, and read the status of its response."""
    heard = b""
    try:
        for piece in pieces:
            connection.sendall(piece)
            SENT.add(len(piece))
        while part := connection.recv(MB):
            heard = heard or part
    except OSError:
        pass
    return [int(heard[9:12])] if heard.startswith(b"HTTP/1.1 ") else []


def upload(path: str, build: Callable[[], bytes], kind: str = "application/json") -> Attack:
    """An attack by one body, which is built once."""
    body = functools.cache(build)
    return Attack(lambda address: request(address, path, kind, body()), prepare=lambda: len(body()))


def form(path: str, build: Callable[[], bytes], charset: str = "utf-8") -> Attack:
    """An attack by the parts of a multipart body, which are built once."""
    return upload(path, lambda: build() + b"--B--\r\n", f"multipart/form-data; boundary=B; charset={charset}")


def part(disposition: bytes, content: bytes, headers: bytes = b"") -> bytes:
    """One part of a form."""
    return b"--B\r\nContent-Disposition: form-data; " + disposition + headers + b"\r\n\r\n" + content + b"\r\n"


def metadata() -> bytes:
    """A part of as many lists as fit into a megabyte."""
    return part(b'name="metadata"', many(b"[]", MB - 99, b'{"a":[', b"]}"))


def unknown_keys(size: int) -> bytes:
    """An object of keys that nobody knows."""
    keys = (f'"{n:x}":1' for n in range(size // 10))
    return ("{" + ",".join(keys) + "}").encode()


def many(text: bytes, size: int, before: bytes = b"[", after: bytes = b"]") -> bytes:
    """A list of one text, as large as `size`."""
    return before + b",".join([text] * (size // (len(text) + 1))) + after


def allowed_images() -> bytes:
    """As large as a body may be: two images of 20 MB that are none."""
    image = base64.b64encode(os.urandom(20 * MB)).decode()
    return json.dumps({"image": [image, image]}).encode()


def small_images() -> bytes:
    """As many images as are allowed, which are no images."""
    return json.dumps({"image": [base64.b64encode(os.urandom(600_000)).decode()] * 64}).encode()


def nested_filter() -> bytes:
    """A filter of allowed size and depth, and of far too many terms."""
    inner: object = {"a": 1}
    for width in (64, 64, 3):
        inner = {"$and": [inner] * width}
    return json.dumps({"id": "item-0", "filter": inner}).encode()


def large_filter() -> bytes:
    """A filter of text."""
    return json.dumps({"id": "item-0", "filter": {"a": "x" * 60 * MB}}).encode()


def trailers(address: Address) -> list[int]:
    """Trailers of a chunked body without an end."""
    head = b"POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with address.connect() as connection:
        return talk(connection, [head, *repeat(b"x-and-so-on: on\r\n" * 4096, 2000)])


def chunk_extensions(address: Address) -> list[int]:
    """The size of a chunk, whose extensions have no end."""
    head = b"POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5"
    with address.connect() as connection:
        return talk(connection, [head, *repeat(b";x=y" * 16384, 2000)])


def head_behind_a_call(address: Address) -> list[int]:
    """The head of a request without an end, behind a call that runs."""
    call = search_call()
    with address.connect(4096) as connection:
        return talk(connection, [call * 8, b"GET / HTTP/1.1\r\n", *repeat(b"x-and-so-on: on\r\n" * 4096, 2000)])


def pipelined(address: Address) -> list[int]:
    """Requests without an end behind a call that runs."""
    with address.connect(4096) as connection:
        return talk(connection, [search_call(), *repeat(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 2000, 2000)])


def search_call() -> bytes:
    """A search whose response is as large as responses get: 1,024 hits with 16 KB of metadata each."""
    body = b'{"id": "item-0", "k": 1024}'
    head = "POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def unread_responses(address: Address) -> list[int]:
    """150 clients that ask for 17 MB each and read nothing of it."""
    connections = [address.connect(4096) for _ in range(150)]
    try:
        for connection in connections:
            connection.sendall(search_call())
        time.sleep(3)
        return [int(connection.recv(12)[9:12] or 0) for connection in connections]
    finally:
        for connection in connections:
            connection.close()


def unfinished(path: str, lines: Callable[[], bytes], connections: int) -> Attack:
    """Calls of lines whose upload goes on, so that they are not answered and hold what was made of the lines."""

    def act(address: Address) -> list[int]:
        body = lines()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        sent = f"{head}Content-Length: {len(body) + 1000}\r\n\r\n".encode() + body
        return held(address, sent, connections)

    return Attack(act, connections=1)


def held(address: Address, sent: bytes, connections: int) -> list[int]:
    """Send the same on many connections, wait, and read the statuses of those that are answered."""
    opened = []
    try:
        for _ in range(connections):
            opened.append(connection := address.connect())
            connection.sendall(sent)
            SENT.add(len(sent))
        time.sleep(3)
        return [int(heard[9:12]) for heard in map(_heard, opened) if heard.startswith(b"HTTP/1.1 ")]
    finally:
        for connection in opened:
            connection.close()


def _heard(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    try:
        return connection.recv(12)
    except OSError:
        return b""


def searches_by_line() -> bytes:
    """As many searches as a window holds, each with the largest of answers."""
    return b'{"id": "item-0", "k": 1024}\n' * 64


def objects_by_line() -> bytes:
    """Metadata that takes many times its bytes once it is parsed."""
    vector = b'{"id": "o", "width": "1.0", "space": "x", "vector": [1' + b", 0" * 127 + b"], "
    return (vector + many(b"{}", 47_000, b'"metadata": {"a": [', b"]}}\n")) * 40


def previews(address: Address) -> list[int]:
    """Small pictures of a large image, which has to be decoded for each."""
    _store_large(address)
    return held(address, b"GET /items/large/image?preview=64 HTTP/1.1\r\nHost: x\r\n\r\n", 100)


@functools.cache
def _store_large(address: Address) -> list[int]:
    pixels = Image.frombytes("RGB", (2550, 2550), os.urandom(2550 * 2550 * 3))
    content = io.BytesIO()
    pixels.save(content, "PNG", compress_level=1)
    return request(address, "/items/large?width=0.25", "image/png", content.getvalue(), "PUT")


ATTACKS: dict[str, Attack] = {
    "form in punycode": form("/search", lambda: part(ID, b"a" * MB), "punycode"),
    "part in punycode": form(
        "/search", lambda: part(ID, b"a" * MB, b"\r\nContent-Type: text/plain; charset=punycode")
    ),
    "form of tiny texts": form("/items", lambda: part(ID, b"a") * 30_000),
    "form of tiny files": form("/items", lambda: part(FILE, b"a") * 10_000),
    "form of boundaries that are none": form("/items", lambda: part(FILE, b"\r\n--BX" * (8 * MB))),
    "form of padding": form("/items", lambda: b"--B" + b" " * 60 * MB),
    "form of 60 metadata of 1 MB": form("/items", lambda: (part(FILE, b"a") + metadata()) * 60),
    "60 MB of unknown keys": upload("/search", lambda: unknown_keys(60 * MB)),
    "1 MB of unknown keys": upload("/search", lambda: unknown_keys(MB - 9)),
    "60 MB of lists": upload("/search", lambda: many(b"[]", 60 * MB)),
    "1 MB of lists": upload("/search", lambda: many(b"[]", MB - 9, b'{"filter":[', b"]}")),
    "a vector of 1 MB of texts": upload("/search", lambda: many(b'""', MB - 19, b'{"vector":[', b"]}")),
    "60 MB of short texts": upload("/search", lambda: many(b'""', 60 * MB)),
    "60 MB of escaped quotes": upload("/search", lambda: b'{"id": "' + b'\\"' * (30 * MB) + b'"}'),
    "60 MB of long texts": upload("/search", lambda: many(b'"' + b"a" * 1100 + b'"', 60 * MB)),
    "1 MB of long integers": upload("/search", lambda: many(b"9" * 300, MB - 29, b'{"filter":{"a":[', b"]}}")),
    "nested 500,000 deep": upload("/search", lambda: b'{"a":[' * 150_000),
    "an allowed body of 56 MB": upload("/embed", allowed_images),
    "64 allowed images of 600 KB": upload("/embed", small_images),
    "a filter of 12,000 terms": upload("/search", nested_filter),
    "a filter of 60 MB": upload("/search", large_filter),
    "an NDJSON line of 40 MB": upload("/items", lambda: many(b"[]", 40 * MB), "application/x-ndjson"),
    "NDJSON lines of 1 MB": upload(
        "/items", lambda: many(b"[]", MB - 99, b'{"id":[', b"]}\n") * 60, "application/x-ndjson"
    ),
    "60 MB of newlines": upload("/items", lambda: b"\n" * (60 * MB), "application/x-ndjson"),
    "60 MB of two-byte lines": upload("/items", lambda: b"{\n" * (30 * MB), "application/x-ndjson"),
    "10,000 wrong lines": upload("/items", lambda: b'{"id":1}\n' * 10_000, "application/x-ndjson"),
    "1 MB of wrong inputs": upload("/v1/embeddings", lambda: many(b"1", MB - 99, b'{"input":[', b"]}")),
    "trailers without an end": Attack(trailers),
    "extensions of a chunk without an end": Attack(chunk_extensions),
    "a head behind a running call": Attack(head_behind_a_call),
    "pipelined requests without an end": Attack(pipelined),
    "150 large responses that nobody reads": Attack(unread_responses, connections=1),
    "24 unfinished calls of large searches": unfinished("/search", searches_by_line, 24),
    "40 unfinished calls of many objects": unfinished("/items", objects_by_line, 40),
    "100 previews of a large image": Attack(previews, connections=1),
    **{name: upload("/embed?width=0.25", build, "image/*") for name, build in IMAGE_ATTACKS.items()},
}


def main() -> None:
    """Repeat one attack; print how often each status was seen, and the bytes that were sent, as JSON."""
    name, host, port, seconds, *compared = sys.argv[1:]
    attack, address = ATTACKS[name], Address(host, int(port))
    if compared:
        attack = harmless(attack)
    attack.prepare()
    print("ready", flush=True)
    sys.stdin.readline()
    seen: Counter[int] = Counter()
    ends = time.monotonic() + float(seconds)

    def repeat_it() -> None:
        while time.monotonic() < ends:
            seen.update(attack.act(address) or [0])

    callers = [threading.Thread(target=repeat_it) for _ in range(attack.connections)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    print(json.dumps({"statuses": seen, "bytes": SENT.bytes}))


if __name__ == "__main__":
    main()
