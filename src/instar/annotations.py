"""The annotated boxes that ``records`` wrote as COCO JSON, and which of their photographs can be used."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.masks import Masks, from_polygons, from_rle, joined_masks
from instar.tables import IMAGES, read_table

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Annotated:
    """A photograph and the animals that a person marked in it.

    Attributes:
        key: of the photograph.
        split: train, validation or test.
        width: pixels, upright, as it was annotated.
        height: likewise.
        boxes_xyxy: float64, shape (n, 4), pixels, max exclusive; n is 0 where there is no animal.
        crowded: whether some box holds a crowd of animals (COCO's iscrowd), not one.
        masks: n of them, in pixels, where every animal has one; else None.
        taxa: of each animal the taxon_id that it carries, or None; n of them.
        low: of each animal the taxon_ids that it may be of besides, which are not sure; n of them.
    """

    key: str
    split: str
    width: int
    height: int
    boxes_xyxy: np.ndarray
    crowded: bool
    masks: Masks | None = None
    taxa: tuple[str | None, ...] = ()
    low: tuple[tuple[str, ...], ...] = ()


def read_annotations(path: Path) -> tuple[list[Annotated], list[str]]:
    """Read a COCO JSON: its photographs by key, and the names of its categories.

    Raises:
        InputError: if the file is missing or no COCO JSON, or an image or a box in it cannot be right.
    """
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        names = [str(category["name"]) for category in coco["categories"]]
        animals: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
        for annotation in coco["annotations"]:
            animals[annotation["image_id"]].append(annotation)
        photographs = [_annotated(image, animals[image["id"]], path) for image in coco["images"]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage records") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a COCO JSON ({error}); run the stage records again") from None
    except KeyError as error:
        raise InputError(f"{path}: not a COCO JSON ({error} is missing); run the stage records again") from None
    return sorted(photographs, key=lambda photograph: photograph.key), names


def _box_xyxy(annotation: dict[str, Any], path: Path) -> list[float]:
    x_min, y_min, width, height = (float(number) for number in annotation["bbox"])
    if not (width > 0 and height > 0 and np.isfinite([x_min, y_min, width, height]).all()):
        raise InputError(f"{path}: annotation {annotation['id']}: bbox = {annotation['bbox']} has no area; remove it")
    return [x_min, y_min, x_min + width, y_min + height]


def _annotated(image: dict[str, Any], animals: list[dict[str, Any]], path: Path) -> Annotated:
    if image["split"] not in SPLITS:
        raise InputError(f"{path}: image {image['file_name']}: split = {image['split']!r}; it must be one of {SPLITS}")
    boxes_xyxy = np.array([_box_xyxy(animal, path) for animal in animals], np.float64).reshape(-1, 4)
    crowded = any(animal.get("iscrowd") for animal in animals)
    size = int(image["width"]), int(image["height"])
    taxa = tuple(None if animal.get("taxon") is None else str(animal["taxon"]) for animal in animals)
    low = tuple(tuple(map(str, animal.get("low") or ())) for animal in animals)
    masks = _masks(animals, *size)
    return Annotated(image["file_name"], image["split"], *size, boxes_xyxy, crowded, masks, taxa, low)


def _masks(animals: list[dict[str, Any]], width: int, height: int) -> Masks | None:
    """The masks of a photograph's animals; None where one has none. Without animals there are none to lack."""
    outlines: list[Any] = [animal.get("segmentation") for animal in animals]
    if not all(outlines):
        return None
    parts = [
        from_rle([outline]) if isinstance(outline, dict) else from_polygons([outline], height, width)
        for outline in outlines
    ]
    return joined_masks(parts)


def read_images(images: Path, shards: list[str], photographs: list[Annotated]) -> pa.Table:
    """The rows of ``tables.IMAGES`` of the given photographs; of the others no more than a shard's are ever held."""
    keys = pa.array([photograph.key for photograph in photographs], pa.string())
    tables = (read_table(images / f"{shard}.parquet", IMAGES) for shard in shards)
    return pa.concat_tables([table.filter(pc.is_in(table["key"], keys)) for table in tables])


def usable(photographs: list[Annotated], images: pa.Table) -> tuple[list[Annotated], Counter[str]]:
    """The annotated photographs that were fetched, at the size at which they were annotated.

    Args:
        photographs: annotated ones.
        images: their rows of ``tables.IMAGES``.

    Returns:
        Those that can be used, and the reasons of the others, counted.
    """
    columns = images.select(["key", "reason", "width", "height"]).to_pydict()
    fetched = {key: row for key, *row in zip(*columns.values(), strict=True)}
    kept: list[Annotated] = []
    reasons: Counter[str] = Counter()
    for photograph in photographs:
        reason, width, height = fetched.get(photograph.key, ("no record", None, None))
        if reason is not None:
            reasons[f"not fetched: {reason}"] += 1
        elif (width, height) != (photograph.width, photograph.height):
            reasons["annotated at another size"] += 1
        elif photograph.crowded:
            reasons["a box holds a crowd"] += 1
        else:
            kept.append(photograph)
    return kept, reasons
