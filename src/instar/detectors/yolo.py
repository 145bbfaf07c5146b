"""YOLO detectors of ultralytics (AGPL-3.0). The only module that imports ultralytics, and the one that tames it."""

import atexit
import hashlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instar.detectors import DESCRIPTION, Boxes, Example, Training
from instar.errors import InputError
from instar.files import sha256_of, write_json
from instar.photographs import jpeg, shrunk

WEIGHTS = "model.pt"
LICENCE = "AGPL-3.0: weights trained with ultralytics, and programs that use them, fall under it"

#: Of the photographs that training reads; high, since it adds to the compression that they have already.
_QUALITY = 95
_FILES = (("images", "jpg"), ("labels", "txt"))


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are keys of the section ``detector`` in params.yaml."""

    model: str
    image_px: int
    epochs: int
    batch: int
    learning_rate: float
    plain_epochs: int
    workers: int
    seed: int


def train(examples: Iterable[Example], names: list[str], recipe: Recipe, out: Path) -> Training:
    """Train on the photographs of the split train and keep the weights that do best on validation.

    All animals are one class: the detector says where they are, the classifier which.

    Args:
        examples: photographs of both splits; at least one animal in each.
        names: of the annotated categories.
        recipe: how to train.
        out: an existing folder for the weights and their description.

    Raises:
        InputError: if the model cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="instar-yolo-") as folder:
        root = Path(folder)
        _prepare()
        model = _checked_model(recipe.model)
        data = _write_dataset(examples, _class_name(names), root, max_px=2 * recipe.image_px)
        training, best = _train(model, data, recipe, root)
        weights = _stripped(best, recipe.image_px)
    (out / WEIGHTS).write_bytes(weights)
    description = {
        "family": "yolo",
        "model": Path(recipe.model).name,
        "image_px": recipe.image_px,
        "names": [_class_name(names)],
        "sha256": hashlib.sha256(weights).hexdigest(),
        "licence": LICENCE,
    }
    write_json(out / DESCRIPTION, description)
    return training


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


def _checked_model(model: str) -> str:
    """The model's name, if it is a weights file here or an architecture that ultralytics has."""
    from ultralytics.nn.tasks import yaml_model_load

    if model.endswith(".pt"):
        if not Path(model).is_file():  # ultralytics would look for it on the network
            raise InputError(f"detector.model = {model}: no such file; fetch the weights or name a model's .yaml")
        return model
    try:
        yaml_model_load(model)
    except (FileNotFoundError, AssertionError):  # the latter for another ending
        raise InputError(f"detector.model = {model}: ultralytics has no such model; one is yolo11n.yaml") from None
    return model


def _class_name(names: list[str]) -> str:
    return names[0] if len(names) == 1 else "animal"


def _write_dataset(examples: Iterable[Example], name: str, root: Path, *, max_px: int) -> Path:
    """The photographs in ultralytics' layout: ``images/<split>/<name>.jpg``, ``labels/<split>/<name>.txt``, a yaml."""
    for example in examples:
        image, label = (root / kind / example.split / f"{example.name}.{end}" for kind, end in _FILES)
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(jpeg(shrunk(example.picture, max_px), _QUALITY))
        label.write_text("".join(f"{line}\n" for line in yolo_lines(example)))
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


def _train(model: str, data: Path, recipe: Recipe, root: Path) -> tuple[Training, Path]:
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils.torch_utils import unset_deterministic

    cuda = torch.cuda.is_available()
    overrides = {
        "model": model,
        "data": str(data),
        "project": str(root),
        "name": "run",
        "imgsz": recipe.image_px,
        "epochs": recipe.epochs,
        "patience": 0,
        "batch": recipe.batch,
        "nbs": recipe.batch,  # a step is one batch; the default gathers 64 photographs, few steps for few photographs
        "optimizer": "AdamW",
        "lr0": recipe.learning_rate,
        "warmup_bias_lr": 0.0,  # the default 0.1 is meant for SGD
        "close_mosaic": recipe.plain_epochs,
        "workers": recipe.workers,
        "seed": recipe.seed,
        "deterministic": True,
        # "bf16" alone needs neither a scaler nor a check that fetches another model
        "amp": "bf16" if cuda and torch.cuda.is_bf16_supported() else False,
        "device": "0" if cuda else "cpu",
        "plots": False,
        "verbose": False,
    }
    threads = torch.get_num_threads()
    trainer = DetectionTrainer(overrides=overrides)
    torch.set_num_threads(threads)  # the trainer has just left one core idle: half of a small machine
    training = Training()
    trainer.add_callback("on_fit_epoch_end", _follow(training, recipe.epochs))
    try:
        trainer.train()
    finally:
        unset_deterministic()
        torch.set_num_threads(threads)
    model_trained: Any = trainer.model
    training.parameters = sum(parameter.numel() for parameter in model_trained.parameters())
    return training, trainer.best


