import numpy as np
import pytest
from sahi.postprocess.combine import GreedyNMMPostprocess
from sahi.prediction import ObjectPrediction

from instar.detectors import Boxes
from instar.tiles import joined, merged, shifted, tile_boxes


def boxes(*rows: tuple[float, ...]) -> Boxes:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4])


def test_no_boxes() -> None:
    assert len(joined([])) == len(joined([boxes(), boxes()])) == 0
    assert len(merged(boxes(), merge_threshold=0.5)) == 0
    assert len(shifted(boxes(), 5, 5)) == 0


@pytest.mark.parametrize("size", [(100, 100), (100, 40), (1, 1)])
def test_tile_boxes_of_small_photograph_is_the_whole(size: tuple[int, int]) -> None:
    assert tile_boxes(*size, tile_px=100, overlap=0.2) == [(0, 0, *size)]


def test_tile_boxes_by_hand() -> None:
    # steps of 80; the last tile of a row moves inwards
    assert tile_boxes(250, 90, tile_px=100, overlap=0.2) == [
        (0, 0, 250, 90),
        (0, 0, 100, 90),
        (80, 0, 180, 90),
        (150, 0, 250, 90),
    ]


@pytest.mark.parametrize("size", [(101, 300), (5464, 8192), (1025, 1024), (3000, 640)])
@pytest.mark.parametrize(("tile_px", "overlap"), [(100, 0.0), (640, 0.25), (1024, 0.2)])
def test_tile_boxes_cover_every_pixel_at_full_size(size: tuple[int, int], tile_px: int, overlap: float) -> None:
    width, height = size
    tiles = tile_boxes(width, height, tile_px=tile_px, overlap=overlap)[1:]
    covered = np.zeros((height, width), bool)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (min(tile_px, width), min(tile_px, height))
        covered[top:bottom, left:right] = True
    assert covered.all() or max(size) <= tile_px
    assert len(set(tiles)) == len(tiles)


def test_shifted_and_joined() -> None:
    found = joined([shifted(boxes((1, 2, 3, 4, 0.9)), 10, 20), boxes((5, 6, 7, 8, 0.1))])
    assert found.boxes_xyxy.tolist() == [[11, 22, 13, 24], [5, 6, 7, 8]]
    assert found.scores == pytest.approx([0.9, 0.1])


def test_merged_joins_halves_of_one_animal() -> None:
    # the right box lies with 60 of its 100 pixels in the left one
    found = merged(boxes((0, 0, 20, 10, 0.6), (14, 0, 24, 10, 0.8), (100, 100, 110, 110, 0.3)), merge_threshold=0.5)
    rows = np.column_stack([found.boxes_xyxy, found.scores]).round(6)
    assert sorted(rows.astype(np.float64).round(6).tolist()) == [[0, 0, 24, 10, 0.8], [100, 100, 110, 110, 0.3]]


def test_merged_keeps_neighbours_below_the_threshold() -> None:
    assert len(merged(boxes((0, 0, 20, 10, 0.6), (14, 0, 24, 10, 0.8)), merge_threshold=0.7)) == 2


def test_merged_merges_below_a_confidence_of_a_tenth_too() -> None:
    found = merged(boxes((0, 0, 20, 10, 0.05), (14, 0, 24, 10, 0.06)), merge_threshold=0.5)
    assert found.boxes_xyxy.tolist() == [[0, 0, 24, 10]]


def test_merged_does_not_grow_by_guesses() -> None:
    # the first box lies in a guess of a hundredth of its score, as always where scores go down to 0.01
    found = merged(boxes((40, 40, 60, 60, 0.9), (0, 0, 100, 100, 0.01), (50, 40, 70, 60, 0.5)), merge_threshold=0.5)
    assert found.boxes_xyxy.tolist() == [[40, 40, 70, 60]]


@pytest.mark.parametrize("seed", range(3))
def test_merged_equals_sahi_where_scores_are_comparable(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 200, (60, 2))
    rows = np.column_stack([corners, corners + generator.uniform(10, 60, (60, 2)), generator.uniform(0.5, 1, 60)])
    predictions = [ObjectPrediction(bbox=row[:4].tolist(), category_id=0, score=row[4]) for row in rows]
    expected = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS")(predictions)
    found = merged(boxes(*map(tuple, rows)), merge_threshold=0.5)
    assert len(found) == len(expected) < 60
    for box, score, one in zip(found.boxes_xyxy, found.scores, expected, strict=True):
        assert [*box, score] == pytest.approx([*one.bbox.to_xyxy(), one.score.value], abs=1e-4)


def test_merged_takes_thousands_of_boxes() -> None:
    corners = np.random.default_rng(0).uniform(0, 8000, (5000, 2)).astype(np.float32)
    found = Boxes(np.concatenate([corners, corners + 30], axis=1), np.linspace(0.01, 1, 5000, dtype=np.float32))
    assert 4000 < len(merged(found, merge_threshold=0.5)) < 5000
