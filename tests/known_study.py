"""A study of individuals that is answered already, small: coats of coloured squares, a classifier, a gallery."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import individuals_study
import numpy as np
from crop_shards import SETTINGS
from PIL import Image

from instar.classifier.stage import classifier
from instar.dataset.command import dataset
from instar.detectors import DESCRIPTION
from instar.evaluation.command import evaluation
from instar.files import write_json
from instar.photographs import jpeg
from instar.splits import stable_hash
from instar.study import compose

STUDY = "individuals_drawn"
PX = 48
#: Of each data set; each is met on four days.
NAMES = {"turtles": ("t1", "t2", "t3", "t4"), "lynxes": ("l1", "l2", "l3", "l4")}
#: Of the queries, by number: who it is, and the data set.
QUERIES = {100: ("t1", "turtles"), 101: ("stranger", "turtles"), 102: ("l2", "lynxes"), 103: ("l3", "lynxes")}

DATASET: dict[str, Any] = {"labels": ["identity"], "seed": 0, "shards": ["a"], "licences": ["unknown"]}
DATASET |= {"min_crop_px": 10, "min_class_crops": 1, "near_duplicate_bits": 2, "split_by": "time"}
DATASET |= {"held_out_observers": 0.2, "held_out_share": 0.25, "new_share": 0.2, "validation_crops": 1, "test_crops": 0}
DATASET |= {"low_share": 0.25, "areas_px": [], "max_px": 128, "jpeg_quality": 90}
EVALUATION: dict[str, Any] = {"labels": ["identity"], "seed": 0, "shards": ["a"], "name_confidence": 85}
EVALUATION |= {"bootstrap": 100, "resolutions": [], "region_deg": 30.0, "wanted_accuracy": 0.95, "photo_boxes": 10}
EVALUATION |= {"answer_by": "fused", "threshold_by": "dataset", "neighbours": 1, "flips": False, "sides": True}
EVALUATION |= {"local": "none", "local_candidates": 1}


def coat(name: str, number: int) -> np.ndarray:
    """A photograph: squares of the individual's own colours, and noise; uint8 (PX, PX, 3), RGB."""
    own = np.random.default_rng(stable_hash(0, name) % 2**32).integers(30, 220, (4, 4, 3))
    picture = np.kron(own, np.ones((PX // 4, PX // 4, 1)))
    noise = np.random.default_rng(number).normal(0, 12, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, name: str, number: int) -> Path:
    """A photograph as a file without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coat(name, number)).save(path)
    return path


def photographs(folder: Path) -> list[dict[str, Any]]:
    """Rows for ``individuals_study.write_study``, and the photographs themselves in ``folder/<number>.png``."""
    rows: list[tuple[int, str, str, str | None, str]] = []
    number = 0
    for of_dataset, names in NAMES.items():
        for name in names:
            for day in range(1, 5):
                rows.append((number, name, of_dataset, f"2020-01-0{day}", "database"))
                number += 1
    rows += [(n, name, of_dataset, None, "query") for n, (name, of_dataset) in QUERIES.items()]
    return [_row(folder, *row) for row in rows]


def _row(folder: Path, number: int, name: str, of_dataset: str, day: str | None, part: str) -> dict[str, Any]:
    path = save(folder / f"{number}.png", name, number)
    more: dict[str, Any] = {"dataset": of_dataset, "part": part, "licence": "unknown", "side": PX}
    more |= {"data": jpeg(coat(name, number), 90), "sha256": sha256(path.read_bytes()).hexdigest()}
    return individuals_study.photograph(number, None if part == "query" else name, day, **more)


def write_study(root: Path) -> Path:
    """A project's folder: params.yaml, the photographs, and below data what the stages up to evaluation make."""
    data = root / "data" / STUDY
    individuals_study.write_study(data, photographs(root / "photographs"))
    overrides = ["shards=[a]", "detections.batch=4", "crops.jpeg_quality=90", "evaluation.flips=false"]
    (root / "params.yaml").write_text(compose(STUDY, overrides))
    (root / "decisions.csv").write_text("key,verdict,label,who,when,why,sha256\n")
    make_dataset(root, root / "decisions.csv")
    paths = [data / name for name in ("crops", "dataset.parquet", "classifier", "c.json", "curves", "work")]
    settings = {**SETTINGS, "epochs": 4, "loss": "flat", "balance": "none", "flip": "none"}
    classifier(*paths, **settings)
    (data / "detector").mkdir()
    write_json(data / "detector" / DESCRIPTION, {"family": "whole_image", "licence": "none"})
    names = ["classifier", "crops", "dataset.parquet", "none", "none", "none", "none", "individuals.parquet", "none"]
    names += ["none", "none", "predictions.parquet", "photographs.parquet", "metrics/evaluation.json"]
    names += [f"plots/{n}.csv" for n in range(9)]
    names += ["submission.csv", "gallery", *(f"plots/{name}.csv" for name in ("openset", "cmc", "figures", "matches"))]
    (data / "plots").mkdir()
    evaluation(*(data / name for name in names), **EVALUATION)
    return root


def make_dataset(root: Path, decisions: Path, out: str = "dataset.parquet") -> Path:
    """Run the stage dataset with the decisions of a review."""
    data = root / "data" / STUDY
    earlier = data / "earlier.csv"
    earlier.write_text("observation_id,split\n")
    names: list[str | Path] = ["crops", "none", "none", "none", "individuals.parquet", decisions, earlier, "none", out]
    names += ["held_out.csv", "specimen_crops", "metrics/dataset.json", "examples.csv", "found.csv"]
    dataset(*(data / name for name in names), **DATASET)
    return data / out
