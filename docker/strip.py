"""Remove from a virtual environment what a running service never reads.

python docker/strip.py /opt/sfsc
"""

import shutil
import sys
from pathlib import Path

# Test suites, and what is only for compiling against a package or type-checking it.
FOLDERS = {"__pycache__", "tests", "test", "include"}
SUFFIXES = {".pyc", ".pyi", ".pxd", ".h", ".hpp", ".a"}
# onnxruntime's extension module contains this whole library; only programs in other languages link to it.
SECOND_COPIES = ("onnxruntime/capi/libonnxruntime.so*",)


def strip(environment: Path) -> None:
    """Remove those files, and the training packages, whose dependencies are not installed."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    for side in ("sfsc_training", "sfsc_vehicles"):
        shutil.rmtree(packages / side, ignore_errors=True)
    (environment / "bin" / "sfsc-train").unlink(missing_ok=True)
    for pattern in SECOND_COPIES:
        for path in packages.glob(pattern):
            path.unlink()
    for path in sorted(packages.rglob("*")):
        if path.is_dir() and path.name in FOLDERS:
            shutil.rmtree(path)
        elif path.is_file() and path.suffix in SUFFIXES:
            path.unlink()


if __name__ == "__main__":
    strip(Path(sys.argv[1]))
