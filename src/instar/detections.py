"""Stage ``detections``: boxes on every photograph of a shard."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from instar import detectors
from instar.boxes import NO_ANIMAL, clipped_boxes, non_empty, order_by_score
from instar.detectors import Boxes, Detector
from instar.merge import COMPARABLE, merged
from instar.photographs import Row, decoded
from instar.progress import progress
from instar.shards import ShardReader
from instar.tables import DETECTIONS, IMAGES, read_table, write_table
from instar.tiles import joined, shifted, tile_boxes


def detections(
    detector: Path,
    images: Path,
    images_tar: Path,
    out: Path,
    *,
    floor: float,
    tile_px: int,
    tile_overlap: float,
    merge_threshold: float,
    nms_iou: float,
    max_boxes: int,
    batch: int,
    workers: int,
) -> None:
    """Find the animals on every photograph of one shard.

    A photograph whose longer side exceeds ``tile_px`` is looked at whole and in overlapping tiles, and boxes of one
    animal in several of them are merged.

    Args:
        detector: folder that the stage detector wrote.
        images: table of the shard's photographs; those with a reason are no rows of the result.
        images_tar: the shard's photographs.
        out: table to write, a row for each box or one with a reason for a photograph without any.
        floor: boxes with a lower score are not kept.
        tile_px: a photograph with a longer side is sliced into tiles of this side.
        tile_overlap: of neighbouring tiles, as a share of the side.
        merge_threshold: boxes of two tiles that overlap by more of the smaller one are one.
        nms_iou: of two boxes in one tile that overlap more, the better stays.
        max_boxes: kept of one tile.
        batch: tiles through the model at a time.
        workers: threads that decode photographs ahead of the model.
    """
    table = read_table(images, IMAGES)
    rows = table.filter(pc.is_null(table["reason"])).select(["key", "offset", "size"]).to_pylist()
    model = detectors.load(detector)
    slicing = Slicing(tile_px, tile_overlap, merge_threshold, batch)
    limits = Limits(floor, nms_iou, max_boxes)
    found: list[dict[str, Any]] = []
    with ShardReader(images_tar) as reader:
        pictures = decoded(rows, reader, threads=workers)
        for photograph in progress(searched(model, pictures, slicing, limits), "photographs", len(rows)):
            found += _rows(photograph, model.name)
    if other := {row["key"] for row in rows} ^ {row["photo_key"] for row in found}:
        raise RuntimeError(f"{out}: {len(other)} photographs are not both given and written, such as {min(other)}")
    reasons = Counter(row["reason"] for row in found if "reason" in row)
    print(f"{len(rows)} photographs, {len(found) - reasons.total()} boxes, {dict(reasons)}", file=sys.stderr)
    write_table(out, found, DETECTIONS)


@dataclass(frozen=True)
class Slicing:
    """How photographs are cut up and their boxes put together again."""

    tile_px: int
    tile_overlap: float
    merge_threshold: float
    batch: int


@dataclass(frozen=True)
class Limits:
    """What the detector keeps of one tile."""

    floor: float
    nms_iou: float
    max_boxes: int


@dataclass
class Photograph:
    """A photograph on its way through the detector: how many of its tiles are still out, what the others gave."""

    key: str
    reason: str | None = None
    width: int = 0
    height: int = 0
    waiting: int = 0
    parts: list[Boxes] = field(default_factory=list)
    boxes: Boxes = field(default_factory=lambda: joined([]))


@dataclass
class Tile:
    """A part of a photograph."""

    photograph: Photograph
    left: int
    top: int
    picture: np.ndarray


def searched(
    model: Detector, pictures: Iterable[tuple[Row, np.ndarray | str]], slicing: Slicing, limits: Limits
) -> Iterator[Photograph]:
    """Every photograph with its boxes, in the given order, while the model always gets full batches of tiles."""
    photographs: list[Photograph] = []
    tiles: list[Tile] = []
    for row, picture in pictures:
        photograph = Photograph(row["key"])
        photographs.append(photograph)
        if isinstance(picture, str):
            photograph.reason = picture
        else:
            tiles += _tiles(photograph, picture, model, slicing)
        while len(tiles) >= slicing.batch:
            _predict(model, tiles[: slicing.batch], limits)
            del tiles[: slicing.batch]
        while photographs and not photographs[0].waiting:
            yield _finished(photographs.pop(0), slicing)
    if tiles:
        _predict(model, tiles, limits)
    for photograph in photographs:
        yield _finished(photograph, slicing)


def _tiles(photograph: Photograph, picture: np.ndarray, model: Detector, slicing: Slicing) -> list[Tile]:
    photograph.height, photograph.width = picture.shape[:2]
    tile_px = slicing.tile_px if model.tiled else max(picture.shape)
    parts = tile_boxes(photograph.width, photograph.height, tile_px=tile_px, overlap=slicing.tile_overlap)
    photograph.waiting = len(parts)
    return [Tile(photograph, left, top, picture[top:bottom, left:right]) for left, top, right, bottom in parts]


def _predict(model: Detector, tiles: list[Tile], limits: Limits) -> None:
    pictures = [tile.picture for tile in tiles]
    answers = model.predict(pictures, floor=limits.floor, nms_iou=limits.nms_iou, max_boxes=limits.max_boxes)
    for tile, found in zip(tiles, answers, strict=True):
        if found.full or len(found) >= limits.max_boxes:
            place = f"{tile.photograph.key}: the tile at x {tile.left}, y {tile.top}"
            told = "holds as many boxes as the detector can give; lower tile_px"
            if not found.full:
                told = f"reached max_boxes = {limits.max_boxes}; raise it"
            print(f"warning: {place} {told}", file=sys.stderr)
        height, width = tile.picture.shape[:2]
        inside = Boxes(clipped_boxes(found.boxes_xyxy, width, height), found.scores)
        tile.photograph.parts.append(shifted(_kept(inside), tile.left, tile.top))
        tile.photograph.waiting -= 1


def _kept(found: Boxes) -> Boxes:
    good = non_empty(found.boxes_xyxy)
    return Boxes(found.boxes_xyxy[good], found.scores[good])


def _finished(photograph: Photograph, slicing: Slicing) -> Photograph:
    found = joined(photograph.parts)
    if len(photograph.parts) > 1:
        found = merged(
            found, rule="greedy_nmm", metric="ios", threshold=slicing.merge_threshold, comparable=COMPARABLE
        ).boxes
    order = order_by_score(found.boxes_xyxy, found.scores)
    photograph.boxes = Boxes(found.boxes_xyxy[order], found.scores[order])
    photograph.parts.clear()
    if photograph.reason is None and not len(found):
        photograph.reason = NO_ANIMAL
    return photograph


def _rows(photograph: Photograph, detector: str) -> list[dict[str, Any]]:
    """Rows of ``tables.DETECTIONS``; columns that a row lacks are null."""
    common = {"photo_key": photograph.key, "detector": detector}
    if photograph.reason is not None:
        return [{**common, "reason": photograph.reason}]
    names = ["x_min", "y_min", "x_max", "y_max"]
    boxes = zip(photograph.boxes.boxes_xyxy.tolist(), photograph.boxes.scores.tolist(), strict=True)
    return [
        {**common, "key": f"{photograph.key}-{n:03d}", "score": score, **dict(zip(names, box, strict=True))}
        for n, (box, score) in enumerate(boxes)
    ]
