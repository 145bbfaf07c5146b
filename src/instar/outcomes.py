"""What became of every detection and every annotated animal of a photograph: right, wrong, missed."""

from dataclasses import dataclass

import numpy as np

from instar.boxes import iou_matrix
from instar.masks import Masks

#: A detection and an animal that overlap by so much can be a pair.
IOU = 0.5
#: Detections compared with all animals at a time: 3,000 animals then take 25 MB.
AT_ONCE = 1000


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
    left, right, overlap = _overlaps(found, truth)
    near = overlap >= min(iou, 1 - 1e-10)
    left, right, overlap = left[near], right[near], overlap[near]
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    animal, finder = np.full(len(scores), -1), np.full(len(truth), -1)
    best = np.zeros(len(scores))
    # of equal overlaps COCO takes the last
    for pair in np.lexsort((-right, -overlap, rank[left])):
        detection, one = left[pair], right[pair]
        if animal[detection] < 0 and finder[one] < 0:
            animal[detection], finder[one], best[detection] = one, detection, overlap[pair]
    return Outcomes(scores.astype(np.float64), animal, best, finder)


def _overlaps(found: Masks | np.ndarray, truth: Masks | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that overlap and their IoU."""
    if isinstance(found, Masks) and isinstance(truth, Masks):
        return mask_ious(found, truth)
    assert isinstance(found, np.ndarray) and isinstance(truth, np.ndarray)
    parts = []
    for start in range(0, len(found), AT_ONCE):
        dense = iou_matrix(found[start : start + AT_ONCE], truth)
        left, right = np.nonzero(dense)
        parts.append((left + start, right, dense[left, right]))
    return _joined(parts)


def mask_ious(found: Masks, truth: Masks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersection over union of all masks that share a pixel, exactly.

    Returns:
        Indices into ``found`` and ``truth``, int64, and the IoU, float64, each of shape (pairs,).
    """
    from pycocotools.mask import iou

    if not len(found) or not len(truth):
        return _joined([])
    # any picture that holds all of them will do
    ends = [(each.bottoms.max(initial=1), each.columns.max(initial=0) + 1) for each in (found, truth)]
    height, width = (int(max(sides)) for sides in zip(*ends, strict=True))
    ours, theirs = ([{"size": [height, width], "counts": c} for c in m.rle(height, width)] for m in (found, truth))
    parts = []
    for start in range(0, len(ours), AT_ONCE):
        dense = np.nan_to_num(iou(ours[start : start + AT_ONCE], theirs, [0] * len(theirs)))  # of two empty ones
        left, right = np.nonzero(dense)
        parts.append((left + start, right, dense[left, right]))
    return _joined(parts)


def _joined(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    left, right, overlap = (np.concatenate(columns) for columns in zip(nothing, *parts, strict=True))
    return left, right, overlap
