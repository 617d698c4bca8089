"""Requests that offer another protocol are read as HTTP/1.1, which RFC 9110 (section 7.8) leaves to the server.

The JDK's client, for one, offers HTTP/2 with its first request, whatever its body. httptools ends such a request
with its head: the body, and requests behind it, would be lost or be read as requests. Here the head is read once
more without its offer, by a parser that goes on with what follows. CONNECT alone stays what it is.
"""

from typing import Protocol

import httptools

__all__ = ["Callbacks", "ParserWithoutUpgrade"]

DROPPED = frozenset({b"upgrade", b"http2-settings"})


class Callbacks(Protocol):
    """What is told of a request while it is read; `url` and `headers` are those of its head."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class ParserWithoutUpgrade:
    """In the place of httptools' parser: to the callbacks of `told`, no request asks for another protocol."""

    def __init__(self, told: Callbacks) -> None:
        self._told = told
        self.on_message_begin, self.on_url, self.on_header = told.on_message_begin, told.on_url, told.on_header
        self.on_body = told.on_body
        self._parser = _parser(self)
        self._is_offer = False

    def feed_data(self, data: bytes) -> None:
        """Read on. Raises httptools.HttpParserError where it is no HTTP/1.1."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
            if self._is_offer:  # else it is CONNECT, which is refused; what follows is HTTP then
                rest = self._head_without_offer() + rest
                self._parser, self._is_offer = _parser(self), False
            data = rest

    def on_headers_complete(self) -> None:
        """Pass on the end of a head, unless it makes an offer."""
        self._is_offer = self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"
        if not self._is_offer:
            self._told.on_headers_complete()

    def on_message_complete(self) -> None:
        """Pass on the end of a request."""
        if not self._is_offer:
            self._told.on_message_complete()

    def get_method(self) -> bytes:
        """The request's method."""
        return self._parser.get_method()

    def get_http_version(self) -> str:
        """The request's version, such as 1.1."""
        return self._parser.get_http_version()

    def should_keep_alive(self) -> bool:
        """Whether the connection stays open behind the request, as it says."""
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        """Whether the request asks for another protocol: never."""
        return False

    def _head_without_offer(self) -> bytes:
        """The head as it was read; what a parser has let through as a name or a value ends no line."""
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._told.url, version)]
        for name, value in self._told.headers:
            if name == b"connection":
                value = b",".join(one for one in value.split(b",") if one.strip().lower() not in DROPPED)
            if name not in DROPPED:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])


def _parser(callbacks: object) -> httptools.HttpRequestParser:
    made = httptools.HttpRequestParser(callbacks)
    made.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn: the answer comes first
    return made
