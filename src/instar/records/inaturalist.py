"""iNaturalist's open data: tab-separated tables of photos, observations, taxa and observers.

The columns are those of https://github.com/inaturalist/inaturalist-open-data. A double quote is a character like any
other: the tables are made for PostgreSQL's COPY with the backspace as quote.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.licences import normalise
from instar.progress import progress
from instar.records.delimited import Malformed, Text, batches, first_row
from instar.records.gathering import FOUND, MALFORMED, MALFORMED_OBSERVATION, NOT_ALLOWED, Gathering, number, utc_time
from instar.records.hashes import Sieve, hashes
from instar.records.names import Names
from instar.records.spill import Buckets
from instar.records.taxonomy import Lineage, lineage
from instar.tables import TIME

SOURCE = "inaturalist"
FOLDER = "inaturalist-open-data"

_PHOTOS = ["photo_id", "observation_uuid", "observer_id", "extension", "license"]
_OBSERVATIONS = ["observation_uuid", "observer_id", "latitude", "longitude", "taxon_id", "quality_grade", "observed_on"]
_TAXA = ["taxon_id", "ancestry", "rank", "name", "active"]
_OBSERVERS = ["observer_id", "login", "name"]

#: What is kept of an observation while the photos are read.
_OBSERVATION = pa.schema(
    [
        pa.field("observation_uuid", pa.string()),
        pa.field("observer_id", pa.string()),
        pa.field("taxon_id", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("observed_at", TIME),
        pa.field("reason", pa.string()),
    ]
)
_PHOTO = pa.schema([pa.field(name, pa.string()) for name in _PHOTOS])

_BUCKET = "https://inaturalist-open-data.s3.amazonaws.com/photos/"
#: Of a photograph that one can ask for.
PHOTO_ID = r"^[0-9]{1,18}$"

#: Photographs and observations are joined one bucket at a time.
_BUCKETS = 256


class Taxon(NamedTuple):
    """A row of taxa."""

    rank: str
    name: str
    above: tuple[str, ...]  # ids, from the root down
    active: bool
    wanted: bool  # below the taxon that is looked for, or itself; otherwise it is an ancestor


def gather(
    folder: Path,
    *,
    taxon: str,
    licences: list[str],
    quality_grades: list[str],
    names: Names | None = None,
    work: Path | None = None,
) -> Gathering:
    """Read the photographs of a taxon and its descendants.

    Names: subspecies and lower ranks count as their species, ranks between species and genus as their genus. An
    inactive name is kept and told in ``Gathering.inactive``: the tables do not say which active one took its place.

    The tables are read once, taxa twice. Observations that are wanted lie on disk, parted by a hash of their id; a
    sieve of that hash lets their photographs through, which are parted alike; then the parts are joined one by one.

    Args:
        folder: holds photos, observations, taxa and observers as ``.csv.gz`` or ``.csv``.
        taxon: its name; empty for all.
        licences: short names of those allowed, of the photograph itself.
        quality_grades: grades of observations taken.
        names: replaces names by the accepted ones that the backbone tells.
        work: folder for temporary files; the system's by default.

    Raises:
        InputError: if a table is missing, incomplete or damaged, or the taxon is not in it.
    """
    gathering = Gathering(work)
    taxa = _taxa(folder, taxon, gathering)
    names = names or Names()
    lineages = {taxon_id: _accepted(_lineage(one, taxa), names) for taxon_id, one in taxa.items() if one.wanted}
    gathering.lineages = set(lineages.values())
    gathering.inactive = _inactive(taxa)
    sieve, observers = Sieve(), Sieve()
    observations = Buckets(_OBSERVATION, _BUCKETS, work)
    for rows in _observations(folder, lineages, quality_grades, gathering):
        numbers = hashes(rows["observation_uuid"].combine_chunks())
        sieve.add(numbers)
        observations.add(rows, numbers)
    photos = Buckets(_PHOTO, _BUCKETS, work)
    for rows in _photos(folder, gathering):
        numbers = hashes(rows["observation_uuid"].combine_chunks())
        wanted = sieve.may_hold(numbers)
        gathering.other_taxon += rows.num_rows - int(wanted.sum())
        photos.add(rows.filter(pa.array(wanted)), numbers[wanted])
    for theirs, rows in zip(observations, photos, strict=True):
        if not rows.num_rows:
            continue
        found, reasons = _joined(rows, theirs, licences)
        gathering.other_taxon += rows.num_rows - found.num_rows
        gathering.add_table(found, reasons)
        observers.add(hashes(found["rights_holder"].combine_chunks()))
    _name_rights_holders(folder, gathering, observers)
    return gathering


def _read(
    folder: Path, name: str, columns: list[str], gathering: Gathering, *, photographs: bool = False
) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
    """The named columns of a table, a block at a time, and the first one's values of rows that cannot be read."""
    paths = [path for path in (folder / f"{name}.csv.gz", folder / f"{name}.csv") if path.is_file()]
    if len(paths) != 1:
        problem = "both are there; keep one" if paths else "no such table; download it"
        raise InputError(f"{folder / name}.csv.gz or .csv: {problem}")
    path = paths[0]

    def opened() -> BinaryIO:
        # a third faster than Python's gzip, and as strict with cut and damaged files
        file = pa.OSFile(str(path))
        return cast(BinaryIO, pa.CompressedInputStream(file, "gzip") if path.suffix == ".gz" else file)

    # the backspace quotes, as iNaturalist's own loading commands say
    text = Text(str(path), opened, quote="\b", ends_in_newline=True)
    names = first_row(text, after=0)
    if not names:
        raise InputError(f"{path}: line 1: the file is empty; download it again")
    for column in columns:
        if column not in names:
            raise InputError(f"{path}: line 1: column {column} is missing; it has {', '.join(names)}")
    wanted = {column: names.index(column) for column in columns}
    malformed = Malformed(None if photographs else wanted[columns[0]])
    for batch in progress(batches(text, names, wanted, malformed), f"blocks of {name}"):
        yield batch, malformed.taken_ids()
    yield pa.RecordBatch.from_pylist([], batch_schema(columns)), malformed.taken_ids()
    gathering.add_malformed(f"{SOURCE} {name}", malformed.rows, SOURCE if photographs else None)


