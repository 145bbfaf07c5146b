"""A box, a span of days and a maximum per species."""

from datetime import datetime
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest

from instar.errors import InputError
from instar.extent import extent_problems
from instar.records.filters import Extent, Maximum, drawn_order
from instar.splits import stable_hash
from instar.tables import RECORDS

SCHEMA = pa.schema([RECORDS.field(name) for name in ("latitude", "longitude", "observed_at")])


def rows(*given: tuple[float | None, float | None, str | None]) -> pa.Table:
    """Rows of longitude, latitude and time."""
    return pa.Table.from_pylist(
        [
            {"longitude": x, "latitude": y, "observed_at": datetime.fromisoformat(f"{time}+00:00") if time else None}
            for x, y, time in given
        ],
        SCHEMA,
    )


@pytest.mark.parametrize(
    "bbox, inside, outside",
    [
        ([5, 45, 10, 50], [(5, 45), (10, 50), (7, 47)], [(4.999, 47), (10.001, 47), (7, 44.9), (7, 50.1)]),
        (
            [170, -20, -170, 20],
            [(170, 0), (180, 0), (-180, 0), (-170, 20)],
            [(169.9, 0), (-169.9, 0), (0, 0), (175, 21)],
        ),
        ([-180, -90, 180, 90], [(-180, -90), (180, 90), (0, 0)], []),
    ],
)
def test_box(bbox: list[float], inside: list[Any], outside: list[Any]) -> None:
    extent = Extent(bbox)
    assert extent.reasons(rows()).to_pylist() == []
    assert extent.reasons(rows(*((x, y, None) for x, y in inside))).to_pylist() == [None] * len(inside)
    assert extent.reasons(rows(*((x, y, None) for x, y in outside))).to_pylist() == ["outside the box"] * len(outside)
    assert extent.reasons(rows((None, None, None))).to_pylist() == ["no coordinates"]


@pytest.mark.parametrize(
    "first, last, expected",
    [
        ("", "", [None, None, None, None]),
        ("2011-05-30", "", ["outside the dates", None, None, "no date"]),
        ("", "2011-05-30", [None, None, "outside the dates", "no date"]),
        ("2011-05-30", "2011-05-30", ["outside the dates", None, "outside the dates", "no date"]),
    ],
)
def test_dates(first: str, last: str, expected: list[str | None]) -> None:
    times = ["2011-05-29T23:59:59", "2011-05-30T23:59:59", "2011-05-31T00:00:00", None]
    assert Extent([], first, last).reasons(rows(*((0, 0, time) for time in times))).to_pylist() == expected


def test_the_place_is_asked_for_first() -> None:
    extent = Extent([0, 0, 1, 1], "2011-05-30")
    given = rows((5, 5, "2001-01-01T00:00:00"), (None, None, None), (0, 0, None))
    assert extent.reasons(given).to_pylist() == ["outside the box", "no coordinates", "no date"]


@pytest.mark.parametrize(
    "bbox, first, last, message",
    [
        ([1, 2, 3], "", "", r"records.bbox = \[1, 2, 3\] is not allowed; give west, south, east and north"),
        ([1, 50, 3, 40], "", "", "south not above north"),
        ([1, 2, 3, 91], "", "", "between -90 and 90"),
        ([1, 2, 181, 3], "", "", "between -180 and 180"),
        ([1, 2, float("nan"), 3], "", "", "between -180 and 180"),
        ([1, float("nan"), 2, 3], "", "", "between -180 and 180"),
        ([], "2011-02-30", "", "records.observed_from = '2011-02-30' is not allowed; give a day as 2024-05-31"),
        ([], "", "2011", "records.observed_to = '2011' is not allowed"),
        ([], "", "20110530", "records.observed_to = '20110530' is not allowed"),
        ([], "2011-05-30", "2011-05-29", "'2011-05-29' lies before observed_from = '2011-05-30'"),
    ],
)
def test_wrong_extents(bbox: list[float], first: str, last: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Extent(bbox, first, last)


def test_right_extents_have_no_problem() -> None:
    assert list(extent_problems([], "", "")) == []
    assert list(extent_problems([170, -90, -170, 90], "2011-05-30", "2011-05-30")) == []


def test_drawn_order_goes_by_seed_and_observation() -> None:
    assert drawn_order(pa.chunked_array([], pa.string()), 0).to_pylist() == []
    ids = pa.chunked_array([["a", "b"], ["a"]])
    assert drawn_order(ids, 7).to_pylist() == [stable_hash(7, "a"), stable_hash(7, "b"), stable_hash(7, "a")]


def test_maximum_counts_over_tables() -> None:
    assert Maximum(1).kept(pa.chunked_array([], pa.string())).tolist() == []
    maximum = Maximum(2)
    assert maximum.kept(pa.chunked_array([["a", "b", "b", "b", "c"]])).tolist() == [True, True, True, False, True]
    assert maximum.kept(pa.chunked_array([["c", "c", "d"]])).tolist() == [True, False, True]
    assert maximum.kept(pa.chunked_array([["d"], ["d"]])).tolist() == [True, False]
    assert maximum.kept(pa.chunked_array([["d", None, None, None]], pa.string())).tolist() == [False, True, True, True]
    assert Maximum(9).kept(pa.chunked_array([["a"]])).tolist() == [True]


def test_maximum_keeps_as_many_whatever_the_tables() -> None:
    taxa = ["a", "a", "a", "b", "b", "b"]
    for sizes in permutations([1, 2, 3]):
        maximum, start, kept = Maximum(2), 0, []
        for size in sizes:
            kept += maximum.kept(pa.chunked_array([taxa[start : start + size]])).tolist()
            start += size
        assert kept == [True, True, False] * 2
