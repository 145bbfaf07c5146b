"""How far the classifier's probabilities can be believed, with a temperature from the validation crops."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from instar.classifier.labels import RANKS
from instar.evaluation.answers import Answers, Logits, Truth, best_of, joined
from instar.metrics.calibration import answered_rank, fitted_temperature, roll_up_curve
from instar.splits import id_hash

if TYPE_CHECKING:
    from instar.classifier.predict import Predictor


#: At which the roll-up is looked at.
THRESHOLDS = np.linspace(0, 1, 101)


def _hashes(observations: Iterable[str]) -> np.ndarray:
    return np.array([id_hash(str(name)) for name in observations], dtype=np.uint64)


class Halves:
    """Two halves of the validation observations: in the order of their hashes, every other one is of the same half.

    So both have the same number of observations, or one has one more, however few there are.

    Args:
        observations: ids of the validation observations, any number of times each.
    """

    def __init__(self, observations: Iterable[str]) -> None:
        self._hashes = np.unique(_hashes(observations))

    def of(self, observations: Iterable[str]) -> np.ndarray:
        """int64, shape (n,), 0 or 1: the half of each observation; one that is not of validation is in either."""
        return np.searchsorted(self._hashes, _hashes(observations)) % 2


@dataclass(frozen=True)
class Temperatures:
    """Fitted on validation.

    Attributes:
        all: on all validation crops: what to use for new crops.
        of_halves: what to judge each half of the observations with, from crops of none of its observations.
        halves: of the validation observations.
    """

    all: float
    of_halves: tuple[float, float]
    halves: Halves

    def of(self, observations: np.ndarray) -> np.ndarray:
        """float64, shape (n,): what to judge crops of these observations with, object (n,)."""
        return np.array(self.of_halves)[self.halves.of(observations)]


#: As the network says it.
UNCALIBRATED = Temperatures(1.0, (1.0, 1.0), Halves([]))


def temperatures(
    predictor: "Predictor", logits: Logits, targets: np.ndarray, observations: np.ndarray, validation: int
) -> Temperatures:
    """The temperature of all validation crops, and those to judge with.

    Where the validation crops themselves are judged, each half of the observations gets the temperature of the other.

    Args:
        predictor: gives node probabilities.
        logits: of the validation crops, then of those that are judged; of the first alone where these are judged.
        targets: int64, class of each of them.
        observations: object, id of each of them.
        validation: number of validation crops.
    """
    of_validation = np.arange(validation)
    whole = _fitted(predictor, logits, targets, of_validation)
    halves = Halves(observations[:validation])
    if len(targets) > validation:
        return Temperatures(whole, (whole, whole), halves)
    half = halves.of(observations)
    first, second = (_fitted(predictor, logits, targets, of_validation[half != number]) for number in (0, 1))
    return Temperatures(whole, (first, second), halves)


def _fitted(predictor: "Predictor", logits: Logits, targets: np.ndarray, rows: np.ndarray) -> float:
    from torch import from_numpy

    def true_probability(temperature: float) -> np.ndarray:
        done, found = 0, [np.empty(0, np.float32)]
        for block in logits.batches(rows):
            nodes = predictor.nodes(from_numpy(block), temperature=temperature).cpu().numpy()
            found.append(nodes[np.arange(len(block)), targets[rows[done : done + len(block)]]])
            done += len(block)
        return np.concatenate(found)

    return fitted_temperature(true_probability)


def answers_at(predictor: "Predictor", logits: Logits, rows: np.ndarray, temperature: np.ndarray) -> Answers:
    """Answers for the crops at ``rows`` of the logits, each at a temperature of its own, float64 (n,)."""
    from torch import from_numpy

    def parts() -> Iterator[Answers]:
        done = 0
        for block in logits.batches(rows):
            scaled = block / temperature[done : done + len(block), None].astype(np.float32)
            yield best_of(predictor.nodes(from_numpy(scaled)).cpu().numpy(), predictor.labels)
            done += len(block)

    return joined(parts(), predictor.labels)


def sureness(found: Answers, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the best class of each rank and whether it is right, of crops whose label says the species.

    Returns:
        float64 and bool, shape (n, 2), species first.
    """
    said = truth.of_rank(RANKS[0]) >= 0
    # no class of a rank, no column: then it is never sure of that rank
    columns = [np.pad(found[rank].probabilities[said], ((0, 0), (0, 1)))[:, 0] for rank in RANKS]
    confidence = np.stack(columns, axis=1)
    right = np.stack([truth.hits(found, rank, 1)[said] for rank in RANKS], axis=1)
    # sums of float32 may exceed 1 a little
    return np.minimum(confidence.astype(np.float64), 1.0), right


def lowest_threshold(confidence: np.ndarray, right: np.ndarray, wanted_accuracy: float) -> float:
    """The lowest threshold at which so many of the answers are right; inf where there is none.

    Args:
        confidence: float64, shape (n, n_ranks), see ``sureness``.
        right: bool, shape (n, n_ranks).
        wanted_accuracy: in [0, 1].
    """
    curve = roll_up_curve(confidence, right, RANKS, thresholds=THRESHOLDS)
    enough = curve.loc[curve["accuracy"] >= wanted_accuracy, "threshold"]
    return float(enough.iloc[0]) if len(enough) else float("inf")


@dataclass(frozen=True)
class Sure:
    """What ``sureness`` says of some crops, and the half that each one's observation is in."""

    confidence: np.ndarray
    right: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, found: Answers, truth: Truth, halves: Halves) -> "Sure":
        """Of crops whose label says the species."""
        said = truth.of_rank(RANKS[0]) >= 0
        return cls(*sureness(found, truth), halves.of(truth.observations[said]))

    def threshold(self, wanted_accuracy: float, without_half: int | None = None) -> float:
        """``lowest_threshold`` of these crops, or of those of the other half."""
        rows = self.half != without_half
        return lowest_threshold(self.confidence[rows], self.right[rows], wanted_accuracy)


def roll_up_at(
    judged: Sure, validated: Sure, wanted_accuracy: float, *, crosswise: bool
) -> tuple[float | None, dict[str, float] | None]:
    """The threshold for new crops, and how often the judged ones get an answer at one that other crops chose.

    Args:
        judged: the crops that are judged.
        validated: those that the threshold is chosen on.
        wanted_accuracy: that it is chosen for.
        crosswise: whether both are the same, so that each half is judged at the threshold of the other.

    Returns:
        The threshold of all validation crops, None where none does it; and ``coverage``, ``accuracy`` and the share
        answered at each rank, None where no judged crop has an answer. A half for which the other half's crops choose
        no threshold has none.
    """
    whole = validated.threshold(wanted_accuracy)
    if not np.isfinite(whole):
        return None, None
    of_half = np.array([validated.threshold(wanted_accuracy, half) if crosswise else whole for half in (0, 1)])
    rank = answered_rank(judged.confidence, of_half[judged.half][:, None])
    answered = np.flatnonzero(rank >= 0)
    if not len(answered):
        return whole, None
    shares = np.bincount(rank[answered], minlength=len(RANKS)) / len(rank)
    accuracy = float(judged.right[answered, rank[answered]].mean())
    figures = {"coverage": float(shares.sum()), "accuracy": accuracy}
    return whole, figures | dict(zip(RANKS, shares.tolist(), strict=True))
