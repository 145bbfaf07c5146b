"""The ways to tell how alike a photograph is to each known individual, side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instar.evaluation.calibrated import Halves
from instar.metrics import openset
from instar.reid.answering import WITHOUT_LOCAL
from instar.reid.fusion import Calibration, calibration, fused, validation_pairs
from instar.reid.local import Local, Matcher, local_matcher, matched, of_identities, shortlist
from instar.reid.photographs import Known, Photographs
from instar.reid.scores import NONE, Rules, Scores, best, centroid, nearest, similarities, softmax

#: Of local features; sizes near those that SuperPoint learnt from.
_LOCAL: dict[str, Any] = {"geometry": "homography", "image_px": 512, "keypoints": 1024}
_LOCAL |= {"ratio": 0.8, "tolerance_px": 8.0, "least_score": 0.2}


@dataclass(frozen=True)
class Settings:
    """How photographs are compared; fields are keys of the section ``evaluation``.

    Attributes:
        neighbours: most similar photographs of an individual that nearest averages.
        flips: compare photographs and their mirror images together.
        sides: do not compare photographs of opposite sides.
        local: none, sift or lightglue.
        local_candidates: photographs, most similar first, that local features are matched with.
        local_weights: folder of LightGlue's weights.
    """

    neighbours: int
    flips: bool
    sides: bool
    local: str
    local_candidates: int
    local_weights: Path | str

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> "Settings":
        """From the section, which has more keys."""
        return cls(**{key.name: section[key.name] for key in fields(cls)})

    @property
    def rules(self) -> Rules:
        """Which photographs a query is compared with."""
        return Rules(orientation=self.sides)

    def matcher(self) -> Matcher | None:
        """Of local features; None where these are not asked for.

        Raises:
            InputError: if the folder of weights is missing or holds another model.
        """
        if self.local == "none":
            return None
        return local_matcher(Local(matcher=self.local, weights=str(self.local_weights), **_LOCAL))


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
        left_out: float32, shape (n, n_identities): the same if each one's own individual were not known.
        of_half: where each half of the photographs is fused by what the other half says of the ways: by half, all of
            them by that.
        of_all: likewise: all of them by what all say of the ways, as photographs that come later are fused; None where
            there are few pairs.
    """

    known: Known
    values: np.ndarray
    fallback: np.ndarray
    match: list[str | None]
    left_out: np.ndarray
    of_half: Mapping[int, "Compared"] = field(default_factory=dict)
    of_all: "Compared | None" = None

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

    def answers(self, rows: pd.DataFrame, part: np.ndarray, thresholds: Mapping[str, float]) -> np.ndarray:
        """object, shape (n,): the best individual of each, or ``NEW_INDIVIDUAL``, by the thresholds of data sets."""
        identity, score = best(self.values, self.known)
        return openset.answers(identity, score, rows["dataset"].to_numpy(dtype=object)[part], thresholds)


