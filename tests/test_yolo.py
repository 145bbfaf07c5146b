import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from project import ROOT

from instar.decode import UndecodableError, decode_upright
from instar.detectors import DESCRIPTION, Boxes, Detector, Example, Recipe, Training, load
from instar.detectors.checkpoints import Checkpoints
from instar.detectors.yolo import _Follower, _overrides, train, yolo_lines
from instar.errors import InputError
from instar.files import sha256_of

RECIPE = Recipe(
    weights=str(ROOT / "workflow/conf/detector/random.md"),
    options={},
    model="yolo11n.yaml",
    image_px=64,
    epochs=1,
    batch=4,
    learning_rate=0.001,
    plain_epochs=0,
    workers=0,
    seed=0,
)


def scene(seed: int) -> tuple[np.ndarray, list[float]]:
    """A noisy picture of 96×64 pixels with one dark animal, and the animal's box."""
    generator = np.random.default_rng(seed)
    picture = generator.integers(150, 255, (64, 96, 3), dtype=np.uint8)
    left, top = (int(corner) for corner in generator.integers(0, [60, 40]))
    picture[top : top + 20, left : left + 30] //= 8
    return picture, [left, top, left + 30, top + 20]


def examples(n: int = 6) -> Iterator[Example]:
    for seed in range(n):
        picture, box = scene(seed)
        yield Example(f"a-{seed}", "train" if seed < n - 2 else "validation", picture, np.array([box], np.float64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector after one epoch: it finds nothing of use, but what it finds is well formed."""
    path = tmp_path_factory.mktemp("detector")
    train(examples(), ["ant"], RECIPE, path, tmp_path_factory.mktemp("work"))
    return path


def predicted(model: Detector, pictures: list[np.ndarray], floor: float = 0.001, max_boxes: int = 20) -> list[Boxes]:
    return model.predict(pictures, floor=floor, nms_iou=0.6, max_boxes=max_boxes)


def test_yolo_lines() -> None:
    picture = np.zeros((50, 100, 3), np.uint8)
    boxes = np.array([[10, 10, 30, 20], [90, 40, 120, 60], [100, 0, 110, 10]])
    assert yolo_lines(Example("a", "train", picture, np.zeros((0, 4)))) == []
    assert yolo_lines(Example("a", "train", picture, boxes)) == [
        "0 0.20000000 0.30000000 0.20000000 0.20000000",
        "0 0.95000000 0.90000000 0.10000000 0.20000000",  # cut off at the border; the third lies outside
    ]


def trained(out: Path, **changes: Any) -> Path:
    """A detector trained in the folder ``out``."""
    (out / "work").mkdir(parents=True)
    (out / "detector").mkdir()
    train(examples(), ["ant"], replace(RECIPE, **changes), out / "detector", out / "work")
    return out / "detector"


def test_training_again_gives_equal_weights(folder: Path, tmp_path: Path) -> None:
    tmp_path = trained(tmp_path / "again")
    assert sha256_of(folder) == sha256_of(tmp_path)


def test_training_depends_on_the_seed(folder: Path, tmp_path: Path) -> None:
    tmp_path = trained(tmp_path / "other", seed=1)
    assert load(folder).name != load(tmp_path).name


def test_training_goes_on_from_given_weights(folder: Path, tmp_path: Path) -> None:
    tmp_path = trained(tmp_path / "further", weights=str(folder / "model.pt"), learning_rate=1e-9, seed=5)
    picture, _ = scene(9)
    first, second = (predicted(load(path), [picture])[0] for path in (folder, tmp_path))
    # with a learning rate of nothing they stay what they were, but for the running means of the layers
    assert np.abs(first.scores[:3] - second.scores[:3]).max() < 0.05
    assert str(folder) not in (tmp_path / DESCRIPTION).read_text()


def test_options_are_handed_on(folder: Path, tmp_path: Path) -> None:
    options = {"patience": 7, "mosaic": 0.0, "hsv_v": 0, "optimizer": "SGD", "cos_lr": True}
    path = trained(tmp_path / "options", options=options)
    used = yaml.safe_load((tmp_path / "options/work/run/args.yaml").read_text())
    assert {name: used[name] for name in options} == options
    assert load(path).name != load(folder).name


def test_an_early_stop_ends_the_curve(tmp_path: Path) -> None:
    # ultralytics calls once more after the last epoch, with the number of the next
    (tmp_path / "last.pt").touch()
    (tmp_path / "best.pt").touch()
    figures = {f"metrics/{name}(B)": 0.5 for name in ("mAP50", "mAP50-95", "recall", "precision")}
    files = {"last": tmp_path / "last.pt", "best": tmp_path / "best.pt"}
    training = Training()
    follower = _Follower(training, Checkpoints(tmp_path / "checkpoints"), 9, tmp_path / "training.json")
    for epoch, stop in ((0, False), (1, True), (2, True)):
        follower(
            SimpleNamespace(epoch=epoch, stop=stop, fitness=0.5, metrics=figures, tloss={"box_loss": 1.0}, **files)
        )
    assert [row["epoch"] for row in follower.written().curve] == [1, 2]
    assert follower.written().best_epoch == 2
    kept = Checkpoints(tmp_path / "checkpoints").latest()
    assert kept is not None
    assert len(kept[0].curve) == 1  # a finished training is not gone on with


def test_given_weights_must_be_the_models(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.pt: fits \d+% of detector\.model = yolov8s\.yaml"):
        trained(tmp_path / "wrong", weights=str(folder / "model.pt"), model="yolov8s.yaml")


def test_predict_keeps_its_promises(folder: Path) -> None:
    model = load(folder)
    assert predicted(model, []) == []
    pictures = [scene(7)[0], np.zeros((200, 30, 3), np.uint8), scene(8)[0][:40]]
    for picture, found in zip(pictures, predicted(model, pictures), strict=True):
        assert found.boxes_xyxy.shape == (len(found), 4)
        assert (found.boxes_xyxy.dtype, found.scores.dtype) == (np.float32, np.float32)
        assert (np.diff(found.scores) <= 0).all()
        assert len(found) <= 20
        height, width = picture.shape[:2]
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [width, height, width, height]).all()
    assert len(predicted(model, pictures, max_boxes=2)[0]) == 2
    assert len(predicted(model, pictures, floor=0.99)[0]) == 0


def test_predict_does_not_depend_on_the_batch(folder: Path) -> None:
    model = load(folder)
    picture, other = scene(7)[0], np.full((30, 200, 3), 90, np.uint8)
    alone, together = predicted(model, [picture])[0], predicted(model, [other, picture])[1]
    assert together.boxes_xyxy == pytest.approx(alone.boxes_xyxy, abs=1e-3)
    assert together.scores == pytest.approx(alone.scores, abs=1e-5)


def test_predict_answers_in_pixels_of_the_picture(folder: Path) -> None:
    # a picture 4 times as large is the same to the network, since both are shrunk to its input
    model = load(folder)
    picture = np.repeat(np.repeat(scene(7)[0], 2, axis=0), 2, axis=1)
    larger = np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1)
    first, second = predicted(model, [picture, larger])
    assert len(first) == len(second) > 0
    assert second.boxes_xyxy / 4 == pytest.approx(first.boxes_xyxy, abs=0.5)


def test_damaged_photographs_stay_what_they_are_beside_ultralytics(folder: Path) -> None:
    load(folder)
    with pytest.raises(UndecodableError, match="not an image"):
        decode_upright(b"damaged")


def test_load_refuses_other_weights(folder: Path, tmp_path: Path) -> None:
    for name in ("model.pt", DESCRIPTION):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.pt").write_bytes((folder / "model.pt").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.pt"):
        load(tmp_path)


SCRIPT = """
import shutil, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
def refuse(*args, **kwargs):
    print("NETWORK", args)
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
threads = torch.get_num_threads()
from test_yolo import RECIPE, examples
from instar.detectors.yolo import train
Path("out").mkdir()
Path("work").mkdir()
train(examples(), ["ant"], RECIPE, Path("out"), Path("work"))
shutil.rmtree("work")
assert torch.get_num_threads() == threads
"""


def test_training_leaves_nothing_behind_and_talks_to_nobody(tmp_path: Path) -> None:
    home, work, temporary = (tmp_path / name for name in ("home", "work", "tmp"))
    for path in (home, work, temporary):
        path.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    for name in ("YOLO_OFFLINE", "YOLO_CONFIG_DIR", "OMP_NUM_THREADS", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stdout
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    left = [name for name in left if not name.startswith("mpl/")]  # matplotlib's list of fonts
    assert left == ["work/out/detector.json", "work/out/model.pt"]


def test_validation_keeps_what_is_on_the_densest_picture(tmp_path: Path) -> None:
    labels = tmp_path / "labels/validation"
    labels.mkdir(parents=True)
    recipe = Recipe("yolo11n.yaml", str(ROOT / "workflow/conf/detector/random.md"), 64, 1, 4, 0.1, 0, 0, {}, 0)
    given = tmp_path / "data.yaml", recipe, tmp_path
    assert _overrides(*given)["max_det"] == 300
    (labels / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n" * 400)
    (labels / "b.txt").write_text("")
    assert _overrides(*given)["max_det"] == 401
