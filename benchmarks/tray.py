"""A whole tray from its file to merged insects: the stage ``detections`` against SAHI's ``get_sliced_prediction``.

Both get the same weights, the same tiles (512 px, overlap 0.6; 1,014 on a tray of 8192×5464), the same least score and
the same number of threads. What they find before merging is held equal first: boxes, scores and, but for SAHI's
polygons, masks. Then seconds and CPU-seconds are told: the stage from a shard's JPEG to its table, SAHI from a JPEG to
its list, at its default of one tile at a time and with the stage's batch; and what the stage takes beside the model's
own forward passes, counted around each of them in the same run. Both merge by GREEDYNMM and IOS there.

Quality: smaller trays, drawn with other seeds than those that the detector learned from. SAHI's merging, ours by
the same rule, and the study's get the same predictions; the confidence from which one counts is chosen for each way
on other trays.

Trays and the detector, a small one that learns from drawn tiles for about 40 minutes, are kept in a folder below the
system's temporary one.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from instar import detections as stage
from instar import detectors
from instar.decode import decode_upright
from instar.detection_metrics.confidence import best_f1_confidence, outcome_counts
from instar.detections import Limits, Slicing
from instar.detectors import DESCRIPTION, Boxes, Example, Recipe
from instar.detectors import yolo as family
from instar.files import replacing, sha256_of, write_json
from instar.masks import Masks, from_bitmaps, from_rle, joined_masks, no_masks
from instar.merge import merged
from instar.metrics.coco import IOU_THRESHOLDS, Matches, average_precisions, matched
from instar.metrics.overlaps import Overlaps, mask_overlaps
from instar.metrics.seams import duplicates
from instar.records.trays.world import draw_trays
from instar.shards import writing
from instar.study import compose
from instar.tables import DETECTIONS, IMAGES, read_table, write_table
from instar.tiles import joined, tile_boxes

ROOT = Path(__file__).parents[1]
CACHE = Path(tempfile.gettempdir()) / "instar-bench-tray"
NMS_IOU, MAX_BOXES = 0.7, 300  # ultralytics' own, which SAHI leaves as they are
OVERLAP = 0.6
LEAST = 0.05  # score of the predictions whose merging is judged


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


FULL = Size(8192, 5464, 2000, 512, 0.15, 6, 256, 900, 14, 8)
SMALL = Size(1024, 768, 60, 256, 0.3, 1, 256, 0, 0, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tray of 1024×768; finishes in seconds")
    parser.add_argument("--quarter", action="store_true", help="speed on a tray of half the width and height")
    parser.add_argument("--detector", type=Path, help="folder of a trained yolo with masks; else one is trained here")
    parser.add_argument("--batch", type=int, default=16, help="tiles through the model at a time")
    parser.add_argument("--threads", type=int, default=2, help="of the model's arithmetic")
    parser.add_argument("--enlarge", type=int, default=1, help="tiles so many times before the model, for both sides")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of the model, for both sides")
    parser.add_argument("--only", choices=("speed", "quality", "memory"), help="one part alone")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # ours takes a GPU where there is one
    size = SMALL if options.small else FULL
    detector = options.detector or _trained(size)
    if options.only in (None, "speed"):
        quarter = replace(size, width=size.width // 2, height=size.height // 2, insects=size.insects // 4)
        speed = quarter if options.quarter else size
        _speed(speed, detector, options.batch, options.threads, options.device, options.enlarge)
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
    folder = CACHE / f"detector-{size.tile_px}-{size.crop_px}-{size.crops}-{size.epochs}"
    if folder.is_dir():
        return folder
    if not size.epochs:
        return _random(folder, size)
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


def _random(folder: Path, size: Size) -> Path:
    """Random weights whose scores are spread out, so that much is found; nothing of it is right."""
    family._prepare()
    import torch
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(0)
    model: Any = SegmentationModel("yolo11n-seg.yaml", nc=1, verbose=False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.3
    pixels = decode_upright(_drawn(size, 1, seed=1)[0][0].read_bytes())
    side = size.tile_px
    tiles = np.stack([pixels[:side, left : left + side] for left in range(0, size.width - side + 1, side)])
    with torch.no_grad():
        for branch in model.model[-1].cv3:
            branch[-1].bias.data.zero_()
        for _ in range(20):  # the layers' running means
            logits = model.train()(torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255)["scores"]
        for branch in model.model[-1].cv3:
            branch[-1].weight.data *= 6 / logits.abs().max()
            branch[-1].bias.data.fill_(-4)
    model.names, model.args = {0: "insect"}, {}
    with replacing(folder) as out:
        out.mkdir()
        torch.save({"model": model, "train_args": {"task": "segment"}}, out / "random.pt")
        weights, _ = family._stripped(out / "random.pt", side)
        (out / family.WEIGHTS).write_bytes(weights)
        description = {"family": "yolo", "image_px": side, "sha256": sha256_of(out / family.WEIGHTS)}
        write_json(out / DESCRIPTION, description)
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


# --- the whole path


def _speed(size: Size, detector: Path, batch: int, threads: int, device: str, enlarge: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    path, _ = _drawn(size, 1, seed=7)[0]
    side = enlarge * size.tile_px
    ours = _stage(path, detector, size, batch, image_px=side)
    beside = ours.cpu - ours.forward_cpu
    print(f"{path.stem}, {size.width}×{size.height}: {ours.tiles:,} tiles, {len(ours.raw):,} predictions", flush=True)
    told = f"{ours.merged:,} insects, forward {ours.forward_cpu:.1f} CPU-s ({ours.forward_wall:.1f} s)"
    print(f"instar, batch {batch}: {ours.cpu:.1f} CPU-s ({ours.wall:.1f} s), {told}", flush=True)
    print(f"the model has {ours.forward_wall / ours.wall:.1%} of the time", flush=True)
    print(
        f"beside the model: {beside:.1f} CPU-s, {beside / ours.forward_cpu:.1%} of it; {ours.parts}",
        flush=True,
    )
    for number in (batch, 1):
        theirs = _sahi(path, detector, size, number, device, side)
        print(f"{_assert_equal(ours, theirs, exact=enlarge == 1)}", flush=True)
        print(
            f"SAHI, batch {number}: {theirs.cpu:.1f} CPU-s ({theirs.wall:.1f} s), {theirs.merged:,} insects; "
            f"instar takes {theirs.cpu / ours.cpu:.2f}× less CPU ({theirs.wall / ours.wall:.2f}× less time)",
            flush=True,
        )


@dataclass
class Run:
    """One way over one tray: what it found, and what it took in seconds."""

    raw: Boxes
    corners: set[tuple[int, int]]
    merged: int
    wall: float
    cpu: float
    polygons: list[list[list[float]]]
    forward_wall: float = 0.0
    forward_cpu: float = 0.0
    parts: str = ""

    @property
    def tiles(self) -> int:
        return len(self.corners)


def _synchronize() -> None:
    """A GPU works on while its calls have returned."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Clock:
    """Seconds spent in calls."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            _synchronize()
            wall, cpu = time.perf_counter(), time.process_time()
            answer = call(*args, **named)
            _synchronize()
            self.wall, self.cpu = self.wall + time.perf_counter() - wall, self.cpu + time.process_time() - cpu
            return answer

        return timed


def _stage(
    path: Path, detector: Path, size: Size, batch: int, floor: float | None = None, image_px: int | None = None
) -> Run:
    """The stage, timed without loading the model, as SAHI is; the photograph is read, and the table written."""
    model: Any = detectors.load(detector)
    model._image_px = image_px or model._image_px
    forward, predict, finish, rows = Clock(), Clock(), Clock(), Clock()
    model._model.forward = forward.around(model._model.forward)
    model.predict = predict.around(model.predict)
    seen: list[Any] = []

    def finished(photograph: Any, **named: Any) -> None:
        seen.append(
            (list(photograph.parts), [(int(one[0, 0]), int(one[0, 1])) for one in photograph.tiles if len(one)])
        )
        finish.around(own_finish)(photograph, **named)

    own_load, own_finish, own_rows = detectors.load, stage._finish, stage._rows
    with tempfile.TemporaryDirectory(prefix="instar-bench-") as folder:
        root = Path(folder)
        _shard(root, path, size)
        detectors.load, stage._finish, stage._rows = lambda _: model, finished, rows.around(own_rows)
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            stage.detections(
                detector,
                root / "s0.parquet",
                root / "s0.tar",
                root / "out.parquet",
                floor=size.floor if floor is None else floor,
                tile_px=size.tile_px,
                tile_overlap=OVERLAP,
                whole=False,
                merge="greedy_nmm",
                merge_metric="ios",
                merge_threshold=0.5,
                merge_comparable=0.0,
                merge_whole_first=False,
                nms_iou=NMS_IOU,
                max_boxes=MAX_BOXES,
                batch=batch,
                precision="float32",
                workers=1,
            )
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        finally:
            detectors.load, stage._finish, stage._rows = own_load, own_finish, own_rows
        found = read_table(root / "out.parquet", DETECTIONS)
    ((parts, _),) = seen
    tiles = tile_boxes(size.width, size.height, tile_px=size.tile_px, overlap=OVERLAP, whole=False)
    told = f"predict {predict.cpu - forward.cpu:.1f}, merging {finish.cpu:.1f}, rows {rows.cpu:.1f}"
    corners = {(tile[0], tile[1]) for tile in tiles}
    assert len(parts) == len(corners)
    return Run(joined(parts), corners, len(found), wall, cpu, [], forward.wall, forward.cpu, told)


def _shard(root: Path, path: Path, size: Size) -> None:
    with writing(root / "s0.tar") as tar:
        member = tar.add(path.name, path.read_bytes())
    row = {"key": path.stem, "source": "folder", "photo_id": path.stem, "observation_id": path.stem, "url": path.stem}
    row |= {"shard": "s0", "basis": "specimen", "licence": "cc0", "width": size.width, "height": size.height}
    row |= {"offset": member.offset, "size": member.size, "sha256": member.sha256}
    write_table(root / "s0.parquet", [row], IMAGES)


def _sahi(path: Path, detector: Path, size: Size, batch: int, device: str, image_px: int) -> Run:
    from sahi.models.ultralytics import UltralyticsDetectionModel
    from sahi.postprocess.backends import set_postprocess_backend
    from sahi.predict import get_sliced_prediction

    class Watched(UltralyticsDetectionModel):  # type: ignore[misc]
        """Keeps what was found in each tile."""

        seen: list[Any]

        def convert_original_predictions(self, shift_amount: Any = None, full_shape: Any = None) -> None:
            super().convert_original_predictions(shift_amount=shift_amount, full_shape=full_shape)
            self.seen += zip(shift_amount, self.object_prediction_list_per_image, strict=True)

    set_postprocess_backend("numpy")
    weights = str(detector / family.WEIGHTS)
    model = Watched(
        model_path=weights, confidence_threshold=size.floor, device=device, image_size=image_px, load_at_init=True
    )
    model.seen = []
    wall, cpu = time.perf_counter(), time.process_time()
    result = get_sliced_prediction(
        str(path),
        model,
        slice_height=size.tile_px,
        slice_width=size.tile_px,
        overlap_height_ratio=OVERLAP,
        overlap_width_ratio=OVERLAP,
        perform_standard_pred=False,
        postprocess_type="GREEDYNMM",
        postprocess_match_metric="IOS",
        postprocess_match_threshold=0.5,
        batch_size=batch,
        force_postprocess_type=True,
        verbose=0,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = [(shift, one) for shift, found in model.seen for one in found]
    boxes = np.array([np.array(one.bbox.to_xyxy()) + np.tile(shift, 2) for shift, one in rows]).reshape(-1, 4)
    scores = np.array([one.score.value for _, one in rows], np.float32)
    polygons = [
        [(np.array(ring).reshape(-1, 2) + np.array(shift)).ravel().tolist() for ring in one.mask.segmentation]
        for shift, one in rows
    ]
    corners = {(int(shift[0]), int(shift[1])) for shift, _ in model.seen}
    return Run(
        Boxes(boxes.astype(np.float32), scores), corners, len(result.object_prediction_list), wall, cpu, polygons
    )


def _assert_equal(ours: Run, theirs: Run, *, exact: bool) -> str:
    """Every prediction has its like; strays may fall out by the last bit, or since SAHI has no outline for them.

    Of enlarged tiles SAHI works masks out at the network's size and shrinks them: outlines are near, not ``exact``.
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    assert ours.corners == theirs.corners
    outlines = [_outlines(ours.raw, n) for n in range(len(ours.raw))]
    drawn = [n for n, one in enumerate(outlines) if one]
    # SAHI takes the box around the outlines for the model's
    mine = np.column_stack([[_around(outlines[n]) for n in drawn], 100 * ours.raw.scores[drawn]])
    yours = np.column_stack([theirs.raw.boxes_xyxy, 100 * theirs.raw.scores])
    assert len(mine) and len(yours), "no predictions to compare"
    there, place = cKDTree(yours).query(mine, p=np.inf)
    here, _ = cKDTree(mine).query(yours, p=np.inf)
    odd = int((there > 1.5).sum() + (here > 1.5).sum())
    assert odd <= (0.002 if exact else 0.05) * len(mine), (odd, len(mine), mine[there > 1.5][:5], yours[here > 1.5][:5])
    assert np.abs(mine - yours[place])[there <= 1.5, 4].max() < 0.05, "scores differ"
    pairs = [(outlines[n], theirs.polygons[k]) for n, k in zip(drawn, place, strict=True)]
    same = sum(one == other for one, other in pairs)
    # the same sums in another order of arithmetic: a pixel whose value is 0 but for rounding falls on either side
    pixels = [_pixels(*pair) for pair in pairs]
    differing = sum(odd for odd, _ in pixels) / sum(total for _, total in pixels)
    assert differing <= (1e-3 if exact else 0.1), f"masks differ in {differing:.2%} of their pixels"
    told = f"equal to SAHI's: {len(yours):,} predictions there, {len(outlines) - len(drawn)} of ours have no outline"
    return f"{told}, {odd} are not found in both, outlines are equal in {same / len(drawn):.1%}"


