"""What the server process prepares before it serves."""

import tempfile
from pathlib import Path

import pytest

from sfsc_service.http.server import keep_large_parts


def test_large_parts_lie_in_the_data_folder_where_no_temporary_folder_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
    keep_large_parts(tmp_path)
    with tempfile.SpooledTemporaryFile(max_size=1) as part:
        part.write(b"more than one")
        part.seek(0)
        assert part.read() == b"more than one"
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_that_can_be_written_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    keep_large_parts(tmp_path)
    assert tempfile.gettempdir() != str(tmp_path)
