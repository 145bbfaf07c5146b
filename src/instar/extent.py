"""Where and when: checks of a box in degrees and of a span of days, for the parameters and for the stage."""

import math
from collections.abc import Iterator, Sequence
from datetime import date

from instar.errors import InputError


def check_extent(bbox: Sequence[float], observed_from: str, observed_to: str, *, section: str = "") -> None:
    """Check a box in degrees and a span of days, as ``extent_problems`` does.

    Raises:
        InputError: of the first problem; the key stands in the section, as in ``records.``.
    """
    for problem in extent_problems(bbox, observed_from, observed_to):
        raise InputError(f"{section}{problem}")


def extent_problems(bbox: Sequence[float], observed_from: str, observed_to: str) -> Iterator[str]:
    """What is wrong with a box and a span of days, one line for each problem.

    Args:
        bbox: west, south, east, north in degrees, WGS 84; west above east crosses the antimeridian; empty for all.
        observed_from: the first day, ISO 8601; empty for no limit.
        observed_to: the last day, likewise.
    """
    if problem := _box_problem(bbox):
        shown = ", ".join(f"{value:g}" for value in bbox)
        yield f"bbox = [{shown}] is not allowed; {problem}"
    days = {"observed_from": observed_from, "observed_to": observed_to}
    wrong = [name for name, text in days.items() if text and _day(text) is None]
    yield from (
        f"{name} = {days[name]!r} is not allowed; give a day as 2024-05-31, or '' for no limit" for name in wrong
    )
    if not wrong and observed_from and observed_to and observed_to < observed_from:
        yield f"observed_to = {observed_to!r} lies before observed_from = {observed_from!r}; exchange them"


def _box_problem(bbox: Sequence[float]) -> str | None:
    if not bbox:
        return None
    if len(bbox) != 4:
        return "give west, south, east and north in degrees, or [] for the whole world"
    west, south, east, north = bbox
    if not all(math.isfinite(value) for value in bbox) or max(abs(west), abs(east)) > 180:
        return "west and east, first and third, must be between -180 and 180"
    if not -90 <= south <= north <= 90:
        return "south and north, second and fourth, must be between -90 and 90, south not above north"
    return None


def _day(text: str) -> date | None:
    try:
        # fromisoformat alone would also take 20240531 and 2024-W22-5, which do not sort as text
        return date.fromisoformat(text) if len(text) == 10 and text[4] == text[7] == "-" else None
    except ValueError:
        return None
