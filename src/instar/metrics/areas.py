"""Pixels that are rightly and wrongly covered, and how large animals are."""

from collections.abc import Sequence

import numpy as np

from instar.masks import Masks


def covered(masks: Masks) -> int:
    """Pixels that at least one mask covers."""
    starts, ends = _positions(masks)
    return _union(starts, ends)


def pixel_areas(found: Masks, truth: Masks) -> dict[str, int]:
    """Pixels of a photograph by what detections make of them, each pixel once however many masks cover it.

    Args:
        found: masks of the detections.
        truth: of the animals.

    Returns:
        ``true_positive``: pixels of an animal that a detection covers; ``false_positive``: covered and no animal's;
        ``false_negative``: an animal's and not covered.
    """
    starts, ends = _positions(found, truth)
    runs = len(found.tops)
    ours, others, both = _union(starts[:runs], ends[:runs]), _union(starts[runs:], ends[runs:]), _union(starts, ends)
    return {
        "true_positive": ours + others - both,
        "false_positive": both - others,
        "false_negative": both - ours,
    }


def shares(areas: dict[str, int]) -> dict[str, float | None]:
    """Each part of the sum of all; None where that is 0."""
    total = sum(areas.values())
    return {name: value / total if total else None for name, value in areas.items()}


def _positions(*parts: Masks) -> tuple[np.ndarray, np.ndarray]:
    """The runs of masks as stretches of one axis down the columns: int64, shape (r,) each."""
    columns, tops, bottoms = (
        np.concatenate([getattr(part, name) for part in parts]).astype(np.int64)
        for name in ("columns", "tops", "bottoms")
    )
    height = int(bottoms.max(initial=0)) - min(int(tops.min(initial=0)), 0)
    return columns * height + tops, columns * height + bottoms


def _union(starts: np.ndarray, ends: np.ndarray) -> int:
    """Length of what stretches of an axis cover together."""
    if not len(starts):
        return 0
    order = np.argsort(starts)
    starts, furthest = starts[order], np.maximum.accumulate(ends[order])
    # of each stretch what reaches beyond all before it
    return int(np.maximum(furthest - np.maximum(starts, np.append(starts[0], furthest[:-1])), 0).sum())


def size_of(areas: np.ndarray, areas_px: Sequence[float] | np.ndarray) -> np.ndarray:
    """Places of areas among the sizes that begin at 0 and at ``areas_px``, pixels: int64, 0 for the smallest."""
    return np.searchsorted(np.asarray(areas_px), areas, side="right")


def area_histogram(lists: dict[str, np.ndarray]) -> list[dict[str, int]]:
    """How many areas lie from one power of two up to the next, for several lists of areas.

    Args:
        lists: areas by name, int64, pixels; those of 0 are left out.

    Returns:
        A row for each power from the lowest to the highest that any list has: ``from_px``, ``below_px`` and the
        number of each list.
    """
    exponents = {name: np.frexp(areas[areas > 0])[1] - 1 for name, areas in lists.items()}
    present = np.concatenate([np.zeros(0, np.int64), *exponents.values()])
    if not len(present):
        return []
    return [
        {"from_px": 2**power, "below_px": 2 ** (power + 1)}
        | {name: int((values == power).sum()) for name, values in exponents.items()}
        for power in range(int(present.min()), int(present.max()) + 1)
    ]
