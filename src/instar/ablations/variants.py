"""The variants of a study's classifier, each with one thing changed."""

from dataclasses import dataclass, fields
from typing import Any

from instar.ablations.names import BASE, name_of
from instar.params import HIERARCHY_LOSSES, Params


@dataclass(frozen=True)
class Variant:
    """What is shown to the classifier, and which of its parameters differ from those in params.yaml."""

    view: str  # crop or photograph
    changes: dict[str, Any]


def variants(params: Params) -> dict[str, Variant]:
    """The classifier as it is, ``base``, and for each other value of a factor a variant called by both.

    Where the detector takes whole photographs for animals, these are no variant.
    """
    choices: dict[str, Any] = {key.name: key.metadata.get("choices") for key in fields(Params)}
    choices["loss"] = HIERARCHY_LOSSES
    found = {BASE: Variant("crop", {})}
    for factor in ("loss", "balance", "place"):
        for value in choices[factor]:
            found.setdefault(name_of(factor, value, getattr(params, factor)), Variant("crop", {factor: value}))
    if params.detector.family != "whole_image":
        found[name_of("view", "photograph", "crop")] = Variant("photograph", {})
    for image_px in params.ablations.resolutions:
        name = name_of("image_px", image_px, params.classifier.image_px)
        found.setdefault(name, Variant("crop", {"image_px": image_px}))
    return found


def seeds(params: Params) -> list[int]:
    """Of the trainings of each variant."""
    return list(range(params.seed, params.seed + params.ablations.seeds))


def settings(params: Params, variant: Variant, seed: int, given: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the stage classifier for one training, from those of the study's classifier."""
    epochs = params.ablations.epochs or given["epochs"]
    return {**given, "epochs": epochs, **variant.changes, "seed": seed}
