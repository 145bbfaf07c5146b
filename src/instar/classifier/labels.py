"""The hierarchy of classes that a classifier learns, and what each loss makes of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

#: From the lowest: ranks of classes, and columns of the dataset that hold a crop's ancestor at that rank.
RANKS = ("species", "genus")
#: Rank of the classes where these are individuals.
INDIVIDUAL = "individual"


@dataclass(frozen=True)
class LabelSpace:
    """The classes: taxa that crops are labelled with, and every ancestor of these at one of the ranks.

    Attributes:
        names: unique.
        ranks: of each class, the lowest first.
        parents: place of each class's nearest ancestor among the classes, -1 where it has none.
    """

    names: tuple[str, ...]
    ranks: tuple[str, ...]
    parents: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_of_species(self) -> bool:
        """Whether these are species and genera, and not the ranks above."""
        return set(self.ranks) <= set(RANKS)

    @cached_property
    def leaves(self) -> np.ndarray:
        """int64: the classes that are no other's ancestor, ascending."""
        return np.setdiff1d(np.arange(len(self)), np.array(self.parents, dtype=np.int64))

    @cached_property
    def lineages(self) -> tuple[tuple[int, ...], ...]:
        """Of each class itself, its parent, and so on up."""
        found = []
        for index in range(len(self)):
            lineage = [index]
            while self.parents[lineage[-1]] >= 0:
                lineage.append(self.parents[lineage[-1]])
            found.append(tuple(lineage))
        return tuple(found)

    def of_rank(self, rank: str) -> np.ndarray:
        """int64: the classes of a rank, ascending."""
        return np.flatnonzero(np.array(self.ranks, dtype=object) == rank)

    def ancestors(self, rank: str) -> np.ndarray:
        """int64, shape (n_classes,): of each class the one of this rank that it is or belongs to, -1 for none."""
        found = np.full(len(self), -1, dtype=np.int64)
        for index, lineage in enumerate(self.lineages):
            found[index] = next((node for node in lineage if self.ranks[node] == rank), -1)
        return found

    def targets(self, labels: Iterable[str]) -> np.ndarray:
        """Places of labels among the classes, int64, shape (n,).

        Raises:
            KeyError: if a label is none of the classes.
        """
        place = {name: index for index, name in enumerate(self.names)}
        return np.array([place[label] for label in labels], dtype=np.int64)


