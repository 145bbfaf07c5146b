"""Which crops of each species are held out: whole groups, by the lowest hashes, so that nothing else decides."""

from dataclasses import dataclass, field

import numpy as np

from instar.dataset.near import Members, Neighbours, mix
from instar.dataset.rows import NOTHING, NUMBERS, Classes, Scratch
from instar.dataset.rules import CONFLICT, DUPLICATE, KEPT, count
from instar.splits import whole_groups

#: Ways to split, from loose to strict.
WAYS = ("random", "photograph", "observation", "observer")
#: Ways that also keep near-duplicates on one side.
GUARDED = ("observation", "observer")

TRAIN, VALIDATION, TEST = "train", "validation", "test"
#: Values of the final code of a crop below ``len(SPLITS)``; a reason's place comes behind them.
SPLITS = (TRAIN, VALIDATION, TEST)

#: A limit below which every order lies but one in 2⁶⁴.
ALL = np.uint64(2**64 - 1)

#: A crop that may be held out.
CANDIDATE = np.dtype([("label", "i4"), ("group", "u8"), *((name, "u8") for name in NUMBERS)])


@dataclass(frozen=True)
class Plan:
    """How to split.

    Attributes:
        seed: 64 bits; groups are ordered by their hash xor the seed, which is another random order for each seed.
        way: one of ``WAYS``.
        wanted: crops of each species for validation and for the test.
        observer_share: of the observers, those whose crops never train, where the split is by observer.
        near_bits: hashes that differ in at most so many bits are near-duplicates.
        earlier_observers: those whose crops were held out earlier, in one split each.
    """

    seed: int
    way: str
    wanted: dict[str, int]
    observer_share: float
    near_bits: int
    earlier_observers: "Known | None" = None

    @property
    def considered(self) -> dict[str, int]:
        """Of each species, the first so many groups that a split chooses from; more would not change much."""
        return {split: 3 * wanted + 1 for split, wanted in self.wanted.items()}

    @property
    def apart(self) -> tuple[str, ...]:
        """What held-out and training crops must not share (``leakage.RELATIONS``)."""
        guarded = ("photograph", "observation", "near_duplicate")
        return {"random": (), "photograph": guarded[:1], "observation": guarded, "observer": (*guarded, "observer")}[
            self.way
        ]

    def groups(self, way: str, rows: dict[str, np.ndarray]) -> np.ndarray:
        """Hash of the group that each crop belongs to, uint64."""
        if way == "random":
            return rows["key"]
        if way == "photograph":
            return mix(rows["phash"] ^ rows["observation"])
        return rows["observation"]

    def order(self, groups: np.ndarray) -> np.ndarray:
        return groups ^ np.uint64(self.seed)

    def sides(self, rows: dict[str, np.ndarray] | np.ndarray) -> np.ndarray:
        """The only split that a crop's observer has crops in, by its place in ``SPLITS``, uint8.

        The share of held-out observers is divided by what each split wants. An observation without an observer is its
        own.
        """
        observers = np.where(rows["observer"] == NOTHING, rows["observation"], rows["observer"])
        drawn = mix(observers ^ np.uint64(self.seed))
        parts = self.observer_share * np.cumsum(list(self.wanted.values())) / sum(self.wanted.values())
        edges = (parts * 2.0**64).astype(np.uint64)
        places = np.array([*(SPLITS.index(split) for split in self.wanted), SPLITS.index(TRAIN)], np.uint8)
        sides = places[np.searchsorted(edges, drawn, side="right")]
        if self.earlier_observers is not None:
            row, place = self.earlier_observers.names.places(observers)
            sides[row] = self.earlier_observers.sides[place]
        return np.asarray(sides)


@dataclass(frozen=True)
class Known:
    """Observers and the place in ``SPLITS`` of each of ``names.values``."""

    names: Members
    sides: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, splits: np.ndarray) -> "Known":
        """Those of rows that were held out earlier, in these splits; of an observer in two, validation."""
        observers = np.where(rows["observer"] == NOTHING, rows["observation"], rows["observer"])
        codes = np.array([SPLITS.index(split) for split in splits], np.uint8)
        order = np.lexsort([codes, observers])
        names, first = np.unique(observers[order], return_index=True)
        return cls(Members(names), codes[order][first])


