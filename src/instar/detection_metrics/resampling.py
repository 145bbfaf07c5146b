"""Intervals over resamples of photographs that depend on each other only within a group."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

Interval = list[float] | None


def photograph_groups(keys: list[str], table: pa.Table, annotation_split: str) -> np.ndarray:
    """The group of each photograph whose photographs depend on each other, int64, shape (p,), from 0.

    By time_block, stretches of ceil(n^(1/3)) photographs that follow each other in time, the order of size that is
    best for the variance (Hall, Horowitz & Jing 1995). Else by observation, also where the split was given, which may
    have no times: one animal was photographed several times, one sample lies on several trays.
    """
    columns = table.select(["key", "observation_id", "observed_at"]).to_pydict()
    facts = {key: fact for key, *fact in zip(*columns.values(), strict=True)}
    if annotation_split != "time_block":
        return np.unique([facts[key][0] for key in keys], return_inverse=True)[1]
    order = sorted(range(len(keys)), key=lambda n: (facts[keys[n]][1], keys[n]))
    places = np.empty(len(keys), np.int64)
    places[order] = np.arange(len(keys))
    # 27 ** (1 / 3) is a little more than 3
    return places // math.ceil(round(len(keys) ** (1 / 3), 9))


def resampled_weights(groups: np.ndarray, bootstrap: int, seed: int) -> np.ndarray:
    """How often each photograph counts in each resample of whole groups: int64, shape (bootstrap, p).

    Of a single group shape (0, p): all resamples would be alike, and an interval without width is none.
    """
    generator = np.random.default_rng(seed)
    n = int(groups.max()) + 1
    if n < 2:
        return np.zeros((0, len(groups)), np.int64)
    return np.array([np.bincount(generator.integers(0, n, n), minlength=n)[groups] for _ in range(bootstrap)])


def intervals(samples: np.ndarray, names: Sequence[str]) -> dict[str, Interval]:
    """Percentile intervals, 2.5 to 97.5 % (Field & Welsh 2007).

    Args:
        samples: float, shape (bootstrap, n), NaN where a resample tells nothing.
        names: of the columns.
    """
    return {name: _interval(values) for name, values in zip(names, samples.T, strict=True)}


def _interval(values: np.ndarray) -> Interval:
    values = values[~np.isnan(values)]  # a resample without animals tells nothing
    return [float(value) for value in np.percentile(values, [2.5, 97.5])] if len(values) else None


def widths(told: Mapping[str, Interval]) -> dict[str, float | None]:
    """How wide each interval is."""
    return {name: None if interval is None else interval[1] - interval[0] for name, interval in told.items()}


def ratios(over: np.ndarray, under: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum by sum in each resample: float64, shape (bootstrap,), NaN where nothing is below.

    Args:
        over: shape (p,), of each photograph.
        under: likewise.
        weights: see ``resampled_weights``.
    """
    top, bottom = (weights @ np.asarray(part, np.float64) for part in (over, under))
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
