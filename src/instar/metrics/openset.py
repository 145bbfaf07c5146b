"""Who is it, or is it new: balanced accuracy on known and on unknown individuals, and where to draw the line.

A photograph whose individual is none of the known ones is answered rightly by ``NEW_INDIVIDUAL`` alone. Its best
candidate is the answer where that one's score reaches a threshold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from instar.metrics.bootstrap import interval, resampled_means
from instar.tables import NEW_INDIVIDUAL

#: Scores of two thresholds that differ by less are the same plateau: sums of the same shares in other orders.
SAME = 1e-12


@dataclass(frozen=True)
class Judged:
    """Photographs whose individuals are told, and the best candidate of each.

    Attributes:
        identity: str, shape (n,), the true individual.
        is_new: bool, shape (n,), whether it is none of the known ones.
        dataset: str, shape (n,).
        encounter: str, shape (n,).
        best: str, shape (n,), the identity with the highest score.
        score: float, shape (n,), of it, higher is more alike; -inf where there is no candidate. No NaN.
    """

    identity: np.ndarray
    is_new: np.ndarray
    dataset: np.ndarray
    encounter: np.ndarray
    best: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        if np.isnan(self.score).any() or np.isposinf(self.score).any():
            raise ValueError("a score is NaN or inf; one without a candidate is -inf")

    def __len__(self) -> int:
        return len(self.identity)

    def where(self, chosen: np.ndarray) -> "Judged":
        """Those that a mask, bool (n,), chooses."""
        return Judged(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def answers(self, thresholds: float | Mapping[str, float]) -> np.ndarray:
        """The best candidate or ``NEW_INDIVIDUAL``, object, shape (n,), by one threshold or one for each data set."""
        return answers(self.best, self.score, self.dataset, thresholds)


def answers(
    best: np.ndarray, score: np.ndarray, dataset: np.ndarray, thresholds: float | Mapping[str, float]
) -> np.ndarray:
    """The best candidate where its score reaches the threshold, or else ``NEW_INDIVIDUAL``.

    Args:
        best: str, shape (n,).
        score: float, shape (n,); -inf where there is no candidate, which reaches no threshold.
        dataset: str, shape (n,).
        thresholds: of all data sets or of each.

    Returns:
        object, shape (n,).
    """
    if isinstance(thresholds, Mapping):
        # of a data set without a threshold nothing is believed; ``thresholds`` gives one to each
        least = np.array([thresholds.get(name, np.inf) for name in dataset], np.float64)
    else:
        least = np.full(len(best), thresholds, np.float64)
    # in float64: a threshold between two neighbouring float32 would be rounded to one of them
    wide = score.astype(np.float64)
    return np.where((wide >= least) & (wide > -np.inf), best, NEW_INDIVIDUAL).astype(object)


def baks(identity: np.ndarray, is_new: np.ndarray, answer: np.ndarray) -> float:
    """Balanced accuracy on known samples: the mean over known individuals of their share that is answered rightly.

    Args:
        identity: str, shape (n,), the true individuals of one data set.
        is_new: bool, shape (n,).
        answer: str, shape (n,), an identity or ``NEW_INDIVIDUAL``.

    Returns:
        In [0, 1]; 0 where there is no known individual, as the organisers of AnimalCLEF25 count it.
    """
    return _balanced(identity[~is_new], (answer == identity)[~is_new])


def baus(identity: np.ndarray, is_new: np.ndarray, answer: np.ndarray) -> float:
    """Balanced accuracy on unknown samples: the mean over new individuals of their share that is answered as new.

    Arguments and result are as those of ``baks``; 0 where there is no new individual.
    """
    return _balanced(identity[is_new], (answer == NEW_INDIVIDUAL)[is_new])


def _balanced(identity: np.ndarray, right: np.ndarray) -> float:
    if not len(identity):
        return 0.0
    _, code = np.unique(identity.astype(str), return_inverse=True)
    return float(np.mean(np.bincount(code, right) / np.bincount(code)))


def figures(judged: Judged, answer: np.ndarray) -> dict[str, Any]:
    """BAKS, BAUS and their geometric mean, for each data set and as the mean over data sets.

    Args:
        judged: photographs.
        answer: str, shape (n,), see ``Judged.answers``.

    Returns:
        ``datasets``: by name, sorted, ``baks``, ``baus``, ``score``, ``photographs``, ``known`` and ``new``
        (individuals) and ``new_photographs``; ``baks``, ``baus`` and ``score``: the means over data sets; the score is
        the mean of scores and not the score of means. All 0 where there is no photograph.
    """
    datasets = {}
    for name in np.unique(judged.dataset.astype(str)):
        of_one = judged.dataset == name
        identity, is_new = judged.identity[of_one], judged.is_new[of_one]
        known, new = baks(identity, is_new, answer[of_one]), baus(identity, is_new, answer[of_one])
        datasets[str(name)] = {
            "baks": known,
            "baus": new,
            "score": float(np.sqrt(known * new)),
            "photographs": int(of_one.sum()),
            "new_photographs": int(is_new.sum()),
            "known": len(set(identity[~is_new])),
            "new": len(set(identity[is_new])),
        }
    means = {
        name: float(np.mean([row[name] for row in datasets.values()])) if datasets else 0.0
        for name in ("baks", "baus", "score")
    }
    return {"datasets": datasets, **means}


def intervals(judged: Judged, answer: np.ndarray, *, resamples: int, seed: int) -> dict[str, Any]:
    """95 % intervals of ``figures`` by the bootstrap over encounters.

    An encounter is one individual on one day, so it is of one data set and known or new: each of these parts is drawn
    for itself, as many encounters as it has, see ``metrics.bootstrap``. In a data set whose new ones are the known ones
    a second time, as stand-ins, both copies of an encounter are drawn together.

    Returns:
        As ``figures``, with (low, high) in the place of ``baks``, ``baus`` and ``score`` and without the numbers. A
        figure that counts as 0 since there is nothing has no width.
    """
    known, new = answer == judged.identity, answer == NEW_INDIVIDUAL
    drawn = {}
    for place, name in enumerate(np.unique(judged.dataset.astype(str))):
        means = {}
        of_one = judged.dataset == name
        encounters = [set(judged.encounter[of_one & chosen]) for chosen in (~judged.is_new, judged.is_new)]
        copies = encounters[0] == encounters[1]
        for kind, (right, chosen) in enumerate(((known, ~judged.is_new), (new, judged.is_new))):
            rows = chosen & of_one
            means["baus" if kind else "baks"] = (
                resampled_means(
                    right[rows].astype(np.float64),
                    judged.encounter[rows].astype(str),
                    resamples=resamples,
                    seed=(seed, place, 0 if copies else kind),  # the same draws of the same encounters
                    groups=judged.identity[rows].astype(str),
                )
                if rows.any()
                else np.zeros(resamples)
            )
        drawn[str(name)] = means | {"score": np.sqrt(means["baks"] * means["baus"])}
    over = {
        figure: interval(np.mean([means[figure] for means in drawn.values()], axis=0)) if drawn else (0.0, 0.0)
        for figure in ("baks", "baus", "score")
    }
    return {"datasets": {name: {key: interval(row) for key, row in of.items()} for name, of in drawn.items()}, **over}


def sweep(judged: Judged) -> pd.DataFrame:
    """The figures at every threshold that makes a difference, exactly, in n log n.

    Args:
        judged: photographs; where they are of several data sets, the curve is of the means over these.

    Returns:
        One row for each distinct score and one above all, by rising threshold: ``low`` and ``high``, between which
        (above low, up to high) every threshold answers alike; -inf and inf at the ends; ``baks``, ``baus``, ``score``.
    """
    wide = judged.score.astype(np.float64)
    values, position = np.unique(wide, return_inverse=True)
    alone = len(values) > 0 and values[0] == -np.inf  # without a candidate: new at every threshold
    levels = values[1:] if alone else values
    position = position - int(alone)
    names = np.unique(judged.dataset.astype(str))
    known, new, scores = (np.zeros(len(levels) + 1) for _ in range(3))
    right = (judged.best == judged.identity) & ~judged.is_new & (wide > -np.inf)
    for name in names:
        rows = judged.dataset == name
        is_new, share = judged.is_new[rows], _shares(judged.identity[rows], judged.is_new[rows])
        place = position[rows]
        # row t keeps the best candidates of the levels t and above
        gained = np.bincount(place[right[rows]], share[right[rows]], len(levels) + 1)
        lost = np.bincount(place[is_new] + 1, share[is_new], len(levels) + 1)
        of_known, of_new = np.cumsum(gained[::-1])[::-1], np.cumsum(lost)
        known, new, scores = known + of_known, new + of_new, scores + np.sqrt(of_known * of_new)
    divisor = max(len(names), 1)
    return pd.DataFrame(
        {
            "low": np.concatenate([[-np.inf], levels]),
            "high": np.concatenate([levels, [np.inf]]),
            "baks": known / divisor,
            "baus": new / divisor,
            "score": scores / divisor,
        }
    )


def _shares(identity: np.ndarray, is_new: np.ndarray) -> np.ndarray:
    """What each photograph of a data set adds to BAKS or to BAUS if it is answered rightly, float64, shape (n,)."""
    share = np.zeros(len(identity))
    for chosen in (is_new, ~is_new):
        if chosen.any():
            _, code = np.unique(identity[chosen].astype(str), return_inverse=True)
            counts = np.bincount(code)
            share[chosen] = 1 / (len(counts) * counts[code])
    return share


def best_threshold(curve: pd.DataFrame) -> float:
    """The threshold with the highest score: the middle of its plateau; of several plateaus the widest, then the lowest.

    Args:
        curve: of ``sweep``.

    Returns:
        No infinity. A plateau that is open to one side counts as far as the outermost score. 0 where there is no score.
    """
    low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
    if len(curve) == 1:
        return 0.0
    best = np.append(curve["score"].to_numpy() >= curve["score"].max() - SAME, False)
    starts = np.flatnonzero(best & ~np.concatenate([[False], best[:-1]]))
    ends = np.flatnonzero(~best & np.concatenate([[False], best[:-1]])) - 1
    least, most = high[0], low[-1]
    widths = np.minimum(high[ends], most) - np.maximum(low[starts], least)
    widest = int(np.argmax(widths))
    # the lower end itself belongs to the plateau below
    below, above = max(low[starts[widest]], least), min(high[ends[widest]], most)
    middle = below + (above - below) / 2
    return float(middle if middle > low[starts[widest]] else above)


def thresholds(judged: Judged, *, per_dataset: bool, datasets: Iterable[str] = ()) -> dict[str, float]:
    """The best threshold for each data set: its own, or the one that is best for the mean over all.

    A data set that lacks known or new individuals here has none of its own, for its score is 0 wherever the line is
    drawn, and takes the common one, which is best for the mean over those that have both.

    Args:
        judged: photographs of validation.
        per_dataset: choose each by itself where it can be.
        datasets: further ones that may have no photograph here.

    Returns:
        By the data set's name, sorted.
    """
    names = sorted({*judged.dataset.astype(str), *datasets})
    rows = {name: judged.dataset == name for name in names}
    both = [name for name in names if 0 < judged.is_new[rows[name]].sum() < rows[name].sum()]
    whole = judged.where(np.isin(judged.dataset.astype(str), both)) if both else judged
    found = dict.fromkeys(names, best_threshold(sweep(whole)))
    if per_dataset:
        found |= {name: best_threshold(sweep(judged.where(rows[name]))) for name in both}
    return found