def _follow(training: Training, epochs: int) -> Callable[[Any], None]:
    """What ultralytics calls after each epoch, and once more after the last."""
    start = time.monotonic()
    best = -1.0

    def follow(trainer: Any) -> None:
        nonlocal best
        epoch = trainer.epoch + 1
        if epoch > epochs:
            return
        row = _curve_row(epoch, trainer)
        training.curve.append(row)
        if trainer.fitness >= best:  # ultralytics overwrites its best weights with equally good later ones
            best, training.best_epoch = trainer.fitness, epoch
        left = (time.monotonic() - start) / epoch * (epochs - epoch)
        losses = ", ".join(f"{name} {row[name]:.3f}" for name in ("box_loss", "cls_loss", "dfl_loss") if name in row)
        figures = f"mAP50 {row['mAP50']:.3f}, mAP50-95 {row['mAP50-95']:.3f}, recall {row['recall']:.3f}"
        print(f"epoch {epoch}/{epochs}: {losses}, {figures}, {left:.0f} s left", file=sys.stderr, flush=True)

    return follow


def _curve_row(epoch: int, trainer: Any) -> dict[str, float]:
    metrics = trainer.metrics
    losses = {name: float(loss) for name, loss in trainer.tloss.items()}
    validation = {
        f"validation_{name.removeprefix('val/')}": float(loss)
        for name, loss in metrics.items()
        if name.startswith("val/")
    }
    figures = {name: float(metrics[f"metrics/{name}(B)"]) for name in ("mAP50", "mAP50-95", "recall", "precision")}
    return {"epoch": epoch, **losses, **validation, **figures}


def _stripped(path: Path, image_px: int) -> bytes:
    """A checkpoint without optimizer, dates, paths and curves, so that equal training gives equal bytes."""
    import torch
    import ultralytics
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(path)
    model.half()
    for parameter in model.parameters():
        parameter.requires_grad = False
    arguments = {"task": "detect", "imgsz": image_px, "single_cls": False}
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
    return buffer.getvalue()


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
            # ultralytics' own predictor stops without an error when NMS takes long, and then pictures have no boxes
            found = non_max_suppression(
                self._model(self._input(small)),
                conf_thres=floor,
                iou_thres=nms_iou,
                agnostic=True,
                max_det=max_boxes,
                max_time_img=float("inf"),
                end2end=self._model.end2end,
            )
        return [self._boxes(*answer) for answer in zip(found, small, pictures, strict=True)]

    def _input(self, pictures: list[np.ndarray]) -> Any:
        """A tensor of pictures scaled to the input's side and padded to squares, whatever the others of the batch."""
        import torch
        from ultralytics.data.augment import LetterBox

        letterbox = LetterBox((self._image_px, self._image_px), auto=False)
        squares = np.stack([letterbox(image=picture) for picture in pictures])
        return torch.from_numpy(squares).to(self._device).permute(0, 3, 1, 2).contiguous().float() / 255

    def _boxes(self, found: Any, small: np.ndarray, picture: np.ndarray) -> Boxes:
        from ultralytics.utils.ops import scale_boxes

        rows = found.cpu().numpy()
        boxes = scale_boxes((self._image_px, self._image_px), rows[:, :4].copy(), small.shape[:2])
        scale = np.array(picture.shape[1::-1], np.float64) / np.array(small.shape[1::-1], np.float64)
        return Boxes((boxes * np.tile(scale, 2)).astype(np.float32), rows[:, 4].astype(np.float32))
