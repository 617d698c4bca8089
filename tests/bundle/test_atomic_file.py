"""Contract: whatever fails and whenever the process dies, a file holds its old content or the whole new one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sfsc_bundle.atomic_file import replacing, sync, write_file, write_files

OLD, NEW = b"old", b"new content"


def left_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(OLD)
    return tmp_path / "file"


def refuse(*_arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_content_is_replaced_and_nothing_else_is_left(target: Path) -> None:
    write_file(target, NEW)
    assert left_in(target.parent) == {"file": NEW}
    write_file(target.with_name("another"), OLD)
    assert left_in(target.parent) == {"file": NEW, "another": OLD}


def test_a_file_is_made_with_the_permissions_that_the_process_gives(target: Path) -> None:
    plain = target.with_name("plain")
    plain.write_bytes(NEW)
    write_file(target.with_name("atomic"), NEW)
    assert target.with_name("atomic").stat().st_mode == plain.stat().st_mode


def test_content_is_not_visible_before_it_is_whole(target: Path) -> None:
    with replacing(target) as file:
        file.write(NEW)
        file.flush()
        assert target.read_bytes() == OLD
    assert target.read_bytes() == NEW


def test_an_exception_in_the_middle_leaves_the_old_content(target: Path) -> None:
    def interrupted() -> None:
        with replacing(target) as file:
            file.write(NEW[:3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left_in(target.parent) == {"file": OLD}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_content(
    target: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(OSError, match="No space left"):
        write_file(target, NEW)
    assert left_in(target.parent) == {"file": OLD}


def test_a_kill_in_the_middle_leaves_the_old_content_and_the_next_write_cleans_up(target: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom sfsc_bundle.atomic_file import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new')\n    file.flush()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert target.read_bytes() == OLD
    assert len(left_in(target.parent)) == 2, "the temporary file of the killed process"
    write_file(target, NEW)
    assert left_in(target.parent) == {"file": NEW}


def test_content_is_durable_before_its_name_and_the_name_before_the_call_returns(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        steps.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def traced_replace(source: Path, place: Path) -> None:
        steps.append(f"rename {source.name} {place.name}")
        replace(source, place)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    write_file(target, NEW)
    assert steps == ["fsync .file.tmp", "rename .file.tmp file", f"fsync {target.parent.name}"]


def test_several_files_share_a_staging_folder(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    contents = {tmp_path / str(number): b"%d" % number for number in range(20)}
    write_files(contents, staging)
    assert {path: path.read_bytes() for path in contents} == contents
    assert left_in(staging) == {}


def test_several_files_of_which_one_cannot_be_placed_leave_nothing_in_staging(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    with pytest.raises(FileNotFoundError):
        write_files({tmp_path / "missing" / "file": NEW}, staging)
    assert left_in(staging) == {}


def test_a_failed_sync_of_one_among_many_is_raised(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(NEW)
    with pytest.raises(FileNotFoundError):
        sync([tmp_path / "there", tmp_path / "gone"])
    sync([])
