"""Train several presets of detectors on the same split and say which one to take."""

import csv
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from omegaconf import OmegaConf

from instar import detectors
from instar.compare.command import comparable
from instar.compare.mask_table import mask_columns, mask_row, mask_table_text, masked_rows, ours, published_rows
from instar.compare.overlays import shown_of_presets, write_overlays, write_patches
from instar.compare.reuse import key_of, once
from instar.compare.searching import check_caps_of, check_preset, search
from instar.compared import DETECTORS, FOLDER, PATCHES, compared_by, keep
from instar.detection_metrics.stage import detection_metrics
from instar.detector import LIBRARIES, detector
from instar.errors import InputError
from instar.files import replacing, sha256_of, write_json
from instar.mask_figures import resampled
from instar.params import Detections, Params, load
from instar.photographs import decoded
from instar.progress import progress
from instar.report.patches import Shown
from instar.shards import ShardReader
from instar.store import STATE
from instar.study import compose, names
from instar.tables import IMAGES, read_table
from instar.tiles import tile_boxes

#: Photographs that are timed, at most, and how often; the fastest counts.
TIMED, ROUNDS = 64, 3

#: Of the photographs that detectors are compared on.
SPLITS = ("validation", "test")

#: Columns of the comparison: what they are called in it and in the table for people.
COLUMNS = {
    "preset": "preset",
    "AP50": "mAP50",
    "AP50-95": "mAP50-95",
    "recall_at_floor": "recall",
    "confidence": "confidence for the wanted recall",
    "test_recall": "recall there",
    "test_precision": "precision there",
    "ms_single": "ms per image, alone",
    "ms_batch": "ms per image, in batches",
    "parameters": "parameters",
    "image_px": "px",
    "licence": "licence",
    "trained": "trained",
}


def compare_detectors(presets: list[str], overrides: list[str], out: Path | None) -> tuple[str, list[str]]:
    """Train presets of the group detector on the study's annotated photographs and compare them.

    Args:
        presets: their names.
        overrides: of keys of the section detector in Hydra's grammar, for all of them (``detector.epochs=20``) or for
            one (``maskrcnn.weights=models/maskrcnn_coco.pth``).
        out: folder to write; ``data/<study>/comparison`` if None.

    Returns:
        The comparison as a Markdown table, and one line for each preset that could not be compared.

    Raises:
        InputError: if a preset is unknown, an override is wrong or of another section, or no preset could be compared.
    """
    for preset in presets:
        if preset not in names("detector"):
            raise InputError(f"{preset}: no such preset; workflow/conf/detector has {', '.join(comparable())}")
    for override in overrides:
        if _of(override) not in ("detector", *presets):
            told = "only keys that begin with 'detector.' or with a preset that is compared can be set here; the others"
            raise InputError(f"--set {override}: {told} stand in params.yaml")
    params = load()
    study = Path("data") / params.study
    out = out or study / "comparison"
    chosen = {preset: _section(params.study, preset, overrides) for preset in dict.fromkeys(presets)}
    check_caps_of(study, params, SPLITS)
    settings = {preset: _with(params, section) for preset, section in chosen.items()}
    failed: dict[str, str] = {}
    for preset, one in settings.items():  # all of them before any training
        with _noted(preset, failed):
            check_preset(one, study)
    rows: list[dict[str, Any]] = []
    due = [preset for preset in settings if preset not in failed]
    for n, preset in enumerate(due, 1):
        with _noted(preset, failed):
            rows.append(_row(preset, settings[preset], study, out / preset))
        if rows:  # also where what follows is interrupted
            _tell(out, rows, params, study, [*_refused(failed), *(f"{one} is not compared yet" for one in due[n:])])
    lines = _refused(failed)
    if not rows:
        raise InputError("; ".join(lines))
    return (out / "comparison.md").read_text(encoding="utf-8"), lines


def _refused(failed: dict[str, str]) -> list[str]:
    return [f"{preset} is not compared: {told}" for preset, told in failed.items()]


