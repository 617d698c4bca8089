"""Tables of the commands: what folds where there is little room."""

import json

import pytest

from sfsc_service.cli.table import print_table

COLUMNS = ("", "id", "score", "metadata")
METADATA = json.dumps({"identity": "cat", "camera": 3, "note": "seen in the evening near the northern gate"})
SHORT, LONG = "photos/2026/cat/1.jpg", f"photos/{'of-a-long-name-' * 10}.jpg"


def use_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": str(columns), "LINES": "25"}.items():
        monkeypatch.setenv(name, value)


def printed(ids: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_table(COLUMNS, [("9", one, "0.987", METADATA) for one in ids], title="width 1.0")
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("id", [SHORT, "with a space/[red]猫.jpg"])
def test_other_columns_fold_where_ids_fit(
    id: str, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    if terminal:
        use_terminal(monkeypatch, 80)
    lines = printed([id, "a"], capsys)
    assert sum(f" {id} " in line for line in lines) == 1
    assert sum(" 0.987 " in line for line in lines) == 2
    assert max(map(len, lines)) <= 80
    assert len(lines) > 7, "the metadata have folded"


def test_ids_are_whole_in_what_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert sum(f" {LONG} " in line for line in printed([SHORT, LONG], capsys)) == 1


def test_ids_fold_in_a_narrow_terminal_and_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(monkeypatch, 60)
    lines = printed([LONG], capsys)
    assert max(map(len, lines)) <= 60
    assert "".join(line.split("│")[2].strip() for line in lines if "│" in line) == LONG


@pytest.mark.parametrize("id", [LONG[:60], SHORT])
def test_long_metadata_have_a_fair_share_of_a_terminal_and_are_cut(
    id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(monkeypatch, 80)
    long = json.dumps({"note": "seen in the evening near the gate " * 9})

    def rows() -> list[list[str]]:
        print_table(COLUMNS, [("9", id, "0.987", long)])
        return [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]

    lines = rows()
    assert len(lines) <= 4, "names are whole, or folded where the metadata have their share"
    assert "".join(line[2].strip() for line in lines) == id
    assert min(len(line[4]) for line in lines) >= 32
    assert sum("…" in line[4] for line in lines) == 1
    monkeypatch.delenv("FORCE_COLOR")
    whole = "".join(line[4] for line in rows())
    assert whole.replace(" ", "") == long.replace(" ", ""), "where a program reads, nothing is cut"


def test_a_table_without_rows_has_its_heads(capsys: pytest.CaptureFixture[str]) -> None:
    assert "metadata" in "".join(printed([], capsys))


def test_what_a_terminal_would_act_on_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "x\x1b[31m\x9b2J\x7f\u202egpj\u2066\u2028"
    print_table(("id", "metadata"), [(hostile, f'{{"a": "{hostile}"}}')], title=f"[bold]{hostile}")
    out = capsys.readouterr().out
    assert out.count(r"x\u001b[31m\u009b2J\u007f\u202egpj\u2066\u2028") >= 2
    assert r"[bold]x\u001b" in out
    assert out.replace("\n", "").isprintable()
