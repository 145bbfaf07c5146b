"""Photographs of a GBIF download: a Darwin Core Archive of occurrences with the multimedia extension."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.licences import normalise
from instar.progress import progress
from instar.records.darwin_core import Archive, Table, read_archive
from instar.records.delimited import Malformed
from instar.records.gathering import (
    MALFORMED_OBSERVATION,
    NOT_ALLOWED,
    Gathering,
    coordinates,
    number,
    short_hash,
    utc_time,
)
from instar.records.names import ABOVE_GENUS, Names, Placed, parse
from instar.records.taxonomy import Lineage

SOURCE = "gbif"

_RANKS = ["kingdom", "phylum", "class", "order", "superfamily", "family", "subfamily", "tribe", "genus", "species"]
_ABOVE_GENUS = _RANKS[:-2]
OCCURRENCE_TERMS = [*_RANKS, "gbifID", "occurrenceID", "scientificName", "specificEpithet", "taxonRank"]
OCCURRENCE_TERMS += ["identificationQualifier"]
OCCURRENCE_TERMS += [
    "taxonomicStatus",
    "recordedBy",
    "references",
    "basisOfRecord",
    "eventDate",
    "year",
    "month",
    "day",
]
OCCURRENCE_TERMS += ["decimalLatitude", "decimalLongitude", "issue"]
MEDIA_TERMS = ["type", "format", "identifier", "references", "license", "rightsHolder", "creator"]
_SPECIMENS = {"preservedspecimen", "fossilspecimen", "livingspecimen", "materialsample", "materialentity", "specimen"}

_INATURALIST_PHOTO = re.compile(
    r"^https?://(?:inaturalist-open-data\.s3\.amazonaws\.com|static\.inaturalist\.org|(?:www\.)?inaturalist\.org)/photos/([0-9]{1,18})\b"
)

#: What is kept of an occurrence while the media are read.
OCCURRENCE = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("observation_id", pa.string()),
        pa.field("observer_id", pa.string()),
        pa.field("taxon_id", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("observed_at", pa.timestamp("s", tz="UTC")),
        pa.field("basis", pa.string()),
        pa.field("reference", pa.string()),
        pa.field("reason", pa.string()),
    ]
)

#: What ``gather`` is told of the photographs that the iNaturalist tables gave.
INATURALIST = pa.schema([pa.field("photo_id", pa.int64()), pa.field("observation_id", pa.string())])

#: An occurrence with a photograph that the iNaturalist tables gave: its observation here and there.
_REPUBLISHED = pa.schema([pa.field("mine", pa.string()), pa.field("theirs", pa.string())])


def gather(
    path: Path,
    *,
    taxon: str,
    licences: list[str],
    inaturalist: pa.Table,
    names: Names | None = None,
    work: Path | None = None,
) -> Gathering:
    """Read the photographs of a taxon and its descendants.

    Names are those of the columns species and genus, which in a GBIF download are the accepted ones, or else of
    scientificName. An occurrence belongs to a taxon if any of its columns from kingdom to species holds the taxon's
    name or, where all above genus are empty, if the backbone says so. Photographs that iNaturalist's tables gave are
    dropped; the others of such an occurrence belong to iNaturalist's observation.

    Args:
        path: the archive, a zip file or a folder.
        taxon: its name; empty for all.
        licences: short names of those allowed, of the photograph itself and not of the occurrence.
        inaturalist: as ``INATURALIST``, by photo_id; photographs of the iNaturalist tables, dropped ones as well.
        names: places the names; without it the rules of ``names.parse`` do.
        work: folder for temporary files; the system's by default.

    Raises:
        InputError: if the archive is damaged, unsafe, or none of occurrences with multimedia.
    """
    archive = read_archive(path)
    media = _media(archive, path)
    gathering = Gathering(work)
    occurrences = _occurrences(archive.core, taxon, gathering, names or Names(), path.name)
    wanted = occurrences["id"].combine_chunks()
    republished = []
    malformed = Malformed()
    for batch in progress(media.read(MEDIA_TERMS, malformed), "blocks of multimedia"):
        positions = pc.index_in(batch["id"], value_set=wanted)
        here = pc.and_(positions.is_valid(), batch["id"].is_valid())
        gathering.other_taxon += batch.num_rows - (pc.sum(here).as_py() or 0)
        rows = batch.filter(here).to_pylist()
        republished.append(
            add_photographs(gathering, rows, occurrences.take(positions.filter(here)), licences, inaturalist)
        )
    gathering.add_malformed(f"{path.name} multimedia", malformed.rows, SOURCE)
    join_observations(gathering, republished)
    return gathering


def archives(folder: Path) -> list[Path]:
    """The Darwin Core Archives in a folder: zip files, and folders with a meta.xml."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".zip" or (path / "meta.xml").is_file()]


