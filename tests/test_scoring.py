"""Tests of instar.metrics.scoring."""

import numpy as np
import pytest

from instar.metrics.scoring import Name, compared, points, sheet

NIGER, FLAVUS, RUFA = Name("Lasius niger", "Lasius"), Name("Lasius flavus", "Lasius"), Name("Formica rufa", "Formica")
LASIUS, NOTHING = Name(None, "Lasius"), Name(None, None)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], 0),
        ([NOTHING], 0),
        ([RUFA], 0),
        ([NIGER, RUFA], 10),
        ([RUFA, NIGER], 5),
        ([FLAVUS, NIGER], 5),  # the genus is first as well, which adds nothing
        ([FLAVUS, RUFA], 3),
        ([LASIUS], 3),
        ([LASIUS, NIGER], 5),
        ([RUFA, FLAVUS], 1),
        ([RUFA, RUFA, RUFA, RUFA, NIGER], 5),
        ([RUFA, RUFA, RUFA, RUFA, RUFA, NIGER], 0),  # the sixth does not count
    ],
)
def test_points_of_lasius_niger(answers: list[Name], expected: int) -> None:
    assert points(NIGER, answers) == expected


def test_points_of_a_photograph_that_is_named_to_genus() -> None:
    assert points(LASIUS, [NIGER]) == points(LASIUS, [LASIUS]) == 3
    assert points(LASIUS, [RUFA, NIGER]) == 1
    assert points(NOTHING, [NOTHING]) == 0


def test_nothing_to_compare() -> None:
    empty = np.empty(0, np.int64)
    found = compared(empty, empty, empty, resamples=10, seed=0)
    assert (found["photographs"], found["both_right"], found["difference"]) == (0, 0, None)
    assert len(sheet([], [], [], [])) == 0


def test_comparison_by_hand() -> None:
    # the third photograph is left out: both name the species
    ours, other = np.array([10, 5, 10, 0]), np.array([3, 5, 10, 1])
    found = compared(ours, other, np.array(["a", "b", "c", "d"]), resamples=400, seed=0)
    difference = found.pop("difference")
    assert found == {
        "photographs": 3,
        "both_right": 1,
        "points": {"ours": 15, "other": 9},
        "mean_points": {"ours": 5.0, "other": 3.0},
        "better": {"ours": 1, "other": 1},
    }
    assert difference["value"] == 2  # (7 + 0 - 1) / 3
    # 3 draws of {7, 0, -1}: the lowest mean is -1 and the highest 7, each with probability 1/27
    assert difference["low"] == -1 and difference["high"] == 7


def test_the_bootstrap_is_paired_and_draws_whole_observations() -> None:
    ours, other = np.array([10, 0, 5, 1]), np.array([9, -1, 4, 0])
    found = compared(ours, other, np.arange(4), resamples=50, seed=0)
    assert found["difference"] == {"value": 1, "low": 1, "high": 1}
    one = compared(np.array([5, 3, 3]), np.array([0, 1, 1]), np.zeros(3), resamples=50, seed=0)
    assert one["difference"] == {"value": 3, "low": 3, "high": 3}


def test_sheet_by_hand() -> None:
    table = sheet(["p", "q"], [NIGER, NIGER], [[FLAVUS, NIGER], [NIGER]], [[LASIUS], [NIGER, RUFA]])
    assert table["ours_points"].tolist() == [5, 10] and table["other_points"].tolist() == [3, 10]
    assert table["counts"].tolist() == [True, False]
    row = table.iloc[0]
    assert (row["photo_key"], row["species"], row["genus"]) == ("p", "Lasius niger", "Lasius")
    assert row["ours_1":"ours_5"].tolist() == ["Lasius flavus", "Lasius niger", "", "", ""]
    assert row["other_1":"other_5"].tolist() == ["Lasius", "", "", "", ""]
