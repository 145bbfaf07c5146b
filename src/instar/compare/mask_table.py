"""The comparison's table for studies with masks: figures of masks, the published ones beside them."""

from typing import Any

from instar.compare.published import MASSID45, remark
from instar.mask_figures import AREAS, PRECISIONS, figures_on_test

#: Columns of figures of masks: what they are called in a row and in the table for people.
MASK_COLUMNS = {
    **{f"mask_{name}": f"mask {text}" for name, text in PRECISIONS.items()},
    "mask_f1": "mask F1",
    "mask_count_mape": "count error, mean share",
    "mask_count_mae": "count error, animals",
    "mask_count_slope": "counted for each one annotated",
    **{f"mask_{name}_{unit}": f"{text}, {unit}" for name, text in AREAS.items() for unit in ("px", "share")},
}
#: Of the columns of boxes those that stand behind them.
BOX_COLUMNS = {"AP50-95": "box AP50-95", "AP50": "box AP50"}


def mask_row(metrics: dict[str, Any]) -> dict[str, Any]:
    """What a row of the comparison holds of masks: figures and, under ``mask_interval_95``, their intervals."""
    figures = figures_on_test(metrics)
    if not figures:
        return {}
    row: dict[str, Any] = {f"mask_{name}": figure.value for name, figure in figures.items()}
    row["mask_confidence"] = metrics["masks"]["best_f1"]["confidence"]
    row |= {f"mask_{name}": value for name, value in metrics["masks"]["areas"]["test"].items()}
    return row | {"mask_interval_95": {f"mask_{name}": figure.interval for name, figure in figures.items()}}


def masked_rows(rows: list[dict[str, Any]], patches: dict[str, str]) -> list[dict[str, Any]]:
    """What the report shows of the rows that have masks: figures, and the sha256 of the file of patches, if any."""
    return [
        {name: value for name, value in row.items() if name in ("preset", "trained") or name.startswith("mask_")}
        | {"patches": patches.get(row["preset"])}
        for row in rows
        if "mask_interval_95" in row
    ]


def mask_columns(columns: dict[str, str]) -> dict[str, str]:
    """The columns of the table of a study with masks, given those of one with boxes."""
    rest = {
        name: text for name, text in columns.items() if name.startswith(("ms_", "param", "image", "licence", "trained"))
    }
    confidence = {"mask_confidence": "confidence of the best F1 on validation"}
    return {"preset": columns["preset"], "source": "source", **MASK_COLUMNS, **confidence, **BOX_COLUMNS, **rest}


def ours(row: dict[str, Any]) -> dict[str, Any]:
    """A row of our own as it stands in the table of masks: a detector of boxes has no figure of masks."""
    return {**dict.fromkeys((*MASK_COLUMNS, "mask_confidence")), "source": "here", **row}


def published_rows() -> list[dict[str, Any]]:
    """The published figures as rows of the table."""
    names = [f"mask_{name}" for name in PRECISIONS]
    return [
        {"preset": one.name, "source": "published", **dict(zip(names, one.precisions, strict=True))} for one in MASSID45
    ]


def mask_table_text(rows: list[dict[str, Any]], columns: dict[str, str], told: str) -> str:
    """The comparison as a Markdown table, the highest mask AP first, the published rows last.

    Args:
        rows: our own.
        columns: see ``mask_columns``.
        told: what it was measured on.
    """
    mine = sorted((ours(row) for row in rows), key=lambda row: (-(row["mask_AP50-95"] or -1.0), row["preset"]))
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[_cell(row, name) for name in columns] for row in (*mine, *published_rows())]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    sizes = "Small, medium and large are by the area of the animal's mask in pixels of the photograph."
    f1 = "F1, counts and the shares of pixels are at IoU 0.5 and the confidence of the best F1 on validation."
    return f"{told} {sizes} {f1} {remark()}\n\n{table}\n"


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, int):
        return f"{value:,}"
    digits = 1 if name.startswith("ms_") or name == "mask_count_mae" else 3
    interval = {**row.get("interval_95", {}), **row.get("mask_interval_95", {})}.get(name)
    more = f" ({interval[0]:.{digits}f}–{interval[1]:.{digits}f})" if interval else ""
    return f"{value:.{digits}f}{more}"
