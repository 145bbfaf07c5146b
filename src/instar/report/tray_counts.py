"""Counts of trays against annotations and against specimens sorted by hand, for all taxa and for single classes."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from instar.mask_figures import ALL, Figure
from instar.report import tray_charts
from instar.report.inputs import Inputs
from instar.report.measures import varies
from instar.report.parts import Chart, curve, share


def counts(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Chart]:
    columns = ["photo_key", "sample", "split", "classes", "annotated", "detected", "specimens"]
    table = curve(inputs, "counts.csv", columns, missing, "counts")
    if table is None:
        return []
    found = []
    for number, (group, agreement) in enumerate(masks["counts"].items()):
        name = "all taxa" if group == ALL else f"{group} only"
        rows = table[table["classes"] == group]
        found += _by_photograph(number, name, rows, masks, group)
        sorted_ones = _by_sample(number, name, agreement)
        found += sorted_ones
        if not sorted_ones:
            missing.append(f"counts against specimens sorted by hand, {name}: the study has none")
    if set(masks["counts"]) == {ALL}:
        missing.append("counts of single classes: no animal carries a taxon, or none is wanted")
    return found


def _by_photograph(number: int, name: str, rows: pd.DataFrame, masks: Mapping[str, Any], group: str) -> list[Chart]:
    points = rows.dropna(subset=["detected"]).rename(columns={"annotated": "known", "detected": "counted"})
    points = points.assign(series=points["split"])
    if not len(points):
        return []
    agreement = masks["counts"][group]
    title = f"Counts of each photograph: {name}"
    svg = tray_charts.counts(
        f"counts-{number}", f"Detected over annotated animals, {name}", points, agreement, ("annotated", "detected")
    )
    intervals = masks["interval_95"]
    prefix = "count" if group == ALL else "count_of_classes"
    return [Chart(title, svg, _line(agreement["test"], "annotated", "photographs of test", intervals, prefix))]


def _by_sample(number: int, name: str, agreement: Mapping[str, Any]) -> list[Chart]:
    """Counts of the samples that the regressions are of."""
    series = {"annotated": "specimens_annotated", "detected": "specimens_detected_on_test"}
    pairs = zip(series, agreement["specimens_and_counts"].values(), strict=True)
    parts = [pd.DataFrame(of, columns=["known", "counted"]).assign(series=what) for what, of in pairs if of]
    if not parts:
        return []
    lines = {what: agreement[key] for what, key in series.items()}
    svg = tray_charts.counts(
        f"specimens-{number}",
        f"Annotated and detected animals over specimens sorted by hand, {name}",
        pd.concat(parts),
        lines,
        ("specimens sorted by hand", "on photographs"),
    )
    text = _line(agreement["specimens_annotated"], "sorted", "samples, annotated animals", {}, "")
    if agreement["specimens_detected_on_test"]["n"]:
        text += " " + _line(agreement["specimens_detected_on_test"], "sorted", "samples of test, detected", {}, "")
    text += " Only photographs whose specimens were counted are in it."
    return [Chart(f"Counts against specimens sorted by hand: {name}", svg, text)]


def _line(agreement: Mapping[str, Any], known: str, of: str, intervals: Mapping[str, Any], prefix: str) -> str:
    """The regression and the error from the 1:1 line in words."""
    text = f"{agreement['n']:,} {of}:"
    slope = agreement["slope"]
    if slope is not None and agreement["n"] < tray_charts.FITTED:
        text += f" no line is fitted to fewer than {tray_charts.FITTED};"
    elif slope is not None:
        interval = intervals.get(f"{prefix}_slope")
        more = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval and varies(slope, *interval) else ""
        r2 = "" if agreement["r2"] is None else f", R² {agreement['r2']:.3f}"
        text += f" {slope:.2f}{more} for each one {known}, beginning at {agreement['intercept']:.1f}{r2};"
    if agreement["mae"] is None:
        return f"{text} nothing to compare."
    text += f" on average {agreement['bias']:+.1f} animals off, {agreement['mae']:.1f} either way"
    if agreement["mape"] is not None:
        text += f", {share(Figure(agreement['mape'], intervals.get(f'{prefix}_mape')))} of those {known}"
    return f"{text}."
