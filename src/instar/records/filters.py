"""Filters that hold for every source alike: a box, a span of days, a maximum per species."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.extent import check_extent
from instar.splits import stable_hash
from instar.tables import TIME

BEYOND = "beyond the maximum per species"


@dataclass(frozen=True)
class Extent:
    """Where and when an observation must have been made.

    Attributes:
        bbox: west, south, east, north in degrees, edges included; west above east crosses the antimeridian; empty
            for the whole world.
        observed_from: the first day in UTC, ISO 8601; empty for no limit.
        observed_to: the last day, which is included, likewise.

    Raises:
        InputError: if one of them is not so.
    """

    bbox: list[float] = field(default_factory=list)
    observed_from: str = ""
    observed_to: str = ""

    def __post_init__(self) -> None:
        check_extent(self.bbox, self.observed_from, self.observed_to, section="records.")

    def reasons(self, rows: pa.Table) -> pa.ChunkedArray:
        """Why a row is outside, string; null where it is inside. A place is asked for before a time."""
        reason = pa.chunked_array([pa.nulls(rows.num_rows, pa.string())])
        if self.observed_from or self.observed_to:
            reason = pc.if_else(self._within(rows["observed_at"]), reason, "outside the dates")
            reason = pc.if_else(rows["observed_at"].is_valid(), reason, "no date")
        if self.bbox:
            reason = pc.if_else(self._inside(rows["longitude"], rows["latitude"]), reason, "outside the box")
            reason = pc.if_else(rows["latitude"].is_valid(), reason, "no coordinates")
        return reason

    def _inside(self, longitude: pa.ChunkedArray, latitude: pa.ChunkedArray) -> pa.ChunkedArray:
        west, south, east, north = self.bbox
        either_or_both = pc.and_ if west <= east else pc.or_
        across = either_or_both(pc.greater_equal(longitude, west), pc.less_equal(longitude, east))
        inside = pc.and_(across, pc.and_(pc.greater_equal(latitude, south), pc.less_equal(latitude, north)))
        return pc.fill_null(inside, False)

    def _within(self, observed_at: pa.ChunkedArray) -> pa.ChunkedArray:
        within = observed_at.is_valid()
        if self.observed_from:
            within = pc.and_(within, pc.greater_equal(observed_at, _midnight(self.observed_from, 0)))
        if self.observed_to:
            within = pc.and_(within, pc.less(observed_at, _midnight(self.observed_to, 1)))
        return pc.fill_null(within, False)


def _midnight(day: str, days_later: int) -> pa.Scalar:
    moment = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(days=days_later)
    return pa.scalar(moment, TIME)


def drawn_order(observation_ids: pa.ChunkedArray, seed: int) -> pa.Array:
    """uint64 of each observation, from the seed and its id alone: photographs are taken by rising number."""
    encoded = observation_ids.combine_chunks().dictionary_encode()
    numbers = [stable_hash(seed, name) for name in encoded.dictionary.to_pylist()]
    return pa.array(numbers, pa.uint64()).take(encoded.indices)


class Maximum:
    """Keeps the first ``most`` rows of each taxon in a stream that is ordered by taxon; all of those without one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taxon: str | None = None
        self._seen = 0

    def kept(self, taxon_ids: pa.ChunkedArray) -> np.ndarray:
        """bool, shape (rows,): whether each of the next rows is kept."""
        if not len(taxon_ids):
            return np.zeros(0, bool)
        codes = pc.fill_null(taxon_ids, "").combine_chunks().dictionary_encode()
        numbers = codes.indices.to_numpy()
        first = np.r_[0, np.flatnonzero(np.diff(numbers)) + 1]
        lengths = np.diff(np.r_[first, len(numbers)])
        rank = np.arange(len(numbers)) - np.repeat(first, lengths)
        names = codes.dictionary
        if names[int(numbers[0])].as_py() == self._taxon:
            rank[: lengths[0]] += self._seen
        self._taxon, self._seen = names[int(numbers[-1])].as_py(), int(rank[-1]) + 1
        return (rank < self._most) | taxon_ids.is_null().to_numpy()


def parted(rows: pa.Table, keep: np.ndarray) -> Iterator[pa.Table]:
    """The rows that are kept, then the others."""
    yield rows.filter(pa.array(keep))
    yield rows.filter(pa.array(~keep))
