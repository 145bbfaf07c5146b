"""Photographs' samples and the specimens in them that were sorted and counted by hand."""

from dataclasses import dataclass
from pathlib import Path

from instar.errors import InputError
from instar.tables import SPECIMENS, csv_rows


@dataclass(frozen=True)
class Specimens:
    """What the sample table tells of a photograph: all specimens, and those of Insecta and Arachnida.

    A count that nobody made is None.
    """

    sample: str
    specimens: int | None
    of_classes: int | None


def read_specimens(path: Path) -> dict[str, Specimens]:
    """The sample table by photograph; a header alone where there is none.

    Where a sample lies on several photographs, each has the count of the specimens on it.

    Raises:
        InputError: if it is no such CSV, a count is no whole number or below 0, or a photograph is told twice.
    """
    found: dict[str, Specimens] = {}
    for line, row in csv_rows(path, SPECIMENS):
        if row["photo_key"] in found:
            raise InputError(f"{path}: line {line}: photograph {row['photo_key']} is told twice; keep one line")
        counts = [_count(row[name], f"{path}: line {line}: {name}") for name in SPECIMENS[2:]]
        found[row["photo_key"]] = Specimens(row["sample"], *counts)
    return found


def _count(text: str, where: str) -> int | None:
    if text and not text.isdecimal():
        raise InputError(f"{where} = {text!r} is no number of specimens; write a whole number or nothing")
    return int(text) if text else None
