"""The bundles that commands find by themselves: the packaged demo, and `models/general` for photographs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from sfsc_bundle.extras import installing
from sfsc_bundle.folder import MANIFEST
from sfsc_service.errors import StartError
from sfsc_service.settings import Settings

__all__ = ["GENERAL", "check_bundle", "general_bundle", "packaged_demo"]

GENERAL = Path("models/general")
ADOPT = ("adopt", "--to", str(GENERAL), "--weights", "efficientnet-lite0")
INSTALL = installing("training,weights")


def packaged_demo() -> Path:
    """The demo bundle that comes with the package: inside of it, or in the checkout that it is installed from."""
    package = Path(__file__).parents[1]
    inside = package / "demo"
    return inside if inside.is_dir() else package.parents[1] / "models" / "demo"


def check_bundle(settings: Settings) -> None:
    """Raises StartError where no bundle was named and the default one, which only a checkout has, is missing."""
    if "bundle" not in settings.model_fields_set and not (settings.bundle / MANIFEST).is_file():
        raise StartError(
            f"bundle: must be given, because there is no {settings.bundle} here; `sfsc demo` serves the one that "
            "comes with the package"
        )


def general_bundle() -> Path:
    """`models/general`; where it is missing, an installed `sfsc-train` makes it and shows its progress.

    Raises:
        StartError: no `sfsc-train` that works is installed, or it fails.
    """
    if (GENERAL / MANIFEST).is_file():
        return GENERAL
    command = _trainer()
    if command is None:
        raise StartError(
            f"{GENERAL}, the bundle for photographs, is missing; {INSTALL}, then here "
            f"sfsc-train {' '.join(ADOPT)} makes it; --bundle serves another one"
        )
    print(f"making {GENERAL}, the bundle for photographs: sfsc-train {' '.join(ADOPT)}", flush=True)
    before = signal.signal(signal.SIGTERM, _stop)  # by default it would end this process and not the other one
    try:
        done = subprocess.run([command, *ADOPT], stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    if done.returncode:
        *_, said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise StartError(f"{GENERAL} could not be made: {said}")
    return GENERAL


def _stop(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _trainer() -> str | None:
    """An `sfsc-train` beside this interpreter or on PATH that has the packages it needs."""
    beside = str(Path(sys.executable).parent)
    for folder in (beside, *os.environ.get("PATH", "").split(os.pathsep)):
        command = shutil.which("sfsc-train", path=folder)
        if command and _works(command):
            return command
    return None


def _works(command: str) -> bool:
    """Every environment with `sfsc` has the command; without the extra `training` it only says what is missing."""
    return subprocess.run([command, "--version"], capture_output=True, check=False).returncode == 0
