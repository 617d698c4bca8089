"""What the server process takes from the settings."""

import socket
from pathlib import Path

from sfsc_bundle.folder import Bundle
from tests.service.command import serving, until_ready
from tests.service.raw import TIMEOUT_S, hear


def test_a_connection_is_kept_open_as_long_as_the_setting_says(tiny: Bundle, tmp_path: Path) -> None:
    """By default it would be longer than the client waits here."""
    words = ["serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--keep-alive-s", 1, "--threads", 1]
    with serving(*words) as (process, url):
        until_ready(url)
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert hear(connection).startswith(b"HTTP/1.1 200"), "and it is closed then"
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
