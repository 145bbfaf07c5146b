"""Splits of known individuals: counts as published, no encounter on both sides, and some individuals new."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from instar.dataset.encounters import Seen, by_time, open_set, published
from instar.errors import InputError
from instar.splits import encounter_of


def seen(identity: str, day: int | None, n: int = 0, dataset: str = "turtles") -> Seen:
    date = None if day is None else datetime(2020, 1, 1, n, tzinfo=UTC) + timedelta(days=day)
    return Seen(identity, dataset, encounter_of(identity, date, f"{identity}-{n}"), date)


def test_nothing_is_split_of_nothing() -> None:
    assert published([]) == by_time([], share=0.2, seed=0) == open_set([], share=0.2, new_share=0.2, seed=0) == []


def test_the_published_counts() -> None:
    rng = np.random.default_rng(1)
    once = [f"once {n}" for n in range(317)]
    twice = [f"again {n}" for n in range(785) for _ in range(2)]
    more = [f"again {n}" for n in rng.integers(0, 785, 13_074 - 317 - len(twice))]
    identities = [*once, *twice, *more]
    rng.shuffle(identities)
    found = published(identities)
    assert Counter(found) == {"train": 10_522, "validation": 2_552}
    assert {split for identity, split in zip(identities, found, strict=True) if identity in set(once)} == {"train"}
    held = Counter(identity for identity, split in zip(identities, found, strict=True) if split == "validation")
    counts = Counter(identities)
    assert all(abs(held[name] - 0.2 * n) <= 1 for name, n in counts.items() if n > 1)  # stratified
    assert found == published(identities)


def test_too_few_photographs_for_the_published_split_are_told() -> None:
    with pytest.raises(InputError, match=r"4 photographs of 2 individuals .* set dataset.split_by to time"):
        published(["a", "a", "b", "b", "c"])


@pytest.mark.parametrize(
    ("days", "held"),
    [
        ([0], []),  # a single encounter trains
        ([0, 0, 0], []),
        ([0, 1], [1]),  # the later one, more than a fifth though it is
        ([1, 0], [0]),
        ([0, 1, 2, 3, 4], [4]),
        ([0, 1, 2, 2, 3, 3, 4, 4, 5, 5], [8, 9]),  # a fifth of ten; the encounter of day 4 would be too much
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [8, 9]),
        ([None, 0], [1]),  # without a date: before all others
    ],
)
def test_later_encounters_are_held_out(days: list[int | None], held: list[int]) -> None:
    found = by_time([seen("t1", day, n) for n, day in enumerate(days)], share=0.2, seed=0)
    assert [place for place, split in enumerate(found) if split != "train"] == held


def test_of_several_later_encounters_the_last_are_the_test() -> None:
    found = by_time([seen("t1", day) for day in range(10)], share=0.4, seed=0)
    assert found == ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


def test_a_single_later_encounter_is_for_either() -> None:
    rows = [seen(f"t{n}", day) for n in range(100) for day in (0, 1)]
    counts = Counter(by_time(rows, share=0.2, seed=0))
    assert counts["train"] == 100
    assert 30 < counts["validation"] < 70


def test_no_encounter_is_parted_and_no_order_matters() -> None:
    rng = np.random.default_rng(0)
    rows = [
        seen(f"t{n % 30}", None if n % 7 == 0 else int(rng.integers(4)), n % 24, "ab"[n % 30 // 15]) for n in range(300)
    ]
    for split in (
        lambda given: by_time(given, share=0.3, seed=3),
        lambda given: open_set(given, share=0.3, new_share=0.3, seed=3),
    ):
        found = split(rows)
        of_encounter = {(one.encounter, part) for one, part in zip(rows, found, strict=True)}
        assert len(of_encounter) == len({one.encounter for one in rows})
        order = rng.permutation(len(rows))
        turned = split([rows[place] for place in order])
        assert [turned[place] for place in np.argsort(order)] == found


def test_new_individuals_are_held_out_wholly_and_others_choose_the_threshold() -> None:
    rows = [seen(f"{dataset}{n}", day, dataset=dataset) for dataset in "ab" for n in range(20) for day in range(5)]
    found = open_set(rows, share=0.2, new_share=0.2, seed=0)
    splits: dict[str, set[str]] = {}
    for one, split in zip(rows, found, strict=True):
        splits.setdefault(one.identity, set()).add(split)
    new = {name: of_it for name, of_it in splits.items() if "train" not in of_it}
    assert Counter((name[0], *of_it) for name, of_it in new.items()) == {
        ("a", "validation"): 2,
        ("a", "test"): 2,
        ("b", "validation"): 2,
        ("b", "test"): 2,
    }
    assert all(len(of_it) == 2 for name, of_it in splits.items() if name not in new)


@pytest.mark.parametrize(("individuals", "new"), [(1, 0), (2, 1), (3, 2), (4, 2), (20, 4)])
def test_someone_known_is_left(individuals: int, new: int) -> None:
    rows = [seen(f"t{n}", day) for n in range(individuals) for day in range(2)]
    found = open_set(rows, share=0.2, new_share=0.2, seed=0)
    trains = {one.identity for one, split in zip(rows, found, strict=True) if split == "train"}
    assert len(trains) == individuals - new


def test_individuals_that_were_new_stay_new() -> None:
    rows = [seen(f"t{n}", day) for n in range(10) for day in range(4)]
    first = open_set(rows, share=0.25, new_share=0.2, seed=0)
    earlier = {row.encounter: split for row, split in zip(rows, first, strict=True) if split != "train"}
    assert open_set(rows, share=0.25, new_share=0.2, seed=0, earlier=earlier) == first
    grown = [*rows, *(seen(f"t{n}", day) for n in range(20) for day in range(4 if n > 9 else 5))]
    grown = list({row.encounter: row for row in grown}.values())
    again = open_set(grown, share=0.25, new_share=0.2, seed=0, earlier=earlier)
    splits = {row.encounter: split for row, split in zip(grown, again, strict=True)}
    assert {name: splits[name] for name in earlier} == earlier
    trained = {row.identity for row, split in zip(rows, first, strict=True) if split == "train"}
    trains = {row.identity for row, split in zip(grown, again, strict=True) if split == "train"}
    # two of ten were new, and are; with them four of twenty
    assert trained <= trains and len(trains) == 16
    assert not trains & {row.identity for row in rows} - trained
