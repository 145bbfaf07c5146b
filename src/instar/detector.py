"""Stage ``detector``: train the detector on the annotated photographs."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from instar import detectors
from instar.annotations import Annotated, read_annotations, read_images, usable
from instar.detectors import DESCRIPTION, Example, Recipe, Training, weights_file
from instar.errors import InputError
from instar.examples import Tiling, densest, tile_counts, tiled
from instar.files import replacing, sha256_of, write_json
from instar.photographs import decoded
from instar.progress import progress
from instar.shards import ShardReader
from instar.unfinished import unfinished

#: What the curve holds where nothing was trained.
CURVE = ["epoch", "mAP50", "mAP50-95", "recall", "precision"]

#: Modules and libraries that decide what is learned and how; the rest of the stage's only carry bytes and tell.
_CODE = (
    *("annotations.py", "boxes.py", "decode.py", "detector.py", "detectors", "examples.py", "formats.py", "masks.py"),
    *("photographs.py", "pretrained.py", "tiles.py"),
)
LIBRARIES = ("lightning", "pillow", "rfdetr", "simplejpeg", "torch", "torchvision", "transformers", "ultralytics")


def detector(
    annotations: Path,
    images: Path,
    out: Path,
    out_metrics: Path,
    out_curve: Path,
    checkpoints: Path,
    *,
    seed: int,
    shards: list[str],
    family: str,
    model: str,
    weights: str,
    sam: str,
    image_px: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    plain_epochs: int,
    workers: int,
    tile_px: int,
    tile_overlap: float,
    tile_min_part: float,
    options: dict[str, bool | int | float | str],
) -> None:
    """Train the detector on the annotated photographs.

    Photographs of the split train are learned, those of validation choose the epoch whose weights are kept. All
    animals are one class. A training that was interrupted goes on after its last whole epoch when it is started again
    with the same parameters, annotations, photographs, weights and code; with any other it starts from the beginning.

    Args:
        annotations: COCO JSON with a split for each image.
        images: folder of the photographs' shards.
        out: folder to write, the weights and detector.json.
        out_metrics: JSON to write, photographs used and left out, losses, the best epoch.
        out_curve: CSV to write, losses and figures on validation of every epoch.
        checkpoints: folder of unfinished trainings, each below a hash of all that it depends on.
        seed: of every random choice.
        shards: names of the shards.
        family: yolo, rfdetr, maskrcnn or mask2former; or one that needs no training: whole_image, grounding_dino_sam,
            florence2_sam, gemini_sam, watershed.
        model: a yaml of ultralytics, such as yolo11n.yaml, a class of rfdetr, such as RFDETRLarge,
            maskrcnn_resnet50_fpn, mask2former_swin_tiny, or what a published model is called where it is had from.
        weights: file of weights to start from, or the folder of a published model that needs no training; a file that
            is called random.md stands for random weights.
        sam: folder of the published SAM 2.1 that makes masks of boxes, where the family has boxes alone.
        image_px: side of the network's input, a multiple of 32.
        epochs: passes over the training photographs; with 0 the detector that ``weights`` belong to is taken as it is.
        batch: photographs in a step.
        learning_rate: of AdamW at its height.
        plain_epochs: last epochs without mosaic augmentation, which only yolo has.
        workers: processes that load photographs; with yolo on a CPU none, whatever is given.
        tile_px: side of the tiles that it learns from, enlarged or shrunk to ``image_px``; 0 for whole photographs. Of
            a photograph with a region only that part is cut into tiles.
        tile_overlap: of neighbouring tiles, as a share of the side.
        tile_min_part: of an animal's area; a tile that shows less of it does not teach it.
        options: the library's other training options by its own names.
    """
    hyper = (image_px, epochs, batch, learning_rate, plain_epochs, workers)
    recipe = Recipe(model, weights, *hyper, options=dict(options), seed=seed, sam=sam)
    trained = detectors.needs_training(family)
    if not trained or epochs == 0:
        with replacing(out) as folder:
            folder.mkdir()
            if not trained:
                write_json(folder / DESCRIPTION, detectors.family(family).describe(recipe))
            else:
                detectors.adopt(weights_file(weights), folder, family=family, image_px=image_px)
        _write_curve(out_curve, [])
        write_json(out_metrics, {"family": family, "rows": {"in": 0, "out": 0, "dropped": {}}, "parameters": 0})
        return
    tiling = Tiling(tile_px, tile_overlap, tile_min_part)
    start = weights_file(weights)
    annotated, names = read_annotations(annotations)
    table = read_images(images, shards, annotated)
    photographs, dropped = usable([photograph for photograph in annotated if photograph.split != "test"], table)
    dropped["held out for the figures"] = sum(photograph.split == "test" for photograph in annotated)
    _check_splits(photographs, annotations)
    # the split test is cut, too, to compare its tiles with published ones; as whole photographs it tells nothing
    held_out = usable([one for one in annotated if one.split == "test"], table)[0] if tile_px else []
    taught = _taught([*photographs, *held_out], table, tiling)
    most, remedy = detectors.family(family).most(recipe)
    check_crowds([*photographs, *held_out], table, tiling, most, remedy, annotations)
    used: list[Annotated] = []
    with (
        unfinished(checkpoints, _key(family, recipe, tiling, start, names, photographs, table)) as work,
        replacing(out) as folder,
    ):
        folder.mkdir()
        examples = _examples(photographs, table, images, tiling, used, dropped)
        training = detectors.family(family).train(examples, names, recipe, folder, work)
        _write_curve(out_curve, training.curve)
        figures = _metrics(len(annotated), used, dropped, training) | (
            {"tiles": _tiles(taught, [*used, *held_out])} if tile_px else {}
        )
        write_json(out_metrics, {"family": family, "weights": sha256_of(start) if start else None, **figures})


def _key(
    family: str,
    recipe: Recipe,
    tiling: Tiling,
    start: Path | None,
    names: list[str],
    photographs: list[Annotated],
    table: pa.Table,
) -> str:
    """sha256 of all that a training depends on, this code and the libraries' versions included."""
    columns = table.select(["key", "sha256", "region"]).to_pydict()
    hashes = {key: facts for key, *facts in zip(*columns.values(), strict=True)}
    told = [[one.key, one.split, hashes[one.key], one.boxes_xyxy.tolist(), _outlines(one)] for one in photographs]
    paths = [Path(__file__).with_name(name) for name in _CODE]
    code = [sha256_of(one) for path in paths for one in (sorted(path.glob("*.py")) or [path])]
    libraries = [version(library) for library in LIBRARIES]
    given = {**asdict(recipe), **asdict(tiling), "weights": sha256_of(start) if start else None}
    text = json.dumps([family, given, names, told, code, libraries])
    return hashlib.sha256(text.encode()).hexdigest()


