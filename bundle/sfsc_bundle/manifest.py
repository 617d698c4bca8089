"""The models of `manifest.json`, which describes a bundle.

They are frozen; an unknown field or another schema version is an error.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from sfsc_bundle.widths import canonical_width

__all__ = [
    "SCHEMA_VERSION",
    "Adopted",
    "AdoptedModel",
    "Alignment",
    "Manifest",
    "MixedQuality",
    "Normalisation",
    "Parity",
    "Preprocessing",
    "Quality",
    "Submodel",
    "Trained",
]

SCHEMA_VERSION: Literal[2] = 2

Width = Annotated[str, AfterValidator(canonical_width)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,94}\.onnx$")]
Points = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Matrix = tuple[tuple[Points, ...], ...]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Model):
    """How bytes become the graph's input, uint8 [H, W, 3]; scaling and normalisation are inside the graph.

    `version` 2 is what `sfsc_bundle.preprocess` says, step by step.
    """

    version: Literal[2] = 2
    height: int = Field(ge=8, le=2048)
    width: int = Field(ge=8, le=2048)
    resize: Literal["squash"] = "squash"
    interpolation: Literal["bilinear"] = "bilinear"


class Normalisation(_Model):
    """What the graph itself does to the pixels first: luma if it has one channel, /255, − mean, ÷ deviation."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=3)
    deviation: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=3)

    @model_validator(mode="after")
    def _one_or_three(self) -> Self:
        if len(self.mean) != len(self.deviation) or len(self.mean) == 2:
            raise ValueError(
                f"normalisation must have 1 or 3 means and as many deviations, found {len(self.mean)} and "
                f"{len(self.deviation)}"
            )
        return self


class Parity(_Model):
    """The largest differences to the trained network that export measured on real images."""

    sliced_max_abs: float = Field(ge=0, description="sliced static module against the switchable network")
    onnx_min_cosine: float = Field(le=1.0001, description="ONNX graph against the sliced static module")
    images: int = Field(ge=1)


class Submodel(_Model):
    """One width in one precision: a plain static graph, dynamic in the batch only."""

    width: Width
    file: FileName
    sha256: Sha256
    precision: Literal["float32"] = "float32"
    parameters: int = Field(gt=0)
    macs: int = Field(gt=0, description="multiply-accumulates for one image; FLOPs are twice that")
    opset: int = Field(ge=17)
    parity: Parity


class MixedQuality(_Model):
    """Retrieval quality in a gallery of mixed widths, by query width; see `sfsc_bundle.mixed_gallery`."""

    draws: int = Field(ge=2, description="galleries whose items have widths drawn at random")
    mean_ap: tuple[Points, ...] = Field(description="mAP in points, mean over the draws")
    mean_ap_spread: tuple[Points, ...] = Field(description="standard deviation over the draws")
    rank1: tuple[Points, ...]
    rank1_spread: tuple[Points, ...]
    shares: tuple[Share, ...] = Field(
        description="shares of full-width items; the others have the narrowest width"
    )
    curve: Matrix = Field(description="mAP in points at each of the shares, by query width")

    def rows(self) -> tuple[tuple[float, ...], ...]:
        """Every list that has a figure per query width."""
        return self.mean_ap, self.mean_ap_spread, self.rank1, self.rank1_spread

    @model_validator(mode="after")
    def _one_row_per_share(self) -> Self:
        if len(self.curve) != len(self.shares):
            raise ValueError(f"quality.mixed.curve must have {len(self.shares)} rows, found {len(self.curve)}")
        return self


