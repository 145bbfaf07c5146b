"""Mask AP of one crowded tray against pycocotools and faster-coco-eval: seconds, and the memory that each adds.

3,000 animals and 20,000 detections on 8192×5464 pixels, ellipses of 4 to 300 pixels. The other libraries get the same
masks as RLE, decoded by nobody; what is timed is the path from masks to the figures of all animals and of three sizes,
with every detection taken in (maxDets above their number). pycocotools' IoU is a matrix of animals by detections, and
so is faster-coco-eval's. pycocotools matches in Python, animals times detections times thresholds times sizes, and is
only asked about a tenth of the tray. Equal figures are asserted first. Each path runs in a process of its own, for its
memory.
"""

import argparse
import contextlib
import io
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from instar.masks import Masks
from instar.metrics.coco import IOU_THRESHOLDS, area_ranges, figures, matched
from instar.metrics.overlaps import mask_overlaps

AREAS = area_ranges((144, 1024), whole=True)
Figures = dict[str, float | None]
#: Animals, detections, and the picture's width and height.
Size = tuple[int, int, tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="60 animals and 400 detections")
    if parser.parse_args().small:
        compared((60, 400, (500, 400)), list(CALLS), rounds=1)
        return
    compared((300, 2000, (2600, 1800)), list(CALLS), rounds=3)
    compared((3000, 20_000, (8192, 5464)), ["instar", "faster-coco-eval"], rounds=3)


def compared(size: Size, names: list[str], *, rounds: int) -> None:
    """Assert that all find the same figures of a tray, and print their times."""
    results = {name: apart(CALLS[name], size, rounds) for name in names}
    ours, ours_s, _ = results["instar"]
    print(f"{size[0]} animals, {size[1]} detections, best of {rounds}; AP50-95 {ours['AP50-95']:.4f}")
    for name, (told, seconds, mib) in results.items():
        assert [told[key] is None for key in ours] == [ours[key] is None for key in ours]
        difference = max(abs((told[key] or 0) - (ours[key] or 0)) for key in ours)
        assert difference < 1e-9, (name, told, ours)
        print(f"  {name:<17} {seconds:7.3f} s  {mib:7.0f} MiB  {seconds / ours_s:6.1f} times instar's seconds")


def tray(animals: int, detections: int, size: tuple[int, int]) -> tuple[Masks, Masks, np.ndarray]:
    """Ellipses as animals, moved and scaled ones as detections, several of each animal, and their scores."""
    generator = np.random.default_rng(0)
    axes = np.exp(generator.normal(np.log(11), 0.75, animals)).clip(2, 150)
    places = generator.uniform(160, np.array(size) - 160, (animals, 2))
    shapes = np.column_stack([places, axes, axes * generator.uniform(0.3, 1, animals)])
    chosen = shapes[np.arange(detections) % animals]
    moved = chosen * [1, 1, 0, 0] + generator.normal(0, 2, (detections, 4)) * [1, 1, 0, 0]
    moved += chosen * [0, 0, 1, 1] * generator.uniform(0.7, 1.3, (detections, 1))
    return ellipses(shapes), ellipses(moved), generator.uniform(0.01, 1, detections).round(3)


def ellipses(shapes: np.ndarray) -> Masks:
    """Masks from x, y and the half axes of upright ellipses, float, shape (n, 4)."""
    runs = []
    for x, y, wide, high in shapes:
        columns = np.arange(int(np.ceil(x - wide)), int(np.floor(x + wide)) + 1)
        half = high * np.sqrt(np.maximum(0, 1 - ((columns - x) / wide) ** 2))
        runs.append(np.column_stack([columns, np.round(y - half), np.round(y + half) + 1]).astype(np.int32))
    columns, tops, bottoms = np.concatenate(runs).T
    return Masks(columns, tops, bottoms, np.cumsum([0, *(len(one) for one in runs)]))


def instar(truth: Masks, found: Masks, scores: np.ndarray, size: tuple[int, int]) -> Callable[[], Figures]:
    def call() -> Figures:
        overlaps = [mask_overlaps(found, truth)]
        return figures(
            {name: matched(overlaps, [scores], thresholds=IOU_THRESHOLDS, area=area) for name, area in AREAS.items()}
        )

    return call


def of_library(classes: Any, truth: Masks, found: Masks, scores: np.ndarray, size: tuple[int, int]) -> Any:
    coco_class, evaluation_class, options = classes()
    width, height = size
    segmentation = [
        [{"size": [height, width], "counts": one} for one in part.rle(height, width)] for part in (truth, found)
    ]
    animals = [
        {
            "id": n,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": one,
            "area": area,
            "bbox": [0, 0, 1, 1],
        }
        for n, (one, area) in enumerate(zip(segmentation[0], truth.areas().tolist(), strict=True), start=1)
    ]
    results = [
        {"image_id": 1, "category_id": 1, "segmentation": one, "score": score}
        for one, score in zip(segmentation[1], scores.tolist(), strict=True)
    ]
    images = [{"id": 1, "height": height, "width": width}]
    dataset = {"info": {}, "images": images, "annotations": animals, "categories": [{"id": 1, "name": "animal"}]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = dataset
        coco.createIndex()
        loaded = coco.loadRes(results)

    def call() -> Figures:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = evaluation_class(coco, loaded, "segm", **options)
            evaluation.params.maxDets = [len(scores)]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(one) for one in AREAS.values()], list(AREAS)
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"][..., 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]
        told = {"AP50-95": precision[..., 0], "AP50": precision[0, :, 0], "AP75": precision[5, :, 0]}
        told |= {f"AP_{name}": precision[..., n] for n, name in enumerate(AREAS) if n}
        told |= {"AR" if name == "all" else f"AR_{name}": recall[:, n] for n, name in enumerate(AREAS)}
        return {name: float(values.mean()) if (values > -1).any() else None for name, values in told.items()}

    return call


def pycocotools_classes() -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval, {}


def faster_classes() -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    return COCO, COCOeval_faster, {"print_function": lambda text: None}


def pycocotools(*given: Any) -> Any:
    return of_library(pycocotools_classes, *given)


def faster_coco_eval(*given: Any) -> Any:
    return of_library(faster_classes, *given)


CALLS: dict[str, Callable[..., Any]] = {
    "instar": instar,
    "pycocotools": pycocotools,
    "faster-coco-eval": faster_coco_eval,
}


def apart(make: Callable[..., Any], size: Size, rounds: int) -> tuple[Figures, float, float]:
    """Figures, seconds of the fastest round and MiB that it adds, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (make, size, rounds))


def _measured(make: Callable[..., Any], size: Size, rounds: int) -> Any:
    truth, found, scores = tray(*size)
    call = make(truth, found, scores, size[2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        told = call()
        seconds.append(time.perf_counter() - start)
    return told, min(seconds), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    main()
