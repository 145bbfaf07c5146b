"""The data set of a study of individuals: one crop for each photograph, its identity, and which split it is in."""

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from instar.dataset.decisions import HOMES, read_decisions, read_held_out, read_homes
from instar.dataset.encounters import QUERY, TEST, TRAIN, VALIDATION, WAYS, Seen, by_time, open_set, published
from instar.dataset.found import crop_rows
from instar.dataset.near import Neighbours
from instar.errors import InputError
from instar.files import write_csv, write_json
from instar.progress import progress
from instar.splits import encounter_of, hash_order, id_hash, individual_of, name_of
from instar.tables import IDENTITY_DATASET, INDIVIDUALS, NEW_INDIVIDUAL, read_table, write_table

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
    earlier: Path,
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

    A crop is dropped by the first of these that holds: its licence is not allowed, its box is too small, it has neither
    an identity nor is it a query, a review dropped it, a better one of those left is of the same photograph. A review
    may also relabel a crop to any identity of its data set, also by a name that several data sets share. A decision
    counts for the crop that was looked at: where its sha256 tells another one it is not applied, and told.

    The published split is drawn over all photographs of the database before any is dropped, as the source names them,
    so that the others' splits stay; a query that a review named trains.

    Args:
        crops: folder of ``<shard>.parquet`` with the crops and their ancestry.
        table: of ``tables.INDIVIDUALS``.
        decisions: CSV of a review's decisions: key, verdict (keep, drop, relabel), label, who, when, why, sha256.
        earlier: CSV of the encounters that an earlier run held out (its ``held_out.csv``): they keep their split, also
            where their individual has got or lost its data set's name, or a review renamed it; of two data sets with
            a name only the one that the table tells.
        out: gets a row of ``tables.IDENTITY_DATASET`` per crop, in the order of the shards.
        out_held_out: gets the encounters with held-out photographs, their split and data set, as CSV.
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
        InputError: if a table is missing or damaged, a decision is about a crop that is not there or names nobody or
            an individual of another data set, no crop can be held out, encounters were held out earlier and the split
            is the published one, or the sample submission asks for what is no query.
    """
    if split_by not in WAYS:
        raise InputError(f"dataset.split_by = {split_by}: individuals are split by {', '.join(WAYS)}; choose one")
    known = {row["photo_key"]: row for row in read_table(table, INDIVIDUALS).to_pylist()}
    _check_asked(known.values(), table)
    held_before = read_held_out(earlier)
    if held_before and split_by == "published":
        raise InputError(
            f"{earlier}: has rows, which the published split does not take; set dataset.earlier to the empty table, or "
            "dataset.split_by to time or open_set"
        )
    datasets = {row["dataset"] for row in known.values()}
    homes = {name: home for name, home in (read_homes(earlier) if held_before else {}).items() if home in datasets}
    rows: list[Row] = []
    looks: dict[str, tuple[int, str]] = {}
    files: dict[str, str] = {}
    for shard in progress(shards, "shards read"):
        for key, of_photograph in crop_rows(crops, shard, "photo_sha256"):
            if key not in known:
                raise InputError(f"{crops}: {key} is not in {table}; run the stages from records on again")
            for one in sorted(of_photograph, key=_surest):
                rows.append(_row(one, known[key], licences, min_crop_px))
                looks[one["key"]] = one["photo_phash"] or 0, one["photo_sha256"] or key
                files[one["key"]] = one["sha256"]
    reviewed = _decide(rows, decisions, files, known.values())
    _best(rows)
    drawn = _drawn(known) if split_by == "published" else {}
    if split_by == "published":
        for row in _to_split(rows, known):
            row["split"] = TRAIN if known[row["photo_key"]]["part"] == QUERY else drawn[row["photo_key"]]
    else:
        of_new = new_share if split_by == "open_set" else None
        kept = _to_split(rows, known)
        seen, held = _seen(kept, known, held_before, homes)
        _split(kept, seen, share=held_out_share, new_share=of_new, seed=seed, earlier=held)
    trains = {row["label"] for row in rows if row["split"] == TRAIN}
    for row in rows:
        row["is_new"] = row["label"] not in trains if row["split"] and row["label"] else None
    _check(rows, crops)
    write_table(out, rows, IDENTITY_DATASET)
    held_out = {tuple(row[name] for name in HOMES) for row in rows if row["split"] in (VALIDATION, TEST)}
    write_csv(out_held_out, HOMES, sorted(held_out))
    write_csv(out_examples, _EXAMPLE, _examples(rows, seed))
    told = {"review": reviewed, "photographs": _without_crop(rows, known, drawn)}
    told["earlier"] = _met_again(rows, known, held_before, homes, earlier)
    write_json(out_metrics, _figures(rows, looks, near_duplicate_bits, split_by) | told)


def _surest(crop: Row) -> tuple[float, float, str]:
    """Sorts the crops of a photograph: the surest first, of equals the larger."""
    return -crop["score"], -crop["area"], crop["key"]


def _row(crop: Row, known: Row, licences: Sequence[str], min_crop_px: int) -> Row:
    """A row of ``tables.IDENTITY_DATASET``, its split to be found, and ``photo_key``."""
    found = {name: crop[name] for name in _COPIED} | {"photo_key": known["photo_key"]}
    found |= {name: known[name] for name in ("image_id", "dataset", "orientation", "submission_row")}
    found |= {"observation_id": known["encounter"], "observed_at": known["date"], "species": None, "genus": None}
    is_query = known["part"] == QUERY
    found |= {"label": None if is_query else known["identity"], "rank": RANK, "is_new": None}
    reason = None
    if crop["licence"] not in licences:
        reason = LICENCE
    elif min(crop["box_width"], crop["box_height"]) < min_crop_px:
        reason = f"under {min_crop_px} px"
    elif found["label"] is None and not is_query:
        reason = NO_IDENTITY
    return found | {"split": QUERY if is_query and reason is None else None, "reason": reason}


def _check_asked(known: Collection[Row], table: Path) -> None:
    """Refuse a sample submission that asks for what can't be answered, before days of training."""
    wanted = max((row["submission_rows"] or 0 for row in known), default=0)
    missing = sorted(set(range(wanted)) - {row["submission_row"] for row in known})
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise InputError(
            f"{table}: sample_submission.csv asks for {wanted} images, of which line {missing[0] + 2}{more} is no "
            "query that records took; give a photograph of the database the split query in metadata.csv or put a "
            "missing one below the source, or mend its bbox (records tells what it dropped), or take such "
            "lines out of the sample, and run records again"
        )


