"""What overlapping tiles found of one animal, made one: SAHI's rules (Akyon et al. 2022) on masks or boxes, and seams.

Candidates come from an STR-tree, from the best score down, so that what is taken up already is not looked at again.
Overlaps of masks are exact counts of pixels. With boxes the results are those of sahi.postprocess.combine 0.12.8.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from shapely import STRtree
from shapely import box as rectangles

from instar.boxes import order_by_score
from instar.detectors import Boxes
from instar.masks import Masks, areas_within, intersections, joined_masks, united, voted

Rule = Literal["greedy_nmm", "nmm", "nms"]
Metric = Literal["iou", "ios"]
#: Beside SAHI's metrics the share of the first of the two that the other covers.
Measure = Literal["iou", "ios", "covered"]

#: Candidate pairs compared in one go, about; it bounds the memory however crowded the photograph is.
PAIRS_AT_ONCE = 1 << 21
#: Predictions asked for their neighbours at first, while it is not known how crowded the photograph is.
ASKED_AT_FIRST = 64
#: Of a score of 1 in the votes of masks, which are whole numbers.
VOTES = 1 << 20


@dataclass(frozen=True)
class Merged:
    """What is left of many predictions, by falling score.

    Attributes:
        boxes: n of them, with masks where there were masks.
        members: int64, shape (n,), how many predictions became each, the one itself included.
        cut: bool, shape (n,), whether all its members are cut off by a tile's inner edge.
        best: int64, shape (n,), the prediction that each goes by: its class.
    """

    boxes: Boxes
    members: np.ndarray
    cut: np.ndarray
    best: np.ndarray


def merged(
    found: Boxes,
    *,
    rule: Rule,
    metric: Metric,
    threshold: float,
    comparable: float = 0.0,
    classes: np.ndarray | None = None,
    cut: np.ndarray | None = None,
    tiles: np.ndarray | None = None,
    whole_first: bool = False,
    covered: float = 0.5,
) -> Merged:
    """Predictions of one animal made one; on masks where there are masks, else on boxes.

    From the best score down, each prediction takes up those that overlap it by at least ``threshold``. With ``nms``
    it stays as it is; with ``greedy_nmm`` and ``nmm`` it grows by each of them that overlaps it, grown, by as much
    still, and ``nmm`` also takes up those that overlap what it took up. As in SAHI, ``nmm`` grows in the order in
    which the predictions are given; the other rules do not depend on it.

    With ``comparable`` above 0 the weaker ones only disappear: else a good box would grow with every guess near it.
    SAHI's ``get_sliced_prediction`` therefore does NMS instead below a confidence of 0.1, without a word.

    With ``whole_first`` only whole predictions are merged by the rule, and grow not to the union but to what they
    agree on, by score. One that is cut gives way to a whole one that covers ``covered`` of it, and gives it its score
    if that is higher; a whole one that is not comparable must reach beyond the tile that cuts. Those left are parts
    of animals that no tile shows whole, and are joined, chains of them too, where two agree by an IOU of ``threshold``
    in what both of their tiles show.

    Args:
        found: predictions in pixels of the photograph.
        rule: of SAHI.
        metric: intersection over union, or over the smaller of the two.
        threshold: in (0, 1].
        comparable: in [0, 1], of the best one's score.
        classes: int, shape (n,); predictions of two classes do not meet. None for all the same.
        cut: bool, shape (n,), whether a tile's inner edge cuts the prediction; None for none.
        tiles: int, shape (n, 4), the box of the tile that gave each; None if not known: then parts are joined by
            ``threshold`` of the smaller one.
        whole_first: whether whole predictions come before those that are cut.
        covered: in (0, 1], of the area of a cut one. Below a half a neighbour swallows it: see benchmarks/merge.py.

    Raises:
        ValueError: if rule or metric is unknown, or threshold, comparable or covered out of range.
    """
    if rule not in ("greedy_nmm", "nmm", "nms") or metric not in ("iou", "ios"):
        raise ValueError(f"rule = {rule}, metric = {metric}; must be greedy_nmm, nmm or nms, and iou or ios")
    if not (0 < threshold <= 1 and 0 <= comparable <= 1 and 0 < covered <= 1):
        told = f"threshold = {threshold}, comparable = {comparable}, covered = {covered}"
        raise ValueError(f"{told}; must be in (0, 1], [0, 1] and (0, 1]")
    order = _order(found, classes)
    ranked = _Ranked(
        found.take(order),
        np.zeros(len(order), np.int64) if classes is None else np.asarray(classes)[order],
        np.zeros(len(order), bool) if cut is None else np.asarray(cut, bool)[order],
        None if tiles is None else np.asarray(tiles, np.int64)[order],
        order,
    )
    # float, not NumPy's: SAHI compares float32 with a threshold rounded to float32
    matching = _Matching(rule, metric, float(threshold), comparable, covered)
    groups = _whole_first(ranked, matching) if whole_first else _taken_up(ranked, matching)
    return _result(ranked, groups)


@dataclass(frozen=True)
class _Matching:
    rule: Rule
    metric: Metric
    threshold: float
    comparable: float
    covered: float


@dataclass(frozen=True)
class _Ranked:
    """Predictions by rank: falling score; the arrays have shape (n,) but ``tiles``, (n, 4)."""

    found: Boxes
    classes: np.ndarray
    cut: np.ndarray
    tiles: np.ndarray | None
    given: np.ndarray  # where each stood before

    def take(self, indices: np.ndarray) -> "_Ranked":
        tiles = None if self.tiles is None else self.tiles[indices]
        return _Ranked(self.found.take(indices), self.classes[indices], self.cut[indices], tiles, self.given[indices])

    def shapes(self) -> "_Shapes":
        """To compare, in float32, as SAHI does."""
        return _shapes(self.found.boxes_xyxy.astype(np.float32), self.found.masks)

    def shapes64(self) -> "_Shapes":
        """To grow, in float64, as SAHI does."""
        return _shapes(self.found.boxes_xyxy.astype(np.float64), self.found.masks)


@dataclass(frozen=True)
class _Groups:
    """Who was taken up by whom.

    Attributes:
        keepers: int64, shape (n,), for each prediction the one that took it up, or itself.
        boxes: float32, shape (k, 4), of those that took up or stayed alone, by rank.
        masks: of the same; None where there are no masks.
    """

    keepers: np.ndarray
    boxes: np.ndarray
    masks: Masks | None


def _result(ranked: _Ranked, groups: _Groups) -> Merged:
    best = np.unique(groups.keepers)
    # whole first, a weak whole one may keep a cut one that is sure: that there is an animal both say
    scores = np.full(len(ranked.cut), -np.inf, np.float32)
    np.maximum.at(scores, groups.keepers, ranked.found.scores)
    boxes = Boxes(groups.boxes, scores[best], ranked.found.full, groups.masks)
    members = np.bincount(groups.keepers, minlength=len(ranked.cut))[best].astype(np.int64)
    whole = np.bincount(groups.keepers[~ranked.cut], minlength=len(ranked.cut))[best]
    order = np.argsort(-boxes.scores, kind="stable")
    return Merged(boxes.take(order), members[order], (whole == 0)[order], ranked.given[best][order])


def _order(found: Boxes, classes: np.ndarray | None) -> np.ndarray:
    """Indices by falling score, then box, mask and class."""
    order = order_by_score(found.boxes_xyxy, found.scores)
    if found.masks is None and classes is None:
        return order
    rows = np.column_stack([found.boxes_xyxy, found.scores])[order]
    fresh = (rows[1:] != rows[:-1]).any(axis=1)
    starts, ends = _stretches(np.cumsum(np.append(True, fresh))[: len(order)])
    for start, end in zip(starts[ends > starts + 1], ends[ends > starts + 1], strict=True):
        order[start:end] = sorted(order[start:end], key=lambda one: _tie(found, classes, one))
    return order


def _tie(found: Boxes, classes: np.ndarray | None, index: int) -> tuple[bytes, int]:
    pixels = b""
    if found.masks is not None:
        runs = slice(*found.masks.offsets[index : index + 2])
        pixels = b"".join(each[runs].tobytes() for each in (found.masks.columns, found.masks.tops, found.masks.bottoms))
    return pixels, 0 if classes is None else int(classes[index])


@dataclass(frozen=True)
class _Shapes:
    """Boxes or masks to compare.

    Attributes:
        boxes: float, shape (n, 4), around each.
        areas: shape (n,), of the masks, or of the boxes.
        masks: n of them, or None.
    """

    boxes: np.ndarray
    areas: np.ndarray
    masks: Masks | None

    def take(self, indices: np.ndarray) -> "_Shapes":
        return _Shapes(
            self.boxes[indices], self.areas[indices], None if self.masks is None else self.masks.take(indices)
        )


def _shapes(boxes_xyxy: np.ndarray, masks: Masks | None) -> _Shapes:
    if masks is not None:
        return _Shapes(masks.boxes(), masks.areas(), masks)
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return _Shapes(boxes_xyxy, sides[:, 0] * sides[:, 1], None)


def _overlaps(
    shapes: _Shapes, others: _Shapes, left: np.ndarray, right: np.ndarray, metric: Measure, threshold: float
) -> np.ndarray:
    """Overlap of pairs: float, shape (k,), 0 where it is below the threshold."""
    sides = np.minimum(shapes.boxes[left, 2:], others.boxes[right, 2:])
    sides -= np.maximum(shapes.boxes[left, :2], others.boxes[right, :2])
    np.maximum(sides, 0, out=sides)
    areas, other_areas = shapes.areas[left], others.areas[right]
    shared = sides[:, 0] * sides[:, 1]
    if shapes.masks is None or others.masks is None:
        found = _ratios(shared, areas, other_areas, metric)
        return np.where(found >= threshold, found, 0)
    # masks share no more than their boxes, and many pairs end here
    most = np.minimum(shared, np.minimum(areas, other_areas)).astype(np.float64)
    near = np.flatnonzero(_ratios(most, areas, other_areas, metric) >= threshold)
    exact = intersections(shapes.masks, others.masks, left[near], right[near]).astype(np.float64)
    found = np.zeros(len(left))
    found[near] = _ratios(exact, areas[near], other_areas[near], metric)
    return np.where(found >= threshold, found, 0)


def _ratios(shared: np.ndarray, areas: np.ndarray, others: np.ndarray, metric: Measure) -> np.ndarray:
    """What is shared, as a share; 0 where there is no area."""
    whole = areas
    if metric == "iou":
        whole = areas + others - shared
    elif metric == "ios":
        whole = np.minimum(areas, others)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _taken_up(ranked: _Ranked, matching: _Matching) -> _Groups:
    """The rule as SAHI has it."""
    keepers, members = _claims(ranked, matching)
    members = _comparable(ranked, keepers, members, matching)
    members = members[np.argsort(keepers[members], kind="stable")]
    members = members[_matching_still(ranked.shapes64(), keepers, members, matching)]
    parts, offsets = _parts(keepers, members)
    masks = ranked.found.masks
    return _Groups(
        keepers, _around(ranked, parts, offsets), None if masks is None else united(masks.take(parts), offsets)
    )


def _claims(ranked: _Ranked, matching: _Matching) -> tuple[np.ndarray, np.ndarray]:
    """Which prediction takes up which.

    Returns:
        For each prediction the one that took it up, or itself: int64, shape (n,). Those taken up, in that order.
    """
    keepers = np.full(len(ranked.cut), -1)
    members: list[np.ndarray] = [np.zeros(0, np.int64)]
    for left, right, end in _candidates(ranked, matching, keepers):
        order = np.lexsort((ranked.given[right] if matching.rule == "nmm" else right, left))
        left, right = left[order], right[order]
        for start, stop in zip(*(each.tolist() for each in _stretches(left)), strict=True):
            one = left[start]
            if keepers[one] < 0:
                keepers[one] = one
            elif matching.rule != "nmm":
                continue
            row = right[start:stop]
            row = row[keepers[row] < 0]
            keepers[row] = keepers[one]
            members.append(row)
        alone = np.flatnonzero(keepers[:end] < 0)
        keepers[alone] = alone
    return keepers, np.concatenate(members)


def _candidates(
    ranked: _Ranked, matching: _Matching, keepers: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Pairs that match, a portion of predictions at a time, by rank; ``keepers`` fills up meanwhile.

    Yields:
        The better ones and the others: int64, shape (k,); and the rank up to which all have been asked.
    """
    shapes, scores = ranked.shapes(), ranked.found.scores
    corners = ranked.found.boxes_xyxy
    geometries = rectangles(*shapes.boxes.astype(np.float64).T)
    tree = STRtree(geometries)
    start, step = 0, ASKED_AT_FIRST
    while (keepers < 0).any():
        end = min(start + step, len(keepers))
        asked = np.arange(start, end)
        if matching.rule != "nmm":
            asked = asked[keepers[asked] < 0]
        left, right = tree.query(geometries[asked])
        left = asked[left]
        crowding = max(len(left) / max(len(asked), 1), 1)
        good = (right > left) & (keepers[right] < 0) & (ranked.classes[left] == ranked.classes[right])
        left, right = left[good], right[good]
        if matching.rule == "nmm":  # in SAHI the first of equal scores only takes up its own doubles
            good = (scores[left] > scores[right]) | (corners[left] == corners[right]).all(axis=1)
            left, right = left[good], right[good]
        hits = _overlaps(shapes, shapes, left, right, matching.metric, matching.threshold) > 0
        yield left[hits], right[hits], end
        start, step = end, int(np.clip(PAIRS_AT_ONCE / crowding, ASKED_AT_FIRST, 8 * step))


