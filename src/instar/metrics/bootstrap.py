"""Intervals by the bootstrap."""

import numpy as np

#: Draws that are counted at a time: resamples times clusters, so that memory stays small.
CHUNK = 4_000_000


def cluster_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """95 % percentile interval of a mean whose values depend on each other within a cluster (Field & Welsh 2007).

    Whole clusters are drawn with replacement, as many as there are: photographs of one observation show one animal, so
    they are no independent trials.

    Args:
        values: shape (n,).
        clusters: shape (n,), the cluster of each value; of any type that sorts.
        resamples: at least 1.
        seed: of the draws; they depend on the clusters' sorted names, not on the order of the values.
        groups: shape (n,); where given, the mean of the groups' means is taken (macro), over those groups that a
            resample holds.

    Returns:
        The 2.5th and the 97.5th percentile; two NaN where there is no value.
    """
    if len(values) == 0:
        return float("nan"), float("nan")
    names, cluster = np.unique(clusters, return_inverse=True)
    _, group = np.unique(np.zeros(len(values)) if groups is None else groups, return_inverse=True)
    # values of one cluster and group always come together, so their sum and number stand for them
    pairs, pair = np.unique(np.stack([group, cluster]), axis=1, return_inverse=True)
    sums, sizes = np.bincount(pair, values), np.bincount(pair)
    starts = np.flatnonzero(np.diff(pairs[0], prepend=-1))
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, CHUNK // len(names))
    for start in range(0, resamples, step):
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(step, resamples - start))
        drawn = draws[:, pairs[1]]
        totals = np.add.reduceat(drawn * sums, starts, axis=1)
        counts = np.add.reduceat(drawn * sizes, starts, axis=1)
        means.append(np.sum(totals / np.maximum(counts, 1), axis=1) / np.sum(counts > 0, axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
