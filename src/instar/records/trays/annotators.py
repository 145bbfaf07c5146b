"""Annotators at work on drawn trays: they outline what overlapping sub-images show, and slip now and then."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import shapely

from instar.masks import Masks
from instar.records.trays.spec import Shares
from instar.records.world_plan import chosen, stable_int

#: What annotators call things: insects, debris, other entities, unknown.
CATEGORIES = {"b": 1, "d": 2, "e": 3, "u": 4}
#: Of an insect, the least share that is outlined on a sub-image that shows only a part of it.
PART = 0.1
#: Pixels; smaller outlines are spared the faults, which would leave nothing of them.
FAULTY_FROM_PX = 24


@dataclass(frozen=True)
class Outline:
    """One outline on one sub-image, in its pixels."""

    photograph: str
    tile: int
    name: str  # of the category
    subject: str  # what is outlined: the same on every sub-image
    rings: list[np.ndarray]  # each float64, shape (n, 2), x and y, not closed
    area: int  # pixels
    size: tuple[int, int] = field(default=(0, 0))  # width and height of the sub-image

    @property
    def key(self) -> str:
        return f"{self.photograph}/{self.tile}/{self.subject}"


def sub_image_rows(width: int, height: int, n: int, overlap: float) -> np.ndarray:
    """Sub-images in n rows of n: int64, shape (n², 4), y_min, y_max, x_min, x_max in the photograph, max exclusive."""
    sides = [(int(np.ceil(length / (n - (n - 1) * overlap))), length) for length in (height, width)]
    starts = [np.round(np.linspace(0, length - side, n)).astype(int) for side, length in sides]
    return np.array([(y, y + sides[0][0], x, x + sides[1][0]) for y in starts[0] for x in starts[1]], np.int64)


def rings_of(masks: Masks) -> list[list[np.ndarray]]:
    """The outer rings of each mask along the edges of its pixels, without holes; see ``Outline.rings``.

    pycocotools fills such a ring with exactly the pixels inside.
    """
    runs = shapely.box(masks.columns, masks.tops, masks.columns + 1, masks.bottoms)
    shapes = [shapely.union_all(runs[a:b]) for a, b in zip(masks.offsets[:-1], masks.offsets[1:], strict=True)]
    return [_rings(shape) for shape in shapes]


def _rings(shape: Any) -> list[np.ndarray]:
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area > 0]
    return [shapely.get_coordinates(shapely.simplify(part.exterior, 0))[:-1] for part in parts]


def outlined(
    photograph: str, insects: Masks, debris: Masks, categories: Sequence[str], tiles: np.ndarray
) -> list[Outline]:
    """What is outlined on each sub-image; what its border cuts ends there.

    Args:
        photograph: its name.
        insects: in pixels of the photograph; empty ones are passed over.
        debris: what of it is outlined, likewise.
        categories: of the debris.
        tiles: from ``sub_image_rows``.
    """
    outlines = []
    for masks, kind, names in ((insects, "insect", ["b"] * len(insects)), (debris, "debris", list(categories))):
        whole = masks.areas()
        for tile, (top, bottom, left, right) in enumerate(tiles.tolist()):
            parts = masks.clipped(left, top, right, bottom).shifted(-left, -top)
            areas = parts.areas()
            kept = np.flatnonzero((areas > 0) & (areas >= PART * whole))
            size = (right - left, bottom - top)
            for i, rings in zip(kept.tolist(), rings_of(parts.take(kept)), strict=True):
                outlines.append(Outline(photograph, tile, names[i], f"{kind}-{i}", rings, int(areas[i]), size))
    return outlines


def with_slips(outlines: list[Outline], shares: Shares, seed: int) -> tuple[list[Outline], dict[str, list[int]]]:
    """The outlines with annotators' faults, and the places of each kind of fault in the list.

    Some rings cross themselves, some insects come in two rings with a gap between, and some lines of two points lie
    about that were meant for nothing.
    """
    insects = [outline for outline in outlines if outline.name == "b"]
    large = [one for one in insects if one.area >= FAULTY_FROM_PX and len(one.rings) == 1]
    crossing = chosen(large, round(shares.self_crossing * len(insects)), _key, "crossing", seed)
    rest = [one for one in large if one.key not in crossing]
    parted = chosen(rest, round(shares.two_parts * len(insects)), _key, "parted", seed)
    strays = chosen(insects, round(shares.two_points * len(insects)), _key, "stray", seed)
    result: list[Outline] = []
    faults: dict[str, list[int]] = {"self_crossing": [], "two_parts": [], "two_points": []}
    for one in outlines:
        rng = np.random.default_rng(stable_int("slip", one.key, seed))
        rings = one.rings
        if one.key in crossing:
            rings = [_crossed(one.rings[0], rng)]
            faults["self_crossing"].append(len(result))
        elif one.key in parted:
            rings = _parted(one.rings[0])
            faults["two_parts"] += [len(result)] if len(rings) == 2 else []
        result.append(replace(one, rings=rings, area=_area(rings) if rings is not one.rings else one.area))
        if one.key in strays:
            faults["two_points"].append(len(result))
            line = [one.rings[0][[0, len(one.rings[0]) // 2]]]
            result.append(replace(one, subject=f"stray-{one.subject}", rings=line, area=0))
    return result, faults


def _key(outline: Outline) -> str:
    return outline.key


def _crossed(ring: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A ring that crosses itself: two of its points, not far from each other, are swapped."""
    for first in rng.permutation(len(ring)):
        for step in (2, 3, 1, 4):
            swapped = ring.copy()
            pair = [first, (first + step) % len(ring)]
            swapped[pair] = swapped[pair[::-1]]
            if not shapely.Polygon(swapped).is_valid and shapely.Polygon(swapped).area > 0:
                return swapped
    return ring


def _parted(ring: np.ndarray) -> list[np.ndarray]:
    """A ring as two, with a gap of one pixel across its middle; unchanged where that leaves more or fewer."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    axis = int(np.argmax(high - low))
    middle = np.floor((low[axis] + high[axis]) / 2)
    bounds = [low - 1, high + 1]
    bounds[0][axis], bounds[1][axis] = middle, middle + 1
    rings = _rings(shapely.Polygon(ring).difference(shapely.box(*bounds[0], *bounds[1])))
    return rings if len(rings) == 2 else [ring]


def _area(rings: Iterable[np.ndarray]) -> int:
    return int(sum(abs(shapely.Polygon(ring).area) for ring in rings))


def redrawn(outline: Outline) -> Outline:
    """The same thing outlined by another hand: rounder, a little larger, within the sub-image."""
    shape = shapely.union_all([shapely.make_valid(shapely.Polygon(ring)) for ring in outline.rings])
    looser = shapely.simplify(shapely.buffer(shape, 0.7), 0.4)
    rings = _rings(shapely.intersection(looser, shapely.box(0, 0, *outline.size)))
    return replace(outline, rings=[np.round(ring, 2) for ring in rings], area=_area(rings))


def coco_annotation(number: int, image_id: int, outline: Outline) -> dict[str, Any]:
    """An outline as COCO writes it, with the name of its category."""
    points = np.concatenate(outline.rings)
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORIES[outline.name],
        "name": outline.name,
        "segmentation": [ring.ravel().tolist() for ring in outline.rings],
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": outline.area,
        "iscrowd": 0,
    }
