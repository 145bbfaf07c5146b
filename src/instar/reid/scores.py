"""How alike a query is to each known individual, by embeddings: nearest neighbour, centroid, softmax.

Scores are float32 of shape (n_queries, n_identities), higher is more alike, and never NaN; -inf says that an
individual is no candidate: it is of another data set, or all that there is of it is left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from instar.reid.photographs import Known, Photographs, comparable, fitting

#: Similarities that are held at a time.
CHUNK = 1 << 24
#: Photographs of a gallery whose embeddings are read at a time; one individual's are never parted.
BLOCK_ROWS = 1 << 14
WEIGHTS = ("equal", "harmonic")
#: The score of what is no candidate.
NONE = np.float32(-np.inf)


class Embeddings(Protocol):
    """Embeddings of length 1, float32, shape (n, width): an array, a memory-mapped one, or those of a gallery."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Rules:
    """Which photographs a query is compared with.

    Attributes:
        leave_out: the query's own ``photograph`` or its own ``encounter``, where they are in the gallery.
        orientation: leave out those that show the opposite side. For an individual without any other, all count,
            which is told as fallback.
    """

    leave_out: str = "photograph"
    orientation: bool = True


@dataclass(frozen=True)
class Scores:
    """Scores and where they rest on photographs of the opposite side.

    Attributes:
        values: float32, shape (n_queries, n_identities), see the module.
        fallback: bool, of the same shape: no photograph of a fitting side was there, so all were taken.
    """

    values: np.ndarray
    fallback: np.ndarray


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings brought to length 1, float32, shape (n, width); one that is 0 stays 0 and is like nothing.

    Raises:
        ValueError: if one is not finite.
    """
    if not np.isfinite(embeddings).all():
        raise ValueError("an embedding is not finite")
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0).astype(np.float32)


def with_flips(embeddings: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """The mean direction of photographs and of their mirror images, float32, shape (n, width), of length 1."""
    return unit(unit(embeddings) + unit(flipped))


def nearest(
    embeddings: np.ndarray,
    queries: Photographs,
    gallery_embeddings: Embeddings,
    gallery: Photographs,
    known: Known,
    *,
    neighbours: int,
    weights: str,
    rules: Rules,
) -> Scores:
    """Cosine similarity to the most similar photographs of each individual.

    Args:
        embeddings: float32, shape (n_queries, width), of length 1.
        queries: what is known of them.
        gallery_embeddings: shape (n_gallery, width).
        gallery: what is known of its photographs.
        known: its individuals.
        neighbours: how many of an individual's most similar photographs are averaged, or all it has; 1 for the nearest.
        weights: ``equal``, or ``harmonic``: 1, 1/2, 1/3, … by falling similarity.
        rules: which photographs count.

    Returns:
        Values in [-1, 1].
    """
    if weights not in WEIGHTS or neighbours < 1:
        raise ValueError(f"neighbours = {neighbours}, weights = {weights}: at least 1, and one of {', '.join(WEIGHTS)}")

    def scored(
        asked: np.ndarray, _: Photographs, block: np.ndarray, taken: np.ndarray, starts: np.ndarray
    ) -> np.ndarray:
        return _best_of_each(np.where(taken, asked @ block.T, NONE), starts, neighbours, weights)

    return _by_blocks(scored, embeddings, queries, gallery_embeddings, gallery, known, rules)


def _best_of_each(similarity: np.ndarray, starts: np.ndarray, neighbours: int, weights: str) -> np.ndarray:
    """float32, shape (n_queries, n_starts): the weighted mean of the highest of each stretch of columns."""
    if neighbours == 1:
        return np.asarray(np.maximum.reduceat(similarity, starts, axis=1))
    ends = np.append(starts[1:], similarity.shape[1])
    found = np.empty((len(similarity), len(starts)), np.float32)
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        k = min(neighbours, end - start)
        best = -np.partition(-similarity[:, start:end], k - 1, axis=1)[:, :k]
        best = -np.sort(-best, axis=1)
        shares = 1 / np.arange(1, k + 1) if weights == "harmonic" else np.ones(k)
        there = best > NONE
        total = (there * shares).sum(axis=1)
        mean = (np.where(there, best, 0) * shares).sum(axis=1) / np.where(total > 0, total, 1)
        found[:, place] = np.where(total > 0, mean, NONE)
    return found


def centroid(
    embeddings: np.ndarray,
    queries: Photographs,
    gallery_embeddings: Embeddings,
    gallery: Photographs,
    known: Known,
    *,
    rules: Rules,
) -> Scores:
    """Cosine similarity to the mean of each individual's photographs, of those that count for the query.

    Arguments are as those of ``nearest``.

    Returns:
        Values in [-1, 1]; 0 where the photographs cancel each other out.
    """
    return _by_blocks(_to_means, embeddings, queries, gallery_embeddings, gallery, known, rules)


def _to_means(
    embeddings: np.ndarray, queries: Photographs, block: np.ndarray, taken: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    """Similarity to the mean of what each query takes of each stretch of a block, float32, (n_queries, n_starts).

    Queries that show the same side share their means but for the few individuals that something of their own is left
    out of.
    """
    found = np.empty((len(embeddings), len(starts)), np.float32)
    ends = np.append(starts[1:], len(block))
    _, group = np.unique(np.stack([pd.factorize(queries.dataset)[0], queries.sides]), axis=1, return_inverse=True)
    for number in range(int(group.max(initial=-1)) + 1):
        rows = np.flatnonzero(group == number)
        mask = taken[rows[0]]
        sums = np.add.reduceat(np.where(mask[:, None], block, 0), starts, axis=0, dtype=np.float64)
        found[rows] = np.where(np.logical_or.reduceat(mask, starts), embeddings[rows] @ unit(sums).T, NONE)
        other = np.logical_or.reduceat(taken[rows] != mask, starts, axis=1)
        for row, place in zip(*np.nonzero(other), strict=True):
            stretch = slice(starts[place], ends[place])
            own = block[stretch][taken[rows[row], stretch]]
            mean = unit(own.sum(axis=0, keepdims=True, dtype=np.float64))[0]
            found[rows[row], place] = embeddings[rows[row]] @ mean if len(own) else NONE
    return found


def softmax(
    logits: np.ndarray,
    queries: Photographs,
    classes: np.ndarray,
    class_datasets: np.ndarray,
    known: Known,
    *,
    temperature: float = 1.0,
) -> Scores:
    """A classifier's probabilities among the individuals of the query's own data set.

    Args:
        logits: float, shape (n_queries, n_classes).
        queries: what is known of them.
        classes: str, shape (n_classes,), the individuals that the classifier learnt.
        class_datasets: str, shape (n_classes,).
        known: the gallery's individuals; those that the classifier did not learn are no candidates.
        temperature: above 0, that logits are divided by.

    Returns:
        Values in [0, 1], which sum to 1 over the individuals of a data set that are known and were learnt.
    """
    values = np.full((len(queries), len(known)), NONE)
    column = known.columns_of(classes, class_datasets)
    for name in np.unique(queries.dataset.astype(str)):
        rows, learnt = queries.dataset == name, (class_datasets == name) & (column >= 0)
        if learnt.any():
            scaled = logits[np.ix_(rows, learnt)].astype(np.float64) / temperature
            powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            values[np.ix_(rows, column[learnt])] = powers / powers.sum(axis=1, keepdims=True)
    return Scores(values, np.zeros(values.shape, bool))


def best(scores: np.ndarray, known: Known) -> tuple[np.ndarray, np.ndarray]:
    """The best candidate of each query and its score; of equal ones the first.

    Args:
        scores: float32, shape (n_queries, n_identities).
        known: the identities.

    Returns:
        object, shape (n_queries,), "" where there is no candidate; float32, shape (n_queries,), -inf there.
    """
    if not scores.shape[1]:
        return np.full(len(scores), "", object), np.full(len(scores), NONE)
    place = scores.argmax(axis=1)
    highest = scores[np.arange(len(scores)), place]
    return np.where(highest > NONE, known.identity[place], "").astype(object), highest


def similarities(
    embeddings: np.ndarray,
    queries: Photographs,
    gallery_embeddings: Embeddings,
    gallery: Photographs,
    known: Known,
    *,
    rules: Rules,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Cosine similarity of queries to every photograph of a gallery, some queries at a time.

    Arguments are as those of ``nearest``; there is no fallback for a photograph.

    Yields:
        Queries; similarity to each photograph, float32, shape (n, n_gallery), -inf where one does not count; and the
        same for orientation left aside, so that it can be told what that costs.
    """
    for part in _query_parts(len(queries), max(len(gallery), 1)):
        found = np.empty((part.stop - part.start, len(gallery)), np.float32)
        for start in range(0, len(gallery), BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, len(gallery)))
            found[:, rows] = embeddings[part] @ gallery_embeddings[rows].T
        allowed = comparable(queries.take(part), gallery, leave_out=rules.leave_out)
        whole = np.where(allowed, found, NONE)
        fit = np.where(fitting(queries.take(part), gallery), whole, NONE) if rules.orientation else whole
        yield part, fit, whole


