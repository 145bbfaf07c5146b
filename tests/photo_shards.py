"""A study's images, detections and annotations written by hand, for tests of single stages."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instar.shards import writing
from instar.tables import DETECTIONS, IMAGES, write_table

RECORD = {
    "source": "inaturalist",
    "observation_id": "o1",
    "observer_id": "p1",
    "url": "https://example.org/1.jpg",
    "taxon_id": "t1",
    "latitude": 0.5,
    "longitude": -1.5,
    "observed_at": None,
    "basis": "field",
    "licence": "cc-by",
    "rights_holder": "A. Nt",
    "creator": "B. Ee",
    "reference": "https://example.org/1",
}

#: How the stage ``detections`` cuts photographs up and merges what it found.
SLICING: dict[str, Any] = {
    "tile_px": 100,
    "tile_overlap": 0.2,
    "whole": True,
    "merge": "greedy_nmm",
    "merge_metric": "ios",
    "merge_threshold": 0.5,
    "merge_comparable": 0.5,
    "merge_whole_first": False,
    "batch": 4,
    "precision": "float32",
}


def encoded(picture: np.ndarray, ending: str = "PNG", **options: Any) -> bytes:
    """A picture as a file; PNG keeps every pixel."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, ending, **options)
    return buffer.getvalue()


def write_images(
    folder: Path,
    shard: str,
    photographs: dict[str, bytes | str],
    size: tuple[int, int],
    facts: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write ``<shard>.tar`` and ``<shard>.parquet``: files by key, all of one (width, height), or reasons.

    Facts of a photograph, by key, stand in place of those of ``RECORD``.
    """
    rows = []
    with writing(folder / f"{shard}.tar") as tar:
        for key, data in photographs.items():
            row = {**RECORD, "key": key, "photo_id": key.split("-")[-1], "shard": shard}
            row |= (facts or {}).get(key, {})
            if isinstance(data, str):
                rows.append({**row, "reason": data})
                continue
            member = tar.add(f"{key}.png", data)
            place = {
                "offset": member.offset,
                "size": member.size,
                "sha256": member.sha256,
                "phash": 2**64 - 1 - len(data),
            }
            rows.append({**row, **place, "width": size[0], "height": size[1]})
    write_table(folder / f"{shard}.parquet", rows, IMAGES)


def write_detections(path: Path, boxes: dict[str, list[tuple[float, ...]] | str]) -> None:
    """Write boxes ``x_min, y_min, x_max, y_max, score`` by key of the photograph, or reasons."""
    rows: list[dict[str, Any]] = []
    for key, found in boxes.items():
        common = {"photo_key": key, "detector": "by hand"}
        if isinstance(found, str):
            rows.append({**common, "reason": found})
            continue
        for n, box in enumerate(found):
            values = dict(zip(["x_min", "y_min", "x_max", "y_max", "score"], box, strict=True))
            rows.append({**common, "key": f"{key}-{n:03d}", **values})
    write_table(path, rows, DETECTIONS)


def write_annotations(path: Path, photographs: dict[str, tuple[str, list[list[float]]]], size: tuple[int, int]) -> None:
    """Write COCO JSON: the split and the boxes ``x_min, y_min, x_max, y_max`` by key of the photograph."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for n, (key, (split, boxes)) in enumerate(photographs.items(), start=1):
        images.append({"id": n, "file_name": key, "width": size[0], "height": size[1], "split": split})
        for x_min, y_min, x_max, y_max in boxes:
            bbox = [x_min, y_min, x_max - x_min, y_max - y_min]
            annotations.append({"id": len(annotations) + 1, "image_id": n, "category_id": 1, "bbox": bbox})
    categories = [{"id": 1, "name": "ant"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
