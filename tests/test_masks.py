"""Masks as vertical runs."""

import numpy as np
import pytest
from pycocotools import mask as coco

from instar.masks import Masks, from_bitmaps, from_polygons, from_rle, joined_masks, no_masks

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def test_no_masks_have_no_areas_no_boxes_and_no_rle() -> None:
    nothing = joined_masks([])
    assert (len(nothing), nothing.areas().tolist(), nothing.boxes().shape, nothing.rle(4, 4)) == (0, [], (0, 4), [])
    assert no_masks(2).areas().tolist() == [0, 0] and no_masks(2).boxes().tolist() == [[0] * 4] * 2


def test_a_ring_keeps_its_hole() -> None:
    ring = from_bitmaps([RING], [(10, 20)])
    assert ring.columns.tolist() == [10, 11, 11, 12]
    assert list(zip(ring.tops.tolist(), ring.bottoms.tolist(), strict=True)) == [(20, 23), (20, 21), (22, 23), (20, 23)]
    assert ring.areas().tolist() == [8] and ring.boxes().tolist() == [[10, 20, 13, 23]]
    assert np.array_equal(ring.bitmap(0, (10, 20, 13, 23)), RING)
    assert np.array_equal(ring.bitmap(0, (11, 19, 14, 22)), [[0, 0, 0], [1, 1, 0], [0, 1, 0]])


def test_shifting_taking_and_clipping() -> None:
    masks = joined_masks([from_bitmaps([RING]), no_masks(1), from_bitmaps([np.ones((2, 1))], [(5, 5)])])
    moved = masks.shifted(3, 4).take(np.array([2, 0]))
    assert moved.boxes().tolist() == [[8, 9, 9, 11], [3, 4, 6, 7]] and moved.areas().tolist() == [2, 8]
    assert masks.take(np.array([False, True, True])).areas().tolist() == [0, 2]
    assert masks.clipped(1, 1, 6, 6).areas().tolist() == [3, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_rle_is_pycocotools_and_comes_back(seed: int) -> None:
    bitmaps = (
        np.random.default_rng(seed).random((6, 37, 23)) < [[[0.0]], [[0.05]], [[0.5]], [[0.95]], [[1.0]], [[0.3]]]
    ).astype(np.uint8)
    masks = from_bitmaps(bitmaps)
    encoded = [coco.encode(np.asfortranarray(bitmap)) for bitmap in bitmaps]
    assert masks.rle(37, 23) == [one["counts"] for one in encoded]
    back = from_rle(encoded)
    for name in ("columns", "tops", "bottoms", "offsets"):
        assert getattr(back, name).tolist() == getattr(masks, name).tolist()
    assert masks.areas().tolist() == coco.area(encoded).tolist()


def test_rle_of_a_large_photograph_has_long_counts() -> None:
    far = from_bitmaps([np.ones((3, 2))], [(8000, 5400)])
    [counts] = far.rle(5464, 8192)
    assert coco.area({"size": [5464, 8192], "counts": counts}) == 6
    assert from_rle([{"size": [5464, 8192], "counts": counts.decode()}]).boxes().tolist() == [[8000, 5400, 8002, 5403]]


def test_rle_that_does_not_fill_its_size_is_refused() -> None:
    [counts] = from_bitmaps([RING]).rle(5, 5)
    with pytest.raises(ValueError, match="RLE of 25 pixels for a picture of 5×6"):
        from_rle([{"size": [6, 5], "counts": counts}])
    with pytest.raises(ValueError, match="outside the picture"):
        from_bitmaps([RING], [(3, 0)]).rle(5, 5)
    with pytest.raises(ValueError, match="inside a number"):
        from_rle([{"size": [5, 5], "counts": b"P"}])


def test_polygons_are_pycocotools() -> None:
    square, triangle = [1.0, 1, 5, 1, 5, 4, 1, 4], [10.0, 10, 20, 10, 10, 18]
    masks = from_polygons([[square], [square, triangle]], 30, 40)
    expected = [coco.merge(coco.frPyObjects(rings, 30, 40)) for rings in ([square], [square, triangle])]
    assert masks.areas().tolist() == [12, *coco.area(expected[1:]).tolist()]
    assert isinstance(masks, Masks) and masks.rle(30, 40) == [one["counts"] for one in expected]


def test_bitmaps_of_all() -> None:
    assert no_masks(2).bitmaps(3, 4).tolist() == np.zeros((2, 3, 4)).tolist()
    pictures = np.random.default_rng(0).random((4, 7, 9)) > 0.5
    found = from_bitmaps(pictures).bitmaps(7, 9)
    assert found.dtype == np.uint8
    assert (found == pictures).all()


def test_resized_by_hand() -> None:
    bitmap = np.zeros((4, 6), bool)
    bitmap[1:3, 2:5] = True
    masks = from_bitmaps([bitmap])
    assert masks.resized((4, 6), (4, 6)).areas().tolist() == [6]
    assert masks.resized((4, 6), (8, 12)).boxes().tolist() == [[4, 2, 10, 6]]
    assert masks.resized((4, 6), (8, 12)).areas().tolist() == [24]
    assert len(no_masks().resized((4, 6), (8, 12))) == 0
    assert masks.shifted(5, 0).resized((4, 6), (8, 12)).areas().tolist() == [0]  # outside
