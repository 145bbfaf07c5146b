"""Top-k accuracy."""

import numpy as np


def top_indices(scores: np.ndarray, k: int) -> np.ndarray:
    """The classes with the highest scores, best first; of equal ones the first class.

    Args:
        scores: shape (n, n_classes).
        k: how many; all where there are fewer classes.

    Returns:
        int64, shape (n, min(k, n_classes)).
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def top_hits(top: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Whether the target is among the first k.

    Args:
        top: int64, shape (n, m), classes by falling score.
        targets: int64, shape (n,).
        k: at least 1; above m it is taken for m.

    Returns:
        bool, shape (n,).
    """
    return np.asarray((top[:, :k] == targets[:, None]).any(axis=1))


def group_sums(scores: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum the scores of the classes of each group, for instance the species of each genus.

    Args:
        scores: shape (n, n_classes).
        groups: int64, shape (n_classes,), in [0, n_groups).
        n_groups: number of groups.

    Returns:
        float64, shape (n, n_groups).
    """
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    sums = np.zeros((len(scores), n_groups))
    sums[:, present] = np.add.reduceat(scores[:, order].astype(np.float64), starts, axis=1)
    return sums
