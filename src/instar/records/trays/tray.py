"""One drawn photograph of a tray: floor, label, insects and debris in ethanol, lamps and camera, and exact masks.

A tray may have 45 megapixels, so everything is drawn in its own small window or in strips.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from instar.masks import Masks, from_bitmaps
from instar.records.backgrounds import default_light, value_noise
from instar.records.scenes import overlap
from instar.records.trays.insects import Rng, Sprite, debris, in_one_piece, individual, insect
from instar.records.trays.spec import Form, Shares

#: Rows that are lit and made grainy at a time.
STRIP_PX = 512
#: Share of the photograph's shorter side between its edge and where insects lie.
RIM = 0.05


@dataclass(frozen=True)
class Animal:
    """One insect to draw."""

    form: Form  # of its family
    length_px: float  # of its body


@dataclass(frozen=True)
class Photograph:
    """A drawn photograph."""

    pixels: np.ndarray  # uint8 RGB, shape (height, width, 3)
    insects: Masks  # what is seen of each animal, in the order given; empty where others hide all of it
    debris: Masks  # likewise
    categories: list[str]  # of the debris: d, e or u


class Canvas:
    """The photograph in the making, and whose each pixel is: 0 nobody's, else the number it was put under."""

    def __init__(self, pixels: np.ndarray, light: np.ndarray) -> None:
        self.pixels = pixels
        self.owners: np.ndarray = np.zeros(pixels.shape[:2], np.uint16)
        self.light = light

    def put(self, sprite: Sprite, x: int, y: int, number: int = 0, *, height_px: float = 0, blur_px: float = 0) -> None:
        """Lay a sprite with its upper left corner at (x, y); what it covers is its own from now on."""
        rgba, cover, x, y = _grown(sprite, int(np.ceil(3 * blur_px + 3 * height_px)) + 1, x, y)
        if height_px > 0:
            self._shade(rgba[..., 3], x, y, height_px)
        if blur_px > 0.2:
            rgba = cv2.GaussianBlur(rgba, (0, 0), blur_px)
        window, part = overlap(self.owners.shape, rgba.shape, x, y)
        layer = rgba[part].astype(np.float32)
        ground = self.pixels[window]
        ground[:] = np.clip(ground * (1 - layer[..., 3:] / 255) + layer[..., :3] + 0.5, 0, 255)
        self.owners[window][cover[part]] = number

    def _shade(self, alpha: np.ndarray, x: int, y: int, height_px: float) -> None:
        dx, dy = np.round(-self.light[:2] / self.light[2] * height_px).astype(int)
        soft = cv2.GaussianBlur(alpha, (0, 0), 0.7 + 0.5 * height_px)
        window, part = overlap(self.owners.shape, alpha.shape, x + int(dx), y + int(dy))
        ground = self.pixels[window]
        ground[:] = ground * (1 - soft[part][..., None] * np.float32(0.32 / 255))

    def masks(self, first: int, boxes: list[tuple[int, int, int, int]]) -> Masks:
        """What is seen of the sprites ``first``, ``first + 1``, … in the boxes they were put into, max exclusive."""
        windows = [self.owners[y0:y1, x0:x1] == first + i for i, (x0, y0, x1, y1) in enumerate(boxes)]
        return from_bitmaps([_seen(window) for window in windows], [box[:2] for box in boxes])


