"""Training by Lightning for the segmenting detectors of ``segment``: losses, validation, checkpoints, figures."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from instar.detectors import Boxes, Recipe, Training
from instar.detectors.augment import Augmentation
from instar.detectors.checkpoints import Checkpoints
from instar.detectors.segment_tiles import Item, Places, Tiles, loader, normalised
from instar.errors import InputError
from instar.files import remove, replacing
from instar.progress import quiet_lightning


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


class _Feed(lightning.LightningDataModule):
    """Loaders whose order hangs on the epoch alone."""

    def __init__(self, train: DataLoader[Item], validation: DataLoader[Item], learner: "_Learner") -> None:
        super().__init__()
        self._train, self._validation, self._learner = train, validation, learner

    def train_dataloader(self) -> DataLoader[Item]:
        """Called anew for each epoch."""
        # Lightning asks for the first loader before it has taken up a checkpoint's epoch
        places = self._train.sampler
        assert isinstance(places, Places)
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


def fit(
    network: Network,
    tiles: dict[str, Tiles],
    recipe: Recipe,
    schedule: Schedule,
    augmentation: Augmentation,
    work: Path,
) -> Training:
    """Train a network, or go on with its training; the best weights lie in ``run/best.pth`` of the folder ``work``."""
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
    learning = tiles["train"].learning(augmentation, recipe.seed)
    batches = loader(learning, recipe, seed=recipe.seed)
    learner = _Learner(network, recipe, schedule, training, steps=len(batches) * recipe.epochs)
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
        feed = _Feed(batches, loader(tiles["validation"], recipe, seed=None), learner)
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
