"""Losses and class vectors to the digit: what a recipe's names and numbers stand for."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sfsc_training.config import EvidentialSection, LossSection
from sfsc_training.errors import CheckpointError
from sfsc_training.losses.base import base_loss
from sfsc_training.losses.classifier import Classifier, classifier_of, make_classifier, single_precision
from sfsc_training.losses.distillation import distance_to, soft_target_loss
from sfsc_training.losses.evidential import dirichlet_kl, evidence, evidential_loss, expected_cross_entropy
from sfsc_training.losses.objective import needs_widest, width_loss
from sfsc_training.losses.simplex import simplex
from sfsc_training.losses.triplet import hard_triplet

N, D, K = 6, 8, 3
TARGET = torch.arange(N) % K


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(7))


def classifier(**settings: object) -> Classifier:
    torch.manual_seed(1)
    return Classifier(D, K, LossSection(**settings))


def narrow(
    features: torch.Tensor, section: LossSection, widest: torch.Tensor | None = None, step: int = 0
) -> float:
    loss = width_loss(features, TARGET, classifier(), full=False, widest=widest, step=step, section=section).loss
    return loss.item()


# Class vectors and logits


def test_logits_are_scaled_cosines_or_inner_products(features: torch.Tensor) -> None:
    cosine, linear = classifier(scale=5.0), classifier(logits="linear", scale=5.0)
    expected = F.cosine_similarity(features[:, None], cosine.weight[None], dim=2)
    assert torch.allclose(cosine(features), 5.0 * expected, atol=1e-6)
    assert torch.allclose(linear(features), features @ linear.weight.T, atol=1e-6)


@pytest.mark.parametrize("dimension", [4, 400])
def test_learned_class_vectors_begin_with_unit_length_on_average(dimension: int) -> None:
    torch.manual_seed(0)
    made = Classifier(dimension, 4000, LossSection())
    assert made.weight.requires_grad
    assert made.weight.square().sum(dim=1).mean().item() == pytest.approx(1.0, rel=0.05)


def test_one_classifier_for_all_widths_or_one_for_each() -> None:
    shared = make_classifier(D, K, 4, LossSection())
    assert isinstance(shared, Classifier)
    assert [classifier_of(shared, width) for width in (0, 3)] == [shared, shared]
    separate = make_classifier(D, K, 4, LossSection(classifier="separate"))
    assert isinstance(separate, nn.ModuleList)
    assert [classifier_of(separate, width) for width in range(4)] == list(separate)
    assert len({id(each) for each in separate}) == 4


def test_a_run_without_a_classifier_says_so() -> None:
    with pytest.raises(CheckpointError, match="no classifier for width number 2"):
        classifier_of(nn.Identity(), 2)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_losses_are_computed_in_single_precision_at_least(given: torch.dtype, computed: torch.dtype) -> None:
    values = torch.ones(2, 3, dtype=given)
    assert single_precision(values).dtype == computed
    assert evidential_loss(values, torch.tensor([0, 1])).loss.dtype == computed
    assert distance_to(values, values).dtype == computed
    assert hard_triplet(values, torch.tensor([0, 1]), 0.3).dtype == computed


def test_fixed_class_vectors_are_the_same_in_every_run_and_release() -> None:
    """Runs meet in one space through them, so other numbers would be another space."""
    expected = [[-0.3166, -0.9486], [0.9798, 0.2001], [-0.6632, 0.7484]]
    assert [row.tolist() for row in simplex(3, 2)] == [pytest.approx(row, abs=1e-4) for row in expected]
    crowded = [[-0.7748, 0.6323], [0.4034, 0.9150], [-0.5332, -0.8460], [0.9291, -0.3699]]
    assert [row.tolist() for row in simplex(4, 2)] == [pytest.approx(row, abs=1e-4) for row in crowded]
    assert simplex(3, 2).dtype == torch.float32


# Distances to another network


@pytest.mark.parametrize(("angle", "distance"), [(0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)])
def test_distance_is_one_minus_the_cosine(angle: float, distance: float) -> None:
    radians = math.radians(angle)
    one = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    other = torch.tensor([[math.cos(radians), math.sin(radians)], [5.0, 0.0]])
    assert distance_to(one, other).item() == pytest.approx(distance / 2, abs=1e-6), "mean over the rows"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_are_the_divergence_from_the_reference_times_t_squared(temperature: float) -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    reference = torch.tensor([[math.log(3.0) * temperature, 0.0], [0.0, 0.0]])
    q = torch.sigmoid(torch.tensor(2.0 / temperature)).item()
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    second = 0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q))
    expected = temperature**2 * (first + second) / 2
    assert soft_target_loss(logits, reference, temperature).item() == pytest.approx(expected, rel=1e-5)


# Evidential loss


def test_evidence_functions() -> None:
    logits = torch.tensor([[-1.0, 0.0, 2.0]])
    assert evidence(logits, "relu").tolist() == [[0.0, 0.0, 2.0]]
    assert evidence(logits, "exp")[0].tolist() == pytest.approx([math.exp(-1), 1.0, math.exp(2)])
    softplus = [math.log1p(math.exp(z)) for z in (-1.0, 0.0, 2.0)]
    assert evidence(logits, "softplus")[0].tolist() == pytest.approx(softplus)


def test_exponential_evidence_is_clamped_at_30_where_float32_still_has_gradients() -> None:
    logits = torch.tensor([[29.9, 30.0, 30.1, 1e6]], requires_grad=True)
    found = evidence(logits, "exp")
    assert found[0].tolist() == pytest.approx([math.exp(29.9), *[math.exp(30.0)] * 3], rel=1e-5)


@pytest.mark.parametrize(("prior_weight", "prior"), [(None, 1.0), (4.0, 1.0), (2.0, 0.5), (40.0, 10.0)])
def test_the_prior_of_a_class_is_its_part_of_w(prior_weight: float | None, prior: float) -> None:
    """K = 4, evidence (3, 1, 0, 0); without KL the loss is ψ(S) − ψ(α of the true class)."""
    logits = torch.tensor([[3.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    result = evidential_loss(logits, torch.tensor([1]), function="relu", prior_weight=prior_weight)
    total = 4 + 4 * prior
    digamma = torch.digamma(torch.tensor([total, 1 + prior], dtype=torch.float64))
    assert result.loss.item() == pytest.approx((digamma[0] - digamma[1]).item())
    assert result.uncertainty.tolist() == pytest.approx([4 * prior / total])
    assert not result.uncertainty.requires_grad


def test_each_sample_of_a_batch_has_its_own_loss() -> None:
    alpha = torch.tensor([[4.0, 2.0, 3.0], [1.5, 1.0, 7.0]], dtype=torch.float64)
    target = torch.tensor([1, 2])
    for loss in (lambda a, t: expected_cross_entropy(a, t), lambda a, _: dirichlet_kl(a, 0.5)):
        rows = [loss(alpha[row : row + 1], target[row : row + 1]).item() for row in range(2)]
        assert loss(alpha, target).tolist() == pytest.approx(rows)


@pytest.mark.parametrize("prior_weight", [2.0, 4.0, 12.0])
def test_kl_pulls_the_evidence_of_the_other_classes_to_the_prior(prior_weight: float) -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, 0.5], [0.0, 7.0, 0.0, 0.0]], dtype=torch.float64)
    target, prior = torch.tensor([0, 1]), prior_weight / 4

    def loss(kl_weight: float) -> float:
        made = evidential_loss(logits, target, function="relu", prior_weight=prior_weight, kl_weight=kl_weight)
        return made.loss.item()

    others = torch.tensor([[0.0, 1.0, 0.0, 0.5]], dtype=torch.float64) + prior
    dirichlet = torch.distributions.Dirichlet
    first = torch.distributions.kl_divergence(dirichlet(others), dirichlet(torch.full_like(others, prior))).item()
    assert loss(0.5) - loss(0.0) == pytest.approx(0.5 * (first + 0.0) / 2), "the second has no wrong evidence"


# What the parts of a recipe are


@pytest.mark.parametrize(("base", "usual"), [("arcface", 0.5), ("cosface", 0.35), ("circle", 0.25)])
def test_the_usual_margin_is_taken_only_where_none_is_given(
    features: torch.Tensor, base: str, usual: float
) -> None:
    def loss(margin: float | None) -> float:
        section = LossSection(base=base, margin=margin)
        return base_loss(features, TARGET, classifier(), section).item()

    assert loss(None) == pytest.approx(loss(usual))
    assert loss(0.0) != pytest.approx(loss(usual), rel=0.01)


@pytest.mark.parametrize("base", ["arcface", "cosface"])
def test_without_a_margin_margin_losses_are_cross_entropy(features: torch.Tensor, base: str) -> None:
    section = LossSection(base=base, margin=0.0)
    expected = F.cross_entropy(classifier()(features), TARGET)
    assert base_loss(features, TARGET, classifier(), section).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"compatible": "evidential"}, False),
        ({"compatible": "cross-entropy"}, False),
        ({"compatible": "base"}, False),
        ({"compatible": "triplet"}, True),
        ({"compatible": "soft-targets"}, True),
        ({"compatible": "base", "distil": 0.1}, True),
        ({"compatible": "base", "soft_targets": 0.1}, True),
    ],
)
def test_which_losses_need_the_widest_network(settings: dict[str, object], needed: bool) -> None:
    assert needs_widest(LossSection(**settings)) is needed


@pytest.mark.parametrize(
    ("step", "anneal_steps", "share"),
    [(0, 4, 0.0), (1, 4, 0.25), (4, 4, 1.0), (9, 4, 1.0), (0, 0, 1.0), (0, 1, 0.0)],
)
def test_lambda_grows_over_the_annealing_steps(
    features: torch.Tensor, step: int, anneal_steps: int, share: float
) -> None:
    section = LossSection(evidential=EvidentialSection(kl_weight=0.5, anneal_steps=anneal_steps))
    expected = evidential_loss(classifier()(features), TARGET, kl_weight=0.5 * share)
    found = width_loss(features, TARGET, classifier(), full=False, widest=None, step=step, section=section)
    assert found.loss.item() == pytest.approx(expected.loss.item())
    assert found.uncertainty is not None
    assert found.uncertainty.item() == pytest.approx(expected.uncertainty.mean().item())


def test_narrow_widths_have_smoothed_labels_too(features: torch.Tensor) -> None:
    section = LossSection(compatible="cross-entropy", label_smoothing=0.2)
    expected = F.cross_entropy(classifier()(features), TARGET, label_smoothing=0.2)
    assert narrow(features, section) == pytest.approx(expected.item())


@pytest.mark.parametrize("term", ["distil", "soft_targets"])
def test_a_term_towards_the_widest_is_left_out_where_there_is_none(features: torch.Tensor, term: str) -> None:
    plain, section = (
        LossSection(compatible="cross-entropy"),
        LossSection(compatible="cross-entropy", **{term: 2.0}),
    )
    assert narrow(features, section) == narrow(features, plain)
    assert narrow(features, section, widest=features.flip(0)) > narrow(features, plain) + 1e-3
    assert narrow(features, plain, widest=features.flip(0)) == narrow(features, plain)


def test_the_widest_is_only_a_reference(features: torch.Tensor) -> None:
    """No gradient reaches the class vectors through what the widest network says."""
    section = LossSection(compatible="soft-targets", temperature=3.0)
    kappa = classifier()
    widest = features.flip(0)
    width_loss(features, TARGET, kappa, full=False, widest=widest, step=0, section=section).loss.backward()
    found = kappa.weight.grad
    again = classifier()
    soft_target_loss(again(features), again(widest).detach(), 3.0).backward()
    assert found is not None
    assert torch.allclose(found, again.weight.grad, atol=1e-7)


def test_the_triplet_terms_have_the_recipe_s_margin(features: torch.Tensor) -> None:
    section = LossSection(compatible="triplet", triplet=2.0, triplet_margin=1.5)
    widest = features.flip(0)
    assert narrow(features, section, widest) == pytest.approx(hard_triplet(features, TARGET, 1.5, widest).item())
    full = width_loss(features, TARGET, classifier(), full=True, widest=None, step=0, section=section)
    expected = F.cross_entropy(classifier()(features), TARGET) + 2.0 * hard_triplet(features, TARGET, 1.5)
    assert full.loss.item() == pytest.approx(expected.item())
    assert full.uncertainty is None
