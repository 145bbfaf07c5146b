"""Mask R-CNN: one training of a tiny model, killed and gone on with, serves the tests that need weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from project import ROOT
from segmenting import check_promises, examples, recipe, tile

from instar.detectors import DESCRIPTION, Training, load
from instar.detectors.maskrcnn import MaskRcnn, _start, train
from instar.errors import InputError

pytestmark = pytest.mark.xdist_group("maskrcnn")

OPTIONS = {"detections": 50, "proposals": 100, "anchor_px": 16, "samples": 64}
RECIPE = recipe("maskrcnn_test", epochs=8, options=OPTIONS)
TOLD = {"model": "maskrcnn_test", "image_px": 96, "frozen_norm": False, "learning_stages": 5, **OPTIONS}

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_maskrcnn import RECIPE, examples
from instar.detectors.maskrcnn import train
train(examples(), ["ant"], RECIPE, Path("out"), Path("work"))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Training]:
    """The folder and the curve of a training that was killed after an epoch and gone on with."""
    root = tmp_path_factory.mktemp("maskrcnn")
    for name in ("out", "work"):
        (root / name).mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    with (root / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
        while process.poll() is None and not list((root / "work").glob("checkpoints/epoch-*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list((root / "work").glob("checkpoints/epoch-*")), (root / "log").read_text()
    assert not list((root / "out").iterdir())
    return root / "out", train(examples(), ["ant"], RECIPE, root / "out", root / "work")


def test_it_learns(trained: tuple[Path, Training]) -> None:
    folder, training = trained
    assert [row["epoch"] for row in training.curve] == list(range(1, 9))
    assert training.best == max(row["mAP50-95"] for row in training.curve)
    assert training.best > 0.15
    description = json.loads((folder / DESCRIPTION).read_text())
    assert (description["licence"], description["names"], description["weights"]) == ("BSD-3-Clause", ["ant"], None)
    assert str(folder) not in (folder / DESCRIPTION).read_text()


def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(
    trained: tuple[Path, Training], tmp_path: Path
) -> None:
    whole = train(examples(), ["ant"], RECIPE, tmp_path, tmp_path)
    assert whole.resumed_after == []
    assert len(trained[1].resumed_after) == 1
    assert whole.curve == trained[1].curve
    assert load(tmp_path).name == load(trained[0]).name


def test_predict_keeps_its_promises(trained: tuple[Path, Training]) -> None:
    model = load(trained[0])
    limits = {"floor": 0.05, "nms_iou": 0.7}
    assert model.predict([], **limits, max_boxes=50) == []
    pictures = [tile(99)[0], tile(98)[0][:60], np.repeat(np.repeat(tile(99)[0], 3, axis=0), 3, axis=1)]
    found = model.predict(pictures, **limits, max_boxes=50)
    for picture, one in zip(pictures, found, strict=True):
        check_promises(one, picture)
        assert one.masks is not None
        inner, outer = one.masks.boxes(), one.boxes_xyxy
        assert (inner[:, :2] >= np.floor(outer[:, :2])).all()
        assert (inner[:, 2:] <= np.ceil(outer[:, 2:])).all()
    assert len(found[0])
    # masks are made at the picture's size: three times as large, nine times the area
    first, third = found[0].masks, found[2].masks
    assert first is not None
    assert third is not None
    assert third.areas()[0] / 9 == pytest.approx(first.areas()[0], rel=0.1)
    assert len(model.predict(pictures[:1], **limits, max_boxes=1)[0]) == 1
    assert len(model.predict(pictures[:1], floor=0.9999, nms_iou=0.7, max_boxes=50)[0]) == 0
    # of 100 proposals only 50 may become detections, whatever is asked for
    assert json.loads((trained[0] / DESCRIPTION).read_text())["most"] == 50
    (most,) = model.predict(pictures[:1], floor=1e-6, nms_iou=0.99, max_boxes=1000)
    assert (len(most) + most.empty, most.full) == (50, True)


def test_weights_of_other_classes_are_loaded_but_for_the_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state as torchvision publishes it: of 91 classes, without normalisation's counters."""
    published = MaskRcnn(TOLD).module.state_dict()
    for name in ("cls_score", "bbox_pred"):
        for part in ("weight", "bias"):
            tensor = published[f"roi_heads.box_predictor.{name}.{part}"]
            published[f"roi_heads.box_predictor.{name}.{part}"] = tensor.repeat_interleave(4, dim=0)
    published = {name: tensor for name, tensor in published.items() if "num_batches" not in name}
    torch.save(published, tmp_path / "coco.pth")
    network = MaskRcnn(TOLD)
    _start(network, TOLD, tmp_path / "coco.pth")
    loaded = network.module.state_dict()
    other = {name for name in published if loaded[name].shape != published[name].shape}
    assert other == {f"roi_heads.box_predictor.{n}.{p}" for n in ("cls_score", "bbox_pred") for p in ("weight", "bias")}
    assert all((loaded[name] == published[name]).all() for name in published.keys() - other)
    assert "start at random: roi_heads.box_predictor.bbox_pred.bias" in capsys.readouterr().err
    lacking = {name: tensor for name, tensor in published.items() if "mask_head" not in name}
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(InputError, match=r"lacking\.pth: fits \d+% of detector\.model = maskrcnn_test"):
        _start(network, TOLD, tmp_path / "lacking.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "coco.pth").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.pth: no state of a Mask R-CNN, or damaged"):
        _start(network, TOLD, tmp_path / "cut.pth")


def test_published_models_take_torchvisions_states() -> None:
    """Names and shapes of what is published, on the meta device; only the heads are ours."""
    from torchvision.models import detection

    told = {**TOLD, "detections": 1000, "proposals": 2000, "anchor_px": 32, "samples": 512}
    with torch.device("meta"):
        for model, frozen in (("maskrcnn_resnet50_fpn", True), ("maskrcnn_resnet50_fpn_v2", False)):
            published = getattr(detection, model)(weights=None, weights_backbone=None).state_dict()
            ours = MaskRcnn({**told, "model": model, "frozen_norm": frozen}).module.state_dict()
            assert set(ours) == {name for name in published if not frozen or "num_batches" not in name} | (
                {name for name in published if "num_batches" in name} & set(ours)
            )
            other = {name for name in ours if ours[name].shape != published[name].shape}
            assert {name.rsplit(".", 1)[0] for name in other} == {
                *("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"),
                "roi_heads.mask_predictor.mask_fcn_logits",
            }


def test_only_the_upper_stages_learn_from_given_weights() -> None:
    told = {**TOLD, "model": "maskrcnn_resnet18_fpn", "learning_stages": 3, "frozen_norm": True}
    with torch.device("meta"):
        body = MaskRcnn(told).module.backbone.body
        all_of_it = MaskRcnn({**told, "learning_stages": 5}).module.backbone.body
    learning = {name.split(".")[0] for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert learning == {"layer2", "layer3", "layer4"}
    assert all(parameter.requires_grad for parameter in all_of_it.parameters())


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_normalisation_adds_nothing_to_the_variance(frozen: bool) -> None:
    """As torchvision has it for its weights of COCO."""
    told = {**TOLD, "model": "maskrcnn_resnet18_fpn", "frozen_norm": frozen}
    with torch.device("meta"):
        norm = MaskRcnn(told).module.backbone.body.bn1
    assert norm.eps == (0.0 if frozen else 1e-5)
