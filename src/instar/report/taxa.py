"""The section on taxa of trays' animals: the classifier with and without barcodes, and animals of each sample."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from instar.lineages import TAXON_RANKS
from instar.mask_figures import masks_of
from instar.report.inputs import Inputs
from instar.report.measures import Measure, percent
from instar.report.parts import Table

#: Lines of the table of abundances on the page, at most.
MOST_LINES = 150
_WAYS = ("all taxa", "barcoded taxa", "difference")
_ABUNDANCE = ["sample", "trained_on", "rank", "taxon", "detections", "animals", "low", "high"]
_FOUND = ["split", "size", "animals", "found", "crops", "right"]


@dataclass(frozen=True)
class Taxa:
    """What the section shows."""

    sentences: list[str]
    tables: list[Table]


def taxa(inputs: Inputs) -> Taxa:
    """The section, from metrics/evaluation.json, plots/found.csv and plots/abundance.csv."""
    metrics, made = inputs.metrics["evaluation"], inputs.metrics["dataset"]
    return Taxa(_sentences(metrics, made), [_accuracies(metrics), _found(inputs), _abundance(inputs)])


def _sentences(metrics: dict[str, Any], made: dict[str, Any]) -> list[str]:
    train = made["splits"]["train"]
    levels = ", ".join(f"{train['labelled_at'][rank]:,} at {rank}" for rank in TAXON_RANKS)
    text = f"Trained on {train['crops']:,} crops of {made['classes']:,} labels ({levels}); "
    text += f"{train['with_low_confidence']:,} of them have low-confidence taxa, too, which share "
    text += "dataset.low_share of the target. "
    if specimens := made["specimens"]["out"]:
        text += f"{specimens:,} of them are photographs of single specimens. "
    samples = metrics["samples"]
    barcodes = f"Of {samples['samples']:,} samples {samples['with_barcodes']:,} have a list of barcoded taxa, which "
    barcodes += f"leaves out some class for {samples['restricted']:,}. "
    barcodes += f"Judged on {metrics['crops']:,} crops of {metrics['photographs']:,} photographs of the split "
    barcodes += (
        f"{metrics['split']}: those with an annotated animal whose taxon is sure. Intervals are from resampling "
    )
    barcodes += "photographs; of so few they are rough. "
    barcodes += f"Probabilities are at a temperature of {metrics['temperature']:.2f}, fitted on validation."
    return [text.strip(), barcodes]


def _accuracies(metrics: dict[str, Any]) -> Table:
    lines = []
    for rank in reversed(TAXON_RANKS):
        found = metrics["accuracy"].get(rank)
        if found:
            told = [_measured(found[way], signed=way == "difference") for way in _WAYS]
            lines.append([rank, f"{found['crops']:,}", *told])
    sentence = "The difference is paired: of the same crops. An interval that holds 0 is no difference that these "
    sentence += "photographs can show. An animal whose taxon is no class of the classifier counts as wrong; "
    sentence += f"of {metrics['of_no_class']:,} crops no taxon at any rank is a class."
    caption = "Crops whose most probable taxon of a rank is right, of any taxon and of those barcoded in the sample"
    return Table(caption, ["rank", "crops", *_WAYS], lines, sentence)


def _measured(found: dict[str, float], *, signed: bool) -> str:
    if not signed:
        return Measure("", found["value"], found["low"], found["high"], "").short
    value, low, high = (100 * found[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f}) points"


def _found(inputs: Inputs) -> Table:
    table = inputs.curve("found.csv", _FOUND)
    lines = [
        [
            f"{row['split']}, {row['size']}",
            f"{row['animals']:,}",
            _share(row["found"], row["animals"]),
            f"{row['crops']:,}",
            _share(row["right"], row["crops"]),
        ]
        for _, row in table.iterrows()
    ]
    columns = ["split and size", "animals", "with a crop", "crops", "with an animal"]
    caption = (
        "Animals that have a crop and crops that have an animal, at IoU 0.5 and the confidence of the crops, by size"
    )
    return Table(caption, columns, lines, "The abundances below carry the shares of validation.")


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "–"


def _abundance(inputs: Inputs) -> Table:
    table = inputs.curve("abundance.csv", _ABUNDANCE)
    shown = table[(table["rank"] == "order") | table["rank"].isna()]
    lines = [
        [
            f"{row['sample']}{' (trained on)' if row['trained_on'] else ''}",
            "nothing detected" if pd.isna(row["taxon"]) else str(row["taxon"]),
            f"{row['detections']:,}",
            f"{row['animals']:,.0f} ({row['low']:,.0f} to {row['high']:,.0f})",
        ]
        for _, row in shown.head(MOST_LINES).iterrows()
    ]
    sentence = "Animals are the median and the 95 % interval of draws: of the detector's recall and precision by size, "
    sentence += "of each detection's taxon, and of the animals that were missed. They do not hold that photographs "
    sentence += "differ, nor taxa of which nothing was found. "
    more = len(shown) - len(lines)
    sentence += f"{more:,} more lines, and families and classes," if more else "Families and classes"
    caption = "Orders of each sample: detections whose most probable taxon is of it, and animals"
    columns = ["sample", "order", "detections", "animals"]
    return Table(caption, columns, lines, f"{_threshold(inputs)} {sentence} are in plots/abundance.csv.")


def _threshold(inputs: Inputs) -> str:
    """From which confidence up detections count here, and that the counts of masks have another one."""
    own, masks = inputs.params.crops.confidence, masks_of(inputs.metrics["detection_metrics"])
    text = f"Detections are those with a crop, from a confidence of {own:g} up (crops.confidence)"
    best = masks["best_f1"]["confidence"] if masks else None
    if best is None or math.isclose(best, own):
        return f"{text}."
    return f"{text}; the counts in the section on masks are from {best:.3g} up, the best F1 on validation."


def right_at_order(metrics: dict[str, Any]) -> Measure | None:
    """Accuracy at the order with barcodes, the key figure; None where no judged animal's order is known."""
    found = metrics["accuracy"].get("order")
    if found is None:
        return None
    name = "the most probable order of those barcoded in the sample is right"
    one = found["barcoded taxa"]
    return Measure("order, barcoded taxa", one["value"], one["low"], one["high"], name)
