"""Reading iNaturalist's open data."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from instar.errors import InputError
from instar.records.gathering import Gathering
from instar.records.inaturalist import gather

REAL = Path(__file__).parents[1] / "../shared/realdata/inaturalist_open_data"

#: A family with one genus; 13 is a subspecies of 12, 14 is inactive, 15 a subgenus; 100 is no ant.
TAXA = """taxon_id|ancestry|rank_level|rank|name|active
1||70|kingdom|Animalia|true
10|1|30|family|Formicidae|true
11|1/10|20|genus|Lasius|true
12|1/10/11|10|species|Lasius niger|true
13|1/10/11/12|5|subspecies|Lasius niger edentatus|true
14|1/10/11|10|species|Lasius vetus|false
15|1/10/11|15|subgenus|Cautolasius|true
100|1|10|species|Apis mellifera|true
""".replace("|", "\t")
OBSERVATIONS = """observation_uuid|observer_id|latitude|longitude|positional_accuracy|taxon_id|quality_grade|observed_on
a|7|52.5|13.4|5|12|research|2011-05-30
b|7||||13|needs_id|
c|8|0.0|0.0||11|research|2012-01-02
d|8|1|1||10|research|2012-01-02
e|8|1|1||12|casual|2012-01-02
f|8|1|1|||casual|2012-01-02
g|8|1|1||100|research|2012-01-02
h|9|1|1||14|research|2012-01-02
i|9|1|1||15|research|2012-01-02
""".replace("|", "\t")
PHOTOS = """photo_uuid|photo_id|observation_uuid|observer_id|extension|license|width|height|position
u|1|a|7|jpg|CC-BY|10|10|0
u|2|a|7|jpeg|C|10|10|1
u|3|b|7|png|CC0|10|10|0
u|4|c|8|jpg|CC-BY|10|10|0
u|5|d|8|jpg|CC-BY|10|10|0
u|6|e|8|jpg|CC-BY|10|10|0
u|7|f|8|jpg|CC-BY|10|10|0
u|8|g|8|jpg|CC-BY|10|10|0
u|9|h|9|jpg|CC-BY|10|10|0
u|10|i|9||CC-BY|10|10|0
u|11|nowhere|9|jpg|CC-BY|10|10|0
""".replace("|", "\t")
OBSERVERS = """observer_id|login|name
7|anna|Anna "Ant" O'Neil
8|ben|
9|cy|Cy
10|dee|Dee
""".replace("|", "\t")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    write(tmp_path, "taxa", TAXA)
    write(tmp_path, "observations", OBSERVATIONS)
    write(tmp_path, "photos", PHOTOS)
    write(tmp_path, "observers", OBSERVERS)
    return tmp_path


def write(folder: Path, name: str, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / f"{name}.csv.gz").write_bytes(gzip.compress(data))


def read(folder: Path, taxon: str = "Formicidae") -> Gathering:
    return gather(folder, taxon=taxon, licences=["cc0", "cc-by"], quality_grades=["research", "needs_id"])


def test_tables_without_rows_give_nothing(tables: Path) -> None:
    for name, text in {"photos": PHOTOS, "observations": OBSERVATIONS, "observers": OBSERVERS}.items():
        write(tables, name, text.splitlines()[0] + "\n")
    gathering = read(tables)
    assert (gathering.found.num_rows, gathering.dropped.num_rows, gathering.other_taxon) == (0, 0, 0)


def test_every_photograph_is_taken_or_has_a_reason(tables: Path) -> None:
    gathering = read(tables)
    assert dict(zip(gathering.found["photo_id"].to_pylist(), gathering.found["taxon_id"].to_pylist(), strict=True)) == {
        "1": "species:Lasius niger",
        "3": "species:Lasius niger",  # a subspecies counts as its species
        "4": "genus:Lasius",
        "9": "species:Lasius vetus",  # inactive: the name stays
    }
    assert {row["photo_id"]: row["reason"] for row in gathering.dropped.to_pylist()} == {
        "2": "licence not allowed",
        "5": "above genus",
        "6": "quality grade",
        "7": "no taxon",
        "10": "no photograph",
    }
    assert gathering.other_taxon == 2  # 8 and 11
    assert gathering.inactive == {"species:Lasius vetus"}


def test_a_row_says_what_the_tables_say(tables: Path) -> None:
    rows = {row["photo_id"]: row for row in read(tables).found.to_pylist()}
    assert rows["1"] | {"observed_at": None} == {
        "key": "inaturalist-1",
        "source": "inaturalist",
        "photo_id": "1",
        "observation_id": "inaturalist-a",
        "observer_id": "inaturalist-7",
        "url": "https://inaturalist-open-data.s3.amazonaws.com/photos/1/original.jpg",
        "sha256": None,
        "taxon_id": "species:Lasius niger",
        "latitude": 52.5,
        "longitude": 13.4,
        "observed_at": None,
        "basis": "field",
        "licence": "cc-by",
        "rights_holder": 'Anna "Ant" O\'Neil',
        "creator": 'Anna "Ant" O\'Neil',
        "reference": "https://www.inaturalist.org/photos/1",
    }
    assert rows["1"]["observed_at"].isoformat() == "2011-05-30T00:00:00+00:00"
    assert (rows["3"]["latitude"], rows["3"]["longitude"], rows["3"]["observed_at"]) == (None, None, None)
    assert (rows["4"]["latitude"], rows["4"]["longitude"]) == (0, 0)  # a place, not a missing one
    assert rows["4"]["rights_holder"] == "ben"  # no name, so the login


@pytest.mark.parametrize("taxon, other_taxon", [("Lasius", 3), ("Lasius niger", 6), ("", 1)])
def test_a_taxon_is_itself_and_all_below(tables: Path, taxon: str, other_taxon: int) -> None:
    assert read(tables, taxon).other_taxon == other_taxon


def test_an_inactive_namesake_is_not_meant(tables: Path) -> None:
    write(tables, "taxa", TAXA + "99\t1\t20\tgenus\tFormicidae\tfalse\n")
    assert read(tables).found.num_rows == 4


def test_the_family_is_known_where_it_lies_above_the_wanted_taxon(tables: Path) -> None:
    assert {one.family for one in read(tables, "Lasius niger").lineages} == {"Formicidae"}


def test_the_order_of_rows_does_not_matter(tables: Path) -> None:
    before = read(tables).found.sort_by("key").to_pylist()
    for name, text in {"photos": PHOTOS, "observations": OBSERVATIONS, "taxa": TAXA, "observers": OBSERVERS}.items():
        first, *rest = text.splitlines(keepends=True)
        write(tables, name, "".join([first, *rest[::-1]]))
    assert read(tables).found.sort_by("key").to_pylist() == before


def test_plain_files_are_read_too(tables: Path) -> None:
    (tables / "photos.csv.gz").unlink()
    (tables / "photos.csv").write_text(PHOTOS)
    assert read(tables).found.num_rows == 4


def test_a_backspace_quotes(tables: Path) -> None:
    write(tables, "observers", OBSERVERS.replace("Cy\n", "\bCy\tthe\nthird\b\n"))
    rows = {row["photo_id"]: row for row in read(tables).found.to_pylist()}
    assert rows["9"]["rights_holder"] == "Cy\tthe\nthird"


def test_blocks_do_not_show_in_the_result(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tables).found.to_pylist()
    monkeypatch.setattr("instar.records.delimited.BLOCK_BYTES", 128)
    assert read(tables).found.to_pylist() == before


@pytest.mark.parametrize(
    "table, text, message",
    [
        ("photos", b"", r"photos.csv.gz: line 1: the file is empty"),
        ("photos", PHOTOS.replace("license", "licence"), r"photos.csv.gz: line 1: column license is missing"),
        ("photos", PHOTOS[:-10], r"photos.csv.gz: line 12, column license: the file ends inside the line"),
        ("photos", PHOTOS[:-1], r"photos.csv.gz: line 12, column position: the file ends inside the line"),
        (
            "photos",
            PHOTOS.replace("\tCC-BY\t", "\t"),
            r"photos.csv.gz: line 2: ends in column height, with 8 of 9 fields",
        ),
        ("photos", PHOTOS.replace("\tCC", "\tCC\t"), r"photos.csv.gz: line 2: goes on after column position, with 10 "),
        (
            "observers",
            OBSERVERS.encode().replace(b"\n", b"\xff\n").replace(b"e\xff", b"e"),
            r"observers.csv.gz: line 2, column name: b'Anna",
        ),
        (
            "taxa",
            TAXA + "99\t1\t20\tgenus\tFormicidae\ttrue\n",
            r"'Formicidae' is several taxa \(family 10, genus 99\)",
        ),
    ],
)
def test_broken_tables(tables: Path, table: str, text: str | bytes, message: str) -> None:
    write(tables, table, text)
    with pytest.raises(InputError, match=message):
        read(tables)


def test_a_cut_gzip_file(tables: Path) -> None:
    whole = (tables / "photos.csv.gz").read_bytes()
    (tables / "photos.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"photos.csv.gz: .*download the file again"):
        read(tables)


def test_a_missing_table_and_an_unknown_taxon(tables: Path) -> None:
    with pytest.raises(InputError, match="taxon 'Formica' is not in the table taxa"):
        read(tables, "Formica")
    (tables / "observers.csv").write_text(OBSERVERS)
    with pytest.raises(InputError, match="both are there"):
        read(tables)
    (tables / "observers.csv").unlink()
    (tables / "observers.csv.gz").unlink()
    with pytest.raises(InputError, match=r"observers.csv.gz or .csv: no such table"):
        read(tables)


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/inaturalist_open_data")
def test_real_rows(tmp_path: Path) -> None:
    every: dict[str, Any] = {
        "taxon": "",
        "licences": ["cc-by", "cc-by-sa"],
        "quality_grades": ["research", "needs_id", "casual"],
    }
    # two of the real rows hold a tab too many
    with pytest.raises(InputError, match=r"observations.csv: line 27: goes on after column observed_on, with 9 fields"):
        gather(REAL, **every)
    for path in REAL.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (REAL / "observations.csv").read_text().replace("casual\t\t", "casual\t")
    (tmp_path / "observations.csv").write_text(text)
    gathering = gather(tmp_path, **every)
    # 50 rows of each table, which know little of one another: no observation has its taxon among the taxa
    assert (gathering.found.num_rows, gathering.dropped.num_rows, gathering.other_taxon) == (0, 0, 50)
    taxa = (REAL / "taxa.csv").read_text() + "53137\t48460/1/2\t10\tspecies\tUria aalge\ttrue\n"
    (tmp_path / "taxa.csv").write_text(taxa)
    found = gather(tmp_path, **every).found.sort_by("key").to_pylist()
    assert [row["photo_id"] for row in found][-3:] == ["35925", "35926", "35927"]
    assert (found[-1]["taxon_id"], found[-1]["licence"]) == ("species:Uria aalge", "cc-by")
    assert found[-1]["observed_at"].date().isoformat() == "2011-05-30"
