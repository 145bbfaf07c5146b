"""Merging what tiles found: SAHI's rules as SAHI has them, on masks, and across seams."""

import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
from sahi.postprocess import combine
from sahi.postprocess.backends import set_postprocess_backend
from sahi.prediction import ObjectPrediction

from instar.detectors import Boxes
from instar.masks import from_bitmaps, no_masks
from instar.merge import Merged, Metric, Rule, merged

RULES: list[Rule] = ["greedy_nmm", "nmm", "nms"]
METRICS: list[Metric] = ["iou", "ios"]
SAHI = {"greedy_nmm": "GreedyNMMPostprocess", "nmm": "NMMPostprocess", "nms": "NMSPostprocess"}
#: Of the best one's score: what studies give where scores go down to guesses.
COMPARABLE = 0.5
TILED: dict[str, Any] = {"rule": "greedy_nmm", "metric": "ios", "threshold": 0.5, "comparable": COMPARABLE}


def boxes(*rows: tuple[float, ...]) -> Boxes:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4])


def kept(found: Merged) -> list[list[float]]:
    return np.column_stack([found.boxes.boxes_xyxy, found.boxes.scores]).astype(np.float64).round(6).tolist()


def by_sahi(rule: Rule, metric: Metric, threshold: float, found: Boxes, classes: np.ndarray | None) -> list[Any]:
    set_postprocess_backend("numpy")
    numbers = np.zeros(len(found), int) if classes is None else classes
    rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), numbers.tolist(), strict=True)
    predictions = [ObjectPrediction(bbox=box, score=score, category_id=one) for box, score, one in rows]
    process = getattr(combine, SAHI[rule])(threshold, metric.upper(), classes is None)
    return sorted([*map(float, one.bbox.to_xyxy()), one.score.value] for one in process(predictions))


def assert_equals_sahi(found: Boxes, classes: np.ndarray, thresholds: tuple[float, ...] = (0.5,)) -> None:
    for rule, metric, threshold, given in product(RULES, METRICS, thresholds, (None, classes)):
        expected = by_sahi(rule, metric, threshold, found, given)
        ours = merged(found, rule=rule, metric=metric, threshold=threshold, classes=given)
        rows = np.column_stack([ours.boxes.boxes_xyxy, ours.boxes.scores]).astype(np.float64)
        assert sorted(rows.tolist()) == expected, (rule, metric, threshold)
        assert ours.members.sum() == len(found)
        assert found.scores[ours.best].tolist() == ours.boxes.scores.tolist()


@pytest.mark.parametrize(("rule", "metric", "whole_first"), list(product(RULES, METRICS, (False, True))))
def test_nothing(rule: Rule, metric: Metric, whole_first: bool) -> None:
    for found in (boxes(), Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), True, no_masks())):
        result = merged(
            found,
            rule=rule,
            metric=metric,
            threshold=0.5,
            classes=np.zeros(0, int),
            tiles=np.zeros((0, 4)),
            whole_first=whole_first,
        )
        assert kept(result) == result.members.tolist() == result.cut.tolist() == result.best.tolist() == []
        assert (result.boxes.masks is None) == (found.masks is None) and result.boxes.full == found.full


# --- SAHI's own cases: boxes