def _decide(rows: Iterable[Row], decisions: Path, files: Mapping[str, str], known: Iterable[Row]) -> Row:
    """Drop and relabel what a review decided; returns what became of the decisions."""
    by_key = {row["key"]: row for row in rows}
    homes = {row["identity"]: row["dataset"] for row in known}
    reviewed: Row = {"applied": 0, "made on another file": [], "about a dropped crop": []}
    for key, decision in read_decisions(decisions).items():
        row, line = by_key.get(key), f"{decisions}: line {decision['line']}"
        if row is None:
            raise InputError(f"{line}: {key} is no crop of this study; remove the line")
        if decision["label"] == NEW_INDIVIDUAL and decision["verdict"] == "relabel":
            raise InputError(f"{line}: label = {NEW_INDIVIDUAL} is nobody's name; give the individual one of its own")
        if decision["sha256"] and decision["sha256"].lower() != files[key]:
            reviewed["made on another file"].append(key)
        elif row["reason"]:
            reviewed["about a dropped crop"].append(key)
        else:
            reviewed["applied"] += 1
            _apply(row, decision, homes, line)
    for what in ("made on another file", "about a dropped crop"):
        if reviewed[what]:
            told = f"{len(reviewed[what])} decisions {what} are not applied, such as {reviewed[what][0]}"
            print(f"{decisions}: {told}; look at these crops again", file=sys.stderr)
    return reviewed


