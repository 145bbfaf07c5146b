"""Which pairs come into question: held-out photographs and queries with what they are most like."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instar.errors import InputError
from instar.reid.answering import Answering
from instar.reid.gallery import Gallery
from instar.reid.photographs import Photographs
from instar.reid.scores import Rules, similarities

#: Individuals that each held-out photograph is compared with, by its most similar photograph of each.
INDIVIDUALS = 5
Row = dict[str, Any]


def candidates(predictions: pd.DataFrame, gallery: Gallery, answering: Answering) -> pd.DataFrame:
    """Pairs of crops with the probability of "the same individual".

    A held-out photograph stands in the gallery and is compared by its embedding with photographs of other encounters:
    of the best few individuals and of its own. A query has the match that evaluation found.

    Args:
        predictions: of ``tables.IDENTITY_PREDICTIONS``.
        gallery: of the study, or one that grew from it.
        answering: what evaluation found.

    Returns:
        ``key``, ``other_key``, and what ``reid.pairs.informative_pairs`` takes.

    Raises:
        InputError: if evaluation calibrated no scores.
    """
    if "nearest" not in answering.calibrations:
        raise InputError("the gallery's answers.json has no calibration of nearest; run the stage evaluation again")
    rows = [*_of_queries(predictions, gallery, answering), *_of_held_out(predictions, gallery, answering)]
    columns = ["key", "other_key", "photo_key", "other_photo_key", "dataset", "identity", "other_identity"]
    return pd.DataFrame(rows, columns=[*columns, "probability"], dtype=object).astype({"probability": np.float64})


def _of_queries(predictions: pd.DataFrame, gallery: Gallery, answering: Answering) -> Iterator[Row]:
    asked = predictions[(predictions["split"] == "query") & predictions["match"].notna()]
    scores = asked["score"].to_numpy(np.float32)
    way = answering.answer_by
    sure = scores if way == "fused" else answering.calibrations[way](scores)
    there = dict(zip(gallery.rows["key"], gallery.rows.itertuples(), strict=True))
    row: Any
    for row, probability in zip(asked.itertuples(), sure.tolist(), strict=True):
        if row.match in there:
            yield _pair(row.key, row.photo_key, row.dataset, None, there[row.match], probability)


def _of_held_out(predictions: pd.DataFrame, gallery: Gallery, answering: Answering) -> Iterator[Row]:
    rows, known = gallery.rows, gallery.known
    held = np.flatnonzero(rows["key"].isin(set(predictions["key"])))
    own = known.column[held]
    found = similarities(
        gallery.embeddings[held],
        Photographs.of(rows.iloc[held]),
        gallery.embeddings,
        gallery.photographs,
        known,
        rules=Rules(leave_out="encounter", orientation=answering.sides),
    )
    for block, similarity, _ in found:
        sure = answering.calibrations["nearest"](similarity)
        for place, of_row, probability in zip(range(block.start, block.stop), similarity, sure, strict=True):
            one = rows.iloc[held[place]]
            for other in _best_of_each(of_row, known.column, int(own[place])):
                told = rows.iloc[other]
                yield _pair(one["key"], one["photo_key"], one["dataset"], one["identity"], told, probability[other])


def _best_of_each(similarity: np.ndarray, column: np.ndarray, own: int) -> list[int]:
    """Places of the most similar photograph of each of the best individuals, and of one's own."""
    order = np.argsort(-similarity, kind="stable")
    order = order[similarity[order] > -np.inf]
    _, first = np.unique(column[order], return_index=True)
    places = order[np.sort(first)].tolist()
    return [place for rank, place in enumerate(places) if rank < INDIVIDUALS or column[place] == own]


def _pair(key: str, photo_key: str, dataset: str, identity: str | None, other: Any, probability: float) -> Row:
    return {
        "key": key,
        "other_key": other.key,
        "photo_key": photo_key,
        "other_photo_key": other.photo_key,
        "dataset": dataset,
        "identity": identity,
        "other_identity": other.identity,
        "probability": float(probability),
    }


def read_crops(crops: Path, shards: list[str], keys: set[str]) -> pd.DataFrame:
    """What is told of some crops, by their keys.

    Raises:
        InputError: if a table is missing or damaged.
    """
    from instar.tables import CROPS, read_batches

    columns = ["key", "source", "taxon_id", "licence", "rights_holder", "reference", "shard", "offset", "size"]
    columns += ["sha256", "observed_at"]
    parts = [
        part[part["key"].isin(keys)]
        for shard in shards
        for batch in read_batches(crops / f"{shard}.parquet", CROPS, columns)
        for part in [batch.to_pandas()]
    ]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    return found.set_index("key", drop=False)
