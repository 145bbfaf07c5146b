"""Insects on overlapping sub-images put together: each once on the photograph, and whole where one shows it whole."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from instar.masks import Masks, from_bitmaps, from_rle, joined_masks

#: IoU of two outlines of one insect, in the part that both sub-images show; tiny ones differ much where two people
#: draw them.
ALIKE = 0.3
#: Two outlines that stay two insects are counted from this share of the smaller one on (IOS), in the same part.
OVERLAPPING = 0.5
#: What is counted of pairs of outlines on different sub-images.
WHOLE_PAIRS = "pairs joined, both whole"
CUT_PAIRS = "pairs joined, one or both cut by a border"
STAYING_PAIRS = "pairs that overlap and stay two insects"
#: An outline that comes so near to a border inside the photograph was cut by it, pixels.
TOUCH_PX = 2


@dataclass(frozen=True)
class Joined:
    """Insects of a photograph.

    Attributes:
        masks: n of them, in pixels of the photograph.
        members: the outlines that each is made of, those whose masks it has first; n arrays of int64.
        shown: how many of them its mask is of: one, or all where none shows it whole.
        counts: insects that no sub-image shows whole, by what became of them; pairs of outlines.
        filled: of an insect whose united parts had holes between them, by its place, the pixels before.
    """

    masks: Masks
    members: list[np.ndarray]
    shown: list[int]
    counts: Counter[str]
    filled: dict[int, int]


def joined(
    masks: Masks, windows: np.ndarray, sizes: tuple[int, int], tiles: np.ndarray, as_given: np.ndarray | None = None
) -> Joined:
    """Join the outlines of one insect that several sub-images show.

    Two outlines of different sub-images are compared in the part of the photograph that both sub-images show, by IoU
    (at least ``ALIKE``), whether a border cuts them or not. Of two sub-images each outline is one of at most one in the
    other, the most alike first, so that an insect on top of a larger one stays itself, also where each is outlined on
    one sub-image only; then further pieces that a border cut off join what they are a good part of. Of an insect that
    some sub-images show whole, the outline farthest from its sub-image's borders is taken; where none does, its pieces
    are united, and holes between them filled as those of one outline are; they overlap, so they are in one piece.

    Args:
        masks: n of them, in pixels of the photograph, none empty.
        windows: int64, shape (t, 4): the sub-images, ``x_min, y_min, x_max, y_max`` in the photograph, max exclusive.
        sizes: width and height of the photograph, pixels.
        tiles: int64, shape (n,): the sub-image of each outline, an index into ``windows``.
        as_given: bool, shape (n,), masks that were given as pixels, which are taken as they are; None for none.
    """
    counts: Counter[str] = Counter()
    room = _room(masks, windows[tiles], sizes)
    groups = _Groups(tiles)
    apart: list[tuple[int, int]] = []
    for a, b in combinations(np.unique(tiles).tolist(), 2):
        first, second = np.flatnonzero(tiles == a), np.flatnonzero(tiles == b)
        shared = _shared(windows[a], windows[b])
        if shared is None:
            continue
        ios, iou = overlaps(masks.take(first).clipped(*shared), masks.take(second).clipped(*shared))
        pairs, others = _match(groups, first, second, ios, iou, room < TOUCH_PX)
        whole = sum(bool(min(room[i], room[j]) >= TOUCH_PX) for i, j in pairs)
        counts.update({WHOLE_PAIRS: whole, CUT_PAIRS: len(pairs) - whole})
        apart += others
    # a third sub-image may have joined them since
    counts[STAYING_PAIRS] = sum(not groups.are_one(i, j) for i, j in apart)
    members = sorted(groups.members(), key=lambda group: int(group.min()))
    parts, shown = [], []
    filled: dict[int, int] = {}
    for i, group in enumerate(members):
        uncut = group[room[group] >= TOUCH_PX]
        if len(uncut) or len(group) == 1:
            best = int(uncut[np.argmax(room[uncut])]) if len(uncut) else int(group[0])
            members[i] = np.array([best, *group[group != best]], np.int64)
            parts.append(masks.take(members[i][:1]))
            shown.append(1)
            counts["insects cut by a border, with no other part"] += not len(uncut)
        else:
            counts["insects united from parts"] += 1
            one = _united(masks.take(group), sizes)
            if as_given is None or not as_given[group].any():
                before = int(one.areas()[0])
                one = _filled(one)
                if one.areas()[0] > before:
                    filled[i] = before
            parts.append(one)
            shown.append(len(group))
    return Joined(joined_masks(parts), members, shown, counts, filled)


def _room(masks: Masks, windows: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    """Pixels from each outline to the nearest border of its sub-image inside the photograph: float64, shape (n,)."""
    boxes = masks.boxes().astype(np.float64)
    rooms = np.column_stack([boxes[:, :2] - windows[:, :2], windows[:, 2:] - boxes[:, 2:]])
    outer = np.column_stack([windows[:, :2] <= 0, windows[:, 2:] >= np.array(sizes)])
    rooms[outer] = np.inf
    return rooms.min(axis=1, initial=np.inf)


def _shared(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int, int] | None:
    """The part of the photograph that two sub-images show."""
    x_min, y_min = np.maximum(a[:2], b[:2]).tolist()
    x_max, y_max = np.minimum(a[2:], b[2:]).tolist()
    return (x_min, y_min, x_max, y_max) if x_max > x_min and y_max > y_min else None


def overlaps(a: Masks, b: Masks) -> tuple[np.ndarray, np.ndarray]:
    """IOS and IoU of every pair: two of float64, shape (len(a), len(b)); 0 where one is empty."""
    from pycocotools.mask import iou

    shape = len(a), len(b)
    if 0 in shape:
        return np.zeros(shape), np.zeros(shape)
    bottom = int(max([*a.bottoms, *b.bottoms], default=1))
    right = int(max([*a.columns, *b.columns], default=0)) + 1
    codes = [[{"size": [bottom, right], "counts": one} for one in masks.rle(bottom, right)] for masks in (a, b)]
    # with a crowd pycocotools divides by the first one's area alone
    areas_a, areas_b = a.areas()[:, None], b.areas()[None, :]
    common = np.asarray(iou(*codes, [1] * len(b)), np.float64) * areas_a
    smaller, either = np.minimum(areas_a, areas_b), areas_a + areas_b - common
    return tuple(np.divide(common, of, out=np.zeros(shape), where=smaller > 0) for of in (smaller, either))


def _match(
    groups: "_Groups", first: np.ndarray, second: np.ndarray, ios: np.ndarray, iou: np.ndarray, is_cut: np.ndarray
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Join outlines of two sub-images; ``ios`` and ``iou`` by their positions in ``first`` and ``second``.

    Returns:
        The pairs that are joined, and those that overlap though both are joined with nothing.
    """
    rows, columns = np.nonzero(iou >= ALIKE)
    order = np.lexsort([columns, rows, -iou[rows, columns]])
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs, rest = [], []
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        a, b = int(first[i]), int(second[j])
        if i in taken[0] or j in taken[1]:
            rest.append((i, j, a, b))
        elif groups.join(a, b):
            pairs.append((a, b))
            taken[0].add(i)
            taken[1].add(j)
    for i, j, a, b in rest:
        if (i not in taken[0] and is_cut[a]) or (j not in taken[1] and is_cut[b]):
            groups.join(a, b, piece=True)
            pairs.append((a, b))
            taken[0].add(i)
            taken[1].add(j)
    overlapping = np.argwhere(ios >= OVERLAPPING).tolist()
    return pairs, [(int(first[i]), int(second[j])) for i, j in overlapping if i not in taken[0] and j not in taken[1]]


