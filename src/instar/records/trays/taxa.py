"""The taxonomy that labels of trays are read by: BOLD's, with the ranks that it lacks from Dyntaxa.

BOLD data packages: https://boldsystems.org/data/data-packages. Dyntaxa, the Swedish taxonomic database, as Darwin Core
Archive: https://www.gbif.org/dataset/de8934f4-a136-481c-a87a-b0b202b80a31.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from instar.errors import InputError
from instar.records.delimited import Malformed, Text, batches, first_row

#: From the highest down.
RANKS: tuple[str, ...] = ("kingdom", "phylum", "class", "order", "suborder", "infraorder", "superfamily", "family")
RANKS += ("subfamily", "tribe", "genus", "species")
#: Those that BOLD has.
BOLD_RANKS = tuple(rank for rank in RANKS if rank not in ("suborder", "infraorder", "superfamily"))
_DYNTAXA_RANKS = ("suborder", "infraorder", "superfamily")

_ENDINGS = {"oidea": "superfamily", "idae": "family", "inae": "subfamily", "ini": "tribe"}

#: A group that is no taxon; it stands between order and superfamily.
INFORMAL = "informal"
MICROLEPIDOPTERA = "microlepidoptera"

#: The superfamilies that are called so: the main groups of Robinson et al. 2001, as listed at the address below;
#: Zygaenoidea, Sesioidea, Cossoidea and Hepialoidea, the "primitive macros", are left out.
#: https://en.wikipedia.org/wiki/Microlepidoptera
_SUPERFAMILIES = """
    Micropterigoidea Eriocranioidea Nepticuloidea Adeloidea Incurvarioidea Tischerioidea Tineoidea
    Gracillarioidea Yponomeutoidea Gelechioidea Alucitoidea Pterophoroidea Carposinoidea Copromorphoidea
    Choreutoidea Epermenioidea Schreckensteinioidea Urodoidea Galacticoidea Douglasioidea Immoidea
    Simaethistoidea Tortricoidea Pyraloidea
"""
MICRO_SUPERFAMILIES = frozenset(_SUPERFAMILIES.split())
#: Their families, for those whose superfamily no source tells.
_FAMILIES = """
    Micropterigidae Eriocraniidae Nepticulidae Opostegidae Heliozelidae Adelidae Incurvariidae Prodoxidae
    Tischeriidae Tineidae Meessiidae Dryadaulidae Eriocottidae Psychidae Bucculatricidae Roeslerstammiidae
    Gracillariidae Yponomeutidae Argyresthiidae Plutellidae Glyphipterigidae Ypsolophidae Lyonetiidae
    Bedelliidae Praydidae Heliodinidae Attevidae Autostichidae Lecithoceridae Oecophoridae Depressariidae
    Elachistidae Ethmiidae Peleopodidae Lypusidae Chimabachidae Coleophoridae Momphidae Batrachedridae
    Blastobasidae Scythrididae Cosmopterigidae Gelechiidae Stathmopodidae Parametriotidae Agonoxenidae
    Symmocidae Holcopogonidae Alucitidae Pterophoridae Carposinidae Copromorphidae Choreutidae Epermeniidae
    Schreckensteiniidae Urodidae Galacticidae Douglasiidae Immidae Tortricidae Pyralidae Crambidae
