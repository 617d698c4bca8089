"""Base losses against their formulas written out, the triplet term, and what each width's loss is made of."""

import pytest
import torch
from torch.nn import functional as F

from sfsc_training.config import EvidentialSection, LossSection
from sfsc_training.losses.base import base_loss
from sfsc_training.losses.classifier import Classifier
from sfsc_training.losses.distillation import distance_to, soft_target_loss
from sfsc_training.losses.evidential import evidential_loss
from sfsc_training.losses.objective import width_loss
from sfsc_training.losses.simplex import simplex
from sfsc_training.losses.triplet import hard_triplet

N, D, K = 12, 8, 5


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(N, D, requires_grad=True), torch.arange(N) % K


def classifier(**settings):
    torch.manual_seed(1)
    return Classifier(D, K, LossSection(**settings))


def written_out(features, target, weight, section):
    """Softmax over scaled cosines, with the margin on the true class (circle: weighted margins on all)."""
    cosine = F.normalize(features) @ F.normalize(weight).T
    true = F.one_hot(target, K).bool()
    if section.base == "arcface":
        moved = torch.where(true, torch.cos(torch.acos(cosine) + 0.5), cosine)
    elif section.base == "cosface":
        moved = torch.where(true, cosine - 0.35, cosine)
    else:
        m = 0.25
        positive = (1 + m - cosine.detach()).relu() * (cosine - 1 + m)
        negative = (cosine.detach() + m).relu() * (cosine - m)
        moved = torch.where(true, positive, negative)
    return F.cross_entropy(section.scale * moved, target)


@pytest.mark.parametrize("base", ["arcface", "cosface", "circle"])
def test_margin_losses_are_their_formulas_on_the_shared_classifier(batch, base):
    features, target = batch
    section = LossSection(base=base, scale=8.0)
    kappa = classifier(base=base, scale=8.0)
    loss = base_loss(features, target, kappa, section)
    expected = written_out(features, target, kappa.weight, section)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    found = torch.autograd.grad(loss, [features, kappa.weight])
    wanted = torch.autograd.grad(expected, [features, kappa.weight])
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, wanted, strict=True))


def test_cross_entropy_smooths_labels(batch):
    features, target = batch
    kappa = classifier()
    smoothed = base_loss(features, target, kappa, LossSection(label_smoothing=0.1))
    assert smoothed.item() == pytest.approx(
        F.cross_entropy(kappa(features), target, label_smoothing=0.1).item(), rel=1e-6
    )


@pytest.mark.parametrize("reference", [None, "other"])
def test_hard_triplets(batch, reference):
    features, target = batch
    other = None if reference is None else torch.randn(N, D, generator=torch.Generator().manual_seed(3))
    cosine = F.normalize(features) @ F.normalize(features if other is None else other).T
    same = target[:, None] == target[None]
    positive = same & ~torch.eye(N, dtype=torch.bool) if other is None else same
    hardest = cosine.masked_fill(same, -9).max(dim=1).values - cosine.masked_fill(~positive, 9).min(dim=1).values
    expected = (hardest + 0.3).relu().mean()
    assert hard_triplet(features, target, 0.3, other).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_without_a_triplet_has_no_loss():
    features = torch.randn(3, D, requires_grad=True)
    loss = hard_triplet(features, torch.arange(3), 0.3)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("base", ["cross-entropy", "arcface", "cosface", "circle"])
@pytest.mark.parametrize("compatible", ["evidential", "cross-entropy", "base", "triplet", "soft-targets"])
@pytest.mark.parametrize("triplet", [0.0, 1.0])
def test_what_each_width_s_loss_is_made_of(batch, base, compatible, triplet):
    features, target = batch
    section = LossSection(
        base=base, compatible=compatible, triplet=triplet, cross_entropy=0.5, distil=2.0,
        soft_targets=3.0, temperature=2.0,
        evidential=EvidentialSection(prior_weight=10, kl_weight=0.1, anneal_steps=10),
    )  # fmt: skip
    kappa, widest = classifier(), torch.randn(N, D)
    whole = base_loss(features, target, kappa, section) + triplet * hard_triplet(features, target, 0.3)
    full = width_loss(features, target, kappa, full=True, widest=None, step=5, section=section)
    assert full.loss.item() == pytest.approx(whole.item(), rel=1e-5)
    narrow = width_loss(features, target, kappa, full=False, widest=widest, step=5, section=section)
    evidential = evidential_loss(kappa(features), target, prior_weight=10, kl_weight=0.05)
    main = {
        "evidential": evidential.loss,
        "cross-entropy": F.cross_entropy(kappa(features), target),
        "base": whole,
        "triplet": hard_triplet(features, target, 0.3, widest),
        "soft-targets": soft_target_loss(kappa(features), kappa(widest), 2.0),
    }[compatible]
    added = 0.5 * F.cross_entropy(kappa(features), target) + 2.0 * distance_to(features, widest)
    added = added + 3.0 * soft_target_loss(kappa(features), kappa(widest), 2.0)
    assert narrow.loss.item() == pytest.approx((main + added).item(), rel=1e-5)
    assert (narrow.uncertainty is not None) == (compatible == "evidential")


def test_losses_of_half_precision_features_are_float32(batch):
    features, target = batch
    for base in ("cross-entropy", "arcface", "cosface", "circle"):
        section = LossSection(base=base, triplet=1.0)
        half = features.to(torch.bfloat16)
        loss = width_loss(half, target, classifier(), full=True, widest=None, step=0, section=section).loss
        same = width_loss(half.float(), target, classifier(), full=True, widest=None, step=0, section=section).loss
        assert loss.dtype == torch.float32
        assert torch.equal(loss, same)


def test_soft_targets_are_the_divergence_written_out(batch):
    features, _ = batch
    kappa, reference = classifier(), torch.randn(N, K, generator=torch.Generator().manual_seed(5))
    reference.requires_grad_()
    p, q = (values.div(2.0).softmax(dim=1) for values in (reference, kappa(features)))
    loss = soft_target_loss(kappa(features), reference, 2.0)
    assert loss.item() == pytest.approx(4 * (p * (p / q).log()).sum(dim=1).mean().item(), rel=1e-4)
    assert torch.autograd.grad(loss, [features, reference], allow_unused=True)[1] is None
    assert soft_target_loss(reference, reference, 2.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("classes", "dimension"), [(2, 2), (5, 4), (6, 5), (6, 16)])
def test_fixed_class_vectors_are_a_regular_simplex_where_there_is_room(classes, dimension):
    vectors = simplex(classes, dimension)
    expected = torch.full((classes, classes), -1 / (classes - 1)).fill_diagonal_(1.0)
    assert vectors.shape == (classes, dimension)
    assert torch.allclose(vectors @ vectors.T, expected, atol=1e-6)


def test_fixed_class_vectors_in_few_dimensions_keep_apart():
    vectors = simplex(200, 64)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(200))
    cosines = (vectors @ vectors.T).fill_diagonal_(0.0)
    assert cosines.max() < 0.55
    bound = ((200 - 64) / (64 * 199)) ** 0.5  # Welch: no 200 vectors in 64 dimensions do better on average
    assert cosines.square().sum().div(200 * 199).sqrt().item() == pytest.approx(bound, rel=0.05)
    assert torch.equal(simplex(200, 64), vectors)


def test_a_fixed_classifier_draws_nothing_and_never_moves():
    torch.manual_seed(0)
    fixed = Classifier(8, 5, LossSection(class_vectors="simplex"))
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    assert not fixed.weight.requires_grad
