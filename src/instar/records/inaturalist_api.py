"""Photographs in saved answers of iNaturalist's API v1 (https://api.inaturalist.org/v1/docs).

An observation names its taxon and only the numbers of the taxa above. Their names stand in the identifications, in the
saved answers of ``/taxa``, or nowhere.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from instar.licences import normalise
from instar.progress import progress
from instar.records.answers import mapping, mappings, pages, text
from instar.records.gathering import MALFORMED_OBSERVATION, NOT_ALLOWED, Gathering, coordinates, utc_time
from instar.records.inaturalist import PHOTO_ID, SOURCE
from instar.records.names import NOT_PLACED, Names, Placed
from instar.records.taxonomy import Lineage, lineage

FOLDER = "inaturalist-api"

_PHOTO = re.compile(r"^https?://[^?]+/photos/(\d+)/[a-z]+\.([A-Za-z0-9]+)")
_HOLDER = re.compile(r"^(?:\(c\)|©)?\s*(.+?),\s+(?:some|no|all) rights reserved", re.IGNORECASE)


class Taxon(NamedTuple):
    """A taxon as some answer tells it."""

    name: str
    rank: str
    active: bool
    current: tuple[str, ...]  # ids of the active ones that took its place
    path: tuple[str, ...]  # ids from the root down to its own, as far as they are told


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

    Args:
        folder: pages of ``/observations``, answers of ``/observations/<id>`` and of ``/taxa/<ids>``.
        taxon: its name; empty for all.
        licences: short names of those allowed, of the photograph itself and not of the observation.
        quality_grades: grades of observations taken.
        names: places the names.
        work: folder for temporary files; the system's by default.

    Raises:
        InputError: if a file is no answer.
    """
    gathering = Gathering(work)
    names = names or Names()
    taxa = read_taxa(folder)
    for _, results in progress(pages(folder, gathering.malformed), "pages of iNaturalist observations"):
        for observation in results:
            photos, broken = _photos(observation)
            gathering.add_malformed(f"{FOLDER} photos", broken, SOURCE)
            if not photos:
                continue
            one, belongs = place(observation, taxa, taxon, names)
            if not belongs:
                gathering.other_taxon += len(photos)
                continue
            gathering.lineages.add(one.lineage)
            seen = _observation(observation, one, quality_grades)
            gathering.add(_photograph(photo, seen, licences) for photo in photos)
    gathering.inactive, followers = _synonyms(taxa)
    gathering.synonyms = {old: {str(one.taxon_id) for one in new} for old, new in followers.items()}
    gathering.lineages.update(*followers.values())
    return gathering


def names_in(folder: Path, *, taxon: str, names: Names) -> None:
    """Let ``names`` place the taxon of every observation that may belong to the taxon."""
    taxa = read_taxa(folder)
    for _, results in pages(folder):
        for observation in results:
            if _photos(observation)[0]:
                place(observation, taxa, taxon, names)


def read_taxa(folder: Path) -> dict[str, Taxon]:
    """Every taxon that the answers name, by id."""
    taxa: dict[str, Taxon] = {}
    for _, results in pages(folder):
        for result in results:
            told = [result, mapping(result.get("taxon"))]
            told += [mapping(one.get("taxon")) for one in mappings(result.get("identifications"))]
            for one in told:
                for each in (one, *mappings(one.get("ancestors"))):
                    _learn(taxa, each)
    return taxa


def _learn(taxa: dict[str, Taxon], one: dict[str, Any]) -> None:
    number, name, rank = text(one.get("id")), text(one.get("name")), text(one.get("rank"))
    if number and name and rank:
        current = one.get("current_synonymous_taxon_ids")
        followers = tuple(str(each) for each in current) if isinstance(current, list) else ()
        path = tuple(above_of(one))
        if number not in taxa or len(path) > len(taxa[number].path):
            taxa[number] = Taxon(name, rank, one.get("is_active") is not False, followers, path)


def place(observation: dict[str, Any], taxa: dict[str, Taxon], wanted: str, names: Names) -> tuple[Placed, bool]:
    """Where an observation's taxon belongs, and whether that is below the wanted one or cannot be told."""
    taxon = mapping(observation.get("taxon"))
    if not taxon:
        return Placed(Lineage(None, None, None), frozenset(), "no taxon"), True
    numbers = above_of(taxon)
    if len(numbers) == 1 and numbers[0] in taxa:  # the ancestry stands elsewhere, or nowhere
        numbers = list(taxa[numbers[0]].path)
    known = [taxa[number] for number in numbers if number in taxa]
    ranks = {one.rank: one.name for one in known}
    given = _lineage(numbers, taxa)
    reason = None if given.taxon_id else "above genus"
    if not given.taxon_id:
        return Placed(given, frozenset(), reason), not wanted or wanted in ranks.values() or len(known) < len(numbers)
    one = names.place(given.species or given.genus, given, trusted=taxon.get("is_active") is not False)
    if not wanted or wanted in ranks.values() or wanted in one.above:
        return one, True
    if one.above or _tells(taxa, numbers, wanted):
        return one, False
    return Placed(given, frozenset(), NOT_PLACED), True


def _lineage(numbers: Iterable[str], taxa: dict[str, Taxon]) -> Lineage:
    ranks = {taxa[number].rank: taxa[number].name for number in numbers if number in taxa}
    return lineage(ranks.get("species"), ranks.get("genus"), ranks.get("family"))


