"""Answers of the service with times of their own, so that what the page shows does not depend on the machine."""

from typing import Any

from playwright.sync_api import Route


def with_medians(medians: list[float]) -> Any:
    """Answers /widths as the service does, but for the median times of the widths."""

    def answer(route: Route) -> None:
        document = route.fetch().json()
        for width, ms in zip(document["widths"], medians, strict=True):
            width["batch_ms"]["1"] = ms
        route.fulfill(json=document)

    return answer


def with_overhead(ms: float) -> Any:
    """Answers /search as the service does, in as much more than the time of the network."""

    def answer(route: Route) -> None:
        document = route.fetch().json()
        document["timing_ms"]["total"] = document["timing_ms"]["compute"] + ms
        route.fulfill(json=document)

    return answer
