"""What the server process takes from the settings."""

import asyncio
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

from sfsc_bundle.folder import Bundle
from sfsc_service.http.server import ACCEPTED_AT_ONCE
from sfsc_service.settings import Settings
from tests.service.command import serving, until_ready
from tests.service.live import running
from tests.service.raw import TIMEOUT_S, connect, hear


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


def test_a_round_of_the_event_loop_accepts_many_connections(settings: Settings) -> None:
    """However busy the loop is, those that connect do not wait for one round each."""
    count = 3 * ACCEPTED_AT_ONCE
    with running(settings) as live, ExitStack() as opened:
        open_before = len(live.server.server_state.connections)
        connected = threading.Event()

        async def rounds() -> int:
            assert connected.wait(TIMEOUT_S)  # meanwhile nothing is accepted
            found = 0
            while len(live.server.server_state.connections) < open_before + count:
                found += 1
                assert found < count, "a round for each connection"
                await asyncio.sleep(0)
            return found

        counting = asyncio.run_coroutine_threadsafe(rounds(), live.loop)
        for _ in range(count):
            opened.enter_context(connect(live))
        connected.set()
        assert counting.result(TIMEOUT_S) <= 10
        assert live.http.get("/livez").status_code == 200
