"""Detectors: one file per family behind one small protocol.

A family that is trained has ``train(examples, names, recipe, out, work)``, see ``yolo.train``, and ``most(recipe)``,
one that is not has ``describe(recipe)``, and each has a class that keeps the promises of ``Detector``. What a trained
one gives of a picture at most, where there is such a limit, stands as ``most`` in its description.
"""

import difflib
import json
import shutil
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from instar.errors import InputError
from instar.files import sha256_of
from instar.masks import Masks

#: Beside the weights: which family they belong to, the side of the network's input, class names, licence.
DESCRIPTION = "detector.json"


@dataclass(frozen=True)
class Boxes:
    """What a detector finds in one picture.

    Attributes:
        boxes_xyxy: float32, shape (n, 4), pixels of the picture, max exclusive.
        scores: float32, shape (n,), in [0, 1].
        full: whether the detector itself can give no more for one picture, so that animals may be missing.
        masks: of a detector that segments, n of them, in pixels of the picture; else None.
        empty: predictions that were left out because not one pixel of their mask was set.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    full: bool = False
    masks: Masks | None = None
    empty: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: np.ndarray) -> "Boxes":
        """Some of the boxes in the order of ``indices``: int64, shape (k,), or bool, shape (n,)."""
        masks = None if self.masks is None else self.masks.take(indices)
        return Boxes(self.boxes_xyxy[indices], self.scores[indices], self.full, masks, self.empty)


@dataclass(frozen=True)
class Example:
    """A photograph to learn from.

    Attributes:
        name: a file name without an ending.
        split: train or validation.
        picture: uint8, shape (height, width, 3), RGB.
        boxes_xyxy: float64, shape (n, 4), pixels of the picture, max exclusive, its animals.
        masks: of the animals, n of them, in pixels of the picture; None where only boxes are annotated.
    """

    name: str
    split: str
    picture: np.ndarray
    boxes_xyxy: np.ndarray
    masks: Masks | None = None


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are keys of the section ``detector`` in params.yaml, and the seed."""

    model: str
    weights: str
    image_px: int
    epochs: int
    batch: int
    learning_rate: float
    plain_epochs: int
    workers: int
    options: dict[str, Any]
    seed: int
    sam: str = ""


@dataclass
class Training:
    """What came of a training.

    Attributes:
        curve: for every epoch its number from 1, losses, and figures on validation.
        best_epoch: from 1; its weights were kept.
        best: the figure on validation that chose it, higher is better.
        parameters: how many numbers the model learns.
        resumed_after: epochs after which the training was interrupted and gone on with.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: float = -1.0
    parameters: int = 0
    resumed_after: list[int] = field(default_factory=list)


class Detector(Protocol):
    """A trained detector, or one that needs no training.

    Attributes:
        name: sha256 of the weights; where nothing was trained it begins with the family's name.
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
            max_boxes: the best so many of each picture, or fewer where the detector gives fewer at most.

        Returns:
            One for each picture, by falling score.
        """
        ...


class Untrained(Protocol):
    """What the module of a family that needs no training has."""

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """What detector.json says of the detector.

        Raises:
            InputError: if an option is wrong or a published model that it names is missing.
        """
        ...


class Family(Protocol):
    """What the module of a family that is trained has."""

    def most(self, recipe: Recipe) -> tuple[int, str]:
        """How many animals of one picture such a model gives at most, and what to do where that is too few.

        Raises:
            InputError: if the model or an option cannot be had.
        """
        ...

    def train(self, examples: Iterable[Example], names: list[str], recipe: Recipe, out: Path, work: Path) -> Training:
        """See ``yolo.train``."""
        ...


def family(name: str) -> ModuleType:
    """The module of a family; importing it does not import its libraries."""
    from instar.detectors import mask2former, maskrcnn, rfdetr, yolo

    if name in UNTRAINED:
        return _untrained(name)
    return {"yolo": yolo, "rfdetr": rfdetr, "maskrcnn": maskrcnn, "mask2former": mask2former}[name]


#: Families that learn nothing from a study's photographs.
UNTRAINED = ("whole_image", "grounding_dino_sam", "florence2_sam", "gemini_sam", "watershed")


def _untrained(name: str) -> ModuleType:
    from instar.detectors import florence2, gemini, grounding_dino, watershed, whole_image

    modules = (whole_image, grounding_dino, florence2, gemini, watershed)
    return dict(zip(UNTRAINED, modules, strict=True))[name]


def needs_training(name: str) -> bool:
    """Whether a family learns from a study's photographs; one that does not has ``describe``, see ``Untrained``."""
    return name not in UNTRAINED


#: Of a model's tensors; given weights that fit less of it are another model's. RFDETRMedium has 93 % of RFDETRNano's.
FITTING = 0.98

#: Of a file that stands for no weights, since an input of a stage has to be a file.
RANDOM = "random.md"


