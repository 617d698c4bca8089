"""What a request carries: its images and options, in whichever form they travel.

    raw body    `Content-Type: image/*`; options are query parameters
    multipart   part `image`; options are fields or query parameters
    JSON        `image` in base64; options are members or query parameters

Options that travel as text (query, multipart) hold `filter`, `metadata` and lists of numbers as JSON. An option
that is given twice is an error, so that no part of a request is silently ignored.
"""

import binascii
import functools
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.requests import ClientDisconnect, Request

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem
from sfsc_service.http.problems import validation_problem

__all__ = [
    "ParsedRequest",
    "check_count",
    "check_size",
    "decode_base64",
    "media_type",
    "query_options",
    "read_form",
    "read_json",
    "read_json_body",
    "read_request",
    "text_options",
    "unsupported_media_type",
    "uploads",
    "validate",
]

M = TypeVar("M", bound=BaseModel)

JSON_OPTIONS = ("filter", "metadata", "vector")
EXTRA_PARTS = 64
"""Parts of a form beyond those that are wanted; with fewer, the parser would refuse them without naming one."""
MAX_FIELD_BYTES = 2**20
MAX_CACHED_QUERY_BYTES = 256


@dataclass(frozen=True, slots=True)
class ParsedRequest(Generic[M]):
    """Checked options and encoded images; the images are not looked into yet."""

    options: M
    images: list[bytes]


async def read_request(request: Request, model: type[M], max_images: int = 1) -> ParsedRequest[M]:
    """Read a request in any of its forms.

    Raises:
        Problem: unsupported_media_type, image_too_large, invalid_json, invalid_parameter, …
    """
    kind = media_type(request)
    if kind.startswith("image/"):
        image = await _raw_image(request)
        return ParsedRequest(_from_query(model, request.scope["query_string"]), [image])
    options = query_options(request)
    if kind == "application/json":
        members = await read_json_body(request)
        images = _base64_images(members.pop("image", None), max_images)
        options = _merge(options, members)
    elif kind == "multipart/form-data":
        async with read_form(request, max_images) as form:
            images = [part.file.read() for part in uploads(form, "image")]
            options = _merge(options, text_options(_text_fields(form)))
    elif await _has_body(request):
        raise unsupported_media_type(kind, "image/*, multipart/form-data or application/json")
    else:
        images = []
    check_count(len(images), max_images)
    for image in images:
        check_size(len(image), request.app.state.settings.max_image_bytes)
    return ParsedRequest(validate(model, options), images)


def validate(model: type[M], options: Mapping[str, Any]) -> M:
    """Check options against a model. Raises Problem: invalid_parameter."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise validation_problem(error) from None


def media_type(request: Request) -> str:
    """The body's media type without its parameters; "" where none is given."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def query_options(request: Request) -> dict[str, Any]:
    """The options in the query string. Raises Problem: invalid_parameter."""
    return text_options(request.query_params.multi_items())


