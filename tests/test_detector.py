import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from photo_shards import encoded, write_annotations, write_images
from project import ROOT
from test_yolo import scene

from instar import detector as module
from instar.annotations import Annotated
from instar.caps import check_caps, photograph_tiles
from instar.detector import CURVE, _key, _taught, _tiles, _write_curve, check_crowds, detector
from instar.detectors import Recipe, load
from instar.detectors.whole_image import WholeImage
from instar.errors import InputError
from instar.examples import Tiling
from instar.masks import from_bitmaps
from instar.tables import IMAGES

REGION = IMAGES.field("region").type
TILING = Tiling(32, 0.2, 0.1)
OPTIONS: dict[str, Any] = {
    "seed": 0,
    "shards": ["s0", "s1"],
    "family": "yolo",
    "model": "yolo11n.yaml",
    "weights": str(ROOT / "workflow/conf/detector/random.md"),
    "sam": str(ROOT / "workflow/conf/empty/sam"),
    "options": {},
    "image_px": 64,
    "epochs": 2,
    "batch": 4,
    "learning_rate": 0.001,
    "plain_epochs": 1,
    "workers": 0,
    "tile_px": 0,
    "tile_overlap": 0.2,
    "tile_min_part": 0.1,
}


def trained(folder: Path, annotated: dict[str, Any], images: dict[str, Any], **options: Any) -> Any:
    """Run the stage over two hand-made shards; its figures and the rows of its curve."""
    for shard, rest in (("s0", 0), ("s1", 1)):
        chosen = {key: value for key, value in images.items() if int(key[-1]) % 2 == rest}
        write_images(folder / "images", shard, chosen, (96, 64))
    write_annotations(folder / "a.json", annotated, (96, 64))
    outs = [folder / "detector", folder / "detector.json", folder / "detector.csv"]
    paths = [folder / "a.json", folder / "images", *outs, folder / "checkpoints"]
    detector(*paths, **{**OPTIONS, **options})
    with outs[2].open() as file:
        return json.loads(outs[1].read_text()), list(csv.DictReader(file))


