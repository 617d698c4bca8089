"""`sfsc widths`: what the widths of a bundle are."""

from pathlib import Path

from pydantic_settings import BaseSettings, CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.table import Table

from sfsc_bundle.folder import open_bundle
from sfsc_service.settings import setting

__all__ = ["Widths"]


class Widths(BaseSettings):
    """Print size, compute and quality of every width of a bundle.

    example: sfsc widths models/demo
    """

    model_config = SettingsConfigDict(env_prefix="SFSC_", env_ignore_empty=True, extra="forbid", frozen=True)

    bundle: CliPositionalArg[Path] = setting(..., "folder", "the bundle to look at")

    def run(self) -> None:
        """Print the table. Raises BundleError."""
        manifest = open_bundle(self.bundle).manifest
        quality = manifest.quality
        table = Table("width", "parameters", "GMAC", "mAP to itself", "to full", "to mixed", title=manifest.name)
        for at, submodel in enumerate(manifest.submodels):
            table.add_row(
                submodel.name,
                f"{submodel.parameters:,}",
                f"{submodel.macs / 1e9:.4f}",
                f"{quality.mean_ap[at][at]:.2f}",
                f"{quality.mean_ap[at][-1]:.2f}",
                f"{quality.mixed.mean_ap[at]:.2f} ± {quality.mixed.mean_ap_spread[at]:.2f}",
            )
        console = Console()
        console.print(table)
        console.print(f"{quality.dataset}, {quality.protocol}", markup=False)
