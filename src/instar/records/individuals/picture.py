"""A photograph of a drawn animal: pose, size, light, background, blur and noise of one moment."""

from dataclasses import dataclass

import cv2
import numpy as np

from instar.records.individuals.coats import Canvas, coat
from instar.records.world_plan import stable_int

#: So many times finer than the photograph is the drawing.
FINE = 2
#: Two colours of what lies behind, RGB, by pattern; and how far a body may bend, as a share of the frame's width.
_BEHIND = {
    "spots": (((70, 84, 48), (146, 140, 112)), ((88, 76, 58), (190, 186, 178)), ((40, 52, 40), (108, 122, 84))),
    "scales": (((20, 86, 120), (96, 170, 186)), ((36, 66, 92), (140, 160, 140)), ((150, 136, 104), (206, 196, 170))),
    "blotches": (((58, 44, 30), (126, 96, 62)), ((66, 72, 40), (120, 124, 76)), ((110, 108, 104), (168, 164, 158))),
}
_BEND = {"spots": 0.012, "scales": 0.008, "blotches": 0.09}


@dataclass(frozen=True)
class Shot:
    """One photograph before it is drawn; equal shots give equal pixels."""

    pattern: str
    individual: str
    orientation: str
    encounter: str
    number: int  # within the encounter
    width: int
    height: int
    blur: float  # most, thousandths of the width
    seed: int


def draw(shot: Shot) -> np.ndarray:
    """The photograph, uint8, shape (height, width, 3), RGB."""
    width, height = FINE * shot.width, FINE * shot.height
    animal = animal_of(shot, width)
    # what stays the same through an encounter, and what changes with each photograph
    met = np.random.default_rng(stable_int("encounter", shot.encounter, shot.seed))
    now = np.random.default_rng(stable_int("shot", shot.encounter, shot.number, shot.seed))
    wider = width // 5
    start = int(now.integers(wider + 1))
    behind = _background(shot.pattern, width + wider, height, met)[:, start : start + width]
    maps = _pose(shot.pattern, animal.mask.shape, width, height, now)
    pixels = cv2.remap(animal.pixels, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    mask = cv2.remap(animal.mask, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[..., None] / np.float32(255)
    dark = cv2.GaussianBlur(mask[..., 0], (0, 0), width / 60)[..., None]
    seen = behind * (1 - np.float32(0.35) * dark) * (1 - mask) + _shaded(pixels, mask, now) * mask
    seen = _lit(seen, met, now)
    small = cv2.resize(seen, (shot.width, shot.height), interpolation=cv2.INTER_AREA)
    sigma = float(now.uniform(0, shot.blur)) / 1000 * shot.width
    if sigma > 0.15:
        small = cv2.GaussianBlur(small, (0, 0), sigma)
    small += now.normal(0, now.uniform(1.5, 5), small.shape).astype(np.float32)
    return np.clip(np.round(small), 0, 255).astype(np.uint8)


def animal_of(shot: Shot, width: int) -> Canvas:
    """The individual in its standard pose, on a frame of so many pixels; its other sides have other patterns."""
    colour = np.random.default_rng(stable_int("coat", shot.individual, shot.seed))
    marks = np.random.default_rng(stable_int("marks", shot.individual, shot.orientation, shot.seed))
    return coat(shot.pattern, shot.orientation, width, colour, marks)


def _background(pattern: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of several sizes between two colours, float32, shape (height, width, 3)."""
    pairs = _BEHIND[pattern]
    low, high = np.asarray(pairs[rng.integers(len(pairs))], np.float32)
    total = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 0.5), (9, 0.3), (30, 0.25)):
        noise = rng.random((cells * height // width + 2, cells + 2), np.float32)
        total += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.clip(total, 0, 1)[..., None]
    return low * (1 - share) + high * share


def _pose(
    pattern: str, frame: tuple[int, ...], width: int, height: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where in the frame each pixel of the photograph comes from: x and y, float32, shape (height, width)."""
    turn, size = np.deg2rad(rng.uniform(-14, 14)), rng.uniform(0.78, 1.08)
    narrow, shear = rng.uniform(0.86, 1.0), rng.uniform(-0.08, 0.08)
    ahead = np.array([[narrow, shear], [0, 1.0]]) * size
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ ahead
    back = np.linalg.inv(turned).astype(np.float32)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x -= width / 2 + rng.uniform(-0.05, 0.05) * width
    y -= height / 2 + rng.uniform(-0.05, 0.05) * height
    from_x = back[0, 0] * x + back[0, 1] * y + frame[1] / 2
    from_y = back[1, 0] * x + back[1, 1] * y + frame[0] / 2
    bend, phase = rng.uniform(-1, 1) * _BEND[pattern] * width, rng.uniform(0, 2 * np.pi)
    from_y += bend * np.sin(from_x / frame[1] * 1.5 * np.pi + phase)
    return from_x.astype(np.float32), from_y.astype(np.float32)


def _shaded(pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter towards the light, darker at the edge, as a round body is."""
    height, width = mask.shape[:2]
    depth = cv2.GaussianBlur(mask[..., 0], (0, 0), width / 25)[..., None]
    turn = rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    slope = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)))[..., None]
    return pixels * (np.float32(0.55) + np.float32(0.45) * depth) * (1 + np.float32(rng.uniform(0, 0.3)) * slope)


def _lit(pixels: np.ndarray, met: np.random.Generator, now: np.random.Generator) -> np.ndarray:
    """Under the light of the encounter: its strength, its colour, its contrast."""
    cast = met.uniform(0.92, 1.08, 3).astype(np.float32)
    gain = np.float32(met.uniform(0.65, 1.2) * now.uniform(0.92, 1.08))
    contrast = np.float32(met.uniform(0.75, 1.1))
    return (pixels * cast * gain - 110) * contrast + 110
