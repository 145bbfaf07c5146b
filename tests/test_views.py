"""Tests of instar.classifier.views."""

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from instar.classifier.views import (
    PADDING_RGB,
    RATIO,
    Window,
    channels_first,
    random_view,
    random_window,
    render,
    render_turned,
    whole_window,
)

RNG = np.random.default_rng
#: 4 x 4 pixels, all different, even
CROP = np.arange(0, 32, 2, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)


def test_windows_of_a_wide_crop() -> None:
    assert whole_window(20, 60) == (0.0, -20.0, 60.0, 40.0)
    rng = RNG(0)
    for _ in range(200):
        x_min, y_min, x_max, y_max = random_window(rng, 20, 60, crop_scale=0.5)
        assert 0 <= x_min < 30 < x_max <= 60
        assert -20 <= y_min < 10 < y_max <= 40
        # whole pixels are at most 1/2 off on each side
        assert 0.5 * 3600 - 60 <= (x_max - x_min) * (y_max - y_min) <= 3600


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2)])
def test_windows_of_a_thin_crop_are_not_empty(shape: tuple[int, int]) -> None:
    rng = RNG(0)
    for _ in range(100):
        x_min, y_min, x_max, y_max = random_window(rng, *shape, crop_scale=0.01)
        assert x_min < x_max
        assert y_min < y_max


