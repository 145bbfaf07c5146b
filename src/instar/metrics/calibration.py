"""How far a probability can be believed: temperature, reliability, and answers at the lowest rank that is sure."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

#: Temperatures that are tried; beyond them a classifier says nothing or is always certain.
TEMPERATURES = (0.05, 20.0)
BINS = 15
#: A probability of 0 counts as this one, so that one wrong certainty costs much and not everything.
SMALLEST = 1e-12


def fitted_temperature(true_probability: Callable[[float], np.ndarray]) -> float:
    """The temperature whose probabilities have the least negative log-likelihood (Guo et al. 2017, section 4.2).

    Args:
        true_probability: gives for a temperature the probability of each sample's true class, float, shape (n,),
            for instance that of a genus for a crop labelled so.

    Returns:
        Within ``TEMPERATURES``; 1, which changes nothing, where there is no sample.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    if len(true_probability(1.0)) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(true_probability(float(np.exp(log_temperature))))

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x))


def negative_log_likelihood(true_probabilities: np.ndarray) -> float:
    """Mean of -log p over the probabilities of the true classes, float, shape (n,), n at least 1."""
    return float(-np.log(np.maximum(true_probabilities.astype(np.float64), SMALLEST)).mean())


def reliability_curve(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> pd.DataFrame:
    """How often answers of about the same confidence are right (Niculescu-Mizil & Caruana 2005).

    Args:
        confidence: shape (n,), probability of each answer, in [0, 1].
        right: bool, shape (n,).
        bins: of equal width; a value between two belongs to the upper one, 1 to the last.

    Returns:
        One row per bin that holds an answer: its ``low`` and ``high``, the ``count`` of answers, their mean
        ``confidence`` and their ``accuracy``.
    """
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    divisor = np.maximum(count, 1)
    table = pd.DataFrame(
        {
            "low": np.arange(bins) / bins,
            "high": np.arange(1, bins + 1) / bins,
            "count": count,
            "confidence": np.bincount(index, confidence, bins) / divisor,
            "accuracy": np.bincount(index, right, bins) / divisor,
        }
    )
    return table[table["count"] > 0].reset_index(drop=True)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over the bins of ``reliability_curve``, weighed by their counts.

    Returns:
        In [0, 1] (Guo et al. 2017, equation 3); NaN where there is no answer.
    """
    if len(confidence) == 0:
        return float("nan")
    curve = reliability_curve(confidence, right, bins=bins)
    return float(np.average(np.abs(curve["accuracy"] - curve["confidence"]), weights=curve["count"]))


def answered_rank(confidence: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """The lowest rank whose best class is at least this probable.

    Args:
        confidence: shape (n, n_ranks), probability of the best class of each rank, the lowest rank first.
        threshold: in [0, 1]; or shape (n, 1), one for each sample.

    Returns:
        int64, shape (n,), index of the rank; -1 where none is sure enough, so that there is no answer.
    """
    clears = confidence >= threshold
    return np.where(clears.any(axis=1), clears.argmax(axis=1), -1)


def roll_up_curve(
    confidence: np.ndarray, right: np.ndarray, ranks: Sequence[str], *, thresholds: np.ndarray
) -> pd.DataFrame:
    """Accuracy against coverage when each sample is answered at the lowest rank that clears a threshold.

    Args:
        confidence: shape (n, n_ranks), probability of the best class of each rank, the lowest rank first.
        right: bool, shape (n, n_ranks), whether that class is the true one or an ancestor of it.
        ranks: their names, such as species and genus.
        thresholds: shape (t,), in [0, 1].

    Returns:
        One row per threshold: ``threshold``, ``coverage`` (the share answered at all), ``accuracy`` of the answers,
        NaN where there is none, and for each rank the share answered there, under its name.
    """
    samples = max(len(confidence), 1)
    rows = []
    for threshold in thresholds:
        rank = answered_rank(confidence, float(threshold))
        answered = np.flatnonzero(rank >= 0)
        shares = np.bincount(rank[answered], minlength=len(ranks)) / samples
        accuracy = right[answered, rank[answered]].mean() if len(answered) else np.nan
        rows.append((threshold, len(answered) / samples, accuracy, *shares))
    return pd.DataFrame(rows, columns=["threshold", "coverage", "accuracy", *ranks])
