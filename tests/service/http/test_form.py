"""Multipart forms: what clients write is understood, what is not followed is refused, and every bound holds."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.errors import Problem
from sfsc_service.http import form as form_module
from sfsc_service.http import parsing
from sfsc_service.http.form import FilePart, Form, read_form
from sfsc_service.http.parsing import Turns

BOUNDARY = "multipart/form-data; boundary=B"
FILE = b'Content-Disposition: form-data; name="image"; filename="a.jpg"'
MAX_FILE_BYTES, MAX_TEXT_BYTES = 100_000, 50_000
FIELD = b'Content-Disposition: form-data; name="width"'


def read(body: bytes, content_type: str = BOUNDARY, *, piece: int = 70_000, parts: int = 8) -> Form:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), piece):
            yield body[at : at + piece]

    async def whole() -> Form:
        bounds = (parts, parts, MAX_FILE_BYTES, MAX_TEXT_BYTES)
        return await read_form(chunks(), content_type, Turns(), *bounds)

    return asyncio.run(whole())


def form(*parts: tuple[bytes, bytes], end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(b"--B\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + end


@given(data=st.binary(max_size=200).filter(lambda data: b"--B" not in data), piece=st.integers(1, 40))
def test_parts_come_in_any_pieces(data: bytes, piece: int) -> None:
    found = read(form((FILE, data), (FIELD, b"0.5")), piece=piece)
    assert found == Form([("width", "0.5")], [FilePart("image", "a.jpg", len(data), data)])


@pytest.mark.parametrize(
    "disposition",
    [
        b"filename*=UTF-8''b%C3%BC.jpg",
        b"filename=\"=?utf-8?B?YsO8LmpwZw==?=\"; filename*=utf-8'de'b%C3%BC.jpg",
        b"filename*=iso-8859-1''b%FC.jpg; filename=x",
        'filename="bü.jpg"'.encode(),
        'filename="bü.jpg"'.encode("latin-1"),
    ],
)
def test_file_names_that_are_not_ascii(disposition: bytes) -> None:
    head = b'Content-Disposition: form-data; name="image"; ' + disposition
    assert [part.filename for part in read(form((head, b"x"))).files] == ["bü.jpg"]


@pytest.mark.parametrize(
    ("content_type", "header", "text"),
    [
        (BOUNDARY, b"", "ü".encode()),
        (BOUNDARY, b"\r\nContent-Type: text/plain; charset=UTF-8", "ü".encode()),
        (BOUNDARY, b"\r\nContent-Type: text/plain; charset=ISO-8859-1", b"\xfc"),
        (BOUNDARY + "; charset=latin1", b"", b"\xfc"),
    ],
)
def test_texts_in_utf_8_and_latin_1(content_type: str, header: bytes, text: bytes) -> None:
    assert read(form((FIELD + header, text)), content_type).texts == [("width", "ü")]


@pytest.mark.parametrize("charset", ["punycode", "utf-16", "utf-7", "rot13", "x", "utf-8-sig"])
@pytest.mark.parametrize("of_part", [False, True])
def test_other_charsets_are_refused(charset: str, of_part: bool) -> None:
    head = FIELD + (f"\r\nContent-Type: text/plain; charset={charset}".encode() if of_part else b"")
    with pytest.raises(Problem, match="charset must be utf-8 or iso-8859-1") as refused:
        read(form((head, b"x")), BOUNDARY if of_part else f"{BOUNDARY}; charset={charset}")
    assert refused.value.status == 415


@pytest.mark.parametrize("header", [b"Content-Transfer-Encoding: base64", b"Content-Encoding: gzip"])
def test_encoded_parts_are_refused(header: bytes) -> None:
    with pytest.raises(Problem, match="must not be encoded") as refused:
        read(form((FILE + b"\r\n" + header, b"eA==")))
    assert refused.value.status == 415


def test_plain_encodings_are_none() -> None:
    assert read(form((FILE + b"\r\nContent-Transfer-Encoding: Binary", b"x"))).files[0].data == b"x"


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "before its last boundary"),
        (form((FILE, b"x"), end=b""), "before its last boundary"),
        (form((FILE, b"x"), end=b"--B"), "before its last boundary"),
        (form((b"X: y", b"x")), "must have a name"),
        (form((FIELD, b"x" * (MAX_TEXT_BYTES + 1))), "at most"),
        (form((FIELD, b"K\xf6ln")), "width: must be UTF-8, or .*, found the byte 0xf6"),
        (form(*[(FIELD, b"x")] * 9), "at most 8 text parts"),
        (form(*[(FILE, b"x")] * 9), "at most 8 file parts"),
        (form((FILE, b"\r\n--BX" * 30)), "at most 16 parts"),
        (b"\r\n" * 2**20 + form((FILE, b"x")), "nothing but padding"),
        (b"--B\r\n" + FILE + b"\r\n\r\nx\r\n--B" + b" " * 2**20, "nothing but padding"),
        (form((b"X" * 5000 + b": y", b"x")), "header"),
        (form((b"X: " + b"y" * 5000, b"x")), "header"),
        (form((b"\r\n".join([b"X: y"] * 50), b"x")), "header"),
    ],
    ids=["empty", "no end", "half an end", "no name", "long text", "latin", "texts", "files", "no boundaries",
         "preamble", "padding", "long name", "long value", "headers"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_sentence(body: bytes, rule: str) -> None:
    with pytest.raises(Problem, match=rule) as refused:
        read(body)
    assert refused.value.code == "invalid_request"


def test_what_follows_the_last_boundary_is_left_alone() -> None:
    assert read(form((FILE, b"x")) + b"epilogue\r\n" * 10_000).files == [FilePart("image", "a.jpg", 1, b"x")]


def test_the_data_of_a_file_that_is_too_large_is_not_kept() -> None:
    size = MAX_FILE_BYTES + 1
    assert read(form((FILE, b"x" * size))).files == [FilePart("image", "a.jpg", size, b"")]


@pytest.mark.parametrize("chunk", [2_000, 64_000])
def test_however_many_forms_are_read_the_loop_gets_its_turn_after_one(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a third of a turn at every look, as parsers do for every slice."""
    now, parts = 0.0, 2_000
    tiny = form(*[(FIELD, b"a")] * parts)

    def monotonic() -> float:
        nonlocal now
        now += parsing.TURN_S / 3
        return now

    for module in (parsing, form_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(tiny), chunk):
            yield tiny[at : at + chunk]

    async def longest_round() -> float:
        turns, longest, before = Turns(), 0.0, now
        bounds = (parts, parts, MAX_FILE_BYTES, MAX_TEXT_BYTES)
        reading = asyncio.gather(*(read_form(chunks(), BOUNDARY, turns, *bounds) for _ in range(16)))
        while not reading.done():
            await asyncio.sleep(0)
            longest, before = max(longest, now - before), now
        assert all(len(one.texts) == parts for one in await reading)
        return longest

    assert asyncio.run(longest_round()) < 3.5 * parsing.TURN_S
