"""The rules that drop a crop: of itself, for a near-duplicate, and for a class that is too small."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.dataset.near import Members, mix
from instar.dataset.rows import NOTHING, NUMBERS, SCRATCH, Classes, Scratch, crop_batches, hashes, place_days
from instar.errors import InputError

(
    KEPT,
    LICENCE,
    SMALL,
    ABOVE_GENUS,
    REVIEW,
    CONFLICT,
    DUPLICATE,
    SMALL_CLASS,
    SURPLUS,
    OBSERVER,
    EARLIER,
    NEAR_EARLIER,
) = range(12)

#: What the crops of a photograph are known by while photographs with equal perceptual hashes are compared.
_PICTURE = np.dtype([("phash", "u8"), ("observation", "u8"), ("label", "i4"), ("row", "u4")])
#: Of a shard's crop that a comparison dropped.
_DROP = np.dtype([("row", "u4"), ("reason", "u1")])


def reasons(min_crop_px: int, min_class_crops: int) -> list[str]:
    """The text of each reason, in the order in which the rules look at a crop; the first means that it is kept."""
    return [
        "kept",
        "licence not allowed",
        f"under {min_crop_px} px",
        "above genus",
        "rejected in review",
        "near-duplicates with different labels",
        "near-duplicate",
        f"class under {min_class_crops} crops",
        "beyond the quota of a held-out observation",
        "of a held-out observer",
        "held out earlier",
        "near-duplicate of one held out earlier",
    ]


@dataclass(frozen=True)
class Rules:
    """What decides about a crop by itself.

    Attributes:
        licences: allowed ones.
        min_crop_px: of the narrower side of its box.
        kept: hashes of the keys that a review looked at and left as they are.
        rejected: hashes of the keys that a review dropped.
        relabelled: label that a review gave, by the key's hash.
        decided_files: sha256 of the crop that was looked at, by the key's hash, where the decision tells it.
    """

    licences: tuple[str, ...]
    min_crop_px: int
    kept: frozenset[int] = frozenset()
    rejected: frozenset[int] = frozenset()
    relabelled: dict[int, int] = field(default_factory=dict)
    decided_files: dict[int, str] = field(default_factory=dict)


@dataclass
class Read:
    """What the first pass found.

    Attributes:
        crops: int64, shape (n_classes + 1,): of each label, the last of none.
        dropped: int64, shape (n_reasons, n_classes + 1).
        offsets: of each shard's file of pictures, where each bucket begins.
        applied: hashes of keys whose decision was applied.
        stale: hashes of keys whose decision was made on another file.
    """

    crops: np.ndarray
    dropped: np.ndarray
    offsets: dict[int, np.ndarray]
    applied: frozenset[int]
    stale: frozenset[int]


def add_reads(parts: list[Read]) -> Read:
    """The sum of what was found in several shards."""
    return Read(
        crops=np.sum([part.crops for part in parts], axis=0),
        dropped=np.sum([part.dropped for part in parts], axis=0),
        offsets={number: offsets for part in parts for number, offsets in part.offsets.items()},
        applied=frozenset().union(*(part.applied for part in parts)),
        stale=frozenset().union(*(part.stale for part in parts)),
    )


def count(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Crops of each label, int64 of shape (n_classes + 1,), the last of label -1."""
    return np.bincount(np.where(labels < 0, n_classes, labels), minlength=n_classes + 1)


def count_by(codes: np.ndarray, labels: np.ndarray, n_codes: int, n_classes: int) -> np.ndarray:
    """Crops of each code below ``n_codes`` and each label, int64 of shape (n_codes, n_classes + 1)."""
    width = n_classes + 1
    cells = codes.astype(np.int64) * width + np.where(labels < 0, n_classes, labels)
    return np.bincount(cells, minlength=n_codes * width).reshape(n_codes, width)


