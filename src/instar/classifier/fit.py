"""Lightning's part of training: loaders, checkpoints, lines of progress, several processes, and the curves."""

import pickle
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from dvclive import Live
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from instar.classifier.data import Draws, GroupedDraws, Item, loader
from instar.classifier.memory import naming_short_memory
from instar.classifier.train import Epoch, Learner, LostLossError, kept_epoch
from instar.errors import InputError
from instar.files import remove, replacing
from instar.progress import quiet_lightning

#: Between two lines of progress within an epoch, seconds.
LINE_INTERVAL_S = 60.0
#: Between two checkpoints within an epoch, seconds.
CHECKPOINT_INTERVAL_S = 600.0
CHECKPOINT, BEST, CURVES = "last.ckpt", "best.ckpt", "curves"


class Feed(lightning.LightningDataModule):
    """The batches of each epoch.

    Args:
        train: random views of the training crops.
        frozen: what is learnt from while the backbone is frozen, if not from ``train``.
        validation: whole validation crops, None where there are none.
        weights: float64, shape (len(train),), how often each crop comes; None for each once.
        groups: int64, shape (len(train),), the class of each crop, that batches hold several of.
        workers: processes that load.
    """

    def __init__(
        self,
        learner: Learner,
        train: Dataset[Item],
        frozen: Dataset[Item] | None,
        validation: Dataset[Item] | None,
        *,
        count: int,
        weights: Any,
        groups: Any,
        workers: int,
    ) -> None:
        super().__init__()
        self._groups = groups
        self._learner, self._train, self._frozen, self._validation = learner, train, frozen, validation
        self._count, self._weights, self._workers = count, weights, workers
        self._loaders: dict[str, DataLoader[Item]] = {}

    def train_dataloader(self) -> DataLoader[Item]:
        """Views of this epoch; where a checkpoint was written within it, the rest of them."""
        trainer, learner = self.trainer, self._learner
        assert trainer is not None
        # Lightning asks for the first loader before it has taken up a checkpoint's epoch
        epoch = max(trainer.current_epoch, learner.resumed_epoch)
        frozen = self._frozen is not None and epoch < learner.recipe.frozen_epochs
        views, name = (self._frozen, "frozen") if frozen else (self._train, "train")
        assert views is not None
        if name not in self._loaders:
            self._loaders[name] = self._train_loader(views, workers=0 if frozen else self._workers)
        found = self._loaders[name]
        assert isinstance(found.sampler, Draws)
        found.sampler.set_epoch(epoch)
        found.sampler.skip(learner.resumed_batches * learner.recipe.batch, epoch=learner.resumed_epoch)
        return found

    def _train_loader(self, views: Dataset[Item], *, workers: int) -> DataLoader[Item]:
        trainer, recipe = self.trainer, self._learner.recipe
        assert trainer is not None
        rank, world = trainer.global_rank, trainer.world_size
        draws = Draws(self._count, seed=recipe.seed, weights=self._weights, rank=rank, world=world, even=True)
        if recipe.of_each:
            draws = GroupedDraws(
                self._groups, of_each=recipe.of_each, batch=recipe.batch, seed=recipe.seed, rank=rank, world=world
            )
        # a rest that fills no batch is left out: batch normalisation fails on a single crop
        drop_last = len(draws) >= recipe.batch
        return loader(views, draws, batch=recipe.batch, workers=workers, drop_last=drop_last)

    @property
    def validates(self) -> bool:
        """Whether there are validation crops."""
        return self._validation is not None

    def val_dataloader(self) -> DataLoader[Item] | list[Any]:
        """Whole crops, each once over all processes."""
        trainer = self.trainer
        if self._validation is None:
            return []
        assert trainer is not None
        count = len(self._validation)  # type: ignore[arg-type]
        draws = Draws(count, seed=None, rank=trainer.global_rank, world=trainer.world_size)
        batch = self._learner.recipe.batch
        return loader(self._validation, draws, batch=batch, workers=self._workers, drop_last=False)


