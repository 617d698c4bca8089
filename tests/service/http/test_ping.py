"""What one new route takes: a module, its place in one tuple, and this file."""

from sfsc_service.settings import Settings
from tests.service.live import running


def test_the_new_route_answers_and_is_documented(settings: Settings) -> None:
    with running(settings) as live:
        assert live.http.get("/ping").json() == {"answer": "pong"}
        assert "/ping" in live.http.get("/openapi.json").json()["paths"]
