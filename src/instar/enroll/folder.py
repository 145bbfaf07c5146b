"""The photographs that are to be enrolled: one folder per individual, or a table in wildlife-datasets' form."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from instar.errors import InputError
from instar.records.folder import SUFFIXES
from instar.records.individuals.dates import read_dates
from instar.records.individuals.table import (
    DIFFERENTLY,
    TABLE,
    Row,
    find_files,
    mark_repeated,
    read_folders,
    read_table,
)
from instar.splits import encounter_of, individual_of

#: Why no photograph is taken of a file of which a row has a box.
BOXED = "the table has a bbox for its file, which enroll does not read; cut the individuals out, or remove the bbox"


@dataclass(frozen=True)
class Photograph:
    """A photograph of a named individual.

    Attributes:
        path: of its file.
        identity: the individual.
        dataset: that the individual is of.
        species: None where it is not told.
        orientation: the side that it shows; None where it is not told.
        encounter: the individual and the day; None where that is not told.
    """

    path: Path
    identity: str
    dataset: str
    species: str | None
    orientation: str | None
    encounter: str | None


def read_photographs(
    folder: Path, *, dataset: str | None, known: Collection[tuple[str, str]]
) -> tuple[list[Photograph], list[tuple[str, str]]]:
    """The photographs of a folder, and those that are not taken, each with the reason.

    Args:
        folder: with ``metadata.csv``, or ``<individual>/*.jpg`` itself or below ``images``.
        dataset: of photographs for which the table tells none.
        known: individuals of the gallery, each with its data set; the only data set is taken where none is told. A name
            that a data set has with its own before it, since others have the name, too, is that individual's.

    Raises:
        InputError: if there is no photograph, the table can't be read, or a data set must be named.
    """
    if not folder.is_dir():
        told = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {told}; name a folder with a folder for each individual in it, or with {TABLE}")
    rows = read_table(folder / TABLE) if (folder / TABLE).is_file() else read_folders(folder, home=_home(folder))
    rows = list(find_files(folder, rows))
    _mark_boxed(rows)
    mark_repeated(rows)
    times, _ = read_dates([row.date for row in rows])
    datasets = sorted({name for _, name in known})
    taken, left = [], []
    for row, time in zip(rows, times, strict=True):
        if row.reason or row.identity is None:
            left.append((row.path, row.reason or "a query, which names no individual"))
            continue
        of_dataset = row.dataset or dataset or _only(folder, row, datasets)
        shared = individual_of(row.identity, of_dataset)
        identity = shared if (shared, of_dataset) in known else row.identity
        encounter = encounter_of(identity, time, "") or None
        taken.append(Photograph(folder / row.url, identity, of_dataset, row.species, row.orientation, encounter))
    return taken, left


def _mark_boxed(rows: list[Row]) -> None:
    """Give the reason to rows of files that show other individuals, too, or may: the whole would count as one."""
    boxed = {row.url for row in rows if row.bbox is not None}
    for row in rows:
        if row.url in boxed and not row.is_query:
            row.reason = row.reason or BOXED


def _home(folder: Path) -> Path:
    """Where the folders of the individuals lie."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _only(folder: Path, row: Row, known: list[str]) -> str:
    if len(known) != 1:
        told = ", ".join(known) or "none"
        raise InputError(f"{folder}: {row.path} tells no data set, and the gallery has {told}; name one with --dataset")
    return known[0]


def passed_over(folder: Path) -> list[Path]:
    """Files that have no photograph's ending, hidden ones left out; none where a table names the photographs."""
    if (folder / TABLE).is_file():
        return []
    home = _home(folder)
    files = (path for path in sorted(home.rglob("*")) if path.suffix.lower() not in SUFFIXES and path.is_file())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(home).parts)]


def clashes(reasons: list[tuple[str, str]]) -> bool:
    """Whether a photograph is not taken since it has two names."""
    return any(reason == DIFFERENTLY for _, reason in reasons)


def counted(reasons: list[tuple[str, str]]) -> list[str]:
    """A line for each reason: how many photographs, and the first of them."""
    first: dict[str, str] = {}
    for name, reason in reasons:
        first.setdefault(reason, name)
    counts = Counter(reason for _, reason in reasons)
    return [f"{count} not enrolled: {reason}, such as {first[reason]}" for reason, count in sorted(counts.items())]
