"""What is known of drawn trays besides their pictures: taxa, checklists, barcodes and the counts made by hand."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instar.records.trays.spec import Family, Order, Trays
from instar.records.world_plan import stable_int

#: Columns of BOLD's data packages that are written, and of Dyntaxa's archive.
BOLD_RANKS = ("kingdom", "phylum", "class", "order", "family", "subfamily", "tribe", "genus", "species")
DYNTAXA_COLUMNS = ("taxonId", "parentNameUsageID", "scientificName", "taxonRank", "taxonomicStatus")
BETWEEN_RANKS = ("suborder", "infraorder", "superfamily")
#: Classes that both ways of counting hold.
COUNTED_CLASSES = ("Insecta", "Arachnida")
MICROLEPIDOPTERA = "microlepidoptera"
#: Share of a sample's species that barcoding misses, and of the others that it finds although nothing of them is there.
MISSED, FOREIGN = 0.08, 0.04


@dataclass(frozen=True)
class Species:
    """One invented species with its real family and order."""

    order: Order
    family: Family
    genus: str
    epithet: str

    @property
    def name(self) -> str:
        return f"{self.genus} {self.epithet}"

    def lineage(self) -> dict[str, str]:
        """Rank to name from kingdom to species, as BOLD has it; ranks without a name are left out."""
        names = {
            "kingdom": "Animalia",
            "phylum": self.order.phylum,
            "class": self.order.within,
            "order": self.order.name,
            "family": self.family.name,
            "subfamily": self.family.subfamily,
            "tribe": self.family.tribe,
            "genus": self.genus,
            "species": self.name,
        }
        return {rank: name for rank, name in names.items() if name}

    def between(self) -> dict[str, str]:
        """Rank to name between order and family, as Dyntaxa has it."""
        named = self.order.between.get(self.family.name, {})
        return {rank: named[rank] for rank in BETWEEN_RANKS if rank in named}


def all_species(trays: Trays) -> list[Species]:
    """Every species in the order of the description."""
    return [
        Species(order, family, genus, epithet)
        for order, family in trays.taxa()
        for genus, epithets in family.genera.items()
        for epithet in epithets
    ]


def community(trays: Trays, species: Sequence[Species], rng: np.random.Generator) -> np.ndarray:
    """How common each species is in a sample: float64, shape (n_species,), 0 where it is absent."""
    per_family = {family.name: sum(map(len, family.genera.values())) for _, family in trays.taxa()}
    weights = np.array([one.family.weight / per_family[one.family.name] for one in species])
    there = rng.random(len(species)) < 0.65
    there |= ~there.any()
    return weights * rng.gamma(2, 0.5, len(species)) * there


def dealt(
    lengths_px: np.ndarray,
    median_px: float,
    species: Sequence[Species],
    commonness: np.ndarray,
    rng: np.random.Generator,
) -> list[int]:
    """A species for each body length: common ones, and of about that size; indices into ``species``."""
    usual = np.log([median_px * one.order.size * one.family.size for one in species])
    odds = commonness * np.exp(-(((np.log(lengths_px)[:, None] - usual) / 0.55) ** 2) / 2)
    odds[odds.sum(axis=1) < 1e-12] = commonness  # no species of this sample comes near
    reached = np.cumsum(odds, axis=1)
    drawn = rng.random(len(lengths_px)) * reached[:, -1]
    return [int(pick) for pick in (reached[:, :-1] <= drawn[:, None]).sum(axis=1)]


def taxon_labels(
    one: Species, size: float, others: Sequence[Species], *, wrong: float, rng: np.random.Generator
) -> list[str]:
    """What experts call an insect: the name they are sure of, then finer ones that they are not.

    Args:
        one: what it is.
        size: seen pixels over the square of the usual body length; the larger, the finer the names.
        others: every species, from which wrong names are taken.
        wrong: share of the finer names that are wrong.
        rng: of all choices.
    """
    names = one.lineage() | one.between()
    sharpness = np.log2(max(size, 1e-3)) + rng.normal(0, 0.8)
    ranks: list[str] = [rank for rank in ("class", "order", "family", "genus", "species") if rank in names]
    first = int(np.searchsorted([-3.6, 0.2, 2.6, 4.2], sharpness))
    labels = [names[ranks[first]]]
    finer: list[str] = ranks[first + 1 : first + 2] if rng.random() < 0.6 else []
    if finer == ["family"]:
        optional: list[str] = [rank for rank in ("suborder", "superfamily") if rank in names]
        finer = [*optional[: int(rng.integers(0, 2))], *(["family"] if rng.random() < 0.8 else [])]
        if one.family.micro and rng.random() < 0.7:
            labels.append(MICROLEPIDOPTERA)
    elif finer == ["genus"] and "subfamily" in names and rng.random() < 0.5:
        finer = ["subfamily"]
    for rank in finer:
        name = names[rank]
        if rng.random() < wrong:
            alike = sorted({_rank(other, rank) for other in others if other.order is one.order} - {"", name})
            name = str(rng.choice(alike)) if alike else name
        labels.append(name)
    if first == 1 and one.family.micro and rng.random() < 0.1:
        labels = [MICROLEPIDOPTERA, *labels[1:]] if MICROLEPIDOPTERA not in labels else labels[1:]
    return labels


def _rank(one: Species, rank: str) -> str:
    return (one.lineage() | one.between()).get(rank, "")


# files


def write_bold(path: Path, species: Sequence[Species]) -> None:
    """Barcoded specimens of every species as a BOLD data package has them."""
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(species):
        for again in range(1 + stable_int("specimens", one.name) % 3):
            ids = {"processid": f"DRAWN{len(rows) + 1:04d}-26", "sampleid": f"DR-{number + 1:03d}-{again + 1}"}
            rows.append(ids | one.lineage() | {"bin_uri": f"BOLD:ADR{number:04d}"})
    write_delimited(path, rows, ("processid", "sampleid", *BOLD_RANKS, "bin_uri"), "\t")


def write_dyntaxa(path: Path, species: Sequence[Species]) -> None:
    """The second checklist: ranks between order and family, one genus in another family than BOLD's, and a synonym."""
    numbers: dict[tuple[str, ...], int] = {}
    rows: list[dict[str, Any]] = []
    moved = _moved_genus(species)
    for one in species:
        lineage, between = one.lineage(), one.between()
        if moved and one.genus == moved[0]:
            lineage, between = lineage | {"family": moved[1].family.name}, moved[1].between()
            lineage.pop("subfamily", None), lineage.pop("tribe", None)
        ranked = lineage | between
        order = ("kingdom", "phylum", "class", "order", *BETWEEN_RANKS, "family", "genus", "species")
        path_so_far: tuple[str, ...] = ()
        for rank in (rank for rank in order if rank in ranked):
            parent, path_so_far = path_so_far, (*path_so_far, ranked[rank])
            if path_so_far not in numbers:
                numbers[path_so_far] = 1000001 + len(rows)
                rows.append(_dyntaxa_row(numbers[path_so_far], numbers.get(parent), ranked[rank], rank, "accepted"))
    if rows:
        old = {**rows[-1], "taxonId": _lsid(1000001 + len(rows)), "taxonomicStatus": "synonym"}
        rows.append(old | {"scientificName": f"{rows[-1]['scientificName'].split()[0]} vetusta"})
    write_delimited(path, rows, DYNTAXA_COLUMNS, "\t")