class _Groups:
    """Outlines that are one insect; two outlines of one sub-image are two insects unless one is a cut-off piece."""

    def __init__(self, tiles: np.ndarray) -> None:
        self._above = list(range(len(tiles)))
        self._tiles: list[set[int]] = [{int(tile)} for tile in tiles]

    def _top(self, one: int) -> int:
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def are_one(self, a: int, b: int) -> bool:
        return self._top(a) == self._top(b)

    def join(self, a: int, b: int, *, piece: bool = False) -> bool:
        """Whether they are one insect now."""
        a, b = self._top(a), self._top(b)
        if a == b:
            return True
        if not piece and self._tiles[a] & self._tiles[b]:
            return False
        self._above[a] = b
        self._tiles[b] |= self._tiles[a]
        return True

    def members(self) -> Iterator[np.ndarray]:
        found = defaultdict(list)
        for one in range(len(self._above)):
            found[self._top(one)].append(one)
        return (np.array(group, np.int64) for group in found.values())


def _united(masks: Masks, sizes: tuple[int, int]) -> Masks:
    """One mask of all."""
    from pycocotools.mask import merge

    width, height = sizes
    codes = [{"size": [height, width], "counts": one} for one in masks.rle(height, width)]
    return from_rle([merge(codes)])


def _filled(one: Masks) -> Masks:
    """One mask without holes."""
    from scipy.ndimage import binary_fill_holes  # type: ignore[import-untyped]

    left, top, right, bottom = map(int, one.boxes()[0])
    return from_bitmaps([binary_fill_holes(one.bitmap(0, (left, top, right, bottom)))], [(left, top)])
