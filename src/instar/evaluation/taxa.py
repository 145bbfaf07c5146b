"""How good a classifier of taxa is, with and without a sample's barcodes, and how many animals of each a sample has."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instar.annotations import read_annotations
from instar.classifier.labels import targets_of
from instar.errors import InputError
from instar.evaluation.abundance import Finding, abundances, interval
from instar.evaluation.answers import interval as accuracy
from instar.evaluation.answers import pixels_of, rounded
from instar.evaluation.barcoded import allowed, members, read_barcodes
from instar.evaluation.stage import check_dataset
from instar.files import replacing, write_json
from instar.lineages import TAXON_RANKS, read_lineages
from instar.metrics.calibration import expected_calibration_error, fitted_temperature, reliability_curve
from instar.splits import judged_split, stable_hash
from instar.tables import (
    PHOTOGRAPHS,
    SPECIMENS_SHARD,
    TAXA_DATASET,
    TAXA_PREDICTIONS,
    csv_rows,
    read_table,
    write_table,
)

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.predict import Predictor

#: Ways of predicting: any class, or those that a sample's barcodes leave possible.
ALL, BARCODED, DIFFERENCE = "all taxa", "barcoded taxa", "difference"
ACCURACY = ["rank", "prediction", "crops", "photographs", "value", "low", "high"]
ABUNDANCE = [
    "sample",
    "photographs",
    "trained_on",
    "restricted",
    "rank",
    "taxon",
    "detections",
    "animals",
    "low",
    "high",
]
CLASSES = ["rank", "label", "train_crops", "held_out_crops", "top1", "top1_barcoded"]


@dataclass(frozen=True)
class Answered:
    """What the classifier says of crops.

    Attributes:
        labels: the classes.
        nodes: float32, shape (n, n_classes), calibrated probability of every class.
        restricted: the same where a sample's barcodes leave out the other classes.
        outputs: float32, shape (n, n_outputs), what ``restricted`` is the sum of.
        is_restricted: bool, shape (n,), whether they left out something.
    """

    labels: "LabelSpace"
    nodes: np.ndarray
    restricted: np.ndarray
    outputs: np.ndarray
    is_restricted: np.ndarray

    def best(self, rank: str, *, restricted: bool) -> tuple[np.ndarray, np.ndarray]:
        """The most probable class of a rank, int64 (n,), -1 where none is possible, and its probability, float32."""
        of_rank = self.labels.of_rank(rank)
        scores = (self.restricted if restricted else self.nodes)[:, of_rank]
        if not len(of_rank):
            return np.full(len(scores), -1), np.zeros(len(scores), np.float32)
        top = scores.max(axis=1)
        return np.where(top > 0, of_rank[scores.argmax(axis=1)], -1), top


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
    bootstrap: int,
) -> None:
    """Judge a classifier of taxa on held-out crops, and count the animals of each taxon in each sample.

    Each rank is judged on crops whose animal is sure to be of a taxon of that rank; one whose taxon is no class of the
    classifier is always wrong, but for those of which no taxon is a class at any rank: the dataset has dropped and
    counted them. Intervals are of 95 %, by resampling photographs. The temperature is fitted on
    validation. With barcodes, only classes that the sample's list leaves possible have a probability
    (``barcoded.allowed``), and theirs is divided by their sum; a sample without barcodes is not restricted.

    All crops are counted, also those of photographs that trained: what is said of these is too good. How the intervals
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
    is_judged = (detected["split"] == split).to_numpy()
    if not is_judged.any():
        raise InputError(f"{dataset}: no crop is for validation or test; raise records.annotation_test_share")
    if unknown := sorted(set(detected["label"].dropna()) - set(labels.names)):
        raise InputError(f"{classifier}: does not know {unknown[0]} of {dataset}; run classifier again")
    logits = _logits(predictor, crops, detected)
    is_validation = (detected["split"] == "validation").to_numpy()
    temperature = _temperature(predictor, logits[is_validation], labels, detected["label"][is_validation])
    lists = read_barcodes(barcodes)
    answered = _answered(predictor, logits, temperature, detected["observation_id"], lists, taxonomy)
    write_table(out, list(_predictions(detected, answered)), TAXA_PREDICTIONS)
    write_table(out_photographs, [], PHOTOGRAPHS)
    table = list(_accuracies(detected, answered, is_judged, resamples=bootstrap, seed=seed))
    _write_csv(out_taxa, table, ACCURACY)
    _write_csv(out_classes, _classes(detected, answered, is_judged, predictor.description.train_crops), CLASSES)
    confidence, right = _sure(detected, answered, is_judged)
    curve = reliability_curve(confidence, right)
    _write_csv(out_reliability, curve.to_dict("records"), list(curve.columns))
    splits = {one.key: one.split for one in read_annotations(annotations)[0]}
    counted = list(_abundance(detected, answered, _finding(found), splits, draws=bootstrap, seed=seed))
    _write_csv(out_abundance, counted, ABUNDANCE)
    samples = set(detected["observation_id"])
    figures = {
        "rows": {
            "in": len(detected),
            "out": int(is_judged.sum()),
            "dropped": {"not held out": len(detected) - int(is_judged.sum())},
        },
        "split": split,
        "crops": int(is_judged.sum()),
        "photographs": int(detected["photo_key"][is_judged].nunique()),
        "temperature": rounded(temperature),
        "expected_calibration_error": rounded(expected_calibration_error(confidence, right)),
        "samples": {
            "samples": len(samples),
            "with_barcodes": len(samples & set(lists)),
            "restricted": int(detected["observation_id"][answered.is_restricted].nunique()),
        },
        "accuracy": _nested(table),
    }
    write_json(out_metrics, figures)


