"""Tests of instar.reid.local."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from instar.errors import InputError
from instar.reid.local import (
    LightGlue,
    Local,
    Matcher,
    _Kept,
    agreeing,
    local_matcher,
    matched,
    of_identities,
    shortlist,
    shrunk,
)
from instar.reid.photographs import Known

NONE = -np.inf
SIFT = Local("sift", "", "homography", 160, 300, 0.8, 3.0, 0.0)


def pattern(seed: int) -> np.ndarray:
    """Spots that no two individuals share."""
    rng = np.random.default_rng(seed)
    picture = np.full((160, 160, 3), 200, np.uint8)
    for _ in range(40):
        centre, axes = rng.integers(10, 150, 2).tolist(), rng.integers(3, 12, 2).tolist()
        cv2.ellipse(picture, centre, axes, float(rng.integers(180)), 0, 360, rng.integers(0, 120, 3).tolist(), -1)
    return picture


def seen_again(picture: np.ndarray, seed: int) -> np.ndarray:
    """Turned, moved, in another light and grainy."""
    rng = np.random.default_rng(seed)
    turn = cv2.getRotationMatrix2D((80, 80), float(rng.uniform(-25, 25)), float(rng.uniform(0.85, 1.1)))
    turned = cv2.warpAffine(picture, turn, (160, 160), borderValue=(200, 200, 200))
    return np.clip(turned * rng.uniform(0.8, 1.1) + rng.normal(0, 5, turned.shape), 0, 255).astype(np.uint8)


def test_nothing() -> None:
    matcher = local_matcher(SIFT)
    blank = matcher.features(np.zeros((20, 30, 3), np.uint8))
    drawn = matcher.features(pattern(0))
    assert matcher.scores(blank, [drawn, blank]).tolist() == [0, 0]
    assert matcher.scores(drawn, [blank]).tolist() == [0]
    assert matcher.scores(drawn, []).shape == (0,)
    for listed in (np.zeros((0, 3), np.int64), np.zeros((2, 0), np.int64), np.full((1, 2), -1)):
        found = matched(matcher, lambda row: pattern(row), lambda row: pattern(row), listed)
        assert found.shape == listed.shape and (found == NONE).all()
    assert shortlist(np.zeros((0, 4)), 2).shape == (0, 2)
    assert shortlist(np.zeros((3, 0)), 2).shape == (3, 0)


@pytest.mark.parametrize("geometry", ["homography", "fundamental", "none"])
def test_sift_finds_the_individual_again(geometry: str) -> None:
    matcher = local_matcher(Local("sift", "", geometry, 160, 300, 0.8, 3.0, 0.0))
    gallery = [matcher.features(pattern(number)) for number in range(4)]
    for number in range(4):
        found = matcher.scores(matcher.features(seen_again(pattern(number), number)), gallery)
        assert found.argmax() == number
        others = np.delete(found, number)
        assert found[number] > 2 * others.max()


def test_points_of_one_geometry_by_hand() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 100, (20, 2)).astype(np.float32)
    moved = first * np.float32(1.2) + np.float32(7)
    moved[:6] = rng.uniform(0, 100, (6, 2))
    assert agreeing(first, moved, "homography", tolerance_px=1) == 14
    assert agreeing(first, moved, "none", tolerance_px=1) == 20
    assert agreeing(first, moved, "fundamental", tolerance_px=1) >= 14  # a line is a weaker demand than a point
    assert agreeing(first[:3], moved[:3], "homography", tolerance_px=1) == 0
    assert agreeing(first[:7], first[:7], "fundamental", tolerance_px=1) == 0
    same = np.zeros((10, 2), np.float32)
    assert agreeing(same, same, "homography", tolerance_px=1) in (0, 10)  # no geometry of one point, and no crash


def test_many_points_that_match_one_are_one() -> None:
    matcher = local_matcher(Local("sift", "", "none", 160, 300, 0.8, 3.0, 0.0))
    points = np.arange(20, dtype=np.float32).reshape(10, 2)
    far = np.eye(128, dtype=np.float32)
    ten, two = (points, np.tile(far[0], (10, 1))), (points[:2], far[:2])
    assert matcher.scores(ten, [two]).tolist() == [1]


def test_sizes() -> None:
    assert shrunk(np.zeros((100, 50, 3), np.uint8), 20).shape == (20, 10, 3)
    assert shrunk(np.zeros((10, 5, 3), np.uint8), 20).shape == (20, 10, 3)
    assert shrunk(np.zeros((1000, 1, 3), np.uint8), 20).shape == (20, 1, 3)


def test_shortlist() -> None:
    similarity = np.array([[0.1, 0.9, 0.9, NONE], [NONE, NONE, 0.2, NONE]])
    assert shortlist(similarity, 2).tolist() == [[1, 2], [2, -1]]
    assert shortlist(similarity, 9).tolist() == [[1, 2, 0, -1], [2, -1, -1, -1]]


def test_matched_reads_what_is_listed_and_no_more() -> None:
    read: list[int] = []

    def pixels(row: int) -> np.ndarray:
        read.append(row)
        return pattern(row)

    listed = np.array([[2, 0, -1], [1, 2, 0]])
    found = matched(local_matcher(SIFT), lambda row: seen_again(pattern([2, 1][row]), row), pixels, listed)
    assert found.dtype == np.float32
    assert found[0, 2] == NONE
    assert found[0, 0] > 2 * found[0, 1] and found[1, 0] > 2 * found[1, 1:].max()
    assert set(read) == {0, 1, 2}
    again = matched(local_matcher(SIFT), lambda row: seen_again(pattern([2, 1][row]), row), pattern, listed)
    assert np.array_equal(found, again)


def test_few_features_are_kept() -> None:
    made: list[int] = []

    def make(row: int) -> int:
        made.append(row)
        return row * 10

    kept = _Kept(make, 2)
    assert [kept[row] for row in (1, 2, 1, 3, 1)] == [10, 20, 10, 30, 10]
    assert made == [1, 2, 3, 1]


def test_of_identities() -> None:
    known = Known.of(["a", "a", "b", "c"], ["L", "L", "L", "S"])
    listed, values = np.array([[0, 1, 3], [-1, -1, -1]]), np.array([[3, 8, 5], [NONE] * 3], np.float32)
    candidates = np.array([[True, True, False], [False, True, False]])
    found = of_identities(listed, values, candidates, known)
    assert found.tolist() == [[8, 0, NONE], [NONE, 0, NONE]]
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Local("orb", "", "none", 9, 9, 0.8, 1, 0), "matcher = orb is not one of sift, lightglue"),
        (Local("sift", "", "affine", 9, 9, 0.8, 1, 0), "geometry = affine is not one of"),
        (Local("lightglue", "no/such", "none", 9, 9, 0.8, 1, 0), "no/such: LightGlue: no such folder.*hf download"),
        (
            Local("lightglue", "conf/random.md", "none", 9, 9, 0.8, 1, 0),
            "random.md: LightGlue: matches by no random weights; hf download .* set evaluation.local_weights to models",
        ),
    ],
)
def test_refused(settings: Local, message: str) -> None:
    with pytest.raises(InputError, match=message):
        local_matcher(settings)


@pytest.fixture(scope="module")
def lightglue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real classes with a tiny configuration and random weights."""
    import torch
    from transformers import LightGlueConfig, LightGlueForKeypointMatching, LightGlueImageProcessor

    folder: Path = tmp_path_factory.mktemp("lightglue")
    points = {
        "model_type": "superpoint",
        "encoder_hidden_sizes": [8, 8, 8, 8],
        "decoder_hidden_size": 16,
        "descriptor_decoder_dim": 16,
        "keypoint_threshold": 0.0,
        "border_removal_distance": 2,
    }
    torch.manual_seed(0)
    config = LightGlueConfig(
        keypoint_detector_config=points, descriptor_dim=16, num_hidden_layers=2, num_attention_heads=2,
        filter_threshold=0.0,
    )  # fmt: skip
    LightGlueForKeypointMatching(config).eval().save_pretrained(folder)
    LightGlueImageProcessor().save_pretrained(folder)
    return folder


def test_lightglue_runs_from_a_folder(lightglue: Path) -> None:
    matcher: Matcher = local_matcher(Local("lightglue", str(lightglue), "none", 64, 50, 0.8, 3.0, 0.0))
    one, other = matcher.features(pattern(0)[:, :100]), matcher.features(pattern(1))
    assert one.shape == other.shape == (64, 64, 3)
    assert (one[:, 40:] == 0).all()
    found = matcher.scores(one, [one, other])
    assert found.shape == (2,) and found.dtype == np.float32
    assert 0 < found[0] <= 50  # no more than there are points
    assert np.array_equal(found, matcher.scores(one, [one, other]))


def test_lightglue_takes_no_more_points_than_asked_for(lightglue: Path) -> None:
    import torch

    for most in (3, 7):
        matcher = LightGlue(Local("lightglue", str(lightglue), "none", 64, most, 0.8, 3.0, 0.0))
        detector = matcher._model.keypoint_detector
        assert detector(torch.rand(1, 3, 64, 64, device=detector.device)).keypoints.shape[1] == most


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"LightGlueForKeypointMatching.*fetch it again"):
        local_matcher(Local("lightglue", str(tmp_path), "none", 64, 50, 0.8, 3.0, 0.0))
