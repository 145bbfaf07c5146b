"""Insects of overlapping sub-images put together, with masks small enough to draw by hand."""

import numpy as np

from instar.masks import Masks, from_bitmaps, no_masks
from instar.records.trays.assemble import CUT_PAIRS, STAYING_PAIRS, WHOLE_PAIRS, Joined, joined, overlaps

SIZE = 100, 40
#: Two sub-images with the columns 40 to 59 in common.
WINDOWS = np.array([[0, 0, 60, 40], [40, 0, 100, 40]], np.int64)

Box = tuple[int, int, int, int]


def boxes(*given: Box) -> Masks:
    shapes = [np.ones((y_max - y_min, x_max - x_min), bool) for x_min, y_min, x_max, y_max in given]
    return from_bitmaps(shapes, [(x_min, y_min) for x_min, y_min, _, _ in given])


def put_together(*given: tuple[int, Box], windows: np.ndarray = WINDOWS, size: tuple[int, int] = SIZE) -> Joined:
    tiles = np.array([tile for tile, _ in given], np.int64)
    return joined(boxes(*(box for _, box in given)), windows, size, tiles)


def found(one: Joined) -> list[list[float]]:
    return sorted(one.masks.boxes().tolist())


def test_nothing() -> None:
    one = joined(no_masks(), WINDOWS, SIZE, np.zeros(0, np.int64))
    assert (len(one.masks), one.members) == (0, [])


def test_what_only_one_sub_image_shows_stays() -> None:
    one = put_together((0, (5, 5, 15, 15)), (1, (80, 5, 90, 15)))
    assert found(one) == [[5, 5, 15, 15], [80, 5, 90, 15]]


def test_two_insects_of_which_each_is_outlined_on_one_sub_image_stay_two() -> None:
    # a springtail on a beetle; both lie whole in both sub-images
    one = put_together((0, (44, 5, 56, 35)), (1, (48, 15, 52, 19)))
    assert found(one) == [[44, 5, 56, 35], [48, 15, 52, 19]]


def test_a_springtail_does_not_swallow_a_beetle_that_a_border_cuts() -> None:
    # sub-image 0 shows the beetle up to column 60; the springtail lies whole on it in sub-image 1
    beetle, springtail = (30, 5, 60, 17), (48, 9, 52, 13)
    one = put_together((0, beetle), (1, springtail))
    assert found(one) == [list(beetle), list(springtail)]
    assert (one.counts[CUT_PAIRS], one.counts[STAYING_PAIRS]) == (0, 1)
    # nor one that is cut, too
    beetle, springtail = (30, 5, 60, 17), (40, 9, 44, 13)
    assert found(put_together((0, beetle), (1, springtail))) == [list(beetle), list(springtail)]


def test_pairs_are_counted_by_what_becomes_of_them() -> None:
    one = put_together(
        *((0, (45, 5, 55, 15)), (1, (45, 6, 55, 16))),  # both whole
        *((0, (50, 20, 60, 30)), (1, (50, 20, 70, 30))),  # one cut
        *((0, (44, 31, 54, 37)), (1, (46, 32, 50, 36))),  # of one animal the whole and the body alone, IoU 16 / 60
        *((0, (55, 31, 58, 39)), (1, (57, 31, 59, 39))),  # neighbours: half of the second one in common, IoU 8 / 32
        *((0, (5, 5, 9, 9)), (1, (95, 5, 99, 9))),
    )
    assert len(one.masks) == 2 + 6
    assert [one.counts[name] for name in (WHOLE_PAIRS, CUT_PAIRS, STAYING_PAIRS)] == [1, 1, 2]


def test_a_pair_that_a_third_sub_image_joins_does_not_stay_two() -> None:
    windows = np.array([[0, 0, 60, 40], [30, 0, 100, 40], [20, 0, 90, 40]], np.int64)
    body, whole, middle = (40, 10, 45, 20), (40, 10, 60, 20), (40, 10, 50, 20)  # IoU 0.25; 0.5 with the middle
    one = put_together((0, body), (1, whole), (2, middle), windows=windows)
    assert (len(one.masks), one.counts[STAYING_PAIRS]) == (1, 0)


