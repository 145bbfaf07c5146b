"""The insects of one photograph from the outlines of its pictures: cleaned, put together, labelled."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.masks import Masks, from_polygons, joined_masks, no_masks
from instar.records.annotations import Annotation
from instar.records.trays import labels, outlines
from instar.records.trays.assemble import joined
from instar.records.trays.coco import Coco, Picture
from instar.records.trays.labels import Label
from instar.records.trays.taxa import Taxa

#: Names of what MassID45's annotators drew besides insects: insect, debris, edge or entity, unknown.
KNOWN = ("b", "d", "e", "u")

OTHER_CATEGORY = "category "
NOT_IN_METADATA = "sub-image not in the metadata"
OTHER_SIZE = "sub-image of another size than in the metadata"
UNKNOWN_CATEGORY = "unknown category"
TWICE = "same outline twice"
JOINED = "outlines of an insect that another sub-image shows too"
TOO_SMALL = "fewer than {} pixels"
#: Reasons that say that the file is wrong, not that an annotator was hasty.
FAULTS = (outlines.NO_NUMBERS, outlines.WRONG_SIZE, outlines.BROKEN_RLE, UNKNOWN_CATEGORY, NOT_IN_METADATA, OTHER_SIZE)
LOST = "a sub-image's outlines cannot be placed"
#: Reasons that say nothing of an animal being there or not.
UNUSABLE = (*FAULTS, *outlines.REASONS)
ALL_FAULTY = "none of its outlines can be used"


@dataclass
class Outline:
    """One annotation.

    Attributes:
        id: in its file.
        tile: its picture, an index into the photograph's windows.
        name: of its category, or its labels.
        is_crowd: whether it holds a crowd, COCO's iscrowd.
        cleaned: what is left of it.
        bounds: of its rings as drawn, in pixels of its picture; None where it has none.
        raw_area: pixels as drawn, where cleaning changed or dropped it; else None.
        area: pixels at the end.
        reason: why it is dropped; None where it is not.
        taxa: names of taxa that stand beside it.
    """

    id: Any
    tile: int
    name: str
    is_crowd: bool
    cleaned: outlines.Cleaned
    bounds: tuple[float, float, float, float] | None
    raw_area: int | None = None
    area: int = 0
    reason: str | None = None
    taxa: list[str] = field(default_factory=list)


@dataclass
class Insects:
    """The insects of a photograph.

    Attributes:
        masks: n of them, in pixels of the photograph.
        crowds: whether each is a crowd.
        names: the category of each.
        labels: what each was called.
        outlines: all annotations, in the order read.
        counts: what was put together.
        filled: of insects whose united parts had holes between them, the parts, the pixels before and those after.
    """

    masks: Masks
    crowds: list[bool]
    names: list[str]
    labels: list[Label]
    outlines: list[Outline]
    counts: Counter[str]
    filled: list[tuple[list[Outline], int, int]]

    @property
    def unusable(self) -> str | None:
        """Why so many insects would be missing on the photograph that it must be left out; None where it can stay."""
        reasons = [one.reason for one in self.outlines if not (one.reason or "").startswith(OTHER_CATEGORY)]
        if {NOT_IN_METADATA, OTHER_SIZE} & set(reasons):
            return LOST
        return ALL_FAULTY if reasons and all(reason in UNUSABLE for reason in reasons) else None

    def annotations(self, width: int, height: int) -> Iterator[Annotation]:
        """COCO's annotations, with ``taxon``, ``low`` and ``name`` beside COCO's own."""
        boxes, areas = self.masks.boxes().astype(float), self.masks.areas()
        codes = self.masks.rle(height, width)
        for i, (x_min, y_min, x_max, y_max) in enumerate(boxes.tolist()):
            more = {
                "segmentation": {"size": [height, width], "counts": codes[i].decode("ascii")},
                "area": int(areas[i]),
                "iscrowd": int(self.crowds[i]),
                "taxon": self.labels[i].high,
                "low": self.labels[i].low,
                "name": self.names[i],
            }
            yield Annotation([x_min, y_min, x_max - x_min, y_max - y_min], more)


def insects(
    coco: Coco,
    pictures: list[Picture],
    labelled: Iterable[tuple[Coco, Picture]],
    windows: np.ndarray,
    size: tuple[int, int],
    taxa: Taxa,
    *,
    categories: list[str],
    min_mask_px: int,
) -> Insects:
    """The insects that the annotations of a photograph's pictures show, each once.

    Args:
        coco: holds the annotations.
        pictures: of the photograph.
        labelled: pictures of the photograph in the file of labels, which are matched to the outlines by id, or else by
            overlap.
        windows: int64, shape (t, 4): where the pictures lie in the photograph, by their number; one row for the whole.
        size: width and height of the photograph, pixels.
        taxa: the taxonomy of the labels.
        categories: names of those that are taken; all where there are none.
        min_mask_px: smaller masks are dropped, pixels.
    """
    read = [one for picture in pictures for one in _outlines(coco, picture, windows, KNOWN)]
    for one in read:
        if one.reason not in FAULTS and categories and one.name not in categories:
            one.reason = f"{OTHER_CATEGORY}{one.name}"
    kept = [one for one in read if one.reason is None]
    masks = _masks(kept, windows, size)
    kept, masks = _once(kept, masks, windows)
    crowds = np.array([one.is_crowd for one in kept], bool)
    plain = np.flatnonzero(~crowds)
    tiles = np.array([kept[i].tile for i in plain], np.int64)
    as_given = np.array([kept[i].cleaned.masks is not None for i in plain], bool)
    together = joined(masks.take(plain), windows, size, tiles, as_given)
    members = [plain[group] for group in together.members] + [np.array([i]) for i in np.flatnonzero(crowds)]
    shown = [*together.shown, *[1] * int(crowds.sum())]
    whole = joined_masks([together.masks, masks.take(crowds)])
    areas = whole.areas()
    large = np.flatnonzero(areas >= min_mask_px)
    for i in np.flatnonzero(areas < min_mask_px):
        for outline in members[i]:
            kept[outline].reason = TOO_SMALL.format(min_mask_px)
    groups = [members[i] for i in large]
    filled = [
        ([kept[i] for i in members[n].tolist()], before, int(areas[n]))
        for n, before in together.filled.items()
        if areas[n] >= min_mask_px
    ]
    whole = whole.take(large)
    together.counts[JOINED] = sum(len(group) - 1 for group in groups)
    best = [{kept[i].tile for i in members[n][: shown[n]].tolist()} for n in large]
    called = _labels(kept, groups, best, whole, labelled, windows, size, together.counts)
    firsts = [kept[int(group[0])] for group in groups]
    return Insects(
        whole,
        [one.is_crowd for one in firsts],
        [one.name for one in firsts],
        [labels.label(names, taxa) for names in called],
        read,
        together.counts,
        filled,
    )


def _outlines(coco: Coco, picture: Picture, windows: np.ndarray, known: tuple[str, ...]) -> Iterator[Outline]:
    """The annotations of a picture, cleaned."""
    tile = picture.tile or 0
    problem = NOT_IN_METADATA if tile >= len(windows) else None
    x_min, y_min, x_max, y_max = (0, 0, 1, 1) if problem else windows[tile].tolist()
    width, height = x_max - x_min, y_max - y_min
    if problem is None and picture.size not in (None, (width, height)):
        problem = OTHER_SIZE
    for given in coco.outlines.of(picture.id):
        name = given.get("name", coco.categories.get(_hashable(given.get("category_id"))))
        segmentation = given.get("segmentation")
        outline = Outline(
            given.get("id"),
            tile,
            str(name),
            bool(given.get("iscrowd")),
            outlines.Cleaned(reason=problem) if problem else outlines.cleaned(segmentation, width, height),
            _bounds(segmentation),
        )
        outline.taxa = [given["taxon"]] if isinstance(given.get("taxon"), str) else []
        outline.reason = outline.cleaned.reason
        if name is None or not (name in known or name in coco.categories.values() or not known):
            outline.reason = UNKNOWN_CATEGORY
        is_drawn = outline.bounds is not None and not problem
        if (is_drawn and outline.cleaned.reason) or outline.cleaned.changes:
            outline.raw_area = outlines.raw_area(segmentation, width, height)
        yield outline


def _hashable(one: Any) -> Any:
    return one if isinstance(one, int | str | float) else None


def _bounds(segmentation: Any) -> tuple[float, float, float, float] | None:
    """The box around the rings as they were drawn."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    try:
        points = np.concatenate(outlines.points(segmentation))
    except (ValueError, TypeError, OverflowError):
        return None
    if not len(points):
        return None
    (x_min, y_min), (x_max, y_max) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x_min, y_min, x_max, y_max


