"""Rendered toy vehicles: a re-identification data set of any size, drawn with numpy and Pillow.

An image is a function of (seed, identity, camera, shot).
"""

from sfsc_vehicles.camera import CAMERAS
from sfsc_vehicles.dataset import contact_sheet, write_dataset, write_splits
from sfsc_vehicles.gallery import write_gallery
from sfsc_vehicles.identity import Identity, Sticker, make_identity
from sfsc_vehicles.render import render, render_jpeg

__all__ = [
    "CAMERAS",
    "Identity",
    "Sticker",
    "contact_sheet",
    "make_identity",
    "render",
    "render_jpeg",
    "write_dataset",
    "write_gallery",
    "write_splits",
]
