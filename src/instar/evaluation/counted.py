"""The table of how many animals of each taxon each sample has."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from instar.annotations import Annotated
from instar.boxes import SEARCHED
from instar.errors import InputError
from instar.evaluation.abundance import Finding, abundances, interval
from instar.evaluation.answered import Answered
from instar.evaluation.barcoded import members
from instar.lineages import TAXON_RANKS, Lineages
from instar.metrics.areas import size_of
from instar.splits import stable_hash
from instar.tables import CROPS, csv_rows, read_table

ABUNDANCE = [
    "sample",
    "photographs",
    "trained_on",
    "validated_on",
    "restricted",
    "rank",
    "taxon",
    "detections",
    "animals",
    "low",
    "high",
    "annotated",
]
#: Rows of the sums over several samples: all, and those of which every photograph is annotated and of the split test.
ALL_SAMPLES, HELD_OUT_SAMPLES = "all samples", "samples of test"
#: Annotated animals by rank and name, under (None, None) all of them.
Truth = Counter[tuple[str | None, str | None]]


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


def truths_of(annotated: Iterable[Annotated], lineages: Lineages) -> dict[str, Truth]:
    """The animals of each annotated photograph, at each rank those that are sure to be of a taxon; without crowds."""
    found = {}
    for one in annotated:
        if not one.crowded:
            found[one.key] = truth = Truth({(None, None): len(one.boxes_xyxy)})
            for taxon in filter(None, one.taxa):
                truth.update(pair for pair in zip(TAXON_RANKS, lineages.lineage(taxon), strict=True) if pair[1])
    return found


def counted(
    rows: pd.DataFrame,
    answered: Answered,
    sizes: Sizes,
    samples: Mapping[str, set[str]],
    splits: Mapping[str, str],
    truths: Mapping[str, Truth],
    *,
    draws: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Rows of ``ABUNDANCE``: of each sample all its animals, then of each rank the taxa that were detected or may be.

    A detection is of the taxa that are answered for it (``Answered.path``), as in ``predictions.parquet``. The row of
    all animals has no rank and no taxon. Sums over samples come last; their intervals are of the sums of draws, in
    which all samples share a draw of what is found.

    Args:
        rows: of the crops.
        answered: what the classifier says of them.
        sizes: what was found of each size.
        samples: photographs of each sample that were searched.
        splits: of the annotated photographs.
        truths: animals of those (``truths_of``); a sample has a number where all its photographs have one.
        draws: for the intervals.
        seed: of the draws.
    """
    recall, precision = sizes.finding.draws(np.random.default_rng(stable_hash(seed, "found")), draws)
    belongs = members(answered.labels, answered.classes)
    best = answered.path(restricted=True)
    size = size_of(rows["area"].to_numpy(), sizes.edges)
    sums: dict[str, list[_Sample]] = {ALL_SAMPLES: [], HELD_OUT_SAMPLES: []}
    for sample, photographs in sorted(samples.items()):
        here = (rows["observation_id"] == sample).to_numpy()
        drawn = abundances(
            answered.outputs[here], size[here], belongs, recall, precision, seed=stable_hash(seed, sample)
        )
        one = _Sample(
            photographs,
            bool(answered.is_restricted[here].any()),
            int(here.sum()),
            best[here].sum(axis=0),
            drawn,
        )
        yield from _sample_rows(sample, one, answered, splits, truths)
        sums[ALL_SAMPLES].append(one)
        if all(splits.get(key) == "test" for key in photographs):
            sums[HELD_OUT_SAMPLES].append(one)
    for name, each in sums.items():
        if len(each) > 1:
            yield from _sample_rows(name, _together(each), answered, splits, truths)


@dataclass(frozen=True)
class _Sample:
    """The photographs of one or several samples, and what was found on them, of all classes and of each."""

    photographs: set[str]
    restricted: bool
    detections: int
    of_class: np.ndarray
    drawn: np.ndarray


def _together(each: list[_Sample]) -> _Sample:
    return _Sample(
        set().union(*(one.photographs for one in each)),
        any(one.restricted for one in each),
        sum(one.detections for one in each),
        sum((one.of_class for one in each[1:]), each[0].of_class),
        sum((one.drawn for one in each[1:]), each[0].drawn),
    )


def _sample_rows(
    name: str, one: _Sample, answered: Answered, splits: Mapping[str, str], truths: Mapping[str, Truth]
) -> Iterator[dict[str, Any]]:
    labels, photographs = answered.labels, one.photographs
    truth = None
    if photographs <= truths.keys():
        truth = sum((truths[key] for key in photographs), Truth())
    common = {
        "sample": name,
        "photographs": len(photographs),
        "trained_on": sum(splits.get(key) == "train" for key in photographs),
        "validated_on": sum(splits.get(key) == "validation" for key in photographs),
        "restricted": one.restricted,
    }
    # every output belongs to one of the classes that belong to no other
    whole = one.drawn[:, np.array(labels.parents) == -1].sum(axis=1, keepdims=True)
    (middle,), (low,), (high,) = interval(whole)
    told = {"detections": one.detections, "animals": middle, "low": low, "high": high}
    yield {**common, "rank": None, "taxon": None, **told, "annotated": truth[None, None] if truth is not None else None}
    each = interval(one.drawn)
    for rank in reversed(TAXON_RANKS):
        for place in labels.of_rank(rank):
            detections, taxon = int(one.of_class[place]), labels.names[place]
            middle, low, high = (ends[place] for ends in each)
            known = truth[rank, taxon] if truth is not None else None
            if detections or high > 0 or known:
                told = {"detections": detections, "animals": middle, "low": low, "high": high}
                yield {**common, "rank": rank, "taxon": taxon, **told, "annotated": known}
