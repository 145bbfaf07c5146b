"""Detector presets: every one's model can be had, with as many parameters as its makers count."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from project import ROOT

from instar.detectors import (
    DESCRIPTION,
    RANDOM,
    Recipe,
    check_options,
    class_name,
    family,
    kept_of_a_tile,
    weights_file,
)
from instar.detectors import rfdetr as rfdetr_family
from instar.detectors import yolo as yolo_family
from instar.detectors.segment import described, taken
from instar.errors import InputError
from instar.files import write_json
from instar.study import compose, names

#: With one class, as counted on the versions in the lock; a renamed or changed model is noticed.
PARAMETERS = {
    "yolo11n": 2_590_035,
    "yolo11s": 9_428_179,
    "yolo11m": 20_053_779,
    "yolov8s": 11_135_987,
    "rfdetr_large": 33_483_972,
    "yolo11n_seg": 2_842_803,
    "yolo11l_seg": 27_617_459,
    "rfdetr_seg_large": 37_333_973,
    "maskrcnn": 43_975_515,
    "mask2former": 47_505_276,
}


def test_every_preset_is_known_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    untrained = {
        "whole_image",
        "grounding_dino_sam",
        "florence2_sam",
        "gemini_sam",
        "watershed",
    }  # see test_zero_shot.py
    assert set(names("detector")) - untrained == set(PARAMETERS)


def recipe(section: Any) -> Recipe:
    given = {field.name: section[field.name] for field in fields(Recipe) if field.name in section}
    return Recipe(**{**given, "options": dict(section.options)}, seed=0)


def made(section: Any) -> Any:
    """The module of a family without a trainer of its own."""
    told = described(recipe(section), taken(family(section.family).Options, dict(section.options)))
    return family(section.family)._family().build({**told, "frozen_norm": False}).module


@pytest.mark.parametrize("preset", PARAMETERS)
def test_a_presets_model_can_be_made(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    section: Any = OmegaConf.create(compose("ants", [f"detector={preset}"])).detector
    segments = "_seg" in preset or preset.startswith("mask")
    assert section.image_px == (640 if not segments else 960 if section.family == "rfdetr" else 1024)
    assert weights_file(section.weights) is None
    if section.family == "yolo":
        yolo_family._prepare()
        from ultralytics.nn.tasks import DetectionModel, SegmentationModel

        yolo_family._check(recipe(section))
        model = (SegmentationModel if segments else DetectionModel)(section.model, nc=1, verbose=False)
    elif section.family in ("maskrcnn", "mask2former"):
        with torch.device("meta"):
            model = made(section)
    else:
        rfdetr_family._prepare()
        rfdetr_family._check(recipe(section))
        rfdetr_family._prepare()
        model = rfdetr_family._model(section.model, section.image_px).model.model
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == PARAMETERS[preset]


def test_rf_detr_learns_from_tiles_at_the_size_that_it_looks_at() -> None:
    """With jitter half of the views are resized to 400 to 600 pixels, cropped, and resized again."""
    options = OmegaConf.create(compose("trays", ["detector=rfdetr_seg_large"])).detector.options
    assert [options[name] for name in ("scale_jitter", "multi_scale", "expanded_scales")] == [False] * 3


def test_families_are_loaded_without_their_libraries() -> None:
    assert family("yolo") is yolo_family
    assert family("rfdetr") is rfdetr_family


def test_weights_file(tmp_path: Path) -> None:
    for name in (RANDOM, "model.pt"):
        (tmp_path / name).touch()
    assert weights_file(str(tmp_path / RANDOM)) is None
    assert weights_file(str(tmp_path / "model.pt")) == tmp_path / "model.pt"
    with pytest.raises(InputError, match=rf"detector\.weights = {tmp_path}/none\.pt: no such file; .* random\.md"):
        weights_file(str(tmp_path / "none.pt"))


def test_check_options_by_hand() -> None:
    check_options({}, "", "a library")
    check_options({"mosaic": 1, "hsv_h": 0.5}, "degrees hsv_h mosaic", "a library")
    with pytest.raises(InputError, match=r"detector\.options\.mosiac: a library has no such option here; .* mosaic$"):
        check_options({"mosiac": 1}, "degrees hsv_h mosaic", "a library")
    with pytest.raises(InputError, match=r"it has degrees, hsv_h$"):
        check_options({"xyz": 1}, "hsv_h degrees", "a library")


def test_class_name() -> None:
    assert [class_name(names) for names in ([], ["ant"], ["ant", "bee"])] == ["animal", "ant", "animal"]


@pytest.mark.parametrize(
    ("preset", "most", "remedy"),
    [
        ("maskrcnn", 1000, "raise detector.options.detections and proposals"),
        ("mask2former", 300, "raise detector.options.num_queries"),
        ("yolo11l_seg", 1000, "raise detector.options.max_det"),
        ("yolo11n", sys.maxsize, "raise detector.options.max_det"),
        ("rfdetr_seg_large", 200, "name a model that gives more"),
    ],
)
def test_what_a_presets_model_gives_at_most(
    preset: str, most: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    section: Any = OmegaConf.create(compose("trays", [f"detector={preset}"])).detector
    assert family(section.family).most(recipe(section)) == (most, remedy)


def test_no_more_is_kept_of_a_tile_than_a_detector_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / DESCRIPTION, {"family": "watershed"})
    assert kept_of_a_tile(tmp_path, 1000) == 1000
    write_json(tmp_path / DESCRIPTION, {"family": "mask2former", "most": 300})
    assert [kept_of_a_tile(tmp_path, given) for given in (299, 300)] == [299, 300]
    assert capsys.readouterr().err == ""
    assert kept_of_a_tile(tmp_path, 1000) == 300
    assert capsys.readouterr().err == (
        "detections.max_boxes = 1000: this mask2former gives at most 300 animals of a tile, so no more are kept\n"
    )
