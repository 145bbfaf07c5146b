import numpy as np
import pytest

from instar.detectors.augment import Augmentation, View, coloured, mirrored, turned


def view() -> View:
    picture = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    bitmaps = np.zeros((6, 9, 1), np.uint8)
    bitmaps[1:3, 2:7] = 1
    return View(picture, bitmaps, np.array([[2.0, 1, 7, 3]]))


def bounds(bitmap: np.ndarray) -> list[int]:
    y, x = np.nonzero(bitmap)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_no_animal() -> None:
    nothing = View(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 0), np.uint8), np.zeros((0, 4)))
    found = Augmentation()(nothing, np.random.default_rng(0))
    assert (found.bitmaps.shape[2], found.boxes_xyxy.shape) == (0, (0, 4))


def test_mirrored_by_hand() -> None:
    found = mirrored(view())
    assert found.boxes_xyxy.tolist() == [[2, 1, 7, 3]]  # 9 - 7 and 9 - 2
    assert bounds(found.bitmaps[..., 0]) == [2, 1, 7, 3]
    assert (found.picture[0, 0] == view().picture[0, 8]).all()


@pytest.mark.parametrize(
    ("quarters", "box"), [(0, [2, 1, 7, 3]), (1, [1, 2, 3, 7]), (2, [2, 3, 7, 5]), (3, [3, 2, 5, 7]), (4, [2, 1, 7, 3])]
)
def test_turned_by_hand(quarters: int, box: list[int]) -> None:
    found = turned(view(), quarters)
    assert found.boxes_xyxy.tolist() == [box]
    assert bounds(found.bitmaps[..., 0]) == box
    assert found.picture.shape[:2] == ((9, 6) if quarters % 2 else (6, 9))


def test_coloured_by_hand() -> None:
    picture = np.array([[[100, 50, 0], [50, 50, 250]]], np.uint8)  # mean 83 1/3
    same = coloured(picture, brightness=1, contrast=1, saturation=1)
    assert (same == picture).all()
    assert coloured(picture, brightness=1.5, contrast=1, saturation=1)[0].tolist() == [[150, 75, 0], [75, 75, 255]]
    assert (coloured(picture, brightness=1, contrast=0, saturation=1) == 83).all()
    # 0.299 × 100 + 0.587 × 50 = 59.25
    assert coloured(picture, brightness=1, contrast=1, saturation=0)[0, 0].tolist() == [59, 59, 59]


def test_views_hang_on_the_generator_alone() -> None:
    augmentation = Augmentation()
    first, again, other = (augmentation(view(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (first.picture == again.picture).all()
    assert first.picture.shape != other.picture.shape or (first.picture != other.picture).any()
    still = Augmentation(flip=0, quarter_turns=False, brightness=0, contrast=0, saturation=0)
    assert (still(view(), np.random.default_rng(3)).picture == view().picture).all()


def test_every_published_view_comes() -> None:
    kinds = set()
    shape = View(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.zeros((2, 2, 0), np.uint8), np.zeros((0, 4)))
    plain = Augmentation(brightness=0, contrast=0, saturation=0)
    for seed in range(200):
        kinds.add(plain(shape, np.random.default_rng(seed)).picture[..., 0].tobytes())
    assert len(kinds) == 8  # four turns, each mirrored or not
    factors = [
        Augmentation(contrast=0, saturation=0)(
            View(np.full((1, 1, 3), 100, np.uint8), shape.bitmaps[:1, :1], shape.boxes_xyxy),
            np.random.default_rng(seed),
        ).picture[0, 0, 0]
        for seed in range(200)
    ]
    assert (min(factors), max(factors)) == (85, 115)
