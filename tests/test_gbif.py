"""Reading Darwin Core Archives, and photographs out of GBIF's."""

import stat
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from instar.errors import InputError
from instar.records.darwin_core import Table, read_archive
from instar.records.gathering import Gathering, coordinates, short_hash, utc_time
from instar.records.gbif import INATURALIST, gather

REAL = Path(__file__).parents[1] / "../shared/realdata/dwca"

CORE = {
    "gbifID": "http://rs.gbif.org/terms/1.0/gbifID",
    **{
        name: f"http://rs.tdwg.org/dwc/terms/{name}"
        for name in (
            *("occurrenceID", "basisOfRecord", "recordedBy", "eventDate", "decimalLatitude", "decimalLongitude"),
            *("scientificName", "taxonRank", "taxonomicStatus", "family", "genus", "specificEpithet"),
        )
    },
    "issue": "http://rs.gbif.org/terms/1.0/issue",
    "species": "http://rs.gbif.org/terms/1.0/species",
}
MEDIA = {
    name: f"http://purl.org/dc/terms/{name}" for name in ("type", "identifier", "references", "license", "creator")
}
ANT = {
    "gbifID": "1",
    "basisOfRecord": "PRESERVED_SPECIMEN",
    "taxonRank": "SPECIES",
    "family": "Formicidae",
    "genus": "Lasius",
    "species": "Lasius niger",
}
PHOTO = {"type": "StillImage", "identifier": "https://m.example/1.jpg", "license": "CC_BY_4_0"}


def element(kind: str, row_type: str, name: str, terms: dict[str, str], shift: int) -> str:
    fields = "".join(f'<field index="{i + shift}" term="{term}"/>' for i, term in enumerate(terms.values()))
    return (
        f'<{kind} encoding="utf-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" '
        f'ignoreHeaderLines="1" rowType="{row_type}"><files><location>{name}</location></files>'
        f'<{"id" if kind == "core" else "coreid"} index="0"/>{fields}</{kind}>'
    )


