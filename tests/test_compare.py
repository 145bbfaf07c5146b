"""The comparison of presets: one small study, two of them, each trained once."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_shards import write_annotations, write_images
from project import ROOT
from test_detector import drawn

from instar.compare import detectors as module
from instar.compare.command import compare
from instar.compare.detectors import _parts, table_text
from instar.errors import InputError
from instar.params import load
from instar.study import compose
from instar.tables import SPECIMENS, TAXONOMY, write_table

SPLITS = {f"a-{n}": "train" for n in range(4)} | {"a-4": "validation", "a-5": "test", "a-6": "test"}
SMALL = ["--set", "detector.image_px=64", "detector.epochs=1", "detector.plain_epochs=0", "detector.batch=4"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with the demo's parameters, and photographs of our own."""
    root = tmp_path_factory.mktemp("compare")
    (root / "workflow").symlink_to(ROOT / "workflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / "params.yaml").write_text(compose("demo", ["shards=[s0,s1]", "evaluation.bootstrap=100"]))
    annotated, images = drawn(SPLITS)
    images["a-7"] = images["a-6"]  # not annotated
    images["a-5"] = b"damaged"
    for rest in (0, 1):
        chosen = {key: data for key, data in images.items() if int(key[-1]) % 2 == rest}
        write_images(root / "data/demo/images", f"s{rest}", chosen, (96, 64))
    write_annotations(root / "data/demo/annotations.json", annotated, (96, 64))
    write_table(root / "data/demo/taxonomy.parquet", [], TAXONOMY)
    (root / "data/demo/specimens.csv").write_text(",".join(SPECIMENS) + "\n")
    return root


@pytest.fixture(autouse=True)
def in_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)


def test_tiles_are_timed_and_not_a_whole_tray() -> None:
    tray = np.arange(60 * 100, dtype=np.uint8).reshape(60, 100, 1).repeat(3, axis=2)
    slicing = replace(load(ROOT / "params.yaml").detections, tile_px=20, tile_overlap=0.0)
    assert [one.shape for one in _parts(tray, None, slicing, True, 4)] == [(20, 20, 3)] * 4
    assert (_parts(tray, [40, 20, 60, 40], slicing, True, 4)[0] == tray[20:40, 40:60]).all()
    assert [one.shape for one in _parts(tray, None, slicing, False, 4)] == [(60, 100, 3)]
    assert not any(np.shares_memory(one, tray) for one in _parts(tray, None, slicing, True, 4))


