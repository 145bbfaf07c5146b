"""Places to judge a classifier with: wrong ones, and the regions that the true ones are in."""

from collections.abc import Iterable

import numpy as np

from instar.splits import stable_hash

EARTH_RADIUS_KM = 6371.0
#: A wrong place is at least so far from the true one.
WRONG_KM = 1000.0
#: Places drawn for a crop until one is far enough: the work must not grow with the square of the crops. Where a
#: hundredth of the places is far, a crop in 20,000 finds none among so many.
TRIES = 1000
UNKNOWN = "unknown"


def distances_km(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Great-circle distance of each place from its counterpart, by the haversine formula.

    Args:
        places: shape (n, 2), latitude and longitude in degrees.
        others: likewise.

    Returns:
        float64, shape (n,); NaN where either is unknown.
    """
    a, b = np.radians(places.astype(np.float64)), np.radians(others.astype(np.float64))
    half = np.sin((b - a) / 2) ** 2
    chord = half[:, 0] + np.cos(a[:, 0]) * np.cos(b[:, 0]) * half[:, 1]
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(chord, 1))))


def wrong_places(places: np.ndarray, keys: Iterable[str], *, seed: int, least_km: float) -> np.ndarray:
    """For each crop the place of another one that is far away.

    Args:
        places: float32, shape (n, 2), latitude and longitude in degrees; NaN where unknown.
        keys: of the crops; with the seed they decide which place is drawn, so that the order of the crops does not.
        seed: of the draws.
        least_km: from the true place.

    Returns:
        float32, shape (n, 2); NaN where the true place is unknown or none of the ``TRIES`` that were drawn, or of all
        where there are fewer, is so far away.
    """
    found = np.full(places.shape, np.nan, dtype=np.float32)
    pending = np.flatnonzero(~np.isnan(places).any(axis=1))
    distinct = np.unique(places[pending], axis=0)
    order = sorted(range(len(distinct)), key=lambda index: stable_hash(seed, str(distinct[index].tolist())))
    distinct = distinct[order]
    starts = np.array([stable_hash(seed, key) % max(len(distinct), 1) for key in keys], dtype=np.int64)
    for step in range(min(len(distinct), TRIES)):
        if not len(pending):
            break
        drawn = distinct[(starts[pending] + step) % len(distinct)]
        far = distances_km(places[pending], drawn) >= least_km
        found[pending[far]] = drawn[far]
        pending = pending[~far]
    return found


def regions(places: np.ndarray, *, cell_deg: float) -> np.ndarray:
    """The cell of a grid over the globe that each place is in, counted from 90° S and 180° W.

    Args:
        places: shape (n, 2), latitude and longitude in degrees; NaN where unknown.
        cell_deg: side of a cell.

    Returns:
        object, shape (n,): such as ``30 to 60 N, -120 to -90 E``, the south and the west side belonging to the cell;
        ``UNKNOWN`` where the place is.
    """
    found = np.full(len(places), UNKNOWN, dtype=object)
    for index in np.flatnonzero(~np.isnan(places).any(axis=1)):
        latitude, longitude = (float(angle) for angle in places[index])
        south = _side(latitude + 90, 180, cell_deg) - 90
        west = _side((longitude + 180) % 360, 360, cell_deg) - 180
        north, east = min(south + cell_deg, 90), min(west + cell_deg, 180)
        found[index] = f"{south:g} to {north:g} N, {west:g} to {east:g} E"
    return found


def _side(angle: float, whole: float, cell_deg: float) -> float:
    """The lower side of the cell that holds an angle; the pole belongs to the last cell."""
    last = -(-whole // cell_deg) - 1
    return float(min(angle // cell_deg, last) * cell_deg)
