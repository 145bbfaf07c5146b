"""Annotated boxes: reading COCO JSON, splitting by observation or by time, and writing COCO JSON."""

import json
import math
import posixpath
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import indent
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.files import replacing
from instar.masks import from_polygons
from instar.records.trays.outlines import NO_AREA, cleaned
from instar.splits import hash_order

SPLITS = ("train", "validation", "test")

#: The splits of others' sets, by the names that their folders have.
GIVEN_SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
GIVEN_SPLITS |= {"validation": "validation", "dev": "validation", "test": "test", "testing": "test"}

#: A box may reach this far over the photograph's edge and is cut; farther is an error.
TOLERANCE_PX = 1.0

#: Why a photograph is left out, and how many of those are shown.
UNUSABLE_OUTLINE = "an outline that cannot be used"
_SHOWN = 3


@dataclass(frozen=True)
class Annotation:
    """A box ``x, y, width, height`` in pixels of the upright photograph, what else COCO says of it, and for messages
    where it stands."""

    bbox: list[float]
    more: dict[str, Any] = field(default_factory=dict)
    place: str = ""


class Boxes(Protocol):
    """Annotations that can be counted and gone through again: a list, or what lies on disk."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Annotation]: ...


@dataclass(frozen=True)
class Photograph:
    """The size of an annotated photograph in upright pixels, and its boxes; none where there is no animal."""

    width: int
    height: int
    boxes: Boxes


@dataclass
class Annotations:
    """Annotated photographs by key, the name of the one class, how many photographs were left out and why, and the
    split that the set itself gives to a photograph."""

    category: str
    photographs: dict[str, Photograph] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    given: dict[str, str] = field(default_factory=dict)


#: A data set may hold a file of the name that is none, and a detector that learns from nothing needs none.
_REMEDY = "export the annotations again, or, where the detector needs none, move the file away or rename it"


def box_inside(bbox: list[float], width: int, height: int, place: str) -> list[float]:
    """A box ``x, y, width, height`` cut at the photograph's edges.

    Args:
        bbox: in pixels.
        width: of the photograph, pixels.
        height: likewise.
        place: file and line or id, for the message.

    Raises:
        InputError: if the box reaches more than a pixel outside, or has no area.
    """
    x_min, y_min, box_width, box_height = bbox
    x_max, y_max = x_min + box_width, y_min + box_height
    outside = max(-x_min, -y_min, x_max - width, y_max - height)
    if not all(math.isfinite(value) for value in bbox) or outside > TOLERANCE_PX:
        shown = ", ".join(f"{value:g}" for value in (x_min, y_min, x_max, y_max))
        raise InputError(
            f"{place}: box {shown} is outside the photograph of {width}×{height} pixels; mend or remove it"
        )
    x_min, y_min, x_max, y_max = max(x_min, 0), max(y_min, 0), min(x_max, width), min(y_max, height)
    if not (box_width > 0 and box_height > 0 and x_max > x_min and y_max > y_min):
        raise InputError(f"{place}: a box of {box_width:g}×{box_height:g} pixels has no area; remove it")
    return [round(value, 6) for value in (x_min, y_min, x_max - x_min, y_max - y_min)]


def read_coco(
    path: Path,
    keys: pa.ChunkedArray | None,
    *,
    names: dict[str, str] | None = None,
    problems: list[InputError] | None = None,
) -> Annotations:
    """Read COCO JSON whose ``file_name`` is a photograph's key, with or without an ending.

    Args:
        path: the file.
        keys: of the photographs that are taken; others are left out and counted.
        names: instead of ``keys``, the key of each file_name.
        problems: gets what is wrong with a photograph's boxes, which is then left out, and is not raised.

    Raises:
        InputError: if the file is no COCO JSON, or an annotation has an unknown image or category or a wrong box.
    """
    try:
        coco = _json(path)
        categories = {category["id"]: str(category["name"]) for category in coco["categories"]}
        file_names = {image["id"]: _posix(image["file_name"]) for image in coco["images"]}
        if twice := len(coco["images"]) - len(file_names):
            raise InputError(f"{path}: {twice} images have the id of another one; export the annotations again")
        known = (
            _keys(file_names, keys) if keys is not None else {i: (names or {}).get(n) for i, n in file_names.items()}
        )
        found = Annotations(category=next(iter(categories.values()), "animal") if len(categories) < 2 else "animal")
        boxes: dict[Any, list[Annotation]] = defaultdict(list)
        photographs = {
            image["id"]: Photograph(int(image["width"]), int(image["height"]), boxes[image["id"]])
            for image in coco["images"]
        }
        wrong: set[Any] = set()
        for annotation in coco["annotations"]:
            try:
                _add(annotation, photographs, boxes, categories, path)
            except InputError as error:
                if problems is None or annotation["image_id"] not in photographs:
                    raise
                if annotation["image_id"] not in wrong and known[annotation["image_id"]]:
                    problems.append(error)
                wrong.add(annotation["image_id"])
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not a COCO JSON ({error}); {_REMEDY}") from None
    except KeyError as error:
        raise InputError(f"{path}: not a COCO JSON ({error} is missing); {_REMEDY}") from None
    for image_id, photograph in photographs.items():
        key = known[image_id]
        if key is None:
            found.left_out["not among the records"] += 1
        elif image_id in wrong:
            continue
        elif key in found.photographs:
            raise InputError(f"{path}: photograph {key} is there twice; merge its annotations into one image")
        else:
            found.photographs[key] = photograph
    return found


def coco_keys(path: Path) -> pa.Array:
    """Keys that the images of a COCO JSON may stand for: their file names, with and without an ending.

    Raises:
        InputError: if the file is no COCO JSON.
    """
    try:
        names = [_posix(image["file_name"]) for image in _json(path)["images"]]
    except KeyError as error:
        raise InputError(f"{path}: not a COCO JSON ({error} is missing); {_REMEDY}") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a COCO JSON ({error}); {_REMEDY}") from None
    return pa.array(sorted({*names, *(name.rpartition(".")[0] for name in names)}), pa.string())


def _posix(file_name: Any) -> str:
    """A file name as a path from the photographs' folder, however the tool that exported it wrote it."""
    return posixpath.normpath(str(file_name).replace("\\", "/"))


