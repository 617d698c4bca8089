"""A check finds every kind of damage by name; a repair loses nothing silently and leaves a store that opens."""

import errno
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.store.embedded.check import CheckReport, check_folder
from sfsc_service.store.embedded.images import digest_of
from sfsc_service.store.embedded.repair import REMOVED_ITEMS, repair_folder
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.sqlite.reader import DatabaseReader
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.agreement import walk
from tests.service.store.making import DIMENSION, SPACE, make_item, unit_vectors

IDS = [f"i{number}" for number in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six items, each in a call of its own; the odd ones have an image."""
    store = EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    for number, identifier in enumerate(IDS):
        store.upsert([make_item(identifier, number, image=number % 2 == 1)])
    store.close()
    return tmp_path / "store"


def image_file(folder: Path, number: int) -> Path:
    image = make_item("", number, image=True).image
    assert image is not None
    digest = digest_of(image.data)
    return folder / "images" / digest[:2] / digest[2:4] / digest


def found(report: CheckReport) -> set[tuple[str, str]]:
    return {(finding.kind, finding.subject) for finding in report.findings if finding.kind != "leftover"}


def execute(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "database.sqlite")) as connection, connection:
        connection.execute(sql)


def flip_vector(folder: Path) -> None:
    (log,) = (folder / "segments").glob("*.log")
    data = bytearray(log.read_bytes())
    vector = unit_vectors(2, 1)[0].tobytes()
    data[data.index(vector)] ^= 1
    log.write_bytes(data)


def drop_row(folder: Path) -> None:
    execute(folder, "DELETE FROM items WHERE id = 'i2'")


DAMAGE: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]], set[str]]] = {
    "row": (
        lambda folder: execute(folder, "UPDATE items SET metadata = '{' WHERE id = 'i3'"),
        {("row", "i3")},
        {"i3"},
    ),
    "vector": (flip_vector, {("vector", "i2")}, {"i2"}),
    "missing row": (drop_row, {("database", "database.sqlite")}, {"i2"}),
    "missing image": (lambda folder: image_file(folder, 1).unlink(), {("image", "i1")}, set()),
    "damaged image": (lambda folder: image_file(folder, 1).write_bytes(b"x"), {("image", "i1")}, set()),
}


def test_a_whole_folder_is_found_whole_and_stays_as_it_is(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = check_folder(folder)
    assert (report.items, report.images, report.findings) == (6, 3, [])
    assert report.vector_files >= 1
    assert repair_folder(folder, report) == []
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_a_repair_goes_on_with_everything_else(folder: Path, name: str) -> None:
    damage, named, lost = DAMAGE[name]
    damage(folder)
    report = check_folder(folder)
    assert found(report) == named
    done = repair_folder(folder, report)
    assert done
    assert check_folder(folder).whole
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    items = {item.id: item for item in walk(store)}
    assert set(items) == set(IDS) - lost
    assert store.faults == []
    for number, identifier in enumerate(IDS):
        if identifier in items:
            assert np.array_equal(items[identifier].vector, make_item(identifier, number).vector)
            kept = store.image(identifier)
            assert (kept is not None) == (number % 2 == 1 and ("image", identifier) not in named)
    store.close()


def test_what_a_repair_removes_is_kept(folder: Path) -> None:
    DAMAGE["row"][0](folder)
    image = image_file(folder, 3)
    content = image.read_bytes()
    report = check_folder(folder)
    done = repair_folder(folder, report)
    rows = "which are damaged; their rows were added to removed-items.ndjson"
    assert f"removed 1 of {report.items} items, {rows}" in done
    (row,) = map(json.loads, (folder / REMOVED_ITEMS).read_text().splitlines())
    assert (row["id"], row["metadata"]) == ("i3", "{")
    assert (folder / "images" / "quarantine" / image.name).read_bytes() == content


def test_a_vector_in_a_damaged_segment_is_named(folder: Path) -> None:
    with closing(DatabaseReader(folder / "database.sqlite")) as reader:
        known, gallery = reader.contents().sequences, reader.meta()["gallery"]
    segments = SegmentFolder(folder / "segments", DIMENSION, gallery)
    loaded = segments.load(known, int(known[-1]))
    segment = segments.write([(loaded.sequences, loaded.vectors)], len(loaded.sequences))
    segments.retire(segments.rotate())
    assert check_folder(folder).whole
    data = bytearray(segment.path.read_bytes())
    data[len(data) // 2] ^= 1
    segment.path.write_bytes(data)
    assert found(check_folder(folder)) == {("vector", identifier) for identifier in IDS}


def test_leftovers_are_no_damage_and_a_repair_tidies_them(folder: Path) -> None:
    orphan = folder / "images" / "ab" / "cd" / ("abcd" + 60 * "0")
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"orphan")
    (folder / "images" / "temporary" / "half").write_bytes(b"h")
    report = check_folder(folder)
    assert report.whole
    assert {finding.subject for finding in report.findings} == {
        str(orphan.relative_to(folder)),
        "images/temporary/half",
    }
    repair_folder(folder, report)
    assert check_folder(folder).findings == []
    assert (folder / "images" / "quarantine" / orphan.name).read_bytes() == b"orphan"


def test_lost_changes_are_beyond_repair(folder: Path) -> None:
    older = (folder / "database.sqlite").read_bytes()
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    store.upsert([make_item("new", 9)])
    store.close()
    (folder / "database.sqlite").write_bytes(older)
    report = check_folder(folder)
    assert found(report) == {("database", "database.sqlite")}
    repair_folder(folder, report)
    assert not check_folder(folder).whole


def test_an_image_that_the_disk_has_lost_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", lost)
    found = {(finding.kind, finding.detail.partition("(")[2]) for finding in check_folder(folder).findings}
    assert found == {("image", "Input/output error)")}