@pytest.mark.parametrize("seed", range(12))
def test_equals_sahi_on_crowds_with_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, grid = int(generator.integers(1, 90)), [0.01, 0.5, 2.0, 4.0][seed % 4]
    corners = generator.uniform(0, [15, 60][seed % 2], (n, 2)) // grid * grid
    sides = (generator.uniform(0, 16, (n, 2)) // grid + 1) * grid
    scores = (generator.integers(1, [5, 1000][seed % 3 == 0], n) / 1000).astype(np.float32)
    found = Boxes(np.column_stack([corners, corners + sides]).astype(np.float32), scores)
    assert_equals_sahi(found, generator.integers(0, 3, n), (0.1, 0.25, 0.5, 0.6, 1.0))


@pytest.mark.parametrize("side", [3000, 120])  # few neighbours, and so many that SAHI goes another way
def test_equals_sahi_on_thousands(side: int) -> None:
    generator = np.random.default_rng(side)
    corners = generator.integers(0, side, (2100, 2))
    found = np.column_stack([corners, corners + generator.integers(10, 60, (2100, 2))]).astype(np.float32)
    assert_equals_sahi(
        Boxes(found, generator.integers(1, 50, 2100).astype(np.float32) / 50), generator.integers(0, 2, 2100)
    )


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 0, 10, 10, 0.5), (10, 0, 20, 10, 0.5), (0, 10, 10, 20, 0.4)],  # touching
        [(0, 0, 10, 10, 0.5)] * 4,  # equal
        [(0, 0, 10, 10, 0.5), (5, 0, 15, 10, 0.5), (10, 0, 20, 10, 0.5)],  # a chain of equal scores, met exactly
        [(0, 0, 10, 10, 0.5), (5, 0, 15, 10, 0.6), (10, 0, 20, 10, 0.4)],
        [(0, 0, 10, 10, 0.9), (0, 0, 10, 0, 0.5), (3, 3, 3, 3, 0.5), (3, 3, 3, 3, 0.5)],  # without an area
        # 8,400,900 of 16,801,801 px: a half in float32, by which SAHI takes up, and less in float64, by which it grows
        [(0, 0, 4099, 4099, 0.9), (2049, 1, 9000, 9000, 0.8)],
    ],
)
def test_equals_sahi_in_special_cases(rows: list[tuple[float, ...]]) -> None:
    assert_equals_sahi(boxes(*rows), np.arange(len(rows)) % 2, (0.2, 0.5, 1 / 3, 1.0))


