"""Tests of instar.reid.orientation."""

import numpy as np
import pytest

from instar.reid.orientation import SIDES, fits, read_sides, sides, unread


def test_nothing() -> None:
    assert sides([]).shape == (0,)
    assert unread([]) == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left", {"left"}),
        ("Right ", {"right"}),
        ("topleft", {"top", "left"}),
        ("front-right", {"front", "right"}),
        ("upright", {"up", "right"}),
        ("unknown", set()),
        (None, set()),
        (float("nan"), set()),
        ("left flank", None),
        ("sinister", None),
    ],
)
def test_names(name: str | None, expected: set[str] | None) -> None:
    found = read_sides(name)
    assert (None if found is None else {side for bit, side in enumerate(SIDES) if found >> bit & 1}) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("left", "right", False),
        ("left", "left", True),
        ("front", "back", False),
        ("top", "bottom", False),
        ("up", "down", False),
        ("left", "top", True),
        ("right", "front", True),  # neighbours in the table are not opposed
        ("left", "unknown", True),
        ("topleft", "topright", True),  # by the top
        ("topleft", "right", False),
        ("topleft", "top", True),
        ("frontleft", "backright", False),
        ("odd", "left", True),
    ],
)
def test_opposed(first: str, second: str, expected: bool) -> None:
    one, other = sides([first]), sides([second])
    assert fits(one, other).tolist() == [expected]
    assert fits(other, one).tolist() == [expected]


def test_what_is_no_side_is_counted() -> None:
    assert unread(["odd", "left", None, "odd", "unknown", "a"]) == {"a": 1, "odd": 2}
    assert sides(["odd", "bottom"]).tolist() == [0, 1 << SIDES.index("bottom")]
    assert sides(["left"]).dtype == np.uint8
