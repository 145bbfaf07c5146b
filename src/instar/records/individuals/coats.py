"""Drawn animals in a standard pose, facing left: their shape, and the pattern by which one tells them apart.

The frame is 4 × 3 units. A pattern is drawn from a generator of its own: two sides of one individual share nothing but
the colour of the coat, so that a left flank is no right flank.
"""

from collections.abc import Sequence

import cv2
import numpy as np

#: Units of the frame.
WIDTH, HEIGHT = 4.0, 3.0
_SHIFT = 4  # OpenCV's fractional bits


class Canvas:
    """Pixels and the animal's mask.

    Attributes:
        pixels: uint8, shape (height, width, 3), RGB; of no meaning outside of the mask.
        mask: uint8, shape (height, width), 255 where the animal is.
    """

    def __init__(self, width: int) -> None:
        self.unit = width / WIDTH
        height = round(HEIGHT * self.unit)
        self.pixels = np.zeros((height, width, 3), np.uint8)
        self.mask = np.zeros((height, width), np.uint8)

    def polygon(self, points: np.ndarray, colour: Sequence[float] | np.ndarray, *, grow: bool = True) -> None:
        """Fill a polygon, shape (n, 2) in units; ``grow`` adds it to the animal, else only what is within is seen."""
        corners = np.round(points * self.unit * (1 << _SHIFT)).astype(np.int32)
        value = tuple(float(one) for one in colour)
        cv2.fillPoly(self.pixels, [corners], value, cv2.LINE_AA, _SHIFT)
        if grow:
            cv2.fillPoly(self.mask, [corners], 255, cv2.LINE_AA, _SHIFT)

    def ellipse(
        self,
        centre: Sequence[float] | np.ndarray,
        axes: Sequence[float] | np.ndarray,
        colour: Sequence[float] | np.ndarray,
        *,
        deg: float = 0,
        grow: bool = True,
    ) -> None:
        """Fill an ellipse: centre and half axes in units."""
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        turn = np.deg2rad(deg)
        x, y = axes[0] * np.cos(angles), axes[1] * np.sin(angles)
        turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
        self.polygon(turned + np.asarray(centre), colour, grow=grow)


def coat(pattern: str, orientation: str, width: int, colour: np.random.Generator, marks: np.random.Generator) -> Canvas:
    """An animal as it is seen from one side, facing left, or right where that is the side.

    Args:
        pattern: spots, scales or blotches.
        orientation: left, right or top.
        width: of the frame, pixels.
        colour: draws the coat's colour; the same for all sides of an individual.
        marks: draws the pattern; of one individual and side.
    """
    canvas = Canvas(width)
    {"spots": _lynx, "scales": _turtle, "blotches": _salamander}[pattern](canvas, orientation, colour, marks)
    if orientation == "right":
        canvas.pixels, canvas.mask = canvas.pixels[:, ::-1].copy(), canvas.mask[:, ::-1].copy()
    return canvas


def _near(base: Sequence[int], rng: np.random.Generator, by: float) -> np.ndarray:
    """A colour near another, float64, shape (3,)."""
    return np.clip(np.asarray(base) * rng.uniform(1 - by, 1 + by) + rng.normal(0, 3, 3), 0, 255)


def _lynx(canvas: Canvas, orientation: str, colour: np.random.Generator, marks: np.random.Generator) -> None:
    fur = _near((178, 140, 98), colour, 0.15)
    dark = _near((48, 34, 24), colour, 0.2)
    far = fur * 0.8
    for x in (1.25, 2.85):  # the legs behind
        canvas.polygon(_leg(x + 0.2), far)
    canvas.polygon(np.array([[3.2, 0.85], [3.75, 1.05], [3.72, 1.25], [3.2, 1.2]]), fur)
    canvas.ellipse((3.72, 1.16), (0.09, 0.11), dark)
    for x in (1.0, 2.75):
        canvas.polygon(_leg(x), fur)
    canvas.ellipse((2.15, 1.3), (1.32, 0.58), fur)
    canvas.polygon(np.array([[0.6, 0.62], [1.3, 0.78], [1.35, 1.65], [0.75, 1.25]]), fur)
    canvas.ellipse((2.1, 1.72), (0.85, 0.15), np.minimum(fur * 1.3, 245), grow=False)
    for x in (0.5, 0.82):
        canvas.polygon(np.array([[x - 0.11, 0.62], [x + 0.02, 0.16], [x + 0.13, 0.62]]), fur * 0.9)
        canvas.polygon(np.array([[x - 0.03, 0.3], [x + 0.02, 0.05], [x + 0.06, 0.3]]), dark)
    canvas.ellipse((0.66, 0.84), (0.4, 0.37), fur)
    canvas.ellipse((0.42, 1.0), (0.22, 0.17), np.minimum(fur * 1.28, 245), grow=False)
    canvas.ellipse((0.28, 0.92), (0.06, 0.05), dark)
    canvas.ellipse((0.55, 0.76), (0.06, 0.05), (190, 170, 60), grow=False)
    canvas.ellipse((0.55, 0.76), (0.025, 0.04), (10, 10, 10), grow=False)
    _spots(canvas, dark, marks)


