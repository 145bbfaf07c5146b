"""The zoom sweep: one detector of random weights, trained for one epoch, and figures worked out by hand."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_shards import encoded, write_annotations, write_images
from project import ROOT
from test_detection_metrics_masks import FOUND, OPTIONS, write_study
from test_detector import OPTIONS as TRAINING

from instar.compare.command import compare
from instar.compare.zooms import table_text, zoom_figures
from instar.detector import detector
from instar.detectors import DESCRIPTION
from instar.errors import InputError
from instar.params import load
from instar.study import compose

SIZE = (150, 120)
SPLITS = {"a-0": "train", "a-1": "train", "a-2": "validation", "a-3": "validation", "a-4": "test"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with a trained detector of 128 pixels, and photographs that are larger."""
    root = tmp_path_factory.mktemp("zooms")
    (root / "workflow").symlink_to(ROOT / "workflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        words = ["shards=[s0]", "evaluation.bootstrap=100", "detector.image_px=128", "detections.tile_px=128"]
        (root / "params.yaml").write_text(compose("demo", words))
    data = root / "data/demo"
    pictures = {key: np.full((SIZE[1], SIZE[0], 3), 200, np.uint8) for key in SPLITS}
    for n, picture in enumerate(pictures.values()):
        picture[20:50, 10 + 10 * n : 50 + 10 * n] = 30
    images: dict[str, bytes | str] = {key: encoded(picture) for key, picture in pictures.items()}
    write_images(data / "images", "s0", images, SIZE)
    boxes = {
        key: (split, [[10.0 + 10 * n, 20.0, 50.0 + 10 * n, 50.0]]) for n, (key, split) in enumerate(SPLITS.items())
    }
    write_annotations(data / "annotations.json", boxes, SIZE)
    outs = [data / "detector", data / "detector.json", data / "detector.csv", root / "work"]
    options = {**TRAINING, "shards": ["s0"], "image_px": 128, "epochs": 1, "plain_epochs": 0}
    detector(data / "annotations.json", data / "images", *outs, **options)
    return root


@pytest.fixture(autouse=True)
def in_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)


def test_compare_zooms(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["zooms", "2", "1", "2"]) == 0
    out = study / "data/demo/comparison"
    rows = json.loads((out / "zooms.json").read_text())["zooms"]
    assert [(row["zoom"], row["tile_px"], row["photographs"], row["kind"]) for row in rows] == [
        (1, 128, 2, "box"),
        (2, 64, 2, "box"),
    ]
    # at an overlap of 20 % 150 by 120 pixels are 2 tiles of 128, or 3 by 3 of 64
    assert [row["tiles"] for row in rows] == [2 * 2, 2 * 9]
    assert all(0 <= row["AP50-95"] <= row["AP50"] <= 1 for row in rows)
    with (out / "zooms.csv").open() as file:
        assert [row["tile_px"] for row in csv.DictReader(file)] == ["128", "64"]
    assert (out / "zooms.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr()
    assert (out / "zooms.md").read_text() in told.out
    # what was searched is searched no more
    written = (out / "zoom_2/detections/s0.parquet").stat().st_mtime_ns
    assert compare(["zooms", "2"]) == 0
    assert (out / "zoom_2/detections/s0.parquet").stat().st_mtime_ns == written
    assert [row["zoom"] for row in json.loads((out / "zooms.json").read_text())["zooms"]] == [2]
    # the report has the whole sweep, of this detector
    left = json.loads((study / "data/demo/plots/compared/zooms.json").read_text())
    assert [row["zoom"] for row in left] == [1, 2]
    description = json.loads((study / "data/demo/detector/detector.json").read_text())
    assert {row["made_of"]["detector"] for row in left} == {description["sha256"]}


def test_the_trained_detector_tells_the_side_of_its_input(study: Path) -> None:
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("image_px: 128", "image_px: 640"))
    with pytest.raises(InputError, match=r"detector\.image_px = 128 makes tiles of 32"):
        compare(["zooms", "4"])
    (study / "params.yaml").write_text(text)


def test_a_cap_is_told_before_anything_is_searched(study: Path, tmp_path: Path) -> None:
    path = study / "data/demo/detector" / DESCRIPTION
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "most": 1}))
    try:
        with pytest.raises(InputError, match=r"photograph a-\d has 1 annotated animals.* detector gives at most 1 of"):
            compare(["zooms", "1", "--out", str(tmp_path)])
    finally:
        path.write_text(text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("zoom", "told"),
    [
        ("0", "zoom 0 is not allowed; it must be above 0"),
        ("nan", "zoom nan is not allowed"),
        ("4", r"zoom 4 of detector\.image_px = 128 makes tiles of 32 pixels, fewer than 64; take at most 2"),
    ],
)
def test_compare_zooms_names_what_is_wrong(zoom: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        compare(["zooms", zoom])


def test_figures_of_masks_by_hand(tmp_path: Path) -> None:
    write_study(tmp_path)
    (tmp_path / "found").rename(tmp_path / "detections")
    params = load()
    judging = replace(params.detection_metrics, areas_px=OPTIONS["areas_px"])
    params = replace(params, detection_metrics=judging, detections=replace(params.detections, tile_px=250))
    told = zoom_figures(tmp_path / "a.json", tmp_path, replace(params, shards=["s0"]))
    # right, wrong, right, wrong of the two animals of the only validation photograph
    expected = {"kind": "mask", "tile_px": 250, "tiles": 2, "photographs": 1, "animals": 2}
    ap = (51 + 50 * 2 / 3) / 101
    expected_figures = {"AP50-95": ap, "AP50": ap, "AP_medium": ap, "f1": 0.8, "confidence": 0.6, "counted": 1.5}
    assert {name: told[name] for name in expected} == expected
    assert {name: told[name] for name in expected_figures} == pytest.approx(expected_figures)
    assert told["AP_small"] is None
    assert told["interval_95"] == {"AP50-95": None, "AP50": None}  # of a single photograph
    assert told["groups"] == 1
    assert len(FOUND["v-0"]) == 4


def test_table_by_hand() -> None:
    facts = {"study": "trays", "image_px": 1024, "overlap": 0.6, "from_px": [144, 1024], "bootstrap": 1000}
    facts["resampled"] = "95 % intervals are from resampling 3 samples"
    row: dict[str, Any] = {"zoom": 1.0, "tile_px": 1024, "tiles": 1014, "kind": "mask", "photographs": 3}
    row |= {"animals": 1234, "AP50-95": 0.25, "AP50": 0.5, "AP75": 0.25, "AP_small": None, "AP_medium": 0.1}
    row |= {"AP_large": 0.5, "f1": 0.6, "precision": 0.5, "recall": 0.75, "confidence": 0.5, "counted": 1.5}
    row |= {"interval_95": {"AP50-95": [0.2, 0.3], "AP50": None}}
    lines = table_text([row, {**row, "zoom": 1.5, "AP50-95": 0.125}], facts).splitlines()
    told = "with 1,234 animals; 95 % intervals are from resampling 3 samples; small"
    assert f"AP of masks on 3 validation photographs {told}" in lines[0]
    assert "small is under 144 pixels, large from 1,024 up" in lines[0]
    assert "The highest AP50-95 is at zoom 1, chosen on" in lines[0]
    cells = (
        "1 | 1,024 | 1,014 | 0.250 (0.200–0.300) | 0.500 | 0.250 | – | 0.100 | 0.500 | 0.600 | 0.500 | 0.750 | 0.500"
    )
    assert lines[4] == f"| {cells} | 1.500 |"
    assert lines[5].startswith("| 1.5 | ")
