"""`sfsc check`: whether a data folder is whole; what is not can be repaired."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_bundle.progress import counting
from sfsc_service.cli.at_service import PLACE, DataPlace, is_address, maintained
from sfsc_service.cli.counted import counted
from sfsc_service.cli.folder import locked, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import setting
from sfsc_service.store.collections import DEFAULT
from sfsc_service.store.embedded.check import CheckReport, Finding, check_folder
from sfsc_service.store.embedded.repair import REMOVED_ITEMS, removed_by, repair_folder, without_image

__all__ = ["Check"]

_SHOWN = 20


class Check(PrintingCommand):
    """Check a data folder with its collections: every row, every vector and every image.

    The exit code is 0 where everything is whole, else 1. What a running service has open it checks itself, in idle
    moments: give its address, and a key with the scope admin in SFSC_API_KEY where it asks for one.

    What --repair removes is kept: with the service running again, `sfsc add DATA/removed-items.ndjson` embeds the
    images of those items anew.

    example: sfsc check data --repair
    example: sfsc check http://127.0.0.1:8000
    """

    data: CliPositionalArg[DataPlace] = setting(..., "folder or URL", f"{PLACE}; also SFSC_DATA")
    repair: CliToggleFlag[bool] = setting(
        False,
        "flag",
        "remove damaged items from the database, keeping what is left of them, and say what was done; `sfsc add` "
        "puts those back whose images are whole",
    )

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.repair and is_address(self.data):
            raise ValueError("--repair needs a data folder that no service has open; found the address of one")
        return self

    def run(self) -> None:
        """Check, repair if asked to, print.

        Raises StoreError, ServiceError, StartError, and SystemExit where something is damaged.
        """
        if is_address(self.data):
            self._ask_service()
            return
        with storage_errors(), locked(Path(self.data)) as folders:
            checked = {name: self._checked(folder) for name, folder in folders.items()}
        whole = all(one.report.whole for one in checked.values())
        if self.as_json:
            documents = {name: _document(one) for name, one in checked.items()}
            default = documents.pop(DEFAULT)
            self.print_json(default | {"collections": documents, "whole": whole})
        else:
            for name, one in checked.items():
                if name != DEFAULT:
                    print(f"collection {name}:")
                _print(one)
        if not whole:
            raise SystemExit(1)

    def _ask_service(self) -> None:
        found = maintained(self.data, "check", lambda client: client.check(), "checked")
        if self.as_json:
            self.print_json(found)
        else:
            _print_document(found)
            for name, document in found["collections"].items():
                print(escaped(f"collection {name}:"))
                _print_document(document)
            if not found["whole"]:
                print("damaged; while the service does not run, `sfsc check DATA --repair` removes damaged items;")
                print("then, while it runs, `sfsc add DATA/removed-items.ndjson` puts back those with an image")
        if not found["whole"]:
            raise SystemExit(1)

    def _checked(self, folder: Path) -> "_Checked":
        report = found = _check(folder)
        done = repair_folder(folder, found) if self.repair else []
        if done:
            report = _check(folder)
        return _Checked(folder, found, done, report)


class _Checked(NamedTuple):
    """What was found in a collection, what was done about it, and what was found then."""

    folder: Path
    found: CheckReport
    done: list[str]
    report: CheckReport


def _check(folder: Path) -> CheckReport:
    with counting(Console(stderr=True), "checked") as progress:
        return check_folder(folder, progress)


def _document(checked: _Checked) -> dict[str, object]:
    found = checked.found
    return {
        "items": found.items,
        "images": found.images,
        "vector_files": found.vector_files,
        "findings": [asdict(finding) for finding in found.findings],
        "repaired": checked.done,
        "whole": checked.report.whole,
    }


def _print_document(found: dict[str, Any]) -> None:
    """What a service has found in a collection."""
    print(_summary(found["items"], found["images"], found["vector_files"]))
    _print_findings([Finding(**finding) for finding in found["findings"]])
    if found["further_findings"]:
        print(f"and {found['further_findings']} further findings")
    if found["whole"]:
        print("everything is whole")


def _summary(items: int, images: int, vector_files: int) -> str:
    return f"items: {items}, images: {images}, files of vectors: {vector_files}"


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings[:_SHOWN]:
        print(escaped(f"{finding.kind}: {finding.subject!r}: {finding.detail}"))
    if len(findings) > _SHOWN:
        kinds = Counter(finding.kind for finding in findings[_SHOWN:])
        print("and", ", ".join(f"{count} more of kind {kind}" for kind, count in kinds.items()), "(see --json)")


def _print(checked: _Checked) -> None:
    folder, found, done, report = checked
    print(_summary(found.items, found.images, found.vector_files))
    _print_findings(found.findings)
    for sentence in done:
        print(sentence)
    if done and removed_by(found):
        print(f"served again, `sfsc add {folder / REMOVED_ITEMS}` puts back the items whose images are whole")
    if report.whole:
        print("everything is whole" if not done else "everything is whole now")
    elif done:
        print("what is left cannot be repaired; restore a backup")
    else:
        what = f"remove {len(removed_by(found))} of {counted(found.items, 'item')}"
        images = f" and take the image from {without}" if (without := len(without_image(found))) else ""
        print(f"damaged; --repair would {what}{images}; a backup may have what is lost")
