"""Splits of the photographs of known individuals: as published, by time, and with individuals that are new."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from types import MappingProxyType

import numpy as np

from instar.errors import InputError
from instar.splits import hash_order, stable_hash

TRAIN, VALIDATION, TEST, QUERY = "train", "validation", "test", "query"
WAYS = ("published", "time", "open_set")
#: Encounters that an earlier run held out, where there was none.
NOTHING: Mapping[str, str] = MappingProxyType({})

#: Of the published split (AnimalCLEF25): share that is held out, and scikit-learn's random state.
PUBLISHED_SHARE, PUBLISHED_STATE = 0.2, 42


@dataclass(frozen=True)
class Seen:
    """A photograph of a known individual.

    Attributes:
        identity: whom it shows.
        dataset: that it belongs to.
        encounter: one identity on one day, or the photograph alone.
        date: None where it is not known.
        held: whether an earlier run held the photograph itself out; None where a review gave it its identity.
    """

    identity: str
    dataset: str
    encounter: str
    date: datetime | None
    held: bool | None = None


def published(identities: Sequence[str]) -> list[str]:
    """The published split: individuals seen once train, of the others a fifth is held out, stratified by individual.

    With the 13,074 photographs of AnimalCLEF25's database, 317 of individuals seen once, 10,522 train and 2,552
    validate. Photographs of one encounter may lie on both sides.

    Args:
        identities: of all photographs of the database, in the order of its table: the draw depends on it.

    Returns:
        train or validation for each.

    Raises:
        InputError: if a fifth of the photographs is fewer than there are individuals.
    """
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    _, inverse, counts = np.unique(np.array(identities, dtype=object), return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[inverse] > 1)
    found = np.full(len(inverse), TRAIN, dtype=object)
    if len(again):
        try:
            _, held = train_test_split(
                again, test_size=PUBLISHED_SHARE, stratify=inverse[again], random_state=PUBLISHED_STATE
            )
        except ValueError:
            raise InputError(
                f"{len(again)} photographs of {int((counts > 1).sum())} individuals seen twice or more are too few for "
                "the published split, which holds out a fifth of them, stratified; set dataset.split_by to time"
            ) from None
        found[held] = VALIDATION
    return found.tolist()


def by_time(seen: Sequence[Seen], *, share: float, seed: int, earlier: Mapping[str, str] = NOTHING) -> list[str]:
    """Hold out the later encounters of each individual, whole; the last of them are for the test.

    An individual's encounters stand in the order of their days, those without a date before all others and among
    themselves in a random order. From the last one back they are held out as long as at least one is left and no more
    than ``share`` of its photographs is held out, the last one in any case. Of several the later half is for the test;
    a single one is for validation or test by chance.

    Args:
        seen: photographs.
        share: of an individual's photographs, in (0, 1).
        seed: of what is left to chance.
        earlier: the split of encounters that an earlier run held out; they keep it.

    Returns:
        train, validation or test for each.
    """
    found = [TRAIN] * len(seen)
    wholly = _held_wholly(seen, seed, earlier)
    for identity, places in _grouped(one.identity for one in seen).items():
        encounters = _in_order([seen[place] for place in places], seed)
        held = _last(encounters, share)
        split_of = dict(zip(held, _halved(held, stable_hash(seed, identity) % 2), strict=True))
        for place in places:
            split = wholly.get(identity) or split_of.get(seen[place].encounter, TRAIN)
            found[place] = earlier.get(seen[place].encounter, split)
    return found


def _held_wholly(seen: Sequence[Seen], seed: int, earlier: Mapping[str, str]) -> dict[str, str]:
    """The split of each individual that an earlier run held out wholly: its first encounter did not train either.

    What a review moved to a known individual may be held out and earlier than all that trained of it: so the first
    encounter of the photographs that were its own must have been held out, too.
    """
    found = {}
    for identity, places in _grouped(one.identity for one in seen).items() if earlier else ():
        of_it = [seen[place] for place in places]
        first, _ = _in_order(of_it, seed)[0]
        own = [one for one in of_it if one.held is not None]
        first_own = _in_order(own, seed)[0][0] if own else None
        if first in earlier and all(one.held for one in own if one.encounter == first_own):
            found[identity] = earlier[first]
    return found


def open_set(
    seen: Sequence[Seen], *, share: float, new_share: float, seed: int, earlier: Mapping[str, str] = NOTHING
) -> list[str]:
    """Hold out some individuals wholly, so that they are new, and of the others the later encounters (``by_time``).

    Of each data set ``new_share`` of the individuals is new, two at least where there are three: the first half of
    them, in a random order, is for validation and the rest for the test, so that a threshold that is chosen on some new
    individuals is judged on others.

    Args:
        seen: photographs.
        share: see ``by_time``.
        new_share: of the individuals, in (0, 1).
        seed: of what is left to chance.
        earlier: the split of encounters that an earlier run held out; they keep it, and individuals that were new stay
            so and are the first of ``new_share``.

    Returns:
        train, validation or test for each.
    """
    wholly = _held_wholly(seen, seed, earlier)
    met = {one.identity for one in seen if one.encounter in earlier}
    of_dataset: dict[str, set[str]] = defaultdict(set)
    for one in seen:
        of_dataset[one.dataset].add(one.identity)
    new: dict[str, str] = {}
    for identities in of_dataset.values():
        # one more individual than is held out must be left to compare with
        wanted = min(max(2, round(new_share * len(identities))), len(identities) - 1)
        # whoever was known to the earlier run stays known
        drawn = hash_order(stable_hash(seed, "new"), identities - met)
        chosen = drawn[: max(0, wanted - len(identities & wholly.keys()))]
        new |= dict(zip(chosen, _halved(chosen, 0), strict=True))
    known = [place for place, one in enumerate(seen) if one.identity not in new]
    found = [earlier.get(one.encounter, new.get(one.identity, TRAIN)) for one in seen]
    rest = by_time([seen[place] for place in known], share=share, seed=seed, earlier=earlier)
    for place, split in zip(known, rest, strict=True):
        found[place] = split
    return found


def _grouped(names: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        found[name].append(place)
    return found


def _in_order(seen: Sequence[Seen], seed: int) -> list[tuple[str, int]]:
    """Encounters of one individual, the latest last, and how many photographs each has."""
    place = {name: at for at, name in enumerate(hash_order(seed, (one.encounter for one in seen)))}
    ordered = sorted(
        seen, key=lambda one: (one.date is not None, one.date.timestamp() if one.date else 0.0, place[one.encounter])
    )
    # an encounter's photographs have one day but several times
    last = {one.encounter: at for at, one in enumerate(ordered)}
    ordered.sort(key=lambda one: last[one.encounter])
    return [(name, len(list(group))) for name, group in groupby(ordered, key=lambda one: one.encounter)]


def _last(encounters: Sequence[tuple[str, int]], share: float) -> list[str]:
    """The last encounters that are held out, the latest last; at least one, unless there is no other."""
    most = share * sum(count for _, count in encounters)
    held: list[str] = []
    photographs = 0
    for name, count in reversed(encounters[1:]):
        if held and photographs + count > most:
            break
        held.append(name)
        photographs += count
    return held[::-1]


def _halved(names: Sequence[str], odd: int) -> list[str]:
    """validation for the first half, test for the rest; the middle one of an odd number is for the test if ``odd``."""
    first = (len(names) + 1 - odd) // 2
    return [VALIDATION] * first + [TEST] * (len(names) - first)
