"""The folder of a set of trays: photographs, what is known of them, and the windows of their sub-images."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from instar.errors import InputError
from instar.files import sha256_of
from instar.licences import LICENCES, normalise
from instar.progress import progress
from instar.records.folder import LONGEST, SUFFIXES, photo_id_of, upright_size
from instar.records.gathering import NOT_ALLOWED, Gathering, coordinates, utc_time
from instar.records.trays.taxa import table

SOURCE = "trays"
#: Where the photographs lie; the first of these that is there.
FOLDERS = ("edited", "bulk_images_edited", "images")
TABLE = "metadata.csv"
PARTITION = "partition.csv"

COLUMNS: tuple[str, ...] = ("photo", "sample", "specimens", "specimens_insecta_arachnida", "latitude", "longitude")
COLUMNS += ("collected", "trap", "licence", "rights_holder")
#: Of specimens sorted by hand; whole numbers.
COUNTS = ("specimens", "specimens_insecta_arachnida")

_SAFE = re.compile(r"[^A-Za-z0-9._-]")
#: What Label Studio puts before a name, and Roboflow behind it.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
_EXPORTED = re.compile(r"(?<=.)_(?:jpe?g|png|tiff?|bmp|webp)\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)
_LETTER = re.compile("[a-f]")
_NUMBERED = re.compile(r"(.+)_\d+")
#: Numbers of a sample's photographs; a camera's have zeros before them, or more digits.
_OF_SAMPLE = re.compile(r"(.+)_[1-9]\d?")

#: How the sample of a photograph is told.
BY_TABLE = "by metadata.csv"
BY_KNOWN = "by a name in barcodes.csv or metadata.csv"
BY_NAME = "by the name <sample>_<n>"
BY_ITSELF = "each photograph its own"


@dataclass
class Tray:
    """A photograph of a tray.

    Attributes:
        name: of the file, without its ending; of one in a folder with it.
        path: of the file.
        url: below the source.
        size: width and height in pixels, upright; None where the file has no readable header.
        sample: that it shows.
        said: its row of the table, empty where it has none.
        region: the part that is searched, ``x_min, y_min, x_max, y_max`` in pixels; None for the whole.
    """

    name: str
    path: Path
    url: str
    size: tuple[int, int] | None
    sample: str
    said: dict[str, str] = field(default_factory=dict)
    region: list[int] | None = None

    @property
    def last(self) -> str:
        """The name without a folder."""
        return PurePosixPath(self.name).name

    @property
    def photo_id(self) -> str:
        plain = _SAFE.sub("_", self.name.replace("/", "-"))
        # of names in other scripts nothing but their length would be left
        return plain if self.name.isascii() and len(plain) <= LONGEST else photo_id_of(self.name)

    @property
    def key(self) -> str:
        return f"{SOURCE}-{self.photo_id}"

    @property
    def observation(self) -> str:
        """The sample: two photographs of one must not be parted."""
        return f"{SOURCE}-{self.sample}"


@dataclass
class Folder:
    """A source folder.

    Attributes:
        trays: photographs by name.
        no_photographs: files among them that are none.
        missing: names in the table without a photograph.
        untold: photographs that the table does not list.
        told: photographs by how their sample is told.
    """

    trays: dict[str, Tray]
    no_photographs: list[str]
    missing: list[str]
    untold: int
    told: Counter[str] = field(default_factory=Counter)

    def found_by(self, name: str, *, folder: str = "", elsewhere: bool = False) -> Tray | None:
        """The photograph that a file of annotations means.

        Args:
            name: as it stands there.
            folder: in which the file says that it lies.
            elsewhere: whether its names are those of another place, where the photographs were annotated. A path that
                begins at a root or leads out of the folder is in any case.
        """
        if tray := self.find(f"{folder}/{name}") or self.find(name):
            return tray
        parts = PurePosixPath(unquote(name).replace("\\", "/").replace("?d=", "/")).parts
        if not parts or not (elsewhere or parts[0] in ("/", "..") or ":" in parts[0]):
            return None
        for first in range(1, len(parts)):
            if tray := self.trays.get("/".join(parts[first:])):
                return tray
        return self._by_last.get(parts[-1]) or self._by_last.get(_UPLOADED.sub("", parts[-1]))

    def find(self, name: str) -> Tray | None:
        """The photograph that a name stands for: its own, below its folder or not; for a name without a folder, or in
        one that is called the same, the only one of this name in any folder."""
        short = _below_folder(name)
        last = _alone(short)
        named = self.trays.get(name) or self.trays.get(short)
        # that of another folder is another photograph: cameras number them all alike
        return named or self.trays.get(last or "") or self._by_last.get(last or "")

    @cached_property
    def _by_last(self) -> dict[str, Tray]:
        """Photographs by the last part of their names, where one alone has it."""
        counts = Counter(tray.last for tray in self.trays.values())
        return {tray.last: tray for tray in self.trays.values() if counts[tray.last] == 1}


def read_folder(source: Path, samples: Iterable[str] = ()) -> Folder:
    """The photographs of a set and what ``metadata.csv`` says of them.

    A photograph that the table does not list is of the sample that its name is known as, or as ``<sample>_<n>``. Where
    none is known, one with n from 1 to 99 and no zero before it is of that sample; any other is a sample by itself,
    since cameras number their photographs, too.

    Args:
        source: the folder.
        samples: names that are known to be samples', besides those of the table.

    Raises:
        InputError: if there are no photographs, two get one key, or the table is damaged.
    """
    home, files = _files(source)
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise InputError(f"{home}: no photograph in it ({', '.join(sorted(SUFFIXES))}); put them there")
    trays: dict[str, Tray] = {}
    keys: dict[str, Path] = {}
    for path in pictures:
        name = path.relative_to(home).with_suffix("").as_posix()
        tray = Tray(name, path, path.relative_to(source).as_posix(), upright_size(path), name)
        if tray.key in keys:
            raise InputError(f"{path}: gets the key of {keys[tray.key]}, too; rename one of them")
        keys[tray.key] = path
        trays[tray.name] = tray
    others = [path.relative_to(home).as_posix() for path in files if path not in set(pictures)]
    found = Folder(trays, others, [], 0)
    if (source / TABLE).is_file():
        _read_table(source / TABLE, found)
    known = {*samples, *(tray.said.get("sample", "") for tray in trays.values())}
    uploaded = all(_UPLOADED.match(tray.last) for tray in trays.values())
    # a date has eight digits, too
    uploaded = uploaded and any(_LETTER.search(tray.last[:8]) for tray in trays.values())
    for tray in trays.values():
        tray.sample, told = _sample(tray, known - {""}, uploaded=uploaded)
        found.told[told] += 1
    return found


def _files(source: Path) -> tuple[Path, list[Path]]:
    """The folder of the photographs, and the files in it; the source itself where none has one of their names."""
    home = next((source / name for name in FOLDERS if (source / name).is_dir()), source)
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if home != source:
        # LabelMe keeps what it knows of a photograph beside it
        return home, [path for path in files if path.suffix.lower() != ".json"]
    files = [path for path in files if path.suffix.lower() in SUFFIXES and "annotation_tiles" not in path.parts]
    if not files:
        raise InputError(f"{source}: no folder {' or '.join(FOLDERS)} in it; put the photographs there")
    return source, files


def _sample(tray: Tray, known: set[str], *, uploaded: bool) -> tuple[str, str]:
    """The sample of a photograph, and how it is told; ``uploaded`` where Label Studio named them all."""
    if tray.said.get("sample"):
        return tray.said["sample"], BY_TABLE
    last = _EXPORTED.sub("", tray.last)
    last = _UPLOADED.sub("", last) if uploaded else last
    numbered = _NUMBERED.fullmatch(last)
    named = (last, numbered.group(1) if numbered else "")
    if name := next((name for name in named if name in known), None):
        return name, BY_KNOWN
    name = last if last != tray.last else _alone(tray.name) or tray.name
    of_sample = _OF_SAMPLE.fullmatch(name)
    return (of_sample.group(1), BY_NAME) if of_sample else (name, BY_ITSELF)


def _alone(name: str) -> str | None:
    """The last part of a name without a folder, or in one that is called the same; None for others."""
    path = PurePosixPath(name)
    return path.name if path.parent.as_posix() in (".", path.name) else None


def _read_table(path: Path, found: Folder) -> None:
    """Put the rows to their photographs."""
    missing = set()
    for row in table(path, COLUMNS, need=("photo", "sample")):
        place = f"{path}: photo {row['photo']!r}"
        if not row["photo"]:
            raise InputError(f"{path}: a row without a photo; name it or remove the row")
        _check(row, place)
        tray, name = found.find(row["photo"]), _below_folder(row["photo"])
        if name in missing or (tray and tray.said):
            raise InputError(f"{place}: is listed twice; remove one")
        if tray:
            tray.said = row
        else:
            missing.add(name)
    found.missing, found.untold = sorted(missing), sum(not tray.said for tray in found.trays.values())


def _below_folder(name: str) -> str:
    """A name as people write it, without its folder and ending."""
    path = PurePosixPath(name.replace("\\", "/"))
    path = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return PurePosixPath(*path.parts[1:]).as_posix() if path.parts[:1] and path.parts[0] in FOLDERS else path.as_posix()


def _check(row: dict[str, str], place: str) -> None:
    for name in COUNTS:
        if row.get(name) and not row[name].isdecimal():
            raise InputError(f"{place}: {name} = {row[name]!r} is no whole number; mend it or leave it empty")
    for name, most in (("latitude", 90), ("longitude", 180)):
        try:
            fits = not row.get(name) or abs(float(row[name])) <= most
        except ValueError:
            fits = False
        if not fits:
            raise InputError(f"{place}: {name} = {row[name]!r} is not between -{most} and {most} degrees; mend it")
    if bool(row.get("latitude")) != bool(row.get("longitude")):
        raise InputError(f"{place}: has only one of latitude and longitude; add the other or leave out both")
    if row.get("collected") and utc_time(row["collected"]) is None:
        raise InputError(f"{place}: collected = {row['collected']!r} is no date of ISO 8601; mend it")
    if normalise(row.get("licence")) == "unknown" and row.get("licence", "").lower() not in ("", "unknown"):
        raise InputError(f"{place}: licence = {row['licence']!r} is none of {', '.join(LICENCES)}; mend it")


def gather(folder: Folder, gathering: Gathering, *, licences: list[str] | None) -> None:
    """Add the photographs, each with its reason where it is dropped; one without a told licence is taken."""
    for name in folder.no_photographs:
        gathering.add([({"source": SOURCE, "photo_id": name}, "no photograph")])
    for name in folder.missing:
        gathering.add([({"source": SOURCE, "photo_id": name}, "no such file")])
    for tray in progress(folder.trays.values(), "photographs"):
        licence = normalise(tray.said["licence"]) if tray.said.get("licence") else None
        allowed = licence is None or licences is None or licence in licences
        gathering.add([(_row(tray, licence), None if allowed else NOT_ALLOWED)])


def _row(tray: Tray, licence: str | None) -> dict[str, Any]:
    numbers = (float(tray.said[name]) if tray.said.get(name) else None for name in ("latitude", "longitude"))
    latitude, longitude = coordinates(*numbers)
    collected: datetime | None = utc_time(tray.said["collected"]) if tray.said.get("collected") else None
    return {
        "key": tray.key,
        "source": SOURCE,
        "photo_id": tray.photo_id,
        "observation_id": tray.observation,
        "url": tray.url,
        "sha256": sha256_of(tray.path),
        "latitude": latitude,
        "longitude": longitude,
        "observed_at": collected,
        "basis": "specimen",
        "licence": licence or "unknown",
        "rights_holder": tray.said.get("rights_holder") or None,
        "region": tray.region,
    }


def windows(source: Path, tray: Tray) -> np.ndarray:
    """Where the sub-images lie in the photograph: int64, shape (n, 4), ``x_min, y_min, x_max, y_max``, max exclusive.

    Raises:
        InputError: if the table of the sub-images is missing or no table of numbers, or one reaches outside.
    """
    path = source / "annotation_tiles" / tray.last / f"{tray.last}_tile_metadata.npy"
    try:
        rows = np.load(path, allow_pickle=False)
        if rows.ndim != 2 or rows.shape[1] != 4 or not np.issubdtype(rows.dtype, np.number):
            raise ValueError(f"shape {rows.shape} of {rows.dtype}")
        if not np.isfinite(rows).all():
            raise ValueError(f"row {np.argmin(np.isfinite(rows).all(axis=1))} has a value that is no number")
        rows = rows.astype(np.int64)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, and the annotations are of its sub-images; put it there") from None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a table of y_min, y_max, x_min, x_max ({error}); put the set's there") from None
    assert tray.size is not None
    # whoever cut them by slicing may have written ends that lie outside
    width, height = tray.size
    boxes = np.clip(rows[:, [2, 0, 3, 1]], 0, [width, height, width, height])
    for i in np.flatnonzero((boxes[:, 2:] <= boxes[:, :2]).any(axis=1))[:1]:
        raise InputError(
            f"{path}: row {i}: y_min, y_max, x_min, x_max = {', '.join(map(str, rows[i].tolist()))} is no part of the "
            f"photograph of {width}×{height} pixels; put the photograph and the table of one set there"
        )
    return boxes
