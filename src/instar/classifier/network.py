"""The network: a timm backbone, an embedding, a head, and the place beside it."""

from typing import Any

import torch
from timm.optim import param_groups_layer_decay

from instar.classifier.place import WIDTH, PlaceEncoder


class Network(torch.nn.Module):
    """Logits from pixels and places.

    ``late``: the place moves the logits and never the visual features, so that the network sees the same without a
    place. ``fused``: it scales and shifts the features (FiLM, Perez et al. 2018); kept for comparison. Both start
    without any effect.

    Args:
        backbone: maps pixels to features (n, ``backbone.num_features``).
        outputs: how many logits.
        place: none, late or fused.
        embedding: width of a linear layer between backbone and head; 0 for none, which leaves the features.
        scale: logits are the cosines between a crop and each class times this; 0 for a linear head.
    """

    def __init__(
        self, backbone: torch.nn.Module, outputs: int, *, place: str, embedding: int = 0, scale: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone, self.place = backbone, place
        width = int(getattr(backbone, "num_features"))  # noqa: B009 - timm's models have it, Module does not say so
        self.embedding = torch.nn.Linear(width, embedding) if embedding else torch.nn.Identity()
        width = embedding or width
        self.head = CosineHead(width, outputs, scale=scale) if scale else torch.nn.Linear(width, outputs)
        if place != "none":
            self.encoder = PlaceEncoder()
            self.effect = torch.nn.Linear(WIDTH, outputs if place == "late" else 2 * width)
            torch.nn.init.zeros_(self.effect.weight)
            torch.nn.init.zeros_(self.effect.bias)

    def forward(self, pixels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs) of normalised pixels (n, 3, px, px) and places (n, 2), degrees, NaN where unknown."""
        return self.classify(self.backbone(pixels), places)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """What individuals are compared by, float32 (n, width), each of length 1, of normalised pixels."""
        return unit(self.embedding(self.backbone(pixels)))

    def classify(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits of the backbone's features (n, width)."""
        return self.classify_embedded(self.embedding(features), places)

    def classify_embedded(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits of what comes out of ``embedding``."""
        if self.place == "none":
            return self._head(features)
        effect = self.effect(self.encoder(places))
        if self.place == "late":
            return self._head(features) + effect
        scale, shift = effect.chunk(2, dim=1)
        return self._head(features * (1 + scale) + shift)

    def _head(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(features)
        return logits

    def resize(self, image_px: int) -> None:
        """Make a backbone of one fixed input size take another; its position embeddings are interpolated."""
        backbone: Any = self.backbone
        if hasattr(backbone, "set_input_size"):
            backbone.set_input_size(img_size=image_px)


class CosineHead(torch.nn.Linear):
    """Logits that are the cosine of the angle between a vector and each class's own, times a scale."""

    def __init__(self, width: int, outputs: int, *, scale: float) -> None:
        super().__init__(width, outputs, bias=False)
        self.scale = scale

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """float32 (n, outputs) of vectors (n, width)."""
        # in bfloat16 a scale of 64 would leave steps of a quarter in the logits
        with torch.autocast(vectors.device.type, enabled=False):
            return self.scale * unit(vectors) @ unit(self.weight).T


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """float32 (n, width): vectors made 1 long; one of zeros stays."""
    return torch.nn.functional.normalize(vectors.float(), dim=1)


def parameter_groups(network: Network, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameters for an optimiser: the backbone's by depth, then the rest; biases and norms do not decay, nor what the
    backbone's authors except, such as its tokens and position embeddings.

    Returns:
        Groups with ``params``, ``weight_decay``, ``lr_scale`` (``layer_decay`` to the power of the layers above) and
        ``backbone``, whether it belongs to that.
    """
    backbone: Any = network.backbone
    excepted = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    groups = param_groups_layer_decay(backbone, weight_decay, excepted, layer_decay=layer_decay)
    found = [
        {
            "params": group["params"],
            "weight_decay": group["weight_decay"],
            "lr_scale": group["lr_scale"] * layer_decay,
            "backbone": True,
        }
        for group in groups
    ]
    rest = [parameter for name, parameter in network.named_parameters() if not name.startswith("backbone.")]
    for decay, part in ((weight_decay, [p for p in rest if p.ndim > 1]), (0.0, [p for p in rest if p.ndim <= 1])):
        found.append({"params": part, "weight_decay": decay, "lr_scale": 1.0, "backbone": False})
    return found