def label_space(rows: pd.DataFrame, ranks: Sequence[str] = RANKS) -> LabelSpace:
    """The classes of rows of the dataset: their labels and these labels' ancestors, the lowest rank first, by name.

    Args:
        rows: columns ``rank`` (of the label) and one for each of ``ranks``; what stands below the label's rank is not
            looked at, and a lineage may lack a rank between others.
        ranks: from the lowest.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for level, rank in enumerate(ranks):
        # the rows labelled here or lower; the next column that says something says whose child the taxon is
        part = rows[rows["rank"].isin(ranks[: level + 1])]
        pairs = part[list(ranks[level:])].drop_duplicates()
        # of two lineages of one taxon the one that tells more counts: its nearest ancestor is the lower one
        near = pairs[pairs[rank].notna()].sort_values(list(pairs.columns), na_position="last")
        for name, *above in near.drop_duplicates(rank).itertuples(index=False):
            found[name] = (rank, next((parent for parent in above if not pd.isna(parent)), None))
    names = list(found)
    place = {name: index for index, name in enumerate(names)}
    parents = tuple(-1 if parent is None else place[parent] for _, parent in found.values())
    return LabelSpace(tuple(names), tuple(rank for rank, _ in found.values()), parents)


@dataclass(frozen=True)
class Mixtures:
    """Targets beyond the classes: several classes, each with its share.

    Attributes:
        classes: int64, shape (n_mixtures, m); the first one is the label.
        shares: float32, shape (n_mixtures, m), each row sums to 1; 0 where a mixture has fewer than m classes.
    """

    classes: np.ndarray
    shares: np.ndarray


#: Targets that are classes alone.
NO_MIXTURES = Mixtures(np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32))


def mixed_targets(
    labels: LabelSpace, names: Iterable[str], low: Iterable[Sequence[str]], low_shares: Iterable[float]
) -> tuple[np.ndarray, Mixtures]:
    """Targets of crops whose labels leave something open.

    A crop that may be of further classes has a mixture for its target: the label has 1 - s, the others have the rest in
    equal parts. Crops with the same mixture share one.

    Args:
        labels: the classes.
        names: of each crop's label.
        low: of each crop the names of further classes.
        low_shares: of each crop s, in [0, 1).

    Returns:
        int64, shape (n,): of each crop the class of its label or, from ``len(labels)`` up, its mixture.
    """
    targets = labels.targets(names)
    found: dict[tuple[float, tuple[int, ...]], int] = {}
    for index, (further, share) in enumerate(zip(low, low_shares, strict=True)):
        if len(further) and share > 0:
            parts = (int(targets[index]), *labels.targets(sorted(further)).tolist())
            targets[index] = len(labels) + found.setdefault((float(share), parts), len(found))
    if not found:
        return targets, NO_MIXTURES
    most = max(len(parts) for _, parts in found)
    classes, shares = np.zeros((len(found), most), np.int64), np.zeros((len(found), most), np.float32)
    for index, (share, parts) in enumerate(found):
        classes[index, : len(parts)] = parts
        shares[index, : len(parts)] = [1 - share, *[share / (len(parts) - 1)] * (len(parts) - 1)]
    return targets, Mixtures(classes, shares)


@dataclass(frozen=True)
class Targets:
    """What a network's outputs stand for, and which of them earn something under each label.

    Attributes:
        outputs: int64, shape (n_outputs,), the class of each output.
        starts: int64, shape (n_classes,), of each label the place of its first entry in ``earning``.
        counts: int64, shape (n_classes,), the number of its entries.
        earning: int64, shape (m,), outputs that earn something, label by label.
        log_rewards: float32, shape (m,), the logarithm of what they earn.
    """

    outputs: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    earning: np.ndarray
    log_rewards: np.ndarray


#: What the true taxon's parent earns, and what its children earn together ("Identifying ants with object detection and
#: classification models").
PARENT_REWARD, CHILDREN_REWARD = 0.2, 0.8


def targets_of(labels: LabelSpace, loss: str) -> Targets:
    """The outputs of a network under a loss, and their rewards.

    ``reward``: an output for each class. The true class earns 1, its parent 0.2, each of its n children 0.8 / n.
    ``marginal``: an output for each leaf. Each leaf that is or belongs to the true class earns 1, so that a class's
    probability is the sum over its leaves. ``flat``, and what individuals are learnt by: an output for each class;
    only the true one earns, 1.
    """
    earned: list[dict[int, float]] = [{index: 1.0} for index in range(len(labels))]
    outputs = labels.leaves if loss == "marginal" else np.arange(len(labels))
    if loss == "marginal":
        place = {int(leaf): output for output, leaf in enumerate(outputs)}
        earned = [{} for _ in labels.names]
        for leaf, output in place.items():
            for node in labels.lineages[leaf]:
                earned[node][output] = 1.0
    elif loss == "reward":
        children = np.bincount([parent for parent in labels.parents if parent >= 0], minlength=len(labels))
        for index, parent in enumerate(labels.parents):
            if parent >= 0:
                earned[index][parent] = PARENT_REWARD
                earned[parent][index] = CHILDREN_REWARD / children[parent]
    counts = np.array([len(rewards) for rewards in earned], dtype=np.int64)
    earning = np.array([output for rewards in earned for output in rewards], dtype=np.int64)
    rewards = np.array([reward for rewards in earned for reward in rewards.values()], dtype=np.float32)
    starts = np.cumsum(counts) - counts
    return Targets(np.asarray(outputs, dtype=np.int64), starts, counts, earning, np.log(rewards))
