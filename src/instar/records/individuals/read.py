"""Reading a source of photographs of individuals into records and ``individuals.parquet``."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from instar.errors import InputError
from instar.files import sha256_of
from instar.licences import normalise
from instar.progress import progress
from instar.records.gathering import NOT_ALLOWED, Gathering
from instar.records.individuals.dates import AMBIGUOUS, UNREAD, WITHOUT_DAY, read_dates
from instar.records.individuals.table import (
    DATASET,
    SOURCE,
    SUBMISSION,
    TABLE,
    Row,
    find_files,
    find_regions,
    mark_repeated,
    read_folders,
    read_submission,
    read_table,
)
from instar.records.names import parse
from instar.records.taxonomy import Lineage, lineage
from instar.reid.orientation import read_sides
from instar.splits import encounter_of, individual_of
from instar.tables import csv_rows

#: Photographs that are handed on together.
CHUNK = 4096


@dataclass(frozen=True)
class Individuals:
    """What a source of individuals gives.

    Attributes:
        gathering: the photographs, taken and dropped.
        rows: of ``tables.INDIVIDUALS``, of the taken ones, in the source's order.
        counts: for the metrics.
    """

    gathering: Gathering
    rows: list[dict[str, Any]]
    counts: dict[str, Any]


def read(
    source: Path,
    *,
    taxon: str = "",
    licences: list[str] | None = None,
    work: Path | None = None,
    manifest: Path | None = None,
) -> Individuals:
    """Read ``<source>/metadata.csv`` in wildlife-datasets' form, or ``<source>/images/<individual>``.

    Of the table only identity and path must be there; paths are those of files below the source or its ``images``.
    What is asked for stands in ``sample_submission.csv``, where there is one. An identity that stands in two data sets
    is two individuals, each with its data set's name before its own (``splits.name_of``). An encounter is an individual
    and a day; a photograph without either is one alone. With a ``bbox`` only that part of the photograph is searched;
    a ``segmentation`` is not read.

    Args:
        source: the folder.
        taxon: species or genus; photographs that the table says to be of another are counted and not taken.
        licences: short names of those allowed; a photograph of which the table tells no licence is taken.
        work: folder for temporary files.
        manifest: CSV with file and sha256 of the source's files; those that it lacks are read.

    Raises:
        InputError: if a table cannot be read or lacks a column, there is no photograph, or two get one name.
    """
    rows = read_table(source / TABLE) if (source / TABLE).is_file() else read_folders(source)
    asked = read_submission(source / SUBMISSION)
    times, dates = read_dates([row.date for row in rows])
    rows = list(progress(find_files(source, rows), "photographs looked for", len(rows)))
    for row in rows:
        row.dataset = row.dataset or DATASET
    if boxed := [row for row in rows if row.bbox]:
        find_regions(source, progress(boxed, "boxes looked at", len(boxed)))
    repeated = mark_repeated(rows)
    shared = _name_individuals(source, rows)
    hashes = _hashes(manifest)
    gathering = Gathering(work)
    held: list[tuple[dict[str, Any], str | None]] = []
    unread: list[Row] = []
    taken: list[dict[str, Any]] = []
    used: list[Row] = []
    for row, time in progress(zip(rows, times, strict=True), "photographs", len(rows)):
        found = _lineage(row.species)
        if taxon and row.species and taxon not in (found.species, found.genus):
            gathering.other_taxon += 1
            continue
        licence = normalise(row.licence) if row.licence else None
        if licence and licences is not None and licence not in licences:
            row.reason = row.reason or NOT_ALLOWED
        gathering.lineages.add(found)
        one = _record(row, time, licence or "unknown", found)
        if row.reason is None:
            one["sha256"] = hashes.get(row.url) or sha256_of(source / row.url)
            taken.append(_individual(row, time, one, asked))
            used.append(row)
        if licence == "unknown":
            unread.append(row)
        held.append((one, row.reason))
        if len(held) == CHUNK:
            gathering.add(held)
            held = []
    gathering.add(held)
    counts = {**_counts(taken), "dates": dict(sorted(dates.items())), "files_in_several_rows": repeated}
    counts["names_in_several_datasets"] = shared
    counts["licences_not_read"] = len(unread)
    counts["queries_with_identity"] = sum(row.had_identity for row in rows)
    counts["boxes"] = sum(row.region is not None for row in used)
    counts["boxes_cut"] = sum(row.cut for row in used)
    counts["segmentations_not_read"] = sum(row.outlined for row in rows)
    counts["submission"] = _submission(asked, rows, taken)
    for line in _warnings(source, rows, counts, dates, unread, [row for row in used if row.cut]):
        print(line, file=sys.stderr)
    return Individuals(gathering, taken, counts)


def _name_individuals(source: Path, rows: Iterable[Row]) -> int:
    """Name each individual so that it is the only one; returns how many identities stand in several data sets."""
    datasets_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.identity is not None:
            datasets_of[row.identity].add(row.dataset)
    whose: dict[str, tuple[str, str]] = {}
    for row in rows:
        if row.identity is None:
            continue
        # of a name that begins as if its data set stood before it that would be taken away again
        alone = len(datasets_of[row.identity]) == 1 and not row.identity.startswith(f"{row.dataset}/")
        row.individual = row.identity if alone else individual_of(row.identity, row.dataset)
        if whose.setdefault(row.individual, (row.dataset, row.identity)) != (row.dataset, row.identity):
            both = f"{row.identity} in {row.dataset} and {' in '.join(whose[row.individual][::-1])}"
            raise InputError(f"{source}: identity {both} would both be {row.individual}; rename one")
    return sum(len(datasets) > 1 for datasets in datasets_of.values())


def _hashes(manifest: Path | None) -> Mapping[str, str]:
    if manifest is None or not manifest.is_file():
        return {}
    return {row["file"]: row["sha256"] for _, row in csv_rows(manifest, ("file", "sha256"))}


def _lineage(species: str | None) -> Lineage:
    """A scientific name's genus is its first word; a common name has none."""
    return lineage(species, None, None) if species and parse(species).species else Lineage(species, None, None)


