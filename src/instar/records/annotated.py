"""Annotated photographs of one's own: YOLO's text files, COCO JSON or Pascal VOC's XML, checked."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from xml.etree.ElementTree import Element

import yaml
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from instar.errors import InputError
from instar.records.annotations import (
    GIVEN_SPLITS,
    SPLITS,
    Annotation,
    Annotations,
    Photograph,
    box_inside,
    read_coco,
)
from instar.records.folder import upright_size

#: What stands in the folder of labels beside them and is none.
_NO_LABELS = ("classes.txt", "notes.txt")

#: Why the boxes of a photograph of which a part alone is searched are not used: animals beside it would be missed.
PART_SEARCHED = "a part alone is searched"
_NONE: Mapping[str, str] = MappingProxyType({})

#: Wrong labels that are shown where their photographs are left out.
_SHOWN = 3

Boxes = Callable[[Path, tuple[int, int]], list[Annotation]]


def annotations(
    source: Path,
    urls: dict[str, str],
    *,
    category: str,
    faults: str = "refuse",
    parts: Mapping[str, str] = _NONE,
) -> Annotations:
    """Read the boxes of the photographs of a source; one without a label file is not annotated.

    YOLO: ``labels/….txt`` for every ``images/….<suffix>``; ``data.yaml`` or ``classes.txt`` names the classes, each of
    which is taken as the one animal, and without them only class 0 is known. Pascal VOC: ``annotations/….xml`` or
    ``labels/….xml`` likewise. COCO: ``annotations.json`` or ``annotations/….json``. A set has one of these forms.

    Args:
        source: the folder.
        urls: paths below it of the photographs that are taken, by key.
        category: name of the one class of YOLO's labels, 0, where the set names none.
        faults: ``refuse`` a set with a wrong label, or ``leave_out`` its photograph, counted and told.
        parts: as ``urls``, of the photographs of which a part alone is searched: their boxes are counted, not used.

    Raises:
        InputError: if the set has several forms, a file cannot be read or, with ``refuse``, a label is wrong: without
            five numbers, of an unknown class, outside its photograph, or without an area.
    """
    yolo = [path for path in _below(source / "labels", ".txt") if path.name not in _NO_LABELS]
    voc = [*_below(source / "labels", ".xml"), *_below(source / "annotations", ".xml")]
    coco = [path for path in [source / "annotations.json"] if path.is_file()]
    coco += _below(source / "annotations", ".json")
    forms = {form: paths for form, paths in (("YOLO", yolo), ("Pascal VOC", voc), ("COCO", coco)) if paths}
    if len(forms) > 1:
        first = ", ".join(f"{form}: {paths[0]}" for form, paths in forms.items())
        raise InputError(f"{source}: boxes in {len(forms)} forms ({first}); keep one")
    problems: list[InputError] = []
    if coco:
        found = _read_coco(source, coco, urls, parts, problems if faults == "leave_out" else None)
    elif voc:
        found = _read_voc(source, voc, urls, parts, problems)
    else:
        names = class_names(source) if yolo else {}
        boxes = partial(_yolo_boxes, names=names)
        found = _read_labels(source, yolo, urls, parts, _one_name(names.values(), category), boxes, problems)
    if problems and faults != "leave_out":
        more = f" (and {len(problems) - 1} more photographs with wrong labels)" if problems[1:] else ""
        raise InputError(f"{problems[0]}{more}")
    if problems:
        found.left_out["wrong label"] += len(problems)
        shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        print(f"photographs left out for a wrong label: {len(problems)}, such as{shown}", file=sys.stderr)
    found.given.update(
        {key: split for key, url in urls.items() if (split := given_split(url)) and key not in found.given}
    )
    return found


def given_split(path: str) -> str | None:
    """The split that a path names: train, validation or test; None where none of its folders does."""
    return next((GIVEN_SPLITS[part] for part in PurePosixPath(path.lower()).parts[:-1] if part in GIVEN_SPLITS), None)


def in_two_splits(given: dict[str, str], sha256: dict[str, str]) -> set[str]:
    """Keys of photographs whose very file is also in a split that is held out with more reason.

    Of a file in test and in train, the one in test stays: what is held out must not have been learnt.

    Args:
        given: split by key.
        sha256: of the files, by key.
    """
    copies = defaultdict(set)
    for key, split in given.items():
        copies[sha256[key]].add(SPLITS.index(split))
    return {key for key, split in given.items() if SPLITS.index(split) < max(copies[sha256[key]])}


def _below(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file()) if folder.is_dir() else []


def _read_labels(
    source: Path,
    paths: list[Path],
    urls: dict[str, str],
    parts: Mapping[str, str],
    category: str,
    boxes: Boxes,
    problems: list[InputError],
) -> Annotations:
    """One file of labels for each photograph, of the same path but for its ending."""
    found = Annotations(category=category)
    # of a file that is searched in part and as a whole, too, the whole is annotated
    stems = {_below_images(url).with_suffix(""): (key, source / url) for key, url in [*parts.items(), *urls.items()]}
    for path in paths:
        folder = source / ("labels" if path.is_relative_to(source / "labels") else "annotations")
        stem = PurePosixPath(path.relative_to(folder).as_posix()).with_suffix("")
        key, photograph = stems.get(stem, (None, None))
        if key is None or photograph is None:
            found.left_out["not among the records"] += 1
            continue
        if key in parts:
            found.left_out[PART_SEARCHED] += 1
            continue
        size = upright_size(photograph)
        if size is None:
            found.left_out["no readable photograph"] += 1
            continue
        try:
            found.photographs[key] = Photograph(*size, boxes(path, size))
        except InputError as error:
            problems.append(error)
    return found


def class_names(source: Path) -> dict[str, str]:
    """The set's classes, name by number as the labels write it; empty where it does not name them.

    Raises:
        InputError: if data.yaml cannot be read, or its names are neither a list nor a mapping.
    """
    path = source / "data.yaml"
    if path.is_file():
        try:
            told = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); mend or remove it") from None
        names = told.get("names") if isinstance(told, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if names and not isinstance(names, dict):
            raise InputError(f"{path}: names = {names!r}; write a list of the classes, or name by number")
        if names:
            return {str(number): str(name) for number, name in names.items()}
    for path in (source / "classes.txt", source / "labels/classes.txt"):
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return {str(number): line.strip() for number, line in enumerate(lines) if line.strip()}
    return {}


def _one_name(names: Iterable[str], nameless: str) -> str:
    """The name of the class that all classes are taken as."""
    distinct = set(names) or {nameless}
    return distinct.pop() if len(distinct) == 1 else "animal"


def _yolo_boxes(path: Path, size: tuple[int, int], *, names: dict[str, str]) -> list[Annotation]:
    lines = enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1)
    return [_yolo_box(line, *size, names, f"{path}: line {number}") for number, line in lines if line.strip()]


def _yolo_box(line: str, width: int, height: int, names: dict[str, str], place: str) -> Annotation:
    fields = line.split()
    if len(fields) != 5:
        raise InputError(f"{place}: {len(fields)} columns; a box is 'class x_centre y_centre width height'")
    if names and fields[0] not in names:
        raise InputError(f"{place}: class {fields[0]!r} is unknown; the set has {', '.join(names)}; add or mend it")
    if not names and fields[0] != "0":
        raise InputError(
            f"{place}: class {fields[0]!r} is unknown; name the classes in data.yaml or classes.txt, or mend it to 0"
        )
    try:
        x, y, box_width, box_height = (float(field) for field in fields[1:])
    except ValueError:
        raise InputError(f"{place}: {' '.join(fields[1:])!r} are not four numbers; mend the line") from None
    bbox = [(x - box_width / 2) * width, (y - box_height / 2) * height, box_width * width, box_height * height]
    return Annotation(box_inside(bbox, width, height, place))


def _read_voc(
    source: Path, paths: list[Path], urls: dict[str, str], parts: Mapping[str, str], problems: list[InputError]
) -> Annotations:
    """Pascal VOC counts pixels from 1 and includes the last one; a set with a 0 was written by a tool that does not."""
    objects = {path: _voc_objects(path) for path in paths}
    first = 0 if any(min(box[:2]) < 1 for one in objects.values() for _, box, _ in one) else 1
    names = Counter(name for one in objects.values() for name, _, _ in one)

    def boxes(path: Path, size: tuple[int, int]) -> list[Annotation]:
        found = []
        for number, (_, (x_min, y_min, x_max, y_max), said) in enumerate(objects[path], 1):
            place = f"{path}: object {number}"
            if said is not None and said != size:
                raise InputError(
                    f"{place}: is of a photograph of {said[0]}×{said[1]} pixels, upright it has {size[0]}×{size[1]}; "
                    f"annotate it again"
                )
            bbox = [x_min - first, y_min - first, x_max - x_min + first, y_max - y_min + first]
            found.append(Annotation(box_inside(bbox, *size, place)))
        return found

    return _read_labels(source, paths, urls, parts, _one_name(names, "animal"), boxes, problems)


def _voc_objects(path: Path) -> list[tuple[str, tuple[float, float, float, float], tuple[int, int] | None]]:
    """Name and corners of each object, and the photograph's size where the file tells it."""
    try:
        root = ElementTree.parse(path).getroot()
        sides = [int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")]
        size = (sides[0], sides[1]) if all(sides) else None
        return [(one.findtext("name") or "", _corners(one), size) for one in root.iterfind("object")]
    except (ElementTree.ParseError, DefusedXmlException, ValueError, TypeError, OverflowError, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{path}: not Pascal VOC's XML ({message}); export the annotations again") from None


def _corners(element: Element) -> tuple[float, float, float, float]:
    corners = (element.findtext(f"bndbox/{name}", "") for name in ("xmin", "ymin", "xmax", "ymax"))
    x_min, y_min, x_max, y_max = map(float, corners)
    return x_min, y_min, x_max, y_max


def _read_coco(
    source: Path,
    paths: list[Path],
    urls: dict[str, str],
    parts: Mapping[str, str],
    problems: list[InputError] | None,
) -> Annotations:
    names = dict(_file_names(urls, parts))
    found = Annotations(category="animal")
    categories = set()
    for path in paths:
        one = read_coco(path, None, names=names, problems=problems)
        categories.add(one.category)
        for key, photograph in one.photographs.items():
            if key in parts:
                found.left_out[PART_SEARCHED] += 1
                continue
            if key in found.photographs:
                raise InputError(f"{path}: photograph {urls[key]} is in another file, too; merge its annotations")
            size = upright_size(source / urls[key])
            if size is None:
                found.left_out["no readable photograph"] += 1
                continue
            if size != (photograph.width, photograph.height):
                raise InputError(
                    f"{path}: {urls[key]} has {photograph.width}×{photograph.height} pixels there, upright it has "
                    f"{size[0]}×{size[1]}; annotate it again"
                )
            found.photographs[key] = photograph
            # "instances_train2017.json" tells the split of its photographs
            words = "".join(c if c.isalpha() else "/" for c in path.stem.lower()) + "/"
            if split := given_split(words + "x"):
                found.given[key] = split
        found.left_out.update(one.left_out)
    found.category = _one_name(categories, "animal")
    return found


def _file_names(urls: Mapping[str, str], parts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Names by which a photograph may be meant: its path below images or the source, or its name where one has it."""
    # several parts of one file are one file, also where it is searched as a whole, too
    files = [*urls.values(), *({*parts.values()} - {*urls.values()})]
    counts = Counter(PurePosixPath(url).name for url in files)
    for key, url in [*parts.items(), *urls.items()]:
        name = PurePosixPath(url).name
        if counts[name] == 1:
            yield name, key
        yield _below_images(url).as_posix(), key
        yield url, key
        yield key, key


def _below_images(url: str) -> PurePosixPath:
    """A photograph's path below ``images``; of individuals, which need not lie there, below the source."""
    path = PurePosixPath(url)
    return path.relative_to("images") if path.is_relative_to("images") else path
