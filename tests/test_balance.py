"""Tests of instar.balance."""

import numpy as np
import pytest

from instar.balance import effective_number_weights


def test_no_classes() -> None:
    assert effective_number_weights(np.array([], dtype=np.int64), beta=0.9, max_weight=10).shape == (0,)


def test_by_hand() -> None:
    # E_1 = 1, E_2 = 1 + 0.5 = 1.5, E_3 = 1.5 + 0.25 = 1.75; 1 / E_n is 1, 2/3, 4/7, with mean 47/63
    weights = effective_number_weights(np.array([1, 2, 3]), beta=0.5, max_weight=100)
    np.testing.assert_allclose(weights, np.array([63, 42, 36]) / 47, rtol=1e-12)


def test_beta_of_zero_gives_equal_weights() -> None:
    weights = effective_number_weights(np.array([1, 50, 10**9]), beta=0.0, max_weight=100)
    np.testing.assert_array_equal(weights, np.ones(3))


def test_beta_towards_one_gives_the_inverse_frequency() -> None:
    weights = effective_number_weights(np.array([1, 10, 1000]), beta=1 - 1e-12, max_weight=1e9)
    np.testing.assert_allclose(weights / weights[2], [1000, 100, 1], rtol=1e-4)


def test_no_weight_exceeds_the_multiple_of_the_smallest() -> None:
    # E_1 = 1 and E_3 = 1.75: uncapped 1.75 times, capped 1.5 times, so 1.2 and 0.8
    weights = effective_number_weights(np.array([1, 3]), beta=0.5, max_weight=1.5)
    np.testing.assert_allclose(weights, [1.2, 0.8], rtol=1e-12)


@pytest.mark.parametrize(
    ("counts", "beta", "max_weight", "message"),
    [
        ([3, 0], 0.9, 10.0, "class 1 has 0"),
        ([3], 1.0, 10.0, "beta = 1.0"),
        ([3], -0.1, 10.0, "beta = -0.1"),
        ([3], float("nan"), 10.0, "beta = nan"),
        ([3], 0.9, 0.5, "max_weight = 0.5"),
        ([3], 0.9, float("nan"), "max_weight = nan"),
    ],
)
def test_refuses(counts: list[int], beta: float, max_weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effective_number_weights(np.array(counts), beta=beta, max_weight=max_weight)
