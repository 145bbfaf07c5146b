"""What the classifier answers for crops: the best few classes of each rank, and how often these are right."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instar.classifier.labels import RANKS
from instar.metrics.bootstrap import cluster_bootstrap
from instar.metrics.topk import top_hits, top_indices
from instar.progress import progress

if TYPE_CHECKING:
    import torch

    from instar.classifier.labels import LabelSpace
    from instar.classifier.predict import Predictor

TOP = 5
#: Crops through the network at a time.
BATCH = 64
#: Logits looked at at a time.
BLOCK = 1 << 24


@dataclass(frozen=True)
class Ranked:
    """The best classes of one rank for each crop, best first, at most ``TOP``.

    Attributes:
        classes: int64, shape (n, k); -1 where there is no answer.
        probabilities: float32, shape (n, k).
    """

    classes: np.ndarray
    probabilities: np.ndarray


Answers = dict[str, Ranked]


def best_of(nodes: np.ndarray, labels: "LabelSpace") -> Answers:
    """The best of node probabilities, float32 (n, n_classes), so that nothing wider need be kept."""
    found = {}
    for rank in RANKS:
        of_rank = labels.of_rank(rank)
        scores = nodes[:, of_rank]
        best = top_indices(scores, TOP)
        found[rank] = Ranked(of_rank[best], np.take_along_axis(scores, best, axis=1))
    return found


def joined(parts: Iterable[Answers], labels: "LabelSpace") -> Answers:
    """Answers one after the other."""
    kept = [best_of(np.empty((0, len(labels)), np.float32), labels), *parts]
    return {
        rank: Ranked(
            np.concatenate([part[rank].classes for part in kept]),
            np.concatenate([part[rank].probabilities for part in kept]),
        )
        for rank in RANKS
    }


def without_answer(given: Answers, crops: int, at: np.ndarray) -> Answers:
    """Answers of ``crops`` rows, of which those at ``at`` (int64) have the given ones and the others none."""
    found = {}
    for rank, ranked in given.items():
        shape = (crops, ranked.classes.shape[1])
        classes, probabilities = np.full(shape, -1, np.int64), np.zeros(shape, np.float32)
        classes[at], probabilities[at] = ranked.classes, ranked.probabilities
        found[rank] = Ranked(classes, probabilities)
    return found


def of_rows(given: Answers, rows: np.ndarray) -> Answers:
    """The answers at ``rows``, bool (n,) or int64."""
    return {rank: Ranked(ranked.classes[rows], ranked.probabilities[rows]) for rank, ranked in given.items()}


@dataclass(frozen=True)
class Truth:
    """What is known of the judged crops or photographs.

    Attributes:
        labels: the classes.
        targets: int64, shape (n,), class of each label.
        observations: object, shape (n,), their ids.
    """

    labels: "LabelSpace"
    targets: np.ndarray
    observations: np.ndarray

    def of_rows(self, rows: np.ndarray) -> "Truth":
        """The truth of ``rows``, bool (n,) or int64."""
        return Truth(self.labels, self.targets[rows], self.observations[rows])

    def of_rank(self, rank: str) -> np.ndarray:
        """int64, shape (n,): the true class at a rank, -1 where the label is above it."""
        return self.labels.ancestors(rank)[self.targets]

    def hits(self, found: Answers, rank: str, k: int) -> np.ndarray:
        """bool, shape (n,): whether the true class of a rank is among the first k; false where there is none."""
        true = self.of_rank(rank)
        return top_hits(found[rank].classes, true, k) & (true >= 0)

    def accuracies(self, found: Answers, rank: str, *, resamples: int, seed: int) -> dict[str, Any] | None:
        """Top-1 and top-5 over crops (micro) and over classes (macro), of crops whose label says the rank.

        Intervals are of 95 %, by resampling observations.

        Returns:
            ``value``, ``low`` and ``high`` under ``top1_micro``, ``top1_macro``, ``top5_micro`` and ``top5_macro``;
            None where there is no such crop.
        """
        true = self.of_rank(rank)
        said = true >= 0
        if not said.any():
            return None
        figures = {}
        for k in (1, TOP):
            hits = self.hits(found, rank, k)[said].astype(float)
            for name, groups in (("micro", None), ("macro", true[said])):
                clusters = self.observations[said]
                figures[f"top{k}_{name}"] = interval(hits, clusters, groups, resamples=resamples, seed=seed)
        return figures


def interval(
    values: np.ndarray, clusters: np.ndarray, groups: np.ndarray | None, *, resamples: int, seed: int
) -> dict[str, float]:
    """``value``, ``low`` and ``high`` of a mean over values, or over the means of groups."""
    value = values.mean() if groups is None else pd.Series(values).groupby(groups).mean().mean()
    low, high = cluster_bootstrap(values, clusters, resamples=resamples, seed=seed, groups=groups)
    return {name: rounded(figure) for name, figure in {"value": value, "low": low, "high": high}.items()}


def rounded(figure: float) -> float:
    return float(f"{figure:.6g}")


def pixels_of(
    predictor: "Predictor", crops: Path, rows: pd.DataFrame, what: str
) -> Iterator[tuple[slice, "torch.Tensor"]]:
    """Whole crops as the network takes them, uint8 (n, 3, px, px), and which of the rows they are."""
    from instar.classifier.data import CropReader, Views, batches

    nowhere = np.full((len(rows), 2), np.nan, dtype=np.float32)
    views = Views(CropReader(crops, rows), np.zeros(len(rows), np.int64), nowhere, predictor.image_px, shown=None)
    count = -(-len(rows) // BATCH)
    done = 0
    for pixels, *_ in progress(batches(views, batch=BATCH), f"{what}: batches of {BATCH} crops", count):
        yield slice(done, done + len(pixels)), pixels
        done += len(pixels)


def answers_by_place(
    predictor: "Predictor",
    crops: Path,
    rows: pd.DataFrame,
    places: Mapping[str, np.ndarray],
    what: str,
    logits: "Logits | None" = None,
) -> dict[str, Answers]:
    """Answers for crops with each kind of places, each float32 (n, 2); a crop is read once.

    The logits with the first kind are added to ``logits``.
    """
    from torch import from_numpy

    found: dict[str, list[Answers]] = {kind: [] for kind in places}
    for part, pixels in pixels_of(predictor, crops, rows, what):
        for number, (kind, of_kind) in enumerate(places.items()):
            outputs = predictor.logits(pixels, from_numpy(of_kind[part]))
            found[kind].append(best_of(predictor.nodes(outputs).cpu().numpy(), predictor.labels))
            if logits is not None and number == 0:
                logits.add(outputs.cpu().numpy())
    return {kind: joined(parts, predictor.labels) for kind, parts in found.items()}


class Logits:
    """Logits of many crops on the disk, float32 (n, n_outputs): they are looked at again for each temperature.

    Args:
        file: a temporary one, which is gone when it is closed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._rows, self._width = file, 0, 0

    def add(self, logits: np.ndarray) -> None:
        """Append rows."""
        self._file.write(np.ascontiguousarray(logits, dtype=np.float32).tobytes())
        self._rows, self._width = self._rows + len(logits), logits.shape[1]

    def batches(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Blocks of the rows at these places, int64 ascending."""
        self._file.flush()
        if not len(rows):
            return
        held = np.memmap(self._file, np.float32, "r", shape=(self._rows, self._width))
        step = max(1, BLOCK // self._width)
        for start in range(0, len(rows), step):
            yield np.asarray(held[rows[start : start + step]])
