"""Trays read by the stage records: MassID45's layout, plain COCO, and everything that may be wrong."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from test_records import Outputs, run
from tray_folder import outline, picture, ring, tile_images, tray, write_coco, write_tiles

from instar.annotations import read_annotations
from instar.decode import UndecodableError
from instar.errors import InputError
from instar.images.check import photograph
from instar.masks import from_bitmaps
from instar.records.annotations import split_by_observation, split_by_photograph
from instar.records.trays.coco import Store
from instar.records.trays.stream import elements
from instar.study import compose
from instar.tables import BARCODES, read_table

ROOT = Path(__file__).parents[1]
PARTITION = ROOT / "workflow/conf/trays/partition.csv"
INSECT = ring(5, 5, 15, 15)


def stage(source: Path, out: Path, **changes: Any) -> Outputs:
    given = {"kind": "trays", "taxon": "", "annotation_split": "photograph", "annotation_faults": "leave_out"}
    return run(source, out, **(given | {"outline_categories": ["b"], "tray_margin_px": 3} | changes))


def animals(outputs: Outputs) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = outputs.json("annotations.json")["annotations"]
    return found


def counts(outputs: Outputs) -> dict[str, Any]:
    found: dict[str, Any] = outputs.json("metrics.json")["trays"]
    return found


def left_out(outputs: Outputs) -> dict[str, int]:
    found: dict[str, int] = outputs.json("metrics.json")["annotations"]["left_out"]
    return found


def changed(outputs: Outputs) -> list[dict[str, str]]:
    with (outputs.folder / "outlines.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "trays"


def test_no_photograph_and_no_insect(tmp_path: Path, source: Path) -> None:
    source.mkdir()
    with pytest.raises(InputError, match="no folder edited or"):
        stage(source, tmp_path / "out")
    (source / "images").mkdir()
    with pytest.raises(InputError, match="no photograph in it"):
        stage(source, tmp_path / "out")
    picture(source / "images/A_1.jpg")
    outputs = stage(source, tmp_path / "out")  # nothing is annotated
    assert outputs.json("annotations.json")["images"] == []
    assert (outputs.rows[0]["key"], outputs.rows[0]["observation_id"]) == ("trays-A_1", "trays-A")
    assert outputs.rows[0]["region"] is None
    write_coco(source / "annotations.json", [{"id": 1, "file_name": "A_1.jpg"}], [])
    outputs = stage(source, tmp_path / "out")  # annotated, and no insect on it
    assert [image["file_name"] for image in outputs.json("annotations.json")["images"]] == ["trays-A_1"]
    assert (outputs.rows[0]["region"], animals(outputs), changed(outputs)) == (None, [], [])
    assert read_annotations(outputs.folder / "annotations.json")[1] == ["animal"]


def test_sub_images_become_the_photograph(tmp_path: Path, source: Path) -> None:
    annotations = [
        outline(1, 1, [INSECT]),
        outline(2, 1, [ring(45, 20, 55, 30)]),  # of the common columns
        outline(3, 2, [ring(5, 20, 15, 30)]),  # the same one, seen from column 40 on
        outline(4, 1, [ring(50, 2, 60, 12)]),  # cut by the border
        outline(5, 2, [ring(10, 2, 30, 12)]),  # whole
        outline(6, 2, [ring(40, 20, 50, 30)], "d"),
    ]
    tray(source, "GAA_1", annotations)
    outputs = stage(source, tmp_path / "out")
    assert [one["bbox"] for one in animals(outputs)] == [[5, 5, 10, 10], [45, 20, 10, 10], [50, 2, 20, 10]]
    told = [(one["area"], one["name"], one["taxon"], one["low"]) for one in animals(outputs)]
    assert told == [(100, "b", None, []), (100, "b", None, []), (200, "b", None, [])]
    text = (outputs.folder / "annotations.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    masks = read_annotations(outputs.folder / "annotations.json")[0][0].masks
    assert masks is not None
    assert masks.take(np.array([2])).rle(40, 100) == from_bitmaps([np.ones((10, 20))], [(50, 2)]).rle(40, 100)
    assert outputs.rows[0]["region"] == [2, 0, 73, 33]  # 3 px around, clipped
    read = counts(outputs)["outlines"]
    assert (read["in"], read["out"], read["joined"], read["dropped"]) == (6, 3, 2, {"category d": 1})


def test_a_hole_between_parts_of_two_sub_images_is_filled(tmp_path: Path, source: Path) -> None:
    """A bent insect, 40 by 30 pixels around 30 by 20 of none: each sub-image shows it open to the other one's side."""
    left = [30, 5, 60, 5, 60, 10, 35, 10, 35, 30, 60, 30, 60, 35, 30, 35]
    right = [0, 5, 30, 5, 30, 35, 0, 35, 0, 30, 25, 30, 25, 10, 0, 10]
    tray(source, "GAA_1", [outline(1, 1, [left]), outline(7, 2, [right])])
    outputs = stage(source, tmp_path / "out")
    (insect,) = animals(outputs)
    assert (insect["bbox"], insect["area"]) == ([30, 5, 40, 30], 1200)
    told = "holes filled between parts of several sub-images"
    (row,) = changed(outputs)
    assert list(row.values()) == ["trays-GAA_1", "0; 1", "1; 7", "b", told, "", "600", "1200"]
    read = counts(outputs)["outlines"]
    assert (read["in"], read["out"], read["joined"]) == (2, 1, 1)
    assert (read["changed"], read["changed_area_px"]) == ({told: 1, "outlines": 0}, {"before": 600, "after": 1200})
    # pixels say themselves where there is none
    pixels = np.ones((30, 30), bool)
    pixels[5:25, :25] = False
    encoded = from_bitmaps([pixels], [(0, 5)]).rle(40, 60)[0].decode()
    tray(source, "GAA_1", [outline(1, 1, [left]), outline(7, 2, {"size": [40, 60], "counts": encoded})])
    outputs = stage(source, tmp_path / "out")
    assert ([one["area"] for one in animals(outputs)], changed(outputs)) == ([600], [])


