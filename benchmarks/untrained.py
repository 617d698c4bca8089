"""A ResNet-18 at 128 px cropped in every layer, untrained, and images to send to it.

Costs do not depend on the weights, so benchmarks of the service need no training run.
"""

import hashlib
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from sfsc_bundle.folder import Bundle, open_bundle, write_bundle
from sfsc_bundle.manifest import (
    Alignment,
    Manifest,
    MixedQuality,
    Normalisation,
    Parity,
    Preprocessing,
    Quality,
    Submodel,
    Trained,
)
from sfsc_training.config import NetworkSection
from sfsc_training.cost import macs, parameters
from sfsc_training.export import Servable, to_onnx
from sfsc_training.networks.build import make_family
from sfsc_vehicles import CAMERAS, make_identity, render_jpeg

__all__ = ["images", "untrained_bundle", "written"]

SIZE = 128
RATIOS = (0.25, 0.5, 0.75, 1.0)
OPSET = 18
NETWORK = NetworkSection(backbone="resnet18", dimension=128)
NORMALISATION = Normalisation(mean=IMAGENET_DEFAULT_MEAN, deviation=IMAGENET_DEFAULT_STD)


def untrained_bundle(folder: Path, seed: int = 0) -> Bundle:
    """The bundle in `folder`, exported there where it is not yet."""
    if folder.exists():
        return open_bundle(folder)
    torch.manual_seed(seed)
    family = make_family(NETWORK, RATIOS)
    example = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    servables = {f"{ratio}": Servable(family.sliced(at)).eval() for at, ratio in enumerate(RATIOS)}
    graphs = {width: to_onnx(servable, example) for width, servable in servables.items()}
    submodels = tuple(_submodel(width, servables[width], graph) for width, graph in graphs.items())
    files = {submodel.file: graphs[submodel.width] for submodel in submodels}
    return write_bundle(folder, _manifest(submodels, seed), files)


def images(count: int, seed: int = 0) -> list[bytes]:
    """Rendered vehicles as JPEG files of 128×128, every one of another identity."""
    return [render_jpeg(seed, make_identity(seed, n), n % CAMERAS, 0, SIZE) for n in range(count)]


def written(files: list[bytes], folder: Path, suffix: str) -> list[Path]:
    """Write bodies to files of their own."""
    paths = [folder / f"{n:03}.{suffix}" for n in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def _submodel(width: str, servable: Servable, graph: bytes) -> Submodel:
    return Submodel(
        width=width,
        file=f"w{width}.onnx",
        sha256=hashlib.sha256(graph).hexdigest(),
        parameters=parameters(servable),
        macs=macs(servable, torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)),
        opset=OPSET,
        normalisation=NORMALISATION,
        parity=Parity(sliced_max_abs=0.0, onnx_min_cosine=1.0, images=1),
    )


def _manifest(submodels: tuple[Submodel, ...], seed: int) -> Manifest:
    widths = tuple(submodel.width for submodel in submodels)
    none = (0.0,) * len(widths)
    nothing = (none,) * len(widths)
    return Manifest(
        name="untrained-resnet18",
        space="untrained-resnet18",
        dimension=NETWORK.dimension,
        preprocessing=Preprocessing(height=SIZE, width=SIZE),
        submodels=submodels,
        quality=Quality(
            dataset="none: untrained, measured on nothing",
            protocol="none",
            widths=widths,
            mean_ap=nothing,
            rank1=nothing,
            queries=1,
            gallery=1,
            skipped_queries=0,
            mixed=MixedQuality(
                draws=2,
                mean_ap=none,
                mean_ap_spread=none,
                rank1=none,
                rank1_spread=none,
                shares=(1.0,),
                curve=(none,),
            ),
        ),
        alignment=Alignment(base=None),
        provenance=Trained(
            recipe={"network": NETWORK.model_dump(mode="json")},
            recipe_sha256="0" * 64,
            data_sha256="0" * 64,
            seed=seed,
            steps=0,
            versions={"torch": str(torch.__version__)},
            data_licence="none: no data were used",
        ),
    )
