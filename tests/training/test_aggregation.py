"""The aggregators: pinned values, PCGrad written out and torchjd's, and what each of them promises."""

import sys
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchjd.aggregation import PCGrad

from sfsc_training.aggregation.aggregate import aggregate, gramian_of, shells
from sfsc_training.aggregation.projection import conflict_share, projection_weights
from sfsc_training.config import AggregationSection
from sfsc_training.errors import RecipeError
from sfsc_training.trained_widths import sandwich

PROJECTION, SUM = AggregationSection(), AggregationSection(kind="sum")
GOLDEN = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pcgrad(gradients, seed):
    """Algorithm 1 of Yu et al. 2020, vector by vector."""
    draws = generator(seed)
    projected = []
    for i, gradient in enumerate(gradients):
        current = gradient.clone()
        for j in torch.randperm(len(gradients), generator=draws).tolist():
            overlap = current @ gradients[j]
            if j != i and overlap < 0:
                current = current - overlap / (gradients[j] @ gradients[j]) * gradients[j]
        projected.append(current)
    return torch.stack(projected).sum(dim=0)


PINNED = {
    "projection": (0.584795, 3.801170, 3.801170),
    "sum": (2.0, 2.0, 2.0),
    "mean": (1.0, 1.0, 1.0),
    "mgda": (0.0, 1.0, 1.0),
    "cagrad": (0.1835, 1.2041, 1.2041),
    "upgrad": (0.2929, 1.9004, 1.9004),
}
KINDS = get_args(AggregationSection.model_fields["kind"].annotation)
NEVER_AGAINST_A_TASK = ["mgda", "upgrad"]


@pytest.mark.parametrize("kind", KINDS)
def test_pinned_values(kind):
    update = aggregate(GOLDEN, AggregationSection(kind=kind), generator()).vector
    assert update.tolist() == pytest.approx(PINNED[kind], abs=2e-3)


def draw(tasks, size, seed):
    return torch.randn(tasks, size, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.001, 1000))
@settings(max_examples=6, deadline=None)
def test_scaling_all_gradients_scales_the_update(kind, seed, factor):
    gradients, section = draw(4, 6, seed), AggregationSection(kind=kind)
    one = aggregate(gradients, section, generator(seed)).vector
    scaled = aggregate(factor * gradients, section, generator(seed)).vector
    assert torch.allclose(scaled, factor * one, rtol=1e-3, atol=1e-3 * factor)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_the_order_of_the_tasks_does_not_matter(kind, seed):
    # Projection draws an order where there is one to draw: of two tasks there is none.
    tasks = 2 if kind == "projection" else 4
    gradients, section = draw(tasks, 6, seed), AggregationSection(kind=kind)
    order = torch.randperm(tasks, generator=generator(seed))
    one = aggregate(gradients, section, generator(seed)).vector
    other = aggregate(gradients[order], section, generator(seed)).vector
    assert torch.allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_the_update_is_a_combination_of_the_gradients(kind, seed):
    gradients = draw(3, 6, seed)
    update = aggregate(gradients, AggregationSection(kind=kind), generator(seed)).vector
    solved = torch.linalg.lstsq(gradients.T, update.unsqueeze(1)).solution
    assert torch.allclose(gradients.T @ solved, update.unsqueeze(1), atol=1e-8)
    assert (solved > -1e-3).all()


@pytest.mark.parametrize("kind", NEVER_AGAINST_A_TASK)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_no_task_loses_where_that_is_promised(kind, seed):
    gradients = draw(4, 6, seed)
    update = aggregate(gradients, AggregationSection(kind=kind), generator(seed)).vector
    assert (gradients @ update >= -1e-2).all()


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_projection_is_torchjds_pcgrad(tasks, size, seed):
    gradients = draw(tasks, size, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # both draw their orders with randperm, one after the other
        expected = PCGrad()(gradients)
    assert torch.allclose(aggregate(gradients, PROJECTION, generator(seed)).vector, expected, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_gradient_gives_finite_numbers(kind):
    gradients = torch.stack([torch.zeros(3), torch.tensor([1.0, -1.0, 0.0]), torch.tensor([-1.0, 0.5, 0.0])])
    assert torch.isfinite(aggregate(gradients, AggregationSection(kind=kind), generator()).vector).all()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(RecipeError, match=r"aggregation.kind mgda needs the extra `aggregators`"):
        aggregate(GOLDEN, AggregationSection(kind="mgda"), generator())


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 10_000))
@settings(max_examples=60)
def test_weights_on_the_gramian_are_the_vector_algorithm(tasks, size, seed):
    gradients = torch.randn(tasks, size, dtype=torch.float64, generator=generator(seed))
    weights = projection_weights(gradients @ gradients.T, generator(seed))
    assert torch.allclose(weights @ gradients, pcgrad(gradients, seed), atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_two_tasks_never_lose_by_the_update(seed):
    gradients = torch.randn(2, 6, dtype=torch.float64, generator=generator(seed))
    update = aggregate(gradients, PROJECTION, generator(seed)).vector
    assert (gradients @ update >= -1e-9).all()


def test_without_conflict_the_projection_is_the_sum():
    gradients = torch.rand(4, 10)
    assert torch.allclose(aggregate(gradients, PROJECTION, generator()).vector, gradients.sum(dim=0))


def test_conflict_share_and_norms():
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [0.0, 2.0]])
    assert conflict_share(gradients @ gradients.T) == pytest.approx(1 / 3)
    assert aggregate(gradients, SUM, generator()).norms.tolist() == pytest.approx([1.0, 1.004988, 2.0])


def test_overlap_projects_each_shell_by_itself():
    reached = torch.tensor([[True, True, False, False], [True, True, True, True]])
    parts = shells(reached)
    assert [part.tolist() for part in parts] == [[2, 3], [0, 1]]
    gradients = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 1.0, 5.0, -5.0]])
    update = aggregate(gradients, AggregationSection(scope="overlap"), generator(), parts).vector
    inner = aggregate(gradients[:, :2], PROJECTION, generator()).vector
    assert update.tolist() == pytest.approx([*inner.tolist(), 5.0, -5.0])


@pytest.mark.parametrize("kind", KINDS)
def test_where_only_one_width_reaches_the_others_do_not_stop_it(kind):
    parts = shells(torch.tensor([[True, True, False, False], [True, True, True, True]]))
    gradients = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 1.0, 5.0, -5.0]])
    update = aggregate(gradients, AggregationSection(kind=kind, scope="overlap"), generator(), parts).vector
    assert (update[2:] * gradients[1, 2:] > 0).all()


def test_long_rows_have_the_inner_products_of_short_ones():
    gradients = draw(3, 40_001, 0)
    assert torch.allclose(gramian_of(gradients), gradients @ gradients.T, rtol=1e-12)


@given(st.integers(1, 8), st.none() | st.integers(0, 8), st.integers(0, 10_000))
@settings(max_examples=60)
def test_a_sandwich_has_both_ends_and_some_between(count, between, seed):
    trained = range(count)
    chosen = sandwich(trained, between, generator(seed))
    assert sorted(set(chosen)) == list(chosen)
    assert {0, count - 1} <= set(chosen) <= set(trained)
    assert len(chosen) == (count if between is None else min(count, between + 2))


def test_a_sandwich_draws_every_width_in_time():
    seen = {width for seed in range(50) for width in sandwich(range(6), 1, generator(seed))}
    assert seen == set(range(6))
