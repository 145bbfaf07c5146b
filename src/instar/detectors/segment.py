"""What the segmenting detectors share that have no trainer of their own: tiles on disk, Lightning's part, prediction.

A family (``maskrcnn``, ``mask2former``) gives a ``Network``; this module feeds it, trains it and answers for it.
"""

import contextlib
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, Dataset, Sampler

from instar.boxes import clipped_boxes, non_empty
from instar.decode import decode_upright
from instar.detectors import DESCRIPTION, Boxes, Example, Recipe, Training, check_options, class_name, weights_file
from instar.detectors.augment import Augmentation, View
from instar.detectors.checkpoints import Checkpoints
from instar.errors import InputError
from instar.files import remove, replacing, sha256_of, write_json
from instar.masks import Masks, from_rle
from instar.photographs import jpeg, shrunk
from instar.progress import quiet_lightning

WEIGHTS = "model.pth"
T = TypeVar("T")
SPLITS = ("train", "validation")

#: Of the photographs that training reads; high, since it adds to the compression that they have already.
_QUALITY = 95
#: ImageNet's, which all published weights of these families were trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Schedule:
    """Options of training that every family of this module takes, with the values published for MassID45.

    Attributes:
        weight_decay: of AdamW.
        warmup: share of the steps in which the one cycle's learning rate rises, 4,500 of 15,000.
        clip_norm: gradients longer than this are cut to it; 0 for never.
        validation_floor: predictions on validation with a lower score do not count.
        nms_iou: likewise ``detections.nms_iou`` there.
    """

    weight_decay: float = 0.05
    warmup: float = 0.3
    clip_norm: float = 0.0
    validation_floor: float = 0.01
    nms_iou: float = 0.7


@dataclass(frozen=True)
class Item:
    """A tile as a network sees it.

    Attributes:
        index: of the tile in its split.
        size: height and width of the tile, pixels.
        content: height and width of the part of the input that the tile fills, from the upper left; pixels.
        pixels: uint8, shape (3, side, side), RGB; 0 beyond the tile.
        boxes_xyxy: float32, shape (n, 4), pixels of the input.
        bitmaps: uint8, shape (n, mask_px, mask_px), the masks over the whole input.
    """

    index: int
    size: tuple[int, int]
    content: tuple[int, int]
    pixels: torch.Tensor
    boxes_xyxy: torch.Tensor
    bitmaps: torch.Tensor


class Network(Protocol):
    """A family's network behind one face.

    Attributes:
        module: what learns.
        most: predictions that it can give for one picture.
        mask_px: side of the masks that it learns from, for an input of ``image_px``.
    """

    module: torch.nn.Module
    most: int
    mask_px: int

    def losses(self, pixels: torch.Tensor, items: list[Item]) -> dict[str, torch.Tensor]:
        """Losses whose sum is to fall; ``pixels``: float32, shape (b, 3, side, side), normalised."""
        ...

    def found(
        self, pixels: torch.Tensor, items: list[Item], *, floor: float, nms_iou: float, max_boxes: int
    ) -> list[Boxes]:
        """By falling score, in pixels of each item's tile, with masks; see ``Detector.predict``."""
        ...


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
    training = _fit(network, tiles, recipe, schedule, work)
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


def write_tiles(examples: Iterable[Example], root: Path, *, max_px: int) -> None:
    """Tiles as ``<split>/<name>.jpg`` and, a line for each, ``<split>/tiles.jsonl``: name, size, RLE of its masks.

    A picture is shrunk to ``max_px``; a mask that keeps no pixel then is left out.

    Raises:
        InputError: if an example has boxes only.
    """
    remove(root)
    with contextlib.ExitStack() as stack:
        tables = {}
        for split in SPLITS:
            (root / split).mkdir(parents=True)
            tables[split] = stack.enter_context((root / split / "tiles.jsonl").open("w", encoding="utf-8"))
        for example in examples:
            if example.masks is None:
                raise InputError(
                    f"annotations of {example.name}: boxes without masks; a segmenting detector needs masks, so "
                    "annotate them or take a model that finds boxes"
                )
            picture = shrunk(example.picture, max_px)
            masks = example.masks.resized(example.picture.shape[:2], picture.shape[:2])
            height, width = picture.shape[:2]
            counts = [one.decode("ascii") for one in masks.take(masks.areas() > 0).rle(height, width)]
            (root / example.split / f"{example.name}.jpg").write_bytes(jpeg(picture, _QUALITY))
            row = {"name": example.name, "height": height, "width": width, "counts": counts}
            tables[example.split].write(json.dumps(row) + "\n")


