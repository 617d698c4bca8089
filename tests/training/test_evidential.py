"""The evidential loss against the golden values of the method, torch's own Dirichlet, and its derivative."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfsc_training.losses.evidential import dirichlet_kl, evidence, evidential_loss, expected_cross_entropy


@pytest.mark.parametrize(
    ("alpha", "expected", "divergence", "uncertainty"),
    [((2, 1, 1), 5 / 6, 0.0, 0.75), ((2, 3, 1), 1.2833333, 0.6250927, 0.5)],
)
def test_golden_values(alpha, expected, divergence, uncertainty):
    concentration = torch.tensor([alpha], dtype=torch.float32)
    target = torch.tensor([0])
    assert expected_cross_entropy(concentration, target).item() == pytest.approx(expected, abs=1e-6)
    others = concentration.scatter(1, target.unsqueeze(1), 1.0)
    assert dirichlet_kl(others, 1.0).item() == pytest.approx(divergence, abs=1e-6)
    # ReLU evidence of α − 1 gives α back, so the whole loss has these parts.
    result = evidential_loss(concentration - 1, target, function="relu", kl_weight=0.5)
    assert result.loss.item() == pytest.approx(expected + 0.5 * divergence, abs=1e-6)
    assert result.uncertainty.item() == pytest.approx(uncertainty)


@given(st.lists(st.floats(0.1, 50), min_size=2, max_size=8), st.floats(0.1, 5))
def test_kl_is_torchs(alpha, prior):
    concentration = torch.tensor([alpha], dtype=torch.float64)
    dirichlet = torch.distributions.Dirichlet
    oracle = torch.distributions.kl_divergence(
        dirichlet(concentration), dirichlet(torch.full_like(concentration, prior))
    )
    assert dirichlet_kl(concentration, prior).item() == pytest.approx(oracle.item(), rel=1e-6, abs=1e-8)


def test_expected_cross_entropy_is_the_expectation_over_the_dirichlet():
    torch.manual_seed(0)
    alpha = torch.tensor([[2.0, 5.0, 1.5]])
    drawn = torch.distributions.Dirichlet(alpha[0]).sample((200_000,))
    assert expected_cross_entropy(alpha, torch.tensor([1])).item() == pytest.approx(
        -drawn[:, 1].log().mean().item(), abs=5e-3
    )


def test_gradient_is_the_trigamma_difference_of_the_method():
    alpha = torch.tensor([[4.0, 2.0, 3.0]], requires_grad=True)
    expected_cross_entropy(alpha, torch.tensor([0])).sum().backward()
    trigamma = torch.polygamma(1, torch.tensor([9.0, 4.0]))
    others = trigamma[0].item()
    assert alpha.grad is not None
    assert alpha.grad[0].tolist() == pytest.approx([others - trigamma[1].item(), others, others], rel=1e-5)


@pytest.mark.parametrize("function", ["softplus", "relu", "exp"])
def test_finite_for_extreme_logits(function):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 50.0]], requires_grad=True)
    result = evidential_loss(logits, torch.tensor([0, 0]), function=function, kl_weight=1e-3)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(logits.grad).all()
    assert (evidence(logits, function) >= 0).all()


@pytest.mark.parametrize("prior_weight", [None, 2.0, 10.0])
def test_uncertainty_falls_as_evidence_grows(prior_weight):
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [8.0, 0.0]])
    uncertainty = evidential_loss(logits, torch.zeros(3, dtype=torch.int64), prior_weight=prior_weight).uncertainty
    assert (uncertainty.diff() < 0).all()
    assert ((uncertainty > 0) & (uncertainty <= 1)).all()


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(4, 100).to(torch.bfloat16)
    target = torch.arange(4)
    same = evidential_loss(logits.float(), target).loss
    assert evidential_loss(logits, target).loss.dtype == torch.float32
    assert torch.equal(evidential_loss(logits, target).loss, same)
