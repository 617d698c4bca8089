"""A bundle on disk: `manifest.json` and one ONNX file per width; written atomically, verified when opened."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sfsc_bundle.atomic_file import sync
from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.errors import BundleError
from sfsc_bundle.external_data import has_external_data
from sfsc_bundle.manifest import BundleName, Manifest

__all__ = ["MANIFEST", "Bundle", "check_target", "open_bundle", "sha256", "write_bundle"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified folder: the manifest is valid and every file has the digest that it names."""

    folder: Path
    manifest: Manifest

    def graph(self, width: str) -> Path:
        """The ONNX file of a canonical width. Raises KeyError if the bundle has no such width."""
        return self.folder / self.manifest.submodel(width).file


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest and check every file's digest.

    Raises:
        BundleError: the folder or the manifest is missing or invalid, or a file is missing, altered or
            keeps weights outside of it.
    """
    manifest = _read_manifest(folder)
    for submodel in manifest.submodels:
        path = folder / submodel.file
        found = _digest(path, submodel.name)
        if found != submodel.sha256:
            raise BundleError(f"{path}: sha256 must be {submodel.sha256} as the manifest says, found {found}")
        _check_complete(path)
    return Bundle(folder, manifest)


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes], *, replace: bool = False) -> Bundle:
    """Write a bundle atomically: at every moment `folder` is absent, the old bundle, or the whole new one.

    Args:
        files: content by the names that the manifest gives.
        replace: whether an existing bundle may be replaced; other files in its folder are kept.

    Raises:
        BundleError: the folder exists and `replace` is false, or it is not a bundle; or files and manifest do not
            agree.
        OSError: the disk refused; no temporary folder is left behind.
    """
    _check_files(manifest, files)
    check_target(folder, replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            _carry_over(folder, temporary)
        temporary.chmod(0o755)
        sync([temporary, *temporary.rglob("*")])
        _swap(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Bundle(folder, manifest)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        found = f"{path.name} cannot be read ({error.strerror})"
        if not os.path.isdir(folder):
            found = "it is a file" if os.path.isfile(folder) else "there is no such folder"
        raise BundleError(f"{folder} is not a bundle: {found}") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{path}: {first_broken_rule(error)}") from error


def _check_complete(path: Path) -> None:
    try:
        external = has_external_data(path.read_bytes())
    except ValueError:  # no graph at all, which the runner refuses
        return
    if external:
        raise BundleError(f"{path} keeps weights in another file, which its sha256 does not cover")


def _digest(path: Path, width: str) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise BundleError(f"{path}, the file of width {width}, cannot be read ({error.strerror})") from error


def check_target(folder: Path, replace: bool) -> None:
    """Raise BundleError where no bundle may be written to a folder; to be called before the work that makes it."""
    try:
        TypeAdapter(BundleName).validate_python(folder.name)
    except ValidationError as error:
        raise BundleError(f"the folder of a bundle names it: {first_broken_rule(error).rule}") from error
    if not folder.exists():
        return
    if not replace:
        raise BundleError(f"{folder} already exists; give another folder, or replace it with --replace")
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} is not a bundle (it has no {MANIFEST}), so it is not replaced")


def _check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    named = {submodel.file: submodel.sha256 for submodel in manifest.submodels}
    if set(named) != set(files):
        raise BundleError(
            f"the files must be those that the manifest names, {sorted(named)}; found {sorted(files)}"
        )
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != named[name]:
            raise BundleError(f"{name}: its sha256 must be the one in the manifest; found another")


def _swap(temporary: Path, folder: Path) -> None:
    retired = folder.with_name(f".{folder.name}.retired-{os.getpid()}")
    had_old = folder.exists()
    if had_old:
        folder.rename(retired)
    try:
        temporary.rename(folder)
    except BaseException:
        if had_old:
            retired.rename(folder)
        raise
    try:
        sync([folder.parent])
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _carry_over(old: Path, new: Path) -> None:
    """Copy everything but the bundle's own files, such as a gallery."""
    for path in sorted(old.rglob("*")):
        place = path.relative_to(old)
        if place.parent == Path() and (place.name == MANIFEST or place.suffix == ".onnx"):
            continue
        if path.is_dir():
            (new / place).mkdir()
        else:
            shutil.copyfile(path, new / place)
