"""A page that shows a query and its hits, written to a temporary file."""

import json
import tempfile
from html import escape
from pathlib import Path
from urllib.parse import quote

from sfsc_service.client.answers import SearchAnswer

__all__ = ["write_page"]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{query}</title>
<style>
body {{ font: 15px system-ui, sans-serif; margin: 2rem; color-scheme: light dark }}
main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)) }}
figure {{ margin: 0; overflow-wrap: anywhere }}
img {{ width: 100%; height: 11rem; object-fit: contain }}
figcaption {{ font-size: .85rem }}
</style>
<h1>{query}</h1>
<p>Embedded at width {width}.</p>
<img src="{image}" alt="the query" style="width: 11rem">
<h2>Hits</h2>
<main>
{hits}
</main>
</html>
"""
HIT = """<figure><img src="{image}" alt=""><figcaption>{score:.3f} · {id}<br>{metadata}</figcaption></figure>"""


def write_page(query: str, image: str | None, answer: SearchAnswer, service: str) -> Path:
    """Write the page; images of items are loaded from the service. Returns its path.

    Args:
        image: the address of the query's image; None where it is an item of the service.
    """
    service = service.rstrip("/")
    hits = [
        HIT.format(
            image=escape(f"{service}/{hit['image']}" if hit["image"] else ""),
            score=hit["score"],
            id=escape(hit["id"]),
            metadata=escape(json.dumps(hit["metadata"], ensure_ascii=False)),
        )
        for hit in answer["hits"]
    ]
    page = PAGE.format(
        query=escape(query),
        width=escape(answer["query"]["width"]),
        image=escape(image or f"{service}/items/{quote(query, safe='')}/image"),
        hits="\n".join(hits),
    )
    with tempfile.NamedTemporaryFile("wb", prefix="sfsc-", suffix=".html", delete=False) as file:
        file.write(page.encode("utf-8", "replace"))  # the name of the query's file need not be UTF-8
    return Path(file.name)
