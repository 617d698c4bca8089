"""Requests that are nearly right: drawn from a small grammar of heads, JSON documents and forms, then damaged."""

import base64
import json
import random
from typing import Any

__all__ = ["Mutations"]

METHODS = ("POST", "POST", "POST", "PUT", "GET", "HEAD", "PATCH", "BREW")
PATHS = (
    "/embed",
    "/search",
    "/items/fuzz",
    "/items",
    "/v1/embeddings",
    "/items/fuzz/image",
    "/livez",
    "/nowhere",
    "*",
)
NAMES = (
    "image", "input", "model", "width", "latency_ms", "gflops", "deadline_ms", "min_quality", "encoding", "k",
    "id", "filter", "exact", "vector", "space", "metadata", "crop", "limit", "cursor", "dimensions", "surprise",
)  # fmt: skip
FORM = "multipart/form-data; boundary=B"
TYPES = ("application/json", "application/x-ndjson", FORM, "image/jpeg", "text/plain", "")
CHARSETS = ("utf-8", "iso-8859-1", "punycode", "utf-16", "x" * 300)
HEADERS = (
    b"Content-Encoding: gzip",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Host: a, b",
    b"X: " + b"y" * 9000,
    b"Cookie: \xff\xfe",
    b": nameless",
    b" folded: yes",
    b"X\x00: y",
)
PART_HEADERS = (
    b'Content-Disposition: form-data; name="image"; filename="a.jpg"',
    b"Content-Disposition: form-data; name=image; filename*=UTF-8''b%C3%BC.jpg",
    b"Content-Disposition: form-data; name=image; filename*=utf-7''b",
    b'Content-Disposition: form-data; name="id"',
    b'Content-Disposition: form-data; name="metadata"; filename="m.json"',
    b'Content-Disposition: form-data; name="filter"',
    b"Content-Disposition: form-data",
    b"Content-Type: text/plain; charset=iso-8859-1",
    b"Content-Type: text/plain; charset=punycode",
    b"Content-Transfer-Encoding: base64",
    b"X: " + b"y" * 5000,
)
TOKENS = (
    b"\r\n", b"\n", b"\0", b"\xff", b'"', b"\\", b"{", b"[", b"}", b"]", b",", b":", b"--B", b"--B--",
    b"\r\n\r\n", b"0\r\n", b"1e999", b"NaN", b"-0", b"9" * 40, b"\\u0000", b"\\ud800", b'{"a":' * 50,
    b"[" * 2000, b"data:image/png;base64,", b"%00",
)  # fmt: skip
VALUES = (
    None, True, 0, -1, 0.25, 2**63, 2**64, 10**40, 1e300, "", "0.25", "1,1,9,9", "x" * 300, "x" * 5000, "ü\0",
    [1.0] * 16,
)  # fmt: skip


class Mutations:
    """Draws requests as bytes, the same ones for the same seed. `images`: encoded ones, good or bad."""

    def __init__(self, seed: int, images: list[bytes]) -> None:
        self._random = random.Random(seed)
        self._images = images

    def draw(self) -> bytes:
        """The next request: head and body, either of them perhaps damaged."""
        kind = self._pick(TYPES)
        body = self._body(kind)
        if self._chance(0.5):
            body = self._damaged(body)
        head = self._head(kind, body)
        if self._chance(0.2):
            head = self._damaged(head)
        return head + b"\r\n\r\n" + body

    def _head(self, kind: str, body: bytes) -> bytes:
        path = self._pick(PATHS)
        if self._chance(0.3):
            path += f"?{self._pick(NAMES)}={self._pick(('0.25', '1', '%7B%7D', '', '%ff', '1,1,9,9'))}"
        if self._chance(0.15):
            kind += f"; charset={self._pick(CHARSETS)}"
        lines = [f"{self._pick(METHODS)} {path} HTTP/1.{self._pick('1110')}".encode(), b"Host: fuzz"]
        lines += [f"Content-Type: {kind}".encode()] if kind else []
        if self._chance(0.1):
            lines.append(b"Transfer-Encoding: chunked")
        else:
            lines.append(b"Content-Length: %d" % max(0, len(body) + self._pick((0, 0, 0, 0, 0, -1, 1))))
        lines += [self._pick(HEADERS)] if self._chance(0.15) else []
        return b"\r\n".join(lines)

    def _body(self, kind: str) -> bytes:
        if "json" in kind:
            lines = self._random.randint(1, 3) if kind.endswith("ndjson") else 1
            documents = [self._document() for _ in range(lines)]
            return b"\n".join(json.dumps(document).encode() for document in documents)
        if kind.startswith("multipart"):
            parts = [self._part() for _ in range(self._random.randint(0, 4))]
            return b"".join(parts) + (b"--B--\r\n" if self._chance(0.9) else b"")
        return self._pick(self._images)

    def _document(self) -> dict[str, Any]:
        names = self._random.sample(NAMES, self._random.randint(0, 5))
        document: dict[str, Any] = {name: self._value(3) for name in names}
        if self._chance(0.7):
            document["id"] = f"fuzz-{self._random.randint(0, 9)}"
        if self._chance(0.5):
            image = base64.b64encode(self._pick(self._images)).decode()
            forms = (image, f"data:image/jpeg;base64,{image}", [image])
            document[self._pick(("image", "image", "input"))] = self._pick(forms)
        return document

    def _value(self, depth: int) -> Any:
        if depth and self._chance(0.3):
            return [self._value(depth - 1) for _ in range(self._random.randint(0, 3))]
        if depth and self._chance(0.3):
            return {self._pick((*NAMES, "$not", "$and", "x", "w")): self._value(depth - 1) for _ in range(2)}
        return self._pick(VALUES)

    def _part(self) -> bytes:
        headers = self._random.sample(PART_HEADERS, self._random.randint(1, 3))
        content = self._pick((*self._images, b"{}", b'{"a": 1}', b"", b"\xfc", b"--B", b"x" * 2000))
        return b"--B\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + content + b"\r\n"

    def _damaged(self, data: bytes) -> bytes:
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randint(0, len(data))
            end = min(len(data), at + self._random.choice((0, 0, 1, 2, 20)))
            patch = self._pick((b"", self._pick(TOKENS), self._random.randbytes(2), data[at:end] * 2))
            data = data[:at] + patch + data[end:]
        return data

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _pick(self, values: Any) -> Any:
        return self._random.choice(values)
