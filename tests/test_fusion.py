"""Tests of instar.reid.fusion."""

import json

import numpy as np
import pytest

from instar.errors import InputError
from instar.reid.fusion import FEW, TILT, Calibration, calibration, fused, validation_pairs

NONE = -np.inf


def test_nothing() -> None:
    with pytest.raises(InputError, match="no pair of validation"):
        calibration(np.zeros(0, np.float32), np.zeros(0, bool))
    with pytest.raises(InputError, match="no pair of validation"):
        calibration(np.array([NONE], np.float32), np.array([True]))
    scores, same = validation_pairs(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    assert scores.shape == same.shape == (0,)
    assert Calibration([0, 1], [0, 1], 2, 1)(np.zeros((0, 2), np.float32)).shape == (0, 2)
    assert fused({"a": np.zeros((0, 2), np.float32)}, {"a": 1}).shape == (0, 2)


def test_steps_by_hand() -> None:
    # by rising score: different, same, different, same: the middle two are pooled to a half
    found = calibration(np.array([0.2, 0.4, 0.6, 0.8], np.float32), np.array([False, True, False, True]))
    assert (found.pairs, found.same, found.few) == (4, 2, True)
    given = np.array([-5, 0.2, 0.4, 0.6, 0.7, 0.8, 9, NONE], np.float32)
    steps = np.array([0, 0, 0.5, 0.5, 0.75, 1, 1])
    slope = np.array([0, 0, 1 / 3, 2 / 3, 5 / 6, 1, 1])
    assert found(given)[:-1].tolist() == pytest.approx((1 - TILT) * steps + TILT * slope, abs=1e-6)
    assert found(given)[-1] == NONE


def test_equal_steps_keep_their_order() -> None:
    found = calibration(np.linspace(0, 1, 50), np.arange(50) >= 25)
    probabilities = found(np.linspace(0, 1, 500, dtype=np.float32))
    assert (np.diff(probabilities) > 0).all()
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    assert probabilities.dtype == np.float32


def test_probabilities_are_those_of_pairs() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(40_000), np.empty(40_000)
    scores = np.exp(3 * truth)  # whatever the scale
    found = calibration(scores, rng.random(40_000) < truth)
    assert not found.few
    assert np.abs(found(scores) - truth).mean() < 0.02


def test_few_pairs_of_either_kind_are_told() -> None:
    for same in (FEW - 1, 3 * FEW + 1):
        assert calibration(np.arange(4 * FEW), np.arange(4 * FEW) < same).few
    assert not calibration(np.arange(4 * FEW), np.arange(4 * FEW) < FEW).few


def test_one_score_and_one_kind_of_pairs() -> None:
    assert calibration(np.array([0.5, 0.5]), np.array([True, False]))(np.array([0.1, 0.9])) == pytest.approx(
        0.5, abs=TILT
    )
    never = calibration(np.array([0.1, 0.9]), np.array([False, False]))(np.array([0.1, 0.9]))
    assert never.tolist() == pytest.approx([0, TILT])


def test_goes_through_json() -> None:
    found = calibration(np.arange(8), np.arange(8) % 3 > 0)
    again = Calibration(**json.loads(json.dumps(found.told())))
    assert again == found


def test_pairs_of_validation() -> None:
    scores = np.array([[0.1, 0.2, NONE], [0.3, NONE, 0.4], [0.5, 0.6, 0.7]], np.float32)
    found, same = validation_pairs(scores, np.array([1, 1, -1]))
    assert found.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert same.tolist() == [False, True, False, False, False, False, False]


def test_fusion_by_hand() -> None:
    one = np.array([[0.8, 0.2, NONE, NONE]], np.float32)
    other = np.array([[0.2, NONE, 0.6, NONE]], np.float32)
    found = fused({"softmax": one, "sift": other}, {"softmax": 3, "sift": 1})
    assert found[0].tolist() == pytest.approx([0.65, 0.2, 0.6, NONE])
    assert found.dtype == np.float32
    assert fused({"softmax": one, "sift": other}, {"softmax": 0, "sift": 1})[0, 1] == NONE


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "fusion of a by the weights of none: a is in one"),
        ({"a": 1.0, "b": 1.0}, "b is in one of both alone"),
        ({"a": 0.0}, "a = 0; none may be below 0"),
        ({"a": -1.0}, "a = -1; none may be below 0"),
    ],
)
def test_weights_that_say_nothing(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fused({"a": np.zeros((1, 1), np.float32)}, weights)
