"""One's own photographs: with a table, with one folder per class."""

from pathlib import Path
from typing import Any

import pytest
from test_folder import photograph

from instar.errors import InputError
from instar.records.folder import gather, names_in
from instar.records.gathering import Gathering
from instar.records.names import Names


def write(source: Path, text: str, *names: str) -> Path:
    for name in names:
        photograph(source / "images" / name)
    (source / "table.csv").write_text(text, encoding="utf-8")
    return source


def taxa(gathering: Gathering) -> dict[str, str | None]:
    columns = gathering.found.select(["photo_id", "taxon_id"]).to_pydict()
    return dict(zip(columns["photo_id"], columns["taxon_id"], strict=True))


def reasons(gathering: Gathering) -> dict[str, str]:
    return {row["photo_id"]: row["reason"] for row in gathering.dropped.to_pylist()}


def test_an_empty_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table.csv: is empty; fill it or remove it"):
        gather(write(tmp_path, "", "a.jpg"))
    with pytest.raises(InputError, match=r"table.csv: lists no photograph; fill it or remove it"):
        gather(write(tmp_path, "file\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,taxon\na.jpg\n", "line 2: 1 fields, the header has 2; mend it"),  # a cut last line, too
        ("file,licence\na.jpg,CC-BUY 4.0\n", "line 2: licence 'CC-BUY 4.0' is none of cc0, "),
        ("file,observation,observer\na.jpg,1,Ada\nb.jpg,1,Bob\n", "line 3: observation '1' has two observers, 'Ada'"),
    ],
)
def test_rows_that_cannot_be_meant(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        gather(write(tmp_path, text, "a.jpg", "b.jpg"))


def test_what_was_perhaps_not_meant_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gather(write(tmp_path, "file\na.jpg\ngone.jpg\n", "a.jpg", "b.jpg"))
    told = capsys.readouterr().err
    assert "1 of its files are not there, such as gone.jpg" in told
    assert "1 photographs are not in it, such as images/b.jpg" in told
    for name in ("worker", "queen"):
        write(tmp_path / "classes", "", f"{name}/a.jpg")
    (tmp_path / "classes/table.csv").unlink()
    gather(tmp_path / "classes")
    assert "none of its 2 folders (queen, worker) is named for a taxon: no labels" in capsys.readouterr().err


def test_only_the_file_is_required(tmp_path: Path) -> None:
    gathering = gather(write(tmp_path, "file\na.jpg\nimages/b/c.jpg\n", "a.jpg", "b/c.jpg"))
    assert taxa(gathering) == {"a": None, "b-c": None}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_row(tmp_path: Path, separator: str) -> None:
    columns = "File,Species,Observation,Observer,License,rights_holder,creator,latitude,longitude,observed_at,remarks"
    row = "a.jpg,Lasius_niger,o 1,7,CC BY 4.0,Museum,Anna,52.5,-13.4,2024-05-01T10:00:00+02:00,nice"
    text = "".join(line.replace(",", separator) + "\n" for line in (columns, row))
    rows = gather(write(tmp_path, "\ufeff" + text, "a.jpg"), licences=["cc-by"]).found.to_pylist()
    assert rows[0].pop("observed_at").isoformat() == "2024-05-01T08:00:00+00:00"
    assert len(rows[0].pop("sha256")) == 64
    assert rows == [
        {
            "key": "folder-a",
            "source": "folder",
            "photo_id": "a",
            "observation_id": "folder-o 1",
            "observer_id": "folder-7",
            "url": "images/a.jpg",
            "taxon_id": "species:Lasius niger",
            "latitude": 52.5,
            "longitude": -13.4,
            "basis": "field",
            "licence": "cc-by",
            "rights_holder": "Museum",
            "creator": "Anna",
            "reference": None,
            "region": None,
        }
    ]


def test_what_is_dropped_has_its_reason(tmp_path: Path) -> None:
    text = """file,taxon,licence
a.jpg,Lasius niger,
a.jpg,Lasius niger,
a.jpg,Lasius niger,
b.jpg,Lasius niger,
b.jpg,Lasius flavus,
gone.jpg,Lasius niger,
c.jpg,,
d.jpg,unknown,
e.jpg,Formicidae,
f.jpg,Lasius sp.,cc-by-nc
"""
    names = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg")
    gathering = gather(write(tmp_path, text, *names), licences=["cc-by"])
    assert taxa(gathering) == {"a": "species:Lasius niger"}
    rows = [(row["photo_id"], row["reason"]) for row in gathering.dropped.to_pylist()]
    assert sorted(rows) == [
        ("a", "listed twice"),
        ("a", "listed twice"),
        ("b", "listed twice, differently"),
        ("c", "no taxon"),
        ("d", "name not placed"),
        ("e", "above genus"),
        ("f", "licence not allowed"),
        ("g", "not in the table"),
        ("gone", "no such file"),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("taxon\nLasius\n", "line 1: column file is missing; it has taxon"),
        ("file,taxon,species\n", "line 1: column taxon is there twice"),
        ("file,latitud\n", "line 1: column latitud is not read; rename it to latitude"),
        ("file\na.jpg,b\n", "line 2: more than 1 fields"),
        ('file\n"a.jpg\n', "not a table in UTF-8"),
        ("file\n../a.jpg\n", r"line 2: file '../a.jpg' is no path below"),
        ("file\n/a.jpg\n", "line 2: file '/a.jpg' is no path below"),
        ("file,taxon\n,Lasius\n", "line 2: file '' is no path below"),
        ("file,latitude\na.jpg,N 5\n", "line 2: latitude 'N 5' is no number of degrees"),
        ("file,observed_at\na.jpg,spring\n", "line 2: observed_at 'spring' is no date"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gather(write(tmp_path, text, "a.jpg"))


def test_another_encoding(tmp_path: Path) -> None:
    photograph(tmp_path / "images/a.jpg")
    (tmp_path / "table.csv").write_bytes("file,observer\na.jpg,Müller\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"table.csv: not a table in UTF-8"):
        gather(tmp_path)


def test_one_folder_per_class(tmp_path: Path) -> None:
    for name in ("Lasius niger/1.jpg", "Lasius niger/2.jpg", "train/Formica_rufa/1.jpg", "Myrmica sp/x/1.jpg"):
        photograph(tmp_path / "images" / name)
    for name in ("unknown/1.jpg", "loose.jpg"):
        photograph(tmp_path / "images" / name)
    gathering = gather(tmp_path)
    assert set(taxa(gathering).values()) == {"species:Lasius niger", "species:Formica rufa", "genus:Myrmica"}
    assert gathering.found.num_rows == 4
    assert reasons(gathering) == {"unknown-1": "name not placed", "loose": "no taxon"}


@pytest.mark.parametrize("beside", ["labels", "annotations"])
def test_folders_of_an_annotated_set_are_no_classes(tmp_path: Path, beside: str) -> None:
    photograph(tmp_path / "images/Lasius niger/1.jpg")
    (tmp_path / beside).mkdir()
    assert list(taxa(gather(tmp_path)).values()) == [None]


def test_folders_that_are_no_names_are_no_classes(tmp_path: Path) -> None:
    photograph(tmp_path / "images/2024-05/1.jpg")
    assert list(taxa(gather(tmp_path)).values()) == [None]


def test_the_backbone_places_the_classes(tmp_path: Path) -> None:
    for name in ("Lasius nigerr", "Apis mellifera"):
        photograph(tmp_path / f"images/{name}/1.jpg")
    ant: dict[str, Any] = {"matchType": "FUZZY", "confidence": 95, "family": "Formicidae", "genus": "Lasius"}
    bee = {"matchType": "EXACT", "confidence": 99, "family": "Apidae", "genus": "Apis", "species": "Apis mellifera"}
    names = Names({"Lasius nigerr": ant | {"species": "Lasius niger"}, "Apis mellifera": bee}, confidence=85)
    gathering = gather(tmp_path, taxon="Formicidae", names=names)
    assert (set(taxa(gathering).values()), gathering.other_taxon) == ({"species:Lasius niger"}, 1)
    wanted = Names()
    names_in(tmp_path, names=wanted)
    assert wanted.queries == {"Lasius nigerr", "Apis mellifera"}


def test_what_spreadsheets_add(tmp_path: Path) -> None:
    text = "\ufefffile;taxon;;\r\na.jpg;Lasius niger;;\r\n;;;\r\n\r\n"
    gathering = gather(write(tmp_path, text, "a.jpg"))
    assert (taxa(gathering), reasons(gathering)) == ({"a": "species:Lasius niger"}, {})


@pytest.mark.parametrize("name", [".", "./", "images/..", ""])
def test_a_file_that_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"line 2: file .* is no path below"):
        gather(write(tmp_path, f"file,taxon\n{name},Lasius\n", "a.jpg"))


@pytest.mark.parametrize(
    ("latitude", "longitude", "message"),
    [
        ("91", "0", "latitude '91' is not between -90 and 90 degrees"),
        ("0", "-180.5", "longitude '-180.5' is not between -180 and 180 degrees"),
        ("nan", "0", "latitude 'nan' is not between"),
        ("52.5", "", "latitude '52.5' stands there without a longitude"),
        ("", "13", "longitude '13' stands there without a latitude"),
    ],
)
def test_places_that_are_none(tmp_path: Path, latitude: str, longitude: str, message: str) -> None:
    with pytest.raises(InputError, match=f"line 2: {message}"):
        gather(write(tmp_path, f"file,latitude,longitude\na.jpg,{latitude},{longitude}\n", "a.jpg"))
