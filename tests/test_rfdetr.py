"""RF-DETR: one training of the smallest model, killed and gone on with, serves all tests that need weights."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from project import ROOT
from segmenting import check_promises
from test_yolo import scene

from instar.detectors import DESCRIPTION, Boxes, Example, Recipe, Training, load
from instar.detectors.rfdetr import _CURVE, _bytes, _coco_boxes, _coco_masks, _curve, _model, _prepare, train
from instar.errors import InputError
from instar.masks import from_bitmaps, from_rle, no_masks

pytestmark = pytest.mark.xdist_group("rfdetr")

RECIPE = Recipe(
    model="RFDETRNano",
    weights=str(ROOT / "workflow/conf/detector/random.md"),
    image_px=64,
    epochs=2,
    batch=4,
    learning_rate=0.0001,
    plain_epochs=0,
    workers=0,
    options={"multi_scale": False, "expanded_scales": False},
    seed=0,
)

SCRIPT = """
import socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
def refuse(*args, **kwargs):
    print("NETWORK", args, flush=True)
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from test_rfdetr import RECIPE, examples
from instar.detectors.rfdetr import train
train(examples(), ["ant"], RECIPE, Path("out"), Path("work"))
"""


def examples() -> Iterator[Example]:
    for seed in range(6):
        picture, box = scene(seed)
        yield Example(f"a-{seed}", "train" if seed < 4 else "validation", picture, np.array([box], np.float64))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a training that was killed after an epoch."""
    root = tmp_path_factory.mktemp("rfdetr")
    (root / "out").mkdir()
    (root / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    with (root / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
        while process.poll() is None and not (root / "work/run/last.ckpt").is_file():
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (root / "work/run/last.ckpt").is_file(), (root / "log").read_text()
    assert "NETWORK" not in (root / "log").read_text()
    assert not list((root / "out").iterdir())
    return root


@pytest.fixture(scope="module")
def trained(killed: Path) -> tuple[Path, Training]:
    training = train(examples(), ["ant"], RECIPE, killed / "out", killed / "work")
    return killed / "out", training


def predicted(folder: Path, pictures: list[np.ndarray], floor: float = 0.001, max_boxes: int = 20) -> list[Boxes]:
    return load(folder).predict(pictures, floor=floor, nms_iou=0.6, max_boxes=max_boxes)


def test_a_killed_training_goes_on(trained: tuple[Path, Training]) -> None:
    folder, training = trained
    assert [row["epoch"] for row in training.curve] == [1, 2]
    assert training.resumed_after == [1]
    assert training.curve[-1]["loss"] > 0
    assert all(0 <= row["mAP50-95"] <= 1 for row in training.curve)
    assert 1 <= training.best_epoch <= 2
    assert 29e6 < training.parameters < 31e6
    description = json.loads((folder / DESCRIPTION).read_text())
    assert (description["licence"], description["names"], description["weights"]) == ("Apache-2.0", ["ant"], None)
    assert description["most"] == 300
    assert str(folder) not in (folder / DESCRIPTION).read_text()


def test_predict_keeps_its_promises(trained: tuple[Path, Training]) -> None:
    folder = trained[0]
    assert predicted(folder, []) == []
    pictures = [scene(7)[0], np.zeros((200, 30, 3), np.uint8), scene(8)[0][:40]]
    for picture, found in zip(pictures, predicted(folder, pictures), strict=True):
        assert 0 < len(found) <= 20
        assert found.boxes_xyxy.shape == (len(found), 4)
        assert (found.boxes_xyxy.dtype, found.scores.dtype) == (np.float32, np.float32)
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= np.tile(picture.shape[1::-1], 2)).all()
    assert len(predicted(folder, pictures, max_boxes=2)[0]) == 2
    assert len(predicted(folder, pictures, floor=0.99)[0]) == 0
    alone, together = predicted(folder, pictures[:1])[0], predicted(folder, pictures[::-1])[2]
    assert together.boxes_xyxy == pytest.approx(alone.boxes_xyxy, abs=1e-2)
    assert together.scores == pytest.approx(alone.scores, abs=1e-5)


def test_as_many_boxes_as_the_model_has_queries(tmp_path: Path) -> None:
    _prepare()
    weights = _bytes({"model": _model("RFDETRNano", 64).model.model.state_dict()})
    (tmp_path / "model.pth").write_bytes(weights)
    told = {"family": "rfdetr", "model": "RFDETRNano", "image_px": 64, "sha256": hashlib.sha256(weights).hexdigest()}
    (tmp_path / DESCRIPTION).write_text(json.dumps(told))
    untrained = load(tmp_path)
    pictures, low = [scene(7)[0]], {"floor": 1e-9, "nms_iou": 1.0}
    # of random weights "nothing" is about as good as an animal, and may not take its place
    found = untrained.predict(pictures, **low, max_boxes=300)[0]
    assert (len(found), found.full) == (300, True)
    fewer = untrained.predict(pictures, floor=float(found.scores[9]), nms_iou=1.0, max_boxes=300)[0]
    assert (len(fewer) < 10, fewer.full) == (True, False)
    assert len(untrained.predict(pictures, **low, max_boxes=1000)[0]) == 300


def test_given_weights_must_be_the_models(trained: tuple[Path, Training], tmp_path: Path) -> None:
    weights = trained[0] / "model.pth"
    with pytest.raises(
        InputError, match=r"detector\.weights = .*model\.pth: fits \d+% of detector\.model = RFDETRMedium"
    ):
        train([], ["ant"], replace(RECIPE, model="RFDETRMedium", weights=str(weights)), tmp_path, tmp_path)
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.pth: no weights of RFDETRNano, or damaged"):
        train([], ["ant"], replace(RECIPE, weights=str(tmp_path / "cut.pth")), tmp_path, tmp_path)


def test_load_refuses_other_weights(trained: tuple[Path, Training], tmp_path: Path) -> None:
    (tmp_path / DESCRIPTION).write_bytes((trained[0] / DESCRIPTION).read_bytes())
    (tmp_path / "model.pth").write_bytes((trained[0] / "model.pth").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.pth"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "RFDETRHuge"}, r"detector\.model = RFDETRHuge: rfdetr has no such model; it has RFDETRNano"),
        ({"options": {"mosaic": 0.5}}, r"detector\.options\.mosaic: rfdetr has no such option here"),
        ({"options": {"epochs": 2}}, r"detector\.options\.epochs"),
        ({"options": {"warmup_epochs": "many"}}, r"detector\.options: .*warmup_epochs"),
        ({"image_px": 650}, r"detector\.image_px = 650: RFDETRNano takes multiples of 32, such as 640"),
        ({"weights": "missing.pth"}, r"detector\.weights = missing\.pth: no such file"),
    ],
)
def test_a_wrong_recipe_is_named_before_anything_is_read(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    def unread() -> Iterator[Example]:
        raise AssertionError("read")
        yield

    with pytest.raises(InputError, match=told) as caught:
        train(unread(), ["ant"], replace(RECIPE, **changes), tmp_path, tmp_path)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_coco_boxes_by_hand() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    assert _coco_boxes(Example("a", "train", picture, np.zeros((0, 4))), picture) == []
    boxes = np.array([[20, 10, 60, 30], [180, 80, 240, 120], [300, 0, 310, 10]], np.float64)
    # at half the size; the second is cut at the border, the third lies outside
    assert _coco_boxes(Example("a", "train", picture, boxes), picture[::2, ::2]) == [[10, 5, 20, 10], [90, 40, 10, 10]]


def test_curve_takes_the_last_of_an_epoch(tmp_path: Path) -> None:
    lines = ["epoch,step,train/loss,val/mAP_50", "0,4,,0.25", "0,4,3.5,", "1,9,,0.1", "1,9,,0.5", "1,9,2.5,"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    expected = [{"epoch": 1, "loss": 3.5, "mAP50": 0.25}, {"epoch": 2, "loss": 2.5, "mAP50": 0.5}]
    assert _curve(tmp_path / "metrics.csv", _CURVE) == expected


def test_coco_masks_by_hand() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    assert _coco_masks(Example("a", "train", picture, np.zeros((0, 4)), no_masks()), picture) == []
    masks = from_bitmaps([np.ones((20, 40), bool)] * 2, [(20, 10), (300, 0)])  # the second lies outside
    (found,) = _coco_masks(Example("a", "train", picture, masks.boxes().astype(float), masks), picture[::2, ::2])
    assert (found["bbox"], found["area"], found["segmentation"]["size"]) == ([10, 5, 20, 10], 200, [50, 100])
    assert from_rle([found["segmentation"]]).boxes().tolist() == [[10, 5, 30, 15]]
    with pytest.raises(InputError, match="annotations of a: boxes without masks"):
        _coco_masks(Example("a", "train", picture, np.zeros((1, 4))), picture)


def test_masks_of_a_model_that_segments(tmp_path: Path) -> None:
    _prepare()
    weights = _bytes({"model": _model("RFDETRSegNano", 96).model.model.state_dict()})
    (tmp_path / "model.pth").write_bytes(weights)
    told = {"family": "rfdetr", "model": "RFDETRSegNano", "image_px": 96, "sha256": hashlib.sha256(weights).hexdigest()}
    (tmp_path / DESCRIPTION).write_text(json.dumps(told))
    pictures = [scene(7)[0], np.zeros((30, 20, 3), np.uint8), np.repeat(scene(8)[0], 5, axis=1)]
    for picture, found in zip(pictures, predicted(tmp_path, pictures, floor=1e-6), strict=True):
        check_promises(found, picture)
        assert 0 < len(found) + found.empty <= 20
