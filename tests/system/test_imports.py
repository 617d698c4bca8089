"""The import contracts of pyproject.toml cover every module and have no exceptions; `lint-imports` checks them."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = {contract["containers"][0]: contract["layers"] for contract in CONTRACTS if "containers" in contract}
ROOMS = 12  # first-level packages and modules of the service, so that they are seen at a glance


def modules_of(package: str) -> set[str]:
    """The packages and modules directly inside a package."""
    (folder,) = (found for side in ROOT.iterdir() if (found := side.joinpath(*package.split("."))).is_dir())
    modules = {path.stem for path in folder.glob("*.py") if not path.name.startswith("__")}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_stands_in_the_contract_of_its_package(package: str):
    in_layers = {name for layer in LAYERS[package] for name in layer.replace("|", " ").replace(":", " ").split()}
    assert in_layers == modules_of(package)


def test_no_contract_has_exceptions():
    assert not [contract["name"] for contract in CONTRACTS if "ignore_imports" in contract]


def test_the_service_has_few_rooms():
    assert len(modules_of("sfsc_service")) <= ROOMS
