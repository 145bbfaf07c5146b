"""Photographs as they are read: taken or dropped, most of them on disk, never a table's worth of Python objects."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from instar.records.spill import Rows
from instar.records.taxonomy import Lineage
from instar.tables import RECORDS, RECORDS_DROPPED

#: A row of ``tables.RECORDS`` before its shard is known.
FOUND = RECORDS.remove(RECORDS.get_field_index("shard"))

#: Why a photograph is dropped whose row in its table, or its observation's, cannot be read.
MALFORMED, MALFORMED_OBSERVATION = "malformed row", "malformed observation"
NOT_ALLOWED = "licence not allowed"

# the observation is where GBIF's other photographs of the same occurrence belong
_DROPPED = RECORDS_DROPPED.append(pa.field("observation_id", pa.string()))

_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")


class Gathering:
    """What one source gave.

    Args:
        folder: where the temporary files lie that hold what does not fit into memory; the system's by default.

    Attributes:
        other_taxon: photographs outside the wanted taxon; they are counted and not listed, being nearly all of a table.
        lineages: of the taxa that the photographs carry.
        inactive: ids of taxa whose name the source calls out of use without saying which one took its place.
        synonyms: ids of the accepted taxa, by the id that a synonym would have.
        malformed: rows that could not be read, by the name of their table.
        excluded: photographs whose licence is not allowed, by licence.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.other_taxon = 0
        self.lineages: set[Lineage] = set()
        self.inactive: set[str] = set()
        self.synonyms: dict[str, set[str]] = {}
        self.malformed: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self._found = Rows(FOUND, folder)
        self._dropped = Rows(_DROPPED, folder)
        self._replaced: list[tuple[str, Callable[[pa.Table], pa.ChunkedArray]]] = []

    def add(self, rows: Iterable[tuple[dict[str, Any], str | None]]) -> None:
        """Add rows of ``FOUND``, each with None or with the reason why it is dropped."""
        nullable = pa.schema([field.with_nullable(True) for field in FOUND])
        given = list(rows)
        table = pa.Table.from_pylist([row for row, _ in given], nullable)
        self.add_table(table, pa.array([reason for _, reason in given], pa.string()))

    def add_table(self, rows: pa.Table, reasons: pa.Array | pa.ChunkedArray) -> None:
        """Add rows of ``FOUND``; string, null where the row is taken or the reason why it is dropped.

        A table without regions is of a source whose photographs are searched whole.
        """
        if "region" not in rows.column_names:
            rows = rows.append_column(FOUND.field("region"), pa.nulls(len(rows), FOUND.field("region").type))
        self._found.add(rows.filter(pc.is_null(reasons)))
        dropped = rows.append_column("reason", reasons).filter(pc.is_valid(reasons))
        self._dropped.add(dropped)
        self.excluded.update(dropped.filter(pc.equal(dropped["reason"], NOT_ALLOWED))["licence"].to_pylist())

    def add_malformed(self, table: str, rows: int, source: str | None = None) -> None:
        """Count a table's rows that could not be read; with a source they are its photographs, and dropped."""
        if rows:
            self.malformed[table] += rows
        if source:
            row = {"source": source, "reason": MALFORMED}
            self._dropped.add(pa.Table.from_pylist([row] * rows, _DROPPED))

    def replace(self, name: str, values: Callable[[pa.Table], pa.ChunkedArray]) -> None:
        """Put other values into a column of the taken photographs, made from some rows at a time when they are read."""
        self._replaced.append((name, values))

    def tables(self) -> Iterator[pa.Table]:
        """The photographs taken so far, some at a time, with the columns of ``FOUND``."""
        for rows in self._found:
            for name, values in self._replaced:
                rows = rows.set_column(FOUND.get_field_index(name), FOUND.field(name), values(rows))
            yield rows

    def dropped_tables(self) -> Iterator[pa.Table]:
        """The photographs dropped so far, some at a time, with the columns of ``tables.RECORDS_DROPPED``."""
        return (rows.select(RECORDS_DROPPED.names) for rows in self._dropped)

    @property
    def found(self) -> pa.Table:
        """All photographs taken so far in memory."""
        return pa.concat_tables(self.tables())

    @property
    def dropped(self) -> pa.Table:
        """All photographs dropped so far in memory."""
        return pa.concat_tables(self.dropped_tables())

    @property
    def observations(self) -> pa.Table:
        """The observation of each photograph, taken ones first, with the columns photo_id and observation_id."""
        schema = pa.schema([pa.field(name, pa.string()) for name in ("photo_id", "observation_id")])
        parts = [self.tables(), iter(self._dropped)]
        # of two observations of a photograph the first, as in stage._once
        return pa.concat_tables(
            [
                pa.concat_tables(rows.select(schema.names).cast(schema) for rows in part).sort_by("observation_id")
                for part in parts
            ]
        )


def short_hash(text: str) -> str:
    """The first 16 hexadecimal digits of a text's sha1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def number(text: str | None) -> float | None:
    """The number that a text is; None where it is none or is not there."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def coordinates(latitude: float | None, longitude: float | None) -> tuple[float | None, float | None]:
    """Both degrees, or two nulls where one is missing, not finite or off the globe."""
    if latitude is None or longitude is None or not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return None, None
    return latitude, longitude


def utc_time(text: str | None) -> datetime | None:
    """The start of an ISO 8601 date, time or interval in UTC; a missing month or day is the first, no zone is UTC.

    >>> utc_time("2011-05/2011-07").isoformat(), utc_time("2011-06-02T01:30:00+02:00").isoformat(), utc_time("spring")
    ('2011-05-01T00:00:00+00:00', '2011-06-01T23:30:00+00:00', None)
    """
    start = (text or "").split("/")[0].strip()
    try:
        if match := _DATE.fullmatch(start):
            year, month, day = (int(part or 1) for part in match.groups())
            moment = datetime.combine(date(year, month, day), datetime.min.time())
        else:
            moment = datetime.fromisoformat(start)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment.replace(microsecond=0)
