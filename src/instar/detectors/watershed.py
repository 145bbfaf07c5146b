"""A classical detector that learns nothing, as the floor: what differs from the background, parted at its necks."""

from typing import Any

import cv2
import numpy as np

from instar.boxes import order_by_score
from instar.detectors import Boxes, Recipe
from instar.detectors.zero_shot import Kind, Number, checked, described
from instar.masks import from_labels

FAMILY = "watershed"

_OPTIONS: dict[str, Kind] = {
    "blur_px": Number(0, 50),
    "min_contrast": Number(1, 100),
    "neck": Number(0, 1),
    "min_px": Number(1, 1_000_000, whole=True),
    "largest_share": Number(0, 1),
}

#: Black on white, as a distance in CIELAB.
_FULL_CONTRAST = 100.0


def describe(recipe: Recipe) -> dict[str, Any]:
    """What detector.json says: the options. ``model``, ``weights`` and ``image_px`` mean nothing here.

    Raises:
        InputError: if an option is wrong.
    """
    return described(
        FAMILY, recipe, {}, licence="none: nothing was learnt", options=checked(recipe.options, _OPTIONS, FAMILY)
    )


class Watershed:
    """Threshold by Otsu (1979) on the colour distance to the background, watershed on the distance to the outline.

    The score is a region's mean distance to the background in CIELAB (ΔE of 1976) over that of black to white, at
    most 1; it ranks by contrast and is no probability. Regions do not overlap, so ``nms_iou`` means nothing here.
    """

    tiled = True

    def __init__(self, description: dict[str, Any]) -> None:
        self.name: str = description["name"]
        self._options: dict[str, Any] = description["options"]

    def predict(self, pictures: list[np.ndarray], *, floor: float, nms_iou: float, max_boxes: int) -> list[Boxes]:
        """Regions of each picture with their masks; see ``Detector.predict``."""
        return [self._one(picture, floor, max_boxes) for picture in pictures]

    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes:
        contrast = contrasts(picture, blur_px=self._options["blur_px"])
        foreground = contrast >= threshold(contrast, at_least=self._options["min_contrast"])
        labels, n = parted(foreground, neck=self._options["neck"])
        pixels = np.bincount(labels.ravel(), minlength=n + 1)[1:]
        sums = np.bincount(labels.ravel(), weights=contrast.ravel(), minlength=n + 1)[1:]
        scores = np.minimum(sums / np.maximum(pixels, 1) / _FULL_CONTRAST, 1).astype(np.float32)
        good = (pixels >= self._options["min_px"]) & (pixels <= self._options["largest_share"] * labels.size)
        good &= scores >= floor
        masks, scores = from_labels(labels, n).take(good), scores[good]
        boxes = masks.boxes()
        return Boxes(boxes, scores, masks=masks).take(order_by_score(boxes, scores)[:max_boxes])


def contrasts(picture: np.ndarray, *, blur_px: float) -> np.ndarray:
    """How far each pixel's colour is from the background's, the commonest value of each channel of CIELAB.

    Args:
        picture: uint8, shape (height, width, 3), RGB; its background takes up more of it than any other colour.
        blur_px: standard deviation of a Gaussian over the picture, pixels; 0 for none.

    Returns:
        float32, shape (height, width), ΔE of 1976, at least 0; black on white is 100.
    """
    if blur_px:
        picture = cv2.GaussianBlur(picture, (0, 0), blur_px)
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    background = [_commonest(lab[..., channel]) for channel in range(3)]
    lab -= np.array(background, np.float32)
    return np.sqrt(np.einsum("hwc,hwc->hw", lab, lab))


def _commonest(channel: np.ndarray) -> float:
    """The mean of the values around the fullest bin of a smoothed histogram with bins of one unit."""
    bins = np.rint(channel).astype(np.int32) + 130  # a and b go from -127 to 127
    counts = np.bincount(bins.ravel(), minlength=262)
    fullest = int(np.convolve(counts, [1, 2, 1], "same").argmax())
    near = channel[np.abs(bins - fullest) <= 1]
    return float(near.mean(dtype=np.float64)) if near.size else float(fullest - 130)


