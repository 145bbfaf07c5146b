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

#: A recall of fewer annotated animals says little.
FEW_ANIMALS = 10
#: Lines of the table of abundances on the page, at most.
MOST_LINES = 150
_WAYS = ("all taxa", "barcoded taxa", "difference")
_COMMON, _GAIN = "most common in training", "gain over the most common"
_CLASSES = ["rank", "label", "train_crops", "held_out_crops", "top1", "top1_barcoded", "taken_for", "taken_for_crops"]
_ABUNDANCE = ["sample", "trained_on", "validated_on", "rank", "taxon", "detections", "animals", "low", "high"]
_ABUNDANCE += ["annotated"]
_SUMS = ("all samples", "samples of test")
_FOUND = ["split", "size", "animals", "found", "crops", "right"]


@dataclass(frozen=True)
class Taxa:
    """What the section shows."""

    sentences: list[str]
    tables: list[Table]


def taxa(inputs: Inputs) -> Taxa:
    """The section, from metrics/evaluation.json, plots/classes.csv, plots/found.csv and plots/abundance.csv."""
    metrics, made = inputs.metrics["evaluation"], inputs.metrics["dataset"]
    tables = [_accuracies(metrics), _orders(inputs, metrics), _found(inputs), _abundance(inputs)]
    return Taxa(_sentences(metrics, made), tables)


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
            always, gain, mean = "–", "–", "–"
            if found["most_common"]:
                always = f"{found['most_common']}: {_measured(found[_COMMON], signed=False)}"
                gain, mean = _measured(found[_GAIN], signed=True), percent(found[_COMMON]["mean_over_taxa"])
            means = f"{percent(found['barcoded taxa']['mean_over_taxa'])} and {mean}"
            lines.append([rank, f"{found['crops']:,}", *told, always, gain, means])
    sentence = "Answers go down from the class: the most probable order of that class, the most probable family of "
    sentence += "that order. The most common taxon in training is what a classifier that learnt nothing could always "
    sentence += "name; the gain is that of the answers with barcodes over it. The mean over taxa, of these two, weighs "
    sentence += "every held-out taxon the same. Differences are paired: of the same crops. An interval that holds 0 is "
    sentence += "no difference that these photographs can show. An animal whose taxon is no class of the classifier "
    sentence += "counts as wrong; "
    sentence += f"of {metrics['of_no_class']:,} crops no taxon at any rank is a class."
    caption = "Crops whose answer at a rank is right, of any taxon and of those barcoded in the sample"
    columns = ["rank", "crops", *_WAYS, _COMMON, _GAIN, "means over taxa"]
    return Table(caption, columns, lines, sentence)


def _orders(inputs: Inputs, metrics: dict[str, Any]) -> Table:
    """How many crops of each order are right, and what the wrong ones are taken for."""
    table = inputs.curve("classes.csv", _CLASSES)
    orders = table[table["rank"] == "order"].sort_values(["held_out_crops", "label"], ascending=[False, True])
    lines = [
        [
            str(row["label"]),
            f"{row['train_crops']:,}",
            *(_right(row[way], row["held_out_crops"]) for way in ("top1", "top1_barcoded")),
            f"{row['taken_for']} ({row['taken_for_crops']:,})" if row["taken_for_crops"] else "–",
        ]
        for _, row in orders.iterrows()
    ]
    columns = ["order", "training crops", "right, of any taxon", "right, of those barcoded", "wrong ones mostly as"]
    judged = metrics["accuracy"].get("order", {"crops": 0})["crops"] - int(orders["held_out_crops"].sum())
    sentence = f"{judged:,} more held-out crops are of orders that are no class, and so wrong." if judged else ""
    return Table("Orders of held-out crops", columns, lines, sentence)


def _right(share: float, crops: int) -> str:
    return f"{round(share * crops):,} of {crops:,}" if crops else "–"


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
    sentence = "The abundances below carry the shares of validation."
    if masks_of(inputs.metrics["detection_metrics"]):
        caption += " and by masks"
        sentence += " By their boxes a few more or fewer animals may be found, see the section Detector."
    return Table(caption, columns, lines, sentence)


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "–"