def _record(row: Row, time: datetime | None, licence: str, found: Lineage) -> dict[str, Any]:
    return {
        "key": f"{SOURCE}-{row.photo_id}",
        "source": SOURCE,
        "photo_id": row.photo_id,
        "observation_id": encounter_of(row.individual, time, f"{SOURCE}-{row.photo_id}"),
        "url": row.url,
        "taxon_id": found.taxon_id,
        "observed_at": time,
        "basis": "field",
        "licence": licence,
        "rights_holder": row.rights_holder or row.creator,
        "region": row.region,
        "creator": row.creator,
    }


def _individual(row: Row, time: datetime | None, record: dict[str, Any], asked: dict[str, int]) -> dict[str, Any]:
    return {
        "photo_key": record["key"],
        "image_id": row.image_id,
        "identity": row.individual,
        "part": row.part,
        "dataset": row.dataset,
        "species": row.species,
        "orientation": row.orientation,
        "date": time,
        "encounter": record["observation_id"],
        "row": row.place,
        # an answer about a photograph whose individual is told would be no answer
        "submission_row": asked.get(row.image_id) if row.is_query else None,
        "submission_rows": len(asked) or None,
    }


def _counts(taken: list[dict[str, Any]]) -> dict[str, Any]:
    per_identity = Counter(row["identity"] for row in taken if row["identity"] is not None)
    words = Counter(row["orientation"] for row in taken if row["orientation"])
    return {
        "photographs": len(taken),
        "parts": _ordered(Counter(row["part"] or "not told" for row in taken)),
        "datasets": {name: _of_dataset(rows) for name, rows in sorted(_by_dataset(taken).items())},
        "identities": len(per_identity),
        "seen_once": sum(count == 1 for count in per_identity.values()),
        "encounters": len({row["encounter"] for row in taken if row["identity"] is not None}),
        "orientations": _ordered(words),
        "unknown_orientations": sum(count for word, count in words.items() if read_sides(word) is None),
    }


