"""YOLO detectors of ultralytics (AGPL-3.0). The only module that imports ultralytics, and the one that tames it."""

import atexit
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instar.boxes import clipped_boxes
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
from instar.detectors.checkpoints import Checkpoints
from instar.errors import InputError
from instar.files import remove, sha256_of, write_json
from instar.masks import Masks, joined_masks, no_masks
from instar.photographs import jpeg, shrunk

WEIGHTS = "model.pt"
LICENCE = "AGPL-3.0: weights trained with ultralytics, and programs that use them, fall under it"

#: Of the photographs that training reads; high, since it adds to the compression that they have already.
_QUALITY = 95
_FILES = (("images", "jpg"), ("labels", "txt"))

#: Training options that params.yaml may hand on. The others are keys of their own there, or would change what is
#: trained on, where files go, or what the figures mean.
_OPTIONS = """patience optimizer lrf momentum weight_decay warmup_epochs warmup_momentum warmup_bias_lr cos_lr nbs
freeze multi_scale rect cache compile channels_last deterministic box cls cls_pw dfl iou max_det hsv_h hsv_s hsv_v
degrees translate scale shear perspective flipud fliplr bgr mosaic mixup cutmix"""
#: Of a model that segments.
_MASK_OPTIONS = "mask_ratio overlap_mask copy_paste"
#: Boxes of a picture that ultralytics judges on validation if not told otherwise.
_MAX_DET = 300
#: Pixels of masks that are worked out at a time, for one picture.
_MASK_PIXELS = 2**24

#: What ultralytics and torch raise over a file that holds no weights; the last one where its name ends wrong.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ImportError, AttributeError, KeyError, TypeError),
    *(pickle.UnpicklingError, AssertionError),
)


def train(examples: Iterable[Example], names: list[str], recipe: Recipe, out: Path, work: Path) -> Training:
    """Train on the photographs of the split train and keep the weights that do best on validation.

    All animals are one class: the detector says where they are, the classifier which. A model whose name has ``-seg``
    learns masks, too: as polygons, so holes in them are filled and parts joined by a thin bridge; its best epoch is
    the one with the highest sum of ultralytics' fitness of boxes and of masks. On several GPUs a batch is
    shared between them. A training that was interrupted goes on after its last whole epoch: from the averaged weights
    and the optimizer's state, both rounded to 16 bits by ultralytics, so not bit for bit as without interruption.

    Args:
        examples: photographs of both splits; at least one animal in each.
        names: of the annotated categories.
        recipe: how to train.
        out: an existing folder for the weights and their description.
        work: an existing folder of this very training, for photographs and checkpoints.

    Raises:
        InputError: if the model, the weights or an option cannot be had, or masks are needed and missing.
    """
    _prepare()
    _check(recipe)
    lines = polygon_lines if _segments(recipe.model) else yolo_lines
    data = _write_dataset(examples, class_name(names), work / "data", max_px=2 * recipe.image_px, lines=lines)
    training, best = _train(data, recipe, work)
    weights, training.parameters = _stripped(best, recipe.image_px)
    start = weights_file(recipe.weights)
    (out / WEIGHTS).write_bytes(weights)
    description = {
        "family": "yolo",
        "model": recipe.model,
        "weights": sha256_of(start) if start else None,
        "image_px": recipe.image_px,
        "names": [class_name(names)],
        "sha256": hashlib.sha256(weights).hexdigest(),
        "licence": LICENCE,
    }
    write_json(out / DESCRIPTION, description)
    return training


def most(recipe: Recipe) -> tuple[int, str]:
    """See ``Family.most``.

    The model has no limit, and the stage ``detections`` has its own; one that is given as an option is ultralytics' on
    validation.
    """
    _prepare()
    _check(recipe)
    return recipe.options.get("max_det", sys.maxsize), "raise detector.options.max_det"