def drawn(splits: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Annotations and files of photographs with one dark animal each."""
    annotated: dict[str, Any] = {}
    images: dict[str, Any] = {}
    for n, (key, split) in enumerate(splits.items()):
        picture, box = scene(n)
        annotated[key], images[key] = (split, [box]), encoded(picture)
    return annotated, images


def test_detector_accounts_for_every_annotated_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {f"a-{n}": "train" for n in range(5)} | {"a-5": "validation", "a-6": "validation", "a-7": "test"}
    annotated, images = drawn(splits)
    annotated["a-0"] = ("train", [])
    images |= {"a-1": b"damaged", "a-2": "not found"}
    figures, curve = trained(tmp_path, annotated, images)
    dropped = {"held out for the figures": 1, "not an image": 1, "not fetched: not found": 1}
    assert figures["rows"] == {"in": 8, "out": 5, "dropped": dropped}
    assert figures["photographs"] == {"train": 3, "validation": 2}
    assert figures["animals"] == {"train": 2, "validation": 2}
    assert figures["parameters"] == 2_590_035  # ultralytics' own count for yolo11n with one class
    assert [row["epoch"] for row in curve] == ["1", "2"]
    assert float(curve[-1]["box_loss"]) == pytest.approx(figures["last_epoch"]["box_loss"])
    best = curve[figures["best_epoch"] - 1]
    assert float(best["mAP50-95"]) == max(float(row["mAP50-95"]) for row in curve) == figures["best"]["mAP50-95"]
    assert "epoch 2/2: box_loss" in capsys.readouterr().err
    assert str(tmp_path) not in (tmp_path / "detector.json").read_text()


def test_detector_of_whole_image_needs_no_training(tmp_path: Path) -> None:
    figures, curve = trained(tmp_path, {}, {}, family="whole_image")
    assert isinstance(load(tmp_path / "detector"), WholeImage)
    assert figures["rows"] == {"in": 0, "out": 0, "dropped": {}}
    assert curve == []


@pytest.mark.parametrize("split", ["train", "validation"])
def test_detector_needs_animals_in_both_splits(tmp_path: Path, split: str) -> None:
    annotated, images = drawn({"a-0": "train", "a-1": "validation"})
    annotated = {key: (given, [] if given == split else boxes) for key, (given, boxes) in annotated.items()}
    with pytest.raises(InputError, match=f"split {split} has 1 fetched photographs and no animal"):
        trained(tmp_path, annotated, images)
    assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize("model", ["missing.pt", "yolo99n.yaml", "yolo11n"])
def test_detector_refuses_a_model_that_is_not_there(tmp_path: Path, model: str) -> None:
    with pytest.raises(InputError, match=rf"detector\.model = {model}"):
        trained(tmp_path, *drawn({"a-0": "train", "a-1": "validation"}), model=model)
    assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": {"mosiac": 0.5}}, r"detector\.options\.mosiac: ultralytics has no such option here; .*mosaic"),
        ({"options": {"epochs": 9}}, r"detector\.options\.epochs: ultralytics has no such option here"),
        ({"options": {"mosaic": "much"}}, r"detector\.options: 'mosaic=much'"),
        ({"options": {"mosaic": 1.5}}, r"detector\.options: 'mosaic=1.5'"),
        ({"options": {"optimizer": "Best"}}, r"detector\.options: Optimizer 'Best' not found"),
        ({"weights": "missing.pt"}, r"detector\.weights = missing\.pt: no such file"),
        ({"weights": __file__}, r"detector\.weights = .*test_detector\.py: no weights of ultralytics, or damaged"),
    ],
)
def test_detector_refuses_options_and_weights_that_cannot_be_had(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        trained(tmp_path, *drawn({"a-0": "train", "a-1": "validation"}), **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "detector").exists()


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_detector import SPLITS, drawn, trained
trained(Path("."), *drawn(SPLITS), epochs=4)
"""
SPLITS = {f"a-{n}": "train" for n in range(5)} | {"a-5": "validation", "a-6": "validation"}


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    with (tmp_path / "log").open("w") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        while process.poll() is None and not list(tmp_path.glob("checkpoints/*/checkpoints/epoch-000002")):
            time.sleep(0.02)
        process.send_signal(sent)
        assert process.wait() == -sent, (tmp_path / "log").read_text()
    assert not (tmp_path / "detector").exists()
    figures, curve = trained(tmp_path, *drawn(SPLITS), epochs=4)
    done = figures["resumed_after"][0]
    assert done in (2, 3)
    assert [row["epoch"] for row in curve] == ["1", "2", "3", "4"]
    told = capsys.readouterr().err
    assert [f"epoch {epoch}/4:" in told for epoch in range(1, 5)] == [epoch > done for epoch in range(1, 5)]
    assert len(load(tmp_path / "detector").predict([scene(9)[0]], floor=0.001, nms_iou=0.6, max_boxes=5)) == 1
    assert not list((tmp_path / "checkpoints").iterdir())
    assert trained(tmp_path, *drawn(SPLITS), epochs=4)[0]["resumed_after"] == []


def test_a_training_is_not_gone_on_with_from_another_ones_state(tmp_path: Path) -> None:
    recipe = Recipe("m", "w", 64, 2, 4, 0.1, 0, 0, {"mosaic": 0.5}, 0)
    photograph = Annotated("a", "train", 96, 64, np.array([[1.0, 2, 3, 4]]), False)
    table = pa.table({"key": ["a", "b"], "sha256": ["1", "2"], "region": pa.array([None, None], REGION)})
    ring = from_bitmaps([np.ones((2, 2))])
    (tmp_path / "w1").write_text("1")
    (tmp_path / "w2").write_text("2")
    start = tmp_path / "w1"
    same = _key("yolo", recipe, TILING, start, ["ant"], [photograph], table)
    assert same == _key("yolo", replace(recipe, weights="elsewhere"), TILING, start, ["ant"], [photograph], table)
    assert same == _key("yolo", recipe, TILING, start, ["ant"], [photograph], table.slice(0, 1))
    regions = pa.chunked_array([pa.array([[0, 0, 9, 9], None], REGION)])
    moved = replace(photograph, boxes_xyxy=photograph.boxes_xyxy + 1)
    others = [
        _key("rfdetr", recipe, TILING, start, ["ant"], [photograph], table),
        _key("yolo", replace(recipe, epochs=3), TILING, start, ["ant"], [photograph], table),
        _key("yolo", replace(recipe, options={"mosaic": 0.6}), TILING, start, ["ant"], [photograph], table),
        _key("yolo", replace(recipe, seed=1), TILING, start, ["ant"], [photograph], table),
        _key("yolo", recipe, TILING, tmp_path / "w2", ["ant"], [photograph], table),
        _key("yolo", recipe, TILING, None, ["ant"], [photograph], table),
        _key("yolo", recipe, TILING, start, ["bee"], [photograph], table),
        _key("yolo", recipe, TILING, start, ["ant"], [replace(photograph, split="validation")], table),
        _key("yolo", recipe, TILING, start, ["ant"], [moved], table),
        _key("yolo", recipe, TILING, start, ["ant"], [photograph], table.set_column(1, "sha256", [["3", "2"]])),
        _key("yolo", recipe, TILING, start, ["ant"], [photograph], table.set_column(2, "region", regions)),
        _key("yolo", recipe, replace(TILING, overlap=0.6), start, ["ant"], [photograph], table),
        _key("yolo", recipe, TILING, start, ["ant"], [replace(photograph, masks=ring)], table),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_training_depends_on_its_code_and_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["detector"]["deps"]
    carriers = {"errors.py", "files.py", "progress.py", "shards.py", "tables.py", "unfinished.py"}
    assert {dep.removeprefix("src/instar/") for dep in deps if dep.startswith("src/")} - carriers == set(module._CODE)

    def key() -> str:
        return _key("yolo", Recipe("m", "w", 64, 2, 4, 0.1, 0, 0, {}, 0), TILING, None, ["ant"], [], table)

    table = pa.table(
        {"key": pa.array([], pa.string()), "sha256": pa.array([], pa.string()), "region": pa.array([], REGION)}
    )
    keys = {key()}
    # a copy of the package's sources, of which one file after the other changes
    package = Path(module.__file__).parent
    for name in module._CODE:
        copy = shutil.copytree(package / name, tmp_path / name) if (package / name).is_dir() else tmp_path / name
        if copy.suffix:
            shutil.copyfile(package / name, copy)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "detector.py"))
    assert keys == {key()}
    changed = sorted(tmp_path.rglob("*.py"))
    for path in changed:
        path.write_text(path.read_text() + "#")
        keys.add(key())
    assert len(keys) == 1 + len(changed) >= 11
    for library in ("pillow", "simplejpeg", "torch", "torchvision", "ultralytics", "rfdetr"):
        monkeypatch.setattr(module, "version", lambda name, other=library: "0" if name == other else version(name))
        keys.add(key())
    assert len(keys) == 1 + len(changed) + 6


