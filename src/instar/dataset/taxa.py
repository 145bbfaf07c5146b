"""The data set of a study of taxa: crops of the animals on trays, with what their annotators called them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instar.annotations import Annotated, read_annotations
from instar.dataset.decisions import HELD_OUT
from instar.dataset.found import FOUND, Matched, Row, crop_rows, found_rows, masks_of, matched
from instar.errors import InputError
from instar.files import write_csv, write_json
from instar.lineages import TAXON_RANKS, UNDER, Lineage, Lineages, read_lineages
from instar.progress import progress
from instar.splits import hash_order
from instar.tables import TAXA_DATASET, write_table

NOT_ANNOTATED = "photograph not annotated"
CROWD = "photograph with an annotated crowd"
NO_ANIMAL_MATCHED = "no annotated animal"
NOT_SURE = "animal without a sure label"
ABOVE_CLASS = "above class"
LICENCE = "licence not allowed"

EXAMPLES = 12
_EXAMPLE = ("label", "rank", "key", "shard", "offset", "size", "split")
_COPIED = ["key", "photo_key", "shard", "offset", "size", "observation_id", "observer_id", "basis"]
_COPIED += ["latitude", "longitude", "area"]


@dataclass
class Labelled:
    """A crop, what its animal was called, and why it is not used; ``reason`` is None where it is."""

    row: Row
    reason: str | None = None
    split: str | None = None
    sure: Lineage = (None,) * len(TAXON_RANKS)
    low: list[Lineage] = field(default_factory=list)
    iou: float | None = None


def taxa(
    crops: Path,
    taxonomy: Path,
    annotations: Path,
    detections: Path,
    out: Path,
    out_held_out: Path,
    out_metrics: Path,
    out_examples: Path,
    out_found: Path,
    *,
    seed: int,
    shards: list[str],
    licences: list[str],
    min_crop_px: int,
    min_class_crops: int,
    low_share: float,
    areas_px: list[int],
    specimens: Sequence[Labelled],
    specimens_dropped: Counter[str],
) -> None:
    """Label crops with the sure taxon of the annotated animal that they show, and split them as its photograph is.

    A crop shows the animal that it overlaps most from IoU 0.5 up, one to one and the best score first. Its label is the
    lowest class that the animal is sure to be of, from family up; a taxon with too few training crops is no class, so
    that its crops have the one above. The taxa that an animal may be of besides, and that say more than its label, are
    kept as ``low`` and share ``low_share`` of the target in training. A crop of an animal of no such taxon, of none, or
    on a photograph without annotations has no label and is dropped, as one whose licence is not allowed or whose box is
    too small.

    Args:
        crops: folder of ``<shard>.parquet`` with the crops and their ancestry.
        taxonomy: table of the taxa.
        annotations: COCO JSON with a split for each photograph, ``taxon`` and ``low`` of each animal.
        detections: folder of ``<shard>.parquet`` with the masks.
        out: gets a row of ``tables.TAXA_DATASET`` per crop, in the order of the shards, then the specimens.
        out_held_out: gets the samples with held-out photographs and their split, as CSV.
        out_metrics: gets the numbers, as JSON.
        out_examples: gets where up to 12 crops of each class lie, as CSV.
        out_found: gets how many animals and crops of each size have each other on validation and test, as CSV.
        seed: of the examples.
        shards: names of the shards.
        licences: crops with another one are dropped.
        min_crop_px: a box narrower or lower than this is dropped.
        min_class_crops: a taxon with fewer training crops is no class.
        low_share: of the target, for all low-confidence classes of a crop together.
        areas_px: areas at which medium and large animals begin.
        specimens: further crops with their labels.
        specimens_dropped: photographs of specimens that gave none, by reason.

    Raises:
        InputError: if a table is missing or damaged, or no crop for training is left.
    """
    lineages = read_lineages(taxonomy)
    photographs = {one.key: one for one in read_annotations(annotations)[0]}
    labelled: list[Labelled] = []
    pairs: list[Matched] = []
    for shard in progress(shards, "shards matched"):
        by_photograph = list(crop_rows(crops, shard))
        masks = masks_of(detections, shard, [key for key, _ in by_photograph if key in photographs])
        for key, rows in by_photograph:
            photograph = photographs.get(key)
            if photograph is None or photograph.crowded:
                reason = NOT_ANNOTATED if photograph is None else CROWD
                labelled += [Labelled(row, reason) for row in rows]
            else:
                pairs.append(matched(photograph, rows, masks))
                labelled += _labelled(pairs[-1], lineages)
    labelled += specimens
    for one in labelled:
        if one.reason is None:
            one.reason = _unfit(one.row, licences, min_crop_px)
    classes = _classes(labelled, min_class_crops)
    rows = [_row(one, classes, min_class_crops, low_share) for one in labelled]
    if not any(row["split"] == "train" for row in rows):
        told = ", ".join(f"{n} {why}" for why, n in Counter(row["reason"] for row in rows if row["reason"]).items())
        raise InputError(
            f"{crops}: no crop for training is left of {len(rows)} ({told or 'no crop'}); lower crops.confidence or "
            "dataset.min_class_crops"
        )
    write_table(out, rows, TAXA_DATASET)
    write_csv(out_held_out, HELD_OUT, sorted(_held_out(rows).items()))
    write_csv(out_examples, _EXAMPLE, _examples(rows, seed))
    write_csv(out_found, FOUND, [list(row.values()) for row in found_rows(pairs, areas_px)])
    write_json(out_metrics, _figures(rows, pairs, len(specimens), specimens_dropped))


def _labelled(pairs: Matched, lineages: Lineages) -> list[Labelled]:
    """The crops of an annotated photograph with what their animals were called."""
    found = []
    photograph = pairs.photograph
    for row, animal, iou in zip(pairs.rows, pairs.animal, pairs.iou, strict=True):
        one = Labelled(row, split=photograph.split)
        found.append(one)
        if animal < 0:
            one.reason = NO_ANIMAL_MATCHED
            continue
        one.iou = float(iou)
        taxon = photograph.taxa[animal]
        if taxon is None:
            one.reason = NOT_SURE
            continue
        one.sure = lineages.lineage(taxon)
        if not any(one.sure):
            one.reason = ABOVE_CLASS
            continue
        one.low = [lineages.lineage(low) for low in (photograph.low[animal] if photograph.low else ())]
    return found


def _unfit(row: Row, licences: Sequence[str], min_crop_px: int) -> str | None:
    if row["licence"] not in licences:
        return LICENCE
    if min(row["box_width"], row["box_height"]) < min_crop_px:
        return f"under {min_crop_px} px"
    return None


def _classes(labelled: Iterable[Labelled], min_class_crops: int) -> list[set[str]]:
    """The classes at each of ``TAXON_RANKS``: names with enough training crops that are, or may be, of them."""
    counts: list[Counter[str]] = [Counter() for _ in TAXON_RANKS]
    for one in labelled:
        if one.reason is None and one.split == "train":
            for count, *names in zip(counts, one.sure, *one.low, strict=True):
                count.update({name for name in names if name})
    return [{name for name, n in count.items() if n >= min_class_crops} for count in counts]


def lowest(lineage: Lineage, classes: Sequence[set[str]]) -> int | None:
    """The lowest place in ``TAXON_RANKS`` at which a lineage has a class; None for none.

    >>> lowest(("Sciaridae", "Diptera", "Insecta"), [set(), {"Diptera"}, {"Insecta"}])
    1
    """
    return next((place for place, name in enumerate(lineage) if name in classes[place]), None)


def _row(one: Labelled, classes: Sequence[set[str]], min_class_crops: int, low_share: float) -> Row:
    """A row of ``tables.TAXA_DATASET``."""
    found = {name: one.row[name] for name in _COPIED}
    place = lowest(one.sure, classes) if one.reason is None else None
    if one.reason is None and place is None:
        one.reason = f"{UNDER} {min_class_crops} crops"
    low = _low(one, place, classes) if place is not None else []
    found |= dict(zip(TAXON_RANKS, one.sure, strict=True))
    found |= {"species": None, "genus": None, "iou": one.iou, "low": low, "low_share": low_share if low else 0.0}
    found |= {"label": one.sure[place], "rank": TAXON_RANKS[place]} if place is not None else {"label": None}
    return found | {"split": one.split if one.reason is None else None, "reason": one.reason}


def _low(one: Labelled, place: int, classes: Sequence[set[str]]) -> list[list[str | None]]:
    """The low-confidence classes that are neither the label nor above it, each once, with their lineages."""
    found: dict[tuple[str | None, ...], None] = {}
    above = set(one.sure[place:])
    for lineage in one.low:
        level = lowest(lineage, classes)
        if level is not None and lineage[level] not in above:
            # what is no class of its rank is no one's ancestor either
            kept = [name if n >= level and name in classes[n] else None for n, name in enumerate(lineage)]
            found[tuple(kept)] = None
    return [list(lineage) for lineage in found]


def _held_out(rows: Iterable[Row]) -> dict[str, str]:
    """The split of each sample with held-out crops; validation for one with crops of both."""
    found: dict[str, str] = {}
    for row in rows:
        if row["split"] in ("validation", "test"):
            found[row["observation_id"]] = max(row["split"], found.get(row["observation_id"], ""))
    return found


def _examples(rows: Iterable[Row], seed: int) -> list[list[Any]]:
    by_label: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["split"]:
            by_label[row["label"]][row["key"]] = row
    return [
        [of_label[key][name] for name in _EXAMPLE]
        for _, of_label in sorted(by_label.items())
        for key in hash_order(seed, of_label)[:EXAMPLES]
    ]


def _figures(
    rows: list[Row], pairs: Sequence[Matched], specimens: int, specimens_dropped: Counter[str]
) -> dict[str, Any]:
    own, further = rows[: len(rows) - specimens], rows[len(rows) - specimens :]
    accounts = {"rows": _account(own, Counter()), "specimens": _account(further, specimens_dropped)}
    kept = [row for row in rows if row["split"]]
    of_samples: dict[str, set[str]] = defaultdict(set)
    for row in kept:
        of_samples[row["observation_id"]].add(row["split"])
    return {
        **accounts,
        "splits": {split: _split(kept, split, pairs) for split in ("train", "validation", "test")},
        "classes": len({(row["rank"], row["label"]) for row in kept if row["split"] == "train"}),
        "samples_in_two_splits": sum(len(splits) > 1 for splits in of_samples.values()),
    }


def _account(rows: Sequence[Row], dropped: Counter[str]) -> dict[str, Any]:
    """Rows in, out and dropped, with those that were dropped before."""
    reasons = dropped + Counter(row["reason"] for row in rows if row["reason"])
    kept = sum(row["split"] is not None for row in rows)
    given = len(rows) + dropped.total()
    if given != kept + reasons.total():
        raise RuntimeError(f"dataset: {given} crops, {kept} kept, dropped {dict(reasons)}")
    return {"in": given, "out": kept, "dropped": dict(sorted(reasons.items()))}


def _split(kept: Sequence[Row], split: str, pairs: Iterable[Matched]) -> dict[str, Any]:
    of_split = [row for row in kept if row["split"] == split]
    photographs: list[Annotated] = [one.photograph for one in pairs if one.photograph.split == split]
    ranks = Counter(row["rank"] for row in of_split)
    return {
        "crops": len(of_split),
        "photographs": len(photographs),
        "animals": sum(len(one.boxes_xyxy) for one in photographs),
        "labelled_at": {rank: ranks[rank] for rank in TAXON_RANKS},
        "with_low_confidence": sum(bool(row["low"]) for row in of_split),
    }
