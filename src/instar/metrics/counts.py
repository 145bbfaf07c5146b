"""How well one count follows another: the regression line and the errors from the 1:1 line."""

from typing import Any

import numpy as np


def count_agreement(known: np.ndarray, counted: np.ndarray) -> dict[str, Any]:
    """Least squares of what was counted on what is known, and how far the counts lie from the 1:1 line.

    Args:
        known: shape (n,), such as annotated animals of each photograph.
        counted: shape (n,), of the same photographs.

    Returns:
        ``n``; ``slope``, ``intercept`` and ``r2`` of the line, None where the known counts do not differ (``r2`` also
        where the others do not); ``bias``, the mean of counted less known; ``mae``, the mean of its size; ``mape``, the
        mean of its size by the known count, over those above 0. None where nothing is left to take a mean of.
    """
    known, counted = np.asarray(known, np.float64), np.asarray(counted, np.float64)
    error = counted - known
    some = known > 0
    return {
        "n": len(known),
        **dict(zip(("slope", "intercept", "r2"), _line(known, counted), strict=True)),
        "bias": _mean(error),
        "mae": _mean(np.abs(error)),
        "mape": _mean(np.abs(error[some]) / known[some]),
    }


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None, float | None]:
    if len(x) < 2 or x.min() == x.max():
        return None, None, None
    across, up = x - x.mean(), y - y.mean()
    slope = float(across @ up / (across @ across))
    r2 = None if y.min() == y.max() else float((across @ up) ** 2 / ((across @ across) * (up @ up)))
    return slope, float(y.mean() - slope * x.mean()), r2


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
