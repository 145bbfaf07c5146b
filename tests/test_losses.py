"""Tests of instar.classifier.losses."""

import math

import pytest
import torch

from instar.classifier.losses import balanced_cross_entropy

#: Softmax gives the first class 3/4 and the second 1/4.
LOGITS = torch.tensor([[math.log(3), 0.0]])


def loss(logits: torch.Tensor, targets: list[int], weights: list[float], smoothing: float = 0.0) -> float:
    return float(balanced_cross_entropy(logits, torch.tensor(targets), torch.tensor(weights), smoothing=smoothing))


def test_one_sample_by_hand() -> None:
    assert loss(LOGITS, [0], [1.0, 1.0]) == pytest.approx(math.log(4 / 3))
    assert loss(LOGITS, [1], [1.0, 1.0]) == pytest.approx(math.log(4))


def test_a_sample_alone_in_its_batch_keeps_its_weight() -> None:
    assert loss(LOGITS, [1], [1.0, 2.5]) == pytest.approx(2.5 * math.log(4))


def test_batch_is_the_mean_over_its_samples() -> None:
    expected = (0.5 * math.log(4 / 3) + 3 * math.log(4)) / 2
    assert loss(LOGITS.repeat(2, 1), [0, 1], [0.5, 3.0]) == pytest.approx(expected)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    # targets 0.9 and 0.1 instead of 1 and 0, since half of 0.2 comes back to the true class
    expected = 2 * (0.9 * math.log(4 / 3) + 0.1 * math.log(4))
    assert loss(LOGITS, [0], [2.0, 7.0], smoothing=0.2) == pytest.approx(expected)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    assert (
        balanced_cross_entropy(LOGITS.bfloat16(), torch.tensor([0]), torch.ones(2), smoothing=0.1).dtype
        == torch.float32
    )