def _json(path: Path) -> Any:
    """What a JSON file holds; a ValueError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _keys(file_names: dict[Any, str], keys: pa.ChunkedArray) -> dict[Any, str | None]:
    """The key of each image, or None where no record has it."""
    whole = pa.array(file_names.values(), pa.string())
    stems = pa.array([name.rpartition(".")[0] for name in file_names.values()], pa.string())
    known = pc.if_else(pc.is_in(whole, keys), whole, pc.if_else(pc.is_in(stems, keys), stems, None))
    return dict(zip(file_names, known.to_pylist(), strict=True))


def _add(
    one: dict[str, Any],
    photographs: dict[Any, Photograph],
    boxes: dict[Any, list[Annotation]],
    categories: dict[Any, str],
    path: Path,
) -> None:
    place = f"{path}: annotation {one['id']}"
    if one["category_id"] not in categories:
        raise InputError(f"{place}: category_id {one['category_id']!r} is unknown; list it in categories or remove it")
    photograph = photographs.get(one["image_id"])
    if photograph is None:
        raise InputError(f"{place}: image_id {one['image_id']!r} is unknown; add the image or remove the annotation")
    bbox = [float(value) for value in one["bbox"]]
    if len(bbox) != 4:
        raise InputError(f"{place}: bbox has {len(bbox)} columns; it must be x, y, width, height")
    more: dict[str, Any] = {"segmentation": one["segmentation"]} if one.get("segmentation") else {}
    more["iscrowd"] = int(one.get("iscrowd") or 0)
    boxes[one["image_id"]].append(Annotation(box_inside(bbox, photograph.width, photograph.height, place), more, place))


def clean_outlines(annotations: Annotations, *, faults: str) -> dict[str, Any]:
    """Make the outlines beside the boxes whole, as ``trays.outlines.cleaned`` does; they become RLE with their area.

    Args:
        annotations: their photographs are replaced.
        faults: ``refuse`` outlines that cannot be used, or ``leave_out`` their photographs, counted and told: without
            a mask of every animal, a photograph could not be used where masks are asked for.

    Returns:
        Counts: outlines read, kept, dropped by reason and changed by what was done to them.

    Raises:
        InputError: with ``refuse``, if an outline cannot be used.
    """
    read = out = 0
    dropped, changed = Counter[str](), Counter[str]()
    problems: list[str] = []
    for key, photograph in list(annotations.photographs.items()):
        boxes, reasons, changes = [], Counter[str](), Counter[str]()
        kept = 0
        for box in photograph.boxes:
            more = dict(box.more)
            if "segmentation" in more:
                mask, reason, done = _mask(more, photograph.width, photograph.height)
                more = {"iscrowd": more["iscrowd"], **mask}
                kept += not reason
                changes.update(done)
                if reason:
                    problems += [] if reasons else [f"{box.place}: photograph {key}: outline cannot be used ({reason})"]
                    reasons[reason] += 1
            boxes.append(replace(box, more=more))
        read += kept + reasons.total()
        if reasons:
            del annotations.photographs[key]
            annotations.left_out[UNUSABLE_OUTLINE] += 1
            dropped += reasons + Counter({f"photograph left out: {UNUSABLE_OUTLINE}": kept})
            continue
        annotations.photographs[key] = replace(photograph, boxes=boxes)
        out += kept
        changed += changes
    if problems and faults != "leave_out":
        more_of = f" (and {len(problems) - 1} more photographs with such outlines)" if problems[1:] else ""
        raise InputError(f"{problems[0]}{more_of}; mend it, or set records.annotation_faults=leave_out")
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        print(f"photographs left out for {UNUSABLE_OUTLINE}: {len(problems)}, such as{shown}", file=sys.stderr)
    if read != out + dropped.total():
        raise RuntimeError(f"annotations: {read} outlines read, {out} kept and {dropped.total()} dropped")
    return {"in": read, "out": out, "dropped": dict(sorted(dropped.items())), "changed": dict(sorted(changed.items()))}


def _mask(one: dict[str, Any], width: int, height: int) -> tuple[dict[str, Any], str | None, list[str]]:
    """COCO's segmentation and area of a cleaned outline, or why there is none; what was changed."""
    found = cleaned(one["segmentation"], width, height)
    if found.reason:
        return {}, found.reason, []
    mask = found.masks or from_polygons([found.rings], height, width)
    if not (area := int(mask.areas()[0])):
        return {}, NO_AREA, []
    counts = mask.rle(height, width)[0].decode("ascii")
    return {"segmentation": {"size": [height, width], "counts": counts}, "area": area}, None, found.changes


