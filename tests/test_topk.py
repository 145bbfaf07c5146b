"""Tests of instar.metrics.topk."""

import numpy as np
import pytest

from instar.metrics.topk import top_hits, top_indices

SCORES = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]])


def test_nothing() -> None:
    top = top_indices(np.empty((0, 3)), 2)
    assert top.shape == (0, 2)
    assert top_hits(top, np.empty(0, dtype=np.int64), 1).shape == (0,)


def test_best_first_and_the_first_of_equal_ones() -> None:
    assert top_indices(SCORES, 2).tolist() == [[1, 2], [0, 2]]


def test_more_than_there_are_classes() -> None:
    assert top_indices(SCORES, 5).tolist() == [[1, 2, 0], [0, 2, 1]]


@pytest.mark.parametrize(("k", "expected"), [(1, [False, True]), (2, [True, True]), (9, [True, True])])
def test_hits(k: int, expected: list[bool]) -> None:
    assert top_hits(np.array([[1, 2, 0], [0, 2, 1]]), np.array([2, 0]), k).tolist() == expected


def test_no_hit_where_the_target_is_not_listed() -> None:
    assert top_hits(np.array([[1, 2]]), np.array([0]), 5).tolist() == [False]
