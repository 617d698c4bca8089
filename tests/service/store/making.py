"""Items for tests, drawn from a seed so that both sides of a comparison can draw them again."""

import numpy as np

from sfsc_service.store.protocol import EncodedImage, Float32, Item

DIMENSION = 16
SPACE = "space-a"
OLD_SPACE = "space-b"
WIDTHS = ("0.25", "0.5", "1.0")


def unit_vectors(seed: int, count: int, dimension: int = DIMENSION) -> Float32:
    """float32 [count, dimension] of unit length."""
    drawn = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    vectors: Float32 = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors


def make_item(identifier: str, seed: int = 0, *, image: bool = False, space: str = SPACE) -> Item:
    rng = np.random.default_rng(seed)
    data = rng.bytes(int(rng.integers(1, 3_000)))
    return Item(
        id=identifier,
        space=space,
        width=WIDTHS[seed % len(WIDTHS)],
        vector=unit_vectors(seed, 1)[0],
        metadata={"seed": seed, "group": f"g{seed % 4}", "place": {"camera": seed % 3}},
        image=EncodedImage(data, "image/png") if image else None,
    )


def make_items(count: int, first_seed: int = 0, prefix: str = "item") -> list[Item]:
    return [make_item(f"{prefix}-{i:05d}", first_seed + i) for i in range(count)]


def shifted(length: float) -> Float32:
    """A vector of this length."""
    vector: Float32 = unit_vectors(1, 1)[0] * np.float32(length)
    return vector
