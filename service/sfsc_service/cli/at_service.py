"""What the commands on a data folder do where they are given the address of a running service in its place."""

import re
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from rich.console import Console

from sfsc_bundle.local_path import local_path
from sfsc_bundle.progress import counting
from sfsc_service.cli.remote import readable
from sfsc_service.client import Client
from sfsc_service.client.answers import MaintenanceAnswer
from sfsc_service.errors import StartError

__all__ = ["PLACE", "DataPlace", "is_address", "maintained"]

PLACE = "the data folder, or the address of a running service, as in http://127.0.0.1:8000"
LOOK_EVERY_S = 0.5


def is_address(place: str) -> bool:
    """Whether it is that of a service, and no folder."""
    return re.match("https?://", place, re.IGNORECASE) is not None


def _checked(place: str) -> str:
    return readable(place) if is_address(place) else local_path(place)


DataPlace = Annotated[str, AfterValidator(_checked)]
"""PLACE."""


def maintained(
    address: str,
    task: Literal["check", "backup", "compact", "reembed"],
    begin: Callable[[Client], MaintenanceAnswer],
    title: str,
) -> dict[str, Any]:
    """Let the service at an address do something on its data folder, and wait for the result.

    Ctrl-C ends the waiting and not the work.

    Raises:
        ServiceError: it refuses to, or cannot be reached.
        StartError: the work failed.
    """
    with Client(address) as client, counting(Console(stderr=True), title) as progress:
        answer = begin(client)
        while answer["task"] == task:
            if answer["total"]:
                progress(answer["done"], answer["total"])
            time.sleep(LOOK_EVERY_S)
            answer = client.maintenance()
    found = answer[task]
    if found is None:
        raise StartError(f"{task}: the service knows of none any more; it may have been restarted")
    if found["failure"] is not None:
        raise StartError(f"{task}: {found['failure']}")
    return found
