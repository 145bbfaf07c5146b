"""Taxa as the page names them."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Taxon:
    """A taxon of taxonomy.parquet."""

    name: str
    rank: str
    genus: str | None

    @property
    def italic(self) -> bool:
        """By custom the scientific names of genera and of what is below them are italic, and those alone.

        A source may give a common name in place of one; a scientific one begins with a capital.
        """
        below_family = ("genus", "subgenus", "species", "subspecies", "variety", "form")
        return self.rank in below_family and self.name[:1].isupper()


def taxa_by_id(taxonomy: pd.DataFrame) -> dict[str, Taxon]:
    """Every taxon of a table with the columns taxon_id, name, rank and genus."""
    columns = (taxonomy[name] for name in ("taxon_id", "name", "rank", "genus"))
    return {
        taxon_id: Taxon(name, rank, genus if isinstance(genus, str) else None)
        for taxon_id, name, rank, genus in zip(*columns, strict=True)
    }
