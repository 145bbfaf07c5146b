"""Annotations as annotation tools export them: which files there are, and all of them as elements of one COCO JSON."""

import base64
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instar.errors import InputError
from instar.masks import from_bitmaps, from_polygons, joined_masks, united
from instar.records.annotated import class_names
from instar.records.folder import SUFFIXES, upright_size
from instar.records.trays.outlines import points
from instar.records.trays.stream import CHUNK, elements

#: The files of outlines that MassID45's layout and this project's own have.
OWN = ("annots*.json", "annotations.json")
#: Folders of a set that hold no annotations of whole photographs.
_OTHER = ("annotation_tiles", "truth")
#: Files that hold no outlines, whatever else is in the folder: what ``instar source zenodo`` notes, text beside labels.
_NO_OUTLINES = re.compile(r"zenodo-\d+\.json|classes\.txt|notes\.txt")

COCO, LABELME, VIA, LABEL_STUDIO, YOLO = "COCO", "LabelMe", "VIA", "Label Studio", "YOLO"
#: What the first keys of a file say of its form, LabelMe's without shapes, too; Label Studio has categories in a file
#: of notes, too.
_FORMS = {"images": COCO, "annotations": COCO, "shapes": LABELME, "imagePath": LABELME}
_REMEDY = "export the outlines as COCO, and put that as annotations.json into the folder"

#: Points of a circle's outline.
_CIRCLE = 48


def outline_files(source: Path) -> list[Path]:
    """The files of outlines in a folder, all of one form; none where nothing is annotated.

    Those of its own layout go before others: COCO of any name in the folder (Label Studio), below ``annotations``
    (CVAT) or beside the photographs (Roboflow); YOLO's text files of polygons below ``labels``; LabelMe's files.
    Of JSON of another kind one line tells.

    Raises:
        InputError: if two are of its own layout, there are several forms, one that is not read, or a damaged file.
    """
    own = [path for pattern in OWN for path in sorted(source.glob(pattern)) if not path.is_dir()]
    if len(own) > 1:
        raise InputError(f"{own[1]}: is there beside {own[0].name}; keep one of them")
    if own:
        return own
    forms: dict[str | None, list[Path]] = defaultdict(list)
    for path in _below(source, ".json"):
        forms[_form(path)].append(path)
    unknown = forms.pop(None, [])
    if labels := [path for path in _below(source, ".txt") if "labels" in path.relative_to(source).parts[:-1]]:
        forms[YOLO] = labels
    theirs = forms.pop(LABEL_STUDIO, [])
    if VIA in forms or (theirs and not forms):
        own_form = f"holds no outlines in COCO form but {LABEL_STUDIO}'s own"
        path, what = (forms[VIA][0], "is VIA's") if VIA in forms else (theirs[0], own_form)
        raise InputError(f"{path}: {what}, which is not read; {_REMEDY}")
    if passed := [*unknown, *theirs]:
        print(f"{source}: JSON that is not read as outlines: {len(passed)}, such as {passed[0]}", file=sys.stderr)
    if len(forms) > 1:
        first = ", ".join(f"{form}: {paths[0]}" for form, paths in sorted(forms.items(), key=str))
        raise InputError(f"{source}: outlines in {len(forms)} forms ({first}); keep one")
    paths = next(iter(forms.values()), [])
    # beside them Datumaro may write captions, keypoints and more of the same photographs
    return [path for path in paths if path.name.startswith("instances_")] or paths


def exported(source: Path, paths: list[Path]) -> Iterator[tuple[str, Any]]:
    """The elements of a COCO JSON that the files make together, each with its key.

    An image has ``folder``, which tells where its file says that it lies, beside COCO's own; of several files ids are
    told apart.

    Args:
        source: the folder.
        paths: from ``outline_files``.

    Raises:
        InputError: if a file is damaged.
    """
    if paths[0].suffix == ".txt":
        yield from _yolo(source, paths)
        return
    for path in paths:
        place = path.relative_to(source)
        for key, one in _labelme(path) if _form(path) == LABELME else elements(path):
            if key == "images" and isinstance(one, dict):
                named = place.stem.startswith("instances_")
                one["folder"] = place.stem.removeprefix("instances_") if named else place.parent.as_posix()
            yield key, _apart(key, one, place) if len(paths) > 1 else one


def _apart(key: str, one: Any, place: Path) -> Any:
    """An element with ids that no other file has."""
    names = ("image_id", "category_id") if key == "annotations" else ("id",)
    more = {name: f"{place}:{one[name]}" for name in names if name in one} if isinstance(one, dict) else {}
    return {**one, **more} if more else one


def _below(source: Path, suffix: str) -> list[Path]:
    return sorted(path for path in source.rglob(f"*{suffix}") if may_hold(source, path))


def may_hold(source: Path, path: Path) -> bool:
    """Whether a file below the folder may hold outlines by its name; that of the labels alone holds none."""
    if path.name.startswith(".") or _NO_OUTLINES.fullmatch(path.name) or not path.is_file():
        return False
    is_label = path.parent == source and path.name.startswith("taxa")
    return not is_label and path.relative_to(source).parts[0] not in _OTHER


