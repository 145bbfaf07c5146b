"""A classifier of taxa: its classes, and targets of which a part goes to what a crop may be."""

import numpy as np
import pandas as pd
import pytest
import torch

from instar.classifier.labels import NO_MIXTURES, LabelSpace, Mixtures, label_space, mixed_targets
from instar.classifier.losses import HierarchicalLoss, MixedTargetsLoss
from instar.classifier.train import answered
from instar.lineages import TAXON_RANKS

SPACE = LabelSpace(
    ("Chironomidae", "Orphanidae", "Phoridae", "Diptera", "Hemiptera", "Insecta"),
    ("family", "family", "family", "order", "order", "class"),
    (3, 5, 3, 5, 5, -1),
)


def test_no_rows_no_classes() -> None:
    assert len(label_space(pd.DataFrame(columns=["rank", *TAXON_RANKS]), TAXON_RANKS)) == 0


def test_classes_of_three_ranks_where_a_family_has_no_order() -> None:
    lineages = [
        ("family", "Phoridae", "Diptera", "Insecta"),
        ("order", "no class", "Hemiptera", "Insecta"),  # what stands below the label's rank is not looked at
        ("family", "Orphanidae", None, "Insecta"),
        ("family", "Chironomidae", "Diptera", "Insecta"),
    ]
    assert label_space(pd.DataFrame(lineages, columns=["rank", *TAXON_RANKS]), TAXON_RANKS) == SPACE


def test_targets_without_anything_open_are_the_labels() -> None:
    targets, mixtures = mixed_targets(SPACE, [], [], [])
    assert targets.tolist() == [] and mixtures is NO_MIXTURES
    targets, mixtures = mixed_targets(SPACE, ["Diptera", "Insecta"], [[], ["Phoridae"]], [0.0, 0.0])
    assert targets.tolist() == [3, 5] and mixtures is NO_MIXTURES


def test_mixed_targets_by_hand() -> None:
    names = ["Diptera", "Insecta", "Diptera", "Diptera"]
    low = [["Phoridae"], ["Diptera", "Hemiptera"], [], ["Phoridae"]]
    targets, mixtures = mixed_targets(SPACE, names, low, [0.2, 0.5, 0.0, 0.2])
    assert targets.tolist() == [6, 7, 3, 6]
    assert mixtures.classes.tolist() == [[3, 2, 0], [5, 3, 4]]
    assert mixtures.shares.tolist() == [pytest.approx([0.8, 0.2, 0]), pytest.approx([0.5, 0.25, 0.25])]


def test_the_marginal_loss_of_a_soft_target_by_hand() -> None:
    # leaves: Chironomidae 0.1, Orphanidae 0.2, Phoridae 0.3, Hemiptera 0.4, so Diptera 0.4
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3))
    mixtures = Mixtures(np.array([[3, 2]]), np.array([[0.75, 0.25]], np.float32))
    loss = MixedTargetsLoss(HierarchicalLoss(SPACE, "marginal", smoothing=0.0), len(SPACE), mixtures)
    found = loss(logits, torch.tensor([3, 6, 2]))
    wanted = [-np.log(0.4), -0.75 * np.log(0.4) - 0.25 * np.log(0.3), -np.log(0.3)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", ["marginal", "reward", "flat"])
def test_a_soft_target_has_a_gradient_and_its_smoothing_is_that_of_one_target(kind: str) -> None:
    hard = HierarchicalLoss(SPACE, kind, smoothing=0.1)
    mixtures = Mixtures(np.array([[3, 2, 0], [3, 3, 3]]), np.array([[0.5, 0.5, 0], [0.5, 0.25, 0.25]], np.float32))
    loss = MixedTargetsLoss(hard, len(SPACE), mixtures)
    outputs = 4 if kind == "marginal" else 6
    logits = torch.randn(2, outputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = loss(logits, torch.tensor([6, 7]))
    same = hard(logits, torch.tensor([3, 3]))
    assert found[1].item() == pytest.approx(same[1].item(), rel=1e-5)  # thrice one class is that class
    half = (same[0] + hard(logits, torch.tensor([2, 2]))[0]) / 2
    assert found[0].item() == pytest.approx(half.item(), rel=1e-5)
    found.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_a_guess_is_right_where_it_belongs_to_the_label() -> None:
    answers, rank = answered(SPACE, "marginal")
    # Chironomidae, Orphanidae, Phoridae, Hemiptera at family, order, class
    assert answers.tolist() == [[0, 3, 5], [1, -1, 5], [2, 3, 5], [-1, 4, 5]]
    assert rank.tolist() == [0, 0, 0, 1, 1, 2]


def test_of_species_only_these_are_guessed() -> None:
    space = LabelSpace(("a b", "c", "a"), ("species", "genus", "genus"), (2, -1, -1))
    answers, _ = answered(space, "marginal")
    assert answers.tolist() == [[0, 2]]
