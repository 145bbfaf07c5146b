"""RF-DETR detectors of Roboflow (Apache-2.0; Robinson et al. 2025). The only module that imports rfdetr."""

import csv
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from instar.boxes import clipped_boxes, non_empty
from instar.detectors import (
    DESCRIPTION,
    FITTING,
    Boxes,
    Example,
    Recipe,
    Training,
    check_options,
    class_name,
    weights_file,
)
from instar.errors import InputError
from instar.files import remove, sha256_of, write_json
from instar.masks import joined_masks
from instar.photographs import jpeg, shrunk

WEIGHTS = "model.pth"
LICENCE = "Apache-2.0"

_QUALITY = 95
_FOLDERS = {"train": "train", "validation": "valid"}

#: Training options that params.yaml may hand on; see ``yolo._OPTIONS``.
_OPTIONS = """lr_encoder grad_accum_steps eval_batch_size ema_decay ema_tau ema_update_interval use_ema smooth_alpha
skip_best_epochs warmup_epochs lr_vit_layer_decay lr_component_decay drop_path cls_loss_coef square_resize_div_64
multi_scale expanded_scales scale_jitter weight_decay best_model_metric early_stopping early_stopping_patience
early_stopping_min_delta early_stopping_use_ema eval_max_dets eval_interval clip_max_norm sync_bn lr_scheduler
lr_scheduler_interval optimizer"""
#: Of a model that segments.
_MASK_OPTIONS = "mask_point_sample_ratio mask_ce_loss_coef mask_dice_loss_coef"

#: Columns of the curve and what rfdetr calls them.
_CURVE = {
    "loss": "train/loss",
    "cls_loss": "train/loss_ce",
    "box_loss": "train/loss_bbox",
    "giou_loss": "train/loss_giou",
    "mAP50": "val/mAP_50",
    "mAP50-95": "val/mAP_50_95",
    "recall": "val/recall",
    "precision": "val/precision",
}
#: Of a model that segments the masks are what counts.
_MASK_CURVE = {
    **_CURVE,
    "mask_ce_loss": "train/loss_mask_ce",
    "mask_dice_loss": "train/loss_mask_dice",
    "box_mAP50": "val/mAP_50",
    "box_mAP50-95": "val/mAP_50_95",
    "mAP50": "val/segm_mAP_50",
    "mAP50-95": "val/segm_mAP_50_95",
}

#: Sides of the input that a photograph may have before it is shrunk: with masks more, since they are made at its size.
_SIDES = {False: 2, True: 4}


def train(examples: Iterable[Example], names: list[str], recipe: Recipe, out: Path, work: Path) -> Training:
    """Train on the photographs of the split train and keep the averaged weights that do best on validation.

    See ``yolo.train``. A class whose name has ``Seg`` learns masks, too. A training that was interrupted goes on after
    its last whole epoch with all of its state. ``plain_epochs`` means nothing here: there is no mosaic.

    Raises:
        InputError: if the model, the weights or an option cannot be had, or masks are needed and missing.
    """
    _prepare()
    _check(recipe)
    start = weights_file(recipe.weights)
    with _told_warnings():
        model = _model(recipe.model, recipe.image_px, _private_copy(start, work) if start else None, recipe.weights)
        segments = _segments(recipe.model)
        _write_dataset(
            examples,
            class_name(names),
            work / "data",
            max_px=_SIDES[segments] * recipe.image_px,
            annotations=_coco_masks if segments else _coco_annotations,
        )
        resumed_after = _resumed_after(work)
        model.train(**_options(recipe, work))
    state, best_epoch = _best(work / "run")
    weights = _bytes({"model": state, "args": {"class_names": [class_name(names)]}})
    (out / WEIGHTS).write_bytes(weights)
    description = {
        "family": "rfdetr",
        "model": recipe.model,
        "weights": sha256_of(start) if start else None,
        "image_px": recipe.image_px,
        "names": [class_name(names)],
        "most": model.model_config.num_queries,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "licence": LICENCE,
    }
    write_json(out / DESCRIPTION, description)
    curve = _curve(work / "run/metrics.csv", _MASK_CURVE if segments else _CURVE)
    epoch = min(best_epoch, len(curve))
    parameters = sum(parameter.numel() for parameter in model.model.model.parameters())
    return Training(curve, epoch, curve[epoch - 1]["mAP50-95"], parameters, resumed_after)


