"""The ways to tell how alike a photograph is to each known individual, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instar.reid.fusion import Calibration, calibration, fused, validation_pairs
from instar.reid.local import Local, local_matcher, matched, of_identities, shortlist
from instar.reid.photographs import Known, Photographs
from instar.reid.scores import NONE, Rules, Scores, best, centroid, nearest, similarities, softmax

#: Of local features; sizes near those that SuperPoint learnt from.
_LOCAL: dict[str, Any] = {"geometry": "homography", "image_px": 512, "keypoints": 1024}
_LOCAL |= {"ratio": 0.8, "tolerance_px": 8.0, "least_score": 0.2}


@dataclass(frozen=True)
class Settings:
    """How photographs are compared; keys of the section ``evaluation``.

    Attributes:
        neighbours: most similar photographs of an individual that nearest averages.
        flips: compare photographs and their mirror images together.
        sides: do not compare photographs of opposite sides.
        local: none, sift or lightglue.
        candidates: photographs, most similar first, that local features are matched with.
        weights: folder of LightGlue's weights.
    """

    neighbours: int
    flips: bool
    sides: bool
    local: str
    candidates: int
    weights: Path

    @property
    def rules(self) -> Rules:
        """Which photographs a query is compared with."""
        return Rules(orientation=self.sides)


@dataclass(frozen=True)
class Vectors:
    """What the network makes of crops: embeddings, float32 (n, width), 1 long, and logits, float32 (n, classes)."""

    embeddings: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Compared:
    """Some photographs, by one way, with the individuals of a gallery.

    Attributes:
        known: the individuals.
        values: float32, shape (n, n_identities), higher is more alike, -inf for one that is no candidate.
        fallback: bool, likewise: only photographs of the opposite side were there.
        match: of each the key of the most similar crop of its best individual; None without a candidate.
    """

    known: Known
    values: np.ndarray
    fallback: np.ndarray
    match: list[str | None]

    @property
    def fallback_share(self) -> float:
        """Share of the photographs whose best individual was seen from the opposite side only."""
        if not self.values.size:
            return 0.0
        return float(self.fallback[np.arange(len(self.values)), self.values.argmax(axis=1)].mean())

    def targets(self, rows: pd.DataFrame, part: np.ndarray) -> np.ndarray:
        """int64, shape (n,): the column of each one's own individual; -1 where it is not known."""
        of_part = rows.iloc[part]
        return self.known.columns_of(of_part["label"], of_part["dataset"])


@dataclass
class Comparison:
    """All that is there to compare, and how.

    Attributes:
        rows: of ``tables.IDENTITY_DATASET``, with ``encounter``.
        vectors: of these.
        classes: individuals that the network learnt.
        pixels: of a row's crop, uint8 (height, width, 3), RGB.
        settings: how.
    """

    rows: pd.DataFrame
    vectors: Vectors
    classes: Sequence[str]
    pixels: Callable[[int], np.ndarray]
    settings: Settings
    fusion: dict[str, Calibration] = field(default_factory=dict)

    def single(self, part: np.ndarray, gallery: np.ndarray) -> "Single":
        """Compare some rows with the individuals of others by each way but ``fused``."""
        queries, held = (Photographs.of(self.rows.iloc[of]) for of in (part, gallery))
        label, dataset = (self.rows[name].to_numpy(dtype=object)[gallery] for name in ("label", "dataset"))
        known = Known.of(label, dataset)
        asked, vectors = self.vectors.embeddings[part], self.vectors.embeddings[gallery]
        rules = self.settings.rules
        pair = (asked, queries, vectors, held, known)
        dataset_of = dict(zip(self.rows["label"], self.rows["dataset"], strict=True))
        learnt = np.array(self.classes, object), np.array([dataset_of[name] for name in self.classes], object)
        found = {
            "softmax": softmax(self.vectors.logits[part], queries, *learnt, known),
            "nearest": nearest(*pair, neighbours=self.settings.neighbours, weights="equal", rules=rules),
            "centroid": centroid(*pair, rules=rules),
        }
        if self.settings.local != "none":
            similar = [similarity for _, similarity, _ in similarities(*pair, rules=rules)]
            listed = np.concatenate([shortlist(each, self.settings.candidates) for each in similar])
            values = self._matched(part, gallery, listed)
            local = of_identities(listed, values, found["nearest"].values > NONE, known)
            found["local"] = Scores(local, found["nearest"].fallback)
        return Single(part, gallery, known, found)

    def _matched(self, part: np.ndarray, gallery: np.ndarray, listed: np.ndarray) -> np.ndarray:
        matcher = local_matcher(Local(matcher=self.settings.local, weights=str(self.settings.weights), **_LOCAL))
        asked, held = (lambda row: self.pixels(int(part[row]))), (lambda row: self.pixels(int(gallery[row])))
        return matched(matcher, asked, held, listed)

    def calibrate(self, single: "Single") -> None:
        """Learn what each way's score says of the probability that it is the same individual."""
        target = single.known.columns_of(*(self.rows[name].iloc[single.part] for name in ("label", "dataset")))
        self.fusion = {
            way: calibration(*validation_pairs(scores.values, target)) for way, scores in single.found.items()
        }

    def ways(self, single: "Single") -> dict[str, Compared]:
        """What each way makes of it; ``fused`` once it is calibrated."""
        values = {way: scores.values for way, scores in single.found.items()}
        fallback = single.found["nearest"].fallback
        if self.fusion:
            sure = {way: self.fusion[way](of_way) for way, of_way in values.items()}
            values["fused"] = fused(sure, dict.fromkeys(sure, 1.0))
        return {
            way: Compared(single.known, of_way, fallback, self._matches(single, of_way))
            for way, of_way in values.items()
        }

    def _matches(self, single: "Single", values: np.ndarray) -> list[str | None]:
        """Keys of the most similar crops of the best individuals, by embedding."""
        _, score = best(values, single.known)
        keys, embeddings = self.rows["key"].to_numpy(dtype=object), self.vectors.embeddings
        found: list[str | None] = []
        for row, of_row, high in zip(single.part, values, score, strict=True):
            of_best = single.gallery[single.known.column == of_row.argmax()] if high > NONE else []
            found.append(keys[of_best[np.argmax(embeddings[of_best] @ embeddings[row])]] if len(of_best) else None)
        return found


@dataclass(frozen=True)
class Single:
    """Rows ``part`` compared with the individuals of rows ``gallery`` by single ways."""

    part: np.ndarray
    gallery: np.ndarray
    known: Known
    found: dict[str, Scores]
