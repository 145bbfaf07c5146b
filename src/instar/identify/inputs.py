"""Photographs from files and folders: pixels, place, or the reason why there are none."""

import io
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from instar.decode import UndecodableError, decode_upright
from instar.formats import ENDINGS, FORMATS

Place = tuple[float, float]
#: Latitude and longitude of what has no known place.
NOWHERE = (math.nan, math.nan)
#: Endings by which photographs are found in folders; a file that is named itself may have any.
SUFFIXES = frozenset({*(f".{ending}" for ending in ENDINGS.values()), ".jpeg", ".tiff"})


@dataclass(frozen=True)
class Picture:
    """A photograph to look at.

    Attributes:
        name: its path as text.
        pixels: uint8, shape (height, width, 3), upright RGB, or the reason why there are none.
        place: latitude and longitude in degrees, NaN where unknown.
    """

    name: str
    pixels: np.ndarray | str
    place: Place


def paths_of(words: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The photographs that words on the command line mean, each once, and a line for each word that means none.

    Args:
        words: files, and folders that are searched with all below them, hidden ones left out, in the order of names.
    """
    found: dict[Path, None] = {}
    problems = []
    for word in words:
        if word.is_dir():
            inside, problem = _inside(word)
            found |= dict.fromkeys(inside)
            problems += [problem] if problem else []
        elif word.is_file():
            found[word] = None
        else:
            problems.append(f"{word}: no such photograph or folder")
    return list(found), problems


def _inside(folder: Path) -> tuple[list[Path], str | None]:
    unreadable: list[str] = []
    inside = []
    for root, folders, files in os.walk(folder, onerror=lambda error: unreadable.append(str(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside += [Path(root, name) for name in sorted(files) if _is_photograph(name)]
    if unreadable:
        return inside, f"{unreadable[0]}: can't be read"
    return inside, None if inside else f"{folder}: holds no photograph ({', '.join(sorted(SUFFIXES))})"


def _is_photograph(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def read_picture(path: Path, place: Place | None) -> Picture:
    """Read and decode a photograph.

    Args:
        path: of its file.
        place: where it was taken; None for what its EXIF says.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return Picture(str(path), f"can't be read ({error.strerror})", NOWHERE)
    try:
        pixels = decode_upright(data)
    except UndecodableError as error:
        return Picture(str(path), str(error), NOWHERE)
    return Picture(str(path), pixels, exif_place(data) if place is None else place)


def exif_place(data: bytes) -> Place:
    """Latitude and longitude in degrees from a photograph's EXIF (2.32, section 4.6.6); NaN where it says none.

    A device without a fix writes 0°, 0°, which is therefore none.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            gps = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _degrees(gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "NS")
        longitude = _degrees(gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "EW")
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return NOWHERE
    inside = abs(latitude) <= 90 and abs(longitude) <= 180
    return (latitude, longitude) if inside and (latitude, longitude) != (0, 0) else NOWHERE


def _degrees(parts: Iterable[float], reference: str, signs: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    sign = {signs[0]: 1, signs[1]: -1}[reference.strip("\0 ").upper()]
    return sign * (degrees + minutes / 60 + seconds / 3600)


def read_all(paths: Iterable[Path], place: Place | None, *, threads: int) -> Iterator[Picture]:
    """Photographs in the given order, decoded on threads ahead of whoever uses them."""
    from instar.photographs import AHEAD, in_order

    read = in_order(lambda path: read_picture(path, place), paths, threads=threads, ahead=AHEAD * threads)
    return (picture for _, picture in read)
