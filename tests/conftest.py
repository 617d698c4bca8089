"""What every test folder shares: nothing is skipped in silence, and where the real image sets are."""

import os
import tarfile
from pathlib import Path

import pytest

_SETS = Path(os.environ.get("SFSC_DATASETS", Path(__file__).parents[2] / "shared" / "data"))

SKIPPED = 10
"""No exit code of pytest's own, so that running again what failed does not hide that something was skipped."""

DIED = 11
"""Likewise, so that the tests of a process that died are not taken for passed."""


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """End the run: with `--dist loadfile`, xdist would wait for ever for what the dead process had left."""
    pytest.exit(f"the process of {crashitem} died; what it had left did not run", returncode=DIED)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With SFSC_NO_SKIPS=1, as on CI, a skipped test fails the run; -ra lists each with its reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("SFSC_NO_SKIPS") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = SKIPPED


@pytest.fixture(scope="session")
def image_set(tmp_path_factory: pytest.TempPathFactory):
    """Unpack a part of a real image set: `image_set(name, identities)` → {train,test}/IDENTITY/IMAGE."""

    def unpack(name: str, identities: int) -> Path:
        archive = _SETS / f"{name}.tar"
        if not archive.is_file():
            pytest.skip(f"{name}.tar is not in {_SETS}; set SFSC_DATASETS")
        folder = tmp_path_factory.mktemp(name)
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile() and member.name.count("/") == 3]
            for split in ("train", "test"):
                inside = [member for member in members if member.name.split("/")[1] == split]
                kept = set(sorted({member.name.split("/")[2] for member in inside})[:identities])
                tar.extractall(folder, [m for m in inside if m.name.split("/")[2] in kept], filter="data")
        return folder / name

    return unpack
