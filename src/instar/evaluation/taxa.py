"""How good a classifier of taxa is, with and without a sample's barcodes, and how many animals of each a sample has."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instar.annotations import read_annotations
from instar.errors import InputError
from instar.evaluation.answered import Answered, answered_of, logits_of, temperature_of
from instar.evaluation.answers import interval as accuracy
from instar.evaluation.answers import rounded
from instar.evaluation.barcoded import read_barcodes
from instar.evaluation.counted import ABUNDANCE, counted, searched_samples, sizes_of, truths_of
from instar.evaluation.stage import check_dataset
from instar.files import replacing, write_json
from instar.lineages import TAXON_RANKS, UNDER, read_lineages
from instar.metrics.calibration import expected_calibration_error, reliability_curve
from instar.splits import judged_split
from instar.tables import PHOTOGRAPHS, SPECIMENS_SHARD, TAXA_DATASET, TAXA_PREDICTIONS, read_table, write_table

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace

#: Ways of predicting: any class, or those that a sample's barcodes leave possible.
ALL, BARCODED, DIFFERENCE = "all taxa", "barcoded taxa", "difference"
#: What a classifier must beat to have learnt something: to name the taxon of most training crops, whatever it sees.
COMMON, GAIN = "most common in training", "gain over the most common"
ACCURACY = ["rank", "prediction", "crops", "photographs", "value", "low", "high", "mean_over_taxa"]
CLASSES = ["rank", "label", "train_crops", "held_out_crops", "top1", "top1_barcoded", "taken_for", "taken_for_crops"]


def taxa(
    classifier: Path,
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    barcodes: Path,
    found: Path,
    out: Path,
    out_photographs: Path,
    out_metrics: Path,
    out_classes: Path,
    out_reliability: Path,
    out_taxa: Path,
    out_abundance: Path,
    *,
    seed: int,
    shards: list[str],
    bootstrap: int,
) -> None:
    """Judge a classifier of taxa on held-out crops, and count the animals of each taxon in each sample.

    Each rank is judged on crops whose animal is sure to be of a taxon of that rank; one whose taxon is no class of the
    classifier is always wrong, also where no taxon above it is one. Intervals are of 95 %, by resampling photographs.
    The answers of a crop's ranks are a path from the top: of the orders the most probable one of the class that it is
    answered to be of, and so on (``Answered.path``).
    The temperature is fitted on validation. With barcodes, only classes that the sample's list leaves possible have a
    probability (``barcoded.allowed``), and theirs is divided by their sum; a sample without barcodes is not restricted.
    Beside each accuracy stands that of always naming the taxon of most training crops, and the mean over taxa, in which
    each held-out taxon weighs the same.

    All crops are counted, also those of photographs that trained: what is said of these is too good, and less so of
    validation, which fits recall, precision and temperature. How the intervals
    are made, and what they do not hold, stands in ``abundance.abundances``.

    Args:
        classifier: folder with the trained weights and their description.
        crops: folder of ``<shard>.tar`` with the crops.
        dataset: table of ``tables.TAXA_DATASET``.
        taxonomy: table of the taxa.
        annotations: COCO JSON with a split for each photograph.
        barcodes: table of the taxa barcoded in each sample.
        found: CSV of how many animals and crops of each size have each other (``dataset.found.FOUND``).
        out: gets a row of ``tables.TAXA_PREDICTIONS`` for each crop.
        out_photographs: gets no rows: photographs have no taxon.
        out_metrics: gets accuracies and temperature, as JSON.
        out_classes: gets the figures of each class at its own rank, as CSV.
        out_reliability: gets accuracy against confidence at the label's rank, without barcodes, as CSV.
        out_taxa: gets the accuracies with and without barcodes and their difference, as CSV.
        out_abundance: gets the animals of each taxon in each sample, as CSV.
        seed: of the resampling.
        shards: names of the shards.
        bootstrap: number of resamples, and of draws.

    Raises:
        InputError: if the classifier is missing, damaged or was trained on another dataset, a crop can't be read, or
            there is no crop to judge.
    """
    from instar.classifier.predict import Predictor

    predictor = Predictor(classifier)
    check_dataset(classifier, predictor.description, dataset, "run classifier again")
    labels = predictor.labels
    rows = read_table(dataset, TAXA_DATASET).to_pandas()
    detected = rows[rows["shard"] != SPECIMENS_SHARD].reset_index(drop=True)
    split = judged_split(rows["split"])
    is_labelled = (detected["split"] == split).to_numpy()
    if not is_labelled.any():
        raise InputError(f"{dataset}: no crop is for validation or test; raise records.annotation_test_share")
    if unknown := sorted(set(detected["label"].dropna()) - set(labels.names)):
        raise InputError(f"{classifier}: does not know {unknown[0]} of {dataset}; run classifier again")
    annotated = read_annotations(annotations)[0]
    splits = {one.key: one.split for one in annotated}
    # an animal whose taxon is no class is held out with its photograph, though its crop has no label
    without_class = detected["reason"].str.startswith(UNDER, na=False) & (detected["photo_key"].map(splits) == split)
    is_judged = is_labelled | without_class.to_numpy(bool)
    logits = logits_of(predictor, crops, detected)
    is_validation = (detected["split"] == "validation").to_numpy()
    temperature = temperature_of(predictor, logits[is_validation], labels, detected["label"][is_validation])
    lists = read_barcodes(barcodes)
    answered = answered_of(predictor, logits, temperature, detected["observation_id"], lists, taxonomy)
    write_table(out, list(_predictions(detected, answered)), TAXA_PREDICTIONS)
    write_table(out_photographs, [], PHOTOGRAPHS)
    trained = trained_of(rows, labels)
    table = list(_accuracies(detected, answered, is_judged, trained, resamples=bootstrap, seed=seed))
    _write_csv(out_taxa, table, ACCURACY)
    _write_csv(out_classes, _classes(detected, answered, is_judged, trained), CLASSES)
    confidence, right = _sure(detected, answered, is_labelled)
    curve = reliability_curve(confidence, right)
    _write_csv(out_reliability, curve.to_dict("records"), list(curve.columns))
    samples = searched_samples(crops, shards)
    truths = truths_of(annotated, read_lineages(taxonomy))
    counts = list(counted(detected, answered, sizes_of(found), samples, splits, truths, draws=bootstrap, seed=seed))
    _write_csv(out_abundance, counts, ABUNDANCE)
    figures = {
        "rows": {
            "in": len(detected),
            "out": int(is_judged.sum()),
            "dropped": {"not held out": len(detected) - int(is_judged.sum())},
        },
        "split": split,
        "crops": int(is_judged.sum()),
        "of_no_class": int(without_class.sum()),
        "photographs": int(detected["photo_key"][is_judged].nunique()),
        "temperature": rounded(temperature),
        "expected_calibration_error": rounded(expected_calibration_error(confidence, right)),
        "samples": {
            "samples": len(samples),
            "with_barcodes": len(samples.keys() & lists.keys()),
            "restricted": int(detected["observation_id"][answered.is_restricted].nunique()),
        },
        "accuracy": _nested(table, trained),
    }
    write_json(out_metrics, figures)


def _predictions(rows: pd.DataFrame, answered: Answered) -> Iterator[dict[str, Any]]:
    names = np.array([*answered.labels.names, None], dtype=object)  # -1 is the last
    best = {rank: answered.best(rank, restricted=True) for rank in TAXON_RANKS}
    columns = ["key", "photo_key", "observation_id", "split", "label"]
    for index, values in enumerate(rows[columns].astype(object).where(rows[columns].notna(), None).itertuples(False)):
        row = dict(zip(columns, values, strict=True)) | {"restricted": bool(answered.is_restricted[index])}
        for rank, (classes, probabilities) in best.items():
            row |= {rank: names[classes[index]], f"{rank}_probability": float(probabilities[index])}
        yield row


def trained_of(rows: pd.DataFrame, labels: "LabelSpace") -> dict[str, Counter[str]]:
    """Training crops, specimens among them, of each class at each rank that their animal is sure to be of."""
    train = rows[rows["split"] == "train"]
    names = {rank: {labels.names[place] for place in labels.of_rank(rank)} for rank in TAXON_RANKS}
    return {rank: Counter(name for name in train[rank] if name in names[rank]) for rank in TAXON_RANKS}


def _most_common(counts: Counter[str]) -> str | None:
    return min(counts, key=lambda name: (-counts[name], name), default=None)


def _accuracies(
    rows: pd.DataFrame,
    answered: Answered,
    is_judged: np.ndarray,
    trained: Mapping[str, Counter[str]],
    *,
    resamples: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Rows of ``ACCURACY``; none for a rank that no judged crop's animal is known at.

    Of a rank without a class none tells what is the most common.
    """
    for rank in TAXON_RANKS:
        judged = is_judged & rows[rank].notna().to_numpy()
        if not judged.any():
            continue
        truth, photographs = rows[rank][judged].to_numpy(object), rows["photo_key"][judged].to_numpy(object)
        names = np.array([*answered.labels.names, None], dtype=object)
        hits = {
            way: (names[answered.best(rank, restricted=way == BARCODED)[0][judged]] == truth).astype(float)
            for way in (ALL, BARCODED)
        }
        hits[DIFFERENCE] = hits[BARCODED] - hits[ALL]
        if most_common := _most_common(trained[rank]):
            hits[COMMON] = (truth == most_common).astype(float)
            hits[GAIN] = hits[BARCODED] - hits[COMMON]
        common = {"rank": rank, "crops": int(judged.sum()), "photographs": len(set(photographs))}
        for way, values in hits.items():
            told = accuracy(values, photographs, None, resamples=resamples, seed=seed)
            balanced = rounded(pd.Series(values).groupby(truth).mean().mean())
            yield {**common, "prediction": way, **told, "mean_over_taxa": balanced}


