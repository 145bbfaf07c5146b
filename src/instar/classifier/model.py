"""The network: built by timm, written and read without running anything that a file says."""

import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import load_state_dict

from instar.classifier.augment import normalised
from instar.classifier.labels import LabelSpace, targets_of
from instar.classifier.network import Network
from instar.classifier.place import Box
from instar.errors import InputError
from instar.files import write_json

WEIGHTS, DESCRIPTION = "weights.safetensors", "classifier.json"
_LABEL = ("name", "rank", "parent", "train_crops")
RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Description:
    """All that is needed to use the weights, and what they were made from."""

    model: str  # name of a timm model
    pretrained: bool
    image_px: int
    mean: RGB  # of RGB in [0, 1]
    std: RGB
    loss: str  # what the outputs stand for: reward, marginal, flat; arcface and triplet are as flat
    place: str  # none, late or fused: what the network makes of a place
    labels: LabelSpace
    train_crops: tuple[int, ...]  # labelled as each class
    train_crops_with_place: int
    train_box: Box | None  # of these places, see place.bounding_box
    early_stop: int  # epochs without a better one that would have ended the training; 0 for none
    licences: dict[str, int]  # training crops under each licence of their photographs
    dataset_md5: str  # of dataset.parquet, as DVC names that version
    code_sha256: str  # of the source that trained it
    instar: str  # version
    embedding: int = 0  # width of what individuals are compared by; 0 for the backbone's own features
    scale: float = 0.0  # of the cosines that the logits are; 0 for a linear head
    keep: str = "last"  # which epoch's weights these are
    weights_sha256: str = ""  # of the file that the backbone's weights came from

    @property
    def validation_chose(self) -> bool:
        """Whether the validation crops chose the epoch whose weights these are."""
        return self.keep != "last" or self.early_stop > 0

    @property
    def takes_place(self) -> bool:
        """Whether training showed what a place means; without any the weights of places are as they were drawn."""
        return self.place != "none" and self.train_crops_with_place > 0

    def heeded(self, places: torch.Tensor) -> torch.Tensor:
        """The places, float32 (n, 2), that the network is given: NaN, unknown, where training showed none."""
        return places if self.takes_place else torch.full_like(places, torch.nan)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """The network's input from uint8 (n, 3, height, width), on the device that the pixels are on."""
        return normalised(pixels, self.mean, self.std)


