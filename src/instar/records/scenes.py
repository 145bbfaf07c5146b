"""One drawn photograph: ground, things, ants and camera, and the exact mask of every ant."""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from instar.records import backgrounds
from instar.records.drawing import ant_picture, individual, random_pose
from instar.records.world_spec import Look

#: Drawn around the picture, so that the shots of a burst can shift.
MARGIN_PX = 12
#: Long side of an ant's box, pixels: those that are too small to keep, and the others.
TINY_PX, ANT_PX = (20, 46), (88, 340)
#: EXIF orientation to the turn that stores an upright picture so.
STORED_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
EXIF_ORIENTATION, EXIF_MAKE, EXIF_TIME = 0x0112, 0x010F, 0x0132


@dataclass(frozen=True)
class Scene:
    """All that decides what a photograph shows."""

    look: Look
    seed: int  # of the scene: shots of a burst share it
    shot: int  # 0, or the number in the burst
    insects: int
    tiny: bool
    width: int  # pixels, upright
    height: int
    view: str  # field, dorsal, profile or head
    caption: str | None = None  # on a specimen's picture


@dataclass(frozen=True)
class Picture:
    """An upright photograph."""

    pixels: np.ndarray  # uint8 RGB, shape (height, width, 3)
    masks: list[np.ndarray]  # of the insects' visible parts: bool, shape (height, width), none of them empty


def draw_scene(scene: Scene) -> Picture:
    """Draw a photograph upright. Insects that nothing is seen of have no mask."""
    rng = np.random.default_rng(scene.seed)
    drawn = _specimen(scene, rng) if scene.view != "field" else _field(scene, rng)
    return _shot(drawn, scene, np.random.default_rng((scene.seed, scene.shot)))