def test_compare_two_presets(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["detectors", "yolo11n", "yolov8s", *SMALL]) == 0
    told = capsys.readouterr()
    out = study / "data/demo/comparison"
    result = json.loads((out / "comparison.json").read_text())
    assert [row["preset"] for row in result["presets"]] == ["yolo11n", "yolov8s"]
    assert [row["parameters"] for row in result["presets"]] == [2_590_035, 11_135_987]  # ultralytics' own counts
    for row in result["presets"]:
        assert row["ms_single"] > 0 < row["ms_batch"]
        assert 0 <= row["AP50-95"] <= row["AP50"] <= 1
        assert row["licence"] == "AGPL-3.0"
        assert row["epochs"] == 1
        assert row["trained"] == "1 epochs from random weights"
    assert result["device"].startswith("CPU, ")
    with (out / "comparison.csv").open() as file:
        assert [row["preset"] for row in csv.DictReader(file)] == ["yolo11n", "yolov8s"]
    assert (out / "comparison.md").read_text() in told.out
    assert told.err.count("epoch 1/1:") == 2
    figures = json.loads((out / "yolo11n/detection_metrics.json").read_text())
    dropped = {"trained on": 4, "not searched: not an image": 1}
    assert figures["rows"] == {"in": 7, "out": 2, "dropped": dropped}
    assert not list((study / ".instar/training").iterdir())
    # only what is new is trained; all are timed again
    assert compare(["detectors", "yolov8s", "yolo11n", "yolov8s", *SMALL]) == 0
    assert "epoch 1/1:" not in capsys.readouterr().err
    again = json.loads((out / "comparison.json").read_text())
    assert [row["AP50"] for row in again["presets"]] == [row["AP50"] for row in result["presets"]][::-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["yolo0"], "yolo0: no such preset; workflow/conf/detector has florence2_sam, gemini_sam, "),
        (["whole_image"], "whole_image: family whole_image is not trained and finds nothing; name another preset"),
        (["yolo11n", "--set", "detector.epochs=-1"], r"detector\.epochs = -1 is not allowed"),
        (["yolo11n", "--set", "detector.epochs=0"], r"yolo11n: with detector\.epochs = 0 nothing is trained"),
        (["yolo11n", "--set", "seed=1"], r"--set seed=1: only keys that begin with 'detector\.'"),
        (["yolo11n", "--set", "detector.epochs=1", "detections.floor=0.1"], r"--set detections\.floor=0\.1: only keys"),
        (["yolo11n", "--set", "detector=yolov8s"], "--set detector=yolov8s: only keys"),
        (["yolo11n", "--set", "detector.family=whole_image"], "yolo11n: family whole_image is not trained"),
    ],
)
def test_compare_names_what_is_wrong(words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        compare(["detectors", *words])


def test_help_names_what_can_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare(["detectors", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "preset of florence2_sam, gemini_sam" in told and "watershed" in told and "whole_image" not in told


def test_an_override_that_begins_with_a_preset_is_its_own() -> None:
    given = ["detector.epochs=3", "maskrcnn.epochs=4", "+maskrcnn.options.anchor_px=8"]
    found = {preset: module._section("demo", preset, given) for preset in ("yolo11n", "maskrcnn")}
    assert {preset: one["epochs"] for preset, one in found.items()} == {"yolo11n": 3, "maskrcnn": 4}
    assert found["maskrcnn"]["options"]["anchor_px"] == 8
    with pytest.raises(InputError, match=r"--set yolo11s\.epochs=1: only keys that begin with 'detector\.' or with a"):
        compare(["detectors", "yolo11n", "--set", "yolo11s.epochs=1"])


def test_a_study_of_another_name_takes_the_presets_as_they_are() -> None:
    assert module._section("moths", "maskrcnn", []) == module._section("trays", "maskrcnn", [])


def test_a_preset_that_is_refused_stops_no_other(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["watershed", "grounding_dino_sam", "yolo11n", "--out", "other"]
    assert compare(["detectors", *words, "--set", "yolo11n.options.max_det=1"]) == 1
    told = capsys.readouterr()
    assert "epoch 1" not in told.err
    result = json.loads((study / "other/comparison.json").read_text())
    assert [(row["preset"], row["trained"]) for row in result["presets"]] == [("watershed", "no")]
    for text in (told.err, (study / "other/comparison.md").read_text()):
        assert (
            "grounding_dino_sam is not compared: detector.weights = models/grounding-dino-base: no such folder" in text
        )
        assert "yolo11n is not compared: data/demo/annotations.json: a tile of photograph a-" in text
    with pytest.raises(InputError, match=r"^grounding_dino_sam is not compared: .*no such folder"):
        compare(["detectors", "grounding_dino_sam", "--out", "other"])


def test_what_was_judged_before_an_interruption_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = module._row

    def interrupted(preset: str, *given: Any) -> dict[str, Any]:
        if preset == "yolo11n":
            raise KeyboardInterrupt
        return judge(preset, *given)

    monkeypatch.setattr(module, "_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(["detectors", "watershed", "yolo11n", "yolov8s", "--out", "cut", *SMALL])
    text = (study / "cut/comparison.md").read_text()
    assert "| watershed | " in text
    assert "yolo11n is not compared yet\nyolov8s is not compared yet" in text
    assert [row["preset"] for row in json.loads((study / "cut/comparison.json").read_text())["presets"]] == [
        "watershed"
    ]


def test_a_presets_figures_depend_on_its_inputs(study: Path) -> None:
    params = module.load()
    section = module._section("demo", "yolo11n", [])
    data = study / "data/demo"
    first = module._key(module._with(params, section), data)
    assert first == module._key(module._with(params, dict(section)), data)
    other = module._key(module._with(params, {**section, "options": {"mosaic": 0.5}}), data)
    path = data / "annotations.json"
    text = path.read_text()
    path.write_text(text + " ")
    assert len({first, other, module._key(module._with(params, section), data)}) == 3
    path.write_text(text)
    # counts are of specimens and classes, too
    with (data / "specimens.csv").open("a") as file:
        file.write("p,s,1,\n")
    assert module._key(module._with(params, section), data) != first


def test_table_by_hand() -> None:
    facts = {"study": "demo", "device": "CPU", "batch": 4, "tile_px": 1536, "whole": True}
    facts["resampled"] = "95 % intervals are from resampling 4 observations"
    row: dict[str, Any] = {"preset": "a", "AP50": 0.5, "AP50-95": 0.25, "recall_at_floor": 0.75, "confidence": 0.125}
    row |= {"test_recall": 0.5, "test_precision": None, "ms_single": 12.34, "ms_batch": None, "parameters": 1234567}
    row |= {"image_px": 640, "licence": "X", "wanted_recall": 0.9, "wanted_recall_reached": False}
    row |= {"interval_95": {"AP50": [0.4, 0.6]}, "weights": None, "trained": "no"}
    better = {**row, "preset": "b", "recall_at_floor": 0.8, "wanted_recall_reached": True, "weights": "1f"}
    lines = table_text([row, better], facts).splitlines()
    assert lines[4].startswith("| b | ")
    cells = "a | 0.500 (0.400–0.600) | 0.250 | 0.750 | 0.125 (not reached) | 0.500 | – | 12.3 | – | 1,234,567 | 640"
    assert lines[5] == f"| {cells} | X | no |"
    assert "of a photograph or, where its longer side exceeds 1536 pixels, of a tile of it; the stage" in lines[0]
    assert lines[0].endswith(" Trained from random weights, not from pretrained ones: a.")
    assert table_text([better], facts).splitlines()[0].endswith("looks at the whole one, too.")
    sliced = table_text([better], {**facts, "whole": False}).splitlines()[0]
    assert sliced.endswith("exceeds 1536 pixels, of a tile of it.")
