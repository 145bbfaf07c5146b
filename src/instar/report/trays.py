"""The section on masks, for a study whose animals are outlined: the source's tables and figures from one's own data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from instar.compare.published import MASSID45, TILES, remark
from instar.mask_figures import ALL, AREAS, PRECISIONS, Figure, figures_on_test, masks_of, resampled
from instar.params import Records
from instar.report import tray_charts
from instar.report.compared import Compared
from instar.report.inputs import Inputs
from instar.report.measures import percent, varies
from instar.report.parts import Chart, Table, curve, share
from instar.report.patches import Shown
from instar.report.tray_counts import counts

_SEAMS = ["size", "where", "animals", "detections"]
_RATES = {"missed": "missed", "wrong": "wrong", "duplicates": "duplicates"}
#: Of all animals near seams or elsewhere, for a comparison of both.
LEAST_SIDE = 0.2


@dataclass(frozen=True)
class Trays:
    """What the section shows: ``others`` are patches of other detectors, ``missing`` what it would show with more."""

    sentence: str
    tables: list[Table]
    charts: list[Chart]
    patches: list[Shown]
    confidence: float
    missing: list[str]
    others: dict[str, list[Shown]]


def trays(inputs: Inputs, patches: list[Shown], confidence: float, compared: Compared, published: bool) -> Trays | None:
    """The section; None for a study without masks.

    Args:
        inputs: what the stages wrote.
        patches: of held-out photographs.
        confidence: at which they are drawn.
        compared: what ``instar compare`` left.
        published: whether the held-out photographs are those of the published figures.
    """
    masks = masks_of(inputs.metrics["detection_metrics"])
    if masks is None and not patches:
        return None
    missing: list[str] = []
    if masks is None:
        missing.append("figures of masks: run the stage detection_metrics again")
        return Trays("", [], [], patches, confidence, missing, {})
    figures = figures_on_test(inputs.metrics["detection_metrics"])
    parts: list[Callable[[], Iterable[Chart | Table]]] = [
        lambda: [_precisions(figures, inputs, compared.detectors, published), _areas(masks, compared.detectors)],
        lambda: _counted(figures, compared.detectors),
        lambda: _curves(inputs, masks, missing),
        lambda: _zooms(compared.zooms, inputs.params.records),
        lambda: _histogram(inputs, masks, missing),
        lambda: counts(inputs, masks, missing),
        lambda: _seams(inputs, masks, missing),
        lambda: _tiles(inputs.metrics["detector"].get("tiles", {}), published),
    ]
    found = [one for part in parts for one in part()]
    missing += compared.missing
    if not patches:
        missing.append("patches with masks drawn in: no held-out photograph with masks may be shown")
    tables = [one for one in found if isinstance(one, Table)]
    charts = [one for one in found if isinstance(one, Chart)]
    others = {preset: shown for preset, shown in compared.patches.items() if shown}
    return Trays(_sentence(inputs, masks, figures), tables, charts, patches, confidence, missing, others)


def _sentence(inputs: Inputs, masks: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """The main figures, and how much their intervals can tell."""
    test, drawn = inputs.metrics["detection_metrics"]["test"], masks["interval_95"]
    text = f"On {test['photographs']:,} held-out photographs with {test['animals']:,} outlined animals the masks reach "
    text += f"an AP50-95 of {share(figures['AP50-95'])} and an AP50 of {share(figures['AP50'])}"
    chosen = masks["best_f1"]["confidence"]
    if chosen is not None:
        text += f"; at the confidence of the best F1 on validation, {chosen:.3g}, F1 is {share(figures['f1'])}"
    told = resampled(drawn["groups"], inputs.params.records)
    few = ", which tell little where they are few" if drawn["groups"] > 1 else ""
    return f"{text}. Of the {test['photographs']:,} photographs {told}{few}.{_searched(inputs.params.records)}"


def _searched(records: Records) -> str:
    """That annotated trays are searched in part, which makes the figures better than those of whole trays."""
    if records.kind != "trays":
        return ""
    return (
        " Annotated photographs, those of test, too, are searched only in the box around all their annotated animals "
        f"and {records.tray_margin_px:,} pixels beyond (records.tray_margin_px): what lies elsewhere on the tray can "
        "be neither found nor wrong, so precision and counts may be better here than on whole trays."
    )


def _precisions(figures: Mapping[str, Figure], inputs: Inputs, compared: list[dict[str, Any]], same: bool) -> Table:
    """This detector, those compared with it, and the published ones where they are of the ``same`` photographs."""
    learned = inputs.metrics["detector"]
    random = ", from random weights" if learned.get("weights", "") is None else ""
    ours = [f"{inputs.params.study}, this detector{random}", *(share(figures[name]) for name in PRECISIONS)]
    beside = [
        [
            f"{row['preset']} (instar compare; trained: {row['trained']})",
            *(share(Figure(row[f"mask_{name}"], row["mask_interval_95"][f"mask_{name}"])) for name in PRECISIONS),
        ]
        for row in sorted(compared, key=lambda row: (-(row["mask_AP50-95"] or 0), row["preset"]))
    ]
    published = MASSID45 if same else ()
    others = [[f"{one.name} (published)", *(percent(value, 1) for value in one.precisions)] for one in published]
    caption = "Average precision of masks on the split test, with 95 % intervals where they are known"
    return Table(caption, ["detector", *PRECISIONS.values()], [ours, *beside, *others], remark(shown=same))


def _areas(masks: Mapping[str, Any], compared: list[dict[str, Any]]) -> Table:
    lines = [[split, *_pixels(areas)] for split, areas in masks["areas"].items()]
    lines += [[f"test, {row['preset']} (instar compare)", *_pixels(row, "mask_")] for row in compared]
    return Table(
        "Pixel areas at the confidence of the best F1, each pixel counted once, and shares of the three",
        ["split", *AREAS.values()],
        lines,
        "True positive are pixels of an animal that a detection covers, false positive covered ones of no animal, "
        "false negative those of an animal that none covers, over all photographs of a split. Large animals weigh "
        "most.",
    )


def _pixels(areas: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Of each kind the pixels with their share; an earlier comparison's rows have none."""
    told = [(areas.get(f"{prefix}{name}_px"), areas.get(f"{prefix}{name}_share")) for name in AREAS]
    return ["–" if pixels is None else f"{pixels:,} px ({_of_all(part)})" for pixels, part in told]


