"""Splitting by group from a stable hash, so that no order of rows, no shard and no worker changes who goes where."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime

#: Of figures of the split validation by a classifier whose epoch it chose.
CHOSE_EPOCH = (
    "The judged crops also chose the epoch whose weights were kept (early_stop), so the figures are somewhat too good; "
    "dataset.test_crops makes a split that is apart."
)


def stable_hash(seed: int, name: str) -> int:
    """64 bits of sha256 over the seed and a name; Python's own ``hash`` of a string differs between two processes."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big")


def id_hash(name: str) -> int:
    """64 bits of sha256 over an id: what tables carry beside it, so that a split of millions need read no strings."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def judged_split(splits: Iterable[str | None]) -> str:
    """The split that figures are of: test where any row is in it, else validation."""
    return "test" if "test" in set(splits) else "validation"


def encounter_of(identity: str | None, date: datetime | None, photo_key: str) -> str:
    """What is not parted of photographs of individuals: one identity on one day (UTC); a photograph alone without them.

    >>> encounter_of("t281", datetime(2016, 7, 11, 16, 53), "k"), encounter_of("t281", None, "k")
    ('t281 2016-07-11', 'k')
    """
    return f"{identity} {date:%Y-%m-%d}" if identity and date else photo_key


def individual_of(name: str, dataset: str) -> str:
    """What an individual is called whose name stands in another data set, too; see ``name_of``."""
    return f"{dataset}/{name}"


def name_of(individual: str, dataset: str) -> str:
    """The name that the source gives an individual of a data set, as a submission must have it.

    The stage records lets no other individual's name begin with its data set and a slash.

    >>> name_of(individual_of("t1", "Turtles"), "Turtles"), name_of("t2", "Turtles")
    ('t1', 't2')
    """
    return individual.removeprefix(f"{dataset}/")


def hash_order(seed: int, names: Iterable[str]) -> list[str]:
    """Order the distinct names so that it depends on the seed and on each name alone.

    Taking the first few of it is a random choice that stays the same when other names come or go behind them.
    """
    return sorted(set(names), key=lambda name: (stable_hash(seed, name), name))


def whole_groups(sizes: Sequence[int], *, wanted: int, most: int) -> tuple[int, ...]:
    """Choose whole groups that together hold exactly ``wanted`` items, or else as few more as possible.

    The groups are taken in their order and one that would overshoot is passed over. Where that does not end at exactly
    ``wanted``, the total nearest above it is sought among all choices of at most ``most`` groups.

    Args:
        sizes: items of each group, each at least 1.
        wanted: items to choose, at least 1.
        most: groups that may be chosen.

    Returns:
        Indices into ``sizes``, ascending; empty where ``most`` groups cannot hold ``wanted`` items.
    """
    taken: list[int] = []
    total = 0
    for index, size in enumerate(sizes):
        if len(taken) < most and total + size <= wanted:
            taken.append(index)
            total += size
        if total == wanted:
            return tuple(taken)
    return _nearest_above(sizes, wanted, most)


def _nearest_above(sizes: Sequence[int], wanted: int, most: int) -> tuple[int, ...]:
    fewest: dict[int, tuple[int, ...]] = {0: ()}  # for each total, the choice of the fewest groups
    for index, size in enumerate(sizes):
        for total, chosen in list(fewest.items()):
            if total >= wanted:
                continue  # a choice that has enough needs no more
            known = fewest.get(total + size)
            if known is None or len(known) > len(chosen) + 1:
                fewest[total + size] = (*chosen, index)
    enough = [total for total, chosen in fewest.items() if total >= wanted and len(chosen) <= most]
    return fewest[min(enough)] if enough else ()
