import numpy as np
import pytest

from instar.masks import from_bitmaps, no_masks
from instar.metrics.areas import area_histogram, covered, pixel_areas, shares, size_of


def squares(*corners: tuple[int, int], side: int = 4) -> list[tuple[np.ndarray, tuple[int, int]]]:
    return [(np.ones((side, side), bool), corner) for corner in corners]


def test_areas_of_nothing() -> None:
    nothing = {"true_positive": 0, "false_positive": 0, "false_negative": 0}
    assert pixel_areas(no_masks(), no_masks()) == nothing
    assert shares(nothing) == {"true_positive": None, "false_positive": None, "false_negative": None}
    assert covered(no_masks(2)) == 0
    assert area_histogram({}) == area_histogram({"annotated": np.zeros(0, np.int64)}) == []
    one = from_bitmaps([np.ones((2, 3), bool)])
    assert pixel_areas(one, no_masks()) == {**nothing, "false_positive": 6}
    assert pixel_areas(no_masks(), one) == {**nothing, "false_negative": 6}


def test_pixel_areas_by_hand() -> None:
    truth = from_bitmaps(*zip(*squares((0, 0), (2, 0)), strict=True))  # 4 by 6 pixels together
    found = from_bitmaps(*zip(*squares((4, 2), (4, 2), (-1, -1)), strict=True))
    assert covered(truth) == 24
    # two equal detections cover 2 by 2 pixels of the animals; the third one 3 by 3
    areas = pixel_areas(found, truth)
    assert areas == {"true_positive": 4 + 9, "false_positive": 12 + 7, "false_negative": 24 - 13}
    assert shares(areas) == pytest.approx(
        {"true_positive": 13 / 43, "false_positive": 19 / 43, "false_negative": 11 / 43}
    )


@pytest.mark.parametrize("seed", range(3))
def test_pixel_areas_equal_those_of_bitmaps(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found, truth = (list(generator.random((5, 20, 30)) < 0.2) for _ in range(2))
    ours, others = np.any(found, axis=0), np.any(truth, axis=0)
    expected = [(ours & others).sum(), (ours & ~others).sum(), (~ours & others).sum()]
    assert list(pixel_areas(from_bitmaps(found), from_bitmaps(truth)).values()) == expected


def test_area_histogram_by_hand() -> None:
    rows = area_histogram({"annotated": np.array([0, 15, 16, 31, 128]), "detected": np.array([16])})
    assert [tuple(row.values()) for row in rows] == [
        (8, 16, 1, 0),
        (16, 32, 2, 1),
        (32, 64, 0, 0),
        (64, 128, 0, 0),
        (128, 256, 1, 0),
    ]
    assert list(rows[0]) == ["from_px", "below_px", "annotated", "detected"]


def test_an_area_at_which_a_size_begins_is_of_that_size() -> None:
    assert size_of(np.zeros(0), [144, 1024]).tolist() == []
    assert size_of(np.array([15, 143, 144, 1023, 1024, 83_182]), [144, 1024]).tolist() == [0, 0, 1, 1, 2, 2]
