"""JSON from clients: what fits is read as it is, what does not is refused before it is built."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_service.errors import Problem
from sfsc_service.http import json_document
from sfsc_service.http.base64_image import decode_image
from sfsc_service.http.json_document import LONG_STRING, LONG_TEXT, MAX_DIGITS, MAX_VALUES, read_json, read_object

IMAGE = bytes(range(256)) * 64
TEXT = base64.b64encode(IMAGE).decode()
SMALL = 4 * LONG_STRING

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.text(min_size=600, max_size=1200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
IMAGES = st.integers(0, 3000).map(lambda length: IMAGE[:length])


def decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [decode_image(one, "image") for one in value]
    return None if value is None else decode_image(value, "image")


@settings(max_examples=40, deadline=None)
@given(
    document=st.dictionaries(st.text().filter(lambda name: name != "image"), JSON, max_size=5),
    images=st.none() | IMAGES | st.lists(IMAGES, max_size=4),
    slashes=st.booleans(),
)
def test_a_document_is_read_as_it_is_however_it_is_cut(
    document: dict[str, Any], images: Any, slashes: bool
) -> None:
    sent: Any = None
    if images is not None:
        sent = [base64.b64encode(one).decode() for one in images] if isinstance(images, list) else TEXT
    expected = images if isinstance(images, list | None) else IMAGE
    rest = len(json.dumps(document))
    body = json.dumps({**document, "image": sent})
    if slashes:
        body = body.replace("/", "\\/")
    found = read_object(body.encode(), rest * 2 + 8 * LONG_STRING)
    assert decoded(found.pop("image")) == expected
    assert found == document


@pytest.mark.parametrize(
    "text",
    [
        '{"width": "0.25", "width": "1.0"}',
        '{"a": [0, {"b": {"c\\":": 1, "d" : 2, "d":3}}]}',
        f'{{"image": "{TEXT}", "image": "{TEXT}"}}',
        '{"metadata": {"n": 1234567890123456789, "n": 2}}',
        '{"a": "\\":", "b" : 1, "b" : 2}',
        '{"a": ":", "b" : 1, "b" : 2}',
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="more than once") as refused:
        read_object(text.encode(), SMALL)
    assert refused.value.code == "invalid_json"
    with pytest.raises(ValueError, match="more than once"):
        read_json(text.encode())


def test_a_text_may_look_like_a_key() -> None:
    assert read_object(b'{"a": "\\":", "b": [{"\\"": 1}]}', SMALL) == {"a": '":', "b": [{'"': 1}]}


def test_long_strings_that_are_no_images_count() -> None:
    document = {"image": TEXT, "metadata": {"image": "x" * 2000, "text": "y" * 1500}}
    found = read_object(json.dumps(document).encode(), SMALL)
    assert decode_image(found["image"], "image") == IMAGE
    assert found["metadata"] == document["metadata"]
    with pytest.raises(Problem, match="apart from its images") as refused:
        read_object(json.dumps(document).encode(), 3000)
    assert refused.value.code == "body_too_large"


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * SMALL + b"[]]",
        b'{"a": [' + b'"",' * SMALL + b'""]}',
        b'{"a": "' + b'\\"' * SMALL + b'"}',
        b'{"a": "' + b"\\\\" * SMALL + b'"}',
        b'{"surprise": ' + json.dumps(TEXT).encode() + b"}",
        b'{"image": [[' + json.dumps(TEXT).encode() + b"]]}",
        b" " * (SMALL + 1),
        b'{"a": "' + b"x" * SMALL,
    ],
    ids=["lists", "strings", "escaped quotes", "backslashes", "no image", "too deep", "spaces", "no end"],
)
def test_what_is_no_image_is_bounded(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read_object(body, SMALL)
    assert refused.value.code == "body_too_large"


@pytest.mark.parametrize(
    "body", [b"[" + b"1," * MAX_VALUES + b"1]", b"[" * (MAX_VALUES + 1), b'{"a":' * MAX_VALUES + b"["]
)
def test_values_are_counted(body: bytes) -> None:
    with pytest.raises(Problem, match=f"more than {MAX_VALUES}") as refused:
        read_object(body, len(body))
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("size", [LONG_TEXT - 1, LONG_TEXT])
@pytest.mark.parametrize("text", [b"[1,", b'{"a":1,', b",,,", b'"\xc3\xa4[",'])
def test_values_are_counted_alike_in_short_and_in_long_texts(text: bytes, size: int) -> None:
    body = (text * size)[:size]
    found = sum(body.count(one) for one in (b"[", b"{", b","))
    for allowed in (found - 1, found):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_document, "MAX_VALUES", allowed)
            with pytest.raises((ValueError, RecursionError)) as refused:  # cut off, it is no JSON anyway
                read_json(body)
        assert ("brackets and commas" in str(refused.value)) == (allowed < found)


@pytest.mark.parametrize(
    "number", [123456789012345678901234567890, 2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**63) - 1]
)
def test_integers_keep_their_digits_where_they_count(number: int) -> None:
    assert read_object(b'{"metadata": {"n": %d}}' % number, 2**20) == {"metadata": {"n": number}}
    assert read_json(b'{"n": %d}' % number) == {"n": number}
    assert read_json(b'[[{"n": [0, {"m": %d}]}]]' % number) == [[{"n": [0, {"m": number}]}]]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("digits", [MAX_DIGITS, MAX_DIGITS + 1])
def test_digits_are_counted_before_an_integer_is_built(digits: int, sign: str) -> None:
    number = sign + "9" * digits
    text = b'{"filter": {"n": %b}}' % number.encode()
    if digits <= MAX_DIGITS:
        assert read_object(text, 2**20) == {"filter": {"n": int(number)}}
        return
    rule = f"an integer of {digits} digits, which is more than {MAX_DIGITS}"
    with pytest.raises(Problem, match=rule) as refused:
        read_object(text, 2**20)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("text", [b"9" * 5000, b"[" * 5000, b'{"a": 9' + b"9" * 5000 + b"}"])
def test_numbers_and_depths_beyond_any_bound_are_no_json(text: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_json(text)


@pytest.mark.parametrize(
    "prefix", ["", "data:image/jpeg;base64,", "data:;BASE64,", "data:image/x;charset=utf-8;base64,"]
)
@pytest.mark.parametrize("lines", ["", "\n", "\r\n"])
@pytest.mark.parametrize("cut", [False, True], ids=["as text", "cut out"])
def test_images_come_as_data_uris_and_with_line_breaks(prefix: str, lines: str, cut: bool) -> None:
    text = prefix + lines.join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))
    body = json.dumps({"image": text}).encode()
    image = read_object(body, SMALL if cut else 2**20)["image"]
    assert isinstance(image, memoryview) == (cut and not lines)
    assert decode_image(image, "image") == IMAGE


@pytest.mark.parametrize("size", [1, 2**18 - 1, 2**18, 2**18 + 1, 2**20])
def test_large_images_are_decoded_piece_by_piece(size: int) -> None:
    image = bytes(size)
    assert decode_image(memoryview(base64.b64encode(image)), "image") == image


@pytest.mark.parametrize(
    "text",
    [
        "AA=A",
        "A" * 2**18 + "AA==" + "A" * 2**18,
        "A" * 2**19 + "!",
        "A" * (2**19 + 1),
        "AA AA",
        "AAAAé",
        "data:x,AAAA",
    ],
    ids=["padding", "padding of a piece", "alphabet", "length", "space", "not ASCII", "no base64 URI"],
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="image: must be base64"):
        decode_image(text, "image")


def test_a_long_text_with_a_broken_escape_is_no_json() -> None:
    with pytest.raises(Problem) as refused:
        read_object(b'{"image": "' + b"A" * SMALL + b'\\x"}', SMALL)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("half", [b'"\\ud800"', b'"\\udc00"', b'"\xed\xa0\x80"', b'{"\\ud800": 1}'])
@pytest.mark.parametrize("other", [b"NaN", b"1234567890123456789012", b'{"a": 1, "a": 1}'])
def test_half_a_pair_of_surrogates_is_no_text_whichever_parser_reads_it(half: bytes, other: bytes) -> None:
    for member in (b'"id"', b'"metadata"'):
        with pytest.raises(Problem) as refused:
            read_object(b'{%b: %b, "filter": %b}' % (member, half, other), 1000)
        assert refused.value.code == "invalid_json"
        refused.value.detail.encode()
    assert read_object(b'{"id": "\\ud83d\\ude00", "metadata": NaN}', 1000)["id"] == "\U0001f600"
