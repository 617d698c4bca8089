"""`sfsc duplicates`: pairs of items of a running service that are near to each other."""

import sys

from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import setting

__all__ = ["Duplicates"]


class Duplicates(GalleryCommand):
    """Find pairs of items in the gallery of a running service that look alike.

    Every item is searched with, so this takes as long as so many searches.

    example: sfsc duplicates --min-score 0.98
    example: sfsc duplicates --filter '{"identity": "cat"}' --json
    """

    min_score: float = setting(0.95, "score", "the least score of a pair", ge=-1, le=1)
    filter: JsonObject | None = setting(None, "JSON", "only pairs of items that both meet this filter")

    def run(self) -> None:
        """Print the pairs, a line each as they are found. Raises ServiceError."""
        with self.client() as client:
            pairs = client.duplicates(self.min_score, filter=parsed(self.filter))
            if self.as_json:
                self.print_json(list(pairs))
                return
            pair = None
            for pair in pairs:
                first, second = pair["items"]
                print(f"{pair['score']:.3f}\t{escaped(first['id'])}\t{escaped(second['id'])}", flush=True)
            if pair is None:
                print(f"sfsc: no pair has a score of {self.min_score:g} or more", file=sys.stderr)