def _taken(
    queries: Photographs, gallery: Photographs, starts: np.ndarray, rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """Which photographs count, bool (n_queries, n_gallery), and the fallback, bool (n_queries, n_starts)."""
    allowed = comparable(queries, gallery, leave_out=rules.leave_out)
    if not rules.orientation:
        return allowed, np.zeros((len(queries), len(starts)), bool)
    fit = allowed & fitting(queries, gallery)
    fell = np.logical_or.reduceat(allowed, starts, axis=1) & ~np.logical_or.reduceat(fit, starts, axis=1)
    if fell.any():
        lengths = np.diff(np.append(starts, allowed.shape[1]))
        fit |= allowed & np.repeat(fell, lengths, axis=1)
    return fit, fell


def _by_blocks(
    scored: Callable[[np.ndarray, Photographs, np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    embeddings: np.ndarray,
    queries: Photographs,
    gallery_embeddings: Embeddings,
    gallery: Photographs,
    known: Known,
    rules: Rules,
) -> Scores:
    """Scores of some queries at a time to some whole individuals at a time.

    Args:
        scored: gives float32, shape (n, n_starts), of queries' embeddings, what is known of them, a block of the
            gallery's embeddings, which of these each query takes, bool (n, n_block), and where individuals begin.
        embeddings: and all others as those of ``nearest``.
    """
    values = np.full((len(queries), len(known)), NONE)
    fallback = np.zeros(values.shape, bool)
    for rows, starts, columns in _blocks(known):
        block, of_block = gallery_embeddings[rows], gallery.take(rows)
        for part in _query_parts(len(queries), len(rows)):
            of_part = queries.take(part)
            taken, fallback[part, columns] = _taken(of_part, of_block, starts, rules)
            values[part, columns] = scored(embeddings[part], of_part, block, taken, starts)
    return Scores(values, fallback)


def _blocks(known: Known) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Whole individuals, about ``BLOCK_ROWS`` photographs at a time.

    Yields:
        Their rows of the gallery, sorted by column; where each individual's begin among these; and their columns.
    """
    order = np.argsort(known.column, kind="stable")
    bounds = np.searchsorted(known.column[order], np.arange(len(known) + 1))
    first = 0
    while first < len(known):
        last = max(int(np.searchsorted(bounds, bounds[first] + BLOCK_ROWS, side="right")) - 1, first + 1)
        yield order[bounds[first] : bounds[last]], bounds[first:last] - bounds[first], slice(first, last)
        first = last


def _query_parts(count: int, rows: int) -> Iterator[slice]:
    step = max(1, CHUNK // rows)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
