"""Training: Lightning runs it, DVCLive writes the curves."""

import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from dvclive import Live
from lightning.pytorch.plugins.environments import LightningEnvironment
from timm.optim import param_groups_weight_decay
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from instar.classifier.losses import balanced_cross_entropy
from instar.classifier.model import Description
from instar.errors import InputError
from instar.files import replacing

#: Share of all steps in which the learning rate rises.
WARM_UP = 0.1
#: Between two lines of progress within an epoch, seconds.
LINE_INTERVAL_S = 60.0


@dataclass(frozen=True)
class Epoch:
    """Figures at the end of an epoch; of validation None where there is none."""

    step: int  # steps done by then
    train_loss: float  # balanced and smoothed, mean over the epoch
    learning_rate: float
    validation_loss: float | None = None  # plain cross-entropy
    validation_top1: float | None = None


def warmup_cosine(step: int, *, steps: int) -> float:
    """Share of the learning rate at a step: up in a line for ``WARM_UP`` of the steps, then down to 0 by a cosine."""
    warm = math.ceil(WARM_UP * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Learner(lightning.LightningModule):
    """A network with its loss, optimiser and schedule; keeps the figures of every epoch."""

    def __init__(
        self,
        network: torch.nn.Module,
        description: Description,
        class_weights: torch.Tensor,
        *,
        learning_rate: float,
        weight_decay: float,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        self.network, self.description = network, description
        self.learning_rate, self.weight_decay, self.label_smoothing = learning_rate, weight_decay, label_smoothing
        self.register_buffer("class_weights", class_weights.float())
        self.register_buffer("_train", torch.zeros(2, dtype=torch.float64))  # sums of loss, batches
        self.register_buffer("_validation", torch.zeros(3, dtype=torch.float64))  # sums of loss, hits, crops
        self.epochs: list[Epoch] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes) of uint8 (n, 3, image_px, image_px)."""
        logits: torch.Tensor = self.network(self.description.normalise(pixels))
        return logits

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """The loss of one batch."""
        pixels, targets = batch
        loss = balanced_cross_entropy(self(pixels), targets, self.class_weights, smoothing=self.label_smoothing)
        self._train += torch.stack([loss.detach().double(), loss.new_ones((), dtype=torch.float64)])
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        """Count one batch."""
        pixels, targets = batch
        logits = self(pixels).float()
        loss = cross_entropy(logits, targets, reduction="sum")
        hits = (logits.argmax(1) == targets).sum()
        self._validation += torch.stack([loss.double(), hits.double(), loss.new_tensor(len(targets)).double()])

    def mean_loss(self) -> float:
        """Of the batches of this epoch so far.

        Raises:
            InputError: if it is not a number any more.
        """
        total, count = self._train.tolist()
        if not math.isfinite(total):
            raise InputError(
                f"the loss is {total} in epoch {self.current_epoch + 1} at classifier.learning_rate = "
                f"{self.learning_rate:g}; lower classifier.learning_rate"
            )
        return total / max(count, 1.0)

    def end_epoch(self) -> Epoch:
        """Note the figures of an epoch that has been trained and validated, and start the next one's from nothing."""
        loss, hits, count = self._validation.tolist()
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        measured = (loss / count, hits / count) if count else ()
        self.epochs.append(Epoch(self.global_step, self.mean_loss(), rate, *measured))
        self._train.zero_()
        self._validation.zero_()
        return self.epochs[-1]

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases and norms, a warm-up and a cosine over all steps."""
        groups = param_groups_weight_decay(self.network, self.weight_decay)
        optimiser = torch.optim.AdamW(groups, lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmup_cosine(step, steps=steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Lines(lightning.Callback):
    """A line on standard error for each epoch, and now and then within a long one; stops where the loss is lost."""

    def __init__(self) -> None:
        self._start = self._last = 0.0

    def on_train_start(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """Start the clock."""
        self._start = self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, learner: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Within an epoch."""
        if time.monotonic() - self._last > LINE_INTERVAL_S:
            assert isinstance(learner, Learner)
            self._line(trainer, f"batch {batch_idx + 1}/{trainer.num_training_batches}, loss {learner.mean_loss():.4g}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """At an epoch's end."""
        assert isinstance(learner, Learner)
        done = learner.end_epoch()
        top1 = "" if done.validation_top1 is None else f", validation top-1 {done.validation_top1:.3f}"
        self._line(trainer, f"loss {done.train_loss:.4g}{top1}")

    def _line(self, trainer: lightning.Trainer, text: str) -> None:
        self._last = time.monotonic()
        elapsed = self._last - self._start
        left = elapsed / max(1, trainer.global_step) * (int(trainer.estimated_stepping_batches) - trainer.global_step)
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        print(f"classifier: {epoch}, {text}, {elapsed:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)


def fit(learner: Learner, train: DataLoader[Any], validation: DataLoader[Any] | None, *, epochs: int) -> list[Epoch]:
    """Train on one accelerator, or the CPU where there is none.

    Raises:
        InputError: if the loss stops being a number, or a crop can't be read.
    """
    on_gpu = torch.cuda.is_available()
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=epochs,
            precision="bf16-mixed" if on_gpu else "32-true",
            deterministic="warn",
            # one process whatever the cluster says: Lightning would take SLURM's task count for its own
            plugins=[LightningEnvironment()],
            callbacks=[Lines()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(learner, train, validation)
        except InputError as error:
            # a loading process hands its traceback over as the message
            raise InputError(str(error).splitlines()[-1].removeprefix("instar.errors.InputError: ")) from None
    return learner.epochs


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's tips and its talk about devices and workers out of the log."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    torch.set_float32_matmul_precision("high")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning|torch")
            yield
    finally:
        logger.setLevel(level)


def write_curves(folder: Path, epochs: list[Epoch]) -> None:
    """Write the figures of every epoch as DVCLive's tables for ``dvc plots``, and nothing else."""
    with replacing(folder) as temporary, TemporaryDirectory() as scratch:
        with Live(dir=scratch, dvcyaml=None, report=None, save_dvc_exp=False) as live:
            for epoch in epochs:
                live.step = epoch.step
                for name, value in _curves(epoch).items():
                    live.log_metric(name, value)
        shutil.move(f"{scratch}/plots/metrics", temporary)


def _curves(epoch: Epoch) -> dict[str, float]:
    figures = {
        "train/loss": epoch.train_loss,
        "train/learning_rate": epoch.learning_rate,
        "validation/loss": epoch.validation_loss,
        "validation/top1": epoch.validation_top1,
    }
    return {name: float(f"{value:.6g}") for name, value in figures.items() if value is not None}