def _apply(row: Row, decision: Mapping[str, str], homes: dict[str, str], line: str) -> None:
    if decision["verdict"] == "drop":
        row["reason"], row["split"] = REVIEW, None
    elif decision["verdict"] == "relabel":
        row["label"], row["split"] = _meant(decision["label"], row["dataset"], homes, line), None
        row["observation_id"] = encounter_of(row["label"], row["observed_at"], row["photo_key"])


def _meant(name: str, dataset: str, homes: dict[str, str], line: str) -> str:
    """The individual of a data set that a reviewer's name means; ``homes``, the data set of each, gets a new one's."""
    for one in _names(name, dataset):
        if homes.get(one) == dataset:
            return one
    if homes.setdefault(name, dataset) != dataset:
        raise InputError(
            f"{line}: label = {name} is of {homes[name]}, and this photograph of {dataset}; name an individual of "
            f"{dataset}"
        )
    return name


def _names(individual: str, dataset: str) -> tuple[str, ...]:
    """What an individual is called, whether or not its name stands in another data set, too."""
    return individual, individual_of(individual, dataset), name_of(individual, dataset)


def _best(rows: Iterable[Row]) -> None:
    """Of the crops of a photograph that nothing else dropped, leave the first."""
    taken = set()
    for row in rows:
        if row["reason"] is None:
            if row["photo_key"] in taken:
                row["reason"], row["split"] = NOT_BEST, None
            taken.add(row["photo_key"])


def _to_split(rows: Iterable[Row], known: Mapping[str, Row]) -> list[Row]:
    """The kept crops with an identity in the order of the source's table, whatever the shards."""
    kept = (row for row in rows if row["reason"] is None and row["split"] is None)
    return sorted(kept, key=lambda row: known[row["photo_key"]]["row"])


def _drawn(known: Mapping[str, Row]) -> dict[str, str]:
    """The published split of all photographs of the database, by their keys."""
    ordered = sorted((row for row in known.values() if row["part"] != QUERY), key=lambda row: row["row"])
    splits = published([row["identity"] for row in ordered])
    return dict(zip((row["photo_key"] for row in ordered), splits, strict=True))


def _split(
    kept: Sequence[Row],
    seen: Sequence[Seen],
    *,
    share: float,
    new_share: float | None,
    seed: int,
    earlier: Mapping[str, str],
) -> None:
    """Put each crop into a split by time, and with a ``new_share`` by open_set."""
    if new_share is None:
        splits = by_time(seen, share=share, seed=seed, earlier=earlier)
    else:
        splits = open_set(seen, share=share, new_share=new_share, seed=seed, earlier=earlier)
    for row, split in zip(kept, splits, strict=True):
        row["split"] = split


def _called(row: Row, known: Mapping[str, Row], homes: Mapping[str, str]) -> set[str]:
    """The ids that a photograph's encounter may have had in an earlier run; ``homes`` are data sets by such ids."""
    one = known[row["photo_key"]]
    names = {name for told in (row["label"], one["identity"]) if told for name in _names(told, one["dataset"])}
    ids = {encounter_of(name, one["date"], one["photo_key"]) for name in names} | {one["photo_key"]}
    return {name for name in ids if homes.get(name, one["dataset"]) == one["dataset"]}


def _seen(
    kept: Iterable[Row], known: Mapping[str, Row], earlier: Mapping[str, str], homes: Mapping[str, str]
) -> tuple[list[Seen], dict[str, str]]:
    """The photographs to split, and what an earlier run held out, by the encounters' ids of now.

    An encounter is for the test where photographs of both splits come together.
    """
    seen: list[Seen] = []
    found: dict[str, str] = {}
    for row in kept:
        identity, dataset, encounter = known[row["photo_key"]]["identity"], row["dataset"], row["observation_id"]
        splits = {earlier[name] for name in _called(row, known, homes) if name in earlier} if earlier else set()
        own = identity is not None and row["label"] in _names(identity, dataset)
        seen.append(Seen(row["label"], dataset, encounter, row["observed_at"], bool(splits) if own else None))
        if splits:
            found[encounter] = TEST if TEST in splits or found.get(encounter) == TEST else VALIDATION
    return seen, found


