"""Tests of instar.evaluation.places."""

import numpy as np
import pytest

from instar.evaluation import places as module
from instar.evaluation.places import UNKNOWN, distances_km, regions, wrong_places

NOWHERE = (np.nan, np.nan)


def test_nothing() -> None:
    empty = np.empty((0, 2), np.float32)
    assert wrong_places(empty, [], seed=0, least_km=1000).shape == (0, 2)
    assert regions(empty, cell_deg=30).shape == distances_km(empty, empty).shape == (0,)


def test_distances_by_hand() -> None:
    # a quarter of the equator, one degree of it across 180°, pole to pole, and a pole whose longitudes are one point
    a = np.array([(0, 0), (0, 179.5), (90, 0), (90, 10), NOWHERE])
    b = np.array([(0, 90), (0, -179.5), (-90, 77), (90, 100), (0, 0)])
    circle = 2 * np.pi * 6371
    expected = [circle / 4, circle / 360, circle / 2, 0, np.nan]
    assert distances_km(a, b) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_the_only_far_place_is_drawn() -> None:
    places = np.array([(0, 0), (0, 1), (0, 2), (50, 50), NOWHERE], np.float32)
    wrong = wrong_places(places, ["a", "b", "c", "d", "e"], seed=0, least_km=1000)
    assert wrong[:3].tolist() == [[50, 50]] * 3
    assert wrong[3].tolist() in places[:3].tolist()
    assert np.isnan(wrong[4]).all()


def test_none_is_far_enough() -> None:
    places = np.array([(0, 0), (0, 1)], np.float32)
    assert np.isnan(wrong_places(places, ["a", "b"], seed=0, least_km=1000)).all()
    assert wrong_places(places, ["a", "b"], seed=0, least_km=100).tolist() == [[0, 1], [0, 0]]


def test_the_draws_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(places: np.ndarray, others: np.ndarray) -> np.ndarray:
        sizes.append(len(places))
        return distances_km(places, others)

    monkeypatch.setattr(module, "distances_km", counted)
    # ten thousand places within a degree: none is far from another
    places = np.random.default_rng(0).uniform(0, 1, (10_000, 2)).astype(np.float32)
    keys = [f"k{number}" for number in range(len(places))]
    monkeypatch.setattr(module, "TRIES", 20)
    assert np.isnan(wrong_places(places, keys, seed=0, least_km=1000)).all()
    assert sizes == [10_000] * 20


def test_a_crop_that_has_its_place_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    places = np.array([(0, 0), (0, 90), (0, 180)], np.float32)
    monkeypatch.setattr(module, "TRIES", 1)
    found = wrong_places(places, ["a", "b", "c"], seed=0, least_km=1000)
    own = np.isnan(found).any(axis=1)  # the single draw may be the place itself
    assert (distances_km(places[~own], found[~own]) > 1000).all() and own.sum() < 3


def test_wrong_places_are_far_spread_and_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(25, 50, 200), rng.uniform(-120, -70, 200)], axis=1).astype(np.float32)
    keys = [f"k{number}" for number in range(200)]
    wrong = wrong_places(places, keys, seed=0, least_km=1000)
    assert (distances_km(places, wrong) >= 1000).all()
    assert len(np.unique(wrong, axis=0)) > 80
    order = rng.permutation(200)
    assert (wrong_places(places[order], [keys[n] for n in order], seed=0, least_km=1000) == wrong[order]).all()
    assert (wrong_places(places, keys, seed=1, least_km=1000) != wrong).any()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((0, 0), "0 to 30 N, 0 to 30 E"),
        ((29.9, -0.1), "0 to 30 N, -30 to 0 E"),
        ((-33, 151), "-60 to -30 N, 150 to 180 E"),
        ((90, 180), "60 to 90 N, -180 to -150 E"),  # 180° E is 180° W
        ((-90, -180), "-90 to -60 N, -180 to -150 E"),
        (NOWHERE, UNKNOWN),
        ((10, np.nan), UNKNOWN),
    ],
)
def test_regions(place: tuple[float, float], expected: str) -> None:
    assert regions(np.array([place]), cell_deg=30).tolist() == [expected]


def test_cells_that_do_not_fill_the_globe() -> None:
    assert regions(np.array([(90.0, 179.0)]), cell_deg=50).tolist() == ["60 to 90 N, 170 to 180 E"]
