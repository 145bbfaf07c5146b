"""Annotated photographs as a detector learns from them: whole, or cut into tiles with the animals that each shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from instar.annotations import Annotated
from instar.boxes import box_areas
from instar.detectors import Example
from instar.masks import Masks
from instar.tiles import Box, tile_boxes, touching


@dataclass(frozen=True)
class Tiling:
    """How photographs are cut into tiles to learn from.

    Attributes:
        tile_px: side of a tile; 0 for whole photographs.
        overlap: of neighbouring tiles, as a share of the side.
        min_part: an animal of which a tile shows a smaller share of its area, in pixels of its mask or else of its box,
            is not told to whoever learns from the tile.
    """

    tile_px: int
    overlap: float
    min_part: float


def tiled(example: Example, region: Box | None, tiling: Tiling) -> Iterator[Example]:
    """The tiles of a photograph, those without an animal among them.

    Args:
        example: a photograph.
        region: the part of it that is cut into tiles; None for all of it.
        tiling: how.

    Yields:
        Examples named ``<photograph>_<x>_<y>``, with boxes around what the tile shows of each animal; without tiles the
        photograph as it is.
    """
    if not tiling.tile_px:
        yield example
        return
    height, width = example.picture.shape[:2]
    for left, top, right, bottom in _parts(width, height, region, tiling):
        boxes_xyxy, masks = _shown(example, (left, top, right, bottom), tiling.min_part)
        picture = example.picture[top:bottom, left:right]
        yield Example(f"{example.name}_{left}_{top}", example.split, picture, boxes_xyxy, masks)


def tile_counts(photograph: Annotated, region: Box | None, tiling: Tiling) -> np.ndarray:
    """How many animals each tile of a photograph teaches, without its pixels; see ``tiled``.

    Returns:
        int64, shape (tiles,); without tiles one number for the photograph.
    """
    if not tiling.tile_px:
        return np.array([len(photograph.boxes_xyxy)], np.int64)
    tiles = _parts(photograph.width, photograph.height, region, tiling)
    return np.array([len(_shown(photograph, tile, tiling.min_part)[0]) for tile in tiles], np.int64)


def densest(photograph: Annotated, region: Box | None, tiling: Tiling) -> int:
    """Animals that share some area with the tile that most of them do, as detection_metrics counts them."""
    if not tiling.tile_px:
        return len(photograph.boxes_xyxy)
    tiles = _parts(photograph.width, photograph.height, region, tiling)
    return int(touching(photograph.boxes_xyxy, tiles).max(initial=0))


def _parts(width: int, height: int, region: Box | None, tiling: Tiling) -> list[Box]:
    return tile_boxes(width, height, tile_px=tiling.tile_px, overlap=tiling.overlap, whole=False, region=region)


def _shown(example: Example | Annotated, tile: Box, min_part: float) -> tuple[np.ndarray, Masks | None]:
    """Boxes and masks of the animals that a tile shows enough of, in its pixels."""
    left, top, right, bottom = tile
    corner = np.array([left, top, left, top], np.float64)
    if example.masks is None:
        inside = np.clip(example.boxes_xyxy, [left, top, left, top], [right, bottom, right, bottom])
        shares = box_areas(inside) / box_areas(example.boxes_xyxy)
        return inside[(shares > 0) & (shares >= min_part)] - corner, None
    low, high = example.boxes_xyxy[:, :2], example.boxes_xyxy[:, 2:]
    near = np.flatnonzero(((low < [right, bottom]) & (high > [left, top])).all(axis=1))
    all_of_it = example.masks.take(near)
    shown = all_of_it.clipped(left, top, right, bottom)
    areas = shown.areas()
    kept = shown.take((areas > 0) & (areas >= min_part * all_of_it.areas())).shifted(-left, -top)
    return kept.boxes().astype(np.float64), kept
