"""Recipes: everything that decides a result, in one TOML file; unknown keys are errors."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfsc_bundle.widths import canonical_width
from sfsc_training.errors import RecipeError

__all__ = [
    "AugmentationSection",
    "DataSection",
    "EvidentialSection",
    "LossSection",
    "NetworkSection",
    "OptimiserSection",
    "Recipe",
    "VehiclesSection",
    "load_recipe",
    "packaged_recipes",
    "parse_recipe",
]

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VehiclesSection(_Section):
    """Rendered vehicles, drawn into the data folder by the first run."""

    seed: int = Field(0, ge=0, lt=2**31)
    train: int = Field(400, ge=2, le=1_000_000, description="identities to train on")
    test: int = Field(100, ge=1, le=1_000_000, description="other identities to test on")
    shots: int = Field(2, ge=1, le=1000, description="pictures per identity and camera")
    twin_share: Probability = Field(0.25, description="share whose twin differs in one sticker")


class DataSection(_Section):
    """Which pictures are queries, gallery, validation; globs and the pattern see the file name only."""

    height: int = Field(128, ge=8, le=2048)
    width: int = Field(128, ge=8, le=2048)
    query: str | None = Field(None, description="glob of query pictures; none: every picture is one")
    gallery: str | None = Field(None, description="glob of gallery pictures; none: all that are no query")
    camera: str | None = Field(None, description="regular expression with one group: the camera")
    validation_share: Share = Field(0.1, description="identities of the training split kept for choices")
    test_share: Share = Field(0.5, description="identities kept for the test where the folder has no split")
    licence: str = Field("unknown", description="goes into the bundle's provenance")
    vehicles: VehiclesSection | None = Field(None, description="draw vehicles into an empty data folder")
    max_cache_gib: float = Field(8.0, gt=0, description="decoded pictures that may lie in memory")


class NetworkSection(_Section):
    """A timm backbone and the embedding on top of it."""

    backbone: str = "resnet18"
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed on to timm.create_model")
    stem: Literal["timm", "3x3"] = Field("timm", description="3x3: one 3×3 convolution, no pooling")
    stem_stride: int = Field(1, ge=1, le=4, description="stride of the 3x3 stem")
    image_channels: Literal[1, 3] = 3
    dimension: int = Field(128, ge=2, le=8192)
    pretrained: bool = Field(False, description="timm's weights for this backbone")
    weights_file: Path | None = Field(None, description="a local file with timm weights for this backbone")


class EvidentialSection(_Section):
    """The compatible loss of the widths below 1 (method: evidential)."""

    evidence: Literal["softplus", "relu", "exp"] = "exp"
    prior_weight: float | Literal["classes"] = Field("classes", description="W; the prior of a class is W/K")
    kl_weight: float = Field(0.0, ge=0, description="λ, on the KL term")
    anneal_steps: int = Field(0, ge=0, description="λ grows linearly from 0 over these steps")


class LossSection(_Section):
    """Base loss on width 1, compatible loss on the widths below it, one classifier for all."""

    logits: Literal["cosine", "linear"] = "cosine"
    scale: float = Field(16.0, gt=0, description="factor on cosine logits")
    label_smoothing: Share = 0.0
    compatible: Literal["evidential", "cross-entropy"] = "evidential"
    evidential: EvidentialSection = EvidentialSection()


class AggregationSection(_Section):
    """How the gradients of the widths become one update of the shared parameters."""

    kind: Literal["projection", "sum"] = "projection"
    scope: Literal["flat", "overlap"] = "flat"


class OptimiserSection(_Section):
    """Optimiser and schedule: linear warm-up, then cosine to zero."""

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(100, ge=0)
    clip_norm: float = Field(0.0, ge=0, description="0: no clipping")
    steps: int = Field(3000, ge=1)
    batch: int = Field(96, ge=2)
    bf16: bool = Field(True, description="network in bfloat16 autocast; losses are always float32")


class AugmentationSection(_Section):
    """torchvision v2 transforms, drawn anew for every picture."""

    flip: Probability = 0.0
    degrees: float = Field(0.0, ge=0, le=180)
    translate: Probability = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = Field(0.0, ge=0, le=90)
    crop_scale: tuple[float, float] | None = Field(None, description="random resized crop: share of the area")
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    hue: float = Field(0.0, ge=0, le=0.5)
    grey: Probability = 0.0
    erase: Probability = 0.0
    fill: int = Field(255, ge=0, le=255, description="grey level of what comes in from outside")


class Recipe(_Section):
    """One training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    method: str = Field("sfsc", description="sfsc is pinned; anything else names itself")
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataSection = DataSection()
    network: NetworkSection = NetworkSection()
    loss: LossSection = LossSection()
    aggregation: AggregationSection = AggregationSection()
    optimiser: OptimiserSection = OptimiserSection()
    augmentation: AugmentationSection = AugmentationSection()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [canonical_width(width) for width in self.widths]
        if list(self.widths) != sorted(set(self.widths)) or names[-1:] != ["1.0"]:
            raise ValueError(f"widths must ascend without repeats and end at 1.0, found {list(self.widths)}")
        if self.method == "sfsc":
            self._check_pinned()
        return self

    def _check_pinned(self) -> None:
        pinned = (
            self.loss.compatible == "evidential"
            and self.loss.evidential.prior_weight == "classes"
            and self.aggregation.kind == "projection"
            and self.aggregation.scope == "flat"
        )
        if not pinned:
            raise ValueError(
                "method sfsc is the evidential loss with prior_weight = 'classes' and the flat projection; "
                "give anything else a method name of its own"
            )

    @property
    def width_names(self) -> tuple[str, ...]:
        """Canonical names of the widths, ascending."""
        return tuple(canonical_width(width) for width in self.widths)

    @property
    def sha256(self) -> str:
        """Digest of everything in the recipe."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    here = Path(__file__).parent
    folder = here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path or by the name of a packaged one.

    Args:
        settings: changes in the form `section.key=value`, the value in TOML or a bare string.

    Raises:
        RecipeError: not found, not TOML, an unknown key or a value out of range.
    """
    path = Path(name)
    if not path.is_file():
        packaged = packaged_recipes()
        if name not in packaged:
            raise RecipeError(f"no recipe {name!r}: it is neither a file nor one of {', '.join(packaged)}")
        path = packaged[name]
    try:
        document = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    for setting in settings:
        _apply(document, setting)
    return parse_recipe(document, str(path))


def parse_recipe(document: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Validate a recipe. Raises RecipeError that names the key."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the recipe"
        what = "is not a known key" if first["type"] == "extra_forbidden" else first["msg"]
        found = (
            "" if first["type"] in ("extra_forbidden", "missing", "value_error") else f", found {first['input']!r}"
        )
        raise RecipeError(f"{source}: {where}: {what}{found}") from error


def _apply(document: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise RecipeError(f"a setting must read section.key=value, found {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, dict):
            raise RecipeError(f"{key}: {section} is a value, not a section")
    document[last] = value
