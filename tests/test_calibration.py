"""Tests of instar.metrics.calibration."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from instar.evaluation.calibrated import Halves, Sure, roll_up_at
from instar.metrics.calibration import (
    TEMPERATURES,
    answered_rank,
    expected_calibration_error,
    fitted_temperature,
    negative_log_likelihood,
    reliability_curve,
    roll_up_curve,
)
from instar.splits import id_hash


def of_logits(logits: list[float]) -> Callable[[float], np.ndarray]:
    """Probability of the true one of two classes by how much its logit exceeds the other's, for a temperature."""
    return lambda temperature: 1 / (1 + np.exp(-np.array(logits) / temperature))


def test_nothing() -> None:
    nothing = np.empty(0)
    assert fitted_temperature(lambda temperature: nothing) == 1
    assert len(reliability_curve(nothing, nothing.astype(bool))) == 0
    assert math.isnan(expected_calibration_error(nothing, nothing.astype(bool)))
    assert answered_rank(np.empty((0, 2)), 0.5).shape == (0,)
    curve = roll_up_curve(np.empty((0, 2)), np.empty((0, 2), bool), ["a", "b"], thresholds=np.array([0.5]))
    assert curve.iloc[0, :2].tolist() == [0.5, 0] and curve["accuracy"].isna().tolist() == [True]


def test_temperature_by_hand() -> None:
    # always 0.9 sure, right in 3 of 4: at the optimum it is 0.75 sure, so log 9 / T = log 3
    logits = [math.log(9), math.log(9), math.log(9), -math.log(9)]
    assert fitted_temperature(of_logits(logits)) == pytest.approx(2, abs=1e-3)
    # 0.75 sure, right in 9 of 10
    logits = [math.log(3)] * 9 + [-math.log(3)]
    assert fitted_temperature(of_logits(logits)) == pytest.approx(0.5, abs=1e-3)


def test_temperature_of_a_classifier_that_is_never_wrong_stays_in_its_bounds() -> None:
    assert TEMPERATURES[0] <= fitted_temperature(of_logits([1.0, 2.0])) < 0.1


def test_likelihood_by_hand() -> None:
    assert negative_log_likelihood(np.array([1, math.exp(-3)])) == pytest.approx(1.5)
    assert negative_log_likelihood(np.array([0.0], np.float32)) == pytest.approx(12 * math.log(10))


def test_reliability_by_hand() -> None:
    # two bins: 0.2 and 0.4 with one right, 0.5 (which is of the upper bin), 0.7 and 1.0 with two right
    confidence, right = np.array([0.2, 0.4, 0.5, 0.7, 1.0]), np.array([False, True, True, False, True])
    curve = reliability_curve(confidence, right, bins=2)
    assert curve.to_numpy().tolist() == [
        [0, 0.5, 2, pytest.approx(0.3), 0.5],
        [0.5, 1, 3, pytest.approx(2.2 / 3), pytest.approx(2 / 3)],
    ]
    # |0.5 - 0.3| * 2/5 + |2/3 - 2.2/3| * 3/5
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(0.08 + 0.04)
    assert list(reliability_curve(confidence, right, bins=10)["low"]) == pytest.approx([0.2, 0.4, 0.5, 0.7, 0.9])


#: Best species and best genus of four crops.
CONFIDENCE = np.array([[0.9, 0.95], [0.5, 0.8], [0.3, 0.4], [0.6, 0.6]])


def test_answers_at_the_lowest_sure_rank() -> None:
    assert answered_rank(CONFIDENCE, 0.6).tolist() == [0, 1, -1, 0]
    assert answered_rank(CONFIDENCE, 0).tolist() == [0, 0, 0, 0]
    assert answered_rank(CONFIDENCE, 1).tolist() == [-1, -1, -1, -1]


def test_roll_up_by_hand() -> None:
    right = np.array([[True, True], [False, True], [False, False], [False, True]])
    curve = roll_up_curve(CONFIDENCE, right, ["species", "genus"], thresholds=np.array([0.0, 0.6, 0.96]))
    assert list(curve.columns) == ["threshold", "coverage", "accuracy", "species", "genus"]
    assert curve.iloc[0].tolist() == [0, 1, 0.25, 1, 0]
    # species of the first and the fourth, genus of the second: right, wrong, right
    assert curve.iloc[1].tolist() == [0.6, 0.75, pytest.approx(2 / 3), 0.5, 0.25]
    assert curve[["coverage", "species", "genus"]].iloc[2].tolist() == [0, 0, 0]
    assert curve["accuracy"].isna().tolist() == [False, False, True]


def test_no_half_chooses_its_own_threshold() -> None:
    # one half is right above 0.705, the other above 0.305
    confidence = np.array([[0.9, 0.9], [0.705, 0.705], [0.5, 0.5], [0.305, 0.305]])
    right = np.array([[True, True], [False, False], [True, True], [False, False]])
    sure = Sure(confidence, right, np.array([0, 0, 1, 1]))
    assert [sure.threshold(1.0, half) for half in (0, 1)] == pytest.approx([0.31, 0.71])
    assert sure.threshold(1.0) == pytest.approx(0.71)
    threshold, found = roll_up_at(sure, sure, 1.0, crosswise=True)
    # of the first half both answer at the other's 0.31, of the second none at 0.71
    assert threshold == pytest.approx(0.71)
    assert found == pytest.approx({"coverage": 0.5, "accuracy": 0.5, "species": 0.5, "genus": 0})
    threshold, found = roll_up_at(sure, sure, 1.0, crosswise=False)
    assert threshold == pytest.approx(0.71)
    assert found == pytest.approx({"coverage": 0.25, "accuracy": 1.0, "species": 0.25, "genus": 0})


def test_no_threshold_is_right_often_enough() -> None:
    never = Sure(np.array([[0.9, 0.9]]), np.array([[False, False]]), np.array([0]))
    assert roll_up_at(never, never, 0.5, crosswise=False) == (None, None)


def test_a_threshold_is_kept_where_nothing_confirms_it() -> None:
    # two crops of one half, both right: the other half has nothing to choose theirs on
    sure = Sure(np.array([[0.9, 0.9], [0.6, 0.6]]), np.full((2, 2), True), np.array([0, 0]))
    assert roll_up_at(sure, sure, 0.95, crosswise=True) == (0, None)


def test_halves_are_equal_however_few_observations_there_are() -> None:
    assert Halves([]).of([]).tolist() == []
    names = [f"o{number}" for number in range(40)]
    for count in range(1, 9):
        for start in range(0, 40, count):
            several = names[start : start + count]
            sizes = np.bincount(Halves([*several, *several]).of(several), minlength=2)
            assert abs(sizes[0] - sizes[1]) <= 1
    # in the order of their hashes, whatever that of the rows
    ordered = sorted(names, key=id_hash)
    assert Halves(names).of(ordered).tolist() == [0, 1] * 20
    # one that is no observation of validation has a place between two
    assert set(Halves(names).of([f"p{number}" for number in range(20)])) == {0, 1}