def _leg(x: float) -> np.ndarray:
    return np.array(
        [[x - 0.2, 1.35], [x + 0.22, 1.35], [x + 0.1, 2.2], [x + 0.12, 2.72], [x - 0.2, 2.72], [x - 0.1, 2.2]]
    )


def _spots(canvas: Canvas, dark: np.ndarray, rng: np.random.Generator) -> None:
    """Spots on a grid that is shaken, with gaps; size and form change from one animal to the next."""
    step, gaps, size = rng.uniform(0.24, 0.34), rng.uniform(0.15, 0.4), rng.uniform(0.24, 0.36)
    for i, y in enumerate(np.arange(0.86, 2.1, step)):
        for x in np.arange(1.0 + (i % 2) * step / 2, 3.45, step):
            centre = np.array([x, y]) + rng.uniform(-0.4, 0.4, 2) * step
            axes = step * size * rng.uniform((0.6, 0.35), (1.5, 0.95))
            deg, kept, tone = rng.uniform(-60, 60), rng.random() >= gaps, rng.uniform(0.8, 1.3)
            if kept and (y < 1.75 or not 1.3 < x < 2.5):  # not on the pale belly
                canvas.ellipse(centre, axes, dark * tone, deg=deg, grow=False)


def _turtle(canvas: Canvas, orientation: str, colour: np.random.Generator, marks: np.random.Generator) -> None:
    skin, seam = _near((205, 184, 140), colour, 0.1), _near((232, 220, 186), colour, 0.05)
    scale = _near((140, 92, 52), colour, 0.15)
    if orientation == "top":
        canvas.polygon(np.array([[2.6, 1.0], [4.2, 0.75], [4.2, 2.25], [2.6, 2.0]]), skin)
        head = _outline([(0.3, 1.5), (0.55, 1.15), (1.2, 0.78), (2.0, 0.62), (2.7, 0.8), (2.95, 1.5)], mirror=True)
    else:
        canvas.polygon(np.array([[2.5, 0.85], [4.2, 0.7], [4.2, 2.5], [2.5, 2.3]]), skin)
        upper = [(0.25, 1.75), (0.3, 1.4), (0.75, 0.85), (1.5, 0.5), (2.3, 0.55), (2.9, 0.95)]
        head = _outline([*upper, (3.0, 1.7), (2.5, 2.35), (1.4, 2.4), (0.6, 2.2), (0.3, 1.95)])
    plain = canvas.mask.copy()
    canvas.polygon(head, scale)
    within = np.zeros_like(canvas.mask)
    cv2.fillPoly(within, [np.round(head * canvas.unit).astype(np.int32)], 255)
    cells = _cells(canvas, scale, seam, marks)
    canvas.pixels = np.where(within[..., None] > 127, cells, canvas.pixels)
    canvas.mask = np.maximum(plain, canvas.mask)
    if orientation == "top":
        for y in (0.98, 2.02):
            canvas.ellipse((1.05, y), (0.19, 0.1), (22, 18, 16), grow=False)
        return
    canvas.ellipse((1.1, 1.3), (0.3, 0.24), skin * 0.8, grow=False)
    canvas.ellipse((1.1, 1.3), (0.2, 0.17), (22, 18, 16), grow=False)
    canvas.polygon(np.array([[0.28, 1.78], [1.5, 1.98], [1.5, 2.03], [0.28, 1.85]]), skin * 0.45, grow=False)


