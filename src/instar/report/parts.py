"""Tables and charts of the page's sections, and how figures are told."""

from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from instar.mask_figures import Figure
from instar.report.inputs import Inputs
from instar.report.measures import percent, varies


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


def share(figure: Figure) -> str:
    """``42.5 % (35.0 to 50.0 %)``."""
    if figure.value is None:
        return "–"
    told = percent(figure.value, 1)
    if figure.interval is None or not varies(figure.value, *figure.interval):
        return told
    return f"{told} ({100 * figure.interval[0]:.1f} to {percent(figure.interval[1], 1)})"


def curve(inputs: Inputs, name: str, columns: list[str], missing: list[str], told: str) -> pd.DataFrame | None:
    """A table of the plots folder; None where it is missing or empty, which ``missing`` then says."""
    if not (inputs.plots / name).is_file():
        missing.append(f"{told}: plots/{name} is not there; run the stage detection_metrics again")
        return None
    table = inputs.curve(name, columns)
    if not len(table):
        missing.append(f"{told}: plots/{name} is empty")
        return None
    return table
