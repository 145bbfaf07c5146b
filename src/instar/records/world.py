"""The drawn world: photographs of invented ants and their records, in the formats of the real sources."""

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from pycocotools import mask as coco_mask

from instar.files import replacing, write_json
from instar.progress import progress
from instar.records.scenes import draw_scene, encoded, spoiled
from instar.records.world_gbif import write_gbif
from instar.records.world_inaturalist import write_inaturalist
from instar.records.world_plan import Photograph, Plan, plan_world, stable_int
from instar.records.world_spec import load_world
from instar.tables import write_table

#: truth/photographs.parquet: one row per photograph.
TRUE_PHOTOGRAPHS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("species", pa.string(), nullable=False),  # the true one, of photographs without an ant, too
        pa.field("ants", pa.int32(), nullable=False),  # of which something is seen
        pa.field("defect", pa.string()),  # what makes the file unusable
        pa.field("burst", pa.string()),  # shared by shots of one burst
        pa.field("orientation", pa.int32(), nullable=False),  # EXIF
        pa.field("wrong_label", pa.bool_(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),  # pixels, upright
        pa.field("height", pa.int32(), nullable=False),
    ]
)

#: truth/ants.parquet: one row per ant, as drawn, whatever then happened to the file.
TRUE_ANTS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("x_min", pa.int32(), nullable=False),  # pixels of the upright photograph, max exclusive
        pa.field("y_min", pa.int32(), nullable=False),
        pa.field("x_max", pa.int32(), nullable=False),
        pa.field("y_max", pa.int32(), nullable=False),
        pa.field("area", pa.int32(), nullable=False),  # pixels
        pa.field("mask", pa.string(), nullable=False),  # counts of a COCO RLE of the photograph's size
        pa.field("species", pa.string(), nullable=False),
        pa.field("wrong_label", pa.bool_(), nullable=False),
    ]
)

Ants = list[dict[str, Any]]


def draw_world(spec: Path, out: Path, *, seed: int, truth: Path | None = None, processes: int | None = None) -> None:
    """Draw a world of ants and write it as its upstreams would.

    Args:
        spec: description of the world, YAML; see ``world_spec``.
        out: folder to write, replaced as a whole: ``mirror/<host>/<path>``, ``inaturalist-open-data/``, ``gbif.zip``
            and ``annotations.json``.
        seed: of every random choice; equal spec and seed give equal bytes.
        truth: folder for what no pipeline may read: the true species, boxes, masks and defects.
        processes: to draw with; as many as there are cores if None. The result does not depend on it.

    Raises:
        InputError: if the description is missing or wrong.
    """
    plan = plan_world(load_world(spec), seed)
    with replacing(out) as folder:
        ants = _draw_all(plan.photographs, folder / "mirror", processes or os.cpu_count() or 1)
        write_inaturalist(folder / "inaturalist-open-data", plan)
        write_gbif(folder / "gbif.zip", plan)
        _write_annotations(folder / "annotations.json", plan, ants)
    if truth is not None:
        _write_truth(truth, plan, ants)


def _draw_all(photographs: Sequence[Photograph], mirror: Path, processes: int) -> dict[str, Ants]:
    """Write every file below ``mirror``; the ants of each photograph by key."""
    paths = [mirror / photograph.url.removeprefix("https://") for photograph in photographs]
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True)
    with drawing_pool(processes) as pool:
        drawn = pool.map(_draw_file, photographs, paths, chunksize=4)
        found = list(progress(drawn, "photographs drawn", len(photographs)))
    return {photograph.key: ants for photograph, ants in zip(photographs, found, strict=True)}


@contextmanager
def drawing_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes in which OpenCV keeps to one thread."""
    context = multiprocessing.get_context("spawn")  # OpenCV's threads do not survive a fork
    with ProcessPoolExecutor(processes, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield pool


def _draw_file(photograph: Photograph, path: Path) -> Ants:
    """Draw a photograph, write its file, and say where its ants are; a beetle's photograph has none."""
    picture = draw_scene(photograph.scene)
    data = encoded(
        picture.pixels,
        extension=photograph.extension,
        orientation=photograph.orientation,
        taken=photograph.taken,
        quality=photograph.quality,
    )
    if photograph.defect:
        data = spoiled(data, photograph.defect, stable_int("spoiled", photograph.key))
    if photograph.defect != "missing":
        path.write_bytes(data)
    return [_ant(mask) for mask in picture.masks] if photograph.ants else []


def _ant(mask: np.ndarray) -> dict[str, Any]:
    """Box, area and RLE of a mask, bool, shape (height, width), that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "x_min": int(columns[0]),
        "y_min": int(rows[0]),
        "x_max": int(columns[-1]) + 1,
        "y_max": int(rows[-1]) + 1,
        "area": int(mask.sum()),
        "mask": rle["counts"].decode("ascii"),
    }


def _write_annotations(path: Path, plan: Plan, ants: dict[str, Ants]) -> None:
    """COCO detection annotations of the plan's annotated photographs; ``ants`` by key."""
    photographs = {photograph.key: photograph for photograph in plan.photographs}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, key in enumerate(plan.annotated, start=1):
        scene = photographs[key].scene
        images.append({"id": image_id, "file_name": f"{key}.jpg", "width": scene.width, "height": scene.height})
        for ant in ants[key]:
            annotations.append(_annotation(len(annotations) + 1, image_id, scene.width, scene.height, ant))
    info = {"description": f"Drawn ants of the world {plan.world.name}", "version": "1.0"}
    categories = [{"id": 1, "name": "ant", "supercategory": "insect"}]
    write_json(path, {"info": info, "categories": categories, "images": images, "annotations": annotations})


def _annotation(number: int, image_id: int, width: int, height: int, ant: dict[str, Any]) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = (ant[name] for name in ("x_min", "y_min", "x_max", "y_max"))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
        "area": ant["area"],
        "segmentation": {"size": [height, width], "counts": ant["mask"]},
        "iscrowd": 0,
    }


def _write_truth(folder: Path, plan: Plan, ants: dict[str, Ants]) -> None:
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in plan.records:
        for photograph in record.photographs:
            common = {"key": photograph.key, "species": record.species, "wrong_label": record.wrong}
            rows["ants"] += [{**common, **ant} for ant in ants[photograph.key]]
            of_file = {name: getattr(photograph, name) for name in ("defect", "burst", "orientation")}
            size = {"width": photograph.scene.width, "height": photograph.scene.height}
            rows["photographs"].append({**common, "ants": len(ants[photograph.key]), **of_file, **size})
    with replacing(folder) as temporary:
        write_table(temporary / "photographs.parquet", rows["photographs"], TRUE_PHOTOGRAPHS)
        write_table(temporary / "ants.parquet", rows["ants"], TRUE_ANTS)
