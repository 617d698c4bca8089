"""The errors of this package.

SfscError
├── BundleError            a bundle is missing, incomplete, altered or of another schema
├── DeviceError            the device asked for is missing
└── ImageError             an image is refused; `code` is stable
    ├── image_not_recognised    not an image of an accepted format and encoding
    ├── image_too_large         more bytes than the cap
    ├── image_too_many_pixels   more pixels than the cap, or too long a side, seen in the header
    ├── image_damaged           the header is fine, the pixels are not
    └── crop_outside            the crop is not within the image
"""

from typing import Literal

__all__ = ["BundleError", "DeviceError", "ImageCode", "ImageError", "SfscError"]

ImageCode = Literal[
    "image_not_recognised", "image_too_large", "image_too_many_pixels", "image_damaged", "crop_outside"
]


class SfscError(Exception):
    """Base of all; the message is a sentence for whoever sent the input or started the program."""


class BundleError(SfscError):
    """A bundle cannot be opened or written."""


class DeviceError(SfscError):
    """This machine or this build of onnxruntime does not have the device asked for."""


class ImageError(SfscError):
    """An image is refused."""

    def __init__(self, code: ImageCode, message: str) -> None:
        super().__init__(message)
        self.code: ImageCode = code
