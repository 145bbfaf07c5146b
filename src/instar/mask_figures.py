"""Where the figures of masks stand in metrics/detection_metrics.json: the one place that knows its keys."""

from dataclasses import dataclass
from typing import Any

from instar.params import Records

#: Average precision of masks: keys of the split's figures and of the intervals, with their names for people.
PRECISIONS = {
    "AP50-95": "AP50-95",
    "AP50": "AP50",
    "AP75": "AP75",
    "AP_small": "small",
    "AP_medium": "medium",
    "AP_large": "large",
}
ALL = "all"
#: Pixels of animals that are found, of none that are, and of animals that are not: keys and names for people.
AREAS = {
    "true_positive": "true positive",
    "false_positive": "false positive",
    "false_negative": "false negative",
}


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval, None where there is none."""

    value: float | None
    interval: list[float] | None = None


def masks_of(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The part of the file that is about masks; None for a study or a detector of boxes."""
    return metrics.get("masks")


def figures_on_test(metrics: dict[str, Any]) -> dict[str, Figure]:
    """Figures of masks on the split test: ``PRECISIONS``, F1, and the errors of counts; empty without masks.

    F1, precision and recall are at IoU 0.5 and at the confidence of the best F1 on validation. Counts are of
    photographs: the slope of detected over annotated animals, the mean absolute error in animals, and as a share of
    those annotated.
    """
    masks = masks_of(metrics)
    if masks is None:
        return {}
    intervals, best, counts = masks["interval_95"], masks["best_f1"], masks["counts"][ALL]["test"]
    found = {name: Figure(masks["test"].get(name), intervals.get(name)) for name in PRECISIONS}
    for name in ("f1", "precision", "recall"):
        found[name] = Figure(best[f"test_{name}"], intervals.get(f"test_{name}"))
    for name in ("slope", "bias", "mae", "mape"):
        found[f"count_{name}"] = Figure(counts[name], intervals.get(f"count_{name}"))
    return found


def confidence(metrics: dict[str, Any], otherwise: float) -> float:
    """The threshold of the study's detections: of the best F1 of masks, else of the wanted recall, else another."""
    masks = masks_of(metrics)
    chosen = masks["best_f1"]["confidence"] if masks else metrics.get("threshold", {}).get("confidence")
    return otherwise if chosen is None else float(chosen)


def resampled(groups: int, records: Records) -> str:
    """What the intervals are of, as part of a sentence: ``95 % intervals are from resampling 6 samples``."""
    what = "sample" if records.kind == "trays" else "observation"
    one, several = (what, f"{what}s") if records.annotation_split != "time_block" else ("stretch", "stretches of time")
    if groups < 2:
        return f"there are no intervals, since all photographs are of one {one}"
    return f"95 % intervals are from resampling {groups:,} {several}"
