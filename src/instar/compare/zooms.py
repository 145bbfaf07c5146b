"""How much to enlarge photographs before the detector: the same detector at several zooms, judged on validation.

At zoom 2 a network of 1,024 pixels looks at tiles of 512, which reach it twice as large.
"""

import csv
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from instar import detectors
from instar.caps import photograph_tiles, regions
from instar.compare.reuse import key_of, once
from instar.compare.searching import search
from instar.compared import FOLDER, keep, searched_by
from instar.compared import ZOOMS as LEFT
from instar.detection_metrics.confidence import at_confidence, best_f1_confidence, outcome_counts
from instar.detection_metrics.instances import matched_instances
from instar.detection_metrics.judged import read_judged, with_masks
from instar.detection_metrics.resampling import intervals, photograph_groups, resampled_weights
from instar.detector import LIBRARIES
from instar.errors import InputError
from instar.files import replacing, write_json
from instar.mask_figures import PRECISIONS, resampled
from instar.metrics.coco import IOU_THRESHOLDS, Matches, area_ranges, average_precisions, figures, matched
from instar.metrics.overlaps import box_overlaps
from instar.params import Params, load

#: The published sweep.
ZOOMS = (1.0, 2.0, 4.0, 6.0, 8.0)
#: Figures of the comparison: what they are called in it and in the table for people.
COLUMNS = {
    "zoom": "zoom",
    "tile_px": "side of a tile, px",
    "tiles": "tiles",
    **PRECISIONS,
    "f1": "best F1",
    "precision": "precision there",
    "recall": "recall there",
    "confidence": "confidence there",
    "counted": "counted there, of annotated",
}
#: The least side of a tile, as of detections.tile_px.
LEAST_PX = 64


