"""The charts of the page, each from the table it shows."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from instar.report.measures import Measure, percent
from instar.report.svg import BLUE, MUTED, ORANGE, PAPER, SERIES, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

#: A larger confusion matrix cannot be read; the most frequent genera are kept.
MAX_CONFUSION = 20
#: Of text in a chart, points: the width of a letter and the height of a line, rather too large than too small.
LETTER_PT, LINE_PT = 4.6, 9.0
DASHED = "validation "
#: Of a detector with masks the figures of boxes stand beside those of masks.
DOTTED = "box "
#: Of Okabe and Ito, too, for charts with many curves; they can be read on light and dark pages.
_MORE = ("#cc79a7", "#56b4e9", "#e69f00")
#: A legend of more curves stands below the chart, where it covers none.
_MANY = 4


def precision_recall(points: pd.DataFrame, confidence: float, at_confidence: Mapping[str, float | None]) -> Markup:
    """Precision over recall at IoU 0.5, with the point that the crops' confidence threshold picks.

    Args:
        points: recall, precision and confidence, one row per point of the curve.
        confidence: in [0, 1].
        at_confidence: test_recall and test_precision there, which a thinned curve may lack; no box, no precision.
    """
    points = points.dropna().sort_values("confidence", ascending=False, kind="stable")
    recall, precision = at_confidence["test_recall"], at_confidence["test_precision"]

    def draw(axes: "Axes") -> None:
        axes.plot(points["recall"], points["precision"], color=BLUE)
        if recall is not None and precision is not None:
            axes.plot([recall], [precision], "o", color=ORANGE, markersize=6)
            x, side = (-6, "right") if recall > 0.5 else (6, "left")
            y = -12 if precision > 0.2 else 6
            text = axes.annotate(f"confidence {confidence:g}", (recall, precision), (x, y), textcoords="offset points")
            text.set(ha=side, color=ORANGE)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))

    return chart("pr", "Precision over recall of the detector at IoU 0.5", (320, 260), draw)


def training_curve(name: str, alt: str, table: pd.DataFrame, steps: str, *, shares: bool) -> Markup:
    """Curves against epoch or step.

    Args:
        name: prefix of the ids in the SVG.
        alt: what the chart shows.
        table: the index is the step, each column one curve; ``validation x`` is dashed, and ``box x`` dotted, in the
            colour of ``x``.
        steps: what the index counts.
        shares: whether the values are in [0, 1].
    """
    colours = _colours(table)

    def draw(axes: "Axes") -> None:
        for column in table.columns:
            curve = table[column].dropna()
            line = next((line for start, line in ((DASHED, "--"), (DOTTED, ":")) if _beside(column, start, table)), "-")
            marker = "." if len(curve) < 30 else ""
            axes.plot(curve.index, curve, color=colours[column], label=column, marker=marker, linestyle=line)
        axes.set_xlabel(steps)
        axes.set_ylim(0, 1.02 if shares else None)
        axes.locator_params(axis="x", integer=True, nbins=6)
        if len(table.columns) > _MANY:
            figure = axes.get_figure(root=True)
            assert figure is not None
            figure.legend(loc="outside lower center", ncols=2)
        elif len(table.columns) > 1:
            axes.legend()

    below = 14 * math.ceil(len(table.columns) / 2) if len(table.columns) > _MANY else 0
    return chart(name, alt, (320, 260 + below), draw)


def _beside(column: str, start: str, table: pd.DataFrame) -> bool:
    """Whether a curve is the variant, which its name begins with, of another one of the chart."""
    return column.startswith(start) and column.removeprefix(start) in table.columns


def _colours(table: pd.DataFrame) -> dict[str, str]:
    """A colour of each column; variants of a curve share its."""
    bases = {column: column.removeprefix(DASHED) for column in table.columns}
    bases |= {column: column.removeprefix(DOTTED) for column in table.columns if _beside(column, DOTTED, table)}
    colours = dict(zip(dict.fromkeys(bases.values()), itertools.cycle((*SERIES, *_MORE)), strict=False))
    return {column: colours[base] for column, base in bases.items()}


def intervals(name: str, alt: str, rows: Sequence[Measure]) -> Markup:
    """One line per share, a dot with its interval."""
    upwards = list(reversed(rows))

    def draw(axes: "Axes") -> None:
        for height, row in enumerate(upwards):
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [height, height], color=BLUE, linewidth=2.2, solid_capstyle="round")
            axes.plot([row.value], [height], "o", color=BLUE, markeredgecolor=PAPER, markersize=8)
        axes.set_yticks(range(len(upwards)), [row.name for row in upwards])
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(upwards) - 0.4))
        axes.set_xticks(np.linspace(0, 1, 6), [percent(share) for share in np.linspace(0, 1, 6)])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)

    return chart(name, alt, (360, 48 + 34 * len(upwards)), draw)


def reliability(curve: pd.DataFrame) -> Markup:
    """How often answers are right against how sure they are; on the line where the two agree.

    Args:
        curve: count, confidence and accuracy of each bin.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
        axes.plot(curve["confidence"], curve["accuracy"], color=BLUE)
        sizes = 10 + 90 * curve["count"] / max(curve["count"].max(), 1)
        axes.scatter(curve["confidence"], curve["accuracy"], s=sizes, color=BLUE, linewidth=0)
        axes.set(xlabel="confidence in the species", ylabel="share that is right", xlim=(0, 1.02), ylim=(-0.02, 1.05))

    return chart("reliability", "Share of right species over the classifier's confidence", (320, 260), draw)


