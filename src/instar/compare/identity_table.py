"""The comparison's table for studies of individuals, the published scores beside one's own."""

from collections.abc import Sequence
from typing import Any

from instar.compare.published import ANIMALCLEF25, HIDDEN_QUERIES

#: The row of all presets' scores as one.
NAME = "all together"
#: Figures with intervals: what they are called in a row and in the table for people.
FIGURES = {"score": "score", "baks": "BAKS", "baus": "BAUS", "rank_1": "rank 1", "map": "mAP"}
#: Of the training: those of the epoch whose weights are kept.
TRAINING = {
    "epoch": "epoch kept",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
    "parameters": "parameters",
    "seconds": "training, s",
}
Row = dict[str, Any]


def identity_row(
    name: str, metrics: Row, training: Row, *, seconds: float | None, keep: str, model: str, folder: str
) -> Row:
    """One preset.

    Args:
        name: of the preset.
        metrics: of the stage evaluation.
        training: metrics of the stage classifier.
        seconds: that the training took; None where it was interrupted.
        keep: classifier.keep.
        model: timm's name.
        folder: of all that it left, below the comparison's.
    """
    # without validation there is no better epoch than the last
    epoch = training["epochs"] if keep == "last" or "best_epoch" not in training else training["best_epoch"]
    of_epoch = training["table"][epoch - 1]
    return {
        "preset": name,
        "model": model,
        "folder": folder,
        **_measured(metrics["ways"][metrics["answer_by"]]),
        **{key: of_epoch[key] for key in ("epoch", "train_loss", "validation_loss", "validation_accuracy")},
        "epochs": training["epochs"],
        "parameters": training["parameters"],
        "seconds": seconds,
        "split": metrics["split"],
        "simulated_new": metrics["simulated_new"],
        "crosswise": metrics["crosswise"],
        "judged_chose_epoch": metrics["judged_chose_epoch"],
    }


def together_row(presets: Sequence[str], rows: Sequence[Row], figures: Row) -> Row:
    """The row of all presets' scores as one; parameters and seconds are sums.

    Args:
        presets: names.
        rows: of these.
        figures: of ``ensemble.fused_figures``.
    """
    seconds = [row["seconds"] for row in rows]
    return {
        "preset": NAME,
        "members": list(presets),
        **_measured(figures["figures"]),
        **dict.fromkeys(("epoch", "train_loss", "validation_loss", "validation_accuracy")),
        "parameters": sum(row["parameters"] for row in rows),
        "seconds": None if None in seconds else round(sum(seconds), 1),
        **{key: figures[key] for key in ("split", "simulated_new", "crosswise")},
        "judged_chose_epoch": any(row["judged_chose_epoch"] for row in rows),
    }


def _measured(way: Row) -> Row:
    """Figures with their intervals, and those of each data set, of a way as metrics/evaluation.json has it."""
    found = {name: way.get(name, way["reid"].get(name)) for name in FIGURES}
    return {
        **{name: None if one is None else one["value"] for name, one in found.items()},
        "interval_95": {name: [one["low"], one["high"]] for name, one in found.items() if one is not None},
        "datasets": way["datasets"],
    }


def columns(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Header and lines of the CSV; the published scores come last."""
    datasets = _datasets(rows)
    header = ["preset", "source", *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high"))]
    header += [f"{name} {dataset}" for dataset in datasets for name in ("score", "baks", "baus")]
    header += [*TRAINING, "members"]
    lines = []
    for row in rows:
        line = [row["preset"], "here"]
        for name in FIGURES:
            line += [row[name], *row["interval_95"].get(name, (None, None))]
        line += [
            row["datasets"][dataset][name]["value"] if dataset in row["datasets"] else None
            for dataset in datasets
            for name in ("score", "baks", "baus")
        ]
        lines.append([*line, *(row[name] for name in TRAINING), " ".join(row.get("members", ()))])
    rest = [None] * (len(header) - 3)
    return header, [*lines, *([name, "published", score, *rest] for name, score in ANIMALCLEF25.items())]


def _datasets(rows: Sequence[Row]) -> list[str]:
    return sorted({name for row in rows for name in row["datasets"]})


def table_text(rows: Sequence[Row], facts: Row) -> str:
    """The comparison as Markdown: what was judged, all figures, those of each data set, and the published ones."""
    head = ["classifier", *FIGURES.values(), *TRAINING.values(), "epochs"]
    order = sorted((row for row in rows if "members" not in row), key=lambda row: (-row["score"], row["preset"]))
    order += [row for row in rows if "members" in row]
    lines = [[_name(row), *(_cell(row, name) for name in (*FIGURES, *TRAINING)), _link(row)] for row in order]
    lines += [[name, f"{score:.5f}", *["–"] * (len(head) - 2)] for name, score in ANIMALCLEF25.items()]
    parts = [_told(rows, facts), _table(head, lines)]
    of_datasets = [
        [_name(row), name, *(_interval(found[key]) for key in ("score", "baks", "baus"))]
        for name in _datasets(rows)
        for row in order
        if (found := row["datasets"].get(name))
    ]
    parts.append(_table(["classifier", "data set", "score", "BAKS", "BAUS"], of_datasets))
    return "\n\n".join(parts) + "\n"


def _told(rows: Sequence[Row], facts: Row) -> str:
    text = f"Classifiers of individuals of study {facts['study']}, compared by {facts['answer_by']}: figures on the "
    text += f"photographs of the split {rows[0]['split']}, intervals of 95 % from resampling encounters. "
    if rows[0]["simulated_new"]:
        text += (
            f"No judged individual of {', '.join(rows[0]['simulated_new'])} is new, so each photograph stood in as new "
        )
        text += "a second time. "
    if rows[0]["crosswise"]:
        text += "These photographs also chose the thresholds, each half of the individuals the other half's. "
    if any(row["judged_chose_epoch"] for row in rows):
        text += "They also chose the epochs whose weights were kept, so the figures are somewhat too good. "
    if members := next((row["members"] for row in rows if "members" in row), None):
        split = "these photographs" if rows[0]["crosswise"] else "validation"
        text += f"{NAME.capitalize()}: the mean of the scores of {', '.join(members)}, each calibrated on {split}. "
    text += f"Losses and accuracy are of the epoch that is kept, on validation; seconds are of {facts['device']}. "
    return text + HIDDEN_QUERIES


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def _name(row: Row) -> str:
    return str(row["preset"])


def _link(row: Row) -> str:
    return f"[{row['epochs']}]({row['folder']}/epochs.csv)" if "folder" in row else "–"


def _cell(row: Row, name: str) -> str:
    value = row[name]
    if value is None:
        return "–"
    if name in FIGURES:
        low, high = row["interval_95"][name]
        return _interval({"value": value, "low": low, "high": high})
    return f"{value:,.1f}" if name == "seconds" else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _interval(found: Row) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f}–{found['high']:.3f})"