def _tell(out: Path, rows: list[dict[str, Any]], params: Params, study: Path, lines: list[str]) -> None:
    """Write the comparison with lines on what is not in it, and what the report shows of it."""
    shown = _shown(out, rows, params, study)
    _write(out, rows, params, "\n".join([*lines, write_overlays(out, shown)]))
    if out == study / "comparison":
        files = {preset: write_patches(out / preset / PATCHES, patches) for preset, patches in shown.items()}
        of = compared_by(params, study / "annotations.json", study / "images")
        keep(study / "plots" / FOLDER / DETECTORS, "preset", masked_rows(rows, files), of)


@contextmanager
def _noted(preset: str, failed: dict[str, str]) -> Iterator[None]:
    """A block in which one preset is worked on; what it is refused for is noted, so that the others go on."""
    try:
        yield
    except InputError as error:
        failed[preset] = str(error)
        print(f"{preset}: {error}", file=sys.stderr)


def _of(override: str) -> str:
    """What the key of an override begins with."""
    return override.partition("=")[0].lstrip("+~").partition(".")[0] if "." in override.partition("=")[0] else ""


def _section(study: str, preset: str, overrides: list[str]) -> dict[str, Any]:
    """The section ``detector`` as the study and a preset make it, checked; a study of one's own changes no preset."""
    base = study if study in names("study") else None
    given = [word for word in overrides if _of(word) == "detector"]
    own = [word.replace(f"{preset}.", "detector.", 1) for word in overrides if _of(word) == preset]
    words = [*([] if base else [f"study={study}"]), f"detector={preset}", *given, *own]
    composed: Any = OmegaConf.create(compose(base, words))
    section: Any = OmegaConf.to_container(composed.detector)
    if section["family"] == "whole_image":
        raise InputError(f"{preset}: family whole_image is not trained and finds nothing; name another preset")
    if detectors.needs_training(section["family"]) and not section["epochs"]:
        raise InputError(f"{preset}: with detector.epochs = 0 nothing is trained; set at least 1")
    return section


def _with(params: Params, section: dict[str, Any]) -> Params:
    """The parameters of the study in params.yaml with another section ``detector``."""
    given: Any = OmegaConf.to_container(OmegaConf.structured(params))
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), {**given, "detector": section}))
    assert isinstance(found, Params)
    return found


def _row(preset: str, params: Params, study: Path, out: Path) -> dict[str, Any]:
    """Train and judge one preset, or take what was found before, and time it now."""
    print(f"{preset}: {params.detector.model} at {params.detector.image_px} px", file=sys.stderr)
    figures = _figures(params, study, out)
    description = json.loads((out / "detector" / detectors.DESCRIPTION).read_text(encoding="utf-8"))
    training = json.loads((out / "detector.json").read_text(encoding="utf-8"))
    test, threshold = figures["test"], figures["threshold"]
    return {
        "preset": preset,
        **{name: test[name] for name in ("AP50", "AP50-95", "recall_at_floor")},
        **{name: threshold[name] for name in ("confidence", "test_recall", "test_precision")},
        **_times(params, study, out),
        "parameters": training["parameters"],
        "image_px": params.detector.image_px,
        "licence": description["licence"].partition(":")[0],
        "wanted_recall": threshold["wanted_recall"],
        "wanted_recall_reached": threshold["reached"],
        "trained": _trained(params, training),
        "epochs": params.detector.epochs,
        "best_epoch": training.get("best_epoch"),  # a family that needs no training has none
        "weights": training.get("weights"),
        "interval_95": figures["interval_95"],
        **mask_row(figures),
    }


def _trained(params: Params, training: dict[str, Any]) -> str:
    """How long, and from what."""
    if not detectors.needs_training(params.detector.family):
        return "no"
    weights = training["weights"]
    start = f"weights {weights[:8]}" if weights else "random weights"
    return f"{params.detector.epochs} epochs from {start}"


