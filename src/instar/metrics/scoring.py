"""Points of two identifiers on the same photographs, and how sure their difference is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from instar.metrics.bootstrap import cluster_bootstrap

SPECIES_FIRST, SPECIES_AMONG, GENUS_FIRST, GENUS_AMONG = 10, 5, 3, 1
#: Answers that count.
ANSWERS = 5


class Name(NamedTuple):
    """An accepted name; without a species where only the genus is said, without both where nothing is."""

    species: str | None
    genus: str | None


def points(truth: Name, answers: Sequence[Name]) -> int:
    """Points for an identifier's answers, best first, of which the first five count.

    The species as first answer is worth 10, among the five 5; the genus as first answer 3, among the five 1. Only the
    best of these counts: whoever names the species has named its genus, too, so the points for genus are a consolation
    and no addition, and no photograph is worth more than 10.

    >>> points(Name("Lasius niger", "Lasius"), [Name("Lasius flavus", "Lasius"), Name("Lasius niger", "Lasius")])
    5
    """
    species = [answer.species for answer in answers[:ANSWERS]]
    genera = [answer.genus for answer in answers[:ANSWERS]]
    if truth.species and truth.species in species:
        return SPECIES_FIRST if species[0] == truth.species else SPECIES_AMONG
    if truth.genus and truth.genus in genera:
        return GENUS_FIRST if genera[0] == truth.genus else GENUS_AMONG
    return 0


def compared(
    ours: np.ndarray, other: np.ndarray, observations: np.ndarray, *, resamples: int, seed: int
) -> dict[str, Any]:
    """What two identifiers reach on the same photographs; those where both are fully right are left out.

    Args:
        ours: int64, shape (n,), points of each photograph.
        other: likewise, of the other identifier.
        observations: shape (n,), of each photograph; whole ones are resampled.
        resamples: at least 1.
        seed: of the resampling.

    Returns:
        ``photographs`` that count, ``both_right`` that do not, the ``points`` and ``mean_points`` of both, how often
        each is ``better``, and the mean ``difference`` (ours less the other's) with its 95 % interval; means and
        difference are None where no photograph counts.
    """
    counted = ~both_right(ours, other)
    first, second = ours[counted], other[counted]
    difference = (first - second).astype(np.float64)
    low, high = cluster_bootstrap(difference, observations[counted], resamples=resamples, seed=seed)
    any_counts = bool(counted.any())
    return {
        "photographs": int(counted.sum()),
        "both_right": int((~counted).sum()),
        "points": {"ours": int(first.sum()), "other": int(second.sum())},
        "mean_points": {
            "ours": float(first.mean()) if any_counts else None,
            "other": float(second.mean()) if any_counts else None,
        },
        "better": {"ours": int((difference > 0).sum()), "other": int((difference < 0).sum())},
        "difference": {"value": float(difference.mean()), "low": low, "high": high} if any_counts else None,
    }


def both_right(ours: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool, shape (n,): whether both identifiers name the species first, from their points."""
    return np.asarray((ours == SPECIES_FIRST) & (other == SPECIES_FIRST))


def sheet(
    keys: Sequence[str],
    truth: Sequence[Name],
    ours: Sequence[Sequence[Name]],
    other: Sequence[Sequence[Name]],
) -> pd.DataFrame:
    """One row per photograph: its name, the five answers of both identifiers, and the points of both.

    Returns:
        Columns ``photo_key``, ``species``, ``genus``, ``ours_1`` to ``ours_5``, ``other_1`` to ``other_5``,
        ``ours_points``, ``other_points`` and ``counts``, which is false where both are fully right.
    """
    columns: dict[str, Any] = {
        "photo_key": list(keys),
        "species": [name.species for name in truth],
        "genus": [name.genus for name in truth],
    }
    for who, answers in (("ours", ours), ("other", other)):
        for place in range(ANSWERS):
            columns[f"{who}_{place + 1}"] = [_text(given, place) for given in answers]
    for who, answers in (("ours", ours), ("other", other)):
        scores = [points(name, given) for name, given in zip(truth, answers, strict=True)]
        columns[f"{who}_points"] = np.array(scores, dtype=np.int64)
    table = pd.DataFrame(columns)
    return table.assign(counts=~both_right(table["ours_points"].to_numpy(), table["other_points"].to_numpy()))


def _text(answers: Sequence[Name], place: int) -> str:
    return (answers[place].species or answers[place].genus or "") if place < len(answers) else ""
