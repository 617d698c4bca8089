"""A page that shows a query and its hits, written to a temporary file.

The images are inside of it: the service answers no page of another origin, and no browser sends it a key.
"""

import base64
import json
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

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


def write_page(query: str, answer: SearchAnswer, image: bytes | None, images: Sequence[bytes | None]) -> Path:
    """Write the page. Returns its path.

    Args:
        image: that of the query; None where there is none.
        images: those of the hits.
    """
    hits = [
        HIT.format(
            image=_data_uri(hit_image),
            score=hit["score"],
            id=escape(hit["id"]),
            metadata=escape(json.dumps(hit["metadata"], ensure_ascii=False)),
        )
        for hit, hit_image in zip(answer["hits"], images, strict=True)
    ]
    page = PAGE.format(
        query=escape(query),
        width=escape(answer["query"]["width"]),
        image=_data_uri(image),
        hits="\n".join(hits),
    )
    with tempfile.NamedTemporaryFile("wb", prefix="sfsc-", suffix=".html", delete=False) as file:
        file.write(page.encode("utf-8", "replace"))  # the name of the query's file need not be UTF-8
    return Path(file.name)


def _data_uri(image: bytes | None) -> str:
    """The address of an image that is part of the page; browsers find out its format themselves."""
    return "" if image is None else f"data:image/*;base64,{base64.b64encode(image).decode()}"