def _seen(mask: np.ndarray) -> np.ndarray:
    """A mask without the crumbs that an annotator would pass over: parts below a tenth of the largest."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 3:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= 0.1 * areas.max())[parts]


def _grown(sprite: Sprite, by: int, x: int, y: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """A sprite with room around for blur and shadow, and its new corner."""
    rgba = cv2.copyMakeBorder(sprite.rgba, by, by, by, by, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    return rgba, np.pad(sprite.cover, by), x - by, y - by


def draw_tray(
    animals: list[Animal], *, width: int, height: int, median_px: float, shares: Shares, label: str, rng: Rng
) -> Photograph:
    """Draw a photograph of a tray.

    Args:
        animals: in no order; may be none.
        width: of the photograph, pixels.
        height: likewise.
        median_px: body length of most animals, pixels.
        shares: of clustered and pale animals, and debris per animal.
        label: text beside the code.
        rng: of everything.
    """
    canvas = Canvas(_floor(height, width, rng), default_light(rng))
    _stain(canvas, rng)
    _put_label(canvas, label, rng)
    pieces = round(len(animals) * shares.debris)
    places = _places(len(animals), width, height, median_px, shares.clustered, rng)
    others = _places(pieces, width, height, median_px, 0.4 * shares.clustered, rng)
    boxes: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)] * (len(animals) + pieces)
    categories = [""] * pieces
    forms = [animal.form for animal in animals]
    for number in _order([animal.length_px for animal in animals] + [median_px / 2] * pieces, rng):
        if number < len(animals):
            animal, place = animals[number], places[number]
            form = individual(animal.form, rng, pale=rng.random() < shares.pale)
            sprite, size = insect(form, length_px=animal.length_px, light=canvas.light, rng=rng), animal.length_px
        else:
            place = others[number - len(animals)]
            sprite, categories[number - len(animals)] = debris(canvas.light, forms, median_px, rng)
            size = median_px / 2
        boxes[number] = _lay(canvas, _own(sprite), place, size, number + 1, rng)
    _bubbles(canvas, median_px, rng)
    _reflections(canvas, rng)
    insects = canvas.masks(1, boxes[: len(animals)])
    rest = canvas.masks(1 + len(animals), boxes[len(animals) :])
    _take_picture(canvas.pixels, rng)
    return Photograph(canvas.pixels, insects, rest, categories)


def _order(sizes: list[float], rng: Rng) -> list[int]:
    """Who is laid first: the large ones rather than the small, or these would be buried."""
    ranks = np.argsort(np.argsort(sizes)) / max(len(sizes), 1)
    return [int(number) for number in np.argsort(rng.random(len(sizes)) - 0.6 * ranks)]


def _own(sprite: Sprite) -> Sprite:
    """What is so thin that no pixel is covered by more than half still has its darkest pixel."""
    if sprite.cover.any():
        return sprite
    return Sprite(sprite.rgba, in_one_piece(sprite.rgba[..., 3] >= max(int(sprite.rgba[..., 3].max()), 1)))


def _lay(
    canvas: Canvas, sprite: Sprite, place: np.ndarray, size_px: float, number: int, rng: Rng
) -> tuple[int, int, int, int]:
    """Put a sprite with its middle at a place; the box of what is its own, max exclusive, within the tray."""
    height, width = canvas.owners.shape
    rows, columns = np.flatnonzero(sprite.cover.any(axis=1)), np.flatnonzero(sprite.cover.any(axis=0))
    room = [(columns[0], columns[-1] + 1, width), (rows[0], rows[-1] + 1, height)]
    corner = []
    for middle, (first, last, limit) in zip(place, room, strict=True):
        start = round(float(middle) - (first + last) / 2)
        corner.append(int(np.clip(start, -first, max(limit - last, -first))))
    depth = rng.gamma(1.3, 0.5)  # floating high or in a heap, out of focus
    x, y = corner
    height_px, blur_px = min(0.06 * size_px * (0.4 + depth), 14), min(0.25 + 0.45 * depth, 2.4)
    canvas.put(sprite, x, y, number, height_px=height_px, blur_px=blur_px)
    x1, y1 = min(x + int(columns[-1]) + 1, width), min(y + int(rows[-1]) + 1, height)
    return x + int(columns[0]), y + int(rows[0]), x1, y1


def _places(n: int, width: int, height: int, median_px: float, clustered: float, rng: Rng) -> np.ndarray:
    """Middles of things on the tray: float64, shape (n, 2), x and y; some crowded in clusters, the others anywhere."""
    rim = RIM * min(width, height) + median_px
    low, high = np.full(2, rim), np.array([width, height]) - rim
    places = rng.uniform(low, high, (n, 2))
    crowded = np.flatnonzero(rng.random(n) < clustered)
    for cluster in np.array_split(crowded, max(1, len(crowded) // 22)):
        middle, spread = rng.uniform(low, high), median_px * np.sqrt(len(cluster) + 1) * rng.uniform(0.35, 0.9)
        stretch = np.array([1.0, rng.uniform(0.4, 1)]) if rng.random() < 0.5 else np.array([rng.uniform(0.4, 1), 1.0])
        places[cluster] = middle + rng.normal(0, spread, (len(cluster), 2)) * stretch
    return np.clip(places, low, high)


# floor and label


def _strips(height: int) -> Iterator[slice]:
    for top in range(0, height, STRIP_PX):
        yield slice(top, min(top + STRIP_PX, height))


def _waves(
    height: int, width: int, rng: Rng, *, strength: float, count: int = 3
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Factors along rows and columns whose outer products, summed, are a smooth unevenness."""
    waves = []
    for _ in range(count):
        down, across = rng.uniform(0.4, 2.2, 2) * np.pi
        y = np.cos(np.linspace(0, down, height, dtype=np.float32) + np.float32(rng.uniform(0, 6)))
        x = np.cos(np.linspace(0, across, width, dtype=np.float32) + np.float32(rng.uniform(0, 6)))
        waves.append((y * np.float32(strength / count), x))
    return waves


