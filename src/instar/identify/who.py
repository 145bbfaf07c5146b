"""Who is on photographs: the best known individuals of a gallery, or a new one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from instar.errors import InputError
from instar.identify.embedded import Embedded
from instar.reid.answering import Answering, named, read_answering
from instar.reid.gallery import MANIFEST, Gallery, open_gallery
from instar.reid.orientation import SIDES, fits, read_sides, sides

Row = dict[str, Any]


@dataclass(frozen=True)
class Who:
    """A gallery and how it is asked.

    Attributes:
        gallery: of known individuals.
        answering: what evaluation found.
        datasets: that photographs may be of.
        side: that photographs show; None where it is not told.
        threshold: least score of an answer; None for that of each data set.
        top: candidates that are listed.
    """

    gallery: Gallery
    answering: Answering
    datasets: list[str]
    side: str | None
    threshold: float | None
    top: int

    @cached_property
    def thresholds(self) -> np.ndarray:
        """float64, shape (n_identities,)."""
        return self.answering.thresholds_of(self.gallery, self.threshold)

    def told(self, photographs: Sequence[Embedded]) -> list[Row]:
        """Photographs as ``--json`` gives them."""
        there = [one for one in photographs if len(one.embedding)]
        if there:
            embeddings, logits = (np.stack([getattr(one, name) for one in there]) for name in ("embedding", "logits"))
            values = self.answering.values(embeddings, logits, self.gallery, self.datasets, self.side)
            answer = self.answering.answers(values, self.gallery, self.threshold)
            names = named(answer, self.gallery)
        rows, place = [], 0
        for one in photographs:
            row: Row = {"photograph": one.name, "problem": one.problem, "reason": one.reason, "answer": None}
            row |= {"dataset": None, "score": None, "threshold": None, "match": None, "box_xyxy": None, "top": []}
            if len(one.embedding):
                row["answer"] = names[place]
                row["box_xyxy"] = [round(side, 2) for side in one.box_xyxy.tolist()]
                row |= self._of(values[place], int(answer[place]), one.embedding)
                place += 1
            rows.append(row)
        return rows

    def _of(self, values: np.ndarray, answer: int, embedding: np.ndarray) -> Row:
        """The candidates of a photograph; the one that answers, or else the best, is told by itself."""
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > -np.inf][: self.top]
        if not len(order):
            return {}
        first = answer if answer >= 0 else int(order[0])
        told = self._candidate(first, values)
        return {
            "dataset": told["dataset"],
            "score": told["score"],
            "threshold": told["threshold"],
            "match": self._match(first, embedding),
            "top": [self._candidate(int(column), values) for column in order],
        }

    def _candidate(self, column: int, values: np.ndarray) -> Row:
        known, threshold = self.gallery.known, float(self.thresholds[column])
        return {
            "identity": str(known.identity[column]),
            "dataset": str(known.dataset[column]),
            "score": round(float(values[column]), 6),
            "threshold": round(threshold, 6) if np.isfinite(threshold) else None,
        }

    def _match(self, column: int, embedding: np.ndarray) -> str:
        """The photograph of an individual that is most similar by embedding."""
        rows = np.flatnonzero(self.gallery.known.column == column)
        best = rows[np.argmax(self.gallery.embeddings[rows] @ embedding)]
        return str(self.gallery.rows["photo_key"].iloc[best])


def ask(
    folder: Path,
    *,
    dataset: str | None,
    side: str | None,
    way: str | None,
    threshold: float | None,
    top: int,
) -> Who:
    """Open a gallery to be asked.

    Args:
        folder: of the gallery.
        dataset: that all photographs are of; None for any of the gallery's.
        side: that all photographs show, such as left; None where it is not told.
        way: to compare by; None for ``evaluation.answer_by``.
        threshold: least score of an answer; None for what evaluation found.
        top: candidates that are listed.

    Raises:
        InputError: if there is no gallery, it lacks the data set, or all its photographs show the opposite side.
    """
    gallery, answering = open_gallery(folder), read_answering(folder).asked(way)
    names = sorted(set(gallery.known.dataset))
    if not names:
        raise InputError(f"{folder}: holds no photograph; enroll some with instar enroll")
    if dataset is not None and dataset not in names:
        raise InputError(f"--dataset {dataset}: the gallery {folder} has {', '.join(names)}; name one of these")
    datasets = [dataset] if dataset else names
    if side is not None:
        _check_side(side, folder, gallery.photographs.sides[gallery.rows["dataset"].isin(datasets)])
    return Who(gallery, answering, datasets, side, threshold, top)


def _check_side(side: str, folder: Path, there: np.ndarray) -> None:
    if not read_sides(side):
        raise InputError(f"--orientation {side}: is no side; say left, right, top, bottom, front or back")
    if not fits(sides([side]), there).any():
        told = f"all photographs of the gallery {folder} show the opposite: {_shown(there)}; name that, or leave it out"
        raise InputError(f"--orientation {side}: {told}")


def _shown(there: np.ndarray) -> str:
    """The sides that photographs show."""
    bits = int(np.bitwise_or.reduce(there))
    return ", ".join(word for bit, word in enumerate(SIDES) if bits >> bit & 1) or "no side that is told"


def check_given(gallery: Path | None) -> None:
    """Refuse a path of the command line at which there is no gallery.

    Raises:
        InputError: if there is none.
    """
    if gallery is not None and not (gallery / MANIFEST).is_file():
        told = f"no gallery at this path; 'instar enroll FOLDER --gallery {gallery}' makes one where nothing is yet"
        raise InputError(f"--gallery {gallery}: {told}; the study's own is taken if none is given")


def remarks(who: Who) -> list[str]:
    """What is not as in the stage: lines for people."""
    found, answering, gallery = [], who.answering, who.gallery
    if answering.answer_by not in (answering.way,):
        found.append(f"{answering.answer_by} takes the photographs themselves; answers are by {answering.way}")
    if answering.way == "fused" and (left := sorted(set(answering.calibrations) - {"softmax", "nearest", "centroid"})):
        found.append(f"{', '.join(left)} takes the photographs themselves; answers are by the other ways, fused")
    learnt = set(answering.classes.items())
    if answering.way == "softmax":
        pairs = set(zip(gallery.known.identity, gallery.known.dataset, strict=True))
        if new := len(pairs - learnt):
            found.append(f"{new} individuals were not learnt and can't be answered by softmax; use --by nearest")
    if answering.way in ("softmax", "fused") and len(who.datasets) > 1:
        scales = f"each photograph is compared with the individuals of {len(who.datasets)} data sets, whose scores by "
        scales += f"{answering.way} are each on a scale of its own, so the best may be of the wrong one"
        found.append(f"{scales}; name the right one with --dataset: {', '.join(who.datasets)}")
    if who.side is not None:
        asked, there = sides([who.side]), gallery.photographs.sides[gallery.rows["dataset"].isin(who.datasets)]
        if not (asked & there).any():
            some = f"{np.count_nonzero(fits(asked, there))} of {len(there)} may, by what they tell"
            found.append(f"no photograph of the gallery is told to show {who.side}, but {_shown(there)}; {some}")
    own = answering.thresholds.get(answering.way, {})
    for name in who.datasets:
        if name not in own and who.threshold is None:
            told = answering.threshold(name)
            mean = f"{told:.3g}, the mean of the others" if np.isfinite(told) else "none, so all are new"
            found.append(f"{name} has no threshold of its own: taken is {mean}; choose one with --threshold")
    return found
