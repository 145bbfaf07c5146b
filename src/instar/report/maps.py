"""Where the photographs were taken: small maps by genus, all of the same extent."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from instar.report.svg import BLUE, LINE, MUTED, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PANELS = 8
#: More dots on a small map than this only make it slow; records are then gathered into coarser cells.
MAX_CELLS = 900
CELLS_DEG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Diameters of dots for cells of at least so many records.
SIZES_FROM, SIZES_PT = (1, 2, 10, 100), (2.2, 3.2, 4.6, 6.4)


@dataclass(frozen=True)
class Map:
    """One small map."""

    title: str
    is_taxon: bool
    records: int
    svg: Markup


@dataclass(frozen=True)
class Maps:
    """The maps and what must be said about them."""

    panels: list[Map]
    cell_deg: float
    without_coordinates: int
    more_genera: int


def maps(places: pd.DataFrame) -> Maps:
    """Maps of all records and of each of the most frequent genera.

    Args:
        places: columns latitude, longitude (WGS 84 degrees, may be null) and genus (may be null), one row per record.
    """
    known = places.dropna(subset=["latitude", "longitude"])
    cell = next((size for size in CELLS_DEG if len(_cells(known, size)) <= MAX_CELLS), CELLS_DEG[-1])
    background = _cells(known, cell)
    extent = _extent(known)
    counts = known["genus"].value_counts()
    genera = sorted(counts.index, key=lambda name: (-counts[name], name))
    panels = []
    if len(known):
        svg = _panel("map-all", "all records", background, background, extent)
        panels.append(Map("all records", False, len(known), svg))
    for number, genus in enumerate(genera[:MAX_PANELS]):
        cells = _cells(known[known["genus"] == genus], cell)
        svg = _panel(f"map-{number}", genus, cells, background, extent)
        panels.append(Map(genus, True, int(counts[genus]), svg))
    return Maps(panels, cell, len(places) - len(known), max(0, len(genera) - MAX_PANELS))


def _cells(places: pd.DataFrame, size_deg: float) -> pd.DataFrame:
    """Centres of the cells that hold records, and how many each holds."""
    columns = ["latitude", "longitude"]
    corners = np.floor(places[columns].to_numpy(float) / size_deg)
    cells = pd.DataFrame((corners + 0.5) * size_deg, columns=columns)
    return cells.groupby(columns, as_index=False).size()


def _extent(places: pd.DataFrame) -> tuple[float, float, float, float]:
    """West, east, south, north of the records with a margin, at least 4 degrees each way."""
    sides = []
    for name, limit in (("longitude", 180.0), ("latitude", 90.0)):
        low, high = places[name].min(), places[name].max()
        margin = max(0.06 * (high - low), (4 - (high - low)) / 2)
        sides += [max(-limit, low - margin), min(limit, high + margin)]
    return sides[0], sides[1], sides[2], sides[3]


def _panel(
    name: str, title: str, cells: pd.DataFrame, background: pd.DataFrame, extent: tuple[float, float, float, float]
) -> Markup:
    west, east, south, north = extent
    # equirectangular: a degree of longitude is as wide as it is at the middle of the map
    aspect = 1 / max(0.2, math.cos(math.radians((south + north) / 2)))
    step = _graticule(max(east - west, north - south))

    def draw(axes: "Axes") -> None:
        if cells is not background:
            _dots(axes, background, SIZES_PT[0], LINE)
        for at_least, below, size in zip(SIZES_FROM, [*SIZES_FROM[1:], math.inf], SIZES_PT, strict=True):
            _dots(axes, cells[(cells["size"] >= at_least) & (cells["size"] < below)], size, BLUE)
        axes.set(xlim=(west, east), ylim=(south, north), aspect=aspect)
        meridians = np.arange(math.ceil(west / step) * step, east, step)
        parallels = np.arange(math.ceil(south / step) * step, north, step)
        axes.set_xticks(meridians, [_degrees(value, "EW") for value in meridians])
        axes.set_yticks(parallels, [_degrees(value, "NS") for value in parallels])
        axes.tick_params(length=0, labelsize=7.5, labelcolor=MUTED)
        axes.spines[:].set(visible=True, color=LINE)

    width = 300.0
    height = min(420.0, max(120.0, (width - 40) * aspect * (north - south) / (east - west) + 30))
    return chart(name, f"Map: {title}", (width, height), draw)


def _dots(axes: "Axes", cells: pd.DataFrame, size_pt: float, colour: str) -> None:
    """Dots as one path of lines without length but with round ends, which takes a tenth of the bytes of a scatter."""
    xs, ys = (np.repeat(cells[name].to_numpy(float), 3) for name in ("longitude", "latitude"))
    xs[2::3] = ys[2::3] = np.nan
    axes.plot(xs, ys, color=colour, linewidth=size_pt, solid_capstyle="round")


def _graticule(span_deg: float) -> float:
    """Degrees between two lines of the graticule, so that there are about four."""
    return next((step for step in (1, 2, 5, 10, 15, 20, 30) if span_deg / step <= 4.5), 60)


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):g}°{'' if value == 0 else letters[0] if value > 0 else letters[1]}"