def test_what_is_wrong_with_outlines_is_counted(tmp_path: Path, source: Path) -> None:
    annotations = [
        outline(1, 1, [INSECT]),
        outline(2, 1, [INSECT]),
        outline(3, 1, [[1, 1, 9, 9]]),
        outline(4, 1, [ring(-5, -5, 5, 5)]),  # 25 pixels of it inside
        outline(5, 1, [ring(-50, 5, -40, 15)]),
        outline(6, 1, [ring(30, 30, 33, 34)]),  # 12 pixels
        outline(7, 1, {"size": [4, 4], "counts": [0, 16]}),
        outline(8, 1, [ring(20, 20, 30, 30)], None) | {"category_id": 7},
        outline(9, 1, [ring(20, 20, 30, 30)], "ant"),
        outline(10, 99, [INSECT]),
        outline(11, 1, [[20, 20, 40, 40, 40, 20, 20, 40]]),  # crosses itself
        outline(12, 1, [[1, 1, 9, 9, 1e300, 0]]),
        {"id": 13, "category_id": 1},
        outline(14, 2, {"size": [40, 60], "counts": [45, 10, 2345]}),  # 10 pixels
        outline(15, 2, {"size": [40, 60], "counts": [800, 40, 760, 5, 795]}),  # with a speck of 5
        outline(16, [1], [INSECT]),
    ]
    write_coco(source / "annots_20250307_coco.json", tray(source, "GAA_1", []), annotations)
    outputs = stage(source, tmp_path / "out")
    told = counts(outputs)["outlines"]
    assert told["dropped"] == {
        "RLE of another size than the picture": 1,
        "coordinates are no pairs of numbers": 1,
        "fewer than 15 pixels": 2,
        "fewer than three points": 1,
        "outside the picture": 1,
        "same outline twice": 1,
        "unknown category": 2,
        "unknown image": 3,
    }
    assert (told["in"], told["out"], told["joined"]) == (16, 4, 0)
    assert told["changed"] == {"clipped at the edge": 1, "repaired": 1, "outlines": 2}
    rows = {row["id"]: row for row in changed(outputs)}
    assert rows["3"]["reason"] == "fewer than three points"
    four, six = ([rows[number][name] for name in ("changes", "area_before", "area_after")] for number in "46")
    assert (four, six) == (["clipped at the edge", "100", "25"], ["", "12", "0"])
    assert rows["5"]["area_before"] == "100"  # all of it outside
    assert rows.keys().isdisjoint({"1", "15"})
    assert animals(outputs)[-1]["area"] == 45
    with pytest.raises(
        InputError, match=r"image it does not list: annotation 10 of image 99 \(and 6 more faults\); mend"
    ):
        stage(source, tmp_path / "again", annotation_faults="refuse")