def weights_file(weights: str) -> Path | None:
    """The weights to start from; None for random ones.

    Raises:
        InputError: if there is no such file.
    """
    if not Path(weights).is_file():
        raise InputError(f"detector.weights = {weights}: no such file; fetch it, or name {RANDOM} for random weights")
    return None if Path(weights).name == RANDOM else Path(weights)


def adopt(weights: Path | None, out: Path, *, family: str, image_px: int) -> None:
    """Copy a detector that another run trained: its weights and the description beside them.

    Args:
        weights: file in the folder of a trained detector.
        out: existing folder to copy into.
        family: that it must be of.
        image_px: side that it must have been trained with.

    Raises:
        InputError: if there are no weights or no description, or they are not of that family and side.
    """
    if weights is None:
        raise InputError("detector.epochs = 0 takes a trained detector; name its model.pt or model.pth as weights")
    path = weights.with_name(DESCRIPTION)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; with detector.epochs = 0 weights must lie in a trained detector's folder"
        )
    description = read_description(path)
    for name, wanted in (("family", family), ("image_px", image_px), ("sha256", sha256_of(weights))):
        told = description.get(name)
        if told != wanted:
            remedy = "name the detector's own folder" if name == "sha256" else f"set detector.{name}={told}"
            raise InputError(f"{path}: {name} = {told}, not {wanted}; {remedy}")
    shutil.copyfile(weights, out / weights.name)
    shutil.copyfile(path, out / DESCRIPTION)


def check_options(options: dict[str, Any], names: str, library: str) -> None:
    """Refuse a training option whose name the library does not have, or that the stage itself decides.

    Args:
        options: values by name.
        names: those that may be given, with blanks between.
        library: for the message.

    Raises:
        InputError: naming the option and the nearest ones.
    """
    allowed = names.split()
    for name in options:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed) or sorted(allowed)
            raise InputError(f"detector.options.{name}: {library} has no such option here; it has {', '.join(near)}")


def class_name(names: list[str]) -> str:
    """The name of the one class, from those of the annotated categories."""
    return names[0] if len(names) == 1 else "animal"


def read_description(path: Path) -> dict[str, Any]:
    """What the stage ``detector`` wrote beside the weights.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        description["family"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage detector") from None
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: not a detector's description; run the stage detector again") from None
    return description


#: What to do where a trained detector gives too few animals of a tile.
ANOTHER = "take a detector that gives more"


def kept_of_a_tile(folder: Path, max_boxes: int) -> int:
    """``detections.max_boxes``, or what the detector in a folder gives at most where that is less, which is told.

    Raises:
        InputError: see ``read_description``.
    """
    description = read_description(folder / DESCRIPTION)
    most = int(description.get("most", max_boxes))
    if most < max_boxes:
        told = f"this {description['family']} gives at most {most} animals of a tile, so no more are kept"
        print(f"detections.max_boxes = {max_boxes}: {told}", file=sys.stderr)
    return min(most, max_boxes)


def own_cap(folder: Path) -> tuple[int, str] | None:
    """What a trained detector gives of a tile at most, which must not hide animals, and what to do where it does.

    None where there is no such limit, and for a family that needs no training: what it is asked for at most is part of
    what it is, as published, and is told with its figures.

    Raises:
        InputError: see ``read_description``.
    """
    description = read_description(folder / DESCRIPTION)
    is_limited = "most" in description and needs_training(description["family"])
    return (int(description["most"]), ANOTHER) if is_limited else None


def precision(name: str) -> AbstractContextManager[None]:
    """A block in which a model on a GPU computes in bfloat16 or float16 where torch deems it harmless.

    With float32, and on a CPU, nothing changes.
    """
    if name == "float32":
        return nullcontext()
    import torch

    if not torch.cuda.is_available():
        return nullcontext()
    return torch.autocast("cuda", getattr(torch, name))


def load(folder: Path) -> Detector:
    """The detector that the stage ``detector`` wrote; only its family's libraries are imported.

    Raises:
        InputError: if the description is missing or damaged, or names an unknown family.
    """
    path = folder / DESCRIPTION
    description = read_description(path)
    name = description["family"]
    if name == "whole_image":
        from instar.detectors.whole_image import WholeImage

        return WholeImage()
    if name == "grounding_dino_sam":
        from instar.detectors.grounding_dino import GroundingDinoSam

        return GroundingDinoSam(description)
    if name == "florence2_sam":
        from instar.detectors.florence2 import Florence2Sam

        return Florence2Sam(description)
    if name == "gemini_sam":
        from instar.detectors.gemini import GeminiSam

        return GeminiSam(description)
    if name == "watershed":
        from instar.detectors.watershed import Watershed

        return Watershed(description)
    if name == "yolo":
        from instar.detectors.yolo import Yolo

        return Yolo(folder, description)
    if name == "rfdetr":
        from instar.detectors.rfdetr import RfDetr

        return RfDetr(folder, description)
    if name in ("maskrcnn", "mask2former"):
        segmenter: Detector = family(name).detector(folder, description)
        return segmenter
    raise InputError(f"{path}: family = {name!r} is unknown; run the stage detector again")
