"""The commands that call a running service, as processes, against a real one."""

import base64
import json
from pathlib import Path

import pytest

from sfsc_service.cli.ls import SHOWN, List
from tests.service.cli.conftest import Command, counts, items, report
from tests.service.command import one_sentence
from tests.service.images import draw_image
from tests.service.live import Live


def test_a_service_that_fails_is_told_of_and_the_exit_says_so(
    service: Live, sfsc: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.service.health, "draining", True, raising=False)
    done = sfsc("add", photos, "--json")
    assert done.returncode == 1
    assert "shutting down" in done.stderr.splitlines()[-1]
    assert counts(json.loads(done.stdout)) == (0, 0, 0, 0)


def test_search_takes_an_image_or_an_id_and_shows_a_page(
    service: Live, sfsc: Command, photos: Path, tmp_path: Path
) -> None:
    report(sfsc("add", photos, "--json"))
    (photos / "cat" / "<b>.jpg").write_bytes(draw_image(30))
    report(sfsc("add", photos, "--json"))
    found = report(sfsc("search", photos / "cat" / "2.jpg", "-k", "2", "--width", "0.25", "--json"))
    assert (found["query"]["width"], len(found["hits"]), found["hits"][0]["id"]) == ("0.25", 2, "cat/2.jpg")
    by_id = report(sfsc("search", "cat/2.jpg", "--filter", '{"identity": "old"}', "--json"))
    assert [hit["id"] for hit in by_id["hits"]] == ["dog/old/3.png"]
    pairs = sfsc("duplicates", "--min-score", "-1", "--filter", '{"identity": "cat"}').stdout.splitlines()
    assert pairs[0].split("\t")[1:] == ["cat/1.jpg", "cat/2.jpg"]
    assert len(pairs) == len(
        report(sfsc("duplicates", "--min-score", "-1", "--filter", '{"identity": "cat"}', "--json"))
    )
    none = sfsc("duplicates", "--min-score", "1", "--filter", '{"identity": "nobody"}')
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "sfsc: no pair has a score of 1 or more\n")
    one_each = report(sfsc("search", "cat/2.jpg", "--group-by", "identity", "--json"))["hits"]
    assert sorted(hit["group"] for hit in one_each) == ["cat", "old"]
    table = sfsc("search", "cat/2.jpg", "-k", "20").stdout
    assert "cat/<b>.jpg" in table
    assert '"identity": "cat"' in table
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}\n')
    browser.chmod(0o755)
    done = sfsc("search", "cat/<b>.jpg", "--open", "--url", f"{service.url}/", BROWSER=f"{browser} %s")
    assert done.returncode == 0, done.stderr
    address = seen.read_text()
    assert address.startswith("file://")
    page = Path(address.removeprefix("file://"))
    text = page.read_text()
    page.unlink()
    query = base64.b64encode(service.http.get("/items/cat%2F%3Cb%3E.jpg/image").content).decode()
    assert text.count(f'src="data:image/*;base64,{query}"') == 1, "the query, which is no hit of itself"
    assert "cat/&lt;b&gt;.jpg" in text
    assert "<b>" not in text


def test_names_that_are_no_paths_or_not_utf8(sfsc: Command, photos: Path) -> None:
    long = "x" * 256  # an id may be as long, a file's name may not
    assert "is neither a file nor the id of an item" in sfsc("search", long).stderr
    for command in ("get", "rm"):
        done = sfsc(command, "\udcff")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "id: must be UTF-8" in done.stderr
    odd = photos / "cat" / "\udcff.jpg"
    odd.write_bytes(draw_image(3))
    report(sfsc("add", photos, "--json"))
    done = sfsc("search", odd, "--open", BROWSER="true")
    assert done.returncode == 0, done.stderr
    Path(done.stderr.removeprefix("shown in ").strip()).unlink()


