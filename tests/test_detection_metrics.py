import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from photo_shards import write_annotations, write_detections, write_images

from instar.detection_metrics.resampling import photograph_groups
from instar.detection_metrics.stage import CURVE_ROWS, detection_metrics
from instar.detectors import DESCRIPTION
from instar.errors import InputError
from instar.files import write_json
from instar.tables import SPECIMENS as SPECIMEN_COLUMNS
from instar.tables import TAXONOMY, write_table

OPTIONS: dict[str, Any] = {"seed": 0, "shards": ["s0", "s1"], "wanted_recall": 0.9, "max_boxes": 100}
OPTIONS |= {"confidence": 0.7, "bootstrap": 100, "annotation_split": "observation"}
OPTIONS |= {"areas_px": [1024, 9216], "seam_px": 2.0, "count_classes": [], "tile_px": 1024, "tile_overlap": 0.2}
A, B, C, D = ([n * 100, 0, n * 100 + 50, 40] for n in range(4))


def judged(
    folder: Path,
    annotated: dict[str, Any],
    images: dict[str, Any],
    found: dict[str, Any],
    facts: dict[str, dict[str, Any]] | None = None,
    **options: Any,
) -> Any:
    """Run the stage over two hand-made shards, keys that end in an even digit in the first; its JSON.

    Unless facts say otherwise, every photograph is an observation of its own.
    """
    facts = facts or {key: {"observation_id": key} for key in images}
    for shard, rest in (("s0", 0), ("s1", 1)):
        chosen = {key: value for key, value in images.items() if int(key[-1]) % 2 == rest}
        write_images(folder / "images", shard, chosen, (400, 100), facts)
        chosen = {key: value for key, value in found.items() if int(key[-1]) % 2 == rest}
        write_detections(folder / f"found/{shard}.parquet", chosen)
    write_annotations(folder / "a.json", annotated, (400, 100))
    return run_stage(folder, **options)


def run_stage(folder: Path, **options: Any) -> Any:
    """Run the stage over the files in a folder; its JSON."""
    if not (folder / "taxonomy.parquet").exists():
        write_table(folder / "taxonomy.parquet", [], TAXONOMY)
    if not (folder / "specimens.csv").exists():
        (folder / "specimens.csv").write_text(",".join(SPECIMEN_COLUMNS) + "\n")
    if not (folder / "detector").exists():
        write_json(folder / "detector" / DESCRIPTION, {"family": "yolo"})
    inputs = [folder / name for name in ("a.json", "detector", "found", "images", "taxonomy.parquet", "specimens.csv")]
    names = ("out.json", "curve.csv", "mask_pr.csv", "mask_areas.csv", "sizes.csv", "counts.csv", "seams.csv")
    detection_metrics(*inputs, *(folder / name for name in names), **{**OPTIONS, **options})
    return json.loads((folder / "out.json").read_text())


ANNOTATED = {
    "a-1": ("train", [A]),
    "a-2": ("validation", [A, B]),
    "a-3": ("validation", []),
    "a-4": ("test", [A, B]),
    "a-5": ("test", [C]),
    "a-6": ("test", [A]),
    "a-7": ("test", [A]),
}
IMAGES = {**{f"a-{n}": b"" for n in range(1, 7)}, "a-7": "not found", "a-8": b""}
FOUND = {
    "a-1": [(*A, 0.9)],
    "a-2": [(*A, 0.8), (*B, 0.6), (*D, 0.3)],
    "a-3": [(*D, 0.7)],
    "a-4": [(*A, 0.9), (*D, 0.7), (*B, 0.2)],
    "a-5": [(*C, 0.65)],
    "a-6": "no animal found",
    "a-8": [(*A, 0.99)],
}


def test_the_cap_of_a_tile_is_not_compared_with_a_sliced_photograph(tmp_path: Path) -> None:
    result = judged(tmp_path, ANNOTATED, IMAGES, FOUND, tile_px=100)
    assert "photographs_at_max_boxes" not in {**result["validation"], **result["test"]}


