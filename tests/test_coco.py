import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from instar.masks import from_bitmaps
from instar.metrics.coco import (
    AREAS,
    IOU_THRESHOLDS,
    area_ranges,
    average_precisions,
    coco_figures,
    figures,
    matched,
    matches,
    precision_recall,
)
from instar.metrics.overlaps import box_overlaps, mask_overlaps

Arrays = list[np.ndarray]
NONE = np.zeros((0, 4))


def drawn(seed: int, photographs: int, *, rounded: bool = False) -> tuple[Arrays, Arrays, Arrays]:
    """Random animals, boxes near them and elsewhere, and scores; some photographs have none of one or the other."""
    generator = np.random.default_rng(seed)
    truth, found, scores = [], [], []
    for _ in range(photographs):
        animals = _boxes(generator, int(generator.integers(0, 8)))
        near = animals + generator.normal(0, 1, animals.shape) * [4, 4, 2, 2]
        boxes = np.concatenate([near, near + 2, _boxes(generator, int(generator.integers(0, 12)))])
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
        if generator.random() < 0.1:
            boxes = NONE
        values = generator.uniform(0, 1, len(boxes))
        truth.append(animals)
        found.append(boxes)
        scores.append(values.round(1) if rounded else values)
    return truth, found, scores


def _boxes(generator: np.random.Generator, n: int) -> np.ndarray:
    low = generator.uniform(0, 500, (n, 2))
    return np.concatenate([low, low + generator.uniform(6, 200, (n, 2))], axis=1)


def reference(truth: Arrays, found: Arrays, scores: Arrays) -> dict[str, float]:
    """The figures by pycocotools, with all boxes taken in."""
    animals: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for n, (boxes, others, values) in enumerate(zip(truth, found, scores, strict=True), start=1):
        for x_min, y_min, x_max, y_max in boxes.tolist():
            bbox, area = [x_min, y_min, x_max - x_min, y_max - y_min], (x_max - x_min) * (y_max - y_min)
            row = {"id": len(animals) + 1, "image_id": n, "category_id": 1, "bbox": bbox, "area": area, "iscrowd": 0}
            animals.append(row)
        for (x_min, y_min, x_max, y_max), score in zip(others.tolist(), values.tolist(), strict=True):
            bbox = [x_min, y_min, x_max - x_min, y_max - y_min]
            results.append({"image_id": n, "category_id": 1, "bbox": bbox, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": n} for n in range(1, len(truth) + 1)]
        coco.dataset = {"images": images, "annotations": animals, "categories": [{"id": 1}]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.maxDets = [10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]
    figures = {"AP50-95": precision[..., 0], "AP50": precision[0, :, 0], "AP75": precision[5, :, 0], "AR": recall[:, 0]}
    for n, name in enumerate(AREAS):
        if n:
            figures |= {f"AP_{name}": precision[..., n], f"AR_{name}": recall[:, n]}
    return {name: float(values.mean()) for name, values in figures.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rounded", [False, True])
def test_coco_figures_equal_pycocotools(seed: int, rounded: bool) -> None:
    truth, found, scores = drawn(seed, 40, rounded=rounded)
    assert coco_figures(truth, found, scores) == pytest.approx(reference(truth, found, scores), abs=1e-12)


def test_coco_figures_of_a_dense_photograph_see_every_box() -> None:
    corners = np.stack(np.meshgrid(np.arange(40) * 10.0, np.arange(30) * 10.0), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + 8], axis=1)
    figures = coco_figures([boxes], [boxes], [np.linspace(1, 0.1, len(boxes))])
    assert figures["AP50-95"] == figures["AR"] == 1.0  # 1,200 animals; COCO's own 100 boxes would give 0.08


def test_coco_figures_without_boxes_or_animals() -> None:
    animal = np.array([[0.0, 0, 10, 10]])
    nothing = coco_figures([animal, NONE], [NONE, NONE], [np.zeros(0)] * 2)
    assert (nothing["AP50"], nothing["AR"], nothing["AP_small"], nothing["AP_large"]) == (0, 0, 0, None)
    assert coco_figures([NONE], [animal], [np.ones(1)])["AP50"] is None
    assert coco_figures([], [], [])["AP50"] is None


@pytest.mark.parametrize("seed", range(3))
def test_average_precisions_equal_coco(seed: int) -> None:
    truth, found, scores = drawn(seed, 40, rounded=True)
    matched = matches(truth, found, scores, thresholds=IOU_THRESHOLDS)
    figures = coco_figures(truth, found, scores)
    ours = average_precisions(matched, np.ones(40, np.int64))
    assert ours[[0, 5]] == pytest.approx([figures["AP50"], figures["AP75"]], abs=1e-12)
    assert ours.mean() == pytest.approx(figures["AP50-95"], abs=1e-12)


def test_average_precisions_with_weights_equal_repeated_photographs() -> None:
    truth, found, scores = drawn(5, 12)
    weights = np.random.default_rng(0).integers(0, 4, 12)
    repeated = [np.repeat(np.arange(12), weights)][0]
    figures = coco_figures(*([part[n] for n in repeated] for part in (truth, found, scores)))
    matched = matches(truth, found, scores, thresholds=IOU_THRESHOLDS)
    assert average_precisions(matched, weights).mean() == pytest.approx(figures["AP50-95"], abs=1e-12)


def test_matches_by_hand() -> None:
    truth = [np.array([[0, 0, 10, 10], [20, 0, 30, 10]]), np.array([[0, 0, 10, 10]])]
    found = [np.array([[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 5]]), np.array([[50, 50, 60, 60]])]
    scores = [np.array([0.9, 0.8, 0.4]), np.array([0.6])]
    matched = matches(truth, found, scores, thresholds=np.array([0.5, 0.95]))
    assert matched.scores.tolist() == [0.9, 0.8, 0.6, 0.4]
    assert matched.photograph.tolist() == [0, 0, 1, 0]
    # at 0.5 the best box takes the animal, though the second fits better; at 0.95 only the second fits
    assert matched.right.tolist() == [[True, False, False, True], [False, True, False, False]]
    assert matched.animals.tolist() == [2, 1]


def test_precision_recall_by_hand() -> None:
    truth = [np.array([[0, 0, 10, 10], [20, 0, 30, 10]])]
    found = [np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 0, 30, 10], [70, 70, 80, 80]])]
    matched = matches(truth, found, [np.array([0.9, 0.5, 0.5, 0.1])], thresholds=np.array([0.5]))
    confidence, precision, recall = precision_recall(matched)
    assert confidence.tolist() == [0.9, 0.5, 0.1]  # both boxes of 0.5 are kept or none
    assert precision == pytest.approx([1, 2 / 3, 2 / 4])
    assert recall == pytest.approx([1 / 2, 1, 1])


