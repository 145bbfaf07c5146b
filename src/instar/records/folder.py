"""Photographs of one's own: a folder ``images`` with a table or one folder per class, and annotated boxes beside it."""

import csv
import difflib
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from instar.errors import InputError
from instar.files import sha256_of
from instar.formats import FORMATS
from instar.licences import LICENCES, normalise
from instar.progress import progress
from instar.records.annotations import GIVEN_SPLITS
from instar.records.gathering import NOT_ALLOWED, Gathering, coordinates, short_hash, utc_time
from instar.records.names import Names, Placed, parse
from instar.records.taxonomy import Lineage

SOURCE = "folder"
TABLE = "table.csv"
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}

#: The table's columns; only the first must be there
COLUMNS = ["file", "taxon", "observation", "observer", "licence", "rights_holder", "creator"]
COLUMNS += ["latitude", "longitude", "observed_at"]
_SAME = {"species": "taxon", "license": "licence"}

#: Characters of a photo id; a tar's names have 100.
LONGEST = 80


@dataclass
class _Told:
    """What is said of the photographs: a row of the table for each file, or the class of its folder."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)  # files that are not there, by why
    is_table: bool = False
    has_taxa: bool = False


def gather(
    source: Path,
    *,
    taxon: str = "",
    licences: list[str] | None = None,
    names: Names | None = None,
    work: Path | None = None,
) -> Gathering:
    """Read the photographs below ``<source>/images``.

    What is known of them stands in ``<source>/table.csv`` (``COLUMNS``), or their taxon is the name of the first folder
    below ``images`` that is not a split's, where at least one of these folders' names is a taxon's and no boxes are
    annotated. Without either a photograph is an observation of its own without a taxon.

    Args:
        source: the folder.
        taxon: photographs of which the backbone says that they belong elsewhere are counted and not taken.
        licences: short names of those allowed; a photograph of which the table tells no licence is taken.
        names: places the names.
        work: folder for temporary files; the system's by default.

    Raises:
        InputError: if there is no such folder, two photographs would get one key, or the table is damaged.
    """
    gathering = Gathering(work)
    taken: dict[str, Path] = {}
    files = _files(source)
    told = _table(source, files) if (source / TABLE).is_file() else _classes(source, files)
    for line in _warnings(source, files, told):
        print(line, file=sys.stderr)
    for name, count in told.missing.items():
        photo_id = photo_id_of(PurePosixPath(name.removeprefix("images/")).with_suffix("").as_posix())
        gathering.add([({"source": SOURCE, "photo_id": photo_id}, "no such file")] * count)
    for path in progress(files, "photographs"):
        url = path.relative_to(source).as_posix()
        photo_id = photo_id_of(path.relative_to(source / "images").with_suffix("").as_posix())
        row: dict[str, Any] = {"key": f"{SOURCE}-{photo_id}", "source": SOURCE, "photo_id": photo_id}
        if path.suffix.lower() not in SUFFIXES:
            gathering.add([(row, "no photograph")])
            continue
        if photo_id in taken:
            raise InputError(f"{path}: gets the key of {taken[photo_id]}, too; rename one of them")
        taken[photo_id] = path
        said = told.rows.get(url, {})
        one, reason = _placed(said, told, names or Names())
        if taxon and one.above and taxon not in one.above:
            gathering.other_taxon += 1
            continue
        gathering.lineages.add(one.lineage)
        licence = normalise(said["licence"]) if said.get("licence") else None
        if licence and licences is not None and licence not in licences:
            reason = reason or NOT_ALLOWED
        if told.is_table and url not in told.rows:
            reason = "not in the table"
        reason = told.reasons.get(url, reason)
        if reason:
            gathering.add([(row, reason)])
            continue
        gathering.add([(_row(row, path, url, said, one, licence), None)])
        gathering.add([(row, "listed twice")] * (int(said.get("", "1")) - 1))
    return gathering


def names_in(source: Path, *, names: Names) -> None:
    """Let ``names`` place every name that the table or the folders give."""
    files = _files(source)
    told = _table(source, files) if (source / TABLE).is_file() else _classes(source, files)
    for row in told.rows.values():
        _placed(row, told, names)


def _row(
    row: dict[str, Any], path: Path, url: str, said: dict[str, str], one: Placed, licence: str | None
) -> dict[str, Any]:
    latitude, longitude = coordinates(*(float(said[n]) if said.get(n) else None for n in ("latitude", "longitude")))
    return {
        **row,
        "observation_id": f"{SOURCE}-{said.get('observation') or row['photo_id']}",
        "observer_id": f"{SOURCE}-{said['observer']}" if said.get("observer") else None,
        "url": url,
        "sha256": sha256_of(path),
        "taxon_id": one.lineage.taxon_id,
        "latitude": latitude,
        "longitude": longitude,
        "observed_at": utc_time(said["observed_at"]) if said.get("observed_at") else _time(path.name),
        "basis": "field",
        "licence": licence or "unknown",
        "rights_holder": said.get("rights_holder") or said.get("creator") or None,
        "creator": said.get("creator") or None,
    }


def _placed(said: dict[str, str], told: _Told, names: Names) -> tuple[Placed, str | None]:
    nowhere = Placed(Lineage(None, None, None), frozenset(), None)
    if not told.has_taxa:
        return nowhere, None
    if not said.get("taxon"):
        return nowhere, "no taxon"
    one = names.place(said["taxon"], nowhere.lineage, trusted=False)
    return one, one.reason


def _classes(source: Path, files: list[Path]) -> _Told:
    """The class of each photograph from the name of its folder, where folders are named for taxa."""
    rows = {path.relative_to(source).as_posix(): {"taxon": _class_of(source, path)} for path in files}
    annotated = any((source / name).exists() for name in ("labels", "annotations", "annotations.json"))
    named = any(any(parse(row["taxon"])[:3]) for row in rows.values())
    return _Told(rows=rows, has_taxa=True) if named and not annotated else _Told()


def _class_of(source: Path, path: Path) -> str:
    """The first folder on a photograph's way that is no split's; empty where there is none."""
    parts = path.relative_to(source / "images").parts[:-1]
    return next((part for part in parts if part.lower() not in GIVEN_SPLITS), "")


def _class_names(source: Path, files: list[Path]) -> set[str]:
    return {_class_of(source, path) for path in files} - {""}


def _table(source: Path, files: list[Path]) -> _Told:
    """The rows of the table by the file's path below the source."""
    told = _Told(is_table=True)
    here = {path.relative_to(source).as_posix() for path in files}
    observers: dict[str, str] = {}
    for line, row in _rows(source / TABLE):
        name = PurePosixPath(row["file"].replace("\\", "/"))
        if not name.name or name.is_absolute() or ".." in name.parts:
            raise InputError(f"{source / TABLE}: line {line}: file {row['file']!r} is no path below {source}; mend it")
        url = next((one for one in (name.as_posix(), f"images/{name.as_posix()}") if one in here), None)
        if url is None:
            told.missing[name.as_posix()] += 1
            continue
        _check(row, f"{source / TABLE}: line {line}")
        if row.get("observation"):
            first = observers.setdefault(row["observation"], row.get("observer", ""))
            if first != row.get("observer", ""):
                told_of = f"observation {row['observation']!r} has two observers, {first!r} and {row['observer']!r}"
                raise InputError(f"{source / TABLE}: line {line}: {told_of}; mend one, or give it another name")
        before = told.rows.get(url)
        if before is None:
            told.rows[url] = row | {"": "1"}  # "" counts how often the file is listed
        elif {**before, "": ""} == {**row, "": ""}:
            before[""] = str(int(before[""]) + 1)
        else:
            told.reasons[url] = "listed twice, differently"
    if not told.rows and not told.missing:
        raise InputError(f"{source / TABLE}: lists no photograph; fill it or remove it")
    told.has_taxa = any(row.get("taxon") for row in told.rows.values())
    return told


