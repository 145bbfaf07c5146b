"""Dates as tables of photographs have them: one form may be meant in two ways, so a column is judged as a whole."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from instar.records.gathering import utc_time

#: How a date was read; the last four give none.
ISO, EXIF, DAY_FIRST, MONTH_FIRST, EITHER = "iso", "exif", "day first", "month first", "day and month alike"
AMBIGUOUS, WITHOUT_DAY, UNREAD, MISSING = "ambiguous", "without a day", "not read", "missing"

#: Texts that stand for nothing, in lower case; wildlife-datasets writes "unknown", pandas "nan".
NOTHING = ("", "nan", "nat", "unknown")

_ISO = re.compile(r"(\d{4})([-/.]?)(\d{2})\2(\d{2})([T ].*)?", re.DOTALL)
_EXIF = re.compile(r"(\d{4}):(\d{2}):(\d{2})(.*)", re.DOTALL)
_WITHOUT_DAY = re.compile(r"\d{4}(?:[-/:.]\d{1,2})?(?:\.0)?")
_NUMBERS = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T](\d{1,2}:\d{2}(?::\d{2})?))?")


def read_dates(texts: Sequence[str]) -> tuple[list[datetime | None], Counter[str]]:
    """The times of a column, UTC where it tells no zone, and how many were read in which way.

    ISO 8601 (``2019-07-11``, with a time or without; slashes or points do, too) and EXIF (``2019:07:11 16:53:31``) have
    one meaning. Of the forms that begin with day or month, those of one separator are judged together: where only one
    reading gives a date in every row, it holds for all. Where both do, points mean that the day comes first; with other
    separators, and where neither does, a row is read that has one reading, or the same day in both, and the others are
    ambiguous: None. A date without a day is None, too, since it tells no encounter.
    """
    times: list[datetime | None] = []
    ways: list[str] = []
    for text in texts:
        time, way = _plain(text.strip())
        times.append(time)
        ways.append(way)
    unread = [(i, match) for i, text in enumerate(texts) if ways[i] == UNREAD and (match := _numbers(text))]
    for separator in {match[2] for _, match in unread}:
        rows = [(i, match) for i, match in unread if match[2] == separator]
        for i, time, way in _read_together(rows, separator):
            times[i], ways[i] = time, way
    return times, Counter(ways)


def _plain(text: str) -> tuple[datetime | None, str]:
    """A date of one meaning, and how it was read."""
    if text.lower() in NOTHING:
        return None, MISSING
    if _WITHOUT_DAY.fullmatch(text):
        return None, WITHOUT_DAY
    exif = _EXIF.fullmatch(text)
    if exif and (time := utc_time(f"{exif[1]}-{exif[2]}-{exif[3]}{exif[4]}")):
        return time, EXIF
    iso = _ISO.fullmatch(text)
    if iso and (time := utc_time(f"{iso[1]}-{iso[3]}-{iso[4]}{iso[5] or ''}")):
        return time, ISO
    return None, UNREAD


def _numbers(text: str) -> re.Match[str] | None:
    return _NUMBERS.fullmatch(text.strip())


def _read_together(rows: list[tuple[int, re.Match[str]]], separator: str) -> list[tuple[int, datetime | None, str]]:
    readings = {
        DAY_FIRST: [_time(match[4], match[3], match[1], match[5]) for _, match in rows],
        MONTH_FIRST: [_time(match[4], match[1], match[3], match[5]) for _, match in rows],
    }
    fitting = [way for way, times in readings.items() if all(times)]
    if len(fitting) == 1 or (fitting and separator == "."):
        return [(i, time, fitting[0]) for (i, _), time in zip(rows, readings[fitting[0]], strict=True)]
    return [
        (i, *_alone(day_first, month_first))
        for (i, _), day_first, month_first in zip(rows, readings[DAY_FIRST], readings[MONTH_FIRST], strict=True)
    ]


def _alone(day_first: datetime | None, month_first: datetime | None) -> tuple[datetime | None, str]:
    if day_first == month_first:
        return day_first, EITHER if day_first else UNREAD
    if day_first and month_first:
        return None, AMBIGUOUS
    return (day_first, DAY_FIRST) if day_first else (month_first, MONTH_FIRST)


def _time(year: str, month: str, day: str, clock: str | None) -> datetime | None:
    try:
        time = datetime(int(year), int(month), int(day), tzinfo=UTC)
        hours, minutes, seconds = ([*map(int, clock.split(":")), 0] if clock else [0, 0, 0])[:3]
        return time.replace(hour=hours, minute=minutes, second=seconds)
    except ValueError:
        return None