@pytest.mark.parametrize("rule", RULES)
def test_portions_change_nothing(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    corners = generator.integers(0, 100, (300, 2))
    found = Boxes(np.column_stack([corners, corners + 12]).astype(np.float32), generator.random(300, np.float32))
    cut = generator.random(300) < 0.5
    at_once = [
        kept(merged(found, rule=rule, metric="iou", threshold=0.3, cut=cut, whole_first=w)) for w in (False, True)
    ]
    monkeypatch.setattr("instar.merge.PAIRS_AT_ONCE", 1)
    monkeypatch.setattr("instar.merge.ASKED_AT_FIRST", 1)
    assert at_once == [
        kept(merged(found, rule=rule, metric="iou", threshold=0.3, cut=cut, whole_first=w)) for w in (False, True)
    ]


@pytest.mark.parametrize("rule", RULES)
def test_a_pile_does_not_fill_the_memory(rule: Rule) -> None:
    # 18 million pairs, 290 MB as two columns of int64
    corners = np.random.default_rng(0).uniform(0, 1, (6000, 2))
    pile = np.column_stack([corners, corners + 30]).astype(np.float32)
    tracemalloc.start()
    found = merged(Boxes(pile, np.linspace(0.1, 1, 6000, dtype=np.float32)), rule=rule, metric="ios", threshold=0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.members.tolist() == [6000]
    assert peak < 60e6


def test_a_pile_that_nothing_takes_up_does_not_fill_the_memory_either(monkeypatch: pytest.MonkeyPatch) -> None:
    # 4 million pairs, of which 131,000 may be looked at in one go
    monkeypatch.setattr("instar.merge.PAIRS_AT_ONCE", 1 << 17)
    corners = np.random.default_rng(0).uniform(0, 10, (2000, 2))
    pile = np.column_stack([corners, corners + 30]).astype(np.float32)
    tracemalloc.start()
    found = merged(Boxes(pile, np.linspace(0.1, 1, 2000, dtype=np.float32)), rule="nms", metric="iou", threshold=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.boxes) == 2000
    assert peak < 30e6


# --- scores that go down to guesses


def test_joins_halves_of_one_animal() -> None:
    # the right box lies with 60 of its 100 pixels in the left one
    found = merged(boxes((0, 0, 20, 10, 0.6), (14, 0, 24, 10, 0.8), (100, 100, 110, 110, 0.3)), **TILED)
    assert kept(found) == [[0, 0, 24, 10, 0.8], [100, 100, 110, 110, 0.3]]
    assert found.members.tolist() == [2, 1] and found.best.tolist() == [1, 2]


def test_keeps_neighbours_below_the_threshold() -> None:
    assert len(merged(boxes((0, 0, 20, 10, 0.6), (14, 0, 24, 10, 0.8)), **{**TILED, "threshold": 0.7}).boxes) == 2


def test_merges_below_a_confidence_of_a_tenth_too() -> None:
    assert kept(merged(boxes((0, 0, 20, 10, 0.05), (14, 0, 24, 10, 0.06)), **TILED)) == [[0, 0, 24, 10, 0.06]]


def test_does_not_grow_by_guesses() -> None:
    # the first box lies in a guess of a hundredth of its score, as always where scores go down to 0.01
    found = merged(boxes((40, 40, 60, 60, 0.9), (0, 0, 100, 100, 0.01), (50, 40, 70, 60, 0.5)), **TILED)
    assert found.boxes.boxes_xyxy.tolist() == [[40, 40, 70, 60]]


def test_takes_thousands_of_boxes() -> None:
    corners = np.random.default_rng(0).uniform(0, 8000, (5000, 2)).astype(np.float32)
    found = Boxes(np.concatenate([corners, corners + 30], axis=1), np.linspace(0.01, 1, 5000, dtype=np.float32))
    assert 4000 < len(merged(found, **TILED).boxes) < 5000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "lsnms"}, "rule = lsnms"),
        ({"metric": "giou"}, "metric = giou"),
        ({"threshold": 0}, "threshold = 0"),
        ({"threshold": 1.1}, "threshold = 1.1"),
        ({"comparable": -0.1}, "comparable = -0.1"),
        ({"covered": 0}, "covered = 0"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merged(boxes(), **{**TILED, **settings})


# --- masks


def drawn(*bitmaps: Any, scores: list[float], corners: list[tuple[int, int]] | None = None) -> Boxes:
    masks = from_bitmaps([np.array(one, bool) for one in bitmaps], corners)
    return Boxes(masks.boxes(), np.array(scores, np.float32), masks=masks)


def bars(*rows: tuple[float, ...]) -> Boxes:
    """Filled rectangles: x_min, y_min, x_max, y_max, score."""
    sides = [(int(y2 - y1), int(x2 - x1)) for x1, y1, x2, y2, _ in rows]
    return drawn(*map(np.ones, sides), scores=[row[4] for row in rows], corners=[(int(x), int(y)) for x, y, *_ in rows])


def areas(found: Merged) -> list[int]:
    assert found.boxes.masks is not None
    return found.boxes.masks.areas().tolist()


def test_masks_are_matched_and_not_their_boxes() -> None:
    diagonals = drawn(np.eye(5), np.eye(5)[::-1], scores=[0.9, 0.8])
    assert by_sahi("greedy_nmm", "ios", 0.5, diagonals, None) == [[0, 0, 5, 5, pytest.approx(0.9)]]
    for rule, metric in product(RULES, METRICS):
        assert areas(merged(diagonals, rule=rule, metric=metric, threshold=0.5)) == [5, 5]
    # they share one pixel of five each, and of nine together
    assert areas(merged(diagonals, rule="greedy_nmm", metric="ios", threshold=0.2)) == [9]
    assert areas(merged(diagonals, rule="greedy_nmm", metric="ios", threshold=0.21)) == [5, 5]
    assert areas(merged(diagonals, rule="greedy_nmm", metric="iou", threshold=1 / 9)) == [9]
    assert areas(merged(diagonals, rule="greedy_nmm", metric="iou", threshold=0.112)) == [5, 5]


def test_the_union_keeps_a_hole_and_what_lies_in_it() -> None:
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    found = merged(drawn(ring, ring[:, :2], [[0, 0, 0], [0, 1, 0]], scores=[0.7, 0.9, 0.8]), **TILED)
    assert areas(found) == [8, 1] and found.members.tolist() == [2, 1]
    assert found.boxes.masks is not None
    assert np.array_equal(found.boxes.masks.bitmap(0, (0, 0, 3, 3)), ring)
    assert kept(found) == [[0, 0, 3, 3, 0.9], [1, 1, 2, 2, 0.8]]


def test_nms_leaves_masks_as_they_are() -> None:
    found = merged(bars((0, 0, 4, 1, 0.9), (2, 0, 6, 1, 0.8)), rule="nms", metric="ios", threshold=0.5)
    assert areas(found) == [4] and found.members.tolist() == [2]


def test_an_empty_mask_meets_nothing() -> None:
    found = drawn(np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), scores=[0.9, 0.8, 0.7])
    for rule, metric in product(RULES, METRICS):
        assert areas(merged(found, rule=rule, metric=metric, threshold=0.01)) == [4, 0, 0]


