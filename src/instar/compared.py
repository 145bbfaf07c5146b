"""What `instar compare` leaves for the report: rows, each with what it was made of, in data/<study>/plots/compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.errors import InputError
from instar.files import sha256_of, write_json
from instar.params import Params
from instar.tables import DETECTIONS, read_table

#: Below the study's plots, whose folder is what the stage report depends on.
FOLDER = "compared"
ZOOMS, DETECTORS, CLASSIFIERS = "zooms.json", "detectors.json", "classifiers.json"
#: Pictures of one preset, below data/<study>/comparison/<preset> and so not in git; its row tells their sha256.
PATCHES = "patches.json"
Row = dict[str, Any]


def compared_by(params: Params, annotations: Path, images: Path) -> Row:
    """What rows of detectors must share to stand side by side: photographs, animals, how it is searched and judged.

    Neither taxonomy nor specimens are in it, since no figure of a row depends on them, nor what changes speed alone.

    Args:
        params: of the study; the section detector is not used.
        annotations: COCO JSON.
        images: folder of the photographs' shards.
    """
    return _shared(params, annotations, images) | {"confidence": params.crops.confidence}


def searched_by(params: Params, annotations: Path, images: Path, detections: Path) -> Row:
    """What rows of one detector at several sides of its tiles must share: the same, and its weights.

    Args:
        params: of the study.
        annotations: COCO JSON.
        images: folder of the photographs' shards.
        detections: folder of a search by that detector.
    """
    shared = _shared(params, annotations, images)
    del shared["detections"]["tile_px"]
    return shared | {"detector": _detector(detections, params.shards)}


def _shared(params: Params, annotations: Path, images: Path) -> Row:
    searched = asdict(params.detections)
    return {
        "annotations": sha256_of(annotations),
        "images": {shard: sha256_of(images / f"{shard}.parquet") for shard in params.shards},
        "detections": {key: value for key, value in searched.items() if key not in ("batch", "workers")},
        "detection_metrics": asdict(params.detection_metrics),
        "seed": params.seed,
        "bootstrap": params.evaluation.bootstrap,
        "annotation_split": params.records.annotation_split,
    }


def identified_by(dataset_md5: str | None, seed: int, evaluation: Mapping[str, Any]) -> Row:
    """What classifiers of individuals must share: photographs and splits, and how they are compared and judged.

    Args:
        dataset_md5: of the table of identities and splits.
        seed: of the resampling.
        evaluation: the section of this name; what only studies of species use is left aside.
    """
    names = ("bootstrap", "answer_by", "threshold_by", "neighbours", "flips", "sides", "local", "local_candidates")
    return {"dataset_md5": dataset_md5, "seed": seed, "evaluation": {name: evaluation[name] for name in names}}


def _detector(detections: Path, shards: Sequence[str]) -> str | None:
    """The detector's name as the tables of detections have it; None where they have no row."""
    schema = pa.schema([DETECTIONS.field("detector")])
    for shard in shards:
        if len(table := read_table(detections / f"{shard}.parquet", schema)):
            return str(table["detector"][0].as_py())
    return None


def keep(path: Path, name: str, rows: Sequence[Row], made_of: Row) -> None:
    """Add rows to a file, if there are some; they take the place of those with the same ``name``.

    Args:
        path: JSON, there or not.
        name: key that tells rows apart.
        rows: of one comparison.
        made_of: what all of them were made of.
    """
    kept = {row[name]: row for row in _rows(path)}
    kept |= {row[name]: {**row, "made_of": made_of} for row in rows}
    if rows:
        write_json(path, list(kept.values()))


def current(path: Path, name: str, made_of: Row) -> tuple[list[Row], list[Any]]:
    """The rows of a file that were made of this, and the names of those that were made of something else.

    Raises:
        InputError: if the file is damaged.
    """
    rows = _rows(path)
    stale = [row[name] for row in rows if row.get("made_of") != made_of]
    return [row for row in rows if row.get("made_of") == made_of], stale


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); delete it and run instar compare again") from None
    return found
