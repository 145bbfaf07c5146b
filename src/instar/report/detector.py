"""The section on the detector: its figures on held-out photographs, its curves."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from instar.mask_figures import masks_of
from instar.report.figures import DASHED, precision_recall, training_curve
from instar.report.inputs import Inputs
from instar.report.measures import Measure, percent

#: Keys of "test" in metrics/detection_metrics.json; sizes are those of COCO.
_MEANINGS = {
    "AP50-95": "average precision, mean over IoU 0.50, 0.55 \u2026 0.95; the figure to compare detectors by",
    "AP50": "average precision where a box counts from IoU 0.50",
    "AP75": "average precision where a box counts from IoU 0.75: how tight the boxes are",
    "AP_small": "AP50-95 of animals under 32\u00b2 pixels",
    "AP_medium": "AP50-95 of animals between 32\u00b2 and 96\u00b2 pixels",
    "AP_large": "AP50-95 of animals over 96\u00b2 pixels",
    "AR": "highest recall with all boxes, mean over the same IoU",
}


def measures(inputs: Inputs, confidence: float) -> list[Measure]:
    """Figures on the held-out photographs; those that are not defined there are left out, without any all of them."""
    metrics = inputs.metrics["detection_metrics"]
    if not annotated(inputs):
        return []
    intervals, threshold = metrics["interval_95"], metrics["threshold"]
    meanings = _MEANINGS | _sizes(metrics)
    found = [(key, metrics["test"][key], intervals.get(key), text) for key, text in meanings.items()]
    for kind, text in (("recall", "of the animals that get a box"), ("precision", "of the boxes that hold an animal")):
        value, interval = metrics["at_crops_confidence"][f"test_{kind}"], intervals[f"{kind}_at_crops_confidence"]
        found.append((f"{kind} at {confidence:g}", value, interval, f"{text}, at the crops' confidence"))
        if threshold["confidence"] is not None:
            name, figure = f"{kind} at {threshold['confidence']:.3g}", f"test_{kind}"
            meaning = f"{text}, at the confidence chosen on validation"
            found.append((name, threshold[figure], intervals.get(figure), meaning))
    return [_measure(name, value, interval, text) for name, value, interval, text in found if value is not None]


def _sizes(metrics: dict[str, Any]) -> dict[str, str]:
    """What sizes mean in a study with masks, where they are those of the masks."""
    masks = masks_of(metrics)
    if masks is None:
        return {}
    medium, large = masks["from_px"]["medium"], masks["from_px"]["large"]
    return {
        "AP_small": f"AP50-95 of animals whose masks have under {medium:,} pixels",
        "AP_medium": f"AP50-95 of animals whose masks have from {medium:,} to under {large:,} pixels",
        "AP_large": f"AP50-95 of animals whose masks have {large:,} pixels or more",
    }


def _measure(name: str, value: float, interval: list[float] | None, meaning: str) -> Measure:
    low, high = interval or (None, None)
    return Measure(name.replace("_", " "), value, low, high, meaning)


def annotated(inputs: Inputs) -> bool:
    """Whether there are annotated photographs to judge the detector by."""
    return "test" in inputs.metrics["detection_metrics"]


def recall(inputs: Inputs, confidence: float) -> Measure | None:
    """Of the animals of the held-out photographs, how many get a box that is good enough for a crop."""
    found = measures(inputs, confidence)
    return next((one for one in found if one.name == f"recall at {confidence:g}"), None)


def _curve(inputs: Inputs) -> pd.DataFrame:
    points = inputs.curve("detection_pr.csv", ["recall", "precision", "confidence"]).dropna()
    return points.sort_values("confidence", ascending=False, kind="stable")


def charts(inputs: Inputs, confidence: float) -> list[tuple[str, Markup]]:
    """Precision-recall and training curves with their titles; an empty table makes no chart."""
    found = []
    points = _curve(inputs)
    if len(points):
        chart = precision_recall(points, confidence, inputs.metrics["detection_metrics"]["at_crops_confidence"])
        found.append(("Precision and recall at IoU 0.5", chart))
    curve = inputs.curve("detector.csv", ["epoch"]).set_index("epoch")
    curve.columns = [name.replace("validation_", DASHED).replace("_", " ") for name in curve.columns]
    losses = [name for name in curve.columns if name.endswith("loss")]
    figures = [name for name in curve.columns if name not in losses]
    for name, columns, title in (
        ("detector-figures", figures, "Training: figures on validation photographs"),
        ("detector-losses", losses, "Training: losses, on validation photographs dashed"),
    ):
        if len(curve) and columns:
            found.append((title, training_curve(name, title, curve[columns], "epoch", shares=columns is figures)))
    return found


def threshold_text(metrics: dict[str, Any], confidence: float) -> str:
    """How the crops' confidence stands to the one that the wanted recall asks for."""
    if "threshold" not in metrics:
        return f"No photograph is annotated, so nothing is known of the detector. Crops are cut from {confidence:g} up."
    chosen = metrics["threshold"]
    if chosen["confidence"] is None:
        return "The detector finds nothing on the validation photographs, so no confidence can be chosen."
    text = f"A recall of {percent(chosen['wanted_recall'])} on validation photographs is "
    if chosen["reached"]:
        text += f"reached up to a confidence of {chosen['confidence']:.3g}"
    else:
        text += f"not reached at any confidence: the highest is {percent(chosen['validation_recall'])}"
    return f"{text}. Crops are cut from a confidence of {confidence:g} up."
