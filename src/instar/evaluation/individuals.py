"""Judge who is who: which known individual a photograph shows, or that it is none of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from instar.errors import InputError
from instar.evaluation.answers import pixels_of, rounded
from instar.evaluation.judging import CMC, FIGURES, SWEEP, Parts, judge, rounded_figures
from instar.evaluation.scored import write_scores
from instar.evaluation.stage import check_dataset
from instar.evaluation.submission import check_sample, write_submission
from instar.evaluation.ways import Compared, Comparison, Settings, Vectors
from instar.files import sha256_of, write_csv, write_json
from instar.metrics import reid
from instar.reid.answering import ANSWERS, Answering
from instar.reid.embeddings import REMEDY, embedded
from instar.reid.gallery import Source, write_gallery
from instar.reid.photographs import Known, Photographs
from instar.reid.scores import NONE, best, similarities
from instar.splits import hash_order
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

__all__ = ["CMC", "FIGURES", "MATCHES", "SWEEP", "VERDICTS", "individuals"]

#: The columns of matches.csv: judged photographs with the most similar one of the best candidate, to be looked at.
MATCHES = ("verdict", "key", "match", "label", "best", "answer", "score")
#: Of each verdict, so many.
SHOWN = 6
TOP = 5
_ABOUT = pa.schema([CROPS.field(name) for name in ("key", "photo_sha256", "taxon_id")])
#: By whether the individual is new and whether the answer is right.
VERDICTS = {
    (False, True): "known, named right",
    (False, False): "known, named wrong or taken for new",
    (True, True): "new, told so",
    (True, False): "new, taken for a known one",
}


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
    out_scores: Path | None = None,
) -> None:
    """Answer each held-out photograph and each query with a known individual or ``new_individual``, and judge that.

    Held-out photographs are compared with those that trained, queries with all whose individual is known. The threshold
    below which the best candidate is not believed is the one with the best score, sqrt(BAKS · BAUS), on validation.
    Where validation itself is judged, each half of its individuals is judged with the other half's thresholds and
    calibrations. Of a data set without new individuals each photograph counts a second time as new, with its own
    individual left out of the known ones: a stand-in that is told, since true newcomers may be more alike or less.

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
        out_scores: gets the scores of each single way, for ``scored.read_scores``; nothing is kept if None.

    Raises:
        InputError: if the classifier is missing, damaged or was trained on another dataset, a crop can't be read, there
            is no crop to judge, LightGlue's weights are missing, or the sample submission asks for what is not there.
    """
    from instar.classifier.data import CropReader
    from instar.classifier.model import WEIGHTS
    from instar.classifier.predict import Predictor

    if answer_by == "local" and settings.local == "none":
        raise InputError("evaluation.answer_by = local needs local features; set evaluation.local to sift or lightglue")
    asked = read_table(table, INDIVIDUALS).to_pylist()
    check_sample(out_submission, asked)
    predictor = Predictor(classifier)
    check_dataset(classifier, predictor.description, dataset, "run classifier again")
    table_rows = read_table(dataset, IDENTITY_DATASET).to_pandas()
    given, parts = len(table_rows), Parts.of(table_rows)
    rows, part, judged, known = parts.rows, parts.part, parts.judged, parts.known
    if not (rows["split"] == judged).any():
        raise InputError(f"{dataset}: no photograph is for validation or test; set dataset.split_by to time")
    matcher = settings.matcher()  # before the network runs, so that missing weights are told at once
    vectors = _vectors(predictor, crops, rows, flips=settings.flips)
    comparison = Comparison(rows, vectors, predictor.labels.names, CropReader(crops, rows).read, settings, matcher)
    singles = {split: comparison.single(part[split], of) for split, of in parts.galleries.items()}
    if out_scores is not None:
        write_scores(out_scores, parts, singles)
    comparison.calibrate(singles[parts.chooser])
    at = {split: comparison.ways(single, parts.half if split == judged else None) for split, single in singles.items()}
    found = judge(parts, at, threshold_by=threshold_by, bootstrap=bootstrap, seed=seed)
    thresholds = found.thresholds[answer_by]
    answered = {split: of_split[answer_by].answers(rows, part[split], thresholds) for split, of_split in at.items()}
    answered[judged] = found.answers[answer_by]  # by the other half's threshold where these choose for themselves
    predictions = [
        row for split in at for row in _predictions(rows, part[split], at[split][answer_by], answered[split])
    ]
    write_table(out, predictions, IDENTITY_PREDICTIONS)
    write_csv(out_matches, MATCHES, _matches([row for row in predictions if row["split"] == judged], seed))
    submission = write_submission(out_submission, asked, parts.answers(answered.get("query")))
    write_csv(out_sweep, SWEEP, found.sweeps)
    write_csv(out_cmc, CMC, found.ranks)
    write_csv(out_figures, FIGURES, found.figures)
    source = Source(sha256_of(classifier / WEIGHTS), predictor.image_px)
    answering = Answering(
        answer_by=answer_by,
        neighbours=settings.neighbours,
        flips=settings.flips,
        sides=settings.sides,
        classes=comparison.class_datasets,
        calibrations=comparison.fusion,
        thresholds=found.thresholds,
    )
    write_gallery(
        out_gallery,
        source,
        _gallery_rows(crops, rows.iloc[known]),
        vectors.embeddings[known],
        beside={ANSWERS: answering.told()},
    )
    held = sum(len(part[split]) for split in at)
    write_json(
        out_metrics,
        {
            "rows": {
                "in": given,
                "out": held,
                "dropped": {"dropped by dataset": given - len(rows), "known, compared with": len(rows) - held},
            },
            "dataset_md5": predictor.description.dataset_md5,
            "split": judged,
            "judged_chose_epoch": predictor.description.validation_chose and judged == "validation",
            "simulated_new": found.simulated_new,
            "crosswise": found.crosswise,
            "without_other_half": found.without_other_half,
            "answer_by": answer_by,
            "threshold_by": threshold_by,
            "photographs": len(part[judged]),
            "individuals": int(rows["label"][part[judged]].nunique()),
            "encounters": int(rows["encounter"][part[judged]].nunique()),
            "known_individuals": int(rows["label"][part["train"]].nunique()),
            "ways": found.ways,
            "photographs_ranked": _photographs(rows, vectors, part, judged, settings, bootstrap, seed),
            "leaks": _leaks(rows, part, judged, found.rankings[answer_by]),
            "calibrated_on": {
                way: {"pairs": fitted.pairs, "same": fitted.same, "few": fitted.few}
                for way, fitted in comparison.fusion.items()
            },
            "opposite_side": {split: rounded(of_split[answer_by].fallback_share) for split, of_split in at.items()},
            "submission": submission,
        },
    )


def _vectors(predictor: "Predictor", crops: Path, rows: pd.DataFrame, *, flips: bool) -> Vectors:
    """Of all rows; with flips of a photograph and of its mirror image together.

    Raises:
        InputError: if one is nothing to compare by.
    """
    found = []
    for part, pixels in pixels_of(predictor, crops, rows, "evaluation"):
        keys = rows["key"].iloc[part].tolist()
        embeddings, logits = embedded(predictor, pixels, keys, flips=flips)
        if len(nothing := np.flatnonzero(~embeddings.any(axis=1))):
            raise InputError(f"{keys[nothing[0]]}: the classifier's embedding of it is 0, which is like none; {REMEDY}")
        found.append((embeddings, logits))
    return Vectors(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _gallery_rows(crops: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``reid.gallery.GALLERY``."""
    parts = [read_table(crops / f"{shard}.parquet", _ABOUT).to_pandas() for shard in sorted(set(rows["shard"]))]
    about = pd.concat(parts).set_index("key").loc[rows["key"]]
    return rows.rename(columns={"label": "identity"}).assign(
        sha256=about["photo_sha256"].to_numpy(dtype=object), species=about["taxon_id"].to_numpy(dtype=object)
    )