def _figures(params: Params, study: Path, out: Path) -> dict[str, Any]:
    """The figures of ``detection_metrics``, from the folder ``out`` if all they depend on is as it was."""
    metrics = out / "detection_metrics.json"
    with once(out, _key(params, study)) as due:
        if due:
            found = out / "detector", out / "detector.json", out / "detector.csv"
            given = study / "annotations.json", study / "images"
            detector(
                *given, *found, STATE / "training", seed=params.seed, shards=params.shards, **asdict(params.detector)
            )
            search(out / "detector", study, out, params, SPLITS)
            _judge(params, study, out)
    figures: dict[str, Any] = json.loads(metrics.read_text(encoding="utf-8"))
    if "test" not in figures:
        raise InputError(f"{study / 'annotations.json'}: no photograph is annotated, so detectors cannot be compared")
    return figures


def _judge(params: Params, study: Path, out: Path) -> None:
    """Run the stage detection_metrics on what was searched."""
    own = asdict(params.detection_metrics)
    told = study / "taxonomy.parquet", study / "specimens.csv"
    inputs = study / "annotations.json", out / "detector", out / "detections", out / "images", *told
    names = ["detection_metrics.json", "detection_pr.csv", "mask_pr.csv", "mask_areas.csv", "detection_sizes.csv"]
    names += ["counts.csv", "seams.csv"]
    detection_metrics(
        *inputs,
        *(out / name for name in names),
        **own,
        seed=params.seed,
        shards=params.shards,
        max_boxes=params.detections.max_boxes,
        tile_px=params.detections.tile_px,
        tile_overlap=params.detections.tile_overlap,
        confidence=params.crops.confidence,
        bootstrap=params.evaluation.bootstrap,
        annotation_split=params.records.annotation_split,
    )


def _key(params: Params, study: Path) -> str:
    """sha256 of all that a preset's figures depend on."""
    inputs = [study / name for name in ("annotations.json", "taxonomy.parquet", "specimens.csv")]
    inputs += [study / "images" / f"{shard}.parquet" for shard in params.shards]
    models = [Path(params.detector.weights), Path(params.detector.sam)]  # the stage says what is missing
    sections = [asdict(one) for one in (params.detector, params.detections, params.detection_metrics)]
    told = [*sections, params.seed, params.shards, params.crops.confidence, params.evaluation.bootstrap]
    told += [params.records.annotation_split, *(sha256_of(path) if path.exists() else None for path in models)]
    return key_of(told, inputs, [*LIBRARIES, "sahi"])


