"""Early stopping: the weights that search best among validation identities become the result of a run.

Every so many steps the narrowest and the widest width are scored on the validation split. The best weights so far
are part of the run's state, so that a resumed run stops where it would have stopped without the interruption.

Looks count from the step on from which all widths are trained, on images of the last size (`counted_from`). Before
it a score says little of the end: the narrow widths have learnt nothing yet, or the network is scored on images of
another size than those that it is trained on, which gets worse the longer it is.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from statistics import fmean

from sfsc_bundle.retrieval import evaluate
from sfsc_training.checkpoint import Best
from sfsc_training.config import EarlyStoppingSection, Recipe
from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.data.dataset import Split
from sfsc_training.data.images import Images
from sfsc_training.embed import embed
from sfsc_training.networks.family import Family
from sfsc_training.state import State

__all__ = ["EarlyStopping", "counted_from", "looked_at"]


def looked_at(widths: int) -> Sequence[int]:
    """The positions of the widths that are scored: the narrowest and the widest."""
    return sorted({0, widths - 1})


def counted_from(recipe: Recipe) -> int:
    """The number of steps after which looks count.

    Args:
        recipe: of the length that it has for its images (`with_length`).
    """
    steps, data = recipe.optimiser.steps, recipe.data
    growing = GrowingAugmentation(recipe.augmentation, data.height, data.width, steps)
    return math.ceil(max(growing.last_from, recipe.optimiser.full_first * steps))


class EarlyStopping:
    """Scores the state of a run on validation images, and says when it is over.

    Args:
        split: with at least one query that has a match.
        images: of the split, uint8 [n, H, W, 3].
        start: the number of steps after which looks count.
    """

    def __init__(self, section: EarlyStoppingSection, split: Split, images: Images, start: int = 0) -> None:
        self._section, self._split, self._images, self._start = section, split, images, start

    def is_due(self, steps: int) -> bool:
        """Whether the weights are scored after so many steps; the loop scores the last ones, too."""
        return steps % self._section.every == 0

    def look(self, state: State, steps: int) -> float:
        """Score the weights after so many steps and keep them if they are the best that count.

        Of equal looks the first is kept.

        Returns:
            The mean of mAP, in points, of the narrowest and the widest width, each searching itself.
        """
        family, classifier = state.result()
        score = fmean(self._mean_ap(family, index) for index in looked_at(family.widths))
        if steps > self._start and (state.best is None or score > state.best.score):
            state.best = Best(steps, score, deepcopy(family.state_dict()), deepcopy(classifier.state_dict()))
        return score

    def is_over(self, state: State, steps: int) -> bool:
        """Whether none of the last `patience` looks found better weights."""
        return state.best is not None and steps - state.best.step >= self._section.patience * self._section.every

    def _mean_ap(self, family: Family, index: int) -> float:
        rows, labels = embed(family, self._images, index), self._split.labels()
        query, gallery = self._split.query, self._split.gallery
        return evaluate(rows[query], labels.take(query), rows[gallery], labels.take(gallery)).mean_ap