def text_options(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Options that travelled as text, parsed where they are JSON. Raises Problem: invalid_parameter."""
    options: dict[str, Any] = {}
    for name, text in pairs:
        if name in options:
            raise _given_twice(name)
        # A vector may also be base64, whose alphabet has no bracket.
        is_json = name in JSON_OPTIONS and (name != "vector" or text.lstrip().startswith("["))
        options[name] = _json_option(name, text) if is_json else text
    return options


def read_json(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises Problem: invalid_json."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient_json(body, error)
    if not isinstance(document, dict):
        raise Problem("invalid_json", f"body: must be a JSON object, found {describe_value(document)}", "body")
    return document


async def read_json_body(request: Request) -> dict[str, Any]:
    """Parse a body that is a JSON object. Raises Problem: invalid_json."""
    # Not `request.body()`, which would keep the body in memory until the request ends.
    return read_json(b"".join([chunk async for chunk in request.stream()]))


def decode_base64(value: object, place: str) -> bytes:
    """Decode the base64 text at a place such as image or image[2]. Raises Problem: invalid_parameter."""
    parameter = place.split("[")[0]
    if not isinstance(value, str):
        raise Problem("invalid_parameter", f"{place}: must be base64, found {describe_value(value)}", parameter)
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(
            "invalid_parameter", f"{place}: must be base64: {error}, found {describe_value(value)}", parameter
        ) from error


def read_form(request: Request, max_files: int) -> AbstractAsyncContextManager[FormData]:
    """Read a multipart body with `async with`; large parts lie in temporary files until the end of the block."""
    return request.form(
        max_files=max_files + EXTRA_PARTS, max_fields=EXTRA_PARTS + 2 * max_files, max_part_size=MAX_FIELD_BYTES
    )


def uploads(form: FormData, name: str) -> list[UploadFile]:
    """The file parts of a name. Raises Problem where one is text, because it has no file name."""
    parts = form.getlist(name)
    for part in parts:
        if isinstance(part, str):
            raise Problem("invalid_parameter", f"{name}: must be a file part (with a filename), found text", name)
    return [part for part in parts if isinstance(part, UploadFile)]


def unsupported_media_type(found: str, accepted: str) -> Problem:
    """The problem of a body of another media type."""
    return Problem(
        "unsupported_media_type", f"Content-Type: must be {accepted}, found {found or 'none'}", "Content-Type"
    )


def check_size(found: int, limit: int, place: str = "image") -> None:
    """Check the bytes of an encoded image at a place such as image. Raises Problem: image_too_large."""
    if found > limit:
        detail = f"{place}: must have at most {limit} bytes, found {found}"
        raise Problem("image_too_large", detail, place.split("[")[0])


def check_count(found: int, max_images: int, parameter: str = "image") -> None:
    """Check the number of images. Raises Problem: invalid_parameter."""
    if found > max_images:
        detail = f"{parameter}: at most {max_images} in a request, found {found}"
        raise Problem("invalid_parameter", detail, parameter)


def _from_query(model: type[M], query: bytes) -> M:
    """Options of a query string, cached: clients repeat a few of them, and the models are frozen."""
    return _cached_query(model, query) if len(query) <= MAX_CACHED_QUERY_BYTES else _parse_query(model, query)


def _parse_query(model: type[M], query: bytes) -> M:
    return validate(model, text_options(QueryParams(query).multi_items()))


_cached_query = functools.lru_cache(maxsize=256)(_parse_query)


async def _raw_image(request: Request) -> bytes:
    limit: int = request.app.state.settings.max_image_bytes
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()  # but read to the end, so that the client reads the response
    check_size(size, limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _base64_images(value: Any, max_images: int) -> list[bytes]:
    if value is None:
        return []
    if isinstance(value, list):
        check_count(len(value), max_images)
        return [decode_base64(entry, f"image[{at}]") for at, entry in enumerate(value)]
    return [decode_base64(value, "image")]


def _text_fields(form: FormData) -> list[tuple[str, str]]:
    for name, value in form.multi_items():
        if name != "image" and not isinstance(value, str):
            raise Problem("invalid_parameter", f"{name}: must be a text field, found a file part", name)
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def _merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    for name in second:
        if name in first:
            raise _given_twice(name)
    return {**first, **second}


def _given_twice(name: str) -> Problem:
    return Problem("invalid_parameter", f"{name[:60]}: given more than once", name[:60])


async def _has_body(request: Request) -> bool:
    async for chunk in request.stream():
        if chunk:
            return True
    return False


def _json_option(name: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(
            "invalid_parameter", f"{name}: must be JSON ({error}), found {describe_value(text)}", name
        ) from error


def _lenient_json(body: bytes, strict: orjson.JSONDecodeError) -> Any:
    """Parse NaN and Infinity, which Python's own parser takes, so that the problem can name the parameter."""
    if b"NaN" in body or b"Infinity" in body:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    raise Problem("invalid_json", f"body: must be JSON, found: {strict}", "body") from strict
