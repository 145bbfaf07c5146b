"""Training: what is learnt in a step; Lightning runs it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch

from instar.classifier.augment import Augment, mixed_loss, step_generator
from instar.classifier.labels import NO_MIXTURES, LabelSpace, Mixtures, targets_of
from instar.classifier.losses import ArcFaceLoss, HierarchicalLoss, MixedTargetsLoss, triplet_loss
from instar.classifier.model import Description
from instar.classifier.network import Network, parameter_groups, unit
from instar.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are keys of the section ``classifier`` in params.yaml, and the seed."""

    seed: int
    epochs: int
    batch: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    layer_decay: float
    frozen_epochs: int
    schedule: str
    warmup: float
    ema: float
    early_stop: int
    keep: str
    of_each: int
    margin: float
    colour: float
    erasing: float
    mixup: float
    cutmix: float
    precision: str
    compile: bool
    devices: int


@dataclass(frozen=True)
class Epoch:
    """Figures at the end of an epoch; of validation None where there is none."""

    step: int  # steps done by then
    train_loss: float  # balanced and smoothed, mean over the epoch
    learning_rate: float  # of the head
    validation_loss: float | None = None  # neither balanced nor smoothed
    validation_top1: float | None = None  # see ``answered``


def kept_epoch(epochs: Sequence[Epoch], keep: str) -> int:
    """The epoch whose weights are kept, counted from 0.

    ``last``: the last. ``best_top1``: the first of those with the best top-1 on validation. ``best_both``: the last one
    that has both a lower loss and a better top-1 on validation than the one kept before it.

    Args:
        epochs: at least one; of the last two kinds all with figures of validation.
        keep: last, best_top1 or best_both.
    """
    if keep == "last":
        return len(epochs) - 1
    kept = 0
    for index, epoch in enumerate(epochs):
        (top1, loss), (best, least) = _of_validation(epoch), _of_validation(epochs[kept])
        if top1 > best and (loss < least or keep == "best_top1"):
            kept = index
    return kept


def _of_validation(epoch: Epoch) -> tuple[float, float]:
    assert epoch.validation_top1 is not None and epoch.validation_loss is not None
    return epoch.validation_top1, epoch.validation_loss


