"""Judge ways to tell who is who by their scores: where to draw the line, and what is answered rightly then."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from instar.evaluation.answers import rounded
from instar.evaluation.ways import Compared, halves
from instar.metrics import openset, reid
from instar.reid.scores import best
from instar.splits import judged_split
from instar.tables import NEW_INDIVIDUAL

#: The columns of openset.csv: BAKS, BAUS and their score at thresholds; "all" is the mean over data sets.
SWEEP = ("way", "dataset", "threshold", "baks", "baus", "score")
#: The columns of cmc.csv: share of judged photographs whose individual is among the best so many.
CMC = ("way", "rank", "share")
#: The columns of individuals.csv: figures of each way to compare and each data set, with their intervals.
FIGURES = ("way", "dataset", "figure", "value", "low", "high")
#: Points of a curve, at most, and ranks of the CMC.
POINTS, RANKS = 400, 20
#: The splits with individuals to be told, and that of those who ask.
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Parts:
    """Rows of a data set of individuals by what they are for.

    Attributes:
        rows: of ``tables.IDENTITY_DATASET``, those with a split, with ``encounter``.
        part: places in ``rows`` of train, validation, test and query, int64.
        judged: the split that is judged.
    """

    rows: pd.DataFrame
    part: dict[str, np.ndarray]
    judged: str

    @classmethod
    def of(cls, dataset: pd.DataFrame) -> "Parts":
        """From all rows of the table."""
        rows = dataset[dataset["split"].notna()].rename(columns={"observation_id": "encounter"}).reset_index(drop=True)
        part = {split: np.flatnonzero(rows["split"] == split) for split in ("train", *HELD_OUT, "query")}
        return cls(rows, part, judged_split(rows["split"]))

    @property
    def known(self) -> np.ndarray:
        """Places of the photographs whose individual is told."""
        return np.flatnonzero(self.rows["split"] != "query")

    @property
    def chooser(self) -> str:
        """The split that thresholds and calibrations are of: validation, or the judged one where that has no row."""
        return "validation" if len(self.part["validation"]) else self.judged

    @property
    def half(self) -> np.ndarray | None:
        """Halves of the judged photographs where these choose for themselves; None where others do."""
        return halves(self.rows, self.part[self.judged]) if self.chooser == self.judged else None

    @property
    def galleries(self) -> dict[str, np.ndarray]:
        """What each split that has photographs is compared with: training ones, and queries with all that are known."""
        of = {"validation": self.part["train"], "test": self.part["train"], "query": self.known}
        return {split: gallery for split, gallery in of.items() if len(self.part[split])}

    def answers(self, of_queries: np.ndarray | None) -> dict[str, str]:
        """The individual of each photograph by image id: of a query the answer, of the others what they are called.

        A query that a review named is none any more; its name is the answer.

        Args:
            of_queries: str, shape (n_queries,); None where no query has a crop.
        """
        image_id, label = (self.rows[name].to_numpy(dtype=object) for name in ("image_id", "label"))
        found = dict(zip(image_id[self.known], label[self.known], strict=True))
        queries = image_id[self.part["query"]]
        return found | dict(zip(queries, [] if of_queries is None else map(str, of_queries), strict=True))


@dataclass(frozen=True)
class Judgement:
    """What came out for each way.

    Attributes:
        ways: figures of each, as metrics/evaluation.json tells them.
        thresholds: of each way, by data set.
        rankings: of the judged photographs by each way.
        answers: of the judged photographs by each way, object, shape (n,).
        simulated_new: data sets of which no judged individual is new, so that a stand-in was judged.
        crosswise: whether they were chosen on the judged photographs, half by half.
        without_other_half: of these the number by data set whose other half could choose no threshold for them.
        sweeps: rows of ``SWEEP``.
        ranks: rows of ``CMC``.
        figures: rows of ``FIGURES``.
    """

    ways: dict[str, Any]
    thresholds: dict[str, dict[str, float]]
    rankings: dict[str, reid.Ranking]
    answers: dict[str, np.ndarray]
    simulated_new: list[str]
    crosswise: bool
    without_other_half: dict[str, int]
    sweeps: list[tuple[Any, ...]]
    ranks: list[tuple[Any, ...]]
    figures: list[tuple[Any, ...]]


def judge(
    parts: Parts, at: Mapping[str, Mapping[str, Compared]], *, threshold_by: str, bootstrap: int, seed: int
) -> Judgement:
    """Choose each way's thresholds on validation and judge its answers for the judged split.

    Args:
        parts: photographs.
        at: of the judged split and of validation, if it has photographs, what each way makes of them.
        threshold_by: all: one threshold; dataset: one for each data set.
        bootstrap: number of resamples, of encounters.
        seed: of these.
    """
    rows, part, judged = parts.rows, parts.part, parts.judged
    if "validation" not in at:
        print(
            "evaluation: no photograph is for validation; the test chooses its own thresholds, crosswise",
            file=sys.stderr,
        )
    chooser = parts.chooser
    settings: dict[str, Any] = {"per_dataset": threshold_by == "dataset", "datasets": sorted(set(rows["dataset"]))}
    simulated = _without_new(rows, part[judged])
    alone: dict[str, int] = {}
    if chooser == judged:
        # the halves are the same by any way
        alone = Choice.of(rows, part[judged], next(iter(at[judged].values())), **settings).alone(len(part[judged]))
    for name, count in alone.items():
        told = "are judged by a common threshold or by their own, since the other half of the individuals has not both"
        print(f"evaluation: {count} photographs of {name} {told} known and new ones", file=sys.stderr)
    found = Judgement({}, {}, {}, {}, simulated, chooser == judged, alone, [], [], [])
    for way in at[judged]:
        chosen = Choice.of(rows, part[chooser], at[chooser][way], **settings)
        of_judged = chosen if chooser == judged else Choice.of(rows, part[judged], at[judged][way], **settings)
        answer = of_judged.crosswise() if chooser == judged else of_judged.judged.answers(chosen.thresholds)
        figures = _figures_of(of_judged.judged, answer, chosen.thresholds, resamples=bootstrap, seed=seed)
        ranking = reid.identity_ranking(at[judged][way].values, at[judged][way].targets(rows, part[judged]))
        encounters = rows["encounter"].to_numpy(dtype=object)[part[judged]]
        found.ways[way] = figures
        found.ways[way]["reid"] = rounded_figures(reid.figures(ranking, encounters, resamples=bootstrap, seed=seed))
        found.thresholds[way], found.rankings[way] = chosen.thresholds, ranking
        found.answers[way] = answer[: len(part[judged])]
        found.sweeps.extend(_sweep(way, chosen.judged))
        found.ranks.extend((way, k + 1, rounded(share)) for k, share in enumerate(reid.cmc(ranking, RANKS)))
        found.figures.extend(_lines(way, figures))
    return found


@dataclass(frozen=True)
class Choice:
    """Photographs that a threshold is chosen on.

    Attributes:
        judged: each photograph, and then those of data sets without a new individual a second time, as new.
        of_half: where the two halves have scores of their own scale: by half, all photographs with the
            scores that it is judged by.
        half: int64, shape (n,), of its individual.
        thresholds: that are best for all of them, by data set.
        per_dataset: whether each data set has its own.
    """

    judged: openset.Judged
    of_half: dict[int, openset.Judged]
    half: np.ndarray
    thresholds: dict[str, float]
    per_dataset: bool

    @classmethod
    def of(
        cls, rows: pd.DataFrame, part: np.ndarray, compared: Compared, *, per_dataset: bool, datasets: list[str]
    ) -> "Choice":
        half = halves(rows, part)
        again = np.isin(rows["dataset"].iloc[part].astype(str), _without_new(rows, part))

        def judged(by: Compared) -> openset.Judged:
            own = _judged(rows, part, by, by.values)
            return _with_new(own, _judged(rows, part, by, by.left_out).where(again)) if again.any() else own

        own = judged(compared.of_all or compared)
        of_half = {each: judged(by) for each, by in compared.of_half.items()}
        thresholds = openset.thresholds(own, per_dataset=per_dataset, datasets=datasets)
        return cls(own, of_half, np.concatenate([half, half[again]]), thresholds, per_dataset)

    def crosswise(self) -> np.ndarray:
        """Answers with the thresholds that are best for the other half of the individuals, object, shape (n,).

        Scores of both halves are by what the other half says, so that no label of a half moves its own answers.
        """
        found = np.full(len(self.judged), NEW_INDIVIDUAL, object)
        for half in np.unique(self.half).tolist():
            of_half, judged = self.half == half, self.of_half.get(half, self.judged)
            # a half alone, of a single individual, has no other one to learn from
            other = judged.where(~of_half) if (~of_half).any() else judged
            chosen = openset.thresholds(other, per_dataset=self.per_dataset, datasets=self.thresholds)
            found[of_half] = judged.where(of_half).answers(chosen)
        return found

    def alone(self, count: int) -> dict[str, int]:
        """How many of the first photographs of each data set have no threshold from the other half of the individuals.

        Whether there is one is asked of the data set itself where each has its own, and else of all together.
        """
        helped = np.zeros(len(self.judged), bool)
        for half in np.unique(self.half):
            other = self.judged.where(self.half != half)
            both = set(other.dataset[other.is_new]) & set(other.dataset[~other.is_new])
            own = np.isin(self.judged.dataset.astype(str), sorted(both)) if self.per_dataset else bool(both)
            helped |= (self.half == half) & own
        names = self.judged.dataset[:count][~helped[:count]]
        return {str(name): int((names == name).sum()) for name in sorted(set(names))}


def _without_new(rows: pd.DataFrame, part: np.ndarray) -> list[str]:
    """Data sets of some rows that have no new individual among these, sorted."""
    of_part = rows.iloc[part]
    return sorted(set(of_part["dataset"]) - set(of_part["dataset"][of_part["is_new"].to_numpy(bool)]))


def _judged(rows: pd.DataFrame, part: np.ndarray, compared: Compared, values: np.ndarray) -> openset.Judged:
    identity, score = best(values, compared.known)
    of_part = rows.iloc[part]
    told = (of_part[name].to_numpy(dtype=object) for name in ("label", "dataset", "encounter"))
    label, dataset, encounter = told
    return openset.Judged(label, of_part["is_new"].to_numpy(bool), dataset, encounter, identity, score)


def _with_new(known: openset.Judged, left_out: openset.Judged) -> openset.Judged:
    pairs = {name: [getattr(one, name) for one in (known, left_out)] for name in known.__dataclass_fields__}
    pairs["is_new"][1] = np.ones(len(left_out), bool)
    return openset.Judged(**{name: np.concatenate(both) for name, both in pairs.items()})


def _figures_of(
    judged: openset.Judged, answer: np.ndarray, thresholds: Mapping[str, float], *, resamples: int, seed: int
) -> dict[str, Any]:
    figures = openset.figures(judged, answer)
    over = openset.intervals(judged, answer, resamples=resamples, seed=seed)

    def measured(values: Mapping[str, Any], bounds: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: {"value": rounded(values[name]), "low": rounded(bounds[name][0]), "high": rounded(bounds[name][1])}
            for name in ("baks", "baus", "score")
        }

    datasets = {}
    for name, of_one in figures["datasets"].items():
        counts = {key: of_one[key] for key in ("photographs", "new_photographs", "known", "new")}
        # as it is: another digit less may lie on the other side of a score
        threshold = {"threshold": thresholds.get(name)}
        datasets[name] = {**measured(of_one, over["datasets"][name]), **counts, **threshold}
    return {**measured(figures, over), "datasets": datasets}


def _sweep(way: str, judged: openset.Judged) -> Iterator[tuple[Any, ...]]:
    """Points of the curves, of each data set and of their mean, thinned evenly where there are many."""
    for name in ["all", *np.unique(judged.dataset.astype(str))]:
        curve = openset.sweep(judged if name == "all" else judged.where(judged.dataset == name))
        kept = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), POINTS)).round().astype(int))
        # a row stands for the thresholds from above low up to high
        ends = np.where(np.isfinite(curve["high"]), curve["high"], np.nextafter(curve["low"], np.inf))
        values = np.column_stack([ends, curve["baks"], curve["baus"], curve["score"]])[kept]
        # a data set without any candidate has no threshold to be shown at
        bounded = np.isfinite(curve[["low", "high"]].to_numpy()).any(axis=1)
        whole = np.isfinite(values).all(axis=1) & bounded[kept]
        for point in values[whole].tolist():
            yield (way, name, *map(rounded, point))


def _lines(way: str, found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for name, figures in {"all": found, **found["datasets"]}.items():
        for figure in ("baks", "baus", "score"):
            yield way, name, figure, *(figures[figure][key] for key in ("value", "low", "high"))


def rounded_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with few digits, also those one level below."""
    return {
        name: {key: rounded(value) for key, value in found.items()} if isinstance(found, dict) else found
        for name, found in figures.items()
    }
