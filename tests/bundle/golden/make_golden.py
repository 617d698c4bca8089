"""Make the images of this folder and `expected.npz`, what preprocessing must turn them into.

Every expectation is computed here with numpy from the definition (EXIF's table of sides, alpha over white,
16 → 8 bits, CMYK → RGB, the triangle filter), never by the code under test.

    python tests/bundle/golden/make_golden.py
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent
EXPECTED = FOLDER / "expected.npz"
RESIZED = (40, 24)  # height, width: taller and narrower than the images

Case = tuple[bytes, np.ndarray]


def cases() -> dict[str, Case]:
    """File name → its bytes and the upright RGB image in it, uint8 [H, W, 3]."""
    found: dict[str, Case] = {f"jpeg-orientation-{o}.jpg": _oriented(o) for o in range(1, 9)}
    for make in (_jpegs, _alphas, _palettes, _greys, _others):
        found.update(make())
    return found


def resized(upright: np.ndarray, size: tuple[int, int] = RESIZED) -> np.ndarray:
    """Bilinear in Pillow's sense: a triangle filter, widened by the ratio where the image shrinks."""
    rows, columns = (_triangle(n, m) for n, m in zip(upright.shape[:2], size, strict=True))
    floats = np.einsum("ih,hwc,jw->ijc", rows, upright.astype(np.float64), columns, optimize=True)
    return np.rint(floats).astype(np.uint8)


def oriented_jpeg(upright: np.ndarray, orientation: int) -> bytes:
    """An image stored in another orientation, with EXIF data that say so."""
    return _encode(_stored(upright, orientation), "JPEG", exif=_exif(orientation), **_JPEG)


def large_jpeg(orientation: int) -> Case:
    """A JPEG of 256×384 upright pixels in flat blocks of 64×64."""
    upright = _blocks(3, seed=13).repeat(8, axis=0).repeat(8, axis=1)
    return oriented_jpeg(upright, orientation), upright


def expectations() -> dict[str, np.ndarray]:
    """What stands in `expected.npz`: each file's upright image, and the same resized."""
    uprights = {name: upright for name, (_, upright) in cases().items()}
    return uprights | {f"{name}/resized": resized(upright) for name, upright in uprights.items()}