def _abundance(inputs: Inputs) -> Table:
    table = inputs.curve("abundance.csv", _ABUNDANCE)
    shown = table[(table["rank"] == "order") | table["rank"].isna()]
    is_sum = shown["sample"].isin(_SUMS)
    shown = pd.concat([shown[is_sum], shown[~is_sum]])
    lines = [_line(row) for _, row in shown.head(MOST_LINES).iterrows()]
    sentence = "Animals are the median and the 95 % interval of draws: of the detector's recall and precision by size, "
    sentence += "of each detection's taxon, and of the animals that were missed. They do not hold that photographs "
    sentence += (
        "differ, nor taxa of which nothing was found. Where none of an order was detected, its animals are what "
    )
    sentence += "the classifier's doubt of detections that it answers otherwise leaves possible: no sign of the order. "
    sentence += "Annotated are, of an order, animals that are sure to be of it, and in the line of a sample all; they "
    sentence += "are told where all photographs of a sample are annotated. What the classifier trained on is answered "
    sentence += "too well; recall, precision and temperature are those of validation. "
    sentence += " ".join([*_few(inputs), *_held(table)])
    more = len(shown) - len(lines)
    sentence += f" {more:,} more lines, and families and classes," if more else " Families and classes"
    caption = "Orders of each sample: detections that are answered to be of it, and animals"
    columns = ["sample", "order", "detections", "animals", "annotated"]
    return Table(caption, columns, lines, f"{_threshold(inputs)} {sentence} are in plots/abundance.csv.")


def _line(row: "pd.Series[Any]") -> list[str]:
    of = ("trained on", row["trained_on"]), ("validation", row["validated_on"])
    told = " and ".join(name for name, photographs in of if photographs)
    everything = "all animals" if row["detections"] else "nothing detected"
    return [
        f"{row['sample']} ({told})" if told else str(row["sample"]),
        everything if pd.isna(row["taxon"]) else str(row["taxon"]),
        f"{row['detections']:,}" if row["detections"] or pd.isna(row["taxon"]) else "none",
        f"{row['animals']:,.0f} ({row['low']:,.0f} to {row['high']:,.0f})",
        "–" if pd.isna(row["annotated"]) else f"{row['annotated']:,.0f}",
    ]


def _few(inputs: Inputs) -> list[str]:
    """A warning of recalls of few animals."""
    found = inputs.curve("found.csv", _FOUND)
    few = found[(found["split"] == "validation") & (found["animals"] < FEW_ANIMALS)]
    told = ", ".join(f"{row['size']} {row['found']:,} of {row['animals']:,}" for _, row in few.iterrows())
    if not told:
        return []
    return [f"Few animals of validation tell how many are found ({told}), so that upper ends may be far too high."]


def _held(table: pd.DataFrame) -> list[str]:
    """How many intervals of samples that neither trained nor were validation hold the annotated number."""
    test = table[(table["trained_on"] == 0) & (table["validated_on"] == 0)]
    known = test[(test["rank"] == "order") & test["annotated"].notna() & ~test["sample"].isin(_SUMS)]
    holds = int(((known["low"] <= known["annotated"]) & (known["annotated"] <= known["high"])).sum())
    return [f"Of {len(known):,} intervals of orders on test {holds:,} hold the annotated number."] if len(known) else []


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
    name = "the order that is answered, of those barcoded in the sample, is right"
    one = found["barcoded taxa"]
    return Measure("order, barcoded taxa", one["value"], one["low"], one["high"], name)


def beside_order(metrics: dict[str, Any]) -> tuple[str, str]:
    """What always naming the most common order would reach, for a sentence and in short; empty if none is a class."""
    found = metrics["accuracy"]["order"]
    if not found["most_common"]:
        return "", ""
    text = f"always naming {found['most_common']}, the most common in training, would for {_always(found)}"
    text += "" if found[_GAIN]["low"] > 0 else ", so that no skill is shown"
    return text, f"always {found['most_common']}: {_always(found)}"


def _always(found: dict[str, Any]) -> str:
    return percent(found[_COMMON]["value"])
