"""The page itself: one HTML file that needs no network and no other file."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instar.errors import InputError
from instar.masks import Masks
from instar.outcomes import Outcomes, outcomes
from instar.pages import script_json, template
from instar.tray.pyramid import TILE_PX, pyramid
from instar.tray.shapes import frames, outlines, packed

#: Base64 takes 4 bytes for 3.
_BASE64 = 4 / 3


@dataclass(frozen=True)
class Tray:
    """A photograph and all that is known of the animals on it.

    Attributes:
        key: of the photograph.
        picture: uint8, shape (height, width, 3), RGB.
        found_xyxy: float, shape (k, 4), boxes of the detections.
        found: their masks; None where the detector gives boxes only.
        scores: float, shape (k,), in [0, 1].
        truth_xyxy: float, shape (n, 4), boxes of the annotated animals; None where the photograph is not annotated.
        truth: their masks; None where only boxes are annotated.
        taxa: of each annotated animal, an empty text where none is named.
        confidence: the threshold that the page opens with.
        floor: detections with a lower score are not on the page.
        region: the part of the photograph that was searched, x_min, y_min, x_max, y_max; None for all of it.
        facts: texts for people, such as split, licence and rights holder, by their names.
    """

    key: str
    picture: np.ndarray
    found_xyxy: np.ndarray
    found: Masks | None
    scores: np.ndarray
    truth_xyxy: np.ndarray | None
    truth: Masks | None
    taxa: list[str]
    confidence: float
    floor: float
    region: list[int] | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def pairs(self) -> Outcomes:
        """Detections and animals in pairs, by their masks where both have some and else by their boxes."""
        if self.truth_xyxy is None:
            return outcomes(self.found_xyxy, self.scores, np.zeros((0, 4)))
        if self.found is not None and self.truth is not None:
            return outcomes(self.found, self.scores, self.truth)
        return outcomes(self.found_xyxy, self.scores, self.truth_xyxy)


def page(tray: Tray, *, max_bytes: int) -> str:
    """The page of a photograph.

    Args:
        tray: the photograph and its animals.
        max_bytes: of the page; the photograph's quality is lowered until it fits.

    Raises:
        InputError: if it does not fit at the lowest quality.
    """
    data = _data(tray)
    page_of = template(Path(__file__).with_name("tray.html.jinja"))
    told = {"tray": tray, "data": script_json(data), "judged": data["judged"], "counts": _counts(tray)}
    rest = len(page_of.render(**told, tiles="[]", overview="").encode())
    try:
        levels = pyramid(tray.picture, max_bytes=int(0.98 * (max_bytes - rest) / _BASE64))
    except InputError as error:
        raise InputError(f"{tray.key}: {error}") from None
    sizes = [{"width": level.width, "height": level.height} for level in levels]
    tiles = {"side": TILE_PX, "levels": sizes, "jpeg": [[_text(tile) for tile in level.tiles] for level in levels]}
    return page_of.render(**told, tiles=script_json(tiles), overview=_text(levels[-1].tiles[0]))


def _data(tray: Tray) -> dict[str, Any]:
    pairs = tray.pairs
    found = frames(tray.found_xyxy) if tray.found is None else outlines(tray.found)
    truth = frames(_truth_xyxy(tray)) if tray.truth is None else outlines(tray.truth)
    height, width = tray.picture.shape[:2]
    return {
        "key": tray.key,
        "width": width,
        "height": height,
        "judged": tray.truth_xyxy is not None,
        "confidence": tray.confidence,
        "floor": tray.floor,
        "region": tray.region,
        "scores": [round(score, 4) for score in tray.scores.tolist()],
        "sizes": [*_sizes(tray.found, tray.found_xyxy), *_sizes(tray.truth, _truth_xyxy(tray))],
        "masks": [tray.found is not None, tray.truth is not None],
        "animal": pairs.animal.tolist(),
        "iou": [round(iou, 3) for iou in pairs.iou.tolist()],
        "finder": pairs.finder.tolist(),
        "taxa": tray.taxa,
        "shapes": _text(packed([*found, *truth])),
    }


def _truth_xyxy(tray: Tray) -> np.ndarray:
    return np.zeros((0, 4)) if tray.truth_xyxy is None else tray.truth_xyxy


def _sizes(masks: Masks | None, boxes_xyxy: np.ndarray) -> list[int]:
    """Pixels of the masks, or of the boxes where there are none."""
    if masks is not None:
        return list(masks.areas().tolist())
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return [round(area) for area in (sides[:, 0] * sides[:, 1]).tolist()]


def _counts(tray: Tray) -> dict[str, int]:
    pairs = tray.pairs
    return {
        "found": int((tray.scores >= tray.confidence).sum()),
        "right": int(pairs.right(tray.confidence).sum()),
        "wrong": int(pairs.wrong(tray.confidence).sum()),
        "missed": int(pairs.missed(tray.confidence).sum()),
        "animals": len(pairs.finder),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