def _triangle(size: int, wanted: int) -> np.ndarray:
    ratio = size / wanted
    centres = (np.arange(wanted) + 0.5) * ratio
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(ratio, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def _blocks(channels: int, seed: int = 0) -> np.ndarray:
    """Flat 8×8 blocks of random colours, [32, 48, channels]: JPEG at quality 100 keeps them but for rounding."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 6, channels), dtype=np.uint8)
    return colours.repeat(8, axis=0).repeat(8, axis=1)


def _encode(array: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if mode == "CMYK":
        image = Image.frombytes("CMYK", array.shape[1::-1], array.tobytes())
    image.save(buffer, kind, **options)
    return buffer.getvalue()


_JPEG = {"quality": 100, "subsampling": 0}

# EXIF 2.3, tag 0x0112: which side of the scene the stored row 0 and the stored column 0 are.
_SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def _stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    row0, column0 = _SIDES[orientation]
    array = upright if row0 in ("top", "bottom") else upright.swapaxes(0, 1)
    if row0 in ("bottom", "right"):
        array = array[::-1]
    return np.ascontiguousarray(array[:, ::-1] if column0 in ("bottom", "right") else array)


def _exif(orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


def _oriented(orientation: int) -> Case:
    upright = _blocks(3)
    return oriented_jpeg(upright, orientation), upright


def _jpegs() -> dict[str, Case]:
    rgb, cmyk, grey = _blocks(3), _blocks(4, seed=1), _blocks(1, seed=2)
    ink = cmyk.astype(np.float64)
    from_cmyk = np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)
    second = Image.fromarray(255 - rgb)
    return {
        "jpeg-cmyk.jpg": (_encode(cmyk, "JPEG", "CMYK", **_JPEG), from_cmyk),
        "jpeg-grey.jpg": (_encode(grey[..., 0], "JPEG", quality=100), grey.repeat(3, axis=2)),
        "jpeg-progressive.jpg": (_encode(rgb, "JPEG", progressive=True, **_JPEG), rgb),
        "jpeg-two-images.jpg": (
            _encode(rgb, "MPO", save_all=True, append_images=[second], **_JPEG),
            rgb,
        ),
        "jpeg-broken-exif.jpg": (_encode(rgb, "JPEG", exif=_exif(6)[:20] + b"\xff" * 9, **_JPEG), rgb),
    }


def _over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(np.float64)[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


def _alphas() -> dict[str, Case]:
    rgba, la = _blocks(4, seed=3), _blocks(2, seed=4)
    rgba[:8, :, 3], rgba[8:16, :, 3] = 0, 255
    over, grey = _over_white(rgba[..., :3], rgba[..., 3]), _over_white(la[..., :1].repeat(3, axis=2), la[..., 1])
    keyed = _blocks(3, seed=5)
    key = keyed[0, 0]
    return {
        "png-rgba.png": (_encode(rgba, "PNG"), over),
        "webp-rgba.webp": (_encode(rgba, "WEBP", lossless=True, exact=True), over),
        "png-la.png": (_encode(la, "PNG"), grey),
        "png-rgb-key.png": (
            _encode(keyed, "PNG", transparency=tuple(int(part) for part in key)),
            np.where((keyed == key).all(axis=2, keepdims=True), 255, keyed).astype(np.uint8),
        ),
    }


def _palettes() -> dict[str, Case]:
    index = _blocks(1, seed=6)[..., 0] % 16
    palette = np.random.default_rng(7).integers(0, 256, (16, 3), dtype=np.uint8)
    alpha = np.random.default_rng(8).integers(0, 256, 16, dtype=np.uint8)
    plain = palette[index]
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    second = Image.fromarray(15 - index)
    second.putpalette(palette.tobytes())

    def save(kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    holes = np.where((index == 3)[..., None], 255, plain).astype(np.uint8)
    animated = {"save_all": True, "append_images": [second], "duration": 100, "loop": 0}
    return {
        "png-palette.png": (save("PNG"), plain),
        "png-palette-alpha.png": (save("PNG", transparency=alpha.tobytes()), _over_white(plain, alpha[index])),
        "png-palette-key.png": (save("PNG", transparency=3), holes),
        "gif-key.gif": (save("GIF", transparency=3), holes),
        "gif-animated.gif": (save("GIF", **animated), plain),
    }


def _png(width: int, height: int, depth: int, kind: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand, for what Pillow does not write. `rows`: every row with its filter byte 0 in front."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _greys() -> dict[str, Case]:
    deep = np.linspace(0, 65535, 32 * 48).astype(np.uint16).reshape(32, 48)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    eight = np.rint(deep / 65535 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    key = int(deep[5, 7])
    keyed = eight.copy()
    keyed[deep == key] = 255
    bits = _blocks(1, seed=9)[..., 0] > 127
    grey = _blocks(1, seed=10)
    return {
        "png-grey16.png": (_png(48, 32, 16, 0, rows), eight),
        "png-grey16-key.png": (_png(48, 32, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", key))), keyed),
        "png-1bit.png": (_encode(bits, "PNG"), np.where(bits[..., None].repeat(3, 2), 255, 0).astype(np.uint8)),
        "png-grey.png": (_encode(grey[..., 0], "PNG"), grey.repeat(3, axis=2)),
    }


def _others() -> dict[str, Case]:
    rgb = _blocks(3, seed=11)
    second = Image.fromarray(255 - rgb)
    frames = {"save_all": True, "append_images": [second], "duration": 100}
    line = np.random.default_rng(12).integers(0, 256, (4000, 1, 3), dtype=np.uint8)
    dot = np.array([[[200, 100, 50]]], dtype=np.uint8)
    turned = {o: _stored(rgb, o) for o in (6, 8)}
    return {
        "png-rgb.png": (_encode(rgb, "PNG"), rgb),
        "png-orientation-6.png": (_encode(turned[6], "PNG", exif=_exif(6)), rgb),
        "png-animated.png": (_encode(rgb, "PNG", **frames), rgb),
        "webp-rgb.webp": (_encode(rgb, "WEBP", lossless=True), rgb),
        "webp-orientation-8.webp": (_encode(turned[8], "WEBP", lossless=True, exif=_exif(8)), rgb),
        "webp-animated.webp": (_encode(rgb, "WEBP", lossless=True, **frames), rgb),
        "bmp-rgb.bmp": (_encode(rgb, "BMP"), rgb),
        "png-1x1.png": (_encode(dot, "PNG"), dot),
        "png-1x4000.png": (_encode(line, "PNG"), line),
        "png-4000x1.png": (_encode(line.swapaxes(0, 1), "PNG"), line.swapaxes(0, 1)),
    }


def main() -> None:
    """Write every image and `expected.npz`."""
    for name, (data, _) in cases().items():
        (FOLDER / name).write_bytes(data)
    np.savez_compressed(EXPECTED, **expectations())


if __name__ == "__main__":
    main()
