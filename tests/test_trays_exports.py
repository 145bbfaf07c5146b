"""Trays whose outlines an annotation tool exported: CVAT, Label Studio, Roboflow, YOLO's polygons, LabelMe."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_trays import animals, counts, left_out, source, stage
from tray_folder import outline, picture, ring

from instar.errors import InputError
from instar.records.trays.exports import exported, outline_files

__all__ = ["source"]  # the fixture

INSECT = ring(5, 5, 15, 15)
#: COCO's counts go down the columns: 10 pixels in each of columns 20 and 21 of a photograph of 100×40.
BRUSHED = {"size": [40, 100], "counts": [805, 10, 30, 10, 3145]}


def coco(path: Path, names: list[str], annotations: list[dict[str, Any]], **more: Any) -> Path:
    """Two categories; ids of images and categories from 0, as Roboflow and Label Studio have them."""
    images = [{"id": i, "file_name": name, "width": 100, "height": 40, **more} for i, name in enumerate(names)]
    categories = [{"id": 0, "name": "debris"}, {"id": 1, "name": "insect"}]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"categories": categories, "images": images, "annotations": annotations}))
    return path


def insects(source: Path, out: Path, **more: Any) -> Any:
    return stage(source, out, outline_categories=["insect"], **more)


def boxes(outputs: Any) -> dict[str, list[list[float]]]:
    """Boxes by the photograph's key."""
    images = {one["id"]: one["file_name"] for one in outputs.json("annotations.json")["images"]}
    found: dict[str, list[list[float]]] = {name: [] for name in images.values()}
    for one in animals(outputs):
        found[images[one["image_id"]]].append(one["bbox"])
    return found


