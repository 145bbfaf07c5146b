"""What the detectors that need no training share: their options, the folders of published models, boxes made masks.

A published model is a folder as the hub has it (``model.safetensors``, its configuration and its processor beside it),
fetched once by hand; nothing here asks the network for one.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instar.boxes import box_areas, clipped_boxes, non_empty, order_by_score
from instar.detectors import RANDOM, Boxes, Recipe, check_options
from instar.errors import InputError
from instar.files import sha256_of

#: What of a hub's folder decides the answers; it also holds a page about the model and a cache with times.
_PARTS = (".json", ".txt", ".safetensors")


@dataclass(frozen=True)
class Number:
    """An option that is a number, from ``low`` to ``high``, both included."""

    low: float
    high: float
    whole: bool = False

    def refusal(self, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        good = isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)
        if good and self.low <= value <= self.high:
            return None
        return f"it must be a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Text:
    """An option that is a text, not empty."""

    def refusal(self, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        return None if isinstance(value, str) and value.strip() else "it must be a text"


@dataclass(frozen=True)
class Score:
    """The option that says what a box is given by a model that tells no confidence."""

    def refusal(self, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        wrong = value != SAM_IOU and Number(0, 1).refusal(value)
        return f"{wrong}, or {SAM_IOU}" if wrong else None


SAM_LICENCE = "Apache-2.0 (SAM 2.1)"

#: As the option ``score``: the IoU of its mask that SAM predicts.
SAM_IOU = "sam_iou"

Kind = Number | Text | Score


def checked(options: Mapping[str, Any], kinds: Mapping[str, Kind], family: str) -> dict[str, Any]:
    """The options of a family that needs no training, every one given and in range.

    Raises:
        InputError: if one is unknown, missing or out of range.
    """
    check_options(dict(options), " ".join(kinds), family)
    for name, kind in kinds.items():
        if name not in options:
            raise InputError(f"detector.options.{name}: {family} needs it; take it from workflow/conf/detector")
        if wrong := kind.refusal(options[name]):
            raise InputError(f"detector.options.{name} = {options[name]} is not allowed; {wrong}")
    return {name: options[name] for name in kinds}


def model_folder(key: str, folder: str, hub_name: str) -> dict[str, str]:
    """A published model's folder for a description: where it lies and the sha256 of all that decides its answers.

    Args:
        key: of params.yaml, for messages.
        folder: as the hub has it.
        hub_name: what the hub calls the model.

    Raises:
        InputError: if it is no folder, or the weights or the configuration in it are missing.
    """
    path = Path(folder)
    fetch = f"fetch the published model: hf download {hub_name} --local-dir {folder}"
    if path.name == RANDOM:
        raise InputError(f"{key} = {folder}: random weights find nothing without training; name the model's folder")
    if not path.is_dir():
        raise InputError(f"{key} = {folder}: no such folder; {fetch}")
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise InputError(f"{key} = {folder}: no {name} in it; {fetch}")
    return {"model": hub_name, "folder": folder, "sha256": _folder_sha256(path)}


def _folder_sha256(folder: Path) -> str:
    parts = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _PARTS)
    told = "".join(f"{path.name}\0{sha256_of(path)}\n" for path in parts)
    return hashlib.sha256(told.encode()).hexdigest()


def described(family: str, recipe: Recipe, models: dict[str, dict[str, str]], **more: Any) -> dict[str, Any]:
    """What detector.json says of a detector that needs no training.

    Its ``name``, by which detections call it, is its family and what tells it from others of the family.

    Args:
        family: its name.
        recipe: whose ``image_px`` is told.
        models: as ``model_folder`` gives them, by what each is for.
        more: the licence, the options and other facts.
    """
    facts = {"family": family, "image_px": recipe.image_px, "models": models, **more}
    sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return {**facts, "name": f"{family}-{sha256[:16]}"}


def described_with_sam(
    family: str, recipe: Recipe, kinds: Mapping[str, Kind], licence: str, **more: Any
) -> dict[str, Any]:
    """What detector.json says of a published model that finds boxes, in the folder ``weights``, and of SAM behind it.

    Args:
        family: its name.
        recipe: ``model`` is the hub's name of the model, the option ``sam_model`` that of SAM 2.1 in ``sam``.
        kinds: of the family's options.
        licence: of the model.
        more: other facts.

    Raises:
        InputError: if an option is wrong or a model is missing.
    """
    options = checked(recipe.options, kinds, family)
    models = {"boxes": model_folder("detector.weights", recipe.weights, recipe.model), "sam": sam_folder(recipe)}
    return described(family, recipe, models, licence=f"{licence}, {SAM_LICENCE}", options=options, **more)


def sam_folder(recipe: Recipe) -> dict[str, str]:
    """The folder of SAM 2.1, see ``model_folder``."""
    return model_folder("detector.sam", recipe.sam, recipe.options["sam_model"])


def folder_of(description: Mapping[str, Any], model: str) -> Path:
    """The folder of one of the models of a description, unchanged since the description was written.

    Raises:
        InputError: if it is missing or has changed.
    """
    told = description["models"][model]
    folder = Path(told["folder"])
    if not folder.is_dir():
        fetch = f"hf download {told['model']} --local-dir {folder}"
        raise InputError(f"{folder}: no such folder, where the detector's {model} lies; {fetch}")
    if _folder_sha256(folder) != told["sha256"]:
        raise InputError(f"{folder}: is another model than when the stage detector ran; run it again")
    return folder


@dataclass(frozen=True)
class Prompts:
    """What a model that finds boxes says of one picture.

    Attributes:
        boxes_xyxy: float, shape (n, 4), pixels of the picture, max exclusive; anything at all may stand in it.
        scores: float, shape (n,); None where the model tells no confidence.
        full: whether the model could say no more.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray | None
    full: bool = False


