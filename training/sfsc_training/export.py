"""Export: each width as a static ONNX graph that is checked against the trained network on real images."""

import copy
import hashlib
import io
import logging
import platform
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from sfsc_bundle.folder import Bundle, check_target, write_bundle
from sfsc_bundle.manifest import (
    Alignment,
    Joined,
    JoinedRun,
    Manifest,
    MixedQuality,
    Parity,
    Preprocessing,
    Quality,
    Submodel,
    Trained,
)
from sfsc_bundle.progress import bar
from sfsc_bundle.runner import INPUT, OUTPUT
from sfsc_training.cost import macs, parameters
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.images import load_images
from sfsc_training.data.member import ImageFile
from sfsc_training.errors import DataError, ExportError
from sfsc_training.evaluation import Embedded, embed_joined, evaluate_mixed, evaluate_split
from sfsc_training.joined_runs import JoinedRuns
from sfsc_training.networks.fold import fold_map
from sfsc_training.run import Run

__all__ = ["Servable", "export", "export_joined", "measure_quality", "to_onnx", "versions_of_packages"]

_OPSET = 18
_PARITY_IMAGES = 64
_SLICED_LIMIT = 1e-5
_ONNX_LIMIT = 0.9999


class Servable(nn.Module):
    """What a graph computes: uint8 [n, H, W, 3] → float32 [n, D], rows of unit length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Move channels first, embed, normalise."""
        return F.normalize(self.network(images.permute(0, 3, 1, 2)))


def export(run: Run, dataset: Dataset, folder: Path, console: Console, *, replace: bool = False) -> Bundle:
    """`export_joined` of one run."""
    return export_joined(JoinedRuns((run,)), dataset, folder, console, replace=replace)


def export_joined(
    joined: JoinedRuns, dataset: Dataset, folder: Path, console: Console, *, replace: bool = False
) -> Bundle:
    """Write the bundle of runs, aligned as they are, with the quality that it measures on the test split.

    Raises:
        DataError: there are no test images.
        ExportError: a sub-model differs from the trained network on test images: sliced and switchable embeddings
            by more than 1e-5, or ONNX and sliced ones by a cosine below 0.9999.
        BundleError: the folder exists and `replace` is false.
    """
    check_target(folder, replace)
    if not dataset.test.paths:
        raise DataError("export measures quality and parity on the test split, which has no images")
    recipe, alignment = joined.widest.recipe, joined.widest.alignment
    quality = measure_quality(embed_joined(joined, dataset.test, console), "never trained on")
    paths = _spread(dataset.test.paths, _PARITY_IMAGES)
    pixels = load_images(paths, recipe.data)[:]
    for run in joined.runs:
        run.family.cpu()  # graphs are traced and checked there, wherever the images were embedded
    exported = []
    with bar(console, "exporting", len(joined.sources)) as progress:
        for width, (run, index) in joined.sources.items():
            exported.append(_export_width(run, index, pixels))
            progress.advance(f"width {width}")
    manifest = Manifest(
        name=folder.name,
        space=joined.space,
        compatible_with=joined.compatible_with,
        dimension=recipe.network.dimension,
        preprocessing=Preprocessing(height=recipe.data.height, width=recipe.data.width),
        submodels=tuple(width.submodel for width in exported),
        quality=quality,
        alignment=Alignment(base=None) if alignment is None else alignment.description,
        provenance=_provenance(joined, dataset),
    )
    files = {width.submodel.file: width.content for width in exported}
    return write_bundle(folder, manifest, files, replace=replace)


@dataclass(frozen=True, slots=True)
class _Exported:
    submodel: Submodel
    content: bytes


