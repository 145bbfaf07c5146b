import numpy as np
import pytest

from instar.metrics.counts import count_agreement

NOTHING = {"slope": None, "intercept": None, "r2": None, "bias": None, "mae": None, "mape": None}


def test_counts_of_nothing() -> None:
    assert count_agreement(np.zeros(0), np.zeros(0)) == {"n": 0, **NOTHING}


def test_counts_of_one_photograph_make_no_line() -> None:
    assert count_agreement(np.array([10]), np.array([8])) == {**NOTHING, "n": 1, "bias": -2, "mae": 2, "mape": 0.2}
    assert count_agreement(np.array([0]), np.array([3])) == {**NOTHING, "n": 1, "bias": 3, "mae": 3, "mape": None}


def test_counts_by_hand() -> None:
    found = count_agreement(np.array([0, 10, 20]), np.array([2, 10, 24]))
    # means 10 and 12; 100 + 100 across, (-10)(-10) + 10 * 12 = 220 both, 100 + 4 + 144 = 248 up
    expected = {"n": 3, "slope": 1.1, "intercept": 1.0, "r2": 220**2 / (200 * 248), "bias": 2, "mae": 2}
    assert found == pytest.approx({**expected, "mape": (0 + 0.2) / 2})


def test_counts_on_the_line() -> None:
    known = np.array([36, 300, 3228])
    assert count_agreement(known, known) == pytest.approx(
        {"n": 3, "slope": 1, "intercept": 0, "r2": 1, "bias": 0, "mae": 0, "mape": 0}, abs=1e-9
    )


def test_counts_that_do_not_vary() -> None:
    assert count_agreement(np.array([1, 3]), np.array([5, 5]))["r2"] is None
    assert count_agreement(np.array([1, 3]), np.array([5, 5]))["slope"] == 0
    assert count_agreement(np.array([3, 3]), np.array([4, 5]))["slope"] is None
