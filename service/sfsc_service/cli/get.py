"""`sfsc get`: one item of a running service, and its image."""

import json
from pathlib import Path

from pydantic_settings import CliPositionalArg
from rich.console import Console

from sfsc_service.cli.remote import GalleryCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.errors import StartError
from sfsc_service.settings import setting

__all__ = ["Get"]


class Get(GalleryCommand):
    """Show one item of a running service; with --image, write its image to a file.

    example: sfsc get cat/1.jpg
    example: sfsc get cat/1.jpg --image cat.jpg
    """

    id: CliPositionalArg[str] = setting(..., "id", "the item's id")
    image: Path | None = setting(None, "file", "where to write the item's image; unset: nowhere")

    def run(self) -> None:
        """Print the item. Raises ServiceError; StartError where the image cannot be written."""
        with self.client() as client:
            item = client.get(self.id)
            if self.image is not None:
                data = client.image(self.id)
                try:
                    self.image.write_bytes(data)
                except OSError as error:
                    raise StartError(f"image: cannot be written to {self.image}: {error.strerror}") from error
        if self.as_json:
            self.print_json(item)
            return
        console = Console()
        for name, value in item.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            console.print(escaped(f"{name:<12} {shown}"), markup=False, highlight=False, soft_wrap=True)
