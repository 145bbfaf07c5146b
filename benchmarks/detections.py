"""Finding animals on a shard's photographs: the stage against ultralytics' own ``predict``, streaming in full batches.

Both must find the same boxes with the same weights on PNGs, which every decoder reads alike. Then the fastest of three
rounds over JPEGs is told, of the stage with one decoding thread and with several. Ultralytics is given the photographs
as files and pads them to squares, as the stage does; its default, the least rectangle, is told beside it: there is less
to compute, but boxes then depend on the others in the batch.
"""

import argparse
import hashlib
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instar.detections import detections
from instar.detectors import DESCRIPTION
from instar.detectors import yolo as family
from instar.files import write_json
from instar.shards import writing
from instar.tables import DETECTIONS, IMAGES, read_table, write_table

ROUNDS = 3
FLOOR, NMS_IOU, MAX_BOXES = 0.05, 0.5, 50


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
    parser.add_argument("--small", action="store_true", help="8 photographs, once; finishes in seconds")
    parser.add_argument("--threads", type=int, default=2, help="that decode in the stage, beside one alone")
    options = parser.parse_args()
    size = Size(8, 480, 360, 256, 8) if options.small else Size(96, 1200, 900, 640, 16)
    with tempfile.TemporaryDirectory(prefix="instar-bench-") as folder:
        root = Path(folder)
        _detector(root, size)
        few = _draw(root, replace(size, photographs=min(24, size.photographs)), "png")
        found = _stage(root, size, options.threads)
        _assert_equal(found, _ultralytics(root, few, size, rect=False))
        boxes = sum(map(len, found.values()))
        print(f"{len(few)} photographs of {size.width}×{size.height} px, {boxes} boxes, equal in both", flush=True)
        files = _draw(root, size, "jpeg")
        ways: dict[str, Callable[[], Any]] = {
            f"instar, {options.threads} threads decode": lambda: _stage(root, size, options.threads),
            "instar, 1 thread decodes": lambda: _stage(root, size, 1),
            "ultralytics, squares": lambda: _ultralytics(root, files, size, rect=False),
            "ultralytics, rectangles": lambda: _ultralytics(root, files, size, rect=True),
        }
        best = {name: _best(call, 1 if options.small else ROUNDS) for name, call in ways.items()}
    first = next(iter(best.values()))
    for name, (wall, cpu) in best.items():
        speed = f"{len(files) / wall:6.1f} images/s {len(files) / cpu:6.1f} images/CPU-s"
        print(f"{name:28} {speed}   the stage is {wall / first[0]:.2f}× as fast, {cpu / first[1]:.2f}× per CPU-second")
    return 0


def _draw(root: Path, size: Size, kind: str) -> list[Path]:
    """Photographs of dark blobs on noise, as files and as a shard; png gives equal pixels whatever reads it."""
    rows, files = [], []
    (root / kind).mkdir()
    with writing(root / "s0.tar") as tar:
        for n in range(size.photographs):
            key, data = f"p-{n:04d}", _encoded(_scene(n, size), kind)
            files.append(root / kind / f"{key}.{kind}")
            files[-1].write_bytes(data)
            member = tar.add(files[-1].name, data)
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


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return buffer.getvalue()


def _detector(root: Path, size: Size) -> None:
    """A YOLO of random weights whose scores are spread out, so that it finds much; nothing of it is right."""
    family._prepare()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model: Any = DetectionModel("yolo11n.yaml", nc=1, verbose=False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.3
    pictures = np.stack([_scene(n, Size(0, 256, 256, 256, 0)) for n in range(4)])
    with torch.no_grad():
        for branch in model.model[-1].cv3:
            branch[-1].bias.data.zero_()
        for _ in range(20):  # the layers' running means
            logits = model.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)["scores"]
        for branch in model.model[-1].cv3:
            branch[-1].weight.data *= 6 / logits.abs().max()
            branch[-1].bias.data.fill_(-4)
    model.names, model.args = {0: "animal"}, {}
    torch.save({"model": model, "train_args": {"task": "detect"}}, root / "random.pt")
    weights, _ = family._stripped(root / "random.pt", size.image_px)
    (root / "detector").mkdir()
    (root / "detector" / family.WEIGHTS).write_bytes(weights)
    description = {"family": "yolo", "image_px": size.image_px, "sha256": hashlib.sha256(weights).hexdigest()}
    write_json(root / "detector" / DESCRIPTION, description)


def _stage(root: Path, size: Size, threads: int) -> dict[str, np.ndarray]:
    """Boxes and scores by photograph, shape (n, 5), from the table that the stage wrote."""
    options = {"tile_overlap": 0.2, "whole": True, "nms_iou": NMS_IOU, "max_boxes": MAX_BOXES, "precision": "float32"}
    options |= {"merge": "greedy_nmm", "merge_metric": "ios", "merge_threshold": 0.5}
    options |= {"merge_comparable": 0.5, "merge_whole_first": False}
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
    """Every box has its like; those near the least score may fall out on one side by the last bit."""
    assert found.keys() == others.keys()
    for key, rows in found.items():
        mine, theirs = (each[each[:, 4] > FLOOR + 0.01] for each in (rows, others[key]))
        strays = [row for row in mine if not _has(others[key], row)] + [row for row in theirs if not _has(rows, row)]
        assert not strays, (key, strays)
    assert sum(map(len, found.values())), "no boxes to compare"


def _has(rows: np.ndarray, row: np.ndarray) -> bool:
    """Whether some box lies within a pixel, with the same score within a hundredth."""
    return bool((np.abs(rows - row) <= [1, 1, 1, 1, 0.01]).all(axis=1).any())


def _best(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Wall and CPU seconds of the fastest round."""
    found = []
    for _ in range(rounds):
        start, before = time.perf_counter(), _cpu()
        call()
        found.append((time.perf_counter() - start, _cpu() - before))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
