"""Losses on a batch of logits, and the probabilities of classes that logits mean."""

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from instar.classifier.labels import LabelSpace, Mixtures, targets_of


def expected_reward_loss(
    logits: torch.Tensor, rows: torch.Tensor, outputs: torch.Tensor, log_rewards: torch.Tensor, *, smoothing: float
) -> torch.Tensor:
    """Negative logarithm of the expected reward, with label smoothing.

    With p = softmax(logits), e the smoothing and K outputs,

        L = -(1 - e) log sum_j p_j r_j - e / K sum_j log p_j.

    Where one output earns 1 and no other anything, this is cross-entropy with label smoothing (Szegedy et al. 2016,
    section 7). Without smoothing L is at least -log max_j r_j, where all of p lies on the output that earns most, and
    has no upper limit; its gradient by the logit z_k is p_k (1 - r_k / sum_j p_j r_j). Only outputs that earn something
    are looked at: a mask over all of them costs 10 times as much.

    Args:
        logits: shape (n, K).
        rows: int64, shape (m,), crops; each comes once for every output that earns something, at least once.
        outputs: int64, shape (m,), these outputs.
        log_rewards: shape (m,), logarithm of their reward in (0, 1].
        smoothing: e, in [0, 1).

    Returns:
        Shape (n,), in the precision of the logits.
    """
    loss: torch.Tensor = _ExpectedReward.apply(logits, rows, outputs, log_rewards, smoothing)
    return loss


class _ExpectedReward(torch.autograd.Function):
    """With its gradient written out, since autograd passes once more over all outputs for each term.

    Where q_j = p_j r_j / sum_k p_k r_k, the gradient by z_j is p_j - (1 - e) q_j - e / K.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        rows: torch.Tensor,
        outputs: torch.Tensor,
        log_rewards: torch.Tensor,
        smoothing: float,
    ) -> torch.Tensor:
        log_p = logits.log_softmax(1)
        earned = log_p[rows, outputs] + log_rewards
        # each crop's logsumexp
        most = earned.new_full((len(logits),), -torch.inf).scatter_reduce(0, rows, earned, "amax")
        shares = (earned - most[rows]).exp()
        sums = shares.new_zeros(len(logits)).index_add(0, rows, shares)
        ctx.save_for_backward(log_p, rows, outputs, shares / sums[rows])
        ctx.smoothing = smoothing
        loss = (smoothing - 1) * (most + sums.log())
        return loss - smoothing * log_p.mean(1) if smoothing else loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        log_p, rows, outputs, q = ctx.saved_tensors
        outputs_count, each = log_p.shape[1], upstream[:, None]
        gradient = log_p.exp()
        torch.addcmul(each * (-ctx.smoothing / outputs_count), gradient, each, out=gradient)
        earned = (ctx.smoothing - 1) * q * upstream[rows]
        gradient.view(-1).index_add_(0, rows * outputs_count + outputs, earned)
        return gradient, None, None, None, None


class HierarchicalLoss(torch.nn.Module):
    """The loss of each crop for the index of its class; see ``labels.targets_of`` for the three kinds."""

    def __init__(self, labels: LabelSpace, loss: str, *, smoothing: float) -> None:
        super().__init__()
        targets = targets_of(labels, loss)
        self.smoothing = smoothing
        for name in ("starts", "counts", "earning", "log_rewards"):
            self.register_buffer(name, torch.from_numpy(getattr(targets, name)), persistent=False)
        self.starts: torch.Tensor
        self.counts: torch.Tensor
        self.earning: torch.Tensor
        self.log_rewards: torch.Tensor

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float32 (n,) of logits (n, n_outputs) and int64 targets (n,), indices of classes."""
        counts = self.counts[targets]
        crops = torch.arange(len(targets), device=targets.device)
        rows = crops.repeat_interleave(counts)
        before = counts.cumsum(0) - counts
        places = torch.arange(len(rows), device=rows.device) + (self.starts[targets] - before)[rows]
        earning, log_rewards = self.earning[places], self.log_rewards[places]
        return expected_reward_loss(logits.float(), rows, earning, log_rewards, smoothing=self.smoothing)


