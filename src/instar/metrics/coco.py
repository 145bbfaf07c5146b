"""COCO figures of detections, and the matching beneath them, open to resampling (Lin et al. 2014, cocoeval.py).

Lists have one item for each photograph, in the same order of photographs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from instar.metrics.overlaps import Overlaps, box_overlaps

#: Of average precision 50:95.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Where the precision is read off the curve.
RECALLS = np.linspace(0, 1, 101)
#: No area is out of this range.
ALL = (0.0, 1e10)
Range = tuple[float, float]


def area_ranges(limits_px: tuple[float, float], *, whole: bool) -> dict[str, Range]:
    """The ranges of area that figures are told for, as COCO takes them: both ends belong to them.

    COCO therefore counts an animal of exactly 1,024 pixels as small and as medium. ``small < 144 <= medium < 1024 <=
    large``, which is meant, is the same with whole numbers of pixels if the upper ends are one less.

    Args:
        limits_px: where medium and large begin, pixels.
        whole: whether areas are whole numbers, as those of masks, and ranges shall not share their ends; areas of
            boxes are not, and COCO's ends are kept.
    """
    medium, large = limits_px
    less = 1 if whole else 0
    return {"all": ALL, "small": (0, medium - less), "medium": (medium, large - less), "large": (large, ALL[1])}


#: COCO's own, areas of annotated boxes, square pixels of the photograph.
AREAS = area_ranges((32**2, 96**2), whole=False)


def coco_figures(
    truth: list[np.ndarray],
    found: list[np.ndarray],
    scores: list[np.ndarray],
    *,
    areas: Mapping[str, Range] = AREAS,
) -> dict[str, float | None]:
    """The figures of boxes, see ``figures``.

    Args:
        truth: annotated boxes of each photograph, float, shape (n, 4), pixels.
        found: detected boxes, likewise.
        scores: of the detected boxes, float, shape (n,).
        areas: ranges of the boxes' areas by name; "all" must be among them.
    """
    overlaps = [box_overlaps(*pair) for pair in zip(found, truth, strict=True)]
    return figures(
        {name: matched(overlaps, scores, thresholds=IOU_THRESHOLDS, area=area) for name, area in areas.items()}
    )


def figures(by_area: Mapping[str, "Matches"]) -> dict[str, float | None]:
    """The twelve figures of COCO but those at fewer boxes, with every detection of every photograph taken in.

    Args:
        by_area: what ``matched`` gives at ``IOU_THRESHOLDS`` for each range of area; "all" must be among them.

    Returns:
        AP50-95, AP50, AP75, AP by area of the animal, and AR, the mean over IoU thresholds of the highest recall;
        each in [0, 1], or None where no animal has such an area.
    """
    precisions = {name: _precisions(found) for name, found in by_area.items()}
    told = {"AP50-95": _mean(precisions["all"])}
    told |= {"AP50": _mean(precisions["all"][:1]), "AP75": _mean(precisions["all"][5:6])}
    told |= {f"AP_{name}": _mean(values) for name, values in precisions.items() if name != "all"}
    return told | {"AR" if name == "all" else f"AR_{name}": _recall(found) for name, found in by_area.items()}


def _precisions(found: "Matches") -> np.ndarray:
    return average_precisions(found, np.ones(len(found.animals), np.int64))


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


def _recall(found: "Matches") -> float | None:
    animals = int(found.animals.sum())
    return float((found.right.sum(axis=1) / animals).mean()) if animals else None


@dataclass(frozen=True)
class Matches:
    """Detections of all photographs by falling score, and whether each one is right.

    Attributes:
        photograph: int64, shape (n,), index of the detection's photograph.
        index: int64, shape (n,), index of the detection in its photograph.
        scores: float64, shape (n,), falling.
        animal: int64, shape (t, n): at each IoU threshold, index of the animal that it is matched with, or -1.
        ignored: bool, shape (t, n): whether it counts for nothing, since it or its animal has another area.
        animals: int64, shape (p,), annotated animals of each photograph that have the area.
    """

    photograph: np.ndarray
    index: np.ndarray
    scores: np.ndarray
    animal: np.ndarray
    ignored: np.ndarray
    animals: np.ndarray

    @cached_property
    def right(self) -> np.ndarray:
        """bool, shape (t, n): at each IoU threshold, whether the detection has an animal of its own."""
        return (self.animal >= 0) & ~self.ignored

    def animals_of(self, photograph: int) -> np.ndarray:
        """The animal of each detection of a photograph at the first IoU threshold, or -1: int64, shape (k,)."""
        chosen = self.photograph == photograph
        animal = np.full(int(chosen.sum()), -1, np.int64)
        animal[self.index[chosen]] = self.animal[0, chosen]
        return animal


def matches(
    truth: list[np.ndarray], found: list[np.ndarray], scores: list[np.ndarray], *, thresholds: np.ndarray
) -> Matches:
    """Match detected boxes with annotated ones, see ``matched``.

    Args:
        truth: annotated boxes of each photograph, float, shape (n, 4), pixels.
        found: detected boxes, likewise.
        scores: of the detected boxes, float, shape (n,).
        thresholds: of IoU, float, shape (t,).
    """
    return matched([box_overlaps(*pair) for pair in zip(found, truth, strict=True)], scores, thresholds=thresholds)


def matched(
    overlaps: list[Overlaps], scores: list[np.ndarray], *, thresholds: np.ndarray, area: Range = ALL
) -> Matches:
    """Match detections with animals as COCO does.

    In each photograph, from the best score down, a detection takes the animal not yet taken that it overlaps most, if
    their IoU reaches the threshold; animals of another area only if no other is left. Detections that took one of
    these, or none and are of another area themselves, are ignored.

    Args:
        overlaps: of each photograph.
        scores: of the detections, float, shape (n,).
        thresholds: of IoU, float, shape (t,).
        area: of the animals that count, pixels; both ends belong to it.
    """
    parts = [_photograph(*pair, thresholds, area) for pair in zip(overlaps, scores, strict=True)]
    nothing = np.zeros((len(thresholds), 0), np.int64)
    all_scores = np.concatenate(
        [np.zeros(0), *(values[order] for (order, _, _), values in zip(parts, scores, strict=True))]
    )
    by_score = np.argsort(-all_scores, kind="stable")
    sizes = [len(values) for values in scores]
    return Matches(
        np.repeat(np.arange(len(scores)), sizes)[by_score],
        np.concatenate([np.zeros(0, np.int64), *(order for order, _, _ in parts)])[by_score],
        all_scores[by_score].astype(np.float64),
        np.concatenate([nothing, *(animal for _, animal, _ in parts)], axis=1)[:, by_score],
        np.concatenate([nothing.astype(bool), *(ignored for _, _, ignored in parts)], axis=1)[:, by_score],
        np.array([int(_inside(one.truth_areas, area).sum()) for one in overlaps], np.int64),
    )


def _inside(areas: np.ndarray, area: Range) -> np.ndarray:
    return (areas >= area[0]) & (areas <= area[1])


def _photograph(
    overlaps: Overlaps, scores: np.ndarray, thresholds: np.ndarray, area: Range
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections of one photograph from the best score down, and at each threshold their animals and who is ignored."""
    order = np.argsort(-scores, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    other = ~_inside(overlaps.truth_areas, area)
    # of equal overlaps COCO takes the last
    best = np.lexsort((-overlaps.truth, -overlaps.iou, other[overlaps.truth], rank[overlaps.found]))
    found, truth, iou = rank[overlaps.found][best], overlaps.truth[best], overlaps.iou[best]
    animal = np.full((len(thresholds), len(order)), -1, np.int64)
    for row, threshold in zip(animal, thresholds, strict=True):
        enough = iou >= min(threshold, 1 - 1e-10)
        _take(row, found[enough].tolist(), truth[enough].tolist())
    outside = ~_inside(overlaps.found_areas, area)[order]
    # -1 reads some animal where there is one, and is not looked at
    ignored = np.where(animal >= 0, other[animal] if len(other) else False, outside)
    return order, animal, ignored


def _take(animal: np.ndarray, found: list[int], truth: list[int]) -> None:
    """Give each detection its first animal that is still free, from pairs in the order of preference."""
    taken: set[int] = set()
    done = -1
    for detection, candidate in zip(found, truth, strict=True):
        if detection != done and candidate not in taken:
            animal[detection] = candidate
            taken.add(candidate)
            done = detection


def average_precisions(found: Matches, weights: np.ndarray) -> np.ndarray:
    """Average precision at each IoU threshold, with photographs counted several times or not at all.

    Args:
        found: matched detections.
        weights: int64, shape (p,), how many times each photograph counts; all 1 gives COCO's figure.

    Returns:
        float64, shape (t,), in [0, 1]; NaN where no animal is left.
    """
    animals = int(found.animals @ weights)
    if not animals:
        return np.full(len(found.animal), np.nan)
    each = weights[found.photograph]
    counted = np.cumsum(each)
    precisions = []
    for right, ignored in zip(found.right, found.ignored, strict=True):
        boxes = np.cumsum(each * ~ignored) if ignored.any() else counted
        # between two right ones the precision only falls
        steps = np.flatnonzero(right)
        precisions.append(_interpolated(np.cumsum(each[steps]), boxes[steps], animals))
    return np.array(precisions)


def _interpolated(right: np.ndarray, boxes: np.ndarray, animals: int) -> float:
    """The mean of the highest precision at or beyond each of the 101 recalls."""
    if not len(right):
        return 0.0
    precision = right / np.maximum(boxes, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / animals, RECALLS, side="left")
    return float(np.where(places < len(highest), highest[np.minimum(places, len(highest) - 1)], 0.0).mean())


def precision_recall(found: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at the first IoU threshold if all detections from some confidence up are kept.

    Args:
        found: matched detections of any area, with at least one annotated animal.

    Returns:
        Confidences, falling, each once; precision and recall at each, in [0, 1]; float64, shape (c,).
    """
    right = np.cumsum(found.right[0])
    last = np.flatnonzero(np.diff(found.scores, append=-np.inf))  # boxes of one score are kept or dropped together
    return found.scores[last], right[last] / (last + 1), right[last] / found.animals.sum()
