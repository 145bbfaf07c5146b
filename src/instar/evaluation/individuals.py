"""Judge who is who: which known individual a photograph shows, or that it is none of them."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from instar.errors import InputError
from instar.evaluation.answers import pixels_of, rounded
from instar.evaluation.calibrated import Halves
from instar.evaluation.stage import check_dataset
from instar.evaluation.submission import write_submission
from instar.evaluation.ways import Compared, Comparison, Settings, Vectors
from instar.files import sha256_of, write_csv, write_json
from instar.metrics import openset, reid
from instar.reid.gallery import Source, write_gallery
from instar.reid.photographs import Known, Photographs
from instar.reid.scores import best, similarities
from instar.splits import hash_order, judged_split
from instar.tables import (
    CROPS,
    IDENTITY_DATASET,
    IDENTITY_PREDICTIONS,
    INDIVIDUALS,
    NEW_INDIVIDUAL,
    read_table,
    write_table,
)

if TYPE_CHECKING:
    from instar.classifier.predict import Predictor

#: The columns of openset.csv: BAKS, BAUS and their score at thresholds; "all" is the mean over data sets.
SWEEP = ("way", "dataset", "threshold", "baks", "baus", "score")
#: The columns of cmc.csv: share of judged photographs whose individual is among the best so many.
CMC = ("way", "rank", "share")
#: The columns of individuals.csv: figures of each way to compare and each data set, with their intervals.
FIGURES = ("way", "dataset", "figure", "value", "low", "high")
#: The columns of matches.csv: judged photographs with the most similar one of the best candidate, to be looked at.
MATCHES = ("verdict", "key", "match", "label", "best", "answer", "score")
#: Of each verdict, so many.
SHOWN = 6
#: Points of a curve, at most, and ranks of the CMC.
POINTS, RANKS = 400, 20
TOP = 5
_ABOUT = pa.schema([CROPS.field(name) for name in ("key", "photo_sha256", "taxon_id")])
#: By whether the individual is new and whether the answer is right.
VERDICTS = {
    (False, True): "known, named right",
    (False, False): "known, named wrong or taken for new",
    (True, True): "new, told so",
    (True, False): "new, taken for a known one",
}
HELD_OUT = ("validation", "test")


def individuals(
    classifier: Path,
    crops: Path,
    dataset: Path,
    table: Path,
    out: Path,
    out_submission: Path,
    out_gallery: Path,
    out_metrics: Path,
    out_sweep: Path,
    out_cmc: Path,
    out_figures: Path,
    out_matches: Path,
    *,
    seed: int,
    bootstrap: int,
    settings: Settings,
    answer_by: str,
    threshold_by: str,
) -> None:
    """Answer each held-out photograph and each query with a known individual or ``new_individual``, and judge that.

    Held-out photographs are compared with those that trained, queries with all whose individual is known. The threshold
    below which the best candidate is not believed is the one with the best score, sqrt(BAKS · BAUS), on validation.
    Where validation itself is judged, each half of its individuals is judged with the other half's threshold. A split
    without new individuals counts each photograph a second time as new, with its own individual left out of the known
    ones: a stand-in that is told, since true newcomers may be more alike or less.

    Args:
        classifier: folder with the trained weights and their description.
        crops: folder of ``<shard>.tar`` with the crops.
        dataset: table of ``tables.IDENTITY_DATASET``.
        table: of ``tables.INDIVIDUALS``.
        out: gets a row of ``tables.IDENTITY_PREDICTIONS`` for each held-out crop and each query.
        out_submission: gets the answers for the queries, as AnimalCLEF25 takes them.
        out_gallery: folder; gets the embeddings of all photographs whose individual is known (``reid.gallery``).
        out_metrics: gets all figures, as JSON.
        out_sweep: gets the figures at each threshold, as CSV.
        out_cmc: gets the cumulative match characteristic, as CSV.
        out_figures: gets BAKS, BAUS and score of each way and data set, as CSV.
        out_matches: gets a few judged photographs of each verdict with what they were compared with, as CSV.
        seed: of the resampling.
        bootstrap: number of resamples, of encounters.
        settings: of the ways to compare.
        answer_by: the way whose scores answer.
        threshold_by: all: one threshold; dataset: one for each data set.

    Raises:
        InputError: if the classifier is missing, damaged or was trained on another dataset, a crop can't be read, there
            is no crop to judge, or the sample submission asks for what is not there.
    """
    from instar.classifier.data import CropReader
    from instar.classifier.model import WEIGHTS
    from instar.classifier.predict import Predictor

    predictor = Predictor(classifier)
    check_dataset(classifier, predictor.description, dataset, "run classifier again")
    rows = read_table(dataset, IDENTITY_DATASET).to_pandas()
    given = len(rows)
    rows = rows[rows["split"].notna()].rename(columns={"observation_id": "encounter"}).reset_index(drop=True)
    judged = judged_split(rows["split"])
    if not (rows["split"] == judged).any():
        raise InputError(f"{dataset}: no photograph is for validation or test; set dataset.split_by to time")
    vectors = _vectors(predictor, crops, rows, flips=settings.flips)
    part = {split: np.flatnonzero(rows["split"] == split) for split in ("train", *HELD_OUT, "query")}
    known = np.flatnonzero(rows["split"] != "query")
    comparison = Comparison(rows, vectors, predictor.labels.names, CropReader(crops, rows).read, settings)
    galleries = {"validation": part["train"], "test": part["train"], "query": known}
    singles = {split: comparison.single(part[split], of) for split, of in galleries.items() if len(part[split])}
    comparison.calibrate(singles.get("validation", singles[judged]))
    at = {split: comparison.ways(single) for split, single in singles.items()}
    if "validation" not in at:
        print(
            "evaluation: no photograph is for validation; the test chooses its own thresholds, crosswise",
            file=sys.stderr,
        )
    chooser = "validation" if "validation" in at else judged
    per_dataset = threshold_by == "dataset"
    ways: dict[str, Any] = {}
    sweeps: list[tuple[Any, ...]] = []
    ranks: list[tuple[Any, ...]] = []
    figures: list[tuple[Any, ...]] = []
    told = {"simulated_new": not (rows["is_new"][part[chooser]] == True).any(), "crosswise": chooser == judged}  # noqa: E712
    for way in at[judged]:
        chosen = _Choice.of(rows, part[chooser], at[chooser][way], per_dataset=per_dataset)
        of_judged = (
            chosen if chooser == judged else _Choice.of(rows, part[judged], at[judged][way], per_dataset=per_dataset)
        )
        answer = of_judged.crosswise() if chooser == judged else of_judged.judged.answers(chosen.thresholds)
        ways[way] = _figures_of(of_judged.judged, answer, chosen.thresholds, resamples=bootstrap, seed=seed)
        ranking = reid.identity_ranking(at[judged][way].values, at[judged][way].targets(rows, part[judged]))
        encounters = rows["encounter"].to_numpy(dtype=object)[part[judged]]
        ways[way]["reid"] = _rounded(reid.figures(ranking, encounters, resamples=bootstrap, seed=seed))
        sweeps += _sweep(way, chosen.judged)
        ranks += [(way, k + 1, rounded(share)) for k, share in enumerate(reid.cmc(ranking, RANKS))]
        figures += _lines(way, ways[way])
        if way == answer_by:
            thresholds, own = chosen.thresholds, ranking
    predictions = [row for split in at for row in _predictions(rows, part[split], at[split][answer_by], thresholds)]
    write_table(out, predictions, IDENTITY_PREDICTIONS)
    answers = {row["image_id"]: row["answer"] for row in predictions if row["split"] == "query"}
    write_csv(out_matches, MATCHES, _matches([row for row in predictions if row["split"] == judged], seed))
    asked = read_table(table, INDIVIDUALS).to_pylist()
    submission = write_submission(out_submission, asked, answers, set(rows["label"][known]))
    for path, columns, lines in ((out_sweep, SWEEP, sweeps), (out_cmc, CMC, ranks), (out_figures, FIGURES, figures)):
        write_csv(path, columns, lines)
    source = Source(sha256_of(classifier / WEIGHTS), predictor.image_px)
    write_gallery(out_gallery, source, _gallery_rows(crops, rows.iloc[known]), vectors.embeddings[known])
    held = sum(len(part[split]) for split in at)
    write_json(
        out_metrics,
        {
            "rows": {
                "in": given,
                "out": held,
                "dropped": {"dropped by dataset": given - len(rows), "known, compared with": len(rows) - held},
            },
            "split": judged,
            "judged_chose_epoch": predictor.description.validation_chose and judged == "validation",
            **told,
            "answer_by": answer_by,
            "threshold_by": threshold_by,
            "photographs": len(part[judged]),
            "individuals": int(rows["label"][part[judged]].nunique()),
            "encounters": int(rows["encounter"][part[judged]].nunique()),
            "known_individuals": int(rows["label"][part["train"]].nunique()),
            "ways": ways,
            "photographs_ranked": _photographs(rows, vectors, part, judged, settings, bootstrap, seed),
            "leaks": _leaks(rows, part, judged, own),
            "calibrated_on": {
                way: {"pairs": found.pairs, "same": found.same, "few": found.few}
                for way, found in comparison.fusion.items()
            },
            "opposite_side": {split: rounded(of_split[answer_by].fallback_share) for split, of_split in at.items()},
            "submission": submission,
        },
    )


def _vectors(predictor: "Predictor", crops: Path, rows: pd.DataFrame, *, flips: bool) -> Vectors:
    """Embeddings and logits of all rows; with flips of a photograph and of its mirror image together."""
    from torch import full, nan

    from instar.reid.scores import unit, with_flips

    embeddings, logits = [], []
    for _, pixels in pixels_of(predictor, crops, rows, "evaluation"):
        nowhere = full((len(pixels), 2), nan)
        found = [
            (predictor.embeddings(view).cpu().numpy(), predictor.logits(view, nowhere).cpu().numpy())
            for view in ([pixels, pixels.flip(3)] if flips else [pixels])
        ]
        embeddings.append(with_flips(found[0][0], found[1][0]) if flips else unit(found[0][0]))
        logits.append(np.mean([each for _, each in found], axis=0))
    return Vectors(np.concatenate(embeddings), np.concatenate(logits))


@dataclass(frozen=True)
class _Choice:
    """Photographs that a threshold is chosen on.

    Attributes:
        judged: each photograph; where none is of a new individual, each a second time with its own left out.
        half: int64, shape (n,), of its individual.
        thresholds: that are best for all of them, by data set.
        per_dataset: whether each data set has its own.
    """

    judged: openset.Judged
    half: np.ndarray
    thresholds: dict[str, float]
    per_dataset: bool

    @classmethod
    def of(cls, rows: pd.DataFrame, part: np.ndarray, compared: Compared, *, per_dataset: bool) -> "_Choice":
        own = _judged(rows, part, compared, compared.values)
        if not own.is_new.any():
            left_out = compared.values.copy()
            target = compared.targets(rows, part)
            left_out[np.flatnonzero(target >= 0), target[target >= 0]] = -np.inf
            own = _with_new(own, _judged(rows, part, compared, left_out))
        half = Halves(own.identity).of(own.identity)
        return cls(own, half, openset.thresholds(own, per_dataset=per_dataset), per_dataset)

    def crosswise(self) -> np.ndarray:
        """Answers with the thresholds that are best for the other half of the individuals, object, shape (n,)."""
        found = np.full(len(self.judged), NEW_INDIVIDUAL, object)
        for half in (0, 1):
            of_half = self.half == half
            other = openset.thresholds(self.judged.where(~of_half), per_dataset=self.per_dataset)
            found[of_half] = self.judged.where(of_half).answers({**self.thresholds, **other})
        return found


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
        threshold = {"threshold": rounded(thresholds[name]) if name in thresholds else None}
        datasets[name] = {**measured(of_one, over["datasets"][name]), **counts, **threshold}
    return {**measured(figures, over), "datasets": datasets}


def _gallery_rows(crops: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``reid.gallery.GALLERY``."""
    parts = [read_table(crops / f"{shard}.parquet", _ABOUT).to_pandas() for shard in sorted(set(rows["shard"]))]
    about = pd.concat(parts).set_index("key").loc[rows["key"]]
    return rows.rename(columns={"label": "identity"}).assign(
        sha256=about["photo_sha256"].to_numpy(dtype=object), species=about["taxon_id"].to_numpy(dtype=object)
    )