def limits(kept: np.ndarray, crops: float) -> np.ndarray:
    """Orders below which about so many crops of each class lie, uint64 of shape (n_classes,); ALL for a small class.

    Args:
        kept: int64, shape (n_classes,): crops of each class.
        crops: wanted below the limit.
    """
    share = np.minimum(crops / np.maximum(kept, 1), 1.0)
    found = np.where(share < 1, (np.minimum(share, 0.999) * 2.0**64).astype(np.uint64), ALL)
    return np.where(kept > 0, found, np.uint64(0))


@dataclass
class Selected:
    """What one look at the shards found.

    Attributes:
        kept: int64, shape (n_classes + 1,): crops that no rule dropped.
        trainable: int64, shape (n_classes + 1,): of these, crops that train where no more is held out.
        candidates: records of ``CANDIDATE`` for each way.
        earlier: records of kept crops whose observation was held out earlier.
        earlier_dropped: records of the others; nothing that comes near them may train either.
    """

    kept: np.ndarray
    trainable: np.ndarray
    candidates: dict[str, np.ndarray]
    earlier: np.ndarray
    earlier_dropped: np.ndarray


def add_selected(parts: list[Selected]) -> Selected:
    return Selected(
        kept=np.sum([part.kept for part in parts], axis=0),
        trainable=np.sum([part.trainable for part in parts], axis=0),
        candidates={way: np.concatenate([part.candidates[way] for part in parts]) for way in parts[0].candidates},
        earlier=np.concatenate([part.earlier for part in parts]),
        earlier_dropped=np.concatenate([part.earlier_dropped for part in parts]),
    )


def select(
    number: int, *, scratch: Scratch, classes: Classes, plan: Plan, limits: dict[str, np.ndarray], earlier: Members
) -> Selected:
    """Kept crops of a shard whose group's order is below the limit of their class, for each way.

    Args:
        number: of the shard.
        scratch: holds its rows and reasons.
        classes: the labels.
        plan: how to split.
        limits: uint64, shape (n_classes,), for each way; 0 takes none.
        earlier: observations that were held out earlier; their crops are no candidates.
    """
    rows = scratch.rows(number, ["label", *NUMBERS])
    kept = scratch.reasons(number) == KEPT
    was = np.zeros(len(kept), bool)
    was[earlier.places(rows["observation"])[0]] = True
    found = {}
    for way, limit in limits.items():
        groups = plan.groups(way, rows)
        wanted = kept & ~was
        wanted[wanted] = plan.order(groups[wanted]) < limit[rows["label"][wanted]]
        found[way] = _records(rows, groups, wanted)
    n_classes = len(classes.names)
    counts = count(rows["label"][kept], n_classes)
    away = was if plan.way != "observer" else was | (plan.sides(rows) != SPLITS.index(TRAIN))
    trainable = counts - count(rows["label"][kept & away], n_classes)
    before = [_records(rows, rows["observation"], was & same) for same in (kept, ~kept)]
    return Selected(counts, trainable, found, *before)


def _records(rows: dict[str, np.ndarray], groups: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = np.flatnonzero(wanted)
    records = np.empty(len(at), CANDIDATE)
    records["group"] = groups[at]
    for name in ("label", *NUMBERS):
        records[name] = rows[name][at]
    return records


@dataclass
class Guard:
    """What the other kept crops say of candidates.

    Attributes:
        near: bool, of each candidate row: another observation holds a near-duplicate.
        mixed: bool, of each candidate row: its group holds crops with another label.
    """

    near: np.ndarray
    mixed: np.ndarray


def add_guards(parts: list[Guard]) -> Guard:
    return Guard(
        near=np.logical_or.reduce([part.near for part in parts]),
        mixed=np.logical_or.reduce([part.mixed for part in parts]),
    )


@dataclass(frozen=True)
class Watch:
    """Indexes of the rows that ``guard`` looks for; made once and shared by all shards."""

    rows: np.ndarray
    near_bits: int
    pictures: Neighbours = field(init=False)
    groups: Members = field(init=False)
    place: np.ndarray = field(init=False)  # of each row among the groups
    label: np.ndarray = field(init=False)  # of a row of each group

    def __post_init__(self) -> None:
        groups = Members(self.rows["group"])
        place = np.searchsorted(groups.values, self.rows["group"])
        label = np.empty(len(groups.values), np.int32)
        label[place] = self.rows["label"]
        object.__setattr__(self, "pictures", Neighbours(self.rows["phash"], self.near_bits))
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "place", place)
        object.__setattr__(self, "label", label)