def read_shard(
    number: int, *, crops: Path, scratch: Scratch, classes: Classes, rules: Rules, buckets: int, n_reasons: int
) -> Read:
    """Turn a shard's crops into numbers, apply the rules of each by itself, and lay its pictures out by bucket."""
    path = crops / f"{scratch.shards[number]}.parquet"
    columns = ["taxon_id", "licence", "box_width", "box_height", "latitude", "longitude", "observed_at"]
    columns += ["key_hash", "observation_hash", "observer_hash", "photo_phash"]
    columns += ["sha256"] if rules.decided_files else []
    parts, applied, stale = [], set[int](), set[int]()
    for batch in crop_batches(path, columns):
        part = _numbers(batch, classes)
        _review(part, batch, rules, applied, stale)
        _judge(part, batch, rules)
        parts.append(part)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in SCRATCH.names} if parts else _none()
    _check_keys(rows["key"], path)
    scratch.write_rows(number, rows)
    n_classes = len(classes.names)
    dropped = count_by(rows["reason"], rows["label"], n_reasons, n_classes)
    offsets = _write_pictures(rows, scratch.path("duplicates", number), buckets)
    return Read(count(rows["label"], n_classes), dropped, {number: offsets}, frozenset(applied), frozenset(stale))


def _none() -> dict[str, np.ndarray]:
    return {field.name: np.empty(0, field.type.to_pandas_dtype()) for field in SCRATCH}


def _check_keys(keys: np.ndarray, path: Path) -> None:
    # a photograph's crops lie in one shard, so a key that stands twice stands twice in it
    ordered = np.sort(keys)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again):
        for batch in crop_batches(path, ["key", "key_hash"]):
            at = pc.index(batch["key_hash"], pa.scalar(int(again[0]), pa.uint64())).as_py()
            if at >= 0:
                raise InputError(f"{path}: key {batch['key'][at]} stands twice; delete the folder and run crops again")


def _numbers(batch: pa.RecordBatch, classes: Classes) -> dict[str, np.ndarray]:
    given = ["key_hash", "observation_hash", "observer_hash", "photo_phash"]
    numbers = dict(zip(NUMBERS, (hashes(batch, name) for name in given), strict=False))
    labels = classes.labels(batch["taxon_id"])
    return {"label": labels, "reason": np.zeros(len(labels), np.uint8), **numbers, "place_day": place_days(batch)}


def _review(
    part: dict[str, np.ndarray], batch: pa.RecordBatch, rules: Rules, applied: set[int], stale: set[int]
) -> None:
    """Apply the decisions about these crops: reject them, or give them another label."""
    decided = rules.kept | rules.rejected | rules.relabelled.keys()
    if not decided:
        return
    for row in np.flatnonzero(np.isin(part["key"], np.fromiter(decided, np.uint64))):
        key = int(part["key"][row])
        if key in rules.decided_files and batch["sha256"][row].as_py() != rules.decided_files[key]:
            stale.add(key)
            continue
        applied.add(key)
        if key in rules.rejected:
            part["reason"][row] = REVIEW
        part["label"][row] = rules.relabelled.get(key, part["label"][row])


def _judge(part: dict[str, np.ndarray], batch: pa.RecordBatch, rules: Rules) -> None:
    """Write the first reason that holds."""
    licence = batch["licence"]
    allowed = np.array([name in rules.licences for name in licence.dictionary.to_pylist()])[licence.indices.to_numpy()]
    width, height = (batch[name].to_numpy(zero_copy_only=False) for name in ("box_width", "box_height"))
    small = np.minimum(width, height) < rules.min_crop_px
    rejected = part["reason"] == REVIEW
    found = np.select([~allowed, small, part["label"] < 0, rejected], [LICENCE, SMALL, ABOVE_GENUS, REVIEW], KEPT)
    part["reason"] = found.astype(np.uint8)


def _write_pictures(rows: dict[str, np.ndarray], path: Path, buckets: int) -> np.ndarray:
    """Write the pictures of kept crops, those of one bucket together; returns where each bucket begins."""
    at = np.flatnonzero((rows["reason"] == KEPT) & (rows["phash"] != NOTHING))
    bucket = (mix(rows["phash"][at]) % np.uint64(buckets)).astype(np.uint16)  # 16 bits sort in linear time
    at = at[np.argsort(bucket, kind="stable")]
    pictures = np.empty(len(at), _PICTURE)
    for name in ("phash", "observation", "label"):
        pictures[name] = rows[name][at]
    pictures["row"] = at
    pictures.tofile(path)
    return np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=buckets))])


@dataclass
class Compared:
    """What comparing one bucket's pictures found: ``dropped`` as in ``Read``, ``offsets`` of each bucket's drops."""

    dropped: np.ndarray
    offsets: dict[int, np.ndarray]


def add_compared(parts: list[Compared]) -> Compared:
    """The sum over several buckets."""
    dropped = np.sum([part.dropped for part in parts], axis=0)
    return Compared(dropped, {bucket: found for part in parts for bucket, found in part.offsets.items()})


