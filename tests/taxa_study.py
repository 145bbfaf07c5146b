"""A study of taxa small enough to work out by hand: two photographs of four insects each, detections, a taxonomy."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from instar.files import write_json
from instar.masks import from_bitmaps
from instar.shards import writing
from instar.splits import id_hash
from instar.tables import BARCODES, CROPS, DETECTIONS, TAXONOMY, write_table

#: Each taxon's id by its parent's.
PARENTS: dict[str, str | None] = {
    "kingdom:Animalia": None,
    "phylum:Arthropoda": "kingdom:Animalia",
    "class:Insecta": "phylum:Arthropoda",
    "class:Arachnida": "phylum:Arthropoda",
    "class:Diplura": "phylum:Arthropoda",
    "order:Diplura": "class:Diplura",
    "order:Diptera": "class:Insecta",
    "suborder:Nematocera": "order:Diptera",
    "family:Chironomidae": "suborder:Nematocera",
    "genus:Chironomus": "family:Chironomidae",
    "family:Phoridae": "order:Diptera",
    "order:Hemiptera": "class:Insecta",
    "family:Aphididae": "order:Hemiptera",
    "family:Orphanidae": "class:Insecta",  # no one says of which order
    "order:Araneae": "class:Arachnida",
}
WIDTH, HEIGHT = 200, 100


def write_taxonomy(path: Path) -> None:
    rows = []
    for one, parent in PARENTS.items():
        rank, name = one.split(":")
        rows.append({"taxon_id": one, "name": name, "rank": rank, "parent_id": parent})
    write_table(path, rows, TAXONOMY)


def square(x: int, y: int, side: int = 20) -> tuple[int, int, int, int]:
    return x, y, x + side, y + side


def animal(
    number: int, image: int, box: tuple[int, int, int, int], taxon: str | None, low: list[str], *, mask: bool = True
) -> dict[str, Any]:
    left, top, right, bottom = box
    found: dict[str, Any] = {"id": number, "image_id": image, "category_id": 1, "taxon": taxon, "low": low}
    found |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    return found | ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts(box).decode()}} if mask else {})


def counts(box: tuple[int, int, int, int]) -> bytes:
    left, top, right, bottom = box
    masks = from_bitmaps([np.ones((bottom - top, right - left), bool)], [(left, top)])
    return masks.rle(HEIGHT, WIDTH)[0]


def write_annotations(path: Path, photographs: dict[str, str], animals: list[dict[str, Any]]) -> None:
    """COCO JSON of photographs with their splits; their ids count from 1."""
    images = [
        {"id": n, "file_name": key, "split": split, "width": WIDTH, "height": HEIGHT}
        for n, (key, split) in enumerate(photographs.items(), 1)
    ]
    write_json(path, {"images": images, "annotations": animals, "categories": [{"id": 1, "name": "arthropod"}]})


def detection(
    photo_key: str, n: int, box: tuple[int, int, int, int], score: float = 0.9, *, mask: bool = True, **more: Any
) -> dict[str, Any]:
    left, top, right, bottom = box
    return {
        "photo_key": photo_key,
        "key": f"{photo_key}-{n}",
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, box), strict=True)),
        "score": score,
        "detector": "none",
        "mask": counts(box) if mask else None,
        "area": (right - left) * (bottom - top) if mask else None,
        **more,
    }


def write_detections(folder: Path, detections: list[dict[str, Any]], searched: tuple[str, ...] = ()) -> None:
    """``detections/a.parquet`` and ``crops/a.*`` of them; nothing was found on the photographs ``searched``."""
    empty = [{"photo_key": key, "reason": "no animal found", "detector": "none"} for key in searched]
    write_table(folder / "detections/a.parquet", [_only(row, DETECTIONS) for row in [*detections, *empty]], DETECTIONS)
    rows = []
    with writing(folder / "crops/a.tar") as tar:
        for row in [*detections, *empty]:
            rows.append(_photograph(row["photo_key"]) | _only(row, CROPS))
            if "reason" in row:
                continue
            shade = int(id_hash(row["key"]) % 200)
            data = cv2.imencode(".jpg", np.full((24, 24, 3), shade, np.uint8))[1].tobytes()
            member = tar.add(f"{row['key']}.jpg", data)
            rows[-1] |= {"offset": member.offset, "size": member.size, "sha256": member.sha256}
            rows[-1] |= {"width": 24, "height": 24, "key_hash": id_hash(row["key"])}
            rows[-1] |= {"box_width": row["x_max"] - row["x_min"], "box_height": row["y_max"] - row["y_min"]}
    write_table(folder / "crops/a.parquet", rows, CROPS)


def _only(row: dict[str, Any], schema: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in schema.names}


def _photograph(key: str) -> dict[str, Any]:
    about = {"source": "trays", "photo_id": key, "observation_id": f"sample of {key}", "basis": "specimen"}
    return {**about, "licence": "cc-by", "shard": "a"}


def write_barcodes(path: Path, lists: dict[str, list[str]]) -> None:
    rows = [{"observation_id": key, "sample": key, "taxon_id": one} for key, taxa in lists.items() for one in taxa]
    write_table(path, rows, BARCODES)
