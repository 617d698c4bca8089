"""`sfsc demo` has a load on loopback alone."""

from pathlib import Path

import httpx
import pytest

from sfsc_bundle.folder import Bundle
from tests.service.command import serving, until_ready
from tests.service.images import draw_image


@pytest.mark.parametrize(
    ("command", "host", "expected"),
    [
        ("demo", "127.0.0.1", True),
        ("demo", "0.0.0.0", False),
        ("serve", "127.0.0.1", False),
    ],
)
def test_only_a_demo_on_loopback_may_load_itself(
    tiny: Bundle, tmp_path: Path, command: str, host: str, expected: bool
) -> None:
    (tmp_path / "gallery.json").write_text('{"queries": [{"file": "a.jpg"}]}')
    (tmp_path / "a.jpg").write_bytes(draw_image(1))
    bundle = [tiny.folder] if command == "serve" else ["--bundle", tiny.folder]
    words = [
        *bundle,
        "--samples",
        tmp_path / "gallery.json",
        "--data",
        tmp_path / "data",
        "--host",
        host,
        "--port",
        0,
        *([] if host == "127.0.0.1" else ["--allow-open"]),
    ]
    with serving(command, *words) as (_, url):
        until_ready(url)
        assert httpx.get(f"{url}/widths", trust_env=False).json()["demo_load"] is expected
        assert httpx.get(f"{url}/demo/load", trust_env=False).status_code == (200 if expected else 404)
