"""The compatible loss: evidential (Dirichlet) classification (docs/method.md §2.2).

Sensoy et al. 2018, "Evidential Deep Learning to Quantify Classification Uncertainty", eq. 4 and §4: our reading of
the compatible loss of the SFSC paper. The prior weight W is that of subjective logic.
"""

import math
from typing import NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from sfsc_training.config import EvidenceFunction

__all__ = ["Evidential", "dirichlet_kl", "evidence", "evidential_loss", "expected_cross_entropy"]

# e^30 ≈ 1e13 keeps digamma, lgamma and their gradients finite in float32. The limit must not be much lower:
# clamped at 10, the true class of a confident sample gets no gradient any more.
_EXP_LIMIT = 30.0


class Evidential(NamedTuple):
    """`loss`: a scalar. `uncertainty`: u = W / S of each sample, [n], in (0, 1]; detached."""

    loss: Tensor
    uncertainty: Tensor


def evidential_loss(
    logits: Tensor,
    target: Tensor,
    *,
    function: EvidenceFunction = "exp",
    prior_weight: float | None = None,
    kl_weight: float = 0.0,
) -> Evidential:
    """Mean over the batch of A + λ·KL.

    α = evidence(z) + W/K, S = Σ α, A = ψ(S) − ψ(α_y), KL = KL[Dir(α̃) ‖ Dir(W/K, …)], where α̃ is α with the true
    class reset to the prior W/K.

    Args:
        logits: z, [n, K]; half precision is converted to float32.
        target: y, int64 [n], the true classes.
        prior_weight: W; None: W = K, one pseudo-count per class.
        kl_weight: λ ≥ 0.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    prior = 1.0 if prior_weight is None else prior_weight / logits.shape[1]
    alpha = evidence(logits, function) + prior
    loss = expected_cross_entropy(alpha, target).mean()
    if kl_weight > 0:
        others = alpha.scatter(1, target.unsqueeze(1), prior)
        loss = loss + kl_weight * dirichlet_kl(others, prior).mean()
    return Evidential(loss, (prior * logits.shape[1] / alpha.sum(dim=1)).detach())


def evidence(logits: Tensor, function: EvidenceFunction) -> Tensor:
    """Evidence e ≥ 0 for each class, in the shape of the logits."""
    match function:
        case "softplus":
            return F.softplus(logits)
        case "relu":
            return F.relu(logits)
        case "exp":
            return logits.clamp(max=_EXP_LIMIT).exp()
        case _:
            assert_never(function)


def expected_cross_entropy(alpha: Tensor, target: Tensor) -> Tensor:
    """ψ(S) − ψ(α_y): the expected cross-entropy when the class probabilities follow Dir(α). α [n, K] → [n]."""
    true = alpha.gather(1, target.unsqueeze(1)).squeeze(1)
    return torch.digamma(alpha.sum(dim=1)) - torch.digamma(true)


def dirichlet_kl(alpha: Tensor, prior: float) -> Tensor:
    """KL[Dir(α) ‖ Dir(a, …, a)] with a = prior. α [n, K] → [n]."""
    total = alpha.sum(dim=1)
    classes = alpha.shape[1]
    constant = classes * math.lgamma(prior) - math.lgamma(prior * classes)
    spread = ((alpha - prior) * (torch.digamma(alpha) - torch.digamma(total).unsqueeze(1))).sum(dim=1)
    return torch.lgamma(total) - torch.lgamma(alpha).sum(dim=1) + constant + spread
