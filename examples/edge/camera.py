"""A camera that embeds its images itself and searches a gallery with the vectors.

Needs onnxruntime, numpy and Pillow, and two files of a bundle: `manifest.json` and the graph of one width.

    python camera.py models/demo a.jpg --width 0.25 --service http://127.0.0.1:8000
"""

import argparse
import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image, ImageOps

ORIENTATION = 0x0112
ON_THE_SIDE = (5, 6, 7, 8)


def main() -> None:
    arguments = read_arguments()
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
    image = Image.open(path)
    turned = image.getexif().get(ORIENTATION) in ON_THE_SIDE
    size = (height, width) if turned else (width, height)
    drafted = image.draft(None, (2 * size[0], 2 * size[1]))  # a large JPEG is decoded at a fraction of its size
    opaque = Image.new("RGB", image.size, "white")
    coloured = image.convert("RGBA")
    opaque.paste(coloured, mask=coloured)
    resized = opaque.resize(size, Image.Resampling.BILINEAR, drafted and drafted[1])
    resized.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return np.asarray(ImageOps.exif_transpose(resized))


def size_of(manifest: dict[str, Any]) -> dict[str, int]:
    return {side: manifest["preprocessing"][side] for side in ("height", "width")}


def open_graph(bundle: Path, manifest: dict[str, Any], width: str) -> onnxruntime.InferenceSession:
    (submodel,) = (one for one in manifest["submodels"] if (one["width"], one["precision"]) == (width, "float32"))
    return onnxruntime.InferenceSession(bundle / submodel["file"], providers=["CPUExecutionProvider"])


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
