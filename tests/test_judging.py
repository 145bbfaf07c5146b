"""Tests of instar.evaluation.judging and of what instar.evaluation.ways makes of halves, on made-up scores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from instar.evaluation.judging import Choice, Parts, judge
from instar.evaluation.ways import Compared, Single
from instar.reid.photographs import Known
from instar.reid.scores import Scores

#: Individuals that train; of each two photographs are judged. As many others are new.
KNOWN = 30


def photographs(count: int = KNOWN) -> pd.DataFrame:
    """Rows of dataset.parquet: no test, so that validation chooses for itself."""
    train = [(f"t{n}", "train", False) for n in range(count)]
    held_out = [(f"{kind}{n}", "validation", kind == "n") for n in range(count) for kind in ("t", "t", "n")]
    told = pd.DataFrame([*train, *held_out], columns=["label", "split", "is_new"])
    keys = [f"k{n}" for n in range(len(told))]
    return told.assign(key=keys, image_id=keys, observation_id=keys, dataset="turtles")


def compared(parts: Parts, labels: pd.Series) -> Single:
    """Two ways; the second has a scale of its own and knows less."""
    part, gallery = parts.part["validation"], parts.part["train"]
    known = Known.of(parts.rows["label"].iloc[gallery], parts.rows["dataset"].iloc[gallery])
    same = labels.iloc[part].to_numpy(dtype=object)[:, None] == known.identity[None]
    draws = np.random.default_rng(0)
    values = [draws.normal(0, 1, same.shape) + shift * same for shift in (2.5, 1.5)]
    none = np.zeros(same.shape, bool)
    found = {"nearest": Scores(values[0].astype(np.float32), none)}
    return Single(part, gallery, known, found | {"softmax": Scores((values[1] ** 3).astype(np.float32), none)})


def fused(parts: Parts, single: Single, half: np.ndarray | None) -> Compared:
    fusion = single.calibrations(parts.rows)
    return single.fused(parts.rows, single.left_out(parts.rows), fusion, half)


def judged(parts: Parts, labels: pd.Series, threshold_by: str = "all") -> Any:
    at = {"validation": {"fused": fused(parts, compared(parts, labels), parts.half)}}
    return judge(parts, at, threshold_by=threshold_by, bootstrap=2, seed=0)


@pytest.mark.parametrize("threshold_by", ["all", "dataset"])
def test_photographs_without_another_half_are_told(threshold_by: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = photographs()
    assert judged(Parts.of(rows), rows["label"], threshold_by).without_other_half == {}
    # a known lynx, twice, and a new one of either half: the other half of all but one new one knows no lynx
    rows.loc[rows["label"].isin(["t0", "n0", "n1"]), "dataset"] = "lynxes"
    found = judged(Parts.of(rows), rows["label"], threshold_by).without_other_half
    line = "evaluation: 3 photographs of lynxes are judged by a common threshold or by their own"
    expected = {"lynxes": 3} if threshold_by == "dataset" else {}
    assert (found, line in capsys.readouterr().err) == (expected, bool(expected))


def test_one_individual_has_no_other_half(capsys: pytest.CaptureFixture[str]) -> None:
    rows = photographs(1)
    rows = rows[rows["label"] != "n0"].reset_index(drop=True)
    assert judged(Parts.of(rows), rows["label"]).without_other_half == {"turtles": 2}
    assert "2 photographs of turtles" in capsys.readouterr().err


def test_no_label_of_a_half_moves_its_own_answers() -> None:
    rows = photographs()
    parts = Parts.of(rows)
    before, half = judged(parts, rows["label"]).answers["fused"], parts.half
    assert half is not None
    is_known = ~parts.rows["is_new"].to_numpy(bool)[parts.part["validation"]]
    for each in (0, 1):
        # the photographs are as they were; who is on those of a half is said wrongly
        mixed = rows.copy()
        places = parts.part["validation"][(half == each) & is_known]
        mixed.loc[places, "label"] = np.roll(rows["label"].iloc[places], 2)
        others = Parts.of(mixed)
        np.testing.assert_array_equal(others.half, half)
        after = judged(others, rows["label"]).answers["fused"]
        np.testing.assert_array_equal(after[half == each], before[half == each])
        assert (after[half != each] != before[half != each]).any()


@pytest.mark.parametrize("count", [KNOWN, 6])
def test_the_threshold_of_queries_is_of_scores_as_theirs(count: int) -> None:
    rows = photographs(count)
    parts = Parts.of(rows)
    single = compared(parts, rows["label"])
    # 12 pairs of one individual are too few to choose on scores that they were calibrated by
    half = None if count == KNOWN else parts.half
    of_scores = fused(parts, single, half)
    settings: dict[str, Any] = {"per_dataset": False, "datasets": ["turtles"]}
    alone = replace(of_scores, of_half={}, of_all=None)
    wanted = Choice.of(parts.rows, parts.part["validation"], alone, **settings)
    assert judged(parts, rows["label"]).thresholds["fused"] == wanted.thresholds
