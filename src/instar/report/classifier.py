"""The section on the classifier: its figures with intervals, genera mixed up, class sizes, training."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from instar.report.figures import DASHED, class_sizes, confusion, intervals, reliability, roll_up, training_curve
from instar.report.inputs import Inputs, read_csv
from instar.report.measures import GROUPS, Measure, percent, where_known
from instar.report.sheet import CLASSES

#: Columns that the page shows of the tables of the stage evaluation.
_ACCURACY = ["image_px", "place", "crops", *(f"{rank}_top{k}_micro" for rank in ("species", "genus") for k in (1, 5))]
_PLACES = {"true": "true", "none": "none given", "wrong": "wrong by 1,000 km or more"}

#: The stage evaluation judges the first guess and the first so many.
TOP = 5
_RANKS = {"species": "species_accuracy", "genus": "genus_accuracy"}
_MEANS = {"micro": "every {unit} counts once", "macro": "every class counts once"}

#: The learning rate is a curve, too, but a plan and no result.
_CURVES = {
    "loss": "Training: loss, on validation crops dashed",
    "top1": "Training: top-1 accuracy on validation crops",
}


def few_classes(inputs: Inputs) -> frozenset[str]:
    """Ranks with so few classes that the right one is always among the first five."""
    classes = inputs.curve("classes.csv", CLASSES)
    of_genus = int((classes["label"] == classes["genus"]).sum())
    numbers = {"species": len(classes) - of_genus, "genus": of_genus}
    return frozenset(rank for rank, number in numbers.items() if number <= TOP)


def measures(metrics: dict[str, Any], unit: str = "crop", few: Collection[str] = ()) -> list[Measure]:
    """Top-1 and top-5 of species and genus, of crops or photographs, first over these, then over classes.

    Args:
        metrics: of metrics/evaluation.json, or its part on photographs.
        unit: what counts once, crop or photograph.
        few: ranks that get no top 5, see ``few_classes``.
    """
    found = []
    for mean, weighing in _MEANS.items():
        for rank, key in _RANKS.items():
            for k in (1, *(() if rank in few else (TOP,))) if metrics[key] else ():
                name = f"{rank}, top {k}" + (", by class" if mean == "macro" else "")
                right = f"the first guess is the {rank}" if k == 1 else f"the {rank} is among the first five guesses"
                found.append(
                    Measure(name, **metrics[key][f"top{k}_{mean}"], meaning=f"{right}; {weighing.format(unit=unit)}")
                )
    return found


@dataclass(frozen=True)
class Line:
    """A line of a table: what it is about, how many crops, and accuracies with their intervals as text."""

    names: list[str]
    crops: int
    figures: list[str]


def settings(inputs: Inputs) -> tuple[list[str], list[Line]]:
    """Top-1 and top-5 of species and genus at each resolution with each kind of place: their titles, and the lines."""
    table, few = inputs.curve("accuracy.csv", _ACCURACY), few_classes(inputs)
    columns = {
        f"{rank}_top{k}_micro": f"{rank}, top {k}" for rank in _RANKS for k in (1, *(() if rank in few else (TOP,)))
    }
    lines = [
        Line(
            [f"{row['image_px']} px", _place(row["place"], inputs.metrics["evaluation"])],
            int(row["crops"]),
            [_share(row, name, f"{name}_low", f"{name}_high") for name in columns],
        )
        for _, row in table.iterrows()
    ]
    return list(columns.values()), lines


def _place(place: str, metrics: dict[str, Any]) -> str:
    return _PLACES.get(place, place) + (where_known(metrics) if place == "true" else "")


def groups(inputs: Inputs) -> list[Line]:
    """Top-1 of species and genus by class size, by source and by region."""
    table = inputs.curve("groups.csv", GROUPS)
    return [
        Line(
            [row["by"], str(row["group"])],
            int(row["crops"]),
            [_share(row, f"{rank}_top1", f"{rank}_low", f"{rank}_high") for rank in _RANKS],
        )
        for _, row in table.iterrows()
    ]


def _share(row: "pd.Series[Any]", value: str, low: str, high: str) -> str:
    if pd.isna(row[value]):
        return ""
    bounds = [None if pd.isna(row[end]) else float(row[end]) for end in (low, high)]
    return Measure("", float(row[value]), bounds[0], bounds[1], "").short


def calibration_text(metrics: dict[str, Any]) -> str:
    """Temperature, calibration error and the threshold for the wanted accuracy, in sentences."""
    found = metrics["calibration"]
    error = found["expected_calibration_error"]
    wanted, threshold, at = (found["roll_up"][name] for name in ("wanted_accuracy", "threshold", "at"))
    text = f"The logits are divided by a temperature of {found['temperature']:.2f}, fitted on validation crops. "
    if error["after"] is not None:
        before, after = (percent(error[when], 1) for when in ("before", "after"))
        text += f"Then the classifier's confidence misses its accuracy by {after} on average; before it was {before}. "
        halves = "each half of the observations at the temperature of the other"
        others = halves if metrics["split"] == "validation" else "which did not fit the temperature"
        text += f"Both are measured on the judged crops, {others}. "
        if error["after"] > error["before"]:
            text += "So calibration made it worse here: there are too few crops to fit it, or the judged ones differ. "
    if threshold is None:
        text += f"At no threshold are answers at the lowest sure rank right for {percent(wanted)} of the crops. "
        return text + f"Then instar identify takes {wanted:g} itself as its threshold."
    text += f"The lowest threshold at which {percent(wanted)} of the answers for the validation crops are right is "
    text += f"{threshold:g}. "
    if at is None:
        return text + (
            "At thresholds that crops of other observations chose no crop has an answer, so how often answers for "
            "other observations are right is not known."
        )
    text += "With each crop's threshold chosen on crops of other observations, "
    text += f"{percent(at['coverage'])} of the crops have an answer, "
    text += f"{percent(at['species'])} a species and {percent(at['genus'])} a genus, "
    return text + f"and {percent(at['accuracy'])} of the answers are right."


def photographs_text(metrics: dict[str, Any]) -> str:
    """How many photographs were judged, missed and left out."""
    found = metrics["photographs"]
    rows = found["rows"]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows["dropped"].items())
    if not rows["out"]:
        return f"No whole photograph can be judged: {reasons or 'none is held out'}"
    text = f"On {rows['out']:,} whole photographs, {found['missed']:,} of them without a crop, which count as wrong"
    left_out = sum(rows["dropped"].values())
    return text + (f"; {left_out:,} are left out ({reasons})" if left_out else "")


def identifiers_text(metrics: dict[str, Any]) -> str:
    """The points of both identifiers, in sentences; empty where there is no other."""
    found = metrics["identifiers"]
    if not found:
        return ""
    points = found["points"]
    text = f"Against another identifier on {found['photographs']:,} photographs, {found['both_right']:,} more being "
    text += f"left out since both name the species first: {points['ours']:,} points to {points['other']:,}"
    if (difference := found["difference"]) is not None:
        text += f", {difference['value']:+.2f} a photograph (95 % interval {difference['low']:+.2f} to "
        text += f"{difference['high']:+.2f})"
    return text + f". The other has no answer for {found['without_answer']:,} of them."


def charts(inputs: Inputs) -> list[tuple[str, Markup]]:
    """Charts with their titles."""
    title = "Named right, with 95 % intervals"
    shown = measures(inputs.metrics["evaluation"], few=few_classes(inputs))
    found = [(title, intervals("accuracy", title, shown))]
    curve = inputs.curve("reliability.csv", ["count", "confidence", "accuracy"])
    found.append(("Reliability; a larger dot is more crops", reliability(curve)))
    curve = inputs.curve("rollup.csv", ["coverage", "accuracy", "species"])
    found.append(("Answers at the lowest sure rank", roll_up(curve)))
    classes = inputs.curve("classes.csv", CLASSES)
    if (classes["held_out_crops"] > 0).any():
        found.append(("Accuracy against class size; a larger dot is measured on more crops", class_sizes(classes)))
    pairs = inputs.curve("confusion_genus.csv", ["actual", "predicted"])
    if len(pairs):
        found.append(("Genera mixed up: numbers of held-out crops, shades by row", confusion(pairs)))
    for kind, table in curves(inputs.plots / "classifier").items():
        if kind in _CURVES:
            chart = training_curve(f"classifier-{kind}", _CURVES[kind], table, "step", shares=kind == "top1")
            found.append((_CURVES[kind], chart))
    return found


def curves(folder: Path) -> dict[str, pd.DataFrame]:
    """The curves that DVCLive wrote below ``<folder>/metrics``, by their kind, which is the file's name.

    Returns:
        Tables whose index is the step and whose columns are ``x`` for ``train/x.tsv`` and ``validation x``.
    """
    kinds: dict[str, dict[str, pd.Series]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        table = read_csv(path, ["step"], separator="\t").drop_duplicates("step", keep="last").set_index("step")
        values = table.drop(columns="timestamp", errors="ignore").iloc[:, 0]
        column = f"{DASHED}{path.stem}" if path.parent.name.startswith("val") else path.stem
        kinds.setdefault(path.stem, {})[column] = values
    return {kind: pd.DataFrame(found).sort_index() for kind, found in kinds.items()}
