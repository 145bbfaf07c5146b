"""What a gallery is asked by: the ways, calibrations and thresholds that the stage ``evaluation`` found.

They lie beside the embeddings, in ``answers.json``, so that photographs which come later are answered as the study's
own queries were.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from instar.errors import InputError
from instar.reid.fusion import Calibration, fused
from instar.reid.gallery import Gallery
from instar.reid.photographs import Photographs
from instar.reid.scores import NONE, Rules, centroid, nearest, softmax
from instar.tables import NEW_INDIVIDUAL

#: In a gallery's folder.
ANSWERS = "answers.json"
#: Ways that a gallery can be asked by; ``local`` needs the photographs themselves, which it does not hold.
WAYS = ("softmax", "nearest", "centroid", "fused")
SINGLE = WAYS[:3]
#: The way ``fused`` without local features: what a gallery answers by where the study has these, too.
WITHOUT_LOCAL = "fused without local"


@dataclass(frozen=True)
class Answering:
    """How photographs are compared with a gallery.

    Attributes:
        answer_by: the way whose scores answer.
        neighbours: most similar photographs of an individual that nearest averages.
        flips: photographs and their mirror images are compared together, in the gallery, too.
        sides: photographs of opposite sides are not compared.
        classes: data set of each individual that the network learnt, in the order of its logits.
        calibrations: of each single way, what its score says of the probability of "the same individual".
        thresholds: of each way and data set, the least score of an individual that is believed.
    """

    answer_by: str
    neighbours: int
    flips: bool
    sides: bool
    classes: Mapping[str, str]
    calibrations: Mapping[str, Calibration]
    thresholds: Mapping[str, Mapping[str, float]]

    @property
    def way(self) -> str:
        """``answer_by``, or ``nearest`` where that takes the photographs themselves."""
        return self.answer_by if self.answer_by in WAYS else "nearest"

    def asked(self, way: str | None) -> "Answering":
        """The same by another way; None changes nothing."""
        return replace(self, answer_by=way) if way else self

    def told(self) -> dict[str, Any]:
        """For ``answers.json``."""
        return asdict(self)

    def threshold(self, dataset: str) -> float:
        """Of a data set; of one that was never judged the mean of the others, inf where there is none."""
        of_way = self.thresholds.get(self.way, {})
        if self.way == "fused":
            # scores that local features take part in are higher: their threshold would make all of these new
            of_way = self.thresholds.get(WITHOUT_LOCAL, of_way)
        if dataset in of_way:
            return of_way[dataset]
        return float(np.mean(list(of_way.values()))) if of_way else float("inf")

    def values(
        self, embeddings: np.ndarray, logits: np.ndarray, gallery: Gallery, datasets: list[str], side: str | None
    ) -> np.ndarray:
        """How alike photographs are to each individual of a gallery.

        Args:
            embeddings: float32, shape (n, width), of length 1.
            logits: float32, shape (n, n_classes).
            gallery: to be compared with.
            datasets: that they may be of; softmax is among the individuals of each by itself.
            side: that they show; None where it is not told.

        Returns:
            float32, shape (n, n_identities), -inf for individuals of other data sets.
        """
        found = np.full((len(embeddings), len(gallery.known)), NONE)
        for dataset in datasets:
            queries = _queries(len(found), dataset, side)
            found = np.maximum(found, self._of_dataset(embeddings, logits, gallery, queries))
        return found

    def _of_dataset(
        self, embeddings: np.ndarray, logits: np.ndarray, gallery: Gallery, queries: Photographs
    ) -> np.ndarray:
        ways = [way for way in SINGLE if way in self.calibrations] if self.way == "fused" else [self.way]
        found = {way: self._single(way, embeddings, logits, gallery, queries) for way in ways}
        if self.way != "fused":
            return found[self.way]
        sure = {way: self.calibrations[way](values) for way, values in found.items()}
        return fused(sure, dict.fromkeys(sure, 1.0))

    def _single(
        self, way: str, embeddings: np.ndarray, logits: np.ndarray, gallery: Gallery, queries: Photographs
    ) -> np.ndarray:
        if way == "softmax":
            classes, datasets = np.array(list(self.classes), object), np.array(list(self.classes.values()), object)
            return softmax(logits, queries, classes, datasets, gallery.known).values
        pair = embeddings, queries, gallery.embeddings, gallery.photographs, gallery.known
        rules = Rules(orientation=self.sides)
        if way == "centroid":
            return centroid(*pair, rules=rules).values
        return nearest(*pair, neighbours=self.neighbours, weights="equal", rules=rules).values

    def answers(self, values: np.ndarray, gallery: Gallery, threshold: float | None) -> np.ndarray:
        """Columns of the best individuals that reach the thresholds of their data sets, int64 (n,); -1 for a new one.

        Args:
            values: see ``values``.
            gallery: of the individuals.
            threshold: of all data sets; None for what evaluation found.
        """
        if not values.shape[1]:
            return np.full(len(values), -1, np.int64)
        # in float64, see openset.answers
        reached = np.where(values >= self.thresholds_of(gallery, threshold), values.astype(np.float64), NONE)
        best = reached.argmax(axis=1)
        return np.where(reached[np.arange(len(best)), best] > NONE, best, -1)

    def thresholds_of(self, gallery: Gallery, threshold: float | None) -> np.ndarray:
        """float64, shape (n_identities,): the threshold of each individual's data set, or the one that is asked for."""
        names = gallery.known.dataset
        of_name = {name: self.threshold(name) if threshold is None else threshold for name in set(names)}
        return np.array([of_name[name] for name in names], np.float64)


def _queries(count: int, dataset: str, side: str | None) -> Photographs:
    """Photographs that are in no gallery: each its own encounter."""
    from instar.reid.orientation import sides

    nobody = np.full(count, "", object)
    return Photographs(nobody, np.full(count, dataset, object), nobody, sides([side] * count))


def named(columns: np.ndarray, gallery: Gallery) -> list[str]:
    """The individuals of columns, ``NEW_INDIVIDUAL`` for -1."""
    return [str(gallery.known.identity[column]) if column >= 0 else NEW_INDIVIDUAL for column in columns]


def read_answering(gallery: Path) -> Answering:
    """What the stage ``evaluation`` wrote into a gallery.

    Raises:
        InputError: if it is missing or damaged.
    """
    path = gallery / ANSWERS
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        calibrations = {way: Calibration(**told) for way, told in given.pop("calibrations").items()}
        return Answering(**given, calibrations=calibrations)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; run the stage evaluation of a study of individuals") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not what evaluation writes there ({error!r}); make the gallery again") from None
