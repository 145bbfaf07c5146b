"""Overlays and the choice of patches, by hand."""

import numpy as np

from instar.masks import from_bitmaps, no_masks
from instar.report.overlays import MISSED, RIGHT, WRONG, Patch, chosen, overlay, patches

NOTHING = np.zeros(0, bool)


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert (overlay(picture, no_masks(), no_masks(), NOTHING, NOTHING) == picture).all()
    assert (overlay(picture, no_masks(1), no_masks(1), np.array([True]), np.array([True])) == picture).all()


def test_colours_outlines_and_fill() -> None:
    picture = np.full((12, 20, 3), 200, np.uint8)
    square = np.ones((5, 5), bool)
    found = from_bitmaps([square, square], [(1, 1), (8, 1)])
    truth = from_bitmaps([square, square], [(1, 1), (14, 6)])
    drawn = overlay(picture, found, truth, np.array([True, False]), np.array([False, True]))
    assert tuple(drawn[1, 1]) == tuple(drawn[5, 5]) == RIGHT
    assert tuple(drawn[1, 8]) == WRONG
    assert tuple(drawn[10, 18]) == MISSED
    # 0.7 * 200 + 0.3 * (0, 158, 115)
    assert tuple(drawn[3, 3]) == (140, 187, 174) or tuple(drawn[3, 3]) == (140, 187, 175)
    assert tuple(drawn[0, 0]) == tuple(drawn[7, 3]) == (200, 200, 200)
    assert (picture == 200).all()


def test_a_mask_that_the_border_cuts_has_no_outline_there() -> None:
    picture = np.zeros((6, 6, 3), np.uint8)
    found = from_bitmaps([np.ones((20, 20), bool)], [(-10, -10)])
    drawn = overlay(picture, found, no_masks(), np.array([False]), NOTHING)
    assert tuple(drawn[0, 0]) == tuple(drawn[5, 5]) == (64, 28, 0)  # 0.3 of the colour


def test_patches_count_what_has_its_middle_in_them() -> None:
    points = np.array([[0.0, 0.0], [7.9, 9.9], [8.0, 0.0], [24.9, 19.0], [25.0, 20.0]])
    none = np.zeros((0, 2))
    found = patches("a", (25, 20), {"right": points, "wrong": none, "missed": none, "animals": points[:2]}, side=10)
    assert [patch.box for patch in found][:3] == [(0, 0, 8, 10), (8, 0, 17, 10), (17, 0, 25, 10)]
    assert [patch.right for patch in found] == [2, 1, 0, 0, 0, 2]  # the last one lies on the border
    assert [patch.animals for patch in found] == [2, 0, 0, 0, 0, 0]


def patch(key: str, right: int, wrong: int, missed: int) -> Patch:
    return Patch(key, (0, 0, 1, 1), right, wrong, missed, right + missed)


def test_patches_are_chosen_by_the_rule() -> None:
    assert chosen([]) == {}
    assert chosen([patch("empty", 0, 0, 0)]) == {}
    # F1: 0.8, 0.4, 1, 2 / 3, 0; the median of those with animals is 2 / 3
    found = [patch("a", 6, 0, 3), patch("b", 2, 6, 0), patch("c", 1, 0, 0), patch("d", 2, 1, 1), patch("e", 0, 1, 3)]
    taken = chosen(found)
    assert {name: one.key for name, one in taken.items()} == {
        "most crowded": "a",
        "most errors": "b",
        "typical": "d",
    }
    assert chosen(found[:1]) == {"most crowded": found[0]}  # none is taken twice
    assert chosen(found[::-1]) == taken
