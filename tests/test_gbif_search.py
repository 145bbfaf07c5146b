"""Photographs in saved answers of GBIF's occurrence search."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from instar.records.gathering import Gathering, short_hash
from instar.records.gbif import INATURALIST
from instar.records.gbif_search import gather
from instar.records.names import Names

REAL = Path(__file__).parents[1] / "../shared/realdata/gbif_api"
ALL = ["cc0", "cc-by", "cc-by-nc", "cc-by-nc-nd", "cc-by-nc-sa"]

PHOTO = {
    "type": "StillImage",
    "identifier": "https://m.example/1.jpg",
    "license": "http://creativecommons.org/licenses/by/4.0/",
}
ANT: dict[str, Any] = {
    "key": 1,
    "basisOfRecord": "PRESERVED_SPECIMEN",
    "scientificName": "Lasius niger (Linnaeus, 1758)",
    "taxonRank": "SPECIES",
    "family": "Formicidae",
    "genus": "Lasius",
    "species": "Lasius niger",
    "decimalLatitude": 1.5,
    "decimalLongitude": -2,
    "eventDate": "2011-05-30",
    "media": [PHOTO],
}


def read(folder: Path, *occurrences: Any, known: dict[int, str] | None = None, **more: Any) -> Gathering:
    (folder / "offset-0.json").write_text(json.dumps({"offset": 0, "results": occurrences}))
    table = pa.table([list(known or {}), list((known or {}).values())], INATURALIST)
    return gather(folder, **({"taxon": "Formicidae", "licences": ["cc-by"], "inaturalist": table} | more))


def test_nothing(tmp_path: Path) -> None:
    for one in ((), ({},), ({"media": None, "issues": None},), (ANT | {"media": []},)):
        gathering = read(tmp_path, *one)
        assert (gathering.found.num_rows, gathering.dropped.num_rows, gathering.other_taxon) == (0, 0, 0)


def test_a_row(tmp_path: Path) -> None:
    row = read(tmp_path, ANT | {"recordedBy": "A. Pictor"}).found.to_pylist()[0]
    assert row.pop("observed_at").isoformat() == "2011-05-30T00:00:00+00:00"
    assert row == {
        "key": f"gbif-{short_hash('https://m.example/1.jpg')}",
        "source": "gbif",
        "photo_id": short_hash("https://m.example/1.jpg"),
        "observation_id": "gbif-1",
        "observer_id": "gbif-A. Pictor",
        "url": "https://m.example/1.jpg",
        "sha256": None,
        "taxon_id": "species:Lasius niger",
        "latitude": 1.5,
        "longitude": -2.0,
        "basis": "specimen",
        "licence": "cc-by",
        "rights_holder": None,
        "creator": None,
        "reference": "https://www.gbif.org/occurrence/1",
        "region": None,
    }


def test_missing_keys_and_nulls(tmp_path: Path) -> None:
    for name in ANT:
        if name not in ("media", "family"):
            for one in ({k: v for k, v in ANT.items() if k != name}, ANT | {name: None}):
                assert read(tmp_path, one, ANT | {"key": 2}).found.num_rows == 2, name


def test_zero_coordinates_with_their_issue_are_none(tmp_path: Path) -> None:
    zero = ANT | {"decimalLatitude": 0.0, "decimalLongitude": 0.0}
    assert read(tmp_path, zero).found["latitude"].to_pylist() == [0]
    assert read(tmp_path, zero | {"issues": ["ZERO_COORDINATE"]}).found["latitude"].to_pylist() == [None]


def test_a_photograph_of_inaturalist_counts_there(tmp_path: Path) -> None:
    photos = [
        PHOTO | {"identifier": f"https://inaturalist-open-data.s3.amazonaws.com/photos/{n}/original.jpg"}
        for n in (5, 6)
    ]
    gathering = read(tmp_path, ANT | {"media": photos}, known={5: "inaturalist-u"})
    assert gathering.dropped["reason"].to_pylist() == ["republished by GBIF"]
    assert gathering.found.select(["key", "observation_id"]).to_pylist() == [
        {"key": "gbif-6", "observation_id": "inaturalist-u"}
    ]


# as in AntWeb's dataset, which also holds what ants live with
@pytest.mark.parametrize(
    "changes, found, other",
    [
        ({}, 1, 0),
        ({"family": "Staphylinidae", "genus": "Zyras", "species": "Zyras collaris", "order": "Coleoptera"}, 0, 1),
        ({"family": "Apidae", "genus": "Apis", "species": None, "scientificName": "Apis Linnaeus, 1758"}, 0, 1),
        ({"family": None, "order": "Coleoptera", "genus": None, "species": None, "scientificName": "Coleoptera"}, 0, 1),
        # higher taxonomy is missing: the backbone says where the name belongs
        ({"family": None, "genus": None, "species": None}, 1, 0),
        ({"family": None}, 1, 0),
        ({"family": None, "genus": None, "species": None, "scientificName": "Zyras collaris (Paykull, 1789)"}, 0, 1),
        ({"family": None, "genus": None, "species": None, "scientificName": "Zyras sp."}, 0, 1),
        ({"family": None, "genus": None, "species": None, "scientificName": "Lasius sp. 3"}, 1, 0),
        ({"family": None, "genus": "Zyras", "species": None, "scientificName": "Zyras"}, 0, 1),
    ],
)
def test_beetles_and_bees_are_no_classes(tmp_path: Path, changes: dict[str, Any], found: int, other: int) -> None:
    beetle = {
        "matchType": "EXACT",
        "confidence": 99,
        "order": "Coleoptera",
        "family": "Staphylinidae",
        "genus": "Zyras",
    }
    ant = {"matchType": "EXACT", "confidence": 99, "family": "Formicidae", "genus": "Lasius"}
    answers = {"Zyras": beetle, "Zyras collaris (Paykull, 1789)": beetle | {"species": "Zyras collaris"}, "Lasius": ant}
    answers |= dict.fromkeys(("Lasius niger", "Lasius niger (Linnaeus, 1758)"), ant | {"species": "Lasius niger"})
    gathering = read(tmp_path, ANT | changes, names=Names(answers, confidence=85))
    assert (gathering.found.num_rows, gathering.other_taxon, gathering.dropped.num_rows) == (found, other, 0)
    if found:
        taxon = "genus:Lasius" if "sp." in changes.get("scientificName", "") else "species:Lasius niger"
        assert gathering.found["taxon_id"].to_pylist() == [taxon]
        assert {one.family for one in gathering.lineages} == {"Formicidae"}


@pytest.mark.parametrize(
    "changes, taxon_id",
    [
        ({"identificationQualifier": "cf. niger"}, "genus:Lasius"),
        ({"scientificName": "Lasius niger × emarginatus"}, "genus:Lasius"),
        ({"species": None, "specificEpithet": "sp."}, "genus:Lasius"),
        ({"species": None, "specificEpithet": "niger"}, "species:Lasius niger"),
        ({"scientificName": "Formica nigra Linnaeus, 1758", "taxonomicStatus": "SYNONYM"}, "species:Lasius niger"),
    ],
)
def test_names(tmp_path: Path, changes: dict[str, Any], taxon_id: str) -> None:
    assert read(tmp_path, ANT | changes).found["taxon_id"].to_pylist() == [taxon_id]


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/gbif_api")
class TestRecordedAnswers:
    """About 900 occurrences as GBIF answered."""

    def read(self, tmp_path: Path, name: str, taxon: str = "") -> Gathering:
        (tmp_path / "page.json").write_bytes((REAL / name).read_bytes())
        return gather(tmp_path, taxon=taxon, licences=ALL, inaturalist=INATURALIST.empty_table())

    def test_salamanders_of_inaturalist(self, tmp_path: Path) -> None:
        gathering = self.read(tmp_path, "test_search_key1_0.json", "Plethodontidae")
        assert (gathering.found.num_rows + gathering.dropped.num_rows, gathering.other_taxon) == (437, 0)
        licences = Counter(gathering.found["licence"].to_pylist())
        assert licences == {"cc-by-nc": 363, "cc-by": 56, "cc0": 15, "cc-by-nc-nd": 3}
        rows = {row["key"]: row for row in gathering.found.to_pylist()}
        row = rows["gbif-345081211"]
        assert row.pop("observed_at").isoformat() == "2024-01-06T10:53:00+00:00"
        assert row == {
            "key": "gbif-345081211",
            "source": "gbif",
            "photo_id": "345081211",
            "observation_id": "gbif-https://www.inaturalist.org/observations/196061527",
            "observer_id": "gbif-Max Roberts",
            "url": "https://inaturalist-open-data.s3.amazonaws.com/photos/345081211/original.jpg",
            "sha256": None,
            "taxon_id": "species:Batrachoseps luciae",
            "latitude": 36.594182,
            "longitude": -121.808063,
            "basis": "field",
            "licence": "cc-by-nc",
            "rights_holder": "Max Roberts",
            "creator": "Max Roberts",
            "reference": "https://www.inaturalist.org/photos/345081211",
            "region": None,
        }

    def test_mushrooms_with_synonyms(self, tmp_path: Path) -> None:
        gathering = self.read(tmp_path, "test_search_0.json", "Amanitaceae")
        assert gathering.found.num_rows == 472
        assert Counter(gathering.dropped["reason"].to_pylist()) == {"licence not allowed": 15}
        assert set(gathering.found["taxon_id"].to_pylist()) == {"species:Amanita muscaria"}

    def test_cycads_of_museums(self, tmp_path: Path) -> None:
        gathering = self.read(tmp_path, "test_search_key2_0.json", "Cycadaceae")
        assert gathering.found.num_rows + gathering.dropped.num_rows == 226
        assert {"no photograph", "licence not allowed"} == set(gathering.dropped["reason"].to_pylist())
        assert {"field", "specimen"} == set(gathering.found["basis"].to_pylist())
        assert all(one.genus == "Cycas" for one in gathering.lineages)

    def test_one_occurrence_and_what_is_above_genus(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "test_get_0.json").found.num_rows == 0  # it has no media
        gathering = self.read(tmp_path, "test_search_recorded_by_id_0.json", "Fungi")
        assert set(gathering.dropped["reason"].to_pylist()) <= {"above genus", "licence not allowed"}
