"""`python -m sfsc_vehicles --out FOLDER` writes the set, `… gallery --out FOLDER` a demo gallery."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sfsc_vehicles.dataset import Progress, contact_sheet, write_dataset
from sfsc_vehicles.gallery import write_gallery

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 after one sentence about what was wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        (_gallery if given.what == "gallery" else _dataset)(given)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sfsc_vehicles", description=__doc__)
    add = parser.add_argument
    add("what", nargs="?", choices=("dataset", "gallery"), default="dataset")
    add("--out", type=Path, help="folder to write; what lies in it must be empty")
    add("--seed", type=int, default=0, help="which world of vehicles (default %(default)s)")
    add("--train", type=int, default=400, help="identities to train on (default %(default)s)")
    add("--test", type=int, default=100, help="other identities to test on (default %(default)s)")
    add("--shots", type=int, default=4, help="images per identity and camera (default %(default)s)")
    add("--size", type=int, help="pixels, square images (default 96, gallery 128)")
    add(
        "--twin-share",
        type=float,
        default=0.25,
        help="share whose twin differs in one sticker (default %(default)s)",
    )
    add("--workers", type=int, default=2, help="processes (default %(default)s)")
    add(
        "--contact-sheet",
        type=Path,
        metavar="FILE",
        help="also write an image of twelve identities from each camera",
    )
    add("--identities", type=int, default=72, help="identities of the gallery (default %(default)s)")
    add("--queries", type=int, default=12, help="sample queries of the gallery (default %(default)s)")
    return parser


def _dataset(given: argparse.Namespace) -> None:
    size = 96 if given.size is None else given.size
    if given.out is None and given.contact_sheet is None:
        raise ValueError("--out or --contact-sheet must be given, found neither")
    # An even start keeps both of a pair of twins on one side of the split.
    test_start = given.train + given.train % 2
    for split, count, first in (("train", given.train, 0), ("test", given.test, test_start)) if given.out else ():
        write_dataset(
            given.out,
            given.seed,
            count,
            given.shots,
            size,
            split,
            first=first,
            twin_share=given.twin_share,
            workers=given.workers,
            progress=_printer(split),
        )
    if given.contact_sheet is not None:
        contact_sheet(given.seed, 12, size, first=test_start).save(given.contact_sheet)


def _gallery(given: argparse.Namespace) -> None:
    if given.out is None:
        raise ValueError("--out must be given, found nothing")
    total = write_gallery(
        given.out,
        given.seed,
        given.identities,
        128 if given.size is None else given.size,
        queries=given.queries,
        twin_share=given.twin_share,
        progress=_printer("gallery"),
    )
    print(f"{given.identities} identities, {total / 1e6:.2f} MB")


def _printer(name: str) -> Progress:
    """A line that rewrites itself on a terminal, else one line per tenth."""
    live, tenths = sys.stderr.isatty(), 0

    def show(done: int, total: int) -> None:
        nonlocal tenths
        if live or done * 10 // total > tenths:
            tenths = done * 10 // total
            print(f"{name}: {done}/{total} images", end="\r" if live and done < total else "\n", file=sys.stderr)

    return show


if __name__ == "__main__":
    sys.exit(main())
