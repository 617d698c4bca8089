"""Losses that pull one network's output towards that of another, which gets no gradient (docs/method.md §2.3)."""

from torch import Tensor
from torch.nn import functional as F

from sfsc_training.losses.classifier import single_precision

__all__ = ["distance_to", "soft_target_loss"]


def distance_to(features: Tensor, reference: Tensor) -> Tensor:
    """Mean over the batch of 1 − cosine(features, reference), both [n, D]: a scalar."""
    return 1 - F.cosine_similarity(single_precision(features), single_precision(reference)).mean()


def soft_target_loss(logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """Mean over the batch of T²·KL[softmax(reference / T) ‖ softmax(logits / T)]: a scalar.

    Hinton et al. 2015, eq. 2; with the widest sub-model as reference it is the in-place distillation of
    Yu & Huang 2019, "Universally Slimmable Networks", §3.3. T² keeps the gradient's size
    independent of T.

    Args:
        logits: [n, K].
        reference: logits [n, K] of the other network.
    """
    wanted = F.log_softmax(reference.detach() / temperature, dim=1)
    found = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(found, wanted, reduction="batchmean", log_target=True)
