"""What ends a command is one sentence and an exit code."""

import errno
import sys
from pathlib import Path

import pytest

from sfsc_service.cli.main import main


@pytest.mark.parametrize("words", [["serve", "models/demo", "--data", "closed/data"], ["add", "closed/data"]])
def test_a_folder_that_may_not_be_looked_into_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """The system refuses it to users other than root, who may run the tests."""
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> object:
        if path.parts[:1] == ("closed",):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(sys, "argv", ["sfsc", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "sfsc: closed/data: Permission denied\n"
