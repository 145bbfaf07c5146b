"""The model card: what the models learnt from, how good they are, and where they end."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from instar.classifier.labels import RANKS, targets_of
from instar.classifier.views import PADDING_RGB
from instar.detectors.whole_image import WholeImage
from instar.errors import InputError
from instar.evaluation.answers import TOP
from instar.evaluation.places import UNKNOWN
from instar.export.attribution import Photographs
from instar.params import Params
from instar.report.measures import GROUPS, varies, where_known
from instar.splits import CHOSE_EPOCH

if TYPE_CHECKING:
    from instar.classifier.model import Description

#: A class learnt from fewer crops is named among the limits.
FEW_CROPS = 30
#: Of metrics/<stage>.json.
STAGES = ("records", "detector", "detection_metrics", "dataset", "classifier", "evaluation")
#: Rows of the table of regions.
MOST_REGIONS = 20
PLACES = {"true": "the true place", "none": "no place", "wrong": "a wrong place, 1,000 km away or more"}
_MEANS = {"micro": "each crop counts once", "macro": "each class counts once"}
#: Licences of photographs that forbid, or are said to forbid, something about what is made of them.
_NARROW = {"nc": "commercial use", "nd": "derived works", "sa": "another licence for derived works"}


@dataclass(frozen=True)
class Figures:
    """What the stages measured.

    Attributes:
        metrics: of each of ``STAGES``.
        classes: ``label``, ``held_out_crops`` and ``top1`` of each class.
        groups: accuracies ``by`` class size, source and region.
    """

    metrics: dict[str, dict[str, Any]]
    classes: pd.DataFrame
    groups: pd.DataFrame


@dataclass(frozen=True)
class Facts:
    """All that the card tells."""

    study: Params
    description: "Description"
    detector: dict[str, Any]
    figures: Figures
    photographs: Photographs
    temperature: float
    onnx_difference: float | None  # None without ONNX


def read_figures(root: Path) -> Figures:
    """The figures of a study, whose folder is data/<study>.

    Raises:
        InputError: if some are missing or damaged.
    """
    metrics = {}
    for stage in STAGES:
        path = root / "metrics" / f"{stage}.json"
        try:
            metrics[stage] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; run {stage}") from None
        except ValueError:
            raise InputError(f"{path}: no JSON; run {stage} again") from None
    classes = _table(root / "plots" / "classes.csv", ["label", "held_out_crops", "top1"])
    return Figures(metrics, classes, _table(root / "plots" / "groups.csv", GROUPS))


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])[columns]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run evaluation") from None
    except (ValueError, KeyError):
        raise InputError(f"{path}: not the table of {path.stem}; run evaluation again") from None


def card(facts: Facts) -> str:
    """The card as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("instar.export", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"share": share, "cell": cell, "count": lambda number: f"{number:,}"}
    try:
        return environment.get_template("card.md.jinja").render(context(facts))
    except (jinja2.UndefinedError, KeyError, TypeError) as error:
        raise InputError(f"metrics of {facts.study.study}: incomplete ({error}); run evaluation again") from None


def context(facts: Facts) -> dict[str, Any]:
    """What the template is given."""
    about, study, metrics = facts.description, facts.study, facts.figures.metrics
    evaluation = metrics["evaluation"]
    classes = _classes(facts)
    numbers = {rank: int((classes["rank"] == rank).sum()) for rank in RANKS}
    few_classes = {rank for rank, number in numbers.items() if number <= TOP}
    return {
        "facts": facts,
        "study": study,
        "about": about,
        "detector": facts.detector,
        "records": metrics["records"]["rows"],
        "dataset": metrics["dataset"]["rows"],
        "evaluation": evaluation,
        "calibration": evaluation["calibration"],
        "accuracies": list(accuracies(evaluation, few_classes)),
        "no_top5": few_classes,
        "of_genus": int(classes.loc[classes["rank"] == "genus", "held_out"].sum()),
        "regions": _regions(facts.figures.groups),
        "most_regions": MOST_REGIONS,
        "outputs": outputs(about),
        "cut": study.crops,
        "padding": PADDING_RGB,
        "unsearched": facts.detector["family"] == WholeImage.name,
        "adopted": study.detector.epochs == 0,
        "detections": detector_rows(metrics["detection_metrics"]),
        "classes": classes,
        "species": numbers["species"],
        "genera": numbers["genus"],
        "few_crops": FEW_CROPS,
        "few": _names(classes[(classes["train"] < FEW_CROPS) & (classes["rank"] == "species")]),
        "unjudged": _names(classes[(classes["held_out"] == 0) & (classes["rank"] == "species")]),
        "narrow": narrow(facts.photographs.by_licence),
        "backbone": backbone_licence(about.model, pretrained=about.pretrained),
        "chose_epoch": CHOSE_EPOCH if evaluation["judged_chose_epoch"] else "",
    }


def _classes(facts: Facts) -> pd.DataFrame:
    """``name``, ``rank``, ``parent``, ``train`` and ``held_out`` crops and ``top1`` of each class."""
    labels, held = facts.description.labels, facts.figures.classes.set_index("label")
    if set(held.index) != set(labels.names):
        raise InputError("plots/classes.csv: not of the classes of the classifier; run evaluation again")
    held = held.loc[list(labels.names)]
    return pd.DataFrame(
        {
            "name": labels.names,
            "rank": labels.ranks,
            "parent": [labels.names[parent] if parent >= 0 else "" for parent in labels.parents],
            "train": facts.description.train_crops,
            "held_out": held["held_out_crops"].to_numpy(),
            "top1": held["top1"].to_numpy(),
        }
    )


