"""Fixtures of the tests of connections."""

from collections.abc import Iterator

import pytest

from tests.service.faulty import Held
from tests.service.live import Live


@pytest.fixture
def held(weak: Live) -> Iterator[Held]:
    """Calls at width 0.25 run until they are released."""
    made = Held(weak, "0.25")
    yield made
    made.release()
