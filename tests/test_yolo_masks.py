"""YOLO models that segment: one epoch serves all tests that need weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segmenting import check_promises, examples, recipe, tile

from instar.detectors import DESCRIPTION, Example, Training, load
from instar.detectors.yolo import WEIGHTS, _prepare, outline, polygon_lines, train
from instar.errors import InputError
from instar.masks import from_bitmaps, from_polygons, no_masks

pytestmark = pytest.mark.xdist_group("yolo_masks")

RECIPE = recipe("yolo11n-seg.yaml", epochs=1, learning_rate=0.001, options={"mask_ratio": 2, "overlap_mask": False})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Training]:
    out = tmp_path_factory.mktemp("detector")
    return out, train(examples(8), ["ant"], RECIPE, out, tmp_path_factory.mktemp("work"))


def test_polygon_lines_by_hand() -> None:
    picture = np.zeros((50, 100, 3), np.uint8)
    assert polygon_lines(Example("a", "train", picture, np.zeros((0, 4)), no_masks())) == []
    masks = from_bitmaps([np.ones((10, 20), bool)] * 2, [(10, 10), (200, 0)])  # the second lies outside
    (line,) = polygon_lines(Example("a", "train", picture, masks.boxes().astype(float), masks))
    corners = "0.10000000 0.20000000 0.10000000 0.40000000 0.30000000 0.40000000 0.30000000 0.20000000"
    assert line == f"0 {corners}"
    with pytest.raises(InputError, match="annotations of a: boxes without masks"):
        polygon_lines(Example("a", "train", picture, np.zeros((1, 4))))


def test_an_outline_runs_along_the_pixels_edges() -> None:
    _prepare()
    for seed in range(5):
        masks = tile(seed)[1]
        edges = [outline(masks, n) for n in range(len(masks))]
        again = from_polygons([[edge.ravel().tolist()] for edge in edges], 96, 96)
        assert again.areas().tolist() == masks.areas().tolist()
        assert (again.boxes() == masks.boxes()).all()
    ring = from_bitmaps([np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)])
    assert from_polygons([[outline(ring, 0).ravel().tolist()]], 3, 3).areas().tolist() == [9]  # its hole is filled
    parts = np.zeros((9, 9), bool)
    parts[1:3, 1:3] = parts[6:8, 5:9] = True
    joined = outline(from_bitmaps([parts]), 0)
    assert (joined.min(axis=0).tolist(), joined.max(axis=0).tolist()) == ([1, 1], [9, 8])


def test_the_curve_tells_masks_and_boxes(trained: tuple[Path, Training]) -> None:
    folder, training = trained
    (row,) = training.curve
    assert {"mAP50", "mAP50-95", "box_mAP50", "box_mAP50-95", "seg_loss", "validation_seg_loss"} <= set(row)
    assert row["seg_loss"] > 0
    assert json.loads((folder / DESCRIPTION).read_text())["licence"].startswith("AGPL-3.0")


def test_predict_keeps_its_promises(trained: tuple[Path, Training]) -> None:
    model = load(trained[0])
    assert model.predict([], floor=0.001, nms_iou=0.6, max_boxes=20) == []
    pictures = [tile(99)[0], tile(98)[0][:60], np.repeat(np.repeat(tile(99)[0], 3, axis=0), 3, axis=1)]
    for picture, found in zip(pictures, model.predict(pictures, floor=1e-6, nms_iou=0.6, max_boxes=20), strict=True):
        check_promises(found, picture)
        assert 0 < len(found) + found.empty <= 20
    assert len(model.predict(pictures[:1], floor=0.99, nms_iou=0.6, max_boxes=20)[0]) == 0


def test_masks_are_those_of_ultralytics_own_predictor(trained: tuple[Path, Training], tmp_path: Path) -> None:
    from ultralytics.models.yolo.segment import SegmentationPredictor

    from instar.detectors.paste import masks_of

    path = trained[0] / WEIGHTS
    options = {"imgsz": 96, "conf": 1e-6, "iou": 1.0, "agnostic_nms": True, "max_det": 20, "retina_masks": True}
    quiet = {"save": False, "verbose": False, "device": "cpu", "batch": 1, "project": str(tmp_path)}
    predictor = SegmentationPredictor(overrides={"model": str(path), **options, **quiet})
    picture = np.repeat(np.repeat(tile(99)[0], 2, axis=0), 2, axis=1)
    theirs = predictor(np.ascontiguousarray(picture[..., ::-1]))[0]
    # without NMS, which a rounding can decide
    ours = load(trained[0]).predict([picture], floor=1e-6, nms_iou=1.0, max_boxes=20)[0]
    assert len(ours) == len(theirs) > 0
    assert ours.masks is not None
    assert ours.boxes_xyxy == pytest.approx(theirs.boxes.xyxy.numpy(), abs=1e-2)
    assert ours.masks.areas() == pytest.approx(masks_of(theirs.masks.data.to(torch.uint8)).areas(), abs=3)


def test_options_of_masks_need_a_model_with_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"detector\.options\.mask_ratio: ultralytics has no such option here"):
        train([], ["ant"], replace(RECIPE, model="yolo11n.yaml"), tmp_path, tmp_path)
