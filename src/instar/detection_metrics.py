"""Stage ``detection_metrics``: COCO figures, PR curve and confidence threshold of the detector."""

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.annotations import Annotated, read_annotations, read_images, usable
from instar.boxes import NO_ANIMAL
from instar.errors import InputError
from instar.files import replacing, write_json
from instar.metrics.coco import IOU_THRESHOLDS, Matches, average_precisions, coco_figures, matches, precision_recall
from instar.tables import DETECTIONS, read_table

#: Points of the PR curve that are written, at most.
CURVE_ROWS = 200


def detection_metrics(
    annotations: Path,
    detections: Path,
    images: Path,
    out: Path,
    out_curve: Path,
    *,
    seed: int,
    shards: list[str],
    wanted_recall: float,
    max_boxes: int,
    confidence: float,
    bootstrap: int,
    annotation_split: str,
) -> None:
    """Compare the detected boxes with the annotated ones on held-out photographs.

    Figures are of the split test. The confidence threshold is chosen on validation: the highest that still reaches the
    wanted recall there, at IoU 0.5. Where nothing is annotated, the figures say only that.

    Args:
        annotations: COCO JSON with a split for each image.
        detections: folder of the shards' tables of boxes.
        images: folder of the photographs' shards.
        out: JSON to write.
        out_curve: CSV to write, precision and recall at IoU 0.5 on the split test by falling confidence.
        seed: of the resamples.
        shards: names of the shards.
        wanted_recall: at IoU 0.5 on validation; the confidence threshold is chosen for it.
        max_boxes: what the detector kept of one tile; must exceed the densest annotated photograph.
        confidence: of the crops; precision and recall on the split test are told there, too.
        bootstrap: resamples for an interval.
        annotation_split: how the photographs were split, and so what is resampled: by observation or as given, whole
            observations; by time_block, stretches of time.
    """
    annotated, _ = read_annotations(annotations)
    if not annotated:
        _write_curve(out_curve, matches([], [], [], thresholds=IOU_THRESHOLDS))
        write_json(out, {"rows": {"in": 0, "out": 0, "dropped": {}}, "annotations": 0})
        return
    for photograph in annotated:
        if len(photograph.boxes_xyxy) >= max_boxes:
            raise InputError(
                f"{annotations}: photograph {photograph.key} has {len(photograph.boxes_xyxy)} annotated animals and "
                f"detections.max_boxes = {max_boxes} boxes of a tile are kept; raise it above that"
            )
    table = read_images(images, shards, annotated)
    photographs, dropped = usable([p for p in annotated if p.split != "train"], table)
    dropped["trained on"] = sum(photograph.split == "train" for photograph in annotated)
    judged = _judged(photographs, _boxes(detections, shards, photographs), dropped)
    if len(annotated) != len(judged) + dropped.total():
        raise RuntimeError(f"{len(annotated)} annotated photographs, {len(judged)} judged, dropped {dict(dropped)}")
    validation, test = (_split(judged, split, annotations) for split in ("validation", "test"))
    threshold = _threshold(_matched(validation), wanted_recall)
    found = _matched(test)
    _write_curve(out_curve, found)
    groups = _groups([one.photograph.key for one in test], table, annotation_split)
    result = {
        "rows": {"in": len(annotated), "out": len(judged), "dropped": dict(sorted((+dropped).items()))},
        "annotations": len(annotated),
        "validation": _counts(validation, max_boxes),
        "test": {**_counts(test, max_boxes), **_figures(test), "recall_at_floor": _at(found, 0.0)["recall"]},
        "threshold": {**threshold, **_named("test", _at(found, threshold["confidence"]))},
        "at_crops_confidence": {"confidence": confidence, **_named("test", _at(found, confidence))},
        "interval_95": _intervals(found, groups, threshold["confidence"], confidence, bootstrap, seed),
    }
    write_json(out, _rounded(result))


@dataclass(frozen=True)
class Judged:
    """An annotated photograph and what the detector found on it: boxes, shape (n, 4), scores, shape (n,)."""

    photograph: Annotated
    found_xyxy: np.ndarray
    scores: np.ndarray


def _boxes(detections: Path, shards: list[str], photographs: list[Annotated]) -> dict[str, list[dict[str, Any]]]:
    """The rows of detections of the given photographs."""
    keys = pa.array([photograph.key for photograph in photographs], pa.string())
    rows: dict[str, list[dict[str, Any]]] = {}
    for shard in shards:
        table = read_table(detections / f"{shard}.parquet", DETECTIONS)
        for row in table.filter(pc.is_in(table["photo_key"], keys)).to_pylist():
            rows.setdefault(row["photo_key"], []).append(row)
    return rows


def _judged(photographs: list[Annotated], rows: dict[str, list[dict[str, Any]]], dropped: Counter[str]) -> list[Judged]:
    judged = []
    for photograph in photographs:
        if photograph.key not in rows:
            raise InputError(f"photograph {photograph.key} is in no table of detections; run that stage again")
        found = [row for row in rows[photograph.key] if row["reason"] is None]
        reasons = [row["reason"] for row in rows[photograph.key] if row["reason"] not in (None, NO_ANIMAL)]
        if reasons:
            dropped[f"not searched: {reasons[0]}"] += 1
            continue
        boxes = [[row["x_min"], row["y_min"], row["x_max"], row["y_max"]] for row in found]
        scores = np.array([row["score"] for row in found], np.float64)
        judged.append(Judged(photograph, np.array(boxes, np.float64).reshape(-1, 4), scores))
    return judged


