"""Dates of individuals' photographs: what is read, in which way, and what is not."""

from datetime import UTC, datetime

import pytest

from instar.records.individuals.dates import read_dates


def day(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def test_no_dates() -> None:
    assert read_dates([]) == ([], {})
    assert read_dates(["", "nan", "NaT", "unknown", " "]) == ([None] * 5, {"missing": 5})


@pytest.mark.parametrize(
    ("text", "time", "way"),
    [
        ("2019-07-11", day(2019, 7, 11), "iso"),
        (" 2019-07-11 ", day(2019, 7, 11), "iso"),
        ("20190711", day(2019, 7, 11), "iso"),
        ("2019-07-11 16:53:31", day(2019, 7, 11, 16, 53, 31), "iso"),
        ("2019/07/11", day(2019, 7, 11), "iso"),
        ("2019.07.11 16:53", day(2019, 7, 11, 16, 53), "iso"),
        ("2019-07/11", None, "not read"),
        ("2019/13/11", None, "not read"),
        ("2019-07-11T01:30:00+02:00", day(2019, 7, 10, 23, 30), "iso"),
        ("2019:07:11 16:53:31", day(2019, 7, 11, 16, 53, 31), "exif"),
        ("2019:07:11", day(2019, 7, 11), "exif"),
        ("0000:00:00 00:00:00", None, "not read"),
        ("2019-02-30", None, "not read"),
        ("summer", None, "not read"),
        ("11/07/19", None, "not read"),
        ("2019", None, "without a day"),
        ("2019.0", None, "without a day"),
        ("2019-07", None, "without a day"),
        ("31.12.2019", day(2019, 12, 31), "day first"),
        ("12/31/2019", day(2019, 12, 31), "month first"),
        ("31/12/2019 14:05", day(2019, 12, 31, 14, 5), "day first"),
        ("31/12/2019 25:05", None, "not read"),
        ("31/12.2019", None, "not read"),
        ("5/5/2019", day(2019, 5, 5), "day and month alike"),
        ("3/4/2019", None, "ambiguous"),
        ("3.4.2019", day(2019, 4, 3), "day first"),  # with points nobody writes the month first
        ("13/13/2019", None, "not read"),
    ],
)
def test_one_date(text: str, time: datetime | None, way: str) -> None:
    assert read_dates([text]) == ([time], {way: 1})


def test_a_column_decides_how_its_dates_are_meant() -> None:
    times, ways = read_dates(["3/4/2019", "13/4/2019", "", "3-4-2019", "2019-04-03"])
    assert times == [day(2019, 4, 3), day(2019, 4, 13), None, None, day(2019, 4, 3)]
    assert ways == {"day first": 2, "missing": 1, "ambiguous": 1, "iso": 1}
    times, ways = read_dates(["3/4/2019", "4/13/2019"])
    assert times == [day(2019, 3, 4), day(2019, 4, 13)]
    assert ways == {"month first": 2}
    # points, too, may turn out to be meant otherwise
    assert read_dates(["3.4.2019", "4.13.2019"])[0] == [day(2019, 3, 4), day(2019, 4, 13)]


def test_a_column_of_both_forms_leaves_the_ambiguous_ones() -> None:
    times, ways = read_dates(["13/4/2019", "4/14/2019", "3/4/2019", "6/6/2019"])
    assert times == [day(2019, 4, 13), day(2019, 4, 14), None, day(2019, 6, 6)]
    assert ways == {"day first": 1, "month first": 1, "ambiguous": 1, "day and month alike": 1}
