import numpy as np
import pytest

from instar.detectors import Boxes
from instar.masks import from_bitmaps
from instar.tiles import cut_flags, joined, shifted, tile_boxes


def boxes(*rows: tuple[float, ...]) -> Boxes:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4])


def test_no_boxes() -> None:
    assert len(joined([])) == len(joined([boxes(), boxes()])) == 0
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


def test_shifted_and_joined_keep_masks_and_whether_the_detector_was_full() -> None:
    bar = from_bitmaps([np.ones((2, 1))], [(1, 2)])
    one = Boxes(np.array([[1, 2, 2, 4]], np.float32), np.ones(1, np.float32), True, bar)
    found = joined([shifted(one, 10, 20), boxes(), one])
    assert found.masks is not None and found.full
    assert found.masks.boxes().tolist() == found.boxes_xyxy.tolist() == [[11, 22, 12, 24], [1, 2, 2, 4]]
    assert joined([boxes(), boxes()]).masks is None and not joined([boxes()]).full
    with pytest.raises(ValueError, match="some parts have masks"):
        joined([one, boxes((1, 2, 3, 4, 0.5))])


def test_cut_by_an_inner_edge_only() -> None:
    rows = [[100, 40, 130, 60], [150, 40, 200, 60], [170, 40, 198.6, 60], [170, 40, 198.4, 60], [120, 0, 130, 20]]
    rows += [[120, 80, 130, 99], [100, 0, 200, 100]]
    found = np.array(rows, np.float32)
    region = (0, 0, 300, 100)
    # the tile's left and right edges are inner ones; above and below the photograph ends
    flags = cut_flags(found, (100, 0, 200, 100), region, tolerance_px=1.5)
    assert flags.tolist() == [True, True, True, False, False, False, True]
    assert cut_flags(found, (100, 0, 200, 100), (100, 0, 200, 100), tolerance_px=1.5).tolist() == [False] * 7
    assert cut_flags(found[:0], (100, 0, 200, 100), region, tolerance_px=1.5).tolist() == []
    # the region that is searched may be a part of the photograph
    assert cut_flags(found, (100, 0, 200, 100), (100, 0, 300, 100), tolerance_px=0).tolist() == [False, True] + [
        False
    ] * 4 + [True]
