"""The section on individuals: who was recognised, who was told to be new, and at which score the line is drawn."""

from dataclasses import asdict, dataclass
from itertools import cycle, islice
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from instar.compare.published import ANIMALCLEF25, ANIMALCLEF25_DATASETS, HIDDEN_QUERIES
from instar.compared import CLASSIFIERS, FOLDER, current, identified_by
from instar.report.inputs import Inputs
from instar.report.measures import Measure, percent
from instar.report.parts import Chart, Table
from instar.report.pictures import CROP_PX, Picture, showable, thumbnails
from instar.report.svg import MUTED, SERIES, chart
from instar.tables import NEW_INDIVIDUAL

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
_COLOURS = (*SERIES, "#cc79a7", "#e69f00")
#: How photographs were held out, as dataset.split_by names it.
SPLIT_BY = {
    "published": "of each individual seen twice or more a fifth of its photographs is held out, drawn at random",
    "time": "of each individual its last encounters are held out",
    "open_set": "some individuals are held out wholly, so that they are new, and of the others the last encounters",
}
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
    charts: list[Chart]
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
    found = [_split(made, judged), _judged(judged), _answering(judged), _leaks(made, judged)]
    if asked := judged["submission"]["asked"]:
        told = judged["submission"]
        text = f"Of {asked:,} queries, photographs whose individual nobody told, {told['new']:,} are answered as new"
        if told["without_crop"]:
            text += f"; {told['without_crop']:,} have no crop and are among these"
        if told["not_in_database"]:
            text += f"; {told['not_in_database']:,} were named by a review as no individual of the database of their "
            text += "data set and are among these, too"
        found.append(f"{text}. The answers are in submission.csv.")
    return [one for one in found if one]


def _split(made: dict[str, Any], judged: dict[str, Any]) -> str:
    trained = sum(of["train"]["photographs"] for of in made["datasets"].values() if "train" in of)
    text = f"{made['individuals']:,} individuals, {made['seen_once']:,} of them seen once. By dataset.split_by = "
    text += f"{made['split_by']}, {SPLIT_BY[made['split_by']]}. {judged['known_individuals']:,} individuals are known: "
    return f"{text}the classifier learnt them, and what is judged is compared with their {trained:,} photographs."


def _judged(judged: dict[str, Any]) -> str:
    of_each = list(judged["ways"][judged["answer_by"]]["datasets"].values())
    known = sum(found["known"] for found in of_each)
    of_known = sum(found["photographs"] - found["new_photographs"] for found in of_each)
    text = (
        f"Judged on {judged['photographs']:,} photographs of {judged['individuals']:,} individuals in "
        f"{judged['encounters']:,} encounters of the split {judged['split']}: {of_known:,} photographs of {known:,} "
        f"known individuals and {judged['photographs'] - of_known:,} photographs of {judged['individuals'] - known:,} "
        "new ones. Intervals are from resampling encounters and know nothing of another training. "
    )
    new = sum(found["new"] for found in of_each)
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
    return text


def _answering(judged: dict[str, Any]) -> str:
    where = "the judged photographs" if judged["crosswise"] else "validation"
    best = "the mean over data sets" if judged["threshold_by"] == "all" else "the data set"
    return (
        "A photograph is compared with the known individuals of its data set. The best candidate is the answer where "
        "its similarity reaches the threshold; below it the animal is told to be new. BAKS is the balanced accuracy on "
        "known individuals: the share of each one's photographs that is named right, and the mean of these. BAUS is "
        "the same of new individuals told to be new. The score is sqrt(BAKS · BAUS) of each data set, and the mean of "
        f"these. The charts of thresholds show them on {where}; dashed is the threshold in use, the best for {best}."
    )


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
        f"Rank 1 and 5 are shares of {ranked['queries']:,} photographs of known individuals whose right individual is "
        "the best or among the best five candidates, whatever the threshold; mAP is the mean average precision, here "
        "the mean of 1 / rank. The last line ranks single photographs, by the network's embedding, in place of "
        "individuals: at rank 1 the most similar photograph shows the right individual, and mAP asks for all "
        "photographs of it. Softmax is what the classifier says; the other ways compare with photographs: with the "
        "most similar one, with the mean of all of an individual, or point by point of the pattern."
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
        shown = found["photographs"] - found["new_photographs"]
        counts = [found["known"], shown, found["new"], found["new_photographs"]]
        figures = (_measured(found[key]) for key in ("score", "baks", "baus"))
        lines.append([name, *(f"{count:,}" for count in counts), threshold, *figures])
    of_all = metrics["ways"][metrics["answer_by"]]
    if len(lines) > 1:
        lines.append(
            ["mean over data sets", *["–"] * 5, *(_measured(of_all[key]) for key in ("score", "baks", "baus"))]
        )
    columns = ["data set", "known individuals", "their photographs", "new individuals", "their photographs"]
    columns += ["threshold", "score", "BAKS", "BAUS"]
    caption = f"By data set, compared by {_NAMES[metrics['answer_by']]}"
    return Table(
        caption, columns, lines, "A best candidate whose similarity is below the threshold is answered as new."
    )


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
    sentence = (
        "What trains is learnt and compared with; validation chooses thresholds and calibrations, and the test is "
        "judged, or validation where there is no test. New are individuals of which nothing trains; of queries no "
        "individual is known."
    )
    return Table("Splits", columns, lines, sentence)


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
    return Table("Training of the classifier", columns, lines, _of_training(inputs))


