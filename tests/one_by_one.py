"""What detectors that tests draw have in common."""

from abc import ABC, abstractmethod

import numpy as np

from instar.detectors import Boxes


class OneByOne(ABC):
    """A detector that looks at one picture after the other and remembers how many came together."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        self.batches.append(len(pictures))
        return [self._one(picture, floor, max_boxes) for picture in pictures]

    @abstractmethod
    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes: ...


def boxes_of(stats: np.ndarray) -> np.ndarray:
    """x_min, y_min, x_max, y_max of OpenCV's statistics of components, (n, 5)."""
    return np.stack([stats[:, 0], stats[:, 1], stats[:, 0] + stats[:, 2], stats[:, 1] + stats[:, 3]], axis=1)
