"""`python -m sfsc_vehicles`: write a data set of toy vehicles, or a demo gallery."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sfsc_vehicles.dataset import Progress, contact_sheet, first_test, write_splits
from sfsc_vehicles.gallery import write_gallery

__all__ = ["main"]

_DESCRIPTION = """Draw a re-identification data set of toy vehicles, or a demo gallery of them.
The same command always draws the same images."""
_EXAMPLES = """examples:
  python -m sfsc_vehicles --out toys                              400 + 100 identities, 24 images each
  python -m sfsc_vehicles --out toys --train 40 --test 20 --shots 2 --size 64
  python -m sfsc_vehicles --contact-sheet sheet.png               only look at some
  python -m sfsc_vehicles gallery --out gallery --identities 30
"""
_TWINS = "share of identities with a twin that differs in one sticker only (default %(default)s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or exits with status 2 after one sentence on stderr."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        (_gallery if given.what == "gallery" else _dataset)(given)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sfsc_vehicles",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "what",
        nargs="?",
        choices=("dataset", "gallery"),
        default="dataset",
        help="dataset (default): OUT/{train,test}/IDENTITY/c{CAMERA}s{SHOT}.jpg; gallery: images of other "
        "identities, sample queries and gallery.json",
    )
    add("--out", type=Path, help="folder to write; it must be new or empty")
    add("--seed", type=int, default=0, help="seed of all identities and images (default %(default)s)")
    add("--size", type=int, help="height and width of the images in pixels (default 96, gallery 128)")
    add("--twin-share", type=float, default=0.25, metavar="SHARE", help=_TWINS)
    group = parser.add_argument_group("dataset").add_argument
    group("--train", type=int, default=400, help="identities to train on (default %(default)s)")
    group("--test", type=int, default=100, help="other identities to test on (default %(default)s)")
    group("--shots", type=int, default=4, help="images per identity and camera; there are 6 (default %(default)s)")
    group("--workers", type=int, default=2, help="processes that draw (default %(default)s)")
    group("--contact-sheet", type=Path, metavar="FILE", help="write an image of 12 test identities x 6 cameras")
    group = parser.add_argument_group("gallery").add_argument
    group("--identities", type=int, default=72, help="identities, one image per camera each (default %(default)s)")
    group("--queries", type=int, default=12, help="sample queries (default %(default)s)")
    return parser


def _dataset(given: argparse.Namespace) -> None:
    size = 96 if given.size is None else given.size
    if given.out is None and given.contact_sheet is None:
        raise ValueError("--out or --contact-sheet is required")
    if given.out is not None:
        write_splits(
            given.out,
            given.seed,
            train=given.train,
            test=given.test,
            shots=given.shots,
            size=size,
            twin_share=given.twin_share,
            workers=given.workers,
            progress=_printer,
        )
    if given.contact_sheet is not None:
        contact_sheet(given.seed, 12, size, first=first_test(given.train)).save(given.contact_sheet)


def _gallery(given: argparse.Namespace) -> None:
    if given.out is None:
        raise ValueError("--out is required")
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
    """Progress on stderr: one line that is rewritten on a terminal, otherwise a line for each tenth."""
    live, tenths = sys.stderr.isatty(), 0

    def show(done: int, total: int) -> None:
        nonlocal tenths
        if live or done * 10 // total > tenths:
            tenths = done * 10 // total
            print(f"{name}: {done}/{total} images", end="\r" if live and done < total else "\n", file=sys.stderr)

    return show


if __name__ == "__main__":
    sys.exit(main())
