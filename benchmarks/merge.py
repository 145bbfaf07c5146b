"""Merging what tiles found: ``instar.merge`` against SAHI's, its results first, then time, growth and quality.

Equal: kept boxes and scores of every rule and metric on crowds with ties. Time: 20,000 predictions of one photograph,
CPU-seconds, best of three; SAHI's part counts its ObjectPrediction objects, which its merging needs, but not the making
of polygons out of masks, nor ours that of runs. Growth: copies of one scene side by side. Quality: drawn insects of
4–300 pixels, in clumps, found tile by tile with errors, doubles, fragments and parts cut off by tiles; the confidence
from which a prediction counts is chosen for each way on scenes of other seeds, and all get the same predictions.
"""

import argparse
import math
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import cv2
import numpy as np

from instar.boxes import order_by_score
from instar.detectors import Boxes
from instar.masks import Masks, from_bitmaps, intersections, joined_masks
from instar.merge import Merged, merged
from instar.tiles import cut_flags, tile_boxes

ROUNDS = 3
RULES = {"greedy_nmm": "GreedyNMMPostprocess", "nmm": "NMMPostprocess", "nms": "NMSPostprocess"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few predictions; finishes in seconds")
    parser.add_argument("--peak", type=int, help="only merge so many thousands of masks and print the peak memory")
    options = parser.parse_args()
    if options.peak:
        return _print_peak(options.peak)
    _assert_equal(5 if options.small else 30)
    thousands = [1, 2] if options.small else [20, 50, 100, 200]
    _time(thousands[0])
    _grow(thousands)
    for overlap in (0.6, 0.2):
        _compare(overlap, *(([1], [2], 60) if options.small else ([101, 102], [201, 202, 203, 204], 600)))
    return 0


# --- equal results and time


def _by_sahi(rule: str, metric: str, objects: list[Any], *, agnostic: bool = True) -> list[Any]:
    from sahi.postprocess import combine
    from sahi.postprocess.backends import set_postprocess_backend

    set_postprocess_backend("numpy")
    return getattr(combine, RULES[rule])(match_threshold=0.5, match_metric=metric.upper(), class_agnostic=agnostic)(
        objects
    )


def _objects(found: Boxes, classes: np.ndarray | None = None) -> list[Any]:
    from sahi.prediction import ObjectPrediction

    numbers = [0] * len(found) if classes is None else classes.tolist()
    rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), numbers, strict=True)
    return [ObjectPrediction(bbox=box, score=score, category_id=one) for box, score, one in rows]


def _rows(boxes_xyxy: np.ndarray, scores: np.ndarray) -> list[list[float]]:
    order = order_by_score(boxes_xyxy, scores)
    return np.column_stack([boxes_xyxy, scores]).astype(np.float64)[order].tolist()


