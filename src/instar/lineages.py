"""Which taxa belong to which, and the ranks that insects on trays are classified at."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from instar.tables import TAXONOMY, read_table

#: From the lowest: what a classifier of trays tells apart.
TAXON_RANKS = ("family", "order", "class")

#: How the reason begins why a crop of a sure taxon has no label: no class is it or above it, each has too few crops.
UNDER = "taxon under"

#: Name of a taxon's ancestor, or its own, at each of ``TAXON_RANKS``; None where it has none.
Lineage = tuple[str | None, ...]


@dataclass(frozen=True)
class Lineages:
    """The taxonomy of a study.

    Attributes:
        parents: id of the taxon above each one.
        ranks: of each one.
        names: of each one.
    """

    parents: dict[str, str | None]
    ranks: dict[str, str]
    names: dict[str, str]
    _shared: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        told = Counter(name for one, name in self.names.items() if self.ranks[one] in TAXON_RANKS)
        object.__setattr__(self, "_shared", frozenset(name for name, count in told.items() if count > 1))

    def path(self, taxon_id: str) -> tuple[str, ...]:
        """The taxon and its ancestors, upwards; one that the taxonomy does not have is alone."""
        found: dict[str, None] = {taxon_id: None}
        above = self.parents.get(taxon_id)
        while above is not None and above not in found:
            found[above] = None
            above = self.parents.get(above)
        return tuple(found)

    def called(self, rank: str, name: str) -> str:
        """The name of a class: with its rank where a taxon of another rank has the name, too (Diplura, Protura)."""
        return f"{name} ({rank})" if name in self._shared else name

    def lineage(self, taxon_id: str) -> Lineage:
        """Names of the taxon's ancestors, or its own, at ``TAXON_RANKS``."""
        found = {self.ranks[one]: self.names[one] for one in reversed(self.path(taxon_id)) if one in self.ranks}
        return self.lineage_of(found.items())

    def lineage_of(self, named: Iterable[tuple[str, str]]) -> Lineage:
        """The lineage that names of ranks tell."""
        told = dict(named)
        return tuple(self.called(rank, told[rank]) if told.get(rank) else None for rank in TAXON_RANKS)

    def completed(self, lineage: Lineage) -> Lineage:
        """A lineage with what the taxonomy tells above the lowest of its names that the taxonomy has."""
        for place, told in enumerate(zip(TAXON_RANKS, lineage, strict=True)):
            if told in self.ids:
                return *lineage[:place], *self.lineage(self.ids[told])[place:]
        return lineage

    @cached_property
    def ids(self) -> dict[tuple[str, str | None], str]:
        """The id of each taxon at one of ``TAXON_RANKS``, by its rank and what it is called."""
        return {
            (rank, self.called(rank, self.names[one])): one for one, rank in self.ranks.items() if rank in TAXON_RANKS
        }


def read_lineages(taxonomy: Path) -> Lineages:
    """Read a table of ``tables.TAXONOMY``.

    Raises:
        InputError: if it is missing or damaged.
    """
    rows = read_table(taxonomy, TAXONOMY).select(["taxon_id", "name", "rank", "parent_id"]).to_pylist()
    return Lineages(
        {row["taxon_id"]: row["parent_id"] for row in rows},
        {row["taxon_id"]: row["rank"] for row in rows},
        {row["taxon_id"]: row["name"] for row in rows},
    )