def test_nothing_is_annotated(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(source / "images/A.jpg")
    (source / "data.yaml").write_text("names: [insect]")
    assert outline_files(source) == []
    assert animals(stage(source, tmp_path / "out")) == []
    assert f"{source}: no outlines in it" in capsys.readouterr().err


def test_json_of_another_kind(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(source / "images/A.jpg")
    about = {"record": 15, "title": "trays", "files": {"a.zip": "0" * 32}, "unpacked": []}
    (source / "zenodo-15.json").write_text(json.dumps(about))
    assert animals(stage(source, tmp_path / "out")) == []
    assert "JSON that is not read" not in capsys.readouterr().err
    (source / "camera.json").write_text('{"model": "D850"}')
    (source / "images/track.json").write_text("[[60.1, 24.9]]")
    assert animals(stage(source, tmp_path / "out")) == []
    told = f"{source}: JSON that is not read as outlines: 2, such as {source / 'camera.json'}"
    assert told in capsys.readouterr().err
    coco(source / "result.json", ["A.jpg"], [outline(1, 0, [INSECT], None)])
    assert len(animals(insects(source, tmp_path / "out"))) == 1


def test_cvat(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(source / "images/default/A.jpg")
    drawn = [
        outline(1, 0, [INSECT], None, iscrowd=0, attributes={"occluded": False}),
        outline(2, 0, BRUSHED, None, iscrowd=1, attributes={"occluded": False}),
        outline(3, 0, [ring(60, 5, 70, 15)], None, iscrowd=0) | {"category_id": 0},
    ]
    coco(source / "annotations/instances_default.json", ["A.jpg"], drawn)
    coco(source / "annotations/person_keypoints_default.json", ["A.jpg"], [])
    with pytest.raises(InputError, match=r"categories b \(insect: 2, debris: 1\).*or to \[\] for all"):
        stage(source, tmp_path / "out")
    outputs = insects(source, tmp_path / "out")
    # a mask of pixels is an insect, whatever CVAT calls it
    assert [(one["bbox"], one["iscrowd"]) for one in animals(outputs)] == [([5, 5, 10, 10], 0), ([20, 5, 2, 10], 0)]
    assert counts(outputs)["outlines"]["crowds_taken_as_animals"] == 1
    assert "masks called crowds, as CVAT calls all, taken as one animal each: 1" in capsys.readouterr().err
    coco(source / "annotations/instances_default.json", ["A.jpg"], [outline(2, 0, BRUSHED, None, iscrowd=1)])
    assert [one["iscrowd"] for one in animals(insects(source, tmp_path / "out"))] == [1]  # COCO's own


@pytest.mark.parametrize(
    "name",
    [
        r"images\1a2b3c4d-A 1.jpg",
        "images/1/1a2b3c4d-A 1.jpg",
        r"..\..\label-studio\media\upload\4\1a2b3c4d-A 1.jpg",
        "/home/anna/media/upload/4/1a2b3c4d-A%201.jpg",
        "https://example.org/data/upload/4/1a2b3c4d-A%201.jpg",
        "/data/local-files/?d=4%5C1a2b3c4d-A%201.jpg",
    ],
)
def test_label_studio(tmp_path: Path, source: Path, name: str) -> None:
    picture(source / "images/1a2b3c4d-A 1.jpg")
    coco(source / "result.json", [name], [outline(0, 0, [INSECT], None, ignore=0)])
    assert boxes(insects(source, tmp_path / "out")) == {"trays-1a2b3c4d-A_1": [[5, 5, 10, 10]]}


def test_names_that_label_studio_changed(tmp_path: Path, source: Path) -> None:
    picture(source / "images/A_1.jpg")
    coco(source / "result.json", ["images/1a2b3c4d-A_1.jpg"], [outline(0, 0, [INSECT], None)])
    assert boxes(insects(source, tmp_path / "out")) == {"trays-A_1": [[5, 5, 10, 10]]}
    # of two that may be meant, neither is
    (source / "images/A_1.jpg").unlink()
    for folder in ("one", "two"):
        picture(source / f"images/{folder}/A_1.jpg")
    with pytest.raises(InputError, match="no such photograph: 1"):
        insects(source, tmp_path / "out")


def test_a_name_that_is_none(tmp_path: Path, source: Path) -> None:
    picture(source / "images/A.jpg")
    coco(source / "result.json", ["A.jpg", "%2e"], [outline(1, 0, [INSECT], None)])
    outputs = insects(source, tmp_path / "out")
    assert boxes(outputs) == {"trays-A": [[5, 5, 10, 10]]}
    assert counts(outputs)["outlines"]["dropped"] == {}


def test_samples_of_changed_names(tmp_path: Path, source: Path) -> None:
    for name in ("1a2b3c4d-GAA_1", "98765432-GAA_2"):
        picture(source / f"images/{name}.jpg")
    assert {row["observation_id"] for row in stage(source, tmp_path / "out").rows} == {"trays-GAA"}
    picture(source / "images/20251101-GBB_1_jpg.rf.0a1b2c.jpg")
    picture(source / "images/plain.jpg")  # so what stands before the names is part of them
    found = {row["observation_id"] for row in stage(source, tmp_path / "out").rows}
    assert found == {"trays-1a2b3c4d-GAA", "trays-98765432-GAA", "trays-20251101-GBB", "trays-plain"}


def test_roboflow(tmp_path: Path, source: Path) -> None:
    for split, name, x in (("train", "A", 5), ("valid", "A", 25), ("test", "B", 45)):
        picture(source / f"{split}/{split}.jpg").rename(source / f"{split}/{name}_jpg.rf.0a1b.jpg")
        drawn = [outline(0, 0, [ring(x, 5, x + 10, 15)], None, iscrowd=0)]
        coco(source / f"{split}/_annotations.coco.json", [f"{name}_jpg.rf.0a1b.jpg"], drawn)
    (source / "README.dataset.txt").write_text("trays")
    outputs = insects(source, tmp_path / "out", annotation_split="given", partition=PARTITION)
    images = outputs.json("annotations.json")["images"]
    splits = {one["file_name"].split("-")[1]: one["split"] for one in images}
    assert splits == {"train": "train", "valid": "validation", "test": "test"}
    found = boxes(outputs)
    assert found["trays-train-A_jpg.rf.0a1b"] == [[5, 5, 10, 10]]
    assert found["trays-valid-A_jpg.rf.0a1b"] == [[25, 5, 10, 10]]
    assert outputs.json("metrics.json")["rows"] == {"in": 3, "out": 3, "dropped": {}}


PARTITION = Path(__file__).parents[1] / "workflow/conf/trays/partition.csv"


@pytest.mark.parametrize(("images", "labels"), [("images/train", "labels/train"), ("train/images", "train/labels")])
def test_yolo_polygons(tmp_path: Path, source: Path, images: str, labels: str) -> None:
    picture(source / f"{images}/A.PNG")
    (source / labels).mkdir(parents=True)
    (source / labels / "classes.txt").write_text("insect\ndebris\n")
    lines = ["0 0.05 0.125 0.15 0.125 0.15 0.375 0.05 0.375", "1 0 0 1 0 1 1", "0 0.5 0.5 0.1 0.1"]
    lines += ["0 x 0 1 0 1 1", "7 0 0 1 0 1 1", ""]
    (source / labels / "A.txt").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"no outline of the categories b \(0: 3, 1: 1, 7: 1\)"):
        stage(source, tmp_path / "out")
    (source / "data.yaml").write_text("names:\n  0: insect\n  1: debris\n")
    outputs = insects(source, tmp_path / "out")
    assert [one["bbox"] for one in animals(outputs)] == [[5, 5, 10, 10]]
    dropped = {"category debris": 1, "no outline": 1, "coordinates are no pairs of numbers": 1, "unknown category": 1}
    assert counts(outputs)["outlines"]["dropped"] == dropped


def test_a_folder_of_labelled_photographs_is_listed_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ABC":
        picture(source / f"images/{name}.jpg")
        (source / "labels").mkdir(exist_ok=True)
        (source / f"labels/{name}.txt").write_text("0 0.05 0.125 0.15 0.125 0.15 0.375")
    listed: list[Path] = []
    glob = Path.glob

    def told(path: Path, pattern: str) -> Any:
        listed.append(path)
        return glob(path, pattern)

    paths = outline_files(source)
    monkeypatch.setattr(Path, "glob", told)
    found = [one["file_name"] for key, one in exported(source, paths) if key == "images"]
    assert found == ["images/A.jpg", "images/B.jpg", "images/C.jpg"]
    assert listed.count(source / "images") == 1


def test_labelme(tmp_path: Path, source: Path) -> None:
    picture(source / "images/A.jpg")
    file = BytesIO()
    Image.fromarray(np.array([[1, 0, 1], [1, 1, 1]], bool)).save(file, "PNG")

    def shape(kind: str, points: Any, **more: Any) -> dict[str, Any]:
        return {"label": "insect", "shape_type": kind, "points": points, "group_id": None, **more}

    shapes = [
        shape("polygon", [[5, 5], [15, 5], [15, 15], [5, 15]]),
        shape("polygon", [[30, 5], [35, 5], [35, 15], [30, 15]], group_id=1),
        shape("polygon", [[35, 5], [40, 5], [40, 15], [35, 15]], group_id=1),
        shape("mask", [[50, 20], [52, 21]], mask=base64.b64encode(file.getvalue()).decode()),
        shape("mask", [[50, 20], [52, 21]], mask="broken"),
        shape("circle", [[80, 20], [80, 10]]),
        shape("circle", [[80, 20]]),
        shape("rectangle", [[1, 1], [9, 9]]),
        shape("point", [[1, 1]]),
    ]
    told: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": r"..\images\A.jpg",
        "imageData": None,
    }
    path = source / "images/A.json"
    path.write_text(json.dumps(told | {"imageHeight": 40, "imageWidth": 100}))
    outputs = insects(source, tmp_path / "out", min_mask_px=5)
    found = [one["bbox"] for one in animals(outputs)]
    assert found == [[5, 5, 10, 10], [30, 5, 10, 10], [50, 20, 3, 2], [70, 10, 20, 20]]
    assert [one["area"] for one in animals(outputs)][2] == 5
    assert counts(outputs)["outlines"]["dropped"] == {"broken RLE": 1, "no outline": 3}
    assert outputs.json("metrics.json")["rows"] == {"in": 1, "out": 1, "dropped": {}}
    # the parts of an animal, drawn with brush and pen
    parts = [shape("mask", [[x, 20], [x + 2, 21]], group_id=2, mask=shapes[3]["mask"]) for x in (50, 53)]
    parts.append(shape("polygon", [[56, 20], [60, 20], [60, 22], [56, 22]], group_id=2))
    path.write_text(json.dumps(told | {"imageHeight": 40, "imageWidth": 100, "shapes": parts}))
    outputs = insects(source, tmp_path / "out", min_mask_px=5)
    assert [(one["bbox"], one["area"]) for one in animals(outputs)] == [([50, 20, 10, 2], 18)]
    parts[1]["mask"] = "broken"
    path.write_text(json.dumps(told | {"imageHeight": 40, "imageWidth": 100, "shapes": [shapes[0], *parts]}))
    assert counts(insects(source, tmp_path / "out"))["outlines"]["dropped"] == {"broken RLE": 1}
    path.write_text('{"version": "5", "shapes": [1]}')
    with pytest.raises(InputError, match=r"A.json: not LabelMe's JSON .*; save it again"):
        insects(source, tmp_path / "out")


def test_damaged_files_among_others(tmp_path: Path, source: Path) -> None:
    told: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": [], "imagePath": "A.jpg", "imageData": None}
    told |= {"imageHeight": 40, "imageWidth": 100}
    for name in "AB":
        picture(source / f"images/{name}.jpg")
    drawn = [{"label": "insect", "shape_type": "polygon", "points": [[5, 5], [15, 5], [15, 15], [5, 15]]}]
    (source / "images/A.json").write_text(json.dumps(told | {"shapes": drawn}))
    whole = json.dumps(told | {"imagePath": "B.jpg"})
    (source / "images/B.json").write_text(whole)
    # a photograph that was looked at and has no insect is annotated
    assert boxes(insects(source, tmp_path / "out")) == {"trays-A": [[5, 5, 10, 10]], "trays-B": []}
    for text in ("", whole[:20], json.dumps(told | {"shapes": drawn})[:80]):
        (source / "images/B.json").write_text(text)
        with pytest.raises(InputError, match=r"B.json: not a COCO JSON .*, or remove it if it holds no outlines$"):
            insects(source, tmp_path / "out")
    for path in (source / "images").glob("*.json"):
        path.unlink()
    coco(source / "annotations/instances_a.json", ["A.jpg"], [outline(1, 0, [INSECT], None)])
    (source / "annotations/instances_b.json").write_text("")
    with pytest.raises(InputError, match=r"instances_b.json: not a COCO JSON"):
        insects(source, tmp_path / "out")


def test_what_is_not_read_is_refused(tmp_path: Path, source: Path) -> None:
    picture(source / "images/A.jpg")
    path = source / "via_project.json"
    for text in (
        '{"_via_settings": {}, "_via_img_metadata": {}}',
        '{"A.jpg123": {"filename": "A.jpg", "regions": []}}',
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"via_project.json: is VIA's, which is not read; export .* as COCO"):
            stage(source, tmp_path / "out")
    path.write_text('[{"id": 1, "annotations": []}]')  # Label Studio's own
    with pytest.raises(InputError, match=r"via_project.json: holds no outlines in COCO form.*; export"):
        stage(source, tmp_path / "out")
    coco(path, ["A.jpg"], [outline(1, 0, [INSECT], None)])
    assert len(animals(insects(source, tmp_path / "out"))) == 1
    (source / "labels").mkdir()
    (source / "labels/A.txt").write_text("")
    with pytest.raises(InputError, match=r"outlines in 2 forms \(COCO: .*, YOLO: .*A.txt\); keep one"):
        stage(source, tmp_path / "out")


def test_a_photograph_in_two_exports(tmp_path: Path, source: Path) -> None:
    for name in "AB":
        picture(source / f"images/{name}.jpg")
    coco(source / "one.json", ["A.jpg"], [outline(1, 0, [INSECT], None)])
    coco(source / "two.json", ["A.jpg", "B.jpg"], [outline(1, 1, [INSECT], None)])
    outputs = insects(source, tmp_path / "out")
    assert boxes(outputs) == {"trays-B": [[5, 5, 10, 10]]}
    assert left_out(outputs) == {"annotated twice": 1}


def test_annotated_in_another_size(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "AB":
        picture(source / f"images/{name}.jpg")
    path = coco(source / "result.json", ["A.jpg", "B.jpg"], [outline(i, i, [INSECT], None) for i in (0, 1)])
    told = json.loads(path.read_text())
    told["images"][0] |= {"width": 40, "height": 100}  # before it was turned
    path.write_text(json.dumps(told))
    assert list(boxes(insects(source, tmp_path / "out"))) == ["trays-B"]
    assert "photograph A: annotated in another size, 40×100, and has upright 100×40 pixels" in capsys.readouterr().err


def test_a_wrong_category_is_told_where_other_outlines_are_wrong(tmp_path: Path, source: Path) -> None:
    picture(source / "images/A.jpg")
    coco(source / "result.json", ["A.jpg"], [outline(1, 0, [INSECT], None), outline(2, 0, [[1, 1]], None)])
    with pytest.raises(InputError, match=r"no outline of the categories b \(insect: 2\)"):
        stage(source, tmp_path / "out")


def test_names_in_other_scripts_and_long_ones(tmp_path: Path, source: Path) -> None:
    names = ["皿一", "皿二", "plate 1", "x" * 120]
    for name in names:
        picture(source / f"images/{name}.JPG")
    drawn = [outline(i, i, [ring(5 * i, 5, 5 * i + 10, 15)], None) for i in range(4)]
    coco(source / "result.json", [f"{name}.JPG" for name in names], drawn)
    found = boxes(insects(source, tmp_path / "out"))
    assert sorted(one[0][0] for one in found.values()) == [0, 5, 10, 15]
    assert found["trays-plate_1"] == [[10, 5, 10, 10]]
    assert all(len(key) <= 90 and key.isascii() for key in found)
