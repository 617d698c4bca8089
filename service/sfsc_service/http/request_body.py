"""What a request carries: its images and options, in whichever form they travel.

    raw body    `Content-Type: image/*`; options are query parameters
    multipart   part `image`; options are fields or query parameters
    JSON        `image` in base64; options are members or query parameters

Options that travel as text (query, multipart) hold `filter`, `metadata` and lists as JSON. An option
that is given twice is an error, so that no part of a request is silently ignored.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem
from sfsc_service.http.base64_image import decode_image
from sfsc_service.http.charset import content_type_parameters, python_charset, utf8
from sfsc_service.http.form import FilePart, Form, decoded_text, read_form
from sfsc_service.http.json_document import read_json, read_object
from sfsc_service.http.parsing import Parsing
from sfsc_service.http.problems import validation_problem
from sfsc_service.lifecycle.service import Service

__all__ = [
    "JSON_OPTIONS",
    "ParsedRequest",
    "charset_of",
    "check_count",
    "check_size",
    "max_document_bytes",
    "media_type",
    "option_texts",
    "parsing",
    "query_options",
    "read_json_body",
    "read_options",
    "read_parts",
    "read_query",
    "read_request",
    "refuse_body",
    "text_options",
    "unsupported_media_type",
    "uploads",
    "validate",
]

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

JSON_OPTIONS = ("filter", "metadata", "vector", "exclude", "ids")
FILE_OPTIONS = (*JSON_OPTIONS, "id")
"""Options of a form that may be files: `curl -F metadata=@m.json` sends them so."""
EXTRA_PARTS = 64
"""Parts of a form beyond those that are wanted; with fewer, the parser would refuse them without naming one."""
NUMBER_BYTES = 32
"""A number of a vector in JSON, with what separates it from the next one."""
MAX_CACHED_QUERY_BYTES = 256


@dataclass(frozen=True, slots=True)
class ParsedRequest(Generic[M]):
    """Checked options and encoded images; the images are not looked into yet."""

    options: M
    images: list[bytes]


async def read_request(
    request: Request, model: type[M], max_images: int = 1, others: Sequence[str] = ()
) -> ParsedRequest[M]:
    """Read a request in any of its forms.

    Args:
        others: media types that the route takes beside those that are read here.

    Raises:
        Problem: unsupported_media_type, image_too_large, invalid_json, invalid_parameter, …
    """
    kind = media_type(request)
    if kind.startswith("image/"):
        image = await _raw_image(request)
        return ParsedRequest(_from_query(model, request.scope["query_string"]), [image])
    options = query_options(request)
    max_bytes = request.app.state.settings.max_image_bytes
    if kind == "application/json":
        return await read_json_body(
            request, lambda members: _from_members(model, options, members, max_images, max_bytes)
        )
    images: list[bytes] = []
    if kind == "multipart/form-data":
        form = await read_parts(request, max_images)
        parts = uploads(form, "image")
        check_count(len(parts), max_images)
        for part in parts:
            check_size(part.size, max_bytes)
        images = [part.data for part in parts]
        texts = option_texts(form, max_document_bytes(request))
        size = sum(len(text) for _, text in texts)
        options = _merge(options, await parsing(request).run(size, text_options, texts))
    elif await _has_body(request):
        accepted = ["image/*", "multipart/form-data", *others, "application/json"]
        raise unsupported_media_type(kind, f"{', '.join(accepted[:-1])} or {accepted[-1]}")
    return ParsedRequest(validate(model, options), images)


async def read_options(request: Request, model: type[M]) -> M:
    """The options of a request without images: query parameters, members of a JSON object, or both.

    Raises:
        Problem: unsupported_media_type, invalid_json, invalid_parameter, …
    """
    options = query_options(request)
    if (kind := media_type(request)) == "application/json":
        return await read_json_body(request, lambda members: validate(model, _merge(options, members)))
    if await _has_body(request):
        raise unsupported_media_type(kind, "application/json")
    return validate(model, options)


def validate(model: type[M], options: Mapping[str, Any]) -> M:
    """Check options against a model. Raises Problem: invalid_parameter."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise validation_problem(error) from None


def media_type(request: Request) -> str:
    """The body's media type without its parameters; "" where none is given."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def charset_of(request: Request) -> str:
    """Python's name of the charset of a body. Raises Problem: unsupported_media_type."""
    parameters = content_type_parameters(request.headers.get("content-type", ""))
    return python_charset(parameters.get(b"charset", b"utf-8").decode("latin-1"))


def query_options(request: Request) -> dict[str, Any]:
    """The options in the query string. Raises Problem: invalid_parameter."""
    return text_options(request.query_params.multi_items())


