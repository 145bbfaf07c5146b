"""Photographs as they are read: taken or dropped, in Arrow's memory, never a table's worth of Python objects."""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from instar.records.taxonomy import Lineage
from instar.tables import RECORDS, RECORDS_DROPPED

#: A row of ``tables.RECORDS`` before its shard is known.
FOUND = RECORDS.remove(RECORDS.get_field_index("shard"))

# the observation is where GBIF's other photographs of the same occurrence belong
_DROPPED = RECORDS_DROPPED.append(pa.field("observation_id", pa.string()))

_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")


class Gathering:
    """What one source gave.

    Attributes:
        other_taxon: photographs outside the wanted taxon; they are counted and not listed, being nearly all of a table.
        lineages: of the taxa that the photographs carry.
        inactive: ids of taxa whose name the source calls out of use without saying which one took its place.
        synonyms: ids of the accepted taxa, by the id that a synonym would have.
    """

    def __init__(self) -> None:
        self.other_taxon = 0
        self.lineages: set[Lineage] = set()
        self.inactive: set[str] = set()
        self.synonyms: dict[str, set[str]] = {}
        self._found: list[pa.RecordBatch] = []
        self._dropped: list[pa.RecordBatch] = []

    def add(self, rows: Iterable[tuple[dict[str, Any], str | None]]) -> None:
        """Add rows of ``FOUND``, each with None or with the reason why it is dropped."""
        found, dropped = [], []
        for row, reason in rows:
            if reason is None:
                found.append(row)
            else:
                dropped.append({**{name: row.get(name) for name in _DROPPED.names}, "reason": reason})
        self._found.append(pa.RecordBatch.from_pylist(found, FOUND))
        self._dropped.append(pa.RecordBatch.from_pylist(dropped, _DROPPED))

    def replace_column(self, name: str, values: pa.Array | pa.ChunkedArray) -> None:
        """Put other values into a column of the taken photographs, in the order of ``found``."""
        table = self.found.set_column(FOUND.get_field_index(name), FOUND.field(name), values)
        self._found = table.to_batches()

    @property
    def found(self) -> pa.Table:
        """The photographs taken so far, with the columns of ``FOUND``."""
        return pa.Table.from_batches(self._found, FOUND)

    @property
    def dropped(self) -> pa.Table:
        """The photographs dropped so far, with the columns of ``tables.RECORDS_DROPPED``."""
        return pa.Table.from_batches(self._dropped, _DROPPED).select(RECORDS_DROPPED.names)

    @property
    def observations(self) -> pa.Table:
        """The observation of each photograph, taken ones first, with the columns photo_id and observation_id."""
        schema = pa.schema([pa.field(name, pa.string()) for name in ("photo_id", "observation_id")])
        parts = [self.found, pa.Table.from_batches(self._dropped, _DROPPED)]
        # of two observations of a photograph the first, as in stage._once
        return pa.concat_tables([part.select(schema.names).cast(schema).sort_by("observation_id") for part in parts])


def short_hash(text: str) -> str:
    """The first 16 hexadecimal digits of a text's sha1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


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
