"""Stage ``report``: one self-contained HTML page about a study, for people who want to know what came out."""

from collections import Counter
from pathlib import Path
from typing import Any

from instar.annotations import read_annotations
from instar.compare.published import published_split
from instar.files import replacing
from instar.mask_figures import confidence as chosen_confidence
from instar.pages import template
from instar.report import classifier, detector
from instar.report.compared import read_compared
from instar.report.flow import steps
from instar.report.individuals import individuals
from instar.report.inputs import Inputs, read_inputs
from instar.report.maps import maps
from instar.report.patches import shown_patches
from instar.report.pictures import Picture, sampled_photographs, showable
from instar.report.provenance import licence_counts, packages, parameter_sections, weights_licences
from instar.report.sheet import Sheet, sheet_by_class, sheet_of_sample
from instar.report.summary import sentence, tiles
from instar.report.taxa import taxa
from instar.report.trays import Trays, trays
from instar.splits import CHOSE_EPOCH

#: What a held-out crop can share with a training one, as metrics/dataset.json calls it and as people do.
RELATIONS = {
    "photograph": "photograph",
    "observation": "observation",
    "near_duplicate": "near-duplicate",
    "observer": "observer",
    "place_day": "place and day",
}


def report(
    records: Path,
    taxonomy: Path,
    annotations: Path,
    images: Path,
    detections: Path,
    crops: Path,
    metrics: Path,
    plots: Path,
    params: Path,
    out: Path,
    *,
    study: str,
    shards: list[str],
    confidence: float,
    photographs: int,
    crops_per_class: int,
) -> None:
    """Write one HTML page about the study: data, pictures, figures, charts, and how all of it was made.

    The page needs no network and no other file. Equal inputs give equal bytes.

    Args:
        records: table of the photographs that the sources gave.
        taxonomy: table of their taxa.
        annotations: COCO JSON; masks of held-out photographs are drawn beside what was detected.
        images: folder of the photographs' shards.
        detections: folder of the boxes' tables.
        crops: folder of the crops' shards.
        metrics: folder of ``<stage>.json`` with the figures of every stage.
        plots: folder of the curves and class tables, and of what ``instar compare`` left.
        params: the parameters of the study, shown with their meaning.
        out: HTML to write.
        study: the page's title.
        shards: names of the shards.
        confidence: boxes with a lower score are not drawn.
        photographs: how many are shown with their boxes.
        crops_per_class: how many crops of each class are shown.

    Raises:
        InputError: if an input is missing or damaged, or the rows of a stage do not add up.
    """
    tables = (records, taxonomy, images, detections, crops, metrics, plots, params)
    inputs = read_inputs(*tables, shards=shards, confidence=confidence)
    shown = sampled_photographs(inputs.images, inputs.boxes, images, inputs.taxa, photographs)
    sheet = sheet_by_class(inputs, crops, crops_per_class) if inputs.has_labels else None
    sample = [] if inputs.has_labels else sheet_of_sample(inputs, crops, 5 * crops_per_class)
    page = _page(
        **_context(inputs, confidence),
        study=study,
        photographs=shown,
        trays=_trays(inputs, annotations, images, detections, confidence),
        individuals=individuals(inputs, crops) if inputs.has_individuals else None,
        sheet=sheet,
        sample=sample,
        credits=_credits(sheet, sample),
    )
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _trays(inputs: Inputs, annotations: Path, images: Path, detections: Path, confidence: float) -> Trays | None:
    """The section on masks, which only a study of outlined animals has."""
    chosen = chosen_confidence(inputs.metrics["detection_metrics"], confidence)
    annotated, _ = read_annotations(annotations)
    patches = shown_patches(annotated, showable(inputs.images), images, detections, inputs.taxa, chosen)
    compared = read_compared(inputs, annotations, images, detections)
    return trays(inputs, patches, chosen, compared, published_split(annotated))


def _context(inputs: Inputs, confidence: float) -> dict[str, Any]:
    genera = inputs.records["taxon_id"].map({key: taxon.genus for key, taxon in inputs.taxa.items()})
    places = inputs.records[["latitude", "longitude"]].assign(genus=genera)
    return {
        "summary": sentence(inputs, confidence),
        "tiles": tiles(inputs, confidence),
        "has_labels": inputs.has_labels,
        "taxa": taxa(inputs) if inputs.has_taxa else None,
        "steps": steps(inputs.metrics),
        "confidence": confidence,
        "fetched": len(inputs.images),
        "hidden": len(inputs.images) - len(showable(inputs.images)),
        "crops_made": len(inputs.crops),
        "metrics": inputs.metrics,
        "relations": RELATIONS,
        "threshold_text": detector.threshold_text(inputs.metrics["detection_metrics"], confidence),
        "detector": detector.measures(inputs, confidence),
        "detector_charts": detector.charts(inputs, confidence),
        "classifier_charts": classifier.charts(inputs) if inputs.has_labels else [],
        **(_judged(inputs) if inputs.has_labels else {}),
        "maps": maps(places),
        "mapped": int(places[["latitude", "longitude"]].notna().all(axis=1).sum()),
        "unnamed": int((inputs.images["rights_holder"].fillna("").str.strip() == "").sum()),
        "licences": licence_counts(inputs.records, inputs.crops),
        "weights": weights_licences(inputs.params),
        "packages": packages(),
        "parameters": parameter_sections(inputs.params),
    }


def _judged(inputs: Inputs) -> dict[str, Any]:
    """What the stage evaluation found beyond the figures of crops."""
    metrics, few = inputs.metrics["evaluation"], classifier.few_classes(inputs)
    titles, settings = classifier.settings(inputs)
    return {
        "classifier": classifier.measures(metrics, few=few),
        "no_top5": sorted(few, reverse=True),
        "titles": titles,
        "settings": settings,
        "groups": classifier.groups(inputs),
        "calibration_text": classifier.calibration_text(metrics),
        "photographs_text": classifier.photographs_text(metrics),
        "of_photographs": classifier.measures(metrics["photographs"], "photograph", few),
        "chose_epoch": CHOSE_EPOCH if metrics["judged_chose_epoch"] else "",
        "identifiers_text": classifier.identifiers_text(metrics),
    }


def _credits(sheet: Sheet | None, sample: list[Picture]) -> dict[str, Counter[tuple[str, str]]]:
    """Licences and links of the crops on the page, and how many have the same, by rights holder."""
    lines = [line for genus in sheet.genera.values() for line in genus] if sheet else []
    found: dict[str, Counter[tuple[str, str]]] = {}
    for picture in [*sample, *(picture for line in lines for picture in line.pictures)]:
        found.setdefault(picture.holder, Counter())[picture.licence, picture.link] += 1
    return dict(sorted(found.items()))


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchors and titles of the sections that the page has."""
    sections = {
        "flow": ("What went in and what was dropped", True),
        "photographs": ("Photographs", context["photographs"]),
        "crops": ("Crops", context["sheet"] or context["sample"]),
        "detector": ("Detector", True),
        "trays": ("Masks on trays", context["trays"]),
        "dataset": ("Data set", context["has_labels"]),
        "classifier": ("Classifier", context["has_labels"]),
        "taxa": ("Taxa of the animals", context["taxa"]),
        "individuals": ("Individuals", context["individuals"]),
        "map": ("Map of records", context["maps"].panels),
        "making": ("How it was made", True),
    }
    return [(anchor, title) for anchor, (title, there) in sections.items() if there]


def _page(**context: Any) -> str:
    return template(Path(__file__).with_name("template.html.jinja")).render(**context, contents=_contents(context))
