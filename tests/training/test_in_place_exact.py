"""The options of learning within one training, against the definitions of their papers written out by hand."""

import math

import pytest
import torch

from sfsc_training.aggregation.aggregate import aggregate
from sfsc_training.config import AggregationSection, LossSection, OptimiserSection
from sfsc_training.losses.classifier import Classifier
from sfsc_training.losses.contrastive import contrastive_loss, draw_widths, mixed_gradients
from sfsc_training.losses.distillation import alpha_divergence_loss, soft_target_loss
from sfsc_training.losses.objective import needs_widest, soft_targets_of, width_loss
from sfsc_training.trained_widths import alone, trained_at

# α-divergence


def softmax(values):
    top = [math.exp(value) for value in values]
    return [value / sum(top) for value in top]


def divergence(p, q, alpha):
    """AlphaNet, eq. 2 with clipped ratios; at α = 1 its limit, KL[p ‖ q]."""
    if alpha == 1:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    clipped = [min((a / b) ** alpha, 5) for a, b in zip(p, q, strict=True)]
    return sum(b * (ratio - 1) for b, ratio in zip(q, clipped, strict=True)) / (alpha * (alpha - 1))


def slope(p, q, alpha):
    """The gradient by the logits of −Σ q⊥ ρ log q, ρ = r^α/α + 1/(α(α−1)), or r at α = 1: q Σ(qρ) − qρ."""
    if alpha == 1:
        weighted = p
    else:
        clipped = [min((a / b) ** alpha, 5) for a, b in zip(p, q, strict=True)]
        weighted = [b * (ratio / alpha + 1 / (alpha * (alpha - 1))) for b, ratio in zip(q, clipped, strict=True)]
    return [b * sum(weighted) - found for b, found in zip(q, weighted, strict=True)]


ROWS = [
    ([2.0, 0.0, -1.0], [0.0, 0.5, 0.0]),  # the reference knows what the width does not: α = 1 is larger
    ([0.0, 0.0, 0.0], [3.0, 0.0, -1.0]),
    ([-4.0, 1.0, 1.0], [3.0, 0.0, 0.0]),  # a ratio beyond the limit
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
]


@pytest.mark.parametrize(("reference", "logits"), ROWS)
def test_the_larger_alpha_divergence_and_its_gradient(reference, logits):
    p, q = softmax(reference), softmax(logits)
    covering, seeking = divergence(p, q, 1), divergence(p, q, -1)
    own = torch.tensor([logits], requires_grad=True)
    loss = alpha_divergence_loss(own, torch.tensor([reference]))
    loss.backward()
    assert loss.item() == pytest.approx(max(covering, seeking), abs=1e-6)
    assert own.grad[0].tolist() == pytest.approx(slope(p, q, -1 if seeking > covering else 1), abs=1e-6)


def test_both_alphas_are_met_above():
    kinds = {divergence(*map(softmax, row), -1) > divergence(*map(softmax, row), 1) for row in ROWS[:3]}
    assert kinds == {True, False}


def test_of_a_batch_each_image_has_its_own_alpha_and_the_temperature_scales():
    reference, logits = (torch.tensor(rows) for rows in zip(*ROWS, strict=True))
    alone_ = [alpha_divergence_loss(logits[n : n + 1], reference[n : n + 1]) for n in range(len(ROWS))]
    assert alpha_divergence_loss(logits, reference).item() == pytest.approx(sum(alone_).item() / len(ROWS))
    cooled = soft_target_loss(logits, reference, 2.0, "alpha")
    assert cooled.item() == pytest.approx(4 * alpha_divergence_loss(logits / 2, reference / 2).item())


# References of soft targets

TARGET = torch.arange(6) % 3


def classifier(seed):
    torch.manual_seed(seed)
    return Classifier(4, 3, LossSection())


def test_soft_targets_may_come_from_another_reference_through_its_own_class_vectors():
    torch.manual_seed(0)
    features, other, widest = torch.randn(3, 6, 4)
    kappa, averaged = classifier(1), classifier(2)
    section = LossSection(compatible="base", soft_targets=3.0, reference="average")
    soft = soft_targets_of(other, averaged)
    found = width_loss(features, TARGET, kappa, full=False, widest=widest, step=0, section=section, soft=soft).loss
    plain = width_loss(
        features, TARGET, kappa, full=False, widest=widest, step=0, section=LossSection(compatible="base")
    ).loss
    added = 0.0
    for row, there in zip(averaged(features).tolist(), averaged(other).tolist(), strict=True):
        p, q = softmax(there), softmax(row)
        added += divergence(p, q, 1) / 6
    assert found.item() == pytest.approx(plain.item() + 3.0 * added, rel=1e-5)
    features.requires_grad_()
    only = LossSection(compatible="soft-targets", reference="average")
    width_loss(features, TARGET, kappa, full=False, widest=None, step=0, section=only, soft=soft).loss.backward()
    assert features.grad.abs().sum() > 0
    assert kappa.weight.grad is None  # nothing is learned of one's own class vectors from these targets