@pytest.mark.parametrize(("side", "crop_scale"), [(300, 0.5), (300, 0.08), (48, 0.9), (300, 1.0)])
def test_windows_are_distributed_as_those_of_torchvision(side: int, crop_scale: float) -> None:
    """Area, ratio and place, by Kolmogorov and Smirnov; and how often the whole is shown, a lump of its own."""
    rng, count = RNG(0), 4000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(3, side, side)
        draws = (RandomResizedCrop.get_params(image, [crop_scale, 1.0], list(RATIO)) for _ in range(count))
        theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in draws], float)
    ours = np.array([random_window(rng, side, side // 2, crop_scale=crop_scale) for _ in range(count)])
    ours[:, [0, 2]] += side / 4  # from the crop's corner to the square's
    for figure in (_area, _log_ratio, _left, _top):
        assert _distance(figure(ours), figure(theirs)) < 1.63 * math.sqrt(2 / count), figure.__name__  # at 1 %
    whole = [(_area(windows) == side**2).mean() for windows in (ours, theirs)]
    assert abs(whole[0] - whole[1]) < 0.02


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """The largest between two empirical distribution functions."""
    at = np.concatenate([first, second])
    ranks = (np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (first, second))
    return float(np.abs(np.subtract(*ranks)).max())


def _area(windows: np.ndarray) -> np.ndarray:
    return np.asarray((windows[:, 2] - windows[:, 0]) * (windows[:, 3] - windows[:, 1]))


def _log_ratio(windows: np.ndarray) -> np.ndarray:
    return np.asarray(np.log((windows[:, 2] - windows[:, 0]) / (windows[:, 3] - windows[:, 1])))


def _left(windows: np.ndarray) -> np.ndarray:
    return np.asarray(windows[:, 0])


def _top(windows: np.ndarray) -> np.ndarray:
    return np.asarray(windows[:, 1])


def test_render_pads_what_lies_beyond_the_crop() -> None:
    crop = np.full((2, 4, 3), 10, dtype=np.uint8)
    crop[:, 2:] = 200
    view = render(crop, whole_window(2, 4), 8)
    assert view.shape == (8, 8, 3)
    np.testing.assert_array_equal(view[:2], np.broadcast_to(PADDING_RGB, (2, 8, 3)))
    np.testing.assert_array_equal(view[6:], np.broadcast_to(PADDING_RGB, (2, 8, 3)))
    assert (view[2:6, :3] == 10).all()
    assert (view[2:6, 5:] == 200).all()


def test_render_of_a_part_by_hand() -> None:
    assert render(CROP, (1.0, 2.0, 3.0, 4.0), 2)[..., 0].tolist() == [[18, 20], [26, 28]]
    # each pixel of a quarter-size view is the mean of four
    assert render(CROP, (0.0, 0.0, 4.0, 4.0), 2)[..., 0].tolist() == [[5, 9], [21, 25]]


@pytest.mark.parametrize("window", [(-9.0, 0.0, -1.0, 8.0), (0.0, 4.0, 4.0, 8.0), (4.0, 0.0, 8.0, 4.0)])
def test_a_window_beside_the_crop_shows_padding(window: Window) -> None:
    np.testing.assert_array_equal(render(CROP, window, 8), np.broadcast_to(PADDING_RGB, (8, 8, 3)))


def test_views_do_not_share_their_padding() -> None:
    render(CROP, (9.0, 0.0, 13.0, 4.0), 5)[:] = 0
    assert (render(CROP, (9.0, 0.0, 13.0, 4.0), 5) == PADDING_RGB).all()
    render(CROP[:2], whole_window(2, 4), 5)[:] = 0
    assert (render(CROP, (9.0, 0.0, 13.0, 4.0), 5) == PADDING_RGB).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_render_of_a_thin_crop(shape: tuple[int, int]) -> None:
    crop = np.full((*shape, 3), 7, dtype=np.uint8)
    view = render(crop, whole_window(*shape), 16)
    assert (view == 7).all(axis=2).sum() in (16, 256)


@pytest.mark.parametrize("side", [97, 100, 450, 1023])
def test_a_shrunken_view_averages_what_it_shows(side: int) -> None:
    """Lines one pixel apart become grey; interpolation alone would show a pattern of its own."""
    crop = np.zeros((side, side, 3), dtype=np.uint8)
    crop[:, ::2] = 200
    window = whole_window(side, side)
    for view in (render(crop, window, side // 4), render_turned(crop, window, side // 4, 0.0)):
        inside = view[1:-1, 1:-1]
        assert 95 <= inside.min() <= inside.max() <= 105


def test_a_turn_by_nothing_is_none() -> None:
    crop = RNG(0).integers(256, size=(40, 50, 3), dtype=np.uint8)
    for window in ((5.0, 8.0, 25.0, 32.0), (5.0, 8.0, 45.0, 36.0)):
        turned, straight = (view.astype(int)[1:-1, 1:-1] for view in _both(crop, window))
        assert np.abs(turned - straight).max() <= 1


def _both(crop: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    return render_turned(crop, window, 24, 0.0), render(crop, window, 24)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    np.testing.assert_array_equal(render_turned(CROP, (0.0, 0.0, 4.0, 4.0), 4, 90.0), np.rot90(CROP))


def test_a_turned_view_is_padded_at_its_corners_and_nowhere_black() -> None:
    crop = np.full((64, 64, 3), 255, dtype=np.uint8)
    view = render_turned(crop, whole_window(64, 64), 32, 45.0)
    for row, column in itertools.product((0, -1), repeat=2):
        assert tuple(view[row, column]) == PADDING_RGB
    assert (view[12:20, 12:20] == 255).all()
    assert (view.min(axis=(0, 1)) == PADDING_RGB).all()


def test_random_views_flip_each_way_half_the_time() -> None:
    assert _orientations("none") == {(False, False): 1.0}
    horizontal = _orientations("horizontal")
    assert set(horizontal) == {(False, False), (True, False)}
    both = _orientations("both")
    assert len(both) == 4
    np.testing.assert_allclose([*horizontal.values()], 1 / 2, atol=0.06)
    np.testing.assert_allclose([*both.values()], 1 / 4, atol=0.06)


def _orientations(flip: str) -> dict[tuple[bool, bool], float]:
    """Share of (mirrored, upside down) among views of the whole crop."""
    rng, count = RNG(1), 600
    views = [random_view(rng, CROP, 4, crop_scale=1.0, flip=flip, rotation_deg=0.0)[..., 0] for _ in range(count)]
    found: dict[tuple[bool, bool], int] = {}
    for view in views:
        key = bool(view[0, 0] % 8 > view[0, 3] % 8), bool(view[0, 0] > view[3, 0])
        np.testing.assert_array_equal(view, CROP[:: -1 if key[1] else 1, :: -1 if key[0] else 1, 0])
        found[key] = found.get(key, 0) + 1
    return {key: times / count for key, times in found.items()}


def test_random_views_turn_up_to_the_angle() -> None:
    """A bright dot at the right edge's middle comes to lie within the angle, on both sides."""
    crop = np.zeros((101, 101, 3), dtype=np.uint8)
    crop[48:53, 88:93] = 255
    rng, angles = RNG(0), []
    for _ in range(100):
        view = random_view(rng, crop, 101, crop_scale=1.0, flip="none", rotation_deg=30.0)[..., 0]
        rows, columns = np.nonzero(view == 255)
        angles.append(np.degrees(np.arctan2(50 - rows.mean(), columns.mean() - 50)))
    assert -31 < min(angles) < -20
    assert 20 < max(angles) < 31


def test_a_random_view_depends_on_the_generator_alone() -> None:
    crop = RNG(0).integers(256, size=(50, 70, 3), dtype=np.uint8)
    first, again, other = (
        random_view(RNG(seed), crop, 32, crop_scale=0.3, flip="both", rotation_deg=20.0) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (32, 32, 3)
    assert first.flags.c_contiguous


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (224, 224)])
def test_channels_come_first(shape: tuple[int, int]) -> None:
    view = RNG(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    planes = channels_first(view)
    np.testing.assert_array_equal(planes, view.transpose(2, 0, 1))
    assert planes.flags.c_contiguous