def check_model(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        InputError: with close matches. A name that has timm fetch code or settings from elsewhere is unknown, too.
    """
    tags = set(timm.list_pretrained(f"{name.partition('.')[0]}.*")) if "." in name else set()
    if timm.is_model(name) and ("." not in name or name in tags):
        return
    known = timm.list_models() + (timm.list_models(pretrained=True) if "." in name else [])
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    remedy = f"close to it are {', '.join(close)}" if close else "timm.list_models() lists all"
    raise InputError(f"classifier.model = {name}: timm has no such model; {remedy}")


def build_network(description: Description, weights: Path | None = None) -> Network:
    """The network that a description tells of, with random weights or, where it says so, a published backbone.

    Args:
        description: of it.
        weights: file of the backbone's weights instead of those that timm would fetch.

    Raises:
        InputError: if timm does not know the name, the model can't take this size, or its weights can't be had.
    """
    name, image_px = description.model, description.image_px
    check_model(name)
    config = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": image_px} if config is not None and config.fixed_input_size else {}
    own: dict[str, Any] = {} if weights is None else {"pretrained_cfg_overlay": _overlay(name, weights)}
    try:
        backbone = timm.create_model(
            name, pretrained=description.pretrained or weights is not None, num_classes=0, **sized, **own
        )
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "choose another"
        if weights is not None:
            raise InputError(f"{weights}: no weights of {name} at {image_px} px ({reason}); name others") from None
        if description.pretrained:
            remedy = "let this machine reach the hub or set classifier.pretrained to false"
        raise InputError(f"classifier.model = {name} at {image_px} px can't be made ({reason}); {remedy}") from None
    outputs = len(targets_of(description.labels, description.loss).outputs)
    return Network(backbone, outputs, place=description.place, embedding=description.embedding, scale=description.scale)


def _overlay(name: str, weights: Path) -> dict[str, Any]:
    """What makes timm take weights from a file, all of the backbone's and nothing else.

    The file's head is left out here: timm, told of another number of classes, would also pass over what is missing.

    Raises:
        InputError: if the file holds no weights that can be read without running what it says.
    """
    try:
        state = load_state_dict(str(weights), device="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"classifier.weights = {weights}: no such file; put it there or name another") from None
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        reason = str(error).splitlines()[0][:150] or type(error).__name__
        raise InputError(f"classifier.weights = {weights}: no weights ({reason}); name another file") from None
    config = timm.get_pretrained_cfg(name)
    classifier = getattr(config, "classifier", None) or ()
    heads = {"head", "fc", "classifier", *([classifier] if isinstance(classifier, str) else classifier)}
    kept = {key: value for key, value in state.items() if key.rpartition(".")[0] not in heads}
    return {"state_dict": kept, "source": "", "num_classes": 0}


def normalisation(name: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation of RGB in [0, 1] that a timm model's published weights expect."""
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return tuple(config.mean), tuple(config.std)


def save(folder: Path, network: torch.nn.Module, description: Description) -> None:
    """Write weights and description into an existing folder."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    fields = asdict(description)
    names = description.labels.names
    fields["labels"] = [
        {"name": name, "rank": rank, "parent": names[parent] if parent >= 0 else None, "train_crops": count}
        for name, rank, parent, count in zip(
            names, description.labels.ranks, description.labels.parents, fields.pop("train_crops"), strict=True
        )
    ]
    write_json(folder / DESCRIPTION, fields)


def load(folder: Path) -> tuple[Network, Description]:
    """The network, ready to predict on the CPU, and its description; no code in either file is run.

    Raises:
        InputError: if a file is missing, damaged, or does not fit the other.
    """
    description = load_description(folder)
    network = build_network(replace(description, pretrained=False))
    path = folder / WEIGHTS
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run classifier again") from None
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: no weights of {description.model} ({reason}); run classifier again") from None
    return network.eval(), description


def load_description(folder: Path) -> Description:
    """The description alone.

    Raises:
        InputError: if it is missing or damaged.
    """
    path = folder / DESCRIPTION
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        labels = fields.pop("labels")
        names, ranks, parents, counts = ([label[key] for label in labels] for key in _LABEL)
        place = {name: index for index, name in enumerate(names)}
        space = LabelSpace(tuple(names), tuple(ranks), tuple(-1 if name is None else place[name] for name in parents))
        mean, std = tuple(fields.pop("mean")), tuple(fields.pop("std"))
        box = _box(fields.pop("train_box"), fields["train_crops_with_place"], sum(counts))
        return Description(labels=space, train_crops=tuple(counts), mean=mean, std=std, train_box=box, **fields)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run classifier") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no description of a classifier ({error!r}); run classifier again") from None


def _box(given: list[float] | None, placed: int, crops: int) -> Box | None:
    """The box of the places of so many crops.

    Raises:
        ValueError: if both do not fit.
    """
    if type(placed) is not int or not 0 <= placed <= crops or (given is None) != (placed == 0):
        raise ValueError(f"train_crops_with_place = {placed!r}")
    if given is None:
        return None
    south, west, north, east = (float(side) for side in given)
    if not (-90 <= south <= north <= 90 and all(math.isfinite(side) for side in (west, east))):
        raise ValueError(f"train_box = {given}")
    return south, west, north, east


def quiet_timm() -> None:
    """Keep timm's loggers to warnings; it tells of each file it looks for."""
    logging.getLogger("timm").setLevel(logging.WARNING)
