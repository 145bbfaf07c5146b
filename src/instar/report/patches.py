"""The patches of held-out photographs that the page shows with right, wrong and missed masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from instar.annotations import Annotated
from instar.decode import UndecodableError, decode_upright
from instar.errors import InputError
from instar.masks import Masks, from_rle
from instar.outcomes import outcomes
from instar.report.names import Taxon
from instar.report.overlays import Patch, chosen, overlay, patches
from instar.report.pictures import Picture, attributed
from instar.shards import ShardReader
from instar.tables import DETECTIONS, read_table

_COLUMNS = pa.schema([DETECTIONS.field(name) for name in ("photo_key", "reason", "score", "mask")])


@dataclass(frozen=True)
class Shown:
    """A patch as it is shown, and why it was chosen."""

    reason: str
    patch: Patch
    picture: Picture


@dataclass(frozen=True)
class _Judged:
    """A photograph's detections and animals at the threshold."""

    found: Masks
    truth: Masks
    right: np.ndarray
    missed: np.ndarray


def shown_patches(
    annotated: list[Annotated],
    images: pd.DataFrame,
    folder: Path,
    detections: Path,
    taxa: dict[str, Taxon],
    confidence: float,
    like: list[Shown] | None = None,
) -> list[Shown]:
    """Patches of the split test, chosen by the rule of ``overlays.chosen``; none where there are no masks.

    Args:
        annotated: photographs.
        images: rows of images/<shard>.parquet of photographs that may be shown.
        folder: of their tars.
        detections: folder of the tables of detections.
        taxa: by taxon id.
        confidence: detections with a lower score do not count.
        like: patches of another detector, to show the same places.
    """
    candidates = {one.key: one for one in annotated if one.split == "test" and one.masks is not None}
    rows: dict[str, Any] = {str(row.key): row for row in images[images["key"].isin(list(candidates))].itertuples()}
    candidates = {key: one for key, one in candidates.items() if key in rows and _same_size(one, rows[key])}
    judged: dict[str, _Judged] = {}
    found: list[Patch] = []
    for shard in sorted({rows[key].shard for key in candidates}):
        of_shard = {key: one for key, one in candidates.items() if rows[key].shard == shard}
        for key, (masks, scores) in _detections(detections / f"{shard}.parquet", of_shard).items():
            judged[key] = _judged(masks, scores, of_shard[key], confidence)
            found += _patches(of_shard[key], judged[key])
    places = chosen(found) if like is None else _same_places(found, like)
    return [
        Shown(reason, patch, _picture(patch, judged[patch.key], rows[patch.key], folder, taxa))
        for reason, patch in places.items()
    ]


def _same_places(found: list[Patch], like: list[Shown]) -> dict[str, Patch]:
    there = {(patch.key, patch.box): patch for patch in found}
    wanted = {shown.reason: (shown.patch.key, shown.patch.box) for shown in like}
    return {reason: there[place] for reason, place in wanted.items() if place in there}


def _same_size(one: Annotated, row: Any) -> bool:
    return bool((one.width, one.height) == (row.width, row.height))


def _detections(path: Path, annotated: dict[str, Annotated]) -> dict[str, tuple[Masks, np.ndarray]]:
    """Masks and scores by photograph; without the photographs whose detections lack masks."""
    table = read_table(path, _COLUMNS)
    columns = table.filter(pc.is_in(table["photo_key"], pa.array(list(annotated), pa.string()))).to_pydict()
    by_key: dict[str, list[tuple[bytes | None, float]]] = {}
    for key, reason, score, mask in zip(*(columns[name] for name in _COLUMNS.names), strict=True):
        by_key.setdefault(key, []).extend([] if reason is not None else [(mask, score)])
    found = {}
    for key, pairs in by_key.items():
        if all(mask is not None for mask, _ in pairs):
            size = [annotated[key].height, annotated[key].width]
            masks = from_rle([{"size": size, "counts": mask} for mask, _ in pairs])
            found[key] = masks, np.array([score for _, score in pairs], np.float64)
    return found


def _judged(masks: Masks, scores: np.ndarray, one: Annotated, confidence: float) -> _Judged:
    assert one.masks is not None
    kept = scores >= confidence
    found = masks.take(kept)
    pairs = outcomes(found, scores[kept], one.masks)
    return _Judged(found, one.masks, pairs.animal >= 0, pairs.finder < 0)


def _patches(one: Annotated, judged: _Judged) -> list[Patch]:
    found, truth = (_centres(masks) for masks in (judged.found, judged.truth))
    centres = {"right": found[judged.right], "wrong": found[~judged.right]}
    centres |= {"missed": truth[judged.missed], "animals": truth}
    return patches(one.key, (one.width, one.height), centres)


def _centres(masks: Masks) -> np.ndarray:
    boxes = masks.boxes().astype(np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _picture(patch: Patch, judged: _Judged, row: Any, folder: Path, taxa: dict[str, Taxon]) -> Picture:
    x_min, y_min, x_max, y_max = patch.box
    with ShardReader(folder / f"{row.shard}.tar") as tar:
        try:
            pixels = decode_upright(tar.read(int(row.offset), int(row.size)))
        except UndecodableError as error:
            raise InputError(f"{tar.path}: {patch.key} is {error}; delete the shard and run its stage again") from None
    found, truth = (masks.shifted(-x_min, -y_min) for masks in (judged.found, judged.truth))
    drawn = overlay(pixels[y_min:y_max, x_min:x_max], found, truth, judged.right, judged.missed)
    return attributed(drawn, row, taxa)