def test_nothing_found() -> None:
    matched = matches([np.ones((1, 4)), NONE], [NONE, NONE], [np.zeros(0)] * 2, thresholds=IOU_THRESHOLDS)
    assert average_precisions(matched, np.array([1, 1])).tolist() == [0] * 10
    assert np.isnan(average_precisions(matched, np.array([0, 2]))).all()
    assert [part.tolist() for part in precision_recall(matched)] == [[], [], []]
    assert matches([], [], [], thresholds=IOU_THRESHOLDS).right.shape == (10, 0)


def rings(seed: int, n: int, size: int = 120) -> list[np.ndarray]:
    """Ellipses with and without a hole, of 1 to about 3,000 pixels: bool, shape (size, size) each."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    found = []
    for _ in range(n):
        (left, top), (wide, high) = generator.uniform(0, size, 2), generator.choice([2, 7, 12, 32], 2)
        far = ((x - left) / wide) ** 2 + ((y - top) / high) ** 2
        found.append((far <= 1) & (far > generator.choice([0.0, 0.3])))
    return [picture for picture in found if picture.any()]


def drawn_masks(seed: int) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]], Arrays]:
    """Masks of animals, of detections that are shifted ones and others, and scores, on several photographs."""
    generator = np.random.default_rng(seed)
    truth = [rings(seed * 100 + n, 15) for n in range(4)] + [[], rings(seed * 100 + 5, 3)]
    near = [[np.roll(one, generator.choice([0, 0, 1], 2), (0, 1)) for one in animals] for animals in truth]
    found = [[*animals, *animals[:3], *rings(seed * 100 + 50 + n, 6)] for n, animals in enumerate(near)]
    found[-1] = []
    return truth, found, [generator.uniform(0, 1, len(masks)).round(1) for masks in found]


def mask_reference(
    truth: list[list[np.ndarray]], found: list[list[np.ndarray]], scores: Arrays, ranges: list[Any]
) -> dict[str, float]:
    """The figures of masks by pycocotools, with all of them taken in, for ranges of areas."""
    images = [{"id": n, "height": 120, "width": 120} for n in range(1, len(truth) + 1)]
    encoded = [[coco_mask.encode(np.asfortranarray(one.astype(np.uint8))) for one in part] for part in (*truth, *found)]
    animals: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for n, (ours, others, values) in enumerate(zip(encoded, encoded[len(truth) :], scores, strict=False), start=1):
        for one in ours:
            area = int(coco_mask.area(one))
            row = {"id": len(animals) + 1, "image_id": n, "category_id": 1, "segmentation": one, "area": area}
            animals.append({**row, "iscrowd": 0, "bbox": [0, 0, 1, 1]})
        results += [
            {"image_id": n, "category_id": 1, "segmentation": one, "score": score}
            for one, score in zip(others, values.tolist(), strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": animals, "categories": [{"id": 1}]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.params.maxDets = [10_000]
        evaluation.params.areaRng = ranges
        evaluation.params.areaRngLbl = list(AREAS)
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]
    told = {"AP50-95": precision[..., 0], "AP50": precision[0, :, 0], "AP75": precision[5, :, 0]}
    told |= {f"AP_{name}": precision[..., n] for n, name in enumerate(AREAS) if n}
    told |= {"AR" if name == "all" else f"AR_{name}": recall[:, n] for n, name in enumerate(AREAS)}
    return {name: float(values.mean()) for name, values in told.items()}


def mask_figures(
    truth: list[list[np.ndarray]], found: list[list[np.ndarray]], scores: Arrays, areas: Any
) -> dict[str, float | None]:
    overlaps = [
        mask_overlaps(from_bitmaps(ours), from_bitmaps(others)) for ours, others in zip(found, truth, strict=True)
    ]
    return figures(
        {name: matched(overlaps, scores, thresholds=IOU_THRESHOLDS, area=area) for name, area in areas.items()}
    )


@pytest.mark.parametrize("seed", range(3))
def test_mask_figures_equal_pycocotools(seed: int) -> None:
    drawn = drawn_masks(seed)
    ours = mask_figures(*drawn, area_ranges((144, 1024), whole=True))
    reference = mask_reference(*drawn, [[0, 1e10], [0, 143], [144, 1023], [1024, 1e10]])
    assert ours == pytest.approx(reference, abs=1e-12)
    assert 0.05 < reference["AP_small"] < 0.95 > reference["AP_large"] > 0.05


def test_an_animal_at_a_limit_is_of_one_size_only() -> None:
    square = np.zeros((120, 120), bool)
    square[:12, :12] = True  # 144 pixels
    truth, found, scores = [[square]], [[square]], [np.ones(1)]
    ours = mask_figures(truth, found, scores, area_ranges((144, 1024), whole=True))
    assert (ours["AP_small"], ours["AP_medium"]) == (None, 1.0)
    theirs = mask_reference(truth, found, scores, [[0, 1e10], [0, 144], [144, 1024], [1024, 1e10]])
    assert (theirs["AP_small"], theirs["AP_medium"]) == pytest.approx((1.0, 1.0))  # COCO's ends belong to both
    assert mask_figures(truth, found, scores, area_ranges((144, 1024), whole=False))["AP_small"] == 1.0


def test_matched_by_area_by_hand() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [20, 0, 22, 2]])
    found = np.array([[0.0, 0, 10, 10], [20, 0, 22, 2], [20, 0, 22, 2], [50, 50, 90, 90], [0, 50, 1, 51]])
    given = matched(
        [box_overlaps(found, boxes)],
        [np.array([0.9, 0.8, 0.7, 0.6, 0.5])],
        thresholds=np.array([0.5]),
        area=(0, 10),
    )
    assert given.animals.tolist() == [1]
    assert given.animal.tolist() == [[0, 1, -1, -1, -1]]
    # the first has an animal of another size, the fourth none and is of another size itself
    assert given.ignored.tolist() == [[True, False, False, True, False]]
    assert given.right.tolist() == [[False, True, False, False, False]]
    assert average_precisions(given, np.ones(1, np.int64)).tolist() == [1.0]
    assert np.isnan(average_precisions(given, np.zeros(1, np.int64))).all()


def test_an_animal_of_the_area_goes_before_one_that_fits_better() -> None:
    animals = np.array([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    overlaps = [box_overlaps(np.array([[0.0, 0, 10, 10], [0, 0, 10, 9]]), animals)]
    scores, half = [np.array([0.9, 0.8])], np.array([0.5])
    assert matched(overlaps, scores, thresholds=half).animal.tolist() == [[0, 1]]
    small = matched(overlaps, scores, thresholds=half, area=(0, 90))
    # the second one is left with the animal that does not count
    assert (small.animal.tolist(), small.ignored.tolist()) == ([[1, 0]], [[False, True]])