def _sum_of(waves: list[tuple[np.ndarray, np.ndarray]], rows: slice) -> np.ndarray:
    return sum((np.outer(y[rows], x) for y, x in waves), np.zeros((1, 1), np.float32))


def _floor(height: int, width: int, rng: Rng) -> np.ndarray:
    """White or grey plastic with a darker rim, fine grain and scratches: uint8, shape (height, width, 3)."""
    colour = rng.uniform(176, 226) * np.array([1, rng.uniform(0.97, 1.0), rng.uniform(0.9, 1.0)], np.float32)
    waves = _waves(height, width, rng, strength=0.07)
    rim = RIM * min(height, width) * 0.8
    down, across = (_rim_shade(length, rim) for length in (height, width))
    pixels = np.empty((height, width, 3), np.uint8)
    for rows in _strips(height):
        size = rows.stop - rows.start, width
        grain = 0.012 * value_noise(*size, (2.5, 2.5), rng) + 0.012 * value_noise(*size, (9, 9), rng)
        shade = (1 + grain + _sum_of(waves, rows)) * np.minimum(down[rows, None], across[None])
        for channel in range(3):
            pixels[rows, :, channel] = np.clip(shade * colour[channel], 0, 255)
    unit = min(height, width) / 480
    for _ in range(rng.poisson(12)):
        start = rng.uniform(0, 1, 2) * (width, height)
        angle, length = rng.uniform(0, np.pi), rng.gamma(2, 40) * unit
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        tone = int(np.clip(colour[0] * rng.choice([0.86, 0.93, 1.08]), 0, 255))
        a, b = ((point * 16).astype(int).tolist() for point in (start, end))
        cv2.line(pixels, a, b, (tone, tone, tone), max(1, int(unit * rng.uniform(0.3, 0.8))), cv2.LINE_AA, 4)
    return pixels


def _rim_shade(length: int, rim_px: float) -> np.ndarray:
    """Brightness from a tray's edge inwards: a wall in the shade, a bright fold, then the floor."""
    away = np.minimum(np.arange(length), np.arange(length)[::-1]).astype(np.float32) / np.float32(rim_px)
    return np.interp(away, [0, 0.35, 0.8, 0.9, 1.0, 1.6], [0.62, 0.8, 0.9, 1.12, 0.9, 1.0]).astype(np.float32)


