"""Tests of instar.classifier.labels."""

import numpy as np
import pandas as pd
import pytest

from instar.classifier.labels import LabelSpace, Targets, label_space, targets_of

#: Three species in two genera; a third genus has no species.
SPACE = LabelSpace(
    names=("Lasius flavus", "Lasius niger", "Myrmica rubra", "Formica", "Lasius", "Myrmica"),
    ranks=("species", "species", "species", "genus", "genus", "genus"),
    parents=(4, 4, 5, -1, -1, -1),
)


def rows(labels: list[str]) -> pd.DataFrame:
    genus = [label.split(" ")[0] for label in labels]
    species = [label if " " in label else None for label in labels]
    ranks = ["species" if " " in label else "genus" for label in labels]
    return pd.DataFrame({"label": labels, "rank": ranks, "species": species, "genus": genus})


def test_no_rows_no_classes() -> None:
    assert len(label_space(rows([]))) == 0


def test_a_species_brings_its_genus_though_no_crop_is_labelled_so() -> None:
    assert label_space(rows(["Myrmica rubra", "Lasius niger", "Formica", "Lasius flavus", "Lasius niger"])) == SPACE


def test_lineages_and_ancestors() -> None:
    assert SPACE.lineages == ((0, 4), (1, 4), (2, 5), (3,), (4,), (5,))
    assert SPACE.leaves.tolist() == [0, 1, 2, 3]
    assert SPACE.of_rank("genus").tolist() == [3, 4, 5]
    assert SPACE.ancestors("genus").tolist() == [4, 4, 5, 3, 4, 5]
    assert SPACE.ancestors("species").tolist() == [0, 1, 2, -1, -1, -1]


def test_targets_are_places_of_names() -> None:
    assert SPACE.targets(["Myrmica", "Lasius flavus"]).tolist() == [5, 0]
    with pytest.raises(KeyError, match="Tapinoma"):
        SPACE.targets(["Tapinoma"])


def test_rewards_of_the_published_loss_by_hand() -> None:
    targets = targets_of(SPACE, "reward")
    assert targets.outputs.tolist() == [0, 1, 2, 3, 4, 5]
    # Lasius niger: itself 1, Lasius 0.2; Lasius: itself 1, each of its two species 0.4; Formica: itself
    assert earned(targets, 1) == pytest.approx({1: 1.0, 4: 0.2})
    assert earned(targets, 4) == pytest.approx({4: 1.0, 0: 0.4, 1: 0.4})
    assert earned(targets, 5) == pytest.approx({5: 1.0, 2: 0.8})
    assert earned(targets, 3) == pytest.approx({3: 1.0})


def test_marginal_has_outputs_for_leaves_alone() -> None:
    targets = targets_of(SPACE, "marginal")
    assert targets.outputs.tolist() == [0, 1, 2, 3]
    assert earned(targets, 1) == {1: 1.0}
    assert earned(targets, 4) == {0: 1.0, 1: 1.0}
    assert earned(targets, 3) == {3: 1.0}


def test_flat_rewards_the_label_alone() -> None:
    assert [earned(targets_of(SPACE, "flat"), index) for index in range(6)] == [{index: 1.0} for index in range(6)]


def test_three_ranks() -> None:
    found = pd.DataFrame(
        {
            "label": ["a b", "C"],
            "rank": ["species", "family"],
            "species": ["a b", None],
            "genus": ["a", None],
            "family": ["A", "C"],
        }
    )
    space = label_space(found, ("species", "genus", "family"))
    assert space.names == ("a b", "a", "A", "C")
    assert space.parents == (1, 2, -1, -1)
    # the species belongs to the family through its genus, which alone is the family's child
    assert earned(targets_of(space, "reward"), 2) == pytest.approx({2: 1.0, 1: 0.8})
    assert earned(targets_of(space, "marginal"), 2) == {0: 1.0}


def earned(targets: Targets, index: int) -> dict[int, float]:
    entries = slice(targets.starts[index], targets.starts[index] + targets.counts[index])
    return dict(zip(targets.earning[entries].tolist(), np.exp(targets.log_rewards[entries]).tolist(), strict=True))
