"""Which of image, vector and id a call brings, and what may go with each."""

from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import CallerVector
from sfsc_service.http.schemas import BudgetOptions, ItemOptions, SearchOptions

__all__ = ["caller_vector", "one_source", "refuse_budget"]

LIMITS = ("latency_ms", "gflops", "deadline_ms", "min_quality")


def one_source(**present: bool) -> str:
    """The only one that is there. Raises Problem: invalid_parameter where none is, or several are."""
    found = [name for name, there in present.items() if there]
    if len(found) != 1:
        names = ", ".join(present)
        raise Problem(
            "invalid_parameter",
            f"{found[1] if found else next(iter(present))}: exactly one of {names} is required, "
            f"found {' and '.join(found) or 'none'}",
            found[1] if found else next(iter(present)),
        )
    return found[0]


def caller_vector(options: SearchOptions | ItemOptions) -> CallerVector:
    """The vector of a call, with the width and space it cannot do without."""
    assert options.vector is not None
    refuse_budget(options, "vector")
    if options.width is None:
        raise Problem("invalid_parameter", "width: is required with a vector, found none", "width")
    if options.space is None:
        raise Problem("invalid_parameter", "space: is required with a vector, found none", "space")
    return CallerVector(options.vector, options.width, options.space)


def refuse_budget(options: BudgetOptions, source: str, *further: str) -> None:
    """A limit on computing means nothing where nothing is computed."""
    for name in (*LIMITS, *further):
        if getattr(options, name) is not None:
            raise Problem("invalid_parameter", f"{name}: does not go with {source}, nothing is embedded", name)
