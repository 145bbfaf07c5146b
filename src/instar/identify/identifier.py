"""From photographs to the probabilities of classes, in the same steps as the stages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from instar.boxes import NO_ANIMAL, box_with_margin
from instar.crops import Cut
from instar.detections import Photograph, searched
from instar.detectors import Boxes
from instar.identify.inputs import Picture, Place
from instar.identify.models import Models
from instar.photographs import Row, jpeg, shrunk

if TYPE_CHECKING:
    import torch


@dataclass
class Found:
    """What is on a photograph.

    Attributes:
        name: of the photograph.
        problem: why it could not be looked at; None if it was.
        place: latitude and longitude in degrees, NaN where unknown.
        boxes: of its animals, by falling score.
        animals: float32, shape (n_animals, n_classes), probability of each class with all that belongs to it.
        whole: float32, shape (n_classes,), the mean over the best animals; zeros where there is none.
        pixels: uint8, shape (height, width, 3), upright RGB, where they are kept.
    """

    name: str
    problem: str | None
    place: Place
    boxes: Boxes
    animals: np.ndarray
    whole: np.ndarray
    pixels: np.ndarray | None = None


class Identifier:
    """Finds and names animals.

    Args:
        models: detector, classifier and settings.
        keep_pixels: hand photographs on with what was found on them.
    """

    def __init__(self, models: Models, *, keep_pixels: bool = False) -> None:
        self._detector, self._predictor, self._settings = models.detector, models.predictor, models.settings
        self._keep = keep_pixels

    def found(self, pictures: Iterable[Picture]) -> Iterator[Found]:
        """What is on each photograph, in their order, while both models get full batches; names must differ."""
        waiting: list[tuple[Found, list[np.ndarray]]] = []
        for found, views in self._searched(pictures):
            waiting.append((found, views))
            if sum(len(views) for _, views in waiting) >= self._settings.slicing.batch:
                yield from self._named(waiting)
                waiting = []
        yield from self._named(waiting)

    def _searched(self, pictures: Iterable[Picture]) -> Iterator[tuple[Found, list[np.ndarray]]]:
        """Photographs with their boxes, and the view of each box that the classifier takes."""
        held: dict[str, Picture] = {}

        def rows() -> Iterator[tuple[Row, np.ndarray | str]]:
            for picture in pictures:
                held[picture.name] = picture
                yield {"key": picture.name}, picture.pixels

        for photograph in searched(self._detector, rows(), self._settings.slicing, self._settings.limits):
            found = self._boxed(held[photograph.key], photograph)
            pixels = held.pop(photograph.key).pixels
            yield found, [] if isinstance(pixels, str) else self._views(pixels, found.boxes)

    def _boxed(self, picture: Picture, photograph: Photograph) -> Found:
        sure = photograph.boxes.scores.astype(np.float64) >= self._settings.confidence
        boxes = Boxes(photograph.boxes.boxes_xyxy[sure], photograph.boxes.scores[sure])
        classes = len(self._predictor.labels)
        return Found(
            name=picture.name,
            problem=None if photograph.reason == NO_ANIMAL else photograph.reason,
            place=picture.place,
            boxes=boxes,
            animals=np.zeros((0, classes), np.float32),
            whole=np.zeros(classes, np.float32),
            pixels=picture.pixels if self._keep and not isinstance(picture.pixels, str) else None,
        )

    def _views(self, pixels: np.ndarray, boxes: Boxes) -> list[np.ndarray]:
        return [crop_view(pixels, box, self._settings.cut, self._predictor.image_px) for box in boxes.boxes_xyxy]

    def _named(self, waiting: list[tuple[Found, list[np.ndarray]]]) -> Iterator[Found]:
        """Photographs with the probabilities of their animals."""
        views = [view for _, of_one in waiting for view in of_one]
        places = [found.place for found, of_one in waiting for _ in of_one]
        nodes = self._probabilities(views, places)
        done = 0
        for found, of_one in waiting:
            if of_one:
                found.animals = nodes[done : done + len(of_one)]
                best = found.animals[: self._settings.photo_boxes].astype(np.float64)
                found.whole = best.mean(axis=0).astype(np.float32)
                done += len(of_one)
            yield found

    def _probabilities(self, views: list[np.ndarray], places: list[Place]) -> np.ndarray:
        import torch

        batch = self._settings.slicing.batch
        parts = [np.zeros((0, len(self._predictor.labels)), np.float32)]
        for start in range(0, len(views), batch):
            pixels = _batch(views[start : start + batch])
            of_part = torch.tensor(places[start : start + batch], dtype=torch.float32)
            nodes = self._predictor.probabilities(pixels, of_part, temperature=self._settings.temperature)
            parts.append(nodes.cpu().numpy())
        return np.concatenate(parts)


def _batch(views: list[np.ndarray]) -> "torch.Tensor":
    """uint8 (n, 3, px, px)."""
    import torch

    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


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
