"""Where drawn insects stand: soil, leaf, bark, stone or sand, with pebbles, seeds and twigs to be mistaken for ants."""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from instar.records.solids import Ellipsoid, Limb, Material, Solid, light_vector, render, view_matrix

Rng = np.random.Generator

#: Dark and light of a fresh and of a yellowing leaf.
LEAF_COLOURS = (((0.10, 0.26, 0.06), (0.36, 0.58, 0.20)), ((0.30, 0.28, 0.08), (0.68, 0.62, 0.26)))


def value_noise(height: int, width: int, cell_px: tuple[float, float], rng: Rng) -> np.ndarray:
    """Smooth noise of about unit variance, float32, shape (height, width); ``cell_px`` is its grain in y and x."""
    rows, columns = int(height / cell_px[0]) + 3, int(width / cell_px[1]) + 3
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR if max(cell_px) < 6 else cv2.INTER_CUBIC)


def octaves(height: int, width: int, cells_px: tuple[float, ...], rng: Rng, *, stretch: float = 1.0) -> np.ndarray:
    """Sum of noises, each as strong as the share of its grain among the grains to the power of one half."""
    weights = np.sqrt(np.array(cells_px) / sum(cells_px)).astype(np.float32)
    noises = (value_noise(height, width, (cell * stretch, cell), rng) for cell in cells_px)
    return sum((w * noise for w, noise in zip(weights, noises, strict=True)), np.zeros((height, width), np.float32))


def relief(noise: np.ndarray, strength: float) -> np.ndarray:
    """Brightness factors of a surface whose height is ``noise``, lit from the upper left, shape as ``noise``."""
    slope = np.zeros_like(noise)
    slope[1:, 1:] = noise[1:, 1:] - noise[:-1, :-1]
    return 1 + np.clip(strength * slope, -0.5, 0.5)


def _ramp(noise: np.ndarray, dark: tuple[float, ...], light: tuple[float, ...]) -> np.ndarray:
    """Colours between two, float32, shape (height, width, 3), for noise from -2 to 2."""
    share = np.clip(noise / 4 + 0.5, 0, 1)
    return cv2.merge([low + share * (high - low) for low, high in zip(dark, light, strict=True)])


def _shaded(colour: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Colours times a brightness per pixel; several times faster than NumPy's broadcast over three channels."""
    return cv2.multiply(colour, cv2.merge([brightness.astype(np.float32)] * 3))


def soil(height: int, width: int, rng: Rng) -> np.ndarray:
    """Crumbly brown earth."""
    fine = octaves(height, width, (2, 5, 14), rng)
    tint = rng.uniform(0.85, 1.15)
    ground = _ramp(octaves(height, width, (70, 25), rng) + fine, (0.17, 0.11, 0.07), (0.56, 0.43, 0.30))
    return _shaded(ground, tint * relief(fine, 0.35))


def sand(height: int, width: int, rng: Rng) -> np.ndarray:
    """Pale grains."""
    grains = octaves(height, width, (1.6, 3), rng)
    dunes = value_noise(height, width, (90, 90), rng)
    ground = _ramp(0.75 * grains + 0.35 * dunes, (0.50, 0.39, 0.26), (0.92, 0.83, 0.66))
    return _shaded(ground, relief(grains, 0.15))


def stone(height: int, width: int, rng: Rng) -> np.ndarray:
    """Grey rock with specks and lichen."""
    fine = octaves(height, width, (2, 6, 20), rng)
    ground = _ramp(fine + value_noise(height, width, (80, 80), rng), (0.27, 0.26, 0.26), (0.70, 0.68, 0.65))
    blotch = octaves(height, width, (45, 12, 4), rng)
    cover = np.clip((blotch - 1.1) * 4, 0, 1)[..., None]
    lichen = np.array([(0.62, 0.66, 0.42), (0.74, 0.76, 0.70), (0.78, 0.58, 0.20)][rng.integers(3)], np.float32)
    return _shaded(ground + 0.8 * cover * (lichen - ground), relief(fine, 0.3))


def bark(height: int, width: int, rng: Rng) -> np.ndarray:
    """Ridged bark, its fissures upright or lying."""
    if rng.random() < 0.4:
        return np.ascontiguousarray(bark_upright(width, height, rng).transpose(1, 0, 2))
    return bark_upright(height, width, rng)


def bark_upright(height: int, width: int, rng: Rng) -> np.ndarray:
    """Bark with fissures from top to bottom."""
    ridges = octaves(height, width, (28, 11, 5), rng, stretch=5) + 0.3 * octaves(height, width, (3,), rng)
    warm = rng.uniform(0, 0.06)
    ground = _ramp(ridges, (0.13, 0.10, 0.08), (0.58 + warm, 0.47, 0.38 - warm))
    fissure = np.clip((-ridges - 0.7) * 0.8, 0, 1)
    return _shaded(ground, relief(ridges, 0.6) * (1 - 0.7 * fissure))


def leaf(height: int, width: int, rng: Rng) -> np.ndarray:
    """One green leaf that fills the picture, with its veins."""
    veins = _veins(height, width, rng)
    puckered = value_noise(height, width, (22, 22), rng) + 0.4 * value_noise(height, width, (5, 5), rng)
    dark, light = LEAF_COLOURS[int(rng.random() < 0.3)]
    ground = _ramp(0.6 * puckered + 0.8 * value_noise(height, width, (150, 150), rng), dark, light)
    vein_colour = np.array(light, np.float32) * 1.25
    ground += 0.7 * veins[..., None] * (vein_colour - ground)
    return _shaded(ground, relief(puckered - 2 * veins, 0.25))


def _veins(height: int, width: int, rng: Rng) -> np.ndarray:
    """How much of each pixel is vein, float32 in [0, 1], shape (height, width)."""
    canvas = np.zeros((height, width), np.uint8)
    reach, angle = 1.2 * float(np.hypot(height, width)), rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([width, height]) * rng.uniform(0.2, 0.8, 2)
    _line(canvas, middle - reach * along, middle + reach * along, 9)
    spacing = rng.uniform(45, 80)
    for step in np.arange(-reach, reach, spacing):
        for side in (-1, 1):
            root = middle + (step + side * spacing / 4) * along
            _line(canvas, root, root + reach * (0.7 * along + side * 0.7 * across), 3)
    return cv2.GaussianBlur(canvas, (0, 0), 1.0).astype(np.float32) / 255


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, thickness: int) -> None:
    ends = [(int(point[0] * 16), int(point[1] * 16)) for point in (start, end)]
    cv2.line(canvas, ends[0], ends[1], 255, thickness, cv2.LINE_AA, 4)