def compare_zooms(zooms: list[float], out: Path | None) -> str:
    """Search the study's validation photographs with its trained detector at several zooms, and judge each.

    Args:
        zooms: side of the network's input over side of a tile.
        out: folder to write; ``data/<study>/comparison`` if None.

    Returns:
        The comparison as a Markdown table.

    Raises:
        InputError: if a zoom is too low or too high, the detector does not slice photographs, or an input is missing.
    """
    params = load()
    study = Path("data") / params.study
    description = detectors.read_description(study / "detector" / detectors.DESCRIPTION)
    if description["family"] == "whole_image":
        raise InputError("detector.family = whole_image looks at whole photographs; a zoom needs one that slices them")
    image_px = int(description.get("image_px", params.detector.image_px))  # what needs no training tells none
    # the largest tiles first: what would refuse the others, animals on the densest tile, refuses them at once
    tiles = {zoom: _tile_px(zoom, image_px) for zoom in sorted(set(zooms))}
    out = out or study / "comparison"
    rows = [_row(zoom, _sliced(params, tile_px), study, out / f"zoom_{zoom:g}") for zoom, tile_px in tiles.items()]
    facts = {"study": params.study, "image_px": image_px, "overlap": params.detections.tile_overlap}
    facts |= {"from_px": params.detection_metrics.areas_px, "bootstrap": params.evaluation.bootstrap}
    facts |= {"resampled": resampled(rows[0]["groups"], params.records)}
    write_json(out / "zooms.json", {**facts, "zooms": rows})
    if out == study / "comparison":  # the report shows it
        given = study / "annotations.json", study / "images"
        of = searched_by(params, *given, out / f"zoom_{min(tiles):g}/detections")
        keep(study / "plots" / FOLDER / LEFT, "zoom", rows, of)
    with replacing(out / "zooms.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["kind", *COLUMNS], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = table_text(rows, facts)
    with replacing(out / "zooms.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(out / "zooms.png") as temporary:
        _plot(temporary, rows)
    return text


def _tile_px(zoom: float, image_px: int) -> int:
    if not zoom > 0:
        raise InputError(f"zoom {zoom:g} is not allowed; it must be above 0")
    tile_px = round(image_px / zoom)
    if tile_px < LEAST_PX:
        raise InputError(
            f"zoom {zoom:g} of detector.image_px = {image_px} makes tiles of {tile_px} pixels, fewer than {LEAST_PX}; "
            f"take at most {image_px / LEAST_PX:g}"
        )
    return tile_px


def _sliced(params: Params, tile_px: int) -> Params:
    return replace(params, detections=replace(params.detections, tile_px=tile_px))


def _row(zoom: float, params: Params, study: Path, out: Path) -> dict[str, Any]:
    """Search and judge at one zoom, or take what was found before."""
    print(f"zoom {zoom:g}: tiles of {params.detections.tile_px} px", file=sys.stderr)
    figures_file = out / "figures.json"
    inputs = [study / "annotations.json", study / "detector"]
    inputs += [study / "images" / f"{shard}.parquet" for shard in params.shards]
    told = [asdict(one) for one in (params.detections, params.detection_metrics)]
    swept = [params.seed, params.shards, params.evaluation.bootstrap, params.records.annotation_split]
    with once(out, key_of([*told, *swept], inputs, [*LIBRARIES, "sahi"])) as due:
        if due:
            search(study / "detector", study, out, params, ("validation",))
            write_json(figures_file, zoom_figures(study / "annotations.json", out, params))
    return {"zoom": zoom, **json.loads(figures_file.read_text(encoding="utf-8"))}


def zoom_figures(annotations: Path, out: Path, params: Params) -> dict[str, Any]:
    """Figures of the validation photographs that were searched: of masks where there are masks, else of boxes.

    Args:
        annotations: COCO JSON.
        out: folder of the ``images`` and ``detections`` that ``search`` wrote.
        params: sections detections, detection_metrics and others are used.
    """
    photographs = read_judged(annotations, out / "detections", out / "images", params.shards, splits=("validation",))
    judged = photographs.split("validation", annotations)
    searched = regions(photographs.table)
    given = params.detections
    tiles = 0
    for one in judged:
        region = searched[one.photograph.key]
        parts = photograph_tiles(one.photograph, region, tile_px=given.tile_px, tile_overlap=given.tile_overlap)
        tiles += len(parts)
    masks = with_masks(photographs)
    medium, large = params.detection_metrics.areas_px
    areas = area_ranges((medium, large), whole=masks)
    if masks:
        by_area = matched_instances(judged, areas).by_area
    else:
        overlaps = [box_overlaps(one.found_xyxy, one.photograph.boxes_xyxy) for one in judged]
        scores = [one.scores for one in judged]
        by_area = {
            name: matched(overlaps, scores, thresholds=IOU_THRESHOLDS, area=area) for name, area in areas.items()
        }
    found = by_area["all"]
    groups = photograph_groups(
        [one.photograph.key for one in judged], photographs.table, params.records.annotation_split
    )
    weights = resampled_weights(groups, params.evaluation.bootstrap, params.seed)
    samples = np.array([average_precisions(found, row) for row in weights]).reshape(-1, len(IOU_THRESHOLDS))
    told = intervals(np.column_stack([samples.mean(axis=1), samples[:, 0]]), ["AP50-95", "AP50"])
    return {
        "kind": "mask" if masks else "box",
        "tile_px": params.detections.tile_px,
        "tiles": tiles,
        "photographs": len(judged),
        "groups": int(groups.max()) + 1,
        "animals": int(found.animals.sum()),
        **figures(by_area),
        **_best(found),
        "interval_95": told,
    }


def _best(found: Matches) -> dict[str, float | None]:
    """F1 and what goes with it at the confidence where it is highest, and the share of animals that are counted."""
    confidence = best_f1_confidence(found)
    right, wrong, missed = (int(each.sum()) for each in outcome_counts(found, confidence).values())
    f1 = 2 * right / (2 * right + wrong + missed)
    counted = (right + wrong) / (right + missed)
    return {"f1": f1, **at_confidence(found, confidence), "confidence": confidence, "counted": counted}


def table_text(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The comparison as a Markdown table with what it was made of; the zoom with the highest AP50-95 is named."""
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[_cell(row, name) for name in COLUMNS] for row in rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    best = max(rows, key=lambda row: (row["AP50-95"], -row["zoom"]))
    medium, large = facts["from_px"]
    told = (
        f"Zooms of the detector of study {facts['study']}, whose network sees {facts['image_px']} pixels: AP of "
        f"{'masks' if best['kind'] == 'mask' else 'boxes'} on {best['photographs']} validation photographs with "
        f"{best['animals']:,} animals; {facts['resampled']}; small is under {medium:,} pixels, large from "
        f"{large:,} up; tiles overlap by {facts['overlap']:.0%}. The highest AP50-95 is at zoom {best['zoom']:g}, "
        "chosen on the photographs that it is told for."
    )
    return f"{told}\n\n{table}\n"


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return "–"
    if name in ("zoom", "tile_px", "tiles"):
        return f"{value:,g}"
    interval = row["interval_95"].get(name)
    return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")


def _plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """AP over the zoom, of all animals and by size, with the interval of all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    zooms = [row["zoom"] for row in rows]
    for name in ("AP50-95", "AP50", "AP_small", "AP_medium", "AP_large"):
        values = [np.nan if row[name] is None else row[name] for row in rows]
        style = "o-" if name.startswith("AP5") else "o--"
        axes.plot(zooms, values, style, label=COLUMNS[name])
    known = [row for row in rows if row["interval_95"]["AP50-95"]]
    lows, highs = ([row["interval_95"]["AP50-95"][n] for row in known] for n in (0, 1))
    axes.fill_between([row["zoom"] for row in known], lows, highs, alpha=0.2)
    axes.set(xlabel="zoom", ylabel="average precision on validation", ylim=(0, 1.02), xticks=zooms)
    axes.legend()
    figure.savefig(path, format="png", dpi=120)
