"""Class weights for a long tail."""

import numpy as np


def effective_number_weights(counts: np.ndarray, *, beta: float, max_weight: float) -> np.ndarray:
    """Class weights by the effective number of samples, 1 / E_n (Cui et al. 2019, section 3).

    Args:
        counts: int64, shape (n_classes,), photographs of each class, at least 1.
        beta: in [0, 1); 0 gives equal weights, towards 1 the inverse frequency.
        max_weight: at least 1; no weight exceeds this multiple of the smallest.

    Returns:
        float64, shape (n_classes,), mean 1.

    Raises:
        ValueError: if a count is below 1, or ``beta`` or ``max_weight`` is out of range.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta = {beta} must be in [0, 1)")
    if not max_weight >= 1:
        raise ValueError(f"max_weight = {max_weight} must be at least 1")
    if len(counts) == 0:
        return np.empty(0)
    if (counts < 1).any():
        raise ValueError(f"class {np.argmin(counts)} has {counts.min()} photographs; each must have at least 1")
    with np.errstate(divide="ignore"):  # log(0) is -inf, which gives E_n = 1 as it should
        effective = -np.expm1(counts * np.log(beta)) / (1 - beta)  # (1 - beta^n) / (1 - beta) without cancellation
    weights = np.minimum(1 / effective, max_weight / effective.max())
    return np.asarray(weights / weights.mean())
