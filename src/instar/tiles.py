"""Slicing a large photograph into tiles by SAHI (Akyon et al. 2022), and what the tiles gave in one list."""

from collections.abc import Sequence

import numpy as np

from instar.detectors import Boxes
from instar.masks import joined_masks

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


def touching(boxes_xyxy: np.ndarray, tiles: Sequence[Box]) -> np.ndarray:
    """How many boxes share some area with each tile: int64, shape (t,), from float, shape (n, 4)."""
    counts = np.zeros(len(tiles), np.int64)
    for n, tile in enumerate(np.array(tiles, np.float64)):
        counts[n] = ((boxes_xyxy[:, :2] < tile[2:]) & (boxes_xyxy[:, 2:] > tile[:2])).all(axis=1).sum()
    return counts


def cut_flags(
    boxes_xyxy: np.ndarray,
    tile_box: Box,
    photo_region: Box,
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
    """What a tile gave in pixels of the photograph, given the tile's upper left corner there."""
    boxes = found.boxes_xyxy + np.array([left, top, left, top], np.float32)
    return Boxes(boxes, found.scores, found.full, None if found.masks is None else found.masks.shifted(left, top))


def joined(parts: list[Boxes]) -> Boxes:
    """All boxes of several parts as one list, in the order given.

    Raises:
        ValueError: if some parts have masks and others, with boxes in them, have not.
    """
    if not parts:
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    masks = [part.masks for part in parts if part.masks is not None]
    if masks and sum(map(len, masks)) < sum(map(len, parts)):
        raise ValueError("some parts have masks and others have none")
    return Boxes(
        np.concatenate([part.boxes_xyxy for part in parts]),
        np.concatenate([part.scores for part in parts]),
        any(part.full for part in parts),
        joined_masks(masks) if masks else None,
    )