def learning_rate_share(step: int, *, start: int, steps: int, warmup: float, schedule: str) -> float:
    """Share of the learning rate at a step: 0 before ``start``, up in a line, then down to 0 at ``steps``.

    Args:
        step: from 0.
        start: step at which the parameters begin to learn.
        steps: of the whole training.
        warmup: share of the steps from ``start`` on in which the rate rises.
        schedule: of its fall, cosine or linear.
    """
    if step < start:
        return 0.0
    step, steps = step - start, steps - start
    warm = math.ceil(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


def answered(labels: LabelSpace, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """What the outputs that may be a crop's first guess say at each rank.

    A guess is right where it is the label or belongs to it. Of species only these may be guessed; they are the first
    outputs. Where labels stand at several ranks, any output may.

    Returns:
        int64, shape (n_guessable, n_ranks): the class of each output at each rank, -1 where it is above it; int64,
        shape (n_classes,): the place of each class's rank among these.
    """
    ranks = list(dict.fromkeys(labels.ranks))
    outputs = targets_of(labels, loss).outputs
    if labels.is_of_species:
        outputs = outputs[: len(labels.of_rank(ranks[0]))]
    answers = np.stack([labels.ancestors(rank)[outputs] for rank in ranks], axis=1)
    return answers, np.array([ranks.index(rank) for rank in labels.ranks], np.int64)


class LostLossError(InputError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class _Fixed:
    """What a learner needs on its device and does not learn."""

    loss: MixedTargetsLoss | ArcFaceLoss
    plain_loss: HierarchicalLoss
    class_weights: torch.Tensor  # float32, shape (n_classes + n_mixtures,)
    answers: torch.Tensor  # int64, shape (n_outputs, n_ranks), see ``answered``
    rank: torch.Tensor  # int64, shape (n_classes,), place of each class's rank

    def to(self, device: torch.device) -> "_Fixed":
        return _Fixed(*(getattr(self, field.name).to(device) for field in fields(self)))


class Learner(lightning.LightningModule):
    """A network with its loss, optimiser and schedule; keeps the figures of every epoch."""

    def __init__(
        self,
        network: Network,
        description: Description,
        recipe: Recipe,
        class_weights: torch.Tensor,
        smoothing: float,
        mixtures: Mixtures = NO_MIXTURES,
    ) -> None:
        super().__init__()
        self.network, self.description, self.recipe = network, description, recipe
        self.augment = Augment(
            colour=recipe.colour,
            erasing=recipe.erasing,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            mean=description.mean,
            std=description.std,
        )
        # no modules and buffers of this one, which averaging of weights would average, too: indices, sums
        labels, loss = description.labels, description.loss
        answers, rank = answered(labels, loss)
        of_mixtures = class_weights[torch.from_numpy(mixtures.classes[:, 0])]  # their labels'
        learnt = (
            ArcFaceLoss(labels, margin=recipe.margin, scale=description.scale, smoothing=smoothing)
            if loss == "arcface"
            else MixedTargetsLoss(HierarchicalLoss(labels, loss, smoothing=smoothing), len(labels), mixtures)
        )
        self._fixed = _Fixed(
            learnt,
            HierarchicalLoss(labels, loss, smoothing=0.0),
            torch.cat([class_weights, of_mixtures]).float(),
            torch.from_numpy(answers),
            torch.from_numpy(rank),
        )
        self._train = torch.zeros(2, dtype=torch.float64)  # sums of loss, batches
        self._validation = torch.zeros(3, dtype=torch.float64)  # sums of loss, hits, crops
        self.epochs: list[Epoch] = []
        # where a checkpoint was written: in this epoch, behind so many of its batches
        self.resumed_epoch = self.resumed_batches = 0

    @property
    def frozen(self) -> bool:
        """Whether the backbone does not learn in this epoch."""
        return self.current_epoch < self.recipe.frozen_epochs

    def forward(self, pixels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_outputs) of uint8 (n, 3, image_px, image_px) and places (n, 2)."""
        logits: torch.Tensor = self.network(self.description.normalise(pixels), places)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The loss of one batch of pixels, or of a frozen backbone's features."""
        given, places, targets = batch
        if self.network.backbone.training == self.frozen:
            # a frozen backbone neither drops out nor moves its batch statistics
            self.network.backbone.train(not self.frozen)
        # what is random in a step depends on its number alone, so that a training gone on with is the same
        step = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        generator = step_generator(self.recipe.seed, step, rank=self.global_rank)
        torch.manual_seed(generator.initial_seed())
        partner, share = None, 1.0
        if given.ndim == 2:
            features = given.float()
        else:
            pixels, partner, share = self.augment(self.description.normalise(given), generator)
            with torch.set_grad_enabled(not self.frozen):
                features = self.network.backbone(pixels)
        vectors = self.network.embedding(features)
        by_distance = self.description.loss == "triplet"
        # triplets alone move the embedding; the head learns its classes as they lie there, for the scores of a softmax
        logits = self.network.classify_embedded(vectors.detach() if by_distance else vectors, places)
        loss = mixed_loss(partial(self._balanced, logits), targets, partner, share)
        if by_distance:
            loss = loss + triplet_loss(unit(vectors), targets, margin=self.recipe.margin)
        counted = torch.stack([loss.detach().double(), loss.new_ones((), dtype=torch.float64)])
        self._train += counted
        return loss

    def _balanced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean over the batch of each crop's loss times its class's weight (Cui et al. 2019, equation 8).

        Divided by the number of crops, not by the sum of the weights, which would take a rare class's weight away
        again where the batch is small.
        """
        return (self._fixed.loss(logits, targets) * self._fixed.class_weights[targets]).mean()

    def validation_step(self, batch: Any, _: int) -> None:
        """Count one batch."""
        pixels, places, targets = batch
        logits = self(pixels, places).float()
        best = self._fixed.answers[logits[:, : len(self._fixed.answers)].argmax(1)]
        hits = (best.gather(1, self._fixed.rank[targets][:, None])[:, 0] == targets).sum()
        loss = self._fixed.plain_loss(logits, targets).sum()
        counted = torch.stack([loss.double(), hits.double(), loss.new_tensor(len(targets)).double()])
        self._validation += counted

    def is_kept(self) -> bool:
        """Whether the weights of the validation that has just ended are those to keep so far."""
        loss, hits, count = self._reduced(self._validation).tolist()
        now = Epoch(0, 0.0, 0.0, loss / count, hits / count)
        return kept_epoch([*self.epochs, now], self.recipe.keep) == len(self.epochs)

    def _reduced(self, sums: torch.Tensor) -> torch.Tensor:
        """Sums of all processes."""
        # reduced in place where there are several
        found: torch.Tensor = self.trainer.strategy.reduce(sums.clone(), reduce_op="sum")
        return found

    def mean_loss(self) -> float:
        """Of the batches of this epoch so far.

        Raises:
            LostLossError: if it is not a number any more.
        """
        total, count = self._train.tolist()
        if not math.isfinite(total):
            raise LostLossError(
                f"the loss is {total} in epoch {self.current_epoch + 1} at classifier.learning_rate = "
                f"{self.recipe.learning_rate:g}; lower classifier.learning_rate"
            )
        return total / max(count, 1.0)

    def end_epoch(self) -> Epoch:
        """Note the figures of an epoch that has been trained and validated, and start the next one's from nothing."""
        for sums in (self._train, self._validation):
            sums.copy_(self._reduced(sums))
        loss, hits, count = self._validation.tolist()
        rate = self.trainer.optimizers[0].param_groups[-1]["lr"]
        measured = (loss / count, hits / count) if count else ()
        self.epochs.append(Epoch(self.global_step, self.mean_loss(), rate, *measured))
        self._train.zero_()
        self._validation.zero_()
        return self.epochs[-1]

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases and norms; every part of the network warms up when it begins to learn."""
        recipe = self.recipe
        groups = parameter_groups(self.network, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        unfrozen = steps * recipe.frozen_epochs // recipe.epochs
        shares: list[Callable[[int], float]] = [
            partial(
                learning_rate_share,
                start=unfrozen if group.pop("backbone") else 0,
                steps=steps,
                warmup=recipe.warmup,
                schedule=recipe.schedule,
            )
            for group in groups
        ]
        optimiser = torch.optim.AdamW(
            [{**group, "lr": recipe.learning_rate * group.pop("lr_scale")} for group in groups]
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, shares)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not keep: the figures so far, those of this epoch over all processes.

        Gradients that wait for their step are in no checkpoint: each process has others. So write none amid an
        accumulation.
        """
        checkpoint["epochs"] = [tuple(vars(epoch).values()) for epoch in self.epochs]
        checkpoint["train_sums"] = self._reduced(self._train)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.epochs = [Epoch(*fields) for fields in checkpoint["epochs"]]
        self._train.zero_()
        if self.global_rank == 0:  # the sum over all processes counts once
            self._train.copy_(checkpoint["train_sums"])
        progress = checkpoint["loops"]["fit_loop"]
        epoch = progress["epoch_progress"]["current"]
        self.resumed_epoch = epoch["processed"]
        # behind an epoch's end the batches are still that epoch's
        within = epoch["ready"] > epoch["processed"]
        self.resumed_batches = progress["epoch_loop.batch_progress"]["current"]["processed"] if within else 0

    def on_fit_start(self) -> None:
        """What is no module of this one is not moved with it."""
        self._fixed = self._fixed.to(self.device)
        # beside the loss: a sum elsewhere would make each step wait for it
        self._train, self._validation = self._train.to(self.device), self._validation.to(self.device)
