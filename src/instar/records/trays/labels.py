"""What annotators called the insects: labels of high and low confidence, and whose outline a label is of."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from instar.masks import Masks
from instar.records.trays.assemble import overlaps
from instar.records.trays.taxa import Taxa, depth_by_form, rank_depth

#: Between two labels of one insect.
SEPARATOR = ";"
#: An outline of the labels' file is one of the outlines' file from this IoU on.
SAME_IOU = 0.5


@dataclass
class Label:
    """What an insect was called.

    Attributes:
        high: id of the taxon that is sure; None where there is none, or a name may be of a higher one that the taxonomy
            does not have.
        low: ids of those that are not, by rank and name.
        unknown: names that the taxonomy does not have.
        is_split: whether two labels share the highest rank.
        is_apart: whether a lower label lies outside the sure one.
    """

    high: str | None = None
    low: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    is_split: bool = False
    is_apart: bool = False


def label(names: list[str], taxa: Taxa) -> Label:
    """The labels of an insect by confidence: the one of the highest rank is sure, those below it are not.

    Where two share the highest rank, the lowest taxon that holds both is sure and both are not. Beside a name that the
    taxonomy does not have nothing is sure, since it may be of the highest rank, unless its form tells that it is not.

    Args:
        names: as the annotators wrote them, each perhaps several with ``SEPARATOR`` between them.
        taxa: the taxonomy.
    """
    single = dict.fromkeys(name for text in names for part in text.split(SEPARATOR) if (name := part.strip()))
    found = {name: taxa.find(name) for name in single}
    given = Label(unknown=[name for name, one in found.items() if one is None])
    ids = sorted({one for one in found.values() if one}, key=lambda one: (rank_depth(one), one))
    if not ids:
        return given
    if any(depth_by_form(name) <= rank_depth(ids[0]) for name in given.unknown):
        given.low = ids
        return given
    highest = [one for one in ids if rank_depth(one) == rank_depth(ids[0])]
    given.is_split = len(highest) > 1
    given.high = taxa.common(highest)
    given.low = [one for one in ids if one != given.high]
    given.is_apart = any(given.high not in taxa.path(one) for one in given.low) and given.high is not None
    return given


def matched(labelled: Masks, insects: Masks) -> np.ndarray:
    """The insect that each labelled outline is of, each the most alike by IoU: int64, shape (len(labelled),), or -1."""
    if not len(labelled) or not len(insects):
        return np.full(len(labelled), -1, np.int64)
    _, iou = overlaps(labelled, insects)
    best = iou.argmax(axis=1)
    return np.where(iou[np.arange(len(labelled)), best] >= SAME_IOU, best, -1).astype(np.int64)


def counts(labels: list[Label]) -> Counter[str]:
    """Insects by what labels they have."""
    found: Counter[str] = Counter()
    for one in labels:
        found["insects with a high-confidence label"] += one.high is not None
        found["insects with low-confidence labels"] += bool(one.low)
        found["insects with a label that the taxonomy does not have"] += bool(one.unknown)
        found["insects with low-confidence labels alone, beside one that the taxonomy does not have"] += bool(
            one.low and one.unknown and one.high is None
        )
        found["insects with two labels of the highest rank"] += one.is_split
        found["insects with a low-confidence label outside the high-confidence one"] += one.is_apart
    return +found