def threshold(contrast: np.ndarray, *, at_least: float) -> float:
    """The lowest contrast of the foreground by Otsu's method, in steps of 0.5, and no lower than noise."""
    steps = np.clip(contrast * 2, 0, 255).astype(np.uint8)
    highest, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return max((highest + 1) / 2, at_least)


def parted(foreground: np.ndarray, *, neck: float) -> tuple[np.ndarray, int]:
    """The parts of a foreground: connected areas, those that touch by a narrow neck apart.

    Every pixel belongs to the local maximum of the distance to the outline that steepest ascent leads to (a watershed
    by topographic distance, Meyer 1994). From the widest joint down, two neighbours become one part where their joint
    is wide beside the narrower of them, so that long bodies stay whole.

    Args:
        foreground: bool, shape (height, width).
        neck: two neighbours are one part where the foreground between them is wider than this share of the narrower.

    Returns:
        int64, shape (height, width), 0 for the background, else the part's number from 1; and the number of parts.
    """
    depth = cv2.distanceTransform(_framed(foreground.astype(np.uint8)), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    summits = _summits(depth)
    tops, floods = np.unique(summits[foreground], return_inverse=True)
    labels = np.zeros(foreground.shape, np.int32)
    labels[foreground] = floods + 1
    parts = _joined(*_joints(labels, depth), depth.ravel()[tops].tolist(), neck)
    names, numbers = np.unique(parts, return_inverse=True)
    return np.append(0, numbers + 1)[labels], len(names)


def _framed(foreground: np.ndarray) -> np.ndarray:
    """With one pixel of background around it, which cv2 would not assume beyond the picture."""
    return cv2.copyMakeBorder(foreground, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)


def _summits(depth: np.ndarray) -> np.ndarray:
    """For each pixel the flat index of the local maximum that steepest ascent ends at: int32, like ``depth``."""
    height, width = depth.shape
    framed = _framed(depth)
    best = depth.copy()
    upward = np.arange(height * width, dtype=np.int32).reshape(height, width)
    here = upward.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            neighbour = framed[1 + down : 1 + down + height, 1 + right : 1 + right + width]
            higher = neighbour > best
            best[higher] = neighbour[higher]
            upward[higher] = here[higher] + down * width + right
    summits = upward.ravel()
    while not np.array_equal(further := summits[summits], summits):
        summits = further
    return summits.reshape(height, width)


def _joints(labels: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours among the labels and how wide it is between them.

    Returns:
        int64, shape (m, 2), pairs of labels less 1, the widest joint first; and half its width: float32, shape (m,).
    """
    height, width = labels.shape
    filled = labels > 0
    pairs, widths = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = np.s_[: height - down, max(-right, 0) : width - max(right, 0)]
        other = np.s_[down:, max(right, 0) : width + min(right, 0)]
        joint = (labels[one] != labels[other]) & filled[one] & filled[other]
        pairs.append(np.sort(np.column_stack([labels[one][joint], labels[other][joint]]), axis=1) - 1)
        widths.append(np.minimum(depth[one][joint], depth[other][joint]))
    found, wide = np.concatenate(pairs), np.concatenate(widths)
    order = np.lexsort((found[:, 1], found[:, 0], -wide))
    # of each pair only its widest joint
    _, first = np.unique(found[order] @ np.array([labels.size, 1], np.int64), return_index=True)
    order = order[np.sort(first)]
    return found[order], wide[order]


def _joined(pairs: np.ndarray, wide: np.ndarray, tops: list[float], neck: float) -> list[int]:
    """For each of the labels one label of its part; ``tops`` is half the width of each at its widest."""
    part = list(range(len(tops)))

    def root(n: int) -> int:
        while part[n] != n:
            part[n] = n = part[part[n]]
        return n

    for (first, second), width in zip(pairs.tolist(), wide.tolist(), strict=True):
        one, other = sorted((root(first), root(second)), key=lambda n: (-tops[n], n))
        if one != other and width > neck * tops[other]:
            part[other] = one
    return [root(n) for n in range(len(tops))]
