"""Stage ``detection_metrics``: COCO figures, PR curves and confidence thresholds of the detector."""

import csv
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from instar.caps import Tiles, check_caps, crowded, photograph_tiles, regions
from instar.detection_metrics.confidence import at_confidence, named, wanted_recall_threshold
from instar.detection_metrics.counting import COLUMNS as COUNT_COLUMNS
from instar.detection_metrics.judged import Judged, read_judged, with_masks
from instar.detection_metrics.resampling import intervals, photograph_groups, resampled_weights
from instar.detection_metrics.seams import COLUMNS as SEAM_COLUMNS
from instar.detection_metrics.specimens import read_specimens
from instar.detection_metrics.summary import Setting, summary
from instar.detectors import kept_of_a_tile, own_cap
from instar.files import replacing, write_json
from instar.metrics.coco import (
    IOU_THRESHOLDS,
    Matches,
    Range,
    area_ranges,
    average_precisions,
    coco_figures,
    matches,
    precision_recall,
)

#: Points of a PR curve that are written, at most.
CURVE_ROWS = 200
CURVE = ["recall", "precision", "confidence"]
SIZES = ["split", "kind", "size", "from_px", "below_px", "animals", "AP50-95", "AP50", "AP75", "AR"]
HISTOGRAM = ["from_px", "below_px", "annotated", "annotated_on_test", "detected_on_test"]
Rows = list[dict[str, Any]]


def detection_metrics(
    annotations: Path,
    detector: Path,
    detections: Path,
    images: Path,
    taxonomy: Path,
    specimens: Path,
    out: Path,
    out_curve: Path,
    out_mask_curves: Path,
    out_mask_areas: Path,
    out_sizes: Path,
    out_counts: Path,
    out_seams: Path,
    *,
    seed: int,
    shards: list[str],
    wanted_recall: float,
    areas_px: list[int],
    seam_px: float,
    count_classes: list[str],
    max_boxes: int,
    tile_px: int,
    tile_overlap: float,
    confidence: float,
    bootstrap: int,
    annotation_split: str,
) -> None:
    """Compare what was detected with what is annotated on held-out photographs.

    Figures are of the split test. The confidence threshold is chosen on validation: the highest that still reaches the
    wanted recall there, at IoU 0.5. Where nothing is annotated, the figures say only that. Where animals and detections
    have masks, all is judged by masks, too: their AP by size in pixels of the photograph, the confidence of the best
    F1, pixel areas, counts, and errors near the seams of tiles. Without masks these tables have a header alone.

    Args:
        annotations: COCO JSON with a split for each image.
        detector: folder that the stage detector wrote.
        detections: folder of the shards' tables of boxes.
        images: folder of the photographs' shards.
        taxonomy: table of the taxa that animals carry.
        specimens: CSV of samples and the specimens in them sorted by hand; a header alone for none.
        out: JSON to write.
        out_curve: CSV to write, precision and recall of boxes at IoU 0.5 on the split test by falling confidence.
        out_mask_curves: CSV to write, the same of masks on validation and test.
        out_mask_areas: CSV to write, how many masks have which area.
        out_sizes: CSV to write, figures of masks and boxes by size.
        out_counts: CSV to write, animals of each photograph as annotated, detected and sorted by hand.
        out_seams: CSV to write, errors near seams and elsewhere by size.
        seed: of the resamples.
        shards: names of the shards.
        wanted_recall: at IoU 0.5 on validation; the confidence threshold is chosen for it.
        areas_px: areas at which medium and large animals begin, pixels of the photograph.
        seam_px: what a tile's inner edge runs through, or passes at most so many pixels away, is near a seam.
        count_classes: classes whose animals are counted apart, too; [] for none.
        max_boxes: what was kept of one tile, or what a trained detector gives at most; must exceed the annotated
            animals on the densest one. What one that needs no training is asked for at most is counted and told.
        tile_px: side of the tiles that photographs were sliced into.
        tile_overlap: of neighbouring tiles, as a share of the side.
        confidence: of the crops; precision and recall on the split test are told there, too.
        bootstrap: resamples for an interval.
        annotation_split: how the photographs were split, and so what is resampled: by time_block, stretches of time;
            else whole observations.
    """
    photographs = read_judged(annotations, detections, images, shards)
    tables: dict[Path, tuple[list[str], Rows]] = {
        out_curve: (CURVE, []),
        out_mask_curves: (["split", *CURVE], []),
        out_mask_areas: (HISTOGRAM, []),
        out_sizes: (SIZES, []),
        out_counts: (COUNT_COLUMNS, []),
        out_seams: (SEAM_COLUMNS, []),
    }
    if not photographs.annotated:
        _write_tables(tables)
        write_json(out, {"rows": {"in": 0, "out": 0, "dropped": {}}, "annotations": 0})
        return
    kept = kept_of_a_tile(detector, max_boxes)
    searched = regions(photographs.table)
    tiles = {
        one.key: photograph_tiles(one, searched.get(one.key), tile_px=tile_px, tile_overlap=tile_overlap)
        for one in photographs.annotated
    }
    sliced = any(len(parts) > 1 for parts in tiles.values())
    own = own_cap(detector)
    for judged in photographs.judged:
        check_caps(judged.photograph, tiles[judged.photograph.key], max_boxes, annotations, own)
    validation, test = (photographs.split(split, annotations) for split in ("validation", "test"))
    groups = photograph_groups([one.photograph.key for one in test], photographs.table, annotation_split)
    weights = resampled_weights(groups, bootstrap, seed)
    masks = with_masks(photographs)
    areas = area_ranges((areas_px[0], areas_px[1]), whole=masks)
    hidden = {
        split: {} if own or kept == max_boxes else _told_cap(of_split, tiles, kept, split)
        for split, of_split in (("validation", validation), ("test", test))
    }
    threshold = wanted_recall_threshold(_matched(validation), wanted_recall)
    found = _matched(test)
    tables[out_curve][1].extend(_curve(found))
    if masks:
        table = read_specimens(specimens)
        setting = Setting(areas, seam_px, count_classes, kept, tiles, table, taxonomy, kept < max_boxes)
        of_masks = summary(photographs, validation, test, weights, int(groups.max()) + 1, setting)
        figures = of_masks.boxes
        for split, one in of_masks.matches.items():
            tables[out_mask_curves][1].extend({"split": split, **row} for row in _curve(one))
        rows = (of_masks.histogram, of_masks.sizes, of_masks.counts, of_masks.seams)
        for path, part in zip((out_mask_areas, out_sizes, out_counts, out_seams), rows, strict=True):
            tables[path][1].extend(part)
    else:
        figures = _figures(test, areas)
    _write_tables(tables)
    result = {
        "rows": {
            "in": len(photographs.annotated),
            "out": len(photographs.judged),
            "dropped": dict(sorted((+photographs.dropped).items())),
        },
        "annotations": len(photographs.annotated),
        "validation": {**_counts(validation, kept, sliced=sliced), **hidden["validation"]},
        "test": {
            **_counts(test, kept, sliced=sliced),
            **hidden["test"],
            **figures,
            "recall_at_floor": at_confidence(found, 0.0)["recall"],
        },
        "threshold": {**threshold, **named("test", at_confidence(found, threshold["confidence"]))},
        "at_crops_confidence": {"confidence": confidence, **named("test", at_confidence(found, confidence))},
        "interval_95": _intervals(found, groups, weights, threshold["confidence"], confidence),
        **({"masks": of_masks.masks} if masks else {}),
    }
    write_json(out, _rounded(result))