def _met_again(
    rows: Iterable[Row], known: Mapping[str, Row], earlier: Mapping[str, str], homes: Mapping[str, str], path: Path
) -> Row:
    """How many encounters an earlier run held out, and how many of them no photograph is of."""
    every = [*rows, *({"photo_key": key, "label": None} for key in known)]
    lost = sorted(earlier.keys() - {name for row in every for name in _called(row, known, homes)}) if earlier else []
    if lost:
        print(
            f"{path}: {len(lost)} of {len(earlier)} encounters are of no photograph of this study, such as {lost[0]}; "
            "where an individual was renamed its photographs may train now: write the new name there",
            file=sys.stderr,
        )
    return {"encounters": len(earlier), "not_met_again": len(lost)}


def _without_crop(rows: Iterable[Row], known: Mapping[str, Row], drawn: Mapping[str, str]) -> Row:
    """How many photographs there are, and how many of each split no crop is left of.

    Where the split is not drawn before crops are dropped, a photograph of the database without one is in none.
    """
    kept = {row["photo_key"] for row in rows if row["reason"] is None}
    missing = Counter(
        QUERY if row["part"] == QUERY else drawn.get(key, "database") for key, row in known.items() if key not in kept
    )
    # places in the source's table of which records took no photograph
    left_out = max((row["row"] + 1 for row in known.values()), default=0) - len(known)
    if drawn and left_out:
        print(
            f"dataset: records left out {left_out} rows of the source's table, so that the published split is drawn "
            "over the others and is another one; do not compare its figures with published ones",
            file=sys.stderr,
        )
    return {"in": len(known), "without_crop": dict(sorted(missing.items())), "left_out_by_records": left_out}


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


def _figures(rows: Sequence[Row], looks: Mapping[str, tuple[int, str]], bits: int, split_by: str) -> Row:
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
        "leakage": _leakage(kept, looks, bits),
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


def _leakage(kept: Sequence[Row], looks: Mapping[str, tuple[int, str]], bits: int) -> Row:
    """How many held-out photographs have a training one of the same encounter, or that looks nearly the same.

    ``looks`` has perceptual hash and sha256 of each crop's photograph. Another individual of the very same file tells
    nothing of who this one is, and is counted apart.
    """
    train = [row for row in kept if row["split"] == TRAIN]
    encounters = {row["observation_id"] for row in train}
    seen = _Looks.of(train, looks)
    index = Neighbours(seen.hashes, bits)
    found = {}
    for split in (VALIDATION, TEST):
        held = [row for row in kept if row["split"] == split]
        asked = _Looks.of(held, looks)
        near, like = index.pairs(asked.hashes)
        other = (asked.files[near] == seen.files[like]) & (asked.labels[near] != seen.labels[like])
        found[split] = {
            "photographs": len(held),
            "encounter": sum(row["observation_id"] in encounters for row in held),
            "near_duplicate": len(np.unique(near[~other])),
            "other_individual_of_the_file": len(np.unique(near[other])),
        }
    return found


class _Looks(NamedTuple):
    """Perceptual hashes of the photographs that have one, and 64 bits for file and individual of each."""

    hashes: np.ndarray
    files: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Row], looks: Mapping[str, tuple[int, str]]) -> Self:
        each = [(*looks[row["key"]], row["label"]) for row in rows if looks[row["key"]][0]]
        codes = [(picture, id_hash(file), id_hash(label)) for picture, file, label in each]
        return cls(*np.array(codes, np.uint64).reshape(-1, 3).T)
