"""What the network makes of crops of individuals, by which these are compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from instar.errors import InputError
from instar.reid.scores import unit, with_flips

if TYPE_CHECKING:
    import torch

    from instar.classifier.predict import Predictor


#: What to do where there is none that photographs can be compared by.
REMEDY = "its training diverged, or its weights are damaged: lower classifier.learning_rate and run classifier again"


def embedded(
    predictor: "Predictor", pixels: "torch.Tensor", names: Sequence[str], *, flips: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of crops and their logits, in the stage evaluation as for photographs that come later.

    Args:
        predictor: the trained classifier.
        pixels: uint8, shape (n, 3, px, px), RGB.
        names: of the crops or photographs, for what is told of them.
        flips: of a photograph and of its mirror image together.

    Returns:
        float32, shape (n, width), each of length 1, or 0 where the network says nothing of it, and float32, shape
        (n, n_classes).

    Raises:
        InputError: if one is not finite.
    """
    views = [pixels, pixels.flip(3)] if flips else [pixels]
    found = [tuple(each.cpu().numpy() for each in predictor.embedded(view)) for view in views]
    for each in (each for both in found for each in both):
        if len(bad := np.flatnonzero(~np.isfinite(each).all(axis=1))):
            raise InputError(f"{names[bad[0]]}: what the classifier makes of it is not finite; {REMEDY}")
    embeddings = with_flips(found[0][0], found[1][0]) if flips else unit(found[0][0])
    return embeddings, np.mean([logits for _, logits in found], axis=0)
