"""Annotated sets in YOLO's, COCO's and Pascal VOC's form, and the splits that they come with."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_folder import REAL as BEES
from test_folder import label, photograph

from instar.errors import InputError
from instar.records.annotated import annotations, given_split, in_two_splits
from instar.records.annotations import Annotations
from instar.records.folder import gather


def read(source: Path, **more: Any) -> Annotations:
    found = gather(source).found
    urls = dict(zip(found["key"].to_pylist(), found["url"].to_pylist(), strict=True))
    return annotations(source, urls, **({"category": "ant"} | more))


def boxes(found: Annotations) -> dict[str, list[list[float]]]:
    return {key.removeprefix("folder-"): [box.bbox for box in one.boxes] for key, one in found.photographs.items()}


def voc(*corners: tuple[float, ...], name: str = "ant", size: str = "") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, box, strict=False))
        + "</bndbox></object>"
        for box in corners
    )
    return f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>"


def coco(names: dict[int, str], boxes: list[tuple[int, list[float]]], **size: int) -> str:
    images = [{"id": i, "file_name": name, "width": 40, "height": 20, **size} for i, name in names.items()]
    rows = [{"id": n, "image_id": i, "category_id": 1, "bbox": box} for n, (i, box) in enumerate(boxes)]
    return json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "worker"}]})


def test_nothing(tmp_path: Path) -> None:
    photograph(tmp_path / "images/a.jpg")
    assert read(tmp_path).photographs == {}


def test_voc_counts_from_one(tmp_path: Path) -> None:
    for name in ("a", "train/b", "c"):
        photograph(tmp_path / f"images/{name}.jpg")
    label(tmp_path / "annotations/a.xml", voc((1, 1, 40, 20), (11, 6, 20, 15)))
    label(tmp_path / "annotations/train/b.xml", voc())
    label(tmp_path / "annotations/gone.xml", voc())
    found = read(tmp_path)
    assert boxes(found) == {"a": [[0, 0, 40, 20], [10, 5, 10, 10]], "train-b": []}
    assert (found.category, found.left_out) == ("ant", {"not among the records": 1})
    assert found.given == {"folder-train-b": "train"}


def test_voc_of_a_tool_that_counts_from_zero(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photograph(tmp_path / f"images/{name}.jpg")
    label(tmp_path / "labels/a.xml", voc((0, 0, 40, 20), name="worker"))
    label(tmp_path / "labels/b.xml", voc((11, 6, 20, 15), name="queen"))
    found = read(tmp_path)
    assert boxes(found) == {"a": [[0, 0, 40, 20]], "b": [[11, 6, 9, 9]]}
    assert found.category == "animal"  # one class of two names


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a.xml: not Pascal VOC's XML"),
        ("<annotation>", "a.xml: not Pascal VOC's XML"),
        (voc((1, 1, 2)), "a.xml: not Pascal VOC's XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "a.xml: not Pascal VOC's XML"),
        (voc((1, 1, 43, 20)), "a.xml: object 1: box 0, 0, 43, 20 is outside the photograph of 40×20 pixels"),
        (voc((1, 1, 5, 5), (9, 5, 7, 8)), "a.xml: object 2: a box of -1×4 pixels has no area"),
        (
            voc((1, 1, 5, 5), size="<size><width>20</width><height>40</height></size>"),
            "a.xml: object 1: is of a photograph of 20×40 pixels, upright it has 40×20",
        ),
    ],
)
def test_broken_voc(tmp_path: Path, text: str, message: str) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "annotations/a.xml", text)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_coco(tmp_path: Path) -> None:
    for name in ("a", "train/b", "train/c", "val/c", "d"):
        photograph(tmp_path / f"images/{name}.jpg")
    names = {1: "./a.jpg", 2: "b.jpg", 3: "train\\c.jpg", 4: "images/val/c.jpg", 5: "c.jpg"}
    label(tmp_path / "annotations.json", coco(names, [(1, [1, 2, 3, 4]), (4, [0, 0, 5, 5])]))
    found = read(tmp_path)
    assert boxes(found) == {"a": [[1, 2, 3, 4]], "train-b": [], "train-c": [], "val-c": [[0, 0, 5, 5]]}
    assert (found.category, found.left_out) == ("worker", {"not among the records": 1})  # which c.jpg?
    assert found.given == {"folder-train-b": "train", "folder-train-c": "train", "folder-val-c": "validation"}


def test_coco_files_of_splits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photograph(tmp_path / f"images/{name}.jpg")
    label(tmp_path / "annotations/instances_train2017.json", coco({1: "a.jpg"}, []))
    label(tmp_path / "annotations/instances_val2017.json", coco({1: "b.jpg"}, []))
    assert read(tmp_path).given == {"folder-a": "train", "folder-b": "validation"}
    label(tmp_path / "annotations/more.json", coco({1: "b.jpg"}, []))
    with pytest.raises(InputError, match=r"more.json: photograph images/b.jpg is in another file, too"):
        read(tmp_path)


def test_coco_of_other_sizes(tmp_path: Path) -> None:
    photograph(tmp_path / "images/a.jpg", orientation=6)
    label(tmp_path / "annotations.json", coco({1: "a.jpg"}, []))
    with pytest.raises(InputError, match=r"images/a.jpg has 40×20 pixels there, upright it has 20×40"):
        read(tmp_path)


def test_roboflows_layout(tmp_path: Path) -> None:
    photograph(tmp_path / "train/images/a.jpg")
    told = "for train/images and train/labels move them to images/train and labels/train"
    with pytest.raises(InputError, match=told):
        read(tmp_path)


def test_two_forms(tmp_path: Path) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "labels/a.txt", "")
    label(tmp_path / "annotations.json", coco({1: "a.jpg"}, []))
    with pytest.raises(InputError, match=r"boxes in 2 forms \(YOLO: .*a.txt, COCO: .*annotations.json\); keep one"):
        read(tmp_path)


def test_wrong_labels_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        photograph(tmp_path / f"images/{name}.jpg")
    label(tmp_path / "labels/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.5 0.5 9 9\n")
    label(tmp_path / "labels/b.txt", "0 0.5 0.5 0.25\n")
    label(tmp_path / "labels/c.txt", "0 0.5 0.5 0.25 0.5\n")
    with pytest.raises(InputError, match=r"a.txt: line 1: class '1' .* \(and 1 more photographs with wrong labels\)"):
        read(tmp_path)
    found = read(tmp_path, faults="leave_out")
    assert (list(boxes(found)), found.left_out) == (["c"], {"wrong label": 2})


@pytest.mark.parametrize(
    "names, category",
    [("[worker, queen]", "animal"), ("{0: worker, 1: queen}", "animal"), ("{1: ant, 0: ant}", "ant")],
)
def test_named_classes_are_one_animal(tmp_path: Path, names: str, category: str) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "labels/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.5 0.5 1 1\n")
    label(tmp_path / "labels/classes.txt", "moth\n")  # data.yaml goes first
    label(tmp_path / "data.yaml", f"train: images\nnames: {names}\n")
    found = read(tmp_path, category="Formicidae")
    assert (found.category, boxes(found)) == (category, {"a": [[15, 5, 10, 10], [0, 0, 40, 20]]})
    label(tmp_path / "labels/a.txt", "2 0.5 0.5 0.25 0.5\n")
    with pytest.raises(InputError, match=r"a.txt: line 1: class '2' is unknown; the set has (0, 1|1, 0); "):
        read(tmp_path)


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt"])
def test_classes_named_line_by_line(tmp_path: Path, place: str) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "labels/a.txt", "1 0.5 0.5 0.25 0.5\n")
    with pytest.raises(InputError, match=r"class '1' is unknown; name the classes in data.yaml or classes.txt"):
        read(tmp_path)
    label(tmp_path / "data.yaml", "nc: 2\n")  # names no class
    label(tmp_path / place, "worker\nqueen\n\n")
    found = read(tmp_path)
    assert (found.category, boxes(found)) == ("animal", {"a": [[15, 5, 10, 10]]})
    label(tmp_path / place, "\nqueen\n")
    assert read(tmp_path).category == "queen"


@pytest.mark.parametrize("text", ["names: [ant", "names: ant", "names: 3"])
def test_broken_data_yaml(tmp_path: Path, text: str) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "labels/a.txt", "0 0.5 0.5 0.25 0.5\n")
    label(tmp_path / "data.yaml", text)
    with pytest.raises(InputError, match=r"data.yaml: (not YAML|names = )") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_photographs_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c", "d", "e"):
        photograph(tmp_path / f"images/{name}.jpg")
        label(tmp_path / f"labels/{name}.txt", "0 0.5 0.5 1 1\n" if name == "a" else "1 0.5 0.5 1 1\n")
    read(tmp_path, faults="leave_out")
    first, *others = capsys.readouterr().err.splitlines()[-4:]
    assert first == "photographs left out for a wrong label: 4, such as"
    assert [line.partition(": line 1")[0][-5:] for line in others] == ["b.txt", "c.txt", "d.txt"]


def test_wrong_labels_of_coco_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photograph(tmp_path / f"images/{name}.jpg")
    wrong: list[tuple[int, list[float]]] = [
        (1, [0, 0, 50, 5]),
        (1, [0, 0, 5, 50]),
        (2, [0, 0, 5, 5]),
        (3, [0, 0, 9, 99]),
    ]
    label(tmp_path / "annotations.json", coco({1: "a.jpg", 2: "b.jpg", 3: "gone.jpg"}, wrong))
    with pytest.raises(InputError, match="annotation 0: box 0, 0, 50, 5 is outside"):
        read(tmp_path)
    found = read(tmp_path, faults="leave_out")
    assert boxes(found) == {"b": [[0, 0, 5, 5]]}
    assert found.left_out == {"wrong label": 1, "not among the records": 1}


@pytest.mark.parametrize(
    "path, split",
    [
        ("images/train/a.jpg", "train"),
        ("images/Valid/a.jpg", "validation"),
        ("test/images/a.jpg", "test"),
        ("images/a.jpg", None),
        ("images/train.jpg", None),
        ("images/training_set/a.jpg", None),
    ],
)
def test_given_split(path: str, split: str | None) -> None:
    assert given_split(path) == split


def test_in_two_splits() -> None:
    assert in_two_splits({}, {}) == set()
    given = {"a": "train", "b": "test", "c": "validation", "d": "train", "e": "train"}
    sha256 = {"a": "1", "b": "1", "c": "1", "d": "2", "e": "2"}
    assert in_two_splits(given, sha256) == {"a", "c"}  # copies in one split are no leak


@pytest.mark.skipif(not BEES.is_dir(), reason="no ../shared/realdata/beesense")
def test_the_bees_own_split() -> None:
    given = list(read(BEES).given.values())
    assert {split: given.count(split) for split in set(given)} == {"train": 70, "validation": 20, "test": 10}
