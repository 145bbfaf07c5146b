"""Finding animals on a shard's photographs: the stage against ultralytics' own ``predict``, streaming in full batches.

Both read the same JPEGs with the same weights on the same device and must find the same boxes; then the fastest of three
rounds of each is told, and the stage with one decoding thread and with several. Ultralytics is given the photographs as
files and pads them to squares, as the stage does; its default, the least rectangle, is told beside it: less to compute, but
boxes then depend on the others in the batch.
"""

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instar.detections import detections
from instar.detectors import Example, Recipe
from instar.detectors import yolo as family
from instar.shards import writing
from instar.tables import DETECTIONS, IMAGES, read_table, write_table

ROUNDS = 3
FLOOR, NMS_IOU, MAX_BOXES = 0.001, 0.5, 50
RANDOM = Path(__file__).parents[1] / "workflow/conf/detector/random.md"


@dataclass
class Size:
    """Of the benchmark: photographs, their sides in pixels, the network's input, pictures in a batch."""

    photographs: int
    width: int
    height: int
    image_px: int
    batch: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="24 photographs; finishes in seconds")
    parser.add_argument("--threads", type=int, default=2, help="that decode in the stage, beside one alone")
    options = parser.parse_args()
    size = Size(24, 480, 360, 256, 8) if options.small else Size(96, 1200, 900, 640, 16)
    with tempfile.TemporaryDirectory(prefix="instar-bench-") as folder:
        root = Path(folder)
        files = _draw(root, size)
        _train(root, size)
        found = _stage(root, size, options.threads)
        _assert_equal(found, _ultralytics(root, files, size, rect=False))
        boxes = sum(map(len, found.values()))
        print(f"{len(files)} photographs of {size.width}×{size.height} px, {boxes} boxes, equal in both")
        ways: dict[str, Callable[[], Any]] = {
            f"instar, {options.threads} threads decode": lambda: _stage(root, size, options.threads),
            "instar, 1 thread decodes": lambda: _stage(root, size, 1),
            "ultralytics, squares": lambda: _ultralytics(root, files, size, rect=False),
            "ultralytics, rectangles": lambda: _ultralytics(root, files, size, rect=True),
        }
        best = {name: _best(call) for name, call in ways.items()}
    first = next(iter(best.values()))
    for name, (wall, cpu) in best.items():
        speed = f"{len(files) / wall:6.1f} images/s {len(files) / cpu:6.1f} images/CPU-s"
        print(f"{name:28} {speed}   the stage is {wall / first[0]:.2f}× as fast, {cpu / first[1]:.2f}× per CPU-second")
    return 0


def _draw(root: Path, size: Size) -> list[Path]:
    """Photographs of dark blobs on noise, as files and as a shard."""
    rows, files = [], []
    (root / "files").mkdir()
    with writing(root / "s0.tar") as tar:
        for n in range(size.photographs):
            key, data = f"p-{n:04d}", _jpeg(_scene(n, size))
            (root / f"files/{key}.jpg").write_bytes(data)
            files.append(root / f"files/{key}.jpg")
            member = tar.add(f"{key}.jpg", data)
            row = {"key": key, "source": "folder", "photo_id": key, "observation_id": key, "url": key, "shard": "s0"}
            row |= {"basis": "field", "licence": "cc0", "width": size.width, "height": size.height}
            rows.append({**row, "offset": member.offset, "size": member.size, "sha256": member.sha256})
    write_table(root / "s0.parquet", rows, IMAGES)
    return files


def _scene(seed: int, size: Size) -> np.ndarray:
    generator = np.random.default_rng(seed)
    small = generator.integers(140, 255, (size.height // 8, size.width // 8, 3), dtype=np.uint8)
    picture = np.array(Image.fromarray(small).resize((size.width, size.height), Image.Resampling.BICUBIC))
    for left, top, right, bottom in _boxes(seed, size):
        picture[top:bottom, left:right] //= 6
    return picture


def _boxes(seed: int, size: Size) -> list[tuple[int, int, int, int]]:
    generator = np.random.default_rng(seed + 10_000)
    found = []
    for _ in range(4):
        width, height = (int(side) for side in generator.integers(size.height // 10, size.height // 4, 2))
        left, top = int(generator.integers(0, size.width - width)), int(generator.integers(0, size.height - height))
        found.append((left, top, left + width, top + height))
    return found


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _train(root: Path, size: Size) -> None:
    """A detector after a few epochs: what it finds need not be right."""

    def examples() -> Iterator[Example]:
        for n in range(18):
            split = "train" if n < 16 else "validation"
            yield Example(f"e-{n}", split, _scene(-n % 997 + 5000, size), np.array(_boxes(-n % 997 + 5000, size), float))

    (root / "detector").mkdir()
    (root / "work").mkdir()
    recipe = Recipe("yolo11n.yaml", str(RANDOM), 128, 8, 4, 0.004, 8, 0, {"warmup_epochs": 0}, 0)
    family.train(examples(), ["animal"], recipe, root / "detector", root / "work")
    path = root / "detector/detector.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_px": size.image_px}))


def _stage(root: Path, size: Size, threads: int) -> dict[str, np.ndarray]:
    """Boxes and scores by photograph, shape (n, 5), from the table that the stage wrote."""
    options = {"tile_overlap": 0.2, "merge_threshold": 0.5, "nms_iou": NMS_IOU, "max_boxes": MAX_BOXES}
    paths = root / "detector", root / "s0.parquet", root / "s0.tar", root / "out.parquet"
    detections(*paths, floor=FLOOR, tile_px=10_000, batch=size.batch, workers=threads, **options)  # type: ignore[arg-type]
    found: dict[str, list[list[float]]] = {}
    for row in read_table(root / "out.parquet", DETECTIONS).to_pylist():
        rows = found.setdefault(row["photo_key"], [])
        if row["reason"] is None:
            rows.append([row[name] for name in ("x_min", "y_min", "x_max", "y_max", "score")])
    return {key: np.array(rows).reshape(-1, 5) for key, rows in found.items()}


def _ultralytics(root: Path, files: list[Path], size: Size, *, rect: bool) -> dict[str, np.ndarray]:
    """The same by ultralytics, which is loaded anew as in the stage."""
    from ultralytics import YOLO

    model = YOLO(root / "detector/model.pt")
    options = {"imgsz": size.image_px, "batch": size.batch, "conf": FLOOR, "iou": NMS_IOU, "max_det": MAX_BOXES}
    results = model.predict([str(path) for path in files], stream=True, rect=rect, verbose=False, **options)
    found = {}
    for result in results:
        boxes = result.boxes
        rows = np.concatenate([boxes.xyxy.cpu().numpy(), boxes.conf.cpu().numpy()[:, None]], axis=1)
        found[Path(result.path).stem] = rows
    return found


def _assert_equal(found: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    """The decoders round differently by a level of grey here and there, so scores differ in the third digit."""
    assert found.keys() == others.keys()
    for key, rows in found.items():
        mine, theirs = (each[each[:, 4] > 2 * FLOOR] for each in (rows, others[key]))
        strays = [row for row in mine if not _has(others[key], row)] + [row for row in theirs if not _has(rows, row)]
        assert not strays, (key, strays)
    assert sum(map(len, found.values())), "no boxes to compare"


def _has(rows: np.ndarray, row: np.ndarray) -> bool:
    """Whether some box lies within a pixel, with the same score within a hundredth."""
    return bool((np.abs(rows - row) <= [1, 1, 1, 1, 0.01]).all(axis=1).any())


def _best(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        start, before = time.perf_counter(), _cpu()
        call()
        found.append((time.perf_counter() - start, _cpu() - before))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