def _outlines(photograph: Annotated) -> list[str]:
    """The masks of a photograph as text."""
    if photograph.masks is None:
        return []
    return [counts.decode() for counts in photograph.masks.rle(photograph.height, photograph.width)]


def _check_splits(photographs: list[Annotated], annotations: Path) -> None:
    for split in ("train", "validation"):
        boxes = [len(photograph.boxes_xyxy) for photograph in photographs if photograph.split == split]
        if not sum(boxes):
            raise InputError(
                f"{annotations}: split {split} has {len(boxes)} fetched photographs and no animal on them; annotate "
                "more, raise its share in the section records, or, where few observations hold all photographs, set "
                "records.annotation_split=photograph"
            )


#: Of a photograph, and how many animals each of its tiles teaches.
Taught = dict[str, tuple[Annotated, np.ndarray]]


def _taught(photographs: list[Annotated], table: pa.Table, tiling: Tiling) -> Taught:
    """By the photographs' keys."""
    columns = table.select(["key", "region"]).to_pydict()
    regions = dict(zip(columns["key"], columns["region"], strict=True))
    counted = progress(photographs, "photographs cut into tiles", len(photographs))
    return {one.key: (one, tile_counts(one, regions[one.key], tiling)) for one in counted}


def check_crowds(
    photographs: list[Annotated], table: pa.Table, tiling: Tiling, most: int, remedy: str, annotations: Path
) -> None:
    """Before a training that may take days: whether the model can give all animals of the densest tile.

    Counted and compared as the stage detection_metrics does, by ``caps.check_caps``.

    Args:
        photographs: to learn from; those of the split test count where they are cut into tiles.
        table: their rows of ``tables.IMAGES``.
        tiling: how they are cut.
        most: animals of one picture, see ``Family.most``.
        remedy: likewise.
        annotations: for the message.

    Raises:
        InputError: if it cannot.
    """
    columns = table.select(["key", "region"]).to_pydict()
    regions = dict(zip(columns["key"], columns["region"], strict=True))
    wanted = [one for one in photographs if tiling.tile_px or one.split != "test"]
    crowds = [(densest(one, regions[one.key], tiling), one) for one in wanted]
    crowd, one = max(crowds, key=lambda found: found[0])
    if crowd >= most:
        told = (
            f"a tile of photograph {one.key} ({one.split}) shows {crowd} animals, and the model, which must give more"
        )
        raise InputError(f"{annotations}: {told}, gives at most {most}; {remedy}, or lower detector.tile_px")