def most(recipe: Recipe) -> tuple[int, str]:
    """See ``Family.most``."""
    _prepare()
    _check(recipe)
    return _config(recipe.model)["num_queries"].default, "name a model that gives more"


def _prepare() -> None:
    """Import rfdetr so that nothing it brings along looks at the network."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with _told_warnings():
        import_module("rfdetr.training")


@contextmanager
def _told_warnings() -> Iterator[None]:
    """The many warnings of Lightning and rfdetr are told and stop nothing, whatever the filters around."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def _check(recipe: Recipe) -> None:
    """Whether rfdetr has the model, the options and the side."""
    from rfdetr import config

    segments = _segments(recipe.model)
    check_options(recipe.options, f"{_OPTIONS} {_MASK_OPTIONS}" if segments else _OPTIONS, "rfdetr")
    try:
        (config.SegmentationTrainConfig if segments else config.TrainConfig)(dataset_dir=None, **recipe.options)
    except ValueError as error:  # pydantic's is one
        raise InputError(f"detector.options: {' '.join(str(error).split())}") from None
    fields = _config(recipe.model)
    block = fields["patch_size"].default * fields["num_windows"].default
    if recipe.image_px % block:
        told = f"{recipe.model} takes multiples of {block}, such as {round(recipe.image_px / block) * block}"
        raise InputError(f"detector.image_px = {recipe.image_px}: {told}")


def _config(model: str) -> Any:
    """The fields of a model's configuration, with their defaults."""
    from rfdetr import config

    return getattr(config, f"{_class(model).__name__}Config").model_fields


def _segments(model: str) -> bool:
    """Whether a model finds masks, by its name."""
    return model.startswith("RFDETRSeg")


def _class(name: str) -> Any:
    """The class of a model."""
    import rfdetr

    known = [f"RFDETR{kind}{size}" for kind in ("", "Seg") for size in ("Nano", "Small", "Medium", "Large")]
    if name not in known:
        raise InputError(f"detector.model = {name}: rfdetr has no such model; it has {', '.join(known)}")
    return getattr(rfdetr, name)


def _model(name: str, image_px: int, start: Path | None = None, told: str = "") -> Any:
    """A model of one class, with random weights or those of a file.

    Args:
        name: of the class.
        image_px: side of its input.
        start: the file, which rfdetr is to load.
        told: the file's name for messages.

    Raises:
        InputError: if the file holds no weights, or those of another model.
    """
    from rfdetr.config import PretrainWeightsCompatibilityWarning

    with _told_warnings():
        warnings.simplefilter("ignore", PretrainWeightsCompatibilityWarning)  # that random weights are worse
        if start is None:
            return _class(name)(pretrain_weights=None, num_classes=1, resolution=image_px)
        try:
            model = _class(name)(pretrain_weights=str(start), num_classes=1, resolution=image_px)
            fitting = _fitting(start, model)
        except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
            raise InputError(f"detector.weights = {told}: no weights of {name}, or damaged; fetch it again") from None
    if fitting < FITTING:
        wrong = f"fits {fitting:.0%} of detector.model = {name}; name the model that the weights are of"
        raise InputError(f"detector.weights = {told}: {wrong}")
    return model


def _fitting(start: Path, model: Any) -> float:
    """The share of the model's tensors that the file has; rfdetr only warns where some are missing."""
    from rfdetr.utilities.io import _safe_torch_load

    given = _safe_torch_load(start)
    names = given["model"] if "model" in given else [name.removeprefix("model.") for name in given["state_dict"]]
    wanted = model.model.model.state_dict()
    return len(set(wanted) & set(names)) / len(wanted)


def _private_copy(start: Path, work: Path) -> Path:
    """The weights under a name of ours: a file by a published name is fetched anew where rfdetr finds it changed."""
    return Path(shutil.copyfile(start, work / "start.pth"))


