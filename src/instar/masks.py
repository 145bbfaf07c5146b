"""Masks of many animals as vertical runs of pixels: small, exact, and moved between tile and photograph by adding.

COCO's RLE walks down the columns, so a run here is a piece of one of its runs. Boxes and areas are in pixels of the
picture that the masks lie in; its size is needed only to read and write RLE.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

#: Runs compared or united in one go: it bounds what ``intersections`` and ``voted`` take to some 100 MB.
RUNS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Masks:
    """Masks, each a list of runs that do not overlap, ordered by column and row; an empty mask has none.

    Attributes:
        columns: int32, shape (r,), x of each run.
        tops: int32, shape (r,), its first y.
        bottoms: int32, shape (r,), one past its last y.
        offsets: int64, shape (n + 1,); mask i has the runs ``offsets[i]:offsets[i + 1]``.
    """

    columns: np.ndarray
    tops: np.ndarray
    bottoms: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def owners(self) -> np.ndarray:
        """The mask of each run: int64, shape (r,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def areas(self) -> np.ndarray:
        """Pixels of each mask: int64, shape (n,)."""
        total = np.concatenate([[0], np.cumsum(self.bottoms.astype(np.int64) - self.tops)])
        return total[self.offsets[1:]] - total[self.offsets[:-1]]

    def boxes(self) -> np.ndarray:
        """The box around each mask: float32, shape (n, 4), max exclusive; an empty mask has zeros."""
        boxes = np.zeros((len(self), 4), np.float32)
        filled = np.flatnonzero(np.diff(self.offsets))
        if len(filled):
            starts = self.offsets[filled]
            boxes[filled, 0] = self.columns[starts]
            boxes[filled, 2] = self.columns[self.offsets[filled + 1] - 1] + 1
            boxes[filled, 1] = np.minimum.reduceat(self.tops, starts)
            boxes[filled, 3] = np.maximum.reduceat(self.bottoms, starts)
        return boxes

    def shifted(self, left: int, top: int) -> "Masks":
        """The masks of a tile in pixels of the photograph, given the tile's upper left corner there."""
        return Masks(
            self.columns + np.int32(left), self.tops + np.int32(top), self.bottoms + np.int32(top), self.offsets
        )

    def take(self, indices: np.ndarray) -> "Masks":
        """Some of the masks in the order of ``indices``: int64, shape (k,), or bool, shape (n,)."""
        indices = np.flatnonzero(indices) if np.asarray(indices).dtype == bool else np.asarray(indices, np.int64)
        sizes = np.diff(self.offsets)[indices]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        runs = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], sizes)
        return Masks(self.columns[runs], self.tops[runs], self.bottoms[runs], offsets)

    def clipped(self, x_min: int, y_min: int, x_max: int, y_max: int) -> "Masks":
        """The parts of the masks inside a box, max exclusive; a mask that lies outside becomes empty."""
        tops, bottoms = np.maximum(self.tops, y_min), np.minimum(self.bottoms, y_max)
        kept = (self.columns >= x_min) & (self.columns < x_max) & (bottoms > tops)
        counts = np.bincount(self.owners[kept], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Masks(self.columns[kept], tops[kept].astype(np.int32), bottoms[kept].astype(np.int32), offsets)

    def resized(self, size: tuple[int, int], wanted: tuple[int, int]) -> "Masks":
        """The masks in the same picture at another size, by the nearest pixel; small ones may become empty.

        Args:
            size: height and width of the picture that they lie in, pixels; what reaches outside is cut off.
            wanted: likewise, of the other one.
        """
        inside = self.clipped(0, 0, size[1], size[0])
        if size == wanted:
            return inside
        import cv2

        whole = (0, 0, size[1], size[0])
        nearest = cv2.INTER_NEAREST_EXACT
        pictures = (inside.bitmap(n, whole).view(np.uint8) for n in range(len(inside)))
        return from_bitmaps(cv2.resize(picture, wanted[::-1], interpolation=nearest) for picture in pictures)

    def bitmap(self, index: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """The pixels of one mask inside a box ``x_min, y_min, x_max, y_max``: bool, shape (height, width)."""
        x_min, y_min, x_max, y_max = box
        picture = np.zeros((y_max - y_min, x_max - x_min), bool)
        for run in range(self.offsets[index], self.offsets[index + 1]):
            x = self.columns[run] - x_min
            if 0 <= x < picture.shape[1]:
                picture[max(self.tops[run] - y_min, 0) : max(self.bottoms[run] - y_min, 0), x] = True
        return picture

    def bitmaps(self, height: int, width: int) -> np.ndarray:
        """The pixels of all masks in a picture that holds them: uint8 of 0 and 1, shape (n, height, width)."""
        steps = np.zeros((len(self), width, height + 1), np.int8)
        np.add.at(steps, (self.owners, self.columns, self.tops), 1)
        np.add.at(steps, (self.owners, self.columns, self.bottoms), -1)
        return np.cumsum(steps, axis=2, dtype=np.int8)[:, :, :-1].transpose(0, 2, 1).view(np.uint8)

    def rle(self, height: int, width: int) -> list[bytes]:
        """COCO's compressed run-length counts of each mask in a picture of this size.

        Raises:
            ValueError: if a mask reaches outside the picture.
        """
        from pycocotools.mask import frPyObjects

        if not len(self):  # for which pycocotools has no answer
            return []
        if len(self.tops) and not (
            min(self.tops.min(), self.columns.min()) >= 0
            and self.bottoms.max() <= height
            and self.columns.max() < width
        ):
            raise ValueError(f"a mask reaches outside the picture of {width}×{height} pixels")
        starts = self.columns.astype(np.int64) * height + self.tops
        ends = starts + (self.bottoms - self.tops)
        counts = [_counts(starts[a:b], ends[a:b], height * width) for a, b in pairwise(self.offsets)]
        return [
            one["counts"]
            for one in frPyObjects([{"size": [height, width], "counts": c} for c in counts], height, width)
        ]


def _counts(starts: np.ndarray, ends: np.ndarray, total: int) -> list[int]:
    """Lengths of background and mask in turn, the background first, as COCO's uncompressed RLE has them."""
    # a run that ends at a column's foot goes on at the next one's head
    joints = starts[1:] == ends[:-1]
    first, last = np.append(True, ~joints), np.append(~joints, True)
    if not len(starts):
        return [total]
    edges = np.column_stack([starts[first], ends[last]]).ravel()
    lengths = np.diff(edges, prepend=0).tolist()
    return [*lengths, total - int(edges[-1])] if edges[-1] < total else lengths


def no_masks(n: int = 0) -> Masks:
    """``n`` empty masks."""
    nothing = np.zeros(0, np.int32)
    return Masks(nothing, nothing, nothing, np.zeros(n + 1, np.int64))


def joined_masks(parts: Sequence[Masks]) -> Masks:
    """All masks of several parts as one list, in the order given."""
    if not parts:
        return no_masks()
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    columns, tops, bottoms = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("columns", "tops", "bottoms")
    )
    return Masks(columns, tops, bottoms, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def from_bitmaps(bitmaps: Iterable[np.ndarray], corners: Iterable[tuple[int, int]] | None = None) -> Masks:
    """Masks from pictures of them.

    Args:
        bitmaps: each bool or uint8, shape (height, width), not 0 where the animal is; sizes may differ.
        corners: x and y of each picture's upper left pixel; all 0 where there are none.
    """
    parts = []
    places = iter(corners) if corners is not None else None
    for bitmap in bitmaps:
        left, top = next(places) if places is not None else (0, 0)
        columns, tops, bottoms = _runs(bitmap)
        parts.append(
            Masks(columns + np.int32(left), tops + np.int32(top), bottoms + np.int32(top), np.array([0, len(tops)]))
        )
    return joined_masks(parts)


def _runs(bitmap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, tops and bottoms of the runs of one picture, int32, by column and row."""
    padded = np.zeros((bitmap.shape[1], bitmap.shape[0] + 2), np.int8)
    padded[:, 1:-1] = bitmap.T != 0
    steps = np.diff(padded, axis=1)
    columns, tops = np.nonzero(steps == 1)
    _, bottoms = np.nonzero(steps == -1)
    return columns.astype(np.int32), tops.astype(np.int32), bottoms.astype(np.int32)


def from_labels(labels: np.ndarray, n: int) -> Masks:
    """Masks from one picture of many that do not overlap.

    Args:
        labels: int, shape (height, width), 0 where there is no animal, else its number.
        n: how many there are; mask i is where ``labels`` is i + 1.
    """
    height, width = labels.shape
    changed = np.ones((width, height), bool)
    changed[:, 1:] = labels.T[:, 1:] != labels.T[:, :-1]
    starts = np.flatnonzero(changed)
    ends = np.append(starts[1:], width * height)[: len(starts)]
    numbers = labels.T[changed]
    order = np.argsort(numbers, kind="stable")
    order = order[np.searchsorted(numbers[order], 1) :]
    columns, tops = starts[order] // max(height, 1), starts[order] % max(height, 1)
    bottoms = tops + ends[order] - starts[order]
    counts = np.bincount(numbers[order], minlength=n + 1)[1:]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Masks(columns.astype(np.int32), tops.astype(np.int32), bottoms.astype(np.int32), offsets)


def from_rle(encoded: Iterable[dict[str, Any]]) -> Masks:
    """Masks from COCO's RLE, ``{"size": [height, width], "counts": …}`` with compressed counts, text or bytes.

    Raises:
        ValueError: if the counts do not fill the size.
    """
    parts = []
    for one in encoded:
        height, width = one["size"]
        lengths = _decoded_counts(one["counts"])
        if int(lengths.sum()) != height * width or (lengths < 0).any():
            raise ValueError(f"RLE of {int(lengths.sum())} pixels for a picture of {width}×{height}")
        ends = np.cumsum(lengths)[1::2]
        starts = ends - lengths[1::2]
        filled = ends > starts
        columns, tops, bottoms = _split(starts[filled], ends[filled], height)
        parts.append(Masks(columns, tops, bottoms, np.array([0, len(tops)])))
    return joined_masks(parts)


def _decoded_counts(counts: str | bytes) -> np.ndarray:
    """Run lengths from COCO's text: six bits a character, the lowest first, and differences from the last but one.

    Source: rleFrString in pycocotools' maskApi.c, which Python cannot call for lengths.
    """
    codes = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    if len(codes) and (codes.min() < 0 or codes.max() > 63 or codes[-1] & 32):
        raise ValueError("RLE counts end inside a number or hold a foreign character")
    lasts = np.flatnonzero(~(codes & 32).astype(bool))
    firsts = np.concatenate([[0], lasts[:-1] + 1]) if len(lasts) else lasts
    place = np.arange(len(codes)) - np.repeat(firsts, lasts - firsts + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * place), firsts) if len(firsts) else np.zeros(0, np.int64)
    negative = (codes[lasts] & 16).astype(bool)
    numbers = np.where(negative, numbers - (1 << (5 * (lasts - firsts + 1))), numbers)
    # every count after the third is told as the difference from the one two before it
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def _split(starts: np.ndarray, ends: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs along the columns of a picture cut where a column ends: columns, tops, bottoms, int32."""
    first, last = starts // height, (ends - 1) // height
    pieces = last - first + 1
    columns = np.repeat(first, pieces) + (np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    tops = np.maximum(np.repeat(starts, pieces) - columns * height, 0)
    bottoms = np.minimum(np.repeat(ends, pieces) - columns * height, height)
    return columns.astype(np.int32), tops.astype(np.int32), bottoms.astype(np.int32)


def from_polygons(polygons: Iterable[Sequence[Sequence[float]]], height: int, width: int) -> Masks:
    """Masks from COCO's polygons, each a list of rings ``x1, y1, x2, y2, …``, by pycocotools' own rasterization.

    Args:
        polygons: the rings of each mask, which are united.
        height: of the picture, pixels.
        width: likewise.
    """
    from pycocotools.mask import frPyObjects, merge

    return from_rle([merge(frPyObjects([list(ring) for ring in rings], height, width)) for rings in polygons])


def intersections(masks: Masks, others: Masks, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pixels that pairs of masks share, exactly, by intersecting their runs column by column.

    Args:
        masks: any.
        others: any; may be the same.
        left: int64, shape (k,), of each pair the index into ``masks``.
        right: int64, shape (k,), the index into ``others``.

    Returns:
        int64, shape (k,).
    """
    mine, theirs = _Columns(masks), _Columns(others)
    first = np.maximum(mine.first[left], theirs.first[right])
    end = np.minimum(mine.end[left], theirs.end[right])
    shared = np.zeros(len(left), np.int64)
    meeting = np.flatnonzero(end > first)
    starts, ends = (mine.at(mine.place(left[meeting], edge[meeting])) for edge in (first, end))
    for part in _portions(ends - starts):
        runs, pairs = _ranges(starts[part], ends[part])
        columns, others_of = masks.columns[runs], right[meeting[part]]
        places = theirs.place(others_of[pairs], columns)
        low, high = theirs.at(places), theirs.at(places + 1)
        while len(low):  # nearly every mask has one run in a column
            left_over = np.flatnonzero(high > low)
            low, high, runs, pairs = low[left_over], high[left_over], runs[left_over], pairs[left_over]
            common = np.minimum(masks.bottoms[runs], others.bottoms[low]) - np.maximum(
                masks.tops[runs], others.tops[low]
            )
            sums = np.bincount(pairs, weights=np.maximum(common, 0), minlength=len(starts[part]))
            shared[meeting[part]] += sums.astype(np.int64)  # below 2 ** 53, so exact
            low = low + 1
    return shared


class _Columns:
    """Where the runs of each column of each mask begin.

    Attributes:
        first: int64, shape (n,), the first column of each mask; 0 of an empty one.
        end: int64, shape (n,), one past its last.
    """

    def __init__(self, masks: Masks) -> None:
        filled = np.flatnonzero(np.diff(masks.offsets))
        self.first, self.end = np.zeros((2, len(masks)), np.int64)
        self.first[filled] = masks.columns[masks.offsets[filled]]
        self.end[filled] = masks.columns[masks.offsets[filled + 1] - 1] + 1
        # one place more for each mask, where its last run ends
        bases = np.concatenate([[0], np.cumsum(self.end - self.first + 1)])
        self._shifts = bases[:-1] - self.first  # one look-up of a mask instead of two: they lie far apart in memory
        counts = np.bincount(self.place(masks.owners, masks.columns), minlength=bases[-1])
        self._runs = np.cumsum(counts) - counts

    def place(self, indices: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Where ``at`` finds a mask's column, from its ``first`` to its ``end``; the next column is next."""
        return self._shifts[indices] + columns

    def at(self, places: np.ndarray) -> np.ndarray:
        """The first run of a mask at or after a column: int64, shape (k,)."""
        return self._runs[places]


def _ranges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of several ranges in a row, and which range each is from."""
    sizes = ends - starts
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes), owners


def _portions(sizes: np.ndarray) -> Iterable[slice]:
    """Consecutive items, so many at once that their sizes add up to about ``RUNS_AT_ONCE``."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = total[start - 1] if start else 0
        end = max(int(np.searchsorted(total, done + RUNS_AT_ONCE, side="right")), start + 1)
        yield slice(start, end)
        start = end


def united(masks: Masks, offsets: np.ndarray) -> Masks:
    """The union of consecutive masks, exactly: holes that nothing covers stay.

    Args:
        masks: any.
        offsets: int64, shape (g + 1,); union i is of the masks ``offsets[i]:offsets[i + 1]``.
    """
    return voted(masks, offsets, np.ones(len(masks), np.int64), np.ones(len(offsets) - 1, np.int64))


def voted(masks: Masks, offsets: np.ndarray, weights: np.ndarray, needed: np.ndarray) -> Masks:
    """The pixels on which enough of some consecutive masks agree.

    Args:
        masks: any.
        offsets: int64, shape (g + 1,); group i has the masks ``offsets[i]:offsets[i + 1]``.
        weights: int64, shape (n,), of each mask's vote, at least 0.
        needed: int64, shape (g,), at least 1: the votes that a pixel needs in each group.
    """
    runs = masks.offsets[offsets]
    parts = [
        _voted(masks, offsets[part.start : part.stop + 1], weights, needed[part]) for part in _portions(np.diff(runs))
    ]
    return joined_masks(parts)


def _voted(masks: Masks, offsets: np.ndarray, weights: np.ndarray, needed: np.ndarray) -> Masks:
    first, end = masks.offsets[offsets[0]], masks.offsets[offsets[-1]]
    if first == end:
        return no_masks(len(needed))
    tops, bottoms, columns = (each[first:end].astype(np.int64) for each in (masks.tops, masks.bottoms, masks.columns))
    groups = np.repeat(np.arange(len(needed)), np.diff(masks.offsets[offsets]))
    votes = np.repeat(weights[offsets[0] : offsets[-1]], np.diff(masks.offsets[offsets[0] : offsets[-1] + 1]))
    # every column of every group is a stretch of one line, with a free place between it and the next
    left, width = columns.min(), np.ptp(columns) + 1
    top, height = tops.min(), bottoms.max() - tops.min() + 1
    lines = (groups * width + columns - left) * height - top
    places = np.concatenate([lines + tops, lines + bottoms])
    order = np.argsort(places, kind="stable")  # fast on what is sorted in stretches, as each mask is
    places, votes = places[order], np.cumsum(np.concatenate([votes, -votes])[order])
    last = np.append(places[1:] != places[:-1], True)
    places, votes = places[last], votes[last]
    steps = np.diff((votes >= needed[places // (height * width)]).astype(np.int8), prepend=0)
    starts, ends = places[steps == 1], places[steps == -1]
    lines, tops = starts // height, starts % height + top
    counts = np.bincount(lines // width, minlength=len(needed))
    return Masks(
        (lines % width + left).astype(np.int32),
        tops.astype(np.int32),
        (tops + ends - starts).astype(np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def areas_within(masks: Masks, indices: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Pixels of some masks inside a box each.

    Args:
        masks: any.
        indices: int64, shape (k,), which masks; one may stand there several times.
        boxes_xyxy: int, shape (k, 4), max exclusive.

    Returns:
        int64, shape (k,).
    """
    areas = np.zeros(len(indices), np.int64)
    starts, ends = masks.offsets[indices], masks.offsets[indices + 1]
    for part in _portions(ends - starts):
        runs, owners = _ranges(starts[part], ends[part])
        x_min, y_min, x_max, y_max = boxes_xyxy[part][owners].T
        inside = (masks.columns[runs] >= x_min) & (masks.columns[runs] < x_max)
        heights = np.minimum(masks.bottoms[runs], y_max) - np.maximum(masks.tops[runs], y_min)
        np.add.at(areas[part], owners, np.where(inside, np.maximum(heights, 0), 0))
    return areas
