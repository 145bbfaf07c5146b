"""Photographs of one's own: a folder ``images``, and boxes in YOLO's layout in ``labels`` beside it."""

import re
import warnings
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from instar.errors import InputError
from instar.files import sha256_of
from instar.progress import progress
from instar.records.annotations import Annotation, Annotations, Photograph, box_inside
from instar.records.gathering import Gathering, short_hash

SOURCE = "folder"
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}

_LONGEST = 80  # characters of a photo id; a tar's names have 100


def gather(source: Path) -> Gathering:
    """Read the photographs below ``<source>/images``, each of them an observation of its own without a taxon.

    Raises:
        InputError: if there is no such folder, or two photographs would get one key.
    """
    gathering = Gathering()
    taken: dict[str, Path] = {}
    for path in progress(_files(source), "photographs"):
        photo_id = _photo_id(path.relative_to(source / "images").with_suffix("").as_posix())
        if path.suffix.lower() not in SUFFIXES:
            gathering.add([({"source": SOURCE, "photo_id": photo_id}, "no photograph")])
            continue
        if photo_id in taken:
            raise InputError(f"{path}: gets the key of {taken[photo_id]}, too; rename one of them")
        taken[photo_id] = path
        row = {
            "key": f"{SOURCE}-{photo_id}",
            "source": SOURCE,
            "photo_id": photo_id,
            "observation_id": f"{SOURCE}-{photo_id}",
            "url": path.relative_to(source).as_posix(),
            "sha256": sha256_of(path),
            "observed_at": _time(path.name),
            "basis": "field",
            "licence": "unknown",
        }
        gathering.add([(row, None)])
    return gathering


def annotations(source: Path, urls: dict[str, str], *, category: str) -> Annotations:
    """Read ``labels/….txt`` for every ``images/….<suffix>``; a photograph without such a file is not annotated.

    Args:
        source: the folder.
        urls: paths below it of the photographs that are taken, by key.
        category: name of the one class, 0.

    Raises:
        InputError: if a line does not have five numbers, another class than 0 or a box outside its photograph.
    """
    found = Annotations(category=category)
    labels = {Path(url).relative_to("images").with_suffix(".txt"): (key, source / url) for key, url in urls.items()}
    for path in sorted((source / "labels").rglob("*.txt")):
        if path.name in ("classes.txt", "notes.txt"):  # which labelling tools put there
            continue
        key, photograph = labels.get(path.relative_to(source / "labels"), (None, None))
        if key is None or photograph is None:
            found.left_out["not among the records"] += 1
            continue
        size = upright_size(photograph)
        if size is None:
            found.left_out["no readable photograph"] += 1
            continue
        lines = enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        boxes = [_box(line, *size, f"{path}: line {number}") for number, line in lines if line.strip()]
        found.photographs[key] = Photograph(*size, boxes)
    return found


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels from a photograph's header, EXIF orientation applied; None where it has no header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if turned else (image.width, image.height)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return None


def _files(source: Path) -> list[Path]:
    if not (source / "images").is_dir():
        raise InputError(f"{source}: no folder 'images' in it; put the photographs there")
    files = [path for path in sorted((source / "images").rglob("*")) if path.is_file()]
    return [path for path in files if not path.name.startswith(".")]


def _photo_id(name: str) -> str:
    """A name for files from a path; one that had to be changed or shortened ends in a hash of the path."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("/", "-"))
    if safe == name.replace("/", "-") and len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST - 17]}-{short_hash(name)}"


def _time(name: str) -> datetime | None:
    try:
        return datetime.strptime(name[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC) if name[:14].isdigit() else None
    except ValueError:
        return None


def _box(line: str, width: int, height: int, place: str) -> Annotation:
    fields = line.split()
    if len(fields) != 5:
        raise InputError(f"{place}: {len(fields)} columns; a box is 'class x_centre y_centre width height'")
    if fields[0] != "0":
        raise InputError(f"{place}: class {fields[0]!r} is unknown; the one class is 0")
    try:
        x, y, box_width, box_height = (float(field) for field in fields[1:])
    except ValueError:
        raise InputError(f"{place}: {' '.join(fields[1:])!r} are not four numbers; mend the line") from None
    bbox = [(x - box_width / 2) * width, (y - box_height / 2) * height, box_width * width, box_height * height]
    return Annotation(box_inside(bbox, width, height, place))