def _masks(kept: list[Outline], windows: np.ndarray, size: tuple[int, int]) -> Masks:
    """The mask of each outline in pixels of the photograph."""
    parts = [no_masks()]
    for one in kept:
        x_min, y_min, x_max, y_max = windows[one.tile].tolist()
        given = one.cleaned.masks
        # the grid of pycocotools' rasterization does not change with whole pixels
        mask = given if given is not None else from_polygons([one.cleaned.rings], y_max - y_min, x_max - x_min)
        parts.append(mask.shifted(x_min, y_min))
    return joined_masks(parts)


def _once(kept: list[Outline], masks: Masks, windows: np.ndarray) -> tuple[list[Outline], Masks]:
    """Without empty masks and without those that one picture has twice, pixel for pixel."""
    seen: set[tuple[int, bytes]] = set()
    taken = []
    areas = masks.areas().tolist()
    for i, one in enumerate(kept):
        runs = slice(masks.offsets[i], masks.offsets[i + 1])
        pixels = b"".join(part[runs].tobytes() for part in (masks.columns, masks.tops, masks.bottoms))
        one.area = areas[i]
        if not areas[i]:
            one.reason = outlines.NO_AREA
        elif (one.tile, pixels) in seen and not one.is_crowd:
            one.reason = TWICE
        else:
            seen.add((one.tile, pixels))
            taken.append(i)
    return [kept[i] for i in taken], masks.take(np.array(taken, np.int64))


