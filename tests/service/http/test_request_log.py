"""Every response has the request's id, and so has every line that is logged on the way."""

import re

import pytest

from sfsc_service.http.request_log import REQUEST_ID
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running


@pytest.mark.parametrize("given", ["a", "req-1.2:3", "A" * 128, "4bf92f35/77b3+4da6="])
def test_a_sane_id_is_kept(live: Live, given: str) -> None:
    for path in ("/livez", "/items/nothing-here", "/no-such-route"):
        assert live.http.get(path, headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "A" * 129, "two words", "<script>", b"\xc3\xa9"])
def test_else_an_id_is_made(live: Live, given: str | bytes | None) -> None:
    headers = {} if given is None else {b"X-Request-ID": given if isinstance(given, bytes) else given.encode()}
    found = [live.http.get("/livez", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in found)
    assert found[0] != found[1]


def test_an_image_on_the_fast_path_has_one_too(live: Live) -> None:
    assert re.fullmatch("[0-9a-f]{16}", live.post_image("/embed", draw_image(1)).headers["x-request-id"])


def test_wrong_requests_are_logged_and_right_ones_are_not(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sfsc_service.http.request_log")
    live.http.get("/items/nothing%0Ahere")
    live.http.get("/livez")
    assert [record.getMessage() for record in caplog.records if "request_log" in record.name] == [
        "GET '/items/nothing\\nhere' is answered with 422 to anybody at 127.0.0.1"
    ]


def test_a_fault_in_a_thread_of_the_store_is_logged_under_the_id_of_its_request(settings: Settings) -> None:
    seen: list[str | None] = []
    with running(settings) as live:

        def broken(*_: object) -> None:
            seen.append(REQUEST_ID.get())
            raise RuntimeError("broken")

        live.service.gallery._filtered_hits = broken  # type: ignore[method-assign, assignment]
        image = draw_image(1)
        headers = {"Content-Type": "image/jpeg", "X-Request-ID": "mine"}
        assert live.http.post('/search?filter={"camera":1}', content=image, headers=headers).status_code == 500
    assert seen == ["mine"]