def compare_bucket(
    bucket: int,
    *,
    scratch: Scratch,
    classes: Classes,
    offsets: dict[int, np.ndarray],
    earlier: Members,
    n_reasons: int,
) -> Compared:
    """Drop all but one of the observations that share a photograph, by equal perceptual hashes.

    The observation with a species stays rather than one with a genus, then one that was held out earlier, then the one
    with the lowest hash. Where species or genera differ, no one knows which is right and all go.
    """
    parts = []
    for number, starts in sorted(offsets.items()):
        begin, end = int(starts[bucket]), int(starts[bucket + 1])
        path = scratch.path("duplicates", number)
        parts.append(np.fromfile(path, _PICTURE, count=end - begin, offset=begin * _PICTURE.itemsize))
    pictures = np.concatenate(parts)
    shard = np.repeat(np.array(sorted(offsets)), [len(part) for part in parts])
    order = np.argsort(pictures["phash"])
    order = order[_shared(pictures["phash"][order], pictures["observation"][order])]
    at, found = _verdicts(pictures[order], classes, earlier)
    at = order[at]
    by_shard = np.argsort(shard[at], kind="stable")
    at, found = at[by_shard], found[by_shard]
    drops = np.empty(len(at), _DROP)
    drops["row"], drops["reason"] = pictures["row"][at], found
    drops.tofile(scratch.path("dropped", bucket))
    dropped = count_by(found, pictures["label"][at], n_reasons, len(classes.names))
    starts = np.searchsorted(shard[at], np.arange(len(scratch.shards) + 1))
    return Compared(dropped, {bucket: starts})


def _shared(phash: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Of pictures ordered by hash, those whose hash stands in more than one observation; bool."""
    if not len(phash):
        return np.zeros(0, bool)
    same = phash[1:] == phash[:-1]
    run = np.concatenate([[0], np.cumsum(~same)])
    crossing = np.zeros(int(run[-1]) + 1, bool)
    crossing[run[1:][same & (observation[1:] != observation[:-1])]] = True
    return np.asarray(crossing[run])


def _verdicts(pictures: np.ndarray, classes: Classes, earlier: Members) -> tuple[np.ndarray, np.ndarray]:
    """Places of the pictures to drop, and the reason for each; each hash stands in several observations."""
    if not len(pictures):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    is_genus = ~classes.is_species[pictures["label"]]
    is_new = np.ones(len(pictures), bool)
    is_new[earlier.places(pictures["observation"])[0]] = False
    order = np.lexsort([pictures["observation"], is_new, is_genus, pictures["phash"]])
    phash = pictures["phash"][order]
    first = np.flatnonzero(np.concatenate([[True], phash[1:] != phash[:-1]]))
    run = np.repeat(np.arange(len(first)), np.diff([*first, len(order)]))
    label, genus = pictures["label"][order], classes.genus_codes[pictures["label"]][order]
    # the first of a run is of a species if any is
    differs = (genus != genus[first][run]) | (~is_genus[order] & (label != label[first][run]))
    conflict = np.bincount(run, differs, len(first))[run] > 0
    other = pictures["observation"][order] != pictures["observation"][order][first][run]
    drop = conflict | other
    return order[drop], np.where(conflict, CONFLICT, DUPLICATE)[drop].astype(np.uint8)


def dropped_rows(number: int, scratch: Scratch, compared: Compared) -> np.ndarray:
    """What the comparisons dropped of a shard: records of ``row`` and ``reason``."""
    parts = [
        np.fromfile(
            scratch.path("dropped", bucket),
            _DROP,
            count=int(starts[number + 1] - starts[number]),
            offset=int(starts[number]) * _DROP.itemsize,
        )
        for bucket, starts in sorted(compared.offsets.items())
    ]
    return np.concatenate(parts)


def settle_reasons(number: int, *, scratch: Scratch, compared: Compared, small: np.ndarray) -> int:
    """Write a shard's reasons after all rules; ``small`` says of each class whether it is dropped."""
    rows = scratch.rows(number, ["label", "reason"])
    reasons, labels = rows["reason"].copy(), rows["label"]
    drops = dropped_rows(number, scratch, compared)
    reasons[drops["row"]] = drops["reason"]
    kept = np.flatnonzero(reasons == KEPT)
    reasons[kept[small[labels[kept]]]] = SMALL_CLASS
    scratch.write_flat("reasons", number, reasons.astype(np.uint8))
    return int((reasons == KEPT).sum())
