"""Drawing solids: ellipsoids and tapered limbs, seen from anywhere, lit, with an exact alpha.

Camera coordinates are pixels: x right, y down, z towards the viewer. Solids are given in world units and a view turns
and scales them. All of a sprite's solids share one depth buffer, so that parts pass before and behind each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

#: Light that reaches every surface, and how much more the direct light adds.
AMBIENT, DIFFUSE = 0.4, 0.7
#: Empty pixels around the solids in a picture of them.
MARGIN_PX = 2


@dataclass(frozen=True)
class Bands:
    """Rear edges of plates across an ellipsoid's first axis, which spans the plates ``front`` to ``rear``."""

    colour: np.ndarray  # RGB in [0, 1]
    width: float  # share of a plate
    front: float
    rear: float


@dataclass(frozen=True)
class Ellipsoid:
    """``centre`` and ``radii`` in world units, shape (3,); the columns of ``turn`` (3, 3) are its axes."""

    centre: np.ndarray
    radii: np.ndarray
    colour: np.ndarray  # RGB in [0, 1]
    gloss: float
    turn: np.ndarray = field(default_factory=lambda: np.eye(3))
    bands: Bands | None = None
    furry: bool = False


@dataclass(frozen=True)
class Limb:
    """A tapered rod with round ends; ``start`` and ``end`` in world units, shape (3,)."""

    start: np.ndarray
    end: np.ndarray
    start_radius: float
    end_radius: float
    colour: np.ndarray  # RGB in [0, 1]
    gloss: float


Solid = Ellipsoid | Limb


@dataclass(frozen=True)
class Fur:
    """Hairs on the furry solids: how many, how long in world units, and their colour, RGB in [0, 1]."""

    count: int
    length: float
    colour: np.ndarray


@dataclass(frozen=True)
class Material:
    """What the surface of a whole sprite has in common."""

    light: np.ndarray  # unit vector towards the light, camera coordinates
    sculpture: float = 0.0
    fur: Fur | None = None


def view_matrix(*, heading_deg: float, elevation_deg: float) -> np.ndarray:
    """World to camera directions, float64, shape (3, 3).

    Args:
        heading_deg: where the world's x axis points in the picture, counter-clockwise from the right.
        elevation_deg: of the camera above the ground; 90 looks straight down, 0 from the side.
    """
    heading, elevation = np.deg2rad(heading_deg), np.deg2rad(elevation_deg)
    cos_h, sin_h, cos_e, sin_e = np.cos(heading), np.sin(heading), np.cos(elevation), np.sin(elevation)
    turn = np.array([[cos_h, -sin_h, 0], [sin_h, cos_h, 0], [0, 0, 1]])
    return np.array([[1, 0, 0], [0, -sin_e, -cos_e], [0, -cos_e, sin_e]]) @ turn


def light_vector(*, from_deg: float, height: float) -> np.ndarray:
    """Unit vector towards a light that stands ``from_deg`` counter-clockwise from the picture's right."""
    angle = np.deg2rad(from_deg)
    vector = np.array([np.cos(angle), -np.sin(angle), height])
    return vector / np.linalg.norm(vector)


def extent(solids: Sequence[Solid], view: np.ndarray) -> np.ndarray:
    """Bounds of the projected solids in world units: float64, shape (4,), x_min, y_min, x_max, y_max."""
    corners = [corner for solid in solids for corner in _corners(solid, view)]
    return np.concatenate([np.min(corners, axis=0), np.max(corners, axis=0)])


def _corners(solid: Solid, view: np.ndarray) -> list[np.ndarray]:
    if isinstance(solid, Limb):
        start, end = (view @ solid.start)[:2], (view @ solid.end)[:2]
        radii = ((start, solid.start_radius), (end, solid.end_radius))
        return [point + sign * radius for point, radius in radii for sign in (-1, 1)]
    axes = (view @ solid.turn) * solid.radii
    half = np.sqrt((axes[:2] ** 2).sum(axis=1))
    centre = (view @ solid.centre)[:2]
    return [centre - half, centre + half]


