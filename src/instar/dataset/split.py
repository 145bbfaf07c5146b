"""Look at the shards until every species has its held-out crops, or is known to have too few groups."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from instar.dataset import choice
from instar.dataset.choice import CANDIDATE, GUARDED, WAYS, Choice, Known, Plan, Watch
from instar.dataset.engine import Engine
from instar.dataset.near import Members
from instar.dataset.rows import Classes, Scratch

_NOBODY = np.zeros(0, CANDIDATE)
#: What the limit of a class grows by when it gave too few groups.
_WIDER = 8
#: Crops looked at for each group that is needed; a group holds one or two as a rule.
_CROPS_A_GROUP = 3


@dataclass
class Split:
    """What was chosen.

    Attributes:
        plan: how to split, with the observers that were held out earlier.
        held_out: hashes of keys, uint64, for each split.
        surplus: crops of held-out groups beyond the quota.
        earlier: crops of groups that were held out earlier and are now in no split.
        kept: int64, shape (n_classes,): crops that no rule dropped.
        rows: records of the crops held out, for each way to split; the way in use is among them.
        aside: for each way, hashes of the keys that do not train.
        passed_over: groups that were not taken, by reason.
    """

    plan: Plan
    held_out: dict[str, np.ndarray]
    surplus: np.ndarray
    earlier: np.ndarray
    kept: np.ndarray
    rows: dict[str, np.ndarray]
    aside: dict[str, np.ndarray]
    passed_over: dict[str, int]


def split(run: Engine, scratch: Scratch, classes: Classes, plan: Plan, earlier: dict[int, str]) -> Split:
    """Choose the held-out crops under the split in use and, to compare with it, under the looser ones.

    Args:
        run: where the shards are looked at.
        scratch: their rows and reasons.
        classes: the labels.
        plan: how to split.
        earlier: the split of observations that an earlier run held out, by the hash of their ids.

    A crop that comes near one of an observation that was held out earlier trains nothing, whatever became of that one.
    """
    looker = _Looker(run, scratch, classes, plan, earlier)
    ways = WAYS[: WAYS.index(plan.way) + 1]
    looker.look(ways)
    chosen = {way: looker.choose(way) for way in ways}
    used = chosen[plan.way]
    had = looker.kept_earlier
    held_out = {name: np.concatenate([had.held_out[name], used.held_out[name]]) for name in plan.wanted}
    rows, aside = {}, {}
    for way in ways:
        now = chosen[way]
        mine = had if way == plan.way else None
        parts = [*now.held_out.values(), *(mine.held_out.values() if mine else ())]
        keys = Members(np.concatenate(parts))
        pool = np.concatenate([looker.seen[way], looker.earlier_rows])
        place = np.unique(keys.places(pool["key"])[0])
        pool = pool[place]
        rows[way] = pool[np.unique(pool["key"], return_index=True)[1]]
        extra = [now.surplus] if mine is None else [now.surplus, mine.surplus]
        aside[way] = np.concatenate([*parts, *extra])
    return Split(looker.plan, held_out, used.surplus, had.surplus, looker.kept, rows, aside, used.passed_over)


class _Looker:
    """Looks at the shards with limits that widen for the classes that need more."""

    def __init__(self, run: Engine, scratch: Scratch, classes: Classes, plan: Plan, earlier: dict[int, str]) -> None:
        self._run, self._scratch, self._classes, self.plan = run, scratch, classes, plan
        self._earlier = Members(np.fromiter(earlier, np.uint64, len(earlier)))
        self.seen: dict[str, np.ndarray] = {}
        nothing = {plan.way: np.zeros(len(classes.names), np.uint64)}
        first = self._select("kept crops counted", nothing)
        self.kept = first.kept[:-1]
        self.earlier_rows = first.earlier
        self._all_earlier = np.append(first.earlier, first.earlier_dropped)
        splits = np.array([earlier[int(name)] for name in self.earlier_rows["observation"]], object)
        self.kept_earlier, self._had = choice.quota_from_earlier(self.earlier_rows, splits, classes, plan)
        splits = np.array([earlier[int(name)] for name in self._all_earlier["observation"]], object)
        self.plan = replace(plan, earlier_observers=Known.of(self._all_earlier, splits))

    def look(self, ways: tuple[str, ...]) -> None:
        """The first look for all ways, in one."""
        needed = _CROPS_A_GROUP * sum(self.plan.considered.values())
        species = np.where(self._classes.is_species, self.kept, 0)
        share = {"observer": self.plan.observer_share}
        self._limits = {way: choice.limits(species, needed / share.get(way, 1.0)) for way in ways}
        self._first = self._select("shards searched", self._limits)

    def choose(self, way: str) -> Choice:
        """Who is held out under one way to split; after ``look``."""
        plan = self.plan
        had = self._had if way == plan.way else {name: np.zeros_like(self.kept) for name in plan.wanted}
        limits, found = self._limits[way], self._first
        records, near, mixed = _NOBODY, np.zeros(0, bool), np.zeros(0, bool)
        wanting = limits > 0
        while True:
            fresh = found.candidates[way]
            stays = ~wanting[records["label"]]
            guarded = self._guard(way, fresh)
            near, mixed = np.append(near[stays], guarded.near), np.append(mixed[stays], guarded.mixed)
            records = np.append(records[stays], fresh)
            chosen = choice.choose(
                records,
                plan,
                left=found.trainable[:-1] if way == plan.way else self.kept,
                near=near,
                mixed=mixed,
                sides=plan.sides(records) if way == "observer" else None,
                had=had,
            )
            wanting = (limits > 0) & (limits < choice.ALL) & ~chosen.enough
            if not wanting.any():
                self.seen[way] = records
                return chosen
            limits = np.where(wanting, np.where(limits > choice.ALL // _WIDER, choice.ALL, limits * _WIDER), limits)
            found = self._select(f"shards searched, by {way}", {way: np.where(wanting, limits, np.uint64(0))})

    def _select(self, what: str, limits: dict[str, np.ndarray]) -> choice.Selected:
        look = partial(
            choice.select,
            scratch=self._scratch,
            classes=self._classes,
            plan=self.plan,
            limits=limits,
            earlier=self._earlier,
        )
        return self._run.fold(what, look, range(len(self._scratch.shards)), choice.add_selected)

    def _guard(self, way: str, records: np.ndarray) -> choice.Guard:
        """What the other crops say of candidates; nothing under a way that is looser than any to train with."""
        plan = replace(self.plan, way=way)
        guarded = choice.Guard(np.zeros(len(records), bool), np.zeros(len(records), bool))
        if way == "random" or (way != self.plan.way and way not in GUARDED):
            return guarded
        # those of other observers train anyway
        at = np.flatnonzero(plan.sides(records) > 0) if way == "observer" else np.arange(len(records))
        watch = Watch(records[at], plan.near_bits)
        follows = way == self.plan.way and len(self._all_earlier) > 0
        earlier = Watch(self._all_earlier, plan.near_bits) if follows else None
        look = partial(choice.guard, scratch=self._scratch, plan=plan, watch=watch, earlier=earlier)
        found = self._run.fold("shards compared", look, range(len(self._scratch.shards)), choice.add_guards)
        guarded.near[at], guarded.mixed[at] = found.near, found.mixed
        if earlier is not None and way in GUARDED:
            guarded.near[choice.near_pairs(records, at, earlier)[0]] = True
        return guarded
