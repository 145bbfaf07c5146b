"""Charts of a study with masks, each from the table it shows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from instar.report.svg import BLUE, GREEN, LINE, MUTED, ORANGE, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_PX = (320, 260)
#: Of points that a line is drawn through and told of, at least: through two there is always one, and three or four say
#: next to nothing of it.
FITTED = 5
#: Colour and marker of a series of counts, the same on all charts.
_SERIES = {"test": (BLUE, "o"), "detected": (BLUE, "o"), "validation": (ORANGE, "s"), "annotated": (GREEN, "^")}
#: Counts that differ by more than so many times are shown on logarithmic axes.
WIDE = 20


def _logarithmic(axes: "Axes", sides: str, low: float, high: float) -> None:
    """Logarithmic axes with plain numbers: matplotlib writes powers in a language that the page does not read."""
    bases = (1, 2, 5) if high < 300 * low else (1,)
    ticks = [base * 10**power for power in range(8) for base in bases if low <= base * 10**power <= high]
    for side in sides:
        axes.set(**{f"{side}scale": "log"})
        getattr(axes, f"set_{side}ticks")(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def mask_curves(points: pd.DataFrame, best: Mapping[str, float | None]) -> Markup:
    """Precision over recall of masks on both splits, with the points of the confidence that validation chose.

    Args:
        points: split, recall, precision and confidence.
        best: recall and precision there, by ``<split>_recall`` and ``<split>_precision``.
    """

    def draw(axes: "Axes") -> None:
        for split, colour, line in (("validation", ORANGE, "--"), ("test", BLUE, "-")):
            part = points[points["split"] == split].sort_values("confidence", ascending=False, kind="stable")
            axes.plot(part["recall"], part["precision"], line, color=colour, label=split)
            recall, precision = best[f"{split}_recall"], best[f"{split}_precision"]
            if recall is not None and precision is not None:
                axes.plot([recall], [precision], "o", color=colour, markersize=6)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="lower left")

    return chart("mask-pr", "Precision over recall of masks at IoU 0.5, on validation and on test", SIZE_PX, draw)


def mask_areas(table: pd.DataFrame, from_px: Mapping[str, int]) -> Markup:
    """How many masks have which area, on a logarithmic axis.

    Args:
        table: from_px, below_px, and numbers of masks: annotated, annotated_on_test and detected_on_test.
        from_px: where the sizes begin.
    """
    edges = np.append(table["from_px"].to_numpy(float), float(table["below_px"].iloc[-1]))

    def draw(axes: "Axes") -> None:
        _logarithmic(axes, "x", edges[0], edges[-1])
        axes.stairs(table["annotated"], edges, fill=True, color=LINE, label="annotated, all splits")
        axes.stairs(table["annotated_on_test"], edges, color=BLUE, linewidth=1.6, label="annotated, test")
        axes.stairs(
            table["detected_on_test"], edges, color=ORANGE, linewidth=1.6, linestyle="--", label="detections, test"
        )
        for area in sorted(set(from_px.values()) - {0}):
            axes.axvline(area, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set(xlabel="area of the mask, pixels of the photograph (log)", ylabel="masks", xlim=(edges[0], edges[-1]))
        axes.legend(loc="upper right")

    return chart("mask-areas", "How many masks have which area, annotated and detected", (360, 260), draw)


def counts(
    name: str, alt: str, points: pd.DataFrame, lines: Mapping[str, Mapping[str, Any]], labels: tuple[str, str]
) -> Markup:
    """Counts against known ones, with the least-squares lines and the line on which the two agree.

    Args:
        name: unique on the page.
        alt: what it shows.
        points: columns series, one of ``_SERIES``, known and counted.
        lines: slope and intercept of each series, None where there is no line.
        labels: of the two axes.
    """
    values = points[["known", "counted"]].to_numpy(float)
    high = float(values.max(initial=1.0))
    log = bool(len(values)) and values.min() > 0 and values.max() > WIDE * values.min()
    low = float(values.min()) / 1.3 if log else 0.0
    along = np.geomspace(low, 1.2 * high, 60) if log else np.linspace(0, 1.06 * high, 60)

    def draw(axes: "Axes") -> None:
        if log:
            _logarithmic(axes, "xy", low, along[-1])
        axes.plot(along, along, color=MUTED, linewidth=0.8, linestyle="--", label="1:1")
        for series, part in points.groupby("series", sort=False):
            colour, marker = _SERIES[str(series)]
            axes.plot(part["known"], part["counted"], marker, color=colour, alpha=0.8, markersize=5, label=series)
            slope, intercept = lines[str(series)]["slope"], lines[str(series)]["intercept"]
            if slope is not None and len(part) >= FITTED:
                fitted = slope * along + intercept
                axes.plot(along[fitted > low], fitted[fitted > low], color=colour, linewidth=1.1)
        axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(along[0], along[-1]), ylim=(along[0], along[-1]))
        axes.legend(loc="upper left")

    return chart(name, alt, SIZE_PX, draw)


def zooms(table: pd.DataFrame) -> Markup:
    """Average precision of masks over zoom, with intervals where the table has them.

    Args:
        table: zoom, and columns of ``mask_figures.PRECISIONS``; ``<name>_low`` and ``<name>_high`` may be there.
    """
    table = table.sort_values("zoom", kind="stable")

    def draw(axes: "Axes") -> None:
        for name, colour, marker in (("AP50-95", BLUE, "o"), ("AP50", ORANGE, "s"), ("AP_small", GREEN, "^")):
            if name not in table or table[name].isna().all():
                continue
            axes.plot(table["zoom"], table[name], color=colour, marker=marker, label=name.replace("_", " "))
            if {f"{name}_low", f"{name}_high"} <= set(table.columns):
                axes.fill_between(table["zoom"], table[f"{name}_low"], table[f"{name}_high"], color=colour, alpha=0.15)
        axes.set(xlabel="zoom", ylabel="average precision of masks, validation", ylim=(0, 1.02))
        axes.set_xticks(table["zoom"], [f"{zoom:g}" for zoom in table["zoom"]])
        axes.legend()

    return chart("zooms", "Average precision of masks on validation over zoom", SIZE_PX, draw)