def _logits(predictor: "Predictor", crops: Path, rows: pd.DataFrame) -> np.ndarray:
    from torch import from_numpy

    from instar.classifier.data import places_of

    places = places_of(rows)
    parts = [np.zeros((0, len(targets_of(predictor.labels, predictor.description.loss).outputs)), np.float32)]
    for part, pixels in pixels_of(predictor, crops, rows, "evaluation"):
        parts.append(predictor.logits(pixels, from_numpy(places[part])).cpu().numpy())
    return np.concatenate(parts)


def _nodes(predictor: "Predictor", logits: np.ndarray, temperature: float) -> np.ndarray:
    from torch import from_numpy

    return np.asarray(predictor.nodes(from_numpy(logits), temperature=temperature).cpu().numpy())


def _temperature(predictor: "Predictor", logits: np.ndarray, labels: "LabelSpace", names: "pd.Series[str]") -> float:
    """That of validation; 1 where it has no crop."""
    targets = labels.targets(names)
    at = np.arange(len(targets))
    return fitted_temperature(lambda temperature: _nodes(predictor, logits, temperature)[at, targets])


def _answered(
    predictor: "Predictor",
    logits: np.ndarray,
    temperature: float,
    samples: "pd.Series[str]",
    lists: dict[str, set[str]],
    taxonomy: Path,
) -> Answered:
    labels, lineages = predictor.labels, read_lineages(taxonomy)
    outputs = targets_of(labels, predictor.description.loss).outputs
    stays = np.ones(logits.shape, bool)
    for sample in set(samples) & set(lists):
        stays[(samples == sample).to_numpy()] = allowed(labels, outputs, lineages, lists[sample])
    masked = np.where(stays, logits, -np.inf).astype(np.float32)
    shifted = np.exp((masked - masked.max(axis=1, keepdims=True, initial=-np.inf)) / temperature)
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    nodes, restricted = (_nodes(predictor, each, temperature) for each in (logits, masked))
    return Answered(labels, nodes, restricted, probabilities, np.asarray(~stays.all(axis=1)))


def _predictions(rows: pd.DataFrame, answered: Answered) -> Iterator[dict[str, Any]]:
    names = np.array([*answered.labels.names, None], dtype=object)  # -1 is the last
    best = {rank: answered.best(rank, restricted=True) for rank in TAXON_RANKS}
    columns = ["key", "photo_key", "observation_id", "split", "label"]
    for index, values in enumerate(rows[columns].astype(object).where(rows[columns].notna(), None).itertuples(False)):
        row = dict(zip(columns, values, strict=True)) | {"restricted": bool(answered.is_restricted[index])}
        for rank, (classes, probabilities) in best.items():
            row |= {rank: names[classes[index]], f"{rank}_probability": float(probabilities[index])}
        yield row


