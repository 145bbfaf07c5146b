"""Names as people write them, and what the backbone's answers make of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from instar.errors import InputError
from instar.records.names import Names, Parsed, entries, parse, query_of, read_backbone
from instar.records.taxonomy import Lineage

REAL = Path(__file__).parents[1] / "../shared/realdata"
NOTHING = Lineage(None, None, None)


@pytest.mark.parametrize(
    "text", [None, "", "  ", "?", "unknown", "Unknown", "indet.", "ants", "42", "BOLD:AAA1234", "-", "N/A"]
)
def test_no_names(text: str | None) -> None:
    assert parse(text) == Parsed(None, None, None, False)
    assert query_of(text) == ""


@pytest.mark.parametrize(
    "text, species",
    [
        ("Lasius niger", "Lasius niger"),
        ("Lasius  niger ", "Lasius niger"),
        ("Lasius_niger", "Lasius niger"),
        ("LASIUS NIGER", "Lasius niger"),
        ("Camponotus xerxes Forel", "Camponotus xerxes"),
        ("Xenomyrmex stolli", "Xenomyrmex stolli"),
        ("Exochomyrmex x-album", "Exochomyrmex x-album"),
        ("Lasius spathepus Wheeler", "Lasius spathepus"),  # begins with sp
        ("Lasius niger ssp. niger", "Lasius niger"),
        ("Lasius niger auct. non L.", "Lasius niger"),
        ("lasius_niger", "Lasius niger"),
        ("lasius niger", "Lasius niger"),
        ("Lasius niger (Linnaeus, 1758)", "Lasius niger"),
        ("Lasius niger Linnaeus", "Lasius niger"),
        ("Formica clara Forel, 1886", "Formica clara"),
        ("Lasius niger niger", "Lasius niger"),
        ("Lasius niger subsp. alienus", "Lasius niger"),
        ("Lasius niger var. alieno-niger Forel", "Lasius niger"),
        ("Camponotus (Myrmentoma) fallax (Nylander, 1856)", "Camponotus fallax"),
        ("Myrmica ruginodis s.str.", "Myrmica ruginodis"),
        ("Myrmecia nigro-cincta", "Myrmecia nigro-cincta"),
        ("Vespula c-nigrum", "Vespula c-nigrum"),
        ("Aphaenogaster gonacantha Çelik", "Aphaenogaster gonacantha"),
    ],
)
def test_species(text: str, species: str) -> None:
    assert parse(text) == Parsed(species, species.split()[0], None, False)


@pytest.mark.parametrize(
    "text",
    [
        *("Lasius sp.", "Lasius sp", "Lasius spp.", "Lasius sp. 1", "Lasius sp1", "Lasius sp. nov.", "Lasius spec."),
        *(
            "Lasius cf. niger",
            "Lasius cf niger",
            "Lasius aff. niger",
            "Lasius nr. niger",
            "Lasius niger cf.",
            "Lasius ? niger",
        ),
        *("Lasius niger group", "Lasius niger-group?", "Lasius niger gr.", "Lasius niger complex", "Lasius niger agg."),
        *("Lasius niger s.l.", "Lasius niger sensu lato", "Lasius niger?", "Lasius indet."),
        *(
            "Lasius niger × emarginatus",
            "Lasius niger x emarginatus",
            "Lasius niger × Lasius emarginatus",
            "Lasius × mixtus",
        ),
        *("Lasius jtl001", "Lasius jtl-001", "Lasius MG012", "lasius_sp_2", "Lasius incertae sedis", "Lasius n. sp."),
        *("× Lasius mixtus", "cf. Lasius niger", "? Lasius niger", "?Lasius niger", "Lasius niger/flavus"),
        *(
            "Lasius niger-group",
            "Lasius sp.n.",
            "Lasius nov. sp.",
            "Lasius sp. aff. niger",
            "Lasius (Lasius) cf. niger",
        ),
    ],
)
def test_open_nomenclature_stays_at_genus(text: str) -> None:
    assert parse(text) == Parsed(None, "Lasius", None, True)
    assert query_of(text) == "Lasius"


@pytest.mark.parametrize(
    "text", ["Lasius", "Lasius Fabricius, 1804", "Lasius (Acanthomyops)", "Lasius de Geer", "Lasius auct."]
)
def test_genera(text: str) -> None:
    assert parse(text)[:3] == (None, "Lasius", None)


def test_above_genus_and_hybrids_of_two_genera() -> None:
    assert parse("Formicidae").above == "Formicidae"
    assert parse("Myrmicinae sp.").above == "Myrmicinae"
    assert parse("Lasius niger × Formica rufa") == Parsed(None, None, None, True)
    assert query_of("Lasius niger × Formica rufa") == ""


def answer(kind: str = "EXACT", confidence: int = 98, **ranks: str) -> dict[str, Any]:
    return {"matchType": kind, "confidence": confidence, "kingdom": "Animalia", "family": "Formicidae", **ranks}


NIGER = answer(genus="Lasius", species="Lasius niger")
BACKBONE = {
    "Lasius niger": NIGER,
    "Formica nigra Linnaeus, 1758": NIGER | {"synonym": True, "status": "SYNONYM"},
    "Lasius nigerr": NIGER | {"matchType": "FUZZY", "confidence": 92},
    "Lasius nigre": NIGER | {"matchType": "FUZZY", "confidence": 70},
    "Lasius niger var. minor": NIGER | {"rank": "VARIETY"},
    "Lasius novus": answer("HIGHERRANK", 95, genus="Lasius"),
    "Nullius nullus": {"matchType": "NONE", "confidence": 100, "synonym": False},
    "Ordo nomen": {"matchType": "HIGHERRANK", "confidence": 95, "kingdom": "Animalia"},
    "Lasius": answer(genus="Lasius"),
    "Formicidae": answer(),
    "Apis melifera": answer("FUZZY", 95, family="Apidae", genus="Apis", species="Apis mellifera"),
    "Acanthomyops": answer(genus="Lasius"),
}


@pytest.mark.parametrize(
    "name, taxon_id, reason",
    [
        ("Lasius niger", "species:Lasius niger", None),
        ("Formica nigra Linnaeus, 1758", "species:Lasius niger", None),  # a synonym
        ("Lasius nigerr", "species:Lasius niger", None),  # a misspelling
        ("Lasius nigre", None, "name not placed"),  # too little confidence
        ("Lasius niger var. minor", "species:Lasius niger", None),
        ("Lasius novus", "genus:Lasius", None),
        ("Lasius cf. novus", "genus:Lasius", None),
        ("Acanthomyops sp. 2", "genus:Lasius", None),  # a genus that became a subgenus
        ("Nullius nullus", None, "name not placed"),
        ("Ordo nomen", None, "name not placed"),
        ("Formicidae", None, "above genus"),
        ("unknown", None, "name not placed"),
        ("Lasius flavus", "species:Lasius flavus", None),  # not asked for yet: the rules
    ],
)
def test_the_backbone(name: str, taxon_id: str | None, reason: str | None) -> None:
    placed = Names(BACKBONE, confidence=85).place(name, NOTHING, trusted=False)
    assert (placed.lineage.taxon_id, placed.reason) == (taxon_id, reason)


def test_a_source_that_knows_its_taxa_stands_where_the_backbone_does_not_know_them() -> None:
    names = Names(BACKBONE, confidence=85)
    given = Lineage("Nullius nullus", "Nullius", "Formicidae")
    assert names.place("Nullius nullus", given, trusted=True).lineage == given
    assert names.place("Nullius nullus", given, trusted=False).reason == "name not placed"
    # the accepted name wins over the source's
    old = Lineage("Formica nigra", "Formica", "Formicidae")
    placed = names.place("Formica nigra Linnaeus, 1758", old, trusted=True)
    assert placed.lineage == Lineage("Lasius niger", "Lasius", "Formicidae")
    assert placed.above == {"Animalia", "Formicidae", "Lasius", "Lasius niger"}


def test_a_misspelling_does_not_lead_into_another_family() -> None:
    names = Names(BACKBONE, confidence=85)
    ant = Lineage("Apis melifera", "Apis", "Formicidae")
    assert names.place("Apis melifera", ant, trusted=False).reason == "name not placed"
    assert names.place("Apis melifera", NOTHING, trusted=False).lineage.species == "Apis mellifera"


def test_rules_without_a_backbone() -> None:
    names = Names()
    given = Lineage(None, "Lasius", "Formicidae")
    assert names.place("Lasius cf. niger", given, trusted=True).lineage == given
    assert names.place(None, given, trusted=True).lineage == given
    assert names.place(None, NOTHING, trusted=True).reason == "name not placed"
    assert names.place("Lasius niger alienus", NOTHING, trusted=True).lineage == Lineage("Lasius niger", "Lasius", None)
    assert names.place("Formicidae", NOTHING, trusted=True) == (
        Lineage(None, None, "Formicidae"),
        frozenset(),
        "above genus",
    )
    assert names.queries == {"Lasius", "Lasius niger alienus", "Formicidae"}


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "backbone.jsonl"
    assert list(entries(path)) == []
    path.write_text(json.dumps({"name": "Lasius", "answer": {"matchType": "EXACT"}}) + "\n")
    assert read_backbone(path) == {"Lasius": {"matchType": "EXACT"}}
    for line in ("", "{", "[]", '{"name": 1, "answer": {}}', '{"name": "Lasius"}'):
        path.write_text('{"name": "A", "answer": {}}\n' + line + "\n")
        with pytest.raises(InputError, match=r"backbone.jsonl: line 2: no answer of the backbone"):
            read_backbone(path)


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata")
class TestReal:
    """Recorded answers and a published checklist."""

    def test_species_match(self) -> None:
        folder = REAL / "gbif_api"
        told = {
            "Helianthus annuus": json.loads((folder / "test_name_backbone_0.json").read_text()),
            "Aus bus": json.loads((folder / "test_name_backbone_multiple_matches_0.json").read_text()),
        }
        names = Names(told, confidence=85)
        placed = names.place("Helianthus annuus", NOTHING, trusted=False)
        assert placed.lineage == Lineage("Helianthus annuus", "Helianthus", "Asteraceae")
        assert placed.above == {
            *("Plantae", "Tracheophyta", "Magnoliopsida", "Asterales", "Asteraceae", "Helianthus", "Helianthus annuus")
        }
        assert names.place("Aus bus", NOTHING, trusted=False).reason == "name not placed"

    def test_the_belgian_ants(self) -> None:
        import csv

        with (REAL / "belgian_formicidae/data/processed/taxon.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 101
        for row in rows:
            parsed = parse(row["scientificName"])
            if row["taxonRank"] == "species":
                assert (parsed.genus, parsed.is_open) == (row["genus"], False)
                assert row["scientificName"].startswith(f"{parsed.species} ")
        assert parse("Formica rufa x polyctena") == Parsed(None, "Formica", None, True)
        # Dutch for a form without a name of its own: the source's genus column must tell
        given = Lineage(None, "Myrmica", "Formicidae")
        assert Names().place("microgyne van Myrmica ruginodis", given, trusted=True).lineage == given
