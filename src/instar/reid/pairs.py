"""The pairs of photographs that a person should compare, those first whose answer tells most."""

from collections import Counter

import numpy as np
import pandas as pd

#: What is added where the answer that is more probable would change who is who.
BONUS = 0.25

COLUMNS = (
    "photo_key", "other_photo_key", "dataset", "identity", "other_identity", "probability", "would", "value",
)  # fmt: skip


def pair_values(probability: np.ndarray, identity: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much is learnt from a person who compares two photographs.

    Args:
        probability: float, shape (n,), calibrated, of "the same individual".
        identity: str or None, shape (n,), the individual of the first photographs; None where it is not told.
        other: likewise of the second.

    Returns:
        In [0, 1 + ``BONUS``], 1 where a probability is one half, and ``BONUS`` more where the more probable answer
        would change who is who; and what it would do, object, shape (n,): ``merge`` two individuals into one, ``split``
        one into two, ``name`` a photograph of nobody, or "" for what is known already.
    """
    told = np.array([a is not None and b is not None for a, b in zip(identity, other, strict=True)], bool)
    same = told & (identity == other)
    likely = probability >= 0.5
    merges, splits, names = told & ~same & likely, same & ~likely, ~told & likely
    would = np.select([merges, splits, names], ["merge", "split", "name"], "").astype(object)
    uncertainty = 1 - np.abs(2 * probability.astype(np.float64) - 1)
    return uncertainty + BONUS * (merges | splits), would


def informative_pairs(candidates: pd.DataFrame, *, pairs: int, per_individual: int) -> pd.DataFrame:
    """Choose pairs, the most informative first.

    Args:
        candidates: one row per pair: ``photo_key``, ``other_photo_key``, ``dataset`` (of both), ``identity``,
            ``other_identity`` (null where nobody has named it) and ``probability``, calibrated, of "the same". A pair
            may come several times and either way round; the first one counts, and a photograph with itself does not.
        pairs: the most that are chosen.
        per_individual: the most in which one individual of a data set takes part; a photograph of nobody counts as an
            individual.

    Returns:
        A table of ``COLUMNS``, see ``pair_values`` for the last two. Of equal values the first by keys.
    """
    rows = candidates.reset_index(drop=True)
    identity, other = (
        rows[name].astype(object).where(rows[name].notna(), None).to_numpy(dtype=object)
        for name in ("identity", "other_identity")
    )
    value, would = pair_values(rows["probability"].to_numpy(np.float64), identity, other)
    # as objects: pandas would turn None into a NaN among strings
    objects = {"identity": pd.Series(identity, dtype=object), "other_identity": pd.Series(other, dtype=object)}
    rows = rows.assign(**objects, value=value, would=would)[list(COLUMNS)]
    first, second = rows["photo_key"].to_numpy(dtype=object), rows["other_photo_key"].to_numpy(dtype=object)
    sides = pd.DataFrame(
        {"low": np.where(first < second, first, second), "high": np.where(first < second, second, first)}
    )
    rows = rows[(first != second) & ~sides.duplicated().to_numpy()]
    rows = rows.sort_values(
        ["value", "dataset", "photo_key", "other_photo_key"], ascending=[False, True, True, True], kind="stable"
    )
    taken: list[int] = []
    times: Counter[tuple[str, str, bool]] = Counter()
    columns = ["dataset", "identity", "other_identity", "photo_key", "other_photo_key"]
    for place, (dataset, a, b, photo, other_photo) in enumerate(rows[columns].itertuples(index=False, name=None)):
        if len(taken) == pairs:
            break
        # an unnamed photograph may have the key of an individual
        who = {(dataset, a or photo, a is None), (dataset, b or other_photo, b is None)}
        if all(times[one] < per_individual for one in who):
            times.update(who)
            taken.append(place)
    return rows.iloc[taken].reset_index(drop=True)
