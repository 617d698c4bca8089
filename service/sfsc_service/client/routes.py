"""Every call of the service's API, described once: what is sent, and what of the response is the answer.

Preparing a call may read a file, encode an image of Pillow's or embed it on this device; an async client prepares
its calls in a thread.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import httpx

from sfsc_service.client.answers import (
    BulkItemAnswer,
    DeletedAnswer,
    EmbedAnswer,
    ItemAnswer,
    PairAnswer,
    PutAnswer,
    SearchAnswer,
    SearchResultAnswer,
    WidthsAnswer,
    answer_reader,
)
from sfsc_service.client.arguments import (
    BudgetArguments,
    EmbedArguments,
    SearchArguments,
    Vector,
    VectorArguments,
    split_search,
)
from sfsc_service.client.call import (
    Answered,
    Batch,
    Call,
    Pipeline,
    Prepared,
    Repeat,
    Route,
    Steps,
    Stream,
    quoted,
)
from sfsc_service.client.collections import CollectionRoutes
from sfsc_service.client.images import ImageSource, as_base64, encoded
from sfsc_service.client.maintenance import MaintenanceRoutes
from sfsc_service.client.own_images import OwnImagesRoutes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sfsc_service.client.device import DeviceEmbedder

__all__ = ["Routes", "device_embedder"]

CALL_ITEMS = 256
CALL_BYTES = 8 * 2**20
CALL_VECTORS = 1_000
CROP_MEMBERS = ("x", "y", "w", "h", "rotation")
AS_JSON = ("filter", "metadata", "exclude")
"""Options that travel as JSON where the others travel as text."""


class Routes(CollectionRoutes, MaintenanceRoutes, OwnImagesRoutes):
    """The methods of both clients.

    An image is encoded bytes, the path of a file, or an image of Pillow's. Options are those of docs/api.md; one
    that is None is left out. An async client returns an awaitable, or an async iterator, of what is said here.

    Raises:
        ServiceError: the service refused the call; code `unreachable` and status 0 where no answer came.
        OSError: the file of an image cannot be read.
        ImageError: an image that is embedded on this device is not accepted.
    """

    _device: "DeviceEmbedder | None" = None

    @Route
    def embed(
        self, image: ImageSource | Sequence[ImageSource], **options: Unpack[EmbedArguments]
    ) -> Prepared[EmbedAnswer]:
        """Embed one image or several."""
        several = isinstance(image, Sequence) and not isinstance(image, str | bytes)
        images = [encoded(one) for one in cast(Sequence[ImageSource], image if several else [image])]
        given = _without_none(options)
        if self._device is not None:
            return Answered(self._device.answer(images, given))
        if several:
            document = {"image": [as_base64(one) for one in images], **_members(given)}
            return _json("POST", "/embed", document, answer_reader(EmbedAnswer))
        return _image("POST", "/embed", images[0], given, answer_reader(EmbedAnswer))

    @Route
    def search(
        self,
        image: ImageSource | None = None,
        *,
        id: str | None = None,
        vector: Vector | None = None,
        filter: Mapping[str, Any] | None = None,
        **options: Unpack[SearchArguments],
    ) -> Prepared[SearchAnswer]:
        """Search with one of: an image, an item's id, a vector (with its `width` and `space`)."""
        embedding, hits = split_search(options)
        further = {"id": id, "vector": vector, "filter": filter, **hits}
        return self._with_image("POST", "/search", image, embedding, further, answer_reader(SearchAnswer))

    @Pipeline
    def search_many(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        filter: Mapping[str, Any] | None = None,
        **options: Unpack[SearchArguments],
    ) -> Iterator[Call[Batch[SearchResultAnswer]]]:
        """Make many searches, in calls of bounded size; iterate over the outcome of each, in order.

        Args:
            queries: objects of `image`, `vector` or `id`, and the options of `search`. They are read as the
                outcomes are asked for, one call ahead.
            filter, options: for queries that have none of their own.
        """
        common = {**options, "filter": filter}
        return _calls("/search", (_without_none({**common, **query}) for query in queries), self._query_line)

    @Stream
    def duplicates(
        self,
        min_score: float,
        *,
        filter: Mapping[str, Any] | None = None,
        exact: bool | None = None,
        limit: int = 1000,
    ) -> Steps[PairAnswer]:
        """Iterate over all pairs of items that score at least so much, fetched page by page, `limit` at a time."""
        options = _without_none({"min_score": min_score, "filter": filter, "exact": exact, "limit": limit})
        page = yield _json("POST", "/search/duplicates", options, _pairs)
        while page.cursor is not None:
            page = yield _json("POST", "/search/duplicates", options | {"cursor": page.cursor}, _pairs)

    @Route
    def put(
        self,
        id: str,
        image: ImageSource | None = None,
        *,
        vector: Vector | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Unpack[VectorArguments],
    ) -> Prepared[PutAnswer]:
        """Insert or replace an item, from an image or a vector (with its `width` and `space`)."""
        further = {"vector": vector, "metadata": metadata}
        return self._with_image("PUT", _path(id), image, options, further, answer_reader(PutAnswer))

    @Pipeline
    def put_many(
        self, items: Iterable[Mapping[str, Any]], **options: Unpack[BudgetArguments]
    ) -> Iterator[Call[Batch[BulkItemAnswer]]]:
        """Insert or replace many items, in calls of bounded size; iterate over what became of each, in order.

        Args:
            items: objects of `id`, `image` or `vector`, and the options of `put`. They are read as the answers
                are asked for, one call ahead.
            options: for items that have none of their own.
        """
        return _calls("/items", (_without_none({**options, **item}) for item in items), self._item_line)

    @Pipeline
    def put_vectors(
        self,
        ids: Sequence[str],
        vectors: "npt.NDArray[np.float32]",
        *,
        width: str | float,
        space: str,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> Iterator[Call[Batch[BulkItemAnswer]]]:
        """Insert or replace many items from their vectors [n, D], in binary calls; iterate over their outcomes.

        Client and service need the extra `parquet`. Raises ValueError where the numbers of items differ.
        """
        from sfsc_service.client.arrow import ARROW, arrow_body

        params = {"width": width, "space": space}
        for first in range(0, max(len(ids), len(vectors)), CALL_VECTORS):
            rows = slice(first, first + CALL_VECTORS)
            content = arrow_body(ids[rows], vectors[rows], None if metadata is None else metadata[rows])
            yield Call("POST", "/items", _results, params, content, ARROW, patient=True)

    @Route
    def get(self, id: str, *, vectors: bool = False) -> Prepared[ItemAnswer]:
        """One item, with its embedding if `vectors` is set."""
        return _get(_path(id), answer_reader(ItemAnswer), {"vectors": vectors})

    @Route
    def image(self, id: str) -> Prepared[bytes]:
        """The bytes of an item's image, as they were stored."""
        return Call("GET", f"{_path(id)}/image", lambda response: response.content)

    @Stream
    def items(
        self, *, filter: Mapping[str, Any] | None = None, vectors: bool = False, limit: int = 100
    ) -> Steps[ItemAnswer]:
        """Iterate over all items in the order of their ids, fetched page by page, `limit` at a time."""
        params = {"limit": limit, "vectors": vectors} | _without_none({"filter": filter})
        page = yield _get("/items", _page, params)
        while page.cursor is not None:
            page = yield _get("/items", _page, params | {"cursor": page.cursor})

    @Route
    def patch(self, id: str, metadata: Mapping[str, Any]) -> Prepared[ItemAnswer]:
        """Merge into an item's metadata; members that are None are removed. Returns the item as it is then."""
        return _json("PATCH", _path(id), {"metadata": metadata}, answer_reader(ItemAnswer))

    @Route
    def delete(self, id: str) -> Prepared[None]:
        """Remove an item."""
        return Call("DELETE", _path(id), lambda _: None, repeat="if refused")

    @Route
    def count(self, *, filter: Mapping[str, Any] | None = None) -> Prepared[int]:
        """The number of items, or of those that meet a filter."""
        params = _without_none({"filter": filter})
        return _get("/items:count", lambda response: int(response.json()["count"]), params)

    @Route
    def delete_matching(self, filter: Mapping[str, Any], *, limit: int = 1000) -> Prepared[DeletedAnswer]:
        """Remove at most `limit` items that meet a filter."""
        params = _texts({"filter": filter, "limit": limit})
        return Call("DELETE", "/items", answer_reader(DeletedAnswer), params, repeat="if refused")

    @Route
    def delete_many(self, ids: Sequence[str]) -> Prepared[DeletedAnswer]:
        """Remove at most 1,000 items by their ids; the answer names those that were not there."""
        content = json.dumps({"ids": list(ids)}).encode()
        read = answer_reader(DeletedAnswer)
        return Call("DELETE", "/items", read, {}, content, "application/json", repeat="if refused")

    @Route
    def widths(self) -> Prepared[WidthsAnswer]:
        """The widths that the service offers, what they cost, and what the gallery is made of."""
        return _get("/widths", answer_reader(WidthsAnswer), {})

    def _with_image(
        self,
        method: str,
        path: str,
        image: ImageSource | None,
        options: Mapping[str, Any],
        further: Mapping[str, Any],
        read: Callable[[httpx.Response], Any],
    ) -> Prepared[Any]:
        """A call with an image or with something in its place; `options` say how the image is embedded."""
        options, further = _without_none(options), _without_none(further)
        if image is None:
            return _json(method, path, _members({**options, **further}), read)
        data = encoded(image)
        if self._device is not None:
            return _json(method, path, {**self._device.vector(data, options), **further}, read)
        return _image(method, path, data, {**options, **further}, read)

    def _item_line(self, item: Mapping[str, Any]) -> bytes:
        """One line of a bulk insertion."""
        kept = {name: item[name] for name in ("id", "metadata") if name in item}
        return self._line(item, kept, {name: value for name, value in item.items() if name not in kept})

    def _query_line(self, query: Mapping[str, Any]) -> bytes:
        """One line of many searches."""
        embedding, kept = split_search(query)
        if "filter" in embedding:
            kept["filter"] = embedding.pop("filter")
        return self._line(query, kept, embedding)

    def _line(self, whole: Mapping[str, Any], kept: Mapping[str, Any], options: dict[str, Any]) -> bytes:
        """A line; with `options` an image is embedded where this device does so, and `kept` is sent beside it."""
        image = options.pop("image", None)
        if image is None:
            document = _members(whole)
        elif self._device is None:
            document = {**_members(whole), "image": as_base64(encoded(image))}
        else:
            document = {**kept, **self._device.vector(encoded(image), options)}
        return json.dumps(document).encode() + b"\n"


def device_embedder(folder: str | PathLike[str] | None, width: str | float | None) -> "DeviceEmbedder | None":
    """What embeds on this device, if a bundle is given for it; onnxruntime is needed for nothing else.

    Raises:
        BundleError: the bundle cannot be opened.
        ValueError: bundle or width is missing, or the bundle has no such width.
    """
    if folder is None and width is None:
        return None
    if folder is None or width is None:
        raise ValueError("embed_with and width: must be set together, to embed on this device at this width")
    from sfsc_service.client.device import DeviceEmbedder

    return DeviceEmbedder(Path(folder), width)


def _get(path: str, read: Callable[[httpx.Response], Any], params: Mapping[str, Any]) -> Call[Any]:
    return Call("GET", path, read, _texts(params))


def _image(
    method: str, path: str, image: bytes, options: Mapping[str, Any], read: Callable[[httpx.Response], Any]
) -> Call[Any]:
    # The service recognises the format by the bytes.
    return Call(method, path, read, _texts(options), image, "image/*", _repeat(options))


def _json(method: str, path: str, document: Mapping[str, Any], read: Callable[[httpx.Response], Any]) -> Call[Any]:
    content = json.dumps(document).encode()
    return Call(method, path, read, content=content, media_type="application/json", repeat=_repeat(document))


def _calls(
    path: str, objects: Iterable[Mapping[str, Any]], line_of: Callable[[Mapping[str, Any]], bytes]
) -> Iterator[Call[Batch[Any]]]:
    """Calls of bounded size with a line for every object."""
    lines: list[bytes] = []
    size = 0
    repeat: Repeat = "always"
    for one in objects:
        lines.append(line_of(one))
        size += len(lines[-1])
        repeat = "never" if repeat == "never" else _repeat(one)
        if len(lines) >= CALL_ITEMS or size >= CALL_BYTES:
            yield _lines_call(path, lines, repeat)
            lines, size, repeat = [], 0, "always"
    if lines:
        yield _lines_call(path, lines, repeat)


def _lines_call(path: str, lines: list[bytes], repeat: Repeat) -> Call[Batch[Any]]:
    return Call("POST", path, _results, {}, b"".join(lines), "application/x-ndjson", repeat, patient=True)


def _page(response: httpx.Response) -> Batch[ItemAnswer]:
    document = response.json()
    return Batch(document["items"], document["next"])


def _pairs(response: httpx.Response) -> Batch[PairAnswer]:
    document = response.json()
    return Batch(document["pairs"], document["next"])


def _results(response: httpx.Response) -> Batch[Any]:
    return Batch(response.json()["results"])


def _repeat(options: Mapping[str, Any]) -> Repeat:
    return "never" if "deadline_ms" in options else "always"


def _texts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as text can say them."""
    return {name: _text(name, value) for name, value in options.items()}


def _text(name: str, value: Any) -> Any:
    if name in AS_JSON:
        return json.dumps(value)
    return ",".join(map(str, value)) if name == "crop" else value


def _members(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON says them."""
    crop = options.get("crop")
    return {**options, **({} if crop is None else {"crop": dict(zip(CROP_MEMBERS, crop, strict=False))})}


def _without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _path(id: str) -> str:
    return f"/items/{quoted(id)}"
