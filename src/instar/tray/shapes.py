"""Masks and boxes as outlines in few bytes, for a page that draws them."""

import numpy as np
import shapely

from instar.masks import Masks


def outlines(masks: Masks) -> list[shapely.Geometry]:
    """The outlines of masks along the edges of their pixels, exactly: holes are kept, and so are separate parts."""
    # int32 as it is would wrap around in shapely.box on some platforms
    columns, tops, bottoms = (each.astype(np.float64) for each in (masks.columns, masks.tops, masks.bottoms))
    runs = shapely.box(columns, tops, columns + 1, bottoms)
    united = [shapely.union_all(runs[a:b]) for a, b in zip(masks.offsets, masks.offsets[1:], strict=False)]
    return _turned(united)


def frames(boxes_xyxy: np.ndarray) -> list[shapely.Geometry]:
    """The outlines of boxes, float of shape (n, 4), to the nearest pixel."""
    return _turned(list(shapely.box(*boxes_xyxy.astype(np.float64).round().T)))


def _turned(polygons: list[shapely.Geometry]) -> list[shapely.Geometry]:
    """Without needless corners, and holes turned against their outlines, so that a canvas leaves them empty."""
    if not polygons:
        return []
    found: list[shapely.Geometry] = shapely.orient_polygons(shapely.simplify(polygons, 0)).tolist()
    return found


def packed(polygons: list[shapely.Geometry]) -> bytes:
    """Outlines as LEB128 numbers.

    For each shape the number of its rings; for each ring the number of its corners without the repeated first one, then
    for each corner its x and y as differences from the corner before, the first from 0, sign in the lowest bit.
    """
    numbers: list[np.ndarray] = []
    for polygon in polygons:
        parts = [part for part in shapely.get_parts(polygon) if not part.is_empty]
        rings = [shapely.get_coordinates(ring)[:-1].astype(np.int64) for ring in shapely.get_rings(parts)]
        numbers.append(np.array([len(rings)]))
        for ring in rings:
            steps = np.diff(ring, axis=0, prepend=0).ravel()
            numbers += [np.array([len(ring)]), np.where(steps < 0, -2 * steps - 1, 2 * steps)]
    return _leb128(np.concatenate([np.zeros(0, np.int64), *numbers]))


def _leb128(numbers: np.ndarray) -> bytes:
    """Numbers from 0 to 2^35, seven bits a byte, the lowest first; the highest bit says that more follow."""
    places = np.arange(5)
    sevens = (numbers[:, None] >> (7 * places)) & 127
    used = (numbers[:, None] >> (7 * places) > 0) | (places == 0)
    more = np.column_stack([used[:, 1:], np.zeros(len(numbers), bool)])
    return bytes((sevens | (more << 7))[used].astype(np.uint8).tobytes())
