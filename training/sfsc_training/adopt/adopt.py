"""Adopt networks: embed the data, fit the maps, compose the graphs, prove and measure them, write the bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from sfsc_bundle.folder import Bundle, write_bundle
from sfsc_bundle.progress import bar
from sfsc_training.adopt.adoption import Adoption, check_costs
from sfsc_training.adopt.describe import describe, files_of, make_width
from sfsc_training.adopt.embed import embed_part
from sfsc_training.adopt.fit import Fitted, fit_maps
from sfsc_training.adopt.parity import PARITY_IMAGES
from sfsc_training.alignment import Sample, Validation, align, require_images
from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.data.unlabelled import read_unlabelled
from sfsc_training.errors import DataError
from sfsc_training.evaluation import Embedded
from sfsc_training.export import measure_quality

__all__ = ["adopt"]


def adopt(
    adoption: Adoption,
    dataset: Dataset,
    to: Path,
    console: Console,
    *,
    unlabelled: Path | None = None,
    unseen: str = "that no map was fitted on",
    replace_bundle: bool = False,
) -> Bundle:
    """Write the bundle. Vectors of a base, its graphs and its space stay as they are.

    Args:
        unlabelled: folder with images from where the networks will work.
        unseen: what the manifest says of the test identities.

    Raises:
        AdoptionError: a wider network costs less than a narrower one, or a graph does not reproduce its network.
        AlignmentError: fewer images than an embedding has dimensions.
        DataError: there are no test images, an unlabelled image is one of the test or validation split, or an
            image cannot be read.
        BundleError: the folder exists and may not be replaced.
    """
    elsewhere = None if unlabelled is None else read_unlabelled(unlabelled, (dataset.validation, dataset.test))
    _check(adoption, dataset, elsewhere)
    fitted = _fit(adoption, dataset, elsewhere, console)
    test, pixels = embed_part(adoption, dataset.test, adoption.widths, console)
    mapped = align({width: test.embeddings[width] for width in fitted.maps}, fitted.maps)
    quality = measure_quality(Embedded(test.split, {**test.embeddings, **mapped}), unseen)
    shown = pixels[np.linspace(0, len(pixels) - 1, min(PARITY_IMAGES, len(pixels)), dtype=int)]
    with bar(console, "composing graphs", len(adoption.networks)) as progress:
        made = []
        for network in adoption.networks:
            made.append(make_width(network, adoption.size, fitted.maps.get(network.width), shown))
            progress.advance(f"width {network.width}")
    manifest = describe(adoption, to.name, made, fitted, quality, dataset)
    return write_bundle(to, manifest, adoption.base_files() | files_of(made), replace=replace_bundle)


def _check(adoption: Adoption, dataset: Dataset, elsewhere: Split | None) -> None:
    """What can be refused before any image is decoded."""
    if not len(dataset.test.searchable()):
        raise DataError("adopt measures quality on the test split, where no image has another one of its identity")
    if adoption.base is not None or len(adoption.networks) > 1:
        largest = max(adoption.dimension, *(network.signature.dimension for network in adoption.networks))
        for split in (dataset.train, *([] if elsewhere is None else [elsewhere])):
            require_images(len(split.paths), largest)
    check_costs(adoption)


def _fit(adoption: Adoption, dataset: Dataset, elsewhere: Split | None, console: Console) -> Fitted:
    labelled, split = _sample(adoption, dataset.train, console)
    labelled = replace(labelled, identity=split.classes)
    unlabelled = None if elsewhere is None else _sample(adoption, elsewhere, console)[0]
    validation = None
    if dataset.validation.can_be_scored():
        sample, split = _sample(adoption, dataset.validation, console)
        validation = Validation(sample, split.labels(), split.query, split.gallery)
    return fit_maps(labelled, unlabelled, validation)


def _sample(adoption: Adoption, split: Split, console: Console) -> tuple[Sample, Split]:
    """Embeddings by the networks and, as the target, by the base's widest width."""
    widest = () if adoption.base is None else adoption.base.manifest.widths[-1:]
    found, _ = embed_part(adoption, split, (*(network.width for network in adoption.networks), *widest), console)
    own = {network.width: found.embeddings[network.width] for network in adoption.networks}
    target = found.embeddings[widest[0]] if widest else None
    return Sample(own, target=target), found.split