def read_query(request: Request, model: type[M]) -> M:
    """The options of a request that takes no body. Raises Problem: invalid_parameter."""
    refuse_body(request)
    return validate(model, query_options(request))


def refuse_body(request: Request) -> None:
    """Nothing would read a body, and options in it would have no effect. Raises Problem: invalid_parameter."""
    length = request.headers.get("content-length", "0")
    if length.strip("0") or "transfer-encoding" in request.headers:
        rule = "must be empty, and options be query parameters"
        found = f"{length} bytes" if length.strip("0") else "a chunked one"
        raise Problem("invalid_parameter", f"body: {rule}, found {found}", "body")


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


def parsing(request: Request) -> Parsing:
    """Where this application parses bodies."""
    found: Parsing = request.app.state.parsing
    return found


def max_document_bytes(request: Request) -> int:
    """How large a JSON document may be apart from its images: the setting, and as much as one vector takes."""
    service: Service = request.app.state.service
    return service.settings.max_json_bytes + NUMBER_BYTES * service.manifest.dimension


async def read_json_body(request: Request, use: Callable[[dict[str, Any]], T], image: str = "image") -> T:
    """What `use` makes of a body that is a JSON object; both run where bodies are parsed.

    Args:
        image: the member that holds images, see `json_document.read_object`.

    Raises:
        Problem: invalid_json, body_too_large, unsupported_media_type.
        Exception: what `use` raises.
    """
    charset = charset_of(request)
    # Not `request.body()`, which would keep the body in memory until the request ends.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return await parsing(request).run(
        len(body), lambda: use(read_object(utf8(body, charset), max_document_bytes(request), image))
    )


async def read_parts(request: Request, max_files: int) -> Form:
    """Read a multipart body with at most so many images. Raises Problem, as `form.read_form`."""
    max_parts = (max_files + EXTRA_PARTS, 2 * max_files + EXTRA_PARTS)
    limits = (request.app.state.settings.max_image_bytes, max_document_bytes(request))
    turns = parsing(request).turns
    return await read_form(request.stream(), request.headers["content-type"], turns, *max_parts, *limits)


def uploads(form: Form, name: str) -> list[FilePart]:
    """The file parts of a name. Raises Problem where one is text, because it has no file name."""
    if any(found == name for found, _ in form.texts):
        raise Problem("invalid_parameter", f"{name}: must be a file part (with a filename), found text", name)
    return [part for part in form.files if part.name == name]


def option_texts(form: Form, max_bytes: int) -> list[tuple[str, str]]:
    """The options of a form: its text parts, and those of FILE_OPTIONS that were sent as files.

    Raises:
        Problem: invalid_parameter, another option is a file; invalid_request, such a file has more than
            `max_bytes`, or is not UTF-8.
    """
    texts = list(form.texts)
    for part in form.files:
        if part.name in FILE_OPTIONS:
            if part.size > max_bytes:
                rule = f"must have at most {max_bytes} bytes"
                raise Problem("invalid_request", f"{part.name}: {rule}, found {part.size}", part.name)
            texts.append((part.name, decoded_text(part.name, part.data)))
        elif part.name != "image":
            detail = f"{part.name}: must be a text field, found a file part; the part of an image is named image"
            raise Problem("invalid_parameter", detail, part.name)
    return texts


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
    # Grows piece by piece: joining 20 MB takes the system 20 ms to find new memory, in which nothing else can run.
    data = io.BytesIO()
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size == len(chunk) and not more:
            data = io.BytesIO(chunk)  # shared, not copied
        elif size <= limit:
            data.write(chunk)
        else:
            data = io.BytesIO()  # but read to the end, so that the client reads the response
    check_size(size, limit)
    return data.getvalue()


def _from_members(
    model: type[M], options: dict[str, Any], members: dict[str, Any], max_images: int, max_bytes: int
) -> ParsedRequest[M]:
    images = _base64_images(members.pop("image", None), max_images, max_bytes)
    return ParsedRequest(validate(model, _merge(options, members)), images)


def _base64_images(value: Any, max_images: int, max_bytes: int) -> list[bytes]:
    if value is None:
        return []
    if isinstance(value, list):
        check_count(len(value), max_images)
        return [_base64_image(entry, f"image[{at}]", max_bytes) for at, entry in enumerate(value)]
    return [_base64_image(value, "image", max_bytes)]


def _base64_image(value: Any, place: str, max_bytes: int) -> bytes:
    image = decode_image(value, place)
    check_size(len(image), max_bytes)
    return image


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
        return read_json(text.encode())
    except (ValueError, RecursionError) as error:
        raise Problem(
            "invalid_parameter", f"{name}: must be JSON ({error}), found {describe_value(text)}", name
        ) from error
