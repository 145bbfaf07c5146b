"""The table of how many animals of each taxon each sample has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from instar.boxes import SEARCHED
from instar.errors import InputError
from instar.evaluation.abundance import Finding, abundances, interval
from instar.evaluation.answered import Answered
from instar.evaluation.barcoded import members
from instar.lineages import TAXON_RANKS
from instar.metrics.areas import size_of
from instar.splits import stable_hash
from instar.tables import CROPS, csv_rows, read_table

ABUNDANCE = [
    "sample",
    "photographs",
    "trained_on",
    "restricted",
    "rank",
    "taxon",
    "detections",
    "animals",
    "low",
    "high",
]


def searched_samples(crops: Path, shards: list[str]) -> dict[str, set[str]]:
    """Keys of the photographs of each sample that were searched, also where nothing was found.

    Args:
        crops: folder of ``<shard>.parquet``.
        shards: their names.
    """
    schema = pa.schema([CROPS.field(name) for name in ("observation_id", "photo_key", "reason")])
    found: dict[str, set[str]] = {}
    for shard in shards:
        columns = read_table(crops / f"{shard}.parquet", schema).to_pydict()
        for sample, key, reason in zip(*(columns[name] for name in schema.names), strict=True):
            if reason in SEARCHED:
                found.setdefault(sample, set()).add(key)
    return found


@dataclass(frozen=True)
class Sizes:
    """What was found of each size, and where the sizes begin, pixels."""

    finding: Finding
    edges: np.ndarray


def sizes_of(found: Path) -> Sizes:
    """The rows of validation."""
    names = ("split", "size", "from_px", "below_px", "animals", "found", "crops", "right")
    rows = [row for _, row in csv_rows(found, names) if row["split"] == "validation"]
    if not rows:
        raise InputError(f"{found}: has no row of validation; run dataset again")
    columns = (np.array([int(row[name]) for row in rows]) for name in names[4:])
    return Sizes(Finding(*columns), np.array([int(row["from_px"]) for row in rows[1:]]))


def counted(
    rows: pd.DataFrame,
    answered: Answered,
    sizes: Sizes,
    samples: Mapping[str, set[str]],
    splits: Mapping[str, str],
    *,
    draws: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Rows of ``ABUNDANCE``: of each sample and rank the taxa that were detected or may be there.

    A detection is of the taxa that are answered for it (``Answered.path``), as in ``predictions.parquet``. A sample in
    which nothing was detected has one row without rank and taxon.

    Args:
        rows: of the crops.
        answered: what the classifier says of them.
        sizes: what was found of each size.
        samples: photographs of each sample that were searched.
        splits: of the annotated photographs.
        draws: for the intervals.
        seed: of the draws.
    """
    labels = answered.labels
    recall, precision = sizes.finding.draws(np.random.default_rng(stable_hash(seed, "found")), draws)
    belongs = members(labels, answered.classes)
    best = answered.path(restricted=True)
    size = size_of(rows["area"].to_numpy(), sizes.edges)
    for sample, photographs in sorted(samples.items()):
        here = (rows["observation_id"] == sample).to_numpy()
        drawn = abundances(
            answered.outputs[here], size[here], belongs, recall, precision, seed=stable_hash(seed, sample)
        )
        middle, low, high = interval(drawn)
        common = {
            "sample": sample,
            "photographs": len(photographs),
            "trained_on": sum(splits.get(key) == "train" for key in photographs),
            "restricted": bool(answered.is_restricted[here].any()),
        }
        if not here.any():
            yield {**common, "rank": None, "taxon": None, "detections": 0, "animals": 0, "low": 0, "high": 0}
        for rank in reversed(TAXON_RANKS):
            for place in labels.of_rank(rank):
                detections = int(best[here, place].sum())
                if detections or high[place] > 0:
                    told = {"detections": detections, "animals": middle[place], "low": low[place], "high": high[place]}
                    yield {**common, "rank": rank, "taxon": labels.names[place], **told}