def _counted(figures: Mapping[str, Figure], compared: list[dict[str, Any]]) -> list[Table]:
    """Counts of the compared detectors beside this one's; without them its own charts tell all."""
    if not compared:
        return []
    rows = [("this detector", figures)]
    for row in compared:
        told = {name: Figure(row.get(f"mask_{name}"), row["mask_interval_95"].get(f"mask_{name}")) for name in figures}
        rows.append((f"{row['preset']} (instar compare)", told))
    lines = [
        [name, *(_number(told[f"count_{one}"]) for one in ("slope", "mae")), share(told["count_mape"])]
        for name, told in rows
    ]
    return [
        Table(
            "Counts of photographs of the split test by detector, with 95 % intervals",
            ["detector", "counted for each one annotated", "animals off, either way", "of those annotated"],
            lines,
            "Each detector counts at the confidence of its own best F1 on validation.",
        )
    ]


def _number(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    more = f" ({figure.interval[0]:.2f} to {figure.interval[1]:.2f})" if figure.interval else ""
    return f"{figure.value:.2f}{more}"


def _of_all(part: float | None) -> str:
    return "–" if part is None else percent(part, 1)


def _curves(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Chart]:
    columns = ["split", "recall", "precision", "confidence"]
    table = curve(inputs, "mask_pr.csv", columns, missing, "precision and recall of masks")
    if table is None:
        return []
    best = masks["best_f1"]
    precision, recall = (
        Figure(best[f"test_{name}"], masks["interval_95"].get(f"test_{name}")) for name in ("precision", "recall")
    )
    text = (
        f"The confidence that is best on validation gives test a precision of {share(precision)} and a recall of "
        f"{share(recall)}; where the two curves part, the choice does not carry over."
    )
    return [Chart("Precision and recall of masks at IoU 0.5", tray_charts.mask_curves(table, best), text)]


def _zooms(rows: list[dict[str, Any]], records: Records) -> list[Chart]:
    """The sweep of ``instar compare zooms``."""
    if not rows:
        return []
    table = pd.DataFrame([_zoom(row) for row in rows])
    best = max(rows, key=lambda row: (row["AP50-95"], -row["zoom"]))
    highest = share(Figure(best["AP50-95"], best["interval_95"].get("AP50-95")))
    text = f"AP50-95 on validation is highest at zoom {best['zoom']:g}: {highest}."
    if any(str(name).endswith("_low") for name in table):
        text += " Bands are 95 % intervals; zooms whose bands overlap cannot be told apart by these photographs."
    if groups := best.get("groups"):  # which rows of an earlier version lack
        text += f" Here {resampled(groups, records)}."
    return [Chart("Zoom: how large the detector sees the animals", tray_charts.zooms(table), text)]


def _zoom(row: dict[str, Any]) -> dict[str, Any]:
    known = {name: interval for name, interval in row["interval_95"].items() if interval}
    told = {name: interval for name, interval in known.items() if varies(row[name], *interval)}
    ends = {f"{name}_{end}": interval[n] for name, interval in told.items() for n, end in enumerate(("low", "high"))}
    return {"zoom": row["zoom"], **{name: row.get(name) for name in PRECISIONS}, **ends}


def _histogram(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Chart]:
    columns = ["from_px", "below_px", "annotated", "annotated_on_test", "detected_on_test"]
    table = curve(inputs, "mask_areas.csv", columns, missing, "areas of masks")
    if table is None:
        return []
    totals, best = table[columns[2:]].sum(), masks["best_f1"]
    right, wrong = best["test_true_positives"], best["test_false_positives"]
    text = (
        f"{totals['annotated']:,} outlined animals, {totals['annotated_on_test']:,} of them on test, where there are "
        f"{totals['detected_on_test']:,} detections, {right:,} right and {wrong:,} wrong: the dashed line shows both, "
        "at their own areas, and says nothing of single animals. Dotted lines part small, medium and large."
    )
    return [Chart("Areas of masks", tray_charts.mask_areas(table, masks["from_px"]), text)]


def _seams(inputs: Inputs, masks: Mapping[str, Any], missing: list[str]) -> list[Table]:
    if not masks.get("seams"):
        missing.append("errors near the seams of tiles: no held-out photograph was sliced")
        return []
    ends = ("", "_low", "_high")
    columns = [*_SEAMS, *(f"{rate}_per_1000{end}" for rate in _RATES for end in ends)]
    table = curve(inputs, "seams.csv", columns, missing, "errors near the seams of tiles")
    if table is None:
        return []
    lines = []
    for row in table.to_dict("records"):
        rates = [_rate(*(row[f"{rate}_per_1000{end}"] for end in ends)) for rate in _RATES]
        lines.append([f"{row['size']}, {row['where']}", f"{row['animals']:,}", f"{row['detections']:,}", *rates])
    within = masks["seams"]["within_px"]
    caption = f"Errors per 1,000 animals near seams, an inner edge of a tile within {within:g} pixels, and elsewhere"
    names = ["size and place", "animals", "detections", *(f"{name} per 1,000" for name in _RATES.values())]
    told = _difference(masks["seams"]["difference_per_1000"][ALL])
    return [Table(caption, names, lines, told + _little_elsewhere(masks["seams"], inputs.params.detections.tile_px))]


def _little_elsewhere(seams: Mapping[str, Any], tile_px: int) -> str:
    """A warning where nearly all animals are near a seam, or nearly none, so that there is little to compare."""
    near, elsewhere = (seams[where]["animals"] for where in ("near", "elsewhere"))
    if min(near, elsewhere) >= LEAST_SIDE * (near + elsewhere):
        return ""
    return (
        f" But {near:,} of {near + elsewhere:,} animals are near a seam of tiles of {tile_px:,} pixels: with so few on "
        "one side the comparison tells next to nothing."
    )


def _rate(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if pd.isna(low) or not varies(value, low, high) else f"{value:.1f} ({low:.1f} to {high:.1f})"


def _difference(rates: Mapping[str, Mapping[str, float | None]]) -> str:
    told = []
    for rate, difference in rates.items():
        value, low, high = difference["value"], difference["low"], difference["high"]
        if value is not None:
            told.append(f"{value:+.1f} {rate}" + (f" ({low:+.1f} to {high:+.1f})" if varies(value, low, high) else ""))
    if not told:
        return "Seams cannot be compared with elsewhere: one of the two has no animal."
    return (
        f"Near seams less elsewhere, per 1,000 animals of any size: {', '.join(told)}. An interval that holds 0 is no "
        "difference that these photographs can show; larger animals are nearer to seams, so compare within a size."
    )


def _tiles(tiles: Mapping[str, Mapping[str, int]], same: bool) -> list[Table]:
    """What the detector learnt from, beside what is published of the ``same`` photographs; without tiles nothing."""
    if not tiles:
        return []
    published = TILES if same else {}
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
