"""The last look at a shard: the code of every crop, what training shares with held-out crops, and the examples."""

from dataclasses import dataclass

import numpy as np

from instar.dataset.choice import SPLITS, TEST, TRAIN, VALIDATION, Plan
from instar.dataset.leakage import Probe, add_hits
from instar.dataset.near import Members
from instar.dataset.rows import NUMBERS, Classes, Scratch
from instar.dataset.rules import EARLIER, KEPT, NEAR_EARLIER, OBSERVER, SURPLUS, count_by

_EXAMPLE = np.dtype([("label", "i4"), ("key", "u8")])


@dataclass
class Finished:
    """What the last look found.

    Attributes:
        counts: int64, shape (n_splits + n_reasons - 1, n_classes + 1): crops of each code and label.
        hits: what training crops share with the held-out ones, see ``leakage.Probe``.
        examples: records of ``label`` and ``key``: the kept crops of each class with the lowest order.
    """

    counts: np.ndarray
    hits: dict[str, np.ndarray]
    examples: np.ndarray


def add_finished(parts: list[Finished], *, plan: Plan, examples: int) -> Finished:
    return Finished(
        counts=np.sum([part.counts for part in parts], axis=0),
        hits=add_hits([part.hits for part in parts]),
        examples=_lowest(np.concatenate([part.examples for part in parts]), plan, examples),
    )


@dataclass(frozen=True)
class Verdicts:
    """Codes of the crops that do not simply train, by the hashes of their keys.

    Attributes:
        keys: the crops.
        codes: uint8, of each of ``keys.values``.
    """

    keys: Members
    codes: np.ndarray


def verdicts(held_out: dict[str, np.ndarray], surplus: np.ndarray, earlier: np.ndarray) -> Verdicts:
    """Codes of held-out crops and of those that held-out groups have too many of."""
    parts = [(held_out.get(VALIDATION), SPLITS.index(VALIDATION)), (held_out.get(TEST), SPLITS.index(TEST))]
    parts += [(surplus, code_of(SURPLUS)), (earlier, code_of(EARLIER))]
    given = [(keys, code) for keys, code in parts if keys is not None and len(keys)]
    keys = Members(np.concatenate([keys for keys, _ in given]))
    codes = np.zeros(len(keys.values), np.uint8)
    for found, code in given:
        codes[np.searchsorted(keys.values, found)] = code
    return Verdicts(keys, codes)


def code_of(reason: int) -> int:
    """The code of a dropped crop; those of the splits come first."""
    return len(SPLITS) - 1 + reason


def finish(
    number: int,
    *,
    scratch: Scratch,
    classes: Classes,
    plan: Plan,
    chosen: Verdicts,
    probe: Probe,
    examples: int,
    example_limits: np.ndarray,
    n_reasons: int,
) -> Finished:
    """Write the codes of a shard's crops, and count."""
    rows = scratch.rows(number, ["label", *NUMBERS])
    reasons = scratch.reasons(number)
    kept = reasons == KEPT
    code = np.where(kept, 0, reasons + (len(SPLITS) - 1)).astype(np.uint8)
    code[scratch.near_earlier(number)] = code_of(NEAR_EARLIER)
    if plan.way == "observer":
        code[kept & (plan.sides(rows) != SPLITS.index(TRAIN))] = code_of(OBSERVER)
    row, place = chosen.keys.places(rows["key"])
    code[row] = chosen.codes[place]
    # under a looser split all that are kept would train
    trains = np.stack([code == 0 if way == plan.way else kept.copy() for way in probe.ways])
    for way, aside in enumerate(probe.aside):
        trains[way, aside.places(rows["key"])[0]] = False
    n_classes = len(classes.names)
    counts = count_by(code, rows["label"], len(SPLITS) + n_reasons - 1, n_classes)
    scratch.write_flat("codes", number, code)
    used = np.flatnonzero(code < len(SPLITS))
    used = used[plan.order(rows["key"][used]) < example_limits[rows["label"][used]]]
    found = np.empty(len(used), _EXAMPLE)
    found["label"], found["key"] = rows["label"][used], rows["key"][used]
    return Finished(counts, probe.hits(rows, trains), _lowest(found, plan, examples))


def _lowest(records: np.ndarray, plan: Plan, number: int) -> np.ndarray:
    """The first so many of each label by the order of their keys."""
    records = records[np.lexsort([plan.order(records["key"]), records["label"]])]
    labels = records["label"]
    first = np.searchsorted(labels, labels, side="left")
    return np.asarray(records[np.arange(len(records)) - first < number])
