import numpy as np
import pytest
from pycocotools import mask as coco_mask

from instar.boxes import iou_matrix
from instar.masks import Masks, from_bitmaps, no_masks
from instar.metrics.overlaps import box_overlaps, intersections, mask_overlaps

NONE = np.zeros((0, 4))
SIZE = (40, 50)


def bitmaps(seed: int, n: int) -> np.ndarray:
    """Ragged shapes with holes, some of which reach the picture's border: bool, shape (n, 40, 50)."""
    generator = np.random.default_rng(seed)
    found = np.zeros((n, *SIZE), bool)
    for one in found:
        top, left = generator.integers(-3, SIZE[0]), generator.integers(-3, SIZE[1])
        height, width = generator.integers(1, 20, 2)
        part = one[max(top, 0) : top + height, max(left, 0) : left + width]
        part[:] = generator.random(part.shape) < 0.8
    return found


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (2, 0)])
def test_overlaps_of_nothing(n: int, m: int) -> None:
    for found in (box_overlaps(np.ones((n, 4)), np.ones((m, 4))), mask_overlaps(no_masks(n), no_masks(m))):
        assert len(found.found) == len(found.truth) == len(found.iou) == len(found.ios) == 0
        assert (found.found_areas.tolist(), found.truth_areas.tolist()) == ([0] * n, [0] * m)


def test_box_overlaps_by_hand() -> None:
    found = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [10, 0, 12, 10]])
    truth = np.array([[5, 0, 15, 10], [0, 0, 10, 5]])
    given = box_overlaps(found, truth)
    # the second box touches nothing, the third one only the edge of the second animal
    assert list(zip(given.found.tolist(), given.truth.tolist(), strict=True)) == [(0, 0), (0, 1), (2, 0)]
    assert given.iou.tolist() == [50 / 150, 50 / 100, 20 / 100]
    assert given.ios.tolist() == [50 / 100, 50 / 50, 20 / 20]
    assert (given.found_areas.tolist(), given.truth_areas.tolist()) == ([100, 100, 20], [100, 50])


@pytest.mark.parametrize("seed", range(3))
def test_box_overlaps_equal_the_matrix(seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 90, (70, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + generator.uniform(0, 30, (70, 2)).astype(np.float32)], axis=1)
    found, truth = boxes[:40], boxes[40:].astype(np.float64)
    given = box_overlaps(found, truth)
    dense = np.zeros((40, 30))
    dense[given.found, given.truth] = given.iou
    assert (dense == iou_matrix(found, truth)).all()


def test_mask_overlaps_by_hand() -> None:
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    masks = from_bitmaps([ring, np.ones((1, 1), bool), np.ones((3, 1), bool)], [(5, 5), (6, 6), (6, 6)])
    given = mask_overlaps(masks, masks.take(np.array([0])))
    # what lies in the ring's hole shares nothing with it, though its box does
    assert given.found.tolist() == [0, 2]
    assert given.iou.tolist() == [1, 1 / 10]
    assert given.ios.tolist() == [1, 1 / 3]


@pytest.mark.parametrize("chunk", [1, 64, 1 << 21])
@pytest.mark.parametrize("seed", range(3))
def test_mask_overlaps_equal_pycocotools(seed: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.masks.RUNS_AT_ONCE", chunk)
    pictures = bitmaps(seed, 40)
    found, truth = from_bitmaps(pictures[:25]), from_bitmaps(pictures[25:])
    given = mask_overlaps(found, truth)
    dense = np.zeros((25, 15))
    dense[given.found, given.truth] = given.iou
    encoded = [coco_mask.encode(np.asfortranarray(picture.astype(np.uint8))) for picture in pictures]
    assert (dense == coco_mask.iou(encoded[:25], encoded[25:], [0] * 15)).all()
    assert (dense > 0).sum() > 10


def test_intersections_left_of_and_above_the_origin() -> None:
    masks = from_bitmaps(bitmaps(7, 20))
    everywhere = np.divmod(np.arange(400), 20)
    moved = masks.shifted(-30, -20)
    assert (intersections(masks, masks, *everywhere) == intersections(moved, moved, *everywhere)).all()
    assert (intersections(masks, masks, np.arange(20), np.arange(20)) == masks.areas()).all()


def test_intersections_with_empty_masks() -> None:
    masks: Masks = from_bitmaps([np.ones((2, 2), bool), np.zeros((2, 2), bool)])
    assert intersections(masks, masks, *np.divmod(np.arange(4), 2)).tolist() == [4, 0, 0, 0]
