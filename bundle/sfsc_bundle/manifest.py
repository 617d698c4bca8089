"""`manifest.json`: what a bundle says of itself.

Frozen models; an unknown field or another schema version is an error, never ignored.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from sfsc_bundle.widths import canonical_width

__all__ = ["SCHEMA_VERSION", "Manifest", "Parity", "Preprocessing", "Provenance", "Quality", "Submodel"]

SCHEMA_VERSION: Literal[1] = 1

Width = Annotated[str, AfterValidator(canonical_width)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,94}\.onnx$")]
Points = Annotated[float, Field(ge=0, le=100)]
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


class Parity(_Model):
    """The worst difference found at export, over real images, against the network that was trained."""

    sliced_max_abs: float = Field(ge=0, description="sliced static module against the switchable network")
    onnx_min_cosine: float = Field(le=1.0001, description="ONNX graph against the sliced static module")
    pictures: int = Field(ge=1)


class Submodel(_Model):
    """One width: a plain static graph, dynamic in the batch only."""

    width: Width
    file: FileName
    sha256: Sha256
    precision: Literal["float32"] = "float32"
    parameters: int = Field(gt=0)
    macs: int = Field(gt=0, description="multiply-accumulates for one image; FLOPs are twice that")
    opset: int = Field(ge=17)
    parity: Parity


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

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.widths)
        for name in ("mean_ap", "rank1"):
            matrix: Matrix = getattr(self, name)
            if len(matrix) != size or any(len(row) != size for row in matrix):
                raise ValueError(f"quality.{name} must be {size}×{size}, one row and column per width")
        return self


class Provenance(_Model):
    """What is needed to make this bundle again."""

    recipe: dict[str, Any]
    recipe_sha256: Sha256
    data_sha256: Sha256
    seed: int
    steps: int = Field(ge=0)
    versions: dict[str, str]
    data_licence: str


class Manifest(_Model):
    """The whole manifest. `submodels` are in ascending order of width; the last one is the full network."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    space: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="id of the embedding space")
    compatible_with: tuple[str, ...] = ()
    dimension: int = Field(ge=2, le=8192)
    preprocessing: Preprocessing
    submodels: tuple[Submodel, ...] = Field(min_length=1, max_length=16)
    quality: Quality
    provenance: Provenance

    @field_validator("submodels")
    @classmethod
    def _ascending(cls, submodels: tuple[Submodel, ...]) -> tuple[Submodel, ...]:
        ratios = [float(submodel.width) for submodel in submodels]
        if ratios != sorted(set(ratios)):
            raise ValueError(f"submodels must be in ascending order of width without repeats, found {ratios}")
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