def split_by_observation(
    observations: dict[str, str], *, validation_share: float, test_share: float, seed: int
) -> dict[str, str]:
    """Test, validation or train for each photograph, all of an observation in the same one.

    The observations stand in an order of their hashes and are cut where the shares of photographs are reached, each
    to the side where more of its photographs lie. Of three observations and more at least one is in each: where one
    would have none, the two smallest are for test and validation.

    Args:
        observations: observation id by photograph's key.
        validation_share: of the photographs, in (0, 1).
        test_share: likewise.
        seed: of the order.

    Returns:
        Split by key.
    """
    sizes = Counter(observations.values())
    total, before = len(observations), 0
    splits: dict[str, str] = {}
    order = list(hash_order(seed, sizes))
    for observation in order:
        middle = (before + sizes[observation] / 2) / total
        held = middle <= test_share + validation_share
        splits[observation] = "test" if middle <= test_share else "validation" if held else "train"
        before += sizes[observation]
    if len(order) >= len(SPLITS) and len(set(splits.values())) < len(SPLITS):
        # so few, or so uneven, that one of the shares is less than half an observation
        first, second = sorted(order, key=sizes.__getitem__)[:2]  # the largest trains
        splits = dict.fromkeys(order, "train") | {first: "test", second: "validation"}
    return {key: splits[observation] for key, observation in observations.items()}


