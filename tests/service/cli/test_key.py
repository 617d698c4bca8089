"""`sfsc key`: what it prints is a line of the file, and the key that belongs to it."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from sfsc_service.http.keys import KeyRing
from tests.service.command import run


def test_the_line_and_the_key_belong_together(tmp_path: Path) -> None:
    words = ("--scopes", "write,read", "--requests-per-s", "5", "--images-per-s", "0.5")
    done = run("key", "camera-1", *words)
    assert done.returncode == 0, done.stderr
    key = done.stderr.strip()
    assert tomllib.loads(done.stdout) == {
        "camera-1": {
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "scopes": ["read", "write"],
            "requests_per_s": 5.0,
            "images_per_s": 0.5,
        }
    }
    assert key not in done.stdout
    file = tmp_path / "keys.toml"
    file.write_text(done.stdout + run("key", "other").stdout)
    caller = KeyRing(file).caller(key)
    assert caller is not None
    assert caller.name == "camera-1"


def test_no_variable_says_what_a_key_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("SFSC_KEY_SCOPES", "admin"),
        ("SCOPES", "admin"),
        ("SFSC_NO_SETTING", "1"),
        ("NAME", "x"),
    ):
        monkeypatch.setenv(name, value)
    done = run("key", "laptop")
    assert tomllib.loads(done.stdout)["laptop"]["scopes"] == ["read"]
    assert done.stderr.count("\n") == 1, "the key, and nothing beside it"
    assert "env:" not in run("key", "--help").stdout


def test_a_key_may_read_and_no_more_unless_told_otherwise() -> None:
    (entry,) = tomllib.loads(run("key", "laptop").stdout).values()
    assert entry.keys() == {"sha256", "scopes"}
    assert entry["scopes"] == ["read"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["my laptop"], "name: must be 1 to 64 letters (A to Z), digits, _ or -, found 'my laptop'"),
        ([], "NAME"),
        (["x", "--scopes", "root"], "scopes: must be some of read, write, admin, comma-separated, found 'root'"),
        (["x", "--scopes", ""], "scopes: "),
        (["x", "--images-per-s", "0"], "--images-per-s: must be greater than 0"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], message: str) -> None:
    done = run("key", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
