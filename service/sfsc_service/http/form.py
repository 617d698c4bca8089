"""Multipart forms (RFC 7578), read while they arrive and held in memory, within bounds.

What a form may say that this service does not follow is refused with a sentence, never taken for something else:
charsets but UTF-8 and Latin-1, encoded or compressed parts, a body that ends before its last boundary.
"""

import io
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem
from sfsc_service.http.charset import content_type_parameters, python_charset
from sfsc_service.http.parsing import TURN_S, Turns

__all__ = ["FilePart", "Form", "decoded_text", "read_form"]

SLICE = 2**11
"""Bytes that are parsed at a time: at worst some thirty-five parts, which takes 0.5 ms."""
MAX_SILENT_BYTES = 2**16
"""Bytes in a row that are neither a header nor a part's content."""
PLAIN_ENCODINGS = ("", "binary", "8bit", "7bit", "identity")

_EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*([\w-]{1,20})'[\w-]*'([^;\s\"]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part with a file name, of `size` bytes; one that is larger than wanted has no data."""

    name: str
    filename: str
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a form, in their order among those of their kind."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    files: list[FilePart] = field(default_factory=list)


async def read_form(
    chunks: AsyncIterator[bytes],
    content_type: str,
    turns: Turns,
    max_files: int,
    max_texts: int,
    max_file_bytes: int,
    max_text_bytes: int,
) -> Form:
    """Read a form to its end.

    Args:
        turns: shared by all forms that are read.
        max_files, max_texts: how many parts with and without a file name it may have.
        max_file_bytes: data of larger files is not kept.
        max_text_bytes: how large a part without a file name may be.

    Raises:
        Problem: invalid_request (it cannot be read, or has too many parts), unsupported_media_type.
    """
    reader = _Reader(content_type, max_files, max_texts, max_file_bytes, max_text_bytes)
    async for chunk in chunks:
        at = 0
        while at < len(chunk):
            at = await turns.run(reader.write_for_a_turn, chunk, at)
    return reader.finish()


class _Reader:
    def __init__(
        self, content_type: str, max_files: int, max_texts: int, max_file_bytes: int, max_text_bytes: int
    ) -> None:
        options = content_type_parameters(content_type)
        self._charset = _charset(options)
        self._form = Form()
        self._max_files, self._max_texts = max_files, max_texts
        self._max_file_bytes, self._max_text_bytes = max_file_bytes, max_text_bytes
        self._delimiter = b"\r\n--" + options.get(b"boundary", b"")
        self._delimiters = self._silent = 0
        self._ended = False
        self._header = (b"", b"")
        try:
            self._parser = MultipartParser(
                options.get(b"boundary", b""),
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _unreadable(f"boundary: {error}") from error
        if b"boundary" not in options:
            raise _unreadable("Content-Type must name a boundary")

    def write_for_a_turn(self, chunk: bytes, at: int) -> int:
        """Parse a chunk from a place on for `TURN_S`; where parsing has to go on."""
        ends = time.monotonic() + TURN_S
        while at < len(chunk):
            self.write(chunk[at : at + SLICE])
            at += SLICE
            if time.monotonic() > ends:
                break
        return at

    def write(self, data: bytes) -> None:
        """Parse a piece of the body."""
        if self._ended:
            return
        # The parser is slow where boundaries turn out to be none, and where padding follows one.
        self._delimiters += data.count(self._delimiter)
        self._silent += len(data)
        if self._delimiters > self._max_files + self._max_texts + 1:
            raise _unreadable(f"at most {self._max_files + self._max_texts} parts in a form, found more")
        if self._silent > MAX_SILENT_BYTES:
            raise _unreadable("nothing but padding")
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _unreadable(str(error)) from error

    def finish(self) -> Form:
        if not self._ended:
            raise _unreadable("it ends before its last boundary")
        return self._form

    def _on_part_begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._data = io.BytesIO()
        self._size = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end].lower(), b"")

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _on_header_end(self) -> None:
        self._silent = 0
        self._headers[self._header[0]] = self._header[1]
        self._header = (b"", b"")

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise _unreadable("the Content-Disposition of every part must have a name")
        _, type_options = parse_options_header(self._headers.get(b"content-type", b""))
        charset = _charset(type_options) if b"charset" in type_options else self._charset
        self._text_charset = charset
        self._name = _decoded(options[b"name"], self._charset)
        self._filename = _filename(disposition, options.get(b"filename"), self._charset)
        self._check_encodings()
        self._check_counts()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._silent = 0
        self._size += end - start
        if self._filename is None and self._size > self._max_text_bytes:
            rule = f"a text part must have at most {self._max_text_bytes} bytes"
            raise _unreadable(f"{self._name[:60]}: {rule}")
        if self._filename is None or self._size <= self._max_file_bytes:
            self._data.write(data[start:end])
        else:
            self._data = io.BytesIO()

    def _on_part_end(self) -> None:
        data = self._data.getvalue()
        if self._filename is None:
            self._form.texts.append((self._name, decoded_text(self._name, data, self._text_charset)))
        else:
            self._form.files.append(FilePart(self._name, self._filename, self._size, data))
        self._data = io.BytesIO()

    def _on_end(self) -> None:
        self._ended = True

    def _check_encodings(self) -> None:
        for header in (b"content-transfer-encoding", b"content-encoding"):
            found = self._headers.get(header, b"").strip().lower().decode("latin-1")
            if found not in PLAIN_ENCODINGS:
                name = header.decode().title()
                raise Problem(
                    "unsupported_media_type",
                    f"{name}: a part must not be encoded, found {describe_value(found)} for {self._name[:60]}",
                    name,
                )

    def _check_counts(self) -> None:
        kind, present, limit = (
            ("text", len(self._form.texts), self._max_texts)
            if self._filename is None
            else ("file", len(self._form.files), self._max_files)
        )
        if present >= limit:
            raise _unreadable(f"at most {limit} {kind} parts in a form, found more")


def _charset(options: dict[bytes, bytes]) -> str:
    return python_charset(options.get(b"charset", b"utf-8").decode("latin-1"))


def _filename(disposition: bytes, plain: bytes | None, charset: str) -> str | None:
    """The extended name (RFC 5987), in which old clients and .NET say what is not ASCII, before the plain one."""
    if extended := _EXTENDED_NAME.search(disposition.decode("latin-1")):
        return unquote_to_bytes(extended[2]).decode(python_charset(extended[1]), "replace")
    return None if plain is None else _decoded(plain, charset)


def decoded_text(name: str, data: bytes, charset: str = "utf-8") -> str:
    """The text of a part. Raises Problem: invalid_request, it is not of its charset."""
    try:
        return data.decode(charset)
    except UnicodeDecodeError as error:
        rule = f"must be {charset.upper()}, or its part must name another charset"
        raise _unreadable(f"{name[:60]}: {rule}, found the byte 0x{data[error.start]:02x}") from error


def _decoded(data: bytes, charset: str) -> str:
    """A name, for which old clients use Latin-1 without saying so."""
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unreadable(detail: str) -> Problem:
    return Problem("invalid_request", f"body: the form cannot be read: {detail}")
