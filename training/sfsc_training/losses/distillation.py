"""Losses that pull one network's output towards that of another, which gets no gradient (docs/method.md §2.3)."""

from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from sfsc_training.config import Divergence
from sfsc_training.losses.classifier import single_precision

__all__ = ["alpha_divergence_loss", "distance_to", "soft_target_loss"]

_LARGEST_RATIO = 5.0  # of the two probabilities, to the power of α: more makes single classes rule the gradient


def distance_to(features: Tensor, reference: Tensor) -> Tensor:
    """Mean over the batch of 1 − cosine(features, reference), both [n, D]: a scalar."""
    return 1 - F.cosine_similarity(single_precision(features), single_precision(reference)).mean()


def soft_target_loss(
    logits: Tensor, reference: Tensor, temperature: float, divergence: Divergence = "kl"
) -> Tensor:
    """Mean over the batch of T² · divergence of softmax(logits / T) from softmax(reference / T): a scalar.

    kl: KL[reference ‖ own], Hinton et al. 2015, eq. 2; with the widest sub-model as reference it is the in-place
    distillation of Yu & Huang 2019, "Universally Slimmable Networks", §3.3. T² keeps the gradient's size
    independent of T.

    Args:
        logits: [n, K].
        reference: logits [n, K] of the other network.
    """
    found, wanted = logits / temperature, reference.detach() / temperature
    match divergence:
        case "kl":
            target = F.log_softmax(wanted, dim=1)
            loss = F.kl_div(F.log_softmax(found, dim=1), target, reduction="batchmean", log_target=True)
        case "alpha":
            loss = alpha_divergence_loss(found, wanted)
        case _:
            assert_never(divergence)
    return temperature**2 * loss


def alpha_divergence_loss(logits: Tensor, reference: Tensor) -> Tensor:
    """Mean over the batch of the larger of the α-divergences with α = −1 and α = 1: a scalar.

    Wang et al. 2021, "AlphaNet", of p = softmax(reference) and q = softmax(logits) over K classes, with r = p / q:

        α = 1    Σ p log r                                        gradient: that of −Σ r q⊥ log q
        α = −1   Σ q (a − 1) / 2,  a = min(1 / r, 5)              gradient: that of −Σ q⊥ (½ − a) log q

    ⊥ marks what gets no gradient. α = −1 grows where the network is sure of a class that the reference doubts, and
    α = 1 where it misses one.

    Args:
        logits: [n, K].
        reference: logits [n, K] of the other network; gets no gradient.
    """
    log_q, log_p = F.log_softmax(logits, dim=1), F.log_softmax(reference.detach(), dim=1)
    q, p = log_q.detach().exp(), log_p.exp()
    inverse = (log_q.detach() - log_p).exp().clamp(max=_LARGEST_RATIO)
    covering, seeking = (p * (log_p - log_q.detach())).sum(dim=1), (q * (inverse - 1) / 2).sum(dim=1)
    # The gradients are those of sums whose own values mean nothing: only their gradient is kept.
    slopes = torch.stack([-(p * log_q).sum(dim=1), -(q * (0.5 - inverse) * log_q).sum(dim=1)])
    larger = (seeking > covering).long().unsqueeze(0)
    slope = slopes.gather(0, larger).squeeze(0)
    return (torch.maximum(covering, seeking) + slope - slope.detach()).mean()