"""
MICRO_FAMILIES = frozenset(_FAMILIES.split())

#: What sources write where they have no name.
_NO_NAMES = {"", "none", "na", "nan", "n/a", "null", "unknown", "incertae sedis"}

_TWO_WORDS = re.compile(r"[A-Z][a-z]+ ([a-z-]{3,})")
#: Second words that are no epithets, of names at any rank ("Hymenoptera indet").
_NO_EPITHETS = {
    "indet",
    "undet",
    "spp",
    "spec",
    "species",
    "aff",
    "larva",
    "larvae",
    "nymph",
    "nymphs",
    "pupa",
    "pupae",
}
_NO_EPITHETS |= {"adult", "adults", "imago", "egg", "eggs", "female", "male", "fly", "beetle", "wasp", "moth"}

_HEADING_BYTES = 1 << 16

Names = dict[str, str]  # a name for each of some ranks


def taxon_id(rank: str, name: str) -> str:
    """The id of a taxon in taxonomy.parquet."""
    return f"{rank}:{name}"


@dataclass
class Taxa:
    """A tree of taxa by id.

    Attributes:
        parents: id of the taxon above each; None for a kingdom, and where no source says.
        counts: of what sources told differently.
    """

    parents: dict[str, str | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for one in sorted(self.parents, key=_depth):
            self._by_name[one.partition(":")[2].lower()].append(one)

    def find(self, name: str) -> str | None:
        """The taxon of a name; of several with one name that of the highest rank."""
        found = self._by_name.get(" ".join(name.lower().split()))
        return found[0] if found else None

    def path(self, one: str) -> list[str]:
        """The taxon and its ancestors, upwards."""
        path: list[str] = [one]
        while above := self.parents.get(path[-1]):
            path.append(above)
        return path

    def common(self, ids: Iterable[str]) -> str | None:
        """The lowest taxon that all of them are or belong to; None where there is none."""
        paths = [self.path(one) for one in ids]
        return next((one for one in paths[0] if all(one in path for path in paths)), None) if paths else None

    def rows(self, carried: Iterable[str]) -> list[dict[str, Any]]:
        """Rows of ``tables.TAXONOMY`` for taxa and their ancestors, by id."""
        ids = {step for one in carried for step in self.path(one)}
        return [self._row(one) for one in sorted(ids)]

    def _row(self, one: str) -> dict[str, Any]:
        path = self.path(one)
        names = dict(step.split(":", 1) for step in path)
        rank, name = one.split(":", 1)
        ranks = {key: names.get(key) for key in ("species", "genus", "family")}
        return {"taxon_id": one, "name": name, "rank": rank, "parent_id": path[1] if path[1:] else None, **ranks}


def _depth(one: str) -> tuple[float, str]:
    rank = one.partition(":")[0]
    # an informal group stands between infraorder and superfamily
    return (RANKS.index("superfamily") - 0.5 if rank == INFORMAL else RANKS.index(rank)), one


def rank_depth(one: str) -> float:
    """How far down a taxon's rank is: 0 for a kingdom, 11 for a species."""
    return _depth(one)[0]


def depth_by_form(name: str) -> float:
    """How far down a name's rank is by its form alone, -inf where that tells nothing.

    Family-group names end as the International Code of Zoological Nomenclature, article 29.2, says; a name
    with a capital and an epithet is a species.
    """
    if " " in name:
        words = _TWO_WORDS.fullmatch(name)
        rank = "species" if words and words[1] not in _NO_EPITHETS else None
    else:
        rank = next((rank for end, rank in _ENDINGS.items() if name.endswith(end)), None)
    return RANKS.index(rank) if rank else -math.inf


def read_taxa(bold: Path, dyntaxa: Path, barcodes: Iterable[Names]) -> Taxa:
    """The taxonomy from the files that are there.

    Suborder, infraorder and superfamily of a family are those that Dyntaxa tells for most of its genera, found by name
    within phylum and class, where it has them in the same order; where the two differ, BOLD is followed. Names that
    BOLD does not have come from Dyntaxa. Suborders and infraorders cut across the informal group microlepidoptera, so
    it stands right below Lepidoptera and its superfamilies, or families without one, right below it.

    Args:
        bold: BOLD's data package, tab-separated, with its columns from kingdom to species; need not be there.
        dyntaxa: Darwin Core's table of taxa, tab-separated; need not be there.
        barcodes: further names from BOLD.

    Raises:
        InputError: if a file has not the columns that it needs.
    """
    malformed = {path.name: Malformed() for path in (bold, dyntaxa)}
    # of BOLD's millions of rows most repeat another one's names
    from_bold = _distinct(chain(_bold(bold, malformed[bold.name]) if bold.is_file() else (), barcodes))
    told = read_dyntaxa(dyntaxa, malformed[dyntaxa.name]) if dyntaxa.is_file() else []
    counts = +Counter({f"malformed rows of {name}": one.rows for name, one in malformed.items()})
    between = _between(from_bold, told, counts)
    counts["taxa that BOLD places in several"] += _ambiguous(from_bold)
    whole = [one | between.get(_family(one), {}) for one in from_bold]
    # what BOLD says of a taxon is settled before Dyntaxa is asked for others
    parents = _parents(whole)
    for child, parent in _parents(told).items():
        parents.setdefault(child, parent)
    _informal(parents)
    return Taxa(parents, counts)