def _sweep(way: str, judged: openset.Judged) -> Iterator[tuple[Any, ...]]:
    """Points of the curves, of each data set and of their mean, thinned evenly where there are many."""
    for name in ["all", *np.unique(judged.dataset.astype(str))]:
        curve = openset.sweep(judged if name == "all" else judged.where(judged.dataset == name))
        kept = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), POINTS)).round().astype(int))
        # a row stands for the thresholds from above low up to high
        ends = np.where(np.isfinite(curve["high"]), curve["high"], np.nextafter(curve["low"], np.inf))
        values = np.column_stack([ends, curve["baks"], curve["baus"], curve["score"]])[kept]
        for point in values[np.isfinite(values).all(axis=1)].tolist():
            yield (way, name, *map(rounded, point))


def _lines(way: str, found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for name, figures in {"all": found, **found["datasets"]}.items():
        for figure in ("baks", "baus", "score"):
            yield way, name, figure, *(figures[figure][key] for key in ("value", "low", "high"))


def _predictions(
    rows: pd.DataFrame, part: np.ndarray, compared: Compared, thresholds: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    identity, score = best(compared.values, compared.known)
    of_part = rows.iloc[part]
    answer = openset.answers(identity, score, of_part["dataset"].to_numpy(dtype=object), thresholds)
    order = np.argsort(-compared.values, axis=1, kind="stable")[:, :TOP]
    columns = ["key", "photo_key", "image_id", "dataset", "split", "label", "is_new"]
    told = of_part[columns].astype(object).where(of_part[columns].notna(), None)
    for place, (values, encounter) in enumerate(zip(told.itertuples(False), of_part["encounter"], strict=True)):
        scores = compared.values[place, order[place]]
        there = scores > -np.inf
        yield dict(zip(columns, values, strict=True)) | {
            "observation_id": encounter,
            "answer": str(answer[place]),
            "match": compared.match[place],
            "score": float(score[place]),
            "top": compared.known.identity[order[place][there]].tolist(),
            "top_score": scores[there].tolist(),
        }


def _matches(predictions: list[dict[str, Any]], seed: int) -> Iterator[tuple[Any, ...]]:
    """Rows of ``MATCHES``, a random few of each verdict."""
    by_verdict: dict[str, dict[str, dict[str, Any]]] = {verdict: {} for verdict in VERDICTS.values()}
    for row in predictions:
        if row["match"] is not None:
            right = row["answer"] == (NEW_INDIVIDUAL if row["is_new"] else row["label"])
            by_verdict[VERDICTS[row["is_new"], right]][row["key"]] = row
    for verdict, of_verdict in by_verdict.items():
        for key in hash_order(seed, of_verdict)[:SHOWN]:
            row = of_verdict[key]
            told = (row["match"], row["label"], row["top"][0], row["answer"], rounded(row["score"]))
            yield verdict, key, *told


def _photographs(
    rows: pd.DataFrame,
    vectors: Vectors,
    part: Mapping[str, np.ndarray],
    judged: str,
    settings: Settings,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Rank-k and mAP over the photographs of the known individuals by their embeddings."""
    queries, gallery = (Photographs.of(rows.iloc[part[split]]) for split in (judged, "train"))
    label = rows["label"].to_numpy(dtype=object)
    known = Known.of(label[part["train"]], gallery.dataset)
    asked, held = vectors.embeddings[part[judged]], vectors.embeddings[part["train"]]
    found = [
        reid.photograph_ranking(similarity, label[part[judged]][block][:, None] == label[part["train"]][None])
        for block, similarity, _ in similarities(asked, queries, held, gallery, known, rules=settings.rules)
    ]
    return _rounded(reid.figures(reid.joined(found), queries.encounter, resamples=resamples, seed=seed))


def _leaks(rows: pd.DataFrame, part: Mapping[str, np.ndarray], judged: str, ranking: reid.Ranking) -> dict[str, Any]:
    """Rank-1 of judged photographs whose encounter trains, too, and of the others: what a leak is worth."""
    trained = set(rows["encounter"][part["train"]])
    leaked = rows["encounter"].iloc[part[judged]].isin(trained).to_numpy()
    found = {}
    for name, chosen in (("encounter trains", leaked), ("encounter held out", ~leaked)):
        counted = ranking.counts & chosen
        found[name] = {
            "photographs": int(counted.sum()),
            "rank_1": rounded(float((ranking.rank[counted] == 1).mean())) if counted.any() else None,
        }
    return found


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: rounded(value) for key, value in found.items()} if isinstance(found, dict) else found
        for name, found in figures.items()
    }