def roll_up(curve: pd.DataFrame) -> Markup:
    """Accuracy over coverage where the lowest sure rank is answered, and the share answered as species.

    Args:
        curve: coverage, accuracy and species by threshold; the accuracy is empty where there is no answer.
    """
    curve = curve.dropna()

    def draw(axes: "Axes") -> None:
        axes.plot(curve["coverage"], curve["accuracy"], color=BLUE, label="answers that are right", marker=".")
        axes.plot(curve["coverage"], curve["species"], color=ORANGE, label="crops answered as species")
        axes.set(xlabel="share of crops with an answer", xlim=(0, 1.02), ylim=(0, 1.05))
        axes.legend(loc="center left")

    return chart("roll-up", "Accuracy over coverage of answers at the lowest sure rank", (320, 260), draw)


def confusion(pairs: pd.DataFrame) -> Markup:
    """Actual against predicted genus: shares of each row by shade, numbers of crops as text.

    Args:
        pairs: columns actual and predicted, one row per crop.
    """
    genera = sorted(pairs["actual"].value_counts().index[:MAX_CONFUSION])
    table = pd.crosstab(pairs["actual"], pairs["predicted"])
    others = [name for name in table.columns if name not in genera]
    rest = table.reindex(index=genera)[others].sum(axis=1)
    table = table.reindex(index=genera, columns=genera, fill_value=0)
    if rest.any():
        table["another"] = rest
    shares = table.div(table.sum(axis=1), axis=0).to_numpy(float)

    def draw(axes: "Axes") -> None:
        for (row, column), count in np.ndenumerate(table.to_numpy()):
            axes.add_patch(_cell(column, row, float(shares[row, column]), right=row == column))
            if count:
                axes.text(column, row, str(count), ha="center", va="center_baseline", fontsize=8)
        axes.set_xticks(range(table.shape[1]), list(table.columns), rotation=40, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(table)), list(table.index))
        axes.set(xlim=(-0.5, table.shape[1] - 0.5), ylim=(len(table) - 0.5, -0.5), ylabel="actual", aspect="equal")
        axes.set_xlabel("predicted")
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    side = 130 + 30 * table.shape[1]
    return chart("confusion", "Actual against predicted genus, numbers of crops", (side, side - 20), draw)


