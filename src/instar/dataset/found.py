"""Which annotated animal each crop shows, and how many animals of each size have a crop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.annotations import Annotated
from instar.boxes import SEARCHED, box_areas
from instar.errors import InputError
from instar.masks import from_rle
from instar.metrics.areas import size_of
from instar.outcomes import outcomes
from instar.tables import CROPS, DETECTIONS, read_table

#: Names of sizes; the two areas that part them are a parameter.
SIZES = ("small", "medium", "large")
#: Animals of a split and a size, and those with a crop; crops of that size on its photographs, those with an animal.
FOUND = ("split", "size", "from_px", "below_px", "animals", "found", "crops", "right")

#: What is held of every crop of the study.
_CROP: tuple[str, ...] = (
    "key",
    "photo_key",
    "reason",
    "x_min",
    "y_min",
    "x_max",
    "y_max",
    "score",
    "area",
    "shard",
    "offset",
    "size",
)
_CROP += ("observation_id", "observer_id", "basis", "latitude", "longitude", "licence", "box_width", "box_height")
_CROP += ("photo_phash", "sha256")
_MASK = pa.schema([DETECTIONS.field(name) for name in ("key", "photo_key", "mask")])
Row = dict[str, Any]


@dataclass(frozen=True)
class Matched:
    """The crops of an annotated photograph and its animals.

    Attributes:
        photograph: with its animals.
        rows: of ``tables.CROPS``, with ``area``.
        animal: int64, shape (k,), of each crop the animal that it shows; -1 for none.
        iou: float64, shape (k,).
        animal_areas: float64, shape (n,), pixels.
    """

    photograph: Annotated
    rows: list[Row]
    animal: np.ndarray
    iou: np.ndarray
    animal_areas: np.ndarray


def crop_rows(crops: Path, shard: str, *more: str) -> Iterator[tuple[str, list[Row]]]:
    """The crops of each photograph of a shard that was searched, none where nothing was found; in the table's order.

    With ``more`` columns of ``tables.CROPS``.
    """
    table = read_table(crops / f"{shard}.parquet", pa.schema([CROPS.field(name) for name in (*_CROP, *more)]))
    by_photograph: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        if row["reason"] not in SEARCHED:
            continue
        kept = by_photograph.setdefault(row["photo_key"], [])
        if row["reason"] is None:
            box = np.array([[row["x_min"], row["y_min"], row["x_max"], row["y_max"]]])
            row["area"] = row["area"] if row["area"] is not None else round(float(box_areas(box)[0]))
            kept.append(row)
    yield from by_photograph.items()


def masks_of(detections: Path, shard: str, keys: Sequence[str]) -> dict[str, bytes]:
    """COCO's counts of the detections on some photographs, by their keys; those without a mask are left out."""
    table = read_table(detections / f"{shard}.parquet", _columns(DETECTIONS, _MASK)).select(_MASK.names)
    table = table.filter(pc.and_(pc.is_in(table["photo_key"], pa.array(keys, pa.string())), table["mask"].is_valid()))
    return dict(zip(table["key"].to_pylist(), table["mask"].to_pylist(), strict=True))


def _columns(schema: pa.Schema, wanted: pa.Schema) -> pa.Schema:
    return pa.schema([schema.field(name) for name in wanted.names])


def matched(photograph: Annotated, rows: list[Row], masks: Mapping[str, bytes]) -> Matched:
    """Give each crop the annotated animal that it shows, by masks where all have one, else by boxes.

    From the best score down a crop takes the animal not yet taken that it overlaps most, from IoU 0.5 up.

    Args:
        photograph: with its animals.
        rows: of its crops.
        masks: COCO's counts, by the crops' keys.

    Raises:
        InputError: if a mask is not of this photograph's size.
    """
    scores = np.array([row["score"] for row in rows], np.float64)
    if photograph.masks is not None and all(row["key"] in masks for row in rows):
        size = [photograph.height, photograph.width]
        try:
            found = from_rle({"size": size, "counts": masks[row["key"]]} for row in rows)
        except ValueError as error:
            raise InputError(f"photograph {photograph.key}: {error}; run the stage detections again") from None
        pairs = outcomes(found, scores, photograph.masks)
    else:
        boxes = [[row["x_min"], row["y_min"], row["x_max"], row["y_max"]] for row in rows]
        pairs = outcomes(np.array(boxes, np.float64).reshape(-1, 4), scores, photograph.boxes_xyxy)
    areas = box_areas(photograph.boxes_xyxy) if photograph.masks is None else photograph.masks.areas()
    return Matched(photograph, rows, pairs.animal, pairs.iou, areas.astype(np.float64))


def found_rows(all_matched: Sequence[Matched], areas_px: Sequence[int]) -> list[Row]:
    """Rows of ``FOUND`` for validation and test; a crop is of its own size, which may differ from its animal's."""
    rows = []
    edges = [0, *areas_px, None]
    for split in ("validation", "test"):
        of_split = [one for one in all_matched if one.photograph.split == split]
        counts = np.zeros((4, len(SIZES)), np.int64)
        for one in of_split:
            crop_sizes = size_of(np.array([row["area"] for row in one.rows]), areas_px)
            animal_sizes = size_of(one.animal_areas, areas_px)
            right = one.animal >= 0
            parts = (animal_sizes, animal_sizes[one.animal[right]], crop_sizes, crop_sizes[right])
            counts += [np.bincount(part, minlength=len(SIZES)) for part in parts]
        for place, size in enumerate(SIZES):
            values = [split, size, edges[place], edges[place + 1], *counts[:, place].tolist()]
            rows.append(dict(zip(FOUND, values, strict=True)))
    return rows