@pytest.mark.parametrize("reference", ["next-wider", "average"])
def test_another_reference_needs_no_features_of_the_widest(reference):
    assert not needs_widest(LossSection(compatible="soft-targets", reference=reference))
    assert needs_widest(LossSection(compatible="soft-targets", reference=reference, distil=1.0))


# The contrastive term


def by_hand(rows, target, temperature):
    """Supervised contrastive loss, eq. 2 of Khosla et al. 2020, over anchors with a positive."""
    unit = [[value / math.hypot(*row) for value in row] for row in rows]
    cosine = [
        [sum(a * b for a, b in zip(one, other, strict=True)) / temperature for other in unit] for one in unit
    ]
    anchors = []
    for i in range(len(rows)):
        others = sum(math.exp(cosine[i][k]) for k in range(len(rows)) if k != i)
        terms = [
            -math.log(math.exp(cosine[i][j]) / others)
            for j in range(len(rows))
            if j != i and target[j] == target[i]
        ]
        anchors += [sum(terms) / len(terms)] if terms else []
    return sum(anchors) / len(anchors)


def test_the_contrastive_loss_is_that_of_its_definition():
    rows = torch.randn(7, 4, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 have no positive
    found = contrastive_loss(rows, target, 0.2)
    assert found.item() == pytest.approx(by_hand(rows.tolist(), target.tolist(), 0.2), rel=1e-5)
    assert contrastive_loss(rows, torch.arange(7), 0.2).item() == 0


def test_the_gradient_reaches_the_drawn_width_of_each_image_alone():
    generator = torch.Generator().manual_seed(4)
    narrow, wide = torch.randn(2, 6, 4, generator=generator, requires_grad=True).unbind()
    drawn, target = torch.tensor([0, 3, 3, 0, 0, 3]), torch.tensor([0, 0, 1, 1, 0, 1])
    value, found = mixed_gradients({0: narrow, 3: wide}, drawn, target, 0.1)
    mixed = torch.stack([(narrow if at == 0 else wide)[n] for n, at in enumerate(drawn.tolist())])
    loss = contrastive_loss(mixed, target, 0.1)
    expected = torch.autograd.grad(loss, [narrow, wide])
    assert value.item() == pytest.approx(loss.item())
    assert torch.allclose(found[0], expected[0], atol=1e-6)
    assert torch.allclose(found[3], expected[1], atol=1e-6)
    assert (found[0][drawn == 3] == 0).all()
    assert (found[0][drawn == 0] != 0).any()


def test_widths_are_drawn_evenly_and_again_the_same():
    drawn = draw_widths(3000, (1, 2, 5), torch.Generator().manual_seed(0))
    shares = [(drawn == width).float().mean().item() for width in (1, 2, 5)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)
    assert torch.equal(drawn, draw_widths(3000, (1, 2, 5), torch.Generator().manual_seed(0)))


# Full width first


def test_the_widest_is_alone_for_the_first_share_of_the_steps():
    section = OptimiserSection(steps=10, full_first=0.3)
    trained = [trained_at(step, section, (0, 1, 2), torch.Generator()) for step in range(10)]
    assert trained == [(2,)] * 3 + [(0, 1, 2)] * 7
    assert not any(alone(step, OptimiserSection(steps=10)) for step in range(10))


# Equal norms


@pytest.mark.parametrize("kind", ["sum", "projection"])
def test_gradients_of_equal_norm_are_aggregated(kind):
    gradients = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [[1.0], [9.0], [0.1]]
    )
    norms = gradients.norm(dim=1)
    scaled = gradients / norms.unsqueeze(1) * norms.mean()
    by_scale = aggregate(
        gradients, AggregationSection(kind=kind, equal_norms=True), torch.Generator().manual_seed(0)
    )
    expected = aggregate(scaled, AggregationSection(kind=kind), torch.Generator().manual_seed(0))
    assert torch.allclose(by_scale.vector, expected.vector, atol=1e-4)
    assert torch.allclose(by_scale.norms, norms)
    assert by_scale.conflicts == expected.conflicts


def test_equal_norms_are_those_of_the_whole_vector_in_every_region():
    gradients = torch.randn(2, 20, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [5.0]])
    regions = [torch.arange(12), torch.arange(12, 20)]
    section = AggregationSection(kind="sum", equal_norms=True)
    generator = torch.Generator()
    found, whole = (aggregate(gradients, section, generator, parts).vector for parts in (regions, None))
    assert torch.allclose(found, whole, atol=1e-5)


def test_a_gradient_of_zero_stays_zero():
    gradients = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    found = aggregate(gradients, AggregationSection(kind="sum", equal_norms=True), torch.Generator())
    assert found.vector.tolist() == pytest.approx([1.5, 2.0])  # the mean of the norms is 2.5