def test_ls_get_rm_count_and_widths(sfsc: Command, photos: Path, tmp_path: Path) -> None:
    report(sfsc("add", photos, "--json", "--width", "0.5"))
    assert "cat/1.jpg" in sfsc("ls").stdout
    cats = ["ls", "--filter", '{"identity": "cat"}', "--json"]
    assert [item["id"] for item in json.loads(sfsc(*cats).stdout)] == ["cat/1.jpg", "cat/2.jpg"]
    assert len(json.loads(sfsc("ls", "--limit", "3", "--json").stdout)) == 3
    assert report(sfsc("get", "cat/1.jpg", "--image", tmp_path / "out.jpg", "--json"))["width"] == "0.5"
    assert (tmp_path / "out.jpg").read_bytes() == draw_image(0)
    assert 'metadata     {"identity": "cat"' in sfsc("get", "cat/1.jpg").stdout
    assert sfsc("get", "cat/1.jpg", "--image", tmp_path / "no" / "out.jpg").returncode == 1
    assert sfsc("count").stdout.splitlines() == ["4", "  width 0.5: 4"]
    assert report(sfsc("rm", "cat/1.jpg", "--json")) == {"removed": 1, "missing": []}
    again = sfsc("rm", "cat/1.jpg")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "sfsc: ids: no item 'cat/1.jpg' in the gallery\n"
    assert report(sfsc("count", "--json")) == {"items": 3, "widths": {"0.5": 3}, "approximate": None}
    assert report(sfsc("widths", "--json"))["gallery"] == {"items": 3, "widths": {"0.5": 3}, "approximate": None}
    left = ["--filter", '{"identity": {"$ne": "cat"}}']
    assert sfsc("count", *left).stdout == "2\n"
    assert sfsc("rm", "--filter", '{"identity": "nobody"}').stdout == "removed 0 items\n"
    assert report(sfsc("rm", *left, "--json")) == {"removed": 2, "missing": []}
    assert report(sfsc("count", *left, "--json")) == {"items": 0}
    assert report(sfsc("patch", "cat/2.jpg", '{"colour": "black", "added_from": null}')) == {
        "identity": "cat",
        "colour": "black",
    }
    assert report(sfsc("patch", "cat/2.jpg", '{"colour": null}', "--json"))["id"] == "cat/2.jpg"
    some = sfsc("rm", "cat/2.jpg", "nobody", "cat/2.jpg")
    assert (some.returncode, some.stdout) == (1, "removed 1 item\n"), "the others of an id that is not there"
    assert some.stderr == "sfsc: ids: no item 'nobody' in the gallery\n"
    none = sfsc("rm", *(f"nobody-{n:02}" for n in range(12)), "--json")
    assert (none.returncode, len(json.loads(none.stdout)["missing"]), json.loads(none.stdout)["removed"]) == (
        1,
        12,
        0,
    )
    assert none.stderr.endswith("'nobody-09' and 2 more (see --json) in the gallery\n")
    assert "exactly one of IDS and --filter must be given; found neither" in sfsc("rm").stderr
    widths = sfsc("widths").stdout
    assert "GFLOP" in widths
    assert "items healed to width 1.0, of those whose width was chosen for load or budget: " in widths
    asked = sfsc("quality", "--measure", "--field", "identity").stdout
    assert "by the bundle: " in asked
    assert "a measurement will be made whenever there are no requests" in asked
    assert report(sfsc("quality", "--forget", "--json"))["state"] == "resting"
    assert "not aligned: space " in sfsc("align").stdout
    assert "not aligned: space " in sfsc("align", "--status").stdout
    assert report(sfsc("align", "--undo", "--json"))["state"] == "resting"
    assert "only one of --status and --undo may be given; found both" in sfsc("align", "--status", "--undo").stderr
    assert "--measure and --forget may be given; found both" in sfsc("quality", "--measure", "--forget").stderr


