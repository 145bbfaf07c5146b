"""Pairs of detections and animals, by hand."""

import numpy as np
import pytest

from instar.masks import Masks, from_bitmaps, no_masks
from instar.metrics.overlaps import mask_overlaps
from instar.outcomes import outcomes


def bars(*spans: tuple[int, int]) -> Masks:
    """Masks one pixel high from x to x."""
    return from_bitmaps([np.ones((1, end - start), bool) for start, end in spans], [(start, 0) for start, _ in spans])


@pytest.mark.parametrize("boxes", [False, True])
def test_of_nothing(boxes: bool) -> None:
    nothing = np.zeros((0, 4)) if boxes else no_masks()
    some = np.array([[0, 0, 4, 1.0]]) if boxes else bars((0, 4))
    empty = outcomes(nothing, np.zeros(0), nothing)
    assert len(empty.right(0)) == len(empty.missed(0)) == 0
    assert outcomes(nothing, np.zeros(0), some).missed(0).tolist() == [True]
    assert outcomes(some, np.array([0.5]), nothing).wrong(0).tolist() == [True]


def test_the_best_score_takes_the_animal_and_a_threshold_leaves_it_missed() -> None:
    found = bars((0, 10), (1, 10), (20, 30), (40, 44))
    truth = bars((0, 10), (20, 26), (40, 50))
    made = outcomes(found, np.array([0.6, 0.9, 0.4, 0.8]), truth)
    # 9 of 10 pixels for the second, which has the higher score; 6 of 10; 4 of 10 is too little
    assert made.animal.tolist() == [-1, 0, 1, -1]
    assert made.finder.tolist() == [1, 2, -1]
    assert made.iou.tolist() == [0, 0.9, 0.6, 0]
    assert made.right(0.4).tolist() == [False, True, True, False]
    assert made.wrong(0.7).tolist() == [False, False, False, True]
    assert made.missed(0.4).tolist() == [False, False, True]
    assert made.missed(0.5).tolist() == [False, True, True]


def test_iou_of_exactly_a_half_counts_and_of_equal_ones_the_last_is_taken() -> None:
    made = outcomes(bars((0, 6)), np.array([0.5]), bars((0, 3), (3, 6)))
    assert made.animal.tolist() == [1]
    # the same with boxes
    boxes = np.array([[0, 0, 3, 1], [3, 0, 6, 1.0]])
    assert outcomes(np.array([[0, 0, 6, 1.0]]), np.array([0.5]), boxes).animal.tolist() == [1]


def test_a_weaker_detection_gets_the_next_best_animal() -> None:
    made = outcomes(bars((0, 10), (0, 9)), np.array([0.9, 0.8]), bars((0, 10), (0, 8)))
    assert made.animal.tolist() == [0, 1]
    assert made.iou.tolist() == pytest.approx([1, 8 / 9])


def test_thresholds_hold_whatever_lies_below_them() -> None:
    generator = np.random.default_rng(5)
    pictures = [np.ones(generator.integers(5, 20, 2), bool) for _ in range(120)]
    corners = [(int(x), int(y)) for x, y in generator.integers(0, 60, (120, 2))]
    masks, scores = from_bitmaps(pictures, corners), generator.integers(0, 20, 70) / 20
    found, truth = masks.take(np.arange(70)), masks.take(np.arange(70, 120))
    whole = outcomes(found, scores, truth)
    for confidence in (0.0, 0.3, 0.55, 0.9):
        kept = scores >= confidence
        alone = outcomes(found.take(kept), scores[kept], truth)
        assert whole.right(confidence)[kept].tolist() == (alone.animal >= 0).tolist()
        assert whole.missed(confidence).tolist() == (alone.finder < 0).tolist()


def test_overlaps_of_drawn_masks() -> None:
    generator = np.random.default_rng(2)
    pictures = [generator.random((9, 7)) < 0.4 for _ in range(12)]
    corners = [(int(x), int(y)) for x, y in generator.integers(0, 9, (12, 2))]
    masks, canvases = from_bitmaps(pictures, corners), np.zeros((12, 20, 20), bool)
    for canvas, picture, (x, y) in zip(canvases, pictures, corners, strict=True):
        canvas[y : y + 9, x : x + 7] = picture
    overlaps = mask_overlaps(masks, masks)
    dense = np.zeros((12, 12))
    dense[overlaps.found, overlaps.truth] = overlaps.iou
    wanted = [[(a & b).sum() / (a | b).sum() for b in canvases] for a in canvases]
    assert dense == pytest.approx(np.array(wanted))
    assert len(mask_overlaps(no_masks(2), masks).found) == 0
