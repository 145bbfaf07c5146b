"""What became of every detection and every annotated animal of a photograph: right, wrong, missed."""

from dataclasses import dataclass

import numpy as np

from instar.masks import Masks
from instar.metrics.coco import matched
from instar.metrics.overlaps import Overlaps, box_overlaps, mask_overlaps

#: A detection and an animal that overlap by so much can be a pair.
IOU = 0.5


@dataclass(frozen=True)
class Outcomes:
    """Detections of one photograph and its animals in pairs.

    From the best score down a detection takes the animal not yet taken that it overlaps most, as COCO does. What a
    higher threshold leaves out comes last in that order, so the pairs hold at every threshold.

    Attributes:
        scores: float64, shape (k,), of the detections.
        animal: int64, shape (k,), the animal of each detection; -1 where it has none.
        iou: float64, shape (k,), with that animal; 0 where there is none.
        finder: int64, shape (n,), the detection of each animal; -1 where it has none.
    """

    scores: np.ndarray
    animal: np.ndarray
    iou: np.ndarray
    finder: np.ndarray

    def right(self, confidence: float) -> np.ndarray:
        """Which detections from a score up have an animal: bool, shape (k,)."""
        return (self.scores >= confidence) & (self.animal >= 0)

    def wrong(self, confidence: float) -> np.ndarray:
        """Which detections from a score up have none: bool, shape (k,)."""
        return (self.scores >= confidence) & (self.animal < 0)

    def missed(self, confidence: float) -> np.ndarray:
        """Which animals no detection from a score up has: bool, shape (n,)."""
        found = np.zeros(len(self.finder), bool)
        found[self.animal[self.right(confidence)]] = True
        return ~found


def outcomes(found: Masks | np.ndarray, scores: np.ndarray, truth: Masks | np.ndarray, iou: float = IOU) -> Outcomes:
    """Pair the detections of a photograph with its annotated animals.

    Args:
        found: masks, or boxes as float of shape (k, 4), pixels.
        scores: of the detections, float, shape (k,).
        truth: of the animals, of the same kind as ``found``, n of them.
        iou: at which a detection and an animal can be a pair.
    """
    pairs = _overlaps(found, truth)
    animal = matched([pairs], [scores], thresholds=np.array([iou])).animals_of(0)
    finder, best = np.full(len(truth), -1), np.zeros(len(scores))
    paired = np.flatnonzero(animal >= 0)
    finder[animal[paired]] = paired
    chosen = animal[pairs.found] == pairs.truth
    best[pairs.found[chosen]] = pairs.iou[chosen]
    return Outcomes(scores.astype(np.float64), animal, best, finder)


def _overlaps(found: Masks | np.ndarray, truth: Masks | np.ndarray) -> Overlaps:
    if isinstance(found, Masks) and isinstance(truth, Masks):
        return mask_overlaps(found, truth)
    assert isinstance(found, np.ndarray) and isinstance(truth, np.ndarray)
    return box_overlaps(found, truth)
