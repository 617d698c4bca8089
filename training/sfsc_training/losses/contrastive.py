"""A contrastive loss over a batch in which every image has a width of its own (docs/method.md §2.4).

Metric-compatible training, arXiv 2301.03767, with the supervised contrastive loss of Khosla et al. 2020: what is
compared is what a gallery of mixed widths compares.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sfsc_training.losses.classifier import single_precision

__all__ = ["contrastive_loss", "draw_widths", "mixed_gradients"]


def contrastive_loss(features: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Mean over pairs of one identity of −log(e^{f_i·f_j/τ} / Σ_{k≠i} e^{f_i·f_k/τ}): a scalar.

    The mean is over the positives of each anchor first; anchors without a positive do not count, and a batch
    without any pair has loss 0.

    Args:
        features: [n, D], of any length.
        target: int64 [n], classes.
        temperature: τ, of cosines.
    """
    unit = F.normalize(single_precision(features))
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    log_share = F.log_softmax((unit @ unit.T / temperature).masked_fill(own, float("-inf")), dim=1)
    positive = (target.unsqueeze(1) == target.unsqueeze(0)) & ~own
    count = positive.sum(dim=1)
    of_anchor = -log_share.masked_fill(~positive, 0.0).sum(dim=1) / count.clamp(min=1)
    return of_anchor.sum() / (count > 0).sum().clamp(min=1)


def draw_widths(images: int, widths: Sequence[int], generator: torch.Generator) -> Tensor:
    """The width of each image of a batch, one of `widths` at random: int64 [images], on the CPU."""
    return torch.tensor(widths)[torch.randint(len(widths), (images,), generator=generator)]


def mixed_gradients(
    features: Mapping[int, Tensor], drawn: Tensor, target: Tensor, temperature: float
) -> tuple[Tensor, dict[int, Tensor]]:
    """The contrastive loss of a batch of mixed widths, and its gradient by the features [n, D] of each width.

    Args:
        features: by width, of the same images.
        drawn: int64 [n], the width whose feature of an image takes part.
    """
    leaves = {index: single_precision(rows.detach()).requires_grad_() for index, rows in features.items()}
    drawn = drawn.to(target.device)
    with torch.enable_grad():
        mixed = torch.zeros_like(next(iter(leaves.values())))
        for index, rows in leaves.items():
            mixed = torch.where((drawn == index).unsqueeze(1), rows, mixed)
        loss = contrastive_loss(mixed, target, temperature)
        found = torch.autograd.grad(loss, list(leaves.values()))
    return loss.detach(), dict(zip(leaves, found, strict=True))
