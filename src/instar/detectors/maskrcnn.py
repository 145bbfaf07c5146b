"""Mask R-CNN of torchvision (BSD-3-Clause; He et al. 2017), with feature pyramid; one class, "animal"."""

import pickle
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.detectors import Boxes, Example, Recipe, Training, weights_file
from instar.errors import InputError

if TYPE_CHECKING:
    import torch

    from instar.detectors.segment import Family, Segmenter
    from instar.detectors.segment_tiles import Item

LICENCE = "BSD-3-Clause"

_MODEL = re.compile(r"maskrcnn_(resnet(?:18|34|50|101|152))_fpn(_v2)?")
_MODELS = "maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2, or maskrcnn_resnet18_fpn and other depths without _v2"
#: Four convolutions and narrow heads, for tests.
_TEST = "maskrcnn_test"

#: What has a row for each class, so that weights of other classes cannot serve.
_HEADS = ("box_predictor.cls_score.", "box_predictor.bbox_pred.", "mask_predictor.mask_fcn_logits.")


@dataclass(frozen=True)
class Options:
    """Options of the network.

    Attributes:
        detections: of one picture, at most; above the densest tile.
        proposals: of the region proposal network for one picture, and before its NMS for each level; likewise.
        anchor_px: side of the smallest anchors, pixels of the input; the next four levels' are twice the one before.
        learning_stages: of the backbone's five, from the top; with random weights all five learn.
        samples: proposals of one picture that the heads learn from, a quarter of them animals at most.
    """

    detections: int = 1000
    proposals: int = 2000
    anchor_px: int = 32
    learning_stages: int = 3
    samples: int = 512


def train(examples: Iterable[Example], names: list[str], recipe: Recipe, out: Path, work: Path) -> Training:
    """Train on the tiles of the split train and keep the weights with the best mask AP on validation.

    See ``segment.train``. From given weights the backbone's normalisation stays as it is, as is usual.
    ``plain_epochs`` means nothing here: there is no mosaic.

    Raises:
        InputError: if the model, the weights or an option cannot be had.
    """
    from instar.detectors import segment

    options, schedule = segment.settings("maskrcnn", Options, recipe)
    known = recipe.model == _TEST or _MODEL.fullmatch(recipe.model)
    if not known or (recipe.model.endswith("v2") and "50" not in recipe.model):
        raise InputError(f"detector.model = {recipe.model}: torchvision has no such Mask R-CNN; take {_MODELS}")
    told = segment.described(recipe, options)
    told["frozen_norm"] = weights_file(recipe.weights) is not None and not recipe.model.endswith("v2")
    if weights_file(recipe.weights) is None:
        told["learning_stages"] = 5
    return segment.train(examples, names, recipe, out, work, family=_family(), told=told, schedule=schedule)


def most(recipe: Recipe) -> tuple[int, str]:
    """See ``Family.most``."""
    from instar.detectors import segment

    options, _ = segment.settings("maskrcnn", Options, recipe)
    return min(options.detections, options.proposals), "raise detector.options.detections and proposals"


def detector(folder: Path, description: dict[str, Any]) -> "Segmenter":
    """The trained detector in a folder."""
    from instar.detectors import segment

    return segment.Segmenter(folder, description, _family())


def _family() -> "Family":
    from instar.detectors.segment import Family

    return Family("maskrcnn", LICENCE, MaskRcnn, _start)


