"""What the segmenting detectors share that have no trainer of their own: options, training and prediction.

A family (``maskrcnn``, ``mask2former``) gives a ``Network``; ``segment_tiles`` feeds it, ``segment_fit`` trains it, and
this module answers for it.
"""

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from instar.boxes import clipped_boxes
from instar.detectors import DESCRIPTION, Boxes, Example, Recipe, Training, check_options, class_name, weights_file
from instar.detectors.augment import Augmentation, View
from instar.detectors.segment_fit import Network, Schedule, fit
from instar.detectors.segment_tiles import SPLITS, Item, Tiles, item_of, normalised, write_tiles
from instar.errors import InputError
from instar.files import sha256_of, write_json
from instar.masks import Masks
from instar.photographs import shrunk

WEIGHTS = "model.pth"
T = TypeVar("T")


@dataclass(frozen=True)
class Family:
    """What makes a family's networks.

    Attributes:
        name: of the family.
        licence: of the library and so of the weights.
        build: makes a network from what ``detector.json`` holds below ``network``.
        start: puts a file's weights into a network; the file's name is for messages.
    """

    name: str
    licence: str
    build: Callable[[dict[str, Any]], Network]
    start: Callable[[Network, dict[str, Any], Path], None]


def settings(family: str, kind: Callable[..., T], recipe: Recipe) -> tuple[T, Schedule]:
    """A family's own options and the schedule, from those of a recipe.

    Raises:
        InputError: if one is unknown or of another type.
    """
    kinds: tuple[Any, ...] = (kind, Schedule, Augmentation)
    check_options(recipe.options, " ".join(field.name for one in kinds for field in fields(one)), family)
    own, schedule, _ = (taken(one, recipe.options) for one in kinds)
    return own, schedule


def taken(kind: Callable[..., T], options: dict[str, Any]) -> T:
    """The dataclass with the values of those options that are its own.

    Raises:
        InputError: if a value is of another type.
    """
    own = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in own.keys() & options.keys():
        wanted, value = type(own[name].default), options[name]
        if isinstance(value, bool) != (wanted is bool) or (wanted is int and not isinstance(value, int)):
            raise InputError(f"detector.options.{name} = {value}: it must be of the type {wanted.__name__}")
        if not isinstance(value, (bool, int, float)) or value < 0:
            raise InputError(f"detector.options.{name} = {value}: it must be a number of at least 0")
    return kind(**{name: options[name] for name in own.keys() & options.keys()})


def train(
    examples: Iterable[Example],
    names: list[str],
    recipe: Recipe,
    out: Path,
    work: Path,
    *,
    family: Family,
    told: dict[str, Any],
    schedule: Schedule,
) -> Training:
    """Train a network on the tiles of the split train; the weights with the best mask AP on validation are kept.

    It runs on one GPU or the CPU. A training that was interrupted goes on after its last whole epoch with all of its
    state; every random choice hangs on the seed and the epoch, so on a CPU the weights are those of one that was not.

    Args:
        examples: tiles of both splits with masks; tiles without an animal are welcome.
        names: of the annotated categories.
        recipe: how to train.
        out: an existing folder for the weights and their description.
        work: an existing folder of this very training, for tiles and checkpoints.
        family: of the network.
        told: what makes the network, for ``detector.json``.
        schedule: the rest of how to train.

    Raises:
        InputError: if the weights cannot be had, a tile has no masks, or the loss stops being a number.
    """
    torch.manual_seed(recipe.seed)
    network = family.build(told)
    start = weights_file(recipe.weights)
    if start:
        family.start(network, told, start)
    write_tiles(examples, work / "data", max_px=recipe.image_px)
    tiles = {split: Tiles(work / "data" / split, recipe.image_px, network.mask_px) for split in SPLITS}
    training = fit(network, tiles, recipe, schedule, taken(Augmentation, recipe.options), work)
    best = torch.load(work / "run/best.pth", map_location="cpu", weights_only=True)
    buffer = io.BytesIO()
    torch.save({"model": best}, buffer)
    weights = buffer.getvalue()
    (out / WEIGHTS).write_bytes(weights)
    description = {
        "family": family.name,
        "model": recipe.model,
        "weights": sha256_of(start) if start else None,
        "image_px": recipe.image_px,
        "names": [class_name(names)],
        "network": told,
        "most": network.most,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "licence": family.licence,
    }
    write_json(out / DESCRIPTION, description)
    return training


def finished(
    boxes_xyxy: torch.Tensor, scores: torch.Tensor, masks: Masks, size: tuple[int, int], *, full: bool
) -> Boxes:
    """The answer for one picture: boxes cut at its borders, predictions whose mask has no pixel left out and counted.

    Args:
        boxes_xyxy: float32, shape (n, 4), pixels of the picture.
        scores: float32, shape (n,), falling.
        masks: n of them, in the picture.
        size: height and width of the picture.
        full: see ``Boxes``.
    """
    inside = clipped_boxes(boxes_xyxy.float().cpu().numpy(), size[1], size[0])
    filled = masks.areas() > 0
    empty = len(filled) - int(filled.sum())
    return Boxes(inside, scores.float().cpu().numpy(), full, masks, empty).take(filled)


class Segmenter:
    """A trained detector of one of the families here."""

    tiled = True

    def __init__(self, folder: Path, description: dict[str, Any], family: Family) -> None:
        path = folder / WEIGHTS
        if not path.is_file() or sha256_of(path) != description["sha256"]:
            raise InputError(f"{path}: not the weights that {DESCRIPTION} names; run the stage detector again")
        self.name: str = description["sha256"]
        self._image_px = int(description["image_px"])
        self._network = family.build(description["network"])
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        self._network.module.load_state_dict(state)
        self._network.module.to(self._device).eval()

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """Boxes and masks of each picture, by falling score; see ``Detector.predict``."""
        if not pictures:
            return []
        most = min(max_boxes, self._network.most)
        items = [self._input(n, picture) for n, picture in enumerate(pictures)]
        with torch.inference_mode():
            pixels = normalised(items, self._device)
            return self._network.found(pixels, items, floor=floor, nms_iou=nms_iou, max_boxes=most)

    def _input(self, index: int, picture: np.ndarray) -> Item:
        """As in training, but that masks come out at the size of the picture itself."""
        height, width = picture.shape[:2]
        nothing = View(shrunk(picture, self._image_px), np.zeros((1, 1, 0), np.uint8), np.zeros((0, 4)))
        item = item_of(index, nothing, self._image_px, 1)
        return Item(index, (height, width), item.content, item.pixels, item.boxes_xyxy, item.bitmaps)


def described(recipe: Recipe, kind: Any) -> dict[str, Any]:
    """What makes the network again, for ``detector.json``."""
    return {"model": recipe.model, "image_px": recipe.image_px, **asdict(kind)}
