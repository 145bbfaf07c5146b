"""The data set of a study of individuals: one crop for each photograph, its identity, and which split it is in."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instar.dataset.decisions import HELD_OUT, read_decisions
from instar.dataset.encounters import QUERY, TEST, TRAIN, VALIDATION, WAYS, Seen, by_time, open_set, published
from instar.dataset.found import crop_rows
from instar.dataset.near import Neighbours
from instar.errors import InputError
from instar.files import write_csv, write_json
from instar.progress import progress
from instar.splits import encounter_of, hash_order
from instar.tables import IDENTITY_DATASET, INDIVIDUALS, read_table, write_table

RANK = "individual"
NOT_BEST = "not the best of its photograph"
NO_IDENTITY = "no identity"
LICENCE = "licence not allowed"
REVIEW = "dropped by a review"

EXAMPLES = 12
_EXAMPLE = ("label", "rank", "key", "shard", "offset", "size", "split")
_SPLITS = (TRAIN, VALIDATION, TEST, QUERY)
_COPIED = ["key", "photo_key", "shard", "offset", "size", "observer_id", "basis", "latitude", "longitude"]
Row = dict[str, Any]


def individuals(
    crops: Path,
    table: Path,
    decisions: Path,
    out: Path,
    out_held_out: Path,
    out_metrics: Path,
    out_examples: Path,
    *,
    seed: int,
    shards: list[str],
    licences: list[str],
    min_crop_px: int,
    near_duplicate_bits: int,
    split_by: str,
    held_out_share: float,
    new_share: float,
) -> None:
    """Give each photograph's best crop the identity that its source tells, and split them.

    A crop is dropped by the first of these that holds: its licence is not allowed, its box is too small, a better one
    is of the same photograph, it has neither an identity nor is it a query, a review dropped it. A review may also
    relabel a crop to any identity.

    Args:
        crops: folder of ``<shard>.parquet`` with the crops and their ancestry.
        table: of ``tables.INDIVIDUALS``.
        decisions: CSV of a review's decisions: key, verdict (keep, drop, relabel), label, who, when, why, sha256.
        out: gets a row of ``tables.IDENTITY_DATASET`` per crop, in the order of the shards.
        out_held_out: gets the encounters with held-out photographs and their split, as CSV.
        out_metrics: gets the numbers and the leakage report, as JSON.
        out_examples: gets where up to 12 crops of each individual lie, as CSV.
        seed: of the split and of the examples.
        shards: names of the shards.
        licences: crops with another one are dropped.
        min_crop_px: a box narrower or lower than this is dropped.
        near_duplicate_bits: perceptual hashes that differ in at most so many of 64 bits are near-duplicates.
        split_by: published, time or open_set, see ``encounters``.
        held_out_share: time, open_set: of an individual's photographs.
        new_share: open_set: of the individuals of each data set.

    Raises:
        InputError: if a table is missing or damaged, a decision is about a crop that is not there, or no crop can be
            held out.
    """
    if split_by not in WAYS:
        raise InputError(f"dataset.split_by = {split_by}: individuals are split by {', '.join(WAYS)}; choose one")
    known = {row["photo_key"]: row for row in read_table(table, INDIVIDUALS).to_pylist()}
    rows: list[Row] = []
    hashes: dict[str, int] = {}
    for shard in progress(shards, "shards read"):
        for key, of_photograph in crop_rows(crops, shard):
            if key not in known:
                raise InputError(f"{crops}: {key} is not in {table}; run the stages from records on again")
            for one in _best_first(of_photograph):
                rows.append(_row(one, known[key], licences, min_crop_px, is_best=one is of_photograph[0]))
                hashes[one["key"]] = one["photo_phash"] or 0
    _decide(rows, decisions)
    _split(rows, known, split_by=split_by, share=held_out_share, new_share=new_share, seed=seed)
    trains = {row["label"] for row in rows if row["split"] == TRAIN}
    for row in rows:
        row["is_new"] = row["label"] not in trains if row["split"] and row["label"] else None
    _check(rows, crops)
    write_table(out, rows, IDENTITY_DATASET)
    held_out = {row["observation_id"]: row["split"] for row in rows if row["split"] in (VALIDATION, TEST)}
    write_csv(out_held_out, HELD_OUT, sorted(held_out.items()))
    write_csv(out_examples, _EXAMPLE, _examples(rows, seed))
    write_json(out_metrics, _figures(rows, hashes, near_duplicate_bits, split_by))


def _best_first(of_photograph: list[Row]) -> list[Row]:
    """The crops of a photograph, sorted in place: the surest first, of equals the larger."""
    of_photograph.sort(key=lambda row: (-row["score"], -row["area"], row["key"]))
    return of_photograph


def _row(crop: Row, known: Row, licences: Sequence[str], min_crop_px: int, *, is_best: bool) -> Row:
    """A row of ``tables.IDENTITY_DATASET``, its split to be found."""
    found = {name: crop[name] for name in _COPIED}
    found |= {name: known[name] for name in ("image_id", "dataset", "orientation", "submission_row")}
    found |= {"observation_id": known["encounter"], "observed_at": known["date"], "species": None, "genus": None}
    is_query = known["part"] == QUERY
    found |= {"label": None if is_query else known["identity"], "rank": RANK, "is_new": None}
    reason = None
    if crop["licence"] not in licences:
        reason = LICENCE
    elif min(crop["box_width"], crop["box_height"]) < min_crop_px:
        reason = f"under {min_crop_px} px"
    elif not is_best:
        reason = NOT_BEST
    elif found["label"] is None and not is_query:
        reason = NO_IDENTITY
    return found | {"split": QUERY if is_query and reason is None else None, "reason": reason}


def _decide(rows: Iterable[Row], decisions: Path) -> None:
    """Drop and relabel what a review decided."""
    decided = read_decisions(decisions)
    by_key = {row["key"]: row for row in rows}
    for key, decision in decided.items():
        row = by_key.get(key)
        if row is None:
            raise InputError(f"{decisions}: line {decision['line']}: {key} is no crop of this study; remove the line")
        if row["reason"]:
            continue
        if decision["verdict"] == "drop":
            row["reason"], row["split"] = REVIEW, None
        elif decision["verdict"] == "relabel":
            row["label"], row["split"] = decision["label"], None
            row["observation_id"] = encounter_of(row["label"], row["observed_at"], row["photo_key"])


def _split(
    rows: list[Row], known: Mapping[str, Row], *, split_by: str, share: float, new_share: float, seed: int
) -> None:
    """Put each kept crop with an identity into a split."""
    # in the order of the source's table, which the published split depends on, whatever the shards
    kept = sorted(
        (row for row in rows if row["reason"] is None and row["split"] is None),
        key=lambda row: known[row["photo_key"]]["row"],
    )
    if split_by == "published":
        splits = published([row["label"] for row in kept])
    else:
        seen = [Seen(row["label"], row["dataset"], row["observation_id"], row["observed_at"]) for row in kept]
        if split_by == "time":
            splits = by_time(seen, share=share, seed=seed)
        else:
            splits = open_set(seen, share=share, new_share=new_share, seed=seed)
    for row, split in zip(kept, splits, strict=True):
        row["split"] = split


def _check(rows: Sequence[Row], crops: Path) -> None:
    splits = Counter(row["split"] for row in rows)
    if not splits[TRAIN] or not splits[VALIDATION] + splits[TEST]:
        told = ", ".join(f"{n} {why}" for why, n in Counter(row["reason"] for row in rows if row["reason"]).items())
        raise InputError(
            f"{crops}: of {len(rows)} crops {splits[TRAIN]} are for training and {splits[VALIDATION] + splits[TEST]} "
            f"are held out ({told or 'none was dropped'}); individuals need two encounters or more, or set "
            "dataset.split_by to published"
        )


def _examples(rows: Iterable[Row], seed: int) -> list[list[Any]]:
    by_label: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["split"] and row["label"]:
            by_label[row["label"]][row["key"]] = row
    return [
        [of_label[key][name] for name in _EXAMPLE]
        for _, of_label in sorted(by_label.items())
        for key in hash_order(seed, of_label)[:EXAMPLES]
    ]


def _figures(rows: Sequence[Row], hashes: Mapping[str, int], bits: int, split_by: str) -> Row:
    dropped = Counter(row["reason"] for row in rows if row["reason"])
    kept = [row for row in rows if row["split"]]
    if len(rows) != len(kept) + dropped.total():
        raise RuntimeError(f"dataset: {len(rows)} crops, {len(kept)} kept, dropped {dict(dropped)}")
    datasets = sorted({row["dataset"] for row in kept})
    photographs = Counter(row["label"] for row in kept if row["label"])
    return {
        "rows": {"in": len(rows), "out": len(kept), "dropped": dict(sorted(dropped.items()))},
        "split_by": split_by,
        "classes": len({row["label"] for row in kept if row["split"] == TRAIN}),
        "individuals": len(photographs),
        "seen_once": sum(n == 1 for n in photographs.values()),
        "splits": {split: _counts(row for row in kept if row["split"] == split) for split in _SPLITS},
        "datasets": {
            name: {
                split: _counts(row for row in kept if row["split"] == split and row["dataset"] == name)
                for split in _SPLITS
            }
            for name in datasets
        },
        "leakage": _leakage(kept, hashes, bits),
    }


def _counts(rows: Iterable[Row]) -> Row:
    of_split = list(rows)
    new = {row["label"] for row in of_split if row["is_new"]}
    return {
        "photographs": len(of_split),
        "individuals": len({row["label"] for row in of_split if row["label"]}),
        "new_individuals": len(new),
        "photographs_of_new": sum(bool(row["is_new"]) for row in of_split),
        "encounters": len({row["observation_id"] for row in of_split}),
        "without_date": sum(row["observed_at"] is None for row in of_split),
    }


def _leakage(kept: Sequence[Row], hashes: Mapping[str, int], bits: int) -> Row:
    """How many held-out photographs have a training one of the same encounter, or that looks nearly the same."""
    train = [row for row in kept if row["split"] == TRAIN]
    encounters = {row["observation_id"] for row in train}
    pictures = np.array([hashes[row["key"]] for row in train], np.uint64)
    index = Neighbours(pictures[pictures != 0], bits)
    found = {}
    for split in (VALIDATION, TEST):
        held = [row for row in kept if row["split"] == split]
        asked = np.array([hashes[row["key"]] for row in held], np.uint64)
        near, _ = index.pairs(asked[asked != 0])
        found[split] = {
            "photographs": len(held),
            "encounter": sum(row["observation_id"] in encounters for row in held),
            "near_duplicate": len(np.unique(near)),
        }
    return found
