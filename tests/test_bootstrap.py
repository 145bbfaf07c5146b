"""Tests of instar.metrics.bootstrap."""

import math
from typing import Any

import numpy as np
import pytest

from instar.metrics import bootstrap
from instar.metrics.bootstrap import COVERAGE, COVERED_CLUSTERS, cluster_bootstrap, crossed_bootstrap


def test_nothing() -> None:
    assert all(math.isnan(bound) for bound in cluster_bootstrap(np.empty(0), np.empty(0), resamples=10, seed=0))


def test_equal_values_have_no_width() -> None:
    values = np.full(10, 0.25)
    assert cluster_bootstrap(values, np.arange(10), resamples=50, seed=0) == (0.25, 0.25)


def test_one_cluster_is_always_drawn_whole() -> None:
    assert cluster_bootstrap(np.array([0.0, 1.0, 1.0, 1.0]), np.zeros(4), resamples=50, seed=0) == (0.75, 0.75)


def test_two_clusters_by_hand() -> None:
    # two draws of {0} and {1, 1}: means 0 with probability 1/4, 2/3 with 1/2, 1 with 1/4
    values, clusters = np.array([0.0, 1.0, 1.0]), np.array(["a", "b", "b"])
    assert cluster_bootstrap(values, clusters, resamples=2000, seed=0) == (0.0, 1.0)


def test_macro_of_two_clusters_by_hand() -> None:
    # group x holds cluster a, group y cluster b: a resample of one cluster twice has one group, else the mean is 1/2
    values, clusters, groups = np.array([0.0, 1.0, 1.0]), np.array(["a", "b", "b"]), np.array(["x", "y", "y"])
    assert cluster_bootstrap(values, clusters, resamples=2000, seed=0, groups=groups) == (0.0, 1.0)
    assert cluster_bootstrap(values, np.zeros(3), resamples=9, seed=0, groups=groups) == (0.5, 0.5)


def test_covers_the_mean_of_independent_trials_as_the_normal_interval_does() -> None:
    values = np.random.default_rng(5).random(400) < 0.7
    low, high = cluster_bootstrap(values.astype(float), np.arange(400), resamples=4000, seed=0)
    half = 1.96 * np.sqrt(values.mean() * (1 - values.mean()) / 400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)


def test_values_that_repeat_within_clusters_widen_the_interval() -> None:
    trials = (np.random.default_rng(5).random(50) < 0.7).astype(float)
    repeated, clusters = np.repeat(trials, 8), np.repeat(np.arange(50), 8)
    clustered = cluster_bootstrap(repeated, clusters, resamples=2000, seed=0)
    assert clustered == cluster_bootstrap(trials, np.arange(50), resamples=2000, seed=0)
    naive = cluster_bootstrap(repeated, np.arange(400), resamples=2000, seed=0)
    assert clustered[1] - clustered[0] > 2 * (naive[1] - naive[0])


def test_neither_the_order_nor_the_chunk_matters_but_the_seed_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values, clusters, groups = rng.random(60), rng.integers(0, 20, 60), rng.integers(0, 3, 60)
    whole = cluster_bootstrap(values, clusters, resamples=300, seed=0, groups=groups)
    order = rng.permutation(60)
    shuffled = cluster_bootstrap(values[order], clusters[order], resamples=300, seed=0, groups=groups[order])
    assert shuffled == pytest.approx(whole)
    assert cluster_bootstrap(values, clusters, resamples=300, seed=1, groups=groups) != whole
    monkeypatch.setattr(bootstrap, "CHUNK", 70)  # three resamples at a time
    assert cluster_bootstrap(values, clusters, resamples=300, seed=0, groups=groups) == pytest.approx(whole)


def test_the_difference_of_two_methods_is_the_bootstrap_of_their_differences() -> None:
    """Means over crops and means over classes are linear, so one of differences is the paired one of both methods."""
    rng = np.random.default_rng(2)
    first, second = rng.random(60), rng.random(60)
    clusters, groups = rng.integers(0, 20, 60), rng.integers(0, 3, 60)
    for given in (None, groups):
        settings: dict[str, Any] = {"resamples": 400, "seed": 0, "groups": given}
        paired = cluster_bootstrap(first - second, clusters, **settings)
        assert cluster_bootstrap(first - second + 1, clusters, **settings) == pytest.approx(
            (paired[0] + 1, paired[1] + 1)
        )
    # macro by hand: class x differs by 1 in cluster a, class y by 0 in b; a resample without y has mean 1
    low, high = cluster_bootstrap(
        np.array([1.0, 0.0, 0.0]), np.array(["a", "b", "b"]), groups=np.array([0, 1, 1]), resamples=500, seed=0
    )
    assert (low, high) == (0, 1)


def test_crossed_bootstrap_of_nothing_is_nan() -> None:
    low, high = crossed_bootstrap(np.empty((3, 0)), np.empty(0), resamples=100, seed=0)
    assert math.isnan(low)
    assert math.isnan(high)


def test_crossed_bootstrap_of_one_training_resamples_clusters_alone() -> None:
    """Two clusters, 0 and 1, of which one is drawn: a resample's mean is 0 or 1."""
    values, clusters = np.array([[0.0, 0, 1, 1]]), np.array(["a", "a", "b", "b"])
    assert crossed_bootstrap(values, clusters, resamples=1000, seed=0) == (0, 1)


def test_crossed_bootstrap_draws_one_cluster_fewer_than_there_are() -> None:
    """Three of 0, 0, 0 and 1: means 0, 1/3, 2/3 and 1 with 27, 27, 9 and 1 of 64; of four, 3/4 would have 12 of 256."""
    low, high = crossed_bootstrap(np.array([[0.0, 0, 0, 1]]), np.arange(4), resamples=10_000, seed=0)
    assert (low, high) == pytest.approx((0, 2 / 3))


