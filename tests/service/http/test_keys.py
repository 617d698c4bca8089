"""The file of keys: what it may hold, who is found in it, and reading it again."""

import logging
import os
import tomllib
from pathlib import Path

import pytest

from sfsc_service.errors import Problem, StartError
from sfsc_service.http.keys import KeyEntry, KeyRing, file_line, make_key, read_keys

DIGEST = "0" * 64
ENTRY = f'sha256 = "{DIGEST}", scopes = ["read"]'


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_the_line_of_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    _, plain = make_key(["read"])
    _, limited = make_key(["read", "write", "admin"], 0.5, 1e6)
    file = write(tmp_path / "keys.toml", "# mine", file_line("laptop", plain), file_line("camera-1_b", limited))
    assert read_keys(file) == {"laptop": plain, "camera-1_b": limited}


def test_the_file_does_not_hold_the_key_and_no_two_keys_are_alike() -> None:
    (one, entry), (other, _) = make_key(["read"]), make_key(["read"])
    assert one != other
    assert len(one) >= 43, "256 bits in base64"
    assert one not in file_line("x", entry)
    assert tomllib.loads(file_line("x", entry))["x"]["scopes"] == ["read"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = {", "must be TOML: "),
        ("a = 1", "a: "),
        (f'a = {{ sha256 = "{DIGEST}" }}', "a.scopes: is missing"),
        (f'a = {{ sha256 = "{DIGEST}", scopes = [] }}', "a.scopes: "),
        (f'a = {{ sha256 = "{DIGEST}", scopes = ["root"] }}', "'read', 'write' or 'admin', found 'root'"),
        ('a = { sha256 = "abc", scopes = ["read"] }', "a.sha256: "),
        (f"a = {{ {ENTRY}, requests_per_s = 0 }}", "a.requests_per_s: "),
        (f"a = {{ {ENTRY}, images_per_s = nan }}", "a.images_per_s: "),
        (
            f"a = {{ {ENTRY}, image_per_s = 5 }}",
            "a.image_per_s: is not a known key",
        ),
        (f'"a b" = {{ {ENTRY} }}', "a b: must be 1 to 64 letters (A to Z), digits, _ or -, found 'a b'"),
        (
            f"a = {{ {ENTRY} }}\nb = {{ {ENTRY} }}\na = {{ {ENTRY} }}",
            "each name must stand there once, found a 2 times",
        ),
        ('[a]\nscopes = ["read"]\n[a]', "each name must stand there once, found a 2 times"),
        (
            f"a = {{ {ENTRY} }}\nb = {{ {ENTRY} }}",
            "under two names",
        ),
        ("\xff", "keys.toml"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(StartError, match="keys: ") as refusal:
        read_keys(tmp_path / "keys.toml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        KeyRing(tmp_path / "keys.toml")


def test_a_key_is_found_by_itself_alone(tmp_path: Path) -> None:
    key, entry = make_key(["read"])
    ring = KeyRing(
        write(tmp_path / "keys.toml", file_line("one", entry), file_line("two", make_key(["write"])[1]))
    )
    found = ring.caller(key)
    assert found is not None
    assert (found.name, found.entry) == ("one", entry)
    for other in ("", key[:-1], key + "x", key.upper(), entry.sha256, "one"):
        assert ring.caller(other) is None


def test_without_a_file_no_key_is_asked_for() -> None:
    _, entry = make_key(["read"])
    assert not KeyRing(None, {"own": entry}).asked_for


def test_reading_again_adds_removes_and_keeps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (kept, kept_entry), (gone, gone_entry), (new, new_entry) = (make_key(["read"], 0.001) for _ in range(3))
    (own, own_entry) = make_key(["write"])
    file = write(tmp_path / "keys.toml", file_line("kept", kept_entry), file_line("gone", gone_entry))
    ring = KeyRing(file, {"own": own_entry})
    caller = ring.caller(kept)
    assert caller is not None
    caller.admit()
    write(file, file_line("kept", kept_entry), file_line("new", new_entry))
    ring.reread()
    assert ring.caller(gone) is None
    assert ring.caller(new) is not None
    assert ring.caller(own) is not None
    with pytest.raises(Problem, match=r"kept may use 0\.001 requests a second"):
        ring.caller(kept).admit()
    assert "reread 2 keys" in caplog.text


def test_a_file_that_holds_no_key_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, entry = make_key(["read"])
    file = write(tmp_path / "keys.toml", file_line("one", entry))
    ring = KeyRing(file)
    assert caplog.text == ""
    file.write_text("")
    ring.reread()
    assert ring.caller(key) is None
    assert "keys.toml holds no key: nobody may call" in caplog.text


@pytest.mark.parametrize("broken", ["a = {", None])
def test_a_file_that_has_become_unusable_leaves_the_keys_as_they_were(
    tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    key, entry = make_key(["read"])
    file = write(tmp_path / "keys.toml", file_line("one", entry))
    ring = KeyRing(file)
    os.unlink(file) if broken is None else file.write_text(broken)
    ring.reread()
    assert ring.caller(key) is not None
    assert "the keys stay as they were" in caplog.text


def test_a_changed_quota_holds_at_once(tmp_path: Path) -> None:
    key, entry = make_key(["read"], 0.001)
    file = write(tmp_path / "keys.toml", file_line("one", entry))
    ring = KeyRing(file)
    ring.caller(key).admit()
    write(file, file_line("one", KeyEntry(sha256=entry.sha256, scopes=("read",))))
    ring.reread()
    for _ in range(3):
        ring.caller(key).admit()
