"""Memory that decoding takes at its peak, for every format and kind of pixels, beside what is reserved for it.

    python benchmarks/image_memory.py

Each image is preprocessed in a process of its own, whose resident memory is reset to what it has and read again
afterwards; the encoded image lies in it before.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from decode import synthetic_photograph
from result_file import Figure, write_result
from sfsc_bundle.crop import Crop
from sfsc_bundle.header import JPEG_FACTOR, MAX_SIDE, ImageHeader, ImageLimits, read_header
from sfsc_bundle.image_formats import available_formats
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import decode_bytes, preprocess
from sfsc_service.engine.decode_memory import DecodeMemory
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings

SERVED = Preprocessing(height=128, width=128)
MACHINES = {"512 MiB": 512 * 2**20, "4 GiB": 4 * 2**30}
CASES = 35
MAX_PIXELS = ImageLimits().max_pixels
LIMITS = ImageLimits(max_bytes=2**30)
CROPS = {"": None, "turned crop": Crop(150, 150, 1200, 1000, 10.0), "crop": Crop(50, 50, 1900, 1400)}


def main() -> None:
    """Measure all, or one in this very process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", type=Path, help="measure this file alone and print its bytes")
    parser.add_argument("--crop", choices=list(CROPS), default="")
    parser.add_argument("--budget", type=int, help="print what a service with so much memory has for one image")
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one.read_bytes(), CROPS[arguments.crop])))
        return
    if arguments.budget is not None:
        print(budget(arguments.budget))
        return
    budgets = {name: int(child("--budget", size)) for name, size in MACHINES.items()}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        for name, data, crop in track(images(arguments.seed), "decoding", total=CASES):
            file.write_bytes(data)
            found[name] = json.loads(child("--one", file, "--crop", crop))
            header = read_header(data, LIMITS)
            found[name]["megapixels"] = {one: largest(header, CROPS[crop], size) for one, size in budgets.items()}
            print(name, found[name], flush=True)
    figures = [
        figure
        for name, one in found.items()
        for figure in (
            Figure(f"{name}: memory at the peak", one["peak_bytes"] / one["pixels"], "bytes per pixel"),
            Figure(
                f"{name}: memory at the peak ÷ reserved", one["peak_bytes"] / one["reserved_bytes"], "", "<= 1"
            ),
        )
    ]
    data = {"images": found, "budgets": budgets}
    print("written to", write_result("image-memory", figures, data, seed=arguments.seed))