def _warnings(source: Path, files: list[Path], told: _Told) -> Iterator[str]:
    """What is counted and goes on, but was perhaps not meant."""
    table = source / TABLE
    if told.missing:
        yield f"{table}: {told.missing.total()} of its files are not there, such as {min(told.missing)}"
    if told.reasons:
        yield f"{table}: {len(told.reasons)} files are listed twice with different rows, such as {min(told.reasons)}"
    if told.is_table and (extra := sorted({path.relative_to(source).as_posix() for path in files} - told.rows.keys())):
        yield f"{table}: {len(extra)} photographs are not in it, such as {extra[0]}"
    if not told.has_taxa and (classes := _class_names(source, files)) and not told.is_table:
        shown = ", ".join(sorted(classes)[:3])
        yield f"{source / 'images'}: none of its {len(classes)} folders ({shown}) is named for a taxon: no labels"


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows; fields are separated by commas, semicolons or tabs, as in the first line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = max(",;\t", key=first.count)
            file.seek(0)
            if not first.strip():
                raise InputError(f"{path}: is empty; fill it or remove it")
            reader = csv.DictReader(file, delimiter=separator, restkey="\0", strict=True)
            columns = [_SAME.get(one.strip().lower(), one.strip().lower()) for one in reader.fieldnames or []]
            _check_columns(path, columns)
            reader.fieldnames = columns
            for row in reader:
                if not any(row.values()):  # spreadsheets save them
                    continue
                if "\0" in row:
                    raise InputError(
                        f"{path}: line {reader.line_num}: more than {len(columns)} fields; quote or mend it"
                    )
                if None in row.values():
                    given = sum(value is not None for value in row.values())
                    raise InputError(
                        f"{path}: line {reader.line_num}: {given} fields, the header has {len(columns)}; mend it"
                    )
                yield reader.line_num, {name: row[name].strip() for name in columns if name in COLUMNS}
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f'{path}: not a table in UTF-8 ({" ".join(str(error).split())}); save it as "CSV UTF-8"'
        ) from None