def _pixels(one: list[list[float]], other: list[list[float]]) -> tuple[int, int]:
    """How many pixels are in one of two outlines alone, and how many in the first."""
    import cv2

    low, high = np.array(_around(one + other)).reshape(2, 2).astype(int)
    pictures = np.zeros((2, *(high - low + 1)[::-1]), np.uint8)
    for picture, rings in zip(pictures, (one, other), strict=True):
        cv2.fillPoly(picture, [np.array(ring).reshape(-1, 2).astype(int) - low for ring in rings], (1,))
    return int((pictures[0] != pictures[1]).sum()), int(pictures[0].sum())


def _around(outlines: list[list[float]]) -> list[float]:
    points = np.concatenate([np.array(ring).reshape(-1, 2) for ring in outlines])
    return [*points.min(axis=0), *points.max(axis=0)]


def _outlines(found: Boxes, index: int) -> list[list[float]]:
    """A mask's outlines by SAHI's own function."""
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask

    assert found.masks is not None
    one = found.masks.take(np.array([index]))
    left, top, right, bottom = (int(edge) for edge in one.boxes()[0])
    rings = get_coco_segmentation_from_bool_mask(one.bitmap(0, (left, top, right, bottom)))
    return [(np.array(ring).reshape(-1, 2) + np.array([left, top])).ravel().tolist() for ring in rings]


