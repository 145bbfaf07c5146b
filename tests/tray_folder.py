"""A tiny folder of trays in MassID45's layout."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Two sub-images of 60×40 side by side on a photograph of 100×40, 20 columns in common.
WINDOWS = [[0, 40, 0, 60], [0, 40, 40, 100]]


def ring(x_min: float, y_min: float, x_max: float, y_max: float) -> list[float]:
    """A rectangle as COCO's ring; its pixels are all those inside."""
    return [x_min, y_min, x_max, y_min, x_max, y_max, x_min, y_max]


def picture(path: Path, width: int = 100, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(path.name.encode())
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)
    return path


def tile_images(name: str, first: int = 1, count: int = 2) -> list[dict[str, Any]]:
    """COCO's images of a photograph's sub-images, their ids from ``first`` on."""
    return [{"id": first + i, "toras_path": f"batch-1/{name}/{name}_tile_{i}.jpg"} for i in range(count)]


def write_tiles(source: Path, name: str, windows: list[list[int]] | None = None) -> None:
    folder = source / "annotation_tiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}_tile_metadata.npy", np.array(windows or WINDOWS))


def outline(number: int, image: Any, segmentation: Any, name: str | None = "b", **more: Any) -> dict[str, Any]:
    given = {"id": number, "image_id": image, "category_id": 1, "segmentation": segmentation, **more}
    return given | ({"name": name} if name is not None else {})


def write_coco(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Path:
    categories = [{"id": 1, "name": "b"}, {"id": 2, "name": "d"}]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def tray(source: Path, name: str, annotations: list[dict[str, Any]], first: int = 1) -> list[dict[str, Any]]:
    """A photograph with two sub-images; returns COCO's images."""
    picture(source / f"edited/{name}.jpg")
    write_tiles(source, name)
    images = tile_images(name, first)
    write_coco(source / "annots_20250307_coco.json", images, annotations)
    return images