def test_crossed_bootstrap_of_one_cluster_resamples_trainings_alone() -> None:
    """Two trainings, 0 and 1: a draw's mean is 0, 1/2 or 1, whose deviation from 1/2 is stretched by the root of 2."""
    values = np.array([[0.0, 0], [1, 1]])
    low, high = crossed_bootstrap(values, np.array(["a", "a"]), resamples=1000, seed=0)
    assert (low, high) == pytest.approx((0.5 - np.sqrt(0.5), 0.5 + np.sqrt(0.5)))
    assert crossed_bootstrap(np.ones((2, 2)), np.array(["a", "a"]), resamples=100, seed=0) == (1, 1)


def test_both_what_was_judged_and_what_was_trained_widen_the_interval() -> None:
    """Additive effects of trainings and clusters: the pigeonhole bootstrap's variance is near the sum of both.

    With effects a of S trainings and b of C clusters a resample's mean is mean(a*) + mean(b*), whose variances are
    those of a and b, with the divisors S - 1 and C - 1, by S and C.
    """
    rng = np.random.default_rng(3)
    of_trainings, of_clusters = rng.normal(0, 1, 8), rng.normal(0, 3, 60)
    values = of_trainings[:, None] + of_clusters
    low, high = crossed_bootstrap(values, np.arange(60), resamples=20_000, seed=0)
    half = 1.96 * np.sqrt(of_trainings.var(ddof=1) / 8 + of_clusters.var(ddof=1) / 60)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    alone = crossed_bootstrap(values.mean(axis=0)[None], np.arange(60), resamples=20_000, seed=0)
    assert high - low > 1.15 * (alone[1] - alone[0])


def test_three_trainings_are_not_taken_for_less_variance_than_they_show() -> None:
    """Trainings -1, 0 and 1 (s² = 1) and clusters that vary a little more: the interval of both is near normal."""
    of_clusters = np.random.default_rng(3).normal(0, 1, 40)
    of_clusters *= np.sqrt(40) * 0.7 / of_clusters.std(ddof=1)
    values = np.array([-1.0, 0, 1])[:, None] + of_clusters - of_clusters.mean()
    low, high = crossed_bootstrap(values, np.arange(40), resamples=40_000, seed=0)
    half = 1.96 * np.sqrt(1 / 3 + 0.7**2)  # 1.78; 1.65 with two thirds of the trainings' variance
    assert (low, high) == pytest.approx((-half, half), abs=0.05)


def test_five_clusters_are_not_taken_for_less_variance_than_they_show() -> None:
    """Trainings -1, 0, 1 (s² = 1) and clusters -2 to 2 (s² = 5 / 2): the interval of both is near normal."""
    values = np.array([-1.0, 0, 1])[:, None] + np.arange(-2, 3)
    low, high = crossed_bootstrap(values, np.arange(5), resamples=40_000, seed=0)
    half = 1.96 * np.sqrt(1 / 3 + 2.5 / 5)  # 1.79; 1.68 with four fifths of the clusters' variance
    assert (low, high) == pytest.approx((-half, half), abs=0.05)


@pytest.mark.parametrize(("kind", "trainings", "observations"), [(0, 0.0, 1.0), (1, 1.0, 1.0), (2, 1.0, 0.0)])
def test_the_coverage_told_is_that_of_a_simulation(kind: int, trainings: float, observations: float) -> None:
    """Normal effects of three trainings and of observations, with these standard errors, about a true mean of 0."""
    told = list(COVERAGE.values())[kind]
    for clusters, share in zip(COVERED_CLUSTERS, told, strict=True):
        rng, held, repeats = np.random.default_rng(0), 0, 400
        for seed in range(repeats):
            of_trainings = rng.normal(0, trainings * np.sqrt(3), (3, 1))
            values = of_trainings + rng.normal(0, observations * np.sqrt(clusters), clusters)
            low, high = crossed_bootstrap(values, np.arange(clusters), resamples=300, seed=seed)
            held += low <= 0 <= high
        assert held / repeats == pytest.approx(share, abs=0.04)


def test_crossed_bootstrap_of_groups_is_the_mean_of_their_means() -> None:
    # class x is right in all trainings, class y in none, in clusters of their own: a resample holds both or one
    values = np.array([[1.0, 1, 1, 0], [1, 1, 1, 0]])
    groups = np.array(["x", "x", "x", "y"])
    assert crossed_bootstrap(values, np.array(["a"] * 4), resamples=100, seed=0, groups=groups) == (0.5, 0.5)
    assert crossed_bootstrap(values, np.array(["a"] * 4), resamples=100, seed=0) == (0.75, 0.75)
    apart = np.array(["a", "a", "a", "b"])
    assert crossed_bootstrap(values, apart, resamples=500, seed=0, groups=groups) == (0, 1)


def test_neither_order_nor_chunk_matters_to_the_crossed_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values, clusters, groups = rng.random((3, 60)), rng.integers(0, 20, 60), rng.integers(0, 3, 60)
    whole = crossed_bootstrap(values, clusters, resamples=300, seed=0, groups=groups)
    order = rng.permutation(60)
    shuffled = crossed_bootstrap(values[:, order], clusters[order], resamples=300, seed=0, groups=groups[order])
    assert shuffled == pytest.approx(whole)
    assert crossed_bootstrap(values, clusters, resamples=300, seed=1, groups=groups) != whole
    monkeypatch.setattr(bootstrap, "CHUNK", 70)  # one resample at a time
    assert crossed_bootstrap(values, clusters, resamples=300, seed=0, groups=groups) == pytest.approx(whole)