# --- memory


def _memory(size: Size, detector: Path, batch: int) -> None:
    """The stage's peak on a tray, with few predictions and with as many as it keeps of every tile."""
    few = _few(size)
    for floor in (size.floor, 1e-4):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, found, own = pool.apply(_peak, (few, detector, batch, floor))
        print(
            f"floor {floor}: {found:,} predictions, whose runs take {own:.0f} MiB, raise the peak by {peak:.0f} MiB",
            flush=True,
        )


def _peak(size: Size, detector: Path, batch: int, floor: float) -> tuple[float, int, float]:
    import torch

    torch.set_num_threads(1)
    path, _ = _drawn(size, 1, seed=7)[0]
    _stage(path, detector, size, batch, 0.99)  # with hardly a prediction
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = _stage(path, detector, size, batch, floor)
    masks = run.raw.masks
    assert masks is not None
    own = sum(each.nbytes for each in (masks.columns, masks.tops, masks.bottoms)) / 2**20
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10, len(run.raw), own


# --- quality


def _quality(size: Size, detector: Path, batch: int) -> None:
    few = _few(size)
    model = detectors.load(detector)
    trays = [tray for seed in range(100, 100 + few.others) for tray in _drawn(few, 1, seed=seed)]
    truth = [masks for _, masks in trays]
    raw = [_raw(model, path, few, batch) for path, _ in trays]
    half = len(trays) // 2
    insects, predictions = sum(map(len, truth[half:])), sum(len(one.found) for one in raw[half:])
    print(f"\n{len(trays) - half} trays of {few.width}×{few.height}: {insects:,} insects, {predictions:,} predictions")
    print(f"{'':42} AP50-95   AP50   count error   doubles/1,000   F1   confidence")
    for name, way in _ways().items():
        print(_row(name, [way(one) for one in raw], truth), flush=True)