def _distinct(rows: Iterable[Names]) -> list[Names]:
    return [dict(items) for items in dict.fromkeys(tuple(sorted(row.items())) for row in rows)]


def _bold(path: Path, malformed: Malformed) -> Iterator[Names]:
    for row in table(path, BOLD_RANKS, need=("class", "order", "family"), malformed=malformed):
        yield named(row, BOLD_RANKS)


def named(row: Mapping[str, str], ranks: Iterable[str]) -> Names:
    """The names of a row at these ranks; a species without a space is a part of a name and left out."""
    names = {rank: " ".join((row.get(rank) or "").split()) for rank in ranks}
    return {
        rank: name
        for rank, name in names.items()
        if name.lower() not in _NO_NAMES and (rank != "species" or " " in name)
    }


def read_dyntaxa(path: Path, malformed: Malformed | None = None) -> list[Names]:
    """The lineage of every accepted taxon at one of ``RANKS``.

    Args:
        path: of the table.
        malformed: as for ``table``.

    Raises:
        InputError: if the file lacks a column, or a taxon is its own ancestor.
    """
    columns = ("taxonId", "parentNameUsageID", "scientificName", "taxonRank", "taxonomicStatus")
    found: dict[str, tuple[str, str, str]] = {}
    for row in table(path, columns, need=columns[:4], malformed=malformed):
        if (row.get("taxonomicStatus") or "accepted").lower() in ("accepted", "valid"):
            found[row["taxonId"]] = row["parentNameUsageID"], row["taxonRank"].lower(), row["scientificName"]
    lineages = []
    for taxon, (_, rank, _) in found.items():
        if rank in RANKS:
            lineages.append(_lineage(taxon, found, path))
    return lineages


def _lineage(taxon: str, found: dict[str, tuple[str, str, str]], path: Path) -> Names:
    names: Names = {}
    seen: set[str] = set()
    one = taxon
    while one in found:
        if one in seen:
            raise InputError(f"{path}: taxon {taxon} is its own ancestor; mend its parentNameUsageID")
        seen.add(one)
        one, rank, name = found[one]
        if rank in RANKS:
            names.setdefault(rank, name)
    return names


def _family(names: Names) -> tuple[str, ...]:
    return tuple(names.get(rank, "") for rank in ("phylum", "class", "order", "family"))


def _between(from_bold: list[Names], told: list[Names], counts: Counter[str]) -> dict[tuple[str, ...], Names]:
    """Suborder, infraorder and superfamily of BOLD's families, by ``_family``."""
    genera = {
        (one.get("phylum"), one.get("class"), one["genus"]): one
        for one in told
        if "genus" in one and "species" not in one
    }
    votes: dict[tuple[str, ...], Counter[tuple[str, ...]]] = defaultdict(Counter)
    asked = {(*_family(one), one["genus"]) for one in from_bold if one.get("family") and one.get("genus")}
    for *family, genus in sorted(asked):
        theirs = genera.get((family[0], family[1], genus))
        if theirs is None:
            counts["genera of BOLD that Dyntaxa does not have"] += 1
        elif theirs.get("order") != family[2] or theirs.get("family") != family[3]:
            counts["genera that Dyntaxa places elsewhere than BOLD"] += 1
        else:
            votes[tuple(family)][tuple(theirs.get(rank, "") for rank in _DYNTAXA_RANKS)] += 1
    chosen = {family: min(given, key=lambda one: (-given[one], one)) for family, given in votes.items()}
    counts["families of BOLD completed from Dyntaxa"] += len(chosen)
    return {
        family: {rank: name for rank, name in zip(_DYNTAXA_RANKS, one, strict=True) if name}
        for family, one in chosen.items()
    }


