"""What the network makes of crops of individuals, by which these are compared."""

from typing import TYPE_CHECKING

import numpy as np

from instar.reid.scores import unit, with_flips

if TYPE_CHECKING:
    import torch

    from instar.classifier.predict import Predictor


def embedded(predictor: "Predictor", pixels: "torch.Tensor", *, flips: bool) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of crops and their logits, in the stage evaluation as for photographs that come later.

    Args:
        predictor: the trained classifier.
        pixels: uint8, shape (n, 3, px, px), RGB.
        flips: of a photograph and of its mirror image together.

    Returns:
        float32, shape (n, width), each of length 1, and float32, shape (n, n_classes).
    """
    views = [pixels, pixels.flip(3)] if flips else [pixels]
    found = [tuple(each.cpu().numpy() for each in predictor.embedded(view)) for view in views]
    embeddings = with_flips(found[0][0], found[1][0]) if flips else unit(found[0][0])
    return embeddings, np.mean([logits for _, logits in found], axis=0)
