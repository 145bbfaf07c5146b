"""A whole tray from its file to merged insects: the stage ``detections`` against SAHI's ``get_sliced_prediction``.

Both get the same weights, the same tiles (512 px, overlap 0.6; 1,014 on a tray of 8192×5464), the same least score and
the same number of threads. What they find before merging is held equal first: boxes, scores and, but for SAHI's
polygons, masks. Then seconds and CPU-seconds are told: the stage from a shard's JPEG to its table, SAHI from a JPEG to
its list, at its default of one tile at a time and with the stage's batch; and what the stage takes beside the model's
own forward passes, counted around each of them in the same run. Both merge by GREEDYNMM and IOS there.

Quality: smaller trays, drawn with other seeds than those that the detector learned from. SAHI's merging and the
study's get the same predictions; the confidence from which one counts is chosen for each way on other trays.

Trays and the detector, a small one that learns from drawn tiles for some minutes, are kept in a folder below the
system's temporary one.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from instar import detections as stage
from instar import detectors
from instar.decode import decode_upright
from instar.detections import Limits, Slicing
from instar.detectors import DESCRIPTION, Boxes, Example, Recipe
from instar.detectors import yolo as family
from instar.files import replacing, write_json
from instar.masks import Masks, from_bitmaps, from_rle, intersections, joined_masks
from instar.merge import merged
from instar.records.trays.world import draw_trays
from instar.shards import writing
from instar.tables import DETECTIONS, IMAGES, read_table, write_table
from instar.tiles import joined

ROOT = Path(__file__).parents[1]
CACHE = Path(tempfile.gettempdir()) / "instar-bench-tray"
NMS_IOU, MAX_BOXES = 0.7, 300  # ultralytics' own, which SAHI leaves as they are
OVERLAP = 0.6


@dataclass(frozen=True)
class Size:
    """Of the benchmark: the tray, its tiles' side, the least score, and what the detector learns from."""

    width: int
    height: int
    insects: int
    tile_px: int
    floor: float
    trays: int  # to learn from
    crop_px: int
    crops: int
    epochs: int
    others: int  # trays for the quality, half of them to choose the confidence on


FULL = Size(8192, 5464, 2000, 512, 0.25, 6, 256, 240, 10, 8)
SMALL = Size(1024, 768, 60, 256, 0.002, 1, 96, 12, 1, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tray of 1024×768; finishes in seconds")
    parser.add_argument("--detector", type=Path, help="folder of a trained yolo with masks; else one is trained here")
    parser.add_argument("--batch", type=int, default=16, help="tiles through the model at a time")
    parser.add_argument("--threads", type=int, default=2, help="of the model's arithmetic")
    parser.add_argument("--only", choices=("speed", "quality", "memory"), help="one part alone")
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    detector = options.detector or _trained(size)
    if options.only in (None, "speed"):
        _speed(size, detector, options.batch, options.threads)
    if options.only in (None, "memory"):
        _memory(size, detector, options.batch)
    if options.only in (None, "quality"):
        _quality(size, detector, options.batch)
    return 0


# --- trays and a detector


def _drawn(size: Size, photographs: int, seed: int) -> list[tuple[Path, Masks]]:
    """Photographs of trays, and the exact masks of their insects."""
    spec: Any = OmegaConf.load(ROOT / "workflow/conf/world/trays_full.yaml")
    changes = {"photographs": photographs, "width": size.width, "height": size.height, "doubles": 0, "sub_images": 1}
    spec.merge_with({**changes, "insects": [size.insects] * 2, "given": {"validation": 0, "test": 0}})
    folder = CACHE / f"trays-{size.width}x{size.height}-{size.insects}-{photographs}-{seed}"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        OmegaConf.save(spec, folder.with_suffix(".yaml"))
        draw_trays(folder.with_suffix(".yaml"), folder, seed=seed)
    found = []
    for path in sorted((folder / "edited").glob("*.jpg")):
        truth = json.loads((folder / "truth" / f"{path.stem}.json").read_text(encoding="utf-8"))
        found.append((path, from_rle(one["segmentation"] for one in truth["insects"])))
    return found


def _few(size: Size) -> Size:
    """A smaller tray, as crowded."""
    if size.width <= 2048:
        return size
    share = 2048 * 1536 / (size.width * size.height)
    return replace(size, width=2048, height=1536, insects=round(size.insects * share * 1.5))


def _trained(size: Size) -> Path:
    """A detector that learned from crops as large as the network's input was then; it is used on larger tiles."""
    folder = CACHE / f"detector-{size.crop_px}-{size.crops}-{size.epochs}"
    if folder.is_dir():
        return folder
    recipe = Recipe(
        model="yolo11n-seg.yaml",
        weights=str(ROOT / "workflow/conf/detector/random.md"),
        image_px=size.crop_px,
        epochs=size.epochs,
        batch=8,
        learning_rate=0.002,
        plain_epochs=2,
        workers=0,
        options={},
        seed=0,
    )
    examples = list(_examples(size))
    with replacing(folder) as out, tempfile.TemporaryDirectory(prefix="instar-bench-") as work:
        out.mkdir()
        family.train(examples, ["insect"], recipe, out, Path(work))
        description = json.loads((out / DESCRIPTION).read_text(encoding="utf-8"))
        write_json(out / DESCRIPTION, {**description, "image_px": size.tile_px})
    return folder


def _examples(size: Size) -> Iterator[Example]:
    trays = [(decode_upright(path.read_bytes()), masks) for path, masks in _drawn(_few(size), size.trays, seed=1)]
    generator = np.random.default_rng(0)
    for n in range(size.crops):
        pixels, masks = trays[n % len(trays)]
        # around an insect, since most of a tray is empty
        x_min, y_min, x_max, y_max = masks.boxes()[generator.integers(len(masks))]
        corner = np.array([(x_min + x_max) / 2, (y_min + y_max) / 2]) - generator.uniform(0.1, 0.9, 2) * size.crop_px
        left, top = np.clip(corner, 0, np.array(pixels.shape[1::-1]) - size.crop_px).astype(int).tolist()
        inside = masks.clipped(left, top, left + size.crop_px, top + size.crop_px)
        good = inside.areas() >= np.maximum(0.2 * masks.areas(), 6)
        if good.any():
            inside = inside.take(good).shifted(-left, -top)
            picture = pixels[top : top + size.crop_px, left : left + size.crop_px]
            split = "validation" if n % 10 == 9 else "train"
            yield Example(f"c-{n:04d}", split, picture, inside.boxes().astype(np.float64), inside)


if __name__ == "__main__":
    import os
    _trained(SMALL if "--small" in sys.argv else FULL)
