"""Tests of instar.metrics.reid."""

import numpy as np
import pytest

from instar.metrics.reid import Ranking, cmc, figures, identity_ranking, joined, photograph_ranking

NONE = -np.inf


def test_nothing() -> None:
    empty = photograph_ranking(np.zeros((0, 3)), np.zeros((0, 3), bool))
    assert empty.rank.shape == (0,)
    assert joined([]).rank.shape == (0,)
    assert identity_ranking(np.zeros((0, 2)), np.zeros(0, np.int64)).rank.shape == (0,)
    assert cmc(empty, 2).tolist() == [0, 0]
    found = figures(empty, np.zeros(0, object), resamples=10, seed=0)
    assert found["queries"] == 0 and found["map"] is None


def test_average_precision_by_hand() -> None:
    # right, wrong, right, wrong, right: (1/1 + 2/3 + 3/5) / 3
    similarity = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]])
    found = photograph_ranking(similarity, np.array([[True, False, True, False, True]]))
    assert found.rank.tolist() == [1]
    assert found.precision.tolist() == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3])


def test_what_does_not_count_is_left_out() -> None:
    # the query itself is most alike, and one wrong photograph is of its encounter
    similarity, same = np.array([[NONE, NONE, 0.3, 0.2]]), np.array([[True, False, True, False]])
    found = photograph_ranking(similarity, same)
    assert (found.rank.tolist(), found.precision.tolist()) == ([1], [1])
    nobody = photograph_ranking(np.array([[0.9, NONE]]), np.array([[False, True]]))
    assert (nobody.rank.tolist(), nobody.counts.tolist()) == ([0], [False])


def test_of_equal_ones_the_wrong_come_first_in_whatever_order() -> None:
    similarity = np.full((1, 4), 0.5)
    for same in ([True, True, False, False], [False, True, False, True]):
        found = photograph_ranking(similarity, np.array([same]))
        assert found.rank.tolist() == [3]
        assert found.precision.tolist() == pytest.approx([(1 / 3 + 2 / 4) / 2])


def test_equal_to_the_average_precision_of_scikit_learn_where_nothing_is_equal() -> None:
    from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]

    rng = np.random.default_rng(0)
    similarity, same = rng.random((20, 50)), rng.random((20, 50)) < 0.2
    same[:, 0] = True
    found = photograph_ranking(similarity, same)
    expected = [average_precision_score(a, b) for a, b in zip(same, similarity, strict=True)]
    assert found.precision == pytest.approx(expected)


def test_identities() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.4, 0.4, 0.1], [0.2, NONE, 0.1], [0.3, 0.2, 0.1]])
    found = identity_ranking(scores, np.array([2, 0, 1, -1]))
    assert found.rank.tolist() == [2, 2, 0, 0]
    assert found.precision.tolist() == [0.5, 0.5, 0, 0]


def test_cmc() -> None:
    ranking = Ranking(np.array([1, 3, 0, 1, 9]), np.zeros(5))
    assert cmc(ranking, 4).tolist() == [0.5, 0.5, 0.75, 0.75]
    assert cmc(ranking, 3).tolist() == [0.5, 0.5, 0.75]


def test_figures() -> None:
    ranking = joined([Ranking(np.array([1, 2]), np.array([1, 0.5])), Ranking(np.array([0]), np.array([0.0]))])
    found = figures(ranking, np.array(["a", "b", "c"]), resamples=200, seed=0, ranks=(1, 2))
    assert (found["queries"], found["without_match"]) == (2, 1)
    assert found["rank_1"] == {"value": 0.5, "low": 0, "high": 1}
    assert found["rank_2"] == {"value": 1, "low": 1, "high": 1}
    assert found["map"] == {"value": 0.75, "low": 0.5, "high": 1}
    together = figures(ranking, np.array(["a", "a", "c"]), resamples=20, seed=0)
    assert together["rank_1"] == {"value": 0.5, "low": 0.5, "high": 0.5}
