"""Charts as inline SVG: the same bytes for the same numbers, one look, colours that follow the page."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Drawn with these, shown with the page's CSS variables of the same name, so that a dark page has dark charts.
#: blue, orange and green are of Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#626a73",
    "line": "#d3d7dc",
    "faint": "#e9ebee",
    "paper": "#fefefe",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#009e73",
}
INK, MUTED, LINE, FAINT, PAPER, BLUE, ORANGE, GREEN = COLOURS.values()
SERIES = (BLUE, ORANGE, GREEN, MUTED)

_STYLE = {
    "path.simplify": False,  # it drops lines without length
    "svg.fonttype": "none",
    "svg.hashsalt": "instar",
    "font.family": "DejaVu Sans",  # ships with matplotlib: widths are measured alike everywhere
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.width": 0.7,
}


def chart(name: str, alt: str, size_px: tuple[float, float], draw: Callable[["Axes"], None]) -> Markup:
    """An inline ``<svg>`` of what ``draw`` puts on a pair of axes.

    Args:
        name: unique on the page; the ids inside the SVG begin with it.
        alt: what the chart shows, for readers who cannot see it.
        size_px: width and height at which its letters have the size of the page's small print.
        draw: called with empty axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    metadata: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(_STYLE), io.StringIO() as file:
        figure = Figure(figsize=(size_px[0] / 96, size_px[1] / 96), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", metadata=metadata)
        text = file.getvalue()
    return Markup(_inline(text, name, alt, size_px[0]))


def _inline(text: str, name: str, alt: str, width_px: float) -> str:
    body = text[text.index("<svg") :]
    body = body[body.index(">") + 1 :]
    viewbox = re.search(r'viewBox="([^"]+)"', text)
    assert viewbox is not None
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', lambda found: _shorter(found[0]), body)
    for variable, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{variable})")
    head = f'<svg class="chart" viewBox="{viewbox[1]}" role="img" aria-label="{escape(alt)}"'
    return f'{head} style="max-width:{width_px:g}px">{body.strip()}'


def _shorter(text: str) -> str:
    """Coordinates with two decimals, a hundredth of a point, in place of six."""
    return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), text)
