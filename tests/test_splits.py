"""Tests of instar.splits."""

import subprocess
import sys

import pytest

from instar.splits import hash_order, judged_split, stable_hash, whole_groups


def test_hash_is_the_same_in_every_process() -> None:
    code = "from instar.splits import stable_hash; print(stable_hash(7, 'Lasius niger'))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed == [f"{stable_hash(7, 'Lasius niger')}\n"] * 2


def test_hash_separates_the_seed_from_the_name() -> None:
    assert stable_hash(1, "2") != stable_hash(12, "")


def test_order_of_none() -> None:
    assert hash_order(0, []) == []


def test_order_depends_on_the_seed_and_each_name_alone() -> None:
    names = [f"observation-{n}" for n in range(50)]
    order = hash_order(0, names)
    assert order == hash_order(0, [*reversed(names), names[0]])
    assert sorted(order) == sorted(names)
    assert order != hash_order(1, names)
    assert [name for name in order if name != names[7]] == hash_order(0, [name for name in names if name != names[7]])


@pytest.mark.parametrize(
    ("sizes", "wanted", "most", "expected"),
    [
        ([], 5, 9, ()),
        ([1, 1, 1], 2, 9, (0, 1)),
        ([5, 1], 5, 1, (0,)),
        ([2, 9, 3], 5, 2, (0, 2)),  # 9 would overshoot and is passed over
        ([1, 5, 1], 5, 1, (1,)),  # the first alone uses up the one group allowed
        ([4, 3, 2], 5, 2, (1, 2)),  # 4 first leads nowhere, 3 + 2 is exact
        ([4, 7, 6], 5, 1, (2,)),  # nothing is exact: 6 is nearest above
        ([4, 4, 4], 5, 2, (0, 1)),
        ([4, 4, 4], 5, 1, ()),
        ([1, 1, 9, 1, 1, 1, 5], 5, 9, (0, 1, 3, 4, 5)),  # in order, not the fewest
        ([1, 1, 2, 3], 5, 2, (2, 3)),  # 2 is one group here, not 1 + 1
        ([1, 1], 5, 2, ()),
        ([9], 5, 0, ()),
    ],
)
def test_whole_groups(sizes: list[int], wanted: int, most: int, expected: tuple[int, ...]) -> None:
    assert whole_groups(sizes, wanted=wanted, most=most) == expected


def test_judged_split() -> None:
    assert judged_split([]) == judged_split(["train", None, "validation"]) == "validation"
    assert judged_split(iter(["train", "validation", "test"])) == "test"