def above_of(taxon: dict[str, Any]) -> list[str]:
    """Ids of a taxon's ancestors and its own, from the root down."""
    numbers = taxon.get("ancestor_ids")
    found = [str(number) for number in numbers] if isinstance(numbers, list) else []
    found = found or re.split("[/,]", text(taxon.get("ancestry")) or "")
    own = text(taxon.get("id"))
    return [*(one for one in found if one and one != own), *([own] if own else [])]


def _tells(taxa: dict[str, Taxon], numbers: list[str], wanted: str) -> bool:
    """Whether the answers say that the wanted taxon is not among these; a taxon alone does not say what is above it."""
    whole = any(one.name == wanted for one in taxa.values()) or all(number in taxa for number in numbers)
    return len(numbers) > 1 and whole


def _synonyms(taxa: dict[str, Taxon]) -> tuple[set[str], dict[str, set[Lineage]]]:
    """Ids, by rank and name, of inactive taxa, and where those that took their places stand, if these are named."""
    inactive = {f"{one.rank}:{one.name}": one.current for one in taxa.values() if not one.active}
    for one in taxa.values():
        if one.active:
            inactive.pop(f"{one.rank}:{one.name}", None)
    followers = {
        old: {_lineage(taxa[number].path, taxa) for number in current if number in taxa}
        for old, current in inactive.items()
    }
    return set(inactive), {old: new for old, new in followers.items() if new and all(one.taxon_id for one in new)}


def _photos(observation: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The photographs of an observation, each of them once, and how many cannot be read in the worse of two lists."""
    lists = [observation.get("observation_photos"), observation.get("photos")]
    outer, plain = (one if isinstance(one, list) else [] for one in lists)
    listed = [[mapping(mapping(one).get("photo")) for one in outer], [mapping(one) for one in plain]]
    broken = max(sum(_number(photo) is None for photo in photos) for photos in listed)
    photos = {_number(one): one for one in (*listed[0], *listed[1])}
    return [one for number, one in photos.items() if number], broken


def _number(photo: dict[str, Any]) -> str | None:
    number = text(photo.get("id"))
    return number if number and re.search(PHOTO_ID, number) else None


def _observation(observation: dict[str, Any], one: Placed, quality_grades: list[str]) -> dict[str, Any]:
    reason = one.reason
    if reason is None and observation.get("quality_grade") not in quality_grades:
        reason = "quality grade"
    user = mapping(observation.get("user"))
    number, observer = text(observation.get("uuid")) or text(observation.get("id")), text(user.get("id"))
    if reason is None and number is None:  # photographs of several such would be taken for one observation's
        reason = MALFORMED_OBSERVATION
    latitude, longitude = _coordinates(observation)
    return {
        "observation_id": f"{SOURCE}-{number}" if number else None,
        "observer_id": f"{SOURCE}-{observer}" if observer else None,
        "taxon_id": one.lineage.taxon_id,
        "latitude": latitude,
        "longitude": longitude,
        "observed_at": utc_time(text(observation.get("time_observed_at")))
        or utc_time(text(observation.get("observed_on"))),
        "observer": text(user.get("name")) or text(user.get("login")),
        "reason": reason,
    }


def _coordinates(observation: dict[str, Any]) -> tuple[float | None, float | None]:
    point = mapping(observation.get("geojson")).get("coordinates")
    pair = list(reversed(point)) if isinstance(point, list) else (text(observation.get("location")) or "").split(",")
    try:
        latitude, longitude = (float(value) for value in pair)
    except (TypeError, ValueError):
        return None, None
    return coordinates(latitude, longitude)


def _photograph(photo: dict[str, Any], seen: dict[str, Any], licences: list[str]) -> tuple[dict[str, Any], str | None]:
    number = text(photo.get("id"))
    # a null is iNaturalist's word for all rights reserved; a key that is not there says nothing
    code = "c" if "license_code" in photo and photo["license_code"] is None else text(photo.get("license_code"))
    licence = normalise(code)
    holder = _HOLDER.match(text(photo.get("attribution")) or "")
    row = {
        "key": f"{SOURCE}-{number}",
        "source": SOURCE,
        "photo_id": number,
        "url": _url(text(photo.get("url")) or "", licence),
        "basis": "field",
        "licence": licence,
        "rights_holder": holder.group(1) if holder else seen["observer"],
        "creator": seen["observer"],
        "reference": f"https://www.inaturalist.org/photos/{number}",
        **{name: value for name, value in seen.items() if name not in ("observer", "reason")},
    }
    if seen["reason"]:
        return row, seen["reason"]
    if row["url"] is None:
        return row, "no photograph"
    return row, None if licence in licences else NOT_ALLOWED


def _url(url: str, licence: str) -> str | None:
    """The address of the photograph in full size; those under a Creative Commons licence are in the open bucket."""
    match = _PHOTO.match(url)
    if not match:
        return None
    number, extension = match.groups()
    if licence in ("all-rights-reserved", "unknown"):
        return re.sub(r"/[a-z]+\.([A-Za-z0-9]+)(?:\?.*)?$", r"/original.\1", url)
    return f"https://inaturalist-open-data.s3.amazonaws.com/photos/{number}/original.{extension}"