def test_a_photograph_with_a_lost_sub_image_is_left_out(tmp_path: Path, source: Path) -> None:
    images = [*tray(source, "GAA_1", []), {"id": 3, "toras_path": "batch-1/GAA_1/GAA_1_tile_16.jpg"}]
    images += tray(source, "GBB_1", [], 11)  # its second sub-image has another size than told
    images[-1] |= {"width": 50, "height": 40}
    images += tray(source, "GCC_1", [], 21) + tray(source, "GDD_1", [], 31) + tray(source, "GEE_1", [], 41)
    annotations = [
        *(outline(1, 1, [INSECT]), outline(2, 3, [INSECT])),
        outline(3, 12, [INSECT]),
        *(outline(4, 21, [[1, 1, 9, 9]]), outline(5, 21, [ring(-50, 5, -40, 15)]), outline(6, 21, [INSECT], "d")),
        *(outline(7, 31, [INSECT]), outline(8, 31, [[1, 1, 9, 9]])),  # one slip
        outline(9, 41, [INSECT], "d"),  # nothing but debris
    ]
    write_coco(source / "annots_20250307_coco.json", images, annotations)
    outputs = stage(source, tmp_path / "out")
    assert left_out(outputs) == {
        "a sub-image's outlines cannot be placed": 2,
        "none of its outlines can be used": 1,
    }
    assert {one["image_id"] for one in animals(outputs)} == {1}
    assert [image["file_name"] for image in outputs.json("annotations.json")["images"]] == [
        "trays-GDD_1",
        "trays-GEE_1",
    ]
    assert {row["key"]: row["region"] for row in outputs.rows}["trays-GAA_1"] is None
    told = counts(outputs)["outlines"]
    assert (told["in"], told["out"]) == (9, 1)
    assert told["dropped"] == {
        "category d": 2,
        "fewer than three points": 2,
        "outside the picture": 1,
        "photograph left out: a sub-image's outlines cannot be placed": 1,
        "sub-image not in the metadata": 1,
        "sub-image of another size than in the metadata": 1,
    }


def test_wanted_categories_are_named_when_there_are_none(tmp_path: Path, source: Path) -> None:
    tray(source, "GAA_1", [outline(1, 1, [INSECT])])
    with pytest.raises(InputError, match=r"no outline of the categories insect \(b: 1\); set records.outline_cat"):
        stage(source, tmp_path / "out", outline_categories=["insect"])
    assert len(animals(stage(source, tmp_path / "out", outline_categories=[]))) == 1


def test_photographs_without_annotations_and_the_other_way_round(tmp_path: Path, source: Path) -> None:
    images = tray(source, "GAA_1", []) + tile_images("GBB_1", 11) + tile_images("GCC_1", 21)
    write_coco(source / "annots_20250307_coco.json", images, [outline(1, 1, [INSECT]), outline(2, 11, [INSECT])])
    picture(source / "edited/GDD_1.jpg")  # not annotated
    (source / "edited/GCC_1.jpg").write_bytes(b"no photograph")
    (source / "edited/Thumbs.db").write_bytes(b"")
    outputs = stage(source, tmp_path / "out")
    assert left_out(outputs) == {"no readable photograph": 1, "no such photograph": 1}
    assert counts(outputs)["outlines"]["dropped"] == {"photograph left out: no such photograph": 1}
    assert counts(outputs)["photographs"] == {
        "annotated": 1,
        "not_annotated": 2,
        "not_in_metadata": 0,
        "with_sub_images_missing": 0,
    }
    assert outputs.json("metrics.json")["rows"] == {"in": 4, "out": 3, "dropped": {"no photograph": 1}}
    assert outputs.dropped == [("trays-Thumbs.db", "no photograph")]


def test_a_truncated_photograph_of_45_megapixels_has_its_reason(tmp_path: Path, source: Path) -> None:
    whole = picture(source / "edited/GAA_1.jpg", 8192, 5464)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    write_tiles(source, "GAA_1")
    write_coco(source / "annots_20250307_coco.json", tile_images("GAA_1"), [outline(1, 1, [INSECT])])
    outputs = stage(source, tmp_path / "out")
    assert len(animals(outputs)) == 1  # its size stands in its header
    with pytest.raises(UndecodableError, match="truncated"):
        photograph(whole.read_bytes())  # which is the reason that the stage images gives


