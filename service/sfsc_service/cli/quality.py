"""`sfsc quality`: how well each width searches, and measuring it on the gallery's own images."""

from typing import Any, Self

from pydantic import model_validator
from pydantic_settings import CliToggleFlag
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sfsc_service.cli.remote import ServiceCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import setting

__all__ = ["Quality"]


class Quality(ServiceCommand):
    """Print how well each width finds what each width stored, as a running service knows it, in points of mAP.

    example: sfsc quality
    example: sfsc quality --measure --field identity
    """

    measure: CliToggleFlag[bool] = setting(
        False, "flag", "ask the service to measure it on images of its own gallery, when it is idle"
    )
    field: str | None = setting(
        None, "field of metadata", "what names the thing that an image shows; unset: as the service is set"
    )
    forget: CliToggleFlag[bool] = setting(
        False, "flag", "forget what was measured: the bundle's own figures are in force again"
    )

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if self.measure and self.forget:
            raise ValueError("only one of --measure and --forget may be given; found both")
        if self.field is not None and not self.measure:
            raise ValueError(f"--field may be given only with --measure; found {self.field!r} without it")
        return self

    def run(self) -> None:
        """Print the matrix and who says so. Raises ServiceError."""
        with self.client() as client:
            if self.measure:
                document = client.measure_quality(field=self.field)
            else:
                document = client.forget_quality() if self.forget else client.quality()
        if self.as_json:
            self.print_json(document)
        else:
            _print(dict(document))


def _print(document: dict[str, Any]) -> None:
    quality, mixed = document["quality"], document["quality"]["mixed"]
    widths = [escape(escaped(width)) for width in quality["widths"]]
    table = Table("query", *(f"gallery {width}" for width in widths), "mixed", "rank-1, mixed")
    for at, width in enumerate(widths):
        points = [f"{one:.2f}" for one in (*quality["mean_ap"][at], mixed["mean_ap"][at], mixed["rank1"][at])]
        table.add_row(width, *points)
    console = Console()
    console.print(table)
    measured = document["measured"]
    when = "by the bundle" if measured is None else f"measured {measured['measured']}, {measured['items']} items"
    size = f"{quality['queries']} queries, {quality['gallery']} images"
    console.print(escaped(f"{when}: {quality['dataset']}, {quality['protocol']}; {size}"), markup=False)
    if document["state"] != "resting":
        console.print(escaped(_under_way(document)), markup=False)
    if document["failure"] is not None:
        console.print(escaped(f"the last measurement failed: {document['failure']}"), markup=False)


def _under_way(document: dict[str, Any]) -> str:
    then = "whenever there are no requests; `sfsc quality` shows the figures once it is done"
    if document["drawn"]:
        return f"a measurement is under way, {document['embedded']} of {document['drawn']} images so far, {then}"
    return f"a measurement will be made {then}"
