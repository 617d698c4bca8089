"""The command `sfsc` as a process: start, errors in one sentence, SIGTERM."""

import http.client
import importlib.metadata
import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.cli.add import Add
from sfsc_service.cli.count import Count
from sfsc_service.cli.demo import Demo
from sfsc_service.cli.duplicates import Duplicates
from sfsc_service.cli.get import Get
from sfsc_service.cli.ls import List
from sfsc_service.cli.patch import Patch
from sfsc_service.cli.printing import PLACES
from sfsc_service.cli.profile import Profile
from sfsc_service.cli.rm import Remove
from sfsc_service.cli.search import Search
from sfsc_service.cli.serve import Serve
from sfsc_service.cli.widths import Widths
from tests.service.command import SFSC, one_sentence, run, serving, until_ready
from tests.service.images import draw_image
from tests.service.live import JPEG

NOWHERE = "http://127.0.0.1:9"
REMOTE = {
    "add": Add,
    "search": Search,
    "ls": List,
    "get": Get,
    "patch": Patch,
    "duplicates": Duplicates,
    "rm": Remove,
    "count": Count,
    "widths": Widths,
}


@pytest.fixture
def started(tiny: Bundle, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    with serving("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--threads", 1) as (process, url):
        until_ready(url)
        yield process, url


def test_sigterm_answers_what_was_admitted_and_ends_with_zero(
    started: tuple["subprocess.Popen[str]", str], tiny: Bundle, tmp_path: Path
) -> None:
    process, url = started
    image = draw_image(1)
    slow = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    slow.putrequest("PUT", "/items/last-minute")
    slow.putheader("Content-Type", "image/jpeg")
    slow.putheader("Content-Length", str(len(image)))
    slow.endheaders(image[:100])
    with httpx.Client(base_url=url, trust_env=False, headers={"Connection": "close"}) as others:
        assert others.get("/livez").status_code == 200
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        statuses = []
        while not statuses or statuses[-1] != "refused":
            try:
                statuses.append(str(others.get("/readyz").status_code))
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                statuses.append("refused")
            time.sleep(0.05)
    assert "503" in statuses, "unready comes before refusing"
    slow.send(image[100:])
    answer = slow.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["created"] is True
    slow.close()
    assert process.wait(30) == 0
    assert time.monotonic() - began < 30
    with serving("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0) as (_, again):
        until_ready(again)
        assert httpx.get(f"{again}/items/last-minute/image", trust_env=False).content == image


def test_sigterm_under_full_load_answers_everything_that_was_sent(tiny: Bundle, tmp_path: Path) -> None:
    """Many open calls of several large images each, and a bulk call that is cut short in good order."""
    files = [("image", (f"{n}.jpg", draw_image(n, size=1600, quality=50))) for n in range(5)]
    many = [("image", (f"{n}.jpg", files[n % 5][1][1])) for n in range(300)]
    words = ["serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--threads", 1]
    with (
        serving(*words, "--shutdown-grace-s", 60, "--queue-ms", 600_000) as (process, url),
        ThreadPoolExecutor(13) as callers,
    ):
        until_ready(url)

        def call(path: str, sent: list[Any]) -> httpx.Response:
            return httpx.post(f"{url}{path}", files=sent, params={"width": "1.0"}, timeout=120, trust_env=False)

        bulk = callers.submit(call, "/items", many)
        while not httpx.get(f"{url}/items", trust_env=False).json()["items"]:
            assert not bulk.done()
        calls = [callers.submit(call, "/embed", files) for _ in range(12)]
        while "sfsc_preprocess_seconds_count" not in httpx.get(f"{url}/metrics", trust_env=False).text:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert [future.result().status_code for future in calls] == [200] * 12
        told = bulk.result().json()
        assert process.wait(90) == 0
    assert told["stored"] >= 1
    codes = {result.get("code") for result in told["results"][told["stored"] :]}
    assert codes == {"shutting_down"}
    assert told["stored"] + told["failed"] == 300
    with serving(*words) as (_, again):
        until_ready(again)
        assert httpx.get(f"{again}/widths", trust_env=False).json()["gallery"]["items"] == told["stored"]


def test_idle_connections_do_not_hold_up_the_end(started: tuple["subprocess.Popen[str]", str]) -> None:
    process, url = started
    with httpx.Client(base_url=url, trust_env=False) as idle:
        assert idle.put("/items/a", content=draw_image(1), headers=JPEG).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(8) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_second_process_on_the_same_folder_is_refused_in_one_sentence(
    started: tuple["subprocess.Popen[str]", str], tiny: Bundle, tmp_path: Path
) -> None:
    refused = run("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0)
    assert refused.returncode == 1
    assert one_sentence(refused)
    port = started[1].rsplit(":", 1)[1]
    taken = run("serve", tiny.folder, "--data", tmp_path / "other", "--port", port)
    assert taken.returncode == 1
    assert f"port {port}" in one_sentence(taken)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["serve", "/nowhere"], 1, "/nowhere is not a bundle: there is no such folder"),
        (["serve", "BUNDLE", "--data", "/proc/x"], 1, "data: the folder /proc/x cannot be used: No such file"),
        (["serve", "BUNDLE", "--port", "70000"], 2, "--port: must be less than or equal to 65535, found '70000'"),
        (["serve", "BUNDLE", "--slo-ms", "-1"], 2, "--slo-ms: must be"),
        (["serve", "BUNDLE", "--floor-width", "wide"], 2, "--floor-width: "),
        (["serve", "BUNDLE", "--floor-width", "0.3"], 1, "0.25, 0.5, 0.75, 1.0"),
        (["serve", "BUNDLE", "--device", "cuda"], 1, "CUDAExecutionProvider"),
        (["serve", "BUNDLE", "--device", "tpu"], 2, "--device: must be"),
        (["serve", "BUNDLE", "--store", "milvus://nowhere"], 2, "store"),
        (["serve", "BUNDLE", "--store", "milvus://127.0.0.1:1/a"], 1, "does not answer (no connection)"),
        (["export", "milvus://nowhere", "out", "--image-folder", "in"], 1, "store: must be milvus://"),
        (
            ["serve", "BUNDLE", "--image-folder", "s3://KEY:SECRET@b/a"],
            2,
            "what was found is not shown: it may hold",
        ),
        (["export", "milvus://127.0.0.1:1/a", "out", "--image-folder", "s3://KEY:SECRET@b/a"], 2, "is not shown"),
        (
            ["serve", "BUNDLE", "--backup-folder", "s3://b/x"],
            2,
            "must be on this machine, and no URL, found 's3://b/x'",
        ),
        (["backup", "data", "s3://b/monday"], 2, "must be on this machine, and no URL"),
        (["restore", "http://127.0.0.1:9", "new"], 2, "must be on this machine, and no URL"),
        (["import", "exported", "http://127.0.0.1:9"], 2, "must be on this machine, and no URL"),
        (["check", "http://[::1"], 2, "must be an address such as http://127.0.0.1:8000, found 'http://[::1'"),
        (["serve", "BUNDLE", "BUNDLE"], 2, "unrecognized arguments"),
        (["serve", "BUNDLE", "--max-image", "3"], 2, "--max-image"),
        (["serve", "BUNDLE", "--slo-ms"], 2, "--slo-ms: expected one argument"),
        (["serve", "BUNDLE", "--slo-ms", "fast"], 2, "--slo-ms: must be a number"),
        (["widths"], 1, "no answer from http://127.0.0.1:9"),
        (["count"], 1, "start one with `sfsc demo`"),
        (["add", "IMAGES"], 1, "no answer from http://127.0.0.1:9"),
        (["count", "--url=nowhere"], 2, "--url: must be http:// or https:// and a host"),
        (["add", "/nowhere"], 1, "/nowhere"),
        (["add", "EMPTY"], 1, "must hold images"),
        (["search"], 2, "QUERY"),
        (["search", "x", "--filter", "{"], 2, "filter: must be a JSON object, found '{'"),
        (["ls", "--filter", "a=b"], 2, "filter: must be a JSON object, found 'a=b'"),
        (["ls", "--filter", "[]"], 2, "filter: must be a JSON object, found '[]'"),
        (["search", "x", "--width", "0.25"], 1, "no file x exists"),
        (["qqqq"], 2, "invalid choice: 'qqqq'"),
        (["serach"], 2, "no command is named serach; the nearest one is search; see sfsc --help"),
        (["serve", "BUNDLE", "--prot=80"], 2, "--prot=80; the nearest one is --port; see sfsc serve --help"),
        ([], 2, "COMMAND"),
        (["serve", "BUNDLE", "--host", "256.0.0.1"], 1, "256.0.0.1"),
        (["serve", "BUNDLE", "--data", "BUNDLE"], 1, "is a bundle"),
        (["serve", "BUNDLE", "--data", "BUNDLE/manifest.json"], 1, "must be a folder, and"),
        (["serve", "BUNDLE", "--data", "BUNDLE/manifest.json/below"], 1, "manifest.json is a file"),
        (["serve", "BUNDLE", "--data", "IMAGES"], 1, "holds images (cats/1.jpg)"),
        (["demo", "--bundle", "BUNDLE", "--images", "IMAGES", "--data", "IMAGES"], 1, "holds images (cats/1.jpg)"),
        (["demo", "--images", "EMPTY"], 1, "must hold images"),
        (["demo", "--images", "BUNDLE"], 1, "is a bundle"),
        (["demo", "--bundle", "/nowhere"], 1, "/nowhere"),
        (["demo", "--bundle", "BUNDLE", "--images", "/nowhere"], 1, "/nowhere"),
        (["widths", "/nowhere"], 1, "/nowhere"),
        (["collections", "--create", "a", "--delete", "a"], 2, "--create and --delete may be given; found both"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    tiny: Bundle, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "own" / "cats").mkdir(parents=True)
    (tmp_path / "own" / "cats" / "1.jpg").write_bytes(draw_image(1))
    places = {"BUNDLE": tiny.folder, "IMAGES": tmp_path / "own", "EMPTY": tmp_path / "empty"}
    given = [str(places.get(word, word)).replace("BUNDLE/", f"{tiny.folder}/") for word in words]
    files = sorted(path for place in places.values() for path in place.rglob("*"))
    done = run(
        *given, SFSC_DATA=str(tmp_path / "data"), SFSC_PORT="0" if "--port" not in words else "1", SFSC_URL=NOWHERE
    )
    assert done.returncode == code, done.stderr
    assert said in one_sentence(done)
    assert files == sorted(path for place in places.values() for path in place.rglob("*")), "nothing is written"


@pytest.mark.parametrize("command", ["serve", "profile"])
def test_outside_of_a_checkout_a_bundle_must_be_named(tmp_path: Path, command: str) -> None:
    done = run(command, folder=tmp_path)
    assert done.returncode == 1
    assert "bundle: must be given, because there is no models/demo here; `sfsc demo` serves" in one_sentence(done)
    assert not list(tmp_path.iterdir())


def test_a_setting_may_come_from_the_environment(tiny: Bundle, tmp_path: Path) -> None:
    done = run(
        "serve", SFSC_BUNDLE=str(tiny.folder), SFSC_DATA=str(tmp_path), SFSC_PORT="0", SFSC_FLOOR_WIDTH="0.3"
    )
    assert done.returncode == 1
    assert "floor_width" in one_sentence(done)


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["rm"], {"SFSC_FILTER": '{"a": 1}', "SFSC_IDS": '["a"]'}),
        (["collections", "--create", "a"], {"SFSC_DELETE": "b"}),
        (["align", "--status"], {"SFSC_UNDO": "true"}),
    ],
    ids=lambda given: " ".join(given),
)
def test_the_environment_says_where_a_command_works_and_never_what_it_does(
    words: list[str], variables: dict[str, str]
) -> None:
    done = run(*words, SFSC_URL="http://127.0.0.1:1", **variables)
    *warnings, sentence = done.stderr.splitlines()
    told = {line.partition(" is no setting")[0] for line in warnings}
    if words == ["rm"]:  # refused before anything is told
        assert not told
        assert sentence == "sfsc: exactly one of IDS and --filter must be given; found neither"
    else:
        assert told == {f"sfsc: {name}" for name in variables}
        assert "no answer from http://127.0.0.1:1" in sentence


