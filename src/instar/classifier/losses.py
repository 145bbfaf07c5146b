"""Losses on a batch of logits, and the probabilities of classes that logits mean."""

import torch

from instar.classifier.labels import LabelSpace, targets_of


def expected_reward_loss(
    logits: torch.Tensor, members: torch.Tensor, log_rewards: torch.Tensor, *, smoothing: float
) -> torch.Tensor:
    """Negative logarithm of the expected reward, with label smoothing.

    With p = softmax(logits), e the smoothing and K outputs,

        L = -(1 - e) log sum_j p_j r_j - e / K sum_j log p_j.

    Where one output earns 1 and no other anything, this is cross-entropy with label smoothing (Szegedy et al. 2016,
    section 7). Without smoothing L is at least -log max_j r_j, where all of p lies on the output that earns most, and
    has no upper limit; its gradient by the logit z_k is p_k (1 - r_k / sum_j p_j r_j). Only outputs that earn something
    are gathered: a mask over all of them costs 10 times as much.

    Args:
        logits: shape (n, K).
        members: int64, shape (n, m), outputs that earn something.
        log_rewards: shape (n, m), logarithm of the reward in (0, 1]; -inf for what is no member.
        smoothing: e, in [0, 1).

    Returns:
        Shape (n,), in the precision of the logits.
    """
    total = logits.logsumexp(1)
    earned = (logits.gather(1, members) + log_rewards).logsumexp(1)
    loss = total - (1 - smoothing) * earned
    return loss - smoothing * logits.mean(1) if smoothing else loss


class HierarchicalLoss(torch.nn.Module):
    """The loss of each crop for the index of its class; see ``labels.targets_of`` for the three kinds."""

    def __init__(self, labels: LabelSpace, loss: str, *, smoothing: float) -> None:
        super().__init__()
        targets = targets_of(labels, loss)
        self.smoothing = smoothing
        self.register_buffer("members", torch.from_numpy(targets.members), persistent=False)
        self.register_buffer("log_rewards", torch.from_numpy(targets.log_rewards), persistent=False)
        self.members: torch.Tensor
        self.log_rewards: torch.Tensor

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float32 (n,) of logits (n, n_outputs) and int64 targets (n,), indices of classes."""
        return expected_reward_loss(
            logits.float(), self.members[targets], self.log_rewards[targets], smoothing=self.smoothing
        )


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
