"""iNaturalist's open data: tab-separated tables of photos, observations, taxa and observers.

The columns are those of https://github.com/inaturalist/inaturalist-open-data. A double quote is a character like any
other: the tables are made for PostgreSQL's COPY with the backspace as quote.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.licences import normalise
from instar.progress import progress
from instar.records.delimited import Text, batches, first_row
from instar.records.gathering import Gathering, coordinates, utc_time
from instar.records.names import Names
from instar.records.taxonomy import Lineage, lineage

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
        pa.field("observed_at", pa.timestamp("s", tz="UTC")),
        pa.field("reason", pa.string()),
    ]
)


class Taxon(NamedTuple):
    """A row of taxa."""

    rank: str
    name: str
    above: tuple[str, ...]  # ids, from the root down
    active: bool
    wanted: bool  # below the taxon that is looked for, or itself; otherwise it is an ancestor


def gather(
    folder: Path, *, taxon: str, licences: list[str], quality_grades: list[str], names: Names | None = None
) -> Gathering:
    """Read the photographs of a taxon and its descendants.

    Names: subspecies and lower ranks count as their species, ranks between species and genus as their genus. An
    inactive name is kept and told in ``Gathering.inactive``: the tables do not say which active one took its place.

    Args:
        folder: holds photos, observations, taxa and observers as ``.csv.gz`` or ``.csv``.
        taxon: its name; empty for all.
        licences: short names of those allowed, of the photograph itself.
        quality_grades: grades of observations taken.
        names: replaces names by the accepted ones that the backbone tells.

    Raises:
        InputError: if a table is missing, incomplete or damaged, or the taxon is not in it.
    """
    taxa = _taxa(folder, taxon)
    names = names or Names()
    lineages = {taxon_id: _accepted(_lineage(one, taxa), names) for taxon_id, one in taxa.items() if one.wanted}
    observations = _observations(folder, lineages, quality_grades)
    gathering = Gathering()
    gathering.lineages = set(lineages.values())
    gathering.inactive = _inactive(taxa)
    wanted = observations["observation_uuid"].combine_chunks()
    for batch in progress(_read(folder, "photos", _PHOTOS), "blocks of photos"):
        positions = pc.index_in(batch["observation_uuid"], value_set=wanted)
        here = positions.is_valid()
        gathering.other_taxon += batch.num_rows - pc.sum(here).as_py()
        photos = batch.filter(here).to_pylist()
        theirs = observations.take(positions.drop_null()).to_pylist()
        gathering.add(_photograph(*pair, licences) for pair in zip(photos, theirs, strict=True))
    _name_rights_holders(folder, gathering)
    return gathering


def _read(folder: Path, name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The named columns of a table, a block at a time."""
    paths = [path for path in (folder / f"{name}.csv.gz", folder / f"{name}.csv") if path.is_file()]
    if len(paths) != 1:
        problem = "both are there; keep one" if paths else "no such table; download it"
        raise InputError(f"{folder / name}.csv.gz or .csv: {problem}")
    path = paths[0]

    def opened() -> BinaryIO:
        return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))

    # the backspace quotes, as iNaturalist's own loading commands say
    text = Text(str(path), opened, quote="\b", ends_in_newline=True)
    names = first_row(text, after=0)
    if not names:
        raise InputError(f"{path}: line 1: the file is empty; download it again")
    for column in columns:
        if column not in names:
            raise InputError(f"{path}: line 1: column {column} is missing; it has {', '.join(names)}")
    yield from batches(text, names, {column: names.index(column) for column in columns})


def _taxa(folder: Path, name: str) -> dict[str, Taxon]:
    """The taxa below a name, itself and their ancestors, by id."""
    root, above = _root(folder, name) if name else ("", [])
    ancestors = pa.array(above, pa.string())
    taxa = {}
    for batch in _read(folder, "taxa", _TAXA):
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
    for batch in _read(folder, "taxa", _TAXA):
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
    taxa = _taxa(folder, taxon)
    carried: set[str] = set()
    for batch in progress(_read(folder, "observations", ["taxon_id"]), "blocks of observations"):
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


