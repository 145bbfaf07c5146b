"""Which perceptual hashes differ in few bits."""

from itertools import pairwise

import numpy as np

#: Most bits of the table that sorts out most hashes before they are looked up; 4 megabytes stay in a processor's cache.
_MOST_TABLE_BITS = 22
#: Pairs that agree in a band, looked at together; with many bits bands are narrow and agree by chance.
_MOST_PAIRS = 1 << 20


class Neighbours:
    """An index of 64-bit hashes for all that lie within some bits of one (Manku et al. 2007, section 3).

    Two hashes that differ in at most ``bits`` bits agree in at least one of ``bits + 1`` bands.
    """

    def __init__(self, hashes: np.ndarray, bits: int) -> None:
        """Index ``hashes``, uint64 of shape (n,), for distances up to ``bits``, 0 to 15."""
        if not 0 <= bits <= 15:
            raise ValueError(f"bits = {bits} is not allowed; it must be at least 0 and at most 15")
        self._hashes, self._bits = hashes, bits
        edges = np.linspace(0, 64, bits + 2).astype(np.uint64)
        self._bands = [_Band(hashes, int(low), int(high)) for low, high in pairwise(edges)]
        by_chance = len(hashes) / 2 ** (64 // (bits + 1))  # in a band, of one hash
        self._rows = max(256, int(_MOST_PAIRS / max(by_chance, 2.0**-32)))

    def pairs(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in ``hashes``, uint64 of shape (m,), and in the index, of all pairs within the distance.

        Returns:
            Two int64 arrays of one length; each pair stands once, in no particular order.
        """
        starts = range(0, max(len(hashes), 1), self._rows)
        found = [self._pairs(hashes[start : start + self._rows]) for start in starts]
        rows = [row + start for start, (row, _) in zip(starts, found, strict=True)]
        return np.concatenate(rows), np.concatenate([place for _, place in found])

    def _pairs(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, places = [], []
        for number, band in enumerate(self._bands):
            row, place = band.equal(hashes)
            differing = hashes[row] ^ self._hashes[place]
            near = np.bitwise_count(differing) <= self._bits
            for earlier in self._bands[:number]:
                near &= earlier.of(differing) != 0  # found there already
            rows.append(row[near])
            places.append(place[near])
        return np.concatenate(rows), np.concatenate(places)


class _Band:
    """The bits from ``low`` to below ``high`` of indexed hashes."""

    def __init__(self, hashes: np.ndarray, low: int, high: int) -> None:
        self._low = np.uint64(low)
        self._mask = np.uint64((1 << (high - low)) - 1)
        bits = min(high - low, _table_bits(len(hashes)))
        self._drop = np.uint64(high - low - bits)
        values = self.of(hashes)
        self._order = np.argsort(values, kind="stable")
        self._values = values[self._order]
        self._present = np.zeros(1 << bits, bool)
        self._present[values >> self._drop] = True

    def of(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> self._low) & self._mask

    def equal(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in ``hashes`` and in the index that agree in the band."""
        values = self.of(hashes)
        rows = np.flatnonzero(self._present[values >> self._drop])
        first = np.searchsorted(self._values, values[rows], side="left")
        count = np.searchsorted(self._values, values[rows], side="right") - first
        before = np.cumsum(count) - count
        within = np.arange(count.sum()) - np.repeat(before, count)
        return np.repeat(rows, count), self._order[np.repeat(first, count) + within]


class Members:
    """A set of 64-bit hashes that is asked about far more often than it answers yes."""

    def __init__(self, hashes: np.ndarray) -> None:
        """Take the distinct values of ``hashes``, uint64 of shape (n,)."""
        self.values = np.unique(hashes)
        bits = _table_bits(len(self.values))
        self._drop = np.uint64(64 - bits)
        self._present = np.zeros(1 << bits, bool)
        self._present[mix(self.values) >> self._drop] = True

    def places(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in ``hashes`` that are members, and their places in ``values``, both int64."""
        rows = np.flatnonzero(self._present[mix(hashes) >> self._drop])
        if not len(self.values):
            return rows, rows
        places = np.searchsorted(self.values, hashes[rows]).clip(max=len(self.values) - 1)
        found = self.values[places] == hashes[rows]
        return rows[found], places[found]


def _table_bits(entries: int) -> int:
    """Of a table in which so many entries fill about an eighth."""
    return min(_MOST_TABLE_BITS, 3 + entries.bit_length())


def mix(values: np.ndarray) -> np.ndarray:
    """64 well-mixed bits from 64 others, one to one (the finaliser of splitmix64, Steele et al. 2014)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