def _stain(canvas: Canvas, rng: Rng) -> None:
    """Brownish clouds, where something has been leaking."""
    height, width = canvas.owners.shape
    for _ in range(rng.poisson(4)):
        size = int(min(height, width) * rng.uniform(0.08, 0.3))
        cloud = np.clip(value_noise(24, 24, (5, 5), rng) * 0.5 + 0.5, 0, 1) * np.outer(np.hanning(24), np.hanning(24))
        alpha = cv2.resize(cloud.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        x, y = (rng.uniform(0, 1, 2) * (width, height) - size / 2).astype(int)
        _tint(canvas, np.clip(alpha * rng.uniform(0.06, 0.2), 0, 1), np.array([120, 96, 60]), x, y)


def _tint(canvas: Canvas, alpha: np.ndarray, colour: np.ndarray, x: int, y: int) -> None:
    """Blend a colour, 0 to 255, into the picture; nobody's pixels change owner."""
    window, part = overlap(canvas.owners.shape, alpha.shape, int(x), int(y))
    ground, share = canvas.pixels[window], alpha[part][..., None].astype(np.float32)
    ground[:] = np.clip(ground * (1 - share) + share * colour.astype(np.float32), 0, 255)


def _put_label(canvas: Canvas, text: str, rng: Rng) -> None:
    """A paper slip with something like a QR code, near a corner, a little turned."""
    height, width = canvas.owners.shape
    modules = (rng.random((25, 25)) < 0.5).astype(np.uint8)
    finder = np.pad(np.pad(np.ones((3, 3), np.uint8), 1), 1, constant_values=1)
    for y, x in ((0, 0), (0, 18), (18, 0)):
        modules[y : y + 7, x : x + 7] = finder
        modules[7 if y == 0 else 17, x : x + 7] = 0
    code = np.where(np.pad(modules, 3) == 1, np.uint8(30), np.uint8(246))
    side = int(max(31, min(height, width) * 0.11))
    slip = np.full((side + side // 4, side), 246, np.uint8)
    slip[:side] = cv2.resize(code, (side, side), interpolation=cv2.INTER_AREA if side < 62 else cv2.INTER_NEAREST)
    cv2.putText(slip, text, (side // 10, side + side // 8), cv2.FONT_HERSHEY_SIMPLEX, side / 260, 40, 1, cv2.LINE_AA)
    rgba = cv2.merge([slip, slip, slip, np.full_like(slip, 255)])
    reach = int(np.hypot(*slip.shape)) + 4
    turn = cv2.getRotationMatrix2D((slip.shape[1] / 2, slip.shape[0] / 2), float(rng.normal(0, 9)), 1.0)
    turn[:, 2] += (reach - slip.shape[1]) / 2, (reach - slip.shape[0]) / 2
    turned = cv2.warpAffine(rgba, turn, (reach, reach), flags=cv2.INTER_LINEAR)
    margin = int(1.4 * RIM * min(height, width))
    x = margin if rng.random() < 0.5 else width - margin - reach
    y = margin if rng.random() < 0.5 else height - margin - reach
    canvas.put(Sprite(turned, np.zeros(turned.shape[:2], bool)), x, y, height_px=2)


# ethanol, lamps and camera


def _bubbles(canvas: Canvas, median_px: float, rng: Rng) -> None:
    """Bubbles in the ethanol: bright rings with a glint, dark outside."""
    height, width = canvas.owners.shape
    area = width * height / median_px**2
    for _ in range(rng.poisson(6 + 0.008 * area)):
        radius = median_px * float(np.clip(rng.lognormal(-0.6, 0.7), 0.1, 4))
        reach = int(1.3 * radius) + 3
        offset = np.arange(-reach, reach + 1, dtype=np.float32)
        x, y = offset[None], offset[:, None]
        away = np.hypot(x, y)
        width_px = max(0.7, 0.09 * radius)
        ring = np.exp(-(((away - radius) / width_px) ** 2))
        lit = 0.5 + 0.5 * (x * canvas.light[0] + y * canvas.light[1]) / (away + 1)
        place = (rng.uniform(0.02, 0.98, 2) * (width, height)).astype(int) - reach
        dark = np.exp(-(((away - radius * 1.05) / (1.6 * width_px)) ** 2))
        _tint(canvas, (0.3 * dark).astype(np.float32), np.array([90, 90, 88]), *place)
        _tint(canvas, (0.8 * ring * lit).astype(np.float32), np.array([255, 255, 255]), *place)
        glint = np.hypot(x - 0.45 * radius * canvas.light[0], y - 0.45 * radius * canvas.light[1])
        _tint(canvas, 0.9 * np.exp(-((glint / max(0.8, 0.12 * radius)) ** 2)), np.array([255, 255, 255]), *place)


def _reflections(canvas: Canvas, rng: Rng) -> None:
    """The lamps on the surface: a few smears of light, and glints on ripples."""
    height, width = canvas.owners.shape
    unit = min(height, width)
    for _ in range(rng.poisson(2.2)):
        w, h = (unit * rng.uniform(0.05, 0.3, 2)).astype(int) + 8
        smear = value_noise(24, 24, (6, 3), rng) * 0.35 + 0.5
        smear = np.clip(smear, 0, 1) * np.outer(np.hanning(24), np.hanning(24))
        alpha = cv2.resize(smear.astype(np.float32), (int(w), int(h)), interpolation=cv2.INTER_CUBIC)
        x, y = (rng.uniform(0, 1, 2) * (width, height)).astype(int) - (w // 2, h // 2)
        _tint(canvas, np.clip(alpha * rng.uniform(0.25, 0.95), 0, 1), np.array([255, 254, 250]), x, y)
    for _ in range(rng.poisson(30)):
        long, thin = unit * rng.uniform(0.002, 0.012), unit * rng.uniform(0.0008, 0.0025) + 0.5
        reach = int(2 * long) + 3
        offset = np.arange(-reach, reach + 1, dtype=np.float32)
        angle = rng.uniform(0, np.pi)
        along = offset[None] * np.cos(angle) + offset[:, None] * np.sin(angle)
        across = -offset[None] * np.sin(angle) + offset[:, None] * np.cos(angle)
        alpha = 0.95 * np.exp(-((along / long) ** 2) - (across / thin) ** 2)
        place = (rng.uniform(0, 1, 2) * (width, height)).astype(int) - reach
        _tint(canvas, alpha.astype(np.float32), np.array([255, 255, 255]), *place)


def _take_picture(pixels: np.ndarray, rng: Rng) -> None:
    """What the camera makes of it, in place: lens, uneven light, colour cast and noise."""
    height, width = pixels.shape[:2]
    cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 0.7), dst=pixels)
    waves = _waves(height, width, rng, strength=0.12, count=2)
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in (height, width))
    slope, falloff = rng.normal(0, 0.05, 2).astype(np.float32), np.float32(rng.uniform(0.03, 0.16))
    cast = (rng.uniform(0.88, 1.08) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    noise = np.float32(rng.uniform(1.2, 3.6))
    for rows in _strips(height):
        light = 1 + _sum_of(waves, rows) + slope[0] * y[rows, None] + slope[1] * x[None]
        light -= falloff * (y[rows, None] ** 2 + x[None] ** 2) / 2
        shared = rng.standard_normal(light.shape, dtype=np.float32) * noise
        for channel in range(3):
            grain = shared + rng.standard_normal(light.shape, dtype=np.float32) * (noise * np.float32(0.5))
            pixels[rows, :, channel] = np.clip(pixels[rows, :, channel] * (light * cast[channel]) + grain, 0, 255)
