"""Names that two sources share: a taxon is known here by its rank and name, whatever number a source gives it."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Lineage(NamedTuple):
    """The names above a photograph's taxon and its own; None above species or genus level, or where no one says."""

    species: str | None
    genus: str | None
    family: str | None

    @property
    def taxon_id(self) -> str | None:
        """``species:<name>`` or, for a photograph named to genus, ``genus:<name>``; None above that."""
        if self.species:
            return f"species:{self.species}"
        return f"genus:{self.genus}" if self.genus else None


def lineage(species: str | None, genus: str | None, family: str | None) -> Lineage:
    """A lineage from what a source says; the first word of a species' name is its genus where the source has none."""
    return Lineage(species or None, genus or (species.split()[0] if species else None), family or None)


def taxonomy_rows(sources: Iterable[Iterable[Lineage]], carried: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of ``tables.TAXONOMY`` for the carried taxa and their ancestors.

    Args:
        sources: lineages of each source; where two sources place a name differently, the first one that places it is
            followed.
        carried: ids of the taxa that a record carries.

    Returns:
        One row per taxon, ordered by its id.
    """
    parents: dict[str, str | None] = {}
    for lineages in sources:
        # a lineage that names the family comes before one of the same taxon that does not
        for one in sorted(lineages, key=lambda x: (x.family is None, x.genus is None, tuple(name or "" for name in x))):
            parent = None
            for rank in ("family", "genus", "species"):
                if name := getattr(one, rank):
                    taxon_id = f"{rank}:{name}"
                    parents[taxon_id] = parents.get(taxon_id) or parent
                    parent = taxon_id
    rows: dict[str, dict[str, Any]] = {}
    for taxon_id in carried:
        path = [taxon_id]
        while above := parents[path[-1]]:
            path.append(above)
        rows |= {step: _row(path[depth:]) for depth, step in enumerate(path)}
    return [rows[taxon_id] for taxon_id in sorted(rows)]


def _row(path: list[str]) -> dict[str, Any]:
    """A row from the ids of a taxon and its ancestors, upwards."""
    names = dict(taxon_id.split(":", 1) for taxon_id in path)
    rank, name = path[0].split(":", 1)
    ranks = {key: names.get(key) for key in ("species", "genus", "family")}
    return {"taxon_id": path[0], "name": name, "rank": rank, "parent_id": path[1] if path[1:] else None, **ranks}
