"""From photographs to the views of their animals that a classifier takes, in the same steps as the stages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from instar.boxes import NO_ANIMAL, box_with_margin
from instar.crops import Cut
from instar.detections import Photograph, searched
from instar.detectors import Boxes, Detector
from instar.identify.inputs import Picture, Place
from instar.identify.models import Settings
from instar.photographs import Row, jpeg, shrunk


@dataclass
class Seen:
    """A photograph with its animals.

    Attributes:
        name: of the photograph.
        problem: why it could not be looked at; None if it was.
        place: latitude and longitude in degrees, NaN where unknown.
        boxes: of its animals, by falling score.
        views: of each, uint8, shape (image_px, image_px, 3), RGB.
        pixels: uint8, shape (height, width, 3), upright RGB, where they are kept.
    """

    name: str
    problem: str | None
    place: Place
    boxes: Boxes
    views: list[np.ndarray]
    pixels: np.ndarray | None = None


def seen(
    detector: Detector, pictures: Iterable[Picture], settings: Settings, image_px: int, *, keep_pixels: bool = False
) -> Iterator[Seen]:
    """Each photograph with its animals, in the given order; names must differ.

    Args:
        detector: that finds them.
        pictures: photographs.
        settings: of the search and of the crops.
        image_px: side of the views.
        keep_pixels: hand photographs on with what was found on them.
    """
    held: dict[str, Picture] = {}

    def rows() -> Iterator[tuple[Row, np.ndarray | str]]:
        for picture in pictures:
            held[picture.name] = picture
            yield {"key": picture.name}, picture.pixels

    for photograph in searched(detector, rows(), settings.slicing, settings.limits):
        picture = held.pop(photograph.key)
        boxes = _sure(photograph, settings)
        pixels = None if isinstance(picture.pixels, str) else picture.pixels
        views = [] if pixels is None else [crop_view(pixels, box, settings.cut, image_px) for box in boxes.boxes_xyxy]
        yield Seen(
            name=picture.name,
            problem=None if photograph.reason == NO_ANIMAL else photograph.reason,
            place=picture.place,
            boxes=boxes,
            views=views,
            pixels=pixels if keep_pixels else None,
        )


def _sure(photograph: Photograph, settings: Settings) -> Boxes:
    chosen = photograph.boxes.scores.astype(np.float64) >= settings.confidence
    return Boxes(photograph.boxes.boxes_xyxy[chosen], photograph.boxes.scores[chosen])


def crop_view(pixels: np.ndarray, box_xyxy: np.ndarray, cut: Cut, image_px: int) -> np.ndarray:
    """What the classifier sees of an animal: what the stage crops stores of it, JPEG included, as training saw it.

    Args:
        pixels: uint8, shape (height, width, 3), RGB, the photograph.
        box_xyxy: float32, shape (4,), inside the photograph.
        cut: how crops are made.
        image_px: side of the view.

    Returns:
        uint8, shape (image_px, image_px, 3), RGB.
    """
    from instar.classifier.views import render, whole_window

    height, width = pixels.shape[:2]
    x_min, y_min, x_max, y_max = box_xyxy.tolist()
    left, top, right, bottom = box_with_margin(
        (x_min, y_min, x_max, y_max), margin_percent=cut.margin_percent, width=width, height=height
    )
    stored = jpeg(shrunk(pixels[top:bottom, left:right], cut.max_px), cut.jpeg_quality)
    crop = np.asarray(cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR_RGB))
    return render(crop, whole_window(*crop.shape[:2]), image_px)
