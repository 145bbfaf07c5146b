"""Stage ``crops``: one picture per detected animal, with the ancestry of its photograph."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from instar.boxes import box_with_margin
from instar.errors import InputError
from instar.photographs import Row, decoded, jpeg, shrunk
from instar.progress import progress
from instar.shards import ShardReader, ShardWriter, writing
from instar.splits import id_hash
from instar.tables import CROPS, DETECTIONS, IMAGES, read_table, write_table

BELOW_CONFIDENCE = "below confidence"

#: Columns of a crop that are its photograph's.
_ANCESTRY = [name for name in CROPS.names if name in IMAGES.names and name not in (*DETECTIONS.names, "key")]
_ANCESTRY = [name for name in _ANCESTRY if name not in ("offset", "size", "sha256", "width", "height")]


def crops(
    images: Path,
    images_tar: Path,
    detections: Path,
    out: Path,
    out_tar: Path,
    *,
    confidence: float,
    margin_percent: float,
    max_px: int,
    jpeg_quality: int,
) -> None:
    """Cut out every detected animal of one shard.

    Args:
        images: table of the shard's photographs.
        images_tar: the shard's photographs.
        detections: table of the boxes on them.
        out: table to write, a row for each row of ``detections``, with its photograph's ancestry; written last.
        out_tar: the crops to write, JPEG, named by their keys.
        confidence: boxes with a lower score make no crop.
        margin_percent: added on each side, of the box's side.
        max_px: longer side of a crop; smaller ones are not enlarged.
        jpeg_quality: of the crops, 1 to 100.
    """
    photographs = {row["key"]: row for row in read_table(images, IMAGES).to_pylist()}
    rows = read_table(detections, DETECTIONS).to_pylist()
    for row in rows:
        if row["photo_key"] not in photographs:
            raise InputError(f"{detections}: photograph {row['photo_key']} is not in {images}; run detections again")
        row.update(_ancestry(photographs[row["photo_key"]]))
        if row["reason"] is None and row["score"] < confidence:
            row["reason"] = BELOW_CONFIDENCE
    wanted: dict[str, list[Row]] = {}
    for row in rows:
        if row["reason"] is None:
            wanted.setdefault(row["photo_key"], []).append(row)
    with ShardReader(images_tar) as reader, writing(out_tar) as writer:
        pictures = decoded([photographs[key] for key in wanted], reader)
        for photograph, picture in progress(pictures, "photographs", len(wanted)):
            for row in wanted[photograph["key"]]:
                row.update(_stored(row, picture, writer, margin_percent, max_px, jpeg_quality))
    reasons = Counter(row["reason"] for row in rows if row["reason"] is not None)
    print(f"{len(rows)} boxes or photographs, {len(rows) - reasons.total()} crops, {dict(reasons)}", file=sys.stderr)
    write_table(out, rows, CROPS)


def _ancestry(photograph: Row) -> dict[str, Any]:
    """What a crop carries of its photograph."""
    observer = photograph["observer_id"]
    return {
        **{name: photograph[name] for name in _ANCESTRY},
        "photo_sha256": photograph["sha256"],
        "photo_phash": photograph["phash"],
        "observation_hash": id_hash(photograph["observation_id"]),
        "observer_hash": id_hash(observer) if observer else None,
    }


def _stored(
    row: Row, picture: np.ndarray | str, writer: ShardWriter, margin_percent: float, max_px: int, jpeg_quality: int
) -> dict[str, Any]:
    """Append the crop of a box to the tar; the columns that say where it lies, or the reason why there is none."""
    if isinstance(picture, str):
        return {"reason": picture}
    height, width = picture.shape[:2]
    box_xyxy = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
    left, top, right, bottom = box_with_margin(box_xyxy, margin_percent=margin_percent, width=width, height=height)
    crop = shrunk(picture[top:bottom, left:right], max_px)
    member = writer.add(f"{row['key']}.jpg", jpeg(crop, jpeg_quality))
    return {
        "key_hash": id_hash(row["key"]),
        "offset": member.offset,
        "size": member.size,
        "sha256": member.sha256,
        "width": crop.shape[1],
        "height": crop.shape[0],
        "box_width": box_xyxy[2] - box_xyxy[0],
        "box_height": box_xyxy[3] - box_xyxy[1],
    }
