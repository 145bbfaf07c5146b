"""Annotated photographs beside what the detector found on them."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.annotations import Annotated, read_annotations, read_images, usable
from instar.boxes import NO_ANIMAL
from instar.errors import InputError
from instar.masks import Masks, from_rle
from instar.tables import DETECTIONS, IMAGES, read_table


@dataclass(frozen=True)
class Judged:
    """An annotated photograph and what the detector found on it.

    Attributes:
        photograph: with its animals.
        found_xyxy: float64, shape (n, 4), boxes.
        scores: float64, shape (n,).
        masks: n of them where every box has one, else None.
        cut: bool, shape (n,), whether every tile that showed it cut it off.
    """

    photograph: Annotated
    found_xyxy: np.ndarray
    scores: np.ndarray
    masks: Masks | None
    cut: np.ndarray


@dataclass(frozen=True)
class Photographs:
    """All annotated photographs of a study.

    Attributes:
        annotated: all of them.
        table: their rows of ``tables.IMAGES``.
        usable: those that were fetched as they were annotated, also those trained on.
        judged: those of the wanted splits.
        dropped: reasons of the others, counted.
    """

    annotated: list[Annotated]
    table: pa.Table
    usable: list[Annotated]
    judged: list[Judged]
    dropped: Counter[str]

    def split(self, name: str, annotations: Path) -> list[Judged]:
        """The judged photographs of a split.

        Raises:
            InputError: if there is no animal on them.
        """
        chosen = [one for one in self.judged if one.photograph.split == name]
        if not any(len(one.photograph.boxes_xyxy) for one in chosen):
            raise InputError(
                f"{annotations}: split {name} has {len(chosen)} fetched photographs and no animal on them; annotate "
                f"more or raise records.annotation_{name}_share"
            )
        return chosen


def read_judged(
    annotations: Path,
    detections: Path,
    images: Path,
    shards: list[str],
    *,
    splits: Sequence[str] = ("validation", "test"),
) -> Photographs:
    """Read the annotated photographs and what was found on those of some splits.

    Raises:
        InputError: if a photograph of these splits is in no table of detections, a mask cannot be its photograph's, or
            only some boxes have masks.
    """
    annotated, _ = read_annotations(annotations)
    if not annotated:
        return Photographs([], IMAGES.empty_table(), [], [], Counter())
    table = read_images(images, shards, annotated)
    photographs, dropped = usable([p for p in annotated if p.split in splits], table)
    for photograph in annotated:
        if photograph.split not in splits:
            dropped["trained on" if photograph.split == "train" else f"split {photograph.split}"] += 1
    others, _ = usable([p for p in annotated if p.split not in splits], table)
    judged = _judged(photographs, _rows(detections, shards, photographs), dropped)
    if len(annotated) != len(judged) + dropped.total():
        raise RuntimeError(f"{len(annotated)} annotated photographs, {len(judged)} judged, dropped {dict(dropped)}")
    return Photographs(annotated, table, [*photographs, *others], judged, dropped)


def _rows(detections: Path, shards: list[str], photographs: list[Annotated]) -> dict[str, list[dict[str, Any]]]:
    """The rows of detections of the given photographs."""
    keys = pa.array([photograph.key for photograph in photographs], pa.string())
    rows: dict[str, list[dict[str, Any]]] = {}
    for shard in shards:
        table = read_table(detections / f"{shard}.parquet", DETECTIONS)
        for row in table.filter(pc.is_in(table["photo_key"], keys)).to_pylist():
            rows.setdefault(row["photo_key"], []).append(row)
    return rows


def _judged(photographs: list[Annotated], rows: dict[str, list[dict[str, Any]]], dropped: Counter[str]) -> list[Judged]:
    judged = []
    for photograph in photographs:
        if photograph.key not in rows:
            raise InputError(f"photograph {photograph.key} is in no table of detections; run that stage again")
        found = [row for row in rows[photograph.key] if row["reason"] is None]
        reasons = [row["reason"] for row in rows[photograph.key] if row["reason"] not in (None, NO_ANIMAL)]
        if reasons:
            dropped[f"not searched: {reasons[0]}"] += 1
            continue
        boxes = [[row["x_min"], row["y_min"], row["x_max"], row["y_max"]] for row in found]
        scores = np.array([row["score"] for row in found], np.float64)
        cut = np.array([bool(row["cut"]) for row in found], bool)
        judged.append(
            Judged(photograph, np.array(boxes, np.float64).reshape(-1, 4), scores, _masks(photograph, found), cut)
        )
    return judged


def _masks(photograph: Annotated, found: list[dict[str, Any]]) -> Masks | None:
    """The masks of what was found on a photograph, if it has any."""
    missing = sum(row["mask"] is None for row in found)
    if missing and missing < len(found):
        raise InputError(
            f"photograph {photograph.key}: {missing} of {len(found)} boxes have no mask; run the stage detections again"
        )
    if missing:
        return None
    size = [photograph.height, photograph.width]
    try:
        return from_rle({"size": size, "counts": row["mask"]} for row in found)
    except ValueError as error:
        raise InputError(f"photograph {photograph.key}: {error}; run the stage detections again") from None


def with_masks(photographs: Photographs) -> bool:
    """Whether animals and detections have masks to be judged by; where only some have, it is told why not."""
    animals = [one for one in photographs.usable if len(one.boxes_xyxy)]
    without = sum(one.masks is None for one in animals)
    if not animals or without == len(animals):
        return False
    boxes = sum(one.masks is None for one in photographs.judged)
    told = ""
    if without:
        told = f"warning: {without} of {len(animals)} annotated photographs have an animal without a mask"
    elif boxes:
        told = f"on {boxes} of {len(photographs.judged)} photographs the detector gives boxes without masks"
    if told:
        print(f"{told}; figures are of boxes only", file=sys.stderr)
    return not told
