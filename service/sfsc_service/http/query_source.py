"""Where a request's vector comes from (an image, a vector or an item's id), and which options may go with it."""

from array import array
from dataclasses import fields
from operator import attrgetter

from sfsc_bundle.crop import Crop
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import ClientVector
from sfsc_service.http.schemas import BudgetOptions, EmbedOptions, VectorOptions

__all__ = ["budget_of", "caller_vector", "crop_of", "refuse_budget", "require_one"]

LIMITS = tuple(field.name for field in fields(Budget))
"""Names of all limits of a budget, `width` among them; each is an option of the same name."""

_limits_of = attrgetter(*LIMITS)


def budget_of(options: BudgetOptions) -> Budget:
    """The budget that a request's options set."""
    return Budget(*_limits_of(options))


def crop_of(options: EmbedOptions | VectorOptions) -> Crop | None:
    """The crop that a request's options set."""
    return None if options.crop is None else Crop(**options.crop.model_dump())


def require_one(**present: bool) -> str:
    """The name of the only source present. Raises Problem: invalid_parameter where there is none or several."""
    found = [name for name, is_present in present.items() if is_present]
    if len(found) != 1:
        blamed = found[1] if found else next(iter(present))
        rule = f"exactly one of {', '.join(present)} is required"
        raise Problem("invalid_parameter", f"{blamed}: {rule}, found {' and '.join(found) or 'none'}", blamed)
    return found[0]


def caller_vector(options: VectorOptions) -> ClientVector:
    """The caller's vector with its width and space. Raises Problem: invalid_parameter where one is missing."""
    assert options.vector is not None
    refuse_budget(options, "vector", allowed=("width",))
    if options.width is None:
        raise Problem("invalid_parameter", "width: is required with a vector, found none", "width")
    if options.space is None:
        raise Problem("invalid_parameter", "space: is required with a vector, found none", "space")
    # A list of numbers takes four times the memory, and many such vectors wait for each other in bulk calls.
    values = options.vector if isinstance(options.vector, str) else array("d", options.vector)
    return ClientVector(values, options.width, options.space)


def refuse_budget(options: VectorOptions, source: str, allowed: tuple[str, ...] = ()) -> None:
    """Check that no limit and no crop is set where nothing is embedded. Raises Problem: invalid_parameter."""
    for name in (*LIMITS, "crop"):
        if name not in allowed and getattr(options, name) is not None:
            raise Problem(
                "invalid_parameter", f"{name}: must not be set with {source}, because nothing is embedded", name
            )