def test_metadata_samples_and_barcodes(tmp_path: Path, source: Path) -> None:
    tray(source, "GAA_1", [outline(1, 1, [INSECT])])
    for name in ("GAB_1", "S7_2"):
        picture(source / f"edited/{name}.jpg")
    (source / "metadata.csv").write_text(
        "Photo,sample,specimens,latitude,longitude,collected,trap,licence\n"
        "GAA_1.jpg,S1,12,60.2,24.9,2021-07-03,T1,CC BY 4.0\n"
        "GZZ_1,S9,,,,,,\n"
    )
    (source / "barcodes.csv").write_text(
        "sample,kingdom,phylum,class,order,family,genus,species,reads\n"
        "S1,Animalia,Arthropoda,Insecta,Diptera,Chironomidae,Chironomus,Chironomus fictus,7\n"
        "S1,Animalia,Arthropoda,Insecta,Diptera,Chironomidae,Chironomus,Chironomus fictus,5\n"
        "S1,Animalia,Arthropoda,Insecta,Diptera,,,,\n"
        "S7,Animalia,Arthropoda,Insecta,Coleoptera,,,,1\n"
        "S8,Animalia,Arthropoda,Insecta,Coleoptera,,,,1\n"
    )
    outputs = stage(source, tmp_path / "out")
    rows = {row["key"]: row for row in outputs.rows}
    row = rows["trays-GAA_1"]
    assert (row["observation_id"], row["latitude"], row["licence"]) == ("trays-S1", 60.2, "cc-by")
    assert row["observed_at"].isoformat() == "2021-07-03T00:00:00+00:00"
    assert rows["trays-S7_2"]["observation_id"] == "trays-S7"  # by its name, since barcodes know the sample
    assert rows["trays-GAB_1"]["observation_id"] == "trays-GAB"  # by its name alone
    assert outputs.dropped == [("trays-GZZ_1", "no such file")]
    assert read_table(outputs.folder / "barcodes.parquet", BARCODES).to_pylist() == [
        {"observation_id": "trays-S1", "sample": "S1", "taxon_id": "order:Diptera", "reads": None},
        {"observation_id": "trays-S1", "sample": "S1", "taxon_id": "species:Chironomus fictus", "reads": 12},
        {"observation_id": "trays-S7", "sample": "S7", "taxon_id": "order:Coleoptera", "reads": 1},
    ]
    assert (outputs.folder / "specimens.csv").read_text() == (
        "photo_key,sample,specimens,specimens_insecta_arachnida\n"
        "trays-GAA_1,S1,12,\ntrays-GAB_1,GAB,,\ntrays-S7_2,S7,,\n"
    )
    assert [taxon["taxon_id"] for taxon in outputs.taxa][-2:] == ["phylum:Arthropoda", "species:Chironomus fictus"]
    assert counts(outputs)["samples"]["barcoded_without_photograph"] == 1
    outputs = stage(source, tmp_path / "out", licences=["cc0"])
    assert sorted(outputs.dropped) == [("trays-GAA_1", "licence not allowed"), ("trays-GZZ_1", "no such file")]
    assert left_out(outputs) == {"not among the records": 1}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("GAA_1,S1,twelve,,,", "specimens = 'twelve' is no whole number"),
        ("GAA_1,S1,,91,3,", "latitude = '91' is not between -90 and 90 degrees"),
        ("GAA_1,S1,,9,,", "has only one of latitude and longitude"),
        ("GAA_1,S1,,,,summer", "collected = 'summer' is no date"),
        (",S1,,,,", "a row without a photo"),
        ("GAA_1,S1,,,,\nGAA_1.jpg,S2,,,,", "is listed twice"),
    ],
)
def test_a_wrong_row_of_the_metadata(tmp_path: Path, source: Path, row: str, problem: str) -> None:
    picture(source / "edited/GAA_1.jpg")
    (source / "metadata.csv").write_text(f"photo,sample,specimens,latitude,longitude,collected\n{row}\n")
    with pytest.raises(InputError, match=problem):
        stage(source, tmp_path / "out")


@pytest.mark.parametrize("row", ["GAA_1,S1,extra", "GAA_1"])
@pytest.mark.parametrize("name", ["metadata", "barcodes", "partition"])
def test_a_row_of_ones_own_that_cannot_be_read(tmp_path: Path, source: Path, name: str, row: str) -> None:
    picture(source / "edited/GAA_1.jpg")
    columns = {"metadata": "photo,sample", "barcodes": "sample,class", "partition": "photo,split"}[name]
    (source / f"{name}.csv").write_text(f"{columns}\nGBB_1,train\n{row}\n")
    with pytest.raises(InputError, match=rf"{name}\.csv: line 3: ") as told:
        stage(source, tmp_path / "out", annotation_split="given")
    assert "\n" not in str(told.value)


