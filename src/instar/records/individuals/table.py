"""What a source says of photographs of individuals: the rows of ``metadata.csv``, or one folder per individual."""

import csv
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from instar.errors import InputError
from instar.formats import FORMATS
from instar.records.annotations import TOLERANCE_PX
from instar.records.folder import SUFFIXES, photo_id_of, upright_size
from instar.records.individuals.dates import NOTHING
from instar.reid.orientation import read_sides
from instar.tables import NEW_INDIVIDUAL, csv_rows

SOURCE = "individuals"
TABLE = "metadata.csv"
#: What AnimalCLEF25 asks for.
SUBMISSION = "sample_submission.csv"
#: The part whose individuals are not told.
QUERY = "query"

#: The table's columns, those of wildlife-datasets and AnimalCLEF25; only the first two must be there.
COLUMNS: tuple[str, ...] = ("identity", "path", "image_id", "date", "orientation", "species", "split", "dataset")
COLUMNS += ("licence", "license", "rights_holder", "creator", "bbox", "segmentation")

#: Of photographs whose table tells no data set.
DATASET = "individuals"

#: Why a photograph is not taken.
NO_IDENTITY, RESERVED = "no identity", f"identity {NEW_INDIVIDUAL} is no individual's"
NO_FILE, OUTSIDE, NO_PATH = "no such file", "path leads out of the source", "no path"
TWICE, DIFFERENTLY, QUERIED = "listed twice", "listed twice, differently", "listed as a query, too"
BOX_UNREAD, BOX_EMPTY = "bbox is not four numbers", "bbox without an area"
BOX_OUTSIDE = "bbox beside the photograph"


@dataclass
class Row:
    """One row; ``identity`` and whatever else the source does not tell are None.

    Attributes:
        line: in the table, from 1; 0 without a table.
        place: among the rows, from 0.
        path: as it is written.
        reason: why the photograph is not taken; None where it is.
    """

    line: int
    place: int
    image_id: str
    identity: str | None
    path: str
    date: str = ""
    orientation: str | None = None
    species: str | None = None
    part: str | None = None
    dataset: str = ""  # where the table tells none
    licence: str | None = None
    rights_holder: str | None = None
    creator: str | None = None
    individual: str | None = None  # the identity, behind its data set's name where that is not enough
    had_identity: bool = False  # a query with an identity, which is not used
    bbox: str | None = None  # as it is written
    outlined: bool = False  # by a segmentation, which is not used
    region: list[int] | None = None  # of the individual: x_min, y_min, x_max, y_max in pixels, max exclusive
    cut: bool = False  # the box reaches more than a pixel out of the photograph
    url: str = ""  # of the file below the source
    reason: str | None = None

    @property
    def photo_id(self) -> str:
        return photo_id_of(self.image_id)

    @property
    def is_query(self) -> bool:
        return self.part == QUERY


def read_table(path: Path) -> list[Row]:
    """The rows of a table in wildlife-datasets' form, each with the reason where what it says is no use.

    Files are not looked for. A column without a name, which pandas writes first, is no fault. A row without an
    image_id has its path for one, and its line behind it where that path stands in an earlier row.

    Raises:
        InputError: if the table cannot be read, lacks identity or path, has no row, or an image_id is there twice.
    """
    names = _heading(path)
    columns = tuple(name for name in COLUMNS if name in names or name in ("identity", "path"))
    rows = [_row(line, place, told) for place, (line, told) in enumerate(csv_rows(path, columns))]
    if not rows:
        raise InputError(f"{path}: lists no photograph; fill it, or remove it for one folder per individual")
    _name_by_path(rows)
    _check_ids(path, rows)
    return rows


def _name_by_path(rows: Iterable[Row]) -> None:
    taken = {row.image_id for row in rows if row.image_id}
    for row in rows:
        if not row.image_id:
            row.image_id = row.path if row.path and row.path not in taken else f"{row.path}#{row.line}"
            taken.add(row.image_id)