def _examples(
    photographs: list[Annotated],
    table: pa.Table,
    images: Path,
    tiling: Tiling,
    used: list[Annotated],
    dropped: Counter[str],
) -> Iterator[Example]:
    """Photographs, or their tiles, with their pixels.

    What can be decoded is noted in ``used``, the other reasons in ``dropped``.
    """
    columns = ["key", "shard", "offset", "size", "region"]
    rows = {row["key"]: row for row in table.select(columns).to_pylist()}
    for shard in sorted({rows[photograph.key]["shard"] for photograph in photographs}):
        wanted = {photograph.key: photograph for photograph in photographs if rows[photograph.key]["shard"] == shard}
        with ShardReader(images / f"{shard}.tar") as reader:
            pictures = decoded([rows[key] for key in wanted], reader)
            for row, picture in progress(pictures, f"photographs of {shard}", len(wanted)):
                if isinstance(picture, str):
                    dropped[picture] += 1
                    continue
                one = wanted[row["key"]]
                used.append(one)
                example = Example(one.key, one.split, picture, one.boxes_xyxy, one.masks)
                yield from tiled(example, row["region"], tiling)


def _tiles(taught: Taught, used: list[Annotated]) -> dict[str, dict[str, int]]:
    """Tiles of each split, those without an animal, and the animals on them, each as often as a tile shows it."""
    found = {}
    for split in ("train", "validation", "test"):
        counts = [taught[one.key][1] for one in used if one.split == split]
        numbers = np.concatenate([np.zeros(0, np.int64), *counts])
        empty = int((numbers == 0).sum())
        found[split] = {"tiles": len(numbers), "tiles without an animal": empty, "animals": int(numbers.sum())}
    return found


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in curve for name in row))
        writer = csv.DictWriter(file, names or CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{number:.6g}" for name, number in row.items()} for row in curve)


def _metrics(n_annotated: int, used: list[Annotated], dropped: Counter[str], training: Training) -> dict[str, Any]:
    if n_annotated != len(used) + dropped.total():
        raise RuntimeError(f"{n_annotated} annotated photographs, {len(used)} used, dropped {dict(dropped)}")
    photographs = Counter(photograph.split for photograph in used)
    animals = {split: sum(len(p.boxes_xyxy) for p in used if p.split == split) for split in ("train", "validation")}
    return {
        "rows": {"in": n_annotated, "out": len(used), "dropped": dict(sorted(dropped.items()))},
        "photographs": {split: photographs[split] for split in animals},
        "animals": animals,
        "parameters": training.parameters,
        "best_epoch": training.best_epoch,
        "resumed_after": training.resumed_after,
        "last_epoch": _rounded(training.curve[-1]),
        "best": _rounded(training.curve[training.best_epoch - 1]),
    }


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{number:.6g}") for name, number in row.items() if name != "epoch"}
