"""What one new kind of budget takes: its rule, its option, and this file."""

from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import running


def test_the_new_limit_is_kept_however_little_work_is_allowed(settings: Settings) -> None:
    with running(settings) as live:
        answer = live.post_image("/embed", draw_image(1), gflops=1e-9, min_width="0.75")
        assert answer.json()["results"][0]["width"] == "1.0"
        refused = live.post_image("/embed", draw_image(1), width="0.25", min_width="0.75")
        assert refused.json()["code"] == "contradictory_limits"
