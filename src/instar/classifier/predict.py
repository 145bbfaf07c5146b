"""What a trained classifier says of pixels and places."""

from pathlib import Path

import torch

from instar.classifier.losses import NodeProbabilities
from instar.classifier.model import load
from instar.classifier.network import unit
from instar.errors import InputError


class Predictor:
    """A trained classifier on the best device there is.

    Args:
        folder: with the weights and their description.
        image_px: side of the views; that of training if None. A backbone of one fixed size has its position
            embeddings interpolated.

    Raises:
        InputError: if the files are missing, damaged or do not fit each other, or the model can't take the size.
    """

    def __init__(self, folder: Path, *, image_px: int | None = None) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network, self.description = load(folder)
        self.labels = self.description.labels
        self.image_px = image_px or self.description.image_px
        if self.image_px != self.description.image_px:
            try:
                self.network.resize(self.image_px)
            except (AssertionError, ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{self.description.model} can't take {self.image_px} px ({reason}); choose a multiple of its patch"
                ) from None
        self.network.to(self.device)
        self._nodes = NodeProbabilities(self.labels, self.description.loss).to(self.device)

    def logits(self, pixels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """float32 (n, n_outputs), on the device.

        Args:
            pixels: uint8, shape (n, 3, px, px), RGB.
            places: float32, shape (n, 2), latitude and longitude in degrees; NaN where unknown. A classifier that was
                trained without places takes no notice.
        """
        with torch.inference_mode():
            normalised = self.description.normalise(pixels.to(self.device))
            logits: torch.Tensor = self.network(normalised, self.description.heeded(places).to(self.device))
            return logits.float()

    def embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """What individuals are compared by, float32 (n, width), each of length 1, on the device.

        Args:
            pixels: uint8, shape (n, 3, px, px), RGB.
        """
        with torch.inference_mode():
            return self.network.embed(self.description.normalise(pixels.to(self.device)))

    def embedded(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``embeddings`` and the logits without a place, float32 (n, n_outputs), in one pass through the backbone."""
        with torch.inference_mode():
            vectors = self.network.embedding(self.network.backbone(self.description.normalise(pixels.to(self.device))))
            nowhere = torch.full((len(pixels), 2), torch.nan, device=self.device)
            return unit(vectors), self.network.classify_embedded(vectors, nowhere).float()

    def nodes(self, logits: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
        """Probability of every class with all that belongs to it, float32 (n, n_classes) in [0, 1]."""
        with torch.inference_mode():
            probabilities: torch.Tensor = self._nodes(logits.to(self.device) / temperature)
            return probabilities

    def probabilities(self, pixels: torch.Tensor, places: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
        """``nodes`` of ``logits``."""
        return self.nodes(self.logits(pixels, places), temperature=temperature)
