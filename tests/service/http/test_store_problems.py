"""Every error of a store that a request can meet has a code of its own in the table of codes."""

from collections.abc import Iterator

import pytest

from sfsc_service.errors import STATUS
from sfsc_service.http.problems import as_problem
from sfsc_service.store import errors


def leaves(kind: type[errors.StoreError]) -> Iterator[type[errors.StoreError]]:
    below = kind.__subclasses__()
    yield from [kind] if not below else [leaf for one in below for leaf in leaves(one)]


REFUSALS = [*leaves(errors.InvalidInputError), *leaves(errors.StoreUnavailableError)]


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.code)
def test_a_store_error_keeps_its_code(kind: type[errors.StoreError]) -> None:
    refused = issubclass(kind, errors.InvalidInputError)
    error = kind("id", "must be a rule", "something") if refused else kind("a message")  # type: ignore[call-arg]
    problem = as_problem(error)
    assert problem.code == kind.code
    assert STATUS[problem.code][0] in ((422,) if refused else (429, 503))