def _cell(x: int, y: int, share: float, right: bool) -> "Rectangle":
    from matplotlib.patches import Rectangle

    colour = BLUE if right else ORANGE
    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, alpha=0.04 + 0.5 * share, linewidth=0)


def class_sizes(classes: pd.DataFrame) -> Markup:
    """Top-1 accuracy of each species over its training crops, labelled where there is room.

    Args:
        classes: columns label, train_crops, held_out_crops and top1, one row per species.
    """
    classes = classes[(classes["held_out_crops"] > 0) & (classes["train_crops"] > 0)].dropna(subset=["top1"])
    classes = classes.sort_values(["train_crops", "label"], kind="stable")
    size_px = (440, 330)

    def draw(axes: "Axes") -> None:
        axes.set_xscale("log")
        sizes = 14 + 3 * classes["held_out_crops"].clip(upper=30)
        axes.scatter(classes["train_crops"], classes["top1"], s=sizes, color=BLUE, alpha=0.75, linewidth=0)
        low, high = classes["train_crops"].min(), classes["train_crops"].max()
        axes.set(xlim=(low / 1.3, high * 1.3), ylim=(-0.06, 1.1), xlabel="training crops of the species (log)")
        axes.set_ylabel("top-1 accuracy")
        axes.set_yticks(np.linspace(0, 1, 6), [percent(share) for share in np.linspace(0, 1, 6)])
        ticks = [base * 10**power for power in range(8) for base in (1, 2, 5)]
        shown = [tick for tick in ticks if low / 1.3 <= tick <= high * 1.3]
        axes.set_xticks(shown, [f"{tick:,}" for tick in shown])
        axes.minorticks_off()
        xs = (np.log(classes["train_crops"]) - np.log(low / 1.3)) / np.log(1.3**2 * high / low)
        ys = (classes["top1"] + 0.06) / 1.16
        centres = np.column_stack([xs * 0.84 * size_px[0] * 0.75, ys * 0.84 * size_px[1] * 0.75])
        names = [_short(label) for label in classes["label"]]
        for index, dx, dy in label_places(centres, names, 0.9 * 0.75 * size_px[0]):
            place = (float(classes["train_crops"].iloc[index]), float(classes["top1"].iloc[index]))
            text = axes.annotate(names[index], place, (dx, dy), textcoords="offset points", va="center")
            text.set(fontsize=7.5, color=MUTED, style="italic")

    return chart("sizes", "Top-1 accuracy of each species over the number of its training crops", size_px, draw)


def _short(name: str) -> str:
    """A species' name with its genus abbreviated, as it is written where space is short."""
    genus, _, rest = name.partition(" ")
    return f"{genus[0]}. {rest}" if rest else name


def label_places(centres: np.ndarray, names: Sequence[str], chart_width: float) -> list[tuple[int, float, float]]:
    """Places for labels beside their dots that cover no dot and no other label; without room there is no label.

    Args:
        centres: float, shape (n_dots, 2), points.
        names: the labels.
        chart_width: points.

    Returns:
        Index of the dot, and the offset of the label's left end from it, x and y in points.
    """
    taken = [(x - 4.0, y - 4.0, x + 4.0, y + 4.0) for x, y in centres]
    places = []
    for index, ((x, y), name) in enumerate(zip(centres, names, strict=True)):
        width = LETTER_PT * len(name)
        for dx, dy in ((6.0, 0.0), (-6.0 - width, 0.0), (-width / 2, 9.0), (-width / 2, -9.0)):
            box = (x + dx, y + dy - LINE_PT / 2, x + dx + width, y + dy + LINE_PT / 2)
            others = taken[:index] + taken[index + 1 :]
            if box[0] >= 0 and box[2] <= chart_width and not any(_overlap(box, other) for other in others):
                taken.append(box)
                places.append((index, dx, dy))
                break
    return places


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