def _of_training(inputs: Inputs) -> str:
    """What the figures of validation are of, and what guessing would reach."""
    trained, keep = inputs.metrics["classifier"], inputs.params.classifier.keep
    accuracies = [row["validation_accuracy"] for row in trained["table"] if row["validation_accuracy"] is not None]
    kept = trained["best_epoch"] if accuracies and keep != "last" else trained["epochs"]
    text = f"The weights of epoch {kept} are kept (classifier.keep = {keep}). "
    if not accuracies:
        return f"{text}No photograph of a known individual is for validation."
    guess = 1 / trained["classes"]
    text += (
        f"Validation accuracy is the share of {trained['validation_crops']:,} validation photographs of known "
        f"individuals that the softmax names right, among all {trained['classes']:,} that it learnt; new ones are left "
        f"out. Guessing is right for {percent(guess, 1)}, at a loss of {-log(guess):.2f}."
    )
    if max(accuracies) <= guess:
        text += (
            f" No epoch is better than that: in {trained['steps']:,} steps the network learnt too little to tell these "
            "individuals apart, so that what rests on it alone is poor."
        )
    return text


def _charts(inputs: Inputs) -> list[Chart]:
    metrics = inputs.metrics["evaluation"]
    sweep = inputs.curve("openset.csv", _SWEEP)
    own = sweep[sweep["way"] == metrics["answer_by"]]
    datasets = metrics["ways"][metrics["answer_by"]]["datasets"]
    thresholds = {name: of_one["threshold"] for name, of_one in datasets.items()}
    if metrics["threshold_by"] == "all":
        thresholds = {"all": next(iter(thresholds.values()), None), **thresholds}
    split = metrics["split"] if metrics["crosswise"] else "validation"
    found = [_cmc(inputs)]
    for number, (name, threshold) in enumerate(thresholds.items()):
        part = own[own["dataset"].astype(str) == name]
        of = name if name in datasets else "mean over data sets"
        told = "No threshold." if threshold is None else f"Threshold {threshold:.3g}."
        drawn = _sweep_chart(number, of, part, threshold, split)
        found.append(Chart(f"{of}: where to draw the line", drawn, told))
    return found


def _cmc(inputs: Inputs) -> Chart:
    metrics, table = inputs.metrics["evaluation"], inputs.curve("cmc.csv", _CMC)
    counts = [of["train"]["individuals"] for of in inputs.metrics["dataset"]["datasets"].values() if "train" in of]
    least, most = min(counts, default=0), max(counts, default=0)
    table = table[table["rank"] <= max(most, 1)]  # behind the last candidate every curve is 1
    candidates = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    told = f"CMC (cumulative match characteristic) of {metrics['photographs_ranked']['queries']:,} photographs of "
    told += f"known individuals, to rank {table['rank'].max()}. A photograph has {candidates} candidates, the known "
    told += "individuals of its data set."
    return Chart("Ways to compare: the right individual among the best", _cmc_chart(table), told)


def _cmc_chart(table: pd.DataFrame) -> Markup:
    def draw(axes: "Axes") -> None:
        ways = table["way"].unique()
        # later ones are thinner: curves of one course are all seen
        for number, (way, colour) in enumerate(zip(ways, islice(cycle(_COLOURS), len(ways)), strict=True)):
            part = table[table["way"] == way]
            width = 1 + 0.5 * (len(ways) - 1 - number)
            axes.plot(part["rank"], part["share"], color=colour, marker=".", linewidth=width, label=way)
        axes.set(xlabel="rank", ylabel="share of photographs", ylim=(0, 1.02))
        axes.locator_params(axis="x", integer=True)
        axes.legend(loc="lower right")

    return chart("cmc", "Share of photographs whose right individual is among the best candidates", _SIZE_PX, draw)


def _sweep_chart(number: int, name: str, table: pd.DataFrame, threshold: float | None, split: str) -> Markup:
    table = table.sort_values("threshold", kind="stable")

    def draw(axes: "Axes") -> None:
        figures = zip(("baks", "baus", "score"), SERIES, ("BAKS", "BAUS", "score"), (3.4, 2.2, 1), strict=False)
        for column, colour, label, width in figures:
            axes.step(table["threshold"], table[column], where="pre", color=colour, label=label, linewidth=width)
        if threshold is not None:
            axes.axvline(threshold, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set(xlabel="threshold", ylabel=f"on {split}", ylim=(0, 1.02))
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
        text = f"{row.label}, {_answer(row)}; most like {row.best} ({row.score:.2f})"
        found.setdefault(str(row.verdict), []).append(Match(str(row.verdict), asked, other, text))
    return found


def _answer(row: Any) -> str:
    if row.answer == NEW_INDIVIDUAL:
        return "told to be new"
    return "named right" if row.answer == row.label else f"named {row.answer}"