def test_two_large_ones_do_not_become_one_over_a_small_one() -> None:
    # both hold the best one, but they share nothing else: the second one disappears without being drawn in
    found = bars((10, 0, 12, 1, 0.9), (0, 0, 12, 1, 0.8), (10, 0, 22, 1, 0.7))
    for one in (found, Boxes(found.boxes_xyxy, found.scores)):
        result = merged(one, **TILED)
        assert kept(result) == [[0, 0, 12, 1, 0.9]] and result.members.tolist() == [3]
    assert areas(merged(found, **TILED)) == [12]


def test_nmm_takes_up_what_its_members_overlap() -> None:
    chain = bars((0, 0, 4, 1, 0.9), (2, 0, 6, 1, 0.8), (4, 0, 8, 1, 0.7))
    settings: dict[str, Any] = {"metric": "ios", "threshold": 0.5}
    assert areas(merged(chain, rule="greedy_nmm", **settings)) == [6, 4]
    assert areas(merged(chain, rule="nmm", **settings)) == [8]


def test_classes_do_not_meet() -> None:
    found = bars((0, 0, 4, 1, 0.9), (0, 0, 4, 1, 0.8), (0, 0, 4, 1, 0.7))
    result = merged(found, **TILED, classes=np.array([1, 2, 1]))
    assert result.members.tolist() == [2, 1] and result.best.tolist() == [0, 1]


@pytest.mark.parametrize("rule", ["greedy_nmm", "nms"])
@pytest.mark.parametrize("whole_first", [False, True])
def test_the_order_of_the_predictions_does_not_matter(rule: Rule, whole_first: bool) -> None:
    generator = np.random.default_rng(5)
    pictures = generator.random((60, 6, 6)) < 0.7
    corners = [(int(x), int(y)) for x, y in generator.integers(0, 20, (60, 2))]
    masks = from_bitmaps(pictures, corners)
    # many of one score and box that differ by their masks alone
    found = Boxes(np.floor(masks.boxes() / 8) * 8, generator.integers(1, 4, 60).astype(np.float32) / 4, masks=masks)
    cut, tiles = generator.random(60) < 0.4, np.tile([0, 0, 30, 30], (60, 1))
    results = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(60)
        one = merged(
            found.take(order),
            rule=rule,
            metric="ios",
            threshold=0.4,
            cut=cut[order],
            tiles=tiles[order],
            whole_first=whole_first,
        )
        assert one.boxes.masks is not None
        results.append((kept(one), one.members.tolist(), one.cut.tolist(), one.boxes.masks.rle(40, 40)))
    assert all(one == results[0] for one in results) and 2 < len(results[0][0]) < 60


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rule", "metric"), list(product(RULES, METRICS)))
def test_rectangles_as_masks_are_merged_like_boxes(seed: int, rule: Rule, metric: Metric) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 40, (50, 2))
    rows = np.column_stack([corners, corners + generator.integers(1, 15, (50, 2)), generator.integers(1, 9, 50) / 8])
    found = bars(*map(tuple, rows))
    settings: dict[str, Any] = {"rule": rule, "metric": metric, "threshold": 0.5}
    plain = merged(Boxes(found.boxes_xyxy, found.scores), **settings)
    result = merged(found, **settings)
    # a union of rectangles is less than the box around it, so what has grown may meet less
    if rule == "nms":
        assert kept(result) == kept(plain)
    assert result.best.tolist() == plain.best.tolist() and result.members.tolist() == plain.members.tolist()


# --- seams


LEFT, RIGHT, MIDDLE = (0, 0, 60, 40), (40, 0, 100, 40), (20, 0, 80, 40)
SEAMS: dict[str, Any] = {"rule": "greedy_nmm", "metric": "iou", "threshold": 0.5, "whole_first": True}