def batch_schema(columns: list[str]) -> pa.Schema:
    """Columns of strings."""
    return pa.schema([pa.field(column, pa.string()) for column in columns])


def _photos(folder: Path, gathering: Gathering) -> Iterator[pa.Table]:
    """Rows of photos, some at a time; those without an id are counted, since no one can ask for them."""
    for batch, _ in _read(folder, "photos", _PHOTOS, gathering, photographs=True):
        yield pa.Table.from_batches([batch])


def _taxa(folder: Path, name: str, gathering: Gathering) -> dict[str, Taxon]:
    """The taxa below a name, itself and their ancestors, by id."""
    root, above = _root(folder, name) if name else ("", [])
    ancestors = pa.array(above, pa.string())
    taxa = {}
    for batch, _ in _read(folder, "taxa", _TAXA, gathering):
        path = pc.binary_join_element_wise("", pc.fill_null(batch["ancestry"], ""), batch["taxon_id"], "", "/")
        below = pc.match_substring(path, f"/{root}/" if root else "")
        rows = batch.append_column("below", below).filter(pc.or_(below, pc.is_in(batch["taxon_id"], ancestors)))
        for row in rows.to_pylist():
            ids = tuple((row["ancestry"] or "").split("/"))
            taxa[row["taxon_id"]] = Taxon(row["rank"] or "", row["name"] or "", ids, _is_active(row), row["below"])
    return taxa


def _root(folder: Path, name: str) -> tuple[str, list[str]]:
    """Id of the taxon of a name, and its ancestors' ids; an inactive one only where there is no other."""
    rows = []
    # what cannot be read is counted when the taxa are read
    for batch, _ in _read(folder, "taxa", _TAXA, Gathering()):
        rows += batch.filter(pc.equal(batch["name"], name)).to_pylist()
    rows = [row for row in rows if _is_active(row)] or rows
    if not rows:
        raise InputError(
            f"{folder}: taxon {name!r} is not in the table taxa; give a scientific name as it stands there"
        )
    if len(rows) > 1:
        found = ", ".join(f"{row['rank']} {row['taxon_id']}" for row in rows)
        raise InputError(f"{folder}: taxon {name!r} is several taxa ({found}); name one above or below")
    return rows[0]["taxon_id"], (rows[0]["ancestry"] or "").split("/")