def _assert_equal(seeds: int) -> None:
    cases = list(product(range(seeds), RULES, ("iou", "ios"), (False, True)))
    for seed, rule, metric, agnostic in cases:
        generator = np.random.default_rng(seed)
        n, grid = int(generator.integers(1, 120)), 2.0 ** int(generator.integers(-4, 2))
        corners = generator.uniform(0, 60, (n, 2)) // grid * grid
        sides = (generator.uniform(1, 20, (n, 2)) // grid + 1) * grid
        scores = (generator.integers(1, 9, n) / 8).astype(np.float32)
        found = Boxes(np.column_stack([corners, corners + sides]).astype(np.float32), scores)
        classes = generator.integers(0, 3, n)
        ours = merged(found, rule=rule, metric=metric, threshold=0.5, classes=None if agnostic else classes)  # type: ignore[arg-type]
        _assert_same(ours, _by_sahi(rule, metric, _objects(found, classes), agnostic=agnostic))
    print(f"equal to SAHI in boxes and scores: {len(cases)} crowds with ties", flush=True)


def _assert_same(ours: Merged, theirs: list[Any]) -> None:
    boxes = np.array([one.bbox.to_xyxy() for one in theirs], np.float64)
    scores = np.array([one.score.value for one in theirs], np.float64)
    assert _rows(ours.boxes.boxes_xyxy.astype(np.float64), ours.boxes.scores.astype(np.float64)) == _rows(boxes, scores)


def _time(thousands: int) -> None:
    found = _copies(_predicted(_scene(7, 300), 7, 0.6), thousands * 1000)
    boxes = replace(found, masks=None)
    settings: Any = {"rule": "greedy_nmm", "metric": "ios", "threshold": 0.5}
    _assert_same(merged(boxes, **settings), _by_sahi("greedy_nmm", "ios", _objects(boxes)))
    mine = _best(lambda: merged(boxes, **settings))
    theirs = _best(lambda: _by_sahi("greedy_nmm", "ios", _objects(boxes)))
    print(f"{len(found):,} boxes: {mine:.3f} s, SAHI {theirs:.3f} s, {theirs / mine:.1f}× as fast, equal results")
    polygons = _polygons(found)
    theirs = _best(lambda: _by_sahi("greedy_nmm", "ios", _mask_objects(found, polygons)))
    for name, more in (("", {}), (", whole ones first", _seams(found))):
        mine = _best(lambda more=more: merged(found, **settings, **more))  # type: ignore[misc]
        print(
            f"{len(found):,} masks{name}: {mine:.3f} s, SAHI {theirs:.3f} s, {theirs / mine:.1f}× as fast", flush=True
        )


def _seams(found: Boxes) -> dict[str, Any]:
    """As if every fifth were cut; what matters to the time is how many."""
    return {"cut": np.arange(len(found)) % 5 == 0, "whole_first": True}


def _polygons(found: Boxes) -> list[list[list[float]]]:
    """Each mask's outlines in the photograph, by SAHI's own function on a picture no larger than needed."""
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask

    assert found.masks is not None
    outlines = []
    for n, (left, top, right, bottom) in enumerate(found.masks.boxes().astype(int)):
        rings = get_coco_segmentation_from_bool_mask(found.masks.bitmap(n, (left, top, right, bottom)))
        outlines.append([(np.array(ring).reshape(-1, 2) + np.array([left, top])).ravel().tolist() for ring in rings])
    return outlines


def _mask_objects(found: Boxes, polygons: list[list[list[float]]]) -> list[Any]:
    """Predictions as SAHI's models give them; it has no word for a mask too thin for an outline."""
    from sahi.prediction import ObjectPrediction

    size = [int(found.boxes_xyxy[:, 3].max()) + 1, int(found.boxes_xyxy[:, 2].max()) + 1]
    rows = zip(polygons, found.boxes_xyxy.tolist(), found.scores.tolist(), strict=True)
    return [
        ObjectPrediction(bbox=box, segmentation=rings, score=score, category_id=0, full_shape=size)
        for rings, box, score in rows
        if rings
    ]


def _best(call: Callable[[], Any]) -> float:
    """CPU-seconds of the fastest round; all that is compared runs on one thread."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


# --- growth


def _copies(found: Boxes, n: int) -> Boxes:
    """So many predictions: copies of a scene side by side, their scores a little apart."""
    assert found.masks is not None
    side = int(found.boxes_xyxy.max()) + 10
    many = math.ceil(n / len(found))
    columns = math.ceil(math.sqrt(many))
    places = [(copy % columns * side, copy // columns * side) for copy in range(many)]
    boxes = np.concatenate([found.boxes_xyxy + np.array([x, y, x, y], np.float32) for x, y in places])
    masks = joined_masks([found.masks.shifted(x, y) for x, y in places])
    scores = np.concatenate([found.scores * np.float32(1 - copy / 1e4) for copy in range(many)])
    return Boxes(boxes, scores, masks=masks).take(np.random.default_rng(0).permutation(len(boxes))[:n])


def _grow(thousands: list[int]) -> None:
    first: dict[str, float] = {}
    for k in thousands:
        found = _copies(_predicted(_scene(7, 300), 7, 0.6), k * 1000)
        for name, one in (("boxes", replace(found, masks=None)), ("masks", found)):
            seconds = _best(lambda one=one: merged(one, rule="greedy_nmm", metric="ios", threshold=0.5))  # type: ignore[misc]
            unit = seconds / (k * 1000 * math.log(k * 1000))
            first.setdefault(name, unit)
            print(
                f"{k:4}k {name}: {seconds:.2f} s, per n·log n {unit / first[name]:.2f}× that of the first", flush=True
            )
    command = [sys.executable, __file__, "--peak", str(thousands[-1])]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def _print_peak(thousands: int) -> int:
    found = _copies(_predicted(_scene(7, 300), 7, 0.6), thousands * 1000)
    assert found.masks is not None
    own = sum(each.nbytes for each in (found.masks.columns, found.masks.tops, found.masks.bottoms))
    tracemalloc.start()
    merged(found, rule="greedy_nmm", metric="ios", threshold=0.5)
    _, peak = tracemalloc.get_traced_memory()
    print(f"{thousands}k masks: merging takes {peak / 2**20:.0f} MiB at most beside their own {own / 2**20:.0f} MiB")
    return 0


# --- drawn insects and what a detector might find of them


@dataclass(frozen=True)
class Insect:
    """An ellipse or a capsule; lengths in pixels, angle in degrees."""

    x: float
    y: float
    length: float
    width: float
    angle: float
    capsule: bool


@dataclass(frozen=True)
class Scene:
    """Insects in a square photograph."""

    side: int
    insects: list[Insect]
    masks: Masks


def _scene(seed: int, insects: int) -> Scene:
    """A photograph with two thirds of its insects in clumps, where they lie over each other."""
    generator = np.random.default_rng(seed)
    side = int(70 * math.sqrt(insects)) + 400
    clumps = generator.uniform(100, side - 100, (max(insects // 25, 1), 2))
    placed: list[Insect] = []
    masks: list[Masks] = []
    taken = np.zeros((side, side), bool)
    while len(placed) < insects:
        centre = generator.uniform(0, side, 2)
        if generator.random() < 0.67:
            centre = clumps[generator.integers(len(clumps))] + generator.normal(0, 60, 2)
        length = float(np.exp(generator.uniform(np.log(4), np.log(300))))
        width = max(length * generator.uniform(0.12, 0.5), 3.0)
        insect = Insect(*centre.tolist(), length, width, generator.uniform(0, 180), bool(generator.random() < 0.4))
        mask = _drawn(insect, (0, 0, side, side))
        area = int(mask.areas()[0])
        x_min, y_min, x_max, y_max = mask.boxes()[0].astype(int)
        picture = mask.bitmap(0, (x_min, y_min, x_max, y_max))
        there = taken[y_min:y_max, x_min:x_max]
        # annotated is what can be seen; now and then a small one sits on a large one
        if area < 8 or ((there & picture).sum() > 0.35 * area and generator.random() < 0.9):
            continue
        there |= picture
        placed.append(insect)
        masks.append(mask)
    return Scene(side, placed, joined_masks(masks))


def _drawn(insect: Insect, frame: tuple[int, int, int, int]) -> Masks:
    """Its mask inside a frame."""
    left, top = int(insect.x - insect.length) - 2, int(insect.y - insect.length) - 2
    size = int(2 * insect.length) + 6
    picture = np.zeros((size, size), np.uint8)
    x, y = insect.x - left, insect.y - top
    if insect.capsule:
        half = max(insect.length - insect.width, 0) / 2 * np.array([1, -1])
        angle = np.deg2rad(insect.angle)
        ends = np.column_stack([x + half * np.cos(angle), y + half * np.sin(angle)])
        (a, b), (c, d) = (ends * 16).round().astype(int).tolist()
        cv2.line(picture, (a // 16, b // 16), (c // 16, d // 16), 1, max(round(insect.width), 1))
    else:
        axes = int(insect.length * 8), int(insect.width * 8)
        cv2.ellipse(picture, (int(x * 16), int(y * 16)), axes, insect.angle, 0, 360, 1, -1, shift=4)
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    if not len(rows):
        return from_bitmaps([np.zeros((0, 0), bool)])
    part = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return from_bitmaps([part], [(left + int(columns[0]), top + int(rows[0]))]).clipped(*frame)


def _predicted(scene: Scene, seed: int, overlap: float) -> Boxes:
    return _predicted_with_tiles(scene, seed, overlap)[0]


def _predicted_with_tiles(scene: Scene, seed: int, overlap: float) -> tuple[Boxes, np.ndarray]:
    """What a detector gives tile by tile, and the tile of each prediction."""
    generator = np.random.default_rng(seed + 5000)
    masks: list[Masks] = []
    scores: list[float] = []
    tiles: list[tuple[int, int, int, int]] = []
    boxes, areas = scene.masks.boxes(), scene.masks.areas()
    for tile in tile_boxes(scene.side, scene.side, tile_px=512, overlap=overlap)[1:]:
        left, top, right, bottom = tile
        seen = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < bottom) & (boxes[:, 3] > top)
        seen = np.flatnonzero(seen)
        shares = scene.masks.take(seen).clipped(*tile).areas() / areas[seen]
        for n, share in zip(seen.tolist(), shares.tolist(), strict=True):
            for mask, score in _guesses(scene.insects[n], share, tile, generator):
                masks.append(mask)
                scores.append(score)
                tiles.append(tile)
        for _ in range(generator.poisson(2)):  # debris
            speck = Insect(*generator.uniform([left, top], [right, bottom]).tolist(), 12.0, 5.0, 40.0, False)
            masks.append(_drawn(speck, tile))
            scores.append(float(generator.uniform(0.05, 0.35)))
            tiles.append(tile)
    found = joined_masks(masks)
    good = found.areas() >= 4
    boxes = Boxes(found.boxes(), np.array(scores, np.float32), masks=found)
    return boxes.take(good), np.array(tiles)[good]


def _guesses(
    insect: Insect, share: float, tile: tuple[int, int, int, int], generator: np.random.Generator
) -> list[tuple[Masks, float]]:
    """What the detector says of an insect of which a share lies in the tile: it, perhaps a double, perhaps a piece."""
    sure = 0.95 - 0.35 * math.exp(-insect.length / 12)
    if share < 0.03 or generator.random() > sure * min(1, 0.4 + share):
        return []
    score = float(np.clip(generator.normal(sure - 0.35 * (1 - share), 0.1), 0.06, 0.99))
    guesses = [(_drawn(_jittered(insect, 1.0, generator), tile), score)]
    if generator.random() < 0.05:
        guesses.append((_drawn(_jittered(insect, 2.5, generator), tile), score * generator.uniform(0.3, 0.8)))
    if generator.random() < 0.08 and insect.length > 15:
        piece = replace(_jittered(insect, 1.0, generator), length=insect.length * generator.uniform(0.25, 0.6))
        guesses.append((_drawn(piece, tile), score * generator.uniform(0.2, 0.9)))
    return [(mask, float(value)) for mask, value in guesses]


def _jittered(insect: Insect, much: float, generator: np.random.Generator) -> Insect:
    x, y = generator.normal([insect.x, insect.y], much * (0.4 + 0.012 * insect.length))
    length, width = np.array([insect.length, insect.width]) * np.exp(generator.normal(0, 0.06 * much, 2))
    return Insect(x, y, length, max(width, 2.0), insect.angle + generator.normal(0, 3 * much), insect.capsule)


# --- quality


@dataclass(frozen=True)
class Found:
    """Predictions of one scene, ready to be judged."""

    masks: Masks
    scores: np.ndarray


@dataclass(frozen=True)
class Judged:
    """Of one scene above a confidence."""

    counted: int
    insects: int
    right: int
    doubles: int


Way = Callable[[Scene, Boxes, np.ndarray], Found]


def _ways() -> dict[str, Way]:
    """What is compared; each is given the photograph, the predictions and their tiles."""
    greedy: dict[str, Any] = {"rule": "greedy_nmm", "threshold": 0.5}
    whole: dict[str, Any] = {"rule": "greedy_nmm", "comparable": 0.5, "whole_first": True}
    return {
        "SAHI GREEDYNMM, IOS 0.5": lambda *given: _sahi_found(given[1], "greedy_nmm", "ios"),
        "SAHI GREEDYNMM, IOU 0.5": lambda *given: _sahi_found(given[1], "greedy_nmm", "iou"),
        "SAHI NMS, IOU 0.5": lambda *given: _sahi_found(given[1], "nms", "iou"),
        "masks, greedy_nmm, IOS 0.5": lambda *given: _found(*given, **greedy, metric="ios"),
        "masks, greedy_nmm, IOU 0.5": lambda *given: _found(*given, **greedy, metric="iou"),
        "masks, whole first, IOS 0.5": lambda *given: _found(*given, **whole, metric="ios", threshold=0.5),
        "masks, whole first, IOU 0.5": lambda *given: _found(*given, **whole, metric="iou", threshold=0.5),
        "masks, whole first, IOU 0.3": lambda *given: _found(*given, **whole, metric="iou", threshold=0.3),
        "the same, 0.3 of a cut one covered": lambda *given: _found(
            *given, **whole, metric="iou", threshold=0.3, covered=0.3
        ),
    }


def _found(scene: Scene, found: Boxes, tiles: np.ndarray, **settings: Any) -> Found:
    cut = np.zeros(len(found), bool)
    for tile in np.unique(tiles, axis=0):
        own = (tiles == tile).all(axis=1)
        region = (0, 0, scene.side, scene.side)
        cut[own] = cut_flags(found.boxes_xyxy[own], tuple(tile.tolist()), region, tolerance_px=1.5)
    result = merged(found, cut=cut, tiles=tiles, **settings).boxes
    assert result.masks is not None
    return Found(result.masks, result.scores)


def _sahi_found(found: Boxes, rule: str, metric: str) -> Found:
    objects = _by_sahi(rule, metric, _mask_objects(found, _polygons(found)))
    masks = []
    for one in objects:
        left, top, right, bottom = (int(value) for value in one.bbox.to_xyxy())
        rings = [np.array(ring).reshape(-1, 2).round().astype(int) - [left, top] for ring in one.mask.segmentation]
        picture = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
        cv2.fillPoly(picture, rings, (1,))  # as in SAHI's bool_mask
        masks.append(from_bitmaps([picture], [(left, top)]))
    return Found(joined_masks(masks), np.array([one.score.value for one in objects], np.float32))


def _compare(overlap: float, tuned_on: list[int], told_on: list[int], insects: int) -> None:
    print(f"\ntiles of 512 px, overlap {overlap}: {len(told_on)} scenes of {insects} insects", flush=True)
    scenes = {seed: _scene(seed, insects) for seed in tuned_on + told_on}
    predictions = {seed: _predicted_with_tiles(scene, seed, overlap) for seed, scene in scenes.items()}
    print(f"{'':34} AP50-95   AP50   count error   doubles/1,000   F1   confidence")
    for name, way in _ways().items():
        found = {seed: way(scene, *predictions[seed]) for seed, scene in scenes.items()}
        levels = np.linspace(0.05, 0.9, 18)
        best = max(levels, key=lambda level: _f1([_judged(scenes[seed], found[seed], level) for seed in tuned_on]))
        judged = [_judged(scenes[seed], found[seed], best) for seed in told_on]
        figures = _average_precision([scenes[seed] for seed in told_on], [found[seed] for seed in told_on])
        error = np.mean([abs(one.counted - one.insects) / one.insects for one in judged])
        doubles = 1000 * sum(one.doubles for one in judged) / sum(one.insects for one in judged)
        print(
            f"{name:34} {figures[0]:.3f}    {figures[1]:.3f}   {error:8.1%}   {doubles:10.1f}     "
            f"{_f1(judged):.3f}   {best:.2f}",
            flush=True,
        )


def _f1(judged: list[Judged]) -> float:
    return 2 * sum(one.right for one in judged) / max(sum(one.counted + one.insects for one in judged), 1)


def _judged(scene: Scene, found: Found, confidence: float) -> Judged:
    """Matched as in COCO at an IoU of 0.5; a double is wrong and lies by half on an insect that another one has."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= confidence]
    masks = found.masks.take(order)
    shared = _shared(masks, scene.masks)
    areas, others = masks.areas()[:, None], scene.masks.areas()[None, :]
    iou = shared / (areas + others - shared)
    taken = np.zeros(len(scene.masks), bool)
    right = np.zeros(len(order), bool)
    for n, row in enumerate(iou):
        best = int(np.argmax(np.where(taken, 0, row)))
        if row[best] >= 0.5 and not taken[best]:
            right[n] = taken[best] = True
    inside = (shared >= 0.5 * np.minimum(areas, others)) & taken
    return Judged(len(order), len(scene.masks), int(right.sum()), int((~right & inside.any(axis=1)).sum()))


def _shared(masks: Masks, others: Masks) -> np.ndarray:
    boxes, other_boxes = masks.boxes(), others.boxes()
    low = np.maximum(boxes[:, None, :2], other_boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], other_boxes[None, :, 2:])
    left, right = np.nonzero((high > low).all(axis=2))
    shared = np.zeros((len(masks), len(others)))
    shared[left, right] = intersections(masks, others, left, right)
    return shared


