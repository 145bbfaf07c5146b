"""The section on masks, for a study whose animals are outlined: the source's tables and figures from one's own data."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from instar.compare.published import MASSID45, STUDY, TILES, remark
from instar.mask_figures import ALL, PRECISIONS, Figure, figures_on_test, masks_of
from instar.report import tray_charts
from instar.report.inputs import Inputs
from instar.report.measures import percent
from instar.report.patches import Shown

_SEAMS = ["size", "where", "animals", "detections"]
_RATES = {"missed": "missed", "wrong": "wrong", "duplicates": "duplicates"}
_AREAS = {
    "true_positive": "true positive",
    "false_positive": "false positive",
    "false_negative": "false negative",
}


@dataclass(frozen=True)
class Chart:
    """A chart, its title, and the sentence that says what it shows and how sure it is."""

    title: str
    svg: Markup
    sentence: str


@dataclass(frozen=True)
class Table:
    """Texts of a table: its caption, names of the columns, lines whose first text names them."""

    caption: str
    columns: list[str]
    lines: list[list[str]]
    sentence: str


@dataclass(frozen=True)
class Trays:
    """What the section shows; ``missing`` says what it would show with more."""

    sentence: str
    tables: list[Table]
    charts: list[Chart]
    patches: list[Shown]
    confidence: float
    missing: list[str]


def trays(inputs: Inputs, patches: list[Shown], confidence: float) -> Trays | None:
    """The section; None for a study without masks.

    Args:
        inputs: what the stages wrote.
        patches: of held-out photographs.
        confidence: at which they are drawn.
    """
    masks = masks_of(inputs.metrics["detection_metrics"])
    if masks is None and not patches:
        return None
    missing: list[str] = []
    if masks is None:
        missing.append("figures of masks: run the stage detection_metrics again")
        return Trays("", [], [], patches, confidence, missing)
    figures = figures_on_test(inputs.metrics["detection_metrics"])
    parts: list[Callable[[], Iterable[Chart | Table]]] = [
        lambda: [_precisions(figures, inputs.params.study), _areas(masks)],
        lambda: _curves(inputs, masks, missing),
        lambda: _zooms(inputs, missing),
        lambda: _histogram(inputs, masks, missing),
        lambda: _counts(inputs, masks, missing),
        lambda: _seams(inputs, masks, missing),
        lambda: _tiles(inputs.metrics["detector"].get("tiles", {}), inputs.params.study),
    ]
    found = [one for part in parts for one in part()]
    if not patches:
        missing.append("patches with masks drawn in: no held-out photograph with masks may be shown")
    tables = [one for one in found if isinstance(one, Table)]
    charts = [one for one in found if isinstance(one, Chart)]
    return Trays(_sentence(inputs, masks, figures), tables, charts, patches, confidence, missing)


def _sentence(inputs: Inputs, masks: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The main figures, and how much their intervals can tell."""
    test, drawn = inputs.metrics["detection_metrics"]["test"], masks["interval_95"]
    text = f"On {test['photographs']:,} held-out photographs with {test['animals']:,} outlined animals the masks reach "
    text += f"an AP50-95 of {_share(figures['AP50-95'])} and an AP50 of {_share(figures['AP50'])}"
    chosen = masks["best_f1"]["confidence"]
    if chosen is not None:
        text += f"; at the confidence of the best F1 on validation, {chosen:.3g}, F1 is {_share(figures['f1'])}"
    few = f"from resampling {drawn['photographs']:,} photographs, which tell little where they are few"
    return f"{text}. Intervals of 95 % are {few}."


def _share(figure: Figure) -> str:
    """``42.5 % (35.0 to 50.0 %)``."""
    if figure.value is None:
        return "–"
    told = percent(figure.value, 1)
    return f"{told} ({100 * figure.interval[0]:.1f} to {percent(figure.interval[1], 1)})" if figure.interval else told


def _precisions(figures: Mapping[str, Figure], study: str) -> Table:
    ours = [f"{study}, this detector", *(_share(figures[name]) for name in PRECISIONS)]
    others = [[f"{one.name} (published)", *(percent(value, 1) for value in one.precisions)] for one in MASSID45]
    caption = "Average precision of masks on the split test, with 95 % intervals where they are known"
    return Table(caption, ["detector", *PRECISIONS.values()], [ours, *others], remark())