def test_all_members_must_be_cut() -> None:
    found = bars((0, 0, 4, 1, 0.9), (0, 0, 4, 1, 0.8), (10, 0, 14, 1, 0.7), (10, 0, 14, 1, 0.6))
    assert merged(found, **TILED, cut=np.array([1, 0, 1, 1])).cut.tolist() == [False, True]
    assert merged(found, **TILED).cut.tolist() == [False, False]


def test_a_cut_one_gives_way_to_a_whole_one_that_covers_it() -> None:
    # the better one is the cut half of the other
    found = bars((30, 10, 40, 20, 0.9), (20, 10, 40, 20, 0.6))
    result = merged(found, **SEAMS, cut=np.array([True, False]))
    assert kept(result) == [[20, 10, 40, 20, 0.9]]  # there is an animal as surely as the half says
    assert (areas(result), result.members.tolist(), result.cut.tolist()) == ([200], [2], [False])
    assert len(merged(found, **SEAMS, cut=np.array([True, False]), classes=np.array([1, 2])).boxes) == 2
    # without the rule the half is the better one of two
    assert len(merged(found, **{**SEAMS, "whole_first": False}, cut=np.array([True, False])).boxes) == 1


def test_a_small_whole_one_does_not_swallow_a_large_cut_one() -> None:
    found = bars((0, 10, 60, 20, 0.9), (20, 12, 30, 18, 0.6))
    result = merged(found, **SEAMS, cut=np.array([True, False]))
    assert areas(result) == [600, 60] and result.cut.tolist() == [True, False]


def test_a_cut_one_goes_to_the_one_that_covers_most_of_it() -> None:
    found = bars((0, 0, 14, 10, 0.9), (6, 0, 26, 10, 0.8), (10, 0, 18, 10, 0.95))
    result = merged(found, **SEAMS, cut=np.array([False, False, True]))
    # the score of what it took up puts the second one first
    assert result.members.tolist() == [2, 1] and areas(result) == [200, 140]


def test_a_neighbour_does_not_swallow_a_cut_one_whatever_the_threshold() -> None:
    # cut parts 30-60 and 40-70 of one insect, and a whole neighbour that covers 9 of the first one's 30 columns
    found = bars((30, 0, 60, 10, 0.9), (40, 0, 70, 10, 0.8), (21, 0, 39, 10, 0.7))
    cut, tiles = np.array([True, True, False]), np.array([(0, 0, 60, 40), (40, 0, 100, 40), (0, 0, 60, 40)])
    loose = {**SEAMS, "threshold": 0.3}
    assert kept(merged(found, **loose, cut=cut, tiles=tiles)) == [[30, 0, 70, 10, 0.9], [21, 0, 39, 10, 0.7]]
    # a part that is covered by half gives way, however strict the threshold is
    half = bars((0, 0, 20, 10, 0.9), (10, 0, 40, 10, 0.8))
    strict = {**SEAMS, "threshold": 0.9}
    assert kept(merged(half, **strict, cut=np.array([True, False]))) == [[10, 0, 40, 10, 0.9]]


@pytest.mark.parametrize("score, left", [(0.02, [1, 2]), (0.8, [3])])
def test_a_guess_within_the_tile_that_cuts_is_not_the_whole_animal(score: float, left: list[int]) -> None:
    # 0-70 is longer than what both tiles show, 31-60; a fragment of it lies there
    found = bars((0, 0, 60, 10, 0.95), (31, 0, 70, 10, 0.94), (31, 0, 60, 10, score))
    cut, tiles = np.array([True, True, False]), np.array([(0, 0, 60, 40), (31, 0, 91, 40), (0, 0, 60, 40)])
    result = merged(found, **{**SEAMS, "threshold": 0.3, "comparable": 0.5}, cut=cut, tiles=tiles, covered=0.4)
    assert sorted(result.members.tolist()) == left


def test_a_guess_that_reaches_beyond_the_tile_is_the_whole_animal() -> None:
    found = bars((30, 0, 60, 10, 0.95), (35, 0, 75, 10, 0.03))
    tiles = np.array([(0, 0, 60, 40), (31, 0, 91, 40)])
    result = merged(found, **{**SEAMS, "comparable": 0.5}, cut=np.array([True, False]), tiles=tiles)
    assert kept(result) == [[35, 0, 75, 10, 0.95]]