#: Every kind of ground, and about how many things lie on a picture of 640 by 480.
GROUNDS: dict[str, tuple[Callable[[int, int, Rng], np.ndarray], int]] = {
    "soil": (soil, 16),
    "leaf": (leaf, 2),
    "bark": (bark, 4),
    "stone": (stone, 7),
    "sand": (sand, 12),
}


def museum(height: int, width: int, rng: Rng) -> np.ndarray:
    """The white of a specimen's photograph, a little darker towards the corners."""
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    white = rng.uniform(0.94, 0.985) - 0.05 * (x * x + y * y) + 0.01 * x * rng.uniform(-1, 1)
    return white[..., None] * np.array([1, rng.uniform(0.985, 1), rng.uniform(0.96, 1)], np.float32)


def thing(rng: Rng, light: np.ndarray) -> np.ndarray:
    """Something that lies about: a pebble, a seed, a twig or a needle; a sprite as ``solids.render`` gives it."""
    kind = rng.choice(["pebble", "seed", "twig", "needle"], p=[0.5, 0.25, 0.15, 0.1])
    solids, size = _SHAPES[kind](rng)
    view = view_matrix(heading_deg=rng.uniform(0, 360), elevation_deg=rng.uniform(50, 90))
    material = Material(light, sculpture=rng.uniform(0, 0.4))
    return render(solids, view, scale_px=size, material=material, rng=rng, detail_px=150)


def _pebble(rng: Rng) -> tuple[list[Solid], float]:
    colour = rng.uniform(0.25, 0.75) * np.array([1, rng.uniform(0.85, 1), rng.uniform(0.65, 1)])
    radii = np.array([1, rng.uniform(0.6, 1), rng.uniform(0.4, 0.7)])
    return [Ellipsoid(np.zeros(3), radii, colour, rng.uniform(0, 0.4))], float(rng.gamma(2, 5) + 3)


def _seed(rng: Rng) -> tuple[list[Solid], float]:
    colour = np.array([(0.16, 0.09, 0.05), (0.45, 0.27, 0.12), (0.72, 0.58, 0.34)][rng.integers(3)])
    body = Ellipsoid(np.zeros(3), np.array([1, rng.uniform(0.3, 0.5), 0.3]), colour, rng.uniform(0.2, 1))
    tail = Limb(np.array([-0.9, 0, 0]), np.array([-1.3, rng.uniform(-0.3, 0.3), 0]), 0.1, 0.03, colour, 0.2)
    return [body, tail], float(rng.uniform(10, 32))


def _twig(rng: Rng) -> tuple[list[Solid], float]:
    colour = rng.uniform(0.2, 0.5) * np.array([1, 0.8, 0.58])
    bends = np.cumsum([(0, 0, 0), *[(1, y, 0) for y in rng.normal(0, 0.25, 3)]], axis=0)
    solids: list[Solid] = [Limb(a, b, 0.13, 0.11, colour, 0.1) for a, b in pairwise(bends)]
    side = bends[1] + np.array([0.7, rng.choice([-0.6, 0.6]), 0])
    return [*solids, Limb(bends[1], side, 0.08, 0.05, colour, 0.1)], float(rng.uniform(18, 60))


def _needle(rng: Rng) -> tuple[list[Solid], float]:
    colour = np.array([(0.42, 0.27, 0.12), (0.28, 0.42, 0.14), (0.70, 0.60, 0.32)][rng.integers(3)])
    return [Limb(np.zeros(3), np.array([6.0, 0, 0]), 0.1, 0.04, colour, 0.4)], float(rng.uniform(18, 40))


_SHAPES: dict[str, Callable[[Rng], tuple[list[Solid], float]]] = {
    "pebble": _pebble,
    "seed": _seed,
    "twig": _twig,
    "needle": _needle,
}


def default_light(rng: Rng) -> np.ndarray:
    """Light from about the upper left, as a unit vector in camera coordinates, shape (3,)."""
    return light_vector(from_deg=rng.uniform(90, 160), height=rng.uniform(0.8, 1.8))