def test_an_insect_in_the_common_part_counts_once() -> None:
    one = put_together((0, (45, 5, 55, 15)), (1, (46, 6, 56, 16)))
    assert [group.tolist() for group in one.members] == [[1, 0]]  # 5 px from the border of one, 6 from the other's
    assert found(one) == [[46, 6, 56, 16]]


def test_the_whole_one_is_kept_of_an_insect_that_a_border_cuts() -> None:
    # sub-image 0 ends at column 60, and shows only 10 of its 20 columns; 10 of 20 columns lie in common
    one = put_together((0, (50, 5, 60, 15)), (1, (50, 5, 70, 15)))
    assert found(one) == [[50, 5, 70, 15]]
    assert one.members[0].tolist() == [1, 0]


def test_halves_that_no_sub_image_shows_whole_are_united() -> None:
    one = put_together((0, (30, 5, 60, 15)), (1, (40, 5, 80, 15)))
    assert found(one) == [[30, 5, 80, 15]]
    assert one.counts["insects united from parts"] == 1


def test_the_photographs_own_edge_cuts_nothing() -> None:
    one = put_together((0, (0, 0, 60, 10)), (1, (40, 0, 80, 10)))
    assert found(one) == [[0, 0, 80, 10]]
    # whole in sub-image 1 although it touches the photograph's upper edge
    one = put_together((0, (45, 0, 60, 10)), (1, (45, 0, 70, 10)))
    assert found(one) == [[45, 0, 70, 10]]
    assert one.counts["insects united from parts"] == 0


def test_neighbours_stay_two() -> None:
    one = put_together((0, (42, 5, 50, 15)), (1, (50, 5, 58, 15)))
    assert len(one.masks) == 2
    # a third of the smaller one in common
    one = put_together((0, (42, 5, 51, 15)), (1, (48, 5, 58, 15)))
    assert len(one.masks) == 2


def test_an_insect_on_top_of_a_larger_one_stays_itself() -> None:
    large, small = (42, 2, 58, 18), (46, 6, 50, 10)
    one = put_together((0, large), (0, small), (1, small), (1, large))
    assert found(one) == [list(large), list(small)]


def test_two_pieces_of_one_insect_at_a_border() -> None:
    # sub-image 0 shows the two legs of a U that the border cuts, sub-image 1 the whole
    u = np.ones((20, 20), bool)
    u[5:15, :10] = False
    legs = [np.ones((5, 10), bool), np.ones((5, 10), bool)]
    masks = from_bitmaps([*legs, u], [(50, 5), (50, 20), (50, 5)])
    one = joined(masks, WINDOWS, SIZE, np.array([0, 0, 1]))
    assert [group.tolist() for group in one.members] == [[2, 0, 1]]
    assert one.masks.areas().tolist() == [300]


def test_a_corner_that_four_sub_images_show() -> None:
    windows = np.array([[x, y, x + 60, y + 60] for y in (0, 40) for x in (0, 40)], np.int64)
    box = (45, 45, 55, 55)
    one = put_together(*((tile, box) for tile in range(4)), windows=windows, size=(100, 100))
    assert found(one) == [list(box)]
    assert len(one.members[0]) == 4


def test_overlaps_by_hand() -> None:
    ios, iou = overlaps(boxes((0, 0, 4, 4), (9, 9, 10, 10)), boxes((2, 0, 4, 4)))
    assert ios.tolist() == [[1.0], [0.0]]
    assert iou.tolist() == [[0.5], [0.0]]
    assert overlaps(no_masks(), boxes((0, 0, 1, 1)))[0].shape == (0, 1)
    assert overlaps(no_masks(2), boxes((0, 0, 1, 1)))[0].tolist() == [[0.0], [0.0]]
