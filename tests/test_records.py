"""The stage ``records``: one row per photograph from all sources, their taxa, and annotated boxes in three splits."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_folder import label, photograph
from test_gbif import ANT, PHOTO, write_archive
from test_inaturalist import OBSERVATIONS, OBSERVERS, PHOTOS, TAXA, write
from test_inaturalist_api import ANCESTORS

from instar.annotations import read_annotations
from instar.errors import InputError
from instar.files import sha256_of
from instar.masks import from_polygons
from instar.records.annotations import box_inside, read_coco, split_by_observation, split_by_time
from instar.records.gathering import short_hash
from instar.records.stage import records
from instar.records.taxonomy import lineage, taxonomy_rows
from instar.shards import shard_of
from instar.splits import stable_hash
from instar.tables import RECORDS, RECORDS_DROPPED, TAXONOMY, read_table

TINY = Path(__file__).parent / "world/tiny.yaml"
REAL = Path(__file__).parents[1] / "../shared/realdata/beesense"
NO_PARTITION = Path(__file__).parents[1] / "workflow/conf/empty/partition.csv"
CATEGORIES = [{"id": 3, "name": "ant"}]


@dataclass(frozen=True)
class Outputs:
    """Where one run of the stage wrote."""

    folder: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_table(self.folder / "records.parquet", RECORDS).to_pylist()

    @property
    def dropped(self) -> list[tuple[str, str]]:
        rows = read_table(self.folder / "dropped.parquet", RECORDS_DROPPED).to_pylist()
        return [(f"{row['source']}-{row['photo_id']}", row["reason"]) for row in rows]

    @property
    def taxa(self) -> list[dict[str, Any]]:
        return read_table(self.folder / "taxonomy.parquet", TAXONOMY).to_pylist()

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


def run(source: Path, out: Path, **changes: Any) -> Outputs:
    parameters: dict[str, Any] = {
        "seed": 0,
        "shards": ["s0", "s1"],
        "kind": "tables",
        "taxon": "Formicidae",
        "licences": ["cc0", "cc-by"],
        "quality_grades": ["research", "needs_id"],
        "photo_size": "original",
        "bbox": [],
        "observed_from": "",
        "observed_to": "",
        "max_per_species": 0,
        "name_confidence": 85,
        "annotation_split": "observation",
        "annotation_faults": "refuse",
        "annotation_validation_share": 0.25,
        "annotation_test_share": 0.25,
        "annotation_gap_s": 0.0,
        "partition": NO_PARTITION,
        "outline_categories": [],
        "min_mask_px": 15,
        "tray_margin_px": 200,
    }
    tables = [out / f"{name}.parquet" for name in ("records", "dropped", "taxonomy")]
    jsons = [out / f"{name}.json" for name in ("annotations", "metrics")]
    more = [out / name for name in ("barcodes.parquet", "specimens.csv", "outlines.csv", "individuals.parquet")]
    records(source, out / "source", *tables, *jsons, *more, **(parameters | changes))
    return Outputs(out)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "downloaded"
    (folder / "inaturalist-open-data").mkdir(parents=True)
    for name, text in {"taxa": TAXA, "observations": OBSERVATIONS, "photos": PHOTOS, "observers": OBSERVERS}.items():
        write(folder / "inaturalist-open-data", name, text)
    old = ANT | {"gbifID": "2", "scientificName": "Lasius vetus (L., 1758)", "taxonomicStatus": "SYNONYM"}
    again = PHOTO | {"gbifID": "3", "identifier": "https://static.inaturalist.org/photos/1/large.jpg"}
    refused = PHOTO | {"gbifID": "3", "identifier": "https://static.inaturalist.org/photos/2/large.jpg"}
    media = [PHOTO, PHOTO | {"gbifID": "2"}, again, refused, PHOTO | {"gbifID": "nothing"}]
    write_archive(folder / "gbif.zip", [ANT, old, ANT | {"gbifID": "3"}], media)
    return folder


def test_nothing_is_left(tmp_path: Path) -> None:
    downloaded = tmp_path / "downloaded"
    with pytest.raises(InputError, match="no such folder"):
        run(downloaded, tmp_path)
    downloaded.mkdir()
    with pytest.raises(InputError, match=r"neither a folder inaturalist-open-data, .* nor a Darwin Core Archive"):
        run(downloaded, tmp_path)
    write_archive(downloaded / "a.zip", [ANT], [PHOTO, PHOTO, PHOTO | {"identifier": ""}])
    with pytest.raises(InputError, match=r"no photograph is left \(licence not allowed: 2, no photograph: 1\)"):
        run(downloaded, tmp_path, licences=["cc0"])
    with pytest.raises(InputError, match=r"no photograph is left \(other taxon: 3\)"):
        run(downloaded, tmp_path, taxon="Apidae")


@pytest.mark.parametrize("kind", ["tables", "folder", "world"])
@pytest.mark.parametrize("place", ["source", "source/within", "."])
def test_the_source_is_never_written_over(tmp_path: Path, kind: str, place: str) -> None:
    mine = tmp_path / place / "mine.jpg"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"is or holds the output .*source|lies in the output .*source"):
        run(tmp_path / place, tmp_path, kind=kind)
    assert mine.read_bytes() == b"mine"


def test_two_sources(source: Path, tmp_path: Path) -> None:
    outputs = run(source, tmp_path)
    rows = {row["key"]: row for row in outputs.rows}
    museum = f"gbif-{short_hash(PHOTO['identifier'])}"
    assert set(rows) == {"inaturalist-1", "inaturalist-3", "inaturalist-4", "inaturalist-9", museum}
    assert rows[museum]["observation_id"] == "gbif-1"  # the first of two occurrences with this photograph
    assert rows["inaturalist-9"]["taxon_id"] == "species:Lasius niger"  # inactive there; GBIF says what is accepted
    assert sorted(outputs.dropped) == [
        ("gbif-1", "republished by GBIF"),
        ("gbif-2", "republished by GBIF"),  # although its licence let iNaturalist's own row not through
        (museum, "listed twice"),
        ("inaturalist-10", "no photograph"),
        ("inaturalist-2", "licence not allowed"),
        ("inaturalist-5", "above genus"),
        ("inaturalist-6", "quality grade"),
        ("inaturalist-7", "no taxon"),
    ]
    metrics = outputs.json("metrics.json")
    assert metrics["rows"] == {
        "in": 16,  # 11 rows of photos and 5 of multimedia
        "out": 5,
        "dropped": {
            "above genus": 1,
            "licence not allowed": 1,
            "listed twice": 1,
            "no photograph": 1,
            "no taxon": 1,
            "other taxon": 3,
            "quality grade": 1,
            "republished by GBIF": 2,
        },
    }
    assert metrics["sources"] == {"gbif": 1, "inaturalist": 4}
    assert metrics["licences"] == {"cc-by": 4, "cc0": 1}
    counted = {name: metrics[name] for name in ("observations", "observers", "taxa", "with_coordinates")}
    assert counted == {"observations": 5, "observers": 3, "taxa": 2, "with_coordinates": 3}
    assert metrics["synonyms_replaced"] == 1


def test_taxa_are_those_of_the_records_and_above(source: Path, tmp_path: Path) -> None:
    names = ["taxon_id", "parent_id", "species", "genus", "family"]
    assert [[row[name] for name in names] for row in run(source, tmp_path).taxa] == [
        ["family:Formicidae", None, None, None, "Formicidae"],
        ["genus:Lasius", "family:Formicidae", None, "Lasius", "Formicidae"],
        ["species:Lasius niger", "genus:Lasius", "Lasius niger", "Lasius", "Formicidae"],
    ]


def answers(source: Path) -> None:
    """Saved answers of both services, and the backbone's about two names."""
    photo = {"id": 1, "license_code": "cc-by", "url": "https://static.inaturalist.org/photos/1/square.jpg"}
    taxon = {"id": 3, "rank": "species", "name": "Lasius vetus", "ancestor_ids": [1, 2, 3]}
    above = [{"id": 2, "rank": "family", "name": "Formicidae"}, {"id": 1, "rank": "kingdom", "name": "Animalia"}]
    seen = {"id": 5, "uuid": "z", "quality_grade": "research", "taxon": taxon, "photos": [photo, photo | {"id": 50}]}
    seen["identifications"] = [{"taxon": {**taxon, "ancestors": above}}]
    (source / "inaturalist-api").mkdir()
    (source / "inaturalist-api/page.json").write_text(json.dumps({"results": [seen]}))
    addresses = [f"https://inaturalist-open-data.s3.amazonaws.com/photos/{n}/original.jpg" for n in (50, 51)]
    media = [PHOTO | {"identifier": address} for address in [*addresses, PHOTO["identifier"]]]
    beetle = ANT | {"key": 8, "family": "Staphylinidae", "genus": "Zyras", "species": "Zyras collaris", "media": media}
    (source / "gbif-search").mkdir()
    (source / "gbif-search/page.json").write_text(json.dumps({"results": [ANT | {"key": 7, "media": media}, beetle]}))
    niger = {
        "matchType": "EXACT",
        "confidence": 98,
        "family": "Formicidae",
        "genus": "Lasius",
        "species": "Lasius niger",
    }
    lines = [json.dumps({"name": name, "answer": niger}) for name in ("Lasius niger", "Lasius vetus")]
    (source / "backbone.jsonl").write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("held_rows", [1 << 17, 1])
