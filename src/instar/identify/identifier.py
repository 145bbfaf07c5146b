"""From photographs to the probabilities of classes, in the same steps as the stages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from instar.detectors import Boxes
from instar.identify.inputs import Picture, Place
from instar.identify.models import Models
from instar.identify.search import seen

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
        classes, px = len(self._predictor.labels), self._predictor.image_px
        for one in seen(self._detector, pictures, self._settings, px, keep_pixels=self._keep):
            animals, whole = np.zeros((0, classes), np.float32), np.zeros(classes, np.float32)
            yield Found(one.name, one.problem, one.place, one.boxes, animals, whole, one.pixels), one.views

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
            pixels = batch_of(views[start : start + batch])
            of_part = torch.tensor(places[start : start + batch], dtype=torch.float32)
            nodes = self._predictor.probabilities(pixels, of_part, temperature=self._settings.temperature)
            parts.append(nodes.cpu().numpy())
        return np.concatenate(parts)


def batch_of(views: list[np.ndarray]) -> "torch.Tensor":
    """uint8 (n, 3, px, px)."""
    import torch

    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