def split_by_photograph(
    keys: Sequence[str], *, validation_share: float, test_share: float, seed: int
) -> dict[str, str]:
    """Test, validation or train for each photograph by itself, in exact numbers: the shares rounded.

    Of three photographs and more at least one is in each. Two photographs of one thing may be parted.

    Args:
        keys: of the photographs.
        validation_share: of the photographs, in (0, 1).
        test_share: likewise.
        seed: of the order.

    Returns:
        Split by key.
    """
    order = hash_order(seed, keys)
    least = int(len(order) >= len(SPLITS))
    tests, validations = (max(round(share * len(order)), least) for share in (test_share, validation_share))
    splits = ["test"] * tests + ["validation"] * validations
    return dict(zip(order, splits + ["train"] * len(order), strict=False))


def split_by_time(
    times: dict[str, datetime], *, validation_share: float, test_share: float, gap_s: float
) -> dict[str, str | None]:
    """Train, validation and test as three blocks of time, one after the other.

    Args:
        times: of each photograph, by key.
        validation_share: of the photographs, in (0, 1).
        test_share: likewise.
        gap_s: seconds; a photograph that precedes the first one of a later block by less is in no block.

    Returns:
        Split by key; None at the end of a block.
    """
    order = sorted(times, key=lambda key: (times[key], key))
    first_test = len(order) - round(len(order) * test_share)
    first_validation = first_test - round(len(order) * validation_share)
    splits: dict[str, str | None] = dict.fromkeys(order[:first_validation], "train")
    splits |= dict.fromkeys(order[first_validation:first_test], "validation")
    splits |= dict.fromkeys(order[first_test:], "test")
    for border in {first_validation, first_test} - {len(order)}:
        start = times[order[border]]
        for key in order[:border]:
            if start - times[key] < timedelta(seconds=gap_s):
                splits[key] = None
    return splits


def write_coco(path: Path, annotations: Annotations, splits: dict[str, str]) -> None:
    """Write annotated photographs that have a split as COCO with the additional key ``split``, images ordered by key.

    Annotations are written as they are read; what ``json.dump`` needs in memory grows with their number.
    """
    keys = sorted(splits)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{\n")
        _write_list(file, "images", _images(annotations, splits, keys))
        _write_list(file, "annotations", _coco_boxes(annotations, keys))
        _write_list(file, "categories", [{"id": 1, "name": annotations.category}], end="\n}\n")


def _images(annotations: Annotations, splits: dict[str, str], keys: list[str]) -> Iterator[dict[str, Any]]:
    for image_id, key in enumerate(keys, 1):
        photograph = annotations.photographs[key]
        size = {"width": photograph.width, "height": photograph.height}
        yield {"id": image_id, "file_name": key, **size, "split": splits[key]}


def _coco_boxes(annotations: Annotations, keys: list[str]) -> Iterator[dict[str, Any]]:
    number = 0
    for image_id, key in enumerate(keys, 1):
        for one in annotations.photographs[key].boxes:
            number += 1
            area = round(one.bbox[2] * one.bbox[3], 6)
            ids = {"id": number, "image_id": image_id, "category_id": 1}
            yield {**ids, "bbox": one.bbox, "area": area, "iscrowd": 0, **one.more}


def _write_list(file: TextIO, name: str, items: Iterable[dict[str, Any]], *, end: str = ",\n") -> None:
    """A list of a mapping, indented as ``files.write_json`` does."""
    file.write(f'  "{name}": [')
    before = "\n"
    for item in items:
        text = json.dumps(item, indent=2, allow_nan=False, ensure_ascii=False)
        file.write(before + indent(text, "    "))
        before = ",\n"
    file.write(f"{'' if before == chr(10) else chr(10) + '  '}]{end}")