def test_detection_metrics_by_hand(tmp_path: Path) -> None:
    result = judged(tmp_path, ANNOTATED, IMAGES, FOUND)
    assert result["rows"] == {"in": 7, "out": 5, "dropped": {"not fetched: not found": 1, "trained on": 1}}
    assert result["validation"] == {"photographs": 2, "animals": 2, "boxes": 4, "photographs_at_max_boxes": 0}
    test = result["test"]
    assert (test["photographs"], test["animals"], test["boxes"]) == (3, 4, 4)
    # right, wrong, right, right: the precision at or beyond recalls to 1/4 is 1, to 3/4 it is 3/4, then 0
    assert test["AP50"] == test["AP50-95"] == pytest.approx((26 * 1 + 50 * 0.75) / 101, abs=1e-6)
    assert test["recall_at_floor"] == test["AR"] == 0.75
    assert (test["AP_small"], test["AP_large"]) == (None, None)
    # both animals of validation are found from 0.6 up, where a box at 0.7 is wrong
    threshold = result["threshold"]
    assert (threshold["reached"], threshold["confidence"]) == (True, pytest.approx(0.6, abs=1e-6))
    assert (threshold["validation_precision"], threshold["validation_recall"]) == (pytest.approx(2 / 3, abs=1e-6), 1.0)
    assert (threshold["test_precision"], threshold["test_recall"]) == (pytest.approx(2 / 3, abs=1e-6), 0.5)
    low, high = result["interval_95"]["test_recall"]
    assert 0 <= low < 0.5 < high <= 1
    with (tmp_path / "curve.csv").open() as file:
        rows = [[float(value) for value in row.values()] for row in csv.DictReader(file)]
    expected = [[0.25, 1, 0.9], [0.25, 0.5, 0.7], [0.5, 2 / 3, 0.65], [0.75, 0.75, 0.2]]
    assert np.array(rows) == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("confidence", "precision", "recall"),
    # on the split test right, wrong, right, right at 0.9, 0.7, 0.65, 0.2, of 4 animals
    [(0.0, 0.75, 0.75), (0.64, 2 / 3, 0.5), (0.66, 0.5, 0.25), (0.69, 0.5, 0.25), (0.71, 1, 0.25), (0.91, None, 0)],
)
def test_detection_metrics_at_the_confidence_of_crops(
    tmp_path: Path, confidence: float, precision: float | None, recall: float
) -> None:
    result = judged(tmp_path, ANNOTATED, IMAGES, FOUND, confidence=confidence)
    expected = {"confidence": confidence, "test_precision": precision, "test_recall": recall}
    assert result["at_crops_confidence"] == pytest.approx(expected, abs=1e-6)
    for kind, value in (("precision", precision), ("recall", recall)):
        interval = result["interval_95"][f"{kind}_at_crops_confidence"]
        assert interval is None if value is None else interval[0] <= value <= interval[1]


def test_detection_metrics_at_a_confidence_that_the_curve_lacks(tmp_path: Path) -> None:
    boxes = [(n / 10, 50, n / 10 + 5, 60, 0.6 - n / 2000) for n in range(800)]
    result = judged(tmp_path, ANNOTATED, IMAGES, {**FOUND, "a-6": boxes}, confidence=0.5984)
    with (tmp_path / "curve.csv").open() as file:
        kept = [row for row in csv.DictReader(file) if float(row["confidence"]) >= 0.5984]
    assert kept[-1]["precision"] == "0.4"
    # of 0.9, 0.7 and 0.65 two are right, of the first four of the many none
    assert result["at_crops_confidence"]["test_precision"] == pytest.approx(2 / 7, abs=1e-6)


def test_detection_metrics_of_a_perfect_detector(tmp_path: Path) -> None:
    found = {key: [(*box, 0.9) for box in boxes] or "no animal found" for key, (_, boxes) in ANNOTATED.items()}
    result = judged(tmp_path, ANNOTATED, IMAGES, found)
    assert result["test"]["AP50-95"] == result["threshold"]["test_precision"] == result["threshold"]["test_recall"] == 1
    assert result["interval_95"]["AP50-95"] == [1, 1]