def _parents(lineages: list[Names]) -> dict[str, str | None]:
    """The parent of each taxon that most lineages tell, the lowest told one where some leave out a rank."""
    votes: dict[str, Counter[str | None]] = defaultdict(Counter)
    for names in lineages:
        parent = None
        for rank in RANKS:
            if rank in names:
                one = taxon_id(rank, names[rank])
                votes[one][parent] += 1
                parent = one
    chosen: dict[str, str | None] = {}
    for one, given in votes.items():
        # BOLD's rows of one genus may tell its family, its subfamily or neither
        deepest = max(_depth(parent)[0] if parent else -1 for parent in given)
        level = {p: n for p, n in given.items() if (_depth(p)[0] if p else -1) == deepest}
        chosen[one] = min(level, key=lambda p: (-level[p], p or ""))
    return chosen


def _ambiguous(lineages: list[Names]) -> int:
    """How many taxa stand in two taxa of one rank."""
    above: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for names in lineages:
        told = [rank for rank in RANKS if rank in names]
        for rank, below in pairwise(told):
            above[below, names[below], rank].add(names[rank])
    return len({key[:2] for key, parents in above.items() if len(parents) > 1})


def _informal(parents: dict[str, str | None]) -> None:
    """Put the informal group above its superfamilies and families."""
    order, group = taxon_id("order", "Lepidoptera"), taxon_id(INFORMAL, MICROLEPIDOPTERA)
    if order not in parents:
        return
    parents[group] = order
    superfamilies = {taxon_id("superfamily", name) for name in MICRO_SUPERFAMILIES}
    families = {taxon_id("family", name) for name in MICRO_FAMILIES}
    for one, parent in list(parents.items()):
        above = (parent or "").partition(":")[0]
        if one in superfamilies or (one in families and above in ("", "order", "suborder", "infraorder")):
            parents[one] = group


def table(
    path: Path, columns: tuple[str, ...], *, need: tuple[str, ...] | None = None, malformed: Malformed | None = None
) -> Iterator[dict[str, str]]:
    """Rows of a delimited text of any size: some columns, whatever the case of their names, as stripped text.

    Args:
        path: with a heading; fields are separated by commas, semicolons or tabs, as there.
        columns: that are read.
        need: those that must be there; all by default.
        malformed: gets the rows that cannot be read; without it the first one is an error.

    Raises:
        InputError: if a column is missing, or a row cannot be read and there is no ``malformed``, or most cannot.
    """
    with path.open("rb") as file:
        heading = file.readline(_HEADING_BYTES).decode("utf-8-sig", "replace")
    delimiter = max("\t,;", key=heading.count)
    # tab-separated archives do not quote
    text = Text(str(path), lambda: path.open("rb"), delimiter, "" if delimiter == "\t" else '"')
    given = [name.strip().lower().removeprefix("\ufeff") for name in first_row(text, after=0)]
    wanted = {name: given.index(name.lower()) for name in columns if name.lower() in given}
    if missing := [name for name in (columns if need is None else need) if name not in wanted]:
        raise InputError(f"{path}: line 1: column {missing[0]} is missing; it has {', '.join(given) or 'nothing'}")
    for batch in batches(text, given, wanted, malformed):
        for row in batch.to_pylist():
            yield {name: (value or "").strip() for name, value in row.items()}
