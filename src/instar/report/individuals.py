"""The section on individuals: who was recognised, who was told to be new, and at which score the line is drawn."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from instar.compare.published import ANIMALCLEF25, ANIMALCLEF25_DATASETS, HIDDEN_QUERIES
from instar.compared import CLASSIFIERS, FOLDER, current, identified_by
from instar.report.inputs import Inputs
from instar.report.measures import Measure
from instar.report.pictures import CROP_PX, Picture, showable, thumbnails
from instar.report.svg import MUTED, SERIES, chart
from instar.report.trays import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: New individuals, fewer of which say little.
FEW = 10
_SWEEP = ["way", "dataset", "threshold", "baks", "baus", "score"]
_CMC = ["way", "rank", "share"]
_MATCHES = ["verdict", "key", "match", "label", "best", "answer", "score"]
#: Of the kept epoch, as ``instar compare`` has it.
TRAINED = {
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
}
_SIZE_PX = (340, 260)
_NAMES = {
    "softmax": "softmax of the classifier",
    "nearest": "nearest photograph",
    "centroid": "centroid",
    "local": "local features",
    "fused": "all of these, calibrated and fused",
    "fused without local": "all but local features, fused: what instar identify has",
}


@dataclass(frozen=True)
class Match:
    """A judged photograph beside the most similar one of its best candidate."""

    verdict: str
    asked: Picture
    found: Picture
    text: str


@dataclass(frozen=True)
class Individuals:
    """What the section shows."""

    sentences: list[str]
    tables: list[Table]
    charts: list[tuple[str, Markup]]
    matches: dict[str, list[Match]]


def individuals(inputs: Inputs, crops: Path) -> Individuals:
    """The section, from metrics/evaluation.json, metrics/dataset.json, metrics/classifier.json and plots.

    Args:
        inputs: of the page.
        crops: folder of the tars of the crops.

    Raises:
        InputError: if a plot is missing or damaged.
    """
    metrics = inputs.metrics["evaluation"]
    compared, missing = classifiers(inputs)
    # scores of other animals would say nothing beside the published ones
    is_published = set(metrics["ways"][metrics["answer_by"]]["datasets"]) <= ANIMALCLEF25_DATASETS
    anchors = [_published(metrics)] if is_published else []
    tables = [_ways(metrics), _datasets(metrics), *anchors, *compared, _splits(inputs), _epochs(inputs)]
    return Individuals([*_sentences(inputs), *missing], tables, _charts(inputs), _matches(inputs, crops))


def score_of(metrics: dict[str, Any]) -> Measure:
    """The key figure: sqrt(BAKS · BAUS) of the way that answers, mean over data sets."""
    found = metrics["ways"][metrics["answer_by"]]["score"]
    meaning = "geometric mean of the balanced accuracies on known and on new individuals, mean over data sets"
    return Measure("score", found["value"], found["low"], found["high"], meaning)


def rank_1_of(metrics: dict[str, Any]) -> Measure | None:
    """Share of the known individuals' photographs whose best candidate is right; None where there is none."""
    found = metrics["ways"][metrics["answer_by"]]["reid"]["rank_1"]
    if found is None:
        return None
    return Measure("rank 1", found["value"], found["low"], found["high"], "the best known individual is the right one")


def _sentences(inputs: Inputs) -> list[str]:
    made, judged = inputs.metrics["dataset"], inputs.metrics["evaluation"]
    text = (
        f"{made['individuals']:,} individuals, {made['seen_once']:,} of them seen once, split by {made['split_by']}; "
    )
    text += f"{judged['known_individuals']:,} are known to the classifier. Judged on {judged['photographs']:,} "
    text += f"photographs of {judged['individuals']:,} individuals in {judged['encounters']:,} encounters of the split "
    text += f"{judged['split']}. Intervals are from resampling encounters and know nothing of another training. "
    new = sum(found["new"] for found in judged["ways"][judged["answer_by"]]["datasets"].values())
    text += f"Figures of new ones rest on {new:,} individuals{': too few to rely on' if new < FEW else ''}."
    if judged["simulated_new"]:
        text += (
            f" No individual of this split is new in {', '.join(judged['simulated_new'])}, so each photograph there "
        )
        text += "counts a second time as new, with its own individual left out of the known ones: a stand-in, since "
        text += "newcomers may be more alike or less."
    if judged["crosswise"]:
        text += (
            " Thresholds and calibrations are of the same photographs, of each half of the individuals by the other."
        )
    if judged["judged_chose_epoch"]:
        text += " These photographs also chose the epoch whose weights were kept, so the figures are somewhat too good."
    found = [text, _leaks(made, judged)]
    if asked := judged["submission"]["asked"]:
        told = judged["submission"]
        found.append(
            f"Of {asked:,} queries {told['new']:,} are answered as new; {told['without_crop']:,} have no crop and are "
            "among these. The answers are in submission.csv."
        )
    return [one for one in found if one]