def _accuracies(
    rows: pd.DataFrame, answered: Answered, is_judged: np.ndarray, *, resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Rows of ``ACCURACY``; none for a rank that no judged crop's animal is known at."""
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
        common = {"rank": rank, "crops": int(judged.sum()), "photographs": len(set(photographs))}
        for way, values in hits.items():
            yield {**common, "prediction": way, **accuracy(values, photographs, None, resamples=resamples, seed=seed)}


def _nested(table: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in table:
        of_rank = found.setdefault(row["rank"], {"crops": row["crops"], "photographs": row["photographs"]})
        of_rank[row["prediction"]] = {name: row[name] for name in ("value", "low", "high")}
    return found


def _classes(
    rows: pd.DataFrame, answered: Answered, is_judged: np.ndarray, train_crops: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Rows of ``CLASSES``: of crops whose animal is of the class, also those labelled below it."""
    for rank in TAXON_RANKS:
        best = {name: answered.best(rank, restricted=name == "top1_barcoded")[0] for name in CLASSES[-2:]}
        for place in answered.labels.of_rank(rank):
            name = answered.labels.names[place]
            of_class = is_judged & (rows[rank] == name).to_numpy()
            shares = {key: (found[of_class] == place).mean() if of_class.any() else None for key, found in best.items()}
            yield {
                "rank": rank,
                "label": name,
                "train_crops": train_crops[place],
                "held_out_crops": int(of_class.sum()),
                **shares,
            }


def _sure(rows: pd.DataFrame, answered: Answered, is_judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability, without barcodes, of the best class at the rank of each judged crop's label; whether it is right."""
    confidence, right = np.zeros(len(rows)), np.zeros(len(rows), bool)
    names = np.array([*answered.labels.names, None], dtype=object)
    for rank in TAXON_RANKS:
        at = is_judged & (rows["rank"] == rank).to_numpy()
        best, probabilities = answered.best(rank, restricted=False)
        confidence[at] = probabilities[at]
        right[at] = names[best[at]] == rows["label"][at].to_numpy(object)
    # sums of float32 may exceed 1 a little
    return np.minimum(confidence[is_judged], 1.0), right[is_judged]


@dataclass(frozen=True)
class _Sizes:
    """What was found of each size, and where the sizes begin, pixels."""

    finding: Finding
    edges: np.ndarray


def _finding(found: Path) -> _Sizes:
    """The rows of validation."""
    names = ("split", "size", "from_px", "below_px", "animals", "found", "crops", "right")
    rows = [row for _, row in csv_rows(found, names) if row["split"] == "validation"]
    if not rows:
        raise InputError(f"{found}: has no row of validation; run dataset again")
    columns = (np.array([int(row[name]) for row in rows]) for name in names[4:])
    return _Sizes(Finding(*columns), np.array([int(row["from_px"]) for row in rows[1:]]))


def _abundance(
    rows: pd.DataFrame, answered: Answered, sizes: _Sizes, splits: dict[str, str], *, draws: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Rows of ``ABUNDANCE``: of each sample and rank the taxa that were detected or may be there.

    A detection is of the taxon of its most probable output and of those above it.
    """
    labels = answered.labels
    recall, precision = sizes.finding.draws(np.random.default_rng(stable_hash(seed, "found")), draws)
    # every output that gave probabilities, in their order
    outputs = _outputs(answered)
    belongs = members(labels, outputs)
    best = belongs[answered.outputs.argmax(axis=1)]
    size = np.searchsorted(sizes.edges, rows["area"].to_numpy(), side="right")
    for sample in sorted(set(rows["observation_id"])):
        here = (rows["observation_id"] == sample).to_numpy()
        drawn = abundances(
            answered.outputs[here], size[here], belongs, recall, precision, seed=stable_hash(seed, sample)
        )
        middle, low, high = interval(drawn)
        photographs = set(rows["photo_key"][here])
        common = {
            "sample": sample,
            "photographs": len(photographs),
            "trained_on": sum(splits.get(key) == "train" for key in photographs),
            "restricted": bool(answered.is_restricted[here].any()),
        }
        for rank in reversed(TAXON_RANKS):
            for place in labels.of_rank(rank):
                detections = int(best[here, place].sum())
                if detections or high[place] > 0:
                    told = {"detections": detections, "animals": middle[place], "low": low[place], "high": high[place]}
                    yield {**common, "rank": rank, "taxon": labels.names[place], **told}


def _outputs(answered: Answered) -> np.ndarray:
    """The class of each output."""
    labels, wide = answered.labels, answered.outputs.shape[1]
    return labels.leaves if wide == len(labels.leaves) else np.arange(len(labels))


def _write_csv(path: Path, rows: Any, columns: list[str]) -> None:
    with replacing(path) as temporary:
        pd.DataFrame(list(rows), columns=columns).to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.6g"
        )
