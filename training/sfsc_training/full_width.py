"""Export a run whose training is not shown to help: its width 1.0 is then the network that it began from.

From a dozen identities a training can end below the pretrained network, at width 1.0 at least: what it has seen of
the world is worth more than what so few can teach. That network then is width 1.0, as it came and with as many
dimensions as it has, and the trained narrower widths are brought to it by closed-form maps (docs/method.md §6).
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sfsc_bundle.folder import Bundle
from sfsc_training.adopt.adopt import adopt
from sfsc_training.adopt.adoption import Adoption
from sfsc_training.adopt.foreign import Foreign, as_foreign, open_foreign
from sfsc_training.adopt.source import Wanted, load_start
from sfsc_training.data.dataset import Dataset
from sfsc_training.export import export
from sfsc_training.run import Run
from sfsc_training.untouched import first_weights, reason_to_keep_untouched, untouched_dimension

__all__ = ["exchange", "export_with_untouched", "reason_to_exchange", "size_of_gallery"]


def reason_to_exchange(run: Run, dataset: Dataset, console: Console) -> str | None:
    """Why a bundle of the run is to have the untouched network at width 1.0; None where it has the trained one.

    A new generation keeps its own, because it promised to find what the one before it embedded; so does a network
    of grey images, which none in colour stands in for.
    """
    if run.compatible_with or run.recipe.network.image_channels != 3:
        return None
    return reason_to_keep_untouched(run, dataset, console)


def exchange(run: Run, dataset: Dataset, reason: str) -> str:
    """What a bundle has in place of the trained network at width 1.0, for this reason, and what that costs."""
    planned, found = run.recipe.network.dimension, untouched_dimension(run.recipe)
    costs = f", with {size_of_gallery(found, planned)}" if found != planned else ""
    narrow = _too_few(run, dataset)
    left_out = f", and leaves out the narrower widths: {narrow}" if narrow and len(run.recipe.widths) > 1 else ""
    what = f"export puts the untouched network at width 1.0{costs}{left_out}"
    return f"{reason}: {what} (--as-trained: the trained one)"


def size_of_gallery(dimension: int, planned: int) -> str:
    """How an embedding of another dimension than the recipe's changes the memory that a gallery takes."""
    found = f"vectors of {dimension:,} numbers, not {planned:,} as planned"
    return f"{found}: {dimension / planned:.3g} times the memory for a gallery"


def _too_few(run: Run, dataset: Dataset) -> str | None:
    """Why narrower widths cannot be mapped: their own embeddings have more dimensions than there are images."""
    images, dimension = len(dataset.train.paths), run.recipe.network.dimension
    if images >= dimension:
        return None
    return f"{images} training images are fewer than the {dimension} dimensions of an embedding"


def export_with_untouched(
    run: Run,
    dataset: Dataset,
    to: Path,
    console: Console,
    *,
    unlabelled: Path | None = None,
    replace_bundle: bool = False,
) -> Bundle:
    """Write the bundle of a run with the network that it began from at width 1.0.

    Narrower widths need as many training images as their own embeddings have dimensions (`network.dimension`,
    whatever the untouched network has); else 1.0 stands alone.

    Raises:
        DataError: there are no test images, an unlabelled image is one of the test or validation split, or an
            image cannot be read.
        ExportError, AdoptionError: a graph does not reproduce its network.
        BundleError: the folder exists and may not be replaced.
    """
    with tempfile.TemporaryDirectory(prefix="sfsc-export-") as folder:
        narrow = []
        if _too_few(run, dataset) is None:
            narrow = _narrow(run, dataset, export(run, dataset, Path(folder) / to.name, console))
        return adopt(
            Adoption([*narrow, _untouched(run)], None, run.recipe.data),
            dataset,
            to,
            console,
            unlabelled=unlabelled if narrow else None,
            unseen="never trained on",
            fixed=True,
            replace_bundle=replace_bundle,
        )


def _narrow(run: Run, dataset: Dataset, trained: Bundle) -> list[Foreign]:
    source = f"{run.recipe.name}, seed {run.recipe.seed}, {run.step} steps"
    licence = dataset.licence or run.recipe.data.licence
    opened = (
        open_foreign(Wanted(part.width, "file", str(trained.folder / part.file), size=_size(run), licence=licence))
        for part in trained.manifest.submodels[:-1]
    )
    return [replace(network, source=source) for network in opened]


def _untouched(run: Run) -> Foreign:
    section = first_weights(run.recipe)
    assert section is not None
    given = section.normalisation
    wanted = Wanted(
        run.recipe.width_names[-1],
        "timm",
        section.backbone,
        mean=None if given is None else given.mean,
        deviation=None if given is None else given.deviation,
    )
    return as_foreign(wanted, load_start(section, _size(run)))


def _size(run: Run) -> tuple[int, int]:
    return run.recipe.data.height, run.recipe.data.width
