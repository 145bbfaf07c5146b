"""Stage ``detections``: boxes on every photograph of a shard."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar import detectors
from instar.boxes import NO_ANIMAL, clipped_boxes, non_empty, order_by_score
from instar.detectors import Boxes, Detector
from instar.merge import Metric, Rule, merged
from instar.photographs import Row, decoded, in_order
from instar.progress import progress
from instar.shards import ShardReader
from instar.tables import DETECTIONS, IMAGES, read_table, write_stream
from instar.tiles import Box, cut_flags, joined, shifted, tile_boxes

#: A box that ends so near a tile's inner edge, in pixels of the photograph, is cut off by it.
CUT_PX = 1.0


def detections(
    detector: Path,
    images: Path,
    images_tar: Path,
    out: Path,
    *,
    floor: float,
    tile_px: int,
    tile_overlap: float,
    whole: bool,
    merge: str,
    merge_metric: str,
    merge_threshold: float,
    merge_comparable: float,
    merge_whole_first: bool,
    nms_iou: float,
    max_boxes: int,
    batch: int,
    precision: str,
    workers: int,
) -> None:
    """Find the animals on every photograph of one shard.

    A photograph whose longer side exceeds ``tile_px`` is looked at in overlapping tiles, and what was found of one
    animal in several of them is merged, by masks where the detector gives masks. Of a photograph with a region only
    that part is looked at. While one photograph is merged, the model goes on with the next one, and those after it are
    decoded.

    Args:
        detector: folder that the stage detector wrote.
        images: table of the shard's photographs; those with a reason are no rows of the result.
        images_tar: the shard's photographs.
        out: table to write, a row for each box or one with a reason for a photograph without any.
        floor: boxes with a lower score are not kept.
        tile_px: a photograph with a longer side is sliced into tiles of this side.
        tile_overlap: of neighbouring tiles, as a share of the side.
        whole: look at a photograph that is sliced as a whole, too.
        merge: rule of merging, greedy_nmm, nmm or nms.
        merge_metric: of the overlap, ios or iou.
        merge_threshold: predictions that overlap by at least so much are one.
        merge_comparable: of the better one's score; a weaker one does not make it grow.
        merge_whole_first: what a tile's edge cuts off gives way to what another tile shows whole and covers half of
            it, whatever ``merge_threshold`` is.
        nms_iou: of two boxes in one tile that overlap more, the better stays.
        max_boxes: kept of one tile, or fewer where the detector gives fewer at most.
        batch: tiles through the model at a time.
        precision: of the model's arithmetic on a GPU, float32, bfloat16 or float16; a CPU takes float32.
        workers: threads that decode photographs ahead of the model.
    """
    table = read_table(images, IMAGES)
    rows = table.filter(pc.is_null(table["reason"])).select(["key", "offset", "size", "region"]).to_pylist()
    model = detectors.load(detector)
    merging = (merge, merge_metric, merge_threshold, merge_comparable, merge_whole_first)
    slicing = Slicing(tile_px, tile_overlap, whole, *merging, batch, precision)
    limits = Limits(floor, nms_iou, max_boxes)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()

    def tables() -> Iterator[pa.Table]:
        """One photograph after the other, so that the boxes and masks of one alone are held as rows."""
        given = {row["key"] for row in rows}
        with ShardReader(images_tar) as reader:
            pictures = decoded(rows, reader, threads=workers)
            for photograph in progress(searched(model, pictures, slicing, limits), "photographs", len(rows)):
                given ^= {photograph.key}
                counts.update(boxes=len(photograph.boxes), empty=photograph.empty)
                reasons.update([photograph.reason] if photograph.reason else [])
                yield pa.Table.from_pylist(_rows(photograph, model.name), schema=DETECTIONS)
        if given:
            raise RuntimeError(f"{out}: {len(given)} photographs are not both given and written, such as {min(given)}")

    write_stream(out, tables(), DETECTIONS)
    print(f"{len(rows)} photographs, {counts['boxes']} boxes, {dict(reasons)}", file=sys.stderr)
    if counts["empty"]:
        print(f"{counts['empty']} predictions of tiles without a pixel in their masks left out", file=sys.stderr)


@dataclass(frozen=True)
class Slicing:
    """How photographs are cut up and what was found in the parts is put together again, see ``detections``."""

    tile_px: int
    tile_overlap: float
    whole: bool
    merge: str
    merge_metric: str
    merge_threshold: float
    merge_comparable: float
    merge_whole_first: bool
    batch: int
    precision: str


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
    region: Box = (0, 0, 0, 0)
    waiting: int = 0
    empty: int = 0
    full: int = 0
    parts: list[Boxes] = field(default_factory=list)
    cuts: list[np.ndarray] = field(default_factory=list)
    tiles: list[np.ndarray] = field(default_factory=list)
    boxes: Boxes = field(default_factory=lambda: joined([]))
    cut: np.ndarray | None = None


@dataclass
class Tile:
    """A part of a photograph."""

    photograph: Photograph
    box: Box
    picture: np.ndarray


def searched(
    model: Detector, pictures: Iterable[tuple[Row, np.ndarray | str]], slicing: Slicing, limits: Limits
) -> Iterator[Photograph]:
    """Every photograph with its boxes, in the given order, while the model always gets full batches of tiles."""
    found = _predicted(model, pictures, slicing, limits)
    # one thread merges while the model looks at the next photograph's tiles
    for photograph, _ in in_order(partial(_finish, slicing=slicing), found, threads=1, ahead=1):
        yield photograph


def _predicted(
    model: Detector, pictures: Iterable[tuple[Row, np.ndarray | str]], slicing: Slicing, limits: Limits
) -> Iterator[Photograph]:
    """Every photograph with what was found in its tiles, in the given order."""
    photographs: deque[Photograph] = deque()
    tiles: list[Tile] = []
    for row, picture in pictures:
        photograph = Photograph(row["key"])
        photographs.append(photograph)
        if isinstance(picture, str):
            photograph.reason = picture
        else:
            tiles += _tiles(photograph, picture, row.get("region"), model, slicing)
        while len(tiles) >= slicing.batch:
            _predict(model, tiles[: slicing.batch], slicing, limits)
            del tiles[: slicing.batch]
        while photographs and not photographs[0].waiting:
            yield photographs.popleft()
    if tiles:
        _predict(model, tiles, slicing, limits)
    yield from photographs


def _tiles(
    photograph: Photograph, picture: np.ndarray, region: list[int] | None, model: Detector, slicing: Slicing
) -> list[Tile]:
    photograph.height, photograph.width = size = picture.shape[:2]
    photograph.region = (0, 0, size[1], size[0]) if region is None else (region[0], region[1], region[2], region[3])
    tile_px = slicing.tile_px if model.tiled else max(size)
    parts = tile_boxes(
        size[1],
        size[0],
        tile_px=tile_px,
        overlap=slicing.tile_overlap,
        whole=slicing.whole,
        region=photograph.region,
    )
    photograph.waiting = len(parts)
    return [
        Tile(photograph, (left, top, right, bottom), picture[top:bottom, left:right])
        for left, top, right, bottom in parts
    ]


def _predict(model: Detector, tiles: list[Tile], slicing: Slicing, limits: Limits) -> None:
    pictures = [tile.picture for tile in tiles]
    with detectors.precision(slicing.precision):
        answers = model.predict(pictures, floor=limits.floor, nms_iou=limits.nms_iou, max_boxes=limits.max_boxes)
    for tile, found in zip(tiles, answers, strict=True):
        left, top, right, bottom = tile.box
        if found.full or len(found) + found.empty >= limits.max_boxes:
            if not tile.photograph.full:
                place = f"{tile.photograph.key}: the tile at x {left}, y {top}"
                told = "holds as many boxes as the detector can give; lower tile_px"
                if not found.full:
                    told = f"reached max_boxes = {limits.max_boxes}; raise it"
                print(f"warning: {place} {told}", file=sys.stderr)
            tile.photograph.full += 1
        inside = replace(found, boxes_xyxy=clipped_boxes(found.boxes_xyxy, right - left, bottom - top))
        kept = shifted(inside.take(non_empty(inside.boxes_xyxy)), left, top)
        tile.photograph.parts.append(kept)
        cut = cut_flags(kept.boxes_xyxy, tile.box, tile.photograph.region, CUT_PX)
        tile.photograph.cuts.append(cut)
        tile.photograph.tiles.append(np.tile(np.array(tile.box), (len(kept), 1)))
        tile.photograph.empty += found.empty
        tile.photograph.waiting -= 1


def _finish(photograph: Photograph, *, slicing: Slicing) -> None:
    if photograph.full > 1:
        print(f"warning: {photograph.key}: {photograph.full - 1} more of its tiles are full", file=sys.stderr)
    found = joined(photograph.parts)
    if len(photograph.parts) > 1:
        together = merged(
            found,
            rule=cast(Rule, slicing.merge),
            metric=cast(Metric, slicing.merge_metric),
            threshold=slicing.merge_threshold,
            comparable=slicing.merge_comparable,
            cut=np.concatenate(photograph.cuts),
            tiles=np.concatenate(photograph.tiles),
            whole_first=slicing.merge_whole_first,
        )
        found, photograph.cut = together.boxes, together.cut
    order = order_by_score(found.boxes_xyxy, found.scores)
    photograph.boxes = found.take(order)
    if photograph.cut is not None:
        photograph.cut = photograph.cut[order]
    for parts in (photograph.parts, photograph.cuts, photograph.tiles):
        parts.clear()
    if photograph.reason is None and not len(found):
        photograph.reason = NO_ANIMAL


def _rows(photograph: Photograph, detector: str) -> list[dict[str, Any]]:
    """Rows of ``tables.DETECTIONS``; columns that a row lacks are null."""
    common = {"photo_key": photograph.key, "detector": detector}
    if photograph.reason is not None:
        return [{**common, "reason": photograph.reason}]
    found = photograph.boxes
    columns: dict[str, list[Any]] = dict(
        zip(["x_min", "y_min", "x_max", "y_max"], found.boxes_xyxy.T.tolist(), strict=True)
    )
    columns["score"] = found.scores.tolist()
    if photograph.cut is not None:
        columns["cut"] = photograph.cut.tolist()
    if found.masks is not None:
        columns["mask"] = found.masks.rle(photograph.height, photograph.width)
        columns["area"] = found.masks.areas().tolist()
    return [
        {**common, "key": f"{photograph.key}-{n:03d}", **dict(zip(columns, values, strict=True))}
        for n, values in enumerate(zip(*columns.values(), strict=True))
    ]