def _export_width(run: Run, index: int, pixels: npt.NDArray[np.uint8]) -> _Exported:
    name = run.recipe.width_names[index]
    images = torch.from_numpy(pixels)
    switchable = _embed_switchable(run, index, images)
    plain = run.family.sliced(index)
    servable = Servable(fold_map(plain, run.maps[name]) if run.maps else plain).eval()
    with torch.inference_mode():
        sliced = servable(images)
    content = to_onnx(servable, images[:2])
    parity = _parity(name, switchable, sliced, content, pixels)
    submodel = Submodel(
        width=name,
        file=f"w{name}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        parameters=parameters(servable),
        macs=macs(servable, images[:1]),
        opset=_OPSET,
        normalisation=run.family.normalisation,
        parity=parity,
    )
    return _Exported(submodel, content)


@torch.inference_mode()
def _embed_switchable(run: Run, index: int, images: Tensor) -> Tensor:
    embedded = F.normalize(run.family(images.permute(0, 3, 1, 2), index))
    if not run.maps:
        return embedded
    return F.normalize(embedded @ torch.from_numpy(run.maps[run.recipe.width_names[index]]))


def to_onnx(module: nn.Module, example: Tensor) -> bytes:
    """The ONNX graph of a module of one input and one output, dynamic in the first axis only.

    Args:
        example: an input; its first axis is at least 2 long.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            copy.deepcopy(module),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError("the ONNX exporter returned nothing")
    model = program.model_proto
    _forget_sources(model)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()


def _forget_sources(model: onnx.ModelProto) -> None:
    """Drop stack traces and file names of the exporting machine, which are a good part of a small graph."""
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""


def _parity(
    name: str, switchable: Tensor, sliced: Tensor, content: bytes, pixels: npt.NDArray[np.uint8]
) -> Parity:
    difference = float((switchable - sliced).abs().max())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT], {INPUT: pixels})[0]
    cosine = float((found * sliced.numpy()).sum(axis=1).min())
    if difference > _SLICED_LIMIT:
        raise ExportError(
            f"width {name}: sliced and switchable network differ by {difference:.2e} > {_SLICED_LIMIT}"
        )
    if not cosine >= _ONNX_LIMIT:
        raise ExportError(f"width {name}: ONNX and sliced network have a cosine of {cosine:.6f} < {_ONNX_LIMIT}")
    return Parity(sliced_max_abs=difference, onnx_min_cosine=cosine, images=len(pixels))


def _spread(paths: tuple[ImageFile, ...], count: int) -> tuple[ImageFile, ...]:
    step = max(1, len(paths) // count)
    return paths[::step][:count]


def measure_quality(embedded: Embedded, unseen: str) -> Quality:
    """The quality of a bundle on its test split.

    Args:
        unseen: in what sense the identities are new to it.
    """
    cross, mixed = evaluate_split(embedded), asdict(evaluate_mixed(embedded))
    del mixed["widths"]
    return Quality(
        dataset=f"test split, {len(embedded.split.identities)} identities {unseen}",
        protocol=embedded.split.protocol(),
        widths=cross.widths,
        mean_ap=cross.mean_ap,
        rank1=cross.rank1,
        queries=cross.queries,
        gallery=len(embedded.split.gallery),
        skipped_queries=cross.skipped,
        mixed=MixedQuality(**mixed),
    )


def versions_of_packages() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a bundle computes."""
    packages = ("sfsc", "torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy", "Pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _provenance(joined: JoinedRuns, dataset: Dataset) -> Trained | Joined:
    trainings = [_training(run, dataset) for run in joined.runs]
    if len(trainings) == 1:
        return trainings[0]
    return Joined(
        runs=tuple(
            JoinedRun(widths=run.recipe.width_names, training=training)
            for run, training in zip(joined.runs, trainings, strict=True)
        )
    )


def _training(run: Run, dataset: Dataset) -> Trained:
    return Trained(
        recipe=run.recipe.model_dump(mode="json"),
        recipe_sha256=run.recipe.sha256,
        data_sha256=dataset.sha256,
        seed=run.recipe.seed,
        steps=run.step,
        versions=versions_of_packages(),
        data_licence=dataset.licence or run.recipe.data.licence,
    )
