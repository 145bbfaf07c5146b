"""What is known of the photographs that are compared, and which of them may be compared at all."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from instar.reid.orientation import fits, sides

#: What of a query's own does not count where it stands in the gallery itself.
LEAVE_OUT = ("photograph", "encounter")


@dataclass(frozen=True)
class Photographs:
    """Crops of photographs of individuals, queries or a gallery; equal values have equal codes.

    Attributes:
        photo: str, shape (n,), key of the photograph.
        dataset: str, shape (n,); individuals of different data sets are never compared.
        encounter: str, shape (n,).
        sides: uint8, shape (n,), see ``orientation.sides``.
    """

    photo: np.ndarray
    dataset: np.ndarray
    encounter: np.ndarray
    sides: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Photographs":
        """From columns ``photo_key``, ``dataset``, ``encounter`` and ``orientation``, which may be null."""
        photo, dataset, encounter = (
            rows[name].to_numpy(dtype=object) for name in ("photo_key", "dataset", "encounter")
        )
        return cls(photo, dataset, encounter, sides(rows["orientation"]))

    def __len__(self) -> int:
        return len(self.photo)

    def take(self, rows: np.ndarray | slice) -> "Photographs":
        """Some of them."""
        return Photographs(self.photo[rows], self.dataset[rows], self.encounter[rows], self.sides[rows])


@dataclass(frozen=True)
class Known:
    """The individuals of a gallery, sorted by data set and name.

    Attributes:
        identity: str, shape (n_identities,).
        dataset: str, shape (n_identities,).
        column: int64, shape (n_gallery,), the individual of each photograph of the gallery.
    """

    identity: np.ndarray
    dataset: np.ndarray
    column: np.ndarray

    @classmethod
    def of(cls, identity: Iterable[str], dataset: Iterable[str]) -> "Known":
        """From the individuals and data sets of the gallery's photographs, none of them null."""
        index = pd.MultiIndex.from_arrays([np.asarray(list(dataset), object), np.asarray(list(identity), object)])
        column, names = pd.factorize(index, sort=True)
        return cls(
            names.get_level_values(1).to_numpy(dtype=object),
            names.get_level_values(0).to_numpy(dtype=object),
            np.asarray(column, np.int64),
        )

    def __len__(self) -> int:
        return len(self.identity)

    def columns_of(self, identity: Iterable[str | None], dataset: Iterable[str]) -> np.ndarray:
        """int64, shape (n,): the column of each; -1 for one that is not known."""
        place = {pair: column for column, pair in enumerate(zip(self.dataset, self.identity, strict=True))}
        pairs = zip(dataset, identity, strict=True)
        return np.array([place.get(pair, -1) for pair in pairs], np.int64)


def comparable(queries: Photographs, gallery: Photographs, *, leave_out: str) -> np.ndarray:
    """Which photographs of a gallery a query may be compared with, whatever side they show.

    Args:
        queries: n_queries of them.
        gallery: n_gallery of them.
        leave_out: one of ``LEAVE_OUT``: the photograph of the query itself, or all of its encounter.

    Returns:
        bool, shape (n_queries, n_gallery): those of the same data set that are not left out.
    """
    if leave_out not in LEAVE_OUT:
        raise ValueError(f"leave_out = {leave_out} is not one of {', '.join(LEAVE_OUT)}")
    allowed = _equal(queries.dataset, gallery.dataset) & ~_equal(queries.photo, gallery.photo)
    return allowed & ~_equal(queries.encounter, gallery.encounter) if leave_out == "encounter" else allowed


def fitting(queries: Photographs, gallery: Photographs) -> np.ndarray:
    """bool, shape (n_queries, n_gallery): whether no photograph shows the opposite side of the other's."""
    return fits(queries.sides[:, None], gallery.sides[None, :])


def _equal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """bool, shape (n, m); by codes, for strings compare slowly."""
    codes, _ = pd.factorize(np.concatenate([first, second]))
    return np.asarray(codes[: len(first), None] == codes[None, len(first) :])
