"""How the results were made: parameters, versions and licences."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import pandas as pd

from instar.classifier.published import PUBLISHED
from instar.params import Params
from instar.report.inputs import LABEL_STAGES
from instar.report.pictures import licence_name, showable

PACKAGES = (
    "instar",
    "torch",
    "torchvision",
    "ultralytics",
    "rfdetr",
    "sahi",
    "timm",
    "lightning",
    "numpy",
    "pandas",
    "pyarrow",
)
#: What detectors are trained with, and what those that need no training are of, with the licences; by family.
_TRAINED = {
    "yolo": "ultralytics, which is AGPL-3.0; its publisher holds that weights trained with it fall under that licence, "
    "too",
    "rfdetr": "rfdetr, which is Apache-2.0",
    "maskrcnn": "torchvision, which is BSD-3-Clause",
    "mask2former": "transformers, which is Apache-2.0",
}
_TAKEN = {
    "whole_image": "no weights: every photograph is one box",
    "grounding_dino_sam": "{} as published, Apache-2.0; masks by SAM 2.1, Apache-2.0",
    "florence2_sam": "{} as published, MIT; masks by SAM 2.1, Apache-2.0",
    "gemini_sam": "{}, under the terms of Google's Gemini API; masks by SAM 2.1, Apache-2.0",
    "watershed": "no weights: watershed learns nothing",
}


@dataclass(frozen=True)
class Parameter:
    """A key of params.yaml; the meaning comes from the dataclass that reads it."""

    key: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Package:
    """A library that the stages ran on."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class LicenceCount:
    """Photographs and crops under one licence."""

    name: str
    photographs: int
    crops: int
    shown: bool  # whether thumbnails of them may be on the page


def parameter_sections(params: Params) -> dict[str, list[Parameter]]:
    """The parameters by section, those of the top level under an empty name; of stages that the study has."""
    sections: dict[str, list[Parameter]] = {"": []}
    for top in fields(params):
        if top.name in LABEL_STAGES and not params.labels:
            continue
        value = getattr(params, top.name)
        if is_dataclass(value):
            sections[top.name] = [_parameter(key, getattr(value, key.name)) for key in fields(value)]
        else:
            sections[""].append(_parameter(top, value))
    return sections


def _parameter(key: Any, value: Any) -> Parameter:
    if isinstance(value, list):
        text = ", ".join(map(str, value)) or "none"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    else:
        text = "empty" if value == "" else str(value)
    return Parameter(key.name, text, key.metadata["help"])


def packages() -> list[Package]:
    """Python and the libraries that figures depend on, with the licences they declare."""
    found = [Package("Python", platform.python_version(), "PSF-2.0")]
    for name in PACKAGES:
        try:
            described = metadata(name)
        except PackageNotFoundError:
            continue
        found.append(Package(name, described["Version"], _declared(described)))
    return found


def _declared(described: Any) -> str:
    text = described.get("License-Expression") or described.get("License") or ""
    # some packages put the whole text of their licence there
    return text if 0 < len(text) < 150 else "see its package"


def licence_counts(photographs: pd.DataFrame, crops: pd.DataFrame) -> list[LicenceCount]:
    """Counts by licence, the most frequent first.

    Args:
        photographs: columns source and licence, one row per photograph.
        crops: likewise, one row per crop.
    """
    by_photograph, by_crop = photographs["licence"].value_counts(), crops["licence"].value_counts()
    names = sorted(by_photograph.index, key=lambda name: (-by_photograph[name], name))
    shown = set(showable(photographs)["licence"])
    return [
        LicenceCount(licence_name(name), int(by_photograph[name]), int(by_crop.get(name, 0)), name in shown)
        for name in names
    ]


def weights_licences(params: Params) -> Mapping[str, str]:
    """What is known about the licence of each model's weights."""
    family, model = params.detector.family, params.detector.model
    detector = f"{model}, trained here with {_TRAINED[family]}" if family in _TRAINED else _TAKEN[family].format(model)
    if not params.labels:
        return {"Detector": detector}
    if Path(params.classifier.weights).name != "none.md":
        started = f"trained here from {params.classifier.weights}, under the licence of that file"
    elif not params.classifier.pretrained:
        started = "trained here from random weights with timm (Apache-2.0)"
    else:
        known = PUBLISHED.get(params.classifier.model)
        started = "trained here from published weights under "
        started += known.licence if known else "the licence on the model's page (for most models of timm Apache-2.0)"
    return {"Detector": detector, "Classifier": f"{params.classifier.model}, {started}"}
