"""What serving needs and what it must never load."""

import subprocess
import sys

import pytest

from sfsc_bundle.extras import installing

FORBIDDEN = ["torch", "torchvision", "timm", "sfsc_training", "sklearn", "matplotlib"]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["sfsc_service.http.app", "sfsc_service.cli.main"])
def test_the_serving_side_loads_no_torch(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(FORBIDDEN)


def test_the_client_needs_none_of_the_service() -> None:
    assert not loaded_by("import sfsc_service.client") & {
        "fastapi",
        "faiss",
        "onnxruntime",
        "numpy",
        "PIL",
        *FORBIDDEN,
    }


def test_where_only_the_client_is_installed_the_command_is_one_sentence() -> None:
    code = (
        "import sys; sys.modules['pydantic_settings'] = None; from sfsc_service.cli.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    needed = f"sfsc: needs pydantic_settings, which is not installed: {installing('service,cpu')}\n"
    assert done.stderr == needed


def test_importing_creates_nothing() -> None:
    """Two apps in one process share nothing; building them opens and reads nothing of the gallery's."""
    code = (
        "import threading\n"
        "from sfsc_service.http.app import create_app\n"
        "from sfsc_service.settings import Settings\n"
        "one, two = (create_app(Settings(bundle='/nowhere', data='/nowhere')) for _ in range(2))\n"
        "assert one.state.metrics.registry is not two.state.metrics.registry\n"
        "print(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["1"]
