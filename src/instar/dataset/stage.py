"""The stage ``dataset``: clean the crops, label them, and split them so that nothing leaks."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from instar.dataset import leakage, rules
from instar.dataset.choice import SPLITS, TEST, TRAIN, VALIDATION, Plan, limits
from instar.dataset.decisions import HELD_OUT, read_held_out, read_rules
from instar.dataset.engine import Engine, engine
from instar.dataset.finish import Finished, add_finished, finish, verdicts
from instar.dataset.near import Members
from instar.dataset.rows import Classes, Scratch, crop_batches, read_classes
from instar.dataset.split import Split, split
from instar.errors import InputError
from instar.files import replacing, write_csv, write_json
from instar.progress import progress
from instar.splits import id_hash, stable_hash
from instar.tables import CROPS, DATASET, row_count

T = TypeVar("T")

#: Kept crops of each class in the table of examples.
EXAMPLES = 12
#: Crops in a bucket of photographs that are compared with each other; some tens of megabytes.
BUCKET_CROPS = 1_000_000

_COPIED = ["key", "photo_key", "shard", "offset", "size", "observation_id", "observer_id", "basis"]
_COPIED += ["latitude", "longitude"]
_EXAMPLE = ["label", "rank", "key", "shard", "offset", "size", "split"]
#: Columns with few distinct strings.
_FEW = ["shard", "basis", "label", "rank", "species", "genus", "split", "reason"]
#: ``tables.DATASET`` as it is written: few distinct strings need neither be copied nor hashed for every row.
_STORED = pa.schema(
    field.with_type(pa.dictionary(pa.int32(), pa.string())) if field.name in _FEW else field for field in DATASET
)


def dataset(
    crops: Path,
    taxonomy: Path,
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
    min_class_crops: int,
    near_duplicate_bits: int,
    split_by: str,
    held_out_observers: float,
    validation_crops: int,
    test_crops: int,
) -> None:
    """Clean the crops, label them with their species or genus, and split them by group.

    A crop is dropped by the first of these that holds: its licence is not allowed, its box is too small, its taxon
    names neither species nor genus, a review dropped it, its photograph stands in another observation as well (by equal
    perceptual hash; one observation keeps it, one that was held out earlier if there is any, unless their species or
    genera differ), its class is too small.

    Genus-level crops are for training only. A species gives exactly so many crops of whole groups to validation, and
    to the test, unless fewer crops, or no more groups, of it would train than are held out. A group with crops of two
    labels is never held out, nor, under a split by observation or by observer, an observation that has a near-duplicate
    in another one. Under a split by observer, each observer has crops in one split only.

    Args:
        crops: folder of ``<shard>.parquet`` with the crops and their ancestry.
        taxonomy: table of the taxa that the crops carry.
        decisions: CSV of a review's decisions: key, verdict (keep, drop, relabel), label, who, when, why, sha256.
        earlier: CSV of the observations that an earlier run held out (its ``held_out.csv``): they never train.
        out: gets one row per crop, in the order of the shards: its label and split, or the reason it was dropped.
        out_held_out: gets the observations that are held out and their split, as CSV, with all that ``earlier`` names:
            what once validated never trains, in the next split neither.
        out_metrics: gets the table before and after each rule, the splits and the leakage report, as JSON.
        out_examples: gets where up to 12 crops of each class lie, as CSV.
        seed: of the split.
        shards: names of the shards.
        licences: crops with another one are dropped.
        min_crop_px: a box narrower or lower than this is dropped.
        min_class_crops: a class with fewer crops after the other rules is dropped.
        near_duplicate_bits: perceptual hashes that differ in at most so many of 64 bits are near-duplicates.
        split_by: observation or observer; photograph or random, which leak, are for comparison.
        held_out_observers: of the observers, for a split by observer.
        validation_crops: of each species, where it has enough groups.
        test_crops: of each species, for a test split made the same way; 0 for none.

    Raises:
        InputError: if a table is missing or damaged, a key stands twice, no crop is left, or none can be held out.
    """
    classes = read_classes(taxonomy)
    before = read_held_out(earlier)
    own, decided = read_rules(decisions, classes, licences=licences, min_crop_px=min_crop_px)
    plan = Plan(
        seed=stable_hash(seed, "dataset"),
        way=split_by,
        wanted={VALIDATION: validation_crops} | ({TEST: test_crops} if test_crops else {}),
        observer_share=held_out_observers,
        near_bits=near_duplicate_bits,
    )
    texts = rules.reasons(min_crop_px, min_class_crops)
    out.parent.mkdir(parents=True, exist_ok=True)
    with engine() as run, tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        scratch = Scratch(Path(folder), shards)
        hashed = {id_hash(observation): name for observation, name in before.items()}
        members = Members(np.fromiter(hashed, np.uint64, len(hashed)))
        found, compared = _clean(run, crops, scratch, classes, own, members, len(texts))
        counts = np.vstack([found.crops, found.dropped[1:]])  # of each reason; the first row is what was given
        counts[[rules.CONFLICT, rules.DUPLICATE]] = compared.dropped[[rules.CONFLICT, rules.DUPLICATE]]
        small = _left(counts)[:-1] < min_class_crops
        counts[rules.SMALL_CLASS, :-1] = np.where(small, _left(counts)[:-1], 0)
        _check_left(counts, texts, crops)
        run.fold(
            "shards cleaned",
            partial(rules.settle_reasons, scratch=scratch, compared=compared, small=small),
            range(len(shards)),
            lambda parts: sum(parts),
        )
        chosen = split(run, scratch, classes, plan, hashed)
        plan = chosen.plan
        if not any(len(keys) for keys in chosen.held_out.values()):
            raise InputError(f"{crops}: no species can give {validation_crops} crops; lower dataset.validation_crops")
        probe = leakage.probe(chosen.rows, chosen.aside, near_duplicate_bits)
        last = run.fold(
            "shards split",
            partial(
                finish,
                scratch=scratch,
                classes=classes,
                plan=plan,
                chosen=verdicts(chosen.held_out, chosen.surplus, chosen.earlier),
                probe=probe,
                examples=EXAMPLES,
                example_limits=limits(chosen.kept, 3 * EXAMPLES + 10),
                n_reasons=len(texts),
            ),
            range(len(shards)),
            partial(add_finished, plan=plan, examples=EXAMPLES),
        )
        figures = _figures(counts, last, probe, chosen, classes, texts)
        paths = (out, out_held_out, out_examples)
        _write(*paths, crops=crops, scratch=scratch, classes=classes, texts=texts, last=last, earlier=before)
    reviewed = {
        "decisions": len(decided),
        "applied": len(found.applied),
        "made on another file": sorted(decided[key] for key in found.stale),
        "no such crop": sorted(decided[key] for key in decided.keys() - found.applied - found.stale),
    }
    write_json(out_metrics, {**figures, "review": reviewed})


def _clean(
    run: Engine,
    crops: Path,
    scratch: Scratch,
    classes: Classes,
    own: rules.Rules,
    earlier: Members,
    n_reasons: int,
) -> tuple[rules.Read, rules.Compared]:
    """Apply the rules of single crops, then compare the photographs, bucket by bucket."""
    total = sum(row_count(crops / f"{shard}.parquet", CROPS) for shard in scratch.shards)
    buckets = 1 + total // BUCKET_CROPS
    read = partial(
        rules.read_shard,
        crops=crops,
        scratch=scratch,
        classes=classes,
        rules=own,
        buckets=buckets,
        n_reasons=n_reasons,
    )
    found = run.fold("shards read", read, range(len(scratch.shards)), rules.add_reads)
    if not found.crops.sum():
        raise InputError(f"{crops}: none of the shards holds a crop; lower crops.confidence")
    compare = partial(
        rules.compare_bucket,
        scratch=scratch,
        classes=classes,
        offsets=found.offsets,
        earlier=earlier,
        n_reasons=n_reasons,
    )
    return found, run.fold("buckets of photographs compared", compare, range(buckets), rules.add_compared)


def _left(counts: np.ndarray) -> np.ndarray:
    """Crops of each class after all rules so far; ``counts`` holds what was given, then what each rule dropped."""
    return np.asarray(counts[0] - counts[1:].sum(axis=0))


def _check_left(counts: np.ndarray, texts: list[str], crops: Path) -> None:
    if not _left(counts).sum():
        given, *dropped = counts.sum(axis=1)
        told = ", ".join(f"{n} {text}" for n, text in zip(dropped, texts[1:], strict=True) if n)
        remedies = {
            rules.LICENCE: "add their licence to records.licences and dataset.licences",
            rules.ABOVE_GENUS: "name a taxon for each photograph",
        }
        remedy = remedies.get(int(np.argmax(dropped)) + 1, "lower the key of dataset that took most")
        raise InputError(f"{crops}: no crop is left of {given} ({told}); {remedy}")


def _figures(
    counts: np.ndarray,
    last: Finished,
    probe: leakage.Probe,
    chosen: Split,
    classes: Classes,
    texts: list[str],
) -> dict[str, Any]:
    """The metrics: the table before and after, the splits, and the leakage report.

    Raises:
        RuntimeError: if rows were lost, or the split leaks what it promises to keep apart.
    """
    plan, codes = chosen.plan, last.counts  # of each split, then of each reason
    given, dropped = int(counts[0].sum()), codes[len(SPLITS) :].sum(axis=1)
    kept = codes[: len(SPLITS)]
    early = slice(1, rules.SMALL_CLASS + 1)
    if given != codes.sum() or (codes[len(SPLITS) :][: rules.SMALL_CLASS] != counts[early]).any():
        raise RuntimeError(
            f"dataset: {given} crops read, {kept.sum()} kept and {dropped.sum()} dropped; or rules differ"
        )
    reports = dict(zip(probe.ways, probe.counts(last.hits), strict=True))
    used = reports[plan.way]
    if leaks := {name: used[name] for name in plan.apart if used[name]}:
        raise RuntimeError(f"dataset: the split by {plan.way} leaks: {leaks} held-out crops share them with training")
    return {
        "rows": {
            "in": given,
            "out": int(kept.sum()),
            "dropped": {text: int(n) for text, n in zip(texts[1:], dropped, strict=True) if n},
        },
        "before": _size(counts[0]),
        "after": _size(kept.sum(axis=0)),
        "rules": _table(counts, codes[len(SPLITS) :], texts),
        "splits": {
            name: {**_size(kept[place]), **_observations(chosen, name)}
            for place, name in enumerate(SPLITS)
            if name == TRAIN or name in plan.wanted
        },
        "split_by": plan.way,
        "train_only_species": int((classes.is_species & (kept[0, :-1] > 0) & ~kept[1:, :-1].any(axis=0)).sum()),
        "passed_over_observations": chosen.passed_over,
        "leakage": reports,
    }


def _observations(chosen: Split, name: str) -> dict[str, int]:
    """Observations of a held-out split; those of training are not counted, which would take memory for each."""
    if name == TRAIN:
        return {}
    rows = chosen.rows[chosen.plan.way]
    held = rows["observation"][np.isin(rows["key"], chosen.held_out[name])]
    return {"observations": len(np.unique(held))}


def _size(counts: np.ndarray) -> dict[str, int]:
    return {"crops": int(counts.sum()), "classes": int((counts[:-1] > 0).sum())}


def _table(counts: np.ndarray, dropped: np.ndarray, texts: list[str]) -> list[dict[str, Any]]:
    """Crops and classes before and after each rule, in their order."""
    left, rows = counts[0], []
    for text, gone in zip(texts[1:], dropped, strict=True):
        before, left = left, left - gone
        rows.append({"rule": text, "before": _size(before), "after": _size(left)})
    return rows


def _write(
    out: Path,
    out_held_out: Path,
    out_examples: Path,
    *,
    crops: Path,
    scratch: Scratch,
    classes: Classes,
    texts: list[str],
    last: Finished,
    earlier: dict[str, str],
) -> None:
    """Stream the rows with their codes into the table, and the few that the two small files name."""
    held: list[pa.Table] = []
    examples: list[pa.Table] = []
    wanted = Members(last.examples["key"])
    with (
        replacing(out) as temporary,
        # smallest and largest strings of unique ids serve no reader and take a third of the time
        pq.ParquetWriter(
            temporary, _STORED, compression="zstd", use_dictionary=_FEW, write_statistics=["label", "split"]
        ) as writer,
    ):
        blocks = _ahead(_tables(crops, scratch, classes, texts))
        for table, code, key in progress(blocks, "blocks written"):
            writer.write_table(table)
            held.append(table.select(list(HELD_OUT)).take(np.flatnonzero((code > 0) & (code < len(SPLITS)))))
            rows = np.sort(wanted.places(key)[0])
            examples.append(table.select(_EXAMPLE).take(rows).append_column("order", pa.array(key[rows])))
    now = map(tuple, pa.concat_tables(held).to_pandas().to_numpy())
    write_csv(out_held_out, HELD_OUT, sorted({*earlier.items(), *now}))
    chosen = pa.concat_tables(examples).to_pandas().astype({"label": str})
    place = {int(key): number for number, key in enumerate(last.examples["key"])}
    chosen["order"] = chosen["order"].map(place)
    write_csv(out_examples, _EXAMPLE, chosen.sort_values(["label", "order"])[_EXAMPLE].itertuples(index=False))


def _tables(
    crops: Path, scratch: Scratch, classes: Classes, texts: list[str]
) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray]]:
    """Blocks of rows as ``tables.DATASET``, with their codes and the hashes of their keys."""
    ranks = ["species" if is_species else "genus" for is_species in classes.is_species]
    of_label = {name: _Names(values) for name, values in (("label", classes.names), ("rank", ranks))}
    of_label["genus"] = _Names(classes.genera)
    above_species = np.append(~classes.is_species, True)
    of_code = {name: _Names([*SPLITS, *texts[1:]]) for name in ("split", "reason")}
    for number, shard in enumerate(scratch.shards):
        codes, rows = scratch.codes(number), scratch.rows(number, ["label", "key"])
        start = 0
        for batch in crop_batches(crops / f"{shard}.parquet", _COPIED):
            here = slice(start, start + batch.num_rows)
            start += batch.num_rows
            label, code = rows["label"][here], codes[here]
            columns = {name: batch[name] for name in _COPIED}
            columns |= {name: names.of(label, label < 0) for name, names in of_label.items()}
            columns["species"] = of_label["label"].of(label, above_species[label])
            kept = code < len(SPLITS)
            columns |= {name: names.of(code, kept == (name == "reason")) for name, names in of_code.items()}
            yield pa.table([columns[name] for name in _STORED.names], schema=_STORED), code, rows["key"][here]
        if start != len(codes):
            raise InputError(f"{crops / shard}.parquet: changed while dataset ran; run it again")


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, the next one made on a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


class _Names:
    """What codes stand for."""

    def __init__(self, values: Sequence[str]) -> None:
        distinct, self._place = np.unique(np.array(values, object), return_inverse=True)
        self._distinct = pa.array(distinct, pa.string())

    def of(self, codes: np.ndarray, missing: np.ndarray) -> pa.DictionaryArray:
        """The values at the codes; null where missing."""
        places = pa.array(self._place[codes].astype(np.int32), mask=missing)
        return pa.DictionaryArray.from_arrays(places, self._distinct)
