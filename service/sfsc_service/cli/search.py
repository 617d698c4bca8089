"""`sfsc search`: what the gallery of a running service finds for an image or for one of its items."""

import json
import os
import sys
import webbrowser
from pathlib import Path

from pydantic_settings import CliPositionalArg, CliToggleFlag

from sfsc_service.cli.hits_page import write_page
from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.table import print_table
from sfsc_service.client import Client
from sfsc_service.client.answers import SearchAnswer
from sfsc_service.client.arguments import HitArguments
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.settings import Width, setting

__all__ = ["Search"]


class Search(GalleryCommand):
    """Search the gallery of a running service with an image, or with one of its items.

    QUERY is the path of an image where such a file exists, and else the id of an item.

    example: sfsc search query.jpg
    example: sfsc search photos/cat/1.jpg -k 20 --open
    example: sfsc search query.jpg --filter '{"identity": "cat"}'
    """

    query: CliPositionalArg[str] = setting(..., "path or id", "an image, or the id of an item")
    k: int = setting(10, "hits", "the greatest number of hits", ge=1)
    width: Width | None = setting(None, "width", "the width to embed with; unset: the service chooses")
    filter: JsonObject | None = setting(None, "JSON", "only items that meet this filter")
    min_score: float = setting(-1.0, "score", "the least score of a hit", ge=-1, le=1)
    offset: int = setting(0, "hits", "hits to pass over, the best first", ge=0)
    group_by: str | None = setting(
        None, "field", "k groups of hits that have one value in a field of the metadata"
    )
    group_size: int | None = setting(None, "hits", "the greatest number of hits of a group; unset: 1", ge=1)
    open: CliToggleFlag[bool] = setting(False, "flag", "show the images of the hits in a browser")

    def run(self) -> None:
        """Search, and print the hits.

        Raises:
            ServiceError: the service refuses the search or cannot be reached.
            StartError: the image cannot be read, or a width is given with an id.
        """
        answer = self._answer()
        if self.as_json:
            self.print_json(answer)
        else:
            self._print(answer)
        if self.open:
            page = write_page(self.query, answer, *self._images(answer))
            print(f"shown in {page}", file=sys.stderr)
            webbrowser.open(page.as_uri())

    def _images(self, answer: SearchAnswer) -> tuple[bytes | None, list[bytes | None]]:
        """The query's image, and those of the hits."""
        path = Path(self.query)
        with self.client() as client:
            hits = [client.image(hit["id"]) if hit["image"] else None for hit in answer["hits"]]
            query = path.read_bytes() if os.path.isfile(path) else _image_of(client, self.query)
        return query, hits

    def _answer(self) -> SearchAnswer:
        path = Path(self.query)
        with self.client() as client:
            if not os.path.isfile(path):  # unlike Path.is_file, false for an id that is too long for a path
                if self.width is not None:
                    raise StartError(f"width: must not be set with the id of an item; no file {self.query} exists")
                try:
                    return client.search(id=self.query, filter=parsed(self.filter), **self._hits)
                except ServiceError as error:
                    if error.code != "item_not_found":
                        raise
                    raise StartError(f"query: {self.query} is neither a file nor the id of an item") from error
            try:
                return client.search(path, filter=parsed(self.filter), width=self.width, **self._hits)
            except OSError as error:
                raise StartError(f"query: {path} cannot be read: {error.strerror}") from error

    @property
    def _hits(self) -> HitArguments:
        """Which items are hits."""
        return {
            "k": self.k,
            "offset": self.offset,
            "min_score": self.min_score,
            "group_by": self.group_by,
            "group_size": self.group_size,
        }

    def _print(self, answer: SearchAnswer) -> None:
        rows = [
            (
                str(rank),
                hit["id"],
                f"{hit['score']:.3f}",
                hit["width"],
                json.dumps(hit["metadata"], ensure_ascii=False),
            )
            for rank, hit in enumerate(answer["hits"], start=1 + self.offset)
        ]
        print_table(("", "id", "score", "width", "metadata"), rows, title=f"width {answer['query']['width']}")


def _image_of(client: Client, id: str) -> bytes | None:
    """An item's image; None where it has none."""
    return client.image(id) if client.get(id)["image"] else None