def _comparable(ranked: _Ranked, keepers: np.ndarray, members: np.ndarray, matching: _Matching) -> np.ndarray:
    """Those of the members that change what took them up."""
    if matching.rule == "nms":
        return members[:0]
    scores = ranked.found.scores
    return members[scores[members] >= matching.comparable * scores[keepers[members]]]


def _matching_still(shapes: _Shapes, keepers: np.ndarray, members: np.ndarray, matching: _Matching) -> np.ndarray:
    """Whether each member overlaps enough what took it up, grown by the members before it.

    Args:
        shapes: of all.
        keepers: of all.
        members: grouped by their keepers.
        matching: the rule.

    Returns:
        bool, shape (m,).
    """
    still = np.zeros(len(members), bool)
    starts, ends = _stretches(keepers[members])
    grown = shapes.take(keepers[members[starts]])
    for turn in count():
        going = np.flatnonzero(starts + turn < ends)
        if not len(going):
            break
        if len(going) < len(starts):
            grown, starts, ends = grown.take(going), starts[going], ends[going]
        pairs, others = np.arange(len(starts)), shapes.take(members[starts + turn])
        hits = np.flatnonzero(_overlaps(grown, others, pairs, pairs, matching.metric, matching.threshold) > 0)
        still[starts[hits] + turn] = True
        grown = _grown(grown, hits, others.take(hits))
    return still


