"""What of two lists of boxes or masks overlaps, and by how much: only the pairs that do, so that memory stays small."""

from dataclasses import dataclass

import numpy as np

from instar.boxes import box_areas
from instar.masks import Masks, intersections


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