def _by_dataset(taken: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in taken:
        found[row["dataset"]].append(row)
    return found


def _of_dataset(rows: list[dict[str, Any]]) -> dict[str, int]:
    queries = sum(row["part"] == "query" for row in rows)
    identities = {row["identity"] for row in rows} - {None}
    return {"photographs": len(rows), "queries": queries, "identities": len(identities)}


def _submission(asked: dict[str, int], rows: list[Row], taken: list[dict[str, Any]]) -> dict[str, int]:
    """What is asked for, and what cannot be answered."""
    part = {row.image_id: row.is_query for row in rows}
    answered = {row["image_id"] for row in taken if row["part"] == "query"}
    return {
        "asked": len(asked),
        "not_in_the_table": sum(image_id not in part for image_id in asked),
        "no_query": sum(part.get(image_id, True) is False for image_id in asked),
        "query_not_taken": sum(part.get(image_id, False) and image_id not in answered for image_id in asked),
        "query_not_asked_for": len(answered - asked.keys()) if asked else 0,
    }


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _warnings(
    source: Path, rows: list[Row], counts: dict[str, Any], dates: Counter[str], unread: list[Row], cut: list[Row]
) -> Iterator[str]:
    """What is counted and goes on, but was perhaps not meant."""
    table = source / TABLE if rows[0].line else source
    reasons: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.reason:
            reasons[row.reason].append(row)
    for reason, dropped in sorted(reasons.items()):
        yield f"{table}: photographs dropped: {reason}: {len(dropped)}, such as {_named(dropped[0])}"
    if given := [row for row in rows if row.had_identity]:
        yield f"{table}: {len(given)} queries have an identity, which is not used, such as {_named(given[0])}"
    if cut:
        yield f"{table}: {len(cut)} boxes lead out of their photographs and are cut, such as {_named(cut[0])}"
    if outlined := [row for row in rows if row.outlined]:
        yield f"{table}: {len(outlined)} rows have a segmentation, which is not read, such as {_named(outlined[0])}"
    if counts["files_in_several_rows"]:
        yield f"{table}: {counts['files_in_several_rows']} files stand in several rows"
    for way in (AMBIGUOUS, WITHOUT_DAY, UNREAD):
        if dates[way]:
            yield f"{table}: dates {way}: {dates[way]}, taken as missing; write them as 2019-07-31"
    if counts["unknown_orientations"]:
        words = ", ".join(word for word in counts["orientations"] if read_sides(word) is None)
        yield f"{table}: orientations of unknown words, kept as they are: {counts['unknown_orientations']} ({words})"
    if counts["names_in_several_datasets"]:
        shared = counts["names_in_several_datasets"]
        such = next(row.individual for row in rows if row.individual != row.identity)
        yield f"{table}: {shared} identities stand in several datasets; they are an individual of each, such as {such}"
    if unread:
        told = f"{len(unread)} licences that are not read count as unknown, such as {unread[0].licence}"
        yield f"{table}: {told}, {_named(unread[0])}; look whether they allow what you do"
    told = counts["submission"]
    for name in ("not_in_the_table", "no_query", "query_not_taken"):
        if told[name]:
            yield f"{source / SUBMISSION}: {told[name]} images that it asks for cannot be answered: {_SAID[name]}"
    if told["query_not_asked_for"]:
        yield f"{source / SUBMISSION}: does not ask for {told['query_not_asked_for']} queries"


_SAID = {
    "not_in_the_table": f"not in {TABLE}",
    "no_query": f"no queries in {TABLE}; give them the split query there, or take them out of the sample",
    "query_not_taken": "their photographs were dropped",
}


def _named(row: Row) -> str:
    return f"line {row.line} ({row.path})" if row.line else row.path
