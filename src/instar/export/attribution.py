"""Whose photographs the models learnt from."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from instar.detectors import DESCRIPTION
from instar.errors import InputError
from instar.evaluation.photographs import UNTRAINED, learnt_by_detector
from instar.files import replacing
from instar.tables import CROPS, DATASET, read_batches

#: Of a photograph, as the tables of crops carry them.
COLUMNS = ("source", "photo_id", "creator", "rights_holder", "licence", "reference")


@dataclass
class Photographs:
    """Photographs that the models learnt from, counted.

    Attributes:
        by_use: ``classifier``, ``detector`` or both, with a blank between.
        by_licence: of all of them.
        by_source: ``source, basis`` of all of them.
    """

    by_use: Counter[str] = field(default_factory=Counter)
    by_licence: Counter[str] = field(default_factory=Counter)
    by_source: Counter[str] = field(default_factory=Counter)


def write_attribution(
    root: Path, shards: list[str], detector: dict[str, Any], out: Path, *, adopted: bool, early_stop: bool
) -> Photographs:
    """Write a row for each photograph that a model learnt from: its creator, rights holder, licence and reference.

    Args:
        root: data/<study>.
        shards: names of the shards.
        detector: description of the detector.
        out: CSV to write.
        adopted: whether the detector was trained elsewhere, on photographs that are not known here.
        early_stop: whether validation crops chose the classifier's weights.

    Raises:
        InputError: if a photograph is not in the tables of the crops, or these were made with another detector.
    """
    splits = ["train", "validation"] if early_stop else ["train"]
    of_classifier = _of_classifier(root / "dataset.parquet", splits)
    used = {"classifier": of_classifier, "detector": set()}
    name = detector.get("name", detector.get("sha256", detector["family"]))
    if not name.startswith(UNTRAINED) and not adopted:
        used["detector"] = _of_detector(root / "annotations.json")
    wanted = pa.array(sorted(set().union(*used.values())), pa.string())
    found, written = Photographs(), set()
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", *COLUMNS, "used_for"])
        for shard in shards:
            for row in _rows(root / "crops" / f"{shard}.parquet", wanted, name):
                key = row["photo_key"]
                if key in written:
                    continue
                written.add(key)
                use = " ".join(model for model, keys in used.items() if key in keys)
                writer.writerow([key, *(row[column] for column in COLUMNS), use])
                found.by_use[use] += 1
                found.by_licence[row["licence"]] += 1
                found.by_source[f"{row['source']}, {row['basis']}"] += 1
    if missing := sorted(used["classifier"] - written):
        raise InputError(f"{root}/crops: photograph {missing[0]} of the dataset is in no shard; run crops again")
    return found


def _of_classifier(dataset: Path, splits: list[str]) -> set[str]:
    """Keys of the photographs of crops in these splits."""
    keys: set[str] = set()
    for batch in read_batches(dataset, DATASET, ["photo_key", "split"]):
        kept = pc.is_in(batch["split"].cast(pa.string()), value_set=pa.array(splits))
        keys.update(pa.table(batch).filter(kept)["photo_key"].to_pylist())
    return keys


def _of_detector(annotations: Path) -> set[str]:
    """Keys of the annotated photographs that trained the detector or chose its weights; none were annotated here if
    the detector came from elsewhere."""
    return set(learnt_by_detector(annotations)) if annotations.is_file() else set()


def _rows(path: Path, wanted: pa.Array, detector: str) -> list[dict[str, Any]]:
    """One row of a shard's crops for each photograph in it that is wanted."""
    columns = ["photo_key", *COLUMNS, "basis", "detector"]
    tables = [pa.table(batch) for batch in read_batches(path, CROPS, columns)]
    kept = [pa.schema([CROPS.field(name) for name in columns]).empty_table()]
    for table in tables:
        if others := set(table["detector"].unique().to_pylist()) - {detector}:
            told = f"crops of the detector {min(others)}, but {DESCRIPTION} is of {detector}"
            raise InputError(f"{path}: {told}; run detections and crops again")
        kept.append(table.filter(pc.is_in(table["photo_key"], value_set=wanted)))
    rows = pa.concat_tables(kept, promote_options="permissive").to_pylist()
    return list({row["photo_key"]: row for row in rows}.values())