class MixedTargetsLoss(torch.nn.Module):
    """The loss for targets that are classes or mixtures of them: the mean of the classes' losses by their shares.

    With the loss ``marginal``, P(c) a class's probability (the sum over its leaves), a label h, one class l that the
    crop may be of besides and its share s, and no smoothing, L = -(1 - s) log P(h) - s log P(l).
    """

    def __init__(self, loss: HierarchicalLoss, classes: int, mixtures: Mixtures) -> None:
        super().__init__()
        self.loss, self.classes = loss, classes
        self.register_buffer("parts", torch.from_numpy(mixtures.classes), persistent=False)
        self.register_buffer("shares", torch.from_numpy(mixtures.shares), persistent=False)
        self.parts: torch.Tensor
        self.shares: torch.Tensor

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float32 (n,) of logits (n, n_outputs) and int64 targets (n,), classes or, behind these, mixtures."""
        mixed = torch.nonzero(targets >= self.classes).flatten()
        if not len(mixed):
            found: torch.Tensor = self.loss(logits, targets)
            return found
        mixtures = targets[mixed] - self.classes
        parts, shares = self.parts[mixtures], self.shares[mixtures]
        single = targets.index_copy(0, mixed, parts[:, 0])
        weights = torch.ones(len(targets), device=logits.device).index_copy(0, mixed, shares[:, 0])
        total: torch.Tensor = weights * self.loss(logits, single)
        for part, share in zip(parts.T[1:], shares.T[1:], strict=True):
            total = total.index_add(0, mixed, share * self.loss(logits[mixed], part))
        return total


class ArcFaceLoss(torch.nn.Module):
    """Cross-entropy of logits whose true class has an angular margin (Deng et al. 2019, equation 3).

    With the angle t between a crop and its class, the margin m and the scale s its logit is s cos(t + m), every other
    s cos(t). Beyond t = pi - m, where cos(t + m) would rise again, it is s (cos t - m sin m), as in the authors' code.

    Args:
        labels: the classes, of one rank.
        margin: m, radians.
        scale: s, that the logits have been multiplied by.
        smoothing: of the target.
    """

    def __init__(self, labels: LabelSpace, *, margin: float, scale: float, smoothing: float) -> None:
        super().__init__()
        self.loss, self.margin, self.scale = HierarchicalLoss(labels, "flat", smoothing=smoothing), margin, scale

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float32 (n,) of logits (n, n_outputs), s cos t, and int64 targets (n,)."""
        found: torch.Tensor = self.loss(arcface_logits(logits, targets, margin=self.margin, scale=self.scale), targets)
        return found


def arcface_logits(logits: torch.Tensor, targets: torch.Tensor, *, margin: float, scale: float) -> torch.Tensor:
    """``logits``, s cos t as float32 (n, n_outputs), with the margin at each row's target; see ``ArcFaceLoss``."""
    logits = logits.float()
    cosines = logits.gather(1, targets[:, None]) / scale
    # the root's gradient has no limit towards 0, where a crop lies on its class's vector or opposite to it
    sines = (1 - cosines.square()).clamp_min(1e-6).sqrt()
    widened = cosines * math.cos(margin) - sines * math.sin(margin)
    far = cosines - margin * math.sin(margin)
    within = cosines > math.cos(math.pi - margin)
    return logits.scatter(1, targets[:, None], scale * torch.where(within, widened, far))


def triplet_loss(embeddings: torch.Tensor, targets: torch.Tensor, *, margin: float) -> torch.Tensor:
    """The batch-hard triplet loss (Hermans et al. 2017, equation 5), its mean over the crops that have a triplet.

    Of each crop max(0, margin + its distance from the farthest one of its individual - from the nearest of another).

    Args:
        embeddings: shape (n, width), each of length 1; distances are Euclidean, in [0, 2].
        targets: int64, shape (n,), individuals.
        margin: at least 0.

    Returns:
        A number; 0 where no crop has both another one of its individual and one of another.
    """
    if not len(targets):
        return embeddings.sum()
    # in bfloat16 two near embeddings would lie at distances in steps of 0.06 and more
    with torch.autocast(embeddings.device.type, enabled=False):
        squares = 2 - 2 * embeddings.float() @ embeddings.float().T
    distances = squares.clamp_min(1e-8).sqrt()  # the gradient has no limit at 0
    same = targets[:, None] == targets
    others = same & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    farthest = distances.masked_fill(~others, -torch.inf).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    whole = others.any(1) & (~same).any(1)
    found = (margin + farthest[whole] - nearest[whole]).relu()
    return found.sum() / max(1, len(found))


class NodeProbabilities(torch.nn.Module):
    """The probability of every class with all that belongs to it, from a network's logits.

    An output that stands for a class above the leaves (``reward`` and ``flat``) adds to that class alone: it says that
    the crop is of this taxon without saying of which child.
    """

    def __init__(self, labels: LabelSpace, loss: str) -> None:
        super().__init__()
        self.classes = len(labels)
        self.register_buffer("outputs", torch.from_numpy(targets_of(labels, loss).outputs), persistent=False)
        self.outputs: torch.Tensor
        depth = torch.tensor([len(lineage) for lineage in labels.lineages])
        parents = torch.tensor(labels.parents)
        # children before their parents, so that a parent's sum is whole when it is added on
        self._steps = [
            (children, parents[children])
            for level in range(int(depth.max()), 1, -1)
            if len(children := torch.nonzero(depth == level).flatten())
        ]

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """float32 (n, n_classes) in [0, 1] of logits (n, n_outputs)."""
        own = logits.float().softmax(1)
        # shape[0] and not len(), which is a constant in a graph that is exported
        nodes = own.new_zeros(own.shape[0], self.classes).index_add(1, self.outputs, own)
        for children, parents in self._steps:
            nodes = nodes.index_add(1, parents.to(nodes.device), nodes[:, children.to(nodes.device)])
        return nodes
