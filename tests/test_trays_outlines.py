"""Outlines drawn by hand made whole, one fault at a time, with what is left counted in pixels."""

from typing import Any

import numpy as np
import pytest

from instar.masks import from_bitmaps, from_polygons
from instar.records.trays.outlines import cleaned, raw_area

SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]  # 10×10 pixels


def area(segmentation: Any, width: int = 40, height: int = 30) -> int:
    one = cleaned(segmentation, width, height)
    assert one.reason is None
    return int(from_polygons([one.rings], height, width).areas()[0])


def test_nothing() -> None:
    assert cleaned([], 40, 30).reason == cleaned(None, 40, 30).reason == "no outline"
    assert raw_area([], 40, 30) == raw_area([[1, 1, 5, 5]], 40, 30) == 0


def test_a_right_outline_is_left_alone() -> None:
    one = cleaned([SQUARE], 40, 30)
    assert (one.rings, one.changes, one.reason) == ([list(map(float, SQUARE))], [], None)
    assert area([SQUARE]) == raw_area([SQUARE], 40, 30) == 100
    assert area([[[2, 2], [12, 2], [12, 12], [2, 12]]]) == 100  # as pairs


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 1, 9, 9]], "fewer than three points"),
        ([[1, 1, 9, 9, 1, 1, 9, 9]], "fewer than three points"),
        ([[1, 1, 9]], "coordinates are no pairs of numbers"),
        ([[1, 1, 9, 9, float("nan"), 3]], "coordinates are no pairs of numbers"),
        ([[1, 1, 9, 9, 1e300, -1e300, 0, 1e300]], "coordinates are no pairs of numbers"),
        ([SQUARE, []], None),
        ([["a", 1, 9, 9, 3, 3]], "coordinates are no pairs of numbers"),
        ([7], "coordinates are no pairs of numbers"),
        ("polygon", "no outline"),
        ([[1, 1, 5, 5, 9, 9]], "no area"),
        ([[-9, 1, -2, 1, -2, 9]], "outside the picture"),
        ([[41, 1, 49, 1, 49, 9]], "outside the picture"),
        ({"size": [40, 30], "counts": [0, 1200]}, "RLE of another size than the picture"),
        ({"size": [30, 40], "counts": [0, 1199]}, "broken RLE"),
        ({"size": [30, 40], "counts": "\u00e9"}, "broken RLE"),
        ({"size": [30, 40]}, "broken RLE"),
        ({"size": [30, 40], "counts": [1200]}, "no area"),
    ],
)
def test_what_cannot_be_an_animal_is_dropped(segmentation: Any, reason: str | None) -> None:
    assert cleaned(segmentation, 40, 30).reason == reason


def test_rle_is_taken_as_it_is() -> None:
    bitmap = np.zeros((30, 40), bool)
    bitmap[3:9, 4:14] = True
    text = from_bitmaps([bitmap]).rle(30, 40)[0].decode()
    for counts in (text, [4 * 30 + 3, *[6, 24] * 9, 6, 26 * 30 + 21]):
        one = cleaned({"size": [30, 40], "counts": counts}, 40, 30)
        assert one.masks is not None
        assert np.array_equal(one.masks.bitmap(0, (0, 0, 40, 30)), bitmap)


def test_rle_keeps_legs_of_diagonal_pixels_its_hole_and_its_speck() -> None:
    bitmap = np.zeros((30, 40), bool)
    bitmap[3:9, 4:14] = True
    bitmap[5, 6] = False  # a hole
    bitmap[range(9, 14), range(14, 19)] = True  # a leg; its pixels touch in corners alone
    bitmap[20, 30] = True  # a speck
    one = cleaned({"size": [30, 40], "counts": from_bitmaps([bitmap]).rle(30, 40)[0].decode()}, 40, 30)
    assert one.masks is not None
    assert (one.changes, one.rings, one.masks.areas()[0]) == ([], [], 60 - 1 + 5 + 1)
    assert np.array_equal(one.masks.bitmap(0, (0, 0, 40, 30)), bitmap)


def test_a_ring_that_crosses_itself_keeps_both_lobes() -> None:
    bow = [2, 2, 22, 22, 22, 2, 2, 22]  # two triangles of 100 that touch in one point
    one = cleaned([bow], 40, 30)
    assert (one.changes, len(one.rings)) == (["repaired"], 2)
    assert abs(area([bow]) - 200) <= 12


def test_parts_that_overlap_are_united() -> None:
    one = cleaned([SQUARE, [7, 7, 17, 7, 17, 17, 7, 17]], 40, 30)
    assert (one.changes, len(one.rings)) == (["parts united"], 1)
    assert area([SQUARE, [7, 7, 17, 7, 17, 17, 7, 17]]) == 100 + 100 - 25


def test_near_parts_get_a_hull_around_them() -> None:
    beside = [14, 2, 24, 2, 24, 12, 14, 12]  # 2 px away
    assert cleaned([SQUARE, beside], 40, 30).changes == ["concave hull over near parts"]
    assert area([SQUARE, beside]) == 220
    # as near, but a hull would fill the corner between two bars
    across, down = [2, 2, 32, 2, 32, 4, 2, 4], [2, 6, 4, 6, 4, 26, 2, 26]
    assert cleaned([across, down], 40, 30).changes == ["largest part taken"]
    assert area([across, down]) == 60


def test_of_parts_far_apart_the_largest_is_taken() -> None:
    far = [20, 2, 25, 2, 25, 12, 20, 12]  # 8 px away, half as large
    assert cleaned([far, SQUARE], 40, 30).changes == ["largest part taken"]
    assert (area([far, SQUARE]), raw_area([far, SQUARE], 40, 30)) == (100, 150)


def test_holes_are_filled() -> None:
    # a ring with a slit: its inside is a hole once the slit's sides touch
    slit = [2, 2, 12, 2, 12, 12, 2, 12, 2, 7, 4, 7, 4, 10, 10, 10, 10, 4, 4, 4, 4, 7, 2, 7]
    one = cleaned([slit], 40, 30)
    assert one.changes == ["repaired", "holes filled"]
    assert (area([slit]), raw_area([slit], 40, 30)) == (100, 100 - 36)


def test_what_reaches_outside_is_clipped() -> None:
    one = cleaned([[-5, -5, 5, -5, 5, 5, -5, 5]], 40, 30)
    assert one.changes == ["clipped at the edge"]
    assert area([[-5, -5, 5, -5, 5, 5, -5, 5]]) == 25
    far = [35, 25, 4e6, 25, 4e6, 4e6, 35, 4e6]
    assert area([far]) == 25
    assert raw_area([far], 40, 30) == (80 - 35) * (60 - 25)  # as far as one picture beside this one


def test_a_ring_of_two_points_beside_a_right_one() -> None:
    one = cleaned([SQUARE, [1, 1, 2, 2]], 40, 30)
    assert (one.changes, one.reason, area([SQUARE, [1, 1, 2, 2]])) == (
        ["ring of fewer than three points left out"],
        None,
        100,
    )
