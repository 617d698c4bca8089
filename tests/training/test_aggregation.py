"""Gradient projection against the golden values, a direct PCGrad, and what it promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_training.aggregation.aggregate import aggregate, shells
from sfsc_training.aggregation.projection import conflict_share, projection_weights
from sfsc_training.config import AggregationSection

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


@pytest.mark.parametrize(
    ("section", "expected"), [(PROJECTION, (0.584795, 3.801170, 3.801170)), (SUM, (2.0, 2.0, 2.0))]
)
def test_pinned_values(section, expected):
    assert aggregate(GOLDEN, section, generator()).update.tolist() == pytest.approx(expected, abs=1e-5)


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
    update = aggregate(gradients, PROJECTION, generator(seed)).update
    assert (gradients @ update >= -1e-9).all()


@given(st.integers(0, 10_000), st.floats(0.01, 100))
@settings(max_examples=40)
def test_scaling_all_gradients_scales_the_update(seed, factor):
    gradients = torch.randn(4, 6, dtype=torch.float64, generator=generator(seed))
    one = aggregate(gradients, PROJECTION, generator(seed)).update
    scaled = aggregate(factor * gradients, PROJECTION, generator(seed)).update
    assert torch.allclose(scaled, factor * one, rtol=1e-9)


def test_without_conflict_the_projection_is_the_sum():
    gradients = torch.rand(4, 10)
    assert torch.allclose(aggregate(gradients, PROJECTION, generator()).update, gradients.sum(dim=0))


def test_a_task_without_gradient_is_no_division_by_zero():
    gradients = torch.stack([torch.zeros(3), torch.tensor([1.0, -1.0, 0.0]), torch.tensor([-1.0, 0.5, 0.0])])
    assert torch.isfinite(aggregate(gradients, PROJECTION, generator()).update).all()


def test_conflict_share_and_norms():
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [0.0, 2.0]])
    assert conflict_share(gradients @ gradients.T) == pytest.approx(1 / 3)
    assert aggregate(gradients, SUM, generator()).norms.tolist() == pytest.approx([1.0, 1.004988, 2.0])


def test_overlap_projects_each_shell_by_itself():
    reached = torch.tensor([[True, True, False, False], [True, True, True, True]])
    parts = shells(reached)
    assert [part.tolist() for part in parts] == [[2, 3], [0, 1]]
    gradients = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 1.0, 5.0, -5.0]])
    update = aggregate(gradients, AggregationSection(scope="overlap"), generator(), parts).update
    inner = aggregate(gradients[:, :2], PROJECTION, generator()).update
    assert update.tolist() == pytest.approx([*inner.tolist(), 5.0, -5.0])
