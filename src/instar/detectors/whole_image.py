"""The detector of studies whose photographs are crops already: one box, all of the photograph."""

from typing import Any

import numpy as np

from instar.detectors import Boxes, Recipe


def describe(recipe: Recipe) -> dict[str, Any]:
    """What detector.json says: the family, since there is nothing else to say."""
    return {"family": WholeImage.name}


class WholeImage:
    """Answers with the whole picture, score 1."""

    name = "whole_image"
    tiled = False

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """One box for each picture, whatever the limits."""
        sizes = [picture.shape[:2] for picture in pictures]
        return [Boxes(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)) for height, width in sizes]
