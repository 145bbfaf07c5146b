"""The sheet of crops: a row of thumbnails for each class, grouped by genus."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from instar.errors import InputError
from instar.report.inputs import Inputs
from instar.report.pictures import CROP_PX, MAX_CROPS, Picture, showable, thumbnails
from instar.splits import hash_order

EXAMPLES = ["label", "rank", "key", "shard", "offset", "size", "split"]
CLASSES = ["label", "genus", "train_crops", "held_out_crops", "top1", "top5"]


@dataclass(frozen=True)
class Line:
    """A class, how many crops it has, and some of them."""

    label: str
    rank: str  # species, or genus for crops without a species
    train: int
    held_out: int  # 0 where the classifier was not measured on the class
    pictures: list[Picture]


@dataclass(frozen=True)
class Sheet:
    """Lines by genus, and how many classes there was no room for."""

    genera: dict[str, list[Line]]
    crops_per_class: int
    left_out: int


def sheet_by_class(inputs: Inputs, folder: Path, crops_per_class: int) -> Sheet:
    """Examples of each class, only of crops whose licence lets them be shown.

    Args:
        inputs: the examples are taken in the order of plots/examples.csv.
        folder: of the tars of the crops.
        crops_per_class: at most; fewer where the page would become too large.

    Raises:
        InputError: if a class of the examples is not among the classes, or a crop is damaged.
    """
    examples = inputs.curve("examples.csv", EXAMPLES)[["label", "rank", "key"]]
    classes = inputs.curve("classes.csv", CLASSES).set_index("label")
    ranks = examples.drop_duplicates("label").set_index("label")["rank"]
    unknown = sorted(set(ranks.index) - set(classes.index))
    if unknown:
        raise InputError(f"{inputs.plots}/classes.csv: class {unknown[0]} is missing; run the stage evaluation again")
    train, held_out = (dict(classes[name].astype(int)) for name in ("train_crops", "held_out_crops"))
    labels = sorted(ranks.index, key=lambda label: (-train[label], label))[:MAX_CROPS]
    per_class = min(crops_per_class, MAX_CROPS // max(1, len(labels)))
    pictures = _pictures(inputs, examples[examples["label"].isin(labels)], folder, per_class)
    genera: dict[str, list[Line]] = {}
    for label in sorted(labels, key=lambda label: (ranks[label] == "genus", label)):
        line = Line(label, ranks[label], train[label], held_out[label], pictures.get(label, []))
        genera.setdefault(str(classes.at[label, "genus"]), []).append(line)
    return Sheet(dict(sorted(genera.items())), per_class, len(ranks) - len(labels))


def _pictures(inputs: Inputs, examples: pd.DataFrame, folder: Path, per_class: int) -> dict[str, list[Picture]]:
    """Thumbnails by label of the first examples that may be shown."""
    shown = examples.merge(showable(inputs.crops), on="key", validate="one_to_one").groupby("label").head(per_class)
    found: dict[str, list[Picture]] = {}
    for label, picture in zip(shown["label"], thumbnails(shown, folder, inputs.taxa, CROP_PX), strict=True):
        found.setdefault(label, []).append(picture)
    return found


def sheet_of_sample(inputs: Inputs, folder: Path, size: int) -> list[Picture]:
    """A random sample of the crops that may be shown, for a study without classes."""
    crops = showable(inputs.crops).set_index("key")
    rows = crops.loc[hash_order(0, crops.index)[:size]].reset_index()
    return thumbnails(rows, folder, inputs.taxa, CROP_PX)
