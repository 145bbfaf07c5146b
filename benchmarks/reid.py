"""Re-identification: scores by nearest neighbour, and the threshold of the open set, against what one would use.

Run: python benchmarks/reid.py [--small]. Equal results are asserted first; then CPU-seconds, best of 3, and the peak of
what scoring allocates. Nearest neighbours: scikit-learn's NearestNeighbors over all of a gallery of the size of
AnimalCLEF25, sorted, and the best of each individual taken from them; and plain NumPy, one matrix product and a loop
over individuals. Threshold: a NumPy loop over all distinct scores with balanced accuracies by bincount.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from instar.metrics.openset import Judged, best_threshold, figures, sweep
from instar.reid.photographs import Known, Photographs
from instar.reid.scores import Rules, nearest, unit


def drawn(rows: int, identities: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, Photographs]:
    """Embeddings around those of their individuals, of one data set and without sides: what the others can do, too."""
    rng = np.random.default_rng(seed)
    identity = rng.integers(0, identities, rows)
    identity[: min(identities, rows)] = np.arange(min(identities, rows))
    centres = np.random.default_rng(0).normal(size=(identities, width))
    embeddings = unit(centres[identity] + 2 * rng.normal(size=(rows, width)))
    names = pd.DataFrame({"photo_key": [f"{seed}-{n}" for n in range(rows)], "dataset": "L", "orientation": None})
    return embeddings, identity, Photographs.of(names.assign(encounter=names["photo_key"]))


def ours(queries: Any, gallery: Any, known: Known) -> np.ndarray:
    return nearest(
        queries[0], queries[2], gallery[0], gallery[2], known, neighbours=1, weights="equal", rules=Rules()
    ).values


def by_neighbours(queries: Any, gallery: Any, known: Known) -> np.ndarray:
    """All neighbours by rising distance, so that an individual's first is its best."""
    index = NearestNeighbors(n_neighbors=len(gallery[0]), algorithm="brute", metric="cosine").fit(gallery[0])
    found = np.empty((len(queries[0]), len(known)), np.float32)
    step = max(1, (1 << 24) // len(gallery[0]))
    for start in range(0, len(found), step):
        distance, place = index.kneighbors(queries[0][start : start + step])
        for row in range(len(place)):
            _, first = np.unique(known.column[place[row]], return_index=True)
            found[start + row] = 1 - distance[row, first]
    return found


def by_numpy(queries: Any, gallery: Any, known: Known) -> np.ndarray:
    similarity = queries[0] @ gallery[0].T
    return np.stack([similarity[:, known.column == column].max(axis=1) for column in range(len(known))], axis=1)


def by_loop(judged: Judged) -> np.ndarray:
    """The score at every distinct threshold, float64, shape (n,)."""
    _, code = np.unique(judged.identity, return_inverse=True)
    right, is_new = judged.best == judged.identity, judged.is_new
    found = []
    for threshold in np.unique(judged.score):
        kept = judged.score >= threshold
        correct = np.where(is_new, ~kept, kept & right)
        share = np.bincount(code, correct) / np.bincount(code)
        new = np.bincount(code, is_new) > 0
        found.append(np.sqrt(share[~new].mean() * share[new].mean()))
    return np.array(found)


def judged(rows: int, seed: int = 0) -> Judged:
    rng = np.random.default_rng(seed)
    is_new = rng.random(rows) < 0.3
    identity = np.array(
        [f"{'x' if new else 'k'}{n}" for new, n in zip(is_new, rng.integers(0, 300, rows), strict=True)]
    )
    best = np.where(rng.random(rows) < 0.7, identity, "k0")
    score = rng.normal(np.where(is_new, 0, 1)).astype(np.float32)
    return Judged(identity.astype(object), is_new, np.full(rows, "L", object), identity, best.astype(object), score)


def cpu_seconds(work: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def peak_mib(work: Callable[[], Any]) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a twentieth of it")
    options = parser.parse_args()
    rows, asked, identities, width = (600, 100, 60, 32) if options.small else (13_074, 2_135, 1_100, 1_024)
    gallery, queries = drawn(rows, identities, width, 1), drawn(asked, identities, width, 2)
    known = Known.of((f"{n:06d}" for n in gallery[1]), ["L"] * rows)
    ways: dict[str, Callable[[Any, Any, Known], np.ndarray]] = {
        "instar": ours,
        "NearestNeighbors": by_neighbours,
        "NumPy loop": by_numpy,
    }
    expected = ours(queries, gallery, known)
    for way in ways.values():
        np.testing.assert_allclose(way(queries, gallery, known), expected, atol=1e-5)
    print(f"{asked} queries, {rows} photographs of {len(known)} individuals, {width} values; equal within 1e-5")
    print("| nearest of each individual | CPU-seconds | ratio to instar | peak, MiB |\n| --- | --- | --- | --- |")
    of_ours = 0.0
    for name, way in ways.items():
        taken = cpu_seconds(lambda way=way: way(queries, gallery, known))  # type: ignore[misc]
        of_ours = of_ours or taken
        peak = peak_mib(lambda way=way: way(queries, gallery, known))  # type: ignore[misc]
        print(f"| {name} | {taken:.2f} | {taken / of_ours:.2f} | {peak:.0f} |")
    large = judged(2_000 if options.small else 20_000)
    curve = sweep(large)
    by_hand = by_loop(large)
    np.testing.assert_allclose(curve["score"].to_numpy()[:-1], by_hand, atol=1e-9)
    reached = figures(large, large.answers(best_threshold(curve)))["score"]
    assert np.isclose(reached, by_hand.max())
    first, second = cpu_seconds(lambda: best_threshold(sweep(large))), cpu_seconds(lambda: by_loop(large))
    print(f"\nThreshold of {len(large)} photographs, best score {reached:.3f}; equal within 1e-9 at every score")
    print("| threshold | CPU-seconds | ratio to instar |\n| --- | --- | --- |")
    print(f"| instar | {first:.3f} | 1.00 |\n| NumPy loop | {second:.3f} | {second / first:.1f} |")


if __name__ == "__main__":
    main()
