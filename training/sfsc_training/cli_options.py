"""Options that several commands of `sfsc-train` have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sfsc_bundle.machine import usable_cpus
from sfsc_training.device import Device, check_device

__all__ = [
    "CORES",
    "DataFolder",
    "DeviceOption",
    "OneOrBothSplits",
    "Replace",
    "RunFolder",
    "SplitName",
    "Threads",
    "Timeout",
    "Unlabelled",
    "Workers",
]

CORES = usable_cpus()

DataFolder = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DATA",
        help="images: a folder IDENTITY/IMAGE or {train,test}/IDENTITY/IMAGE, a list FILE.csv with the columns "
        "path,identity, a folder of tar shards, or a published set",
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="run folder that `train` wrote")]
SplitName = Annotated[
    Literal["test", "validation"],
    typer.Option(help="identities to evaluate on; use validation for choices, test once they are made"),
]
OneOrBothSplits = Annotated[
    Literal["test", "validation", "both"],
    typer.Option("--split", help="identities to evaluate on, as in `evaluate`; both: a result for each"),
]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="processor cores to compute on; default: all")]
Workers = Annotated[int, typer.Option(metavar="N", min=0, help="processes that prepare batches; 0: only this one")]
Unlabelled = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="also fit to all images below it: from where the model will work"),
]
Replace = Annotated[bool, typer.Option("--replace", help="replace an existing bundle")]


def _present(device: Device) -> Device:
    check_device(device)
    return device


DeviceOption = Annotated[Device, typer.Option(help="where the network runs", callback=_present)]
"""Refused while the words are read, before a command does or prints anything."""

Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=1, help="with torchrun: after which a process that does not answer is given up"
    ),
]
