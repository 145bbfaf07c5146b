"""Matching by local features: marks that two photographs share, at places that fit each other.

Slow and exact where embeddings are quick and coarse, so it is done for the best candidates alone.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from instar.errors import InputError
from instar.progress import progress
from instar.reid.photographs import Known
from instar.reid.scores import NONE

MATCHERS = ("sift", "lightglue")
GEOMETRIES = ("homography", "fundamental", "none")
#: Points that a geometry needs.
FEWEST = {"homography": 4, "fundamental": 8, "none": 1}
#: Photographs of a gallery whose features are kept in memory, since individuals come again and again: about half a
#: gigabyte of SIFT with 1,024 points each.
KEPT = 1024
#: The name of a path that other models take for random weights.
RANDOM = "random.md"


class Matcher(Protocol):
    """A kind of local features."""

    def features(self, pixels: np.ndarray) -> Any:
        """What is kept of a photograph, uint8, shape (height, width, 3), RGB."""

    def scores(self, query: Any, others: Sequence[Any]) -> np.ndarray:
        """How well a photograph matches each of some others, float32, shape (n,), at least 0."""


@dataclass(frozen=True)
class Local:
    """How local features are matched; the fields are keys of a section of parameters.

    Attributes:
        matcher: one of ``MATCHERS``.
        weights: folder of LightGlue with its SuperPoint, as the hub has them; sift needs none.
        geometry: one of ``GEOMETRIES``: what the matched points must agree on; score is the number that does.
        image_px: the longer side that photographs are brought to.
        keypoints: the most that are taken of a photograph, the strongest first.
        ratio: of a SIFT match's distance to that of the second best, below which it counts (Lowe 2004, section 7.1).
        tolerance_px: how far a matched point may lie from where the geometry puts it.
        least_score: of a LightGlue match.
    """

    matcher: str
    weights: str
    geometry: str
    image_px: int
    keypoints: int
    ratio: float
    tolerance_px: float
    least_score: float


def local_matcher(settings: Local) -> Matcher:
    """The matcher that the settings ask for.

    Raises:
        InputError: if a name is unknown, or the folder of weights is missing or holds another model.
    """
    for name, given, allowed in (
        ("matcher", settings.matcher, MATCHERS),
        ("geometry", settings.geometry, GEOMETRIES),
    ):
        if given not in allowed:
            raise InputError(f"{name} = {given} is not one of {', '.join(allowed)}")
    return Sift(settings) if settings.matcher == "sift" else LightGlue(settings)


class Sift:
    """SIFT (Lowe 2004) with square roots of normalised descriptors (Arandjelović & Zisserman 2012)."""

    def __init__(self, settings: Local) -> None:
        self._settings = settings

    def features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points, float32 (n, 2), and descriptors, float32 (n, 128)."""
        # one for each call: threads share none
        sift = cv2.SIFT.create(nfeatures=self._settings.keypoints)
        grey = cv2.cvtColor(shrunk(pixels, self._settings.image_px), cv2.COLOR_RGB2GRAY)
        points, descriptors = sift.detectAndCompute(grey, None)
        if descriptors is None:
            return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
        sums = np.maximum(descriptors.sum(axis=1, keepdims=True), 1)
        return np.array([point.pt for point in points], np.float32), np.sqrt(descriptors / sums)

    def scores(self, query: Any, others: Sequence[Any]) -> np.ndarray:
        """The number of matches that agree, see ``Matcher``."""
        return np.array([self._score(*query, *other) for other in others], np.float32)

    def _score(self, points: np.ndarray, features: np.ndarray, others: np.ndarray, other_features: np.ndarray) -> int:
        if not len(points) or len(others) < 2:
            return 0
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, other_features, k=2)
        kept = [first for first, second in pairs if first.distance < self._settings.ratio * second.distance]
        # many points that all match one and the same are no pattern
        kept = list({match.trainIdx: match for match in sorted(kept, key=lambda match: -match.distance)}.values())
        first = points[[match.queryIdx for match in kept]]
        second = others[[match.trainIdx for match in kept]]
        return agreeing(first, second, self._settings.geometry, tolerance_px=self._settings.tolerance_px)


