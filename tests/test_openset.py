"""Tests of instar.metrics.openset."""

from collections.abc import Sequence

import numpy as np
import pytest

from instar.metrics.openset import (
    Judged,
    answers,
    baks,
    baus,
    best_threshold,
    figures,
    intervals,
    sweep,
    thresholds,
)
from instar.tables import NEW_INDIVIDUAL

NEW = NEW_INDIVIDUAL


def judged(rows: Sequence[tuple[str, bool, str, str, str, float]]) -> Judged:
    """From rows of identity, is_new, dataset, encounter, best and score."""
    columns = list(zip(*rows, strict=True)) or [()] * 6
    kinds = (object, bool, object, object, object, np.float32)
    return Judged(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def figure(kind: str, truth: list[str], is_new: list[bool], answer: list[str]) -> float:
    given = (np.array(truth, object), np.array(is_new, bool), np.array(answer, object))
    return {"baks": baks, "baus": baus}[kind](*given)


#: a twice, b once, x three times and y once; x and y are new.
TRUTH = ["a", "a", "b", "x", "x", "x", "y"]
IS_NEW = [False] * 3 + [True] * 4


@pytest.mark.parametrize(
    ("answer", "known", "new"),
    [
        (["a", "b", "b", NEW, "a", "b", NEW], 0.75, 2 / 3),  # (1/2 + 1) / 2 and (1/3 + 1) / 2
        (TRUTH, 1.0, 0.0),  # a new individual's own name is no right answer
        ([NEW] * 7, 0.0, 1.0),
        (["a"] * 7, 0.5, 0.0),
        (["z", "a", "z", NEW, NEW, NEW, "z"], 0.25, 0.5),  # z is of another data set: wrong, wherever
    ],
)
def test_by_hand(answer: list[str], known: float, new: float) -> None:
    assert figure("baks", TRUTH, IS_NEW, answer) == pytest.approx(known)
    assert figure("baus", TRUTH, IS_NEW, answer) == pytest.approx(new)


def test_corners_count_as_nothing() -> None:
    for kind in ("baks", "baus"):
        assert figure(kind, [], [], []) == 0
    assert figure("baus", ["a"], [False], ["a"]) == 0  # no unknown
    assert figure("baks", ["x"], [True], [NEW]) == 0  # all unknown
    assert figure("baks", ["a", "a"], [False, False], ["a", NEW]) == 0.5  # one individual


def test_figures_of_data_sets_and_their_mean() -> None:
    rows = [
        ("a", False, "L", "1", "a", 0.9),
        ("x", True, "L", "2", "a", 0.1),
        ("x", True, "L", "3", "a", 0.9),
        ("b", False, "S", "4", "b", 0.8),
        ("c", False, "S", "5", "b", 0.8),
        ("y", True, "T", "6", "b", 0.0),
    ]
    given = judged(rows)
    found = figures(given, given.answers(0.5))
    # L: baks 1, baus 1/2; S has no new individual and T no known one, so both score 0
    assert found["datasets"]["L"] == {
        "baks": 1.0,
        "baus": 0.5,
        "score": pytest.approx(0.5**0.5),
        "photographs": 3,
        "new_photographs": 2,
        "known": 1,
        "new": 1,
    }
    assert [found["datasets"][name]["score"] for name in "ST"] == [0, 0]
    assert found["baks"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["baus"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["score"] == pytest.approx(0.5**0.5 / 3)
    assert figures(judged([]), np.zeros(0, object)) == {"datasets": {}, "baks": 0.0, "baus": 0.0, "score": 0.0}


def test_answers_reach_their_threshold() -> None:
    score = np.array([0.5, 0.4, -np.inf, 0.9], np.float32)
    best, dataset = np.array(["a", "b", "", "c"], object), np.array(["L", "L", "L", "S"], object)
    assert answers(best, score, dataset, 0.5).tolist() == ["a", NEW, NEW, "c"]
    assert answers(best, score, dataset, -np.inf).tolist() == ["a", "b", NEW, "c"]
    assert answers(best, score, dataset, {"L": 0.4}).tolist() == ["a", "b", NEW, NEW]


def test_a_threshold_between_neighbouring_scores_tells_them_apart() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    middle = (float(low) + float(high)) / 2
    score, same = np.array([low, high], np.float32), np.array(["L", "L"], object)
    assert answers(np.array(["a", "a"], object), score, same, middle).tolist() == [NEW, "a"]


def test_no_nan() -> None:
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="-inf"):
            judged([("a", False, "L", "1", "a", wrong)])


def drawn(n: int, seed: int, sets: str = "LST") -> Judged:
    """Scores of few values, so that many are equal, and some photographs without a candidate."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(n):
        is_new = bool(rng.random() < 0.4)
        name = rng.choice(list(sets))
        identity = f"{name}{'x' if is_new else 'k'}{rng.integers(4)}"
        best = identity if rng.random() < 0.6 else f"{name}k{rng.integers(4)}"
        score = -np.inf if rng.random() < 0.05 else rng.integers(12) / 8 + (0 if is_new else 0.25)
        rows.append((identity, is_new, name, str(place // 2), best, score))
    return judged(rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_sweep_is_what_each_threshold_gives(seed: int) -> None:
    given = drawn(60, seed)
    curve = sweep(given)
    finite = given.score[given.score > -np.inf]
    assert len(curve) == len(np.unique(finite)) + 1
    assert curve["low"].iloc[0] == -np.inf and curve["high"].iloc[-1] == np.inf
    for low, high, *expected in curve.to_numpy().tolist():
        for threshold in ((max(low, -9) + min(high, 9)) / 2, min(high, 9)):
            found = figures(given, given.answers(threshold))
            assert [found[name] for name in ("baks", "baus", "score")] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_reaches_the_best_score(seed: int) -> None:
    given = drawn(60, seed)
    found = thresholds(given, per_dataset=False)
    assert list(found) == ["L", "S", "T"] and len(set(found.values())) == 1
    assert figures(given, given.answers(found))["score"] == pytest.approx(sweep(given)["score"].max())
    own = thresholds(given, per_dataset=True)
    reached = figures(given, given.answers(own))
    for name, threshold in own.items():
        part = given.where(given.dataset == name)
        assert reached["datasets"][name]["score"] == pytest.approx(sweep(part)["score"].max())
        assert np.isfinite(threshold)
    assert reached["score"] >= figures(given, given.answers(found))["score"] - 1e-12


def test_the_middle_of_a_plateau() -> None:
    rows = [
        ("x", True, "L", "1", "a", 0.2),
        ("a", False, "L", "2", "b", 0.4),  # wrong, so from 0.2 up to 0.8 nothing changes
        ("a", False, "L", "3", "a", 0.8),
    ]
    curve = sweep(judged(rows))
    assert curve["score"].tolist() == pytest.approx([0, 0.5**0.5, 0.5**0.5, 0])
    assert best_threshold(curve) == pytest.approx(0.5)


def test_of_two_plateaus_the_widest() -> None:
    rows = [
        ("x", True, "L", "1", "a", 0.1),
        ("a", False, "L", "2", "a", 0.2),
        ("y", True, "L", "3", "a", 0.3),
        ("b", False, "L", "4", "b", 0.9),
    ]
    # above 0.1: (1, 1/2); above 0.2: (1/2, 1/2); above 0.3: (1/2, 1)
    curve = sweep(judged(rows))
    assert curve["score"].tolist() == pytest.approx([0, 0.5**0.5, 0.5, 0.5**0.5, 0])
    assert best_threshold(curve) == pytest.approx(0.6)


def test_ends_of_the_curve() -> None:
    assert best_threshold(sweep(judged([]))) == 0
    assert thresholds(judged([]), per_dataset=True) == {}
    without = judged([("x", True, "L", "1", "", -np.inf)])
    assert sweep(without)[["baks", "baus"]].to_numpy().tolist() == [[0, 1]]
    # no score is ever above 0 where all are known: one plateau from the lowest score to above the highest
    known = judged([("a", False, "L", "1", "a", 0.25), ("a", False, "L", "2", "a", 0.75)])
    assert best_threshold(sweep(known)) == pytest.approx(0.5)
    # all are new in the highest plateau alone
    ends = judged([("a", False, "L", "1", "b", 0.25), ("x", True, "L", "2", "a", 0.75)])
    assert sweep(ends)["baus"].tolist() == [0, 0, 1]


def test_intervals_hold_the_figures_and_have_no_width_where_nothing_differs() -> None:
    given = drawn(300, 0)
    answer = given.answers(0.6)
    found, bounds = figures(given, answer), intervals(given, answer, resamples=200, seed=0)
    for figure_name in ("baks", "baus", "score"):
        low, high = bounds[figure_name]
        assert low < found[figure_name] < high
        assert high - low < 0.4
        for name in "LST":
            low, high = bounds["datasets"][name][figure_name]
            assert low <= found["datasets"][name][figure_name] <= high
    right = judged([("a", False, "L", "1", "a", 0.9), ("x", True, "L", "2", "a", 0.1)])
    assert intervals(right, right.answers(0.5), resamples=20, seed=0)["score"] == (1, 1)
    nothing = intervals(judged([]), np.zeros(0, object), resamples=20, seed=0)
    assert nothing == {"datasets": {}, "baks": (0, 0), "baus": (0, 0), "score": (0, 0)}
    only_known = intervals(right.where(~right.is_new), np.array(["a"], object), resamples=20, seed=0)
    assert only_known["datasets"]["L"] == {"baks": (1, 1), "baus": (0, 0), "score": (0, 0)}


def test_photographs_of_an_encounter_come_together() -> None:
    """Two encounters of one individual, one all right and one all wrong: a resample has one of them, or both."""
    rows = [("a", False, "L", str(n // 4), "a" if n < 4 else "b", 0.9) for n in range(8)]
    given = judged(rows)
    assert intervals(given, given.answers(0.5), resamples=400, seed=0)["baks"] == (0, 1)


def test_both_copies_of_an_encounter_come_together() -> None:
    """Stand-ins: where 1 is drawn alone BAKS is 1 and BAUS 0, and where 2 is the reverse; where both are, 0.5 each."""
    rows = [("a", False, "L", "1", "a", 0.9), ("b", False, "L", "2", "a", 0.9)]
    again = [("a", True, "L", "1", "b", 0.9), ("b", True, "L", "2", "a", 0.1)]
    given = judged([*rows, *again])
    found = intervals(given, given.answers(0.5), resamples=400, seed=0)
    assert (found["baks"], found["baus"], found["score"]) == ((0, 1), (0, 1), (0, 0.5))


def test_individuals_weigh_the_same_in_the_intervals() -> None:
    """All in one encounter, which is always drawn whole: a is right, and b is wrong three times."""
    given = judged([("a", False, "L", "1", "a", 0.9), *[("b", False, "L", "1", "a", 0.9)] * 3])
    assert intervals(given, given.answers(0.5), resamples=20, seed=0)["baks"] == (0.5, 0.5)
