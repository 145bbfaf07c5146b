"""Random views of a picture and its masks: the augmentations published for MassID45, all by one generator."""

from dataclasses import dataclass

import cv2
import numpy as np

#: Shares of red, green and blue in brightness (ITU-R BT.601), as Detectron2's RandomSaturation has them.
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class View:
    """A picture with its animals.

    Attributes:
        picture: uint8, shape (height, width, 3), RGB.
        bitmaps: uint8, shape (height, width, n), 1 where the animal is.
        boxes_xyxy: float64, shape (n, 4), pixels, max exclusive.
    """

    picture: np.ndarray
    bitmaps: np.ndarray
    boxes_xyxy: np.ndarray


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a picture; the fields are options of the families that use it.

    Attributes:
        flip: probability of the mirror image, left to right.
        quarter_turns: whether it is turned by 0, 90, 180 or 270 degrees, each as likely.
        brightness: the factor lies within 1 - this and 1 + this.
        contrast: likewise, about the picture's mean.
        saturation: likewise, between grey and colour.
    """

    flip: float = 0.5
    quarter_turns: bool = True
    brightness: float = 0.15
    contrast: float = 0.10
    saturation: float = 0.15

    def __call__(self, view: View, generator: np.random.Generator) -> View:
        """A random view; equal for a generator in the same state, whatever is switched off."""
        draw, turns = generator.random(), int(generator.integers(4))
        factors = generator.uniform(-1, 1, 3)
        if draw < self.flip:
            view = mirrored(view)
        view = turned(view, turns if self.quarter_turns else 0)
        brightness, contrast, saturation = 1 + factors * [self.brightness, self.contrast, self.saturation]
        picture = coloured(view.picture, brightness=brightness, contrast=contrast, saturation=saturation)
        return View(picture, view.bitmaps, view.boxes_xyxy)


def mirrored(view: View) -> View:
    """The mirror image, left to right."""
    width = view.picture.shape[1]
    boxes = view.boxes_xyxy[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    return View(view.picture[:, ::-1], view.bitmaps[:, ::-1], boxes)


def turned(view: View, quarters: int) -> View:
    """The view turned by so many times 90 degrees against the clock."""
    boxes, (height, width) = view.boxes_xyxy, view.picture.shape[:2]
    for _ in range(quarters % 4):
        # x goes to height from below: a point (x, y) comes to (y, width - x)
        boxes = boxes[:, [1, 2, 3, 0]] * [1, -1, 1, -1] + [0, width, 0, width]
        height, width = width, height
    return View(np.rot90(view.picture, quarters), np.rot90(view.bitmaps, quarters), boxes)


def coloured(picture: np.ndarray, *, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """A picture times ``brightness``, then about its mean by ``contrast``, then from grey by ``saturation``.

    All three are linear in a pixel's colour, so one matrix does them, and values are rounded and cut off once.

    Args:
        picture: uint8, shape (height, width, 3), RGB.
        brightness: 1 leaves it as it is; likewise the others.
        contrast: 0 gives the mean.
        saturation: 0 gives grey.

    Returns:
        uint8, of the same shape.
    """
    mean = float(picture.mean()) * brightness
    colour = saturation * np.eye(3) + (1 - saturation) * LUMA
    matrix = np.column_stack([colour * contrast * brightness, np.full(3, (1 - contrast) * mean)])
    return np.asarray(cv2.transform(np.ascontiguousarray(picture), matrix))
