"""The pieces that a call is read from: text options, JSON, base64, multipart parts."""

import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem

__all__ = [
    "check_size",
    "decode_base64",
    "media_type",
    "read_form",
    "read_json",
    "read_upload",
    "text_options",
    "too_large",
    "twice",
    "unsupported",
    "uploads",
]

JSON_OPTIONS = ("filter", "metadata", "vector")
SPARE = 64  # parts that do not belong here, but whose names an answer should tell
MAX_FIELD_BYTES = 2**20


def media_type(request: Request) -> str:
    """The body's media type without its parameters; "" where none is given."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def text_options(items: list[tuple[str, str]]) -> dict[str, Any]:
    """Options that came as text; JSON where they must be. Raises Problem: invalid_parameter."""
    options: dict[str, Any] = {}
    for name, text in items:
        if name in options:
            raise twice(name)
        # A vector may also be base64, whose alphabet has no bracket.
        is_json = name in JSON_OPTIONS and (name != "vector" or text.lstrip().startswith("["))
        options[name] = _json_option(name, text) if is_json else text
    return options


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises Problem: invalid_json."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient_json(body, error)
    if not isinstance(document, dict):
        raise Problem("invalid_json", f"body: must be a JSON object, found {describe_value(document)}", "body")
    return document


def decode_base64(value: object, place: str) -> bytes:
    """Bytes of a base64 text at a place such as image or image[2]. Raises Problem: invalid_parameter."""
    parameter = place.split("[")[0]
    if not isinstance(value, str):
        raise Problem("invalid_parameter", f"{place}: must be base64, found {describe_value(value)}", parameter)
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(
            "invalid_parameter", f"{place}: must be base64: {error}, found {describe_value(value)}", parameter
        ) from error


@asynccontextmanager
async def read_form(request: Request, max_files: int) -> AsyncIterator[FormData]:
    """Read a multipart body; large parts lie in temporary files until the end of the block."""
    async with request.form(
        max_files=max_files + SPARE, max_fields=SPARE + 2 * max_files, max_part_size=MAX_FIELD_BYTES
    ) as form:
        yield form


def uploads(form: FormData, name: str) -> list[UploadFile]:
    """The file parts of a name. Raises Problem where one has no file name, so that it is text."""
    parts = form.getlist(name)
    for part in parts:
        if isinstance(part, str):
            raise Problem("invalid_parameter", f"{name}: must be a file part (with a filename), found text", name)
    return [part for part in parts if isinstance(part, UploadFile)]


async def read_upload(part: UploadFile) -> bytes:
    """The content of a file part."""
    part.file.seek(0)
    return part.file.read()


def _json_option(name: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(
            "invalid_parameter", f"{name}: must be JSON ({error}), found {describe_value(text)}", name
        ) from error


def _lenient_json(body: bytes, strict: orjson.JSONDecodeError) -> Any:
    """Python's own reader takes NaN and Infinity; then it can be said which parameter holds them."""
    if b"NaN" in body or b"Infinity" in body:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    raise Problem("invalid_json", f"body: must be JSON, found: {strict}", "body") from strict


def unsupported(found: str, accepted: str) -> Problem:
    """The problem of a body of another kind."""
    return Problem(
        "unsupported_media_type",
        f"Content-Type: must be {accepted}, found {found or 'none'}",
        "Content-Type",
    )


def twice(name: str) -> Problem:
    """The problem of an option that is given twice."""
    return Problem("invalid_parameter", f"{name[:60]}: given more than once", name[:60])


def too_large(found: int, limit: int) -> Problem:
    """The problem of an encoded image that is too large."""
    return Problem("image_too_large", f"image: must have at most {limit} bytes, found {found}", "image")


def check_size(found: int, limit: int) -> None:
    """Refuse an encoded image that is too large. Raises Problem: image_too_large."""
    if found > limit:
        raise too_large(found, limit)