def _split(judged: list[Judged], split: str, annotations: Path) -> list[Judged]:
    chosen = [one for one in judged if one.photograph.split == split]
    if not any(len(one.photograph.boxes_xyxy) for one in chosen):
        raise InputError(
            f"{annotations}: split {split} has {len(chosen)} fetched photographs and no animal on them; annotate more "
            f"or raise records.annotation_{split}_share"
        )
    return chosen


def _matched(judged: list[Judged]) -> Matches:
    return matches(
        [one.photograph.boxes_xyxy for one in judged],
        [one.found_xyxy for one in judged],
        [one.scores for one in judged],
        thresholds=IOU_THRESHOLDS,
    )


def _counts(judged: list[Judged], max_boxes: int) -> dict[str, int]:
    return {
        "photographs": len(judged),
        "animals": sum(len(one.photograph.boxes_xyxy) for one in judged),
        "boxes": sum(len(one.scores) for one in judged),
        "photographs_at_max_boxes": sum(len(one.scores) >= max_boxes for one in judged),
    }


def _figures(judged: list[Judged]) -> dict[str, float | None]:
    truth = [one.photograph.boxes_xyxy for one in judged]
    return coco_figures(truth, [one.found_xyxy for one in judged], [one.scores for one in judged])


def _threshold(found: Matches, wanted_recall: float) -> dict[str, Any]:
    """The highest confidence at which the wanted recall is reached; if none does, the one of the highest recall."""
    confidences, precision, recall = precision_recall(found)
    wanted = {"wanted_recall": wanted_recall}
    if not len(confidences):
        nothing = {"confidence": None, "validation_precision": None, "validation_recall": 0.0}
        return {**wanted, "reached": False, **nothing}
    # 9 of 10 animals reach 0.9 whatever the last bit of the quotient
    reached = bool(recall[-1] >= wanted_recall - 1e-9)
    place = int(np.argmax(recall >= (wanted_recall - 1e-9 if reached else recall[-1])))
    confidence = math.floor(confidences[place] * 1e6) / 1e6  # rounded up it would lose the box that it is taken from
    at = {"validation_precision": float(precision[place]), "validation_recall": float(recall[place])}
    return {**wanted, "reached": reached, "confidence": confidence, **at}


def _at(found: Matches, confidence: float | None) -> dict[str, float | None]:
    """Precision and recall at IoU 0.5 of the boxes from a confidence up; None where there is no box."""
    if confidence is None:
        return {"precision": None, "recall": 0.0}
    kept = found.scores >= confidence
    right = int(found.right[0, kept].sum())
    return {"precision": right / int(kept.sum()) if kept.any() else None, "recall": right / int(found.animals.sum())}


def _named(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _groups(keys: list[str], table: pa.Table, annotation_split: str) -> np.ndarray:
    """The group of each photograph whose photographs depend on each other, int64, shape (p,), from 0.

    By observation, and by a given split, which may have no times: one animal was photographed several times. By
    time_block: stretches of ceil(n^(1/3)) photographs
    that follow each other in time, the order of size that is best for the variance (Hall, Horowitz & Jing 1995).
    """
    columns = table.select(["key", "observation_id", "observed_at"]).to_pydict()
    facts = {key: fact for key, *fact in zip(*columns.values(), strict=True)}
    if annotation_split in ("observation", "given"):
        return np.unique([facts[key][0] for key in keys], return_inverse=True)[1]
    order = sorted(range(len(keys)), key=lambda n: (facts[keys[n]][1], keys[n]))
    places = np.empty(len(keys), np.int64)
    places[order] = np.arange(len(keys))
    # 27 ** (1 / 3) is a little more than 3
    return places // math.ceil(round(len(keys) ** (1 / 3), 9))


def _intervals(
    found: Matches, groups: np.ndarray, threshold: float | None, confidence: float, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Percentile intervals, 2.5 to 97.5 %, over resamples of whole groups of photographs (Field & Welsh 2007)."""
    generator = np.random.default_rng(seed)
    n = int(groups.max()) + 1
    samples = []
    for _ in range(bootstrap):
        weights = np.bincount(generator.integers(0, n, n), minlength=n)[groups]
        precisions = average_precisions(found, weights)
        _, at_floor = _resampled(found, weights, 0.0)
        at_both = (*_resampled(found, weights, threshold), *_resampled(found, weights, confidence))
        samples.append([precisions.mean(), precisions[0], at_floor, *at_both])
    names = ["AP50-95", "AP50", "recall_at_floor", "test_precision", "test_recall"]
    names += ["precision_at_crops_confidence", "recall_at_crops_confidence"]
    intervals = [_interval(row) for row in np.array(samples).T]
    return {"resamples": bootstrap, "groups": n, **dict(zip(names, intervals, strict=True))}


def _resampled(found: Matches, weights: np.ndarray, confidence: float | None) -> tuple[float, float]:
    """Precision and recall with each photograph counted ``weights`` times; NaN where nothing is left to count."""
    each = weights[found.photograph] * (found.scores >= (np.inf if confidence is None else confidence))
    right, boxes, animals = float(found.right[0] @ each), float(each.sum()), float(found.animals @ weights)
    return right / boxes if boxes else math.nan, right / animals if animals else math.nan


def _interval(values: np.ndarray) -> list[float] | None:
    values = values[~np.isnan(values)]  # a resample without animals tells nothing
    return [float(value) for value in np.percentile(values, [2.5, 97.5])] if len(values) else None


def _write_curve(path: Path, found: Matches) -> None:
    confidences, precision, recall = precision_recall(found)
    places = np.unique(np.linspace(0, len(confidences) - 1, min(CURVE_ROWS, len(confidences))).round().astype(int))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recall", "precision", "confidence"])
        writer.writerows([f"{column[n]:.6g}" for column in (recall, precision, confidences)] for n in places)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