def _labels(
    kept: list[Outline],
    groups: list[np.ndarray],
    best: list[set[int]],  # of each the sub-images whose outline was taken
    whole: Masks,
    labelled: Iterable[tuple[Coco, Picture]],
    windows: np.ndarray,
    size: tuple[int, int],
    counts: Counter[str],
) -> list[list[str]]:
    """The names that each insect was given, as written; those on sub-images whose outline was not taken where no
    other has one."""
    called = [[(kept[i].tile, name) for i in group for name in kept[i].taxa] for group in groups]
    insect_of = {(kept[i].tile, kept[i].id): (n, kept[i]) for n, group in enumerate(groups) for i in group.tolist()}
    rest: list[Outline] = []
    for coco, picture in labelled:
        for one in _outlines(coco, picture, windows, ()):
            n, outline = insect_of.get((one.tile, one.id), (-1, None))
            if one.reason == UNKNOWN_CATEGORY:
                counts["labels without a name"] += 1
            elif outline is not None and _alike(one.bounds, outline.bounds):
                called[n].append((one.tile, one.name))
                counts["labels by the outline's id"] += 1
            elif one.reason is None:
                rest.append(one)
            else:
                counts["labels without an insect"] += 1
    for one, n in zip(rest, labels.matched(_masks(rest, windows, size), whole).tolist(), strict=True):
        counts["labels by overlap" if n >= 0 else "labels without an insect"] += 1
        if n >= 0:
            called[n].append((one.tile, one.name))
    return [
        [name for tile, name in names if tile in tiles] or [name for _, name in names]
        for names, tiles in zip(called, best, strict=True)
    ]


def _alike(a: tuple[float, float, float, float] | None, b: tuple[float, float, float, float] | None) -> bool:
    """Whether two boxes overlap by half of both (IoU); also where neither outline has rings."""
    if a is None or b is None:
        return a is b
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if a == b:
        return True
    both = max(width, 0) * max(height, 0)
    return both >= labels.SAME_IOU * ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