class Lines(lightning.Callback):
    """A line on standard error for each epoch, and now and then within a long one; stops where the loss is lost.

    The curves so far are written at each epoch's end, too.
    """

    def __init__(self, work: Path) -> None:
        self._curves = work / CURVES
        self._start = self._last = self._begun = 0.0
        self._waited = self._worked = 0.0
        self._first = 0

    def on_train_start(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """Start the clock."""
        self._start = self._last = self._begun = time.monotonic()
        self._first = trainer.global_step

    def on_train_epoch_start(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """Start the epoch's."""
        self._begun = time.monotonic()
        self._waited = self._worked = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, learner: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch is there."""
        now = time.monotonic()
        self._waited += now - self._begun
        self._begun = now

    def on_train_batch_end(
        self, trainer: lightning.Trainer, learner: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Within an epoch."""
        now = time.monotonic()
        self._worked += now - self._begun
        self._begun = now
        if now - self._last > LINE_INTERVAL_S:
            assert isinstance(learner, Learner)
            self._line(trainer, f"batch {batch_idx + 1}/{trainer.num_training_batches}, loss {learner.mean_loss():.4g}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """At an epoch's end."""
        assert isinstance(learner, Learner)
        done = learner.end_epoch()
        top1 = "" if done.validation_top1 is None else f", validation top-1 {done.validation_top1:.3f}"
        waited = self._waited / max(self._waited + self._worked, 1e-9)
        self._line(trainer, f"loss {done.train_loss:.4g}{top1}, {waited:.0%} of the time waiting for data")
        if trainer.is_global_zero:
            write_curves(self._curves, learner.epochs)

    def _line(self, trainer: lightning.Trainer, text: str) -> None:
        self._last = time.monotonic()
        if not trainer.is_global_zero:
            return
        elapsed = self._last - self._start
        steps = trainer.global_step - self._first
        left = elapsed / max(1, steps) * (int(trainer.estimated_stepping_batches) - trainer.global_step)
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        print(f"classifier: {epoch}, {text}, {elapsed:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)


class Checkpoints(lightning.Callback):
    """Writes ``last.ckpt`` behind each epoch, behind a step now and then, and before SIGTERM ends the run.

    Only there is all of a training's state in what Lightning writes: not amid an accumulation, whose gradients each
    process has for itself, nor between an epoch's last batch and its end, where validation would be lost. So SIGTERM,
    as SLURM sends it before a time limit, ends the run at the next such place.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._last = folder / CHECKPOINT, time.monotonic()
        self._told = False

    def on_train_start(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """Lightning's handler stops anywhere, and with several processes sends amid what they send each other."""
        self._told = trainer.received_sigterm
        trainer._signal_connector.received_sigterm = False
        signal.signal(signal.SIGTERM, lambda *_: self._tell(trainer))

    def _tell(self, trainer: lightning.Trainer) -> None:
        if not self._told and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGTERM)
        self._told = True

    def on_train_batch_end(
        self, trainer: lightning.Trainer, learner: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Behind a step, but for an epoch's last."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or batch_idx + 1 == trainer.num_training_batches:
            return
        stopped = self._stopped(trainer)
        late = time.monotonic() - self._last > CHECKPOINT_INTERVAL_S
        # all processes write together or none: their clocks differ
        if trainer.strategy.reduce_boolean_decision(late or stopped, all=False):
            self._save(trainer)
        trainer._signal_connector.received_sigterm = stopped

    def on_train_epoch_end(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """Behind an epoch, but for the last, from whose end Lightning would not end the training as it does."""
        if trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs:
            return
        self._save(trainer)
        trainer._signal_connector.received_sigterm = self._stopped(trainer)

    def _stopped(self, trainer: lightning.Trainer) -> bool:
        """All processes or none: signals reach one after the other."""
        return trainer.strategy.reduce_boolean_decision(self._told, all=False)

    def _save(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self._path)
        self._last = time.monotonic()


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place first: Lightning's is whole only where the folder for temporary files is
    on the same file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Called in the first process alone."""
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def averaging(decay: float) -> Callable[[Any, Any, torch.Tensor | int], None]:
    """Exponential moving average of weights w after each step: a ← d·a + (1 - d)·w, d = min(decay, (1 + n)/(10 + n)).

    n, the updates so far, is kept in checkpoints with the averaged weights. A fixed decay of 0.999 would leave 81 % of
    the first step's weights in the average of 210 steps. The formula is that of TensorFlow's
    ``tf.train.ExponentialMovingAverage`` with ``num_updates``; the decay reaches 0.999 after 8,990 steps.

    Returns:
        ``multi_avg_fn`` of ``torch.optim.swa_utils.AveragedModel``.
    """

    def average(averaged: Any, current: Any, updates: torch.Tensor | int) -> None:
        n = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, updates)

    return average


class Best(lightning.Callback):
    """Keeps the weights of the best epoch on validation and stops when none was better for some epochs.

    Args:
        folder: of the unfinished training.
        patience: so many epochs; 0 to go on to the end.
    """

    def __init__(self, folder: Path, patience: int) -> None:
        self._path, self._patience = folder / BEST, patience

    def on_validation_epoch_end(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """While the weights that were validated are in place: averaged ones are taken out behind this."""
        assert isinstance(learner, Learner)
        if learner.is_kept() and trainer.is_global_zero:
            with replacing(self._path) as temporary:
                torch.save(learner.network.state_dict(), temporary)

    def on_train_epoch_end(self, trainer: lightning.Trainer, learner: lightning.LightningModule) -> None:
        """After ``Lines`` has closed the epoch."""
        assert isinstance(learner, Learner)
        since = len(learner.epochs) - 1 - kept_epoch(learner.epochs, learner.recipe.keep)
        if self._patience:
            trainer.should_stop = since >= self._patience


def fit(learner: Learner, feed: Feed, work: Path) -> list[Epoch]:
    """Train on the accelerators there are, or the CPU; go on from the checkpoint in ``work`` where there is one.

    Raises:
        InputError: if the loss stops being a number, a crop can't be read, or memory is short.
        SystemExit: 143, after SIGTERM; the checkpoint is written.
    """
    recipe = learner.recipe
    if recipe.compile:
        learner.network.backbone.compile()
    accelerator, devices, precision = machine(recipe.devices, recipe.precision)
    torch.set_float32_matmul_precision("high")
    with quiet_lightning(), _stopping(work):
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            # a backbone that is frozen at first has no gradients then
            strategy="auto" if devices == 1 else "ddp_find_unused_parameters_true",
            max_epochs=recipe.epochs,
            accumulate_grad_batches=recipe.accumulate,
            precision=precision,
            deterministic="warn",
            # one task whatever the cluster says: Lightning would take SLURM's task count for its own
            plugins=[LightningEnvironment(), WholeFiles()],
            callbacks=_callbacks(learner, feed, work),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
        )
        trainer.fit(learner, feed, ckpt_path=_checkpoint(work), weights_only=True)
    if (work / BEST).is_file():
        learner.network.load_state_dict(torch.load(work / BEST, weights_only=True))
    return learner.epochs


def _checkpoint(work: Path) -> str | None:
    """Path of the checkpoint that a stopped run left; a damaged one is deleted, and there is none.

    The first process is here before the others begin.

    Raises:
        pickle.UnpicklingError: if it holds what no checkpoint of ours does.
    """
    for part in work.glob(".*.part-*"):  # of a killed run
        remove(part)
    path = work / CHECKPOINT
    if not path.is_file():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # all but the tensors' values
    except (EOFError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
        print(f"classifier: {path} is damaged ({reason}), so training begins anew", file=sys.stderr)
        remove(path)
        return None
    return str(path)


def machine(devices: int, precision: str) -> tuple[str, int, Any]:
    """Kind and number of the devices that training runs on here, and Lightning's name of the precision.

    Args:
        devices: wanted; 0 for all GPUs, or one process where there is none.
        precision: wanted; auto, float32 or bfloat16.
    """
    on_gpu = torch.cuda.is_available()
    half = precision == "bfloat16" or (precision == "auto" and on_gpu)
    count = devices or (torch.cuda.device_count() if on_gpu else 1)
    return "gpu" if on_gpu else "cpu", count, "bf16-mixed" if half else "32-true"


def _callbacks(learner: Learner, feed: Feed, work: Path) -> list[lightning.Callback]:
    recipe = learner.recipe
    found: list[lightning.Callback] = [Lines(work)]
    if recipe.keep != "last" and feed.validates:
        found.append(Best(work, recipe.early_stop))
    elif recipe.keep != "last":
        vain = "early_stop" if recipe.early_stop else "keep"
        print(f"classifier: no crop is for validation, so {vain} has no effect", file=sys.stderr)
    if recipe.ema:
        found.append(WeightAveraging(multi_avg_fn=averaging(recipe.ema)))  # behind Best, which keeps what was averaged
    found.append(Checkpoints(work))  # behind the others, whose state of this batch it keeps
    return found


@contextmanager
def _stopping(work: Path) -> Iterator[None]:
    """Turn what ends a training early into one line."""
    try:
        with naming_short_memory():
            yield
    except LostLossError:
        # its checkpoint would lose it again
        remove(work / CHECKPOINT)
        raise
    except InputError as error:
        # a loading process hands its traceback over as the message
        raise InputError(str(error).splitlines()[-1].removeprefix("instar.errors.InputError: ")) from None
    except SIGTERMException:
        next_run = "goes on from its checkpoint" if (work / CHECKPOINT).is_file() else "starts anew"
        print(f"classifier: stopped by SIGTERM; the next run {next_run}", file=sys.stderr)
        raise SystemExit(143) from None
    except SystemExit:
        # so Lightning ends after Ctrl-C
        raise KeyboardInterrupt from None
    except pickle.UnpicklingError:
        remove(work / CHECKPOINT)
        raise InputError(f"{work / CHECKPOINT}: no checkpoint of ours, so it is deleted; start again") from None


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
