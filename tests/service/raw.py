"""HTTP as bytes on a socket, for what no client library sends."""

import re
import socket

from tests.service.images import draw_image
from tests.service.live import Live

__all__ = [
    "CHUNKED",
    "EMBED",
    "IMAGE",
    "LIVEZ",
    "connect",
    "final",
    "hear",
    "request_head",
    "statuses",
]

TIMEOUT_S = 30.0


def connect(live: Live) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def request_head(method: str, path: str, **headers: object) -> bytes:
    """The head of a request; `content_type=…` becomes the header content-type."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


IMAGE = draw_image(1)
EMBED = request_head("POST", "/embed?width=0.25", Content_Type="image/jpeg", Content_Length=len(IMAGE)) + IMAGE
CHUNKED = request_head(
    "POST", "/embed?width=0.25", Content_Type="image/jpeg", Transfer_Encoding="chunked"
) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(IMAGE), IMAGE)
LIVEZ = request_head("GET", "/livez")
"""Requests for an embedding, with a length and in chunks, and one that is always answered."""


def hear(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    heard = b""
    try:
        while part := connection.recv(65_536):
            heard += part
    except ConnectionResetError:
        pass
    return heard


def statuses(heard: bytes) -> list[bytes]:
    """The status of every response, interim ones among them."""
    return re.findall(rb"HTTP/1.1 (\d+)", heard)


def final(heard: bytes) -> list[bytes]:
    """The statuses without those of interim responses."""
    return [status for status in statuses(heard) if status != b"100"]
