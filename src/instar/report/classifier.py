"""The section on the classifier: its figures with intervals, genera mixed up, class sizes, training."""

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from instar.report.figures import DASHED, class_sizes, confusion, intervals, training_curve
from instar.report.inputs import Inputs, read_csv
from instar.report.measures import Measure
from instar.report.sheet import CLASSES

_RANKS = {"species": "species_accuracy", "genus": "genus_accuracy"}
_MEANS = {"micro": "every crop counts once", "macro": "every class counts once"}

#: The learning rate is a curve, too, but a plan and no result.
_CURVES = {
    "loss": "Training: loss, on validation crops dashed",
    "top1": "Training: top-1 accuracy on validation crops",
}


def measures(metrics: dict[str, Any]) -> list[Measure]:
    """Figures of metrics/evaluation.json: top-1 and top-5 of species and genus, first over crops, then over classes."""
    found = []
    for mean, weighing in _MEANS.items():
        for rank, key in _RANKS.items():
            for k in (1, 5):
                name = f"{rank}, top {k}" + (", by class" if mean == "macro" else "")
                right = f"the first guess is the {rank}" if k == 1 else f"the {rank} is among the first five guesses"
                found.append(Measure(name, **metrics[key][f"top{k}_{mean}"], meaning=f"{right}; {weighing}"))
    return found


def charts(inputs: Inputs) -> list[tuple[str, Markup]]:
    """Charts with their titles."""
    title = "Named right, with 95 % intervals"
    found = [(title, intervals("accuracy", title, measures(inputs.metrics["evaluation"])))]
    classes = inputs.curve("classes.csv", CLASSES)
    if (classes["validation_crops"] > 0).any():
        found.append(("Accuracy against class size; a larger dot is measured on more crops", class_sizes(classes)))
    pairs = inputs.curve("confusion_genus.csv", ["actual", "predicted"])
    if len(pairs):
        found.append(("Genera mixed up: numbers of validation crops, shades by row", confusion(pairs)))
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
