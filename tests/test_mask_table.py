"""The comparison's table with masks, by hand."""

import csv
from pathlib import Path
from typing import Any

import pytest
from mask_metrics import mask_metrics

from instar.compare import detectors as module
from instar.compare.detectors import COLUMNS, table_text
from instar.compare.mask_table import mask_columns, mask_row, published_rows
from instar.compare.published import MASSID45, WITHOUT_LIBRARY
from instar.mask_figures import AREAS, confidence, figures_on_test
from instar.params import Params

FACTS = {"study": "trays", "device": "CPU", "batch": 4, "tile_px": 512, "whole": False}
FACTS |= {"resampled": "95 % intervals are from resampling 2 samples"}


def row(preset: str, masks: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"preset": preset, "AP50": 0.5, "AP50-95": 0.25, "recall_at_floor": 0.75}
    found |= {"confidence": 0.125, "test_recall": 0.5, "test_precision": None, "ms_single": 12.34, "ms_batch": None}
    found |= {"parameters": 1234567, "image_px": 640, "licence": "X", "wanted_recall": 0.9}
    found |= {
        "wanted_recall_reached": True,
        "interval_95": {"groups": 2, "AP50": [0.4, 0.6]},
        "weights": "1f",
        "trained": "no",
    }
    return {**found, **mask_row({"masks": masks} if masks else {})}


def test_nothing_is_told_of_masks_where_there_are_none() -> None:
    assert mask_row({"test": {}}) == figures_on_test({"test": {}}) == {}
    assert "mask" not in table_text([row("a", None)], FACTS)
    assert confidence({}, 0.3) == 0.3
    assert confidence({"threshold": {"confidence": None}}, 0.3) == 0.3
    assert confidence({"threshold": {"confidence": 0.2}}, 0.3) == 0.2
    assert confidence({"threshold": {"confidence": 0.2}, "masks": mask_metrics()}, 0.3) == 0.35


def test_table_by_hand() -> None:
    better = mask_metrics()
    better["test"] = {**better["test"], "AP50-95": 0.5}
    lines = table_text([row("boxes", None), row("b", mask_metrics()), row("c", better)], FACTS).splitlines()
    assert [line.split(" | ")[0] for line in lines[4:7]] == ["| c", "| b", "| boxes"]
    cells = "b | here | 0.425 (0.350–0.500) | 0.831 (0.800–0.860) | 0.366 | 0.200 | 0.416 | – | 0.800 (0.700–0.900)"
    cells += " | 0.125 (0.100–0.150) | 1.5 (1.0–2.0) | 0.900 (0.800–1.000)"
    cells += " | 700 | 0.700 | 200 | 0.200 | 100 | 0.100"
    cells += " | 0.350 | 0.250 | 0.500 (0.400–0.600) | 12.3 | – | 1,234,567 | 640"
    assert lines[5] == f"| {cells} | X | no |"
    assert lines[6].startswith(f"| boxes | here | {'– | ' * 17}0.250 | 0.500 (")
    names = "preset | source | mask AP50-95 | mask AP50 | mask AP75 | mask small | mask medium | mask large | mask F1"
    assert lines[2].startswith(f"| {names} | ")
    published = "| Mask DINO | published | 0.435 | 0.809 | 0.401 | 0.211 | 0.435 | 0.731 | – |"
    assert lines[-1].startswith(published)
    assert len(lines) == 4 + 3 + 7
    assert "CutLER and Mask DINO are in no library" in lines[0]
    assert "of the split test; 95 % intervals are from resampling 2 samples. Times are" in lines[0]


def test_published_rows_are_those_of_the_paper() -> None:
    in_percent = {one.name: [round(100 * value, 2) for value in one.precisions] for one in MASSID45}
    assert in_percent == {
        "CutLER": [22.7, 40.0, 22.1, 0.80, 18.1, 59.0],
        "Grounding DINO + SAM 2.1": [27.1, 47.6, 27.0, 1.30, 22.6, 66.3],
        "Florence-2 + SAM 2.1": [16.5, 28.8, 16.7, 3.00, 12.1, 41.7],
        "Gemini 2.0 Flash + SAM 2.1": [26.2, 50.0, 23.8, 3.30, 18.3, 64.2],
        "Mask R-CNN": [42.5, 83.1, 36.6, 20.0, 41.6, 70.4],
        "Mask2Former": [41.4, 78.7, 37.4, 20.5, 40.0, 71.1],
        "Mask DINO": [43.5, 80.9, 40.1, 21.1, 43.5, 73.1],
    }
    assert set(WITHOUT_LIBRARY) <= set(in_percent)


@pytest.mark.parametrize("masks", [False, True])
def test_csv(tmp_path: Path, masks: bool) -> None:
    params = Params(study="trays")
    params.detections.batch, params.detections.tile_px = 4, 512
    module._write(tmp_path, [row("a", mask_metrics() if masks else None)], params)
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(mask_columns(COLUMNS) if masks else COLUMNS)
    assert len(rows) == (1 + len(published_rows()) if masks else 1)
    if masks:
        areas = [(rows[0][f"mask_{name}_px"], rows[0][f"mask_{name}_share"]) for name in AREAS]
        assert areas == [("700", "0.7"), ("200", "0.2"), ("100", "0.1")]
        assert rows[0]["mask_AP50-95"] == rows[5]["mask_AP50-95"] == "0.425"
        assert [rows[n]["source"] for n in (0, 5)] == ["here", "published"]


def test_a_family_that_needs_no_training_did_not_start_from_random_weights() -> None:
    untrained = {**row("watershed", mask_metrics()), "weights": None, "best_epoch": None}
    assert "random weights" not in table_text([untrained], FACTS)
    assert "random weights" in table_text([{**untrained, "best_epoch": 3}], FACTS)
