"""The stage records of individuals: wildlife-datasets' form, one folder per individual, and what may be wrong."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_records import Outputs, run

from instar.dataset.encounters import published
from instar.errors import InputError
from instar.files import sha256_of
from instar.records.individuals.read import read
from instar.records.individuals.table import read_table
from instar.splits import name_of
from instar.tables import INDIVIDUALS
from instar.tables import read_table as read_parquet

REAL = Path(__file__).parents[1] / "../shared/realdata/wildlife_reid"
HEADER = ["image_id", "identity", "path", "date", "orientation", "species", "split", "dataset"]


def photograph(path: Path, taken: str = "") -> None:
    exif = Image.Exif()
    if taken:
        exif[0x8769] = {0x9003: taken}
    path.parent.mkdir(parents=True, exist_ok=True)
    # no two are alike
    Image.new("RGB", (8, 6), tuple(path.name.encode()[:3].ljust(3, b"x"))).save(path, exif=exif)


def write_source(folder: Path, rows: Iterable[dict[str, str]], *, header: list[str] = HEADER) -> Path:
    """A table and a photograph for each of its paths, but those that say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row)
        if "missing" not in row["path"] and ".." not in row["path"] and row["path"]:
            photograph(folder / row["path"])
    (folder / "metadata.csv").write_text(text.getvalue())
    return folder


def row(image_id: str, identity: str = "", **more: str) -> dict[str, str]:
    part = {"split": "database" if identity else "query", "dataset": "LynxID"}
    return {"image_id": image_id, "identity": identity, "path": f"images/{image_id}.png", **part, **more}


def records(source: Path, out: Path, **changes: Any) -> Outputs:
    return run(source, out, **({"kind": "individuals", "taxon": ""} | changes))


def individuals(outputs: Outputs) -> list[dict[str, Any]]:
    return read_parquet(outputs.folder / "individuals.parquet", INDIVIDUALS).to_pylist()


def counts(outputs: Outputs) -> dict[str, Any]:
    metrics = outputs.json("metrics.json")
    rows = metrics["rows"]
    assert rows["in"] == rows["out"] + sum(rows["dropped"].values())
    told: dict[str, Any] = metrics["individuals"]
    return told


def test_nothing_to_read(tmp_path: Path) -> None:
    source = tmp_path / "given"
    source.mkdir()
    with pytest.raises(InputError, match=r"neither metadata.csv nor a folder 'images' in it"):
        records(source, tmp_path)
    (source / "images").mkdir()
    with pytest.raises(InputError, match=r"images: no photograph in it \(.bmp"):
        records(source, tmp_path)
    write_source(source, [])
    with pytest.raises(InputError, match=r"metadata.csv: lists no photograph; fill it, or remove it"):
        records(source, tmp_path)
    (source / "metadata.csv").write_text("")
    with pytest.raises(InputError, match=r"column identity is missing among ; it needs identity, path"):
        records(source, tmp_path)
    (source / "metadata.csv").write_text("identity,path,identity\n")
    with pytest.raises(InputError, match=r"line 1: column identity is there twice; remove one"):
        records(source, tmp_path)
    write_source(source, [row("1", "a", path="images/missing.png")])
    with pytest.raises(InputError, match=r"no photograph is left \(no such file: 1\)"):
        records(source, tmp_path)