class MaskRcnn:
    """The network; its own resizing and pasting are not used, since they hold every mask at full size."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.module = _module(told)
        self.most = min(told["detections"], told["proposals"])
        self.mask_px: int = told["image_px"]

    def losses(self, pixels: "torch.Tensor", items: "list[Item]") -> "dict[str, torch.Tensor]":
        """Of the region proposals and of the heads."""
        import torch
        from torchvision.models.detection.image_list import ImageList

        targets = [
            {
                "boxes": item.boxes_xyxy.to(pixels.device),
                "labels": torch.ones(len(item.boxes_xyxy), dtype=torch.int64, device=pixels.device),
                "masks": item.bitmaps.to(pixels.device),
            }
            for item in items
        ]
        images = ImageList(pixels, [item.content for item in items])
        features = self.module.backbone(pixels)
        proposals, first = self.module.rpn(images, features, targets)
        _, second = self.module.roi_heads(features, proposals, images.image_sizes, targets)
        return {**first, **second}

    def found(
        self, pixels: "torch.Tensor", items: "list[Item]", *, floor: float, nms_iou: float, max_boxes: int
    ) -> list[Boxes]:
        """See ``segment_fit.Network``."""
        import torch
        from torchvision.models.detection.image_list import ImageList

        from instar.detectors.paste import pasted
        from instar.detectors.segment import finished

        heads = self.module.roi_heads
        heads.score_thresh, heads.nms_thresh, heads.detections_per_img = floor, nms_iou, max_boxes
        images = ImageList(pixels, [item.content for item in items])
        features = self.module.backbone(pixels)
        proposals, _ = self.module.rpn(images, features)
        answers, _ = heads(features, proposals, images.image_sizes)
        found = []
        for item, answer in zip(items, answers, strict=True):
            (height, width), (inner_height, inner_width) = item.size, item.content
            scale = torch.tensor([width / inner_width, height / inner_height] * 2, device=pixels.device)
            boxes = answer["boxes"].float() * scale
            masks = pasted(answer["masks"][:, 0], boxes, height, width)
            full = len(boxes) >= self.most
            found.append(finished(boxes, answer["scores"], masks, item.size, full=full))
        return found


def _module(told: dict[str, Any]) -> Any:
    """torchvision's model with random weights."""
    from torch.nn import BatchNorm2d
    from torchvision.models import detection
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    anchors = AnchorGenerator(tuple((told["anchor_px"] * 2**level,) for level in range(5)), ((0.5, 1.0, 2.0),) * 5)
    caps = {
        f"rpn_{order}_nms_top_n_{mode}": told["proposals"] for order in ("pre", "post") for mode in ("train", "test")
    }
    more = {"box_detections_per_img": told["detections"], "box_batch_size_per_image": told["samples"], **caps}
    name: Any = _MODEL.fullmatch(told["model"])
    if name is None:
        return _test_module({"rpn_anchor_generator": anchors, **more})
    if name[2]:
        module = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=2, **more)
        module.rpn.anchor_generator = anchors  # it has no argument for them
    else:
        norm = FrozenBatchNorm2d if told["frozen_norm"] else BatchNorm2d
        backbone = resnet_fpn_backbone(backbone_name=name[1], weights=None, norm_layer=norm, trainable_layers=5)
        module = detection.MaskRCNN(backbone, num_classes=2, rpn_anchor_generator=anchors, **more)
        overwrite_eps(module, 0.0)  # of frozen normalisation: torchvision's weights of COCO were trained so
    learning = ("layer4", "layer3", "layer2", "layer1", "")[: told["learning_stages"]]
    for layer, parameter in module.backbone.body.named_parameters():
        parameter.requires_grad_(layer.startswith(learning))
    return module


def _test_module(more: dict[str, Any]) -> Any:
    """A model of half a million parameters, fast on a CPU."""
    from torch.nn import Sequential
    from torchvision.models import detection
    from torchvision.models.detection import backbone_utils, faster_rcnn, mask_rcnn
    from torchvision.ops import Conv2dNormActivation

    widths = (3, 16, 32, 64, 64)
    stages = [Conv2dNormActivation(*pair, stride=2) for pair in pairwise(widths)]
    layers = {str(n): str(n) for n in range(4)}
    backbone = backbone_utils.BackboneWithFPN(Sequential(*stages), layers, list(widths[1:]), out_channels=32)
    return detection.MaskRCNN(
        backbone,
        box_head=faster_rcnn.TwoMLPHead(32 * 7 * 7, 64),
        box_predictor=faster_rcnn.FastRCNNPredictor(64, 2),
        mask_head=mask_rcnn.MaskRCNNHeads(32, (32, 32), 1),
        mask_predictor=mask_rcnn.MaskRCNNPredictor(32, 32, 2),
        **more,
    )


def _start(network: Any, told: dict[str, Any], path: Path) -> None:
    """Load torchvision's published state or one of our own; heads for other classes stay random, nothing else may.

    Raises:
        InputError: if the file is no such state, or another model's.
    """
    import torch

    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
        given = given.get("model", given)
        wanted = network.module.state_dict()
        fitting = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    except (OSError, EOFError, RuntimeError, KeyError, AttributeError, TypeError, ValueError, pickle.UnpicklingError):
        raise InputError(f"detector.weights = {path}: no state of a Mask R-CNN, or damaged; fetch it again") from None
    # a counter that frozen normalisation does not have
    needed = [name for name in wanted if not any(head in name for head in _HEADS) and "num_batches" not in name]
    share = sum(name in fitting for name in needed) / len(needed)
    if share < 1:
        told_so = f"fits {share:.0%} of detector.model = {told['model']}; name the model that the weights are of"
        raise InputError(f"detector.weights = {path}: {told_so}")
    if random := sorted(wanted.keys() - fitting.keys() - {name for name in wanted if "num_batches" in name}):
        print(f"{path}: of other classes, so these start at random: {', '.join(random)}", file=sys.stderr)
    network.module.load_state_dict({**wanted, **fitting})