def _leaks(made: dict[str, Any], judged: dict[str, Any]) -> str:
    leak, of_judged = made["leakage"][judged["split"]], judged["leaks"]
    if not leak["photographs"]:
        return ""
    text = f"Of the {leak['photographs']:,} judged photographs {leak['encounter']:,} are of an encounter that also "
    text += f"trains, and {leak['near_duplicate']:,} look nearly like a training one."
    if not leak["encounter"]:
        return text
    both = [(of["encounter trains"]["rank_1"], of["encounter held out"]["rank_1"]) for of in of_judged.values()]
    gains = [trains - held_out for trains, held_out in both if trains is not None and held_out is not None]
    if gains:
        mean = 100 * sum(gains) / len(gains)
        text += f" The best known individual is right for {abs(mean):.1f} percentage points "
        text += f"{'fewer' if mean < 0 else 'more'} of the first than of photographs of the same data set whose "
        text += f"encounter is held out: what the leak is worth, mean over {len(gains):,} of {len(of_judged):,} data "
        text += "sets."
    else:
        text += " What the leak is worth can't be told: no data set has photographs of known individuals both with "
        text += "and without their encounter in training."
    if undated := sum(of["no date"]["photographs"] for of in of_judged.values()):
        text += f" {undated:,} photographs without date are in neither group."
    return text


def _measured(found: dict[str, float] | None) -> str:
    return "–" if found is None else Measure("", found["value"], found["low"], found["high"], "").short


def _ways(metrics: dict[str, Any]) -> Table:
    lines = []
    for way, found in metrics["ways"].items():
        name = f"{_NAMES[way]}{' (answers)' if way == metrics['answer_by'] else ''}"
        figures = [found["score"], found["baks"], found["baus"], found["reid"]["rank_1"], found["reid"]["rank_5"]]
        lines.append([name, *(_measured(figure) for figure in [*figures, found["reid"]["map"]])])
    ranked = metrics["photographs_ranked"]
    lines.append(
        ["among single photographs", "–", "–", "–", *(_measured(ranked[k]) for k in ("rank_1", "rank_5", "map"))]
    )
    sentence = (
        "BAKS is the balanced accuracy on known individuals, BAUS on new ones, the score is sqrt(BAKS · BAUS) of "
    )
    sentence += "each data set and their mean. Rank 1 and 5 are shares of known individuals' photographs whose right "
    sentence += (
        "individual is the best or among the best five, whatever the threshold; mAP is the mean average precision."
    )
    if "local" in metrics["ways"]:
        sentence += " Local features look only at the photographs that the network finds most similar "
        sentence += "(evaluation.local_candidates), so they depend on it."
    columns = ["compared by", "score", "BAKS", "BAUS", "rank 1", "rank 5", "mAP"]
    return Table("Ways to compare photographs", columns, lines, sentence)


def _datasets(metrics: dict[str, Any]) -> Table:
    lines = []
    for name, found in metrics["ways"][metrics["answer_by"]]["datasets"].items():
        threshold = "–" if found["threshold"] is None else f"{found['threshold']:.3g}"
        counts = [f"{found['known']:,}", f"{found['new']:,}", f"{found['photographs']:,}"]
        lines.append([name, *counts, threshold, *(_measured(found[key]) for key in ("score", "baks", "baus"))])
    columns = ["data set", "known", "new", "photographs", "threshold", "score", "BAKS", "BAUS"]
    caption = f"By data set, compared by {_NAMES[metrics['answer_by']]}"
    return Table(caption, columns, lines, "A best candidate with a score below the threshold is answered as new.")


def _published(metrics: dict[str, Any]) -> Table:
    own = score_of(metrics)
    interval = "" if own.low is None or own.high is None else f" ({own.low:.5f} to {own.high:.5f})"
    lines = [["this study, on its held-out photographs", f"{own.value:.5f}{interval}"]]
    lines += [[name, f"{score:.5f}"] for name, score in ANIMALCLEF25.items()]
    return Table("Published scores", ["answers", "score"], lines, HIDDEN_QUERIES)


def classifiers(inputs: Inputs) -> tuple[list[Table], list[str]]:
    """What ``instar compare individuals`` left of this data set, and a sentence where it is missing or out of date."""
    evaluated, params = inputs.metrics["evaluation"], inputs.params
    of = identified_by(evaluated.get("dataset_md5"), params.seed, asdict(params.evaluation))
    rows, stale = current(inputs.plots / FOLDER / CLASSIFIERS, "preset", of)
    told = [f"Not shown of the comparison of classifiers, since data or settings are others now: {', '.join(stale)}."]
    missing = told if stale else [] if rows else ["Other classifiers beside this one: instar compare individuals."]
    if not rows:
        return [], missing
    lines = []
    for row in sorted(rows, key=lambda row: ("members" in row, -row["score"], row["preset"])):
        name = f"{row['preset']} ({', '.join(row['members'])})" if "members" in row else row["preset"]
        figures = (_of_compared(row, figure) for figure in ("score", "baks", "baus", "rank_1", "map"))
        trained = ("–" if row[key] is None else f"{row[key]:.4f}" for key in TRAINED)
        epoch = "–" if row["epoch"] is None else f"{row['epoch']}"
        lines.append([name, *figures, epoch, *trained, f"{row['parameters']:,}"])
    columns = ["classifier", "score", "BAKS", "BAUS", "rank 1", "mAP", "epoch kept", *TRAINED.values(), "parameters"]
    sentence = "Made by instar compare individuals of the same photographs, and judged as the classifier of this page; "
    sentence += (
        "all together is the mean of the scores of several, calibrated. Losses and accuracy are of the kept epoch."
    )
    return [Table("Classifiers", columns, lines, sentence)], missing


