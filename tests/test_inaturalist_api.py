"""Photographs in saved answers of iNaturalist's API."""

import json
from pathlib import Path
from typing import Any

import pytest

from instar.errors import InputError
from instar.records.gathering import Gathering
from instar.records.inaturalist_api import gather
from instar.records.names import Names

REAL = Path(__file__).parents[1] / "../shared/realdata/inaturalist_api"

ANCESTORS = [
    {"id": 1, "rank": "kingdom", "name": "Animalia"},
    {"id": 47336, "rank": "family", "name": "Formicidae"},
    {"id": 5, "rank": "genus", "name": "Lasius"},
]
NIGER = {"id": 9, "rank": "species", "name": "Lasius niger", "ancestor_ids": [1, 47336, 5, 9], "is_active": True}
PHOTO = {
    "id": 77,
    "license_code": "cc-by",
    "url": "https://static.inaturalist.org/photos/77/square.jpeg?1536",
    "attribution": "(c) B. Pictor, some rights reserved (CC BY)",
}
OBSERVATION: dict[str, Any] = {
    "id": 3,
    "uuid": "u-3",
    "quality_grade": "research",
    "license_code": "cc0",
    "taxon": NIGER,
    "identifications": [{"taxon": {**NIGER, "ancestors": ANCESTORS}}],
    "geojson": {"type": "Point", "coordinates": ["13.4", "52.5"]},
    "time_observed_at": "2018-09-05T14:06:00+02:00",
    "observed_on": "2018-09-05",
    "user": {"id": 7, "login": "anna", "name": "Anna"},
    "photos": [PHOTO],
}


def read(folder: Path, *observations: Any, names: Names | None = None, taxon: str = "Formicidae") -> Gathering:
    folder.mkdir(exist_ok=True)
    (folder / "page.json").write_text(json.dumps({"total_results": len(observations), "results": observations}))
    return gather(folder, taxon=taxon, licences=["cc-by"], quality_grades=["research"], names=names)


def test_nothing(tmp_path: Path) -> None:
    gathering = read(tmp_path)
    assert (gathering.found.num_rows, gathering.dropped.num_rows, gathering.other_taxon) == (0, 0, 0)
    assert read(tmp_path, {}, {"photos": None, "taxon": None}).dropped.num_rows == 0


def test_a_row(tmp_path: Path) -> None:
    rows = read(tmp_path, OBSERVATION).found.to_pylist()
    assert rows[0].pop("observed_at").isoformat() == "2018-09-05T12:06:00+00:00"
    assert rows == [
        {
            "key": "inaturalist-77",
            "source": "inaturalist",
            "photo_id": "77",
            "observation_id": "inaturalist-u-3",
            "observer_id": "inaturalist-7",
            "url": "https://inaturalist-open-data.s3.amazonaws.com/photos/77/original.jpeg",
            "sha256": None,
            "taxon_id": "species:Lasius niger",
            "latitude": 52.5,
            "longitude": 13.4,
            "basis": "field",
            "licence": "cc-by",
            "rights_holder": "B. Pictor",
            "creator": "Anna",
            "reference": "https://www.inaturalist.org/photos/77",
            "region": None,
        }
    ]


@pytest.mark.parametrize(
    "changes, photo, reason",
    [
        ({}, {"license_code": None}, "licence not allowed"),  # all rights reserved, whatever the observation's licence
        ({}, {"license_code": "cc-by-nc"}, "licence not allowed"),
        ({}, {"url": None}, "no photograph"),
        ({}, {"url": "copyright-infringement.png"}, "no photograph"),
        ({"quality_grade": "casual"}, {}, "quality grade"),
        ({"quality_grade": None}, {}, "quality grade"),
        ({"taxon": None}, {}, "no taxon"),
        ({"uuid": None, "id": None}, {}, "malformed observation"),
        ({"taxon": {**ANCESTORS[1], "ancestor_ids": [1, 47336]}}, {}, "above genus"),
        # nothing tells what lies above it
        ({"identifications": [], "taxon": {**NIGER, "ancestor_ids": [4, 9]}}, {}, "name not placed"),
        (
            {"identifications": [], "taxon": {"id": 9, "rank": "species", "name": "Lasius niger", "ancestry": "4/5"}},
            {},
            "name not placed",
        ),
    ],
)
def test_reasons(tmp_path: Path, changes: dict[str, Any], photo: dict[str, Any], reason: str) -> None:
    gathering = read(tmp_path, {**OBSERVATION, **changes, "photos": [PHOTO | photo]})
    assert gathering.dropped["reason"].to_pylist() == [reason]
    assert gathering.found.num_rows == gathering.other_taxon == 0


