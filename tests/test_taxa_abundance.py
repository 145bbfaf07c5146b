"""Restriction to barcoded taxa, and animals of each taxon in a sample."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from taxa_study import write_barcodes, write_taxonomy

from instar.classifier.labels import LabelSpace
from instar.evaluation.abundance import Finding, abundances, interval
from instar.evaluation.barcoded import allowed, members, read_barcodes
from instar.lineages import Lineages, read_lineages

#: Outputs of the loss marginal: Chironomidae, Orphanidae, Hemiptera, Araneae.
SPACE = LabelSpace(
    ("Chironomidae", "Orphanidae", "Araneae", "Diptera", "Hemiptera", "Arachnida", "Insecta"),
    ("family", "family", "order", "order", "order", "class", "class"),
    (3, 6, 5, 6, 6, -1, -1),
)
NAMES = ["Chironomidae", "Orphanidae", "Araneae", "Hemiptera"]


@pytest.fixture
def lineages(tmp_path: Path) -> Lineages:
    write_taxonomy(tmp_path / "taxonomy.parquet")
    return read_lineages(tmp_path / "taxonomy.parquet")


@pytest.mark.parametrize(
    ("barcoded", "stay"),
    [
        ([], NAMES),  # nothing is told of any class
        (["kingdom:Fungi"], NAMES),
        (["family:Chironomidae"], ["Chironomidae"]),  # itself
        (["genus:Chironomus"], ["Chironomidae"]),  # what belongs to it
        (["suborder:Nematocera"], ["Chironomidae"]),  # what it belongs to
        (["class:Insecta"], ["Chironomidae", "Orphanidae", "Hemiptera"]),
        (["class:Insecta", "family:Chironomidae"], ["Chironomidae", "Orphanidae", "Hemiptera"]),
        (["family:Aphididae"], ["Hemiptera"]),
        (["family:Phoridae", "order:Diplura", "suborder:Nematocera"], ["Chironomidae"]),
        (["family:Phoridae"], ["Chironomidae"]),  # is no class: the Diptera that are one stand for it
        (["family:Phoridae", "order:Araneae"], ["Chironomidae", "Araneae"]),
        (["order:Diplura", "order:Araneae"], ["Araneae"]),  # of no class
    ],
)
def test_what_barcodes_leave_possible(lineages: Lineages, barcoded: list[str], stay: list[str]) -> None:
    found = allowed(SPACE, SPACE.leaves, lineages, set(barcoded))
    assert [SPACE.names[leaf] for leaf in SPACE.leaves[found]] == stay


def test_a_class_that_the_taxonomy_lacks_stays_where_the_class_above_it_is_listed(lineages: Lineages) -> None:
    space = LabelSpace(("Novidae", "Hemiptera", "Diptera"), ("family", "order", "order"), (1, -1, -1))
    assert allowed(space, space.leaves, lineages, {"order:Hemiptera"}).tolist() == [True, False]
    assert allowed(space, space.leaves, lineages, {"order:Diptera"}).tolist() == [False, True]


def test_a_relative_that_is_listed_stands_for_one_that_is_no_class(lineages: Lineages) -> None:
    # the Chironomus keeps its family, which is enough of Diptera for the Phoridae to be told as
    parents = {**lineages.parents, "family:Sciaridae": "order:Diptera"}
    ranks, names = {**lineages.ranks, "family:Sciaridae": "family"}, {**lineages.names, "family:Sciaridae": "Sciaridae"}
    space = LabelSpace(("Chironomidae", "Sciaridae", "Diptera"), ("family", "family", "order"), (2, 2, -1))
    more = Lineages(parents, ranks, names)
    assert allowed(space, space.leaves, more, {"genus:Chironomus", "family:Phoridae"}).tolist() == [True, False]
    assert allowed(space, space.leaves, more, {"family:Phoridae"}).tolist() == [True, True]


def test_barcodes_by_sample(tmp_path: Path) -> None:
    write_barcodes(tmp_path / "none.parquet", {})
    assert read_barcodes(tmp_path / "none.parquet") == {}
    write_barcodes(tmp_path / "two.parquet", {"x": ["a", "b"], "y": ["a"]})
    assert read_barcodes(tmp_path / "two.parquet") == {"x": {"a", "b"}, "y": {"a"}}


#: Two orders of one class.
BELONGS = np.array([[True, False, True], [False, True, True]])


def drawn(
    probabilities: Sequence[Sequence[float]],
    sizes: list[int],
    recall: list[float],
    precision: list[float],
    n: int = 4000,
) -> np.ndarray:
    shares = (np.tile(np.array(each, float), (n, 1)) for each in (recall, precision))
    of_all = np.array(probabilities, float).reshape(-1, 2)
    return abundances(of_all, np.array(sizes, np.int64), BELONGS, *shares, seed=1)


def test_no_detection_no_animal() -> None:
    found = drawn([], [], [0.5], [0.5], 3)
    assert found.tolist() == [[0, 0, 0]] * 3
    assert interval(found) == ([0, 0, 0], [0, 0, 0], [0, 0, 0])


def test_all_found_all_right_and_sure_is_the_count() -> None:
    found = drawn([[1, 0], [1, 0], [0, 1]], [0, 0, 0], [1.0], [1.0], 5)
    assert found.tolist() == [[2, 1, 3]] * 5


def test_missed_animals_are_carried_by_size() -> None:
    # 100 small ones at recall 0.5: 200 animals, variance 100 · 0.5 / 0.5² = 200; 50 large ones are all there are
    found = drawn([[1, 0]] * 100 + [[0, 1]] * 50, [0] * 100 + [1] * 50, [0.5, 1.0], [1.0, 1.0])
    assert found[:, 1].tolist() == [50] * 4000
    assert found[:, 0].mean() == pytest.approx(200, abs=1)
    assert found[:, 0].std() == pytest.approx(200**0.5, rel=0.05)
    assert (found[:, 2] == found[:, 0] + found[:, 1]).all()
    median, low, high = interval(found)
    assert median[0] == pytest.approx(199, abs=2)
    assert (low[0], high[0]) == pytest.approx((174, 229), abs=3)  # 200 ± 1.96 · 14.1, a little skewed


def test_wrong_detections_are_taken_off() -> None:
    found = drawn([[1, 0]] * 100, [0] * 100, [1.0], [0.5])
    assert found[:, 0].mean() == pytest.approx(50, abs=0.5)
    assert found[:, 0].std() == pytest.approx(5, rel=0.05)  # binomial: the root of 100 · 0.5 · 0.5


def test_each_size_has_its_own_precision() -> None:
    found = drawn([[1, 0]] * 100 + [[0, 1]] * 50, [0] * 100 + [1] * 50, [1.0, 1.0], [0.0, 1.0], 20)
    assert found.tolist() == [[0, 50, 50]] * 20


def test_taxa_are_drawn_by_their_probabilities() -> None:
    found = drawn([[0.25, 0.75]] * 100, [0] * 100, [1.0], [1.0])
    assert found[:, 2].tolist() == [100] * 4000
    assert found[:, 0].mean() == pytest.approx(25, abs=0.4)
    assert found[:, 0].std() == pytest.approx((100 * 0.25 * 0.75) ** 0.5, rel=0.05)


def test_a_taxon_without_probability_is_never_drawn() -> None:
    assert drawn([[0.0, 1.0], [1.0, 0.0]] * 50, [0] * 100, [1.0], [1.0], 200)[:, 0].tolist() == [50] * 200


def test_shares_of_validation_are_drawn_with_jeffreys_prior() -> None:
    # small: 30 of 40 found: Beta(30.5, 10.5), mean 30.5 / 41; large: none there, so all sizes together: 30.5 / 41, too
    finding = Finding(np.array([40, 0]), np.array([30, 0]), np.array([0, 20]), np.array([0, 5]))
    recall, precision = finding.draws(np.random.default_rng(0), 20_000)
    assert recall.mean(axis=0) == pytest.approx([30.5 / 41] * 2, abs=0.002)
    variance = 30.5 * 10.5 / (41**2 * 42)
    assert recall.std(axis=0) == pytest.approx([variance**0.5] * 2, rel=0.03)
    assert precision.mean(axis=0) == pytest.approx([5.5 / 21] * 2, abs=0.003)


def test_where_nothing_was_found_a_detection_stands_for_no_more_than_a_hundred() -> None:
    finding = Finding(np.array([1000]), np.array([0]), np.array([1]), np.array([0]))
    recall, _ = finding.draws(np.random.default_rng(0), 1000)
    assert recall.min() == 0.01


def test_members_are_the_outputs_lineages() -> None:
    assert members(SPACE, SPACE.leaves)[0].tolist() == [True, False, False, True, False, False, True]