def test_a_table_as_the_competition_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lynx = {"orientation": "right", "species": "lynx"}
    turtle = {"species": "Caretta caretta", "dataset": "Turtle", "orientation": "Left"}
    source = write_source(
        tmp_path / "given",
        [
            row("7", "lynx 1", **lynx),
            row("3", "t1", date="2019-07-11 10:00:00", **turtle),
            row("9", "t1", date="2019-07-11 18:30:00", **turtle),
            row("5", date="2020-01-02", **turtle),
        ],
    )
    (source / "sample_submission.csv").write_text("image_id,identity\n5,new_individual\n")
    outputs = records(source, tmp_path)
    told = {one["image_id"]: one for one in individuals(outputs)}
    assert list(told) == ["7", "3", "9", "5"]  # the source's order
    assert told["7"] == {
        "photo_key": "individuals-7",
        "image_id": "7",
        "identity": "lynx 1",
        "part": "database",
        "dataset": "LynxID",
        "species": "lynx",
        "orientation": "right",
        "date": None,
        "encounter": "individuals-7",
        "row": 0,
        "submission_row": None,
        "submission_rows": 1,
    }
    assert told["3"]["encounter"] == told["9"]["encounter"] == "t1 2019-07-11"
    assert (told["5"]["identity"], told["5"]["submission_row"], told["5"]["part"]) == (None, 0, "query")
    assert told["5"]["encounter"] == "individuals-5"  # nobody knows whose
    assert told["3"]["orientation"] == "left"
    rows = {one["photo_id"]: one for one in outputs.rows}
    assert rows["9"]["observation_id"] == "t1 2019-07-11"
    assert (rows["7"]["url"], rows["7"]["licence"], rows["7"]["taxon_id"]) == (
        "images/7.png",
        "unknown",
        "species:lynx",
    )
    assert [(one["taxon_id"], one["genus"]) for one in outputs.taxa] == [
        ("genus:Caretta", "Caretta"),
        ("species:Caretta caretta", "Caretta"),
        ("species:lynx", None),
    ]
    assert counts(outputs) == {
        "photographs": 4,
        "parts": {"database": 3, "query": 1},
        "datasets": {
            "LynxID": {"photographs": 1, "queries": 0, "identities": 1},
            "Turtle": {"photographs": 3, "queries": 1, "identities": 1},
        },
        "identities": 2,
        "seen_once": 1,
        "encounters": 2,
        "orientations": {"left": 3, "right": 1},
        "unknown_orientations": 0,
        "dates": {"iso": 3, "missing": 1},
        "files_in_several_rows": 0,
        "names_in_several_datasets": 0,
        "licences_not_read": 0,
        "queries_with_identity": 0,
        "boxes": 0,
        "boxes_cut": 0,
        "segmentations_not_read": 0,
        "submission": {
            "asked": 1,
            "not_in_the_table": 0,
            "no_query": 0,
            "query_not_taken": 0,
            "query_not_asked_for": 0,
        },
    }
    assert "metadata.csv" not in capsys.readouterr().err  # nothing is wrong
    assert outputs.json("annotations.json")["images"] == []
    assert (outputs.folder / "specimens.csv").read_text().count("\n") == 1


def test_identity_and_path_alone(tmp_path: Path) -> None:
    """wildlife-datasets promises no more; pandas writes a nameless column before them."""
    header = ["", "identity", "path"]
    rows = [{"": "0", "identity": "a", "path": "images/x/1.png"}, {"": "1", "identity": "b", "path": "y/2.png"}]
    source = write_source(tmp_path / "turtles", rows, header=header)
    (source / "y/2.png").rename(source / "images/x/moved.png")
    (source / "images/y").mkdir()
    (source / "images/x/moved.png").rename(source / "images/y/2.png")
    outputs = records(source, tmp_path)
    told = individuals(outputs)
    assert [(one["image_id"], one["dataset"], one["part"]) for one in told] == [
        ("images/x/1.png", "individuals", None),
        ("y/2.png", "individuals", None),
    ]
    assert sorted(one["url"] for one in outputs.rows) == ["images/x/1.png", "images/y/2.png"]