def _areas(masks: Mapping[str, Any]) -> Table:
    lines = []
    for split, areas in masks["areas"].items():
        texts = [f"{areas[f'{name}_px']:,} px ({_of_all(areas[f'{name}_share'])})" for name in _AREAS]
        lines.append([split, *texts])
    return Table(
        "Pixel areas at the confidence of the best F1, each pixel counted once, and shares of the three",
        ["split", *_AREAS.values()],
        lines,
        "True positive are pixels of an animal that a detection covers, false positive covered ones of no animal, "
        "false negative those of an animal that none covers, over all photographs of a split. Large animals weigh "
        "most.",
    )


def _of_all(share: float | None) -> str:
    return "–" if share is None else percent(share, 1)


def _curve(inputs: Inputs, name: str, columns: list[str], missing: list[str], told: str) -> pd.DataFrame | None:
    """A table of the plots folder; None where it is missing or empty, which ``missing`` then says."""
    if not (inputs.plots / name).is_file():
        missing.append(f"{told}: plots/{name} is not there; run the stage detection_metrics again")
        return None
    table = inputs.curve(name, columns)
    if not len(table):
        missing.append(f"{told}: plots/{name} is empty")
        return None
    return table


def _curves(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Chart]:
    columns = ["split", "recall", "precision", "confidence"]
    table = _curve(inputs, "mask_pr.csv", columns, missing, "precision and recall of masks")
    if table is None:
        return []
    best = masks["best_f1"]
    precision, recall = (
        Figure(best[f"test_{name}"], masks["interval_95"].get(f"test_{name}")) for name in ("precision", "recall")
    )
    text = (
        f"The confidence that is best on validation gives test a precision of {_share(precision)} and a recall of "
        f"{_share(recall)}; where the two curves part, the choice does not carry over."
    )
    return [Chart("Precision and recall of masks at IoU 0.5", tray_charts.mask_curves(table, best), text)]


def _zooms(inputs: Inputs, missing: list[str]) -> list[Chart]:
    """The sweep of ``instar compare zooms``, which is no stage: it is shown where it was made."""
    path = inputs.plots.parent / "comparison" / "zooms.json"
    if not path.is_file():
        missing.append("the zoom sweep: instar compare zooms makes it, then run the stage report again")
        return []
    rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["zooms"] if row["kind"] == "mask"]
    if not rows:
        missing.append("the zoom sweep: comparison/zooms.json has none of masks")
        return []
    table = pd.DataFrame([_zoom(row) for row in rows])
    best = max(rows, key=lambda row: (row["AP50-95"], -row["zoom"]))
    highest = _share(Figure(best["AP50-95"], best["interval_95"].get("AP50-95")))
    text = (
        f"AP50-95 on validation is highest at zoom {best['zoom']:g}: {highest}. Bands are 95 % intervals; zooms whose "
        "bands overlap cannot be told apart by these photographs."
    )
    return [Chart("Zoom: how large the detector sees the animals", tray_charts.zooms(table), text)]


def _zoom(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: interval for name, interval in row["interval_95"].items() if interval}
    ends = {f"{name}_{end}": interval[n] for name, interval in told.items() for n, end in enumerate(("low", "high"))}
    return {"zoom": row["zoom"], **{name: row.get(name) for name in PRECISIONS}, **ends}


def _histogram(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Chart]:
    columns = ["from_px", "below_px", "annotated", "annotated_on_test", "detected_on_test"]
    table = _curve(inputs, "mask_areas.csv", columns, missing, "areas of masks")
    if table is None:
        return []
    totals = table[columns[2:]].sum()
    text = (
        f"{totals['annotated']:,} outlined animals, {totals['annotated_on_test']:,} of them on test, where "
        f"{totals['detected_on_test']:,} were found. Dotted lines part small, medium and large; where the dashed line "
        "lies under the blue one, animals of that size are missed."
    )
    return [Chart("Areas of masks", tray_charts.mask_areas(table, masks["from_px"]), text)]


def _counts(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Chart]:
    columns = ["photo_key", "sample", "split", "classes", "annotated", "detected", "specimens"]
    table = _curve(inputs, "counts.csv", columns, missing, "counts")
    if table is None:
        return []
    found = []
    for number, (group, agreement) in enumerate(masks["counts"].items()):
        name = "all taxa" if group == ALL else f"{group} only"
        rows = table[table["classes"] == group]
        found += _by_photograph(number, name, rows, masks, group)
        sorted_ones = _by_sample(number, name, rows, agreement)
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


