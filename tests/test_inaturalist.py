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
        "region": None,
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


@pytest.mark.parametrize("cut", [20, 8, 1])
def test_a_cut_gzip_file(tables: Path, cut: int) -> None:
    whole = (tables / "photos.csv.gz").read_bytes()
    (tables / "photos.csv.gz").write_bytes(whole[:-cut])
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


def dropped(gathering: Gathering) -> dict[str | None, str]:
    return {row["photo_id"]: row["reason"] for row in gathering.dropped.to_pylist()}


def test_malformed_rows_are_counted(tables: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos = PHOTOS.replace("u\t3\t", "u\t\t3\t").replace("u\t4\t", "u\t4x\t")
    observations = OBSERVATIONS.replace("a\t7\t", "a\t7\t\t").replace("h\t9\t1\t", "h\t9\tnorth\t")
    write(tables, "photos", photos)
    write(tables, "observations", observations)
    write(tables, "taxa", TAXA + "99\t1\t20\n")
    gathering = read(tables)
    assert gathering.found.num_rows == 0
    assert dropped(gathering) == {
        None: "malformed row",  # 3, with a tab too many
        "4x": "malformed row",  # no number
        "1": "malformed observation",  # a, with a tab too many
        "2": "malformed observation",
        "9": "malformed observation",  # h, whose latitude is no number
        "5": "above genus",
        "6": "quality grade",
        "7": "no taxon",
        "10": "no photograph",
    }
    assert gathering.other_taxon == 2
    assert gathering.malformed == {"inaturalist photos": 1, "inaturalist observations": 2, "inaturalist taxa": 1}
    told = capfd.readouterr().err
    assert "observations.csv.gz: 1 malformed rows are left out, such as 'a\\t7\\t\\t52.5" in told
    assert told.count("taxa.csv.gz: 1 malformed") == 2  # read twice, counted once


def test_bytes_that_are_not_utf8(tables: Path) -> None:
    photos = PHOTOS.encode().replace(b"u\t1\ta\t7\tjpg", b"u\t1\ta\t7\tj\xff")
    write(tables, "photos", photos.replace(b"10\t10\t0\n", b"10\t1\xff\t0\n"))  # a column that is not read
    write(tables, "observations", OBSERVATIONS.encode().replace(b"\tneeds_id\t", b"\tneeds\xe9id\t"))
    write(tables, "observers", OBSERVERS.encode().replace(b"9\tcy\tCy", b"9\tcy\tC\xfc"))
    gathering = read(tables)
    rows = {row["photo_id"]: row for row in gathering.found.to_pylist()}
    assert sorted(rows) == ["4", "9"]
    assert (rows["4"]["rights_holder"], rows["9"]["rights_holder"]) == ("ben", None)
    reasons = dropped(gathering)
    assert (reasons[None], reasons["3"]) == ("malformed row", "malformed observation")
    names = ("photos", "observations", "observers")
    assert gathering.malformed == {f"inaturalist {name}": 1 for name in names}


def test_quotes_are_characters_like_others(tables: Path) -> None:
    write(tables, "observers", OBSERVERS.replace("9\tcy\tCy", '9\tcy\t"Cy').replace("ben\t", 'ben\t"B" "'))
    rows = {row["photo_id"]: row["rights_holder"] for row in read(tables).found.to_pylist()}
    assert (rows["9"], rows["4"]) == ('"Cy', '"B" "')


def test_the_word_none_is_no_name(tables: Path) -> None:
    write(tables, "observers", OBSERVERS.replace("cy\tCy", "cy\tNone"))
    assert {row["photo_id"]: row["rights_holder"] for row in read(tables).found.to_pylist()}["9"] == "cy"


def test_an_observation_that_is_there_twice(tables: Path) -> None:
    again = "a\t7\t10\t10\t5\t12\tresearch\t2011-05-30\n"
    head, *lines = (OBSERVATIONS + again).splitlines(keepends=True)
    found = []
    for order in (lines, lines[::-1]):
        write(tables, "observations", "".join([head, *order]))
        found.append(read(tables).found.sort_by("key"))
    assert found[0] == found[1]
    assert found[0].num_rows == 4


def test_licences_that_are_not_allowed_are_told(tables: Path) -> None:
    more = "u\t20\ta\t7\tjpg\tCC-BY-ND\t10\t10\t0\nu\t21\ta\t7\tjpg\t\t10\t10\t0\nu\t22\tg\t8\tjpg\tC\t1\t1\t0\n"
    write(tables, "photos", PHOTOS + more)
    assert read(tables).excluded == {"all-rights-reserved": 1, "cc-by-nd": 1, "unknown": 1}  # not the bee's


def test_what_lies_on_disk_does_not_show_in_the_result(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tables)
    monkeypatch.setattr("instar.records.spill.HELD_ROWS", 2)
    monkeypatch.setattr("instar.records.hashes.SIEVE_BYTES", 1)  # lets nearly everything through
    after = read(tables)
    assert after.found.sort_by("key") == before.found.sort_by("key")
    assert dropped(after) == dropped(before)
    assert after.other_taxon == before.other_taxon


def test_a_line_without_an_end(tables: Path) -> None:
    write(tables, "observers", OBSERVERS + "11\t" + "x" * (20 << 20))
    with pytest.raises(InputError, match=r"observers.csv.gz: a line of more than \d+ bytes"):
        read(tables)
    write(tables, "observers", "observer_id" + "x" * (20 << 20))
    with pytest.raises(InputError, match=r"observers.csv.gz: line 1: field larger than field limit"):
        read(tables)


EVERY: dict[str, Any] = {
    "taxon": "",
    "licences": ["cc-by", "cc-by-sa"],
    "quality_grades": ["research", "needs_id", "casual"],
}


def real_rows(name: str) -> list[list[str]]:
    """Rows of a real table as they stand in the file."""
    return [line.split("\t") for line in (REAL / f"{name}.csv").read_text().splitlines()]


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/inaturalist_open_data")
def test_real_rows_that_know_little_of_one_another() -> None:
    gathering = gather(REAL, **EVERY)
    # 50 rows of each table: no observation has its taxon among the taxa, and one of two photographed ones is malformed
    assert gathering.malformed == {"inaturalist observations": 2}
    assert gathering.found.num_rows == 0
    broken = {fields[0] for fields in real_rows("observations") if len(fields) == 9}
    theirs = {fields[1] for fields in real_rows("photos") if fields[2] in broken}
    assert dropped(gathering) == dict.fromkeys(theirs, "malformed observation")
    assert gathering.other_taxon == 50 - len(theirs)


def epithet(number: str) -> str:
    """A number as letters, since a name with digits is a code and no species."""
    return "s" + number.translate(str.maketrans("0123456789", "abcdefghij"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/inaturalist_open_data")
def test_real_rows_field_by_field(tmp_path: Path) -> None:
    for path in REAL.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    observations = {fields[0]: fields for fields in real_rows("observations")[1:]}
    people = {person: login if name == "None" else name for person, login, name in real_rows("observers")[1:]}
    # the taxa that the real rows name are not among the real rows of their tables
    with (tmp_path / "taxa.csv").open("a") as file:
        file.writelines(
            f"{taxon_id}\t48460/1/2\t10\tspecies\tGenus {epithet(taxon_id)}\ttrue\n"
            for taxon_id in sorted({fields[5] for fields in observations.values()} - {"", "1", "2", "48460"})
        )
    gathering = gather(tmp_path, **EVERY)
    found = {row["photo_id"]: row for row in gathering.found.to_pylist()}
    listed = dropped(gathering)
    for _, photo_id, uuid, observer, extension, licence, *_ in real_rows("photos")[1:]:
        if uuid not in observations:
            assert photo_id not in found
            assert photo_id not in listed
            continue
        fields = observations[uuid]
        if len(fields) != 8:
            assert listed[photo_id] == "malformed observation"
            continue
        if licence.lower() not in EVERY["licences"]:
            assert listed[photo_id] == "licence not allowed"
            continue
        row = found.pop(photo_id)
        assert row["observation_id"] == f"inaturalist-{uuid}"
        assert row["observer_id"] == f"inaturalist-{fields[1]}" == f"inaturalist-{observer}"
        assert row["url"] == f"https://inaturalist-open-data.s3.amazonaws.com/photos/{photo_id}/original.{extension}"
        assert row["licence"] == licence.lower()
        assert [row["latitude"], row["longitude"]] == [float(text) if text else None for text in fields[2:4]]
        assert row["taxon_id"] == f"species:Genus {epithet(fields[5])}"
        assert row["observed_at"].date().isoformat() == fields[7]
        assert row["rights_holder"] == row["creator"] == people.get(observer)
    assert not found