@dataclass
class Comparison:
    """All that is there to compare, and how.

    Attributes:
        rows: of ``tables.IDENTITY_DATASET``, with ``encounter``.
        vectors: of these.
        classes: individuals that the network learnt.
        pixels: of a row's crop, uint8 (height, width, 3), RGB.
        settings: how.
        matcher: of ``settings``.
    """

    rows: pd.DataFrame
    vectors: Vectors
    classes: Sequence[str]
    pixels: Callable[[int], np.ndarray]
    settings: Settings
    matcher: Matcher | None
    fusion: dict[str, Calibration] = field(default_factory=dict)

    @property
    def class_datasets(self) -> dict[str, str]:
        """The data set of each individual that the network learnt, in the order of its logits."""
        dataset_of = dict(zip(self.rows["label"], self.rows["dataset"], strict=True))
        return {name: dataset_of[name] for name in self.classes}

    def single(self, part: np.ndarray, gallery: np.ndarray) -> "Single":
        """Compare some rows with the individuals of others by each way but ``fused``."""
        queries, held = (Photographs.of(self.rows.iloc[of]) for of in (part, gallery))
        label, dataset = (self.rows[name].to_numpy(dtype=object)[gallery] for name in ("label", "dataset"))
        known = Known.of(label, dataset)
        asked, vectors = self.vectors.embeddings[part], self.vectors.embeddings[gallery]
        rules = self.settings.rules
        pair = (asked, queries, vectors, held, known)
        learnt = np.array(self.classes, object), np.array(list(self.class_datasets.values()), object)
        found = {
            "softmax": softmax(self.vectors.logits[part], queries, *learnt, known),
            "nearest": nearest(*pair, neighbours=self.settings.neighbours, weights="equal", rules=rules),
            "centroid": centroid(*pair, rules=rules),
        }
        if self.matcher is not None:
            candidates = self.settings.local_candidates
            similar = similarities(*pair, rules=rules)
            listed = np.concatenate([shortlist(similarity, candidates) for _, similarity, _ in similar])
            values = self._matched(self.matcher, part, gallery, listed)
            local = of_identities(listed, values, found["nearest"].values > NONE, known)
            found["local"] = Scores(local, found["nearest"].fallback)
        return Single(part, gallery, known, found)

    def _matched(self, matcher: Matcher, part: np.ndarray, gallery: np.ndarray, listed: np.ndarray) -> np.ndarray:
        asked, held = (lambda row: self.pixels(int(part[row]))), (lambda row: self.pixels(int(gallery[row])))
        return matched(matcher, asked, held, listed)

    def calibrate(self, single: "Single") -> None:
        """Learn what each way's score says of the probability that it is the same individual."""
        self.fusion = single.calibrations(self.rows)

    def ways(self, single: "Single", half: np.ndarray | None = None) -> dict[str, Compared]:
        """What each way makes of it; ``fused`` once it is calibrated, see ``Single.fused`` for ``half``."""
        left_out, fallback = single.left_out(self.rows), single.found["nearest"].fallback
        found = {
            way: Compared(single.known, scores.values, fallback, [], left_out[way])
            for way, scores in single.found.items()
        }
        if self.fusion:
            found["fused"] = single.fused(self.rows, left_out, self.fusion, half)
        if self.fusion and "local" in single.found:
            found[WITHOUT_LOCAL] = single.without("local").fused(self.rows, left_out, self.fusion, half)
        return {
            way: replace(one, fallback=fallback, match=self._matches(single, one.values)) for way, one in found.items()
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

    def without(self, way: str) -> "Single":
        """The same without one of the ways."""
        return replace(self, found={name: scores for name, scores in self.found.items() if name != way})

    def left_out(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """What each way would say if the own individual of each photograph were not known.

        Probabilities are shared out among the others, as a softmax without that class would. Local features were
        matched with a shortlist that holds photographs of the own one, so that fewer of others were looked at.
        """
        target = self._targets(rows)
        there = np.flatnonzero(target >= 0)
        found = {}
        for way, scores in self.found.items():
            values = scores.values.copy()
            own = values[there, target[there]].astype(np.float64)
            values[there, target[there]] = NONE
            if way.endswith("softmax"):
                rest = np.where(own > NONE, 1 - own, 1.0)[:, None]
                candidates = (values[there] > NONE).sum(axis=1, keepdims=True)
                # where all went to the own one the others are alike
                even = np.where(values[there] > NONE, 1 / np.maximum(candidates, 1), NONE)
                values[there] = np.where(rest > 1e-6, values[there] / np.maximum(rest, 1e-6), even)
            found[way] = values
        return found

    def calibrations(self, rows: pd.DataFrame) -> dict[str, Calibration]:
        """What each way's score says of the probability that it is the same individual.

        Raises:
            InputError: if no photograph has a candidate.
        """
        target = self._targets(rows)
        return self._calibrations(target, np.ones(len(target), bool))

    def _calibrations(self, target: np.ndarray, chosen: np.ndarray) -> dict[str, Calibration]:
        """By some of the photographs, bool, shape (n,)."""
        return {
            way: calibration(*validation_pairs(scores.values[chosen], target[chosen]))
            for way, scores in self.found.items()
        }

    def fused(
        self,
        rows: pd.DataFrame,
        left_out: Mapping[str, np.ndarray],
        fusion: Mapping[str, Calibration],
        half: np.ndarray | None,
    ) -> Compared:
        """The mean of the ways' probabilities, without ``match`` and with the ``fallback`` of the first way.

        Args:
            rows: of ``tables.IDENTITY_DATASET``.
            left_out: of each way and perhaps others, see ``left_out``.
            fusion: of each way.
            half: int64, shape (n,): where given, each half of the photographs is fused by what the other half says of
                the ways instead, as long as that half has pairs.
        """
        of_all = self._fused(left_out, fusion)
        if half is None:
            return of_all
        target = self._targets(rows)
        of_half = {}
        values, without_own = of_all.values.copy(), of_all.left_out.copy()
        for part in np.unique(half).tolist():
            mine = half == part
            own = self._calibrations(target, ~mine) if (target[~mine] >= 0).any() else fusion
            of_half[part] = self._fused(left_out, own)
            values[mine], without_own[mine] = of_half[part].values[mine], of_half[part].left_out[mine]
        # by their own few pairs known and new ones would look further apart than later photographs are
        few = any(fusion[way].few for way in self.found)
        return replace(of_all, values=values, left_out=without_own, of_half=of_half, of_all=None if few else of_all)

    def _fused(self, left_out: Mapping[str, np.ndarray], fusion: Mapping[str, Calibration]) -> Compared:
        values = _mean({way: scores.values for way, scores in self.found.items()}, fusion)
        without_own = _mean({way: left_out[way] for way in self.found}, fusion)
        fallback = next(iter(self.found.values())).fallback
        return Compared(self.known, values, fallback, [], without_own)

    def _targets(self, rows: pd.DataFrame) -> np.ndarray:
        return self.known.columns_of(*(rows[name].iloc[self.part] for name in ("label", "dataset")))


def _mean(values: Mapping[str, np.ndarray], fusion: Mapping[str, Calibration]) -> np.ndarray:
    sure = {way: fusion[way](of_way) for way, of_way in values.items()}
    return fused(sure, dict.fromkeys(sure, 1.0))


def halves(rows: pd.DataFrame, part: np.ndarray) -> np.ndarray:
    """Halves of photographs by individual, within each data set and within known and new ones, int64, shape (n,)."""
    of_part = rows.iloc[part]
    found = np.zeros(len(part), np.int64)
    for _, places in of_part.reset_index(drop=True).groupby(["dataset", "is_new"], dropna=False).indices.items():
        names = of_part["label"].iloc[places]
        found[places] = Halves(names).of(names)
    return found
