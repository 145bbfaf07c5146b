"""What `instar compare` left beside the study's own figures: other detectors, and a sweep of zooms."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.compared import DETECTORS, FOLDER, PATCHES, ZOOMS, compared_by, current, searched_by
from instar.files import sha256_of
from instar.report.inputs import Inputs
from instar.report.overlays import Patch
from instar.report.patches import Shown
from instar.report.pictures import Picture, showable

Row = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """Rows that were made of this study as it is now, and one line for each comparison that is missing or out of date.

    Attributes:
        detectors: presets with their figures of masks on test.
        patches: of each of them, of photographs that may be shown.
        zooms: figures of masks on validation by zoom, of this detector.
        missing: what is not shown, and how to get it.
    """

    detectors: list[Row]
    patches: dict[str, list[Shown]]
    zooms: list[Row]
    missing: list[str]


def read_compared(inputs: Inputs, annotations: Path, images: Path, detections: Path) -> Compared:
    """Read both comparisons where they were made.

    Args:
        inputs: what the stages wrote.
        annotations: COCO JSON of the study.
        images: folder of the photographs' shards.
        detections: folder of the study's tables of detections.

    Raises:
        InputError: if a file is damaged.
    """
    params, folder = inputs.params, inputs.plots / FOLDER
    given = params, annotations, images
    # where a file is missing nothing need be hashed
    of_detectors = compared_by(*given) if (folder / DETECTORS).is_file() else {}
    of_zooms = searched_by(*given, detections) if (folder / ZOOMS).is_file() else {}
    presets, old_presets = current(folder / DETECTORS, "preset", of_detectors)
    zooms, old_zooms = current(folder / ZOOMS, "zoom", of_zooms)
    masked = sorted((row for row in zooms if row["kind"] == "mask"), key=lambda row: row["zoom"])
    missing = [
        *_missing("the zoom sweep", "zooms", bool(masked), [f"{zoom:g}" for zoom in old_zooms]),
        *_missing("other detectors beside this one", "detectors", bool(presets), old_presets),
    ]
    if zooms and not masked:
        missing[0] = "the zoom sweep: it is of boxes, not of masks"
    allowed = set(showable(inputs.images)["key"])
    patches: dict[str, list[Shown]] = {}
    for row in presets:
        if row["patches"] is None:
            continue
        path = inputs.plots.parent / "comparison" / row["preset"] / PATCHES
        if path.is_file() and sha256_of(path) == row["patches"]:
            patches[row["preset"]] = read_patches(path, allowed)
        else:
            missing.append(f"patches of {row['preset']}: instar compare detectors {row['preset']} makes them")
    return Compared(presets, patches, masked, missing)


def _missing(what: str, kind: str, there: bool, stale: list[str]) -> list[str]:
    if stale:
        made = "were made of other data, another detector or other settings; run "
        return [f"{what}: {', '.join(stale)} {made}instar compare {kind} {' '.join(stale)} again"]
    return [] if there else [f"{what}: instar compare {kind} makes it"]


def read_patches(path: Path, allowed: set[str]) -> list[Shown]:
    """The patches that ``compare.overlays.write_patches`` wrote, of photographs with these keys."""
    found = [
        Shown(one["reason"], Patch(**{**one["patch"], "box": tuple(one["patch"]["box"])}), Picture(**one["picture"]))
        for one in json.loads(path.read_text(encoding="utf-8"))
    ]
    return [shown for shown in found if shown.patch.key in allowed]
