"""COCO figures of detections, and the matching beneath them, open to resampling (Lin et al. 2014, cocoeval.py).

All functions take one array of boxes and one of scores for each photograph, in the same order of photographs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from instar.boxes import box_areas, iou_matrix

#: Of average precision 50:95.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Where the precision is read off the curve.
RECALLS = np.linspace(0, 1, 101)
#: Areas of annotated boxes, square pixels of the photograph.
AREAS = {"all": [0, 1e10], "small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 1e10]}


def coco_figures(truth: list[np.ndarray], found: list[np.ndarray], scores: list[np.ndarray]) -> dict[str, float | None]:
    """The twelve figures of COCO but those at fewer boxes, with every box of every photograph taken in.

    Args:
        truth: annotated boxes of each photograph, float, shape (n, 4), pixels.
        found: detected boxes, likewise.
        scores: of the detected boxes, float, shape (n,).

    Returns:
        AP50-95, AP50, AP75, AP by area of the animal, and AR, the mean over IoU thresholds of the highest recall;
        each in [0, 1], or None where no animal has such an area.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    most = max([1, *(len(boxes) for boxes in (*truth, *found))])
    evaluation = COCOeval_faster(COCO(_dataset(truth)), None, "bbox", print_function=lambda text: None)
    results = _results(found, scores)
    evaluation.cocoDt = evaluation.cocoGt.loadRes(results) if results else COCO(_dataset([]))
    evaluation.params.maxDets = [most]
    evaluation.params.areaRng = list(AREAS.values())
    evaluation.params.areaRngLbl = list(AREAS)
    evaluation.evaluate()
    evaluation.accumulate()
    # precision has the axes IoU, recall, category, area, maxDets; recall the same without recall
    precision, recall = evaluation.eval["precision"][..., 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]
    figures = {"AP50-95": precision[:, :, 0], "AP50": precision[0, :, 0], "AP75": precision[5, :, 0]}
    figures |= {f"AP_{name}": precision[:, :, n] for n, name in enumerate(AREAS) if n}
    figures |= {"AR" if name == "all" else f"AR_{name}": recall[:, n] for n, name in enumerate(AREAS)}
    return {name: _mean(values) for name, values in figures.items()}


def _mean(values: np.ndarray) -> float | None:
    # COCO writes -1 where there is nothing to find
    return float(values[values > -1].mean()) if (values > -1).any() else None


def _dataset(truth: list[np.ndarray]) -> dict[str, Any]:
    annotations = [
        {"id": 0, "image_id": n, "category_id": 1, "bbox": box, "area": area, "iscrowd": 0}
        for n, boxes in enumerate(truth, start=1)
        for box, area in zip(_xywh(boxes), box_areas(boxes).tolist(), strict=True)
    ]
    for n, annotation in enumerate(annotations, start=1):
        annotation["id"] = n
    images = [{"id": n, "width": 0, "height": 0} for n in range(1, len(truth) + 1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "animal"}]}


def _results(found: list[np.ndarray], scores: list[np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"image_id": n, "category_id": 1, "bbox": box, "score": score}
        for n, (boxes, values) in enumerate(zip(found, scores, strict=True), start=1)
        for box, score in zip(_xywh(boxes), values.tolist(), strict=True)
    ]


def _xywh(boxes_xyxy: np.ndarray) -> list[list[float]]:
    boxes = boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


@dataclass(frozen=True)
class Matches:
    """Detected boxes of all photographs by falling score, and whether each one is right.

    Attributes:
        photograph: int64, shape (n,), index of the box's photograph.
        scores: float64, shape (n,), falling.
        right: bool, shape (t, n): at each IoU threshold, whether the box is matched with an animal of its own.
        animals: int64, shape (p,), annotated animals of each photograph.
    """

    photograph: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    animals: np.ndarray


def matches(
    truth: list[np.ndarray], found: list[np.ndarray], scores: list[np.ndarray], *, thresholds: np.ndarray
) -> Matches:
    """Match detected boxes with annotated ones as COCO does.

    In each photograph, from the best score down, a box takes the animal not yet taken that it overlaps most, if their
    IoU reaches the threshold.

    Args:
        truth: annotated boxes of each photograph, float, shape (n, 4), pixels.
        found: detected boxes, likewise.
        scores: of the detected boxes, float, shape (n,).
        thresholds: of IoU, float, shape (t,).
    """
    photograph, right, values = [], [], []
    for n, (boxes, others, weights) in enumerate(zip(truth, found, scores, strict=True)):
        order = np.argsort(-weights, kind="stable")
        overlap = iou_matrix(others[order], boxes)
        right.append(np.array([_matched(overlap, threshold) for threshold in thresholds]).reshape(len(thresholds), -1))
        photograph.append(np.full(len(others), n))
        values.append(weights[order].astype(np.float64))
    all_scores = np.concatenate([np.zeros(0), *values])
    order = np.argsort(-all_scores, kind="stable")
    return Matches(
        np.concatenate([np.zeros(0, np.int64), *photograph])[order],
        all_scores[order],
        np.concatenate([np.zeros((len(thresholds), 0), bool), *right], axis=1).astype(bool)[:, order],
        np.array([len(boxes) for boxes in truth], np.int64),
    )


def _matched(overlap: np.ndarray, threshold: float) -> list[bool]:
    """Whether each box, from the best score down, finds an animal: overlap is the IoU, shape (boxes, animals)."""
    free = np.ones(overlap.shape[1], bool)
    right = []
    for row in overlap:
        candidates = np.where(free, row, -1.0)
        # of equal overlaps COCO takes the last
        best = len(candidates) - 1 - int(np.argmax(candidates[::-1])) if len(candidates) else -1
        right.append(best >= 0 and bool(candidates[best] >= min(threshold, 1 - 1e-10)))
        if right[-1]:
            free[best] = False
    return right


def average_precisions(found: Matches, weights: np.ndarray) -> np.ndarray:
    """Average precision at each IoU threshold, with photographs counted several times or not at all.

    Args:
        found: matched boxes.
        weights: int64, shape (p,), how many times each photograph counts; all 1 gives COCO's figure.

    Returns:
        float64, shape (t,), in [0, 1]; NaN where no animal is left.
    """
    animals = int(found.animals @ weights)
    if not animals:
        return np.full(len(found.right), np.nan)
    each = weights[found.photograph]
    right = np.cumsum(found.right * each, axis=1)
    return np.array([_interpolated(row, np.cumsum(each), animals) for row in right])


def _interpolated(right: np.ndarray, boxes: np.ndarray, animals: int) -> float:
    """The mean of the highest precision at or beyond each of the 101 recalls."""
    if not len(right):
        return 0.0
    precision = right / np.maximum(boxes, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / animals, RECALLS, side="left")
    return float(np.where(places < len(highest), highest[np.minimum(places, len(highest) - 1)], 0.0).mean())


def precision_recall(found: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at the first IoU threshold if all boxes from some confidence up are kept.

    Args:
        found: matched boxes, with at least one annotated animal.

    Returns:
        Confidences, falling, each once; precision and recall at each, in [0, 1]; float64, shape (c,).
    """
    right = np.cumsum(found.right[0])
    last = np.flatnonzero(np.diff(found.scores, append=-np.inf))  # boxes of one score are kept or dropped together
    return found.scores[last], right[last] / (last + 1), right[last] / found.animals.sum()
