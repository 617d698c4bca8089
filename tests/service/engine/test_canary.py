"""The service's own check goes the whole way and is no request: neither metrics nor predictions count it."""

import asyncio
import re
import time
from collections.abc import Iterator

import pytest

from sfsc_service.engine.embedder import Arrival
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.lifecycle.service import Service, open_service
from sfsc_service.settings import Settings
from tests.service.images import draw_image

OF_REQUESTS = [
    f"sfsc_{name}"
    for name in ("embeddings_total", "deadlines_total", "queue_seconds_count", "preprocess_seconds_count")
]
WIDTH = "0.5"


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    made = open_service(settings)
    yield made
    made.close()


def counted(service: Service, name: str) -> float:
    """The sum of a metric over all its labels."""
    values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", service.metrics.render().decode(), re.MULTILINE)
    assert values or name == "sfsc_deadlines_total", f"{name} does not exist"
    return sum(map(float, values))


def predicted(service: Service) -> list[float]:
    """Arrivals a second that the scheduler of the service expects."""
    scheduler = service.embedder._served.scheduler
    return [flow.per_s for flow in scheduler.flows(time.monotonic())]


@pytest.mark.parametrize("format", ["JPEG", "PNG"], ids=["decoded where it arrives", "decoded in a thread"])
def test_a_canary_counts_nowhere_and_a_request_everywhere(service: Service, format: str) -> None:
    image = draw_image(1, format=format)
    computed = counted(service, "sfsc_batch_images_count")

    async def send(arrivals: int, canary: bool) -> None:
        for _ in range(arrivals):
            embedded = await service.embedder.embed(image, Budget(width=WIDTH), Arrival.now(own=canary))
            assert embedded.vector.shape == (service.manifest.dimension,)

    asyncio.run(send(5, canary=True))
    assert [counted(service, name) for name in OF_REQUESTS] == [0.0] * len(OF_REQUESTS)
    assert predicted(service) == []
    assert counted(service, "sfsc_batch_images_count") == computed + 5, "it was computed all the same"
    asyncio.run(send(5, canary=False))
    assert [counted(service, name) for name in OF_REQUESTS] == [5.0] * len(OF_REQUESTS)
    assert len(predicted(service)) == 1


def test_a_canary_that_is_refused_is_no_missed_limit(service: Service) -> None:
    hopeless = Budget(width=WIDTH, deadline_ms=1e-6)
    for canary, missed in ((True, 0.0), (False, 1.0)):
        with pytest.raises(Problem):
            asyncio.run(service.embedder.embed(draw_image(1), hopeless, Arrival.now(own=canary)))
        assert counted(service, "sfsc_deadlines_total") == missed


def test_the_health_check_is_a_canary(service: Service) -> None:
    asyncio.run(service.health.check())
    assert service.health.not_ready() == []
    assert [counted(service, name) for name in OF_REQUESTS] == [0.0] * len(OF_REQUESTS)