def names_in(path: Path, *, taxon: str, names: Names) -> None:
    """Let ``names`` place the name of every occurrence that may belong to the taxon, so that it knows the queries."""
    archive = read_archive(path)
    if archive.core.row_type == "Occurrence":
        for batch in archive.core.read(OCCURRENCE_TERMS, Malformed()):  # counted where the rows are taken
            for row in batch.to_pylist():
                if may_belong(row, taxon):
                    placed(row, names)


def may_belong(row: dict[str, Any], taxon: str) -> bool:
    """Whether an occurrence's columns leave it open, or say, that it belongs to a taxon."""
    return not taxon or taxon.lower() in _names(row) or not _is_placed(row)


def add_photographs(
    gathering: Gathering,
    media: list[dict[str, Any]],
    occurrences: pa.Table,
    licences: list[str],
    inaturalist: pa.Table,
) -> pa.Table:
    """Add photographs to a gathering.

    Args:
        gathering: gets them.
        media: texts by ``MEDIA_TERMS``.
        occurrences: of each, as ``OCCURRENCE``.
        licences: as for ``gather``.
        inaturalist: likewise.

    Returns:
        As ``_REPUBLISHED``, for ``join_observations``.
    """
    media = [{term: (text or "").strip() or None for term, text in row.items()} for row in media]
    ids = [_inaturalist_photo(row) for row in media]
    places = _places([int(photo_id or -1) for photo_id in ids], inaturalist["photo_id"].to_numpy())
    gathering.add(
        _photograph(row, seen, photo_id, licences, place.is_valid)
        for row, seen, photo_id, place in zip(media, occurrences.to_pylist(), ids, places, strict=True)
    )
    observations = [occurrences["observation_id"], inaturalist["observation_id"].take(places)]
    return pa.table(observations, _REPUBLISHED).drop_null()


def join_observations(gathering: Gathering, tables: list[pa.Table]) -> None:
    """Give photographs of republished occurrences iNaturalist's observation; two ids of one animal would be a leak."""
    # of several the first, whatever the order of the rows
    republished = pa.concat_tables([_REPUBLISHED.empty_table(), *tables]).sort_by("theirs")
    gathering.replace("observation_id", partial(_theirs, republished=republished.combine_chunks()))


def _theirs(rows: pa.Table, *, republished: pa.Table) -> pa.ChunkedArray:
    mine = rows["observation_id"]
    positions = pc.index_in(mine, value_set=republished["mine"].combine_chunks())
    return pc.coalesce(republished["theirs"].take(positions), mine)


def _media(archive: Archive, path: Path) -> Table:
    if archive.core.row_type != "Occurrence":
        raise InputError(f"{path}: its rows are {archive.core.row_type}; give an archive of Occurrence rows")
    for table in archive.extensions:
        if table.row_type in ("Multimedia", "Image"):
            return table
    raise InputError(f"{path}: no Multimedia extension, so no photographs; download the archive with multimedia")


def _places(numbers: list[int], ordered: np.ndarray) -> pa.Array:
    """First place of each number in the sorted array; null where it is not there."""
    values = np.array(numbers, np.int64)
    places = np.searchsorted(ordered, values)
    found = np.zeros(len(values), bool)
    inside = places < len(ordered)
    found[inside] = ordered[places[inside]] == values[inside]
    return pa.array(places, mask=~found)


def _occurrences(core: Table, taxon: str, gathering: Gathering, names: Names, archive: str) -> pa.Table:
    """Occurrences of the taxon or of no taxon, and those that cannot be read, as ``OCCURRENCE``."""
    malformed = Malformed()
    kept = [
        pa.RecordBatch.from_pylist(kept_occurrences(batch.to_pylist(), taxon, gathering, names), OCCURRENCE)
        for batch in core.read(OCCURRENCE_TERMS, malformed)
    ]
    broken = [{"id": name, "reason": MALFORMED_OBSERVATION} for name in malformed.taken_ids()]
    kept.append(pa.RecordBatch.from_pylist(broken, OCCURRENCE))
    gathering.add_malformed(f"{archive} occurrences", malformed.rows)
    return pa.Table.from_batches(kept, OCCURRENCE)


def kept_occurrences(
    rows: list[dict[str, Any]], taxon: str, gathering: Gathering, names: Names
) -> list[dict[str, Any]]:
    """Those of the taxon or of no taxon, as ``OCCURRENCE``; the gathering learns their lineages and synonyms.

    Args:
        rows: texts or None by ``OCCURRENCE_TERMS``, and ``id``.
        taxon: as for ``gather``.
        gathering: likewise.
        names: likewise.
    """
    kept = []
    for row in rows:
        one = placed(row, names)
        if not _belongs(row, one, taxon):
            continue
        gathering.lineages.add(one.lineage)
        if old := _synonym(row, one.lineage):
            gathering.synonyms.setdefault(f"species:{old}", set()).add(f"species:{one.lineage.species}")
        kept.append(_occurrence(row, one))
    return kept