def test_every_bad_row_is_dropped_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row("1", "a", date="2019-07-11"),
        row("2", split="database"),  # whose?
        row("3", "unknown"),
        row("4", "a", path="images/missing.png"),
        row("5", "a", path="../secret.png"),
        row("6", "a", path=""),
        row("7", "a", split="query"),  # told, not used
        row("8", "new_individual"),
        row("9", "a", path="images/1.png"),  # again
        row("10", "b"),
        row("11", "c", path="images/10.png"),  # which of both?
        row("12", "d", path="images/7.png"),  # a query's
        row("13", "e", orientation="upside-turned", date="3/4/2019", dataset="Turtle"),
        row("14", "a", date="11.07.2019", orientation="unknown"),
        row("15", "f", date="2019:07:11 16:53:31"),
    ]
    outputs = records(write_source(tmp_path / "given", rows), tmp_path)
    reasons = dict(outputs.dropped)
    assert reasons == {
        "individuals-2": "no identity",
        "individuals-3": "no identity",
        "individuals-4": "no such file",
        "individuals-5": "path leads out of the source",
        "individuals-6": "no path",
        "individuals-8": "identity new_individual is no individual's",
        "individuals-9": "listed twice",
        "individuals-10": "listed twice, differently",
        "individuals-11": "listed twice, differently",
        "individuals-12": "listed as a query, too",
    }
    told = {one["image_id"]: one for one in individuals(outputs)}
    assert list(told) == ["1", "7", "13", "14", "15"]
    assert told["7"]["identity"] is None
    assert (told["13"]["date"], told["13"]["orientation"]) == (None, "upside-turned")
    assert told["14"]["encounter"] == told["1"]["encounter"] == "a 2019-07-11"
    assert told["14"]["orientation"] is None
    found = counts(outputs)
    assert found["queries_with_identity"] == 1
    assert found["dates"] == {"ambiguous": 1, "day first": 1, "exif": 1, "iso": 1, "missing": 11}
    assert (found["unknown_orientations"], found["orientations"]) == (1, {"upside-turned": 1})
    assert (found["files_in_several_rows"], found["names_in_several_datasets"]) == (3, 0)
    shown = capsys.readouterr().err
    for line in (
        "photographs dropped: no identity: 2, such as line 3 (images/2.png)",
        "photographs dropped: no such file: 1, such as line 5 (images/missing.png)",
        "1 queries have an identity, which is not used, such as line 8 (images/7.png)",
        "dates ambiguous: 1, taken as missing",
        "orientations of unknown words, kept as they are: 1 (upside-turned)",
        "3 files stand in several rows",
    ):
        assert line in shown


def test_one_name_in_two_data_sets_is_two_individuals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(str(n), "1", date="2019-07-11", dataset=name) for n, name in enumerate(["Lynx", "Turtle", "Lynx"])]
    rows += [row("3", "2", date="2019-07-11", dataset="Lynx"), row("4", "Turtle/7", dataset="Turtle")]
    rows += [row("5", "1", path="images/missing.png", dataset="Newt"), row("6", dataset="Lynx")]
    outputs = records(write_source(tmp_path / "given", rows), tmp_path)
    told = individuals(outputs)
    assert [one["identity"] for one in told] == ["Lynx/1", "Turtle/1", "Lynx/1", "2", "Turtle/Turtle/7", None]
    assert [one["encounter"] for one in told[:3]] == [f"{name}/1 2019-07-11" for name in ("Lynx", "Turtle", "Lynx")]
    names = [name_of(one["identity"], one["dataset"]) for one in told[:5]]
    assert names == ["1", "1", "1", "2", "Turtle/7"]
    found = counts(outputs)
    assert (found["identities"], found["names_in_several_datasets"], found["encounters"]) == (4, 1, 4)
    assert (
        "1 identities stand in several datasets; they are an individual of each, such as Lynx/1"
        in capsys.readouterr().err
    )
    write_source(tmp_path / "given", [*rows, row("7", "Lynx/1", dataset="Turtle")])
    with pytest.raises(InputError, match="identity Lynx/1 in Turtle and 1 in Lynx would both be Lynx/1; rename one"):
        records(tmp_path / "given", tmp_path)


