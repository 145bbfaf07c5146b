"""Draws what the stages before ``report`` write, small: 14 photographs, 3 species of 2 genera, hostile texts.

Of the 14 records two are no images. Of the 12 photographs every fourth has no box and four may not be shown. The others
have two boxes: 18, of which 3 are below the confidence, which leaves 15 crops.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from PIL import Image

from instar.files import write_json
from instar.shards import ShardWriter, writing
from instar.tables import CROPS, DETECTIONS, IMAGES, RECORDS, TAXONOMY, write_table
from instar.tally import tally

SHARDS = ["a", "b"]
HOSTILE = "<script>alert(1)</script>"
SPECIES = {"1": "Velomyrma rubicola", "2": "Velomyrma pallipes", "3": "Cordomyrma bicolor"}
GENERA = {"8": "Velomyrma", "9": "Cordomyrma"}
#: One a photograph, in turn: 2, 5, 8 and 11 may not be shown.
LICENCES = ["cc-by", "cc0", "cc-by-nd", "cc-by-nc-sa", "cc-by", "all-rights-reserved"]


CLASSES = [
    ("Cordomyrma bicolor", "Cordomyrma", 12, 5, 0.4, 0.8),
    ("Velomyrma", "Velomyrma", 2, 0, None, None),
    ("Velomyrma pallipes", "Velomyrma", 4, 0, None, None),
    ("Velomyrma rubicola", "Velomyrma", 40, 5, 0.8, 1.0),
]
DAMAGED = (900, 901)


def write_inputs(root: Path, *, labels: bool = True) -> dict[str, Any]:
    """Write everything that ``report`` reads below ``root``; returns its keyword arguments. Nothing is annotated."""
    write_json(root / "annotations.json", {"images": [], "annotations": [], "categories": []})
    records = [_record(number) for number in (*range(12), *DAMAGED)]
    write_table(root / "records.parquet", records, RECORDS)
    write_table(root / "taxonomy.parquet", _taxonomy(), TAXONOMY)
    crops = [crop for shard in SHARDS for crop in _write_shard(root, shard, records)]
    for stage in ("images", "detections", "crops"):
        tally(root / stage, root / "metrics" / f"{stage}.json", shards=SHARDS)
    _write_metrics(root / "metrics", labels)
    _write_plots(root / "plots", crops, labels)
    _write_params(root / "params.yaml", labels)
    tables = {name: root / f"{name}.parquet" for name in ("records", "taxonomy")}
    folders = {name: root / name for name in ("images", "detections", "crops", "metrics", "plots")}
    values = {"study": "tiny", "shards": SHARDS, "confidence": 0.3, "photographs": 6, "crops_per_class": 3}
    tables["annotations"] = root / "annotations.json"
    return {**tables, **folders, "params": root / "params.yaml", "out": root / "report.html", **values}


def _record(number: int) -> dict[str, Any]:
    return {
        "key": f"inaturalist-{number}",
        "source": "inaturalist",
        "photo_id": str(number),
        "observation_id": f"o{number // 2}",
        "observer_id": "me",
        "url": f"https://example.org/{number}.jpg",
        "taxon_id": "8" if number == 10 else str(1 + number % 3),
        "latitude": None if number == 3 else 30.0 + number,
        "longitude": None if number == 3 else -100.0 + 2 * number,
        "basis": "field",
        "licence": LICENCES[number % len(LICENCES)],
        "rights_holder": HOSTILE if number == 0 else None if number == 1 else f"Holder {number}",
        "reference": "javascript:alert(1)" if number == 0 else f"https://example.org/photos/{number}",
        "shard": SHARDS[number % 2],
    }


def _taxonomy() -> list[dict[str, Any]]:
    genera = [{"taxon_id": i, "name": name, "rank": "genus", "genus": name} for i, name in GENERA.items()]
    species = [
        {"taxon_id": i, "name": name, "rank": "species", "species": name, "genus": name.split()[0]}
        for i, name in SPECIES.items()
    ]
    return genera + species


def jpeg(seed: int, width: int, height: int) -> bytes:
    """A picture of noise, so coarse that thumbnails differ."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).resize((width, height)).save(file, "JPEG")
        return file.getvalue()


