"""The sections of a recipe. A default never changes: a recipe's digest leaves out what is at its default."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AggregationSection",
    "AugmentationSection",
    "DataSection",
    "EvidentialSection",
    "LossSection",
    "NetworkSection",
    "OptimiserSection",
    "SamplerSection",
    "Section",
    "TeacherSection",
    "VehiclesSection",
]

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VehiclesSection(Section):
    """Rendered vehicles, drawn into the data folder by the first run."""

    seed: int = Field(0, ge=0, lt=2**31)
    train: int = Field(400, ge=2, le=1_000_000, description="identities to train on")
    test: int = Field(100, ge=1, le=1_000_000, description="other identities to test on")
    shots: int = Field(2, ge=1, le=1000, description="images per identity and camera")
    twin_share: Probability = Field(0.25, description="share whose twin differs in one sticker")


class DataSection(Section):
    """Which images are queries, gallery, validation; globs and the pattern see the file name only."""

    height: int = Field(128, ge=8, le=2048)
    width: int = Field(128, ge=8, le=2048)
    reader: Literal["folder", "market1501", "msmt17", "veri776", "vehicleid", "sop", "inshop", "cub"] = "folder"
    subset: str | None = Field(None, description="of vehicleid: the size of the test list")
    check_counts: bool = Field(True, description="published sets: as many images as their authors publish")
    query: str | None = Field(None, description="glob of query images; none: every image is one")
    gallery: str | None = Field(None, description="glob of gallery images; none: all that are no query")
    camera: str | None = Field(None, description="regular expression with one group: the camera")
    validation_share: Share = Field(0.1, description="identities of the training split kept for choices")
    test_share: Share = Field(0.5, description="identities kept for the test where the folder has no split")
    licence: str = Field("unknown", description="goes into the bundle's provenance")
    vehicles: VehiclesSection | None = Field(None, description="draw vehicles into an empty data folder")
    skip_unreadable: bool = Field(
        False, description="leave images out that cannot be read; else they are an error"
    )
    max_cache_gib: float = Field(8.0, gt=0, description="decoded images that may lie in memory")


class NetworkSection(Section):
    """A timm backbone and the embedding on top of it."""

    backbone: str = "resnet18"
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed on to timm.create_model")
    stem: Literal["timm", "3x3"] = Field("timm", description="3x3: one 3×3 convolution, no pooling")
    stem_stride: int = Field(1, ge=1, le=4, description="stride of the 3x3 stem")
    image_channels: Literal[1, 3] = 3
    dimension: int = Field(128, ge=2, le=8192)
    pretrained: bool = Field(False, description="timm's weights for this backbone")
    weights_file: Path | None = Field(None, description="a local file with timm weights for this backbone")
    start: Path | None = Field(
        None, description="a run of the same network, of any image size, whose weights this one starts from"
    )
    separate: bool = Field(False, description="every width is a network of its own: nothing is shared")


class EvidentialSection(Section):
    """The compatible loss of the widths below 1 (method: evidential)."""

    evidence: Literal["softplus", "relu", "exp"] = "exp"
    prior_weight: float | Literal["classes"] = Field("classes", description="W; the prior of a class is W/K")
    kl_weight: float = Field(0.0, ge=0, description="λ, on the KL term")
    anneal_steps: int = Field(0, ge=0, description="λ grows linearly from 0 over these steps")


class LossSection(Section):
    """Base loss on the widest network, compatible loss on the widths below it."""

    logits: Literal["cosine", "linear"] = "cosine"
    scale: float = Field(16.0, gt=0, description="factor on cosine logits; gamma of the circle loss")
    classifier: Literal["shared", "separate"] = Field("shared", description="separate: one for each width")
    class_vectors: Literal["learned", "simplex"] = Field(
        "learned", description="simplex: fixed, as far apart as the dimension allows; the same in every run"
    )
    base: Literal["cross-entropy", "arcface", "cosface", "circle"] = "cross-entropy"
    margin: float | None = Field(None, ge=0, description="of the base loss; radians for arcface; none: the usual")
    label_smoothing: Share = 0.0
    triplet: float = Field(0.0, ge=0, description="weight of a hard triplet term in the base loss")
    triplet_margin: float = Field(0.3, ge=0, le=2, description="in cosine, for every triplet term")
    compatible: Literal["evidential", "cross-entropy", "base", "triplet", "soft-targets"] = Field(
        "evidential",
        description="triplet: anchor from the width, positives and negatives from the widest; soft-targets: the "
        "widest's class probabilities alone (in-place distillation)",
    )
    cross_entropy: float = Field(0.0, ge=0, description="weight of cross-entropy added on the widths below 1")
    distil: float = Field(0.0, ge=0, description="weight of 1 − cosine to the widest width's feature")
    soft_targets: float = Field(0.0, ge=0, description="weight of KL to the widest width's class probabilities")
    temperature: float = Field(1.0, gt=0, description="of both sides of soft targets")
    evidential: EvidentialSection = EvidentialSection()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.base != "cross-entropy" and (self.logits != "cosine" or self.label_smoothing):
            raise ValueError(f"base {self.base} needs logits = 'cosine' and no label_smoothing")
        one = self.class_vectors == "simplex" or self.compatible == "soft-targets" or self.soft_targets > 0
        if one and self.classifier != "shared":
            raise ValueError(
                "soft targets and class_vectors 'simplex' need one classifier for all widths, found 'separate'"
            )
        return self


class TeacherSection(Section):
    """What a finished run (`--teacher`, `--compatible-with`) is used for; it is never trained."""

    full: bool = Field(False, description="its widest network stands, frozen, as this run's width 1")
    classifier: bool = Field(False, description="its classifier stands, frozen, as this run's")
    classify: float = Field(0.0, ge=0, description="weight of cross-entropy through its classifier, every width")
    distil: float = Field(0.0, ge=0, description="weight of 1 − cosine to the mean of its embeddings")


class AggregationSection(Section):
    """How the gradients of the widths become one update of the shared parameters."""

    kind: Literal["projection", "sum", "mean", "mgda", "cagrad", "upgrad"] = "projection"
    scope: Literal["flat", "overlap", "tensor"] = Field(
        "flat", description="over the whole vector, or by itself in each shell between crops or each tensor"
    )
    cagrad_c: float = Field(0.5, ge=0, description="CAGrad's c: how far from the mean the update may go")


class OptimiserSection(Section):
    """Optimiser and schedule: linear warm-up, then a cosine to zero or steps down."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd, Nesterov's where it is above 0")
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[int, ...] = Field((), description="of the step schedule: where lr falls")
    decay: float = Field(0.1, gt=0, le=1, description="of the step schedule: factor at each milestone")
    warmup_steps: int = Field(100, ge=0)
    clip_norm: float = Field(0.0, ge=0, description="0: no clipping")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights, which then are the result")
    steps: int = Field(3000, ge=1)
    batch: int = Field(96, ge=2)
    micro_batches: int = Field(1, ge=1, description="parts of a batch; own statistics, gradients averaged")
    sandwich: int | None = Field(
        None, ge=0, description="widths drawn for each step between the narrowest and the widest; none: all"
    )
    bf16: bool = Field(True, description="network in bfloat16 autocast; losses are always float32")
    float64: bool = Field(False, description="everything in float64, to check the arithmetic")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch % self.micro_batches or self.batch // self.micro_batches < 2:
            raise ValueError(
                f"batch must divide into micro_batches of at least 2, found {self.batch} and {self.micro_batches}"
            )
        if self.bf16 and self.float64:
            raise ValueError("bf16 and float64 exclude each other")
        return self


class SamplerSection(Section):
    """What a batch is made of."""

    kind: Literal["shuffle", "identities"] = "shuffle"
    images: int = Field(4, ge=2, description="images of each identity in a batch of kind identities")


class AugmentationSection(Section):
    """torchvision v2 transforms, drawn anew for every image."""

    flip: Probability = 0.0
    degrees: float = Field(0.0, ge=0, le=180)
    translate: Probability = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = Field(0.0, ge=0, le=90)
    pad_crop: int = Field(0, ge=0, le=256, description="pixels padded on each side before a random crop")
    crop_scale: tuple[float, float] | None = Field(None, description="random resized crop: share of the area")
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    hue: float = Field(0.0, ge=0, le=0.5)
    grey: Probability = 0.0
    erase: Probability = 0.0
    fill: int = Field(255, ge=0, le=255, description="grey level of what comes in from outside")
