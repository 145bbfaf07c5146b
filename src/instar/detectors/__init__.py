"""Detectors: one file per family behind one small protocol."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from instar.errors import InputError

#: Beside the weights: which family they belong to, the side of the network's input, class names, licence.
DESCRIPTION = "detector.json"


@dataclass(frozen=True)
class Boxes:
    """What a detector finds in one picture.

    Attributes:
        boxes_xyxy: float32, shape (n, 4), pixels of the picture, max exclusive.
        scores: float32, shape (n,), in [0, 1].
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Example:
    """A photograph to learn from.

    Attributes:
        name: a file name without an ending.
        split: train or validation.
        picture: uint8, shape (height, width, 3), RGB.
        boxes_xyxy: float64, shape (n, 4), pixels of the picture, max exclusive, its animals.
    """

    name: str
    split: str
    picture: np.ndarray
    boxes_xyxy: np.ndarray


@dataclass
class Training:
    """What came of a training.

    Attributes:
        curve: for every epoch its number from 1, losses, and figures on validation.
        best_epoch: from 1; its weights were kept.
        parameters: how many numbers the model learns.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    parameters: int = 0


class Detector(Protocol):
    """A trained detector, or one that needs no training.

    Attributes:
        name: sha256 of the weights, or the family's name where there are none.
        tiled: whether a large photograph is worth slicing.
    """

    name: str
    tiled: bool

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """Boxes of each picture.

        Args:
            pictures: uint8, each of shape (height, width, 3), RGB; sizes may differ.
            floor: boxes with a lower score are left out.
            nms_iou: of two boxes that overlap more, the better stays.
            max_boxes: the best so many of each picture.

        Returns:
            One for each picture, by falling score.
        """
        ...


def load(folder: Path) -> Detector:
    """The detector that the stage ``detector`` wrote; only its family's libraries are imported.

    Raises:
        InputError: if the description is missing or damaged, or names an unknown family.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        family = description["family"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage detector") from None
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: not a detector's description; run the stage detector again") from None
    if family == "whole_image":
        from instar.detectors.whole_image import WholeImage

        return WholeImage()
    if family == "yolo":
        from instar.detectors.yolo import Yolo

        return Yolo(folder, description)
    raise InputError(f"{path}: family = {family!r} is unknown; it must be yolo or whole_image")
