"""`sfsc reembed` that is interrupted: a kill at any moment leaves the old gallery in place, or the new one, whole.

What was embedded before is not embedded again.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.cli.check import Check
from sfsc_service.cli.reembed import Reembed
from sfsc_service.lifecycle import reembed
from sfsc_service.store import errors
from sfsc_service.store.embedded import rewriting
from sfsc_service.store.embedded.segments import folder as segment_folder
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.cli.reembed.moving import (
    DIMENSION,
    beside,
    check_moved,
    contents,
    embeddings,
    files,
    image_item,
    make_gallery,
    moved,
)
from tests.service.command import ENVIRONMENT


def test_interrupted_it_goes_on_where_it_was_and_follows_what_has_changed(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(11)], [image_item(30, old)])
    kept = files(data)
    monkeypatch.setattr(rewriting, "_PARTS", 2)
    with embeddings(monkeypatch, stop_after=2), pytest.raises(KeyboardInterrupt):
        moved(data, new, capsys)
    assert (files(data), beside(data)) == (kept, [".data.reembed", "data"])
    with pytest.raises(errors.OpenRefusedError, match=r"begun for width 1.0 of a bundle of the space new-space"):
        moved(data, new, capsys, width="0.5")
    with closing(EmbeddedStore(data, "old-space", DIMENSION)) as store:
        store.delete(["image-001"])
        store.upsert([image_item(2, old), image_item(40, old)])
        store.patch_metadata("image-003", {"further": 1})
    shutil.rmtree(data / "collections" / "bikes")
    before = contents(data)
    with embeddings(monkeypatch) as calls:
        assert moved(data, new, capsys)["items"] == 11
    assert sum(calls) == 11 - 5, "8 were embedded; of those, 1 is gone, and 2 are of another version"
    check_moved(before, contents(data), new, 11)
    Check(data=str(data)).run()


KILLED = """
    import json, os, shutil, signal, sys
    from pathlib import Path
    from sfsc_service.cli.reembed import Reembed
    from sfsc_service.lifecycle import reembed
    from sfsc_service.store.embedded.rewriting import GalleryRewrite

    gallery, places, bundle = map(Path, sys.argv[1:])
    reembed._IMAGES_AT_ONCE = 2
    begin, passed, last = GalleryRewrite.__init__, 0, 0
    calls = ("rename", "remove", "mkdir", "link", "chmod")
    events = {"open", "sqlite3.connect", "ctypes.dlsym", *("os." + call for call in calls)}

    def look(event, _):
        # Whatever opens, renames or removes something is a moment at which the process may die.
        global passed
        if event in events:
            passed += 1
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    def begun(self, *arguments):
        if not passed:
            sys.addaudithook(look)
        begin(self, *arguments)

    GalleryRewrite.__init__ = begun

    def ended(moment):
        data = shutil.copytree(gallery, places / str(moment) / "data")
        read, write = os.pipe()
        if not (child := os.fork()):
            globals()["moment"] = moment
            Reembed(data=str(data), bundle=bundle, threads=1).run()
            os.write(write, str(passed).encode())
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        return int(os.read(read, 99)) if status == 0 else os.WTERMSIG(status)

    last = ended(0)
    moments = sorted({*range(1, last, max(1, last // 4)), *range(last - 3, last + 1)})
    print(json.dumps({moment: ended(moment) for moment in moments}))
"""


def test_killed_at_any_moment_the_folder_has_one_whole_gallery_and_the_command_goes_on(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, places = (
        make_gallery(tmp_path / "gallery", old, [image_item(n, old) for n in range(5)]),
        tmp_path / "at",
    )
    before = contents(gallery)
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(gallery), str(places), str(new.folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    assert set(ended.values()) == {int(signal.SIGKILL)}
    spaces = set()
    for moment in ended:
        data = places / moment / "data"
        there = contents(data)
        assert there.keys() == before.keys()
        (space,) = {item.space for item in there.values()}
        spaces.add(space)
        Reembed(data=str(data), bundle=new.folder, threads=1).run()
        check_moved(before, contents(data), new, 5)
        aside = [path for path in data.parent.iterdir() if path != data]
        assert len(aside) == 1, f"the old gallery alone is beside it: {aside}"
        assert {item.space for item in contents(aside[0]).values()} == {"old-space"}
        assert not (data / reembed.STATE).exists()
    assert spaces == {"old-space", "new-space"}
    capsys.readouterr()


def test_a_full_disk_is_refused_before_or_leaves_the_gallery_as_it_was(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(6)])
    before, kept = contents(data), files(data)
    with monkeypatch.context() as patch:
        patch.setattr(reembed.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
        with pytest.raises(errors.StoreFailedError, match=r"needs .* bytes of free disk space; found 1000000"):
            moved(data, new, capsys)
    assert (files(data), beside(data)) == (kept, ["data"])
    written, write = [0], segment_folder.write_segment

    def full(*arguments: Any) -> None:
        written[0] += 1
        if written[0] == 2:
            raise OSError(28, os.strerror(28), "segment")
        write(*arguments)

    with embeddings(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(segment_folder, "write_segment", full)
        with pytest.raises(errors.StoreFailedError, match=r"No space left on device"):
            moved(data, new, capsys)
    assert files(data) == kept
    with embeddings(monkeypatch) as calls:
        assert moved(data, new, capsys)["items"] == 6
    assert sum(calls) == 2
    check_moved(before, contents(data), new, 6)


def test_a_kill_while_the_copy_was_being_made_leaves_nothing_in_the_way(
    old: Bundle, new: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_gallery(tmp_path / "data", old, [image_item(n, old) for n in range(3)])
    copy = tmp_path / ".data.reembed"
    copy.mkdir()
    (copy / f".{reembed.STATE}.tmp").write_text("{")
    with embeddings(monkeypatch, stop_after=0), pytest.raises(KeyboardInterrupt):
        moved(data, new, capsys)
    for path in copy.glob("database.sqlite*"):
        path.unlink()
    (copy / "database.sqlite").touch()
    assert moved(data, new, capsys)["items"] == 3