def _times(params: Params, study: Path, out: Path) -> dict[str, float | None]:
    """Milliseconds per part that the stage detections looks at: a tile, or a photograph that is not sliced.

    The parts, at most ``TIMED`` and as many of each photograph, are decoded before, and predicted one by one and in
    full batches: the best of several rounds.
    """
    model = detectors.load(out / "detector")
    tables = {shard: read_table(out / f"searched/{shard}.parquet", IMAGES) for shard in params.shards}
    rows = {shard: table.filter(pc.is_null(table["reason"])) for shard, table in tables.items()}
    each = -(-TIMED // max(sum(map(len, rows.values())), 1))
    pictures: list[np.ndarray] = []
    for shard, table in rows.items():
        given = table.slice(0, TIMED - len(pictures)).select(["key", "offset", "size", "region"]).to_pylist()
        with ShardReader(study / f"images/{shard}.tar") as reader:
            for row, picture in decoded(given, reader):
                if not isinstance(picture, str):
                    pictures += _parts(picture, row["region"], params.detections, model.tiled, each)
    if not pictures:
        return {"ms_single": None, "ms_batch": None}
    pictures = pictures[:TIMED]
    limits = {name: getattr(params.detections, name) for name in ("floor", "nms_iou", "max_boxes")}

    def seconds(batch: int) -> float:
        parts = [pictures[start : start + batch] for start in range(0, len(pictures), batch)]
        return _fastest(lambda: [model.predict(part, **limits) for part in parts])

    model.predict(pictures[:1], **limits)  # the first one also loads and compiles
    single, full = seconds(1), seconds(params.detections.batch)
    return {"ms_single": 1000 * single / len(pictures), "ms_batch": 1000 * full / len(pictures)}


def _parts(
    picture: np.ndarray, region: list[int] | None, slicing: Detections, tiled: bool, most: int
) -> list[np.ndarray]:
    """Some of the tiles of a photograph, spread over it; copies, so that the photograph itself is not kept."""
    height, width = picture.shape[:2]
    boxes = tile_boxes(
        width,
        height,
        tile_px=slicing.tile_px if tiled else max(width, height),
        overlap=slicing.tile_overlap,
        whole=False,
        region=None if region is None else (region[0], region[1], region[2], region[3]),
    )
    places = np.linspace(0, len(boxes), most, endpoint=False, dtype=int)
    chosen = [boxes[n] for n in np.unique(places).tolist()]
    return [picture[y_min:y_max, x_min:x_max].copy() for x_min, y_min, x_max, y_max in chosen]


def _fastest(call: Callable[[], Any]) -> float:
    """Seconds of the fastest round; answers lie in main memory, so a device has finished."""
    found = []
    for _ in progress(range(ROUNDS), "rounds", ROUNDS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def device() -> str:
    """The device that models run on here, by its name."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} threads on {os.cpu_count()} cores"


def _write(out: Path, rows: list[dict[str, Any]], params: Params, pictures: str = "") -> None:
    facts = {"study": params.study, "device": device(), "batch": params.detections.batch}
    facts |= {"resampled": resampled(rows[0]["interval_95"]["groups"], params.records)}
    facts |= {
        "tile_px": params.detections.tile_px,
        "whole": params.detections.whole,
        "timed": TIMED,
        "rounds": ROUNDS,
    }
    write_json(out / "comparison.json", {**facts, "presets": rows})
    with replacing(out / "comparison.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        masks = _with_masks(rows)
        columns = mask_columns(COLUMNS) if masks else COLUMNS
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*map(ours, rows), *published_rows()] if masks else rows)
    with replacing(out / "comparison.md") as temporary:
        temporary.write_text("\n".join(filter(None, [table_text(rows, facts), pictures])), encoding="utf-8")


def _shown(out: Path, rows: list[dict[str, Any]], params: Params, study: Path) -> dict[str, list[Shown]]:
    """Patches with masks of every preset that has some."""
    confidences = {row["preset"]: row["mask_confidence"] for row in rows if "mask_interval_95" in row}
    told = {preset: params.crops.confidence if one is None else one for preset, one in confidences.items()}
    return shown_of_presets(out, study, params.shards, told)


def _with_masks(rows: list[dict[str, Any]]) -> bool:
    return any("mask_interval_95" in row for row in rows)


def table_text(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The comparison as a Markdown table, the highest recall first, with what it was measured on."""
    order = sorted(rows, key=lambda row: (-row["recall_at_floor"], -row["AP50-95"], row["preset"]))
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS), *([_cell(row, name) for name in COLUMNS] for row in order)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    masks = _with_masks(rows)
    told = f"Detectors of study {facts['study']}: figures on the photographs of the split test; {facts['resampled']}"
    wanted = f"the confidence was chosen on validation for a recall of {rows[0]['wanted_recall']:g}"
    told += ". " if masks else f"; recall is with every box, {wanted}. "
    also = "; the stage detections looks at the whole one, too" if facts["whole"] else ""
    told += (
        f"Times are of {facts['device']}, without decoding, alone and in batches of {facts['batch']}, of a photograph "
        f"or, where its longer side exceeds {facts['tile_px']} pixels, of a tile of it{also}."
    )
    if from_random := [row["preset"] for row in order if row["weights"] is None and row.get("best_epoch", 1)]:
        told += f" Trained from random weights, not from pretrained ones: {', '.join(from_random)}."
    if masks:
        return mask_table_text(rows, mask_columns(COLUMNS), told)
    return f"{told}\n\n{table}\n"


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, int):
        return f"{value:,}"
    if name.startswith("ms_"):
        return f"{value:.1f}"
    interval = row["interval_95"].get(name)
    missed = name == "confidence" and not row["wanted_recall_reached"]
    more = f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else " (not reached)" if missed else ""
    return f"{value:.3f}{more}"