@dataclass(frozen=True)
class Raw:
    """What the tiles of one tray gave: predictions, whether an inner edge cuts each, its tile, and SAHI's outlines."""

    found: Boxes
    cut: np.ndarray
    tiles: np.ndarray
    outlines: list[list[list[float]]]


def _raw(model: Any, path: Path, size: Size, batch: int) -> Raw:
    """Without the guesses that are weakest, which take SAHI very long."""
    slicing = Slicing(size.tile_px, OVERLAP, False, "greedy_nmm", "ios", 0.5, 0.0, True, batch, "float32")
    picture = decode_upright(path.read_bytes())
    (one,) = stage._predicted(model, [({"key": path.stem}, picture)], slicing, Limits(LEAST, 0.5, 1000))
    found = joined(one.parts)
    outlines = [_outlines(found, n) for n in range(len(found))]
    return Raw(found, np.concatenate(one.cuts), np.concatenate(one.tiles), outlines)


def _ways() -> dict[str, Callable[[Raw], Boxes]]:
    common: Any = {"rule": "greedy_nmm", "metric": "ios", "threshold": 0.5}
    own = OmegaConf.create(compose("trays", [])).detections
    study: Any = {"rule": own.merge, "metric": own.merge_metric, "threshold": own.merge_threshold}
    study |= {"comparable": own.merge_comparable, "whole_first": own.merge_whole_first}
    return {
        "SAHI, GREEDYNMM, IOS": lambda raw: _by_sahi(raw, LEAST, "GREEDYNMM", "IOS"),
        "SAHI, GREEDYNMM, IOS, scores from 0.25": lambda raw: _by_sahi(raw, 0.25, "GREEDYNMM", "IOS"),
        "SAHI, NMS, IOU, its choice below 0.1": lambda raw: _by_sahi(raw, LEAST, "NMS", "IOU"),
        "instar, the same rule on masks": lambda raw: merged(raw.found, **common).boxes,
        "instar, whole ones first": lambda raw: (
            merged(raw.found, **common, cut=raw.cut, tiles=raw.tiles, whole_first=True).boxes
        ),
        "instar, as study trays": lambda raw: merged(raw.found, **study, cut=raw.cut, tiles=raw.tiles).boxes,
    }


