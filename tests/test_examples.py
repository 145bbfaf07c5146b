"""Photographs to learn from, cut into tiles."""

import numpy as np
import pytest

from instar.detectors import Example
from instar.examples import Tiling, tiled
from instar.masks import from_bitmaps, no_masks


def photograph(*boxes: tuple[int, int, int, int], masks: bool = False) -> Example:
    """120 × 60 pixels whose value tells their column, with animals that fill their boxes."""
    picture = np.repeat(np.tile(np.arange(120, dtype=np.uint8), (60, 1))[..., None], 3, axis=2)
    outlines = from_bitmaps((np.ones((y2 - y1, x2 - x1)) for x1, y1, x2, y2 in boxes), ((x, y) for x, y, _, _ in boxes))
    return Example("p", "train", picture, np.array(boxes, np.float64).reshape(-1, 4), outlines if masks else None)


@pytest.mark.parametrize("masks", [False, True])
def test_tiles_without_animals_are_kept(masks: bool) -> None:
    tiles = list(tiled(photograph(masks=masks), None, Tiling(60, 0.0, 0.1)))
    assert [tile.name for tile in tiles] == ["p_0_0", "p_60_0"]
    assert [tile.boxes_xyxy.shape for tile in tiles] == [(0, 4)] * 2
    assert tiles[1].picture.shape == (60, 60, 3) and tiles[1].picture[0, 0, 0] == 60
    assert tiles[0].split == "train" and (tiles[0].masks is None) is not masks


def test_without_tiles_a_photograph_stays_as_it_is() -> None:
    one = photograph((1, 2, 3, 4))
    assert list(tiled(one, (0, 0, 9, 9), Tiling(0, 0.2, 0.1))) == [one]


@pytest.mark.parametrize("masks", [False, True])
def test_an_animal_is_cut_with_the_tiles_and_a_sliver_of_it_is_not_told(masks: bool) -> None:
    # of 20 columns the first tile shows 18, the second 2: a tenth
    one = photograph((42, 10, 62, 20), masks=masks)
    first, second = tiled(one, None, Tiling(60, 0.0, 0.1))
    assert first.boxes_xyxy.tolist() == [[42, 10, 60, 20]] and second.boxes_xyxy.tolist() == [[0, 10, 2, 20]]
    if masks:
        assert second.masks is not None and second.masks.areas().tolist() == [20]
        assert second.masks.boxes().tolist() == [[0, 10, 2, 20]]
    _, second = tiled(one, None, Tiling(60, 0.0, 0.11))
    assert len(second.boxes_xyxy) == 0 and (second.masks is None or len(second.masks) == 0)


def test_the_share_is_of_the_mask_and_the_box_is_around_what_the_tile_shows() -> None:
    # one row of 20 columns and a full last column: of the box the second tile shows a twentieth, of the mask half
    outline = np.zeros((20, 20), bool)
    outline[0] = outline[:, -1] = True
    one = Example(
        "p",
        "train",
        np.zeros((60, 120, 3), np.uint8),
        np.array([[41.0, 0, 61, 20]]),
        from_bitmaps([outline], [(41, 0)]),
    )
    first, second = tiled(one, None, Tiling(60, 0.0, 0.5))
    assert len(first.boxes_xyxy) == 0
    assert second.boxes_xyxy.tolist() == [[0, 0, 1, 20]]


def test_an_animal_without_pixels_is_in_no_tile() -> None:
    one = Example("p", "train", np.zeros((60, 120, 3), np.uint8), np.array([[1.0, 1, 5, 5]]), no_masks(1))
    assert [len(tile.boxes_xyxy) for tile in tiled(one, None, Tiling(60, 0.0, 0.0))] == [0, 0]


def test_only_the_region_is_cut_into_tiles_and_the_last_ones_are_moved_inwards() -> None:
    one = photograph((60, 30, 70, 40), masks=True)
    tiles = list(tiled(one, (10, 5, 110, 55), Tiling(50, 0.6, 0.1)))
    assert [tile.name for tile in tiles] == ["p_10_5", "p_30_5", "p_50_5", "p_60_5"]
    assert [tile.boxes_xyxy.tolist() for tile in tiles] == [
        [],
        [[30, 25, 40, 35]],
        [[10, 25, 20, 35]],
        [[0, 25, 10, 35]],
    ]
