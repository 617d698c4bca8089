"""`sfsc check`: whether a data folder is whole; what is not can be repaired."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_bundle.progress import counting
from sfsc_service.cli.folder import locked, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.settings import setting
from sfsc_service.store.embedded.check import CheckReport, check_folder
from sfsc_service.store.embedded.repair import repair_folder

__all__ = ["Check"]

_SHOWN = 20


class Check(PrintingCommand):
    """Check the data folder of a service that does not run: every row, vector and image, and their checksums.

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
        done = list[str]()
        with storage_errors(), locked(self.data):
            report = found = self._check()
            if self.repair:
                done = repair_folder(self.data, found)
                report = self._check() if done else found
        if self.as_json:
            self.print_json(_document(found) | {"repaired": done, "whole": report.whole})
        else:
            _print(found, done, report)
        if not report.whole:
            raise SystemExit(1)

    def _check(self) -> CheckReport:
        with counting(Console(stderr=True), "checked") as progress:
            return check_folder(self.data, progress)


def _document(report: CheckReport) -> dict[str, object]:
    return {
        "items": report.items,
        "images": report.images,
        "vector_files": report.vector_files,
        "findings": [asdict(finding) for finding in report.findings],
    }


def _print(found: CheckReport, done: list[str], report: CheckReport) -> None:
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
