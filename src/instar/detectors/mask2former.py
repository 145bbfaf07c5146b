"""Mask2Former of transformers (Apache-2.0; Cheng et al. 2022) on a Swin backbone; one class, "animal"."""

import json
import os
import pickle
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.detectors import Boxes, Example, Recipe, Training
from instar.errors import InputError

if TYPE_CHECKING:
    import torch

    from instar.detectors.segment import Family, Segmenter
    from instar.detectors.segment_tiles import Item

LICENCE = "Apache-2.0"

_SWIN = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
    "test": {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4},
}
#: Mask2Former around the backbone that is for tests only.
_SMALL = {
    **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32),
    **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 64),
    **{"encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 4, "train_num_points": 1024},
}
_MODELS = {f"mask2former_swin_{size}": size for size in _SWIN}

#: What hangs on the classes or on ``num_queries``, so that weights of others cannot serve.
_HEADS = ("class_predictor.", "criterion.", "queries_embedder.", "queries_features.")


@dataclass(frozen=True)
class Options:
    """Options of the network.

    Attributes:
        num_queries: predictions for one picture; above the densest tile.
    """

    num_queries: int = 300


def train(examples: Iterable[Example], names: list[str], recipe: Recipe, out: Path, work: Path) -> Training:
    """Train on the tiles of the split train and keep the weights with the best mask AP on validation.

    See ``segment.train``. Gradients are cut to a length of 0.01, as published, unless ``clip_norm`` says otherwise.
    ``plain_epochs`` means nothing here: there is no mosaic.

    Raises:
        InputError: if the model, the weights or an option cannot be had.
    """
    from instar.detectors import segment

    if recipe.model not in _MODELS:
        raise InputError(f"detector.model = {recipe.model}: no such Mask2Former; there are {', '.join(_MODELS)}")
    with_clip = replace(recipe, options={"clip_norm": 0.01, **recipe.options})
    options, schedule = segment.settings("mask2former", Options, with_clip)
    told = segment.described(recipe, options)
    return segment.train(examples, names, recipe, out, work, family=_family(), told=told, schedule=schedule)


def most(recipe: Recipe) -> tuple[int, str]:
    """See ``Family.most``."""
    from instar.detectors import segment

    options, _ = segment.settings("mask2former", Options, recipe)
    return options.num_queries, "raise detector.options.num_queries"


def detector(folder: Path, description: dict[str, Any]) -> "Segmenter":
    """The trained detector in a folder."""
    from instar.detectors import segment

    return segment.Segmenter(folder, description, _family())


def _family() -> "Family":
    from instar.detectors.segment import Family

    return Family("mask2former", LICENCE, Mask2Former, _start)