def test_labels_by_id_and_by_overlap(tmp_path: Path, source: Path) -> None:
    annotations = [
        outline(1, 1, [INSECT]),
        outline(2, 1, [ring(45, 20, 55, 30)]),
        outline(3, 2, [ring(5, 20, 15, 30)]),
        outline(4, 1, [ring(20, 20, 30, 30)]),
    ]
    images = tray(source, "GAA_1", annotations)
    picture(source / "edited/GBB_1.jpg")  # not outlined
    labelled = [
        outline(1, 1, [INSECT], "Diptera; Chironomidae"),
        outline(1, 2, [ring(5, 20, 15, 30)], "Diptera"),  # an id of another insect: by overlap
        outline(9, 1, [ring(20, 21, 30, 31)], "Beetle"),
        outline(10, 2, [ring(40, 5, 50, 15)], "Diptera"),  # of nothing
        outline(4, 1, [ring(20, 20, 30, 30)], None) | {"category_id": 9},
        outline(5, 21, [INSECT], "Diptera"),
        outline(6, 22, [INSECT], "Diptera"),
        outline(7, 99, [INSECT], "Diptera"),
    ]
    write_coco(source / "taxa_20250307_coco.json", images + tile_images("GBB_1", 21), labelled)
    names = "kingdom\tphylum\tclass\torder\tfamily\tgenus\nAnimalia\tArthropoda\tInsecta\tDiptera\tChironomidae\tNone\n"
    (source / "bold.tsv").write_text(names)
    outputs = stage(source, tmp_path / "out")
    assert [(one["bbox"][0], one["taxon"], one["low"]) for one in animals(outputs)] == [
        (5, "order:Diptera", ["family:Chironomidae"]),
        (45, "order:Diptera", []),
        (20, None, []),
    ]
    assert counts(outputs)["labels"] == {
        "insects with a high-confidence label": 2,
        "insects with a label that the taxonomy does not have": 1,
        "insects with low-confidence labels": 1,
        "in": 8,
        "out": 3,
        "dropped": {
            "labels of images that their file does not list": 1,
            "labels of photographs without outlines, or left out": 2,
            "labels without a name": 1,
            "labels without an insect": 1,
        },
        "labels by overlap": 2,
        "labels by the outline's id": 1,
        "unknown_names": {"Beetle": 1},
    }
    assert "family:Chironomidae" in [taxon["taxon_id"] for taxon in outputs.taxa]
    (source / "annots_20250307_coco.json").unlink()
    with pytest.raises(InputError, match="are labels, and there are no outlines"):
        stage(source, tmp_path / "again")


def test_labels_of_the_outline_that_is_taken_come_first(tmp_path: Path, source: Path) -> None:
    annotations = [
        outline(1, 1, [ring(50, 2, 60, 12)]),  # cut by the border
        outline(2, 2, [ring(10, 2, 30, 12)]),  # whole
        outline(3, 1, [ring(50, 22, 60, 32)]),
        outline(4, 2, [ring(10, 22, 30, 32)]),
    ]
    images = tray(source, "GAA_1", annotations)
    labelled = [annotations[0] | {"name": "Insecta"}, annotations[1] | {"name": "Diptera"}]
    labelled.append(annotations[2] | {"name": "Insecta"})  # the whole one has none
    write_coco(source / "taxa_20250307_coco.json", images, labelled)
    (source / "bold.tsv").write_text("kingdom\tclass\torder\tfamily\nAnimalia\tInsecta\tDiptera\t\n")
    outputs = stage(source, tmp_path / "out")
    assert [(one["bbox"][1], one["taxon"], one["low"]) for one in animals(outputs)] == [
        (2, "order:Diptera", []),
        (22, "class:Insecta", []),
    ]


def test_plain_coco(tmp_path: Path, source: Path) -> None:
    picture(source / "images/A.jpg")
    picture(source / "images/sub/B.jpg")
    whole = {"size": [40, 100], "counts": [45, 20, 3935]}
    images: list[dict[str, Any]] = [{"id": "a", "file_name": "A.jpg", "width": 100, "height": 40}]
    images.append({"id": "b", "file_name": "images/sub/B.jpg"})
    annotations = [
        outline(1, "a", [INSECT], None),
        outline(2, "a", whole, None),
        outline(3, "b", [ring(0, 0, 100, 40)], None, iscrowd=1),
        outline(4, "b", [ring(90, 30, 120, 50)], None),
    ]
    path = write_coco(source / "annotations.json", images, annotations)
    outputs = stage(source, tmp_path / "out")
    found = sorted((one["area"], one["iscrowd"]) for one in animals(outputs))
    assert found == [(20, 0), (100, 0), (100, 0), (4000, 1)]
    assert {row["url"] for row in outputs.rows} == {"images/A.jpg", "images/sub/B.jpg"}
    write_coco(path, [{**images[0], "width": 50}, images[1]], annotations[:2])
    outputs = stage(source, tmp_path / "out")
    assert left_out(outputs) == {"annotated in another size": 1}
    assert counts(outputs)["outlines"]["dropped"] == {"photograph left out: annotated in another size": 2}


