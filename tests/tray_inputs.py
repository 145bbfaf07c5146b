"""What ``report`` reads of a study with masks: those of ``report_inputs`` with outlined animals on four photographs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mask_metrics import mask_metrics
from report_inputs import write_inputs

from instar.compare.mask_table import mask_row
from instar.compared import DETECTORS, FOLDER, PATCHES, ZOOMS, compared_by, keep, searched_by
from instar.files import sha256_of, write_json
from instar.masks import Masks, from_bitmaps
from instar.params import load
from instar.tables import DETECTIONS, read_table, write_table

WIDTH, HEIGHT = 640, 480
#: 0 and 4 may be shown; 2 may not.
JUDGED = {"inaturalist-0": "test", "inaturalist-4": "test", "inaturalist-2": "test", "inaturalist-6": "validation"}


def discs(*places: tuple[int, int, int]) -> Masks:
    """Masks of discs: x and y of the middle, radius."""
    pictures, corners = [], []
    for x, y, radius in places:
        across = np.arange(-radius, radius + 1)
        pictures.append(across[:, None] ** 2 + across**2 <= radius**2)
        corners.append((x - radius, y - radius))
    return from_bitmaps(pictures, corners)


#: On each judged photograph: three animals; the first is found well, the second too small, the third is missed.
TRUTH = discs((60, 60, 20), (160, 60, 20), (500, 300, 30))
FOUND = discs((61, 60, 20), (160, 60, 9), (400, 400, 15), (60, 64, 22))
SCORES = [0.9, 0.8, 0.7, 0.2]


def write_mask_inputs(root: Path) -> dict[str, Any]:
    """Write everything that ``report`` reads below ``root``; returns its keyword arguments."""
    given = write_inputs(root, labels=False)
    write_json(given["annotations"], annotations())
    for shard in given["shards"]:
        path = given["detections"] / f"{shard}.parquet"
        rows = [row for row in read_table(path, DETECTIONS).to_pylist() if row["photo_key"] not in JUDGED]
        keys = {row["key"] for row in _images(given["images"] / f"{shard}.parquet").to_pylist()}
        rows += [row for key in JUDGED if key in keys for row in _detections(key)]
        write_table(path, rows, DETECTIONS)
    path = given["metrics"] / "detection_metrics.json"
    write_json(path, {**json.loads(path.read_text()), "masks": mask_metrics()})
    write_plots(given["plots"])
    write_compared(given)
    return given


def _images(path: Path) -> pa.Table:
    return read_table(path, pa.schema([pa.field("key", pa.string())]))


def annotations() -> dict[str, Any]:
    """COCO JSON."""
    images = [
        {"id": n, "file_name": key, "split": split, "width": WIDTH, "height": HEIGHT}
        for n, (key, split) in enumerate(JUDGED.items())
    ]
    animals: list[dict[str, Any]] = []
    for image in images:
        for n, counts in enumerate(TRUTH.rle(HEIGHT, WIDTH)):
            x_min, y_min, x_max, y_max = TRUTH.boxes()[n].tolist()
            animal = {"id": len(animals), "image_id": image["id"], "category_id": 1, "iscrowd": 0}
            animal |= {"bbox": [x_min, y_min, x_max - x_min, y_max - y_min], "area": int(TRUTH.areas()[n])}
            animal |= {"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts.decode()}}
            animals.append({**animal, "taxon": ["1", None, "8"][n]})
    return {"images": images, "annotations": animals, "categories": [{"id": 1, "name": "animal"}]}


def _detections(key: str) -> list[dict[str, Any]]:
    boxes, areas, counts = FOUND.boxes().tolist(), FOUND.areas().tolist(), FOUND.rle(HEIGHT, WIDTH)
    rows = []
    for n, score in enumerate(SCORES):
        box = dict(zip(("x_min", "y_min", "x_max", "y_max"), boxes[n], strict=True))
        row = {"photo_key": key, "key": f"{key}-{n:03d}", "score": score, "detector": "none", "mask": counts[n]}
        rows.append({**row, **box, "area": areas[n], "cut": False})
    return rows


def write_plots(folder: Path) -> None:
    """The tables of the stage detection_metrics."""
    curve = {"recall": [0.5, 0.9], "precision": [1.0, 0.6], "confidence": [0.8, 0.1]}
    curves = [pd.DataFrame(curve).assign(split=split) for split in ("validation", "test")]
    pd.concat(curves).to_csv(folder / "mask_pr.csv", index=False)
    areas: dict[str, Any] = {"from_px": [64, 128, 256], "below_px": [128, 256, 512], "annotated": [5, 9, 4]}
    pd.DataFrame({**areas, "annotated_on_test": [2, 3, 2], "detected_on_test": [0, 4, 4]}).to_csv(
        folder / "mask_areas.csv", index=False
    )
    groups = []
    for group in ("all", "Insecta, Arachnida"):
        rows: dict[str, Any] = {"photo_key": ["p1", "p2", "p3", "p4"], "classes": group}
        rows["sample"] = ["s1", "s1", "s2", "s3"]
        rows |= {"split": ["test", "test", "validation", "train"], "annotated": [40, 1200, 60, 80]}
        groups.append(pd.DataFrame({**rows, "detected": [38, 1100, 70, None], "specimens": [50, 1300, None, 90]}))
    pd.concat(groups).to_csv(folder / "counts.csv", index=False)
    seams = pd.DataFrame({"size": ["all", "all"], "where": ["near", "elsewhere"], "animals": [4, 1200]})
    seams = seams.assign(missed=[1, 200], detections=[4, 1100], wrong=[1, 100], duplicates=[0, 20])
    for rate in ("missed", "wrong", "duplicates"):
        seams[f"{rate}_per_1000"] = 1000 * seams[rate] / seams["animals"]
        seams[f"{rate}_per_1000_low"] = [None, 10.0]
        seams[f"{rate}_per_1000_high"] = [None, 300.0]
    seams.to_csv(folder / "seams.csv", index=False)


def write_compared(given: dict[str, Any]) -> None:
    """What ``instar compare`` leaves: a sweep of zooms of this detector, and another detector with a patch."""
    params, folder = load(given["params"]), given["plots"] / FOLDER
    data = params, given["annotations"], given["images"]
    row: dict[str, Any] = {"kind": "mask", "AP75": 0.2, "AP_small": None, "AP_medium": 0.2, "AP_large": 0.3}
    zooms = [
        {**row, "zoom": zoom, "AP50-95": ap, "AP50": 2 * ap, "interval_95": {"AP50-95": [ap - 0.1, ap + 0.1]}}
        for zoom, ap in ((1.0, 0.2), (2.0, 0.4), (4.0, 0.3))
    ]
    keep(folder / ZOOMS, "zoom", zooms, searched_by(*data, given["detections"]))
    other = {"preset": "maskrcnn", "trained": "7 epochs from random weights", **mask_row({"masks": mask_metrics()})}
    shown = []
    for key in ("inaturalist-0", "inaturalist-2"):
        patch = {"key": key, "box": (0, 0, 320, 480), "animals": 2, "right": 2, "wrong": 1, "missed": 0}
        picture = {"uri": "data:,", "width": 320, "height": 480, "taxon": None, "licence": "CC0", "holder": "Her"}
        shown.append({"reason": "most crowded", "patch": patch, "picture": {**picture, "link": ""}})
    path = given["plots"].parent / "comparison/maskrcnn" / PATCHES
    write_json(path, shown)
    keep(folder / DETECTORS, "preset", [{**other, "patches": sha256_of(path)}], compared_by(*data))