def test_curve_by_hand(tmp_path: Path) -> None:
    _write_curve(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_text() == ",".join(CURVE) + "\n"
    # an epoch of a killed training may lack its losses
    _write_curve(tmp_path / "a.csv", [{"epoch": 1, "mAP50": 0.25}, {"epoch": 2, "loss": 3.5, "mAP50": 0.5}])
    assert (tmp_path / "a.csv").read_text() == "epoch,mAP50,loss\n1,0.25,\n2,0.5,3.5\n"


def test_a_trained_detector_serves_without_training(tmp_path: Path) -> None:
    annotated, images = drawn({"a-0": "train", "a-1": "train", "a-2": "validation"})
    trained(tmp_path / "first", annotated, images, epochs=1)
    weights = str(tmp_path / "first/detector/model.pt")
    figures, curve = trained(tmp_path / "second", {}, images, epochs=0, weights=weights)
    for name in ("model.pt", "detector.json"):
        files = [tmp_path / run / "detector" / name for run in ("first", "second")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert (figures["parameters"], curve) == (0, [])
    for wrong, told in (
        ({"image_px": 96}, r"image_px = 64, not 96; set detector\.image_px=64$"),
        ({"family": "rfdetr"}, r"family = yolo, not rfdetr; set detector\.family=yolo$"),
        ({"weights": OPTIONS["weights"]}, "name its model.pt or model.pth as weights"),
    ):
        with pytest.raises(InputError, match=told):
            trained(tmp_path / "third", {}, images, **{"epochs": 0, "weights": weights, **wrong})
    Path(weights).write_bytes(b"other")
    with pytest.raises(InputError, match=r"sha256 = .*; name the detector's own folder"):
        trained(tmp_path / "third", {}, images, epochs=0, weights=weights)


def test_a_detector_learns_from_tiles(tmp_path: Path) -> None:
    """Of 96 × 64 pixels each photograph gives two tiles of 64; every animal is near the left edge of its photograph."""
    annotated, images = drawn(SPLITS)
    figures, curve = trained(tmp_path, annotated, images, tile_px=64, tile_overlap=0.0, epochs=1)
    photographs = figures["photographs"]
    held_out = list(SPLITS.values()).count("test")
    assert {split: one["tiles"] for split, one in figures["tiles"].items()} == {
        split: 2 * n for split, n in {**photographs, "test": held_out}.items()
    }
    assert all(one["animals"] >= figures["animals"].get(split, 0) for split, one in figures["tiles"].items())
    assert len(curve) == 1


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_crowd_is_told_before_the_training(tmp_path: Path, split: str) -> None:
    """Two animals in one tile of the photograph a-0, of which the model may give one."""
    splits = {"a-0": split, "a-1": "train", "a-2": "validation"}
    annotated, images = drawn(splits)
    annotated["a-0"][1].append([2.0, 2.0, 8.0, 8.0])
    told = rf"a\.json: a tile of photograph a-0 \({split}\) shows 2 animals, .* at most 1; raise .*max_det, or lower"
    with pytest.raises(InputError, match=told):
        trained(tmp_path, annotated, images, tile_px=64, options={"max_det": 1})
    assert not list(tmp_path.glob("checkpoints/*/data"))


def test_a_crowd_is_counted_as_when_it_is_judged() -> None:
    """The second tile shows one animal in full, and of the other too little to teach it."""
    photograph = Annotated("a", "train", 60, 20, np.array([[10.0, 5, 21, 15], [25.0, 3, 30, 9]]), False)
    given = [photograph], pa.table({"key": ["a"], "region": pa.array([None], REGION)}), Tiling(20, 0.0, 0.1)
    assert [counts.tolist() for _, counts in _taught(*given).values()] == [[1, 1, 0]]
    tiles = photograph_tiles(photograph, None, tile_px=20, tile_overlap=0.0)
    with pytest.raises(InputError, match="has 2 annotated animals in one tile"):
        check_caps(photograph, tiles, 2, Path("a.json"))
    with pytest.raises(InputError, match="shows 2 animals, and the model, which must give more, gives at most 2"):
        check_crowds(*given, 2, "", Path("a.json"))
    check_caps(photograph, tiles, 3, Path("a.json"))
    check_crowds(*given, 3, "", Path("a.json"))
    # of whole photographs those held out teach nothing
    alone = Annotated("b", "train", 60, 20, photograph.boxes_xyxy[:1], False)
    table = pa.table({"key": ["a", "b"], "region": pa.array([None, None], REGION)})
    check_crowds([replace(photograph, split="test"), alone], table, Tiling(0, 0.0, 0.1), 2, "", Path("a.json"))


def test_tiles_of_all_splits_are_counted() -> None:
    """Two photographs of 60 by 20 pixels in three tiles of 20 each, one of them with a region of one tile."""
    boxes = np.array([[2.0, 2, 8, 8], [15.0, 5, 25, 15], [3.0, 3, 9, 9]])
    photographs = [Annotated(key, split, 60, 20, boxes, False) for key, split in (("a", "train"), ("b", "test"))]
    table = pa.table({"key": ["a", "b"], "region": pa.array([None, [0, 0, 20, 20]], REGION)})
    taught = _taught(photographs, table, Tiling(20, 0.0, 0.1))
    assert [counts.tolist() for _, counts in taught.values()] == [[3, 1, 0], [3]]
    nothing = {"tiles": 0, "tiles without an animal": 0, "animals": 0}
    assert _tiles(taught, photographs) == {
        "train": {"tiles": 3, "tiles without an animal": 1, "animals": 4},
        "validation": nothing,
        "test": {"tiles": 1, "tiles without an animal": 0, "animals": 3},
    }
