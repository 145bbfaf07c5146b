"""The model card: what the models learnt from, how good they are, and where they end."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from instar.errors import InputError
from instar.export.attribution import Photographs
from instar.params import Params
from instar.splits import CHOSE_EPOCH

if TYPE_CHECKING:
    from instar.classifier.model import Description

#: A class learnt from fewer crops is named among the limits.
FEW_CROPS = 30
#: Of metrics/<stage>.json.
STAGES = ("records", "detector", "detection_metrics", "dataset", "classifier", "evaluation")
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
    """

    metrics: dict[str, dict[str, Any]]
    classes: pd.DataFrame


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
    path = root / "plots" / "classes.csv"
    try:
        classes = pd.read_csv(path, keep_default_na=False, na_values=[""])
        return Figures(metrics, classes[["label", "held_out_crops", "top1"]])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run evaluation") from None
    except (ValueError, KeyError):
        raise InputError(f"{path}: not the table of classes; run evaluation again") from None


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
    about, metrics = facts.description, facts.figures.metrics
    evaluation = metrics["evaluation"]
    classes = _classes(facts)
    return {
        "facts": facts,
        "study": facts.study,
        "about": about,
        "detector": facts.detector,
        "records": metrics["records"]["rows"],
        "dataset": metrics["dataset"]["rows"],
        "evaluation": evaluation,
        "calibration": evaluation["calibration"],
        "accuracies": list(accuracies(evaluation)),
        "detections": detector_rows(metrics["detection_metrics"]),
        "classes": classes,
        "species": int((classes["rank"] == "species").sum()),
        "genera": int((classes["rank"] == "genus").sum()),
        "few_crops": FEW_CROPS,
        "few": _names(classes[(classes["train"] < FEW_CROPS) & (classes["rank"] == "species")]),
        "unjudged": _names(classes[(classes["held_out"] == 0) & (classes["rank"] == "species")]),
        "narrow": narrow(facts.photographs.by_licence),
        "backbone": backbone_licence(about.model, pretrained=about.pretrained),
        "places": PLACES,
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


def accuracies(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of the table of accuracies: by resolution and kind of place, by rank, over crops and over classes."""
    found = []
    for image_px, by_place in evaluation["resolutions"].items():
        for place, ranks in by_place.items():
            for rank in ("species", "genus"):
                figures = ranks[f"{rank}_accuracy"]
                for mean, weighing in _MEANS.items() if figures else ():
                    line = {"image_px": image_px, "place": PLACES[place], "rank": rank, "mean": weighing}
                    found.append({**line, "top1": figures[f"top1_{mean}"], "top5": figures[f"top5_{mean}"]})
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
        found.append(f"everything that its author did not allow ({count:,} photographs)")
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
    """``71.2 % (64.0–78.1 %)``, ``71.2 %`` without an interval, an empty text for no figure."""
    if figure is None or figure != figure:  # NaN in a table
        return ""
    if not isinstance(figure, dict):
        return f"{100 * figure:.1f} %"
    interval = "" if figure["low"] is None else f" ({100 * figure['low']:.1f}–{100 * figure['high']:.1f} %)"
    return f"{share(figure['value'])}{interval}"


def cell(text: str) -> str:
    """A text that does not end a table's cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")
