"""The OpenAPI document: what FastAPI cannot know, because calls are read by routes/incoming.py."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sfsc_bundle.image_formats import IMAGE_FORMATS
from sfsc_service.errors import STATUS
from sfsc_service.http.schemas import BulkCall, BulkItem, EmbedCall, ItemCall, ProblemAnswer, SearchCall

__all__ = ["bulk_call", "describe", "image_call", "problems", "query_parameters"]

REF = "#/components/schemas/{model}"
BINARY = {"type": "string", "format": "binary"}
AS_JSON = ("filter", "metadata")
ONLY_IN_BODIES = ("vector",)


def describe(app: FastAPI) -> None:
    """Give an app its OpenAPI document, built on first use."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            document["components"]["schemas"] |= _components()
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer."""
    return {
        status: {
            "description": " / ".join(sorted({title for code, title in STATUS.values() if code == status})),
            "content": {"application/problem+json": {"schema": _ref("ProblemAnswer")}},
        }
        for status in statuses
    }


def query_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """A model's fields as query parameters."""
    properties = model.model_json_schema()["properties"]
    return {"parameters": [_parameter(name, schema) for name, schema in properties.items() if _in_query(name)]}


def image_call(model: type[BaseModel], json_model: str, *, many: bool = False) -> dict[str, Any]:
    """The three forms of a call that takes an image."""
    form = _form(model)
    form["properties"]["image"] = {"type": "array", "items": BINARY} if many else BINARY
    content: dict[str, Any] = {one.media_type: {"schema": BINARY} for one in IMAGE_FORMATS}
    content["application/json"] = {"schema": _ref(json_model)}
    content["multipart/form-data"] = {"schema": form}
    return {**query_parameters(model), "requestBody": {"required": False, "content": content}}


def bulk_call() -> dict[str, Any]:
    """The two forms of a bulk call."""
    form = _form(BulkItem)
    texts = {"type": "array", "items": {"type": "string"}}
    form["properties"] |= {"image": {"type": "array", "items": BINARY}, "id": texts, "metadata": texts}
    form["required"] = ["image"]
    lines = {"type": "string", "description": "one BulkCall a line", "contentMediaType": "application/x-ndjson"}
    content = {"multipart/form-data": {"schema": form}, "application/x-ndjson": {"schema": lines}}
    return {"requestBody": {"required": True, "content": content}}


def _components() -> dict[str, Any]:
    models: Iterable[type[BaseModel]] = (EmbedCall, SearchCall, ItemCall, BulkCall, ProblemAnswer)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _form(model: type[BaseModel]) -> dict[str, Any]:
    properties = model.model_json_schema()["properties"]
    fields = {
        name: {"type": "string"} if name in AS_JSON else _plain(schema) for name, schema in properties.items()
    }
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    place = {"name": name, "in": "query", "required": False, "description": schema.get("description", "")}
    if name in AS_JSON:
        return {**place, "content": {"application/json": {"schema": {"type": "object"}}}}
    return {**place, "schema": _plain(schema)}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without null, which text cannot say."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, **({"anyOf": kinds} if kinds else {})}


def _in_query(name: str) -> bool:
    return name not in ONLY_IN_BODIES


def _ref(model: str) -> dict[str, str]:
    return {"$ref": REF.format(model=model)}
