"""Slicing a large photograph into tiles and joining what was found in them, both by SAHI (Akyon et al. 2022)."""

import numpy as np

from instar.detectors import Boxes

#: Of a box's score; weaker boxes do not make it grow.
COMPARABLE = 0.5


#: ``x_min, y_min, x_max, y_max`` in whole pixels, max exclusive.
Box = tuple[int, int, int, int]


def tile_boxes(
    width: int, height: int, *, tile_px: int, overlap: float, whole: bool = True, region: Box | None = None
) -> list[Box]:
    """Parts of a photograph that the detector looks at.

    Args:
        width: of the photograph, pixels.
        height: of the photograph, pixels.
        tile_px: side of a tile; what has no longer side is taken whole.
        overlap: of neighbouring tiles, as a share of ``tile_px``.
        whole: whether a photograph that is sliced is looked at as a whole, too.
        region: the part of the photograph that is looked at; None for all of it.

    Returns:
        The whole region first, unless only its tiles are wanted, then its tiles row by row. The last tile of a row is
        moved inwards, so that all tiles are of one size.
    """
    left, top, right, bottom = region or (0, 0, width, height)
    if max(right - left, bottom - top) <= tile_px:
        return [(left, top, right, bottom)]
    from sahi.slicing import get_slice_bboxes

    tiles = get_slice_bboxes(bottom - top, right - left, tile_px, tile_px, False, overlap, overlap)
    found = [(left + x_min, top + y_min, left + x_max, top + y_max) for x_min, y_min, x_max, y_max in tiles]
    return [(left, top, right, bottom), *found] if whole else found


def cut_flags(
    boxes_xyxy: np.ndarray,
    tile_box: tuple[int, int, int, int],
    photo_region: tuple[int, int, int, int],
    *,
    tolerance_px: float,
) -> np.ndarray:
    """Whether a tile's inner edge cuts off what was found: an edge beyond which the photograph is searched too.

    Args:
        boxes_xyxy: float, shape (n, 4), found in the tile, in pixels of the photograph.
        tile_box: ``x_min, y_min, x_max, y_max`` of the tile.
        photo_region: the same of the part of the photograph that is searched.
        tolerance_px: how near to an edge a box ends that is cut there, at least 0.

    Returns:
        bool, shape (n,).
    """
    tile, region = np.array(tile_box), np.array(photo_region)
    inner = np.append(tile[:2] > region[:2], tile[2:] < region[2:])
    return ((np.abs(boxes_xyxy - tile) <= tolerance_px) & inner).any(axis=1)


def shifted(found: Boxes, left: int, top: int) -> Boxes:
    """Boxes of a tile in pixels of the photograph, given the tile's upper left corner there."""
    return Boxes(found.boxes_xyxy + np.array([left, top, left, top], np.float32), found.scores)


def joined(parts: list[Boxes]) -> Boxes:
    """All boxes of several parts as one list, in the order given."""
    if not parts:
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    return Boxes(np.concatenate([part.boxes_xyxy for part in parts]), np.concatenate([part.scores for part in parts]))


def merged(found: Boxes, *, merge_threshold: float) -> Boxes:
    """Boxes of one animal in several tiles made one: greedy non-maximum merging of SAHI, for boxes of any score.

    From the best score down, each box takes up the boxes that overlap it by at least ``merge_threshold`` of the smaller
    of the two (intersection over smaller, IOS). The result is the box around itself and those of at least
    ``COMPARABLE`` of its score, with the best score; the weaker ones only disappear. Around all of them, as SAHI draws
    it, a good box would grow with every guess near it: SAHI's ``get_sliced_prediction`` therefore does NMS instead of
    merging below a confidence of 0.1, without a word.

    Args:
        found: boxes in pixels of the photograph.
        merge_threshold: in (0, 1].

    Returns:
        At most as many boxes, in no particular order.
    """
    if len(found) == 0:
        return found
    from sahi.postprocess.backends import set_postprocess_backend
    from sahi.postprocess.combine import greedy_nmm

    set_postprocess_backend("numpy")  # "auto" takes another one where there is a GPU, with other ties
    rows = np.column_stack([found.boxes_xyxy, found.scores, np.zeros(len(found))]).astype(np.float32)
    taken = greedy_nmm(rows, "IOS", merge_threshold)
    boxes = [_around(found, best, others, merge_threshold) for best, others in taken.items()]
    return Boxes(np.array(boxes, np.float32), found.scores[list(taken)])


def _around(found: Boxes, best: int, others: list[int], merge_threshold: float) -> np.ndarray:
    """The box around a box and those of the others that are comparable and, while it grows, still overlap it enough."""
    box = found.boxes_xyxy[best].astype(np.float64)
    for other in others:
        candidate = found.boxes_xyxy[other].astype(np.float64)
        if found.scores[other] >= COMPARABLE * found.scores[best] and _ios(box, candidate) >= merge_threshold:
            box = np.concatenate([np.minimum(box[:2], candidate[:2]), np.maximum(box[2:], candidate[2:])])
    return box


def _ios(box_xyxy: np.ndarray, other_xyxy: np.ndarray) -> float:
    """Intersection over the smaller of two boxes that have areas."""
    sides = np.clip(np.minimum(box_xyxy[2:], other_xyxy[2:]) - np.maximum(box_xyxy[:2], other_xyxy[:2]), 0, None)
    smaller = min(np.prod(box_xyxy[2:] - box_xyxy[:2]), np.prod(other_xyxy[2:] - other_xyxy[:2]))
    return float(np.prod(sides) / smaller)
