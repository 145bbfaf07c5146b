import csv
import json
from pathlib import Path
from typing import Any

import pytest
from photo_shards import encoded, write_annotations, write_images
from project import ROOT
from test_yolo import scene

from instar.detector import detector
from instar.detectors import load
from instar.detectors.whole_image import WholeImage
from instar.errors import InputError

OPTIONS: dict[str, Any] = {
    "seed": 0,
    "shards": ["s0", "s1"],
    "family": "yolo",
    "model": "yolo11n.yaml",
    "weights": str(ROOT / "workflow/conf/detector/random.md"),
    "options": {},
    "image_px": 64,
    "epochs": 2,
    "batch": 4,
    "learning_rate": 0.001,
    "plain_epochs": 1,
    "workers": 0,
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
