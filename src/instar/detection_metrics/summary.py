"""All that is told of detections with masks, beside the figures of boxes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instar.caps import Tiles
from instar.detection_metrics.confidence import at_confidence, best_f1_confidence, named, outcome_counts
from instar.detection_metrics.counting import (
    ALL,
    agreements,
    classes_of_taxa,
    count_rows,
    detected_counts,
    of_classes,
    resampled_agreement,
)
from instar.detection_metrics.instances import (
    Instances,
    area_figures,
    matched_instances,
    resampled_precisions,
    size_rows,
)
from instar.detection_metrics.judged import Judged, Photographs
from instar.detection_metrics.resampling import intervals, ratios, widths
from instar.detection_metrics.seams import seam_counts, seam_figures, seam_rows
from instar.detection_metrics.specimens import Specimens
from instar.metrics.areas import area_histogram
from instar.metrics.coco import Matches, Range, figures
from instar.tiles import touching

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Summary:
    """Figures of masks, the box figures of the split test at the same sizes, and rows of the tables."""

    masks: dict[str, Any]
    boxes: dict[str, float | None]
    sizes: Rows
    histogram: Rows
    counts: Rows
    seams: Rows
    matches: dict[str, Matches]


@dataclass(frozen=True)
class Setting:
    """How detections with masks are judged; the fields are those of the stage.

    ``max_boxes`` are kept of a tile, and ``own`` says whether that is the detector's own limit.
    """

    areas: Mapping[str, Range]
    seam_px: float
    count_classes: list[str]
    max_boxes: int
    tiles: Mapping[str, Tiles]
    specimens: Mapping[str, Specimens]
    taxonomy: Path
    own: bool = False


def summary(
    photographs: Photographs,
    validation: list[Judged],
    test: list[Judged],
    weights: np.ndarray,
    groups: int,
    setting: Setting,
) -> Summary:
    """Judge the masks of two splits; the confidence of the best F1 is chosen on validation.

    Args:
        photographs: all that are annotated.
        validation: judged ones of that split.
        test: likewise.
        weights: int64, shape (bootstrap, p), how often each photograph of test counts in each resample.
        groups: of photographs of test, that are resampled as wholes.
        setting: how.
    """
    splits = {"validation": validation, "test": test}
    matched = {name: matched_instances(judged, setting.areas) for name, judged in splits.items()}
    ours = matched["test"]
    confidence = best_f1_confidence(matched["validation"].found)
    counts, rows, classes = _counts(photographs, matched, confidence, setting)
    near, kinds = seam_counts(
        ours,
        [setting.tiles[one.photograph.key] for one in test],
        confidence,
        seam_px=setting.seam_px,
        areas=setting.areas,
    )
    best = {"confidence": confidence}
    for name, one in matched.items():
        best |= named(name, _at(one.found, confidence))
    sliced = seam_figures(near, kinds, weights, setting.seam_px)
    masks = {
        "from_px": {name: int(low) for name, (low, _) in setting.areas.items() if name != ALL},
        **{name: figures(one.by_area) for name, one in matched.items()},
        "best_f1": best,
        "areas": {name: area_figures(one, confidence) for name, one in matched.items()},
        "counts": counts,
        "seams": sliced,
        "caps": {name: _caps(one, setting) for name, one in matched.items()},
        "interval_95": {"groups": groups, **_intervals(ours, confidence, weights, classes)},
    }
    return Summary(
        masks,
        figures(ours.boxes_by_area),
        [row for name, one in matched.items() for row in size_rows(one, name, setting.areas)],
        _histogram(photographs, ours, confidence),
        rows,
        seam_rows(near, weights) if sliced else [],
        {name: one.found for name, one in matched.items()},
    )


def _at(found: Matches, confidence: float | None) -> dict[str, Any]:
    """F1, precision and recall from a confidence up, and the counts that they come from."""
    told = {name: int(each.sum()) for name, each in outcome_counts(found, confidence).items()}
    right, wrong, missed = told.values()
    return {"f1": 2 * right / (2 * right + wrong + missed), **at_confidence(found, confidence), **told}


def _counts(
    photographs: Photographs, matched: Mapping[str, Instances], confidence: float | None, setting: Setting
) -> tuple[dict[str, Any], Rows, list[np.ndarray] | None]:
    """Agreement of counts, its rows, and the animals of the wanted classes on each photograph of test."""
    annotated = {ALL: {one.key: len(one.boxes_xyxy) for one in photographs.usable}}
    detected: dict[str, dict[str, int]] = {ALL: {}}
    chosen: dict[str, np.ndarray] = {}
    group = ", ".join(setting.count_classes)
    if group and any(taxon for one in photographs.usable for taxon in one.taxa):
        classes = classes_of_taxa(setting.taxonomy)
        chosen = {one.key: of_classes(one, classes, setting.count_classes) for one in photographs.usable}
        annotated[group] = {key: int(part.sum()) for key, part in chosen.items()}
        detected[group] = {}
    for one in matched.values():
        keys = [judged.photograph.key for judged in one.judged]
        for name, counts in detected.items():
            parts = None if name == ALL else [chosen[key] for key in keys]
            found = detected_counts(one.judged, one.found, confidence, parts)
            counts.update(zip(keys, found.tolist(), strict=True))
    columns = photographs.table.select(["key", "observation_id"]).to_pydict()
    observations = dict(zip(columns["key"], columns["observation_id"], strict=True))
    rows = count_rows(photographs.usable, observations, setting.specimens, annotated, detected)
    of_test = [chosen[one.photograph.key] for one in matched["test"].judged] if chosen else None
    return agreements(rows, setting.specimens), rows, of_test


def _caps(instances: Instances, setting: Setting) -> dict[str, int]:
    """Whether what the detector may keep of a tile hid some of it; where it may have, a warning says so.

    A tile holds as many detections as are found at its place after merging, so some that reached the limit may be
    overlooked here; the stage detections warns of each.
    """
    most, full = 0, 0
    for one in instances.judged:
        tiles = setting.tiles[one.photograph.key]
        most = max(most, int(touching(one.photograph.boxes_xyxy, tiles).max(initial=0)))
        at_cap = int((touching(one.found_xyxy, tiles) >= setting.max_boxes).sum())
        if at_cap:
            cap, remedy = f"detections.max_boxes = {setting.max_boxes}", "raise it"
            if setting.own:
                cap, remedy = f"the {setting.max_boxes} that the detector gives at most", "lower detections.tile_px"
            told = f"{at_cap} of {len(tiles)} tiles hold {cap} or more detections; {remedy}, some may be missing"
            print(f"warning: {one.photograph.key}: {told}", file=sys.stderr)
        full += at_cap
    return {"max_boxes": setting.max_boxes, "animals_on_densest_tile": most, "tiles_at_max_boxes": full}


def _histogram(photographs: Photographs, test: Instances, confidence: float | None) -> Rows:
    everything = [one.masks.areas() for one in photographs.usable if one.masks is not None]
    found = [test.masks(n)[0].areas()[test.kept(n, confidence)] for n in range(len(test.judged))]
    lists = {
        "annotated": everything,
        "annotated_on_test": [test.masks(n)[1].areas() for n in range(len(test.judged))],
        "detected_on_test": found,
    }
    return list(area_histogram({name: np.concatenate(parts) for name, parts in lists.items()}))


def _intervals(
    test: Instances, confidence: float | None, weights: np.ndarray, classes: list[np.ndarray] | None
) -> dict[str, Any]:
    """Intervals of the figures of masks over resamples of groups of test's photographs, and how wide they are."""
    right, wrong, missed = outcome_counts(test.found, confidence).values()
    samples = resampled_precisions(test, weights)
    samples |= {
        "test_f1": ratios(2 * right, 2 * right + wrong + missed, weights),
        "test_precision": ratios(right, right + wrong, weights),
        "test_recall": ratios(right, right + missed, weights),
    }
    counted = resampled_agreement(right + missed, right + wrong, weights)
    samples |= {f"count_{name}": values for name, values in counted.items()}
    if classes is not None:
        annotated = np.array([int(part.sum()) for part in classes])
        detected = detected_counts(test.judged, test.found, confidence, classes)
        counted = resampled_agreement(annotated, detected, weights)
        samples |= {f"count_of_classes_{name}": values for name, values in counted.items()}
    told = intervals(np.column_stack(list(samples.values())), list(samples))
    return {"resamples": len(weights), "photographs": len(test.judged), **told, "width": widths(told)}