def test_every_source_at_once(source: Path, tmp_path: Path, held_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables, saved answers of both services and an archive; one photograph counts once, with iNaturalist's row."""
    monkeypatch.setattr("instar.records.spill.HELD_ROWS", held_rows)
    answers(source)
    outputs = run(source, tmp_path)
    rows = {row["key"]: row for row in outputs.rows}
    museum = f"gbif-{short_hash(PHOTO['identifier'])}"
    photographs = {f"inaturalist-{n}" for n in (1, 3, 4, 9, 50)} | {"gbif-51", museum}
    assert set(rows) == photographs
    assert rows["inaturalist-50"]["observation_id"] == rows["gbif-51"]["observation_id"] == "inaturalist-z"
    assert {rows[key]["taxon_id"] for key in ("inaturalist-50", "gbif-51", "inaturalist-9")} == {"species:Lasius niger"}
    assert ("inaturalist-1", "listed twice") in outputs.dropped
    assert ("gbif-50", "republished by GBIF") in outputs.dropped
    assert outputs.json("metrics.json")["rows"]["dropped"]["other taxon"] == 3 + 3
    assert not any("Zyras" in row["name"] for row in outputs.taxa)


def test_saved_answers_pass_the_filters_and_what_is_malformed_in_them_is_counted(tmp_path: Path) -> None:
    taxon = {"id": 3, "rank": "species", "name": "Lasius niger", "ancestor_ids": [3]}
    seen = {"uuid": "a", "quality_grade": "research", "taxon": taxon, "user": {"id": 4, "name": "Ann"}}
    seen |= {"observed_on": "2011-05-30", "location": "52,13"}
    late = {"uuid": "b", "observed_on": "2012-01-01"}
    there = {"decimalLatitude": 52, "decimalLongitude": 13}

    def photos(number: int) -> list[dict[str, Any]]:
        url = f"https://static.inaturalist.org/photos/{number}/square.jpg"
        return [{"id": number, "license_code": "cc0", "url": url}]

    def media(number: int) -> list[dict[str, str]]:
        return [PHOTO | {"identifier": f"https://m.example/{number}.jpg", "creator": "B. Pictor"}]

    pages: dict[str, list[Any]] = {
        "inaturalist-api": [
            seen | {"photos": [*photos(1), None, {"id": None}]},
            seen | late | {"photos": photos(2)},
            "no observation",
        ],
        "gbif-search": [
            ANT | there | {"key": 1, "eventDate": "2011-05-30", "media": [*media(1), "no photograph"]},
            ANT | there | {"key": 2, "eventDate": "2011-05-30", "media": media(2), "decimalLatitude": 0},
            7,
        ],
    }
    for name, results in pages.items():
        (tmp_path / "downloaded" / name).mkdir(parents=True)
        (tmp_path / "downloaded" / name / "page.json").write_text(json.dumps({"results": results}))
    outputs = run(tmp_path / "downloaded", tmp_path, taxon="", bbox=[10, 50, 20, 60], observed_to="2011-12-31")
    kept, outside = (f"gbif-{short_hash(f'https://m.example/{number}.jpg')}" for number in (1, 2))
    creators = {row["key"]: row["creator"] for row in outputs.rows}
    assert creators == {"inaturalist-1": "Ann", kept: "B. Pictor"}
    assert sorted(outputs.dropped) == [
        (outside, "outside the box"),
        ("gbif-None", "malformed row"),
        ("inaturalist-2", "outside the dates"),
        *[("inaturalist-None", "malformed row")] * 2,
    ]
    assert outputs.json("metrics.json")["malformed_rows"] == {
        "gbif-search media": 1,
        "gbif-search results": 1,
        "inaturalist-api photos": 2,
        "inaturalist-api results": 1,
    }


def test_the_given_split(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for number, name in enumerate(("train/a", "train/b", "val/c", "test/d", "loose")):
        photograph(mine / f"images/{name}.jpg", width=40 + number)
        label(mine / f"labels/{name}.txt", "0 0.5 0.5 0.25 0.5\n" if number else "")
    photograph(mine / "images/train/copy.jpg", width=43)
    label(mine / "labels/train/copy.txt", "0 0.5 0.5 0.25 0.5\n")
    outputs = run(mine, tmp_path, kind="folder", annotation_split="given")
    metrics = outputs.json("metrics.json")
    assert metrics["annotations"]["photographs"] == {"train": 2, "validation": 1, "test": 1}
    assert metrics["annotations"]["boxes"] == {"train": 1, "validation": 1, "test": 1}
    assert metrics["annotations"]["left_out"] == {"no given split": 1, "same photograph in two splits": 1}
    assert metrics["annotation_checks"] == {
        "photographs without a box": 1,
        "photographs that are copies of another": 1,
        "photographs in two given splits": 1,
    }
    splits = {image["file_name"]: image["split"] for image in outputs.json("annotations.json")["images"]}
    assert splits["folder-test-d"] == "test"
    assert "folder-train-copy" not in splits


@pytest.mark.parametrize(
    "changes, labels, told",
    [
        (
            {"annotation_split": "time_block"},
            "0 0.5 0.5 0.25 0.5\n",
            r"3 annotated photographs, all left out \(no time: 3\); set records\.annotation_split=observation",
        ),
        (
            {"annotation_split": "given"},
            "0 0.5 0.5 0.25 0.5\n",
            r"3 annotated photographs, all left out \(no given split: 3\); set records\.annotation_split=observation",
        ),
        (
            {"annotation_faults": "leave_out"},
            "9 0.5 0.5 0.25 0.5\n",
            r"3 annotated photographs, all left out \(wrong label: 3\); mend the labels",
        ),
    ],
)
def test_annotations_of_which_none_is_left(tmp_path: Path, changes: dict[str, Any], labels: str, told: str) -> None:
    for name in ("a", "b", "c"):
        photograph(tmp_path / f"mine/images/{name}.jpg")
        label(tmp_path / f"mine/labels/{name}.txt", labels)
    with pytest.raises(InputError, match=told):
        run(tmp_path / "mine", tmp_path, kind="folder", **changes)
    assert not (tmp_path / "annotations.json").exists()


def test_a_split_without_photographs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        photograph(tmp_path / f"mine/images/{name}.jpg")
        label(tmp_path / f"mine/labels/{name}.txt", "0 0.5 0.5 0.25 0.5\n")
    run(tmp_path / "mine", tmp_path / "all", kind="folder", annotation_split="photograph")
    assert "the run will stop" not in capsys.readouterr().err
    (tmp_path / "mine/labels/c.txt").unlink()
    found = run(tmp_path / "mine", tmp_path / "two", kind="folder", annotation_split="photograph")
    told = ", ".join(f"{split} {n}" for split, n in found.json("metrics.json")["annotations"]["photographs"].items())
    assert f"annotated photographs: {told}: without " in capsys.readouterr().err


def test_shards_stand_together_and_come_from_the_key(source: Path, tmp_path: Path) -> None:
    shards = ["z", "y", "x"]
    rows = run(source, tmp_path, shards=shards).rows
    assert [row["shard"] for row in rows] == [shard_of(row["key"], shards) for row in rows]
    assert rows == sorted(rows, key=lambda row: (row["shard"], row["key"])) != sorted(rows, key=lambda row: row["key"])


def test_gbif_alone_gives_inaturalists_photographs(source: Path, tmp_path: Path) -> None:
    for path in (source / "inaturalist-open-data").iterdir():
        path.unlink()
    (source / "inaturalist-open-data").rmdir()
    assert {"gbif-1", "gbif-2"} < {row["key"] for row in run(source, tmp_path).rows}


def test_a_photograph_of_two_observations_counts_once(source: Path, tmp_path: Path) -> None:
    # the first observation, a, has it; of 6 the first is not taken, so that it counts under b
    more = "u\t3\ta\t7\tpng\tCC0\t10\t10\t3\nu\t6\tb\t7\tjpg\tCC-BY\t10\t10\t3\n"
    more += "".join(f"u\t3\to{number}\t7\tpng\tCC0\t10\t10\t3\n" for number in range(8))
    ids = "".join(f"o{number}\t7\t1\t1\t5\t12\tresearch\t2011-05-30\n" for number in range(8))
    write(source / "inaturalist-open-data", "observations", OBSERVATIONS + ids)
    write(source / "inaturalist-open-data", "photos", PHOTOS + more)
    outputs = run(source, tmp_path)
    observations = {row["key"]: row["observation_id"] for row in outputs.rows}
    assert (observations["inaturalist-3"], observations["inaturalist-6"]) == ("inaturalist-a", "inaturalist-b")
    assert ("inaturalist-3", "listed twice") in outputs.dropped


@pytest.mark.parametrize(
    ("republished", "observation"),
    [
        ("1", "inaturalist-a"),
        ("2", "inaturalist-a"),  # dropped there for its licence; its sibling 1 is taken
        ("6", "inaturalist-b"),  # of two observations: where it is taken, not where it is dropped
        ("99", "gbif-1"),  # the tables do not have it
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_occurrence_republished_in_part_is_one_observation(
    source: Path, tmp_path: Path, republished: str, observation: str, first: bool
) -> None:
    write(source / "inaturalist-open-data", "photos", PHOTOS + "u\t6\tb\t7\tjpg\tCC-BY\t10\t10\t3\n")
    photo = PHOTO | {"identifier": f"https://static.inaturalist.org/photos/{republished}/large.jpg"}
    more = PHOTO | {"identifier": "https://static.inaturalist.org/photos/77/large.jpg"}
    write_archive(source / "gbif.zip", [ANT], [photo, more] if first else [more, photo])
    observations = {row["key"]: row["observation_id"] for row in run(source, tmp_path).rows}
    assert observations["gbif-77"] == observation


def test_place_and_time_hold_for_all_sources(source: Path, tmp_path: Path) -> None:
    place = {"decimalLatitude": "52", "decimalLongitude": "13", "eventDate": "2011-05-30"}
    far = place | {"gbifID": "2", "decimalLongitude": "14.1"}
    media = [PHOTO | {"gbifID": str(number), "identifier": f"https://m.example/{number}.jpg"} for number in (1, 2, 3)]
    write_archive(source / "gbif.zip", [ANT | place, ANT | far, ANT | {"gbifID": "3"}], media)
    keys = {f"gbif-{short_hash(f'https://m.example/{number}.jpg')}": number for number in (1, 2, 3)}
    outputs = run(source, tmp_path, bbox=[13, 52, 14, 53], observed_from="2011-05-30", observed_to="2011-12-31")
    assert {keys.get(row["key"], row["key"]) for row in outputs.rows} == {"inaturalist-1", 1}
    reasons = {keys.get(key, key): reason for key, reason in outputs.dropped}
    assert [reasons[2], reasons[3]] == ["outside the box", "no coordinates"]
    assert [reasons[f"inaturalist-{number}"] for number in (3, 4, 2)] == [
        "no coordinates",
        "outside the box",
        "licence not allowed",  # what the source says comes first
    ]
    outputs = run(source, tmp_path / "again", observed_to="2011-12-31")
    assert ("inaturalist-4", "outside the dates") in outputs.dropped
    assert ("inaturalist-3", "no date") in outputs.dropped
    with pytest.raises(InputError, match=r"no photograph is left \(outside the box: 5, .*no coordinates: 2"):
        run(source, tmp_path / "third", bbox=[-10, -10, -9, -9])
    assert [path.name for path in (tmp_path / "third").iterdir()] == ["source"]


def test_a_wrong_box_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"records.bbox = \[1, 2\] is not allowed"):
        run(tmp_path / "nothing", tmp_path, bbox=[1, 2])


def more_photographs(folder: Path, order: int = 1) -> None:
    """20 observations of Lasius niger with 1, 2, 3, 1, … photographs, and one of the genus with 2."""
    observations = [f"o{number}\t7\t1\t1\t5\t12\tresearch\t2011-05-30\n" for number in range(20)]
    observations.append("o20\t7\t1\t1\t5\t11\tresearch\t2011-05-30\n")
    owners = [number for number in range(20) for _ in range(1 + number % 3)] + [20, 20]
    photos = [f"u\t{100 + at}\to{owner}\t7\tjpg\tCC0\t1\t1\t0\n" for at, owner in enumerate(owners)]
    for name, text, lines in (("observations", OBSERVATIONS, observations), ("photos", PHOTOS, photos)):
        write(folder / "inaturalist-open-data", name, text.splitlines()[0] + "\n" + "".join(lines[::order]))


def test_a_maximum_per_species_takes_whole_observations(source: Path, tmp_path: Path) -> None:
    (source / "gbif.zip").unlink()
    more_photographs(source)
    every = run(source, tmp_path).rows
    of = {row["key"]: row["observation_id"] for row in every}
    ants = [key for key, name in of.items() if name != "inaturalist-o20"]
    assert (len(every), len(ants)) == (41, 39)
    expected = sorted(ants, key=lambda key: (stable_hash(5, of[key]), key))[:10]
    outputs = run(source, tmp_path / "some", max_per_species=10, seed=5)
    kept = {row["key"] for row in outputs.rows}
    assert kept == {*expected, "inaturalist-139", "inaturalist-140"}  # a genus is counted for itself
    assert {key for key, _ in outputs.dropped} == set(ants) - kept
    assert outputs.json("metrics.json")["rows"]["dropped"] == {"beyond the maximum per species": 29}
    cut = [
        name for name in set(of.values()) if 0 < sum(of[key] == name for key in kept) < list(of.values()).count(name)
    ]
    assert len(cut) <= 1
    again = run(source, tmp_path / "one", max_per_species=1, seed=5)
    assert {row["key"] for row in again.rows} == {expected[0], "inaturalist-139"}
    other = {row["key"] for row in run(source, tmp_path / "other", max_per_species=10, seed=6).rows}
    assert other != kept


def test_neither_order_nor_memory_nor_shards_show(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_photographs(source)
    changes: dict[str, Any] = {"max_per_species": 10, "bbox": [0, 0, 20, 60]}
    run(source, tmp_path / "a", **changes)
    more_photographs(source, order=-1)
    monkeypatch.setattr("instar.records.spill.HELD_ROWS", 8)
    monkeypatch.setattr("instar.records.spill.BLOCK_ROWS", 2)
    monkeypatch.setattr("instar.records.delimited.BLOCK_BYTES", 256)
    outputs = run(source, tmp_path / "b", **changes)
    for name in ("records.parquet", "dropped.parquet", "taxonomy.parquet", "metrics.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    one = run(source, tmp_path / "c", shards=["only"], **changes)
    assert [row["key"] for row in one.rows] == sorted(row["key"] for row in outputs.rows)
    assert sorted(one.dropped) == sorted(outputs.dropped)


def test_what_could_not_be_read_and_was_not_allowed_is_in_the_metrics(source: Path, tmp_path: Path) -> None:
    write(source / "inaturalist-open-data", "photos", PHOTOS.replace("u\t1\t", "u\t\t1\t"))
    write(source / "inaturalist-open-data", "observations", OBSERVATIONS.replace("c\t8\t", "c\t8\t\t"))
    refused = PHOTO | {"license": "http://creativecommons.org/licenses/by-nc/4.0/"}
    write_archive(source / "gbif.zip", [ANT], [PHOTO, refused])
    metrics = run(source, tmp_path).json("metrics.json")
    assert metrics["malformed_rows"] == {"inaturalist observations": 1, "inaturalist photos": 1}
    assert metrics["licences_excluded"] == {"all-rights-reserved": 1, "cc-by-nc": 1}
    dropped = metrics["rows"]["dropped"]
    assert (dropped["malformed row"], dropped["malformed observation"]) == (1, 1)
    assert metrics["rows"]["in"] == metrics["rows"]["out"] + sum(dropped.values()) == 13


def test_wrong_annotations_are_told_before_the_tables_are_read(source: Path, tmp_path: Path) -> None:
    (source / "annotations.json").write_text(coco([IMAGE], [BOX | {"bbox": [10, 20, 30]}]))
    write(source / "inaturalist-open-data", "photos", "")
    with pytest.raises(InputError, match="annotation 1: bbox has 3 columns"):
        run(source, tmp_path)


def test_the_manifest_tells_what_was_read(source: Path, tmp_path: Path) -> None:
    (source / ".gbif.zip.part-123").write_bytes(b"what a killed command leaves behind")
    run(source, tmp_path)
    first, *rows = (tmp_path / "source/manifest.csv").read_text().splitlines()
    assert first == "file,bytes,sha256"
    archive = source / "gbif.zip"
    assert rows[0] == f"gbif.zip,{archive.stat().st_size},{sha256_of(archive)}"
    assert len(rows) == 5


def test_a_second_run_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "a")
    run(source, tmp_path / "b")
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")


def coco(images: list[dict[str, Any]], boxes: list[dict[str, Any]], **changes: Any) -> str:
    return json.dumps({"images": images, "annotations": boxes, "categories": CATEGORIES, **changes})


IMAGE = {"id": 9, "file_name": "inaturalist-1.jpg", "width": 100, "height": 50}
BOX = {"id": 1, "image_id": 9, "category_id": 3, "bbox": [10, 20, 30, 30.5]}


def test_without_annotations(source: Path, tmp_path: Path) -> None:
    outputs = run(source, tmp_path)
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "Formicidae"}]}
    assert outputs.json("annotations.json") == empty
    nothing = {"train": 0, "validation": 0, "test": 0}
    assert outputs.json("metrics.json")["annotations"] == {"photographs": nothing, "boxes": nothing, "left_out": {}}


def test_coco_annotations(source: Path, tmp_path: Path) -> None:
    images = [
        IMAGE,
        IMAGE | {"id": 4, "file_name": "inaturalist-3"},
        IMAGE | {"id": 5, "file_name": "inaturalist-8.jpg"},
    ]
    drawn = [[0, 0, 4, 0, 4, 5, 0, 5]]
    mask = {"size": [50, 100], "counts": from_polygons([drawn], 50, 100).rle(50, 100)[0].decode()}
    boxes = [
        BOX,
        BOX | {"id": 7, "bbox": [0, 0, 5, 6], "segmentation": drawn, "area": 17},
        BOX | {"id": 8, "image_id": 5},
    ]
    (source / "annotations.json").write_text(coco(images, boxes))
    outputs = run(source, tmp_path)
    written = outputs.json("annotations.json")
    assert [(image["id"], image["file_name"], image["width"]) for image in written["images"]] == [
        (1, "inaturalist-1", 100),
        (2, "inaturalist-3", 100),
    ]
    plain = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0}
    assert written["annotations"] == [
        {**plain, "bbox": [10, 20, 30, 30], "area": 900},  # cut at the lower edge, which it passed by half a pixel
        {**plain, "id": 2, "bbox": [0, 0, 5, 6], "area": 20, "segmentation": mask},
    ]
    assert written["categories"] == [{"id": 1, "name": "ant"}]
    assert outputs.json("metrics.json")["annotations"]["left_out"] == {"not among the records": 1}