@pytest.mark.parametrize("command", ["serve", "demo", "profile", *REMOTE])
def test_every_setting_stands_in_the_help_with_unit_default_and_variable(command: str) -> None:
    kind = {"serve": Serve, "demo": Demo, "profile": Profile, **REMOTE}[command]
    done = run(command, "--help")
    assert done.returncode == 0
    assert not re.search(r" (str|int|float|bool)\b", done.stdout), "a type of Python's"
    shown = re.sub(r"\s+", " ", done.stdout)
    for name, field in kind.model_fields.items():
        assert field.description is not None
        assert re.search(r" \[[a-zA-Z ,.-]+\]$", field.description), f"{name} has no unit"
        default = "unset" if field.default is None else field.default
        option = str(field.validation_alias or name)
        if command in REMOTE:
            positional = name in ("source", "query", "id", "ids", "bundle") or (command, name) == (
                "patch",
                "metadata",
            )
            named = name.upper() if positional else f"{'-' if name == 'k' else '--'}{option.replace('_', '-')}"
            assert f"{named} " in shown
            assert field.description in shown
            assert (f"[env: SFSC_{option.upper()}]" in shown) is (option in PLACES)
        elif name == "bundle" and command != "demo":
            assert f"BUNDLE {field.description} (default: {default})" in shown
            assert "SFSC_BUNDLE" in field.description
        else:
            said = (
                "" if field.default is False else f" (default: {default})"
            )  # a flag that is off until it is given
            assert f"{field.description}{said} [env: SFSC_{name.upper()}]" in shown
            assert f"--{name.replace('_', '-')} " in shown


