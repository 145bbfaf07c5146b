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
        """By custom the names of genera and of what is below them are italic, those of families are not."""
        return self.rank in ("genus", "subgenus", "species", "subspecies", "variety", "form")


def taxa_by_id(taxonomy: pd.DataFrame) -> dict[str, Taxon]:
    """Every taxon of a table with the columns taxon_id, name, rank and genus."""
    columns = (taxonomy[name] for name in ("taxon_id", "name", "rank", "genus"))
    return {
        taxon_id: Taxon(name, rank, genus if isinstance(genus, str) else None)
        for taxon_id, name, rank, genus in zip(*columns, strict=True)
    }
