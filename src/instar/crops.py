"""Stage ``crops``: one picture per detected animal, with the ancestry of its photograph."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from instar.boxes import BELOW_CONFIDENCE, box_with_margin
from instar.decode import UndecodableError, upright
from instar.errors import InputError
from instar.photographs import Row, in_order, jpeg_of, shrunk_image
from instar.progress import progress
from instar.shards import ShardReader, ShardWriter, writing
from instar.splits import id_hash
from instar.tables import BOXES, CROPS, IMAGES, RECORDS, read_table, write_table

#: Columns of a crop by the columns of its photograph that they are.
_ANCESTRY = {name: name for name in CROPS.names if name in RECORDS.names and name not in ("key", "sha256")}
_ANCESTRY |= {"photo_sha256": "sha256", "photo_phash": "phash"}


@dataclass(frozen=True)
class Cut:
    """How crops are made, see ``crops``."""

    margin_percent: float
    max_px: int
    jpeg_quality: int


@dataclass(frozen=True)
class Crop:
    """A crop as a file and its size in pixels."""

    data: bytes
    width: int
    height: int


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
    workers: int,
) -> None:
    """Cut out every detected animal of one shard.

    One photograph per worker is decoded at a time, so that ``workers`` bounds the memory: 4 bytes for each of its
    pixels, 7 while it is decoded and 8 while it is turned upright.

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
        workers: threads that decode, cut out and encode; what is written does not depend on it.

    Raises:
        InputError: if a box is on a photograph that is not in ``images``, or the shard's files are damaged.
    """
    photographs = {row["key"]: row for row in read_table(images, IMAGES).to_pylist()}
    rows = read_table(detections, BOXES).to_pylist()
    for row in rows:
        photograph = photographs.get(row["photo_key"])
        if photograph is None or photograph["offset"] is None:
            raise InputError(f"{detections}: photograph {row['photo_key']} is not in {images}; run detections again")
        row.update(_ancestry(photograph))
        if row["reason"] is None and row["score"] < confidence:
            row["reason"] = BELOW_CONFIDENCE
    wanted: dict[str, list[Row]] = {}
    for row in rows:
        if row["reason"] is None:
            wanted.setdefault(row["photo_key"], []).append(row)
    cut = Cut(margin_percent, max_px, jpeg_quality)
    with ShardReader(images_tar) as reader, writing(out_tar) as writer:

        def crops_of(photo_key: str) -> list[Crop] | str:
            photograph = photographs[photo_key]
            return _crops(reader.read(photograph["offset"], photograph["size"]), wanted[photo_key], cut)

        found = in_order(crops_of, wanted, threads=workers, ahead=2 * workers)
        for photo_key, made in progress(found, "photographs", len(wanted)):
            _store(wanted[photo_key], made, writer)
    reasons = Counter(row["reason"] for row in rows if row["reason"] is not None)
    print(f"{len(rows)} boxes or photographs, {len(rows) - reasons.total()} crops, {dict(reasons)}", file=sys.stderr)
    write_table(out, rows, CROPS)


def _ancestry(photograph: Row) -> Row:
    """What a crop carries of its photograph."""
    observer = photograph["observer_id"]
    return {
        **{name: photograph[own] for name, own in _ANCESTRY.items()},
        "observation_hash": id_hash(photograph["observation_id"]),
        "observer_hash": id_hash(observer) if observer else None,
    }


def _crops(data: bytes, rows: list[Row], cut: Cut) -> list[Crop] | str:
    """The crop of each box on a photograph, or the reason why it has none."""
    try:
        picture = upright(data)
    except UndecodableError as error:
        return str(error)
    return [_crop(picture, row, cut) for row in rows]


def _crop(picture: Image.Image, row: Row, cut: Cut) -> Crop:
    box_xyxy = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
    width, height = picture.size
    box = box_with_margin(box_xyxy, margin_percent=cut.margin_percent, width=width, height=height)
    crop = shrunk_image(picture.crop(box), cut.max_px)
    return Crop(jpeg_of(crop, cut.jpeg_quality), *crop.size)


def _store(rows: list[Row], made: list[Crop] | str, writer: ShardWriter) -> None:
    """Append a photograph's crops to the tar; their rows get where they lie, or the reason why there is none."""
    if isinstance(made, str):
        for row in rows:
            row["reason"] = made
        return
    for row, crop in zip(rows, made, strict=True):
        member = writer.add(f"{row['key']}.jpg", crop.data)
        row.update(offset=member.offset, size=member.size, sha256=member.sha256, width=crop.width, height=crop.height)
        row.update(
            key_hash=id_hash(row["key"]), box_width=row["x_max"] - row["x_min"], box_height=row["y_max"] - row["y_min"]
        )