@pytest.mark.parametrize("command", ["serve", "demo", "profile", *REMOTE])
def test_help_shows_an_example_that_is_accepted(command: str) -> None:
    examples = re.findall(r"^example: sfsc (.+)$", run(command, "--help").stdout, re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[0] == command
        assert run(*words, "--help").returncode == 0, "an unknown option would be refused"


def test_the_help_of_the_demo_begins_with_images() -> None:
    _, options = run("demo", "--help").stdout.split("options:")
    assert re.findall(r"^  (--[a-z-]+)", options, re.MULTILINE)[0] == "--images"


def test_the_help_of_the_command_names_all_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("serve", "demo", "profile", *REMOTE):
        assert len(re.findall(rf"^  {command} +\w.*\.$", done.stdout, re.MULTILINE)) == 1
        assert len(re.findall(rf"\b{command}\b", done.stdout.split("example:")[0])) <= 2, "not listed twice"


def test_the_version_is_the_packages() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"sfsc {importlib.metadata.version('sfsc')}\n")


def test_a_reader_who_has_seen_enough_is_no_fault(tiny: Bundle, tmp_path: Path) -> None:
    with serving("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0) as (_, url):
        until_ready(url)
        words = [SFSC, "widths", "--url", url, "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0
        done = run("search", "nothere.jpg", "--url", url)
        assert done.returncode == 1
        assert done.stderr == "sfsc: query: nothere.jpg is neither a file nor the id of an item\n"


def test_widths_are_printed(tiny: Bundle) -> None:
    done = run("widths", tiny.folder)
    assert done.returncode == 0
    quality = tiny.manifest.quality
    for width, row, mixed in zip(tiny.manifest.widths, quality.mean_ap, quality.mixed.mean_ap, strict=True):
        assert re.search(rf"{re.escape(width)}\b.*{row[-1]:.2f}.*{mixed:.2f} ± 0\.00", done.stdout)


def test_profile_measures_every_width_and_keeps_it_for_the_next_start(tiny: Bundle, tmp_path: Path) -> None:
    done = run("profile", tiny.folder, "--data", tmp_path / "data", "--max-batch", 4)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"│ +(\d\.\d+) +│ +(\d+) +│ +([\d.]+) +│ +([\d.]+) +│ +(\d+) +│", done.stdout)
    assert [(width, int(images)) for width, images, *_ in rows] == [
        (width, images) for width in tiny.manifest.widths for images in (1, 2, 4)
    ]
    kept = json.loads((tmp_path / "data" / "costs.json").read_text())["costs"]
    for width, images, median_ms, p95_ms, per_s in rows:
        assert kept[width][images]["median_ms"] == pytest.approx(float(median_ms), abs=0.006)
        assert kept[width][images]["p95_ms"] == pytest.approx(float(p95_ms), abs=0.006)
        assert float(per_s) == pytest.approx(1000 * int(images) / kept[width][images]["median_ms"], abs=1.0)


def test_profile_says_what_is_wrong_in_one_sentence(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words in ((tmp_path / "nowhere",), (tiny.folder, "--data", tmp_path / "file" / "below", "--max-batch", 1)):
        done = run("profile", *words)
        assert done.returncode == 1
        assert done.stderr.startswith("sfsc: ")
        assert len(done.stderr.splitlines()) == 1
