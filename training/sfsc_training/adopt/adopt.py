"""Adopt networks: embed the data, fit the maps, compose the graphs, prove and measure them, write the bundle."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from sfsc_bundle.folder import Bundle, write_bundle
from sfsc_bundle.manifest import Alignment
from sfsc_bundle.progress import bar
from sfsc_training.adopt.adoption import Adoption, check_costs
from sfsc_training.adopt.describe import describe, files_of, make_width
from sfsc_training.adopt.embed import embed_part
from sfsc_training.adopt.fit import Fitted, fit_maps
from sfsc_training.adopt.foreign import Foreign
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
    fixed: bool = False,
    replace_bundle: bool = False,
) -> Bundle:
    """Write the bundle. Vectors of a base, its graphs and its space stay as they are.

    Args:
        unlabelled: folder with images from where the networks will work.
        unseen: what the manifest says of the test identities.
        fixed: the widest network stays as it is, whatever a map would gain; for an adoption without a base.

    Raises:
        AdoptionError: a wider network costs less than a narrower one, or a graph does not reproduce its network.
        AlignmentError: fewer images than an embedding has dimensions.
        DataError: there are no test images, an unlabelled image is one of the test or validation split, or an
            image cannot be read.
        BundleError: the folder exists and may not be replaced.
    """
    elsewhere = None if unlabelled is None else read_unlabelled(unlabelled, (dataset.validation, dataset.test))
    mapped = adoption.networks[:-1] if fixed else adoption.networks
    _check(adoption, dataset, elsewhere, mapped)
    fitted = _fit(adoption, dataset, elsewhere, mapped, console) if mapped else _AS_IT_IS
    test, pixels = embed_part(adoption, dataset.test, adoption.widths, console)
    aligned = align({width: test.embeddings[width] for width in fitted.maps}, fitted.maps)
    quality = measure_quality(Embedded(test.split, {**test.embeddings, **aligned}), unseen)
    shown = pixels[np.linspace(0, len(pixels) - 1, min(PARITY_IMAGES, len(pixels)), dtype=int)]
    with bar(console, "composing graphs", len(adoption.networks)) as progress:
        made = []
        for network in adoption.networks:
            made.append(make_width(network, adoption.size, fitted.maps.get(network.width), shown))
            progress.advance(f"width {network.width}")
    manifest = describe(adoption, to.name, made, fitted, quality, dataset)
    return write_bundle(to, manifest, adoption.base_files() | files_of(made), replace=replace_bundle)


_AS_IT_IS = Fitted({}, "ridge", Alignment(base=None, chosen_by="given"))


def _check(adoption: Adoption, dataset: Dataset, elsewhere: Split | None, mapped: Sequence[Foreign]) -> None:
    """What can be refused before any image is decoded."""
    if not len(dataset.test.searchable()):
        raise DataError("adopt measures quality on the test split, where no image has another one of its identity")
    if adoption.base is not None or len(adoption.networks) > 1:
        largest = max((network.signature.dimension for network in mapped), default=0)
        if adoption.base is not None:
            largest = max(largest, adoption.dimension)
        for split in (dataset.train, *([] if elsewhere is None else [elsewhere])):
            require_images(len(split.paths), largest)
    check_costs(adoption)


def _fit(
    adoption: Adoption, dataset: Dataset, elsewhere: Split | None, mapped: Sequence[Foreign], console: Console
) -> Fitted:
    labelled, split = _sample(adoption, dataset.train, mapped, console)
    labelled = replace(labelled, identity=split.classes)
    unlabelled = None if elsewhere is None else _sample(adoption, elsewhere, mapped, console)[0]
    validation = None
    if dataset.validation.can_be_scored():
        sample, split = _sample(adoption, dataset.validation, mapped, console)
        validation = Validation(sample, split.labels(), split.query, split.gallery)
    return fit_maps(labelled, unlabelled, validation)


def _sample(adoption: Adoption, split: Split, mapped: Sequence[Foreign], console: Console) -> tuple[Sample, Split]:
    """Embeddings by the networks that get a map and, as the target, by the widest width that gets none."""
    own = [network.width for network in mapped]
    target = [width for width in adoption.widths if width not in own][-1:]
    found, _ = embed_part(adoption, split, (*own, *target), console)
    rows = {width: found.embeddings[width] for width in own}
    return Sample(rows, target=found.embeddings[target[0]] if target else None), found.split
