"""Photographs in saved answers of GBIF's occurrence search (https://techdocs.gbif.org/en/openapi/v1/occurrence)."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.progress import progress
from instar.records.answers import mappings, pages, text
from instar.records.gathering import Gathering
from instar.records.gbif import (
    MEDIA_TERMS,
    OCCURRENCE,
    OCCURRENCE_TERMS,
    SOURCE,
    add_photographs,
    join_observations,
    kept_occurrences,
    may_belong,
    placed,
)
from instar.records.names import Names

FOLDER = "gbif-search"


def gather(
    folder: Path,
    *,
    taxon: str,
    licences: list[str],
    inaturalist: pa.Table,
    names: Names | None = None,
    work: Path | None = None,
) -> Gathering:
    """Read the photographs of a taxon and its descendants, as ``gbif.gather`` reads those of an archive.

    Args:
        folder: pages of ``/occurrence/search`` or answers of ``/occurrence/<key>``.
        taxon: its name; empty for all.
        licences: short names of those allowed, of the photograph itself and not of the occurrence.
        inaturalist: as ``gbif.INATURALIST``, by photo_id.
        names: places the names.
        work: folder for temporary files; the system's by default.

    Raises:
        InputError: if a file is no answer.
    """
    gathering = Gathering(work)
    names = names or Names()
    republished = []
    for path, results in progress(pages(folder, gathering.malformed), "pages of GBIF occurrences"):
        broken = sum(len(one["media"]) - len(mappings(one["media"])) for one in results if _has_media(one))
        gathering.add_malformed(f"{FOLDER} media", broken, SOURCE)
        found = [(_row(one, f"{path.stem}-{i}"), mappings(one.get("media"))) for i, one in enumerate(results)]
        media = [(row["id"], photo) for row, photos in found for photo in photos]
        rows = kept_occurrences([row for row, photos in found if photos], taxon, gathering, names)
        occurrences = {row["id"]: row for row in rows}
        mine = [(occurrences[key], photo) for key, photo in media if key in occurrences]
        gathering.other_taxon += len(media) - len(mine)
        table = pa.Table.from_pylist([occurrence for occurrence, _ in mine], OCCURRENCE)
        photos = [{term: text(photo.get(term)) for term in MEDIA_TERMS} for _, photo in mine]
        republished.append(add_photographs(gathering, photos, table, licences, inaturalist))
    join_observations(gathering, republished)
    return gathering


def names_in(folder: Path, *, taxon: str, names: Names) -> None:
    """Let ``names`` place the name of every occurrence that may belong to the taxon."""
    for _, results in pages(folder):
        for one in results:
            row = _row(one, "")
            if may_belong(row, taxon):
                placed(row, names)


def _has_media(occurrence: dict[str, Any]) -> bool:
    return isinstance(occurrence.get("media"), list)


def _row(occurrence: dict[str, Any], number: str) -> dict[str, Any]:
    """An occurrence as a row of an archive; one without a key gets the number."""
    issues = occurrence.get("issues")
    row = {term: text(occurrence.get(term)) for term in OCCURRENCE_TERMS}
    key = text(occurrence.get("key")) or row["gbifID"]
    return {
        **row,
        "id": key or number,
        "gbifID": row["gbifID"] or key,
        "issue": ";".join(str(one) for one in issues) if isinstance(issues, list) else None,
    }