def guard(number: int, *, scratch: Scratch, plan: Plan, watch: Watch, earlier: Watch | None) -> Guard:
    """Compare a shard's crops with the candidates, and note those that come near ones held out earlier."""
    rows = scratch.rows(number, ["label", "observation", "phash"])
    reasons = scratch.reasons(number)
    at = np.flatnonzero(reasons == KEPT)
    near = np.zeros(len(watch.rows), bool)
    if plan.way in GUARDED:
        # a dropped copy tells that two observations show one animal, whose other photographs differ
        copies = np.flatnonzero((reasons == DUPLICATE) | (reasons == CONFLICT))
        near[near_pairs(rows, np.append(at, copies), watch)[1]] = True
        hit = np.zeros(len(watch.label), bool)
        hit[watch.groups.places(rows["observation"][copies])[1]] = True  # under these ways a group is an observation
        near |= hit[watch.place]
    inside, place = watch.groups.places(plan.groups(plan.way, rows)[at])
    other = np.zeros(len(watch.label), bool)
    other[place[rows["label"][at][inside] != watch.label[place]]] = True
    if earlier is not None and plan.way in GUARDED:
        dropped = np.unique(near_pairs(rows, at, earlier)[0])
        own = earlier.groups.places(rows["observation"][dropped])[0]  # of these a group is an observation, too
        scratch.write_flat("near_earlier", number, np.delete(dropped, own))
    return Guard(near, other[watch.place])