def test_a_null_is_all_rights_reserved_and_no_key_is_unknown(tmp_path: Path) -> None:
    silent = {name: value for name, value in PHOTO.items() if name != "license_code"} | {"id": 78}
    page = {"results": [OBSERVATION | {"photos": [PHOTO | {"license_code": None}, silent]}]}
    (tmp_path / "page.json").write_text(json.dumps(page))
    every = ["all-rights-reserved", "unknown"]
    rows = gather(tmp_path, taxon="Formicidae", licences=every, quality_grades=["research"]).found.to_pylist()
    assert [row["licence"] for row in rows] == every
    # not in the bucket of open data
    assert rows[0]["url"] == "https://static.inaturalist.org/photos/77/original.jpeg"


def test_missing_keys_and_nulls(tmp_path: Path) -> None:
    for name in OBSERVATION:
        if name in ("photos", "taxon", "quality_grade", "identifications"):
            continue
        for one in ({k: v for k, v in OBSERVATION.items() if k != name}, OBSERVATION | {name: None}):
            assert read(tmp_path, one).found.num_rows == 1, name
    bare: dict[str, Any] = {
        "quality_grade": "research",
        "taxon": NIGER,
        "photos": [{"id": 1, "license_code": "cc-by", "url": PHOTO["url"]}],
    }
    row = read(tmp_path, OBSERVATION, {"id": 4, **bare}).found.to_pylist()[1]
    assert (row["observation_id"], row["observer_id"], row["latitude"], row["rights_holder"]) == (
        "inaturalist-4",
        None,
        None,
        None,
    )
    del bare["photos"][0]["license_code"]
    assert read(tmp_path, bare).dropped["reason"].to_pylist() == ["name not placed"]
    silent = read(tmp_path, {"id": 4, **bare}, taxon="")  # its licence is unknown
    assert silent.dropped["reason"].to_pylist() == ["licence not allowed"]


def test_both_lists_of_photographs(tmp_path: Path) -> None:
    more = [{"position": 0, "photo": PHOTO}, {"position": 1, "photo": PHOTO | {"id": 78}}, {"photo": None}]
    assert read(tmp_path, OBSERVATION | {"observation_photos": more}).found["photo_id"].to_pylist() == ["77", "78"]


def test_other_taxa_are_counted(tmp_path: Path) -> None:
    bee = {"id": 20, "rank": "species", "name": "Apis mellifera", "ancestor_ids": [1, 21, 20]}
    gathering = read(tmp_path, OBSERVATION, OBSERVATION | {"taxon": bee, "photos": [PHOTO, PHOTO | {"id": 78}]})
    assert (gathering.found.num_rows, gathering.other_taxon) == (1, 2)


def test_the_backbone_tells_what_the_answers_do_not(tmp_path: Path) -> None:
    names = Names(
        {
            "Lasius niger": {
                "matchType": "EXACT",
                "confidence": 99,
                "family": "Formicidae",
                "genus": "Lasius",
                "species": "Lasius niger",
            }
        }
    )
    alone = OBSERVATION | {"identifications": []}
    assert read(tmp_path, alone, names=names).found["taxon_id"].to_pylist() == ["species:Lasius niger"]
    assert read(tmp_path, alone, names=names, taxon="Apidae").other_taxon == 1


def test_saved_taxa_name_the_ancestors(tmp_path: Path) -> None:
    (tmp_path / "taxa.json").write_text(json.dumps({"results": [{**NIGER, "ancestors": ANCESTORS}]}))
    gathering = read(tmp_path, OBSERVATION | {"identifications": []})
    assert gathering.found.num_rows == 1
    assert gathering.lineages == {("Lasius niger", "Lasius", "Formicidae")}


def test_subspecies_count_as_species_and_synonyms_are_told(tmp_path: Path) -> None:
    sub = {"id": 10, "rank": "subspecies", "name": "Lasius niger alienoides", "ancestor_ids": [1, 47336, 5, 9, 10]}
    old = {"id": 11, "rank": "species", "name": "Formica nigra", "ancestor_ids": [1, 47336, 11], "is_active": False}
    old["current_synonymous_taxon_ids"] = [9]
    gathering = read(tmp_path, OBSERVATION, OBSERVATION | {"taxon": sub}, OBSERVATION | {"taxon": old})
    assert gathering.found["taxon_id"].to_pylist() == ["species:Lasius niger"] * 2 + ["species:Formica nigra"]
    assert gathering.inactive == {"species:Formica nigra"}
    assert gathering.synonyms == {"species:Formica nigra": {"species:Lasius niger"}}


