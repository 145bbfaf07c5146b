"""Arithmetic of boxes ``x_min, y_min, x_max, y_max`` in pixels of the upright photograph, max exclusive."""

import numpy as np

#: The reason in ``tables.DETECTIONS`` of a photograph that was searched in vain.
NO_ANIMAL = "no animal found"
#: The reason in ``tables.CROPS`` of a box that is not cut out.
BELOW_CONFIDENCE = "below confidence"
#: What rows of ``tables.CROPS`` say of photographs that were searched; other reasons are of photographs that could not.
SEARCHED = (None, NO_ANIMAL, BELOW_CONFIDENCE)


def box_areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Areas of boxes in square pixels.

    Args:
        boxes_xyxy: float, shape (n, 4).

    Returns:
        float64, shape (n,); 0 for a box whose max is not above its min.
    """
    sides = np.clip(boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def iou_matrix(boxes_xyxy: np.ndarray, others_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with each other box.

    Args:
        boxes_xyxy: float, shape (n, 4).
        others_xyxy: float, shape (m, 4).

    Returns:
        float64, shape (n, m), in [0, 1]; 0 where both boxes are empty.
    """
    low = np.maximum(boxes_xyxy[:, None, :2], others_xyxy[None, :, :2]).astype(np.float64)
    high = np.minimum(boxes_xyxy[:, None, 2:], others_xyxy[None, :, 2:]).astype(np.float64)
    sides = np.clip(high - low, 0, None)
    intersection = sides[..., 0] * sides[..., 1]
    union = box_areas(boxes_xyxy)[:, None] + box_areas(others_xyxy)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def clipped_boxes(boxes_xyxy: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes cut off at the borders of a photograph; one that lies outside becomes empty.

    Args:
        boxes_xyxy: float, shape (n, 4).
        width: of the photograph, pixels.
        height: of the photograph, pixels.

    Returns:
        float32, shape (n, 4).
    """
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes_xyxy.astype(np.float32), 0, limits)


def non_empty(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Which boxes are finite and have a width and a height: bool, shape (n,), from float, shape (n, 4)."""
    return np.isfinite(boxes_xyxy).all(axis=1) & (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)


def order_by_score(boxes_xyxy: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices by falling score; equal scores by x_min, y_min, x_max, y_max, so that the order is always the same.

    Args:
        boxes_xyxy: float, shape (n, 4).
        scores: float, shape (n,).

    Returns:
        int64, shape (n,).
    """
    x_min, y_min, x_max, y_max = boxes_xyxy.T
    return np.lexsort((y_max, x_max, y_min, x_min, -scores))


def box_with_margin(
    box_xyxy: tuple[float, float, float, float], *, margin_percent: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """A box grown on each side by a share of its own side, in whole pixels, cut off at the photograph's borders.

    Args:
        box_xyxy: pixels, inside the photograph.
        margin_percent: added left and right, of the width; above and below, of the height.
        width: of the photograph, pixels.
        height: of the photograph, pixels.

    Returns:
        Whole pixels; every pixel that the grown box touches is inside, at least one.
    """
    x_min, y_min, x_max, y_max = box_xyxy
    extra_x, extra_y = (x_max - x_min) * margin_percent / 100, (y_max - y_min) * margin_percent / 100
    left, right = _whole(x_min - extra_x, x_max + extra_x, width)
    top, bottom = _whole(y_min - extra_y, y_max + extra_y, height)
    return left, top, right, bottom


def _whole(low: float, high: float, limit: int) -> tuple[int, int]:
    # a box that ends at 20.00001 by rounding of float32 must not gain a pixel
    start = min(max(int(np.floor(low + 1e-3)), 0), limit - 1)
    return start, min(max(int(np.ceil(high - 1e-3)), start + 1), limit)
