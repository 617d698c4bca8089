"""What `make demo` would do, with and without images of one's own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# By these a make that was called by another one behaves and speaks otherwise.
OF_THE_CALLER = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("photos", "my photos"):
        (tmp_path / name).mkdir()
    return tmp_path


def planned(checkout: Path, *words: str) -> str:
    command = ["make", "--dry-run", "demo", *words]
    own = {name: value for name, value in os.environ.items() if name not in OF_THE_CALLER}
    return subprocess.run(command, cwd=checkout, env=own, capture_output=True, text=True, check=True).stdout


def test_images_as_phones_write_them_can_be_decoded(checkout: Path) -> None:
    assert "--editable '.[service,cpu,heif]'" in planned(checkout)


def test_own_images_need_the_environment_for_training_until_their_bundle_is_there(checkout: Path) -> None:
    assert ".venv-train/bin/pip" not in planned(checkout)
    first = planned(checkout, "IMAGES=my photos")
    assert ".venv-train/bin/pip install" in first
    assert first.splitlines()[-1].endswith(".venv-serve/bin/sfsc demo --images 'my photos'")
    (checkout / "models" / "general").mkdir(parents=True)
    (checkout / "models" / "general" / "manifest.json").write_text("{}")
    assert ".venv-train/bin/pip" not in planned(checkout, "IMAGES=photos")


def test_a_folder_that_is_not_there_is_named_before_anything_is_installed(checkout: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        planned(checkout, "IMAGES=fotos")
    assert "there is no folder 'fotos'" in failed.value.stderr
    assert not failed.value.stdout