def _write_dataset(
    examples: Iterable[Example],
    name: str,
    root: Path,
    *,
    max_px: int,
    annotations: Callable[[Example, np.ndarray], list[dict[str, Any]]],
) -> None:
    """The photographs in Roboflow's layout: ``<split>/<name>.jpg`` and ``<split>/_annotations.coco.json``."""
    remove(root)
    images: dict[str, list[dict[str, Any]]] = {split: [] for split in _FOLDERS}
    boxes: dict[str, list[dict[str, Any]]] = {split: [] for split in _FOLDERS}
    for folder in _FOLDERS.values():
        (root / folder).mkdir(parents=True)
    for example in examples:
        split = example.split
        picture = shrunk(example.picture, max_px)
        (root / _FOLDERS[split] / f"{example.name}.jpg").write_bytes(jpeg(picture, _QUALITY))
        image_id = len(images[split]) + 1
        size = {"width": picture.shape[1], "height": picture.shape[0]}
        images[split].append({"id": image_id, "file_name": f"{example.name}.jpg", **size})
        for one in annotations(example, picture):
            more = {"image_id": image_id, "category_id": 0, "iscrowd": 0}
            boxes[split].append({"id": len(boxes[split]) + 1, **more, **one})
    for split, folder in _FOLDERS.items():
        categories = [{"id": 0, "name": name, "supercategory": "none"}]
        coco = {"images": images[split], "annotations": boxes[split], "categories": categories}
        write_json(root / folder / "_annotations.coco.json", coco)


def _coco_boxes(example: Example, picture: np.ndarray) -> list[list[float]]:
    """The boxes ``x, y, width, height`` in pixels of the shrunken picture, cut at its borders."""
    scale = np.tile(np.array(picture.shape[1::-1]) / np.array(example.picture.shape[1::-1]), 2)
    inside = clipped_boxes(example.boxes_xyxy * scale, picture.shape[1], picture.shape[0])
    inside = inside[non_empty(inside)].astype(np.float64)
    return np.concatenate([inside[:, :2], inside[:, 2:] - inside[:, :2]], axis=1).tolist()


def _coco_annotations(example: Example, picture: np.ndarray) -> list[dict[str, Any]]:
    """Box and area of each animal."""
    return [{"bbox": bbox, "area": bbox[2] * bbox[3]} for bbox in _coco_boxes(example, picture)]


def _coco_masks(example: Example, picture: np.ndarray) -> list[dict[str, Any]]:
    """Box, area and RLE of each animal, in pixels of the shrunken picture.

    Raises:
        InputError: if the example has boxes only.
    """
    if example.masks is None:
        raise InputError(
            f"annotations of {example.name}: boxes without masks; a model with Seg needs masks, so annotate them or "
            "take one without Seg"
        )
    height, width = picture.shape[:2]
    masks = example.masks.resized(example.picture.shape[:2], (height, width))
    masks = masks.take(masks.areas() > 0)
    corners = masks.boxes().astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    rows = zip(boxes, masks.areas().tolist(), masks.rle(height, width), strict=True)
    return [
        {"bbox": box, "area": area, "segmentation": {"size": [height, width], "counts": counts.decode("ascii")}}
        for box, area, counts in rows
    ]