def _by_sample(number: int, name: str, rows: pd.DataFrame, agreement: Mapping[str, Any]) -> list[Chart]:
    """Counts of whole samples, where every photograph of one has both."""
    series = {"annotated": "specimens_annotated", "detected": "specimens_detected_on_test"}
    rows = rows.assign(detected=rows["detected"].where(rows["split"] == "test"))
    parts = []
    for what, key in series.items():
        if agreement[key]["n"]:
            whole = rows[rows[what].notna().groupby(rows["sample"]).transform("all")]
            sums = whole.groupby("sample")[["specimens", what]].sum(min_count=1).dropna()
            parts.append(sums.rename(columns={"specimens": "known", what: "counted"}).assign(series=what))
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
    return [Chart(f"Counts against specimens sorted by hand: {name}", svg, text)]


def _line(agreement: Mapping[str, Any], known: str, of: str, intervals: Mapping[str, Any], prefix: str) -> str:
    """The regression and the error from the 1:1 line in words."""
    text = f"{agreement['n']:,} {of}:"
    if agreement["slope"] is not None:
        interval = intervals.get(f"{prefix}_slope")
        more = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        r2 = "" if agreement["r2"] is None else f", R² {agreement['r2']:.3f}"
        text += f" {agreement['slope']:.2f}{more} for each one {known}, beginning at {agreement['intercept']:.1f}{r2};"
    if agreement["mae"] is None:
        return f"{text} nothing to compare."
    text += f" on average {agreement['bias']:+.1f} animals off, {agreement['mae']:.1f} either way"
    if agreement["mape"] is not None:
        text += f", {_share(Figure(agreement['mape'], intervals.get(f'{prefix}_mape')))} of those {known}"
    return f"{text}."


def _seams(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Table]:
    if not masks.get("seams"):
        missing.append("errors near the seams of tiles: no held-out photograph was sliced")
        return []
    ends = ("", "_low", "_high")
    columns = [*_SEAMS, *(f"{rate}_per_1000{end}" for rate in _RATES for end in ends)]
    table = _curve(inputs, "seams.csv", columns, missing, "errors near the seams of tiles")
    if table is None:
        return []
    lines = []
    for row in table.to_dict("records"):
        rates = [_rate(*(row[f"{rate}_per_1000{end}"] for end in ends)) for rate in _RATES]
        lines.append([f"{row['size']}, {row['where']}", f"{row['animals']:,}", f"{row['detections']:,}", *rates])
    within = masks["seams"]["within_px"]
    caption = f"Errors per 1,000 animals near seams, an inner edge of a tile within {within:g} pixels, and elsewhere"
    names = ["size and place", "animals", "detections", *(f"{name} per 1,000" for name in _RATES.values())]
    return [Table(caption, names, lines, _difference(masks["seams"]["difference_per_1000"][ALL]))]


def _rate(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if pd.isna(low) else f"{value:.1f} ({low:.1f} to {high:.1f})"


def _difference(rates: Mapping[str, Mapping[str, float | None]]) -> str:
    told = []
    for rate, difference in rates.items():
        value, low, high = difference["value"], difference["low"], difference["high"]
        if value is not None:
            told.append(f"{value:+.1f} {rate}" + ("" if low is None else f" ({low:+.1f} to {high:+.1f})"))
    if not told:
        return "Seams cannot be compared with elsewhere: one of the two has no animal."
    return (
        f"Near seams less elsewhere, per 1,000 animals of any size: {', '.join(told)}. An interval that holds 0 is no "
        "difference that these photographs can show; larger animals are nearer to seams, so compare within a size."
    )


def _tiles(tiles: Mapping[str, Mapping[str, int]], study: str) -> list[Table]:
    """What the detector learnt from, beside what is published of the same photographs; without tiles nothing."""
    if not tiles:
        return []
    published = TILES if study == STUDY else {}
    columns = [
        "split",
        *next(iter(tiles.values())),
        *(["tiles (published)", "animals (published)"] if published else []),
    ]
    lines = [
        [split, *(f"{number:,}" for number in (*counts.values(), *published.get(split, ())))]
        for split, counts in tiles.items()
    ]
    told = "An animal counts once for each tile that shows enough of it; tiles of the split test are counted only."
    return [Table("Tiles that the detector learns from, and animals on them", columns, lines, told)]