def placed(row: dict[str, Any], names: Names) -> Placed:
    """Where an occurrence's name belongs."""
    given = Lineage(row["species"] or None, _name(row["genus"]), _name(row["family"]))
    as_written = row["scientificName"]
    above = {row[rank] for rank in _ABOVE_GENUS if row[rank]}
    if not given.taxon_id and (as_written in above or (row["taxonRank"] or "").lower() in _ABOVE_GENUS):
        return Placed(given, frozenset(), ABOVE_GENUS)
    # "cf. niger" or "?" may stand in a column of its own
    if (row["identificationQualifier"] or parse(as_written).is_open) and given.genus:
        return names.place(f"{given.genus} sp.", given._replace(species=None), trusted=True)
    name = given.species or given.genus or as_written
    if given.genus and row["specificEpithet"] and not given.species:
        name = f"{given.genus} {row['specificEpithet']}"
    return names.place(name, given, trusted=bool(given.species or given.genus))


def _name(text: str | None) -> str | None:
    """A family or genus as it is written elsewhere; ``FORMICIDAE`` is ``Formicidae``."""
    return text.capitalize() if text and text.isupper() else text or None


def _belongs(row: dict[str, Any], one: Placed, taxon: str) -> bool:
    names = _names(row)
    return not taxon or not names or taxon.lower() in names or (not _is_placed(row) and taxon in one.above)


def _is_placed(row: dict[str, Any]) -> bool:
    """Whether the occurrence itself says where its genus belongs."""
    return any(row[rank] for rank in _ABOVE_GENUS if rank not in ("kingdom", "phylum", "class"))


def _names(row: dict[str, Any]) -> set[str]:
    """What an occurrence is said to belong to, in small letters: museums write families in capitals."""
    return {row[rank].lower() for rank in (*_RANKS, "scientificName") if row[rank]}


def _synonym(row: dict[str, Any], one: Lineage) -> str | None:
    """The species' name, without its author, under which an occurrence was published, where that is not accepted."""
    old = " ".join((row["scientificName"] or "").split()[:2])
    is_synonym = (row["taxonomicStatus"] or "").upper().endswith("SYNONYM") and row["taxonRank"] == "SPECIES"
    return old if is_synonym and one.species and old != one.species else None


def _occurrence(row: dict[str, Any], one: Placed) -> dict[str, Any]:
    reason = one.reason if _names(row) else "no taxon"
    latitude, longitude = coordinates(number(row["decimalLatitude"]), number(row["decimalLongitude"]))
    if latitude == 0 and longitude == 0 and "ZERO_COORDINATE" in (row["issue"] or ""):
        latitude = longitude = None
    day = "-".join(part for part in (row["year"], row["month"], row["day"]) if part)
    gbif_id = row["gbifID"]
    page = f"https://www.gbif.org/occurrence/{gbif_id}" if gbif_id else None
    basis = re.sub("[^a-z]", "", (row["basisOfRecord"] or "").lower())
    return {
        "id": row["id"],
        "observation_id": f"{SOURCE}-{row['occurrenceID'] or gbif_id or row['id']}",
        "observer_id": f"{SOURCE}-{row['recordedBy']}" if row["recordedBy"] else None,
        "taxon_id": one.lineage.taxon_id,
        "latitude": latitude,
        "longitude": longitude,
        "observed_at": utc_time(row["eventDate"]) or utc_time(day),
        "basis": "specimen" if basis in _SPECIMENS else "field",
        "reference": row["references"] or page,
        "reason": reason,
    }


def _inaturalist_photo(media: dict[str, Any]) -> str | None:
    for address in (media["identifier"], media["references"]):
        if match := _INATURALIST_PHOTO.match(address or ""):
            return match.group(1)
    return None


def _photograph(
    media: dict[str, Any], seen: dict[str, Any], inaturalist_photo: str | None, licences: list[str], republished: bool
) -> tuple[dict[str, Any], str | None]:
    url, licence = media["identifier"], normalise(media["license"])
    # an iNaturalist photograph has one id and many addresses
    photo_id = inaturalist_photo or (short_hash(url) if url else None)
    row = {
        "key": f"{SOURCE}-{photo_id}",
        "source": SOURCE,
        "photo_id": photo_id,
        "url": url,
        "licence": licence,
        "rights_holder": media["rightsHolder"] or media["creator"],
        "creator": media["creator"],
        **{name: value for name, value in seen.items() if name not in ("id", "reason")},
        "reference": media["references"] or seen["reference"],
    }
    if republished:
        return row, "republished by GBIF"
    if not _is_photograph(media):
        return row, "no photograph"
    if seen["reason"]:
        return row, seen["reason"]
    return row, None if licence in licences else NOT_ALLOWED


def _is_photograph(media: dict[str, Any]) -> bool:
    address = (media["identifier"] or "").lower()
    kind = (media["type"] or "StillImage").rsplit("/", 1)[-1].lower()
    pixels = (media["format"] or "image").lower().startswith("image")
    return address.startswith(("http://", "https://")) and kind in ("stillimage", "image") and pixels
