"""`sfsc align`: aligning the widths on the gallery's own images, and undoing it."""

from typing import Any, Self

from pydantic import model_validator
from pydantic_settings import CliToggleFlag

from sfsc_service.cli.remote import ServiceCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import setting

__all__ = ["Align"]


class Align(ServiceCommand):
    """Ask a running service to align its widths on images of its own gallery, when it is idle.

    A map for each narrow width is fitted without labels and judged on images that it was not fitted on. Where the
    maps help, new vectors and those in the gallery are multiplied by them; nothing is embedded again.

    example: sfsc align
    example: sfsc align --status
    example: sfsc align --undo
    """

    field: str | None = setting(
        None, "field of metadata", "what names the thing that an image shows; unset: as the service is set"
    )
    status: CliToggleFlag[bool] = setting(False, "flag", "only print how far it is")
    undo: CliToggleFlag[bool] = setting(False, "flag", "undo the alignment, or give up one that was asked for")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if self.status and self.undo:
            raise ValueError("only one of --status and --undo may be given; found both")
        if self.field is not None and (self.status or self.undo):
            raise ValueError(f"--field must not be given with --status or --undo; found {self.field!r}")
        return self

    def run(self) -> None:
        """Ask, undo or look, and print how far it is. Raises ServiceError."""
        with self.client() as client:
            if self.status:
                document = client.alignment()
            else:
                document = client.undo_alignment() if self.undo else client.align(field=self.field)
        if self.as_json:
            self.print_json(document)
        else:
            for line in _lines(dict(document)):
                print(escaped(line))
            if not self.status:
                print("what `sfsc quality --measure` has measured is of before; it measures anew, afterwards")


def _lines(document: dict[str, Any]) -> list[str]:
    fitted, lines = document["fitted"], []
    if fitted is None:
        lines.append(f"not aligned: space {document['space']}")
    else:
        kind = "aligned" if document["in_force"] else "the alignment is being undone"
        lines.append(f"{kind}: space {document['space']}, of the bundle's {document['bundle_space']}")
        lines.append(
            f"fitted {fitted['made']} on {fitted['images']} images; mAP {fitted['before']:.2f} before and "
            f"{fitted['after']:.2f} after, of {fitted['queries']} queries in a gallery of mixed widths"
        )
    match document["state"]:
        case "resting":
            pass
        case "asked" | "measuring" as state:
            lines.append(f"{state}: {document['embedded']} of {document['drawn']} images are embedded")
        case state:
            what = f"{document['converted']} vectors are converted, {document['unchecked']} items to look at"
            lines.append(f"{state}: {what}")
    if document["failure"] is not None:
        lines.append(f"the last attempt failed: {document['failure']}")
    return lines
