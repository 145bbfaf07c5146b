"""Outlines drawn by hand made whole: valid, in one piece, without holes, inside the picture. Masks of pixels stay."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from instar.masks import Masks, from_polygons, from_rle

#: Parts at most so far apart are one animal that the brush left a gap in, pixels.
NEAR_PX = 3.0
#: A concave hull over near parts stands in for them unless it is this many times as large as they are.
HULL_GROWTH = 1.25
#: Of the hull: 0 follows every bay, 1 is convex.
HULL_RATIO = 0.3
_TOUCHING_PX = 1e-6
#: Farther coordinates are no pixels; Shapely's arithmetic overflows on some.
_FARTHEST_PX = 1e7

#: What is done to an outline; every one is counted.
RING_LEFT_OUT = "ring of fewer than three points left out"
REPAIRED = "repaired"
UNITED = "parts united"
HULL = "concave hull over near parts"
LARGEST = "largest part taken"
FILLED = "holes filled"
CLIPPED = "clipped at the edge"
#: Of an insect whose parts several sub-images show.
FILLED_TOGETHER = "holes filled between parts of several sub-images"

#: Why an outline is dropped.
NO_OUTLINE = "no outline"
NO_NUMBERS = "coordinates are no pairs of numbers"
TOO_FEW_POINTS = "fewer than three points"
NO_AREA = "no area"
OUTSIDE = "outside the picture"
WRONG_SIZE = "RLE of another size than the picture"
BROKEN_RLE = "broken RLE"
REASONS = (NO_OUTLINE, NO_NUMBERS, TOO_FEW_POINTS, NO_AREA, OUTSIDE, WRONG_SIZE, BROKEN_RLE)


@dataclass
class Cleaned:
    """An outline after cleaning.

    Attributes:
        rings: what is left, as COCO's rings in pixels; empty where there is a reason, or it was given as RLE.
        changes: what was done, in this order.
        reason: why it is dropped; None where it is not.
        masks: one mask where it was given as RLE.
    """

    rings: list[list[float]] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    reason: str | None = None
    masks: Masks | None = None


def cleaned(segmentation: Any, width: int, height: int) -> Cleaned:
    """One animal's outline made whole.

    Rings that cross themselves are repaired (Shapely's make_valid), all rings united and their holes filled. Where
    parts stay apart, those within ``NEAR_PX`` of each other get a concave hull around them, as far as that does not
    swell them by more than ``HULL_GROWTH``; of what is still apart the largest part is taken, or the parts that touch.
    At last it is clipped to the picture. A mask given as RLE, compressed or not, says of each pixel what it is, and is
    taken as it is.

    Args:
        segmentation: COCO's: rings ``x1, y1, x2, y2, …`` (or lists of pairs) in pixels, or RLE.
        width: of the picture that it lies in, pixels.
        height: likewise.
    """
    if isinstance(segmentation, dict):
        return _from_rle(segmentation, width, height)
    if not isinstance(segmentation, list) or not segmentation:
        return Cleaned(reason=NO_OUTLINE)
    try:
        rings = points(segmentation)
    except (ValueError, TypeError, OverflowError):
        return Cleaned(reason=NO_NUMBERS)
    found = Cleaned()
    kept = [ring for ring in rings if len(np.unique(ring, axis=0)) >= 3]
    if not kept:
        return Cleaned(reason=TOO_FEW_POINTS)
    if len(kept) < len(rings):
        found.changes.append(RING_LEFT_OUT)
    whole = _one(list(_valid(kept, found)), found)
    if not whole:
        return Cleaned(changes=found.changes, reason=NO_AREA)
    inside = _clipped(whole, width, height, found)
    if not inside:
        return Cleaned(changes=found.changes, reason=OUTSIDE)
    found.rings = [np.asarray(part.exterior.coords)[:-1].ravel().tolist() for part in inside]
    return found


def points(segmentation: list[Any]) -> list[np.ndarray]:
    """The points of rings: each float64, shape (n, 2), pixels.

    Raises:
        ValueError, TypeError, OverflowError: if a ring is no pairs of numbers, or one is farther away than any picture
            reaches.
    """
    rings = [np.asarray(ring, np.float64) for ring in segmentation]
    rings = [ring.reshape(-1, 2) if ring.ndim == 1 else ring for ring in rings]
    if not all(ring.ndim == 2 and ring.shape[1] == 2 and (np.abs(ring) <= _FARTHEST_PX).all() for ring in rings):
        raise ValueError("no pairs of numbers in reach")
    return rings


def _valid(rings: list[np.ndarray], found: Cleaned) -> Iterator[Polygon]:
    """Valid polygons; a ring that crosses itself becomes several of them."""
    for ring in rings:
        polygon = Polygon(ring)
        if polygon.is_valid:
            yield polygon
            continue
        if REPAIRED not in found.changes:
            found.changes.append(REPAIRED)
        yield from _polygons(shapely.make_valid(polygon))


def _polygons(geometry: Any) -> list[Polygon]:
    """The parts of a geometry that have an area."""
    parts = shapely.get_parts(geometry)
    nested = [polygon for part in parts if part.geom_type == "MultiPolygon" for polygon in part.geoms]
    return [part for part in [*parts, *nested] if part.geom_type == "Polygon" and part.area > 0]


def _one(parts: list[Polygon], found: Cleaned) -> list[Polygon]:
    """The parts as one animal: polygons without holes that touch each other; none where none has an area."""
    united = _polygons(shapely.union_all(parts))
    if len(parts) > len(united) > 0:
        found.changes.append(UNITED)
    pieces = list(_bridged(united, found)) if len(united) > 1 else [united]
    if len(pieces) > 1:
        found.changes.append(LARGEST)
    largest = max(pieces, key=_area)
    if any(part.interiors for part in largest):
        found.changes.append(FILLED)
    return [Polygon(part.exterior) for part in largest]


def _area(parts: list[Polygon]) -> float:
    return sum(part.area for part in parts)


def _bridged(parts: list[Polygon], found: Cleaned) -> Iterator[list[Polygon]]:
    """Pieces of parts that stay apart, near parts within one hull."""
    for near in _together(parts, NEAR_PX):
        if len(near) == 1:
            yield near
            continue
        # the hull may cut a corner that a part has
        hull = shapely.union_all([shapely.concave_hull(MultiPolygon(near), ratio=HULL_RATIO), *near])
        if hull.geom_type == "Polygon" and hull.area <= HULL_GROWTH * _area(near):
            if HULL not in found.changes:
                found.changes.append(HULL)
            yield [hull]
        else:
            # the two lobes of an outline that crosses itself touch in a point
            yield from _together(near, _TOUCHING_PX)


def _together(parts: list[Polygon], distance: float) -> list[list[Polygon]]:
    """The parts in groups whose members are at most so many pixels from another one of the group."""
    zones = shapely.get_parts(shapely.union_all(shapely.buffer(parts, distance / 2)))
    return [[part for part in parts if zone.intersects(part)] for zone in zones]


def _clipped(parts: list[Polygon], width: int, height: int, found: Cleaned) -> list[Polygon]:
    x_min, y_min, x_max, y_max = shapely.total_bounds(parts)
    if min(x_min, y_min) >= 0 and x_max <= width and y_max <= height:
        return parts
    inside = _polygons(shapely.intersection(MultiPolygon(parts), shapely.box(0, 0, width, height)))
    if inside:
        found.changes.append(CLIPPED)
    return inside


def _from_rle(segmentation: dict[str, Any], width: int, height: int) -> Cleaned:
    try:
        if [int(side) for side in segmentation["size"]] != [height, width]:
            return Cleaned(reason=WRONG_SIZE)
        masks = _decoded(segmentation, width, height)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, UnicodeEncodeError):
        return Cleaned(reason=BROKEN_RLE)
    return Cleaned(masks=masks) if masks.areas()[0] else Cleaned(reason=NO_AREA)


def _decoded(segmentation: dict[str, Any], width: int, height: int) -> Masks:
    """The mask of COCO's RLE, its counts compressed or a list of numbers."""
    counts = segmentation["counts"]
    if isinstance(counts, list):
        from pycocotools.mask import frPyObjects

        # pycocotools itself does not look
        if sum(counts) != height * width or min(counts, default=0) < 0:
            raise ValueError("counts do not fill the size")
        counts = frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    return from_rle([{"size": [height, width], "counts": counts}])


def raw_area(segmentation: list[Any], width: int, height: int) -> int:
    """Pixels that rings cover as they were drawn, by pycocotools' own rule, also outside the picture, as far as its
    own sides on each; rings of fewer than 3 points none.

    Raises:
        ValueError, TypeError, OverflowError: if ``cleaned`` finds no numbers in them.
    """
    sides = np.array([width, height])
    # pycocotools' rasterization of far coordinates takes memory by their distance; whole pixels do not change its grid
    rings: list[Any] = [
        (np.clip(ring, -sides, 2 * sides) + sides).ravel() for ring in points(segmentation) if len(ring) >= 3
    ]
    return int(from_polygons([rings], 3 * height, 3 * width).areas()[0]) if rings else 0


def counted(changes: Sequence[Cleaned]) -> Counter[str]:
    """How many outlines each change was made to."""
    return Counter(change for one in changes for change in one.changes)
