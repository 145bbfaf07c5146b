"""What `instar compare` leaves for the report: rows, each with what it was made of, in data/<study>/plots/compared."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.errors import InputError
from instar.files import sha256_of, write_json
from instar.tables import DETECTIONS, read_table

#: Below the study's plots, whose folder is what the stage report depends on.
FOLDER = "compared"
ZOOMS, DETECTORS = "zooms.json", "detectors.json"
Row = dict[str, Any]


def judged_by(annotations: Path, areas_px: Sequence[int]) -> Row:
    """What rows must share to stand side by side: the animals, and where their sizes begin."""
    return {"annotations": sha256_of(annotations), "areas_px": list(areas_px)}


def searched_by(detections: Path, shards: Sequence[str], slicing: Mapping[str, Any]) -> Row:
    """What rows of one detector must share besides: its weights, and the section ``detections`` but for the tiles."""
    machine = ("tile_px", "batch", "workers")
    return {
        "detector": _detector(detections, shards),
        "detections": {key: value for key, value in slicing.items() if key not in machine},
    }


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
    stale = [row[name] for row in rows if row["made_of"] != made_of]
    return [row for row in rows if row["made_of"] == made_of], stale


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); delete it and run instar compare again") from None
    return found
