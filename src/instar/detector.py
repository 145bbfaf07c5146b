"""Stage ``detector``: train the detector on the annotated photographs."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.annotations import Annotated, read_annotations, usable
from instar.detectors import DESCRIPTION, Example, Training
from instar.errors import InputError
from instar.files import replacing, write_json
from instar.photographs import decoded
from instar.progress import progress
from instar.shards import ShardReader
from instar.tables import IMAGES, read_shards

#: What the curve holds where nothing was trained.
CURVE = ["epoch", "mAP50", "mAP50-95", "recall", "precision"]


def detector(
    annotations: Path,
    images: Path,
    out: Path,
    out_metrics: Path,
    out_curve: Path,
    *,
    seed: int,
    shards: list[str],
    family: str,
    model: str,
    image_px: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    plain_epochs: int,
    workers: int,
) -> None:
    """Train the detector on the annotated photographs.

    Photographs of the split train are learned, those of validation choose the epoch whose weights are kept. All
    animals are one class.

    Args:
        annotations: COCO JSON with a split for each image.
        images: folder of the photographs' shards.
        out: folder to write, the weights and detector.json.
        out_metrics: JSON to write, photographs used and left out, losses, the best epoch.
        out_curve: CSV to write, losses and figures on validation of every epoch.
        seed: of every random choice.
        shards: names of the shards.
        family: yolo, or whole_image, which needs no training.
        model: a weights file or, for random weights, a yaml of ultralytics.
        image_px: side of the network's input, a multiple of 32.
        epochs: passes over the training photographs.
        batch: photographs in a step.
        learning_rate: of AdamW at its height.
        plain_epochs: last epochs without mosaic augmentation.
        workers: processes that load photographs; on a CPU none, whatever is given.
    """
    if family == "whole_image":
        with replacing(out) as folder:
            folder.mkdir()
            write_json(folder / DESCRIPTION, {"family": family})
        _write_curve(out_curve, [])
        write_json(out_metrics, {"family": family, "rows": {"in": 0, "out": 0, "dropped": {}}, "parameters": 0})
        return
    from instar.detectors import yolo

    recipe = yolo.Recipe(model, image_px, epochs, batch, learning_rate, plain_epochs, workers, seed)
    annotated, names = read_annotations(annotations)
    table = read_shards(images, shards, IMAGES)
    photographs, dropped = usable([photograph for photograph in annotated if photograph.split != "test"], table)
    dropped["held out for the figures"] = sum(photograph.split == "test" for photograph in annotated)
    _check_splits(photographs, annotations)
    used: list[Annotated] = []
    with replacing(out) as folder:
        folder.mkdir()
        training = yolo.train(_examples(photographs, table, images, used, dropped), names, recipe, folder)
    _write_curve(out_curve, training.curve)
    write_json(out_metrics, _metrics(len(annotated), used, dropped, training))


def _check_splits(photographs: list[Annotated], annotations: Path) -> None:
    for split in ("train", "validation"):
        boxes = [len(photograph.boxes_xyxy) for photograph in photographs if photograph.split == split]
        if not sum(boxes):
            raise InputError(
                f"{annotations}: split {split} has {len(boxes)} fetched photographs and no animal on them; annotate "
                "more or raise its share in the section records"
            )


def _examples(
    photographs: list[Annotated], table: pa.Table, images: Path, used: list[Annotated], dropped: Counter[str]
) -> Iterator[Example]:
    """Photographs with their pixels; what can be decoded is noted in ``used``, the other reasons in ``dropped``."""
    rows = {row["key"]: row for row in table.select(["key", "shard", "offset", "size"]).to_pylist()}
    for shard in sorted({rows[photograph.key]["shard"] for photograph in photographs}):
        wanted = {photograph.key: photograph for photograph in photographs if rows[photograph.key]["shard"] == shard}
        with ShardReader(images / f"{shard}.tar") as reader:
            pictures = decoded([rows[key] for key in wanted], reader)
            for row, picture in progress(pictures, f"photographs of {shard}", len(wanted)):
                if isinstance(picture, str):
                    dropped[picture] += 1
                else:
                    photograph = wanted[row["key"]]
                    used.append(photograph)
                    yield Example(photograph.key, photograph.split, picture, photograph.boxes_xyxy)


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(curve[0]) if curve else CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{number:.6g}" for name, number in row.items()} for row in curve)


def _metrics(n_annotated: int, used: list[Annotated], dropped: Counter[str], training: Training) -> dict[str, Any]:
    if n_annotated != len(used) + dropped.total():
        raise RuntimeError(f"{n_annotated} annotated photographs, {len(used)} used, dropped {dict(dropped)}")
    photographs = Counter(photograph.split for photograph in used)
    animals = {split: sum(len(p.boxes_xyxy) for p in used if p.split == split) for split in ("train", "validation")}
    return {
        "family": "yolo",
        "rows": {"in": n_annotated, "out": len(used), "dropped": dict(sorted(dropped.items()))},
        "photographs": {split: photographs[split] for split in animals},
        "animals": animals,
        "parameters": training.parameters,
        "best_epoch": training.best_epoch,
        "last_epoch": _rounded(training.curve[-1]),
        "best": _rounded(training.curve[training.best_epoch - 1]),
    }


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{number:.6g}") for name, number in row.items() if name != "epoch"}
