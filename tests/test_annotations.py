import json
from pathlib import Path
from typing import Any

import pytest
from photo_shards import write_annotations, write_images

from instar.annotations import read_annotations, read_images, usable
from instar.errors import InputError
from instar.tables import IMAGES, read_table


def test_no_annotations(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", {}, (1, 1))
    write_images(tmp_path, "s0", {}, (1, 1))
    photographs, names = read_annotations(tmp_path / "a.json")
    assert (photographs, names) == ([], ["ant"])
    assert usable(photographs, read_table(tmp_path / "s0.parquet", IMAGES)) == ([], {})


def test_read_annotations(tmp_path: Path) -> None:
    boxes: dict[str, tuple[str, list[list[float]]]] = {
        "a-2": ("test", []),
        "a-1": ("train", [[1, 2, 4, 8], [0, 0, 1.5, 1]]),
    }
    write_annotations(tmp_path / "a.json", boxes, (60, 40))
    first, second = read_annotations(tmp_path / "a.json")[0]
    assert (first.key, first.split, first.width, first.height) == ("a-1", "train", 60, 40)
    assert first.boxes_xyxy.tolist() == [[1, 2, 4, 8], [0, 0, 1.5, 1]]
    assert (second.key, second.boxes_xyxy.shape) == ("a-2", (0, 4))


def test_read_images_of_the_annotated_photographs_alone(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", {"a-1": ("train", []), "a-3": ("test", []), "a-9": ("test", [])}, (60, 40))
    write_images(tmp_path, "s0", {"a-1": b"1", "a-2": b"2"}, (60, 40))
    write_images(tmp_path, "s1", {"a-3": "too large", "a-4": b"4"}, (60, 40))
    annotated = read_annotations(tmp_path / "a.json")[0]
    assert read_images(tmp_path, ["s0", "s1"], annotated)["key"].to_pylist() == ["a-1", "a-3"]
    assert read_images(tmp_path, ["s0", "s1"], []).num_rows == 0


def test_usable_counts_the_reasons_of_the_others(tmp_path: Path) -> None:
    keys = ["a-1", "a-2", "a-3", "a-4"]
    write_annotations(tmp_path / "a.json", {key: ("train", [[1, 2, 4, 8]]) for key in keys}, (60, 40))
    coco = json.loads((tmp_path / "a.json").read_text())
    coco["images"][2]["width"] = 61
    coco["annotations"][0]["iscrowd"] = 1
    (tmp_path / "a.json").write_text(json.dumps(coco))
    write_images(tmp_path, "s0", {"a-1": b"1", "a-2": "too large", "a-3": b"3", "a-5": b"5"}, (60, 40))
    kept, reasons = usable(read_annotations(tmp_path / "a.json")[0], read_table(tmp_path / "s0.parquet", IMAGES))
    assert kept == []
    assert reasons == {
        "a box holds a crowd": 1,
        "not fetched: too large": 1,
        "annotated at another size": 1,
        "not fetched: no record": 1,
    }


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("images", 0, "split"), "holdout", "a-1"),
        (("annotations", 0, "bbox"), [1, 1, 0, 5], "annotation 1"),
        (("annotations", 0, "bbox"), [1, 1, float("nan"), 5], "annotation 1"),
        (("annotations", 0, "bbox"), [1, 1, 5], "COCO"),
        (("annotations", 0, "image_id"), 7, "COCO"),
        (("images",), None, "COCO"),
        (("categories", 0), {}, "name"),
    ],
)
def test_read_annotations_names_what_is_wrong(tmp_path: Path, place: Any, value: Any, named: str) -> None:
    write_annotations(tmp_path / "a.json", {"a-1": ("train", [[1, 2, 4, 8]])}, (60, 40))
    coco = part = json.loads((tmp_path / "a.json").read_text())
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    (tmp_path / "a.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=named):
        read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_read_annotations_of_another_file(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_annotations(tmp_path / "a.json")
