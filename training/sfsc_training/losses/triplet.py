"""Triplet loss on the hardest positive and negative of the batch, in cosine, from pytorch-metric-learning."""

from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from sfsc_training.losses.classifier import single_precision

__all__ = ["hard_triplet"]


def hard_triplet(features: Tensor, target: Tensor, margin: float, reference: Tensor | None = None) -> Tensor:
    """Mean over the anchors of max(0, cos(a, n) − cos(a, p) + margin).

    Anchors without a positive or a negative are left out; a batch without any triplet has a loss of 0.

    Args:
        features: anchors [n, D].
        target: int64 [n], classes.
        reference: [n, D], where positives and negatives come from, an anchor's own image among them; None: the
            anchors themselves.
    """
    features = single_precision(features)
    if reference is None:
        others, classes = features, target
    else:
        # A copy: of one and the same label tensor the miner leaves the diagonal out, here a valid positive.
        others, classes = single_precision(reference), target.clone()
    found = BatchHardMiner(distance=CosineSimilarity())(features, target, others, classes)
    loss = TripletMarginLoss(margin=margin, distance=CosineSimilarity(), reducer=MeanReducer())
    result: Tensor = loss(features, target, found, others, classes)
    return result