@pytest.mark.parametrize(
    "content", ["", "<html>", "[1]", '{"results": 1}', '{"results": [[]]}', "12", '{"error": "429"}']
)
def test_what_is_no_answer(tmp_path: Path, content: str) -> None:
    (tmp_path / "page.json").write_text(content)
    with pytest.raises(InputError, match=r"page.json: (not JSON|holds no list of results)"):
        gather(tmp_path, taxon="", licences=[], quality_grades=[])


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/inaturalist_api")
def test_recorded_answers() -> None:
    gathering = gather(
        REAL, taxon="Animalia", licences=["cc0", "cc-by", "cc-by-nc"], quality_grades=["research", "needs_id"]
    )
    rows = {row["photo_id"]: row for row in gathering.found.to_pylist()}
    one = rows["24355315"]
    assert one.pop("observed_at").isoformat() == "2018-09-05T12:06:00+00:00"
    assert one == {
        "key": "inaturalist-24355315",
        "source": "inaturalist",
        "photo_id": "24355315",
        "observation_id": "inaturalist-6448d03a-7f9a-4099-86aa-ca09a7740b00",
        "observer_id": "inaturalist-886482",
        "url": "https://inaturalist-open-data.s3.amazonaws.com/photos/24355315/original.jpeg",
        "sha256": None,
        "taxon_id": "species:Lixus bardanae",
        "latitude": 50.646894,
        "longitude": 4.360086,
        "basis": "field",
        "licence": "cc-by",  # the observation is cc0
        "rights_holder": "Nicolas Noé",
        "creator": "Nicolas Noé",
        "reference": "https://www.inaturalist.org/photos/24355315",
        "region": None,
    }
    assert ("Lixus bardanae", "Lixus", "Curculionidae") in gathering.lineages
    assert rows["92152429"]["rights_holder"] == "samroom"
    assert rows["92152429"]["taxon_id"] == "species:Danaus plexippus"
    dropped = {row["photo_id"]: row["reason"] for row in gathering.dropped.to_pylist()}
    assert dropped["92075215"] == "licence not allowed"  # null: all rights reserved
    assert rows["139206257"]["url"].endswith("/139206257/original.png")
    assert rows["139206257"]["latitude"] == 51.601234


@pytest.mark.parametrize("number", ["7 7", "../7", "7" * 19])
def test_a_photograph_whose_id_is_no_number_is_counted(tmp_path: Path, number: str) -> None:
    gathering = read(tmp_path, OBSERVATION | {"photos": [PHOTO | {"id": number}, PHOTO]})
    assert gathering.found["photo_id"].to_pylist() == ["77"]
    assert gathering.dropped["reason"].to_pylist() == ["malformed row"]


@pytest.mark.parametrize("ancestry", [{"ancestor_ids": None}, {"ancestor_ids": []}, {"ancestor_ids": [9]}])
def test_a_taxon_without_its_ancestry(tmp_path: Path, ancestry: dict[str, Any]) -> None:
    alone = {"taxon": NIGER | ancestry}
    one = read(tmp_path, OBSERVATION | alone)  # an identification tells it
    assert (one.found["taxon_id"].to_pylist(), one.other_taxon) == (["species:Lasius niger"], 0)
    assert {lineage.family for lineage in one.lineages} == {"Formicidae"}
    other: dict[str, Any] = {
        "id": 4,
        "taxon": NIGER | {"id": 8, "name": "Lasius flavus", "ancestor_ids": [1, 47336, 5, 8]},
    }
    told = [{"taxon": {**other["taxon"], "ancestors": ANCESTORS}}]
    photos = {"photos": [PHOTO | {"id": 78}]}
    nowhere = read(
        tmp_path,
        OBSERVATION | alone | {"identifications": []},
        OBSERVATION | other | photos | {"identifications": told},
    )
    assert nowhere.found["photo_id"].to_pylist() == ["78"]
    assert (nowhere.dropped["reason"].to_pylist(), nowhere.other_taxon) == (["name not placed"], 0)


def test_a_taxon_below_itself(tmp_path: Path) -> None:
    around = {"taxon": NIGER | {"ancestor_ids": [9, 5, 9, 1, 47336, 5, 9]}}
    assert read(tmp_path, OBSERVATION | around).found["taxon_id"].to_pylist() == ["species:Lasius niger"]
