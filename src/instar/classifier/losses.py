"""Losses on a batch of logits."""

import torch
from torch.nn.functional import cross_entropy


def balanced_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor, *, smoothing: float
) -> torch.Tensor:
    """Cross-entropy in which each sample weighs what its class does (Cui et al. 2019, equation 8).

    The sum is divided by the number of samples. ``weight=`` of PyTorch's own divides by the sum of the batch's weights,
    which takes a rare class's weight away again where the batch is small.

    Args:
        logits: shape (n, n_classes).
        targets: int64, shape (n,), indices of classes.
        class_weights: shape (n_classes,).
        smoothing: in [0, 1), share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).

    Returns:
        A scalar.
    """
    each = cross_entropy(logits.float(), targets, label_smoothing=smoothing, reduction="none")
    return (each * class_weights[targets]).mean()
