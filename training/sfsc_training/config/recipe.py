"""A recipe: everything that decides the result of one training run."""

import hashlib
import json
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from sfsc_bundle.manifest import BundleName
from sfsc_bundle.widths import canonical_width
from sfsc_training.config.methods import METHODS
from sfsc_training.config.sections import (
    AggregationSection,
    AugmentationSection,
    DataSection,
    EarlyStoppingSection,
    LossSection,
    NetworkSection,
    OptimiserSection,
    SamplerSection,
    Section,
    TeacherSection,
)

__all__ = ["Recipe"]


class Recipe(Section):
    """One training run. Its method is pinned: see `METHODS`."""

    name: BundleName = Field(description="of the run, in reports")
    method: str = Field(
        "sfsc",
        description="a name from the table of methods fixes the settings of that method; any other name is free",
    )
    widths: tuple[float, ...] = Field(
        (0.25, 0.5, 0.75, 1.0), description="ascending, up to 1.0; one alone may be any"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of weights, batches, augmentation and splits")
    data: DataSection = DataSection()
    network: NetworkSection = NetworkSection()
    loss: LossSection = LossSection()
    teacher: TeacherSection | None = None
    aggregation: AggregationSection = AggregationSection()
    optimiser: OptimiserSection = OptimiserSection()
    early_stopping: EarlyStoppingSection | None = None
    sampler: SamplerSection = SamplerSection()
    augmentation: AugmentationSection = AugmentationSection()

    @field_validator("widths")
    @classmethod
    def _check_widths(cls, widths: tuple[float, ...]) -> tuple[float, ...]:
        names = [canonical_width(width) for width in widths]
        if list(widths) != sorted(set(widths)) or not names:
            raise ValueError("must ascend without repeats")
        if len(names) > 1 and names[-1] != "1.0":
            raise ValueError("must end at 1.0 unless there is only one")
        return widths

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_parts()
        for key, value in METHODS.get(self.method, {}).items():
            found = len(self.widths) == 1 if key == "one_width" else self._setting(key)
            if found != value:
                raise ValueError(
                    f"method {self.method} requires {key} = {value!r}; found {found!r}; "
                    "set another method name for other settings"
                )
        return self

    def _check_parts(self) -> None:
        part = self.optimiser.batch // self.optimiser.micro_batches
        if self.sampler.kind == "identities" and part % self.sampler.images:
            raise ValueError(f"sampler.images must divide a batch of {part}; found {self.sampler.images}")
        frozen = self.teacher is not None and self.teacher.full
        if frozen and not (self.network.separate and len(self.widths) > 1):
            raise ValueError("teacher.full needs network.separate = true and a width below 1 to train")
        if self.loss.classifier == "separate" and self.teacher is not None and self.teacher.classifier:
            raise ValueError("teacher.classifier needs loss.classifier = 'shared'; found 'separate'")
        if self.loss.reference == "average" and (frozen or not self.optimiser.ema):
            raise ValueError(
                "loss.reference = 'average' needs averaged weights of a widest width that is trained: "
                "optimiser.ema above 0, and no teacher.full"
            )
        if self.optimiser.full_first and (frozen or len(self.widths) == 1):
            raise ValueError("optimiser.full_first needs several widths, of which the widest is trained")
        if self.loss.contrastive and len(self.widths) == 1:
            raise ValueError("loss.contrastive needs several widths; found one")

    def _setting(self, key: str) -> Any:
        found: Any = self
        for part in key.split("."):
            found = getattr(found, part) if found is not None else None
        return found

    @property
    def width_names(self) -> tuple[str, ...]:
        """Canonical names of the widths, such as "0.25" and "1.0", ascending."""
        return tuple(canonical_width(width) for width in self.widths)

    @property
    def sha256(self) -> str:
        """Digest of the keys that are not at their defaults, so that adding a key to recipes changes no digest."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