class _Canvas:
    """A picture in the making: ``colour`` float32 RGB (height, width, 3) in [0, 1], and the insects' masks."""

    def __init__(self, colour: np.ndarray, light: np.ndarray, shadow: float) -> None:
        self.colour = colour
        self.light = light
        self.shadow = shadow
        self.masks: list[np.ndarray] = []

    def put(self, sprite: np.ndarray, x: int, y: int, *, height_px: float, insect: bool = False) -> None:
        """Lay a sprite with its upper left corner at (x, y) over all that is there, with its shadow below it."""
        self._shade(sprite[..., 3], x, y, height_px)
        window, part = overlap(self.colour.shape, sprite.shape, x, y)
        rgba = sprite[part].astype(np.float32) / 255
        self.colour[window] *= 1 - rgba[..., 3:]
        self.colour[window] += rgba[..., :3]
        for mask in self.masks:
            mask[window] &= rgba[..., 3] <= 0.5
        if insect:
            self.masks.append(np.zeros(self.colour.shape[:2], bool))
            self.masks[-1][window] = rgba[..., 3] > 0.5

    def _shade(self, alpha: np.ndarray, x: int, y: int, height_px: float) -> None:
        reach = int(2 * height_px) + 4
        soft = cv2.copyMakeBorder(alpha, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
        soft = cv2.GaussianBlur(soft, (0, 0), 0.6 + 0.45 * height_px)
        dx, dy = np.round(-self.light[:2] / self.light[2] * height_px).astype(int)
        window, part = overlap(self.colour.shape, soft.shape, x - reach + int(dx), y - reach + int(dy))
        self.colour[window] *= 1 - self.shadow * soft[part][..., None].astype(np.float32) / 255


def overlap(
    canvas: tuple[int, ...], sprite: tuple[int, ...], x: int, y: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a sprite at (x, y) lies on the canvas, and the part of it that does; empty slices where they miss."""
    x0, x1 = max(x, 0), max(min(x + sprite[1], canvas[1]), max(x, 0))
    y0, y1 = max(y, 0), max(min(y + sprite[0], canvas[0]), max(y, 0))
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _field(scene: Scene, rng: np.random.Generator) -> _Canvas:
    height, width = scene.height + 2 * MARGIN_PX, scene.width + 2 * MARGIN_PX
    ground, things = backgrounds.GROUNDS[str(rng.choice(list(backgrounds.GROUNDS)))]
    canvas = _Canvas(ground(height, width, rng), backgrounds.default_light(rng), rng.uniform(0.45, 0.75))
    for _ in range(rng.poisson(things * min(width * height / (640 * 480), 2))):
        _scatter(canvas, backgrounds.thing(rng, canvas.light), rng)
    elevation = 90.0 if rng.random() < 0.35 else rng.uniform(38, 80)
    sizes = _sizes(scene, rng)
    for size, (x, y) in zip(sizes, _places(scene, sizes, rng), strict=True):
        look = individual(scene.look, rng)
        sprite = ant_picture(
            look,
            random_pose(look, rng),
            heading_deg=rng.uniform(0, 360),
            elevation_deg=elevation,
            long_side_px=size,
            light=canvas.light,
            rng=rng,
        )
        corner = int(x - sprite.shape[1] / 2), int(y - sprite.shape[0] / 2)
        canvas.put(sprite, *corner, height_px=0.045 * size, insect=True)
    if scene.insects and not scene.tiny and rng.random() < 0.1:
        _scatter(canvas, backgrounds.thing(rng, canvas.light), rng)  # may hide a leg
    return canvas


def _scatter(canvas: _Canvas, sprite: np.ndarray, rng: np.random.Generator) -> None:
    height, width = canvas.colour.shape[:2]
    x, y = rng.uniform(0, width) - sprite.shape[1] / 2, rng.uniform(0, height) - sprite.shape[0] / 2
    canvas.put(sprite, int(x), int(y), height_px=2.0)


def _sizes(scene: Scene, rng: np.random.Generator) -> list[float]:
    """Long sides of the insects' boxes, pixels: alike within a photograph."""
    low, high = TINY_PX if scene.tiny else ANT_PX
    room = 0.8 * min(scene.width, scene.height) / max(1, scene.insects) ** 0.5
    base = rng.uniform(low * 1.08, max(low * 1.1, min(high / 1.08, room)))
    return [float(np.clip(base * rng.normal(1, 0.07), low, high)) for _ in range(scene.insects)]


def _places(scene: Scene, sizes: list[float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Middles of the insects on the canvas, apart where there is room; large ones may leave the picture a little."""
    places: list[tuple[float, float]] = []
    for size in sizes:
        inset = MARGIN_PX + size * (0.38 if size > 140 and rng.random() < 0.15 else 0.54)
        options = (
            rng.uniform(0, 1, (24, 2))
            * [
                scene.width + 2 * MARGIN_PX - 2 * inset,
                scene.height + 2 * MARGIN_PX - 2 * inset,
            ]
            + inset
        )
        distances = [min((np.hypot(*(option - place)) for place in places), default=size) for option in options]
        apart = next((i for i, distance in enumerate(distances) if distance >= 0.75 * size), int(np.argmax(distances)))
        places.append((float(options[apart][0]), float(options[apart][1])))
    return places


#: View of a specimen to its heading and elevation in degrees, as museums photograph ants.
SPECIMEN_VIEWS = {"dorsal": (90.0, 90.0), "profile": (180.0, 8.0), "head": (-90.0, 38.0)}


def _specimen(scene: Scene, rng: np.random.Generator) -> _Canvas:
    height, width = scene.height + 2 * MARGIN_PX, scene.width + 2 * MARGIN_PX
    canvas = _Canvas(backgrounds.museum(height, width, rng), backgrounds.default_light(rng), 0.22)
    heading, elevation = SPECIMEN_VIEWS[scene.view]
    look = individual(scene.look, rng)
    size = rng.uniform(240, min(ANT_PX[1], 0.8 * min(scene.width, scene.height)))
    sprite = ant_picture(
        look,
        random_pose(look, rng, liveliness=0.3),
        heading_deg=heading + rng.normal(0, 4),
        elevation_deg=elevation,
        long_side_px=size,
        light=canvas.light,
        rng=rng,
    )
    corner = (width - sprite.shape[1]) // 2, (height - sprite.shape[0]) // 2
    _write_scale_bar(canvas.colour, scene.caption or "")
    canvas.put(sprite, *corner, height_px=10, insect=True)
    return canvas


def _write_scale_bar(colour: np.ndarray, caption: str) -> None:
    height, width = colour.shape[:2]
    left, base = MARGIN_PX + 14, height - MARGIN_PX - 14
    ink = np.zeros((height, width), np.uint8)  # OpenCV writes on 8 bit only
    cv2.line(ink, (width - left - 70, base), (width - left, base), 255, 2)
    cv2.putText(ink, "1 mm", (width - left - 54, base - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    cv2.putText(ink, caption, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    colour *= 1 - 0.9 * (ink[..., None].astype(np.float32) / 255)


def _shot(canvas: _Canvas, scene: Scene, rng: np.random.Generator) -> Picture:
    """What the camera makes of it: a frame, exposure, colour cast, lens and noise."""
    reach = MARGIN_PX if scene.shot else 0
    x, y = rng.integers(-reach, reach + 1, 2) + MARGIN_PX
    frame = slice(y, y + scene.height), slice(x, x + scene.width)
    taste = np.random.default_rng((scene.seed, 0))  # the shots of a burst are taken with the same camera
    pixels = cv2.GaussianBlur(canvas.colour[frame], (0, 0), taste.uniform(0.35, 0.8 if scene.tiny else 1.05))
    cast = taste.uniform(0.8, 1.16) * taste.uniform(0.94, 1.06, 3) * rng.uniform(0.95, 1.05)
    if scene.view == "field":
        grain = rng.standard_normal((scene.height, scene.width), dtype=np.float32) * rng.uniform(0.004, 0.018)
        falloff = _vignette(scene.height, scene.width, taste.uniform(0, 0.22))
        channels = zip(cv2.split(pixels), cast, strict=True)
        pixels = cv2.merge([channel * falloff * np.float32(factor) + grain for channel, factor in channels])
    masks = [mask[frame] for mask in canvas.masks]
    return Picture(np.clip(pixels * 255, 0, 255).astype(np.uint8), [mask for mask in masks if mask.any()])


def _vignette(height: int, width: int, strength: float) -> np.ndarray:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return 1 - np.float32(strength) * (x * x + y * y) / 2


def encoded(pixels: np.ndarray, *, extension: str, orientation: int, taken: str, quality: int) -> bytes:
    """The file of a photograph.

    Args:
        pixels: upright, uint8 RGB, shape (height, width, 3).
        extension: jpg, jpeg or png.
        orientation: EXIF orientation, 1 to 8; the stored pixels are turned so that applying it gives ``pixels``.
        taken: when, ISO 8601.
        quality: of JPEG, 1 to 95.
    """
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if extension == "png":
        image.save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()
    if orientation != 1:
        image = image.transpose(STORED_TURN[orientation])
    exif = Image.Exif()
    exif[EXIF_ORIENTATION], exif[EXIF_MAKE] = orientation, "Drawn"
    exif[EXIF_TIME] = taken[:19].replace("-", ":").replace("T", " ")
    image.save(buffer, "JPEG", quality=quality, exif=exif)
    return buffer.getvalue()


def spoiled(data: bytes, defect: str, seed: int) -> bytes:
    """A file's bytes with a defect: truncated, corrupt_middle, corrupt_header, empty or html."""
    rng = np.random.default_rng(seed)
    if defect == "truncated":
        return data[: int(len(data) * rng.uniform(0.3, 0.8))]
    if defect == "corrupt_header":
        return rng.bytes(64) + data[64:]
    if defect == "corrupt_middle":
        start, length = len(data) // 3, len(data) // 4
        return data[:start] + rng.bytes(length) + data[start + length :]
    if defect == "html":
        return b"<!DOCTYPE html>\n<html><head><title>503</title></head><body>Service unavailable</body></html>\n"
    return b""
