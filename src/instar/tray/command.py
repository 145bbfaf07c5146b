"""`instar tray`: a photograph of the study in params.yaml as a page to zoom into."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from instar.annotations import Annotated, read_annotations, read_images, usable
from instar.decode import UndecodableError, decode_upright
from instar.errors import InputError
from instar.files import replacing
from instar.mask_figures import confidence
from instar.masks import from_rle
from instar.report.pictures import licence_name, may_be_shown
from instar.shards import ShardReader
from instar.tables import DETECTIONS, IMAGES, TAXONOMY, read_table
from instar.tray.page import Tray, page

_DESCRIPTION = """Write one photograph of the study with its detections as a page to zoom into: one HTML file that needs
no network. Where the photograph is annotated, colours tell what is right, wrong and missed at any threshold; else they
tell the scores. It opens with the threshold that was chosen on validation, and the address in the browser tells the
place, so that it can be shared."""


def tray(words: list[str]) -> int:
    """Read the words of ``instar tray`` and write the page."""
    parser = argparse.ArgumentParser(prog="instar tray", description=_DESCRIPTION)
    told = "key of the photograph; if not given, the judged one with the most animals, or the one with most detections"
    parser.add_argument("photo_key", nargs="?", metavar="PHOTO_KEY", help=told)
    parser.add_argument("--out", type=Path, default=Path("tray.html"), metavar="FILE", help="to write; tray.html")
    parser.add_argument("--floor", type=float, default=0.05, help="detections with a lower score are left out; 0.05")
    parser.add_argument("--max-mb", type=float, default=25, help="the photograph's quality is lowered to fit; 25")
    options = parser.parse_args(words)
    if not 0 <= options.floor <= 1:
        raise InputError(f"--floor {options.floor:g}: scores lie between 0 and 1; give one of them")
    if not options.max_mb > 0:
        raise InputError(f"--max-mb {options.max_mb:g}: must be above 0")
    from instar import params

    study = params.load()
    data = Path("data") / study.study
    shown = read_tray(
        data, study.shards, options.photo_key, floor=options.floor, crops_confidence=study.crops.confidence
    )
    text = page(shown, max_bytes=int(options.max_mb * 1e6))
    with replacing(options.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{options.out}: {shown.key}, {len(text) / 1e6:.1f} MB; open it in a browser")
    return 0


def read_tray(data: Path, shards: list[str], key: str | None, *, floor: float, crops_confidence: float) -> Tray:
    """A photograph and all that is known of its animals.

    Args:
        data: folder of the study.
        shards: their names.
        key: of the photograph; None for the judged one with the most animals, or the one with most detections.
        floor: detections with a lower score are left out.
        crops_confidence: the threshold where none was chosen.

    Raises:
        InputError: if there is no such photograph, it was not fetched, or an input is missing or damaged.
    """
    annotated = {one.key: one for one in read_annotations(data / "annotations.json")[0]}
    key = key or _best(data, shards, annotated)
    row, shard = _image(data, shards, key)
    if row["reason"] is not None:
        raise InputError(f"{key}: the photograph is not there ({row['reason']}); choose another")
    with ShardReader(data / f"images/{shard}.tar") as reader:
        try:
            picture = decode_upright(reader.read(row["offset"], row["size"]))
        except UndecodableError as error:
            raise InputError(f"{reader.path}: {key} is {error}; delete the shard and run its stage again") from None
    truth = annotated.get(key)
    if truth and (truth.width, truth.height) != (row["width"], row["height"]):
        print(f"warning: {key} was annotated at another size; its annotations are left out", file=sys.stderr)
        truth = None
    if not may_be_shown(row["licence"]):
        told = f"the licence of {key} ({row['licence']}) does not let changed copies be passed on; keep the page"
        print(f"warning: {told} to yourself", file=sys.stderr)
    found = _found(data / f"detections/{shard}.parquet", key, floor)
    boxes = np.array([[one[side] for side in ("x_min", "y_min", "x_max", "y_max")] for one in found], np.float64)
    threshold = _confidence(data / "metrics/detection_metrics.json", crops_confidence)
    masked = bool(found) and all(one["mask"] is not None for one in found)
    height, width = picture.shape[:2]
    return Tray(
        key,
        picture,
        boxes.reshape(-1, 4),
        from_rle([{"size": [height, width], "counts": one["mask"]} for one in found]) if masked else None,
        np.array([one["score"] for one in found], np.float64),
        None if truth is None else truth.boxes_xyxy,
        None if truth is None else truth.masks,
        [] if truth is None else _taxa(data, truth),
        max(threshold, floor),
        floor,
        row["region"],
        _facts(row, truth),
    )


def _best(data: Path, shards: list[str], annotated: dict[str, Annotated]) -> str:
    """The photograph to show where none is named."""
    judged = [one for one in annotated.values() if one.split == "test"]
    judged, _ = usable(judged, read_images(data / "images", shards, judged))
    if judged:
        return min(judged, key=lambda one: (-len(one.boxes_xyxy), one.key)).key
    counts: dict[str, int] = {}
    for shard in shards:
        keys = read_table(data / f"detections/{shard}.parquet", _only(DETECTIONS, ["photo_key"]))["photo_key"]
        counts |= {one["values"]: one["counts"] for one in pc.value_counts(keys).to_pylist()}
    if not counts:
        raise InputError(f"{data / 'detections'}: no photograph was searched; run the stage detections")
    return min(counts, key=lambda key: (-counts[key], key))


def _image(data: Path, shards: list[str], key: str) -> tuple[dict[str, Any], str]:
    """The row of ``tables.IMAGES`` of a photograph, and its shard."""
    for shard in shards:
        table = read_table(data / f"images/{shard}.parquet", IMAGES)
        if rows := table.filter(pc.equal(table["key"], key)).to_pylist():
            return rows[0], shard
    raise InputError(f"{key}: no photograph of {data} has this key; images/<shard>.parquet lists them all")


def _found(path: Path, key: str, floor: float) -> list[dict[str, Any]]:
    """The detections of a photograph from a score up."""
    table = read_table(path, DETECTIONS)
    mine = table.filter(pc.equal(table["photo_key"], key))
    return [one for one in mine.to_pylist() if one["reason"] is None and one["score"] >= floor]


def _only(schema: Any, names: list[str]) -> Any:
    import pyarrow as pa

    return pa.schema([schema.field(name) for name in names])


def _taxa(data: Path, truth: Annotated) -> list[str]:
    """Names of the annotated animals' taxa; an empty text where none is given."""
    if not any(truth.taxa):
        return [""] * len(truth.taxa)
    columns = read_table(data / "taxonomy.parquet", _only(TAXONOMY, ["taxon_id", "name", "rank"])).to_pydict()
    names = {
        taxon: f"{name} ({rank})"
        for taxon, name, rank in zip(columns["taxon_id"], columns["name"], columns["rank"], strict=True)
    }
    return ["" if taxon is None else names.get(taxon, taxon) for taxon in truth.taxa]


def _confidence(path: Path, otherwise: float) -> float:
    """The threshold that was chosen on validation; without one the crops'."""
    if not path.is_file():
        return otherwise
    return confidence(json.loads(path.read_text(encoding="utf-8")), otherwise)


def _split(truth: Annotated | None) -> str:
    if truth is None:
        return "not annotated"
    return "train: the detector learnt from it" if truth.split == "train" else truth.split


def _facts(row: dict[str, Any], truth: Annotated | None) -> dict[str, str]:
    told = {
        "Photograph": f"{row['width']:,} × {row['height']:,} pixels",
        "Split": _split(truth),
        "Licence": licence_name(row["licence"]),
        "Rights holder": row["rights_holder"] or "not named",
    }
    if row["reference"]:
        told["Reference"] = row["reference"]
    return told
