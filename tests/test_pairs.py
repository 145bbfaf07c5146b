"""Tests of instar.reid.pairs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from instar.reid.pairs import BONUS, COLUMNS, informative_pairs, pair_values

NAMES = ["photo_key", "other_photo_key", "dataset", "identity", "other_identity", "probability"]


def chosen(*rows: tuple[Any, ...], pairs: int = 99, per_individual: int = 99) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=NAMES, dtype=object).astype({"probability": np.float32})
    return informative_pairs(table, pairs=pairs, per_individual=per_individual)


def keys(table: pd.DataFrame) -> list[str]:
    return (table["photo_key"] + table["other_photo_key"]).tolist()


def test_nothing() -> None:
    found = chosen()
    assert tuple(found.columns) == COLUMNS
    assert len(found) == 0
    value, would = pair_values(np.zeros(0), np.zeros(0, object), np.zeros(0, object))
    assert value.shape == would.shape == (0,)


@pytest.mark.parametrize(
    ("probability", "identity", "other", "value", "would"),
    [
        (0.5, None, None, 1, "name"),
        (0.75, "a", None, 0.5, "name"),
        (0.25, None, "b", 0.5, ""),
        (0.75, "a", "b", 0.5 + BONUS, "merge"),
        (0.25, "a", "b", 0.5, ""),
        (0.25, "a", "a", 0.5 + BONUS, "split"),
        (1.0, "a", "a", 0, ""),
    ],
)
def test_values_by_hand(probability: float, identity: str | None, other: str | None, value: float, would: str) -> None:
    found = pair_values(np.array([probability]), np.array([identity], object), np.array([other], object))
    assert (found[0][0], found[1][0]) == (pytest.approx(value), would)


def test_the_most_informative_first() -> None:
    found = chosen(
        ("1", "2", "L", "a", "a", 0.9),
        ("3", "4", "L", "b", None, 0.5),
        ("5", "6", "L", "c", "d", 0.6),
        ("8", "7", "L", "e", "f", 0.5),
        ("7", "9", "L", "e", "f", 0.5),
    )
    assert keys(found) == ["79", "87", "56", "34", "12"]
    assert found["would"].tolist() == ["merge", "merge", "merge", "name", ""]
    assert found["other_identity"].tolist()[3] is None
    assert keys(chosen(("1", "2", "L", "a", "a", 0.9), ("3", "4", "L", "b", None, 0.5), pairs=1)) == ["34"]


def test_a_few_of_each_individual() -> None:
    rows = [(str(n), str(n + 1), "L", "a", "b", 0.5 + n / 100) for n in range(1, 9, 2)]
    assert keys(chosen(*rows, per_individual=2)) == ["12", "34"]
    # a of another data set is another one, and so is each photograph of nobody
    other = [("x", "y", "S", "a", "b", 0.9), ("z", "w", "L", None, None, 0.9), ("z", "v", "L", None, None, 0.95)]
    assert keys(chosen(*rows, *other, per_individual=1)) == ["12", "xy", "zw"]
    # one individual with itself takes part once
    assert keys(chosen(("1", "2", "L", "a", "a", 0.5), ("3", "4", "L", "a", "a", 0.5), per_individual=2)) == [
        "12",
        "34",
    ]
    # an unnamed photograph that is called as an individual is
    assert len(chosen(("1", "2", "L", "a", "b", 0.5), ("a", "9", "L", None, None, 0.5), per_individual=1)) == 2


def test_a_pair_comes_once_and_no_photograph_with_itself() -> None:
    found = chosen(("1", "2", "L", "a", "b", 0.5), ("2", "1", "L", "b", "a", 0.5), ("3", "3", "L", "a", "a", 0.5))
    assert keys(found) == ["12"]


def test_the_order_of_the_candidates_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = [
        (f"p{a}", f"p{b}", "L", f"i{a % 4}", None if b % 5 == 0 else f"i{b % 4}", round(float(rng.random()), 1))
        for a in range(20)
        for b in range(a)
    ]
    found = chosen(*rows, pairs=30, per_individual=9)
    shuffled = chosen(*(rows[place] for place in rng.permutation(len(rows))), pairs=30, per_individual=9)
    pd.testing.assert_frame_equal(found, shuffled)
    assert 0 < len(found) <= 30