def test_detection_metrics_where_the_wanted_recall_is_out_of_reach(tmp_path: Path) -> None:
    found = {**FOUND, "a-2": [(*D, 0.9), (*A, 0.8), (*D, 0.1)]}
    threshold = judged(tmp_path, ANNOTATED, IMAGES, found)["threshold"]
    assert (threshold["reached"], threshold["validation_recall"]) == (False, 0.5)
    assert threshold["confidence"] == pytest.approx(0.8, abs=1e-6)  # no lower and no higher than its recall needs


def test_detection_metrics_of_a_detector_that_finds_nothing(tmp_path: Path) -> None:
    result = judged(tmp_path, ANNOTATED, IMAGES, dict.fromkeys(FOUND, "no animal found"))
    assert (result["test"]["AP50"], result["test"]["AR"], result["test"]["recall_at_floor"]) == (0, 0, 0)
    assert (result["threshold"]["confidence"], result["threshold"]["test_precision"]) == (None, None)
    assert (tmp_path / "curve.csv").read_text() == "recall,precision,confidence\n"


def test_detection_metrics_drops_what_was_not_searched(tmp_path: Path) -> None:
    result = judged(tmp_path, ANNOTATED, IMAGES, {**FOUND, "a-6": "truncated"})
    assert result["rows"]["dropped"]["not searched: truncated"] == 1
    assert result["rows"]["out"] == 4


def test_detection_metrics_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    first = judged(tmp_path / "1", ANNOTATED, IMAGES, FOUND)
    annotated, images, found = (dict(reversed(part.items())) for part in (ANNOTATED, IMAGES, FOUND))
    assert judged(tmp_path / "2", annotated, images, found) == first


def test_detection_metrics_keeps_the_curve_short(tmp_path: Path) -> None:
    boxes = [(n / 10, 50, n / 10 + 5, 60, 0.9 - n / 1000) for n in range(800)]
    judged(tmp_path, ANNOTATED, IMAGES, {**FOUND, "a-6": boxes})
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == CURVE_ROWS + 1


def test_detection_metrics_refuses_a_cap_that_the_densest_photograph_reaches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(tmp_path, ANNOTATED, IMAGES, FOUND, max_boxes=3)
    with pytest.raises(InputError, match=r"a-2 has 2 .* detections\.max_boxes = 2"):
        judged(tmp_path, ANNOTATED, IMAGES, FOUND, max_boxes=2)
    # what the detector itself gives at most counts, too
    write_json(tmp_path / "detector" / DESCRIPTION, {"family": "mask2former", "most": 2})
    with pytest.raises(InputError, match=r"a-2 has 2 .* the detector gives at most 2 of a tile; take a detector that"):
        judged(tmp_path, ANNOTATED, IMAGES, FOUND, max_boxes=1000)
    assert "max_boxes = 1000: this mask2former gives at most 2 animals of a tile" in capsys.readouterr().err


def test_a_cap_matters_where_it_is_judged(tmp_path: Path) -> None:
    crowded = {**ANNOTATED, "a-1": ("train", [A, B, C, D])}
    assert judged(tmp_path, crowded, IMAGES, FOUND, max_boxes=3)["rows"]["dropped"]["trained on"] == 1