def test_a_cut_one_that_no_whole_one_covers_stays() -> None:
    result = merged(bars((0, 0, 10, 10, 0.9), (6, 0, 16, 10, 0.8)), **SEAMS, cut=np.array([False, True]))
    assert areas(result) == [100, 100]


@pytest.mark.parametrize("masks", [True, False])
def test_parts_of_a_long_one_are_joined_where_they_agree(masks: bool) -> None:
    # 96 px long, seen to 60 in the left tile and from 40 in the right one; IOS is 20 of 56, IOU less
    found = bars((2, 10, 60, 20, 0.7), (40, 10, 98, 20, 0.8))
    found = found if masks else Boxes(found.boxes_xyxy, found.scores)
    both: dict[str, Any] = {"cut": np.ones(2, bool), "tiles": np.array([LEFT, RIGHT])}
    result = merged(found, **SEAMS, **both)
    assert kept(result) == [[2, 10, 98, 20, 0.8]]
    assert (result.members.tolist(), result.cut.tolist(), result.best.tolist()) == ([2], [True], [1])
    assert not masks or areas(result) == [960]
    assert len(merged(found, **SEAMS, cut=np.ones(2, bool)).boxes) == 2  # their tiles unknown
    assert len(merged(found, **SEAMS, **both, classes=np.array([1, 2])).boxes) == 2


def test_parts_of_two_that_lie_over_each_other_at_the_seam_are_not_joined() -> None:
    # in what both tiles show, x 40 to 60, they have 200 and 180 px and share 54
    two = bars((2, 10, 60, 20, 0.7), (42, 17, 98, 27, 0.8))
    result = merged(two, **SEAMS, cut=np.ones(2, bool), tiles=np.array([LEFT, RIGHT]))
    assert areas(result) == [560, 580] and result.members.tolist() == [1, 1]


def test_a_chain_of_parts_is_one_and_guesses_do_not_widen_it() -> None:
    found = bars((2, 10, 60, 20, 0.5), (20, 10, 80, 20, 0.9), (40, 10, 98, 20, 0.6), (40, 9, 80, 20, 0.1))
    tiles = np.array([LEFT, MIDDLE, RIGHT, (40, 0, 80, 40)])
    settings = {**SEAMS, "comparable": COMPARABLE}
    result = merged(found, **settings, cut=np.ones(4, bool), tiles=tiles)
    assert kept(result) == [[2, 10, 98, 20, 0.9]] and result.members.tolist() == [4]
    assert areas(result) == [960]


def test_whole_ones_become_what_they_agree_on() -> None:
    found = bars((0, 0, 10, 10, 0.5), (1, 0, 11, 10, 0.5), (1, 1, 11, 11, 0.5))
    [area] = areas(merged(found, **SEAMS))
    assert area == 9 * 10 + 9  # in two of three: x 1–9 and y 0–9, and x 10, y 1–9
    two = found.take(np.array([0, 1]))
    assert kept(merged(two, **SEAMS)) == [[0, 0, 10, 10, 0.5]]  # of two the better one is right, of equals the first
    assert areas(merged(found, **{**SEAMS, "rule": "nms"})) == [100]
    weak = Boxes(found.boxes_xyxy, np.array([0.9, 0.3, 0.3], np.float32), masks=found.masks)
    assert kept(merged(weak, **SEAMS, comparable=COMPARABLE)) == [[0, 0, 10, 10, pytest.approx(0.9)]]


def test_whole_ones_that_agree_on_nothing_leave_the_best_one() -> None:
    # four quarters of the best one: each pixel has its vote and a quarter's, 0.59 of 1.46
    quarters = [(3, 3, 5, 5), (5, 3, 7, 5), (3, 5, 5, 7), (5, 5, 7, 7)]
    found = bars((3, 3, 7, 7, 0.3), *((*one, 0.29) for one in quarters))
    result = merged(found, **{**SEAMS, "metric": "ios"})
    assert result.members.tolist() == [5] and areas(result) == [16] and kept(result) == [[3, 3, 7, 7, 0.3]]