def render(
    solids: Sequence[Solid],
    view: np.ndarray,
    *,
    scale_px: float,
    material: Material,
    rng: np.random.Generator,
    detail_px: int = 400,
) -> np.ndarray:
    """Draw solids on nothing.

    Args:
        solids: at least one.
        view: from ``view_matrix``.
        scale_px: pixels of the result per world unit.
        material: light, roughness and hair.
        rng: places hairs and roughness.
        detail_px: about how large to draw before shrinking; between 2 and 6 times the result's size.

    Returns:
        uint8, shape (height, width, 4), RGB premultiplied by alpha, and just large enough.
    """
    bounds = extent(solids, view)
    margin = MARGIN_PX + (material.fur.length * scale_px if material.fur else 0)
    width, height = (np.ceil((bounds[2:] - bounds[:2]) * scale_px + 2 * margin)).astype(int)
    factor = int(np.clip(round(detail_px / max(width, height)), 2, 6))
    buffers = _Buffers(height * factor, width * factor)
    zoom = scale_px * factor
    shift = np.append(margin * factor - bounds[:2] * zoom, 0)
    for solid in solids:
        buffers.add(solid, view * zoom, shift, zoom)
    fine = buffers.shaded(material, zoom, rng)
    return cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA)


class _Buffers:
    """What each pixel shows: depth, colour, surface normal, gloss, and whether hairs grow there."""

    def __init__(self, height: int, width: int) -> None:
        self.depth = np.full((height, width), -np.inf, np.float32)
        self.colour = np.zeros((height, width, 3), np.float32)
        self.normal = np.zeros((height, width, 3), np.float32)
        self.gloss = np.zeros((height, width), np.float32)
        self.furry = np.zeros((height, width), bool)

    def add(self, solid: Solid, view: np.ndarray, shift: np.ndarray, zoom: float) -> None:
        """Draw one solid; ``view`` includes the zoom, ``shift`` is in pixels of the buffers."""
        if isinstance(solid, Limb):
            self._add_limb(solid, view @ solid.start + shift, view @ solid.end + shift, zoom)
        else:
            self._add_ellipsoid(solid, view @ solid.centre + shift, view @ solid.turn)

    def _grid(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, np.ndarray, np.ndarray]:
        """The part of the buffers between two points, and the coordinates of its pixels' centres."""
        height, width = self.depth.shape
        x0, y0 = np.clip(np.floor(low[:2]).astype(int), 0, (width, height))
        x1, y1 = np.clip(np.ceil(high[:2]).astype(int), 0, (width, height))
        x = np.arange(x0, x1, dtype=np.float32)[None, :] + np.float32(0.5)
        y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5)
        return slice(y0, y1), slice(x0, x1), x, y

    def _put(
        self, rows: slice, columns: slice, seen: np.ndarray, depth: np.ndarray, normal: np.ndarray, solid: Solid
    ) -> np.ndarray:
        """Write the seen pixels and return where they lie among all buffers' pixels, int64, shape (n,)."""
        y, x = np.nonzero(seen)
        at = (y + rows.start) * self.depth.shape[1] + x + columns.start
        self.depth.reshape(-1)[at] = depth
        self.normal.reshape(-1, 3)[at] = normal
        self.colour.reshape(-1, 3)[at] = solid.colour
        self.gloss.reshape(-1)[at] = solid.gloss
        self.furry.reshape(-1)[at] = isinstance(solid, Ellipsoid) and solid.furry
        return at

    def _add_ellipsoid(self, solid: Ellipsoid, centre: np.ndarray, turn: np.ndarray) -> None:
        axes = turn * solid.radii
        back = np.linalg.inv(axes).astype(np.float32)
        spread = axes @ axes.T  # the surface is p' spread^-1 p = 1
        flat = np.linalg.inv(spread[:2, :2])
        half = np.sqrt(np.diag(spread)[:2])
        rows, columns, x, y = self._grid(centre[:2] - half, centre[:2] + half)
        x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
        slope = flat @ spread[2, :2]
        bulge = np.float32(np.sqrt(max(spread[2, 2] - slope @ spread[2, :2], 1e-9)))
        flat, slope = flat.astype(np.float32), slope.astype(np.float32)
        left = 1 - (flat[0, 0] * x * x + 2 * flat[0, 1] * x * y + flat[1, 1] * y * y)
        depth = slope[0] * x + slope[1] * y + bulge * np.sqrt(np.maximum(left, 0))
        seen = (left > 0) & (depth + np.float32(centre[2]) > self.depth[rows, columns])
        points = np.stack(np.broadcast_arrays(x, y, depth), axis=-1)[seen]
        unit = points @ back.T
        normal = unit @ back
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        at = self._put(rows, columns, seen, depth[seen] + centre[2], normal, solid)
        if solid.bands:
            plate = solid.bands.front + (1 - unit[:, 0]) / 2 * (solid.bands.rear - solid.bands.front)
            edge = np.clip((plate % 1 - 1 + solid.bands.width) / 0.08, 0, 1)[:, None]
            self.colour.reshape(-1, 3)[at] += edge * (solid.bands.colour - solid.colour)

    def _add_limb(self, solid: Limb, start: np.ndarray, end: np.ndarray, zoom: float) -> None:
        radii = np.array([solid.start_radius, solid.end_radius], np.float32) * np.float32(zoom)
        ends = np.stack([start, end]).astype(np.float32)
        rows, columns, x, y = self._grid((ends - radii[:, None]).min(axis=0), (ends + radii[:, None]).max(axis=0))
        run = ends[1] - ends[0]
        x, y = x - ends[0, 0], y - ends[0, 1]
        along = np.clip((x * run[0] + y * run[1]) / max(run[:2] @ run[:2], np.float32(1e-6)), 0, 1)
        across_x, across_y = x - along * run[0], y - along * run[1]
        radius = radii[0] + along * (radii[1] - radii[0])
        left = radius**2 - across_x**2 - across_y**2
        bulge = np.sqrt(np.maximum(left, 0))
        depth = ends[0, 2] + along * run[2] + bulge
        seen = (left > 0) & (depth > self.depth[rows, columns])
        normal = np.stack([across_x, across_y, bulge], axis=-1)[seen] / radius[seen][:, None]
        self._put(rows, columns, seen, depth[seen], normal, solid)

    def shaded(self, material: Material, zoom: float, rng: np.random.Generator) -> np.ndarray:
        """Lit colours, uint8, shape (height, width, 4), premultiplied; alpha is 0 or 255 but for hairs."""
        seen = np.flatnonzero(np.isfinite(self.depth))
        normal = self.normal.reshape(-1, 3)[seen]
        rough = self._roughness(zoom, rng).reshape(-1, 3)[seen]
        light = material.light.astype(np.float32)
        halfway = light + np.array([0, 0, 1], np.float32)
        lit = np.maximum((normal + material.sculpture * rough) @ light, 0)
        shine = np.maximum((normal + 0.4 * material.sculpture * rough) @ (halfway / np.linalg.norm(halfway)), 0)
        gloss = self.gloss.reshape(-1)[seen]
        rim = 1 - normal[:, 2]
        glint = gloss * (0.75 * shine ** (12 + 60 * gloss) + 0.22 * rim * rim * rim)
        shade = (AMBIENT - 0.14 * normal[:, 1] + DIFFUSE * lit) * (1 + 0.05 * rough[:, 2])
        colour = self.colour.reshape(-1, 3)[seen] * shade[:, None] + glint[:, None]
        rgba = np.zeros((*self.depth.shape, 4), np.uint8)
        rgba.reshape(-1, 4)[seen, :3] = np.clip(colour * 255, 0, 255)
        rgba.reshape(-1, 4)[seen, 3] = 255
        if material.fur:
            self._grow(rgba, material.fur, zoom, rng)
        return rgba

    def _roughness(self, zoom: float, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of unit variance, float32, shape (height, width, 3)."""
        height, width = self.depth.shape
        cell = max(2, round(0.035 * zoom))
        small = rng.standard_normal((height // cell + 2, width // cell + 2, 3), dtype=np.float32)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)

    def _grow(self, rgba: np.ndarray, fur: Fur, zoom: float, rng: np.random.Generator) -> None:
        rows, columns = np.nonzero(self.furry)
        if not len(rows):
            return
        colour = [int(channel * 255) for channel in fur.colour] + [255]
        thickness = max(1, round(0.009 * zoom))
        for pick in rng.integers(len(rows), size=fur.count):
            root = np.array([columns[pick], rows[pick]], float)
            direction = self.normal[rows[pick], columns[pick], :2] + rng.normal(0, 0.25, 2)
            tip = root + direction * fur.length * zoom * rng.uniform(0.6, 1.2)
            cv2.line(rgba, _fixed(root), _fixed(tip), colour, thickness, cv2.LINE_AA, 4)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """A point in the sixteenths of a pixel that OpenCV draws with ``shift=4``."""
    return int(point[0] * 16), int(point[1] * 16)