def _matched(judged: list[Judged]) -> Matches:
    return matches(
        [one.photograph.boxes_xyxy for one in judged],
        [one.found_xyxy for one in judged],
        [one.scores for one in judged],
        thresholds=IOU_THRESHOLDS,
    )


def _counts(judged: list[Judged], max_boxes: int, *, sliced: bool) -> dict[str, int]:
    counts = {
        "photographs": len(judged),
        "animals": sum(len(one.photograph.boxes_xyxy) for one in judged),
        "boxes": sum(len(one.scores) for one in judged),
    }
    if not sliced:  # the cap is of one tile
        counts["photographs_at_max_boxes"] = sum(len(one.scores) >= max_boxes for one in judged)
    return counts


def _told_cap(judged: list[Judged], tiles: Mapping[str, Tiles], most: int, split: str) -> dict[str, int]:
    """Tiles with as many animals as a detector is prescribed to give: no reason to refuse it, but some are missed."""
    count = sum(crowded(one.photograph, tiles[one.photograph.key], most) for one in judged)
    if count:
        every = sum(len(tiles[one.photograph.key]) for one in judged)
        told = f"{count} of {every} tiles of split {split} show {most} annotated animals or more"
        print(f"warning: {told}, and the detector is asked for at most so many; some cannot be found", file=sys.stderr)
    return {"tiles_with_as_many_animals": count}


def _figures(judged: list[Judged], areas: Mapping[str, Range]) -> dict[str, float | None]:
    truth = [one.photograph.boxes_xyxy for one in judged]
    return coco_figures(truth, [one.found_xyxy for one in judged], [one.scores for one in judged], areas=areas)


def _intervals(
    found: Matches, groups: np.ndarray, weights: np.ndarray, threshold: float | None, confidence: float
) -> dict[str, Any]:
    """Intervals of the figures of boxes over resamples of whole groups of photographs."""
    samples = []
    for row in weights:
        precisions = average_precisions(found, row)
        _, at_floor = _resampled(found, row, 0.0)
        at_both = (*_resampled(found, row, threshold), *_resampled(found, row, confidence))
        samples.append([precisions.mean(), precisions[0], at_floor, *at_both])
    names = ["AP50-95", "AP50", "recall_at_floor", "test_precision", "test_recall"]
    names += ["precision_at_crops_confidence", "recall_at_crops_confidence"]
    table = np.array(samples).reshape(-1, len(names))
    return {"resamples": len(weights), "groups": int(groups.max()) + 1, **intervals(table, names)}


def _resampled(found: Matches, weights: np.ndarray, confidence: float | None) -> tuple[float, float]:
    """Precision and recall with each photograph counted ``weights`` times; NaN where nothing is left to count."""
    each = weights[found.photograph] * (found.scores >= (np.inf if confidence is None else confidence))
    right, boxes, animals = float(found.right[0] @ each), float(each.sum()), float(found.animals @ weights)
    return right / boxes if boxes else math.nan, right / animals if animals else math.nan


def _curve(found: Matches) -> Iterator[dict[str, str]]:
    confidences, precision, recall = precision_recall(found)
    places = np.unique(np.linspace(0, len(confidences) - 1, min(CURVE_ROWS, len(confidences))).round().astype(int))
    for n in places:
        yield {name: f"{column[n]:.6g}" for name, column in zip(CURVE, (recall, precision, confidences), strict=True)}


def _write_tables(tables: Mapping[Path, tuple[list[str], Rows]]) -> None:
    for path, (columns, rows) in tables.items():
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_rounded(row) for row in rows)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