def _check_columns(path: Path, columns: list[str]) -> None:
    if "file" not in columns:
        raise InputError(f"{path}: line 1: column file is missing; it has {', '.join(columns) or 'nothing'}")
    for name in columns:
        if name and columns.count(name) > 1:  # spreadsheets save columns without a name
            raise InputError(f"{path}: line 1: column {name} is there twice; remove one")
        if name not in COLUMNS and (near := difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.8)):
            raise InputError(f"{path}: line 1: column {name} is not read; rename it to {near[0]}, or to something else")


def _check(row: dict[str, str], place: str) -> None:
    for name, other, most in (("latitude", "longitude", 90), ("longitude", "latitude", 180)):
        try:
            degrees = float(row.get(name) or 0)
        except ValueError:
            raise InputError(f"{place}: {name} {row[name]!r} is no number of degrees; mend it") from None
        if not abs(degrees) <= most:
            raise InputError(f"{place}: {name} {row[name]!r} is not between -{most} and {most} degrees; mend it")
        if row.get(name) and not row.get(other):
            raise InputError(f"{place}: {name} {row[name]!r} stands there without a {other}; add it or leave out both")
    if normalise(row.get("licence")) == "unknown" and row.get("licence", "").lower() not in ("", "unknown"):
        allowed = ", ".join(LICENCES)
        raise InputError(f"{place}: licence {row['licence']!r} is none of {allowed}; mend it or leave it empty")
    if row.get("observed_at") and utc_time(row["observed_at"]) is None:
        raise InputError(f"{place}: observed_at {row['observed_at']!r} is no date or time of ISO 8601; mend it")


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels from a photograph's header, EXIF orientation applied; None where it has no header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                # of a TIFF file Pillow tells the upright size itself
                turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if turned else (image.width, image.height)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, RuntimeError):
        return None


def _files(source: Path) -> list[Path]:
    if not (source / "images").is_dir():
        layout = "for train/images and train/labels move them to images/train and labels/train"
        raise InputError(f"{source}: no folder 'images' in it; put the photographs there; {layout}")
    files = [path for path in sorted((source / "images").rglob("*")) if path.is_file()]
    return [path for path in files if not path.name.startswith(".")]


def photo_id_of(name: str) -> str:
    """A name for files from a path; one that had to be changed or shortened ends in a hash of the path."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "-"))
    if safe == name.replace("/", "-") and len(safe) <= LONGEST:
        return safe
    return f"{safe[: LONGEST - 17]}-{short_hash(name)}"


def _time(name: str) -> datetime | None:
    try:
        return datetime.strptime(name[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC) if name[:14].isdigit() else None
    except ValueError:
        return None