class Quality(_Model):
    """Retrieval quality on identities never trained on; rows are query widths, columns gallery widths."""

    dataset: str
    protocol: str
    widths: tuple[Width, ...]
    mean_ap: Matrix = Field(description="mAP in points")
    rank1: Matrix = Field(description="rank-1 in points")
    queries: int = Field(ge=1)
    gallery: int = Field(ge=1)
    skipped_queries: int = Field(ge=0, description="queries without a valid match")
    mixed: MixedQuality = Field(description="the same queries against galleries of mixed widths")

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.widths)
        for name in ("mean_ap", "rank1"):
            matrix: Matrix = getattr(self, name)
            if len(matrix) != size or any(len(row) != size for row in matrix):
                raise ValueError(f"quality.{name} must be {size}×{size}, one row and column per width")
        if any(len(row) != size for row in (*self.mixed.rows(), *self.mixed.curve)):
            raise ValueError(f"quality.mixed must have {size} figures in every row, one per query width")
        return self


class Alignment(_Model):
    """The closed form that brought the widths into one space after training; it is part of the graphs.

    A = (1 − ridge_share) · base + ridge_share · ridge; see docs/method.md. `base` None: nothing was changed.
    """

    base: Literal["procrustes", "least-squares"] | None
    ridge_share: Share = 0.0
    strength: float = Field(0.0, ge=0, description="λ of ridge and least squares")
    images: int = Field(0, ge=0, description="training images that it was fitted on")
    identities: int = Field(0, ge=0, description="their identities")
    unlabelled: int = Field(0, ge=0, description="further images, of which no identity was known")
    chosen_by: str = Field("", description="what the method was chosen on")
    before: Points | None = Field(None, description="mAP of the mixed gallery there, without alignment")
    after: Points | None = Field(None, description="and with it")


class Trained(_Model):
    """What is needed to train this bundle again."""

    kind: Literal["trained"] = "trained"
    recipe: dict[str, Any]
    recipe_sha256: Sha256
    data_sha256: Sha256
    seed: int
    steps: int = Field(ge=0)
    versions: dict[str, str]
    data_licence: str


class AdoptedModel(_Model):
    """A network that was trained elsewhere and put into this bundle as one width."""

    width: Width
    source: str = Field(description="file or package that it came from")
    sha256: Sha256 = Field(description="of the file as it came")
    licence: str
    map: Literal["none", "ridge", "least-squares"] = Field(description="what its embeddings were multiplied by")


class Adopted(_Model):
    """Where the networks of this bundle came from, and what their maps were fitted on."""

    kind: Literal["adopted"] = "adopted"
    models: tuple[AdoptedModel, ...] = Field(min_length=1)
    base: str | None = Field(description="the space of the bundle that was extended; None: there was none")
    data_sha256: Sha256
    versions: dict[str, str]
    data_licence: str


class Manifest(_Model):
    """The whole manifest. `submodels` ascend by width; the last one is the full network."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    space: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="id of the embedding space")
    compatible_with: tuple[str, ...] = ()
    dimension: int = Field(ge=2, le=8192)
    preprocessing: Preprocessing
    normalisation: Normalisation
    submodels: tuple[Submodel, ...] = Field(min_length=1, max_length=16)
    quality: Quality
    alignment: Alignment
    provenance: Annotated[Trained | Adopted, Field(discriminator="kind")]

    @field_validator("submodels")
    @classmethod
    def _ascending(cls, submodels: tuple[Submodel, ...]) -> tuple[Submodel, ...]:
        rows = [(float(submodel.width), submodel.precision) for submodel in submodels]
        if rows != sorted(set(rows)):
            raise ValueError(f"submodels must ascend by width and precision without repeats, found {rows}")
        files = [submodel.file for submodel in submodels]
        if len(set(files)) != len(files):
            raise ValueError(f"submodels must have a file each, found {files}")
        return submodels

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.quality.widths != self.widths:
            raise ValueError(
                f"quality.widths must be the submodels' widths {self.widths}, found {self.quality.widths}"
            )
        return self

    @property
    def widths(self) -> tuple[str, ...]:
        """Canonical names, ascending."""
        return tuple(submodel.width for submodel in self.submodels)

    def submodel(self, width: str) -> Submodel:
        """Return the submodel of a canonical width. Raises KeyError where the bundle has no such width."""
        for submodel in self.submodels:
            if submodel.width == width:
                return submodel
        raise KeyError(width)