def test_boxes_part_the_individuals_of_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = ["identity", "path", "bbox", "segmentation"]
    given = [  # photographs have 8 × 6 pixels
        ("a", "1.png", "[0, 0, 5, 5]", ""),
        ("b", "1.png", "[5.0, 0.25, 3.0, 4.5]", "[5, 0, 8, 0, 8, 5]"),
        ("b", "1.png", "(5.0 0.25 3.0 4.5)", "nan"),
        ("c", "1.png", "[5.0, 0.25, 3.0, 4.5]", ""),
        ("d", "2.png", "[0, 0, 8, 6.9]", ""),  # less than a pixel too large
        ("e", "3.png", "nan", ""),
        ("f", "4.png", "[1, 2, 3]", ""),
        ("f", "5.png", "[1, 2, 3, nan]", ""),
        ("f", "6.png", "[1, 2, 0, 3]", ""),
        ("j", "7.png", "[-2, 2, 3, 3]", ""),  # cut at the edges
        ("k", "8.png", "[1, 2, 9, 6]", ""),
        ("f", "10.png", "[8, 2, 3, 3]", ""),  # beside it
        ("f", "11.png", "[0, -3, 3, 3]", ""),
        ("g", "9.png", "[0, 0, 5, 9]", ""),  # the whole photograph shows this one, too
        ("h", "9.png", "", ""),
        ("i", "missing.png", "no box", ""),
        ("l", "12.png", "[0, 0, 4, 6]", ""),
        ("m", "12.png", "[4, 0, 4, 6]", ""),
    ]
    source = write_source(tmp_path / "given", (dict(zip(header, row, strict=True)) for row in given), header=header)
    outputs = records(source, tmp_path)
    known = {one["photo_key"]: one["identity"] for one in individuals(outputs)}
    regions = {known[one["key"]]: (one["url"], one["region"]) for one in outputs.rows}
    assert regions == {
        "a": ("1.png", [0, 0, 5, 5]),
        "d": ("2.png", [0, 0, 8, 6]),
        "e": ("3.png", None),
        "j": ("7.png", [0, 2, 1, 5]),
        "k": ("8.png", [1, 2, 8, 6]),
        "l": ("12.png", [0, 0, 4, 6]),
        "m": ("12.png", [4, 0, 8, 6]),
    }
    assert sorted(reason for _, reason in outputs.dropped) == [
        "bbox beside the photograph",
        "bbox beside the photograph",
        "bbox is not four numbers",
        "bbox is not four numbers",
        "bbox without an area",
        *["listed twice, differently"] * 5,
        "no such file",
    ]
    told = counts(outputs)
    assert (told["boxes"], told["boxes_cut"]) == (6, 2)  # not those of dropped rows
    assert (told["segmentations_not_read"], told["files_in_several_rows"]) == (1, 3)
    shown = capsys.readouterr().err
    assert "1 rows have a segmentation, which is not read, such as line 3 (1.png)" in shown
    assert "2 boxes lead out of their photographs and are cut, such as line 11 (7.png)" in shown
    assert "photographs dropped: bbox without an area: 1, such as line 10 (6.png)" in shown


