"""The graphs of an adoption and the manifest that describes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfsc_bundle.manifest import Adopted, AdoptedModel, Manifest, Normalisation, Preprocessing, Quality, Submodel
from sfsc_training.adopt.adoption import Adoption
from sfsc_training.adopt.compose import opset_of
from sfsc_training.adopt.fit import Fitted
from sfsc_training.adopt.foreign import Foreign
from sfsc_training.adopt.input_format import Size
from sfsc_training.adopt.parity import prove_parity
from sfsc_training.data.dataset import Dataset
from sfsc_training.export import versions_of_packages
from sfsc_training.graph_cost import graph_macs, graph_parameters

__all__ = ["Made", "describe", "files_of", "make_width"]

_UNTOUCHED = Normalisation(mean=(0.0, 0.0, 0.0), deviation=(1 / 255, 1 / 255, 1 / 255))
"""What a graph that takes uint8 is said to do: (pixel / 255 − 0) / (1 / 255)."""


@dataclass(frozen=True, slots=True)
class Made:
    """A graph and its row of the manifest."""

    submodel: Submodel
    content: bytes


def make_width(
    foreign: Foreign, size: Size, values: npt.NDArray[np.float32] | None, pixels: npt.NDArray[np.uint8]
) -> Made:
    """Compose the graph of a width and prove it on images.

    Raises:
        AdoptionError: it does not reproduce the network.
    """
    content = foreign.compose(size, values)
    submodel = Submodel(
        width=foreign.width,
        file=f"w{foreign.width}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        parameters=graph_parameters(content),
        macs=graph_macs(content, pixels[:1]),
        opset=opset_of(foreign.graph),
        normalisation=foreign.input.normalisation or _UNTOUCHED,
        parity=prove_parity(foreign, content, values, pixels),
    )
    return Made(submodel, content)


def files_of(made: Sequence[Made]) -> dict[str, bytes]:
    """Content by file name."""
    return {part.submodel.file: part.content for part in made}


def describe(
    adoption: Adoption, name: str, made: Sequence[Made], fitted: Fitted, quality: Quality, dataset: Dataset
) -> Manifest:
    """The manifest. With a base its space stays, so that its galleries do."""
    old = None if adoption.base is None else adoption.base.manifest
    rows = [*(() if old is None else old.submodels), *(part.submodel for part in made)]
    return Manifest(
        name=name,
        space=f"{name}-{_digest(made)[:12]}" if old is None else old.space,
        compatible_with=() if old is None else old.compatible_with,
        dimension=adoption.dimension,
        preprocessing=Preprocessing(height=adoption.size[0], width=adoption.size[1]),
        submodels=tuple(sorted(rows, key=lambda row: (float(row.width), row.precision))),
        quality=quality,
        alignment=fitted.alignment,
        provenance=_provenance(adoption, fitted, dataset),
    )


def _provenance(adoption: Adoption, fitted: Fitted, dataset: Dataset) -> Adopted:
    models = [
        AdoptedModel(
            width=network.width,
            source=network.source,
            sha256=network.sha256,
            licence=network.licence,
            map=fitted.kind if network.width in fitted.maps else "none",
        )
        for network in adoption.networks
    ]
    extends = None
    if adoption.base is not None:
        before = adoption.base.manifest.provenance
        extends = adoption.base.manifest.space
        if isinstance(before, Adopted):
            models = [*before.models, *models]
            extends = before.extends
    return Adopted(
        models=tuple(models),
        extends=extends,
        data_sha256=dataset.sha256,
        versions=versions_of_packages(),
        data_licence=dataset.licence or adoption.section.licence,
    )


def _digest(made: Sequence[Made]) -> str:
    return hashlib.sha256("".join(part.submodel.sha256 for part in made).encode()).hexdigest()
