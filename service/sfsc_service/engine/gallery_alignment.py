"""The alignment that was fitted on the gallery's own images: a map for each width below the full one.

It makes two spaces of one: that of the bundle, and the aligned one, in which full-width vectors are the same and
narrow ones are multiplied by their map. One of the two is in force: the service embeds in it, and brings vectors
of the other into it. The inverse maps lead back, so nothing but the maps has to be kept.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sfsc_bundle.linear_maps import Doubles, apply_map
from sfsc_bundle.manifest import Manifest, Submodel
from sfsc_bundle.retrieval import Floats

__all__ = ["GalleryAlignment", "aligned_space", "digest_of_maps"]

Maps = Mapping[str, Floats]
"""Width → float32 [D, D], which has an inverse."""

_SPACE_LENGTH = 80


@dataclass(frozen=True, eq=False)
class GalleryAlignment:
    """`own`: the manifest of the bundle, as it is without alignment. `in_force`: whether the aligned space is."""

    own: Manifest
    maps: Maps
    in_force: bool

    @property
    def aligned(self) -> str:
        """The aligned space."""
        return aligned_space(self.own.space, self.maps)

    @property
    def space(self) -> str:
        """The space in force; `other` is the one that it takes vectors from."""
        return self.aligned if self.in_force else self.own.space

    @property
    def other(self) -> str:
        return self.own.space if self.in_force else self.aligned

    @property
    def manifest(self) -> Manifest:
        """The bundle as it is served: the digest of a width that has a map is that of graph and map."""
        compatible_with = (*self.own.compatible_with, self.other)
        update: dict[str, Any] = {"space": self.space, "compatible_with": compatible_with}
        if self.in_force:
            update["submodels"] = tuple(self._mapped(submodel) for submodel in self.own.submodels)
        return self.own.model_copy(update=update)

    def map_of(self, width: str) -> Floats | None:
        """What the output of a width's graph is multiplied by."""
        return self.maps.get(width) if self.in_force else None

    def bring(self, vectors: Floats, width: str, space: str) -> tuple[Floats, str]:
        """Vectors [n, D] of one width, brought into the space in force, and the space that they are then of.

        Those of a third space stay as they are. What has no direction becomes NaN.
        """
        if space != self.other:
            return vectors, space
        if (values := (self.maps if self.in_force else self._inverses).get(width)) is not None:
            vectors = apply_map(vectors, values)
        return vectors, self.space

    @cached_property
    def _inverses(self) -> Mapping[str, Doubles]:
        return {width: np.linalg.inv(values.astype(np.float64)) for width, values in self.maps.items()}

    def _mapped(self, submodel: Submodel) -> Submodel:
        if submodel.name not in self.maps:
            return submodel
        digest = hashlib.sha256(submodel.sha256.encode() + self.maps[submodel.name].tobytes()).hexdigest()
        return submodel.model_copy(update={"sha256": digest})


def digest_of_maps(maps: Maps) -> str:
    """Hex sha256 of widths and maps."""
    digest = hashlib.sha256()
    for width, values in sorted(maps.items()):
        digest.update(width.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def aligned_space(space: str, maps: Maps) -> str:
    """The name of the space that the maps make of `space`."""
    return f"{space[:_SPACE_LENGTH]}.aligned-{digest_of_maps(maps)[:8]}"
