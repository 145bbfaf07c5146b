"""Errors of a detector near the seams of its tiles against those elsewhere."""

import numpy as np

from instar.metrics.overlaps import Overlaps

Tiles = list[tuple[int, int, int, int]]


def inner_edges(tiles: Tiles) -> np.ndarray:
    """The sides of tiles that are no border of all tiles together.

    Args:
        tiles: ``x_min, y_min, x_max, y_max``, pixels.

    Returns:
        float64, shape (e, 4): segments as boxes without width or without height, each once.
    """
    boxes = np.array(tiles, np.float64).reshape(-1, 4)
    if not len(boxes):
        return boxes
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    sides = []
    for axis in (0, 1):
        for side, border in ((axis, low[axis]), (axis + 2, high[axis])):
            inner = boxes[boxes[:, side] != border]
            segments = inner.copy()
            segments[:, [axis, axis + 2]] = inner[:, [side]]
            sides.append(segments)
    return np.unique(np.concatenate(sides), axis=0)


def near_edges(boxes_xyxy: np.ndarray, edges: np.ndarray, within_px: float) -> np.ndarray:
    """Whether an edge runs through a box or passes it at most so many pixels away, left, right, above or below.

    Args:
        boxes_xyxy: float, shape (n, 4).
        edges: float, shape (e, 4), segments.
        within_px: at least 0.

    Returns:
        bool, shape (n,).
    """
    from shapely import STRtree, box

    near = np.zeros(len(boxes_xyxy), bool)
    if len(boxes_xyxy) and len(edges):
        margin = np.array([-within_px, -within_px, within_px, within_px])
        grown = box(*(boxes_xyxy.astype(np.float64) + margin).T)
        near[np.unique(STRtree(box(*edges.T)).query(grown)[0])] = True
    return near


def duplicates(overlaps: Overlaps, animal: np.ndarray, kept: np.ndarray, *, threshold: float) -> np.ndarray:
    """Which kept detections without an animal of their own show one that another kept detection is matched with.

    Args:
        overlaps: of one photograph.
        animal: int64, shape (n,), the animal of each detection, or -1.
        kept: bool, shape (n,), detections that count.
        threshold: of the overlap with that animal, by IoU or by the smaller of both (IOS): a part of an animal is a
            duplicate, too.

    Returns:
        bool, shape (n,).
    """
    taken = np.zeros(len(overlaps.truth_areas), bool)
    taken[animal[kept & (animal >= 0)]] = True
    # the intersection over the smaller is never less than the one over the union
    enough = (overlaps.ios >= threshold) & taken[overlaps.truth]
    found = np.zeros(len(kept), bool)
    found[overlaps.found[enough]] = True
    return found & kept & (animal < 0)
