"""The OpenAPI document: what FastAPI cannot know, because endpoints read their requests with request_body.py."""

from collections.abc import Sequence
from typing import Any, get_args

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute

from sfsc_bundle.image_formats import IMAGE_FORMATS
from sfsc_service.errors import STATUS
from sfsc_service.http.access import KeyScope, access_of
from sfsc_service.http.arrow_items import ARROW
from sfsc_service.http.response_schemas import ProblemResponse
from sfsc_service.http.schemas import BulkItem, BulkLine, CropBox, SearchBody

__all__ = [
    "add_head_problem",
    "add_keys",
    "bulk_request",
    "image_content",
    "image_request",
    "json_request",
    "lines_content",
    "problems",
    "query_parameters",
    "shared_schemas",
]

BINARY = {"type": "string", "format": "binary"}
AS_JSON = ("filter", "metadata", "exclude", "ids")
AS_TEXT = {
    "crop": {
        "type": "string",
        "description": "x,y,w,h or x,y,w,h,rotation",
        "pattern": r"^-?\d{1,4}(\.\d{1,3})?(,-?\d{1,4}(\.\d{1,3})?){3}(,-?\d{1,2}(\.\d{1,3})?)?$",
        "examples": ["40,20,100,200", "40,20,100,200,-15"],
    }
}
"""Options that are objects in JSON and short texts elsewhere."""
ONLY_IN_BODIES = ("vector",)


def shared_schemas() -> dict[str, Any]:
    """The schemas that routes refer to by name without FastAPI knowing of it."""
    return {model.__name__: _schema_of(model) for model in (ProblemResponse, BulkLine, CropBox, SearchBody)}


def add_head_problem(document: dict[str, Any]) -> None:
    """Say in a document what every operation answers to a head that is too large."""
    (status, described), *_ = problems(STATUS["head_too_large"][0]).items()
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"][str(status)] = described


def add_keys(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Say in a document how a key travels and which scope each operation needs."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for route in routes:
        scope = "admin" if access_of(route) == "metrics" else access_of(route)
        if isinstance(route, APIRoute) and route.include_in_schema and scope in get_args(KeyScope):
            for operation in document["paths"][route.path].values():
                if operation["operationId"] == route.unique_id:
                    operation["security"] = [{"bearer": [scope]}, {"header": [scope]}]
                    operation["responses"] |= {str(status): one for status, one in problems(401, 403, 429).items()}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses of a route, by their statuses."""
    schema = {"$ref": f"#/components/schemas/{ProblemResponse.__name__}"}
    return {
        status: {
            "description": " / ".join(sorted({title for code, title in STATUS.values() if code == status})),
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }


def image_content() -> dict[str, Any]:
    """The response that is an image."""
    return {"content": {"image/*": {"schema": BINARY}}}


def query_parameters(options: type[BaseModel]) -> dict[str, Any]:
    """A model's fields as query parameters."""
    properties = _schema_of(options)["properties"]
    parameters = [_parameter(name, schema) for name, schema in properties.items() if name not in ONLY_IN_BODIES]
    return {"parameters": parameters}


def image_request(
    options: type[BaseModel],
    body: type[BaseModel],
    *,
    many: bool = False,
    further: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The forms of a request that takes an image.

    Args:
        body: the JSON form.
        many: whether it may hold several images.
        further: forms, by their media types.
    """
    form = _form(options)
    form["properties"]["image"] = {"type": "array", "items": BINARY} if many else BINARY
    content: dict[str, Any] = {one.media_type: {"schema": BINARY} for one in IMAGE_FORMATS}
    content["application/json"] = {"schema": _schema_of(body)}
    content["multipart/form-data"] = {"schema": form}
    content |= further or {}
    return {**query_parameters(options), "requestBody": {"required": False, "content": content}}


def json_request(body: type[BaseModel], *further: str, required: bool = True) -> dict[str, Any]:
    """A request whose body is a JSON object; `further`: media types that it may have as well."""
    schema = {"schema": _schema_of(body)}
    content = dict.fromkeys(("application/json", *further), schema)
    return {"requestBody": {"required": required, "content": content}}


def lines_content(line: type[BaseModel]) -> dict[str, Any]:
    """The form of a request that has an object of this kind in each line."""
    description = f"a {line.__name__} per line"
    schema = {"type": "string", "description": description, "contentMediaType": "application/x-ndjson"}
    return {"application/x-ndjson": {"schema": schema}}


def bulk_request() -> dict[str, Any]:
    """The forms of a bulk request."""
    form = _form(BulkItem)
    texts = {"type": "array", "items": {"type": "string"}}
    form["properties"] |= {
        "image": {"type": "array", "items": BINARY},
        "id": texts,
        "metadata": texts,
        "crop": texts,
    }
    form["required"] = ["image"]
    columns = "columns id, vector and, if wanted, metadata; width and space are query parameters"
    arrow = {"type": "string", "description": columns, "contentMediaType": ARROW}
    content = {
        "multipart/form-data": {"schema": form},
        **lines_content(BulkLine),
        ARROW: {"schema": arrow},
    }
    return {"requestBody": {"required": True, "content": content}}


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema; models in it are referred to as components of the document."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {key: value for key, value in schema.items() if key != "$defs"}


def _form(options: type[BaseModel]) -> dict[str, Any]:
    properties = _schema_of(options)["properties"]
    fields = {
        name: {"type": "string"} if name in AS_JSON else AS_TEXT.get(name) or _without_null(schema)
        for name, schema in properties.items()
    }
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    place = {"name": name, "in": "query", "required": False, "description": schema.get("description", "")}
    if name in AS_JSON:
        return {**place, "content": {"application/json": {"schema": _without_null(schema)}}}
    return {**place, "schema": AS_TEXT.get(name) or _without_null(schema)}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without null, which text cannot express."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, **({"anyOf": kinds} if kinds else {})}