def test_commands_work_in_the_collection_that_is_named(service: Live, sfsc: Command, photos: Path) -> None:
    made = sfsc("collections", "--create", "bikes", "--json")
    assert [(one["name"], one["items"]) for one in json.loads(made.stdout)] == [("bikes", 0), ("default", 0)]
    assert sfsc("add", photos, "--collection", "bikes").returncode == 0
    assert (items(service), sfsc("count").stdout) == ({}, "0\n")
    assert sfsc("count", SFSC_COLLECTION="bikes").stdout.startswith("4\n")
    listed = json.loads(sfsc("ls", "--collection", "bikes", "--json").stdout)
    assert [item["id"] for item in listed] == ["4.JPG", "cat/1.jpg", "cat/2.jpg", "dog/old/3.png"]
    found = sfsc("search", "cat/1.jpg", "--collection", "bikes", "-k", 1, "--json")
    assert json.loads(found.stdout)["hits"][0]["id"] in [item["id"] for item in listed[2:]] + ["4.JPG"]
    assert "bikes" in sfsc("collections").stdout
    assert "bikes" not in sfsc("collections", "--delete", "bikes").stdout
    missing = sfsc("ls", "--collection", "bikes")
    assert missing.returncode == 1
    assert one_sentence(missing) == (
        "sfsc: collection: must be one that the service has (default), found 'bikes'; `sfsc collections` lists "
        "them, `sfsc collections --create NAME` makes one"
    )


def test_ls_shows_the_first_items_and_how_many_there_are(
    service: Live, sfsc: Command, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(sfsc("add", photos, "--json"))
    few = sfsc("ls", "--limit", 3)
    assert few.stdout.count(".jpg") == 2
    assert few.stdout.count("4.JPG") == 1
    assert few.stderr == "sfsc: 3 of 4 items are shown; --limit unset shows all, --filter chooses\n"
    assert sfsc("ls", "--limit", 4).stderr == ""
    assert json.loads(sfsc("ls", "--filter", '{"identity": "nobody"}', "--json").stdout) == []
    monkeypatch.setattr("sfsc_service.cli.ls.PAGE", 2)
    for limit, shown, listed in ((List().limit, 4, 4), (2, 2, 2), (None, 4, 4)):
        given = {} if limit == SHOWN else {"limit": limit}
        List(url=service.url, **given).run()
        assert capsys.readouterr().out.count("yes") == shown
        List(url=service.url, json=True, **given).run()
        assert len(json.loads(capsys.readouterr().out)) == listed


def test_add_says_how_many_images_keep_another_width(sfsc: Command, photos: Path) -> None:
    assert report(sfsc("add", photos, "--width", "0.5", "--json"))["unchanged_at_other_width"] == 0
    (photos / "cat" / "5.jpg").write_bytes(draw_image(5))
    assert report(sfsc("add", photos, "--width", "0.50", "--json"))["unchanged_at_other_width"] == 0
    assert report(sfsc("add", photos, "--json"))["unchanged_at_other_width"] == 0
    kept = sfsc("add", photos, "--width", "1.0").stdout
    assert "5 unchanged images keep another width than the one that was asked for; `sfsc rm` removes them" in kept


def test_an_address_with_a_path_is_said_to_be_none_of_a_service(service: Live, sfsc: Command) -> None:
    wrong = f"{service.url}/foo/"
    assert one_sentence(sfsc("count", "--url", wrong)) == (
        f"sfsc: {wrong} is not the address of an sfsc service: nothing is at {wrong}widths; without its "
        f"path, {service.url}, it may be one"
    )


def test_tls_where_none_is_spoken_gets_a_hint(service: Live, sfsc: Command) -> None:
    said = one_sentence(sfsc("count", "--url", service.url.replace("http:", "https:")))
    assert said.startswith("sfsc: no answer from https://127.0.0.1:")
    assert f"; it seems to speak HTTP without TLS: {service.url}" in said
