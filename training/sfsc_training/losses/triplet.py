"""Triplet loss on each anchor's hardest positive and negative in the batch, by cosine (docs/method.md §2.1)."""

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from sfsc_training.losses.classifier import single_precision

__all__ = ["hard_triplet"]


def hard_triplet(features: Tensor, target: Tensor, margin: float, reference: Tensor | None = None) -> Tensor:
    """Mean over the anchors of max(0, cos(a, n) − cos(a, p) + margin).

    Anchors without a positive or without a negative do not count; a batch without any triplet has loss 0.

    Args:
        features: anchors [n, D].
        target: int64 [n], classes.
        reference: features [n, D] of the same images from another network, among which positives and negatives
            are searched, an anchor's own image included; None: among the anchors.
    """
    features = single_precision(features)
    if reference is None:
        others, classes = features, target
    else:
        # A copy: given the same tensor twice, the miner excludes the diagonal, which is a valid positive here.
        others, classes = single_precision(reference), target.clone()
    found = BatchHardMiner(distance=CosineSimilarity())(features, target, others, classes)
    loss = TripletMarginLoss(margin=margin, distance=CosineSimilarity(), reducer=MeanReducer())
    result: Tensor = loss(features, target, found, others, classes)
    return result
