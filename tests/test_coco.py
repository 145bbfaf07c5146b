import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from instar.metrics.coco import (
    AREAS,
    IOU_THRESHOLDS,
    average_precisions,
    coco_figures,
    matches,
    precision_recall,
)

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
