"""`sfsc check --repair` and then `sfsc add DATA/removed-items.ndjson`: what had an image comes back."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.cli.check import Check
from sfsc_service.cli.removed_items import find_removed
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.settings import Settings
from sfsc_service.store.embedded.sqlite.row_checksum import row_checksum
from tests.service.cli.conftest import Command, counts, report
from tests.service.command import run
from tests.service.images import draw_image
from tests.service.live import Live, running


@contextmanager
def served(bundle: Bundle, data: Path) -> Iterator[tuple[Live, Client]]:
    settings = Settings(bundle=bundle.folder, data=data, port=0, threads=2, slo_ms=1000.0)
    with running(settings) as live, Client(live.url) as client:
        yield live, client


def damage_vectors(data: Path) -> None:
    """Change two bytes of the only block there is."""
    (log,) = (data / "segments").glob("*.log")
    content = bytearray(log.read_bytes())
    content[200:202] = bytes(255 - byte for byte in content[200:202])
    log.write_bytes(content)


def test_what_a_repair_removed_is_put_back_and_nothing_newer_is_replaced(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with served(tiny, data) as (_, client):
        images = [{"id": f"item {n}", "image": draw_image(n), "metadata": {"n": n}} for n in range(4)]
        manifest = tiny.manifest
        vector = {"id": "vector", "vector": [1.0] * manifest.dimension, "width": "1.0", "space": manifest.space}
        outcomes = list(client.put_many([*images, vector]))
        assert [one["status"] for one in outcomes] == [200] * 5
    damage_vectors(data)
    with pytest.raises(SystemExit, match="1"):
        Check(data=str(data)).run()
    assert "damaged; --repair would remove 5 of 5 items" in capsys.readouterr().out
    Check(data=str(data), repair=True).run()
    said = capsys.readouterr().out
    removed = data / "removed-items.ndjson"
    assert "removed 5 of 5 items" in said
    assert f"`sfsc add {removed}` puts back the items whose images are whole" in said
    with served(tiny, data) as (live, client):
        client.put("item 3", draw_image(30), metadata={"newer": True})
        document = report(run("add", removed, "--json", SFSC_URL=live.url))
        assert counts(document) == (3, 0, 1, 0)
        assert [one["name"] for one in document["left_out"]] == ["vector"]
        found = {item["id"]: item["metadata"] for item in client.items()}
        assert found == {f"item {n}": {"n": n} for n in range(3)} | {"item 3": {"newer": True}}
        assert [client.image(f"item {n}") for n in range(3)] == [draw_image(n) for n in range(3)]
        assert counts(report(run("add", removed, "--json", SFSC_URL=live.url))) == (0, 0, 4, 0)


def test_ids_of_any_length_are_asked_for_in_parts(sfsc: Command, tmp_path: Path) -> None:
    """Together they would not fit into the head of a request."""
    image = draw_image(1)
    digest = hashlib.sha256(image).hexdigest()
    (tmp_path / "images" / "quarantine").mkdir(parents=True)
    (tmp_path / "images" / "quarantine" / digest).write_bytes(image)
    rows = []
    for number in range(30):
        row = {
            "sequence": number,
            "collection": "default",
            "id": f"{number:02d}" + "\N{OTTER}" * 254,
            "space": "s",
        }
        row |= {"width": "1.0", "reason": "requested", "metadata": "{}", "image": digest}
        row |= {"media_type": "image/jpeg", "created": 1}
        rows.append(row | {"checksum": row_checksum(list(row.values()))})
    file = tmp_path / "removed-items.ndjson"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert counts(report(sfsc("add", file, "--json"))) == (30, 0, 0, 0)
    assert counts(report(sfsc("add", file, "--json"))) == (0, 0, 30, 0)


@pytest.mark.parametrize("line", ["no JSON", "[]", '{"id": 3}', "{}"])
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path: Path, line: str) -> None:
    file = tmp_path / "removed-items.ndjson"
    file.write_text(line + "\n")
    with pytest.raises(StartError, match="line 1 must be a row as"):
        find_removed(file)


def test_rows_and_images_that_are_damaged_too_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "removed-items.ndjson"
    row = {"sequence": 1, "collection": "default", "id": "a", "space": "s", "width": "1.0", "reason": "requested"}
    row |= {"metadata": "{}", "image": "0" * 64, "media_type": "image/jpeg", "created": 1, "checksum": 7}
    file.write_text(json.dumps(row) + "\n" + json.dumps({"id": "b"}) + "\n")
    with pytest.raises(StartError, match="found none; a: its row is damaged"):
        find_removed(file)
