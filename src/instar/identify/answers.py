"""What is told of a photograph: the answer at the lowest rank that is sure, the best few of each rank."""

import math
from typing import Any

import numpy as np

from instar.classifier.labels import RANKS, LabelSpace
from instar.identify.identifier import Found
from instar.metrics.calibration import answered_rank
from instar.metrics.topk import top_indices

Row = dict[str, Any]


def sure_answer(nodes: np.ndarray, labels: LabelSpace, *, threshold: float) -> Row | None:
    """The best class of the lowest rank at which it is probable enough.

    Args:
        nodes: float32, shape (n_classes,), probability of each class with all that belongs to it.
        labels: the classes.
        threshold: in [0, 1].

    Returns:
        Its ``name``, ``rank`` and ``probability``; None where no rank is sure.
    """
    best = [best_of_rank(nodes, labels, rank, 1) for rank in RANKS]
    sureness = np.array([[of_rank[0]["probability"] if of_rank else -1.0 for of_rank in best]])
    at = int(answered_rank(sureness, threshold)[0])
    if at < 0:
        return None
    return {"name": best[at][0]["name"], "rank": RANKS[at], "probability": best[at][0]["probability"]}


def best_of_rank(nodes: np.ndarray, labels: LabelSpace, rank: str, k: int) -> list[Row]:
    """``name`` and ``probability`` of the best k classes of a rank, best first."""
    of_rank = labels.of_rank(rank)
    best = of_rank[top_indices(nodes[None, of_rank], k)[0]]
    # sums of float32 may exceed 1 a little
    return [{"name": labels.names[at], "probability": round(min(float(nodes[at]), 1.0), 6)} for at in best]


def told(found: Found, labels: LabelSpace, *, threshold: float, top: int, counted: int) -> Row:
    """A photograph as ``--json`` gives it.

    Args:
        found: what is on it.
        labels: the classes.
        threshold: probability that an answer needs.
        top: classes of each rank that are listed.
        counted: animals that make the photograph's answer, at most.
    """

    def named(nodes: np.ndarray) -> Row:
        best = {rank: best_of_rank(nodes, labels, rank, top) for rank in RANKS}
        return {"answer": sure_answer(nodes, labels, threshold=threshold), **best}

    boxes = zip(found.boxes.boxes_xyxy.tolist(), found.boxes.scores.tolist(), found.animals, strict=True)
    animals = [
        {"box_xyxy": [round(side, 2) for side in box], "score": round(score, 6), **named(nodes)}
        for box, score, nodes in boxes
    ]
    whole = named(found.whole) if animals else {"answer": None, **{rank: [] for rank in RANKS}}
    latitude, longitude = (None if math.isnan(degrees) else degrees for degrees in found.place)
    return {
        "photograph": found.name,
        "problem": found.problem,
        "latitude": latitude,
        "longitude": longitude,
        **whole,
        "animals_counted": min(len(animals), counted),
        "animals": animals,
    }
