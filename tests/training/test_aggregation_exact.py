"""Aggregation worked out by hand: Gramians in blocks, shells, conflicts, and weights of two gradients."""

import pytest
import torch

from sfsc_training.aggregation.aggregate import aggregate, gramian_of, shells
from sfsc_training.aggregation.projection import conflict_share, projection_weights
from sfsc_training.aggregation.weights import aggregation_weights
from sfsc_training.config import AggregationSection

KINDS = ("projection", "sum", "mean", "mgda", "cagrad", "upgrad")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [1, 8191, 8192, 16383, 16384, 16385, 24576, 24581])
def test_a_gramian_by_blocks_misses_no_column(size: int) -> None:
    gradients = torch.zeros(2, size, dtype=torch.float64)
    gradients[0] = torch.arange(1, size + 1)
    gradients[1] = 1.0
    total = size * (size + 1) / 2
    squares = size * (size + 1) * (2 * size + 1) / 6
    assert gramian_of(gradients).tolist() == [[pytest.approx(squares), total], [total, size]]


def test_long_rows_are_multiplied_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks and more go through bmm, which is what makes it quick; less than two do not."""
    seen: list[tuple[int, ...]] = []
    multiply = torch.bmm

    def counted(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(one.shape))
        return multiply(one, other)

    monkeypatch.setattr(torch, "bmm", counted)
    for size in (16383, 16384, 24577):
        gramian_of(torch.ones(3, size))
    assert seen == [(2, 3, 8192), (3, 3, 8192)]


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        ([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], [[3], [2], [0, 1]]),
        ([[1, 1, 0], [1, 1, 0]], [[0, 1]]),
        ([[0, 0, 0], [1, 0, 1]], [[0, 2]]),
        ([[1, 1]], [[0, 1]]),
        ([[0, 0]], []),
    ],
)
def test_shells_are_the_columns_of_equally_many_widths_outermost_first(
    reached: list[list[int]], expected: list[list[int]]
) -> None:
    found = shells(torch.tensor(reached, dtype=torch.bool))
    assert [columns.tolist() for columns in found] == expected
    assert all(columns.dtype == torch.int64 and columns.dim() == 1 for columns in found)


@pytest.mark.parametrize(
    ("gradients", "share"),
    [
        ([[1.0, 0.0]], 0.0),
        ([[1.0, 0.0], [-1.0, 0.0]], 1.0),
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], 1 / 3),
        ([[1.0, 0.0], [-1.0, 1.0], [-1.0, -2.0]], 1.0),
        ([[1.0, 1.0], [1.0, 0.0], [-3.0, 1.0], [0.0, 1.0]], 1 / 3),
    ],
)
def test_a_conflict_is_a_pair_with_a_negative_product(gradients: list[list[float]], share: float) -> None:
    rows = torch.tensor(gradients)
    assert conflict_share(rows @ rows.T) == pytest.approx(share)


def test_a_gradient_is_projected_off_the_one_it_conflicts_with() -> None:
    """(1, 0) off (−1, 1) is (½, ½); (−1, 1) off (1, 0) is (0, 1)."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    weights = projection_weights(gradients @ gradients.T, generator())
    assert weights.tolist() == [2.0, 1.5]
    assert (weights @ gradients).tolist() == [0.5, 1.5]


def test_without_conflict_nothing_is_projected() -> None:
    for gradients in (torch.eye(3), torch.ones(3, 2), torch.zeros(3, 2)):
        assert projection_weights(gradients @ gradients.T, generator()).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_of_the_gramian_s_type(kind: str, dtype: torch.dtype) -> None:
    gramian = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=dtype, requires_grad=True)
    weights = aggregation_weights(gramian, AggregationSection(kind=kind), generator())
    assert (weights.shape, weights.dtype, weights.requires_grad) == ((2,), dtype, False)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("sum", [1.0, 1.0, 1.0, 1.0]),
        ("mean", [0.25, 0.25, 0.25, 0.25]),
        ("projection", [1.0, 1.0, 1.0, 1.0]),
        ("mgda", [0.25, 0.25, 0.25, 0.25]),
        ("upgrad", [0.25, 0.25, 0.25, 0.25]),
    ],
)
def test_weights_of_four_gradients_at_right_angles(kind: str, weights: list[float]) -> None:
    found = aggregation_weights(4 * torch.eye(4), AggregationSection(kind=kind), generator())
    assert found.tolist() == pytest.approx(weights, abs=1e-3)


