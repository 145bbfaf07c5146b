"""What a network sees of a crop: a square view of it, whole or random, in uint8 and by OpenCV alone.

A worker decodes a crop, takes one view of it and does nothing else; colour, erasing and mixing are of a whole batch
(``augment``).
"""

import math
from functools import cache

import cv2
import numpy as np

#: What lies around a crop that is not square: ImageNet's mean, which normalisation makes about 0.
PADDING_RGB = (124, 116, 104)
#: A random view's width by its height, as in Szegedy et al. 2015.
RATIO = (3 / 4, 4 / 3)

#: x_min, y_min, x_max, y_max in pixels of a crop; may reach beyond it
Window = tuple[float, float, float, float]


def whole_window(height: int, width: int) -> Window:
    """The smallest square around a crop's centre that holds all of it."""
    side = max(height, width)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def random_window(rng: np.random.Generator, height: int, width: int, *, crop_scale: float) -> Window:
    """A random part of ``whole_window``, with the distribution of torchvision's ``RandomResizedCrop``.

    Args:
        rng: drawn from.
        height: of the crop, pixels.
        width: likewise.
        crop_scale: smallest share of the square's area, in (0, 1]; above 1/3 the window always holds the centre.

    Returns:
        A window inside ``whole_window``, a whole number of pixels wide and high.
    """
    left, top, right, bottom = whole_window(height, width)
    side = int(right - left)
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(10):
        area, ratio = side * side * rng.uniform(crop_scale, 1), math.exp(rng.uniform(low, high))
        window_width, window_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < window_width <= side and 0 < window_height <= side:
            x_min = left + int(rng.integers(side - window_width + 1))
            y_min = top + int(rng.integers(side - window_height + 1))
            return x_min, y_min, x_min + window_width, y_min + window_height
    return left, top, right, bottom


def random_view(
    rng: np.random.Generator, crop: np.ndarray, image_px: int, *, crop_scale: float, flip: str, rotation_deg: float
) -> np.ndarray:
    """A random view of a crop: part of it, perhaps mirrored and turned.

    Args:
        rng: drawn from; its state alone decides what the view shows.
        crop: uint8, shape (height, width, 3).
        image_px: side of the view.
        crop_scale: smallest share of the square around the crop, in (0, 1].
        flip: none, horizontal, or both (also vertical), each with probability 1/2.
        rotation_deg: turned by up to so many degrees either way.

    Returns:
        uint8, shape (image_px, image_px, 3); ``PADDING_RGB`` where the view reaches beyond the crop.
    """
    window = random_window(rng, *crop.shape[:2], crop_scale=crop_scale)
    mirrored = flip != "none" and rng.random() < 0.5
    upside_down = flip == "both" and rng.random() < 0.5
    if rotation_deg:
        view = render_turned(crop, window, image_px, rng.uniform(-rotation_deg, rotation_deg))
    else:
        view = render(crop, window, image_px)
    if mirrored or upside_down:
        view = cv2.flip(view, -1 if mirrored and upside_down else int(mirrored))
    return view


def render(crop: np.ndarray, window: Window, image_px: int) -> np.ndarray:
    """What a window shows of a crop, stretched to a square.

    Args:
        crop: uint8, shape (height, width, 3).
        window: pixels of the crop.
        image_px: side of the square.

    Returns:
        uint8, shape (image_px, image_px, 3); ``PADDING_RGB`` where the window lies beyond the crop.
    """
    height, width = crop.shape[:2]
    x_min, y_min, x_max, y_max = window
    if x_min >= width or y_min >= height or x_max <= 0 or y_max <= 0:
        return _padding(image_px).copy()
    x0, y0 = max(0, round(x_min)), max(0, round(y_min))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    x1, y1 = min(width, max(round(x_max), x0 + 1)), min(height, max(round(y_max), y0 + 1))
    to_x, to_y = image_px / (x_max - x_min), image_px / (y_max - y_min)
    left, top = max(0, round((x0 - x_min) * to_x)), max(0, round((y0 - y_min) * to_y))
    left, top = min(left, image_px - 1), min(top, image_px - 1)
    right = min(image_px, max(left + 1, round((x1 - x_min) * to_x)))
    bottom = min(image_px, max(top + 1, round((y1 - y_min) * to_y)))
    size = (right - left, bottom - top)
    part = cv2.resize(_halved(crop[y0:y1, x0:x1], *size), size, interpolation=cv2.INTER_LINEAR)
    if size == (image_px, image_px):
        return np.asarray(part)
    view = _padding(image_px).copy()
    view[top:bottom, left:right] = part
    return view


def render_turned(crop: np.ndarray, window: Window, image_px: int, angle_deg: float) -> np.ndarray:
    """What a window shows that is turned about its centre; see ``render``.

    Args:
        crop: uint8, shape (height, width, 3).
        window: pixels of the crop, before it is turned.
        image_px: side of the view.
        angle_deg: turn of what is seen, counter-clockwise.

    Returns:
        uint8, shape (image_px, image_px, 3); ``PADDING_RGB`` where the window lies beyond the crop.
    """
    x_min, y_min, x_max, y_max = window
    height, width = crop.shape[:2]
    wanted = image_px / (x_max - x_min), image_px / (y_max - y_min)
    crop = _halved(crop, math.ceil(width * wanted[0]), math.ceil(height * wanted[1]))
    by_x, by_y = crop.shape[1] / width, crop.shape[0] / height
    # view to crop: pixel centres to [-1/2, 1/2], stretched to the window, turned, moved to its centre
    angle = math.radians(angle_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    stretch = np.diag([(x_max - x_min) / image_px, (y_max - y_min) / image_px])
    turn = np.diag([by_x, by_y]) @ np.array([[cos, -sin], [sin, cos]]) @ stretch
    centre = np.array([(x_min + x_max) / 2 * by_x - 0.5, (y_min + y_max) / 2 * by_y - 0.5])
    move = centre - turn @ np.full(2, (image_px - 1) / 2)
    view = cv2.warpAffine(
        crop,
        np.column_stack([turn, move]),
        (image_px, image_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=PADDING_RGB,
    )
    return np.asarray(view)


def channels_first(view: np.ndarray) -> np.ndarray:
    """uint8, shape (3, height, width), of (height, width, 3): five times as fast as a copy of the transposed."""
    planes = np.empty((3, *view.shape[:2]), dtype=np.uint8)
    cv2.split(view, list(planes))  # writes into them
    return planes


def _halved(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels averaged two by two until less than twice as wide or high as asked for.

    OpenCV's bilinear interpolation reads four pixels for each that it makes, which skips some where it shrinks by more
    than 2. Its area interpolation by other factors than 2 takes longer than decoding.
    """
    while pixels.shape[1] >= 2 * width and pixels.shape[0] >= 2 * height:
        half_height, half_width = pixels.shape[0] // 2, pixels.shape[1] // 2
        even = pixels[: 2 * half_height, : 2 * half_width]  # of an odd side the last row is left out
        pixels = cv2.resize(even, (half_width, half_height), interpolation=cv2.INTER_AREA)
    return pixels


@cache
def _padding(image_px: int) -> np.ndarray:
    return np.full((image_px, image_px, 3), PADDING_RGB, dtype=np.uint8)