class BoxPrompted:
    """A detector whose boxes prompt SAM for masks; a family has ``_prompts``.

    Attributes:
        counts: what was left out so far, by reason.
    """

    tiled = True

    def __init__(self, description: dict[str, Any]) -> None:
        from instar.detectors.sam import Sam

        self.name: str = description["name"]
        self.options: dict[str, Any] = description["options"]
        self.image_px: int = description["image_px"]
        self.counts: Counter[str] = Counter()
        self._sam = Sam(folder_of(description, "sam"))

    def _prompts(self, pictures: list[np.ndarray], floor: float) -> list[Prompts]:
        """What is found in each picture; boxes below ``floor`` may be left out."""
        raise NotImplementedError

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """Boxes of each picture with their masks; a box is the one around its mask, where that is not empty.

        See ``Detector.predict``.
        """
        found = self._prompts(pictures, floor) if pictures else []
        return [
            self._masked(picture, prompts, floor, nms_iou, max_boxes)
            for picture, prompts in zip(pictures, found, strict=True)
        ]

    def _masked(self, picture: np.ndarray, prompts: Prompts, floor: float, nms_iou: float, max_boxes: int) -> Boxes:
        height, width = picture.shape[:2]
        constant = self.options.get("score", SAM_IOU)
        scores = prompts.scores
        if scores is None:
            scores = np.full(len(prompts.boxes_xyxy), 1.0 if constant == SAM_IOU else constant)
        kept, dropped = tidy(
            prompts.boxes_xyxy,
            scores,
            width=width,
            height=height,
            floor=floor,
            nms_iou=nms_iou,
            max_boxes=max_boxes,
            largest_share=self.options["largest_share"],
        )
        self.counts += dropped
        boxes = clipped_boxes(prompts.boxes_xyxy[kept], width, height)
        masks, ious = self._sam.masks(picture, boxes)
        scores = ious if prompts.scores is None and constant == SAM_IOU else scores[kept].astype(np.float32)
        good = (masks.areas() > 0) & (scores >= floor)
        self.counts["mask empty or its score below the floor"] += int((~good).sum())
        masks, scores = masks.take(good), scores[good]
        boxes = masks.boxes()
        full = prompts.full or len(kept) >= max_boxes
        return Boxes(boxes, scores, full, masks).take(order_by_score(boxes, scores))


def tidy(
    boxes_xyxy: np.ndarray,
    scores: np.ndarray,
    *,
    width: int,
    height: int,
    floor: float,
    nms_iou: float,
    max_boxes: int,
    largest_share: float,
) -> tuple[np.ndarray, Counter[str]]:
    """Which boxes are worth a mask, and how many are not, by reason.

    Args:
        boxes_xyxy: float, shape (n, 4), pixels of the picture; may reach outside, be empty, or hold NaN.
        scores: float, shape (n,).
        width: of the picture, pixels.
        height: likewise.
        floor: boxes with a lower score are left out.
        nms_iou: of two boxes that overlap more, the better stays; of equal ones the first.
        max_boxes: the best so many.
        largest_share: a box over more of the picture is no animal.

    Returns:
        int64, shape (k,), by falling score, equal ones in the order given; and the counts.
    """
    dropped: Counter[str] = Counter()
    order = np.argsort(-scores, kind="stable")
    inside = clipped_boxes(np.asarray(boxes_xyxy, np.float64).reshape(-1, 4), width, height)

    def without(good: np.ndarray, reason: str) -> None:
        nonlocal order
        if not good.all():
            dropped[reason] += int((~good).sum())
        order = order[good]

    without(non_empty(inside[order]), "box empty or outside the picture")
    without(box_areas(inside[order]) <= largest_share * width * height, "box over too much of the picture")
    without(scores[order] >= floor, "score below the floor")
    without(_unsuppressed(inside[order], scores[order], nms_iou), "overlaps a better box")
    without(np.arange(len(order)) < max_boxes, "more than max_boxes")
    return order, dropped


def _unsuppressed(boxes_xyxy: np.ndarray, scores: np.ndarray, nms_iou: float) -> np.ndarray:
    """Which boxes non-maximum suppression keeps, by falling score: bool, shape (n,)."""
    import torch
    from torchvision.ops import nms

    kept = np.zeros(len(scores), bool)
    boxes, given = (torch.from_numpy(np.asarray(array, np.float64)) for array in (boxes_xyxy, scores))
    kept[nms(boxes, given, nms_iou).numpy()] = True
    return kept