def test_two_files_of_annotations(tmp_path: Path, source: Path) -> None:
    images = tray(source, "GAA_1", [])
    write_coco(source / "annotations.json", images, [])
    with pytest.raises(InputError, match=r"annotations.json: is there beside annots_20250307_coco.json; keep one"):
        stage(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("windows", "problem"),
    [
        (None, "no such file, and the annotations are of its sub-images"),
        (b"nothing", "not a table of y_min, y_max, x_min, x_max"),
        ([[1, 2, 3]], r"not a table .*shape \(1, 3\)"),
        ([[0, 40, 0, 60], [0, 40, np.nan, 60]], "not a table .*row 1 has a value that is no number"),
        ([[0, 40, 0, 60], [50, 90, 0, 60]], "row 1: y_min, y_max, x_min, x_max = 50, 90, 0, 60 is no part of"),
    ],
)
def test_a_wrong_table_of_sub_images(tmp_path: Path, source: Path, windows: Any, problem: str) -> None:
    tray(source, "GAA_1", [outline(1, 1, [INSECT])])
    path = source / "annotation_tiles/GAA_1/GAA_1_tile_metadata.npy"
    path.unlink()
    if isinstance(windows, bytes):
        path.write_bytes(windows)
    elif windows:
        np.save(path, np.array(windows))
    with pytest.raises(InputError, match=problem):
        stage(source, tmp_path / "out")


def test_49_photographs_are_parted_as_published() -> None:
    keys = [f"G{number:02}" for number in range(49)]
    given: Any = OmegaConf.create(compose("trays", [])).records
    shares = {name: given[f"annotation_{name}"] for name in ("validation_share", "test_share")}
    splits = list(split_by_photograph(keys, **shares, seed=0).values())
    assert [splits.count(name) for name in ("train", "validation", "test")] == [40, 3, 6]
    # four samples have two photographs each
    samples = {key: f"S{number % 45}" for number, key in enumerate(keys)}
    of_samples = split_by_observation(samples, **shares, seed=0)
    assert [list(of_samples.values()).count(name) for name in ("train", "validation", "test")] == [40, 3, 6]
    assert all(of_samples[keys[n]] == of_samples[keys[n + 45]] for n in range(4))
    assert split_by_photograph([], validation_share=0.1, test_share=0.1, seed=0) == {}
    three = split_by_photograph(keys[:3], validation_share=0.06, test_share=0.12, seed=0)
    assert sorted(three.values()) == ["test", "train", "validation"]
    shares = {"validation_share": 0.1, "test_share": 0.1}
    assert split_by_photograph(keys[::-1], **shares, seed=1) == split_by_photograph(keys, **shares, seed=1)


def many(source: Path, names: list[str]) -> None:
    images = []
    for i, name in enumerate(names):
        picture(source / f"edited/{name}.jpg")
        images.append({"id": i, "file_name": f"{name}.jpg"})
    write_coco(source / "annotations.json", images, [outline(i, i, [INSECT]) for i in range(len(names))])


def splits_of(outputs: Outputs) -> dict[str, str]:
    return {image["file_name"]: image["split"] for image in outputs.json("annotations.json")["images"]}


def test_the_published_partition(tmp_path: Path, source: Path) -> None:
    given = ["GYTL2T", "GUSA7Z", "GRLLN6", "G9XHGJ", "G5JHXH", "GGCNMZ", "GZDUDR", "GEB17N", "GPRD1F"]
    many(source, [*given, *(f"GAA{number:03}" for number in range(40))])
    found = splits_of(stage(source, tmp_path / "out", annotation_split="given", partition=PARTITION))
    assert [list(found.values()).count(name) for name in ("train", "validation", "test")] == [40, 3, 6]
    assert (found["trays-GYTL2T"], found["trays-GPRD1F"], found["trays-GAA000"]) == ("validation", "test", "train")


