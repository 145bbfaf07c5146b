"""A study of drawn bars for tests of identify and export: photographs, detectors, a trained classifier."""

import json
from pathlib import Path
from typing import Any

import cv2
import evaluation_study
import numpy as np
from crop_shards import COLOURS, train
from one_by_one import OneByOne, boxes_of

from instar.detectors import DESCRIPTION, Boxes
from instar.files import write_json
from instar.study import compose
from instar.tables import CROPS, read_table, write_table

#: Of the ground of a photograph.
GROUND = 125


class Blobs(OneByOne):
    """Finds what is not ground; the score is 0.9, less 0.1 for each one further right."""

    name = "blobs"
    tiled = True

    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes:
        strange = np.abs(picture.astype(int) - GROUND).max(axis=2) > 40
        stats = cv2.connectedComponentsWithStats(strange.astype(np.uint8))[2][1:]
        stats = stats[stats[:, 4] > 30]
        boxes = boxes_of(stats)
        boxes = boxes[np.argsort(boxes[:, 0])][:max_boxes].astype(np.float32)
        scores = 0.9 - 0.1 * np.arange(len(boxes), dtype=np.float32)
        return Boxes(boxes[scores >= floor], scores[scores >= floor])


def photograph(*animals: tuple[str, str, int, int], size: tuple[int, int] = (240, 120)) -> np.ndarray:
    """A ground with bars: genus, epithet and centre of each; uint8, shape (height, width, 3), RGB."""
    picture = np.full((size[1], size[0], 3), GROUND, np.uint8)
    for genus, epithet, x, y in animals:
        half_width, half_height = (4, 20) if epithet == "erecta" else (20, 4)
        picture[y - half_height : y + half_height, x - half_width : x + half_width] = COLOURS[genus]
    return picture


def write_study(root: Path, *, place: str = "none", epochs: int = 12) -> Path:
    """A project's folder: params.yaml, and below data/demo a detector of the whole photograph and a classifier."""
    data = root / "data" / "demo"
    evaluation_study.write_study(data)
    for shard in ("a", "b"):
        rows = read_table(data / f"crops/{shard}.parquet", CROPS).to_pylist()
        write_table(data / f"crops/{shard}.parquet", [{**row, "detector": "whole_image"} for row in rows], CROPS)
    overrides = ["shards=[a,b]", "detections.batch=4", f"place={place}"]
    (root / "params.yaml").write_text(compose("demo", overrides))
    trained = train(data, "trained", epochs=epochs, place=place)
    (trained / "classifier").rename(data / "classifier")
    (data / "detector").mkdir()
    write_json(data / "detector" / DESCRIPTION, {"family": "whole_image", "licence": "none"})
    calibration = {"temperature": 1.25, "roll_up": {"wanted_accuracy": 0.95, "threshold": 0.8, "at": None}}
    write_json(data / "metrics" / "evaluation.json", {"calibration": calibration})
    return root


def evaluate(root: Path) -> None:
    """Run the stage evaluation, and write what other stages would have measured."""
    data = root / "data" / "demo"
    evaluation_study.run(data / "classifier", data, data / "judged", region_deg=30.0)
    for name in ("predictions.parquet", "photographs.parquet"):
        (data / "judged" / name).rename(data / name)
    (data / "judged" / "evaluation.json").replace(data / "metrics" / "evaluation.json")
    (data / "plots").mkdir()
    for name in ("classes.csv", "groups.csv"):
        (data / "judged" / name).rename(data / "plots" / name)
    rows = {"rows": {"in": 130, "out": 129, "dropped": {"no licence": 1}}}
    for stage in ("records", "dataset", "classifier", "detector", "detection_metrics"):
        write_json(data / "metrics" / f"{stage}.json", rows)


def answers(printed: str) -> Any:
    """The photographs of a JSON document, by the name of their file."""
    return {Path(row["photograph"]).name: row for row in json.loads(printed)["photographs"]}