def _predictions(
    rows: pd.DataFrame, part: np.ndarray, compared: Compared, answer: np.ndarray
) -> Iterator[dict[str, Any]]:
    _, score = best(compared.values, compared.known)
    of_part = rows.iloc[part]
    order = np.argsort(-compared.values, axis=1, kind="stable")[:, :TOP]
    columns = ["key", "photo_key", "image_id", "dataset", "split", "label", "is_new"]
    told = of_part[columns].astype(object).where(of_part[columns].notna(), None)
    for place, (values, encounter) in enumerate(zip(told.itertuples(False), of_part["encounter"], strict=True)):
        scores = compared.values[place, order[place]]
        there = scores > NONE
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
    return rounded_figures(reid.figures(reid.joined(found), queries.encounter, resamples=resamples, seed=seed))


def _leaks(rows: pd.DataFrame, part: Mapping[str, np.ndarray], judged: str, ranking: reid.Ranking) -> dict[str, Any]:
    """Rank-1 within each data set of photographs whose encounter trains, too, and of the others: what a leak is worth.

    Of a photograph without date nobody knows whether others of its encounter train.
    """
    of_judged = rows.iloc[part[judged]]
    dated = of_judged["observed_at"].notna().to_numpy()
    leaked = of_judged["encounter"].isin(set(rows["encounter"][part["train"]])).to_numpy()
    groups = {"encounter trains": dated & leaked, "encounter held out": dated & ~leaked, "no date": ~dated}
    found: dict[str, Any] = {}
    for dataset in sorted(set(of_judged["dataset"])):
        own = ranking.counts & (of_judged["dataset"] == dataset).to_numpy()
        found[dataset] = {name: _rank_1(ranking, own & chosen) for name, chosen in groups.items()}
    return found


def _rank_1(ranking: reid.Ranking, chosen: np.ndarray) -> dict[str, Any]:
    share = rounded(float((ranking.rank[chosen] == 1).mean())) if chosen.any() else None
    return {"photographs": int(chosen.sum()), "rank_1": share}
