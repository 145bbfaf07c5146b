"""Scores of several kinds as one: each is calibrated to a probability, and these are averaged (Cermak et al. 2024).

Whatever tells individuals apart may take part: softmax, nearest neighbours by the embeddings of several classifiers,
matches of local features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from instar.errors import InputError
from instar.reid.scores import NONE

#: Fewer pairs than this, of the same individual or of two, make a calibration that is told as weak.
FEW = 20
#: Isotonic regression makes steps, and two individuals on one step would be equal: so much of a probability goes by the
#: score itself.
TILT = 1e-3


@dataclass(frozen=True)
class Calibration:
    """How a score turns into the probability that two photographs show the same individual.

    Attributes:
        scores: rising, at which the probability is known; between them it is interpolated, and beyond them it stays.
        probabilities: of these, never falling, in [0, 1].
        pairs: that it was fitted on.
        same: of these, pairs of one individual.
    """

    scores: Sequence[float]
    probabilities: Sequence[float]
    pairs: int
    same: int

    @property
    def few(self) -> bool:
        """Whether there were fewer than ``FEW`` pairs of the same individual, or of two."""
        return min(self.same, self.pairs - self.same) < FEW

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, float32, of the shape of ``scores``; -inf stays what it is.

        They rise strictly with the score, as far as scores were seen.
        """
        low, high = self.scores[0], self.scores[-1]
        wide = np.clip(scores.astype(np.float64), low, high)
        steps = np.interp(wide, self.scores, self.probabilities)
        slope = (wide - low) / (high - low) if high > low else np.zeros_like(wide)
        return np.where(scores > NONE, (1 - TILT) * steps + TILT * slope, NONE).astype(np.float32)

    def told(self) -> dict[str, Any]:
        """For a JSON file; ``Calibration(**told)`` is the same again."""
        return asdict(self)


def calibration(scores: np.ndarray, same: np.ndarray) -> Calibration:
    """Fit the probability of "the same individual" by isotonic regression (Zadrozny & Elkan 2002).

    Args:
        scores: float, shape (n,), of pairs of validation; those of -inf are left out.
        same: bool, shape (n,), whether a pair is of one individual.

    Raises:
        InputError: if there is no pair.
    """
    from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]

    there = scores > NONE
    scores, same = scores[there].astype(np.float64), same[there]
    if not len(scores):
        raise InputError("no pair of validation to calibrate scores with; give validation some known individuals")
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, same)
    return Calibration(
        fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), pairs=len(scores), same=int(same.sum())
    )


def validation_pairs(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each photograph of validation with each of its candidates, as pairs for ``calibration``.

    Args:
        scores: float32, shape (n_queries, n_identities), -inf where there is no candidate.
        target: int64, shape (n_queries,), the right column; -1 for a new individual, which is the same as no other.

    Returns:
        Scores, float32, and whether each is of the same individual, bool, both of shape (n_pairs,).
    """
    there = scores > NONE
    same = np.arange(scores.shape[1]) == target[:, None]
    return scores[there], same[there]


def fused(probabilities: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted mean of calibrated scores.

    Args:
        probabilities: of each kind, float32, all of one shape; -inf where a kind has no candidate.
        weights: of each kind, at least 0 and not all 0.

    Returns:
        float32, in [0, 1]. Where some kinds have a candidate and others none, such as softmax for an individual that
        was enrolled after training, those that have one count alone; -inf where none has.

    Raises:
        InputError: if a kind has no weight or a weight no kind, if one is negative, or all are 0.
    """
    if missing := sorted(set(probabilities) ^ set(weights)):
        raise InputError(
            f"fusion of {', '.join(sorted(probabilities))} by the weights of {', '.join(sorted(weights)) or 'none'}: "
            f"{missing[0]} is in one of both alone; give each kind of score a weight"
        )
    if not weights or min(weights.values()) < 0 or not any(weights.values()):
        told = ", ".join(f"{kind} = {weight:g}" for kind, weight in weights.items())
        raise InputError(f"weights of fusion: {told or 'none'}; none may be below 0, and one must be above")
    shape = next(iter(probabilities.values())).shape
    total, sums = np.zeros(shape), np.zeros(shape)
    for kind, given in probabilities.items():
        there = given > NONE
        sums += weights[kind] * there
        total += weights[kind] * np.where(there, given, 0)
    return np.divide(total, sums, out=np.full(shape, NONE, np.float64), where=sums > 0).astype(np.float32)