def test_what_a_model_without_training_is_asked_for_at_most_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two animals on one of two photographs of validation, and on one of three of test, which are not sliced."""
    write_json(tmp_path / "detector" / DESCRIPTION, {"family": "gemini_sam", "most": 2})
    result = judged(tmp_path, ANNOTATED, IMAGES, FOUND)
    assert [result[split]["tiles_with_as_many_animals"] for split in ("validation", "test")] == [1, 1]
    assert result["test"]["AP50"] > 0
    told = "warning: 1 of 3 tiles of split test show 2 annotated animals or more, and the detector is asked for at most"
    assert told in capsys.readouterr().err
    write_json(tmp_path / "detector" / DESCRIPTION, {"family": "gemini_sam", "most": 3})
    assert judged(tmp_path, ANNOTATED, IMAGES, FOUND)["test"]["tiles_with_as_many_animals"] == 0
    assert "warning" not in capsys.readouterr().err
    with pytest.raises(InputError, match=r"detections\.max_boxes = 2"):
        judged(tmp_path, ANNOTATED, IMAGES, FOUND, max_boxes=2)
    write_json(tmp_path / "detector" / DESCRIPTION, {"family": "yolo"})
    assert "tiles_with_as_many_animals" not in judged(tmp_path, ANNOTATED, IMAGES, FOUND)["test"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_detection_metrics_needs_animals_in_both_splits(tmp_path: Path, split: str) -> None:
    annotated = {key: value for key, value in ANNOTATED.items() if value[0] != split or not value[1]}
    with pytest.raises(InputError, match=f"split {split} .* records.annotation_{split}_share"):
        judged(tmp_path, annotated, IMAGES, FOUND)


def test_detection_metrics_needs_every_photograph_searched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a-5"):
        judged(tmp_path, ANNOTATED, IMAGES, {key: value for key, value in FOUND.items() if key != "a-5"})


def test_detection_metrics_of_a_study_without_annotations(tmp_path: Path) -> None:
    result = judged(tmp_path, {}, IMAGES, FOUND)
    assert result == {"rows": {"in": 0, "out": 0, "dropped": {}}, "annotations": 0}
    assert (tmp_path / "curve.csv").read_text() == "recall,precision,confidence\n"


def test_intervals_resample_whole_observations(tmp_path: Path) -> None:
    # 4 observations of 4 photographs of one animal; in half of the observations all are found, in the others none
    annotated: dict[str, Any] = {f"a-{n}": ("test", [A]) for n in range(16)} | {"b-0": ("validation", [A])}
    found: dict[str, Any] = {f"a-{n}": [(*A, 0.9)] if n < 8 else "no animal found" for n in range(16)}
    found["b-0"] = [(*A, 0.9)]
    images = dict.fromkeys(annotated, b"")
    together = {f"a-{n}": {"observation_id": f"o{n // 4}"} for n in range(16)}
    results: list[Any] = [
        judged(tmp_path / str(n), annotated, images, found, facts) for n, facts in enumerate([None, together])
    ]
    assert [result["interval_95"]["groups"] for result in results] == [16, 4]
    (low, high), (lower, higher) = (result["interval_95"]["test_recall"] for result in results)
    # the mean of n coins has the standard error 1 / (2 sqrt(n)): 0.125 of 16, 0.25 of 4
    assert (low, high) == (pytest.approx(0.25, abs=0.0626), pytest.approx(0.75, abs=0.0626))
    assert (lower, higher) == (0, 1)
    assert results[0]["test"] == results[1]["test"]


def test_groups_by_hand() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    keys = [f"a-{n}" for n in range(9)]
    table = pa.table(
        {
            "key": keys[::-1],
            "observation_id": ["o1", "o1", "o3", "o2", "o2", "o2", "o2", "o2", "o2"],
            "observed_at": [start + timedelta(seconds=n) for n in range(9)],
        }
    )
    assert photograph_groups(["a-8", "a-7", "a-6", "a-5"], table, "observation").tolist() == [0, 0, 2, 1]
    # the last key is the first in time; 9 photographs make stretches of 3, 8 of 2
    assert photograph_groups(keys, table, "time_block").tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]
    assert photograph_groups(keys[1:], table, "time_block").tolist() == [3, 3, 2, 2, 1, 1, 0, 0]


def test_groups_of_a_given_split_need_no_times() -> None:
    table = pa.table({"key": ["a", "b", "c"], "observation_id": ["o2", "o1", "o2"], "observed_at": [None, 0, None]})
    assert photograph_groups(["a", "b", "c"], table, "given").tolist() == [1, 0, 1]