UNUSABLE: dict[str, list[Any]] = {
    "fewer than three points": [[[0, 0, 4, 4]], [[0, 0]], [[]]],
    "broken RLE": [{"size": [50, 100], "counts": [0, 3, 9]}],
    "RLE of another size than the picture": [{"size": [100, 50], "counts": [0, 5000]}],
    "coordinates are no pairs of numbers": [[[0, 0, 1e300, 0, 1e300, 1e300]]],
}


def test_outlines_of_boxes_are_cleaned(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What other tools export besides rings: one photograph is left out, the masks of the other stay."""
    size = {"size": [50, 100]}
    given: list[Any] = [
        {**size, "counts": [0, 3, 47, 3, 4947]},  # RLE that is not compressed
        [[0, 0, 4, 0, 4, 5, 0, 5], [1, 1, 2, 2]],
        [[[0, 0], [4, 0], [4, 5]]],
    ]
    boxes = [BOX | {"id": i, "segmentation": one, "area": float("nan")} for i, one in enumerate(given)]
    boxes.append(BOX | {"id": 9, "iscrowd": 1, "segmentation": {**size, "counts": [0, 3, 47, 3, 447, 9, 4491]}})
    other = IMAGE | {"id": 4, "file_name": "inaturalist-3"}
    bad = [one for several in UNUSABLE.values() for one in several]
    boxes += [BOX | {"id": 20 + i, "image_id": 4, "segmentation": one} for i, one in enumerate([given[1], *bad])]
    (source / "annotations.json").write_text(coco([IMAGE, other], boxes))
    outputs = run(source, tmp_path, annotation_faults="leave_out")
    assert [one["area"] for one in outputs.json("annotations.json")["annotations"]] == [6, 20, 10, 15]
    told = outputs.json("metrics.json")
    assert told["annotations"]["left_out"] == {"an outline that cannot be used": 1}
    assert told["outlines"] == {
        "in": 11,
        "out": 4,
        "dropped": {
            **{reason: len(several) for reason, several in sorted(UNUSABLE.items())},
            "photograph left out: an outline that cannot be used": 1,
        },
        "changed": {"ring of fewer than three points left out": 1},
    }
    problem = "annotations.json: annotation 21: photograph inaturalist-3: outline cannot be used (fewer than three"
    assert problem in capsys.readouterr().err
    (photograph,), _ = read_annotations(tmp_path / "annotations.json")
    assert photograph.crowded
    assert photograph.masks is not None
    with pytest.raises(InputError) as error:
        run(source, tmp_path / "refused")
    assert problem in str(error.value)
    assert str(error.value).endswith("; mend it, or set records.annotation_faults=leave_out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not a COCO JSON"),
        ("{}", "'categories' is missing"),
        (
            coco([IMAGE], [BOX | {"bbox": [10, 20, 30, 31.5]}]),
            "annotation 1: box 10, 20, 40, 51.5 is outside the photograph",
        ),
        (coco([IMAGE], [BOX | {"bbox": [10, 20, 30]}]), "annotation 1: bbox has 3 columns"),
        (coco([IMAGE], [BOX | {"category_id": 1}]), "annotation 1: category_id 1 is unknown"),
        (coco([IMAGE], [BOX | {"image_id": 1}]), "annotation 1: image_id 1 is unknown"),
        (coco([IMAGE, IMAGE | {"id": 8}], []), "photograph inaturalist-1 is there twice"),
        (coco([IMAGE, IMAGE | {"file_name": "b"}], []), "1 images have the id of another one"),
        (coco([IMAGE | {"width": float("inf")}], []), "cannot convert float infinity"),
        (coco([IMAGE], [BOX | {"bbox": [10**400, 20, 30, 5]}]), "int too large"),
        ("[" * 100_000, "not a COCO JSON"),
    ],
)
def test_broken_coco(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_coco(tmp_path / "a.json", pa.chunked_array([["inaturalist-1"]]))


def test_coco_with_a_byte_order_mark_and_a_null_crowd(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\ufeff" + coco([IMAGE], [BOX | {"iscrowd": None}]))
    found = read_coco(tmp_path / "a.json", pa.chunked_array([["inaturalist-1"]]))
    assert [one.more for one in found.photographs["inaturalist-1"].boxes] == [{"iscrowd": 0}]


def test_box_inside() -> None:
    assert box_inside([-1, -1, 12, 6], 10, 5, "a") == [0, 0, 10, 5]
    for bbox in ([-1.01, 0, 5, 5], [0, 0, 11.01, 5], [0, 0, 5, 6.01], [float("nan"), 0, 5, 5], [10, 0, 0.5, 5]):
        with pytest.raises(InputError):
            box_inside(bbox, 10, 5, "a")


def test_split_by_observation() -> None:
    shares: dict[str, Any] = {"validation_share": 0.15, "test_share": 0.2, "seed": 0}
    assert split_by_observation({}, **shares) == {}
    observations = {f"{i}-{j}": str(i) for i in range(200) for j in range(1 + i % 3)}
    splits = split_by_observation(observations, **shares)
    assert all(
        len({splits[key] for key in observations if observations[key] == one}) == 1 for one in observations.values()
    )
    counts = [list(splits.values()).count(name) / len(splits) for name in ("train", "validation", "test")]
    assert counts == pytest.approx([0.65, 0.15, 0.2], abs=0.01)
    # the middles of the second and third of seven lie at 3/14 and 5/14
    few = split_by_observation(
        dict(zip("abcdefg", "abcdefg", strict=True)), validation_share=0.2, test_share=0.2, seed=0
    )
    assert [list(few.values()).count(name) for name in ("train", "validation", "test")] == [4, 2, 1]
    backwards = dict(reversed(observations.items()))
    assert split_by_observation(backwards, **shares) == splits
    # of so few that a share is less than half an observation, one each
    for n in (3, 4):
        one_each = split_by_observation(
            {str(i): str(i) for i in range(n)}, validation_share=0.15, test_share=0.2, seed=0
        )
        assert sorted(one_each.values()) == ["test", *["train"] * (n - 2), "validation"]
    # uneven ones: the largest trains, whatever the order
    uneven = {f"{name}{i}": name for name, n in (("a", 100), ("b", 1), ("c", 1)) for i in range(n)}
    for seed in range(6):
        splits_of = split_by_observation(uneven, **(shares | {"seed": seed}))
        assert [splits_of["a0"], *sorted([splits_of["b0"], splits_of["c0"]])] == ["train", "test", "validation"]
    two = split_by_observation({"a": "a", "b": "b"}, validation_share=0.15, test_share=0.2, seed=0)
    assert sorted(two.values()) == ["train", "validation"]
    assert split_by_observation(observations, **(shares | {"seed": 1})) != splits


def test_split_by_time() -> None:
    shares: dict[str, Any] = {"validation_share": 0.2, "test_share": 0.2}
    assert split_by_time({}, **shares, gap_s=0) == {}
    start = datetime(2025, 1, 1, tzinfo=UTC)
    times = {f"k{i}": start + timedelta(seconds=10 * i) for i in (9, 1, 2, 3, 4, 5, 6, 7, 8, 0)}
    splits = split_by_time(times, **shares, gap_s=0)
    assert [splits[f"k{i}"] for i in range(10)] == ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    assert split_by_time(times, **shares, gap_s=10) == splits  # neighbours are 10 s apart, which is not closer
    with_gap = split_by_time(times, **shares, gap_s=10.5)
    assert [key for key in sorted(times) if with_gap[key] is None] == ["k5", "k7"]


def test_folder(tmp_path: Path) -> None:
    for second in range(8):
        photograph(tmp_path / f"mine/images/2025010100000{second}.jpg")
        label(tmp_path / f"mine/labels/2025010100000{second}.txt", "0 0.5 0.5 0.25 0.5\n")
    photograph(tmp_path / "mine/images/later.jpg")
    label(tmp_path / "mine/labels/later.txt", "")
    changes: dict[str, Any] = {"kind": "folder", "annotation_split": "time_block", "annotation_gap_s": 1.5}
    outputs = run(tmp_path / "mine", tmp_path, **changes)
    metrics = outputs.json("metrics.json")
    assert metrics["rows"] == {"in": 9, "out": 9, "dropped": {}}  # the licence unknown is not in the list
    assert metrics["annotations"]["photographs"] == {"train": 3, "validation": 1, "test": 2}
    assert metrics["annotations"]["left_out"] == {"no time": 1, "too close to a block's border": 2}
    assert outputs.taxa == []
    assert (tmp_path / "source/manifest.csv").read_text().count("\n") == 1 + 9 + 9


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/beesense")
def test_bees(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"kind": "folder", "annotation_split": "time_block", "annotation_gap_s": 2.0, "taxon": ""}
    metrics = run(REAL, tmp_path, **changes).json("metrics.json")
    photographs = metrics["annotations"]["photographs"]
    assert metrics["rows"]["out"] == 100
    assert sum(photographs.values()) + sum(metrics["annotations"]["left_out"].values()) == 100
    assert (photographs["validation"] <= 25, photographs["test"]) == (True, 25)


def test_a_family_that_only_the_second_source_tells() -> None:
    sources = [[lineage("Lasius niger", "Lasius", None)], [lineage(None, "Lasius", "Formicidae")]]
    rows = taxonomy_rows(sources, ["species:Lasius niger"])
    assert [(row["taxon_id"], row["parent_id"], row["family"]) for row in rows] == [
        ("family:Formicidae", None, "Formicidae"),
        ("genus:Lasius", "family:Formicidae", "Formicidae"),
        ("species:Lasius niger", "genus:Lasius", "Formicidae"),
    ]


def test_taxonomy_of_sources_that_differ() -> None:
    assert taxonomy_rows([], []) == []
    first = {lineage("Aus bus", "", ""), lineage("Aus cus", None, "Aidae")}
    second = {lineage("Aus bus", "Aus", "Bidae"), lineage("Xus yus", "Xus", "Xidae")}
    rows = taxonomy_rows([first, second], ["species:Aus bus"])
    assert [(row["taxon_id"], row["parent_id"], row["family"]) for row in rows] == [
        ("family:Aidae", None, "Aidae"),
        ("genus:Aus", "family:Aidae", "Aidae"),
        ("species:Aus bus", "genus:Aus", "Aidae"),
    ]


def test_the_tiny_world(tmp_path: Path) -> None:
    licences = ["cc0", "cc-by", "cc-by-sa", "cc-by-nc", "cc-by-nc-sa", "cc-by-nd", "cc-by-nc-nd"]
    outputs = run(TINY, tmp_path, kind="world", licences=licences, seed=3)
    rows, metrics = outputs.rows, outputs.json("metrics.json")
    assert metrics["rows"]["in"] == len(rows) + len(outputs.dropped) + metrics["rows"]["dropped"]["other taxon"]
    assert {row["source"] for row in rows} == {"inaturalist", "gbif"}
    assert {row["basis"] for row in rows if row["source"] == "gbif"} == {"specimen"}
    assert metrics["rows"]["dropped"]["republished by GBIF"] > 0
    # every photograph of a record lies where the record says, but the one that the world leaves out
    mirror = tmp_path / "source/mirror"
    assert sum(not (mirror / row["url"].removeprefix("https://")).is_file() for row in rows) <= 1
    taxa = {row["taxon_id"] for row in outputs.taxa}
    assert {row["taxon_id"] for row in rows} < taxa
    assert "species:Velomyrma atrata" not in taxa
    drawn = json.loads((tmp_path / "source/annotations.json").read_text())
    left_out = metrics["annotations"]["left_out"].get("not among the records", 0)
    assert len(outputs.json("annotations.json")["images"]) == len(drawn["images"]) - left_out
    assert pq.read_metadata(tmp_path / "records.parquet").num_rows == len(rows)


def test_photographs_of_another_size(source: Path, tmp_path: Path) -> None:
    full = {row["key"]: row["url"] for row in run(source, tmp_path / "full").rows}
    large = {row["key"]: row["url"] for row in run(source, tmp_path / "large", photo_size="large").rows}
    assert full.keys() == large.keys()
    assert "https://inaturalist-open-data.s3.amazonaws.com/photos/1/original.jpg" in full.values()
    for key, url in full.items():
        assert large[key] == (url.replace("original", "large") if "inaturalist" in url else url)
    assert any("inaturalist" not in url for url in large.values())


def test_ids_that_are_no_numbers_beside_an_archive(source: Path, tmp_path: Path) -> None:
    write(source / "inaturalist-open-data", "photos", PHOTOS + "u\tx1\ta\t7\tjpg\tCC-BY\t10\t10\t0\n")
    outputs = run(source, tmp_path)
    assert ("inaturalist-x1", "malformed row") in outputs.dropped
    assert ("gbif-1", "republished by GBIF") in outputs.dropped


def inactive(folder: Path, *taxa: dict[str, Any], followers: dict[int, int]) -> None:
    """One observation of each taxon; those with a follower are inactive."""
    (folder / "inaturalist-api").mkdir(parents=True)
    results = []
    for taxon in taxa:
        number = taxon["id"]
        told = {"is_active": number not in followers, "current_synonymous_taxon_ids": [followers.get(number)]}
        told = {"rank": "species", "ancestor_ids": [1, 47336, 5, number]} | taxon | told
        photo = {"id": number, "license_code": "cc-by", "url": f"https://static.inaturalist.org/photos/{number}/a.jpg"}
        known = [{"taxon": {**told, "ancestors": ANCESTORS}}]
        carried = {"taxon": told, "photos": [photo]} if taxon.get("carried", True) else {}
        results.append({"id": number, "quality_grade": "research", "identifications": known, **carried})
    (folder / "inaturalist-api/page.json").write_text(json.dumps({"results": results}))


def test_a_name_that_no_observation_carries_replaces_another(tmp_path: Path) -> None:
    new = {"id": 31, "name": "Lasius novus", "carried": False}
    inactive(tmp_path / "in", {"id": 30, "name": "Lasius vetus"}, new, followers={30: 31})
    outputs = run(tmp_path / "in", tmp_path)
    assert [row["taxon_id"] for row in outputs.rows] == ["species:Lasius novus"]
    assert [row["taxon_id"] for row in outputs.taxa] == ["family:Formicidae", "genus:Lasius", "species:Lasius novus"]
    assert outputs.taxa[-1]["family"] == "Formicidae"


def test_a_subspecies_that_replaces_a_species_counts_as_its_species(tmp_path: Path) -> None:
    above = [1, 47336, 5, 31, 32]
    new = {"id": 31, "name": "Lasius novus", "carried": False}
    lower = {"id": 32, "name": "Lasius novus minor", "rank": "subspecies", "ancestor_ids": above, "carried": False}
    inactive(tmp_path / "in", {"id": 30, "name": "Lasius vetus"}, new, lower, followers={30: 32})
    assert [row["taxon_id"] for row in run(tmp_path / "in", tmp_path).rows] == ["species:Lasius novus"]


@pytest.mark.parametrize(
    ("followers", "names"),
    [({30: 31, 31: 32}, ["tertius", "tertius", "tertius"]), ({30: 31, 31: 30}, ["primus", "secundus", "tertius"])],
    ids=["a chain", "a circle"],
)
def test_names_that_follow_each_other(tmp_path: Path, followers: dict[int, int], names: list[str]) -> None:
    taxa = [{"id": 30 + n, "name": f"Lasius {name}"} for n, name in enumerate(("primus", "secundus", "tertius"))]
    inactive(tmp_path / "in", *taxa, followers=followers)
    rows = {row["photo_id"]: row["taxon_id"] for row in run(tmp_path / "in", tmp_path).rows}
    assert [rows[number] for number in ("30", "31", "32")] == [f"species:Lasius {name}" for name in names]