META = (
    '<archive xmlns="http://rs.tdwg.org/dwc/text/">'
    + element("core", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", CORE, 0)
    + element("extension", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", MEDIA, 1)
    + "</archive>"
)


def lines(columns: list[str], rows: list[dict[str, str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in [columns, *([row.get(c, "") for c in columns] for row in rows)])


def write_archive(
    path: Path, occurrences: list[dict[str, str]], media: list[dict[str, str]], members: dict[Any, str] | None = None
) -> Path:
    """An archive of rows that name their columns; a media row's ``gbifID`` says whose it is."""
    files: dict[Any, str] = {
        "meta.xml": META,
        "occurrence.txt": lines(list(CORE), occurrences),
        "multimedia.txt": lines(["gbifID", *MEDIA], [{"gbifID": "1", **row} for row in media]),
        **(members or {}),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def read(path: Path, *known: int, taxon: str = "Formicidae") -> Gathering:
    inaturalist = pa.table([known, [f"inaturalist-of {number}" for number in known]], INATURALIST)
    return gather(path, taxon=taxon, licences=["cc-by"], inaturalist=inaturalist)


def one(
    tmp_path: Path, occurrence: dict[str, str] | None = None, photo: dict[str, str] | None = None
) -> dict[str, Any]:
    """The one row that an occurrence with one photograph gives."""
    path = write_archive(tmp_path / "one.zip", [ANT | (occurrence or {})], [PHOTO | (photo or {})])
    rows = read(path).found.to_pylist()
    assert len(rows) == 1
    return rows[0]


def test_a_family_in_capitals_and_blanks_around_an_address(tmp_path: Path) -> None:
    written = {"family": "FORMICIDAE", "genus": "LASIUS", "species": "", "taxonRank": "GENUS"}
    row = one(tmp_path, written, {"identifier": " https://m.example/1.jpg ", "creator": "  "})
    assert (row["taxon_id"], row["url"], row["creator"]) == ("genus:Lasius", "https://m.example/1.jpg", None)
    gathering = read(tmp_path / "one.zip")
    assert {lineage.family for lineage in gathering.lineages} == {"Formicidae"}


def reason(tmp_path: Path, occurrence: dict[str, str] | None = None, photo: dict[str, str] | None = None) -> str:
    path = write_archive(tmp_path / "one.zip", [ANT | (occurrence or {})], [PHOTO | (photo or {})])
    rows = read(path).dropped.to_pylist()
    assert len(rows) == 1
    return rows[0]["reason"]


def test_an_archive_without_rows_gives_nothing(tmp_path: Path) -> None:
    gathering = read(write_archive(tmp_path / "empty.zip", [], []))
    assert (gathering.found.num_rows, gathering.dropped.num_rows, gathering.other_taxon) == (0, 0, 0)


def test_a_specimen(tmp_path: Path) -> None:
    more = {"occurrenceID": "urn:x:1", "recordedBy": "A. Pictor", "eventDate": "2011-05-30/2011-06-02"}
    more |= {"decimalLatitude": "1.5", "decimalLongitude": "-2"}
    row = one(tmp_path, more, {"creator": "B. Pictor"})
    assert row.pop("observed_at").isoformat() == "2011-05-30T00:00:00+00:00"
    assert row == {
        "key": f"gbif-{short_hash('https://m.example/1.jpg')}",
        "source": "gbif",
        "photo_id": short_hash("https://m.example/1.jpg"),
        "observation_id": "gbif-urn:x:1",
        "observer_id": "gbif-A. Pictor",
        "url": "https://m.example/1.jpg",
        "sha256": None,
        "taxon_id": "species:Lasius niger",
        "latitude": 1.5,
        "longitude": -2.0,
        "basis": "specimen",
        "licence": "cc-by",
        "rights_holder": "B. Pictor",
        "creator": "B. Pictor",
        "reference": "https://www.gbif.org/occurrence/1",
        "region": None,
    }


def test_ids_fall_back_on_gbifs_own(tmp_path: Path) -> None:
    assert one(tmp_path)["observation_id"] == "gbif-1"


@pytest.mark.parametrize(
    "latitude, longitude, issue, expected",
    [
        ("", "", "", (None, None)),
        ("1", "", "", (None, None)),
        ("N 38°", "1", "", (None, None)),
        ("91", "1", "", (None, None)),
        ("0", "0", "", (0, 0)),
        ("0.0", "0.0", "ZERO_COORDINATE;COUNTRY_COORDINATE_MISMATCH", (None, None)),
        ("0.0", "5.0", "ZERO_COORDINATE", (0, 5)),
    ],
)
def test_coordinates(
    tmp_path: Path, latitude: str, longitude: str, issue: str, expected: tuple[float | None, float | None]
) -> None:
    row = one(tmp_path, {"decimalLatitude": latitude, "decimalLongitude": longitude, "issue": issue})
    assert (row["latitude"], row["longitude"]) == expected
    assert coordinates(float("nan"), 1) == (None, None)


@pytest.mark.parametrize(
    "text, expected",
    [
        (None, None),
        ("", None),
        ("spring 2011", None),
        ("2011-13-01", None),
        ("0000-01-01", None),
        ("2011", "2011-01-01T00:00:00+00:00"),
        ("2011-05", "2011-05-01T00:00:00+00:00"),
        ("2011-05-30T23:30:00-02:00", "2011-05-31T01:30:00+00:00"),
        ("2011-05-30T10:00:00.123Z/2011-06-01", "2011-05-30T10:00:00+00:00"),
        ("1999-06-18 00:00:00.0", "1999-06-18T00:00:00+00:00"),
    ],
)
def test_times(text: str | None, expected: str | None) -> None:
    moment = utc_time(text)
    assert (moment.isoformat() if moment else None) == expected


@pytest.mark.parametrize(
    "names, expected",
    [
        ({}, "species:Lasius niger"),
        ({"species": "", "taxonRank": "GENUS"}, "genus:Lasius"),
        ({"species": "", "specificEpithet": "flavus"}, "species:Lasius flavus"),
        ({"scientificName": "Formica nigra L.", "taxonomicStatus": "SYNONYM"}, "species:Lasius niger"),
    ],
)
def test_names(tmp_path: Path, names: dict[str, str], expected: str) -> None:
    assert one(tmp_path, names)["taxon_id"] == expected


def test_synonyms_are_told(tmp_path: Path) -> None:
    old = ANT | {"scientificName": "Formica nigra Linnaeus, 1758", "taxonomicStatus": "HOMOTYPIC_SYNONYM"}
    gathering = read(write_archive(tmp_path / "a.zip", [old, ANT | {"gbifID": "2"}], []))
    assert gathering.synonyms == {"species:Formica nigra": {"species:Lasius niger"}}


@pytest.mark.parametrize(
    "occurrence, photo, expected",
    [
        ({}, {"license": ""}, "licence not allowed"),  # whatever the occurrence's licence is
        ({}, {"license": "http://creativecommons.org/licenses/by-nc/4.0/"}, "licence not allowed"),
        ({}, {"identifier": ""}, "no photograph"),
        ({}, {"identifier": "cabinet 3"}, "no photograph"),
        ({}, {"type": "Sound"}, "no photograph"),
        ({"genus": "", "species": ""}, {}, "above genus"),
        ({"genus": "", "species": "", "family": ""}, {}, "no taxon"),
    ],
)
def test_reasons(tmp_path: Path, occurrence: dict[str, str], photo: dict[str, str], expected: str) -> None:
    assert reason(tmp_path, occurrence, photo) == expected


def test_other_taxa_and_media_of_no_occurrence_are_counted(tmp_path: Path) -> None:
    bee = {"gbifID": "2", "family": "Apidae", "genus": "Apis", "species": "Apis mellifera"}
    path = write_archive(tmp_path / "a.zip", [ANT, bee], [PHOTO, PHOTO | {"gbifID": "2"}, PHOTO | {"gbifID": "3"}])
    assert (read(path).found.num_rows, read(path).other_taxon) == (1, 2)
    assert (read(path, taxon="").found.num_rows, read(path, taxon="").other_taxon) == (2, 1)


@pytest.mark.parametrize(
    "photo",
    [
        {"identifier": "https://inaturalist-open-data.s3.amazonaws.com/photos/42/original.jpeg"},
        {"identifier": "https://static.inaturalist.org/photos/42/large.jpg?1"},
        {"references": "https://www.inaturalist.org/photos/42"},
    ],
)
def test_inaturalists_photographs(tmp_path: Path, photo: dict[str, str]) -> None:
    path = write_archive(tmp_path / "a.zip", [ANT], [PHOTO | photo])
    assert read(path, 7, 42, 99).dropped["reason"].to_pylist() == ["republished by GBIF"]
    assert read(path, 7, 99).found["key"].to_pylist() == ["gbif-42"]  # the tables did not give it


@pytest.mark.parametrize("numbers", [(7, 42, 77), (77, 42, 7)])
def test_an_occurrence_of_two_of_inaturalists_observations(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    photos = [PHOTO | {"identifier": f"https://static.inaturalist.org/photos/{number}/large.jpg"} for number in numbers]
    path = write_archive(tmp_path / "a.zip", [ANT, ANT | {"gbifID": "2"}], [*photos, PHOTO | {"gbifID": "2"}])
    gathering = read(path, 42, 77)
    observations = dict(zip(*gathering.found.select(["key", "observation_id"]).to_pydict().values(), strict=True))
    assert observations.pop("gbif-7") == "inaturalist-of 42"  # the first, whatever the order of the rows
    assert list(observations.values()) == ["gbif-2"]


@pytest.mark.parametrize(
    "member, message",
    [
        ("../evil.txt", r"member '../evil.txt' would land outside"),
        ("/etc/evil.txt", r"member '/etc/evil.txt' would land outside"),
        ("..\\evil.txt", r"member '..\\\\evil.txt' would land outside"),
        ("C:/evil.txt", r"member 'C:/evil.txt' would land outside"),
    ],
)
def test_members_outside_the_archive(tmp_path: Path, member: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write_archive(tmp_path / "a.zip", [ANT], [PHOTO], {member: ""}))


def test_a_symbolic_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match=r"member 'link.txt' is a symbolic link"):
        read(write_archive(tmp_path / "a.zip", [ANT], [PHOTO], {link: "/etc/passwd"}))


@pytest.mark.parametrize(
    "members, message",
    [
        (
            {"meta.xml": META.replace(">multimedia.txt", ">../multimedia.txt")},
            "location '../multimedia.txt' is outside",
        ),
        ({"meta.xml": META.replace(">multimedia.txt", ">media.txt")}, "location 'media.txt' is not in the archive"),
        ({"meta.xml": META[:-5]}, "member meta.xml: not readable XML"),
        ({"meta.xml": META.replace("Multimedia", "Sound")}, "no Multimedia extension"),
        ({"meta.xml": META.replace("terms/Occurrence", "terms/Taxon")}, "its rows are Taxon"),
        ({"meta.xml": META.replace('"utf-8"', '"klingon"')}, "unknown encoding: klingon"),
        ({"meta.xml": META.replace('index="3"', 'index="three"')}, "index 'three' is no position of a field"),
        ({"meta.xml": META.replace('index="5"', 'index="50"')}, "line 1: ends before column .* at least 51"),
        ({"occurrence.txt": "gbifID\n1\t\t\n2\n"}, "member occurrence.txt: line 1: ends before column"),
        (
            {"multimedia.txt": "gbifID\n1" + "\t" * 5 + ("\n1" + "\t" * 6) * 2 + "\n"},
            "multimedia.txt: line 3: .* with 7 fields",
        ),
    ],
)
def test_broken_archives(tmp_path: Path, members: dict[Any, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write_archive(tmp_path / "a.zip", [ANT], [PHOTO], members))


def test_damaged_zip_files(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.zip", [ANT], [PHOTO])
    data = bytearray(path.read_bytes())
    data[data.index(b"Lasius niger")] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="Bad CRC-32"):
        read(path)
    path.write_bytes(data[:-30])
    with pytest.raises(InputError, match="not a readable zip file"):
        read(path)


def test_lines_may_leave_out_empty_fields_at_their_end(tmp_path: Path) -> None:
    text = "gbifID\ttype\tidentifier\treferences\tlicense\tcreator\n1\tStillImage\thttps://m.example/1.jpg\n"
    text += "1\tStillImage\thttps://m.example/2.jpg\t\tCC_BY_4_0\n"
    gathering = read(write_archive(tmp_path / "a.zip", [ANT], [], {"multimedia.txt": text}))
    assert gathering.found["url"].to_pylist() == ["https://m.example/2.jpg"]
    assert gathering.dropped["reason"].to_pylist() == ["licence not allowed"]


def test_defaults_quotes_and_encodings(tmp_path: Path) -> None:
    meta = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core encoding="latin-1" fieldsTerminatedBy=";"
      fieldsEnclosedBy="'" rowType="http://rs.tdwg.org/dwc/terms/Occurrence"><files><location>a.csv</location></files>
      <id index="1"/><field index="0" term="http://rs.tdwg.org/dwc/terms/locality" default="nowhere"/>
      <field term="http://rs.tdwg.org/dwc/terms/country" default="ZZ"/></core></archive>"""
    (tmp_path / "meta.xml").write_text(meta)
    (tmp_path / "a.csv").write_bytes("'Köln; am ''Rhein''\nlinks';1\n;2\n".encode("latin-1"))
    rows = rows_of(read_archive(tmp_path).core, ["locality", "country", "sex"])
    assert rows == [
        {"id": "1", "locality": "Köln; am 'Rhein'\nlinks", "country": "ZZ", "sex": None},
        {"id": "2", "locality": "nowhere", "country": "ZZ", "sex": None},
    ]


def rows_of(table: Table, terms: list[str]) -> list[dict[str, Any]]:
    return [row for batch in table.read(terms) for row in batch.to_pylist()]


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/dwca")
class TestRealArchives:
    """What public institutions published."""

    def test_quoted_csv_with_json(self) -> None:
        archive = read_archive(REAL / "csv-json-escaped-quotes")
        occurrence = rows_of(archive.core, ["occurrenceID", "dynamicProperties", "order", "genus", "basisOfRecord"])
        assert len(occurrence) == 1
        assert occurrence[0]["occurrenceID"] == "13785542-2dc5-43bc-9cbf-59a35ff111f9"
        assert '"cataloguedescription": "Very worn vertebra. Old catalogue says \\"fragments' in str(
            occurrence[0]["dynamicProperties"]
        )
        assert occurrence[0]["order"] == "Pterosauria"
        media = rows_of(archive.extensions[0], ["rightsHolder", "identifier", "type"])
        assert [row["id"] for row in media] == ["779"] * 4
        assert media[0]["rightsHolder"] == "The Trustees of the Natural History Museum, London"

    def test_its_photographs(self) -> None:
        gathering = read(REAL / "csv-json-escaped-quotes", taxon="Reptilia")
        rows = gathering.found.to_pylist()
        assert len(rows) == 4
        assert {row["taxon_id"] for row in rows} == {"genus:Ornithocheirus"}
        assert {row["licence"] for row in rows} == {"cc-by"}
        assert {row["basis"] for row in rows} == {"specimen"}

    def test_a_folder_without_media(self) -> None:
        archive = read_archive(REAL / "archive-dwc")
        names = {row["id"]: row for row in rows_of(archive.core, ["scientificName", "taxonRank", "namePublishedIn"])}
        assert len(names) == (REAL / "archive-dwc/DarwinCore.txt").read_text().count("\n")  # the last has no end
        # lines of 11, of 9 and of 12 fields
        published = '"Gray, 1864, Ann. Mag. Nat. Hist., (3), 14: 350"'
        assert list(names["105828"].values()) == ["105828", "Cetacea", "Order", None]
        assert list(names["544281"].values()) == ["544281", "Mysteceti", "Suborder", None]
        assert list(names["105938"].values()) == ["105938", "Eschrichtius Gray", "Genus", published]
        assert rows_of(archive.extensions[1], ["identifier", "type"]) == []
        assert rows_of(archive.extensions[0], ["vernacularName"])[1] == {"id": "544382", "vernacularName": "Afalina"}

    def test_zip_files_with_a_folder_inside(self) -> None:
        rows = rows_of(
            read_archive(REAL / "archive-occ.zip").core, ["Collector", "DecimalLatitude", "InfraspecificEpithet"]
        )
        assert rows[0]["id"] == "3170b210-6254-43d3-9740-de18b261b594"
        assert (rows[0]["Collector"], rows[0]["DecimalLatitude"]) == ("Markus Döring", "38.10695")
        assert rows[0]["InfraspecificEpithet"] is None
        assert len(rows) == 1534
        names = rows_of(read_archive(REAL / "archive-tax.zip").core, ["taxonID", "scientificName"])
        assert names[1] == {"id": "105828", "taxonID": "105828", "scientificName": "Cetacea"}
        with pytest.raises(InputError, match="its rows are DarwinCore"):
            read(REAL / "archive-occ.zip")


def test_a_number_that_no_photograph_of_inaturalist_has(tmp_path: Path) -> None:
    row = one(tmp_path, photo={"identifier": "https://static.inaturalist.org/photos/99999999999999999999/a.jpg"})
    assert row["photo_id"] == short_hash(row["url"])


@pytest.mark.parametrize("short", [False, True])
def test_a_long_field(tmp_path: Path, short: bool) -> None:
    columns = [*CORE]
    row = lines(columns, [ANT | {"recordedBy": "x" * 200_000, "species": "" if short else ANT["species"]}])
    first = lines(columns, [ANT | {"gbifID": "2"}]) if short else row.split("\n")[0] + "\n"
    text = first + row.split("\n")[1].rstrip("\t") + "\n"
    path = write_archive(tmp_path / "a.zip", [], [PHOTO], {"occurrence.txt": text})
    assert len(read(path).found["observer_id"][0].as_py()) == len("gbif-") + 200_000


def test_a_short_line_whose_field_is_too_long(tmp_path: Path) -> None:
    text = lines(list(CORE), [ANT | {"gbifID": "2"}]) + f"1\t{'x' * (2 << 20)}\n"
    path = write_archive(tmp_path / "a.zip", [], [PHOTO], {"occurrence.txt": text})
    with pytest.raises(InputError, match=r"occurrence.txt: field larger than field limit"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('index="3"', 'index="-1"', "table Occurrence: index '-1' is no position of a field"),
        ('id index="0"', 'id index="x"', "table Occurrence: index 'x' is no position of a field"),
        ('encoding="utf-8"', 'encoding="base64"', "table Occurrence: encoding 'base64' is none of text"),
    ],
)
def test_a_description_that_says_nothing(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_archive(tmp_path / "a.zip", [ANT], [PHOTO], {"meta.xml": META.replace(old, new)})
    with pytest.raises(InputError, match=f"member meta.xml: {message}"):
        read(path)