def test_a_partition_of_the_sets_own(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(source, ["A_1", "A_2", "B_1"])
    (source / "partition.csv").write_text("photo,split\nA,test\nB_1.jpg,val\nC_1,test\n")
    found = splits_of(stage(source, tmp_path / "out", annotation_split="given"))
    assert found == {"trays-A_1": "test", "trays-A_2": "test", "trays-B_1": "validation"}
    (source / "metadata.csv").write_text("photo,sample\nA_1,A\nA_2,A\n")
    assert "in several splits" not in capsys.readouterr().err
    (source / "partition.csv").write_text("photo,split\nA_1,test\n")
    outputs = stage(source, tmp_path / "out", annotation_split="given")
    assert splits_of(outputs)["trays-A_2"] == "train"
    assert counts(outputs)["samples"]["in_two_splits"] == 1
    assert "partition.csv: photographs of one sample are in several splits: A\n" in capsys.readouterr().err
    (source / "partition.csv").write_text("photo,split\nA_1,exam\n")
    with pytest.raises(InputError, match="line 2: split 'exam' is none of train, validation, test"):
        stage(source, tmp_path / "out", annotation_split="given")
    (source / "partition.csv").unlink()
    with pytest.raises(InputError, match=r"none of its photographs is in .*, such as GYTL2T"):
        stage(source, tmp_path / "out", annotation_split="given", partition=PARTITION)
    # another way to part them asks for no such table
    assert len(splits_of(stage(source, tmp_path / "out", annotation_split="photograph", partition=PARTITION))) == 3


def test_two_photographs_of_a_sample_stay_together(tmp_path: Path, source: Path) -> None:
    names = [f"{sample}_{number}" for sample in "ABCDEFGH" for number in (1, 2)]
    many(source, names)
    (source / "metadata.csv").write_text("".join(["photo,sample\n", *(f"{name},{name[0]}\n" for name in names)]))
    found = splits_of(stage(source, tmp_path / "out", annotation_split="observation"))
    assert set(found.values()) == {"train", "validation", "test"}
    assert all(found[f"trays-{sample}_1"] == found[f"trays-{sample}_2"] for sample in "ABCDEFGH")


def test_photographs_that_a_camera_numbers_are_no_sample(tmp_path: Path, source: Path) -> None:
    many(source, [f"IMG_{number:04}" for number in range(6)])
    outputs = stage(source, tmp_path / "out", annotation_split="observation")
    assert set(splits_of(outputs).values()) == {"train", "validation", "test"}
    assert len({row["observation_id"] for row in outputs.rows}) == 6


def test_how_samples_are_told(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = {"GAA_1": "GAA", "GAA_2": "GAA", "GBB_12": "GBB", "GCC/GCC": "GCC", "GDD_01": "GDD"}
    of |= {name: name for name in ("DSC_0123", "IMG_100", "GAA_0", "GAA_02", "GEE")}
    of |= {"x/GAA_1": "x/GAA", "GFF_1": "S1"}  # another folder's is another sample
    for name in of:
        picture(source / f"edited/{name}.jpg")
    (source / "metadata.csv").write_text("photo,sample\nGFF_1,S1\n")
    (source / "barcodes.csv").write_text("sample,class\nGDD,Insecta\n")
    # a table of photographs names no samples
    (source / "partition.csv").write_text("photo,split\nGAA_1,test\nGAA_2,test\n")
    outputs = stage(source, tmp_path / "out", annotation_split="given")
    found = {row["url"].removeprefix("edited/").removesuffix(".jpg"): row["observation_id"] for row in outputs.rows}
    assert found == {name: f"trays-{sample}" for name, sample in of.items()}
    assert counts(outputs)["samples"]["photographs"] == {
        "by a name in barcodes.csv or metadata.csv": 1,
        "by metadata.csv": 1,
        "by the name <sample>_<n>": 4,
        "each photograph its own": 6,
    }
    told = capsys.readouterr().err
    assert "samples: 11 of 12 photographs (by a name in barcodes.csv" in told and "; metadata.csv decides" in told
    (source / "metadata.csv").unlink()
    stage(source, tmp_path / "without", annotation_split="given")
    assert "each photograph its own: 6); a metadata.csv with photo and sample would decide" in capsys.readouterr().err


def test_photographs_in_folders_of_their_own(tmp_path: Path, source: Path) -> None:
    """As the set's authors have them on disk; a last part that two photographs have stands for neither."""
    images = tray(source, "GAA", [])
    (source / "edited/GAA").mkdir()
    (source / "edited/GAA.jpg").rename(source / "edited/GAA/GAA.jpg")
    for folder in ("x", "y"):
        picture(source / f"edited/{folder}/GBB.jpg")
    images += tile_images("GBB", 11)
    write_coco(source / "annots_20250307_coco.json", images, [outline(1, 2, [INSECT]), outline(2, 11, [INSECT])])
    (source / "metadata.csv").write_text("photo,sample\nGAA.jpg,S1\nGBB,S2\n")
    outputs = stage(source, tmp_path / "out")
    assert [one["bbox"] for one in animals(outputs)] == [[45, 5, 10, 10]]
    assert left_out(outputs) == {"no such photograph": 1}
    assert {row["key"]: row["observation_id"] for row in outputs.rows} == {
        "trays-GAA-GAA": "trays-S1",
        "trays-x-GBB": "trays-x/GBB",
        "trays-y-GBB": "trays-y/GBB",
    }
    assert outputs.dropped == [("trays-GBB", "no such file")]


def test_a_photograph_of_another_folder_is_another_one(tmp_path: Path, source: Path) -> None:
    for name in ("one/IMG_0001", "GBB/GBB", "GCC"):
        picture(source / f"edited/{name}.jpg")
    given = ["two/IMG_0001.jpg", "GBB.jpg", "GCC/GCC.jpg"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(given)]
    write_coco(source / "annotations.json", images, [outline(number, number, [INSECT]) for number in range(3)])
    (source / "metadata.csv").write_text("photo,sample\ntwo/IMG_0001,S1\nGBB,S2\n")
    (source / "partition.csv").write_text("photo,split\ntwo/IMG_0001,test\nGBB.jpg,val\n")
    outputs = stage(source, tmp_path / "out", annotation_split="given")
    assert splits_of(outputs) == {"trays-GBB-GBB": "validation", "trays-GCC": "train"}
    assert left_out(outputs) == {"no such photograph": 1}
    assert outputs.dropped == [("trays-two/IMG_0001", "no such file")]
    assert {row["key"]: row["observation_id"] for row in outputs.rows}["trays-one-IMG_0001"] == "trays-one/IMG_0001"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "its end where { belongs, at character 0"),
        ("[]", r"\[ where { belongs, at character 0"),
        ('{"images": [{"id": 1, "file_name": "A.jpg"}', "its end where , or ] belongs, at character 43"),
        ('{"images": [{"id": 1, "file_name": "A.jpg"},, ]}', "Expecting value, at character 44"),
        ('{"images": [{"id": 1, "file_name": "A.jpg"}]} more', "more after its end, at character 46"),
        ('{"images": [{"id": 1, }]}', "Illegal trailing comma|Expecting property name"),
        ("{1: 2}", "1 is no key"),
        ('{"images": ["' + "x" * 99, "Unterminated string"),
        ('{"images": []}', "no images in it"),
        ('{"images": [{"id": 1, "file_name": "A.jpg"}, {"id": 1, "file_name": "B.jpg"}]}', "two images have the id 1"),
        ('{"images": [{"id": 1}]}', "image 1 has no toras_path or file_name"),
        ('{"images": [1]}', "images: "),
        ('{"annotations": [1], "images": []}', "annotations: "),
    ],
)
def test_a_broken_annotation_file(tmp_path: Path, source: Path, text: str, problem: str) -> None:
    picture(source / "images/A.jpg")
    (source / "annotations.json").write_text(text)
    with pytest.raises(InputError, match=problem) as told:
        stage(source, tmp_path / "out")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 10, 1 << 20])
