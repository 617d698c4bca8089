"""The commands that call a running service, where another program answers."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.service.command import run
from tests.service.images import draw_image


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

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("words", [["widths"], ["count"], ["ls"], ["get", "a"], ["add", "FOLDER"]])
def test_another_program_on_the_port_is_said_to_be_one(stranger: str, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "1.png").write_bytes(draw_image(1))
    done = run(*(tmp_path if word == "FOLDER" else word for word in words), SFSC_URL=stranger)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f'sfsc: another program answers at {stranger}: status 200, \'{{"hello": "world"}}\'\n')