def _of_compared(row: dict[str, Any], figure: str) -> str:
    if row[figure] is None:
        return "–"
    low, high = row["interval_95"][figure]
    return _measured({"value": row[figure], "low": low, "high": high})


def _splits(inputs: Inputs) -> Table:
    lines = []
    for name, of_dataset in inputs.metrics["dataset"]["datasets"].items():
        for split, found in of_dataset.items():
            if found["photographs"]:
                keys = ("photographs", "individuals", "new_individuals", "encounters", "without_date")
                lines.append([f"{name}, {split}", *(f"{found[key]:,}" for key in keys)])
    columns = ["data set and split", "photographs", "individuals", "new", "encounters", "photographs without date"]
    return Table(
        "Splits", columns, lines, "New are individuals of which nothing trains; of queries no individual is known."
    )


def _epochs(inputs: Inputs) -> Table:
    lines = [
        [
            f"{row['epoch']}",
            f"{row['train_loss']:.4f}",
            *("–" if row[key] is None else f"{row[key]:.4f}" for key in ("validation_loss", "validation_accuracy")),
            f"{row['learning_rate']:.2e}",
        ]
        for row in inputs.metrics["classifier"]["table"]
    ]
    columns = ["epoch", "training loss", "validation loss", "validation accuracy", "learning rate"]
    return Table("Training of the classifier", columns, lines, "Validation is of known individuals alone.")


def _charts(inputs: Inputs) -> list[tuple[str, Markup]]:
    metrics = inputs.metrics["evaluation"]
    sweep, cmc = inputs.curve("openset.csv", _SWEEP), inputs.curve("cmc.csv", _CMC)
    found = [("Ways to compare: the right individual among the best", _cmc_chart(cmc))]
    own = sweep[sweep["way"] == metrics["answer_by"]]
    datasets = metrics["ways"][metrics["answer_by"]]["datasets"]
    for number, (name, of_one) in enumerate(datasets.items()):
        part = own[own["dataset"].astype(str) == name]
        found.append((f"{name}: where to draw the line", _sweep_chart(number, name, part, of_one["threshold"])))
    return found


def _cmc_chart(table: pd.DataFrame) -> Markup:
    def draw(axes: "Axes") -> None:
        ways, colours = table["way"].unique(), [*SERIES, "#cc79a7", "#56b4e9"]
        for way, colour in zip(ways, colours[: len(ways)], strict=True):
            part = table[table["way"] == way]
            axes.plot(part["rank"], part["share"], color=colour, marker=".", label=way)
        axes.set(xlabel="among the best so many", ylabel="share of photographs", ylim=(0, 1.02))
        axes.locator_params(axis="x", integer=True)
        axes.legend(loc="lower right")

    return chart("cmc", "Share of photographs whose right individual is among the best candidates", _SIZE_PX, draw)


def _sweep_chart(number: int, name: str, table: pd.DataFrame, threshold: float | None) -> Markup:
    table = table.sort_values("threshold", kind="stable")

    def draw(axes: "Axes") -> None:
        for column, colour, label in zip(("baks", "baus", "score"), SERIES, ("BAKS", "BAUS", "score"), strict=False):
            axes.step(table["threshold"], table[column], where="pre", color=colour, label=label)
        if threshold is not None:
            axes.axvline(threshold, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set(xlabel="threshold", ylabel="on validation", ylim=(0, 1.02))
        axes.legend(loc="lower center")

    return chart(f"openset-{number}", f"BAKS, BAUS and score of {name} over the threshold", _SIZE_PX, draw)


def _matches(inputs: Inputs, folder: Path) -> dict[str, list[Match]]:
    """Pairs of pictures by verdict, of those whose licence lets both be shown."""
    table = inputs.curve("matches.csv", _MATCHES)
    allowed = showable(inputs.crops).set_index("key", drop=False)
    table = table[table["key"].isin(allowed.index) & table["match"].isin(allowed.index)]
    sides = [
        thumbnails(allowed.loc[list(table[side])], folder, inputs.taxa, CROP_PX) if len(table) else []
        for side in ("key", "match")
    ]
    found: dict[str, list[Match]] = {}
    for row, asked, other in zip(table.itertuples(), *sides, strict=True):
        text = f"{row.label}; most like {row.best} ({row.score:.2f})"
        found.setdefault(str(row.verdict), []).append(Match(str(row.verdict), asked, other, text))
    return found
