"""What held-out crops share with training ones, under the split in use and under looser ones."""

from dataclasses import dataclass, field

import numpy as np

from instar.dataset.near import Members, Neighbours, mix
from instar.dataset.rows import NOTHING

#: What two crops can share, from the closest on.
RELATIONS = ("photograph", "observation", "near_duplicate", "observer", "place_day")


def shared_values(rows: dict[str, np.ndarray] | np.ndarray) -> dict[str, np.ndarray]:
    """The value that crops have in common under each relation but near_duplicate, uint64; 0 is shared with none."""
    return {
        "photograph": mix(rows["phash"] ^ rows["observation"]),
        "observation": rows["observation"],
        "observer": rows["observer"],
        "place_day": rows["place_day"],
    }


@dataclass(frozen=True)
class Probe:
    """Held-out crops of several ways to split, indexed by what they could share.

    Attributes:
        ways: to split.
        rows: records of all held-out crops, ``choice.CANDIDATE``.
        held: bool, shape (n_ways, n_rows): whether a way holds the row out.
        aside: for each way, the keys of crops that do not train.
        near_bits: hashes that differ in at most so many bits are near-duplicates.
    """

    ways: tuple[str, ...]
    rows: np.ndarray
    held: np.ndarray
    aside: tuple[Members, ...]
    near_bits: int
    members: dict[str, Members] = field(init=False)
    pictures: Neighbours = field(init=False)

    def __post_init__(self) -> None:
        values = shared_values(self.rows)
        members = {name: Members(found[found != 0]) for name, found in values.items()}
        members["near_duplicate"] = Members(self.rows["phash"][self.rows["phash"] != 0])
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "pictures", Neighbours(members["near_duplicate"].values, self.near_bits))

    def hits(self, rows: dict[str, np.ndarray], trains: np.ndarray) -> dict[str, np.ndarray]:
        """Which values training crops of a shard hold: for each relation bool, shape (n_ways, n_values).

        Args:
            rows: of the shard.
            trains: bool, shape (n_ways, n): whether a crop trains.
        """
        found = {}
        values = shared_values(rows)
        for name, members in self.members.items():
            row, place = self._near(rows["phash"]) if name == "near_duplicate" else members.places(values[name])
            hit = np.zeros((len(trains), len(members.values)), bool)
            for way, train in enumerate(trains):
                hit[way, place[train[row]]] = True
            found[name] = hit
        return found

    def _near(self, phash: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known = np.flatnonzero(phash != NOTHING)
        row, place = self.pictures.pairs(phash[known])
        return known[row], place

    def counts(self, hits: dict[str, np.ndarray]) -> list[dict[str, int]]:
        """Held-out crops of each way, and how many of them share something with a training crop."""
        values = {**shared_values(self.rows), "near_duplicate": self.rows["phash"]}
        result = []
        for way, held in enumerate(self.held):
            counted = {"held_out": int(held.sum())}
            for name in RELATIONS:
                row, place = self.members[name].places(values[name])
                counted[name] = int((held[row] & hits[name][way, place]).sum())
            result.append(counted)
        return result


def probe(rows: dict[str, np.ndarray], aside: dict[str, np.ndarray], near_bits: int) -> Probe:
    """A probe for the held-out rows of each way to split, and the keys that do not train under it."""
    pool = np.concatenate(list(rows.values()))
    pool = pool[np.unique(pool["key"], return_index=True)[1]]
    held = np.stack([np.isin(pool["key"], one["key"]) for one in rows.values()])
    return Probe(tuple(rows), pool, held, tuple(Members(aside[way]) for way in rows), near_bits)


def add_hits(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.logical_or.reduce([part[name] for part in parts]) for name in parts[0]}
