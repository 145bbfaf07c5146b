"""The confidence from which detections count: chosen on one split, applied to another."""

import math
from typing import Any

import numpy as np

from instar.metrics.coco import Matches, precision_recall


def wanted_recall_threshold(found: Matches, wanted_recall: float) -> dict[str, Any]:
    """The highest confidence at which the wanted recall is reached; if none does, the one of the highest recall."""
    confidences, precision, recall = precision_recall(found)
    wanted = {"wanted_recall": wanted_recall}
    if not len(confidences):
        nothing = {"confidence": None, "validation_precision": None, "validation_recall": 0.0}
        return {**wanted, "reached": False, **nothing}
    # 9 of 10 animals reach 0.9 whatever the last bit of the quotient
    reached = bool(recall[-1] >= wanted_recall - 1e-9)
    place = int(np.argmax(recall >= (wanted_recall - 1e-9 if reached else recall[-1])))
    at = {"validation_precision": float(precision[place]), "validation_recall": float(recall[place])}
    return {**wanted, "reached": reached, "confidence": _rounded_down(confidences[place]), **at}


def best_f1_confidence(found: Matches) -> float | None:
    """The confidence with the highest F1 at the first IoU threshold, of equal ones the highest; None without any."""
    confidences, precision, recall = precision_recall(found)
    if not len(confidences):
        return None
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(both)), where=both > 0)
    return _rounded_down(confidences[int(np.argmax(f1))])


def _rounded_down(confidence: float) -> float:
    # rounded up it would lose the box that it is taken from
    return math.floor(confidence * 1e6) / 1e6


def at_confidence(found: Matches, confidence: float | None) -> dict[str, float | None]:
    """Precision and recall at IoU 0.5 of the detections from a confidence up; None where there is none."""
    if confidence is None:
        return {"precision": None, "recall": 0.0}
    kept = found.scores >= confidence
    right = int(found.right[0, kept].sum())
    return {"precision": right / int(kept.sum()) if kept.any() else None, "recall": right / int(found.animals.sum())}


def outcome_counts(found: Matches, confidence: float | None) -> dict[str, np.ndarray]:
    """Of each photograph the true positives, false positives and false negatives at IoU 0.5: int64, shape (p,) each."""
    kept = found.scores >= (np.inf if confidence is None else confidence)
    photographs = len(found.animals)
    right = np.bincount(found.photograph[kept & found.right[0]], minlength=photographs)
    every = np.bincount(found.photograph[kept], minlength=photographs)
    return {"true_positives": right, "false_positives": every - right, "false_negatives": found.animals - right}


def named(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values under names that begin with what they are of."""
    return {f"{prefix}_{name}": value for name, value in values.items()}