def test_elements_of_a_file_in_any_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("instar.records.trays.stream.CHUNK", chunk)
    path = tmp_path / "a.json"
    images = [{"id": 1, "name": "é\\"}, {"id": 234}, 5, 678, 1.5, -2e-30, 3.25e22]
    held = {"info": {"a": 12.5}, "none": [], "images": images, "version": 1.5, "n": 90}
    path.write_text(" \n" + json.dumps(held, indent=1) + "\n", encoding="utf-8-sig")
    assert list(elements(path)) == [
        ("info", {"a": 12.5}),
        *(("images", one) for one in images),
        ("version", 1.5),
        ("n", 90),
    ]
    path.write_text("{}")
    assert list(elements(path)) == []


def test_a_store_gives_back_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    assert list(store.of("a")) == []
    monkeypatch.setattr("instar.records.trays.coco.HELD_BYTES", 100)
    for number in range(50):
        store.add(number % 3, {"number": number})
    assert [one["number"] for one in store.of(1)] == list(range(1, 50, 3))
    assert store.counts[1] == 17


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_large_file_takes_no_more_memory(tmp_path: Path) -> None:
    """The peak of reading 70 MB is that of what is held before it is written, 32 MB and its copy; all is 290 MB."""
    points = ", ".join(f"{number}.25, {number}.5" for number in range(200))
    one = f'{{"id": 1, "image_id": 1, "name": "b", "segmentation": [[{points}]]}}'
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"annotations": [')
        file.writelines(one + "," for _ in range(25_000))
        file.write(one + '], "images": [{"id": 1, "file_name": "A.jpg"}]}')
    assert path.stat().st_size > 60e6
    used = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    code = "import resource, sys; from pathlib import Path; from instar.records.trays.coco import read_coco; "
    code += f"before = {used}; print(read_coco(Path(sys.argv[1])).read, {used} - before)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    read, kilobytes = map(int, done.stdout.split())
    assert read == 25_001
    assert kilobytes < 130 << 10