class LightGlue:
    """LightGlue (Lindenberger et al. 2023) on the points of its SuperPoint."""

    def __init__(self, settings: Local) -> None:
        folder = Path(settings.weights)
        if not folder.is_dir():
            place = "models/lightglue" if folder.name == RANDOM else folder
            fetch = f"hf download ETH-CVG/lightglue_superpoint --local-dir {place}"
            told = "matches by no random weights" if folder.name == RANDOM else "no such folder, where its weights lie"
            raise InputError(f"{folder}: LightGlue: {told}; {fetch} and set evaluation.local_weights to {place}")
        import torch
        from transformers import AutoImageProcessor, LightGlueConfig, LightGlueForKeypointMatching

        from instar.pretrained import pretrained, pretrained_model

        self._settings, self._torch = settings, torch
        config = pretrained(LightGlueConfig, folder)
        config.keypoint_detector_config.max_keypoints = settings.keypoints  # the model reads it once, when it is made
        self._model = pretrained_model(LightGlueForKeypointMatching, folder, config=config)
        self._processor = pretrained(AutoImageProcessor, folder)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """The photograph on a black square, uint8, shape (image_px, image_px, 3): pairs need one size."""
        side = self._settings.image_px
        small = shrunk(pixels, side)
        square = np.zeros((side, side, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        return square

    def scores(self, query: Any, others: Sequence[Any]) -> np.ndarray:
        """The number of matches that agree, see ``Matcher``; one pair at a time, so that memory stays small."""
        return np.array([self._score(query, other) for other in others], np.float32)

    def _score(self, query: np.ndarray, other: np.ndarray) -> int:
        side = self._settings.image_px
        size = {"height": side, "width": side}
        inputs = self._processor([[query, other]], size=size, return_tensors="pt").to(self._model.device)
        with self._torch.inference_mode():
            outputs = self._model(**inputs)
        (found,) = self._processor.post_process_keypoint_matching(
            outputs, [[(side, side), (side, side)]], threshold=self._settings.least_score
        )
        first, second = (found[name].cpu().numpy().astype(np.float32) for name in ("keypoints0", "keypoints1"))
        return agreeing(first, second, self._settings.geometry, tolerance_px=self._settings.tolerance_px)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """A photograph whose longer side is ``side`` pixels, larger or smaller than it was."""
    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=way))


def agreeing(first: np.ndarray, second: np.ndarray, geometry: str, *, tolerance_px: float) -> int:
    """How many matched points one geometry explains, by RANSAC (Fischler & Bolles 1981).

    Args:
        first: float32, shape (n, 2), pixels of one photograph.
        second: likewise, the matched points of the other.
        geometry: ``homography`` (a flat patch), ``fundamental`` (a stiff body from two places), or ``none``, by which
            all matches count.
        tolerance_px: how far a point may lie off.

    Returns:
        0 where there are fewer points than the geometry needs.
    """
    if len(first) < FEWEST[geometry]:
        return 0
    if geometry == "none":
        return len(first)
    # of a fixed seed inside OpenCV
    if geometry == "homography":
        _, mask = cv2.findHomography(first, second, cv2.RANSAC, tolerance_px)
    else:
        _, mask = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, tolerance_px, 0.999)
    return 0 if mask is None else int(mask.sum())


def shortlist(similarity: np.ndarray, candidates: int) -> np.ndarray:
    """The photographs of a gallery that are most alike, best first; of equal ones the first.

    Args:
        similarity: float, shape (n_queries, n_gallery), -inf for one that does not count.
        candidates: at least 1.

    Returns:
        int64, shape (n_queries, min(candidates, n_gallery)); -1 where there are fewer that count.
    """
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :candidates]
    return np.where(np.take_along_axis(similarity, order, axis=1) > NONE, order, -1)


def matched(
    matcher: Matcher,
    query_pixels: Callable[[int], np.ndarray],
    gallery_pixels: Callable[[int], np.ndarray],
    listed: np.ndarray,
) -> np.ndarray:
    """Match each query with the photographs of its shortlist, on threads.

    Args:
        matcher: of local features.
        query_pixels: gives the pixels of a query, uint8 (height, width, 3), RGB, such as ``CropReader.read``.
        gallery_pixels: of a photograph of the gallery.
        listed: int64, shape (n_queries, k), see ``shortlist``.

    Returns:
        float32, shape (n_queries, k); -inf where no photograph is listed.
    """
    found = np.full(listed.shape, NONE)
    features = _Kept(lambda row: matcher.features(gallery_pixels(row)), KEPT)

    def one(row: int) -> tuple[int, np.ndarray]:
        there = np.flatnonzero(listed[row] >= 0)
        if not len(there):
            return row, found[row]
        own = matcher.features(query_pixels(row))
        line = found[row].copy()
        line[there] = matcher.scores(own, [features[int(place)] for place in listed[row, there]])
        return row, line

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lines: Iterator[tuple[int, np.ndarray]] = pool.map(one, range(len(listed)))
        for row, line in progress(lines, "queries matched", total=len(listed)):
            found[row] = line
    return found


class _Kept:
    """The last values that a function made, for threads; a value may be made twice but is the same."""

    def __init__(self, make: Callable[[int], Any], most: int) -> None:
        self._make, self._most = make, most
        self._values: OrderedDict[int, Any] = OrderedDict()

    def __getitem__(self, row: int) -> Any:
        value = self._values.get(row)
        if value is None:
            value = self._values[row] = self._make(row)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


def of_identities(listed: np.ndarray, values: np.ndarray, candidates: np.ndarray, known: Known) -> np.ndarray:
    """What matches of photographs say of individuals: the best of each one's photographs.

    Args:
        listed: int64, shape (n_queries, k), of ``shortlist``.
        values: float32, shape (n_queries, k), of ``matched``.
        candidates: bool, shape (n_queries, n_identities), which individuals may be the answer at all.
        known: the individuals of the gallery.

    Returns:
        float32, shape (n_queries, n_identities); 0 for a candidate of which no photograph is listed, as one that
        matches nowhere, and -inf for what is no candidate.
    """
    found = np.where(candidates, np.float32(0), NONE)
    rows, places = np.nonzero(listed >= 0)
    columns = known.column[listed[rows, places]]
    np.maximum.at(found, (rows, columns), values[rows, places])
    return np.where(candidates, found, NONE)
