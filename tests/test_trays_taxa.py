"""The taxonomy of trays and what labels mean by it."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from instar.errors import InputError
from instar.masks import from_bitmaps, no_masks
from instar.records.trays.labels import counts, label, matched
from instar.records.trays.taxa import RANKS, Taxa, read_dyntaxa, read_taxa

HEADING = "processid\tsampleid\tkingdom\tphylum\tclass\torder\tfamily\tsubfamily\ttribe\tgenus\tspecies\tbin_uri"
ABOVE = "Animalia\tArthropoda\tInsecta"
BOLD = [
    f"P1\tS1\t{ABOVE}\tDiptera\tChironomidae\tChironominae\tNone\tChironomus\tChironomus fictus\tB1",
    f"P2\tS2\t{ABOVE}\tDiptera\tChironomidae\tNone\tNone\tChironomus\tNone\tB2",
    f"P3\tS3\t{ABOVE}\tLepidoptera\tTortricidae\tNone\tNone\tCydia\tNone\tB3",
    f"P4\tS4\t{ABOVE}\tLepidoptera\tNoctuidae\tNone\tNone\tNoctua\tNone\tB4",
    f"P5\tS5\t{ABOVE}\tHymenoptera\tBraconidae\tNone\tNone\tApanteles\tNone\tB5",
]
DYNTAXA: list[tuple[str, ...]] = [
    ("0", "", "Animalia", "kingdom"),
    ("1", "0", "Arthropoda", "phylum"),
    ("2", "1", "Insecta", "class"),
    ("3", "2", "Diptera", "order"),
    ("4", "3", "Nematocera", "suborder"),
    ("5", "4", "Culicomorpha", "infraorder"),
    ("6", "5", "Chironomoidea", "superfamily"),
    ("7", "6", "Chironomidae", "family"),
    ("8", "7", "Chironomus", "genus"),
    ("9", "2", "Hymenoptera", "order"),
    ("10", "9", "Ichneumonoidea", "superfamily"),
    ("11", "10", "Ichneumonidae", "family"),  # BOLD has Apanteles elsewhere
    ("12", "11", "Apanteles", "genus"),
    ("13", "2", "Lepidoptera", "order"),
    ("14", "13", "Tortricoidea", "superfamily"),
    ("15", "14", "Tortricidae", "family"),
    ("16", "15", "Cydia", "genus"),
    ("17", "0", "Mollusca", "phylum"),
    ("18", "17", "Gastropoda", "class"),
    ("19", "18", "Noctua", "genus"),  # of the same name, in another phylum
    ("20", "2", "Psocodea", "order"),
]


def write(folder: Path, bold: list[str] | None = BOLD, dyntaxa: list[tuple[str, ...]] | None = DYNTAXA) -> Taxa:
    if bold is not None:
        (folder / "bold.tsv").write_text("\n".join([HEADING, *bold, ""]))
    if dyntaxa is not None:
        rows = ["taxonId\tparentNameUsageID\tscientificName\ttaxonRank\ttaxonomicStatus"]
        rows += ["\t".join([*row, "accepted"]) for row in dyntaxa]
        (folder / "dyntaxa.csv").write_text("\n".join([*rows, ""]))
    return read_taxa(folder / "bold.tsv", folder / "dyntaxa.csv", [])


@pytest.fixture
def taxa(tmp_path: Path) -> Taxa:
    return write(tmp_path)


def test_nothing(tmp_path: Path) -> None:
    taxa = write(tmp_path, None, None)
    assert (taxa.parents, taxa.find("Diptera"), taxa.rows([]), taxa.common([])) == ({}, None, [], None)
    assert label([], taxa).high is None
    assert label(["Diptera"], taxa).unknown == ["Diptera"]


def test_twelve_ranks() -> None:
    told = "kingdom phylum class order suborder infraorder superfamily family subfamily tribe genus species"
    assert " ".join(RANKS) == told


def test_dyntaxa_gives_the_ranks_between_order_and_family(taxa: Taxa) -> None:
    assert taxa.path("species:Chironomus fictus") == [
        "species:Chironomus fictus",
        "genus:Chironomus",
        "subfamily:Chironominae",  # one of BOLD's two rows tells it
        "family:Chironomidae",
        "superfamily:Chironomoidea",
        "infraorder:Culicomorpha",
        "suborder:Nematocera",
        "order:Diptera",
        "class:Insecta",
        "phylum:Arthropoda",
        "kingdom:Animalia",
    ]
    assert taxa.find("psocodea") == "order:Psocodea"  # which BOLD's rows do not have


def test_bold_comes_first_where_the_two_differ(taxa: Taxa) -> None:
    assert taxa.parents["genus:Apanteles"] == "family:Braconidae"
    assert taxa.parents["family:Braconidae"] == "order:Hymenoptera"
    assert taxa.parents["genus:Noctua"] == "family:Noctuidae"
    assert taxa.counts["genera that Dyntaxa places elsewhere than BOLD"] == 1
    assert taxa.counts["genera of BOLD that Dyntaxa does not have"] == 1  # its Noctua is of another phylum
    assert taxa.counts["families of BOLD completed from Dyntaxa"] == 2


def test_microlepidoptera(taxa: Taxa) -> None:
    group = "informal:microlepidoptera"
    assert taxa.find("Microlepidoptera") == group
    assert taxa.parents[group] == "order:Lepidoptera"
    assert taxa.path("genus:Cydia")[1:5] == [
        "family:Tortricidae",
        "superfamily:Tortricoidea",
        group,
        "order:Lepidoptera",
    ]
    assert group not in taxa.path("genus:Noctua")


def test_microlepidoptera_without_superfamilies(tmp_path: Path) -> None:
    taxa = write(tmp_path, dyntaxa=None)
    assert taxa.parents["family:Tortricidae"] == "informal:microlepidoptera"


def test_rows_have_every_ancestor(taxa: Taxa) -> None:
    rows = {row["taxon_id"]: row for row in taxa.rows(["genus:Cydia"])}
    assert len(rows) == 8
    assert rows["genus:Cydia"] == {
        "taxon_id": "genus:Cydia",
        "name": "Cydia",
        "rank": "genus",
        "parent_id": "family:Tortricidae",
        "species": None,
        "genus": "Cydia",
        "family": "Tortricidae",
    }
    assert rows["kingdom:Animalia"]["parent_id"] is None
    assert all(row["parent_id"] in rows for row in rows.values() if row["parent_id"])


def test_a_name_in_two_places_is_counted(tmp_path: Path) -> None:
    again = f"P6\tS6\t{ABOVE}\tDiptera\tSciaridae\tNone\tNone\tCydia\tNone\tB6"
    taxa = write(tmp_path, [*BOLD, again])
    assert taxa.counts["taxa that BOLD places in several"] == 1
    assert taxa.parents["genus:Cydia"] in ("family:Sciaridae", "family:Tortricidae")


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    taxa = write(tmp_path, [*BOLD, BOLD[0] + "\tmore", "P7\tS7"], [*DYNTAXA, ("21", "2", "Odonata\t", "order")])
    assert taxa.counts["malformed rows of bold.tsv"] == 2
    assert taxa.counts["malformed rows of dyntaxa.csv"] == 1
    assert taxa.find("Odonata") is None


class _Row(dict[str, str]):
    """A row that can be watched."""


def test_of_many_rows_only_the_different_ones_are_held(tmp_path: Path) -> None:
    watched: list[weakref.ref[_Row]] = []
    held = []

    def rows() -> Iterator[dict[str, str]]:
        for _ in range(100):
            row = _Row({"class": "Insecta", "order": "Diptera"})
            watched.append(weakref.ref(row))
            held.append(sum(one() is not None for one in watched))
            yield row

    taxa = read_taxa(tmp_path / "bold.tsv", tmp_path / "dyntaxa.csv", rows())
    assert taxa.find("Diptera") == "order:Diptera"
    assert max(held) <= 3


def test_synonyms_and_circles(tmp_path: Path) -> None:
    path = tmp_path / "dyntaxa.csv"
    with pytest.raises(InputError, match="taxon 1 is its own ancestor"):
        write(tmp_path, None, [("1", "2", "A", "genus"), ("2", "1", "B", "family")])
    path.write_text(path.read_text().replace("B\tfamily\taccepted", "B\tfamily\tsynonym"))
    assert read_dyntaxa(path) == [{"genus": "A"}]
    path.write_text("taxonId\tname\n1\tA\n")
    with pytest.raises(InputError, match="column parentNameUsageID is missing"):
        read_dyntaxa(path)


@pytest.mark.parametrize(
    ("names", "high", "low"),
    [
        (["Diptera"], "order:Diptera", []),
        (["Diptera; Chironomidae"], "order:Diptera", ["family:Chironomidae"]),
        (["chironomidae ;DIPTERA", "Diptera"], "order:Diptera", ["family:Chironomidae"]),
        (["Chironomus", "Diptera; Chironomidae"], "order:Diptera", ["family:Chironomidae", "genus:Chironomus"]),
        (["microlepidoptera; Tortricidae"], "informal:microlepidoptera", ["family:Tortricidae"]),
        # two of one rank: what holds both is sure
        (["Diptera; Lepidoptera"], "class:Insecta", ["order:Diptera", "order:Lepidoptera"]),
        ([" ; "], None, []),
    ],
)
def test_labels_of_high_and_low_confidence(taxa: Taxa, names: list[str], high: str | None, low: list[str]) -> None:
    given = label(names, taxa)
    assert (given.high, given.low, given.unknown) == (high, low, [])
    assert given.is_split == (high == "class:Insecta")
    assert not given.is_apart


def test_labels_that_do_not_fit(taxa: Taxa) -> None:
    given = label(["Diptera; Tortricidae"], taxa)
    assert (given.high, given.low) == ("order:Diptera", ["family:Tortricidae"])
    assert given.is_apart


def test_no_label_is_sure_beside_one_of_unknown_rank(taxa: Taxa) -> None:
    """Brachycera is a suborder, above the family, which nobody was sure of."""
    for names, low in (("Brachycera; Chironomidae", ["family:Chironomidae"]), ("Beetle", [])):
        given = label([names], taxa)
        assert (given.high, given.low, given.unknown) == (None, low, [names.partition(";")[0]])
        assert not given.is_split
        assert not given.is_apart
    for names, high in (
        ("Chironomidae; Nosuchinae", "family:Chironomidae"),
        ("Diptera; Musca nox", "order:Diptera"),
    ):
        assert label([names], taxa).high == high  # lower by its form
    assert label(["Chironomidae; Nosuchoidea"], taxa).high is None
    assert label(["Chironomidae; Nosuchidae"], taxa).high is None
    for name in (
        "Hymenoptera indet.",
        "Hymenoptera indet",
        "Diptera sp.",
        "unknown fly",
        "Diptera larva",
        "No such one",
    ):
        given = label(["Diptera", name], taxa)
        assert (given.high, given.low) == (None, ["order:Diptera"])  # two words that are no species
    beside = "insects with low-confidence labels alone, beside one that the taxonomy does not have"
    both = [label(["Brachycera; Chironomidae"], taxa), label(["Beetle"], taxa), label(["Diptera"], taxa)]
    assert counts(both)[beside] == 1


def test_outlines_are_matched_by_overlap() -> None:
    insects = from_bitmaps([np.ones((4, 4))] * 2, [(0, 0), (10, 0)])
    labelled = from_bitmaps([np.ones((4, 4))] * 3, [(10, 1), (2, 2), (0, 0)])  # 12/20, 4/28 and all in common
    assert matched(labelled, insects).tolist() == [1, -1, 0]
    assert matched(no_masks(), insects).tolist() == []
    assert matched(labelled, no_masks()).tolist() == [-1, -1, -1]