def _options(recipe: Recipe, work: Path) -> dict[str, Any]:
    """What rfdetr's ``train`` is given; those of the recipe come last."""
    import torch

    gpus = torch.cuda.device_count()
    last = work / "run/last.ckpt"
    return {
        "dataset_file": "roboflow",
        "dataset_dir": str(work / "data"),
        "output_dir": str(work / "run"),
        "resume": str(last) if last.is_file() else None,
        "epochs": recipe.epochs,
        "checkpoint_interval": recipe.epochs + 1,  # the last epoch's only, which is written after each
        "batch_size": recipe.batch if gpus < 2 else max(1, recipe.batch // gpus),
        "lr": recipe.learning_rate,
        "lr_encoder": 1.5 * recipe.learning_rate,  # as far from the rest as rfdetr's own two
        "num_workers": recipe.workers,
        "seed": recipe.seed,
        "amp_dtype": "auto",  # bf16 where the GPUs have it
        "accelerator": "gpu" if gpus else "cpu",
        "devices": max(1, gpus),
        "strategy": "ddp_spawn" if gpus > 1 else "auto",  # "ddp" would run this whole stage once for each GPU
        "augmentation_backend": "torchvision",
        "tensorboard": False,
        "progress_bar": None,
        **recipe.options,
    }


def _resumed_after(work: Path) -> list[int]:
    """Epochs after which this training was gone on with, this time included; kept in a file beside its state."""
    import torch

    last, path = work / "run/last.ckpt", work / "resumed.json"
    if not last.is_file():
        remove(work / "run")
        remove(path)
        return []
    epochs: list[int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    # a checkpoint of our own making, which holds more than tensors
    epochs.append(int(torch.load(last, map_location="cpu", mmap=True, weights_only=False)["epoch"]) + 1)
    write_json(path, epochs)
    print(f"going on after epoch {epochs[-1]} of an interrupted training", file=sys.stderr, flush=True)
    return epochs


def _best(run: Path) -> tuple[dict[str, Any], int]:
    """The weights that rfdetr chose and their epoch, from 1; one more than all where no epoch was better than none."""
    import torch

    total = torch.load(run / "checkpoint_best_total.pth", map_location="cpu", weights_only=False)
    source = run / f"checkpoint_best_{total['best_total_source']}.pth"
    epoch = torch.load(source, map_location="cpu", mmap=True, weights_only=False)["epoch"]
    return total["model"], int(epoch) + 1


def _bytes(content: dict[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _curve(path: Path, columns: dict[str, str]) -> list[dict[str, float]]:
    """Losses and figures of every epoch.

    Rfdetr writes them in several rows, and again where it was interrupted; losses of the epoch before that are lost.
    """
    found: dict[int, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {name: float(row[column]) for name, column in columns.items() if row.get(column)}
            epoch = int(row["epoch"]) + 1
            found.setdefault(epoch, {"epoch": epoch}).update(values)
    return [{name: row[name] for name in ("epoch", *columns) if name in row} for _, row in sorted(found.items())]


class RfDetr:
    """A trained RF-DETR."""

    tiled = True

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        _prepare()
        import torch

        path = folder / WEIGHTS
        if not path.is_file() or sha256_of(path) != description["sha256"]:
            raise InputError(f"{path}: not the weights that {DESCRIPTION} names; run the stage detector again")
        self.name: str = description["sha256"]
        self._image_px: int = description["image_px"]
        self._sides = _SIDES[_segments(description["model"])]
        with _told_warnings():
            self._model = _model(description["model"], self._image_px)
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        self._model.model.model.load_state_dict(state)
        self._most: int = self._model.model_config.num_queries
        # rfdetr takes the best of both classes together, where "nothing" would push animals out
        self._model.model.postprocess.num_select = 2 * self._most

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """Boxes of each picture, by falling score; see ``Detector.predict``."""
        import torch

        if not pictures:
            return []
        # as the photographs of training; copies, since torch wants arrays that it could write to
        small = [np.array(shrunk(picture, self._sides * self._image_px)) for picture in pictures]
        with torch.inference_mode():
            found = self._model.predict(small, threshold=floor, include_source_image=False)
        answers = zip(found, small, pictures, strict=True)
        return [_boxes(*answer, nms_iou=nms_iou, max_boxes=max_boxes, most=self._most) for answer in answers]


def _boxes(found: Any, small: np.ndarray, picture: np.ndarray, *, nms_iou: float, max_boxes: int, most: int) -> Boxes:
    """Boxes of the one class, in pixels of the picture; DETRs make few doubles, and those fall to the same NMS."""
    import torch
    from torchvision.ops import nms

    from instar.detectors.paste import masks_of

    animals = found.class_id == 0  # the other one is "nothing"
    boxes, scores = torch.from_numpy(found.xyxy[animals]), torch.from_numpy(found.confidence[animals])
    kept = nms(boxes, scores, nms_iou)[:max_boxes].numpy()
    scale = np.tile(np.array(picture.shape[1::-1], np.float64) / np.array(small.shape[1::-1], np.float64), 2)
    inside = clipped_boxes(boxes.numpy()[kept] * scale, picture.shape[1], picture.shape[0])
    answer = Boxes(inside, scores.numpy()[kept].astype(np.float32), full=len(scores) >= most)
    if found.mask is None:
        return answer
    chosen = np.flatnonzero(animals)[kept]
    # in pieces: a tensor of steps between pixels is worked out for each
    parts = [masks_of(torch.from_numpy(found.mask[piece])) for piece in np.array_split(chosen, len(chosen) // 32 + 1)]
    masks = joined_masks(parts).resized(small.shape[:2], picture.shape[:2])
    filled = masks.areas() > 0
    return replace(answer, masks=masks, empty=len(filled) - int(filled.sum())).take(filled)
