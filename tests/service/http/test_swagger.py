"""/docs in a real Chromium, which is the judge of the policy on content."""

import pytest

pytest.importorskip("playwright", reason="the dev extra is not installed")

from benchmarks.chromium import chromium, executable
from tests.service.live import Live

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="no Chromium; tests/system/browser.sh says how to get one"),
]


def test_docs_show_every_operation_without_an_error_and_from_here_alone(live: Live) -> None:
    operations = sum(len(path) for path in live.http.get("/openapi.json").json()["paths"].values())
    told: list[str] = []
    with chromium() as browser, browser.new_context() as context:
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: told.append(request.url) if live.url not in request.url else None)
        page.goto(f"{live.url}/docs")
        page.locator(".opblock").nth(operations - 1).wait_for()
        assert page.locator(".opblock").count() == operations
        page.locator(".opblock-summary").first.click()
        page.get_by_role("button", name="Try it out").wait_for()
    assert [line for line in told if not line.startswith("data:")] == []
