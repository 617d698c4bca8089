"""`sfsc widths`: what the widths of a running service, or of a bundle, are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sfsc_bundle.folder import open_bundle
from sfsc_service.cli.remote import ServiceCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import setting

__all__ = ["Widths"]


class Widths(ServiceCommand):
    """Print size, compute and quality of every width: of a bundle, or of what a running service serves.

    example: sfsc widths
    example: sfsc widths models/demo
    """

    bundle: CliPositionalArg[Path | None] = setting(
        None, "folder", "a bundle to look at; unset: the running service's"
    )

    def run(self) -> None:
        """Print the table. Raises BundleError, ServiceError."""
        document = self._of_service() if self.bundle is None else _of_bundle(self.bundle)
        if self.as_json:
            self.print_json(document)
            return
        quality = document["quality"]
        table = Table(
            "width",
            "parameters",
            "GFLOP",
            "mAP to itself",
            "to full",
            "to mixed",
            title=escape(escaped(document["model"])),
        )
        for at, submodel in enumerate(document["widths"]):
            table.add_row(*_row(at, submodel, quality))
        console = Console()
        console.print(table)
        console.print(escaped(f"{quality['dataset']}, {quality['protocol']}"), markup=False)
        if "heal" in document:
            console.print(escaped(_healing(document["heal"])), markup=False)

    def _of_service(self) -> dict[str, Any]:
        with self.client() as client:
            return {**client.widths()}


def _of_bundle(folder: Path) -> dict[str, Any]:
    """The part of a bundle's manifest that a service answers as /widths."""
    manifest = open_bundle(folder).manifest
    widths = [
        {"width": one.name, "precision": one.precision, "parameters": one.parameters, "macs": one.macs}
        for one in manifest.submodels
    ]
    return {
        "model": manifest.name,
        "space": manifest.space,
        "dim": manifest.dimension,
        "widths": widths,
        "quality": manifest.quality.model_dump(mode="json"),
    }


def _row(at: int, submodel: dict[str, Any], quality: dict[str, Any]) -> Sequence[str]:
    mixed = quality["mixed"]
    return (
        escape(escaped(submodel["width"])),
        f"{submodel['parameters']:,}",
        f"{2e-9 * submodel['macs']:.4f}",
        f"{quality['mean_ap'][at][at]:.2f}",
        f"{quality['mean_ap'][at][-1]:.2f}",
        f"{mixed['mean_ap'][at]:.2f} ± {mixed['mean_ap_spread'][at]:.2f}",
    )


def _healing(heal: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in heal["items"].items() if count)
    left = f"{heal['unchecked']} to look at" if heal["unchecked"] else ""
    target = f" to width {heal['target']}" if heal["target"] else ""
    said = ", ".join(filter(None, (heal["state"], left, counts)))
    return f"items healed{target}, of those whose width was chosen for load or budget: {said}"
