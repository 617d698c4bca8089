"""Hits are chosen among the nearest items as they would be among all items."""

from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.gallery.hit_selection import HitSelection
from sfsc_service.store.protocol import Hit

SCORES = st.sampled_from([-1.0000001, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0000001])


@given(
    scores=st.lists(SCORES, max_size=12),
    selection=st.builds(
        HitSelection,
        k=st.integers(1, 4),
        offset=st.integers(0, 4),
        min_score=st.sampled_from([-1.0, -0.5, 0.25, 1.0]),
        exclude=st.frozensets(st.sampled_from(["0", "1", "3", "7", "nobody"])),
    ),
)
def test_what_is_fetched_holds_every_hit(scores: list[float], selection: HitSelection) -> None:
    descending = sorted(scores, reverse=True)
    items = [Hit(str(n), "s", "1.0", "{}", None, score) for n, score in enumerate(descending)]
    good = [hit for hit in items if hit.id not in selection.exclude]
    if selection.min_score > -1.0:
        good = [hit for hit in good if hit.score >= selection.min_score]
    wanted = good[selection.offset : selection.offset + selection.k]
    assert selection.choose(items[: selection.fetched]) == wanted
