"""What every benchmark writes: `benchmarks/results/NAME.json`, one figure per question asked."""

import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.machine import processor

__all__ = ["RESULTS", "Figure", "write_result"]

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("sfsc", "torch", "timm", "onnxruntime", "faiss-cpu", "fastapi", "uvicorn", "numpy", "Pillow")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    `goal`: a comparison such as `<= 1.04`, perhaps followed by `or the interval holds 1`; None where none was set.
    `interval`: the lowest and the highest value that the measurements allow for, where that was found out.
    """

    name: str
    value: float
    unit: str
    goal: str | None = None
    interval: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the value meets the goal."""
        if self.goal is None:
            return None
        comparison, _, held = self.goal.partition(" or the interval holds ")
        if held and self.interval is not None and self.interval[0] <= float(held) <= self.interval[1]:
            return True
        sign, bound = comparison.split()
        compare = {
            "<=": self.value <= float(bound),
            ">=": self.value >= float(bound),
            ">": self.value > float(bound),
            "<": self.value < float(bound),
        }
        return bool(compare[sign])


def write_result(name: str, figures: list[Figure], data: dict[str, Any], *, seed: int | None = None) -> Path:
    """Write one benchmark's result with what is needed to repeat it."""
    document = {
        "name": name,
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *map(_without_folders, sys.argv[1:])]),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": _machine(),
        "seed": seed,
        "figures": [_figure(figure) for figure in figures],
        "data": data,
    }
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False).replace(f"{RESULTS.parents[1].resolve()}/", "")
    write_file(path, f"{text}\n".encode())
    return path


def _without_folders(word: str) -> str:
    """Where something lies on this machine is of no use elsewhere."""
    return Path(word).name if os.path.isabs(word) else word


def _figure(figure: Figure) -> dict[str, Any]:
    entry = asdict(figure) | {"met": figure.met}
    if figure.interval is None:
        del entry["interval"]
    return entry


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
