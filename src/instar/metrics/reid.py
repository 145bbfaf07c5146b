"""Rankings as re-identification judges them: rank-k (CMC) and mean average precision.

Of equal scores the wrong ones come first, so that the order of a gallery does not matter and an embedding that is the
same for all photographs is worth nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.metrics.bootstrap import cluster_bootstrap

#: The ranks that are told.
RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Ranking:
    """How far up each query's own individual stands.

    Attributes:
        rank: int64, shape (n,), of the best right one, from 1; 0 where there is none to be found, which does not count.
        precision: float64, shape (n,), average precision in [0, 1]; 0 likewise.
    """

    rank: np.ndarray
    precision: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """bool, shape (n,): the queries that count."""
        return np.asarray(self.rank > 0)


def joined(parts: Sequence[Ranking]) -> Ranking:
    """The rankings of blocks of queries as one."""
    none = Ranking(np.zeros(0, np.int64), np.zeros(0))
    whole = [none, *parts]
    return Ranking(np.concatenate([p.rank for p in whole]), np.concatenate([p.precision for p in whole]))


def photograph_ranking(similarity: np.ndarray, same: np.ndarray) -> Ranking:
    """Where the photographs of the right individual stand among all of a gallery (Zheng et al. 2015, section 3.3).

    Average precision is the mean over the right photographs of the share of right ones down to each; the mean over
    queries is mAP.

    Args:
        similarity: float, shape (n_queries, n_gallery), higher is more alike; -inf for a photograph that does not
            count, such as the query itself. No NaN.
        same: bool, shape (n_queries, n_gallery), whether it shows the query's individual.
    """
    rank, precision = np.zeros(len(similarity), np.int64), np.zeros(len(similarity))
    for row, (scores, of_same) in enumerate(zip(similarity, same, strict=True)):
        taken = scores > -np.inf
        right, wrong = np.sort(scores[of_same & taken])[::-1], np.sort(scores[~of_same & taken])
        if len(right):
            order = np.arange(1, len(right) + 1)
            places = order + len(wrong) - np.searchsorted(wrong, right, side="left")
            rank[row], precision[row] = places[0], np.mean(order / places)
    return Ranking(rank, precision)


def identity_ranking(scores: np.ndarray, target: np.ndarray) -> Ranking:
    """Where the right one stands among the known identities.

    Args:
        scores: float, shape (n_queries, n_identities), -inf for one that is no candidate. No NaN.
        target: int64, shape (n_queries,), the right column; -1 for a query whose individual is not among them.

    Returns:
        The average precision is 1 / rank, for there is one right identity.
    """
    rank = np.zeros(len(scores), np.int64)
    known = np.flatnonzero(target >= 0)
    own = scores[known, target[known]]
    known, own = known[own > -np.inf], own[own > -np.inf]
    # its own column is among those that are as high
    rank[known] = (scores[known] >= own[:, None]).sum(axis=1)
    return Ranking(rank, np.divide(1.0, rank, out=np.zeros(len(rank)), where=rank > 0))


def cmc(ranking: Ranking, length: int) -> np.ndarray:
    """Cumulative match characteristic: the share of queries whose individual is among the first 1, 2, … ``length``.

    Returns:
        float64, shape (length,); zeros where no query counts.
    """
    counted = ranking.rank[ranking.counts]
    hits = np.bincount(counted[counted <= length] - 1, minlength=length)
    return np.cumsum(hits) / max(len(counted), 1)


def figures(
    ranking: Ranking, encounters: np.ndarray, *, resamples: int, seed: int, ranks: Sequence[int] = RANKS
) -> dict[str, Any]:
    """Rank-k and mAP with their 95 % intervals by the bootstrap over encounters.

    Args:
        ranking: of the queries.
        encounters: str, shape (n,), of each query.
        resamples: at least 1.
        seed: of the draws.
        ranks: the k.

    Returns:
        ``queries`` that count and ``without_match`` that do not; ``rank_<k>`` and ``map``, each with ``value``, ``low``
        and ``high``, or None where no query counts.
    """
    counted = ranking.counts
    found: dict[str, Any] = {"queries": int(counted.sum()), "without_match": int((~counted).sum())}
    values = {f"rank_{k}": (ranking.rank[counted] <= k).astype(np.float64) for k in ranks}
    for name, given in (values | {"map": ranking.precision[counted]}).items():
        low, high = cluster_bootstrap(given, encounters[counted].astype(str), resamples=resamples, seed=seed)
        found[name] = {"value": float(given.mean()), "low": low, "high": high} if len(given) else None
    return found
