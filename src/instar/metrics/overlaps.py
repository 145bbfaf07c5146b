"""What of two lists of boxes or masks overlaps, and by how much: only the pairs that do, so that memory stays small."""

from dataclasses import dataclass

import numpy as np

from instar.boxes import box_areas
from instar.masks import Masks

#: Runs of masks that are intersected at a time.
CHUNK = 1 << 21


@dataclass(frozen=True)
class Overlaps:
    """The pairs of a detection and an animal of one photograph that share some area.

    Attributes:
        found: int64, shape (k,), index of the detection; pairs are ordered by it and then by the animal.
        truth: int64, shape (k,), index of the animal.
        iou: float64, shape (k,), intersection over union, above 0.
        ios: float64, shape (k,), intersection over the smaller of both.
        found_areas: float64, shape (n,), of all detections, pixels.
        truth_areas: float64, shape (m,), of all animals.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray
    ios: np.ndarray
    found_areas: np.ndarray
    truth_areas: np.ndarray


def box_overlaps(found_xyxy: np.ndarray, truth_xyxy: np.ndarray) -> Overlaps:
    """Overlaps of boxes.

    Args:
        found_xyxy: of the detections, float, shape (n, 4), pixels.
        truth_xyxy: of the animals, float, shape (m, 4).
    """
    found, truth = _touching(found_xyxy, truth_xyxy)
    low = np.maximum(found_xyxy[found, :2], truth_xyxy[truth, :2]).astype(np.float64)
    high = np.minimum(found_xyxy[found, 2:], truth_xyxy[truth, 2:]).astype(np.float64)
    sides = np.clip(high - low, 0, None)
    return _overlaps(found, truth, sides[:, 0] * sides[:, 1], box_areas(found_xyxy), box_areas(truth_xyxy))


def mask_overlaps(found: Masks, truth: Masks) -> Overlaps:
    """Overlaps of masks, counted in whole pixels."""
    places = _touching(found.boxes(), truth.boxes())
    shared = intersections(found, truth, *places)
    return _overlaps(*places, shared, found.areas().astype(np.float64), truth.areas().astype(np.float64))


def _overlaps(
    found: np.ndarray, truth: np.ndarray, shared: np.ndarray, found_areas: np.ndarray, truth_areas: np.ndarray
) -> Overlaps:
    kept = shared > 0
    found, truth, shared = found[kept], truth[kept], shared[kept]
    ours, others = found_areas[found], truth_areas[truth]
    return Overlaps(
        found, truth, shared / (ours + others - shared), shared / np.minimum(ours, others), found_areas, truth_areas
    )


def _touching(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes that overlap or touch, ordered: int64, shape (k,) each."""
    from shapely import STRtree, box

    if not (len(boxes_xyxy) and len(others_xyxy)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    tree = STRtree(box(*others_xyxy.astype(np.float64).T))
    first, second = tree.query(box(*boxes_xyxy.astype(np.float64).T))
    order = np.lexsort((second, first))
    return first[order], second[order]


def intersections(masks: Masks, others: Masks, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that pairs of masks share.

    The other masks' runs are laid end to end on one axis, where a sum over all that lie before a place tells how many
    pixels lie between two places. Of each mask only the columns of the other's box are looked at.

    Args:
        masks: n masks.
        others: m masks in the same picture.
        first: int64, shape (k,), of each pair the mask.
        second: int64, shape (k,), of each pair the other mask.

    Returns:
        int64, shape (k,).
    """
    if not (len(first) and len(masks.tops) and len(others.tops)):
        return np.zeros(len(first), np.int64)
    axis = _Axis.of(masks, others)
    boxes = others.boxes()[second].astype(np.int64)
    columns = axis.columns(masks)
    lows = np.searchsorted(columns, axis.column(first, boxes[:, 0]))
    sizes = np.searchsorted(columns, axis.column(first, boxes[:, 2])) - lows
    ends = np.cumsum(sizes)
    shared = np.zeros(len(first), np.int64)
    start = 0
    while start < len(first):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + CHUNK, side="right")), start + 1)
        part = slice(start, stop)
        shared[part] = _shared(masks, axis, lows[part], sizes[part], second[part])
        start = stop
    return shared


@dataclass(frozen=True)
class _Axis:
    """The runs of several masks end to end: each mask has ``span`` places, column by column."""

    left: int
    top: int
    width: int
    height: int
    starts: np.ndarray
    lengths: np.ndarray
    before: np.ndarray

    @classmethod
    def of(cls, masks: Masks, others: Masks) -> "_Axis":
        left = int(min(masks.columns.min(), others.columns.min()))
        top = int(min(masks.tops.min(), others.tops.min()))
        # one column more than there are, so that a box's right side, which is exclusive, is still its own mask's
        width = int(max(masks.columns.max(), others.columns.max())) - left + 2
        height = int(max(masks.bottoms.max(), others.bottoms.max())) - top
        column = others.owners * width + (others.columns.astype(np.int64) - left)
        lengths = (others.bottoms - others.tops).astype(np.int64)
        return cls(
            left, top, width, height, column * height + (others.tops - top), lengths, np.cumsum(lengths) - lengths
        )

    def column(self, mask: np.ndarray, x: np.ndarray) -> np.ndarray:
        return mask * self.width + np.clip(x - self.left, 0, self.width - 1)

    def columns(self, masks: Masks) -> np.ndarray:
        return self.column(masks.owners, masks.columns.astype(np.int64))

    def covered(self, places: np.ndarray) -> np.ndarray:
        """Pixels of all masks before each place."""
        run = np.maximum(np.searchsorted(self.starts, places, side="right") - 1, 0)
        return self.before[run] + np.clip(places - self.starts[run], 0, self.lengths[run])


def _shared(masks: Masks, axis: _Axis, lows: np.ndarray, sizes: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that the runs ``lows`` to ``lows + sizes`` of the masks share with the other mask of each pair."""
    pair = np.repeat(np.arange(len(sizes)), sizes)
    runs = np.arange(len(pair)) + np.repeat(lows - (np.cumsum(sizes) - sizes), sizes)
    base = axis.column(second[pair], masks.columns[runs].astype(np.int64)) * axis.height
    inside = axis.covered(base + masks.bottoms[runs] - axis.top) - axis.covered(base + masks.tops[runs] - axis.top)
    return np.bincount(pair, inside, minlength=len(sizes)).astype(np.int64)