def _moved_genus(species: Sequence[Species]) -> tuple[str, Species] | None:
    """A genus that the second checklist has in another family of the same order, and a species of that family."""
    pairs = [
        (one.genus, other)
        for one in species
        for other in species
        if one.order is other.order and one.family is not other.family and other.between() and one.between()
    ]
    return min(pairs, key=lambda pair: stable_int("moved", pair[0], pair[1].name), default=None)


def _lsid(number: int) -> str:
    return f"urn:lsid:dyntaxa.se:Taxon:{number}"


def _dyntaxa_row(number: int, parent: int | None, name: str, rank: str, status: str) -> dict[str, Any]:
    values = (_lsid(number), _lsid(parent) if parent else "", name, rank, status)
    return dict(zip(DYNTAXA_COLUMNS, values, strict=True))


def barcodes(
    sample: str, species: Sequence[Species], found: set[int], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Rows of the taxa barcoded in a sample: most of what is there, some of what is not, a few to the family only."""
    rows = []
    for number, one in enumerate(species):
        there = rng.random() >= MISSED if number in found else rng.random() < FOREIGN
        coarse, reads = rng.random() < 0.1, int(rng.lognormal(6 if number in found else 3, 1.2)) + 1
        if there:
            lineage = one.lineage()
            if coarse:
                lineage = {rank: name for rank, name in lineage.items() if BOLD_RANKS.index(rank) <= 4}
            rows.append({"sample": sample, **lineage, "reads": reads})
    return rows


def write_delimited(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str], delimiter: str = ",") -> None:
    """A table as text with a header; a missing value is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
