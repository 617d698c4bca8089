"""A photograph of 12 megapixels from bytes to the graph's input: decoded at a smaller scale against decoded whole.

    python benchmarks/decode.py

Timed in turns on the same JPEG: preprocessing version 2, which decodes at the smallest scale of the DCT that is
enough, and version 1, which decoded every pixel and turned it upright before the resize. libjpeg-turbo through
simplejpeg, and OpenCV, are timed beside them at the same scale, as far as they are installed. What the smaller
scale costs in accuracy is measured on vehicles rendered at 2,048 pixels, embedded by every width of the demo.
"""

import argparse
import io
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.progress import track

from result_file import Figure, write_result
from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.retrieval import CrossWidth, Labels, cross_width
from sfsc_bundle.runner import make_runner
from sfsc_vehicles import CAMERAS, make_identity, render_jpeg
from sfsc_vehicles.dataset import first_test

Pixels = npt.NDArray[np.uint8]
Decoder = Callable[[bytes, Preprocessing], Pixels]

WIDTH, HEIGHT, QUALITY = 4032, 3024, 90
SLOPE = 1.23  # of photographs, 1 to 1.4; at this one the file has the 3.8 MB of a phone's
RENDERED = 2048
SERVED = Preprocessing(height=128, width=128)
DEMO_SEED, DEMO_TRAINED = 1, 1000


def main() -> None:
    """Time both ways, then measure the accuracy of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="of the timing")
    parser.add_argument("--identities", type=int, default=40, help="vehicles to render, each from every camera")
    parser.add_argument("--shots", type=int, default=1, help="images of each from each camera")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    photograph = synthetic_photograph(arguments.seed)
    seconds = take_turns({"scaled": preprocess, "whole": whole} | other_decoders(), photograph, arguments.rounds)
    difference = np.abs(preprocess(photograph, SERVED).astype(int) - whole(photograph, SERVED)).mean()
    found = accuracy(open_bundle(Path("models/demo")), arguments.identities, arguments.shots)
    losses = np.array(found["whole"].mean_ap) - np.array(found["scaled"].mean_ap)
    figures = [
        Figure("12-MP JPEG, bytes to tensor: scaled ÷ whole", ratio(seconds, "scaled", "whole"), "", "<= 0.35"),
        *(Figure(f"12-MP JPEG, {name}", 1000 * median(found), "ms") for name, found in seconds.items()),
        *(
            Figure(f"12-MP JPEG, scaled ÷ {name}", ratio(seconds, "scaled", name), "", "< 1.5")
            for name in seconds
            if name not in ("scaled", "whole")
        ),
        Figure("12-MP JPEG, mean difference of both ways", float(difference), "of 255"),
        Figure("mAP lost by scaling, mean of the matrix", float(losses.mean()), "points", "<= 0.1"),
        Figure("mAP lost by scaling, worst cell of the matrix", float(losses.max()), "points"),
    ]
    data = {
        "photograph_bytes": len(photograph),
        "seconds": seconds,
        "rendered_pixels": RENDERED,
        "images": arguments.identities * CAMERAS * arguments.shots,
        "mean_ap": {name: cross.mean_ap for name, cross in found.items()},
    }
    print("written to", write_result("decode", figures, data, seed=arguments.seed))


def whole(data: bytes, preprocessing: Preprocessing) -> Pixels:
    """Preprocessing version 1 of a JPEG: all pixels decoded, turned upright, resized."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return resized(upright, preprocessing)


def resized(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """The bilinear resize of both versions."""
    size = (preprocessing.width, preprocessing.height)
    return np.array(image.resize(size, Image.Resampling.BILINEAR))


def other_decoders() -> dict[str, Decoder]:
    """Other libraries that decode at a smaller scale, each with Pillow's resize, as far as they are installed."""
    found: dict[str, Decoder] = {}
    if find_spec("simplejpeg"):
        found["simplejpeg"] = by_simplejpeg
    if find_spec("cv2"):
        found["OpenCV"] = by_opencv
    return found


def by_simplejpeg(data: bytes, preprocessing: Preprocessing) -> Pixels:
    """libjpeg-turbo's own interface, at the smallest scale that leaves twice the wanted size."""
    import simplejpeg

    least = {"min_height": 2 * preprocessing.height, "min_width": 2 * preprocessing.width}
    return resized(Image.fromarray(simplejpeg.decode_jpeg(data, **least)), preprocessing)


def by_opencv(data: bytes, preprocessing: Preprocessing) -> Pixels:
    """OpenCV at 1/8, which is the smallest scale that leaves twice the size at which this bundle serves."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    return resized(Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)), preprocessing)


def synthetic_photograph(seed: int) -> bytes:
    """A JPEG of 12 megapixels with the spectrum of photographs: amplitude falls as frequency^−SLOPE."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1
    shared = random.normal(size=(HEIGHT, WIDTH))  # channels of photographs are much alike
    channels = []
    for _ in range(3):
        spectrum = np.fft.rfft2(shared + 0.3 * random.normal(size=(HEIGHT, WIDTH))) / frequency**SLOPE
        field = np.fft.irfft2(spectrum, s=(HEIGHT, WIDTH))
        channels.append(128 + 48 * field / field.std())
    pixels = np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def take_turns(ways: Mapping[str, Decoder], data: bytes, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, in another order each time."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in track(range(rounds + 1), "timing"):
        for name in list(ways) if number % 2 else list(reversed(ways)):
            began = time.perf_counter()
            ways[name](data, SERVED)
            if number:  # the first round warms caches and allocator
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """The median over the rounds of one way's time divided by another's."""
    return median(mine / theirs for mine, theirs in zip(seconds[one], seconds[other], strict=True))


def accuracy(bundle: Bundle, identities: int, shots: int) -> dict[str, CrossWidth]:
    """The bundle's mAP on vehicles that it was not trained on, as large JPEGs, decoded in both ways."""
    ways: dict[str, Decoder] = {"scaled": preprocess, "whole": whole}
    pixels: dict[str, list[Pixels]] = {name: [] for name in ways}
    seen = [
        (number, camera, shot)
        for number in range(identities)
        for camera in range(CAMERAS)
        for shot in range(shots)
    ]
    for number, camera, shot in track(seen, "rendering"):
        identity = make_identity(DEMO_SEED, first_test(DEMO_TRAINED) + number)
        data = render_jpeg(DEMO_SEED, identity, camera, shot, RENDERED)
        for name, decode in ways.items():
            pixels[name].append(decode(data, bundle.manifest.preprocessing))
    labels = Labels(
        np.array([number for number, _, _ in seen]),
        np.array([camera for _, camera, _ in seen]),
        np.arange(len(seen)),
    )
    found = {}
    for name, images in pixels.items():
        rows = {width: make_runner(bundle, width)(np.stack(images)) for width in bundle.manifest.widths}
        found[name] = cross_width(rows, labels, rows, labels)
    return found


if __name__ == "__main__":
    main()