def _names(classes: pd.DataFrame) -> list[str]:
    return sorted(classes["name"])


@dataclass(frozen=True)
class Outputs:
    """What the outputs of ONNX are.

    Attributes:
        logits: classes that have one, in the order of these.
        every: whether that is every class.
        species_sum: whether the species' probabilities sum to 1.
        genera_sum: whether the genera's do.
    """

    logits: list[str]
    every: bool
    species_sum: bool
    genera_sum: bool


def outputs(about: "Description") -> Outputs:
    """What follows from the classes and the loss."""
    labels = about.labels
    found = targets_of(labels, about.loss).outputs.tolist()
    tops = {labels.ranks[lineage[-1]] for lineage in labels.lineages}
    species = {labels.ranks[output] for output in found} == {"species"}
    return Outputs([labels.names[output] for output in found], len(found) == len(labels), species, tops == {"genus"})


def _regions(groups: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines of the table of regions, those with most crops first; none where no place is known."""
    found = groups[groups["by"] == "region"].sort_values(["crops", "group"], ascending=[False, True])
    if set(found["group"]) <= {UNKNOWN}:
        return []
    return [
        {"region": row["group"], "crops": int(row["crops"])} | {rank: _top1(row, rank) for rank in RANKS}
        for row in found.to_dict("records")
    ]


def _top1(row: dict[Any, Any], rank: str) -> dict[str, Any] | None:
    ends = {name: row[f"{rank}_{name}"] for name in ("top1", "low", "high")}
    value, low, high = (None if pd.isna(figure) else figure for figure in ends.values())
    return None if value is None else {"value": value, "low": low, "high": high}


def accuracies(evaluation: dict[str, Any], few_classes: Collection[str] = ()) -> list[dict[str, Any]]:
    """Lines of the table of accuracies: by resolution and kind of place, by rank, over crops and over classes.

    Args:
        evaluation: of metrics/evaluation.json.
        few_classes: ranks with so few classes that the right one is always among the first five.
    """
    found = []
    for image_px, by_place in evaluation["resolutions"].items():
        for place, ranks in by_place.items():
            for rank in ("species", "genus"):
                figures = ranks[f"{rank}_accuracy"]
                for mean, weighing in _MEANS.items() if figures else ():
                    told = PLACES[place] + (where_known(evaluation) if place == "true" else "")
                    line = {"image_px": image_px, "place": told, "crops": ranks["crops"], "rank": rank}
                    top5 = None if rank in few_classes else figures[f"top5_{mean}"]
                    found.append({**line, "mean": weighing, "top1": figures[f"top1_{mean}"], "top5": top5})
    return found


def detector_rows(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Figures of the detector on held-out photographs; none where no photograph was annotated."""
    if "test" not in metrics:
        return []
    intervals, at = metrics.get("interval_95", {}), metrics["at_crops_confidence"]
    given = [(name, metrics["test"].get(name), intervals.get(name)) for name in ("AP50-95", "AP50")]
    for kind in ("recall", "precision"):
        name = f"{kind} at the confidence {at['confidence']:g}"
        given.append((name, at[f"test_{kind}"], intervals.get(f"{kind}_at_crops_confidence")))
    return [
        (name, {"value": value, "low": (interval or [None])[0], "high": (interval or [None])[-1]})
        for name, value, interval in given
        if value is not None
    ]


def narrow(licences: dict[str, int]) -> list[str]:
    """What licences of some photographs forbid, each with the number of photographs."""
    found = []
    for part, forbidden in _NARROW.items():
        if count := sum(number for name, number in licences.items() if part in name.split("-")):
            found.append(f"{forbidden} ({count:,} photographs)")
    if count := sum(licences.get(name, 0) for name in ("all-rights-reserved", "unknown")):
        found.append(f"any use that the author has not allowed ({count:,} photographs)")
    return found


def backbone_licence(model: str, *, pretrained: bool) -> str:
    """What is known of the licence of the weights that training started from."""
    from instar.classifier.published import PUBLISHED

    if not pretrained:
        return "Training started from random weights, which nobody licenses."
    if known := PUBLISHED.get(model):
        return f"Training started from published weights under: {known.licence} ({known.source})."
    return "Training started from published weights whose licence is not known here: look it up before you publish."


def share(figure: dict[str, Any] | float | None) -> str:
    """``71.2 % (64.0–78.1 %)``, ``71.2 %`` where there is no interval or none of any width, an empty text for none."""
    if figure is None or figure != figure:  # NaN in a table
        return ""
    if not isinstance(figure, dict):
        return f"{100 * figure:.1f} %"
    low, high = figure["low"], figure["high"]
    interval = f" ({100 * low:.1f}–{100 * high:.1f} %)" if varies(figure["value"], low, high) else ""
    return f"{share(figure['value'])}{interval}"


def cell(text: str) -> str:
    """A text that does not end a table's cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")
