"""Mask2Former: one training of a tiny model serves all tests."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segmenting import check_promises, examples, recipe, tile

from instar.detectors import DESCRIPTION, Training, load
from instar.detectors.mask2former import Mask2Former, _start, config, train
from instar.errors import InputError
from instar.files import sha256_of

pytestmark = pytest.mark.xdist_group("mask2former")

RECIPE = recipe("mask2former_swin_test", epochs=6, learning_rate=0.002, options={"num_queries": 20})
TOLD = {"model": "mask2former_swin_test", "image_px": 96, "num_queries": 20}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Training]:
    out = tmp_path_factory.mktemp("mask2former")
    return out, train(examples(), ["ant"], RECIPE, out, tmp_path_factory.mktemp("work"))


def test_it_learns(trained: tuple[Path, Training]) -> None:
    folder, training = trained
    assert [row["epoch"] for row in training.curve] == [1, 2, 3, 4, 5, 6]
    assert training.best == training.curve[training.best_epoch - 1]["mAP50-95"]
    assert training.best > 0.1
    description = json.loads((folder / DESCRIPTION).read_text())
    assert (description["licence"], description["names"], description["weights"]) == ("Apache-2.0", ["ant"], None)
    assert str(folder) not in (folder / DESCRIPTION).read_text()


def test_predict_keeps_its_promises(trained: tuple[Path, Training]) -> None:
    model = load(trained[0])
    limits = {"floor": 0.01, "nms_iou": 0.9}
    assert model.predict([], **limits, max_boxes=20) == []
    pictures = [tile(99)[0], tile(98)[0][:60], np.repeat(np.repeat(tile(99)[0], 3, axis=0), 3, axis=1)]
    found = model.predict(pictures, **limits, max_boxes=20)
    for picture, one in zip(pictures, found, strict=True):
        check_promises(one, picture)
        assert len(one)
        assert one.masks is not None
        assert (one.masks.boxes() == one.boxes_xyxy).all()
    # the same picture three times as large has masks of nine times the area
    first, third = found[0].masks, found[2].masks
    assert first is not None
    assert third is not None
    assert third.areas()[0] / 9 == pytest.approx(first.areas()[0], rel=0.05)
    alone = model.predict(pictures[:1], **limits, max_boxes=20)[0]
    assert alone.scores == pytest.approx(found[0].scores, abs=1e-4)
    assert len(model.predict(pictures[:1], **limits, max_boxes=1)[0]) == 1
    assert len(model.predict(pictures[:1], floor=0.999, nms_iou=0.9, max_boxes=20)[0]) == 0
    assert json.loads((trained[0] / DESCRIPTION).read_text())["most"] == 20
    assert model.predict(pictures[:1], **limits, max_boxes=1000)[0].scores.tolist() == alone.scores.tolist()


def test_scores_by_hand() -> None:
    network = Mask2Former(TOLD)
    item_size = (4, 4)
    from instar.detectors.segment_tiles import Item

    nothing = torch.zeros(0)
    item = Item(0, item_size, (4, 4), nothing, nothing, nothing)
    logits = torch.full((3, 4, 4), -9.0)
    logits[0, :2, :2] = 0.8473  # sigmoid 0.7
    logits[1, 2:, :] = 9.0
    classes = torch.tensor([0.5, 0.9, 0.8])
    found = network._answer(classes, logits, item, side=4, floor=0.01, nms_iou=0.5, max_boxes=9)
    assert found.scores == pytest.approx([0.9 * 0.99988, 0.35], abs=1e-3)  # the third has no pixel
    assert found.boxes_xyxy.tolist() == [[0, 2, 4, 4], [0, 0, 2, 2]]
    assert found.empty == 1
    assert found.masks is not None
    assert found.masks.areas().tolist() == [8, 4]
    assert len(network._answer(classes, logits, item, side=4, floor=0.4, nms_iou=0.5, max_boxes=9)) == 1


def test_published_weights_are_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder as transformers writes it, with other classes and another number of queries."""
    from transformers import Mask2FormerForUniversalSegmentation

    settings = config({**TOLD, "num_queries": 10})
    settings.num_labels = 5
    published = Mask2FormerForUniversalSegmentation(settings)
    published.save_pretrained(tmp_path)
    network = Mask2Former(TOLD)
    _start(network, TOLD, tmp_path / "model.safetensors")
    loaded, wanted = network.module.state_dict(), published.state_dict()
    same = {
        name for name in loaded if loaded[name].shape == wanted[name].shape and (loaded[name] == wanted[name]).all()
    }
    random = sorted(set(loaded) - same)
    assert random == [
        "class_predictor.bias",
        "class_predictor.weight",
        "criterion.empty_weight",
        "model.transformer_module.queries_embedder.weight",
        "model.transformer_module.queries_features.weight",
    ]
    assert "start at random: class_predictor.bias" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"fits \d+% of detector\.model = mask2former_swin_tiny"):
        told = {**TOLD, "model": "mask2former_swin_tiny"}
        _start(Mask2Former(told), told, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"no state of a Mask2Former, or damaged"):
        _start(network, TOLD, tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json beside it"):
        _start(network, TOLD, tmp_path / "model.safetensors")


def test_training_goes_on_from_its_own_weights(trained: tuple[Path, Training], tmp_path: Path) -> None:
    path = trained[0] / "model.pth"
    network = Mask2Former(TOLD)
    _start(network, TOLD, path)
    wanted = torch.load(path, weights_only=True)["model"]
    assert all((tensor == wanted[name]).all() for name, tensor in network.module.state_dict().items())
    train(examples(6), ["ant"], replace(RECIPE, weights=str(path), epochs=1), tmp_path, tmp_path)
    assert json.loads((tmp_path / DESCRIPTION).read_text())["weights"] == sha256_of(path)
