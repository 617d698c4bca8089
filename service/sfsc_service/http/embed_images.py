"""Embed the images of one request: all of them, or an error that says which one failed."""

from sfsc_bundle.crop import Crop
from sfsc_bundle.errors import ImageError
from sfsc_service.engine.embedder import Arrival, EmbeddedImage, Embedder
from sfsc_service.engine.policy import Budget
from sfsc_service.http.problems import image_problem
from sfsc_service.http.together import together

__all__ = ["embed_images"]


async def embed_images(
    embedder: Embedder, images: list[bytes], places: list[str], budget: Budget, crop: Crop | None, arrival: Arrival
) -> list[EmbeddedImage]:
    """The vectors of encoded images, in their order.

    Args:
        places: what to call each image in an error, such as image[2].

    Raises:
        Problem: as `Embedder.embed`, and for an image that is not accepted.
    """
    if len(images) == 1:
        return [await _embed(embedder, images[0], places[0], budget, crop, arrival)]
    # They begin one right after the other, so a swap of bundles cannot come between two of them.
    return await together(
        _embed(embedder, image, place, budget, crop, arrival) for image, place in zip(images, places, strict=True)
    )


async def _embed(
    embedder: Embedder, image: bytes, place: str, budget: Budget, crop: Crop | None, arrival: Arrival
) -> EmbeddedImage:
    try:
        return await embedder.embed(image, budget, arrival, crop=crop)
    except ImageError as error:
        raise image_problem(error, place) from error
