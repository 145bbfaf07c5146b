"""Masks of a split's detections and animals, matched; and the figures that need nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from instar.detection_metrics.judged import Judged
from instar.masks import Masks
from instar.metrics.areas import pixel_areas, shares
from instar.metrics.coco import IOU_THRESHOLDS, Matches, Range, average_precisions, figures, matched
from instar.metrics.overlaps import Overlaps, box_overlaps, mask_overlaps


@dataclass(frozen=True)
class Instances:
    """The photographs of a split whose animals and detections have masks.

    Attributes:
        judged: photographs.
        overlaps: of the masks of each.
        by_area: detections matched by mask at ``IOU_THRESHOLDS``, for each range of area; "all" is one of them.
        boxes_by_area: likewise by box; the area is still that of the mask.
    """

    judged: list[Judged]
    overlaps: list[Overlaps]
    by_area: dict[str, Matches]
    boxes_by_area: dict[str, Matches]

    @property
    def found(self) -> Matches:
        """Detections of all areas."""
        return self.by_area["all"]

    def masks(self, n: int) -> tuple[Masks, Masks]:
        """Detections and animals of a photograph."""
        return masks_of(self.judged[n])

    def kept(self, n: int, confidence: float | None) -> np.ndarray:
        """Which detections of a photograph reach a confidence: bool, shape (n,)."""
        return self.judged[n].scores >= (np.inf if confidence is None else confidence)


def masks_of(one: Judged) -> tuple[Masks, Masks]:
    """Detections and animals of a photograph that have masks."""
    assert one.masks is not None and one.photograph.masks is not None
    return one.masks, one.photograph.masks


def matched_instances(judged: list[Judged], areas: Mapping[str, Range]) -> Instances:
    """Match the detections of photographs, see ``coco.matched``."""
    scores = [one.scores for one in judged]
    overlaps = [mask_overlaps(*masks_of(one)) for one in judged]
    of_boxes = [
        replace(
            box_overlaps(one.found_xyxy, one.photograph.boxes_xyxy),
            found_areas=by_mask.found_areas,
            truth_areas=by_mask.truth_areas,
        )
        for one, by_mask in zip(judged, overlaps, strict=True)
    ]

    def by_area(of: list[Overlaps]) -> dict[str, Matches]:
        return {name: matched(of, scores, thresholds=IOU_THRESHOLDS, area=area) for name, area in areas.items()}

    return Instances(judged, overlaps, by_area(overlaps), by_area(of_boxes))


def area_figures(instances: Instances, confidence: float | None) -> dict[str, Any]:
    """Pixels that are true positive, false positive and false negative from a confidence up, and their shares."""
    total: dict[str, int] = {}
    for n in range(len(instances.judged)):
        found, truth = instances.masks(n)
        for name, value in pixel_areas(found.take(instances.kept(n, confidence)), truth).items():
            total[name] = total.get(name, 0) + value
    told = {f"{name}_px": value for name, value in total.items()}
    return told | {f"{name}_share": value for name, value in shares(total).items()}


def size_rows(instances: Instances, split: str, areas: Mapping[str, Range]) -> list[dict[str, Any]]:
    """Figures of masks and of boxes for each size of animals."""
    rows = []
    for kind, by_area in (("mask", instances.by_area), ("box", instances.boxes_by_area)):
        for name, found in by_area.items():
            told = figures({"all": found})
            low, high = areas[name]
            rows.append(
                {"split": split, "kind": kind, "size": name, "from_px": int(low)}
                | {"below_px": None if high >= areas["all"][1] else int(high) + 1, "animals": int(found.animals.sum())}
                | {figure: told[figure] for figure in ("AP50-95", "AP50", "AP75", "AR")}
            )
    return rows


def resampled_precisions(instances: Instances, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Average precisions of masks in each resample: float64, shape (bootstrap,) each."""
    every = _precisions(instances.found, weights)
    told = {"AP50-95": every.mean(axis=1), "AP50": every[:, 0], "AP75": every[:, 5]}
    boxes = _precisions(instances.boxes_by_area["all"], weights)
    told |= {"box_AP50-95": boxes.mean(axis=1), "box_AP50": boxes[:, 0], "box_AP75": boxes[:, 5]}
    for name, found in instances.by_area.items():
        if name != "all":
            told[f"AP_{name}"] = _precisions(found, weights).mean(axis=1)
    return told


def _precisions(found: Matches, weights: np.ndarray) -> np.ndarray:
    """At each threshold: float64, shape (bootstrap, 10)."""
    return np.array([average_precisions(found, row) for row in weights]).reshape(-1, len(IOU_THRESHOLDS))