def _stretches(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where equal values that stand together begin and end: int64, shape (k,) each."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return starts, np.append(starts[1:], len(values))


def _grown(shapes: _Shapes, hits: np.ndarray, others: _Shapes) -> _Shapes:
    """Shapes, of which some are united with one other each."""
    if shapes.masks is None or others.masks is None:
        boxes = shapes.boxes.copy()
        boxes[hits, :2] = np.minimum(boxes[hits, :2], others.boxes[:, :2])
        boxes[hits, 2:] = np.maximum(boxes[hits, 2:], others.boxes[:, 2:])
        return _shapes(boxes, None)
    pairs = joined_masks([shapes.masks.take(hits), others.masks])
    pairs = pairs.take(np.arange(2 * len(hits)).reshape(2, -1).T.ravel())
    both = joined_masks([shapes.masks, united(pairs, np.arange(0, 2 * len(hits) + 1, 2))])
    places = np.arange(len(shapes.masks))
    places[hits] = len(shapes.masks) + np.arange(len(hits))
    return _shapes(shapes.boxes, both.take(places))


def _parts(keepers: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each that took up others or stayed alone, followed by its members; and where each such list begins and ends."""
    best = np.unique(keepers)
    everyone = np.concatenate([best, members])
    owners = keepers[everyone]
    offsets = np.searchsorted(np.sort(owners), np.append(best, len(keepers)))
    return everyone[np.argsort(owners, kind="stable")], offsets


def _around(ranked: _Ranked, parts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The boxes around the parts: float32, shape (k, 4)."""
    boxes = ranked.found.boxes_xyxy[parts].astype(np.float32)
    if not len(boxes):
        return boxes
    low, high = np.minimum.reduceat(boxes, offsets[:-1]), np.maximum.reduceat(boxes, offsets[:-1])
    return np.column_stack([low[:, :2], high[:, 2:]])


def _whole_first(ranked: _Ranked, matching: _Matching) -> _Groups:
    """Whole predictions by the rule; cut ones give way to them, or are joined with each other."""
    whole, cut = np.flatnonzero(~ranked.cut), np.flatnonzero(ranked.cut)
    keepers = np.arange(len(ranked.cut))
    among, members = _claims(ranked.take(whole), matching)
    keepers[whole], members = whole[among], whole[members]
    over = _covering(ranked, whole, cut, matching)
    keepers[cut[over >= 0]] = keepers[over[over >= 0]]
    left = cut[over < 0]
    keepers[left] = left[_joined(ranked.take(left), matching)]
    joined = left[keepers[left] != left]
    # a part is comparable or not like any other, but parts of one animal are joined by every rule
    scores = ranked.found.scores
    joined = joined[scores[joined] >= matching.comparable * scores[keepers[joined]]]
    parts, offsets = _parts(keepers, joined)
    boxes, masks = _around(ranked, parts, offsets), ranked.found.masks
    if masks is None:
        return _Groups(keepers, boxes, None)
    members = _comparable(ranked, keepers, members, matching)
    parts, offsets = _parts(keepers, np.concatenate([joined, members]))
    agreed = _agreed(ranked, keepers, parts, offsets)
    changed = ~ranked.cut[np.unique(keepers)]
    boxes[changed] = np.where((agreed.areas() > 0)[changed, None], agreed.boxes()[changed], boxes[changed])
    return _Groups(keepers, boxes, agreed)


def _agreed(ranked: _Ranked, keepers: np.ndarray, parts: np.ndarray, offsets: np.ndarray) -> Masks:
    """Masks by group: of whole predictions what more than half of their scores agree on, of parts the union."""
    assert ranked.found.masks is not None
    masks = ranked.found.masks.take(parts)
    best = parts[offsets[:-1]]
    votes = np.round(ranked.found.scores[parts].astype(np.float64) * VOTES).astype(np.int64) + 1
    votes[offsets[:-1]] += 1  # of two that are equal the first is right
    needed = np.add.reduceat(votes, offsets[:-1]) // 2 + 1 if len(votes) else votes
    needed[ranked.cut[best]] = 1
    agreed = voted(masks, offsets, votes, needed)
    # many that agree with the best one, and each on something else, agree on nothing
    nothing = np.flatnonzero(agreed.areas() == 0)
    both = joined_masks([agreed, ranked.found.masks.take(best[nothing])])
    places = np.arange(len(agreed))
    places[nothing] = len(agreed) + np.arange(len(nothing))
    return both.take(places)


def _covering(ranked: _Ranked, whole: np.ndarray, cut: np.ndarray, matching: _Matching) -> np.ndarray:
    """The whole prediction that covers most of each cut one, at least ``covered`` of it; -1 for none."""
    over, most = np.full((2, len(cut)), -1.0)
    shapes, others = ranked.take(cut).shapes(), ranked.take(whole).shapes()
    for left, right in _near(shapes, others):
        good = ranked.classes[cut[left]] == ranked.classes[whole[right]]
        good &= _may_be_whole(ranked, cut[left], whole[right], matching)
        left, right = left[good], right[good]
        overlap = _overlaps(shapes, others, left, right, "covered", matching.covered)
        order = np.lexsort((right, -overlap, left))
        left, right, overlap = left[order], right[order], overlap[order]
        first = np.flatnonzero((np.diff(left, prepend=-1) > 0) & (overlap > 0))
        over[left[first]], most[left[first]] = whole[right[first]], overlap[first]
    return over.astype(np.int64)


def _may_be_whole(ranked: _Ranked, cut: np.ndarray, whole: np.ndarray, matching: _Matching) -> np.ndarray:
    """Whether a whole prediction may be what a cut one is a part of: bool, shape (k,), of pairs.

    What is cut goes on beyond its tile. A guess that ends within that tile is not the whole of it, but another part;
    of two that are comparable the cut one may have touched the edge by chance.
    """
    if ranked.tiles is None:
        return np.ones(len(cut), bool)
    scores, tiles, boxes = ranked.found.scores, ranked.tiles[cut], ranked.found.boxes_xyxy[whole]
    beyond = (boxes[:, :2] < tiles[:, :2]).any(axis=1) | (boxes[:, 2:] > tiles[:, 2:]).any(axis=1)
    return beyond | (scores[whole] >= matching.comparable * scores[cut])


def _near(shapes: _Shapes, others: _Shapes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs whose boxes meet, all those of a shape at once: indices of the one and of the other."""
    geometries = rectangles(*shapes.boxes.astype(np.float64).T)
    tree = STRtree(rectangles(*others.boxes.astype(np.float64).T))
    start, step = 0, ASKED_AT_FIRST
    while start < len(geometries):
        left, right = tree.query(geometries[start : start + step])
        yield left + start, right
        crowding = max(len(left) / step, 1)
        start, step = start + step, int(np.clip(PAIRS_AT_ONCE / crowding, ASKED_AT_FIRST, 8 * step))


def _joined(ranked: _Ranked, matching: _Matching) -> np.ndarray:
    """The best one among the parts that each belongs with: int64, shape (n,)."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    shapes = ranked.shapes()
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for left, right in _near(shapes, shapes):
        good = (right > left) & (ranked.classes[left] == ranked.classes[right])
        left, right = left[good], right[good]
        hits = _agreeing(ranked, shapes, left, right, matching.threshold)
        lefts.append(left[hits])
        rights.append(right[hits])
    left, right = np.concatenate(lefts), np.concatenate(rights)
    n = len(ranked.cut)
    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    _, groups = connected_components(edges, directed=False) if n else (0, np.zeros(0, np.int64))
    _, firsts = np.unique(groups, return_index=True)
    return firsts[groups]


def _agreeing(ranked: _Ranked, shapes: _Shapes, left: np.ndarray, right: np.ndarray, threshold: float) -> np.ndarray:
    """Whether pairs of parts show one animal where both of their tiles look: bool, shape (k,)."""
    if ranked.tiles is None:
        return _overlaps(shapes, shapes, left, right, "ios", threshold) > 0
    one, other = ranked.tiles[left], ranked.tiles[right]
    both = np.column_stack([np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])])
    if shapes.masks is None:
        ones, others, pairs = _clipped(shapes, left, both), _clipped(shapes, right, both), np.arange(len(left))
        return _overlaps(ones, others, pairs, pairs, "iou", threshold) > 0
    shared = intersections(shapes.masks, shapes.masks, left, right).astype(np.float64)
    areas, other_areas = (areas_within(shapes.masks, side, both) for side in (left, right))
    return _ratios(shared, areas, other_areas, "iou") >= threshold


def _clipped(shapes: _Shapes, indices: np.ndarray, boxes_xyxy: np.ndarray) -> _Shapes:
    low, high = boxes_xyxy[:, [0, 1, 0, 1]], boxes_xyxy[:, [2, 3, 2, 3]]
    return _shapes(np.clip(shapes.boxes[indices].astype(np.float64), low, high), None)
