"""The stage ``crops`` against a correct Pillow loop: CPU-seconds, and wall time with two workers.

The loop is what a user would write: open, upright, cut out with the margin, shrink, save as JPEG. It reads loose files
and writes loose files. The stage reads a tar and writes a tar, and also a table with sha256 and ancestry of every crop.
Both average areas to shrink and encode at the same quality; equal crops are asserted first.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from instar.crops import crops
from instar.shards import writing
from instar.tables import CROPS, DETECTIONS, IMAGES, read_table, write_table

MARGIN_PERCENT = 10.0
MAX_PX = 448
QUALITY = 90
SIZES = [(1024, 768), (1600, 1200), (2048, 1536)]
#: How often cameras turn a photograph: mostly not, else mostly upright.
ORIENTATIONS = [1, 1, 1, 1, 6, 6, 8, 3]
Boxes = list[tuple[float, float, float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="12 photographs, in seconds")
    photographs = 12 if parser.parse_args().small else 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boxes = drawn_shard(folder, photographs)
        runs: dict[str, Callable[[], object]] = {
            "Pillow loop": lambda: loop(folder, boxes),
            "stage, 1 worker": lambda: stage(folder, 1),
            "stage, 2 workers": lambda: stage(folder, 2),
        }
        runs["Pillow loop"]()
        runs["stage, 2 workers"]()
        assert_equal(folder)
        cpu, wall = best_of_three(runs)
    found = sum(map(len, boxes.values()))
    print(f"{photographs} photographs, {found} crops, best of 3")
    for label in runs:
        print(f"  {label:<17} {cpu[label]:6.2f} CPU-s  {wall[label]:6.2f} s")
    print(f"per CPU-second, stage : loop {cpu['Pillow loop'] / cpu['stage, 1 worker']:.2f} (at least 1.0)")
    print(f"wall, 2 workers : 1 {wall['stage, 1 worker'] / wall['stage, 2 workers']:.2f} (at least 1.7)")


def drawn_shard(folder: Path, photographs: int) -> dict[str, Boxes]:
    """Photographs with structure at every scale, as loose files and as a shard, with one to four boxes on each."""
    rng = np.random.default_rng(0)
    (folder / "loose").mkdir()
    found: dict[str, Boxes] = {}
    images: list[dict[str, Any]] = []
    scenes = [drawn_photograph(rng, *size) for size in SIZES for _ in range(4)]
    with writing(folder / "images.tar") as tar:
        for n in range(photographs):
            key, orientation = f"folder-{n:04d}", ORIENTATIONS[n % len(ORIENTATIONS)]
            scene = scenes[rng.integers(len(scenes))]
            data = as_camera_file(scene, orientation)
            (folder / "loose" / f"{key}.jpg").write_bytes(data)
            width, height = scene.size if orientation < 5 else scene.size[::-1]
            found[key] = [drawn_box(rng, width, height) for _ in range(rng.integers(1, 5))]
            member = tar.add(f"{key}.jpg", data)
            row = {"key": key, "source": "folder", "photo_id": str(n), "observation_id": str(n), "url": f"{key}.jpg"}
            row |= {"basis": "field", "licence": "cc0", "shard": "s0"}
            images.append({**row, **vars(member), "width": width, "height": height})
    write_table(folder / "images.parquet", images, IMAGES)
    names = ("x_min", "y_min", "x_max", "y_max")
    rows = [
        {
            "photo_key": key,
            "key": f"{key}-{n:03d}",
            "score": 1.0,
            "detector": "drawn",
            **dict(zip(names, box, strict=True)),
        }
        for key, boxes in found.items()
        for n, box in enumerate(boxes)
    ]
    write_table(folder / "detections.parquet", rows, DETECTIONS)
    return found


def drawn_photograph(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    picture = np.full((height, width, 3), 128, np.float32)
    for cells in (4, 16, 64, 256):
        noise = rng.integers(88, 168, (cells * 3 // 4, cells, 3), dtype=np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        picture -= 128
    picture += rng.normal(0, 3, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def as_camera_file(picture: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, exif=exif.tobytes())
    return buffer.getvalue()


def drawn_box(rng: np.random.Generator, width: int, height: int) -> tuple[float, float, float, float]:
    """Whole pixels and sides in tens, so that the margin ends at whole pixels and no rounding rule matters."""
    sides = rng.integers(min(width, height) // 100, min(width, height) * 6 // 100, 2) * 10
    left, top = rng.integers(0, (width - sides[0], height - sides[1]))
    return float(left), float(top), float(left + sides[0]), float(top + sides[1])


def loop(folder: Path, boxes: dict[str, Boxes]) -> None:
    """What a user would write; loose files in and out."""
    out = folder / "loose-crops"
    out.mkdir(exist_ok=True)
    for key, found in boxes.items():
        with Image.open(folder / "loose" / f"{key}.jpg") as image:
            picture = ImageOps.exif_transpose(image)
        for n, (x_min, y_min, x_max, y_max) in enumerate(found):
            extra_x, extra_y = (x_max - x_min) * MARGIN_PERCENT / 100, (y_max - y_min) * MARGIN_PERCENT / 100
            left, top = max(0, int(np.floor(x_min - extra_x))), max(0, int(np.floor(y_min - extra_y)))
            right = min(picture.width, int(np.ceil(x_max + extra_x)))
            bottom = min(picture.height, int(np.ceil(y_max + extra_y)))
            crop = picture.crop((left, top, right, bottom))
            if (longer := max(crop.size)) > MAX_PX:
                size = (round(crop.width * MAX_PX / longer), round(crop.height * MAX_PX / longer))
                crop = crop.resize(size, Image.Resampling.BOX)
            crop.save(out / f"{key}-{n:03d}.jpg", quality=QUALITY)


def stage(folder: Path, workers: int) -> None:
    names = ("images.parquet", "images.tar", "detections.parquet", "crops.parquet", "crops.tar")
    cut = {"margin_percent": MARGIN_PERCENT, "max_px": MAX_PX, "jpeg_quality": QUALITY}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        crops(*(folder / name for name in names), confidence=0.5, workers=workers, **cut)


def assert_equal(folder: Path) -> None:
    """Equal sizes and, to one level on average, equal pixels of every crop."""
    tar = (folder / "crops.tar").read_bytes()
    rows = read_table(folder / "crops.parquet", CROPS).to_pylist()
    assert len(rows) == len(list((folder / "loose-crops").iterdir()))
    for row in rows:
        own = Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["size"]]))
        other = Image.open(folder / "loose-crops" / f"{row['key']}.jpg")
        assert own.size == other.size == (row["width"], row["height"]), row["key"]
        assert np.abs(np.asarray(own, np.int16) - np.asarray(other, np.int16)).mean() < 1, row["key"]


def best_of_three(runs: dict[str, Callable[[], object]]) -> tuple[dict[str, float], dict[str, float]]:
    """CPU-seconds of all threads and seconds of each run, in turns so that a slow moment hits all."""
    cpu = dict.fromkeys(runs, float("inf"))
    wall = dict.fromkeys(runs, float("inf"))
    for _ in range(3):
        for label, run in runs.items():
            wall_start, cpu_start = time.perf_counter(), sum(os.times()[:2])
            run()
            cpu[label] = min(cpu[label], sum(os.times()[:2]) - cpu_start)
            wall[label] = min(wall[label], time.perf_counter() - wall_start)
    return cpu, wall


if __name__ == "__main__":
    main()