def label(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_detector_learns_from_boxes_beside_the_table(tmp_path: Path) -> None:
    rows = [row(name, "a", path=f"images/{name}.png") for name in "1234"] + [row("5", "b", path="turtles/5.png")]
    source = write_source(tmp_path / "given", [*rows, row("6", "b", bbox="[0, 0, 5, 5]")], header=[*HEADER, "bbox"])
    for name in ("1", "2", "3", "6"):
        label(source / f"labels/{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    label(source / "labels/4.txt", "")
    label(source / "labels/turtles/5.txt", "0 0.5 0.5 0.5 0.5\n")
    outputs = records(source, tmp_path, annotation_split="photograph")
    coco = outputs.json("annotations.json")
    assert outputs.json("metrics.json")["annotations"]["left_out"] == {"a part alone is searched": 1}
    # of the sixth its box alone is searched, so that it would tell nothing of a detector
    assert [one["file_name"] for one in coco["images"]] == [f"individuals-{n}" for n in range(1, 6)]
    assert {one["split"] for one in coco["images"]} == {"train", "validation", "test"}
    assert [one["bbox"] for one in coco["annotations"]] == [[2, 1.5, 4, 3]] * 4
    shutil.rmtree(source / "labels")
    image = {"width": 8, "height": 6}
    images = [{"id": 1, "file_name": "turtles/5.png", **image}, {"id": 2, "file_name": "1.png", **image}]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}]
    told = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "turtle"}]}
    label(source / "annotations.json", json.dumps(told))
    outputs = records(source, tmp_path, annotation_split="photograph")
    assert [one["file_name"] for one in outputs.json("annotations.json")["images"]] == [
        "individuals-1",
        "individuals-5",
    ]
    assert outputs.json("metrics.json")["annotations"]["boxes"] == {"train": 1, "validation": 0, "test": 0}


def test_boxes_go_to_no_other_photograph_of_the_name(tmp_path: Path) -> None:
    rows = [row("t1", "a", path="turtles/1.png", bbox="[0, 0, 5, 5]"), row("l1", "b", path="lynx/1.png")]
    rows += [row("t2", "a", path="turtles/2.png", bbox=box) for box in ("[0, 0, 5, 5]", "[5, 0, 3, 5]")]
    rows[-1]["image_id"] = "t2 again"
    rows += [row("l3", "b", path="lynx/3.png"), row("l4", "b", path="lynx/4.png"), row("l5", "b", path="lynx/5.png")]
    source = write_source(tmp_path / "given", rows, header=[*HEADER, "bbox"])
    names = ["1.png", "turtles/1.png", "2.png", "3.png", "4.png", "lynx/5.png", "6.png"]
    images = [{"id": n, "file_name": name, "width": 8, "height": 6} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 5, 5]} for n in range(len(names))]
    told = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "turtle"}]}
    label(source / "annotations.json", json.dumps(told))
    outputs = records(source, tmp_path, annotation_split="photograph")
    found = [one["file_name"] for one in outputs.json("annotations.json")["images"]]
    assert found == ["individuals-l3", "individuals-l4", "individuals-l5"]
    # which of both 1.png is nobody can say, and there is no 6.png
    left_out = {"a part alone is searched": 2, "not among the records": 2}
    assert outputs.json("metrics.json")["annotations"]["left_out"] == left_out
    told["images"], told["annotations"] = images[1:2], boxes[1:2]  # nothing but a part's is no fault
    label(source / "annotations.json", json.dumps(told))
    assert records(source, tmp_path).json("annotations.json")["images"] == []


def test_a_file_that_is_called_annotations_and_holds_none(tmp_path: Path) -> None:
    source = write_source(tmp_path / "given", [row("1", "a")])
    for text in ('{"1.png": {"turtle": "a"}}', "[1]"):
        label(source / "annotations.json", text)
        with pytest.raises(InputError, match=r"annotations.json: not a COCO JSON .* needs none, move the file away"):
            records(source, tmp_path)


def test_rows_without_an_id_are_named_by_their_path(tmp_path: Path) -> None:
    header = ["identity", "path"]
    given = [("a", "1.png"), ("a", "1.png"), ("b", "2.png"), ("c", "2.png"), ("d", ""), ("e", ""), ("f", "3.png")]
    rows = [dict(zip(header, values, strict=True)) for values in given]
    outputs = records(write_source(tmp_path / "given", rows, header=header), tmp_path)
    assert [one["image_id"] for one in individuals(outputs)] == ["1.png", "3.png"]
    assert sorted(reason for _, reason in outputs.dropped) == [
        "listed twice",
        "listed twice, differently",
        "listed twice, differently",
        "no path",
        "no path",
    ]