def _write_shard(root: Path, shard: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One shard of images, detections and crops; every fourth photograph has no box, the others have one or two.

    Returns:
        The crops that exist.
    """
    mine = [record for record in records if record["shard"] == shard]
    images: list[dict[str, Any]] = []
    with writing(root / "images" / f"{shard}.tar") as tar:
        for record in mine:
            damaged = int(record["photo_id"]) in DAMAGED
            there = {} if damaged else _stored(tar, record["key"], int(record["photo_id"]), 640, 480)
            images.append({**record, **there, "reason": "truncated" if damaged else None})
    write_table(root / "images" / f"{shard}.parquet", images, IMAGES)
    boxes = [box for record in mine if int(record["photo_id"]) not in DAMAGED for box in _boxes(record)]
    write_table(root / "detections" / f"{shard}.parquet", boxes, DETECTIONS)
    by_key = {record["key"]: record for record in mine}
    crops: list[dict[str, Any]] = []
    with writing(root / "crops" / f"{shard}.tar") as tar:
        for box in boxes:
            crop = {**by_key[box["photo_key"]], **box}
            if "reason" not in box and box["score"] < 0.3:
                crop["reason"] = "below confidence"
            elif "reason" not in box:
                crop.update(_stored(tar, box["key"], 100 + len(crops), 200, 150))
            crops.append(crop)
    write_table(root / "crops" / f"{shard}.parquet", crops, CROPS)
    return [crop for crop in crops if "offset" in crop]


def _stored(tar: ShardWriter, key: str, seed: int, width: int, height: int) -> dict[str, Any]:
    member = tar.add(f"{key}.jpg", jpeg(seed, width, height))
    place = {"offset": member.offset, "size": member.size, "sha256": member.sha256}
    return {**place, "width": width, "height": height}


def _boxes(record: dict[str, Any]) -> list[dict[str, Any]]:
    common = {"photo_key": record["key"], "detector": "none"}
    if int(record["photo_id"]) % 4 == 3:
        return [{**common, "reason": "no animal found"}]
    place = {"x_min": 64.0, "y_min": 48.0, "x_max": 320.0, "y_max": 240.0}
    scores = [0.91, 0.15] if int(record["photo_id"]) % 2 else [0.87, 0.42]
    return [{**common, **place, "key": f"{record['key']}-{n:03d}", "score": score} for n, score in enumerate(scores)]


def _write_metrics(folder: Path, labels: bool) -> None:
    interval = {"value": 0.71, "low": 0.64, "high": 0.78}
    figures: dict[str, Any] = {
        "records": {"rows": {"in": 17, "out": 14, "dropped": {HOSTILE: 2, "casual": 1}}},
        "detector": {"photographs": {"train": 5, "validation": 2}, "animals": {"train": 9, "validation": 3}},
        "detection_metrics": _detection_metrics(),
    }
    if labels:
        figures["dataset"] = _dataset()
        figures["classifier"] = {"train_crops": 12, "validation_crops": 3, "epochs": 2}
        accuracies = {f"top{k}_{mean}": interval for k in (1, 5) for mean in ("micro", "macro")}
        figures["evaluation"] = {
            "rows": {"in": 10, "out": 10, "dropped": {}},
            "split": "validation",
            "judged_chose_epoch": False,
            "crops": 10,
            "observations": 4,
            "species": 2,
            "species_in_training_only": 1,
            "crops_without_place": 0,
            "species_accuracy": accuracies,
            "genus_accuracy": accuracies,
            "calibration": {
                "temperature": 1.25,
                "expected_calibration_error": {"before": 0.123, "after": 0.045},
                "roll_up": {
                    "wanted_accuracy": 0.95,
                    "threshold": 0.6,
                    "at": {"coverage": 0.8, "accuracy": 0.96, "species": 0.5, "genus": 0.3},
                },
            },
            "photographs": {
                "rows": {"in": 9, "out": 7, "dropped": {"near-duplicate": 2}},
                "observations": 4,
                "missed": 1,
                "crops": 9,
                "species_accuracy": accuracies,
                "genus_accuracy": accuracies,
            },
            "identifiers": {
                "photographs": 6,
                "both_right": 1,
                "points": {"ours": 33, "other": 21},
                "difference": {"value": 2.0, "low": -0.5, "high": 4.25},
                "without_answer": 2,
            },
        }
    for stage, data in figures.items():
        write_json(folder / f"{stage}.json", data)


def _dataset() -> dict[str, Any]:
    size = {"crops": 15, "classes": 3}
    relations = ("photograph", "observation", "near_duplicate", "observer", "place_day")
    return {
        "rows": {"in": 15, "out": 15, "dropped": {}},
        "before": size,
        "rules": [{"rule": "under 50 px", "before": size, "after": size}],
        "splits": {"train": {"crops": 12}, "validation": {"crops": 3, "observations": 1}},
        "split_by": "observation",
        "train_only_species": 1,
        "leakage": {"observation": {"held_out": 3, **dict.fromkeys(relations, 0)}},
        "review": {"decisions": 2, "applied": 1},
    }


def _detection_metrics() -> dict[str, Any]:
    counts = {"photographs": 4, "animals": 8, "boxes": 9, "photographs_at_max_boxes": 0}
    ap = {"AP50-95": 0.512, "AP50": 0.874, "AP75": 0.5, "AP_small": None, "AP_medium": 0.4, "AP_large": 0.6}
    ar = {"AR": 0.61, "AR_small": None, "AR_medium": 0.5, "AR_large": 0.7}
    chosen = {"reached": True, "confidence": 0.25, "validation_precision": 0.7, "validation_recall": 0.9}
    return {
        "rows": {"in": 11, "out": 6, "dropped": {"trained on": 5}},
        "validation": counts,
        "test": {**counts, **ap, **ar, "recall_at_floor": 0.95},
        "threshold": {"wanted_recall": 0.9, **chosen, "test_precision": 0.72, "test_recall": 0.88},
        "at_crops_confidence": {"confidence": 0.3, "test_precision": 0.77, "test_recall": 0.56},
        "interval_95": {
            "resamples": 100,
            "AP50-95": [0.45, 0.57],
            "AP50": [0.8, 0.93],
            "recall_at_floor": [0.9, 1.0],
            "test_precision": None,
            "test_recall": [0.8, 0.95],
            "precision_at_crops_confidence": [0.7, 0.84],
            "recall_at_crops_confidence": [0.48, 0.63],
        },
    }


def _write_plots(folder: Path, crops: list[dict[str, Any]], labels: bool) -> None:
    folder.mkdir()
    epochs = pd.DataFrame({"epoch": [1, 2], "box_loss": [3.0, 2.0], "validation_box_loss": [4.0, 2.5]})
    epochs["mAP50"] = [0.1, 0.4]
    epochs.to_csv(folder / "detector.csv", index=False)
    # thinned: at a confidence of 0.3 the recall is 0.56, of which the curve knows nothing
    curve = pd.DataFrame({"recall": [0.5, 0.9], "precision": [1.0, 0.6], "confidence": [0.8, 0.1]})
    curve.to_csv(folder / "detection_pr.csv", index=False)
    if not labels:
        return
    names = {**SPECIES, **GENERA}
    ranks = dict.fromkeys(SPECIES, "species") | dict.fromkeys(GENERA, "genus")
    examples = pd.DataFrame(crops)[["taxon_id", "key", "shard", "offset", "size"]]
    examples = examples.assign(
        label=examples["taxon_id"].map(names), rank=examples["taxon_id"].map(ranks), split="train"
    )
    examples.drop(columns="taxon_id").to_csv(folder / "examples.csv", index=False)
    classes = pd.DataFrame(CLASSES, columns=["label", "genus", "train_crops", "held_out_crops", "top1", "top5"])
    classes.to_csv(folder / "classes.csv", index=False)
    actual = ["Velomyrma"] * 5 + ["Cordomyrma"] * 5
    predicted = ["Velomyrma"] * 4 + ["Cordomyrma"] * 6
    pd.DataFrame({"actual": actual, "predicted": predicted}).to_csv(folder / "confusion_genus.csv", index=False)
    _write_judged(folder)
    for name, values in {"train/loss": [2.0, 1.0], "validation/top1": [0.2, 0.6]}.items():
        path = folder / "classifier" / f"{name}.tsv"
        path.parent.mkdir(parents=True)
        pd.DataFrame({"step": [0, 1], path.stem: values}).to_csv(path, sep="\t", index=False)


def _write_judged(folder: Path) -> None:
    """The tables of the stage evaluation."""
    shares = {
        f"{rank}_top{k}_micro{end}": [value, value - 0.1]
        for rank in ("species", "genus")
        for k in (1, 5)
        for end, value in {"": 0.71, "_low": 0.64, "_high": 0.78}.items()
    }
    settings = {"image_px": [96, 96], "place": ["true", "none"], "crops": [10, 10]}
    pd.DataFrame({**settings, **shares}).to_csv(folder / "accuracy.csv", index=False)
    groups = pd.DataFrame({"by": ["source", "region"], "group": ["field", HOSTILE], "crops": [7, 3]})
    for rank, values in {"species": [0.5, np.nan], "genus": [1.0, 0.25]}.items():
        groups = groups.assign(**{f"{rank}_{end}": values for end in ("top1", "low", "high")})
    groups.loc[1, ["genus_low", "genus_high"]] = np.nan  # of a single observation
    groups.to_csv(folder / "groups.csv", index=False)
    bins = {"low": [0.2, 0.8], "high": [0.3, 0.9], "count": [4, 6], "confidence": [0.25, 0.85], "accuracy": [0.5, 0.8]}
    pd.DataFrame(bins).to_csv(folder / "reliability.csv", index=False)
    curve = {"threshold": [0, 0.6, 1], "coverage": [1, 0.8, 0], "accuracy": [0.7, 0.96, None]}
    pd.DataFrame({**curve, "species": [1, 0.5, 0], "genus": [0, 0.3, 0]}).to_csv(folder / "rollup.csv", index=False)


def _write_params(path: Path, labels: bool) -> None:
    params = OmegaConf.load(Path(__file__).parents[1] / "params.yaml")
    params.update({"study": "tiny", "shards": SHARDS, "labels": ["species"] if labels else []})
    OmegaConf.save(params, path)
