import numpy as np
import pytest

from instar.boxes import box_areas, box_with_margin, clipped_boxes, iou_matrix, non_empty, order_by_score

EMPTY = np.zeros((0, 4), np.float32)


def test_functions_of_no_box_give_no_box() -> None:
    assert box_areas(EMPTY).shape == (0,)
    assert iou_matrix(EMPTY, EMPTY).shape == (0, 0)
    assert iou_matrix(EMPTY, np.ones((3, 4))).shape == (0, 3)
    assert clipped_boxes(EMPTY, 10, 10).shape == (0, 4)
    assert non_empty(EMPTY).shape == (0,)
    assert order_by_score(EMPTY, np.zeros(0)).tolist() == []


def test_box_areas_of_turned_box_is_zero() -> None:
    assert box_areas(np.array([[1, 2, 4, 8], [4, 2, 1, 8]])).tolist() == [18, 0]


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ([0, 0, 10, 10], 1.0),
        ([5, 0, 15, 10], 50 / 150),
        ([10, 0, 20, 10], 0.0),  # side by side: max is exclusive
        ([20, 20, 30, 30], 0.0),  # apart in both directions
        ([2, 2, 4, 4], 4 / 100),
        ([3, 3, 3, 3], 0.0),
    ],
)
def test_iou_matrix(other: list[float], iou: float) -> None:
    assert iou_matrix(np.array([[0, 0, 10, 10]]), np.array([other]))[0, 0] == pytest.approx(iou)


def test_iou_matrix_of_two_empty_boxes_is_zero() -> None:
    assert iou_matrix(np.array([[3, 3, 3, 3]]), np.array([[3, 3, 3, 3]])).tolist() == [[0]]


def test_clipped_boxes_and_non_empty() -> None:
    boxes = clipped_boxes(np.array([[-3, 2, 5, 9], [8, 8, 30, 30], [12, 0, 20, 5]]), 10, 8)
    assert boxes.tolist() == [[0, 2, 5, 8], [8, 8, 10, 8], [10, 0, 10, 5]]
    assert non_empty(boxes).tolist() == [True, False, False]
    assert non_empty(np.array([[0, 0, np.nan, 4], [0, 0, np.inf, 4]])).tolist() == [False, False]


def test_order_by_score_breaks_ties_by_coordinates() -> None:
    boxes = np.array([[5, 0, 9, 9], [1, 3, 9, 9], [1, 2, 9, 9], [7, 7, 9, 9]])
    assert order_by_score(boxes, np.array([0.5, 0.5, 0.5, 0.9])).tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("box", "percent", "expected"),
    [
        ((10, 20, 30, 60), 0, (10, 20, 30, 60)),
        ((10, 20, 30, 60), 10, (8, 16, 32, 64)),
        ((10.4, 20, 30.2, 60), 0, (10, 20, 31, 60)),  # a pixel that the box touches is inside
        ((0, 0, 100, 80), 50, (0, 0, 100, 80)),
        ((10.0001, 20, 30.0001, 60), 0, (10, 20, 30, 60)),  # what float32 adds is no pixel
        ((9.9999, 20, 29.9999, 60), 0, (10, 20, 30, 60)),
        ((50.0002, 50.0002, 50.0008, 50.0008), 0, (50, 50, 51, 51)),
        ((50.2, 50.2, 50.3, 50.3), 0, (50, 50, 51, 51)),
        ((99.9995, 0, 100, 10), 0, (99, 0, 100, 10)),
    ],
)
def test_box_with_margin(box: tuple[float, float, float, float], percent: float, expected: tuple[int, ...]) -> None:
    assert box_with_margin(box, margin_percent=percent, width=100, height=80) == expected
