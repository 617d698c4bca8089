"""The image with which the service tries out its own path, and the networks that are to take over."""

import functools
import io

from PIL import Image

from sfsc_bundle.preprocess import preprocess
from sfsc_service.engine.networks import Networks

__all__ = ["canary_image", "check_networks"]


@functools.cache
def canary_image() -> bytes:
    """A small PNG: not so small a JPEG that the pool of the decoder would not see it."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def check_networks(networks: Networks) -> None:
    """Embed the canary at every width. Raises Problem: inference_failed."""
    image = preprocess(canary_image(), networks.manifest.preprocessing)
    for width in networks.manifest.widths:
        for vector in networks.run(width, [image]):
            if isinstance(vector, Exception):
                raise vector