def _nested(table: list[dict[str, Any]], trained: Mapping[str, Counter[str]]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in table:
        told = {"crops": row["crops"], "photographs": row["photographs"]}
        of_rank = found.setdefault(row["rank"], {**told, "most_common": _most_common(trained[row["rank"]])})
        of_rank[row["prediction"]] = {name: row[name] for name in ("value", "low", "high", "mean_over_taxa")}
    return found


def _classes(
    rows: pd.DataFrame, answered: Answered, is_judged: np.ndarray, trained: Mapping[str, Counter[str]]
) -> Iterator[dict[str, Any]]:
    """Rows of ``CLASSES``: of crops whose animal is of the class, also those labelled below it.

    What most of the wrong ones were taken for is told of answers with barcodes.
    """
    names = np.array([*answered.labels.names, None], dtype=object)
    for rank in TAXON_RANKS:
        best = {name: answered.best(rank, restricted=name == "top1_barcoded")[0] for name in CLASSES[4:6]}
        for place in answered.labels.of_rank(rank):
            name = answered.labels.names[place]
            of_class = is_judged & (rows[rank] == name).to_numpy()
            shares = {key: (found[of_class] == place).mean() if of_class.any() else None for key, found in best.items()}
            wrong = Counter(one for one in names[best["top1_barcoded"][of_class]] if one not in (name, None))
            other = _most_common(wrong)
            yield {
                "rank": rank,
                "label": name,
                "train_crops": trained[rank][name],
                "held_out_crops": int(of_class.sum()),
                **shares,
                "taken_for": other,
                "taken_for_crops": wrong[other] if other else 0,
            }


def _sure(rows: pd.DataFrame, answered: Answered, is_judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability, without barcodes, of the best class at the rank of each crop's label; whether it is right."""
    confidence, right = np.zeros(len(rows)), np.zeros(len(rows), bool)
    names = np.array([*answered.labels.names, None], dtype=object)
    for rank in TAXON_RANKS:
        at = is_judged & (rows["rank"] == rank).to_numpy()
        best, probabilities = answered.best(rank, restricted=False)
        confidence[at] = probabilities[at]
        right[at] = names[best[at]] == rows["label"][at].to_numpy(object)
    # sums of float32 may exceed 1 a little
    return np.minimum(confidence[is_judged], 1.0), right[is_judged]


def _write_csv(path: Path, rows: Any, columns: list[str]) -> None:
    with replacing(path) as temporary:
        pd.DataFrame(list(rows), columns=columns).to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.6g"
        )
