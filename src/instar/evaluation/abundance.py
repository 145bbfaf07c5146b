"""How many animals of each taxon a sample holds, with what the detector misses and the classifier mixes up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: A detection stands for at most so many animals: where next to none of a size was found on validation, a draw of the
#: share that is found may come near 0.
MOST = 100


@dataclass(frozen=True)
class Finding:
    """What became of animals and detections of each size on validation; int64, shape (n_sizes,) each.

    Attributes:
        animals: annotated.
        found: of these, with a detection.
        detections: at the study's threshold.
        right: of these, with an animal.
    """

    animals: np.ndarray
    found: np.ndarray
    detections: np.ndarray
    right: np.ndarray

    def draws(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws of recall and precision of each size, float64 of shape (n, n_sizes), in (0, 1).

        Each share is drawn from its Beta distribution with Jeffreys' prior (1/2 added to both counts). A size of which
        validation has none takes all sizes' counts together.
        """
        recall = _shares(rng, n, self.found, self.animals)
        return np.maximum(recall, 1 / MOST), _shares(rng, n, self.right, self.detections)


def _shares(rng: np.random.Generator, n: int, hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
    none = trials == 0
    hits, trials = np.where(none, hits.sum(), hits), np.where(none, trials.sum(), trials)
    return rng.beta(hits + 0.5, trials - hits + 0.5, (n, len(trials)))


def abundances(
    probabilities: np.ndarray,
    sizes: np.ndarray,
    members: np.ndarray,
    recall: np.ndarray,
    precision: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """Draws of how many animals of each class a sample holds.

    In each draw a detection is an animal with the precision of its size, of a taxon drawn from its calibrated
    probabilities. For k animals of a taxon and a size that were found with the share r of all, those that were missed
    are drawn from the negative binomial distribution of failures before the k-th success, whose mean is k (1 - r) / r:
    what k found animals say of all N where each is found with probability r and N has the prior 1 / N.

    What the intervals do not hold: that photographs differ in what is found, and validation may have few; that a taxon
    of which nothing was found may be there; that taxa of one size may be found differently; that a detection's size
    differs from its animal's; that the classifier's mistakes come together, not one by one; that an animal was detected
    twice, but as the precision knows it; and what the photograph does not show.

    Args:
        probabilities: float, shape (n, n_outputs), calibrated, of each detection.
        sizes: int64, shape (n,), place of each one's size.
        members: bool, shape (n_outputs, n_classes), the classes that each output is or belongs to.
        recall: float64, shape (draws, n_sizes), of each draw, above 0.
        precision: float64, shape (draws, n_sizes).
        seed: of the draws.

    Returns:
        int64, shape (draws, n_classes).
    """
    rng = np.random.default_rng(seed)
    outputs, n_sizes = members.shape[0], recall.shape[1]
    found = np.zeros((len(recall), outputs), np.int64)
    if len(probabilities):
        # the crops end to end on one axis, each one long, so that one search serves all of them
        ends = np.cumsum(probabilities.astype(np.float64), axis=1)
        ends = (ends / ends[:, -1:] + np.arange(len(ends))[:, None]).ravel()
        first = np.arange(len(probabilities))
        for draw, (r, p) in enumerate(zip(recall, precision, strict=True)):
            places = np.searchsorted(ends, first + rng.random(len(first)), side="right") - first * outputs
            real = rng.random(len(first)) < p[sizes]
            pair = np.minimum(places, outputs - 1)[real] * n_sizes + sizes[real]
            counts = np.bincount(pair, minlength=outputs * n_sizes).reshape(outputs, n_sizes)
            missed = np.where(counts > 0, rng.negative_binomial(np.maximum(counts, 1), np.minimum(r, 1.0)), 0)
            found[draw] = (counts + missed).sum(axis=1)
    return found @ members.astype(np.int64)


def interval(draws: np.ndarray) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Median and the 2.5th and 97.5th percentile of draws, shape (draws, n_classes), of each class."""
    low, median, high = np.percentile(draws, [2.5, 50, 97.5], axis=0)
    return median.tolist(), low.tolist(), high.tolist()
