"""The head of the page: the study in a sentence and in a few figures."""

from dataclasses import dataclass

from instar.mask_figures import masks_of
from instar.report import classifier, detector
from instar.report.individuals import rank_1_of, score_of
from instar.report.inputs import Inputs
from instar.report.taxa import beside_order, right_at_order


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    value: str
    name: str
    note: str


def sentence(inputs: Inputs, confidence: float) -> str:
    """What came out, in one sentence."""
    rows = {stage: figures["rows"] for stage, figures in inputs.metrics.items() if "rows" in figures}
    text = f"{rows['records']['out']:,} photographs gave {rows['crops']['out']:,} crops"
    if inputs.has_labels:
        text += f", {rows['dataset']['out']:,} of them used for {_species(inputs):,} species"
    if recall := detector.recall(inputs, confidence):
        text += f"; the detector finds {recall.short} of the annotated animals{_by_boxes(inputs)}"
    if inputs.has_labels:
        top1 = classifier.measures(inputs.metrics["evaluation"])[0]
        text += f"; the classifier names the right species for {top1.short} of the held-out crops"
    if inputs.has_taxa and (order := right_at_order(inputs.metrics["evaluation"])):
        text += f"; the classifier names the right order for {order.short} of the held-out crops"
        beside = beside_order(inputs.metrics["evaluation"])[0]
        text += f"; {beside}" if beside else ""
    if inputs.has_individuals:
        judged = inputs.metrics["evaluation"]
        text += (
            f"; {judged['known_individuals']:,} individuals are known, and on {judged['photographs']:,} photographs of "
            f"known and new ones the score is {score_of(judged).short}"
        )
        if rank_1 := rank_1_of(judged):
            queries = judged["ways"][judged["answer_by"]]["reid"]["queries"]
            text += (
                f", and the best known individual is right for {rank_1.short} of {queries:,} photographs of known ones"
            )
    return f"{text}."


def tiles(inputs: Inputs, confidence: float) -> list[Tile]:
    """The key figures."""
    metrics = inputs.metrics
    recall = detector.recall(inputs, confidence)
    ap50 = next((one for one in detector.measures(inputs, confidence) if one.name == "AP50"), None)
    found = [
        Tile(f"{metrics['records']['rows']['out']:,}", "photographs", f"of {metrics['records']['rows']['in']:,} read"),
        Tile(f"{len(inputs.crops):,}", "crops", f"from {inputs.boxes['photo_key'].nunique():,} photographs"),
    ]
    if recall:
        found.append(
            Tile(
                recall.value_text, "of the animals found", f"with a score of at least {confidence:g}{_by_boxes(inputs)}"
            )
        )
    if ap50 is not None:
        found.append(Tile(ap50.value_text, "AP50 of the detector", ap50.interval_text))
    if inputs.has_labels:
        named = {one.name: one for one in classifier.measures(metrics["evaluation"])}
        note = f"{metrics['dataset']['rows']['out']:,} crops after cleaning"
        found.insert(2, Tile(f"{_species(inputs):,}", "species", note))
        for name, text in (("species, top 1", "species named right"), ("genus, top 1", "genera named right")):
            found.append(Tile(named[name].value_text, text, named[name].interval_text))
    if inputs.has_taxa and (order := right_at_order(metrics["evaluation"])):
        beside = ", ".join(filter(None, [order.interval_text, beside_order(metrics["evaluation"])[1]]))
        found.append(Tile(order.value_text, "orders named right", beside))
    if inputs.has_individuals:
        judged = metrics["evaluation"]
        found.insert(
            2,
            Tile(
                f"{judged['known_individuals']:,}",
                "known individuals",
                f"of {metrics['dataset']['individuals']:,} individuals",
            ),
        )
        found.append(Tile(score_of(judged).value_text, "score, known and new", score_of(judged).interval_text))
        if rank_1 := rank_1_of(judged):
            found.append(Tile(rank_1.value_text, "individuals at rank 1", rank_1.interval_text))
    return found


def _by_boxes(inputs: Inputs) -> str:
    """What tells a figure of boxes from those of masks, which a study with masks has beside it."""
    return " by box" if masks_of(inputs.metrics["detection_metrics"]) else ""


def _species(inputs: Inputs) -> int:
    evaluation = inputs.metrics["evaluation"]
    return int(evaluation["species"] + evaluation["species_in_training_only"])
