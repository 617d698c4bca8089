"""The models of `manifest.json`, which describes a bundle.

They are frozen; an unknown field, a number that is not finite or another schema version is an error.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from sfsc_bundle.text_form import text_form
from sfsc_bundle.widths import canonical_width

__all__ = [
    "SCHEMA_VERSION",
    "Adopted",
    "AdoptedModel",
    "Alignment",
    "BundleName",
    "Joined",
    "JoinedRun",
    "Manifest",
    "MixedQuality",
    "Normalisation",
    "Parity",
    "Preprocessing",
    "Quality",
    "Sha256",
    "Submodel",
    "Trained",
]

SCHEMA_VERSION: Literal[2] = 2

Width = Annotated[str, AfterValidator(canonical_width)]
Sha256 = Annotated[str, text_form(r"[0-9a-f]{64}", "a sha256: 64 hexadecimal digits, 0 to 9 and a to f")]
FileName = Annotated[
    str,
    text_form(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,94}\.onnx",
        "a file name of at most 100 letters (A to Z), digits, ., _ or -, the first a letter or digit, with .onnx "
        "at its end",
    ),
]
Points = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
MAX_COUNT = 2**53
"""The largest count: every one up to here is a float64, too, and has a place in the JSON of any language."""
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Matrix = tuple[tuple[Points, ...], ...]


def _name(most: int) -> AfterValidator:
    rule = f"1 to {most} letters (A to Z), digits, ., _ or -, the first a letter or digit"
    return text_form(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{most - 1}}}", rule)


BundleName = Annotated[str, _name(64)]
SpaceName = Annotated[str, _name(100)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    """What the graph itself does to the pixels first: (pixel / 255 − mean) / deviation, channel by channel.

    A graph with one mean and one deviation first turns the pixels into one channel of luma. This is a note for
    whoever compares networks or trains on; a caller of the graph has nothing to normalise.
    """

    mean: tuple[float, ...] = Field(min_length=1, max_length=3)
    deviation: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, max_length=3)

    @model_validator(mode="after")
    def _one_or_three(self) -> Self:
        if (len(self.mean), len(self.deviation)) not in ((1, 1), (3, 3)):
            raise ValueError(
                "must have a mean and a deviation for one channel or for each of three, "
                f"found {len(self.mean)} and {len(self.deviation)}"
            )
        return self


class Parity(_Model):
    """The largest differences to the trained or adopted network that were measured on real images."""

    sliced_max_abs: float = Field(
        ge=0, description="sliced static module against the switchable network; 0 of an adopted one"
    )
    onnx_min_cosine: float = Field(
        le=1.0001, description="ONNX graph against that module, or the network as it came"
    )
    images: Positive


class Submodel(_Model):
    """One width in one precision: a plain static graph, dynamic in the batch only.

    `normalisation` is each graph's own, because networks that were adopted want what they were trained with.
    """

    width: Width
    file: FileName
    sha256: Sha256
    precision: Literal["float32"] = "float32"
    parameters: Positive
    macs: Positive = Field(description="multiply-accumulates for one image; FLOPs are twice that")
    opset: int = Field(ge=17)
    normalisation: Normalisation
    parity: Parity

    @property
    def name(self) -> str:
        """What requests, costs, metrics and stored items know it by: its width, as every precision is float32."""
        return self.width


class MixedQuality(_Model):
    """Retrieval quality in galleries of mixed widths, one figure per query width in every list.

    It has the fields of `sfsc_bundle.mixed_gallery.MixedGallery`, which says how they are measured.
    """

    draws: int = Field(ge=2, description="galleries whose items have widths drawn at random")
    mean_ap: tuple[Points, ...] = Field(description="mAP in points, mean over the draws")
    mean_ap_spread: tuple[Points, ...] = Field(description="its standard deviation over the draws")
    rank1: tuple[Points, ...] = Field(description="rank-1 in points, mean over the draws")
    rank1_spread: tuple[Points, ...] = Field(description="its standard deviation over the draws")
    shares: tuple[Share, ...] = Field(
        min_length=1, description="shares of full-width items, ascending; the others have the narrowest width"
    )
    curve: Matrix = Field(description="mAP in points at each of the shares")

    @model_validator(mode="after")
    def _one_row_per_share(self) -> Self:
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError(f"shares must ascend without repeats, found {list(self.shares)}")
        if len(self.curve) != len(self.shares):
            raise ValueError(f"curve must have {len(self.shares)} rows, one per share, found {len(self.curve)}")
        return self

    @property
    def lists(self) -> Matrix:
        """Every list that has a figure per query width."""
        return self.mean_ap, self.mean_ap_spread, self.rank1, self.rank1_spread, *self.curve


class Quality(_Model):
    """Retrieval quality on identities never trained on; rows are query widths, columns gallery widths.

    `widths` are the names of the submodels, in the manifest's order.
    """

    dataset: str
    protocol: str
    widths: tuple[Width, ...]
    mean_ap: Matrix = Field(description="mAP in points")
    rank1: Matrix = Field(description="rank-1 in points")
    queries: Positive
    gallery: Positive
    skipped_queries: Count = Field(description="queries without a valid match")
    mixed: MixedQuality = Field(description="the same queries against galleries of mixed widths")

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.widths)
        for name in ("mean_ap", "rank1"):
            matrix: Matrix = getattr(self, name)
            if len(matrix) != size or any(len(row) != size for row in matrix):
                raise ValueError(f"{name} must be {size}×{size}, one row and column per width")
        if any(len(row) != size for row in self.mixed.lists):
            raise ValueError(f"mixed must have {size} figures in every list, one per query width")
        return self


class Alignment(_Model):
    """The linear map of each width, fitted after training, that brings all widths into one space.

    It is part of the graphs: (1 − `ridge_share`) · base + `ridge_share` · ridge, see docs/method.md. Where base is
    null there is none.
    """

    base: Literal["procrustes", "least-squares"] | None
    ridge_share: Share = 0.0
    strength: float = Field(0.0, ge=0, description="λ of ridge and least squares")
    images: Count = Field(0, description="training images that the maps were fitted on")
    identities: Count = Field(0, description="the identities of these images")
    unlabelled: Count = Field(0, description="further images whose identities are not known")
    chosen_by: str = Field("", description="what the method was chosen by")
    before: Points | None = Field(None, description="mAP of the mixed gallery there, without the maps")
    after: Points | None = Field(None, description="the same with the maps")

    @model_validator(mode="after")
    def _fitted_or_none(self) -> Self:
        if self.base is None and self.ridge_share:
            raise ValueError(f"ridge_share must be 0 where there is no map, found {self.ridge_share:g}")
        if self.base is not None and not self.images + self.unlabelled:
            raise ValueError("images or unlabelled must be above 0, because maps are fitted on images; found 0")
        return self


class Trained(_Model):
    """What is needed to train this bundle again."""

    kind: Literal["trained"] = "trained"
    recipe: dict[str, JsonValue]
    recipe_sha256: Sha256
    data_sha256: Sha256
    seed: Count
    steps: Count
    versions: dict[str, str]
    data_licence: str


class JoinedRun(_Model):
    """A run that gave some widths of a bundle."""

    widths: tuple[Width, ...] = Field(min_length=1)
    training: Trained


class Joined(_Model):
    """Runs that were trained apart, and whose widths the alignment brought into one space."""

    kind: Literal["joined"] = "joined"
    runs: tuple[JoinedRun, ...] = Field(min_length=2)


class AdoptedModel(_Model):
    """A network that was trained elsewhere and became one width of this bundle."""

    width: Width
    source: str = Field(description="file or package that it came from")
    sha256: Sha256 = Field(description="of the file as it came")
    licence: str
    map: Literal["none", "ridge", "least-squares"] = Field(description="what its embeddings are multiplied by")


class Adopted(_Model):
    """Where the networks of this bundle came from, and what their maps were fitted on."""

    kind: Literal["adopted"] = "adopted"
    models: tuple[AdoptedModel, ...] = Field(min_length=1)
    extends: str | None = Field(description="space of the bundle that the other widths were taken from, if any")
    data_sha256: Sha256
    versions: dict[str, str]
    data_licence: str


class Manifest(_Model):
    """The whole manifest. `submodels` ascend by width, then precision; the last one is the full network."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: BundleName
    space: SpaceName = Field(description="id of the embedding space")
    compatible_with: tuple[str, ...] = ()
    dimension: int = Field(ge=2, le=8192)
    preprocessing: Preprocessing
    submodels: tuple[Submodel, ...] = Field(min_length=1, max_length=16)
    quality: Quality
    alignment: Alignment
    provenance: Annotated[Trained | Joined | Adopted, Field(discriminator="kind")]

    @field_validator("schema_version", mode="before")
    @classmethod
    def _current(cls, found: object) -> object:
        if found == 1:
            raise ValueError(
                f"must be {SCHEMA_VERSION}, found 1, of an older version; make the bundle anew from its run with "
                "`sfsc-train export RUN --data DIR --replace`"
            )
        return found

    @field_validator("submodels")
    @classmethod
    def _ascending(cls, submodels: tuple[Submodel, ...]) -> tuple[Submodel, ...]:
        rows = [(float(submodel.width), submodel.precision) for submodel in submodels]
        if rows != sorted(set(rows)):
            found = ", ".join(f"{submodel.width} {submodel.precision}" for submodel in submodels)
            raise ValueError(f"must be in ascending order of width and precision without repeats, found {found}")
        files = [submodel.file for submodel in submodels]
        if len(set(files)) != len(files):
            raise ValueError(f"must have a file each, found {', '.join(files)}")
        return submodels

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.quality.widths != self.widths:
            raise ValueError(
                f"quality.widths must be the submodels' names {', '.join(self.widths)}, "
                f"found {', '.join(self.quality.widths)}"
            )
        return self

    @model_validator(mode="after")
    def _every_joined_width_has_one_run(self) -> Self:
        if isinstance(self.provenance, Joined):
            found = [width for run in self.provenance.runs for width in run.widths]
            if sorted(found, key=float) != list(self.widths):
                raise ValueError(
                    f"provenance.runs must name each width of {', '.join(self.widths)} once, "
                    f"found {', '.join(found)}"
                )
        return self

    @model_validator(mode="after")
    def _every_adopted_width_has_an_origin(self) -> Self:
        if not isinstance(self.provenance, Adopted):
            return self
        adopted = [model.width for model in self.provenance.models]
        widths = list(dict.fromkeys(submodel.width for submodel in self.submodels))
        known = set(adopted) <= set(widths) and len(set(adopted)) == len(adopted)
        if not known or (self.provenance.extends is None and len(adopted) < len(widths)):
            raise ValueError(
                f"provenance.models must name each adopted width of {', '.join(widths)} once, and all of "
                f"them where no bundle is extended, found {', '.join(adopted)}"
            )
        return self

    @property
    def widths(self) -> tuple[str, ...]:
        """The names of the submodels, ascending."""
        return tuple(submodel.name for submodel in self.submodels)

    @property
    def graphs(self) -> dict[str, str]:
        """The digests of the submodels by name, ascending."""
        return {submodel.name: submodel.sha256 for submodel in self.submodels}

    def submodel(self, width: str) -> Submodel:
        """Return the submodel of this name. Raises KeyError where the bundle has none."""
        for submodel in self.submodels:
            if submodel.name == width:
                return submodel
        raise KeyError(width)