def _observations(folder: Path, lineages: dict[str, Lineage], quality_grades: list[str]) -> pa.Table:
    """Observations of the wanted taxa or of no taxon, as ``_OBSERVATION``."""
    # the null stands for an observation that no one has named
    wanted = pa.array([*lineages, None], pa.string())
    kept = []
    for batch in _read(folder, "observations", _OBSERVATIONS):
        rows = batch.filter(pc.is_in(batch["taxon_id"], wanted)).to_pylist()
        found = [_observation(row, lineages.get(row["taxon_id"]), quality_grades, folder) for row in rows]
        kept.append(pa.RecordBatch.from_pylist(found, _OBSERVATION))
    return pa.Table.from_batches(kept, _OBSERVATION)


def _observation(row: dict[str, Any], one: Lineage | None, quality_grades: list[str], folder: Path) -> dict[str, Any]:
    reason = None
    if one is None:
        reason = "no taxon"
    elif one.taxon_id is None:
        reason = "above genus"
    elif row["quality_grade"] not in quality_grades:
        reason = "quality grade"
    latitude, longitude = (_degrees(row, name, folder) for name in ("latitude", "longitude"))
    latitude, longitude = coordinates(latitude, longitude)
    return {
        "observation_uuid": row["observation_uuid"],
        "observer_id": row["observer_id"],
        "taxon_id": one.taxon_id if one else None,
        "latitude": latitude,
        "longitude": longitude,
        "observed_at": utc_time(row["observed_on"]),
        "reason": reason,
    }


def _degrees(row: dict[str, Any], name: str, folder: Path) -> float | None:
    try:
        return None if row[name] is None else float(row[name])
    except ValueError:
        raise InputError(
            f"{folder}: table observations, observation {row['observation_uuid']}, column {name}: {row[name]!r} is no "
            f"number of degrees; mend the row or download the table again"
        ) from None


def _photograph(photo: dict[str, Any], seen: dict[str, Any], licences: list[str]) -> tuple[dict[str, Any], str | None]:
    photo_id, extension, licence = photo["photo_id"], photo["extension"], normalise(photo["license"])
    row = {
        "key": f"{SOURCE}-{photo_id}",
        "source": SOURCE,
        "photo_id": photo_id,
        "observation_id": f"{SOURCE}-{seen['observation_uuid']}",
        "observer_id": f"{SOURCE}-{seen['observer_id']}" if seen["observer_id"] else None,
        "url": f"https://inaturalist-open-data.s3.amazonaws.com/photos/{photo_id}/original.{extension}",
        "basis": "field",
        "licence": licence,
        "rights_holder": photo["observer_id"],  # whose name is looked up when all photos are read
        "reference": f"https://www.inaturalist.org/photos/{photo_id}",
        **{name: seen[name] for name in ("taxon_id", "latitude", "longitude", "observed_at")},
    }
    if seen["reason"]:
        return row, seen["reason"]
    if photo_id is None or extension is None:
        return row, "no photograph"
    return row, None if licence in licences else "licence not allowed"


def _name_rights_holders(folder: Path, gathering: Gathering) -> None:
    """Replace the observers' ids by their names or, where they gave none, their logins."""
    ids = gathering.found["rights_holder"]
    wanted = pc.unique(ids)
    found = []
    for batch in _read(folder, "observers", _OBSERVERS):
        rows = batch.filter(pc.is_in(batch["observer_id"], wanted))
        found.append(rows.set_column(2, "name", pc.coalesce(rows["name"], rows["login"])))
    schema = pa.schema([(column, pa.string()) for column in _OBSERVERS])
    observers = pa.Table.from_batches(found, schema)
    positions = pc.index_in(ids, value_set=observers["observer_id"].combine_chunks())
    gathering.replace_column("rights_holder", observers["name"].take(positions))