def _is_active(row: dict[str, Any]) -> bool:
    return row["active"] in ("true", "t")


def _accepted(one: Lineage, names: Names) -> Lineage:
    return names.place(one.species or one.genus, one, trusted=True).lineage if one.taxon_id else one


def names_in(folder: Path, *, taxon: str, names: Names) -> None:
    """Let ``names`` place every taxon below the named one that an observation carries."""
    unasked = Gathering()  # counted where the rows are taken
    taxa = _taxa(folder, taxon, unasked)
    carried: set[str] = set()
    for batch, _ in _read(folder, "observations", ["taxon_id"], unasked):
        carried.update(pc.unique(batch["taxon_id"]).drop_null().to_pylist())
    for taxon_id in sorted(carried & taxa.keys()):
        if taxa[taxon_id].wanted:
            _accepted(_lineage(taxa[taxon_id], taxa), names)


def _lineage(taxon: Taxon, taxa: dict[str, Taxon]) -> Lineage:
    names = {taxa[above].rank: taxa[above].name for above in taxon.above if above in taxa}
    names[taxon.rank] = taxon.name
    return lineage(names.get("species"), names.get("genus"), names.get("family"))


def _inactive(taxa: dict[str, Taxon]) -> set[str]:
    """Ids, by rank and name, of inactive taxa; not of those with an active namesake."""
    active = {f"{one.rank}:{one.name}" for one in taxa.values() if one.active}
    return {f"{one.rank}:{one.name}" for one in taxa.values()} - active


def _observations(
    folder: Path, lineages: dict[str, Lineage], quality_grades: list[str], gathering: Gathering
) -> Iterator[pa.Table]:
    """Observations of the wanted taxa or of no taxon, and those that cannot be read, as ``_OBSERVATION``."""
    # the null stands for an observation that no one has named
    wanted = pa.array([*lineages, None], pa.string())
    taxon_ids = pa.array([*(one.taxon_id for one in lineages.values()), None], pa.string())
    grades = pa.array(quality_grades, pa.string())
    for batch, broken in _read(folder, "observations", _OBSERVATIONS, gathering):
        if broken:
            rows = [{"observation_uuid": name, "reason": MALFORMED_OBSERVATION} for name in broken]
            yield pa.Table.from_pylist(rows, _OBSERVATION)
        rows = batch.filter(pc.and_(pc.is_in(batch["taxon_id"], wanted), batch["observation_uuid"].is_valid()))
        if not rows.num_rows:
            continue
        taxon_id = taxon_ids.take(pc.index_in(rows["taxon_id"], wanted))
        latitude, longitude, readable = _coordinates(rows)
        gathering.malformed[f"{SOURCE} observations"] += rows.num_rows - pc.sum(readable).as_py()
        reason = pc.if_else(pc.is_in(rows["quality_grade"], grades), pa.scalar(None, pa.string()), "quality grade")
        reason = pc.if_else(taxon_id.is_valid(), reason, "above genus")
        reason = pc.if_else(rows["taxon_id"].is_valid(), reason, "no taxon")
        reason = pc.if_else(readable, reason, MALFORMED_OBSERVATION)
        observed_at = _mapped(rows["observed_on"], utc_time, TIME)
        ids = [rows["observation_uuid"], rows["observer_id"]]
        yield pa.Table.from_arrays([*ids, taxon_id, latitude, longitude, observed_at, reason], schema=_OBSERVATION)


def _mapped(column: pa.Array, function: Callable[[str | None], Any], kind: pa.DataType) -> pa.Array:
    """The function of each value of a column, called once for each distinct one."""
    encoded = column.dictionary_encode(null_encoding="encode")
    return pa.array([function(value) for value in encoded.dictionary.to_pylist()], kind).take(encoded.indices)


