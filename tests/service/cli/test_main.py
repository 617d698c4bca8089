"""What ends a command is one sentence and an exit code."""

import errno
import sys
from pathlib import Path

import pytest

from sfsc_service.cli.main import COMMANDS, main


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls"], "SFSC_URL: must be http:// or https:// and a host, such as http://127.0.0.1:8000, found 'x'"),
        (["ls", "--url", "here"], "--url: must be http:// or https:// and a host, such as http://127.0.0.1:8000"),
        (["serve"], "SFSC_OTLP_URL: must be http:// or https:// and a host, such as http://127.0.0.1:4318"),
        (["ls", "--url=http://a", "--limit", "many"], "--limit: must be a whole number"),
        (["patch", "a", "[]"], "metadata: must be a JSON object, found "),
    ],
)
def test_a_wrong_value_is_named_by_the_option_or_the_variable_that_it_was_given_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.setenv("SFSC_URL", "http://127.0.0.1:9" if "patch" in words else "x")
    monkeypatch.setenv("SFSC_OTLP_URL", "collector:4318")
    monkeypatch.setattr(sys, "argv", ["sfsc", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sfsc: {said}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["serve", "x", "--stor=milvus://bob:hunter2@h:1/x"],
            "unrecognized arguments: --stor=milvus://…@h:1/x; the nearest one is --store; see",
        ),
        (["check", "x", "milvus://bob:a b/hunter2@@h:1"], "unrecognized arguments: milvus://…@h:1; see"),
        (["serve", "--otlp-url", "ftp://bob:hunter2@h"], "127.0.0.1:4318, found 'ftp://…@h'"),
        (["serve", "--otlp-url", f"ftp://bob:hunter2{'x' * 99}@h"], "127.0.0.1:4318, found 'ftp://…'…"),
        (
            ["ls", "--url", "http://bob:hunter2#@h"],
            "--url: must be an address such as http://127.0.0.1:8000, found ",
        ),
        (["ls", "--url", "http://bob:hunter2@127.0.0.1:9"], "no answer from http://127.0.0.1:9: "),
        (
            ["serve", "--store", "milvus://hunter2"],
            "must be embedded or milvus://[USER:PASSWORD@]HOST:PORT/DATABASE",
        ),
        (["ls", "\x1b[2J\x9b\u202e\n"], r"unrecognized arguments: \u001b[2J\u009b\u202e\n; see sfsc ls --help"),
    ],
)
def test_no_error_shows_a_password_or_moves_the_cursor_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["sfsc", *words])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert said in error
    assert "hunter2" not in error
    assert error.removesuffix("\n").isprintable()


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_help_fits_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str | None
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["sfsc", *([] if command is None else [command]), "--help"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("example: sfsc") for line in lines)