def read_folders(source: Path, *, home: Path | None = None) -> list[Row]:
    """One row for each photograph below ``images/<identity>``; those of ``images/query`` have no identity.

    A first folder ``database`` or ``query`` tells the part. Dates are those that cameras wrote.

    Args:
        source: whose files the rows name, by their paths below it.
        home: that holds the folders of the individuals; ``images`` if None.

    Raises:
        InputError: if there is no such folder or no photograph in it, or two photographs differ in their ending alone.
    """
    home = home or source / "images"
    if not home.is_dir():
        raise InputError(f"{source}: neither {TABLE} nor a folder 'images' in it; put images/<individual>/*.jpg there")
    files = [path for path in sorted(home.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise InputError(f"{home}: no photograph in it ({', '.join(sorted(SUFFIXES))}); put them there")
    rows = [_of_file(place, path, source, home) for place, path in enumerate(files)]
    _check_ids(home, rows)
    return rows


def _heading(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = [name.strip() for name in next(csv.reader(file), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None
    for name in names:
        if name in COLUMNS and names.count(name) > 1:
            raise InputError(f"{path}: line 1: column {name} is there twice; remove one")
    return names


def _row(line: int, place: int, told: dict[str, str]) -> Row:
    said = {name: None if value.lower() in NOTHING else value for name, value in told.items()}
    part = (said.get("split") or "").lower() or None
    identity = said["identity"]
    orientation = said.get("orientation")
    if orientation and read_sides(orientation) is not None:
        orientation = orientation.lower()
    row = Row(
        line,
        place,
        said.get("image_id") or "",
        identity=None if part == QUERY else identity,
        path=told["path"],
        date=told.get("date", ""),
        orientation=orientation,
        species=said.get("species"),
        part=part,
        dataset=said.get("dataset") or "",
        licence=said.get("licence") or said.get("license"),
        rights_holder=said.get("rights_holder"),
        creator=said.get("creator"),
        # the organisers' own table of queries may say that the individual is not known, which tells nothing
        had_identity=part == QUERY and identity is not None and identity != NEW_INDIVIDUAL,
        bbox=said.get("bbox"),
        outlined=said.get("segmentation") is not None,
    )
    if part != QUERY and identity in (None, NEW_INDIVIDUAL):
        row.reason = RESERVED if identity else NO_IDENTITY
    return row


def _of_file(place: int, path: Path, source: Path, home: Path) -> Row:
    url = path.relative_to(source).as_posix()
    parts = path.relative_to(home).parts
    part = parts[0].lower() if len(parts) > 1 and parts[0].lower() in ("database", QUERY) else None
    folders = parts[1:-1] if part else parts[:-1]
    told = {"identity": folders[0] if folders else "", "path": url, "date": _camera_date(path)}
    image_id = PurePosixPath(*parts).with_suffix("").as_posix()
    return _row(0, place, told | {"split": part or "", "image_id": image_id})


def _camera_date(path: Path) -> str:
    """When a photograph was taken, as its file tells it; empty where it does not."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")
            exif = image.getexif()
            # DateTimeOriginal of the camera's own part; DateTime is when the file was last changed
            return str(exif.get_ifd(0x8769).get(0x9003) or "").strip("\0 ")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, RuntimeError):
        return ""  # the stage images says what is wrong with the file


def _check_ids(path: Path, rows: list[Row]) -> None:
    """Refuse what would give two photographs one name."""
    ids: dict[str, Row] = {}
    keys: dict[str, Row] = {}
    twice = [(ids[row.image_id], row) for row in rows if ids.setdefault(row.image_id, row) is not row]
    for first, again in twice[:1]:
        more = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
        if not first.line:
            raise InputError(f"{path}: {again.path} differs from {first.path} in its ending alone; rename one of them")
        raise InputError(
            f"{path}: image_id {again.image_id!r} stands in lines {first.line} and {again.line}{more}; give each "
            "photograph an id of its own"
        )
    for row in rows:
        first = keys.setdefault(row.photo_id, row)
        if first is not row:
            raise InputError(
                f"{path}: image_id {row.image_id!r} gets the key of {first.image_id!r}, too; change one of them"
            )


def find_files(source: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """Give each row the address of its file, which may lie below ``images``, or the reason why it has none."""
    for row in rows:
        row.url, missing = _located(source, row.path)
        row.reason = row.reason or missing
        yield row


def _located(source: Path, path: str) -> tuple[str, str | None]:
    name = PurePosixPath(path.replace("\\", "/"))
    if not name.parts:
        return "", NO_PATH
    if name.is_absolute() or ".." in name.parts or "\0" in path:
        return "", OUTSIDE
    for below in (name, PurePosixPath("images") / name):
        if (source / below).is_file():
            return below.as_posix(), None
    return name.as_posix(), NO_FILE


def find_regions(source: Path, rows: Iterable[Row]) -> None:
    """Give each row with a box the part of its photograph that the box is around, or the reason why it is of no use."""
    for row in rows:
        if row.bbox is None or row.reason is not None:
            continue
        size = upright_size(source / row.url)
        if size is not None:  # else the stage images says what is wrong with the file
            row.region, row.reason, row.cut = _region(row.bbox, *size)


def _region(text: str, width: int, height: int) -> tuple[list[int] | None, str | None, bool]:
    """The whole pixels of the photograph that a box as wildlife-datasets writes it, ``[x, y, width, height]``, touches.

    Or the reason why there are none; and whether more than a pixel of the box is outside.
    """
    try:
        x, y, box_width, box_height = (float(value) for value in re.split(r"[,\s]+", text.strip("[]() ")))
    except ValueError:
        return None, BOX_UNREAD, False
    if not all(map(math.isfinite, (x, y, box_width, box_height))):
        return None, BOX_UNREAD, False
    if box_width <= 0 or box_height <= 0:
        return None, BOX_EMPTY, False
    outside = max(-x, -y, x + box_width - width, y + box_height - height)
    # a sum of decimals that is a whole number of pixels may come out a little above it
    x_max, y_max = round(min(x + box_width, width), 6), round(min(y + box_height, height), 6)
    x_min, y_min = round(max(x, 0), 6), round(max(y, 0), 6)
    if x_min >= x_max or y_min >= y_max:
        return None, BOX_OUTSIDE, False
    return [math.floor(x_min), math.floor(y_min), math.ceil(x_max), math.ceil(y_max)], None, outside > TOLERANCE_PX


def mark_repeated(rows: Iterable[Row]) -> int:
    """Give the reason to rows whose file another row has, too; returns how many files stand in several
    rows, with different boxes or not.

    Queries stay, since each must be answered. Of several rows that say the same the first stays; where they differ in
    identity or part, none can be trusted. Where all rows of a file have a box, those of different boxes are different.
    """
    of_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.reason is None:
            of_file[row.url].append(row)
    of_part: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for url, group in of_file.items():
        parted = all(row.region for row in group)
        for row in group:
            of_part[url, str(row.region) if parted else ""].append(row)
    repeated = [group for group in of_part.values() if len(group) > 1]
    for group in repeated:
        known = [row for row in group if not row.is_query]
        if len(known) < len(group):
            again, reason = known, QUERIED
        elif len({(row.identity, row.part) for row in known}) == 1:
            again, reason = known[1:], TWICE
        else:
            again, reason = known, DIFFERENTLY
        for row in again:
            row.reason = reason
    return sum(len(group) > 1 for group in of_file.values())


def read_submission(path: Path) -> dict[str, int]:
    """The place, from 0, of every image that is asked for; empty where there is no such table.

    Raises:
        InputError: if the table cannot be read or asks for an image twice.
    """
    places: dict[str, int] = {}
    lines: dict[str, int] = {}
    if path.is_file():
        for line, row in csv_rows(path, ("image_id", "identity")):
            image_id = row["image_id"]
            if image_id in lines:
                raise InputError(
                    f"{path}: image_id {image_id!r} stands in lines {lines[image_id]} and {line}; remove one of them"
                )
            places[image_id], lines[image_id] = len(places), line
    return places