def _average_precision(scenes: list[Scene], found: list[Found]) -> tuple[float, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    truth = [_annotations(n, scene.masks, scene.side) for n, scene in enumerate(scenes, start=1)]
    guesses = [
        {**row, "score": float(score)}
        for n, (scene, one) in enumerate(zip(scenes, found, strict=True), start=1)
        for row, score in zip(_annotations(n, one.masks, scene.side), one.scores, strict=True)
    ]
    images = [{"id": n, "width": scene.side, "height": scene.side} for n, scene in enumerate(scenes, start=1)]
    dataset = {"info": {}, "images": images, "categories": [{"id": 1, "name": "insect"}]}
    rows = [{**row, "id": n} for n, row in enumerate((row for rows in truth for row in rows), start=1)]
    coco = COCO({**dataset, "annotations": rows})
    evaluation = COCOeval_faster(coco, coco.loadRes(guesses), "segm", print_function=lambda text: None)
    evaluation.params.maxDets = [len(guesses) + 1]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    return float(precision.mean()), float(precision[0].mean())


def _annotations(image: int, masks: Masks, side: int) -> list[dict[str, Any]]:
    boxes = masks.boxes().astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(masks.rle(side + 2, side + 2), boxes.tolist(), masks.areas().tolist(), strict=True)
    return [
        {
            "image_id": image,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": box,
            "area": area,
            "segmentation": {"size": [side + 2, side + 2], "counts": counts.decode()},
        }
        for counts, box, area in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