def near_pairs(rows: dict[str, np.ndarray] | np.ndarray, at: np.ndarray, watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    """Rows, of those at ``at``, and watched rows that are near-duplicates of each other in two observations."""
    at = at[rows["phash"][at] != NOTHING]  # sooner than in pairs: of many without a hash each pairs with each
    row, place = watch.pictures.pairs(rows["phash"][at])
    row = at[row]
    apart = rows["observation"][row] != watch.rows["observation"][place]
    seen = watch.rows["phash"][place] != NOTHING
    return row[apart & seen], place[apart & seen]


@dataclass
class Choice:
    """Who is held out, by hashes of keys, uint64.

    Attributes:
        held_out: for each split the crops it holds.
        surplus: crops of held-out groups beyond the quota; they train nothing.
        enough: bool, shape (n_classes,): whether each split had all the groups to choose from that it considers.
        passed_over: groups that were not taken, by reason.
    """

    held_out: dict[str, np.ndarray]
    surplus: np.ndarray
    enough: np.ndarray
    passed_over: dict[str, int]


def choose(
    records: np.ndarray,
    plan: Plan,
    *,
    left: np.ndarray,
    near: np.ndarray,
    mixed: np.ndarray,
    sides: np.ndarray | None,
    had: dict[str, np.ndarray],
) -> Choice:
    """Take the groups with the lowest order of each species, whole, until they hold what is wanted.

    A group that has a near-duplicate elsewhere, or crops of two labels, is not taken. More of a species' groups train
    than are held out, and at least as many of its crops, or it gives none.

    Args:
        records: candidates, of species only.
        plan: how to split.
        left: int64, shape (n_classes,): crops that train where no more is held out.
        near: bool, of each record.
        mixed: bool, of each record.
        sides: uint8, of each record the only split that it can be in (``Plan.sides``); None where any can be.
        had: int64, shape (n_classes,), for each split: crops that it holds already.
    """
    order = np.lexsort([plan.order(records["key"]), plan.order(records["group"]), records["label"]])
    labels = records["label"][order]
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]])) if len(labels) else np.zeros(0, int)
    enough = np.zeros(len(left), bool)
    taken: dict[str, list[np.ndarray]] = {split: [] for split in [*plan.wanted, "surplus"]}
    passed = {"near-duplicate elsewhere": 0, "several labels": 0}
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        at = order[begin:end]
        label = int(labels[begin])
        groups = _Groups(records["group"][at])
        barred_near, barred_mixed = groups.any(near[at]), groups.any(mixed[at])
        passed["near-duplicate elsewhere"] += int(barred_near.sum())
        passed["several labels"] += int((barred_mixed & ~barred_near).sum())
        free = ~(barred_near | barred_mixed)
        side = None if sides is None else groups.first(sides[at])
        may = {split: free if side is None else free & (side == SPLITS.index(split)) for split in plan.wanted}
        needed = plan.considered
        enough[label] = free.sum() >= sum(needed.values()) and all(may[name].sum() >= n for name, n in needed.items())
        most = (len(free) - 1) // 2 if side is None else int((side == SPLITS.index(TRAIN)).sum()) - 1
        held, before = 0, sum(int(had[split][label]) for split in plan.wanted)
        for split, wanted in plan.wanted.items():
            missing = wanted - int(had[split][label])
            if missing <= 0:
                continue
            places = np.flatnonzero(may[split] & free)[: plan.considered[split]]
            chosen = places[list(whole_groups(groups.sizes[places].tolist(), wanted=missing, most=most))]
            held_then = held + int(groups.sizes[chosen].sum())
            trains = left[label] - (held_then if side is None else 0)
            if not len(chosen) or trains < before + held_then:
                continue
            rows = at[np.concatenate([groups.rows(place) for place in chosen])]
            taken[split].append(rows[:missing])
            taken["surplus"].append(rows[missing:])
            free[chosen] = False
            most, held = most - len(chosen), held_then
    keys = {name: records["key"][np.concatenate(parts)] if parts else _no_keys() for name, parts in taken.items()}
    return Choice({split: keys[split] for split in plan.wanted}, keys["surplus"], enough, passed)


def _no_keys() -> np.ndarray:
    return np.zeros(0, np.uint64)


class _Groups:
    """Runs of equal values."""

    def __init__(self, groups: np.ndarray) -> None:
        self._starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
        self.sizes = np.diff([*self._starts, len(groups)])

    def any(self, flags: np.ndarray) -> np.ndarray:
        return np.asarray(np.logical_or.reduceat(flags, self._starts))

    def first(self, values: np.ndarray) -> np.ndarray:
        return values[self._starts]

    def rows(self, place: int) -> np.ndarray:
        return np.arange(self.sizes[place]) + self._starts[place]


def quota_from_earlier(
    records: np.ndarray, splits: np.ndarray, classes: Classes, plan: Plan
) -> tuple[Choice, dict[str, np.ndarray]]:
    """Keep crops of observations that were held out earlier in their split, up to the quota of their species.

    Args:
        records: of these observations.
        splits: of each record, the name of the split that its observation was in.
        classes: the labels.
        plan: how to split.

    Returns:
        The choice, whose surplus takes part in nothing, and how many crops each split holds of each class.
    """
    order = np.lexsort([plan.order(records["key"]), plan.order(records["group"])])
    had = {split: np.zeros(len(classes.names), np.int64) for split in plan.wanted}
    taken: dict[str, list[int]] = {split: [] for split in plan.wanted}
    surplus: list[int] = []
    for row in order:
        label, split = int(records["label"][row]), str(splits[row])
        if split in had and classes.is_species[label] and had[split][label] < plan.wanted[split]:
            had[split][label] += 1
            taken[split].append(row)
        else:
            surplus.append(row)
    held_out = {split: records["key"][rows] for split, rows in taken.items()}
    return Choice(held_out, records["key"][surplus], np.zeros(len(classes.names), bool), {}), had