def _coordinates(rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Degrees, both or two nulls as ``gathering.coordinates`` has them, and whether what stands there are numbers."""
    latitude, longitude = _degrees(rows["latitude"]), _degrees(rows["longitude"])
    readable = pc.and_(
        pc.equal(rows["latitude"].is_valid(), latitude.is_valid()),
        pc.equal(rows["longitude"].is_valid(), longitude.is_valid()),
    )
    on_globe = pc.and_(pc.less_equal(pc.abs(latitude), 90), pc.less_equal(pc.abs(longitude), 180))
    nowhere = pa.scalar(None, pa.float64())
    return pc.if_else(on_globe, latitude, nowhere), pc.if_else(on_globe, longitude, nowhere), readable


def _degrees(texts: pa.Array) -> pa.Array:
    """float64, null for what is no number."""
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return pa.array([number(text) for text in texts.to_pylist()], pa.float64())


def _joined(photos: pa.Table, observations: pa.Table, licences: list[str]) -> tuple[pa.Table, pa.ChunkedArray]:
    """The photographs of these observations as ``FOUND`` without regions, and the reasons why some are dropped."""
    # of two rows of one observation the same is taken in any order of the table
    observations = observations.sort_by([(name, "ascending") for name in _OBSERVATION.names])
    positions = pc.index_in(photos["observation_uuid"], observations["observation_uuid"].combine_chunks())
    photos, seen = photos.filter(positions.is_valid()), observations.take(positions.drop_null())
    photo_id, licence = photos["photo_id"], _mapped(photos["license"].combine_chunks(), normalise, pa.string())
    columns = {
        "key": _text(f"{SOURCE}-", photo_id),
        "source": pa.array([SOURCE] * photos.num_rows, pa.string()),
        "photo_id": photo_id,
        "observation_id": _text(f"{SOURCE}-", photos["observation_uuid"]),
        "observer_id": _text(f"{SOURCE}-", seen["observer_id"]),
        "url": _text(_BUCKET, photo_id, "/original.", photos["extension"]),
        "sha256": pa.nulls(photos.num_rows, pa.string()),
        **{name: seen[name] for name in ("taxon_id", "latitude", "longitude", "observed_at")},
        "basis": pa.array(["field"] * photos.num_rows, pa.string()),
        "licence": licence,
        # whose name is looked up when all photos are read
        "rights_holder": photos["observer_id"],
        "creator": photos["observer_id"],
        "reference": _text("https://www.inaturalist.org/photos/", photo_id),
    }
    nothing = pa.scalar(None, pa.string())
    reason = pc.if_else(pc.is_in(licence, pa.array(licences, pa.string())), nothing, NOT_ALLOWED)
    reason = pc.if_else(pc.and_(photo_id.is_valid(), photos["extension"].is_valid()), reason, "no photograph")
    reason = pc.if_else(pc.fill_null(pc.match_substring_regex(photo_id, PHOTO_ID), True), reason, MALFORMED)
    names = [name for name in FOUND.names if name in columns]
    return pa.table({name: columns[name] for name in names}), pc.coalesce(seen["reason"], reason)


def _text(*parts: str | pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*parts, "")


def _name_rights_holders(folder: Path, gathering: Gathering, wanted: Sieve) -> None:
    """Replace the observers' ids by their names or, where they gave none, their logins."""
    found = []
    for batch, _ in _read(folder, "observers", _OBSERVERS, gathering):
        rows = batch.filter(pa.array(wanted.may_hold(hashes(batch["observer_id"]))))
        # copies of the table that went through Python say None where there is no name
        named = pc.fill_null(pc.not_equal(rows["name"], "None"), False)
        found.append(rows.set_column(2, "name", pc.if_else(named, rows["name"], rows["login"])))
    observers = pa.Table.from_batches(found, batch_schema(_OBSERVERS)).combine_chunks()
    ids, names = (observers[name].combine_chunks() for name in ("observer_id", "name"))
    for column in ("rights_holder", "creator"):
        gathering.replace(column, partial(_named, column=column, ids=ids, names=names))


def _named(rows: pa.Table, *, column: str, ids: pa.Array, names: pa.Array) -> pa.ChunkedArray:
    return names.take(pc.index_in(rows[column], ids))