@contextmanager
def _quiet() -> Iterator[Any]:
    """The library, without a look at the network and without its tables of what was loaded; we tell what matters."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


class Mask2Former:
    """The network with its own losses; masks come out at the tile's size, some at a time."""

    def __init__(self, told: dict[str, Any]) -> None:
        with _quiet() as transformers:
            self.module: Any = transformers.Mask2FormerForUniversalSegmentation(config(told))
        self.most: int = told["num_queries"]
        # its losses read masks at random points, bilinear; half the side is the size of a tile that is enlarged twice
        self.mask_px: int = told["image_px"] // 2

    def losses(self, pixels: "torch.Tensor", items: "list[Item]") -> "dict[str, torch.Tensor]":
        """Class, mask and dice losses of all decoder layers, already weighted."""
        import torch

        masks = [item.bitmaps.to(pixels.device).float() for item in items]
        labels = [torch.zeros(len(one), dtype=torch.int64, device=pixels.device) for one in masks]
        return {"seg_loss": self.module(pixels, mask_labels=masks, class_labels=labels).loss.sum()}

    def found(
        self, pixels: "torch.Tensor", items: "list[Item]", *, floor: float, nms_iou: float, max_boxes: int
    ) -> list[Boxes]:
        """See ``segment_fit.Network``."""
        answer = self.module(pixels)
        classes = answer.class_queries_logits.float().softmax(dim=-1)[..., 0]
        logits, side = answer.masks_queries_logits, pixels.shape[-1]
        return [
            self._answer(*one, side=side, floor=floor, nms_iou=nms_iou, max_boxes=max_boxes)
            for one in zip(classes, logits, items, strict=True)
        ]

    def _answer(
        self,
        classes: "torch.Tensor",
        logits: "torch.Tensor",
        item: "Item",
        *,
        side: int,
        floor: float,
        nms_iou: float,
        max_boxes: int,
    ) -> Boxes:
        """Instance inference as published, for one class: the score is the class's times the mask's mean probability.

        Source: ``MaskFormer.instance_inference`` of facebookresearch/Mask2Former. Its masks go to the input's size and
        from there to the picture's; here they go to the picture's at once. DETRs make few doubles, and those fall to
        NMS by the masks' boxes, as with the other families.
        """
        import torch
        from torchvision.ops import nms

        from instar.detectors.paste import masks_of, spread
        from instar.detectors.segment import finished
        from instar.masks import joined_masks

        chosen = torch.nonzero(classes >= floor)[:, 0]  # the mask's part of the score is at most 1
        content = (item.content[0] / side, item.content[1] / side)
        parts, shares = [], [torch.zeros(0, device=logits.device)]
        for _, part in spread(logits[chosen], *item.size, content=content):
            inside = part > 0
            shares.append((part.sigmoid() * inside).sum(dim=(1, 2)) / (inside.sum(dim=(1, 2)) + 1e-6))
            parts.append(masks_of(inside))
        masks, scores = joined_masks(parts), classes[chosen] * torch.cat(shares)
        empty = int((masks.areas() == 0).sum())
        boxes = torch.from_numpy(masks.boxes()).to(scores.device)
        order = nms(boxes, scores, nms_iou)
        order = order[(scores[order] >= floor) & (scores[order] > 0)][:max_boxes]
        full = int((scores >= floor).sum()) >= self.most
        found = finished(boxes[order], scores[order], masks.take(order.cpu().numpy()), item.size, full=full)
        return Boxes(found.boxes_xyxy, found.scores, found.full, found.masks, empty)


def config(told: dict[str, Any]) -> Any:
    """transformers' configuration of a model; those of the published ones but for classes and queries."""
    with _quiet() as transformers:
        size = _MODELS[told["model"]]
        stages = [f"stage{n}" for n in range(1, 5)]
        swin = transformers.SwinConfig(**_SWIN[size], drop_path_rate=0.3, out_features=stages)
        more = _SMALL if size == "test" else {}
        return transformers.Mask2FormerConfig(
            backbone_config=swin, num_labels=1, num_queries=told["num_queries"], **more
        )


def _start(network: Any, told: dict[str, Any], path: Path) -> None:
    """Load ``model.safetensors`` of a folder that transformers wrote, or a state of our own.

    What hangs on classes and queries stays random where the numbers differ, nothing else may.

    Raises:
        InputError: if the file is no such state, or another model's.
    """
    import torch
    from safetensors import SafetensorError

    wanted = network.module.state_dict()
    unreadable = (OSError, EOFError, RuntimeError, KeyError, AttributeError, TypeError, ValueError)
    try:
        given = (
            _published(path, told) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)["model"]
        )
        fitting = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    except (*unreadable, pickle.UnpicklingError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"detector.weights = {path}: no state of a Mask2Former, or damaged; name model.safetensors in its folder"
        ) from None
    needed = [name for name in wanted if not any(head in name for head in _HEADS)]
    share = sum(name in fitting for name in needed) / len(needed)
    if share < 1:
        told_so = f"fits {share:.0%} of detector.model = {told['model']}; name the model that the weights are of"
        raise InputError(f"detector.weights = {path}: {told_so}")
    if random := sorted(wanted.keys() - fitting.keys()):
        print(f"{path}: of other classes or queries, so these start at random: {', '.join(random)}", file=sys.stderr)
    network.module.load_state_dict({**wanted, **fitting})


def _published(path: Path, told: dict[str, Any]) -> dict[str, Any]:
    """The state of a folder by transformers' own loader, which knows the names of earlier versions.

    Raises:
        InputError: if its ``config.json`` is missing.
    """
    beside = path.with_name("config.json")
    if path.name != "model.safetensors" or not beside.is_file():
        raise InputError(
            f"detector.weights = {path}: transformers loads model.safetensors with config.json beside it; fetch both"
        )
    labels = json.loads(beside.read_text(encoding="utf-8"))
    with _quiet() as transformers:
        wanted = config({**told, "num_queries": labels.get("num_queries", 100)})
        model, info = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
            path.parent, config=wanted, ignore_mismatched_sizes=True, output_loading_info=True, local_files_only=True
        )
    unfit = {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in unfit}
