"""What a classifier of taxa says of crops, with and without their samples' barcodes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from instar.classifier.labels import targets_of
from instar.evaluation.answers import pixels_of
from instar.evaluation.barcoded import allowed
from instar.lineages import read_lineages
from instar.metrics.calibration import fitted_temperature

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.predict import Predictor


@dataclass(frozen=True)
class Answered:
    """What the classifier says of crops.

    Attributes:
        labels: the classes.
        nodes: float32, shape (n, n_classes), calibrated probability of every class.
        restricted: the same where a sample's barcodes leave out the other classes.
        outputs: float32, shape (n, n_outputs), what ``restricted`` is the sum of.
        classes: int64, shape (n_outputs,), the class of each output.
        is_restricted: bool, shape (n,), whether they left out something.
    """

    labels: "LabelSpace"
    nodes: np.ndarray
    restricted: np.ndarray
    outputs: np.ndarray
    classes: np.ndarray
    is_restricted: np.ndarray

    def best(self, rank: str, *, restricted: bool) -> tuple[np.ndarray, np.ndarray]:
        """The answer at a rank, int64 (n,), -1 where the path has none, and its probability, float32, then 0."""
        of_rank = self.labels.of_rank(rank)
        on_path = self.path(restricted=restricted)[:, of_rank]
        if not len(of_rank):
            return np.full(len(on_path), -1), np.zeros(len(on_path), np.float32)
        scores = (self.restricted if restricted else self.nodes)[:, of_rank]
        found = np.where(on_path.any(axis=1), of_rank[on_path.argmax(axis=1)], -1)
        return found, np.where(on_path, scores, 0).max(axis=1)

    def path(self, *, restricted: bool) -> np.ndarray:
        """The classes that each crop is answered to be of: bool, shape (n, n_classes).

        As in a key, from the top: the most probable of the classes that belong to no other, then the most probable of
        those that belong to it, down to one that none belongs to, or none that is possible. So the answers of two ranks
        can't contradict each other.
        """
        scores = self.restricted if restricted else self.nodes
        parents = np.array(self.labels.parents)
        found = np.zeros(scores.shape, bool)
        below = [(-1, np.arange(len(scores)))]
        while below:
            node, rows = below.pop()
            children = np.flatnonzero(parents == node)
            if not len(children) or not len(rows):
                continue
            best = children[scores[np.ix_(rows, children)].argmax(axis=1)]
            possible = scores[rows, best] > 0
            found[rows[possible], best[possible]] = True
            below += [(child, rows[possible & (best == child)]) for child in np.unique(best[possible]).tolist()]
        return found


def logits_of(predictor: "Predictor", crops: Path, rows: pd.DataFrame) -> np.ndarray:
    """What the network says of crops: float32, shape (n, n_outputs)."""
    from torch import from_numpy

    from instar.classifier.data import places_of

    places = places_of(rows)
    parts = [np.zeros((0, len(targets_of(predictor.labels, predictor.description.loss).outputs)), np.float32)]
    for part, pixels in pixels_of(predictor, crops, rows, "evaluation"):
        parts.append(predictor.logits(pixels, from_numpy(places[part])).cpu().numpy())
    return np.concatenate(parts)


def _nodes(predictor: "Predictor", logits: np.ndarray, temperature: float) -> np.ndarray:
    from torch import from_numpy

    return np.asarray(predictor.nodes(from_numpy(logits), temperature=temperature).cpu().numpy())


def temperature_of(predictor: "Predictor", logits: np.ndarray, labels: "LabelSpace", names: "pd.Series[str]") -> float:
    """That of validation; 1 where it has no crop."""
    targets = labels.targets(names)
    at = np.arange(len(targets))
    return fitted_temperature(lambda temperature: _nodes(predictor, logits, temperature)[at, targets])


def answered_of(
    predictor: "Predictor",
    logits: np.ndarray,
    temperature: float,
    samples: "pd.Series[str]",
    lists: dict[str, set[str]],
    taxonomy: Path,
) -> Answered:
    """Probabilities of crops, with and without their samples' barcodes.

    Args:
        predictor: the classifier.
        logits: float32, shape (n, n_outputs), of the crops.
        temperature: that they are divided by.
        samples: of the crops.
        lists: ids of the taxa that were barcoded in each sample; one without a list is not restricted.
        taxonomy: table of the taxa.
    """
    labels, lineages = predictor.labels, read_lineages(taxonomy)
    outputs = targets_of(labels, predictor.description.loss).outputs
    stays = np.ones(logits.shape, bool)
    for sample in set(samples) & set(lists):
        stays[(samples == sample).to_numpy()] = allowed(labels, outputs, lineages, lists[sample])
    masked = np.where(stays, logits, -np.inf).astype(np.float32)
    shifted = np.exp((masked - masked.max(axis=1, keepdims=True, initial=-np.inf)) / temperature)
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    nodes, restricted = (_nodes(predictor, each, temperature) for each in (logits, masked))
    return Answered(labels, nodes, restricted, probabilities, outputs, np.asarray(~stays.all(axis=1)))
