"""Tests of instar.metrics.bootstrap."""

import math
from typing import Any

import numpy as np
import pytest

from instar.metrics import bootstrap
from instar.metrics.bootstrap import cluster_bootstrap


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
