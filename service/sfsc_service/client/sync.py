"""A small blocking client of the HTTP API. Needs httpx and none of the service's other dependencies."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from sfsc_service.errors import ServiceError

__all__ = ["Client", "ServiceError"]

CALL_ITEMS = 256
CALL_BYTES = 8 * 2**20

Vector = Sequence[float] | str


class Client:
    """Calls one service.

    Args:
        base_url: such as http://127.0.0.1:8000.
        timeout_s: of one call.

    Every method takes the options of its route as keyword arguments (`width`, `latency_ms`, `gflops`,
    `deadline_ms`, `min_quality` …) and returns the answer's JSON.

    Raises:
        ServiceError: the service refused the call; code `unreachable` and status 0 where no answer came.
    """

    def __init__(self, base_url: str, timeout_s: float = 60.0) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def embed(self, image: bytes | Sequence[bytes], **options: Any) -> dict[str, Any]:
        """Embed one encoded image or several; returns the answer of /embed."""
        if isinstance(image, bytes):
            return self._image("POST", "/embed", image, options)
        return self._json("POST", "/embed", {"image": [_base64(one) for one in image], **options})

    def search(
        self,
        image: bytes | None = None,
        *,
        id: str | None = None,
        vector: Vector | None = None,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Search with one of: an encoded image, an item's id, a vector (with its `width` and `space`)."""
        options |= {"k": k}
        if image is not None:
            text = {} if filter is None else {"filter": json.dumps(filter)}
            return self._image("POST", "/search", image, {**options, **text})
        given = {"id": id, "vector": vector, "filter": filter}
        return self._json("POST", "/search", {**options, **{n: v for n, v in given.items() if v is not None}})

    def put(
        self,
        id: str,
        image: bytes | None = None,
        *,
        vector: Vector | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Insert or replace an item, from an encoded image or a vector (with its `width` and `space`)."""
        if image is not None:
            text = {} if metadata is None else {"metadata": json.dumps(metadata)}
            return self._image("PUT", _path(id), image, {**options, **text})
        return self._json("PUT", _path(id), {"vector": vector, "metadata": metadata or {}, **options})

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Insert or replace many items in calls of bounded size; yields one result per item, in order.

        Args:
            items: objects of `id`, `image` (bytes) or `vector`, and the options of `put`.
        """
        lines: list[bytes] = []
        size = 0
        for item in items:
            lines.append(_line(item))
            size += len(lines[-1])
            if len(lines) >= CALL_ITEMS or size >= CALL_BYTES:
                yield from self._lines(lines)
                lines, size = [], 0
        if lines:
            yield from self._lines(lines)

    def get(self, id: str, **options: Any) -> dict[str, Any]:
        """One item."""
        return self._call("GET", _path(id), params=options)

    def image(self, id: str) -> bytes:
        """The bytes of an item's image, as they were stored."""
        return self._send("GET", f"{_path(id)}/image").content

    def items(self, **options: Any) -> Iterator[dict[str, Any]]:
        """Iterate over all items in the order of their ids, fetched page by page; `filter` is an object."""
        if "filter" in options:
            options["filter"] = json.dumps(options["filter"])
        page = self._call("GET", "/items", params=options)
        yield from page["items"]
        while page["next"] is not None:
            page = self._call("GET", "/items", params={**options, "cursor": page["next"]})
            yield from page["items"]

    def delete(self, id: str) -> None:
        """Remove an item."""
        self._send("DELETE", _path(id))

    def widths(self) -> dict[str, Any]:
        """The widths that the service offers; returns the answer of /widths."""
        return self._call("GET", "/widths")

    def ready(self) -> bool:
        """Whether the service is ready; false, too, where it cannot be reached."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def _image(self, method: str, path: str, image: bytes, options: Mapping[str, Any]) -> dict[str, Any]:
        # The service recognises the format by the bytes.
        return self._call(method, path, params=options, content=image, headers={"Content-Type": "image/*"})

    def _json(self, method: str, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return self._call(method, path, json=document)

    def _lines(self, lines: list[bytes]) -> list[dict[str, Any]]:
        headers = {"Content-Type": "application/x-ndjson"}
        return list(self._call("POST", "/items", content=b"".join(lines), headers=headers)["results"])

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return dict(self._send(method, path, **request).json())

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ServiceError("unreachable", f"{self._http.base_url}: {error}", 0) from error
        if response.is_success:
            return response
        raise _error(response)


def _error(response: httpx.Response) -> ServiceError:
    try:
        problem = response.json()
        return ServiceError(str(problem["code"]), str(problem["detail"]), response.status_code)
    except (ValueError, KeyError, TypeError):
        return ServiceError("unknown", response.text[:200], response.status_code)


def _line(item: Mapping[str, Any]) -> bytes:
    image = item.get("image")
    encoded = {} if image is None else {"image": _base64(image)}
    return json.dumps({**item, **encoded}).encode() + b"\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _path(id: str) -> str:
    return f"/items/{quote(id, safe='')}"
