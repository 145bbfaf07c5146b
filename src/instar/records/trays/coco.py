"""Outlines from a COCO JSON of any size, by the picture that they lie on; only those of one are in memory."""

import pickle
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from instar.errors import InputError
from instar.progress import progress
from instar.records.spill import Block, Spill
from instar.records.trays.stream import elements

#: What is held before it is written, bytes.
HELD_BYTES = 1 << 25

_SCHEMA = pa.schema([pa.field("one", pa.large_binary())])
_KEPT = ("id", "category_id", "name", "taxon", "segmentation", "iscrowd")


class Store:
    """Objects on disk, in the order in which they came, by a key; the file has no name and ends with the process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._spill = Spill(_SCHEMA, folder)
        self._held: dict[Hashable, list[bytes]] = defaultdict(list)
        self._bytes = 0
        self._blocks: dict[Hashable, list[Block]] = defaultdict(list)
        self.counts: Counter[Hashable] = Counter()

    def add(self, key: Hashable, one: Any) -> None:
        # only this process reads it back
        data = pickle.dumps(one, protocol=pickle.HIGHEST_PROTOCOL)
        self._held[key].append(data)
        self._bytes += len(data)
        self.counts[key] += 1
        if self._bytes > HELD_BYTES:
            self._write()

    def _write(self) -> None:
        for key, held in self._held.items():
            rows = pa.record_batch([pa.array(held, pa.large_binary())], schema=_SCHEMA)
            self._blocks[key].append(self._spill.append(rows))
        self._held.clear()
        self._bytes = 0

    def of(self, key: Hashable) -> Iterator[Any]:
        """The objects of a key."""
        for block in self._blocks.get(key, ()):
            for data in self._spill.read(block)["one"]:
                yield pickle.loads(data.as_py())
        for data in list(self._held.get(key, ())):
            yield pickle.loads(data)


@dataclass(frozen=True)
class Picture:
    """A picture of a COCO JSON: a photograph, or one of its sub-images.

    Attributes:
        id: in the file.
        photograph: the name of the photograph without its ending; for a photograph in a folder with it.
        tile: the number of the sub-image; None for a whole photograph.
        size: width and height in pixels where the file tells them.
        folder: in which its file says that it lies, if it does.
    """

    id: Hashable
    photograph: str
    tile: int | None
    size: tuple[int, int] | None
    folder: str = ""


@dataclass
class Coco:
    """What a COCO JSON holds.

    Attributes:
        path: of the file.
        pictures: by id.
        categories: name by id.
        outlines: annotations by the id of their picture.
        read: how many annotations there are.
        brushed: how many masks are called crowds and are one animal each.
    """

    path: Path
    pictures: dict[Hashable, Picture] = field(default_factory=dict)
    categories: dict[Hashable, str] = field(default_factory=dict)
    outlines: Store = field(default_factory=Store)
    read: int = 0
    brushed: int = 0

    @property
    def photographs(self) -> dict[str, list[Picture]]:
        """The pictures of each photograph, by its name."""
        found = defaultdict(list)
        for picture in self.pictures.values():
            found[picture.photograph].append(picture)
        return {name: sorted(found[name], key=lambda one: (one.tile or 0, str(one.id))) for name in sorted(found)}

    @property
    def without_picture(self) -> int:
        """Annotations of pictures that the file does not list."""
        return sum(count for key, count in self.outlines.counts.items() if key not in self.pictures)

    @property
    def first_without_picture(self) -> str:
        """Which annotation is of an image that the file does not list, for a message; an empty text for none."""
        for key in self.outlines.counts:
            if key not in self.pictures:
                one = next(self.outlines.of(key))
                return f"image it does not list: annotation {one.get('id')} of image {key}"
        return ""


def read_coco(path: Path, work: Path | None = None, given: Iterable[tuple[str, Any]] | None = None) -> Coco:
    """Read a COCO JSON, its annotations into a temporary file.

    Args:
        path: of the file; pictures have ``toras_path`` or ``file_name``, sub-images are ``<photograph>_tile_<i>``.
        work: folder for the temporary file; the system's by default.
        given: its elements, each with its key, where they are not to be read from the file.

    Raises:
        InputError: if the file is no COCO JSON, lists no images, or two with one id.
    """
    found = Coco(path, outlines=Store(work))
    for key, one in progress(elements(path) if given is None else given, f"elements of {path.name}"):
        if key not in ("images", "categories", "annotations"):
            continue
        try:
            _take(found, key, one)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            told = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InputError(f"{path}: not a COCO JSON ({key}: {told}); export the annotations again") from None
    if not found.pictures:
        raise InputError(f"{path}: not a COCO JSON (no images in it); export the annotations again")
    return found


def _take(found: Coco, key: str, one: dict[str, Any]) -> None:
    if key == "annotations":
        found.read += 1
        kept = {name: one[name] for name in _KEPT if name in one}
        # CVAT and Datumaro, who add attributes, call every mask of pixels a crowd, as COCO's crowds have no polygon
        if one.get("iscrowd") and "attributes" in one and isinstance(one.get("segmentation"), dict):
            found.brushed += 1
            del kept["iscrowd"]
        image = one.get("image_id")
        # a list or an object is the id of no image
        found.outlines.add(image if isinstance(image, Hashable) else None, kept)
    elif key == "categories":
        found.categories[one["id"]] = str(one["name"])
    else:
        picture = _picture(one)
        if picture.id in found.pictures:
            raise ValueError(f"two images have the id {picture.id!r}")
        found.pictures[picture.id] = picture


def _picture(one: dict[str, Any]) -> Picture:
    name = one.get("toras_path") or one.get("file_name") or one.get("path")
    if not name:
        raise ValueError(f"image {one['id']!r} has no toras_path or file_name")
    path = PurePosixPath(str(name).replace("\\", "/"))
    photograph, middle, number = path.stem.rpartition("_tile_")
    size = (int(one["width"]), int(one["height"])) if one.get("width") and one.get("height") else None
    if middle and photograph and number.isdecimal():
        return Picture(one["id"], photograph, int(number), size)
    return Picture(one["id"], path.with_suffix("").as_posix(), None, size, one.get("folder", ""))