def _by_sahi(raw: Raw, least: float, rule: str, metric: str) -> Boxes:
    """SAHI's merging of predictions as its models give them, and its polygons as masks."""
    import cv2
    from sahi.postprocess.backends import set_postprocess_backend
    from sahi.predict import POSTPROCESS_NAME_TO_CLASS
    from sahi.prediction import ObjectPrediction

    set_postprocess_backend("numpy")
    found = raw.found
    size = (found.boxes_xyxy[:, [3, 2]].max(axis=0).astype(int) + 1).tolist() if len(found) else [1, 1]
    rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), strict=True)
    objects = [
        ObjectPrediction(bbox=box, segmentation=outlines, score=score, category_id=0, full_shape=size)
        for outlines, (box, score) in zip(raw.outlines, rows, strict=True)
        if outlines and score >= least
    ]
    rule_of = POSTPROCESS_NAME_TO_CLASS[rule]
    left = rule_of(match_threshold=0.5, match_metric=metric, class_agnostic=False)(objects) if objects else []
    masks = [no_masks()]
    for one in left:
        x_min, y_min, x_max, y_max = (int(value) for value in one.bbox.to_xyxy())
        rings = [np.array(ring).reshape(-1, 2).round().astype(int) - [x_min, y_min] for ring in one.mask.segmentation]
        picture = np.zeros((y_max - y_min + 1, x_max - x_min + 1), np.uint8)
        cv2.fillPoly(picture, rings, (1,))  # as in SAHI's bool_mask
        masks.append(from_bitmaps([picture], [(x_min, y_min)]))
    boxes = np.array([one.bbox.to_xyxy() for one in left], np.float32).reshape(-1, 4)
    return Boxes(boxes, np.array([one.score.value for one in left], np.float32), masks=joined_masks(masks))


def _row(name: str, found: list[Boxes], truth: list[Masks]) -> str:
    """Figures on the second half of the trays at the confidence that is best on the first."""
    half = len(found) // 2
    chosen = best_f1_confidence(_matched(found[:half], truth[:half])[0]) or 0.0
    matches, overlaps = _matched(found[half:], truth[half:])
    precisions = average_precisions(matches, np.ones(len(matches.animals), np.int64))
    counts = outcome_counts(matches, chosen)
    right, insects = counts["true_positives"], matches.animals
    detected = right + counts["false_positives"]
    doubles = sum(
        int(duplicates(overlap, matches.animals_of(n), found[half + n].scores >= chosen, threshold=0.5).sum())
        for n, overlap in enumerate(overlaps)
    )
    error = float(np.mean(np.abs(detected - insects) / insects))
    f1 = 2 * right.sum() / (detected.sum() + insects.sum())
    figures = f"{precisions.mean():.3f}    {precisions[0]:.3f}   {error:8.1%}   {1000 * doubles / insects.sum():10.1f}"
    return f"{name:42} {figures}     {f1:.3f}   {chosen:.2f}"


def _matched(found: list[Boxes], truth: list[Masks]) -> tuple[Matches, list[Overlaps]]:
    overlaps = [mask_overlaps(one.masks or no_masks(), masks) for one, masks in zip(found, truth, strict=True)]
    return matched(overlaps, [one.scores for one in found], thresholds=IOU_THRESHOLDS), overlaps


if __name__ == "__main__":
    sys.exit(main())
