"""A camera that embeds its images itself and searches a gallery with the vectors.

Needs onnxruntime, numpy and Pillow, and two files of a bundle: `manifest.json` and the graph of one width.

    python camera.py models/demo a.jpg --width 0.25 --service http://127.0.0.1:8000
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

ORIENTATION = 0x0112
ON_THE_SIDE = (5, 6, 7, 8)


def main() -> None:
    try:
        search(read_arguments())
    except UnidentifiedImageError as error:
        sys.exit(f"camera: the file is no image that Pillow knows: {error}")
    except urllib.error.HTTPError as error:
        sys.exit(f"camera: {error.url} answered {error.code}: {error.read().decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"camera: no answer from the service: {error.reason}")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        sys.exit(f"camera: {error}")


def search(arguments: argparse.Namespace) -> None:
    """Embed, search and print the hits.

    Raises:
        OSError: a file cannot be read, an image is damaged, or the service does not answer.
        ValueError: the bundle has no such width, or a file is not what it should be.
    """
    manifest = json.loads((arguments.bundle / "manifest.json").read_text())
    pixels = load(arguments.image, **size_of(manifest))
    (embedding,) = open_graph(arguments.bundle, manifest, arguments.width).run(
        ["embeddings"], {"images": pixels[np.newaxis]}
    )[0]
    vector = base64.b64encode(embedding.astype("<f4").tobytes()).decode()
    query = {"vector": vector, "width": arguments.width, "space": manifest["space"], "k": arguments.k}
    for hit in post(f"{arguments.service}/search", query)["hits"]:
        print(f"{hit['score']:.3f}  {hit['id']}  {json.dumps(hit['metadata'])}")


def load(path: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    """An image as the graph takes it, uint8 [height, width, 3]: the five steps of docs/bundle.md."""
    with Image.open(path) as image:
        turned = image.getexif().get(ORIENTATION) in ON_THE_SIDE
        size = (height, width) if turned else (width, height)
        # A large JPEG is decoded at a fraction of its size.
        drafted = image.draft(None, (2 * size[0], 2 * size[1]))
        opaque = Image.new("RGB", image.size, "white")
        coloured = image.convert("RGBA")
        opaque.paste(coloured, mask=coloured)
        resized = opaque.resize(size, Image.Resampling.BILINEAR, drafted and drafted[1])
        resized.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
        return np.asarray(ImageOps.exif_transpose(resized))


def size_of(manifest: dict[str, Any]) -> dict[str, int]:
    return {side: manifest["preprocessing"][side] for side in ("height", "width")}


def open_graph(bundle: Path, manifest: dict[str, Any], width: str) -> onnxruntime.InferenceSession:
    files = {one["width"]: one["file"] for one in manifest["submodels"] if one["precision"] == "float32"}
    if width not in files:
        raise ValueError(f"width: must be one of {', '.join(files)}, found {width}")
    if not (bundle / files[width]).is_file():
        raise ValueError(f"width: the graph of width {width}, {bundle / files[width]}, is not there")
    return onnxruntime.InferenceSession(bundle / files[width], providers=["CPUExecutionProvider"])


def post(url: str, document: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Embed an image on this device and search with its vector.")
    parser.add_argument("bundle", type=Path, help="a folder with manifest.json and the width's graph")
    parser.add_argument("image", type=Path)
    parser.add_argument("--width", default="0.25", help="as the manifest writes it (default: %(default)s)")
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="(default: %(default)s)")
    parser.add_argument("-k", type=int, default=5, help="hits (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
