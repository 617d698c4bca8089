"""The commands that call a running service, where another program answers."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sfsc_service.cli.main import main
from sfsc_service.client.answers import CollectionAnswer, ItemAnswer, SearchAnswer
from tests.service.command import run
from tests.service.images import draw_image


@contextmanager
def answering(kind: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def stranger() -> Iterator[str]:
    """Another program, which answers every request with the same JSON."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"hello": "world"}')

        def log_message(self, *_: object) -> None:
            pass

    with answering(Answer) as url:
        yield url


@pytest.mark.parametrize("words", [["widths"], ["count"], ["ls"], ["get", "a"], ["add", "FOLDER"]])
def test_another_program_on_the_port_is_said_to_be_one(stranger: str, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "1.png").write_bytes(draw_image(1))
    done = run(*(tmp_path if word == "FOLDER" else word for word in words), SFSC_URL=stranger)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sfsc: another program answers at {stranger}: {stranger}/")
    assert done.stderr.endswith(' has status 200, \'{"hello": "world"}\'\n')


@pytest.fixture
def moved() -> Iterator[str]:
    """A proxy that wants TLS."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(308)
            self.send_header("Location", f"https://bob:secret@sfsc.example{self.path}")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with answering(Answer) as url:
        yield url


def test_where_another_program_wants_to_be_asked_is_shown(moved: str) -> None:
    done = run("get", "a", SFSC_URL=moved)
    told = f"{moved}/items/a has status 308, to be asked at https://sfsc.example/items/a"
    assert done.stderr == f"sfsc: another program answers at {moved}: {told}\n"


@pytest.fixture
def hostile() -> Iterator[str]:
    """A service whose texts have what a terminal acts on."""
    text = "\x1b]0;x\x07\x9b\u202e[bold]"
    required = ItemAnswer.__required_keys__ | SearchAnswer.__required_keys__ | CollectionAnswer.__required_keys__
    item = dict.fromkeys(required, text) | {"metadata": {text: text}, "score": 0.5, "widths": {text: 1}}
    answer = item | {"items": [item], "next": None, "next_cursor": None, "collections": [item]}
    answer |= {"hits": [item], "query": {"width": text}, "code": text, "detail": text}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(404 if self.path.startswith("/items/none") else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with answering(Answer) as url:
        yield url


@pytest.mark.parametrize(
    "words",
    [["ls"], ["get", "a"], ["get", "none"], ["search", "a"], ["collections"], ["count", "--collection", "c"]],
)
def test_nothing_of_a_hostile_service_reaches_the_terminal_as_it_is(
    hostile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setenv("SFSC_URL", hostile)
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["sfsc", *words, *more])
        with suppress(SystemExit):
            main()
        output = capsys.readouterr()
        assert "another program" not in output.err
        shown = (output.out + output.err).replace("\n", "")
        assert r"\u009b\u202e[bold]" in shown
        assert shown.isprintable()
