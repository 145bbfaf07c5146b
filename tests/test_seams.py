import numpy as np

from instar.metrics.overlaps import box_overlaps
from instar.metrics.seams import duplicates, inner_edges, near_edges

#: Two tiles beside each other, 20 of 100 pixels in common.
TILES = [(0, 0, 100, 100), (80, 0, 180, 100)]


def test_seams_of_nothing() -> None:
    assert inner_edges([]).shape == inner_edges([(0, 0, 100, 100)]).shape == (0, 4)
    assert near_edges(np.zeros((0, 4)), inner_edges(TILES), 5).tolist() == []
    assert near_edges(np.array([[0, 0, 9, 9]]), np.zeros((0, 4)), 5).tolist() == [False]
    nothing = box_overlaps(np.zeros((0, 4)), np.zeros((0, 4)))
    assert duplicates(nothing, np.zeros(0, np.int64), np.zeros(0, bool), threshold=0.5).tolist() == []


def test_inner_edges_by_hand() -> None:
    assert inner_edges(TILES).tolist() == [[80, 0, 80, 100], [100, 0, 100, 100]]
    # of four tiles at the corner of a region every edge but the outer ones
    square = [(x, y, x + 60, y + 60) for y in (10, 50) for x in (10, 50)]
    upright = {(x, y, x, y + 60) for x in (50, 70) for y in (10, 50)}
    lying = {(left, x, right, x) for x, left, _, right in upright}
    assert {tuple(edge) for edge in inner_edges(square).tolist()} == upright | lying


def test_near_edges_by_hand() -> None:
    boxes = np.array([[70, 10, 74, 20], [70, 10, 75, 20], [85, 10, 90, 20], [86, 10, 94, 20], [105.5, 0, 120, 9]])
    # 80 - 75 and 85 - 80 are 5 pixels, 86 - 80 and 100 - 94 are 6
    assert near_edges(boxes, inner_edges(TILES), 5).tolist() == [False, True, True, False, False]
    assert near_edges(np.array([[70, 10, 110, 20]]), inner_edges(TILES), 0).tolist() == [True]
    # the edge is only as long as its tile
    assert near_edges(np.array([[90, 120, 110, 130]]), inner_edges(TILES), 5).tolist() == [False]


def test_duplicates_by_hand() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]])
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 4, 4], [8, 8, 12, 12], [20, 0, 30, 4], [0, 0, 10, 10]])
    animal = np.array([0, -1, -1, -1, -1, -1])
    kept = np.array([True, True, True, True, True, False])
    given = duplicates(box_overlaps(found, truth), animal, kept, threshold=0.5)
    # one of 60 % of the animal, a part of it, one at its corner; nobody is matched with the second animal; not kept
    assert given.tolist() == [False, True, True, False, False, False]
    # where the one that is matched is not kept, there is nothing to be the duplicate of
    kept[0] = False
    assert not duplicates(box_overlaps(found, truth), animal, kept, threshold=0.5).any()
