"""`sfsc check`: whether a data folder is whole; what is not can be repaired."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_bundle.progress import counting
from sfsc_service.cli.folder import locked, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.settings import setting
from sfsc_service.store.collections import DEFAULT
from sfsc_service.store.embedded.check import CheckReport, check_folder
from sfsc_service.store.embedded.repair import repair_folder

__all__ = ["Check"]

_SHOWN = 20


class Check(PrintingCommand):
    """Check the data folder of a service that does not run, with its collections: every row, vector and image.

    The exit code is 0 where everything is whole, else 1.

    example: sfsc check data --repair
    """

    data: CliPositionalArg[Path] = setting(..., "folder", "the data folder; also SFSC_DATA")
    repair: CliToggleFlag[bool] = setting(
        False,
        "flag",
        "remove damaged items from the database, keeping what is left of them, and say what was done",
    )

    def run(self) -> None:
        """Check, repair if asked to, print. Raises StoreError, and SystemExit where something is damaged."""
        with storage_errors(), locked(self.data) as folders:
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

    def _checked(self, folder: Path) -> "_Checked":
        report = found = _check(folder)
        done = repair_folder(folder, found) if self.repair else []
        if done:
            report = _check(folder)
        return _Checked(found, done, report)


class _Checked(NamedTuple):
    """What was found in a collection, what was done about it, and what was found then."""

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


def _print(checked: _Checked) -> None:
    found, done, report = checked
    print(f"{found.items} items, {found.images} images, {found.vector_files} files of vectors")
    for finding in found.findings[:_SHOWN]:
        print(f"{finding.kind}: {finding.subject!r}: {finding.detail}")
    if len(found.findings) > _SHOWN:
        kinds = Counter(finding.kind for finding in found.findings[_SHOWN:])
        print("and", ", ".join(f"{count} more of kind {kind}" for kind, count in kinds.items()), "(see --json)")
    for sentence in done:
        print(sentence)
    if report.whole:
        print("everything is whole" if not done else "everything is whole now")
    elif done:
        print("what is left cannot be repaired; restore a backup")
    else:
        print("damaged; --repair goes on without what is damaged, a backup has it")
