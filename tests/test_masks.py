"""Masks as vertical runs."""

import numpy as np
import pytest
from pycocotools import mask as coco

from instar.masks import (
    Masks,
    areas_within,
    from_bitmaps,
    from_labels,
    from_polygons,
    from_rle,
    intersections,
    joined_masks,
    no_masks,
    united,
    voted,
)

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


def crowd(seed: int, n: int = 12, side: int = 24) -> tuple[np.ndarray, Masks]:
    """Noise of several densities, some of it empty, in boxes that overlap."""
    generator = np.random.default_rng(seed)
    pictures = np.zeros((n, side, side), bool)
    for picture in pictures[1:]:
        x, y, width, height = *generator.integers(0, side - 3, 2), *generator.integers(1, side // 2, 2)
        part = picture[y : y + height, x : x + width]
        part[:] = generator.random(part.shape) < generator.choice([0.3, 0.8, 1.0])
    return pictures, from_bitmaps(pictures)


def test_intersections_and_unions_of_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert intersections(no_masks(), no_masks(), none, none).tolist() == []
    assert intersections(no_masks(2), from_bitmaps([RING]), np.array([0, 1]), np.array([0, 0])).tolist() == [0, 0]
    assert len(united(no_masks(), np.array([0]))) == 0
    assert united(no_masks(2), np.array([0, 0, 2])).areas().tolist() == [0, 0]


def test_intersections_by_hand() -> None:
    masks = from_bitmaps([RING, np.ones((1, 3)), np.ones((2, 2))], [(0, 0), (0, 1), (2, 2)])
    left, right = np.array([0, 0, 1, 0, 2]), np.array([1, 2, 2, 0, 0])
    # the bar crosses the ring's hole; the square has one pixel of the ring and none of the bar
    assert intersections(masks, masks, left, right).tolist() == [2, 1, 0, 8, 1]


@pytest.mark.parametrize("runs", [1, 7, 1 << 20])
def test_intersections_are_those_of_the_pictures_in_portions_too(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.masks.RUNS_AT_ONCE", runs)
    for seed in range(5):
        pictures, masks = crowd(seed)
        others, more = crowd(seed + 100)
        left, right = (each.ravel() for each in np.indices((12, 12)))
        expected = (pictures[left] & others[right]).sum(axis=(1, 2))
        assert intersections(masks, more, left, right).tolist() == expected.tolist()
        assert expected.max() > 0


def test_union_keeps_the_hole_and_joins_touching_runs() -> None:
    parts = from_bitmaps([RING[:, :2], RING[:, 2:], np.ones((2, 1)), np.ones((2, 1))], [(0, 0), (2, 0), (9, 4), (9, 6)])
    both = united(parts, np.array([0, 2, 2, 4]))
    assert np.array_equal(both.bitmap(0, (0, 0, 3, 3)), RING)
    assert both.areas().tolist() == [8, 0, 4] and np.diff(both.offsets).tolist() == [4, 0, 1]


@pytest.mark.parametrize("runs", [1, 30, 1 << 20])
def test_votes_are_those_of_the_pictures_in_portions_too(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.masks.RUNS_AT_ONCE", runs)
    for seed in range(5):
        pictures, masks = crowd(seed)
        offsets, weights = np.array([0, 1, 4, 4, 12]), np.arange(1, 13)
        needed = np.array([1, 5, 1, 9])
        expected = [
            (pictures[a:b] * weights[a:b, None, None]).sum(axis=0) >= least
            for a, b, least in zip(offsets[:-1], offsets[1:], needed, strict=True)
        ]
        found = voted(masks, offsets, weights, needed)
        again = from_bitmaps(expected)
        for name in ("columns", "tops", "bottoms", "offsets"):
            assert getattr(found, name).tolist() == getattr(again, name).tolist()


def test_areas_within_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = joined_masks([from_bitmaps([RING]), no_masks(1)])
    boxes = np.array([[0, 0, 3, 3], [1, 0, 2, 3], [0, 1, 9, 9], [5, 5, 9, 9], [0, 0, 3, 3]])
    for runs in (1, 1 << 20):
        monkeypatch.setattr("instar.masks.RUNS_AT_ONCE", runs)
        assert areas_within(masks, np.array([0, 0, 0, 0, 1]), boxes).tolist() == [8, 2, 5, 0, 0]
    assert areas_within(masks, np.zeros(0, np.int64), boxes[:0]).tolist() == []


def test_from_labels_by_hand() -> None:
    assert len(from_labels(np.zeros((0, 0), np.int32), 0)) == 0
    assert from_labels(np.zeros((2, 3), np.int32), 2).areas().tolist() == [0, 0]
    labels = np.array([[1, 1, 0, 3], [1, 2, 0, 3], [2, 2, 1, 0]], np.int32)
    found = from_labels(labels, 4)
    assert found.columns.tolist() == [0, 1, 2, 0, 1, 3]
    assert found.tops.tolist() == [0, 0, 2, 2, 1, 0]
    assert found.bottoms.tolist() == [2, 1, 3, 3, 3, 2]
    assert found.offsets.tolist() == [0, 3, 5, 6, 6]
    # as masks of single pictures
    noise = np.random.default_rng(0).integers(0, 5, (31, 17)).astype(np.int32)
    single = from_bitmaps([noise == n for n in range(1, 5)])
    for name in ("columns", "tops", "bottoms", "offsets"):
        assert getattr(from_labels(noise, 4), name).tolist() == getattr(single, name).tolist()


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
