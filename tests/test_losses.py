"""Tests of instar.classifier.losses."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from instar.classifier.labels import LabelSpace, targets_of
from instar.classifier.losses import HierarchicalLoss, NodeProbabilities, expected_reward_loss

SPACE = LabelSpace(
    names=("Lasius flavus", "Lasius niger", "Myrmica rubra", "Lasius", "Myrmica"),
    ranks=("species", "species", "species", "genus", "genus"),
    parents=(3, 3, 4, -1, -1),
)
#: Softmax gives these back.
FLAT = torch.tensor([[0.1, 0.4, 0.2, 0.2, 0.1]]).log()
#: Of the published loss, by label and output.
REWARDS = [[1, 0, 0, 0.2, 0], [0, 1, 0, 0.2, 0], [0, 0, 1, 0, 0.2], [0.4, 0.4, 0, 1, 0], [0, 0, 0.8, 0, 1]]
LEAVES = torch.tensor([[0.2, 0.5, 0.3]]).log()


def value(kind: str, logits: torch.Tensor, target: int, smoothing: float = 0.0) -> float:
    return float(HierarchicalLoss(SPACE, kind, smoothing=smoothing)(logits, torch.tensor([target])))


def test_no_crops() -> None:
    empty = HierarchicalLoss(SPACE, "reward", smoothing=0.1)(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    assert empty.shape == (0,)


@pytest.mark.parametrize(
    ("kind", "logits", "target", "reward"),
    [
        ("reward", FLAT, 1, 0.4 + 0.2 * 0.2),
        ("reward", FLAT, 3, 0.2 + 0.4 * 0.1 + 0.4 * 0.4),  # two species of Lasius share 0.8
        ("reward", FLAT, 4, 0.1 + 0.8 * 0.2),
        ("marginal", LEAVES, 1, 0.5),
        ("marginal", LEAVES, 3, 0.2 + 0.5),
        ("marginal", LEAVES, 4, 0.3),
        ("flat", FLAT, 1, 0.4),
        ("flat", FLAT, 3, 0.2),
    ],
)
def test_loss_of_one_crop_by_hand(kind: str, logits: torch.Tensor, target: int, reward: float) -> None:
    assert value(kind, logits, target) == pytest.approx(-math.log(reward))
    spread = -float(logits.log_softmax(1).mean())
    assert value(kind, logits, target, 0.1) == pytest.approx(-0.9 * math.log(reward) + 0.1 * spread)


def test_flat_is_cross_entropy_with_label_smoothing() -> None:
    logits, targets = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 5
    found = HierarchicalLoss(SPACE, "flat", smoothing=0.1)(logits, targets)
    torch.testing.assert_close(found, cross_entropy(logits, targets, label_smoothing=0.1, reduction="none"))


@pytest.mark.parametrize(("target", "best"), [(1, 1), (3, 3)])
def test_extremes_of_the_reward(target: int, best: int) -> None:
    sure = torch.full((1, 5), -40.0)
    sure[0, best] = 40.0
    assert value("reward", sure, target) == pytest.approx(0, abs=1e-6)
    wrong = torch.full((1, 5), -40.0)
    wrong[0, 2] = 40.0
    assert value("reward", wrong, target) > 75
    genus = torch.full((1, 5), -40.0)
    genus[0, 3] = 40.0
    assert value("reward", genus, 1) == pytest.approx(-math.log(0.2), abs=1e-5)


@pytest.mark.parametrize("target", range(5))
def test_gradient_of_the_reward_is_the_documented_one(target: int) -> None:
    logits = FLAT.clone().requires_grad_()
    HierarchicalLoss(SPACE, "reward", smoothing=0.0)(logits, torch.tensor([target])).sum().backward()
    rewards = torch.tensor(REWARDS[target])
    p = FLAT.exp()[0]
    torch.testing.assert_close(logits.grad, (p * (1 - rewards / (p @ rewards)))[None])


def test_gradient_of_smoothed_losses_is_numerically_right() -> None:
    for kind, outputs in (("reward", 5), ("marginal", 3), ("flat", 5)):
        labels = torch.tensor([0, 1, 2, 3, 4])
        module = HierarchicalLoss(SPACE, kind, smoothing=0.1)
        targets = targets_of(SPACE, kind)
        rows = labels.repeat_interleave(torch.from_numpy(targets.counts))
        earning, rewards = torch.from_numpy(targets.earning), torch.from_numpy(targets.log_rewards).double()
        logits = torch.randn(5, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

        def found(
            given: torch.Tensor, r: torch.Tensor = rows, e: torch.Tensor = earning, w: torch.Tensor = rewards
        ) -> torch.Tensor:
            return expected_reward_loss(given, r, e, w, smoothing=0.1)

        torch.testing.assert_close(module(logits, labels), found(logits).float())
        assert torch.autograd.gradcheck(found, (logits.requires_grad_(),))


def written_out(kind: str, p: list[float], label: int) -> float:
    """What outputs with these probabilities earn, one after the other."""
    earned = 0.0
    for output, share in enumerate(p):
        if output == label or (kind == "marginal" and SPACE.parents[output] == label):
            earned += share
        elif kind == "reward" and SPACE.parents[label] == output:
            earned += 0.2 * share
        elif kind == "reward" and SPACE.parents[output] == label:
            earned += 0.8 / SPACE.parents.count(label) * share
    return earned


@pytest.mark.parametrize(("kind", "outputs"), [("reward", 5), ("marginal", 3), ("flat", 5)])
def test_equal_to_a_loop_over_outputs(kind: str, outputs: int) -> None:
    generator = torch.Generator().manual_seed(2)
    logits, labels = 3 * torch.randn(64, outputs, generator=generator), torch.randint(5, (64,), generator=generator)
    assert set(labels.tolist()) == set(range(5))
    found = HierarchicalLoss(SPACE, kind, smoothing=0.1)(logits, labels)
    for row, label, loss in zip(logits.softmax(1).tolist(), labels.tolist(), found.tolist(), strict=True):
        smooth = -sum(math.log(p) for p in row) / outputs
        reward = written_out(kind, row, label)
        assert loss == pytest.approx(-0.9 * math.log(reward) + 0.1 * smooth, abs=1e-5)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    loss = HierarchicalLoss(SPACE, "flat", smoothing=0.1)(FLAT.bfloat16(), torch.tensor([0]))
    assert loss.dtype == torch.float32


def test_nodes_of_flat_outputs_add_to_their_genus() -> None:
    found = NodeProbabilities(SPACE, "reward")(FLAT)
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.4, 0.2, 0.2 + 0.1 + 0.4, 0.1 + 0.2]]))


def test_nodes_of_marginal_outputs_cannot_contradict() -> None:
    found = NodeProbabilities(SPACE, "marginal")(LEAVES)
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.5, 0.3, 0.7, 0.3]]))


def test_nodes_of_three_ranks() -> None:
    space = LabelSpace(("a b", "a", "A", "C"), ("species", "genus", "family", "family"), (1, 2, -1, -1))
    found = NodeProbabilities(space, "flat")(torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log())
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.3, 0.6, 0.4]]))
