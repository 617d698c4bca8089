"""A call's image and options, however they travel.

    raw body    `Content-Type: image/*`, options are query parameters
    multipart   part `image`, options are fields or query parameters
    JSON        `image` in base64, options are fields or query parameters

Options that are text (query, multipart) hold `filter`, `metadata` and lists as JSON. An option that is given
twice is an error, so that no part of a request is silently ignored.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, QueryParams
from starlette.requests import ClientDisconnect, Request

from sfsc_service.errors import Problem
from sfsc_service.http.body_parts import (
    check_size,
    decode_base64,
    media_type,
    read_form,
    read_json,
    read_upload,
    text_options,
    too_large,
    twice,
    unsupported,
    uploads,
)
from sfsc_service.http.problems import validation_problem

__all__ = ["ParsedCall", "read_call", "validate"]

M = TypeVar("M", bound=BaseModel)
MEMORABLE_BYTES = 256


@dataclass(frozen=True, slots=True)
class ParsedCall(Generic[M]):
    """A call that has been read: checked options and the encoded images, which are not looked into yet."""

    options: M
    images: list[bytes]


async def read_call(request: Request, model: type[M], max_images: int = 1) -> ParsedCall[M]:
    """Read a call in any of its forms.

    Raises:
        Problem: unsupported_media_type, image_too_large, invalid_json, invalid_parameter, …
    """
    kind = media_type(request)
    if kind.startswith("image/"):
        image = await _raw_image(request)
        return ParsedCall(_from_query(model, request.scope["query_string"]), [image])
    options = text_options(request.query_params.multi_items())
    if kind == "application/json":
        # Not `request.body()`, which would keep the body for as long as the request is known.
        fields = read_json(b"".join([chunk async for chunk in request.stream()]))
        images = _base64_images(fields.pop("image", None), max_images)
        options = _merge(options, fields)
    elif kind == "multipart/form-data":
        async with read_form(request, max_images) as form:
            images = [await read_upload(part) for part in uploads(form, "image")]
            options = _merge(options, text_options(_text_fields(form)))
    elif await _has_body(request):
        raise unsupported(kind, "image/*, multipart/form-data or application/json")
    else:
        images = []
    _check_sizes(images, max_images, request.app.state.settings.max_image_bytes)
    return ParsedCall(validate(model, options), images)


def validate(model: type[M], options: Mapping[str, Any]) -> M:
    """Check options against a model. Raises Problem: invalid_parameter."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise validation_problem(error) from None


def _from_query(model: type[M], query: bytes) -> M:
    """Options of a query string. Callers ask for the same few again and again; models are frozen."""
    return _remembered(model, query) if len(query) <= MEMORABLE_BYTES else _checked(model, query)


def _checked(model: type[M], query: bytes) -> M:
    return validate(model, text_options(QueryParams(query).multi_items()))


_remembered = functools.lru_cache(maxsize=256)(_checked)


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
            chunks.clear()  # read on to the end, so that the answer can be received
    if size > limit:
        raise too_large(size, limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _base64_images(value: Any, max_images: int) -> list[bytes]:
    if value is None:
        return []
    if isinstance(value, list):
        _check_count(len(value), max_images)
        return [decode_base64(entry, f"image[{at}]") for at, entry in enumerate(value)]
    return [decode_base64(value, "image")]


def _check_sizes(images: list[bytes], max_images: int, max_bytes: int) -> None:
    _check_count(len(images), max_images)
    for image in images:
        check_size(len(image), max_bytes)


def _check_count(found: int, most: int) -> None:
    if found > most:
        raise Problem("invalid_parameter", f"image: at most {most} in a call, found {found}", "image")


def _text_fields(form: FormData) -> list[tuple[str, str]]:
    for name, value in form.multi_items():
        if name != "image" and not isinstance(value, str):
            raise Problem("invalid_parameter", f"{name}: must be a text field, found a file part", name)
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def _merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    for name in second:
        if name in first:
            raise twice(name)
    return {**first, **second}


async def _has_body(request: Request) -> bool:
    async for chunk in request.stream():
        if chunk:
            return True
    return False