def _form(path: Path) -> str | None:
    """The form of a JSON file; None for what holds no annotations.

    Raises:
        InputError: if it is damaged before its form is told: it may be one of many that hold outlines.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(CHUNK)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend it or remove it") from None
    if head.lstrip().startswith("["):
        return LABEL_STUDIO if '"annotation' in head else None
    try:
        for key, one in elements(path):
            if key in _FORMS:
                return _FORMS[key]
            if key.startswith("_via_") or (isinstance(one, dict) and "regions" in one):
                return VIA
    except InputError as error:
        raise InputError(f"{error}, or remove it if it holds no outlines") from None
    return None


def _labelme(path: Path) -> Iterator[tuple[str, Any]]:
    """LabelMe's file of one photograph; shapes of one group are one animal."""
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
        name, width, height = str(told["imagePath"]), int(told["imageWidth"]), int(told["imageHeight"])
        groups: dict[Any, list[Any]] = defaultdict(list)
        for number, shape in enumerate(told["shapes"]):
            group = shape.get("group_id")
            groups[str(shape["label"]), number if group is None else f"group {group}"].append(shape)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path}: not LabelMe's JSON ({type(error).__name__}: {error}); save it again") from None
    name = name.replace("\\", "/").rpartition("/")[2]
    yield "images", {"id": name, "file_name": name, "width": width, "height": height}
    for number, ((label, _), shapes) in enumerate(groups.items(), 1):
        yield "categories", {"id": label, "name": label}
        outline: Any = [ring for shape in shapes if (ring := _ring(shape)) is not None]
        if masks := [shape for shape in shapes if shape.get("shape_type") == "mask"]:
            outline = _painted(masks, outline, width, height)
        yield "annotations", {"id": number, "image_id": name, "category_id": label, "segmentation": outline}


def _ring(shape: dict[str, Any]) -> Any:
    """The ring of a polygon or circle; None for a rectangle, which is no outline, and other shapes."""
    kind = shape.get("shape_type") or "polygon"
    points: Any = shape.get("points")
    if kind != "circle":
        return points if kind == "polygon" else None
    try:
        (x, y), edge = points
        radius, turn = math.dist((x, y), edge), np.linspace(0, 2 * np.pi, _CIRCLE, endpoint=False)
        return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1).ravel().tolist()
    except (TypeError, ValueError):
        return None


def _painted(shapes: list[dict[str, Any]], rings: list[Any], width: int, height: int) -> dict[str, Any]:
    """The RLE of masks, each of which LabelMe holds as a PNG of its box, and of rings, all of one animal."""
    parts = []
    try:
        for shape in shapes:
            with Image.open(BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as image:
                pixels = np.asarray(image.convert("L")) > 0
            x, y = (round(value) for value in shape["points"][0])
            parts.append(from_bitmaps([pixels], [(x, y)]).clipped(0, 0, width, height))
        drawn = [ring.ravel().tolist() for ring in points(rings) if len(ring) >= 3]
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError, OverflowError, OSError):
        return {}  # which is broken RLE
    if drawn:
        parts.append(from_polygons([drawn], height, width))
    whole = united(joined_masks(parts), np.array([0, len(parts)]))
    return {"size": [height, width], "counts": whole.rle(height, width)[0].decode("ascii")}


def _yolo(source: Path, paths: list[Path]) -> Iterator[tuple[str, Any]]:
    """YOLO's polygons: a line ``class x1 y1 x2 y2 …`` for each animal, as shares of width and height."""
    names = class_names(source)
    folders: dict[Path, dict[str, Path]] = {}
    for path in paths:
        place = path.relative_to(source)
        at = len(place.parts) - 1 - place.parts[::-1].index("labels")
        stem = Path(*place.parts[:at], "images", *place.parts[at + 1 :]).with_suffix("")
        folder = (source / stem).parent
        if folder not in folders:
            folders[folder] = {one.stem: one for one in folder.glob("*") if one.suffix.lower() in SUFFIXES}
        photograph = folders[folder].get(stem.name)
        size = upright_size(photograph) if photograph else None
        name = str(photograph.relative_to(source) if photograph else stem)
        yield "images", {"id": str(place), "file_name": name}
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if fields := line.split():
                if not names or fields[0] in names:
                    yield "categories", {"id": fields[0], "name": names.get(fields[0], fields[0])}
                more = {"image_id": str(place), "category_id": fields[0]}
                yield "annotations", {"id": number, **more, "segmentation": _scaled(fields[1:], size)}


def _scaled(fields: list[str], size: tuple[int, int] | None) -> list[Any]:
    """A ring in pixels; a box of four numbers is no outline, and what is no pairs of numbers stays for the reader."""
    if len(fields) == 4 or size is None:
        return []
    try:
        return [(np.array(fields, np.float64).reshape(-1, 2) * size).ravel().tolist()]
    except ValueError:
        return [fields]
