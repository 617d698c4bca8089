"""The compatible loss: evidential (Dirichlet) classification.

Sensoy et al. 2018, "Evidential Deep Learning to Quantify Classification Uncertainty", eq. 4 and §4, as the
reading of the SFSC paper's uncertainty-weighted compatible loss; W after subjective logic.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Evidential", "dirichlet_kl", "evidence", "evidential_loss", "expected_cross_entropy"]

# e^30 ≈ 1e13 keeps digamma, lgamma and their gradients finite in float32; a clamp as low as 10 takes the
# gradient away from the true class of a confident sample.
_EXP_LIMIT = 30.0


class Evidential(NamedTuple):
    """`loss`: scalar. `uncertainty`: u = W / S, [n], in (0, 1]; detached."""

    loss: Tensor
    uncertainty: Tensor


def evidential_loss(
    logits: Tensor,
    target: Tensor,
    *,
    function: Literal["softplus", "relu", "exp"] = "exp",
    prior_weight: float | None = None,
    kl_weight: float = 0.0,
) -> Evidential:
    """Mean over the batch of A + λ·KL (method §2).

    α = evidence(z) + W/K, S = Σ α, A = ψ(S) − ψ(α_y), KL = KL[Dir(α̃) ‖ Dir(W/K)], with α̃ = α but for the true
    class, which has the prior alone.

    Args:
        logits: [n, K], turned to float32 where they are less.
        target: int64 [n], true classes.
        prior_weight: W; None stands for K, one pseudo-count a class.
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


def evidence(logits: Tensor, function: Literal["softplus", "relu", "exp"]) -> Tensor:
    """Evidence e ≥ 0 of each class, same shape as the logits."""
    if function == "softplus":
        return F.softplus(logits)
    if function == "relu":
        return F.relu(logits)
    return logits.clamp(max=_EXP_LIMIT).exp()


def expected_cross_entropy(alpha: Tensor, target: Tensor) -> Tensor:
    """ψ(S) − ψ(α_y): the cross-entropy expected under Dir(α). α float32 [n, K] → [n]."""
    true = alpha.gather(1, target.unsqueeze(1)).squeeze(1)
    return torch.digamma(alpha.sum(dim=1)) - torch.digamma(true)


def dirichlet_kl(alpha: Tensor, prior: float) -> Tensor:
    """KL[Dir(α) ‖ Dir(a, …, a)] with a = prior. α float32 [n, K] → [n]."""
    total = alpha.sum(dim=1)
    classes = alpha.shape[1]
    base = torch.tensor(prior, dtype=alpha.dtype, device=alpha.device)
    constant = classes * torch.lgamma(base) - torch.lgamma(base * classes)
    spread = ((alpha - prior) * (torch.digamma(alpha) - torch.digamma(total).unsqueeze(1))).sum(dim=1)
    return torch.lgamma(total) - torch.lgamma(alpha).sum(dim=1) + constant + spread