def test_a_licence_that_is_not_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("1", "a", licence="All rights reserved, J. Doe"), row("2", "a", licence="CC0"), row("3", "b")]
    source = write_source(tmp_path / "given", rows, header=[*HEADER, "licence"])
    assert counts(records(source, tmp_path))["licences_not_read"] == 1
    line = "1 licences that are not read count as unknown, such as All rights reserved, J. Doe, line 2 (images/1.png)"
    assert line in capsys.readouterr().err


def test_sides_are_read_as_they_are_compared(tmp_path: Path) -> None:
    words = ["Top Left", "top-left", "LEFT", "side", "flank"]
    rows = [row(str(n), "a", orientation=word) for n, word in enumerate(words)]
    outputs = records(write_source(tmp_path / "given", rows), tmp_path)
    assert [one["orientation"] for one in individuals(outputs)] == ["top left", "top-left", "left", "side", "flank"]
    assert counts(outputs)["unknown_orientations"] == 2


def test_files_are_hashed_once(tmp_path: Path) -> None:
    source = write_source(tmp_path / "given", [row("1", "a"), row("2", "a")])
    hashes = {name: sha256_of(source / f"images/{name}.png") for name in ("1", "2")}
    assert {one["photo_id"]: one["sha256"] for one in records(source, tmp_path).rows} == hashes
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file,bytes,sha256\nimages/1.png,1,told\n")  # what stands there is not read again
    found = read(source, work=tmp_path, manifest=manifest).gathering.found
    assert dict(zip(found["photo_id"].to_pylist(), found["sha256"].to_pylist(), strict=True)) == hashes | {"1": "told"}


def test_image_ids_that_are_there_twice(tmp_path: Path) -> None:
    source = write_source(tmp_path / "given", [row("1", "a"), row("2", "a"), row("1", "b"), row("1", "c")])
    with pytest.raises(InputError, match=r"image_id '1' stands in lines 2 and 4 \(and 1 more\); give each") as told:
        records(source, tmp_path)
    assert "\n" not in str(told.value)
    write_source(source, [row("a-b", "a"), row("a/b", "a")])
    with pytest.raises(InputError, match=r"image_id 'a/b' gets the key of 'a-b', too"):
        records(source, tmp_path)


def test_a_submission_that_asks_for_what_cannot_be_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("1", "a"), row("2"), row("3"), row("4", path="images/missing.png")]
    source = write_source(tmp_path / "given", rows)
    (source / "sample_submission.csv").write_text("image_id,identity\n3,x\n1,x\n99,x\n4,x\n")
    outputs = records(source, tmp_path)
    told = {one["image_id"]: one["submission_row"] for one in individuals(outputs)}
    assert told == {"1": None, "2": None, "3": 0}
    assert counts(outputs)["submission"] == {
        "asked": 4,
        "not_in_the_table": 1,
        "no_query": 1,
        "query_not_taken": 1,
        "query_not_asked_for": 1,
    }
    shown = capsys.readouterr().err
    assert (
        "sample_submission.csv: 1 images that it asks for cannot be answered: no queries in metadata.csv; give" in shown
    )
    assert "sample_submission.csv: does not ask for 1 queries" in shown
    (source / "sample_submission.csv").write_text("image_id,identity\n3,x\n3,x\n")
    with pytest.raises(InputError, match=r"image_id '3' stands in lines 2 and 3; remove one of them"):
        records(source, tmp_path)