def _outline(points: Sequence[tuple[float, float]], *, mirror: bool = False) -> np.ndarray:
    """A smooth closed line through some points, or through them and their mirror image below y = 1.5."""
    given = list(points)
    if mirror:
        given += [(x, 3.0 - y) for x, y in reversed(points[1:-1])]
    corners = np.array(given)
    for _ in range(3):  # Chaikin's corner cutting
        following = np.roll(corners, -1, axis=0)
        pairs = np.stack([0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following], 1)
        corners = pairs.reshape(-1, 2)
    return corners


def _cells(canvas: Canvas, scale: np.ndarray, seam: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Polygons around points, uint8, shape (height, width, 3): no two heads have the same."""
    step = rng.uniform(0.42, 0.55)
    grid = [
        (x + (i % 2) * step / 2, y)
        for i, y in enumerate(np.arange(0.3, 2.8, step * 0.85))
        for x in np.arange(0.1, 3.3, step)
    ]
    points = np.array(grid) + rng.uniform(-0.42, 0.42, (len(grid), 2)) * step
    points = points[rng.random(len(points)) >= 0.18].astype(np.float32)  # a scale that fills two places
    tones = rng.uniform(0.5, 1.45, len(points))
    height, width = canvas.mask.shape
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(canvas.unit)
    first = np.full((height, width), np.inf, np.float32)
    second, nearest = first.copy(), np.zeros((height, width), np.int64)
    for i, (px, py) in enumerate(points):
        far = np.hypot(x - px, y - py)
        second = np.minimum(np.maximum(first, far), second)
        nearest[far < first] = i
        first = np.minimum(first, far)
    edge = np.clip((second - first) / 0.09, 0, 1)[..., None]
    colours = np.clip(scale * tones[:, None], 0, 255)[nearest]
    return np.clip(seam * (1 - edge) + colours * edge, 0, 255).astype(np.uint8)


#: Half the width of a salamander along its spine, in units: at the nose, the head, the neck, the trunk, the tail.
_SPINE = [(0.25, 0.06), (0.4, 0.24), (0.7, 0.27), (0.95, 0.19), (1.4, 0.34), (2.0, 0.36), (2.5, 0.24), (3.1, 0.14)]
_SPINE += [(3.8, 0.03)]


def _salamander(canvas: Canvas, orientation: str, colour: np.random.Generator, marks: np.random.Generator) -> None:
    black, yellow = _near((34, 32, 34), colour, 0.25), _near((232, 190, 36), colour, 0.1)
    from_above = orientation == "top"
    for x, lean in ((1.15, -0.25), (2.3, 0.2)):
        for side in (-1, 1) if from_above else (1,):
            y = 1.5 + side * 0.22
            foot = np.array([x + lean, 1.5 + side * 0.78])
            wide = np.array([0.09, 0])
            canvas.polygon(np.array([[x - 0.1, y], [x + 0.1, y], foot + wide, foot - wide]), black)
            canvas.ellipse(foot, (0.13, 0.08), black)
    upper = [(x, 1.5 - half) for x, half in _SPINE]
    lower = [(x, 1.5 + half * (1.0 if from_above else 0.8)) for x, half in reversed(_SPINE)]
    canvas.polygon(_outline([*upper, *lower]), black)
    _blotches(canvas, yellow, marks)
    for y in (1.34, 1.66) if from_above else (1.4,):
        canvas.ellipse((0.5, y), (0.06, 0.05), (8, 8, 8), grow=False)


def _blotches(canvas: Canvas, yellow: np.ndarray, rng: np.random.Generator) -> None:
    """Blotches of several ellipses each, in two rows that an animal fills in its own way."""
    for row in (-1, 1):
        x = 0.35 + rng.uniform(0, 0.3)
        while x < 3.6:
            half = float(np.interp(x, [at for at, _ in _SPINE], [wide for _, wide in _SPINE]))
            centre = np.array([x, 1.5 + row * half * rng.uniform(0.15, 0.8)])
            length = rng.uniform(0.08, 0.3)
            if rng.random() < 0.8:
                for _ in range(rng.integers(2, 5)):
                    at = centre + rng.uniform(-0.6, 0.6, 2) * (length, 0.09)
                    axes = (length * rng.uniform(0.4, 0.9), rng.uniform(0.05, 0.12))
                    canvas.ellipse(at, axes, yellow, deg=rng.uniform(-35, 35), grow=False)
            x += length + rng.uniform(0.12, 0.42)
