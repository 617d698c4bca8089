"""`sfsc-train shards`: write a folder or a list of images into tar shards, or index shards that are there."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfsc_bundle.progress import bar
from sfsc_training.data.csv_list import list_csv
from sfsc_training.data.findings import Finding
from sfsc_training.data.listing import Listed, Listing
from sfsc_training.data.reader import list_folder
from sfsc_training.data.shards.reader import are_shards, tars_in
from sfsc_training.data.shards.write import index_shards, plan_shards, shards_done, write_shards
from sfsc_training.errors import DataError

__all__ = ["shards_command"]

_MIB = 2**20


def shards_command(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="folder or list of images as --data takes them, or a folder of *.tar"),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="SHARDS", help="folder for the shards; needed where DATA is not of shards"),
    ] = None,
    shard_mib: Annotated[
        int, typer.Option("--shard-mib", metavar="N", min=1, max=2**20, help="largest size of a shard, in MiB")
    ] = 512,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="leave out what cannot be used, instead of an error")
    ] = False,
) -> None:
    """Write images into tar shards in WebDataset's layout, which --data takes; or index shards that are there.

    A training reads single images out of the shards by their index, SHARDS/index.jsonl. It has the same result as
    from the folder or the list. The same command goes on with one that was stopped.
    """
    console = Console(markup=False, emoji=False)
    try:
        if are_shards(data):
            _index(data, to, console, skip_unreadable=skip_unreadable)
        else:
            _write(data, to, shard_mib * _MIB, console, skip_unreadable=skip_unreadable)
    except KeyboardInterrupt:
        command = shlex.join(["sfsc-train", *sys.argv[1:]])
        print(f"sfsc-train: interrupted; go on with: {command}", file=sys.stderr)
        raise typer.Exit(130) from None


def _index(data: Path, to: Path | None, console: Console, *, skip_unreadable: bool) -> None:
    if to is not None:
        raise DataError(f"{data} is of shards already, which are indexed where they are, without --to")
    if not data.is_dir():
        raise DataError(f"an index is for a folder of shards; {data} is one shard, which --data takes as it is")
    with bar(console, "indexing shards", len(tars_in(data))) as progress:
        listing = index_shards(data, skip_unreadable=skip_unreadable, advance=_each(progress.advance))
    _say(console, listing.images, len(tars_in(data)), data, (*listing.found, *listing.notes))


def _write(data: Path, to: Path | None, most_bytes: int, console: Console, *, skip_unreadable: bool) -> None:
    if to is None:
        raise DataError(f"--to must be the folder for the shards of {data}")
    if not data.exists():
        raise DataError(f"{data} does not exist")
    listing: Listing = list_folder(data) if data.is_dir() else list_csv(data)
    plan = plan_shards(listing, most_bytes, skip_unreadable=skip_unreadable)
    done = shards_done(to, plan)
    there = sum(len(plan.shards[name]) for name in done)
    if there:
        console.print(f"{len(done)} of {len(plan.shards)} shards are in {to} already", highlight=False)
    with bar(console, "writing shards", plan.images, done=there) as progress:
        write_shards(plan, to, done, _each(progress.advance))
    images = [one for group in plan.shards.values() for one in group]
    _say(console, images, len(plan.shards), to, (*plan.left_out, *listing.notes))


def _each(advance: Callable[[str | None], None]) -> Callable[[], None]:
    return lambda: advance(None)


def _say(
    console: Console, images: Sequence[Listed], shards: int, folder: Path, findings: Sequence[Finding]
) -> None:
    for finding in findings:
        if finding.names:
            console.print(f"  {finding}", highlight=False, soft_wrap=True)
    identities = len({one.identity for one in images})
    size = sum(path.stat().st_size for path in tars_in(folder)) / 1e6
    console.print(
        f"{len(images)} images of {identities} identities are in {folder}: {size:.1f} MB in "
        f"{shards} shard{'' if shards == 1 else 's'}; next: sfsc-train train RECIPE --data {folder}",
        highlight=False,
        soft_wrap=True,
    )