def test_one_folder_per_individual(tmp_path: Path) -> None:
    source = tmp_path / "bears"
    photograph(source / "images/Bruno/1.png", taken="2019:07:11 16:53:31")
    photograph(source / "images/Bruno/2.png", taken="2019:07:11 09:00:00")
    photograph(source / "images/Ida/nested/1.png")
    photograph(source / "images/loose.png")
    photograph(source / "images/query/3.png")
    (source / "images/Ida/notes.txt").write_text("a bear")
    (source / "images/Ida/broken.jpg").write_text("no photograph")
    outputs = records(source, tmp_path)
    told = {one["image_id"]: one for one in individuals(outputs)}
    assert {name: (one["identity"], one["part"]) for name, one in told.items()} == {
        "Bruno/1": ("Bruno", None),
        "Bruno/2": ("Bruno", None),
        "Ida/broken": ("Ida", None),  # the stage images finds out
        "Ida/nested/1": ("Ida", None),
        "query/3": (None, "query"),
    }
    assert told["Bruno/1"]["encounter"] == told["Bruno/2"]["encounter"] == "Bruno 2019-07-11"
    assert {one["dataset"] for one in told.values()} == {"individuals"}  # the same wherever the folder lies
    assert outputs.dropped == [("individuals-loose", "no identity")]
    photograph(source / "images/Bruno/1.jpg")
    with pytest.raises(InputError, match=r"Bruno/1.png differs from .*Bruno/1.jpg in its ending alone"):
        records(source, tmp_path)


def test_filters_hold_for_individuals_too(tmp_path: Path) -> None:
    header = [*HEADER, "licence"]
    rows = [
        row("1", "a", species="lynx", licence="CC-BY-4.0", date="2019-01-01"),
        row("2", "a", species="lynx", licence="CC-BY-NC-4.0", date="2019-01-01"),
        row("3", "b", species="turtle", date="2019-01-01"),
        row("4", "b", species="lynx", date="2021-01-01"),
    ]
    source = write_source(tmp_path / "given", rows, header=header)
    outputs = records(source, tmp_path, taxon="lynx", licences=["cc-by"], observed_to="2020-01-01")
    assert [one["image_id"] for one in individuals(outputs)] == ["1"]
    assert outputs.rows[0]["licence"] == "cc-by"
    assert dict(outputs.dropped) == {"individuals-2": "licence not allowed", "individuals-4": "outside the dates"}
    assert outputs.json("metrics.json")["rows"]["dropped"]["other taxon"] == 1


def test_a_table_as_large_as_the_competitions(tmp_path: Path) -> None:
    """13,074 rows of the database and 2,135 queries; without their photographs, which would take minutes to write."""
    # 317 individuals are seen once
    rows = [
        row(
            str(i), f"t{i}" if i < 317 else f"again {i % 785}", date=f"20{i % 20:02d}-0{i % 9 + 1}-11", species="turtle"
        )
        for i in range(13_074)
    ]
    rows += [row(str(i)) for i in range(13_074, 15_209)]
    path = tmp_path / "metadata.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, restval="")
        writer.writeheader()
        writer.writerows(rows)
    found = read_table(path)
    assert len(found) == 15_209
    assert sum(one.is_query for one in found) == 2135
    assert (found[13_073].line, found[13_073].place, found[13_073].identity) == (13_075, 13_073, "again 513")
    splits = published([one.identity for one in found if one.identity])
    assert Counter(splits) == {"train": 10_522, "validation": 2_552}
    assert set(splits[:317]) == {"train"}


def test_other_studies_have_no_individuals(tmp_path: Path) -> None:
    photograph(tmp_path / "given/images/1.png")
    outputs = run(tmp_path / "given", tmp_path, kind="folder", taxon="")
    assert individuals(outputs) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/realdata/wildlife_reid is not there")
def test_real_tables_of_wildlife_datasets(tmp_path: Path) -> None:
    outputs = records(REAL / "TestDataset", tmp_path)
    told = individuals(outputs)
    table = (REAL / "TestDataset/metadata.csv").read_text().splitlines()
    assert [one["image_id"] for one in told] == [line.split(",")[0] for line in table[1:]]
    assert {one["part"] for one in told} == {"train", "test"}
    turtles = read_table(REAL / "metadata/datasets/SeaTurtleIDHeads/metadata.csv")
    assert len(turtles) == 7582
    assert all(one.reason is None and one.identity for one in turtles)
    assert json.dumps(sorted({one.part for one in turtles if one.part})) == '["test", "train"]'