def child(*words: object) -> str:
    """What this program prints in a process of its own."""
    command = [sys.executable, __file__, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def largest(header: ImageHeader, crop: Crop | None, budget: int) -> float:
    """The megapixels of the largest image of this kind, 4:3, for which so many bytes are enough."""
    parsed = header.parsed
    encoded = len(parsed.data) / header.pixels
    most = MAX_PIXELS * (JPEG_FACTOR if header.format == "JPEG" else 1)
    fits = 0
    for side in range(1, MAX_SIDE, 16):
        width, height = side, side * 3 // 4 or 1
        scaled = replace(parsed, width=width, height=height, data=b"")
        needed = decode_bytes(ImageHeader(header.format, scaled), SERVED, crop) + encoded * width * height
        if needed <= budget and width * height <= most:
            fits = width * height
    return fits / 1e6


def budget(size: int) -> int:
    """The bytes that one image may take in a service of the demo bundle with so much memory."""
    with tempfile.TemporaryDirectory() as folder:
        service = open_service(Settings(data=Path(folder), memory_bytes=size, threads=2))
        service.close()
    return DecodeMemory(service.memory.decoding, threads=2, timeout_s=0).largest


def measure(data: bytes, crop: Crop | None) -> dict[str, float]:
    """Pixels, bytes that preprocessing takes at its peak, and bytes that are reserved for it."""
    preprocess(_encoded(Image.new("RGB", (8, 8)), "PNG"), SERVED)  # what only the first image costs
    header = read_header(data, LIMITS)
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    preprocess(data, SERVED, LIMITS, crop)
    return {
        "pixels": header.pixels,
        "peak_bytes": _peak() - before,
        "reserved_bytes": decode_bytes(header, SERVED, crop),
    }


def images(seed: int) -> Iterator[tuple[str, bytes, str]]:
    """Name, encoded image and crop of every case: a photograph of 3 megapixels, and flat ones."""
    rgb = Image.open(io.BytesIO(synthetic_photograph(seed))).reduce(2)
    photograph = _encoded(rgb, "JPEG", quality=90)
    grey = rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    palette = rgb.quantize(256)
    yield "JPEG", photograph, ""
    yield "JPEG, crop at full scale", photograph, "turned crop"
    yield "JPEG, progressive", _encoded(rgb, "JPEG", progressive=True, quality=90), ""
    yield "JPEG, progressive 4:4:4", _encoded(rgb, "JPEG", progressive=True, quality=90, subsampling=0), ""
    yield "JPEG, CMYK", _encoded(rgb.convert("CMYK"), "JPEG", quality=90), ""
    for name, image in {"RGB": rgb, "RGBA": rgba, "grey": grey, "grey 16 bit": deep, "palette": palette}.items():
        yield f"PNG, {name}", _encoded(image, "PNG", compress_level=1), ""
    yield "PNG, RGB, crop", _encoded(rgb, "PNG", compress_level=1), "crop"
    yield "PNG, RGBA, turned crop", _encoded(rgba, "PNG", compress_level=1), "turned crop"
    yield "PNG, transparent palette", _encoded(palette, "PNG", transparency=3), ""
    yield "PNG, one bit", _encoded(grey.convert("1"), "PNG"), ""
    yield "GIF", _encoded(palette, "GIF"), ""
    yield "GIF, transparent", _encoded(palette, "GIF", transparency=3), ""
    yield "BMP, RGB", _encoded(rgb, "BMP"), ""
    yield "BMP, RGBA", _encoded(rgba, "BMP"), ""
    yield "WEBP", _encoded(rgb, "WEBP", quality=80, method=0), ""
    yield "WEBP, transparent", _encoded(rgba, "WEBP", quality=80, method=0), ""
    yield "WEBP, lossless", _encoded(rgb, "WEBP", lossless=True, method=0, quality=0), ""
    yield "WEBP, lossless, one colour", _encoded(Image.new("RGB", rgb.size, "red"), "WEBP", lossless=True), ""
    yield "WEBP, animated", _encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)], method=0), ""
    if "TIFF" in available_formats():
        yield "TIFF, RGB", _encoded(rgb, "TIFF"), ""
        yield "TIFF, RGBA, deflate", _encoded(rgba, "TIFF", compression="tiff_adobe_deflate"), ""
        yield "TIFF, one strip, LZW", _encoded(rgb, "TIFF", compression="tiff_lzw", strip_size=2**31 - 1), ""
        yield "TIFF, JPEG", _encoded(rgb, "TIFF", compression="jpeg", quality=90), ""
        yield "TIFF, grey 16 bit, LZW", _encoded(deep, "TIFF", compression="tiff_lzw"), ""
    for kind in ("HEIF", "AVIF"):
        if kind in available_formats():
            fast = {"speed": 10} if kind == "AVIF" else {"enc_params": {"preset": "ultrafast"}}
            yield kind, _encoded(rgb, kind, quality=60, **fast), ""
            yield f"{kind}, transparent", _encoded(rgba, kind, quality=60, **fast), ""
            full = {"subsampling": "4:4:4"} if kind == "AVIF" else {"chroma": 444}
            yield f"{kind}, 4:4:4", _encoded(rgb, kind, quality=60, **full, **fast), ""
    if "HEIF" in available_formats():
        import pillow_heif

        deeper = pillow_heif.from_bytes("RGB;16", rgb.size, (np.asarray(rgb).astype(np.uint16) * 257).tobytes())
        buffer = io.BytesIO()
        deeper.save(buffer, quality=60, chroma=444, **fast)
        yield "HEIF, 10 bit 4:4:4", buffer.getvalue(), ""


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    if format == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _peak() -> int:
    """The largest resident memory since it was reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main()
