"""Intervals by the bootstrap."""

from dataclasses import dataclass

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
    pairs = _Pairs.of(clusters, groups)
    sums = np.bincount(pairs.pair, values)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, CHUNK // pairs.clusters)
    for start in range(0, resamples, step):
        drawn = pairs.drawn(rng, min(step, resamples - start))
        means.append(pairs.means(drawn, drawn * sums))
    return _interval(means)


def crossed_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    *,
    resamples: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """95 % percentile interval of a mean over several trainings that were judged on the same clusters.

    Trainings and clusters are drawn with replacement, each as many as there are and independently of each other, and a
    value counts as often as both its training and its cluster were drawn: the pigeonhole bootstrap of Owen 2007 (The
    Annals of Applied Statistics 1, 386-411) for two crossed random effects. It holds both that another seed would have
    learnt something else and that other observations would have been judged. For a paired difference of two methods,
    give the differences.

    Plain draws of n trainings would admit only (n - 1) / n of their variance, two thirds with three. So the deviation
    of each draw from all trainings is stretched by the root of n / (n - 1) (Rao & Wu 1988, Journal of the American
    Statistical Association 83, 231-241, with as many draws as trainings), and a bound may lie outside the range of the
    values. So few draws have no far tails: of three normal trainings alone the interval would hold the truth in 81 % of
    cases. Of one training it knows the clusters alone.

    Args:
        values: shape (n_trainings, n).
        clusters: shape (n,), the cluster of each column; of any type that sorts.
        resamples: at least 1.
        seed: of the draws; they depend on the clusters' sorted names, not on the order of the values.
        groups: shape (n,); where given, the mean of the groups' means is taken (macro), over those groups that a
            resample holds.

    Returns:
        The 2.5th and the 97.5th percentile; two NaN where there is no value.
    """
    if values.size == 0:
        return float("nan"), float("nan")
    pairs = _Pairs.of(clusters, groups)
    sums = np.stack([np.bincount(pairs.pair, row) for row in values])
    of_clusters, of_trainings = np.random.default_rng(seed).spawn(2)  # so that the size of a chunk does not matter
    trainings, means = len(values), []
    centre = sums.mean(axis=0)
    deviations = np.sqrt(trainings / max(trainings - 1, 1)) * (sums - centre)  # 0 and no rounding where trainings agree
    step = max(1, CHUNK // max(pairs.clusters, sums.shape[1]))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = pairs.drawn(of_clusters, size)
        shares = of_trainings.multinomial(trainings, np.full(trainings, 1 / trainings), size=size) / trainings
        means.append(pairs.means(drawn, drawn * (centre + shares @ deviations)))
    return _interval(means)


@dataclass(frozen=True)
class _Pairs:
    """The pairs of a group and a cluster that values have.

    The values of one pair always come together, so their sum and number stand for them.
    """

    clusters: int  # how many there are
    pair: np.ndarray  # int64, shape (n,), of each value
    cluster: np.ndarray  # int64, shape (n_pairs,), of each pair; the pairs are sorted by group
    sizes: np.ndarray  # int64, shape (n_pairs,), values of each pair
    starts: np.ndarray  # int64, shape (n_groups,), the first pair of each group

    @classmethod
    def of(cls, clusters: np.ndarray, groups: np.ndarray | None) -> "_Pairs":
        names, cluster = np.unique(clusters, return_inverse=True)
        _, group = np.unique(np.zeros(len(clusters)) if groups is None else groups, return_inverse=True)
        pairs, pair = np.unique(np.stack([group, cluster]), axis=1, return_inverse=True)
        starts = np.flatnonzero(np.diff(pairs[0], prepend=-1))
        return cls(len(names), pair, pairs[1], np.bincount(pair), starts)

    def drawn(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """How often each pair comes in each resample, int64 (size, n_pairs): as often as its cluster was drawn."""
        shares = np.full(self.clusters, 1 / self.clusters)
        return rng.multinomial(self.clusters, shares, size=size)[:, self.cluster]

    def means(self, drawn: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Mean of the groups' means in each resample, over the groups that it holds, of the pairs' drawn sums."""
        totals = np.add.reduceat(sums, self.starts, axis=1)
        counts = np.add.reduceat(drawn * self.sizes, self.starts, axis=1)
        return np.asarray(np.sum(totals / np.maximum(counts, 1), axis=1) / np.sum(counts > 0, axis=1))


def _interval(means: list[np.ndarray]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