def _prepare() -> None:
    """Import ultralytics so that it neither talks to the network nor leaves files behind."""
    import torch

    # ultralytics sets OMP_NUM_THREADS=1 at import, which torch reads when it first counts
    torch.get_num_threads()
    if "ultralytics" in sys.modules:
        return
    folder = Path(tempfile.mkdtemp(prefix="instar-ultralytics-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    os.environ.update(environment, YOLO_CONFIG_DIR=str(folder))
    open_image = Image.open
    import matplotlib
    import ultralytics.utils.patches
    from ultralytics.utils import SETTINGS, USER_CONFIG_DIR

    # ultralytics' own Image.open meets a file that is no image by installing a package
    assert Image.open is ultralytics.utils.patches.image_open
    Image.open = open_image

    # training asks the network for this font even where it draws nothing
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    shutil.copy(fonts / "DejaVuSans.ttf", USER_CONFIG_DIR / "Arial.ttf")
    shutil.copy(fonts / "DejaVuSans.ttf", USER_CONFIG_DIR / "Arial.Unicode.ttf")
    loggers = ["clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb"]
    SETTINGS.update(dict.fromkeys(["sync", *loggers], False))


def _segments(model: str) -> bool:
    """Whether a model finds masks, by its name."""
    return "-seg" in model


def _check(recipe: Recipe) -> None:
    """Whether ultralytics has the model and the options, and the weights are the model's."""
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel, yaml_model_load
    from ultralytics.utils.torch_utils import intersect_dicts

    segments = _segments(recipe.model)
    check_options(recipe.options, f"{_OPTIONS} {_MASK_OPTIONS}" if segments else _OPTIONS, "ultralytics")
    try:
        get_cfg(overrides=dict(recipe.options))
    except (TypeError, ValueError) as error:
        raise InputError(f"detector.options: {' '.join(str(error).split())}") from None
    try:
        yaml_model_load(recipe.model)
    except (FileNotFoundError, AssertionError):  # the latter for another ending
        raise InputError(
            f"detector.model = {recipe.model}: ultralytics has no such model; one is yolo11n.yaml"
        ) from None
    if weights := weights_file(recipe.weights):
        model = (SegmentationModel if segments else DetectionModel)(recipe.model, nc=1, verbose=False)
        head = f"model.{len(model.model) - 1}."  # its size depends on the number of classes
        wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(head)}
        fitting = len(intersect_dicts(_state(weights), wanted)) / len(wanted)
        if fitting < FITTING:
            told = f"fits {fitting:.0%} of detector.model = {recipe.model}; name the model that the weights are of"
            raise InputError(f"detector.weights = {weights}: {told}")


def _state(weights: Path) -> dict[str, Any]:
    """The tensors of a weights file."""
    from ultralytics.nn.tasks import load_checkpoint

    try:
        state: dict[str, Any] = load_checkpoint(weights)[0].state_dict()
    except _UNREADABLE:
        raise InputError(
            f"detector.weights = {weights}: no weights of ultralytics, or damaged; fetch it again"
        ) from None
    return state


def _write_dataset(
    examples: Iterable[Example], name: str, root: Path, *, max_px: int, lines: Callable[[Example], list[str]]
) -> Path:
    """The photographs in ultralytics' layout: ``images/<split>/<name>.jpg``, ``labels/<split>/<name>.txt``, a yaml."""
    remove(root)
    for example in examples:
        image, label = (root / kind / example.split / f"{example.name}.{end}" for kind, end in _FILES)
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(jpeg(shrunk(example.picture, max_px), _QUALITY))
        label.write_text("".join(f"{line}\n" for line in lines(example)))
    data = root / "data.yaml"
    write_json(data, {"path": str(root), "train": "images/train", "val": "images/validation", "names": {0: name}})
    return data


def yolo_lines(example: Example) -> list[str]:
    """A label file's lines ``0 x_centre y_centre width height``, as shares of the picture's sides."""
    size = np.array(example.picture.shape[1::-1], np.float64)
    low = np.clip(example.boxes_xyxy[:, :2] / size, 0, 1)
    high = np.clip(example.boxes_xyxy[:, 2:] / size, 0, 1)
    rows = np.concatenate([(low + high) / 2, high - low], axis=1)
    return ["0 " + " ".join(f"{number:.8f}" for number in row) for row in rows if (row[2:] > 0).all()]


def polygon_lines(example: Example) -> list[str]:
    """A label file's lines ``0 x1 y1 x2 y2 …``, the outline of each animal as shares of the picture's sides.

    An outline runs along the pixels' outer edges, so that the box around it is the mask's.

    Raises:
        InputError: if the example has boxes only.
    """
    if example.masks is None:
        raise InputError(
            f"annotations of {example.name}: boxes without masks; a model with -seg needs masks, so annotate them or "
            "take one without -seg"
        )
    height, width = example.picture.shape[:2]
    masks = example.masks.clipped(0, 0, width, height)
    outlines = [outline(masks, int(n)) / (width, height) for n in np.flatnonzero(masks.areas())]
    return ["0 " + " ".join(f"{number:.8f}" for number in one.ravel()) for one in outlines]


def outline(masks: Masks, index: int) -> np.ndarray:
    """The outer edge of one mask that is not empty, its parts joined by a bridge: float64, shape (k, 2), pixels."""
    import cv2

    left, top, right, bottom = (int(edge) for edge in masks.boxes()[index])
    twice = masks.bitmap(index, (left, top, right, bottom)).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # a contour runs through pixels' centres: of the two halves of a pixel the first stands for its near edge, the
    # second for its far one
    parts = [(part[:, 0, :].astype(np.int64) + 1) // 2 for part in found]
    if len(parts) > 1:
        _prepare()
        from ultralytics.data.converter import merge_multi_segment

        parts = [np.concatenate(merge_multi_segment(parts))]
    return np.asarray(parts[0] + np.array([left, top]), np.float64)


def _train(data: Path, recipe: Recipe, work: Path) -> tuple[Training, Path]:
    """What came of it, and the checkpoint of the best epoch."""
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.models.yolo.segment import SegmentationTrainer
    from ultralytics.utils.torch_utils import unset_deterministic

    run, checkpoints = work / "run", Checkpoints(work / "checkpoints")
    remove(run)
    overrides = _overrides(data, recipe, run)
    training = Training()
    if found := checkpoints.latest():
        training, folder = found
        shutil.copytree(folder, run / "weights")
        overrides["resume"] = str(run / "weights/last.pt")
        training.resumed_after.append(len(training.curve))
        print(f"going on after epoch {len(training.curve)} of an interrupted training", file=sys.stderr, flush=True)
    follower = _Follower(training, checkpoints, recipe.epochs, work / "training.json")
    threads = torch.get_num_threads()
    trainer = (SegmentationTrainer if _segments(recipe.model) else DetectionTrainer)(overrides=overrides)
    torch.set_num_threads(threads)  # the trainer has just left one core idle: half of a small machine
    trainer.add_callback("on_fit_epoch_end", follower)
    try:
        trainer.train()
    except NotImplementedError as error:  # an unknown optimizer
        raise InputError(f"detector.options: {' '.join(str(error).split())}") from None
    finally:
        unset_deterministic()
        torch.set_num_threads(threads)
    return follower.written(), trainer.best


def _overrides(data: Path, recipe: Recipe, run: Path) -> dict[str, Any]:
    """Ultralytics' options; those of the recipe come last."""
    import torch

    gpus = min(torch.cuda.device_count(), recipe.batch)
    start = weights_file(recipe.weights)
    return {
        "model": recipe.model,
        "pretrained": str(start) if start else False,
        "data": str(data),
        "save_dir": str(run),
        "imgsz": recipe.image_px,
        "epochs": recipe.epochs,
        "patience": 0,
        "batch": recipe.batch,
        "nbs": recipe.batch,  # a step is one batch; the default gathers 64 photographs, few steps for few photographs
        "optimizer": "AdamW",
        "lr0": recipe.learning_rate,
        "warmup_bias_lr": 0.0,  # the default 0.1 is meant for SGD
        "close_mosaic": recipe.plain_epochs,
        # else ultralytics takes others where albumentations is installed, and the detector depends on that
        "augmentations": [],
        "workers": recipe.workers,
        "seed": recipe.seed,
        "deterministic": True,
        # "bf16" alone needs neither a scaler nor a check that fetches another model
        "amp": "bf16" if gpus and torch.cuda.is_bf16_supported() else False,
        "device": ",".join(map(str, range(gpus))) if gpus else "cpu",
        "plots": False,
        "verbose": False,
        "max_det": max(_MAX_DET, 1 + _densest(data.parent / "labels/validation")),
        **recipe.options,
    }


def _densest(labels: Path) -> int:
    """Animals of the picture that has most."""
    return max((len(path.read_text().splitlines()) for path in labels.glob("*.txt")), default=0)


class _Follower:
    """What ultralytics calls after each epoch, and once more after the last.

    On several GPUs that happens in another process, to which this object is sent; so what it notes goes to a file.
    """

    def __init__(self, training: Training, checkpoints: Checkpoints, epochs: int, path: Path) -> None:
        self._training, self._checkpoints, self._epochs, self._path = training, checkpoints, epochs, path
        self._start, self._before, self._finished = time.time(), len(training.curve), False

    def __call__(self, trainer: Any) -> None:
        if self._finished or int(os.environ.get("RANK", -1)) > 0:
            return
        self._finished = trainer.stop
        training, epoch = self._training, trainer.epoch + 1
        row = _curve_row(epoch, trainer)
        training.curve.append(row)
        if trainer.fitness >= training.best:  # ultralytics overwrites its best weights with equally good later ones
            training.best, training.best_epoch = float(trainer.fitness), epoch
        write_json(self._path, vars(training))
        if not self._finished:
            self._checkpoints.save(training, [trainer.last, trainer.best])
        left = (time.time() - self._start) / (epoch - self._before) * (self._epochs - epoch)
        losses = ", ".join(f"{name} {row[name]:.3f}" for name in ("box_loss", "cls_loss", "dfl_loss") if name in row)
        figures = f"mAP50 {row['mAP50']:.3f}, mAP50-95 {row['mAP50-95']:.3f}, recall {row['recall']:.3f}"
        print(f"epoch {epoch}/{self._epochs}: {losses}, {figures}, {left:.0f} s left", file=sys.stderr, flush=True)

    def written(self) -> Training:
        """What it noted, wherever it was called."""
        return Training(**json.loads(self._path.read_text(encoding="utf-8")))


def _curve_row(epoch: int, trainer: Any) -> dict[str, float]:
    metrics = trainer.metrics
    losses = {name: float(loss) for name, loss in trainer.tloss.items()}
    validation = {
        f"validation_{name.removeprefix('val/')}": float(loss)
        for name, loss in metrics.items()
        if name.startswith("val/")
    }
    names = ("mAP50", "mAP50-95", "recall", "precision")
    figures = {name: float(metrics[f"metrics/{name}(B)"]) for name in names}
    if "metrics/mAP50(M)" in metrics:  # of a model that segments the masks are what counts
        figures = {f"box_{name}": figures[name] for name in names}
        figures |= {name: float(metrics[f"metrics/{name}(M)"]) for name in names}
    return {"epoch": epoch, **losses, **validation, **figures}


def _stripped(path: Path, image_px: int) -> tuple[bytes, int]:
    """A checkpoint without optimizer, dates, paths and curves, so that equal training gives equal bytes.

    Returns:
        The file's bytes, and how many parameters the model has.
    """
    import torch
    import ultralytics
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(path)
    model.half()
    for parameter in model.parameters():
        parameter.requires_grad = False
    # the model's own string would be pickled as a reference: other bytes for equal weights
    task = "segment" if model.task == "segment" else "detect"
    arguments = {"task": task, "imgsz": image_px, "single_cls": False}
    model.args, model.criterion = arguments, None
    del model.pt_path
    checkpoint = {
        "model": model,
        "train_args": arguments,
        "version": ultralytics.__version__,
        "license": LICENCE,
        "epoch": -1,
    }
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue(), sum(parameter.numel() for parameter in model.parameters())


class Yolo:
    """A trained YOLO."""

    tiled = True

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        _prepare()
        import torch
        from ultralytics.nn.tasks import load_checkpoint

        path = folder / WEIGHTS
        if not path.is_file() or sha256_of(path) != description["sha256"]:
            raise InputError(f"{path}: not the weights that {DESCRIPTION} names; run the stage detector again")
        self.name: str = description["sha256"]
        self._image_px: int = description["image_px"]
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_checkpoint(path, device=self._device, fuse=True)[0]
        if self._model.task == "segment":
            # where torchvision is imported, ultralytics takes its NMS, 15 times as fast; boxes of equal score come in
            # another order then, so a model without masks is left as it was
            import torchvision  # noqa: F401
        self._pixels: Any = None
        self._squares: Any = None

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """Boxes of each picture, by falling score; see ``Detector.predict``."""
        import torch
        from ultralytics.utils.nms import non_max_suppression

        if not pictures:
            return []
        small = [shrunk(picture, 2 * self._image_px) for picture in pictures]  # as the photographs of training
        if self._model.end2end:
            self._model.set_head_attr(max_det=max_boxes)
        with torch.inference_mode():
            answer = self._model(self._input(small))
            segments = self._model.task == "segment"
            # ultralytics' own predictor stops without an error when NMS takes long, and then pictures have no boxes
            found = non_max_suppression(
                answer[0] if segments else answer,
                conf_thres=floor,
                iou_thres=nms_iou,
                agnostic=True,
                max_det=max_boxes,
                nc=1,
                max_time_img=float("inf"),
                end2end=self._model.end2end,
            )
            boxes = [self._boxes(*one) for one in zip(found, small, pictures, strict=True)]
            return _masked(boxes, found, answer[0][1], pictures) if segments else boxes

    def _input(self, pictures: list[np.ndarray]) -> Any:
        """A tensor of pictures scaled to the input's side and padded to squares, whatever the others of the batch.

        On a CPU the next call overwrites it: what is allocated anew costs more than filling it.
        """
        import torch
        from ultralytics.data.augment import LetterBox

        side, n = self._image_px, len(pictures)
        if self._pixels is None or len(self._pixels) < n:
            # colours side by side in memory take a third off a forward pass on a CPU; sums come in another order then,
            # so a model without masks is left as it was
            layout = torch.channels_last if self._model.task == "segment" else torch.contiguous_format
            self._pixels = torch.empty((n, 3, side, side), dtype=torch.uint8, memory_format=layout)
            self._squares = torch.empty((n, 3, side, side), device=self._device, memory_format=layout)
        letterbox = LetterBox((side, side), auto=False)
        for pixels, picture in zip(self._pixels.permute(0, 2, 3, 1).numpy(), pictures, strict=False):
            pixels[...] = picture if picture.shape[:2] == (side, side) else letterbox(image=picture)
        return self._squares[:n].copy_(self._pixels[:n]).div_(255)

    def _boxes(self, found: Any, small: np.ndarray, picture: np.ndarray) -> Boxes:
        from ultralytics.utils.ops import scale_boxes

        rows = found.cpu().numpy()
        boxes = scale_boxes((self._image_px, self._image_px), rows[:, :4].copy(), small.shape[:2])
        scale = np.array(picture.shape[1::-1], np.float64) / np.array(small.shape[1::-1], np.float64)
        return Boxes((boxes * np.tile(scale, 2)).astype(np.float32), rows[:, 4].astype(np.float32))


def _masked(boxes: list[Boxes], found: list[Any], protos: Any, pictures: list[np.ndarray]) -> list[Boxes]:
    """The same with masks at each picture's own size, each cut at its box.

    Args:
        boxes: of each picture, in its pixels.
        found: rows of NMS, whose columns from the seventh on are the masks' coefficients.
        protos: float, shape (pictures, coefficients, height, width), what they are sums of.
        pictures: uint8, each of shape (height, width, 3).
    """
    masks: list[Masks] = [no_masks()] * len(pictures)
    shapes = [picture.shape[:2] for picture in pictures]
    for shape in dict.fromkeys(shapes):
        alike = [n for n, other in enumerate(shapes) if other == shape]
        for n, one in zip(alike, _pasted(boxes, found, protos, alike, shape), strict=True):
            masks[n] = one
    return [_with_masks(*one) for one in zip(boxes, masks, shapes, strict=True)]


def _pasted(boxes: list[Boxes], found: list[Any], protos: Any, alike: list[int], shape: tuple[int, int]) -> list[Masks]:
    """The masks of those pictures that have one size, as ultralytics' ``process_mask_native`` works them out."""
    import torch
    from ultralytics.utils.ops import process_mask_native

    from instar.detectors.paste import masks_of, summed

    corners = [torch.from_numpy(boxes[n].boxes_xyxy).to(protos.device) for n in alike]
    content = _content(*shape, *protos.shape[2:])
    if content is not None:
        owners = torch.tensor(alike).repeat_interleave(torch.tensor([len(boxes[n]) for n in alike]))
        top, left, bottom, right = content
        layers = protos[:, :, top:bottom, left:right]
        coefficients = torch.cat([found[n][:, 6:] for n in alike])
        masks = summed(layers, coefficients, owners, torch.cat(corners), *shape)
        ends = np.cumsum([0, *(len(boxes[n]) for n in alike)])
        return [masks.take(np.arange(*part)) for part in pairwise(ends.tolist())]
    # padding that is no whole number of cells: rare, of photographs that are not sliced
    step = max(1, _MASK_PIXELS // (shape[0] * shape[1]))
    return [
        joined_masks(
            [
                masks_of(process_mask_native(protos[n], found[n][start : start + step, 6:], one, shape))
                for start, one in zip(range(0, len(boxes[n]), step), corner.split(step), strict=False)
            ]
        )
        for n, corner in zip(alike, corners, strict=True)
    ]


def _content(height: int, width: int, rows: int, columns: int) -> tuple[int, int, int, int] | None:
    """The cells of a mask's prototype that a picture fills, top, left, bottom, right; None where it fills some in part.

    A cell is four pixels of the network's input on each side.
    """
    gain = min(4 * rows / height, 4 * columns / width)
    filled = max(round(height * gain), 1), max(round(width * gain), 1)
    pads = 4 * rows - filled[0], 4 * columns - filled[1]
    if any(pad % 8 for pad in pads):
        return None
    top, left = pads[0] // 8, pads[1] // 8
    return top, left, rows - top, columns - left


def _with_masks(boxes: Boxes, masks: Masks, shape: tuple[int, int]) -> Boxes:
    filled = masks.areas() > 0
    inside = clipped_boxes(boxes.boxes_xyxy, shape[1], shape[0])
    return Boxes(inside, boxes.scores, boxes.full, masks, len(filled) - int(filled.sum())).take(filled)
