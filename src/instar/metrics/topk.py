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