@pytest.mark.parametrize("kind", ["mgda", "cagrad", "upgrad"])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_weights_do_not_depend_on_the_scale(kind: str, scale: float) -> None:
    gradients = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)
    section = AggregationSection(kind=kind)
    expected = aggregation_weights(gradients @ gradients.T, section, generator())
    found = aggregation_weights(scale * gradients @ gradients.T, section, generator())
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("c", [0.0, 0.5])
def test_cagrad_s_c_is_the_recipe_s(c: float) -> None:
    gradients = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)
    section = AggregationSection(kind="cagrad", cagrad_c=c)
    weights = aggregation_weights(gradients @ gradients.T, section, generator())
    mean = gradients.mean(dim=0)
    distance = (weights @ gradients - mean).norm() / mean.norm()
    assert distance.item() == pytest.approx(c, abs=1e-3)


@pytest.mark.parametrize("kind", ["projection", "sum", "mean", "upgrad", "mgda", "cagrad"])
def test_each_region_is_aggregated_on_its_own(kind: str) -> None:
    gradients = torch.tensor([[1.0, 0.0, 2.0, 0.0], [-1.0, 1.0, 1.0, 3.0]], dtype=torch.float64)
    whole = AggregationSection(kind=kind)
    scoped = AggregationSection(kind=kind, scope="overlap")
    regions = [torch.tensor([2, 3]), torch.tensor([0, 1])]
    update, norms, conflicts = aggregate(gradients, scoped, generator(), regions)
    inner, _, _ = aggregate(gradients[:, :2], whole, generator())
    outer, _, _ = aggregate(gradients[:, 2:], whole, generator())
    assert update.tolist() == pytest.approx([*inner.tolist(), *outer.tolist()], abs=1e-6)
    assert norms.tolist() == pytest.approx([5**0.5, 12**0.5])
    assert conflicts == 0.0


def test_a_flat_scope_takes_the_vectors_whole() -> None:
    gradients = torch.tensor([[1.0, 0.0, 2.0, 0.0], [-1.0, 1.0, 1.0, 3.0]], dtype=torch.float64)
    update, _, _ = aggregate(gradients, AggregationSection(), generator())
    assert update.tolist() == gradients.sum(dim=0).tolist()


@pytest.mark.parametrize(("kind", "expected"), [("mgda", 1.0), ("cagrad", 1.5), ("mean", 0.5), ("sum", 1.0)])
def test_a_width_that_ends_before_a_region_has_no_say_there_only_where_it_would_stop_it(
    kind: str, expected: float
) -> None:
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    regions = [torch.tensor([1]), torch.tensor([0])]
    update, _, _ = aggregate(gradients, AggregationSection(kind=kind, scope="overlap"), generator(), regions)
    assert update[1].item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_gradient_is_aggregated_by_regions_too(kind: str) -> None:
    section = AggregationSection(kind=kind, scope="overlap")
    update, norms, conflicts = aggregate(torch.tensor([[3.0, 4.0]]), section, generator(), [torch.tensor([1, 0])])
    expected = [4.5, 6.0] if kind == "cagrad" else [3.0, 4.0]  # CAGrad goes c of the gradient's length further
    assert update.tolist() == pytest.approx(expected, rel=1e-3)
    assert (norms.tolist(), conflicts) == ([5.0], 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_where_all_gradients_are_zero_the_weights_are_finite(kind: str) -> None:
    weights = aggregation_weights(torch.zeros(3, 3), AggregationSection(kind=kind), generator())
    assert torch.isfinite(weights).all()