class Tiles(Dataset[Item]):
    """The tiles of one split; what is held in memory is where each one's line begins.

    Args:
        root: folder that ``write_tiles`` wrote.
        image_px: side of the network's input.
        mask_px: of the masks over it.
        augmentation: of a tile that is to be learnt from; None to take it as it is.
        seed: of the augmentation.
    """

    def __init__(
        self, root: Path, image_px: int, mask_px: int, augmentation: Augmentation | None = None, seed: int = 0
    ) -> None:
        self._root, self._image_px, self._mask_px = root, image_px, mask_px
        self._augmentation, self._seed = augmentation, seed
        with (root / "tiles.jsonl").open("rb") as file:
            lines = np.array([len(line) for line in file], np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(lines)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def row(self, index: int) -> dict[str, Any]:
        """The line of a tile."""
        with (self._root / "tiles.jsonl").open("rb") as file:
            file.seek(int(self._offsets[index]))
            row: dict[str, Any] = json.loads(file.readline())
        return row

    def all(self) -> Iterator[dict[str, Any]]:
        """The lines of all tiles, one after the other."""
        with (self._root / "tiles.jsonl").open("rb") as file:
            for line in file:
                yield json.loads(line)

    def learning(self, augmentation: Augmentation, seed: int) -> "Tiles":
        """The same tiles, each time another view of them."""
        return Tiles(self._root, self._image_px, self._mask_px, augmentation, seed)

    def __getitem__(self, place: tuple[int, int]) -> Item:
        """A tile by the epoch and its index."""
        epoch, index = place
        row = self.row(index)
        view = _view(decode_upright((self._root / f"{row['name']}.jpg").read_bytes()), row)
        if self._augmentation is not None:
            view = self._augmentation(view, np.random.default_rng([self._seed, epoch, index]))
        return _item(index, view, self._image_px, self._mask_px)


def _view(picture: np.ndarray, row: dict[str, Any]) -> View:
    size = (row["height"], row["width"])
    masks = from_rle({"size": size, "counts": counts} for counts in row["counts"])
    return View(picture, np.moveaxis(masks.bitmaps(*size), 0, 2), masks.boxes().astype(np.float64))


def _item(index: int, view: View, image_px: int, mask_px: int) -> Item:
    """The view enlarged or shrunk until its longer side fills the input, by bilinear interpolation."""
    height, width = view.picture.shape[:2]
    scale = image_px / max(height, width)
    content = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = np.zeros((image_px, image_px, 3), np.uint8)
    resized = cv2.resize(np.ascontiguousarray(view.picture), content[::-1], interpolation=cv2.INTER_LINEAR)
    pixels[: content[0], : content[1]] = resized
    share = mask_px / image_px
    inner = (max(1, round(content[0] * share)), max(1, round(content[1] * share)))
    bitmaps = np.zeros((view.bitmaps.shape[2], mask_px, mask_px), np.uint8)
    for n, bitmap in enumerate(bitmaps):
        mask = np.ascontiguousarray(view.bitmaps[:, :, n])
        bitmap[: inner[0], : inner[1]] = cv2.resize(mask, inner[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    kept = bitmaps.any(axis=(1, 2)) & non_empty(view.boxes_xyxy)
    factors = np.tile([content[1] / width, content[0] / height], 2)
    boxes = (view.boxes_xyxy * factors)[kept].astype(np.float32)
    tensors = (torch.from_numpy(array) for array in (pixels.transpose(2, 0, 1).copy(), boxes, bitmaps[kept]))
    return Item(index, (height, width), content, *tensors)


class _Places(Sampler[tuple[int, int]]):
    """Epoch and index of every tile, in another order in each epoch, or always in the same."""

    def __init__(self, count: int, seed: int | None) -> None:
        self._count, self._seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        return ((self.epoch, int(index)) for index in order)


def _loader(tiles: Tiles, recipe: Recipe, *, seed: int | None) -> DataLoader[Item]:
    return DataLoader(
        tiles,
        batch_size=recipe.batch,
        sampler=_Places(len(tiles), seed),
        num_workers=recipe.workers,
        # a rest that fills no batch is left out: batch normalisation fails on a single tile
        drop_last=seed is not None and len(tiles) >= recipe.batch,
        collate_fn=list,
        persistent_workers=False,
    )


class _Feed(lightning.LightningDataModule):
    """Loaders whose order hangs on the epoch alone."""

    def __init__(self, train: DataLoader[Item], validation: DataLoader[Item], learner: "_Learner") -> None:
        super().__init__()
        self._train, self._validation, self._learner = train, validation, learner

    def train_dataloader(self) -> DataLoader[Item]:
        """Called anew for each epoch."""
        # Lightning asks for the first loader before it has taken up a checkpoint's epoch
        places = self._train.sampler
        assert isinstance(places, _Places)
        places.epoch = len(self._learner.training_so_far.curve)
        return self._train

    def val_dataloader(self) -> DataLoader[Item]:
        """Always the same."""
        return self._validation


class _Learner(lightning.LightningModule):
    """The network's losses, the optimizer, and what validation finds."""

    def __init__(self, network: Network, recipe: Recipe, schedule: Schedule, training: Training, steps: int) -> None:
        super().__init__()
        self.network, self.module = network, network.module
        self.training_so_far = training
        self._recipe, self._schedule, self._steps = recipe, schedule, steps
        self._sums: dict[str, float] = {}
        self._batches = 0
        self.answers: dict[int, tuple[list[bytes], np.ndarray]] = {}

    def on_train_epoch_start(self) -> None:
        """Forget the sums of the epoch before."""
        self._sums, self._batches = {}, 0

    def transfer_batch_to_device(self, batch: list[Item], device: torch.device, dataloader_idx: int) -> list[Item]:
        """The network takes what it needs."""
        return batch

    def training_step(self, batch: list[Item], batch_idx: int) -> torch.Tensor:
        """The sum of the losses.

        What the network draws hangs on seed, epoch and batch alone, so that a resumed training draws the same.

        Raises:
            InputError: if it is no number.
        """
        place = np.random.SeedSequence([self._recipe.seed, self.current_epoch, batch_idx])
        torch.manual_seed(int(place.generate_state(1)[0]))
        losses = self.network.losses(normalised(batch, self.device), batch)
        loss = torch.stack(list(losses.values())).sum()
        for name, value in {"loss": loss, **losses}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._batches += 1
        if not math.isfinite(float(loss.detach())):
            raise InputError(
                f"detector.learning_rate = {self._recipe.learning_rate:g}: the loss is no longer a number in epoch "
                f"{self.current_epoch + 1}; lower it"
            )
        return loss

    def validation_step(self, batch: list[Item], _: int) -> None:
        """What is found is kept as RLE, a few hundred bytes for each mask."""
        found = self.network.found(
            normalised(batch, self.device),
            batch,
            floor=self._schedule.validation_floor,
            nms_iou=self._schedule.nms_iou,
            max_boxes=self.network.most,
        )
        for item, boxes in zip(batch, found, strict=True):
            assert boxes.masks is not None
            self.answers[item.index] = (boxes.masks.rle(*item.size), boxes.scores)

    def losses(self) -> dict[str, float]:
        """Means over the batches of this epoch."""
        return {name: total / max(1, self._batches) for name, total in self._sums.items()}

    def configure_optimizers(self) -> Any:
        """AdamW and one cycle of the learning rate over all steps."""
        recipe = self._recipe
        learning = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=recipe.learning_rate, weight_decay=self._schedule.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=self._steps, pct_start=self._schedule.warmup
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class _Epochs(lightning.Callback):
    """Behind each epoch: the figures, the best weights, a checkpoint and a line."""

    def __init__(self, truth: Tiles, checkpoints: Checkpoints, run: Path) -> None:
        self._truth, self._checkpoints, self._run = truth, checkpoints, run
        self._start = time.monotonic()
        self._first: int | None = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """Validation is over by now."""
        assert isinstance(learner, _Learner)
        training, epoch, epochs = learner.training_so_far, trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        figures = mask_figures(list(self._truth.all()), [learner.answers[n] for n in range(len(self._truth))])
        learner.answers.clear()
        training.curve.append({"epoch": epoch, **learner.losses(), **figures})
        if figures["mAP50-95"] > training.best:
            training.best, training.best_epoch = figures["mAP50-95"], epoch
            with replacing(self._run / "best.pth") as temporary:
                torch.save(learner.module.state_dict(), temporary)
        if epoch < epochs:
            trainer.save_checkpoint(self._run / "last.ckpt")
            self._checkpoints.save(training, [self._run / "last.ckpt", self._run / "best.pth"])
        self._first = epoch - 1 if self._first is None else self._first
        left = (time.monotonic() - self._start) / (epoch - self._first) * (epochs - epoch)
        told = f"mask mAP50 {figures['mAP50']:.3f}, mAP50-95 {figures['mAP50-95']:.3f}, recall {figures['recall']:.3f}"
        line = f"epoch {epoch}/{epochs}: loss {learner.losses()['loss']:.4g}, {told}, {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)


def _fit(network: Network, tiles: dict[str, Tiles], recipe: Recipe, schedule: Schedule, work: Path) -> Training:
    run, checkpoints = work / "run", Checkpoints(work / "checkpoints")
    remove(run)
    run.mkdir()
    training, start = Training(), None
    if found := checkpoints.latest():
        training, folder = found
        training.resumed_after.append(len(training.curve))
        (run / "best.pth").write_bytes((folder / "best.pth").read_bytes())
        start = str(folder / "last.ckpt")
        print(f"going on after epoch {len(training.curve)} of an interrupted training", file=sys.stderr, flush=True)
    training.parameters = sum(parameter.numel() for parameter in network.module.parameters())
    learning = tiles["train"].learning(taken(Augmentation, recipe.options), recipe.seed)
    loader = _loader(learning, recipe, seed=recipe.seed)
    learner = _Learner(network, recipe, schedule, training, steps=len(loader) * recipe.epochs)
    on_gpu = torch.cuda.is_available()
    half = on_gpu and torch.cuda.is_bf16_supported()
    with quiet_lightning(), _told_stop():
        trainer = lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=1,
            max_epochs=recipe.epochs,
            precision="bf16-mixed" if half else "32-true",
            gradient_clip_val=schedule.clip_norm or None,
            deterministic="warn",
            # one task whatever the cluster says: Lightning would take SLURM's task count for its own
            plugins=[LightningEnvironment()],
            callbacks=[_Epochs(tiles["validation"], checkpoints, run)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
        feed = _Feed(loader, _loader(tiles["validation"], recipe, seed=None), learner)
        trainer.fit(learner, feed, ckpt_path=start, weights_only=True)
    network.module.cpu()
    return training


@contextmanager
def _told_stop() -> Iterator[None]:
    """Turn what ends a training early into one line."""
    try:
        yield
    except SIGTERMException:
        print("detector: stopped by SIGTERM; the next run goes on after the last whole epoch", file=sys.stderr)
        raise SystemExit(143) from None
    except SystemExit:
        # so Lightning ends after Ctrl-C
        raise KeyboardInterrupt from None


def normalised(items: list[Item], device: torch.device) -> torch.Tensor:
    """Pictures of several items on a device, float32, shape (b, 3, side, side), less the mean, by the deviation."""
    pixels = torch.stack([item.pixels for item in items]).to(device, non_blocking=True).float() / 255
    mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (pixels - mean) / deviation


def mask_figures(tiles: list[dict[str, Any]], found: list[tuple[list[bytes], np.ndarray]]) -> dict[str, float]:
    """COCO's figures of masks on tiles, with every prediction of every tile taken in.

    Args:
        tiles: each one's ``height``, ``width`` and ``counts``, the compressed RLE of its animals.
        found: for each tile, RLE counts of what was found in it, and the scores.

    Returns:
        ``mAP50``, ``mAP50-95``, and ``recall`` and ``precision`` at IoU 0.5 where their harmonic mean is highest; all
        in [0, 1], and 0 where there is no animal.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    images, most = [], 1
    for n, (tile, (counts, scores)) in enumerate(zip(tiles, found, strict=True), start=1):
        size = [tile["height"], tile["width"]]
        images.append({"id": n, "height": size[0], "width": size[1]})
        most = max(most, len(scores), len(tile["counts"]))
        for one in tile["counts"]:
            truth.append(_annotation(len(truth) + 1, n, size, one))
        for one, score in zip(counts, scores.tolist(), strict=True):
            results.append(_annotation(len(results) + 1, n, size, one.decode("ascii")) | {"score": score})
    if not truth or not results:
        return dict.fromkeys(("mAP50", "mAP50-95", "recall", "precision"), 0.0)
    both = {"info": {}, "images": images, "categories": [{"id": 1, "name": "animal"}]}
    evaluation = COCOeval_faster(
        COCO({**both, "annotations": truth}), COCO({**both, "annotations": results}), "segm", print_function=_silent
    )
    evaluation.params.maxDets = [most]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0].clip(0)  # axes IoU, recall
    recalls = evaluation.params.recThrs
    best = int(np.argmax(precision[0] * recalls / np.maximum(precision[0] + recalls, 1e-12)))
    return {
        "mAP50": float(precision[0].mean()),
        "mAP50-95": float(precision.mean()),
        "recall": float(recalls[best]) if precision[0, best] else 0.0,
        "precision": float(precision[0, best]),
    }


def _silent(_: str) -> None:
    """What faster_coco_eval would print."""


def _annotation(number: int, image: int, size: list[int], counts: str) -> dict[str, Any]:
    from pycocotools.mask import area, toBbox

    encoded = {"size": size, "counts": counts}
    more = {"area": int(area(encoded)), "bbox": toBbox(encoded).tolist(), "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": 1, "segmentation": encoded, **more}


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
        item = _item(index, nothing, self._image_px, 1)
        return Item(index, (height, width), item.content, item.pixels, item.boxes_xyxy, item.bitmaps)


def described(recipe: Recipe, kind: Any) -> dict[str, Any]:
    """What makes the network again, for ``detector.json``."""
    return {"model": recipe.model, "image_px": recipe.image_px, **asdict(kind)}
