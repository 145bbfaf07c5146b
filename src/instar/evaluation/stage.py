"""The stage ``evaluation``."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from instar.classifier.labels import RANKS
from instar.errors import InputError
from instar.evaluation import photographs
from instar.evaluation.answers import Answers, Logits, Truth, answers_by_place, of_rows, rounded
from instar.evaluation.calibrated import THRESHOLDS, Sure, Temperatures, answers_at, roll_up_at, sureness, temperatures
from instar.evaluation.groups import accuracy_row, class_table, genus_pairs, group_table
from instar.evaluation.other import Accepted, against, read_other
from instar.evaluation.places import WRONG_KM, wrong_places
from instar.files import md5_of, replacing, write_json
from instar.metrics.calibration import expected_calibration_error, reliability_curve, roll_up_curve
from instar.metrics.scoring import sheet
from instar.splits import judged_split
from instar.tables import DATASET, PHOTOGRAPHS, PREDICTIONS, read_batches, write_table

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.model import Description
    from instar.classifier.predict import Predictor

_COLUMNS = ["key", "shard", "offset", "size", "observation_id", "label", "genus", "basis", "latitude", "longitude"]
_COLUMNS += ["split"]


def evaluation(
    classifier: Path,
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    other: Path,
    synonyms: Path,
    out: Path,
    out_photographs: Path,
    out_metrics: Path,
    out_classes: Path,
    out_confusion: Path,
    out_accuracy: Path,
    out_groups: Path,
    out_reliability: Path,
    out_rollup: Path,
    out_identifiers: Path,
    *,
    seed: int,
    shards: list[str],
    name_confidence: int,
    bootstrap: int,
    resolutions: list[int],
    region_deg: float,
    wanted_accuracy: float,
    photo_boxes: int,
) -> None:
    """Judge the classifier on held-out crops and photographs: the split test where there is one, else validation.

    Species are ranked among species and genera among genera; a genus's probability holds that of its species.
    Intervals are of 95 %, by resampling observations. Where the classifier learnt from places, it is judged with the
    true one, with none, and with a wrong one, the place of another crop at least 1,000 km away; crops that have no
    wrong place are left out of the last. The temperature is fitted on validation; where validation is also judged, each
    half of its observations is judged with the other half's. Photographs are judged at it, too, as identify answers.

    Args:
        classifier: folder with the trained weights and their description.
        crops: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the crops.
        dataset: table of their labels and splits.
        taxonomy: table of the photographs' taxa.
        annotations: COCO JSON with a split for each annotated photograph; one that trained the detector or chose its
            weights is not judged, its crops are.
        other: CSV of another identifier's answers: photo_key and top1 to top5; a header alone compares nothing.
        synonyms: CSV with the columns name and accepted, or a backbone.jsonl, by which names are compared.
        out: gets the five best species and genera of each judged crop.
        out_photographs: gets those of each photograph of a held-out observation.
        out_metrics: gets top-1 and top-5 over crops (micro) and over classes (macro), and all other figures, as JSON.
        out_classes: gets the figures of each class, as CSV.
        out_confusion: gets the true and the predicted genus of each crop, as CSV.
        out_accuracy: gets a line of accuracies for each resolution and kind of place, as CSV.
        out_groups: gets the accuracy by class size, by source and by region, as CSV.
        out_reliability: gets accuracy against confidence at the fitted temperature, as CSV.
        out_rollup: gets accuracy and coverage by threshold, when the lowest rank that is sure is answered, as CSV.
        out_identifiers: gets the answers and points of both identifiers for each photograph, as CSV.
        seed: of the resampling, the wrong places and the draw of photographs.
        shards: names of the shards.
        name_confidence: of an answer of GBIF's backbone, percent; one with less is no match.
        bootstrap: number of resamples.
        resolutions: sides of the network's input to judge at, pixels; the training's own comes first in any case.
        region_deg: side of a region, degrees.
        wanted_accuracy: of the roll-up's answers; the threshold is chosen for it on validation crops, crosswise by half
            of their observations where these are judged.
        photo_boxes: crops of a photograph that are summed, those with the highest scores.

    Raises:
        InputError: if the classifier is missing or damaged, a crop can't be read, there is no crop to judge, the
            classifier was trained on another dataset or can't take a resolution, or a table of the other identifier
            is damaged.
    """
    from instar.classifier.data import places_of
    from instar.classifier.predict import Predictor

    told = read_other(other)
    accepted = Accepted(synonyms, taxonomy, name_confidence=name_confidence)
    predictor = Predictor(classifier)
    description, labels = predictor.description, predictor.labels
    validation, judged = _rows(dataset)
    _check(validation, judged, description, classifier, dataset)
    resampling: dict[str, int] = {"resamples": bootstrap, "seed": seed}
    truth = _truth(judged, labels)
    places = _places(judged, description, seed)
    own = _judge(predictor, crops, validation, judged, places, out.parent)
    settings = [(predictor.image_px, own.answers)]
    for image_px in dict.fromkeys(resolutions):
        if image_px != description.image_px:
            rebuilt = Predictor(classifier, image_px=image_px)
            what = f"evaluation at {image_px} px"
            settings.append((image_px, answers_by_place(rebuilt, crops, judged, places, what)))
    table = list(_settings(truth, settings, places, resampling))
    found = own.answers[next(iter(places))]
    write_table(out, _predictions(judged, found, truth), PREDICTIONS)
    _write_csv(out_classes, class_table(truth, found, description.train_crops))
    _write_csv(out_confusion, genus_pairs(truth, found))
    _write_csv(out_accuracy, pd.DataFrame([accuracy_row(row) for row in table]))
    groups = group_table(
        truth, found, judged, places_of(judged), description.train_crops, region_deg=region_deg, **resampling
    )
    _write_csv(out_groups, groups)
    sure = sureness(found, truth), sureness(own.calibrated, truth)
    calibration = _calibration(*sure, out_reliability, out_rollup)
    of_judged = Sure.of(own.calibrated, truth, own.temperatures.halves)
    threshold, at = roll_up_at(of_judged, own.validated, wanted_accuracy, crosswise=judged is validation)
    calibration["roll_up"] = {
        "wanted_accuracy": wanted_accuracy,
        "threshold": None if threshold is None else rounded(threshold),
        "at": None if at is None else {name: rounded(figure) for name, figure in at.items()},
    }
    held_out = set(judged["observation_id"])
    given = photographs.held_out(
        crops, dataset, taxonomy, annotations, held_out, labels, shards=shards, seed=seed, boxes=photo_boxes
    )
    if given.photographs.empty:
        print(f"evaluation: no whole photograph can be judged: {given.told}", file=sys.stderr)
    of_photographs = photographs.answers_of(predictor, crops, given, own.temperatures)
    write_table(out_photographs, photographs.rows_of(given, of_photographs), PHOTOGRAPHS)
    compared: tuple[pd.DataFrame, dict[str, Any] | None] = (sheet([], [], [], []), None)
    if told:
        assert given.no_class is not None
        unknown = given.no_class.of_keys(set(told))
        of_unknown = photographs.answers_of(predictor, crops, unknown, own.temperatures)
        ours = photographs.species_of(given, of_photographs) + photographs.species_of(unknown, of_unknown)
        both = pd.concat([given.photographs, unknown.photographs], ignore_index=True)
        known = photographs.of_study(crops, shards, set(told))
        compared = against(both, ours, told, other, accepted, known=known, **resampling)
    _write_csv(out_identifiers, compared[0])
    metrics = {
        "rows": {"in": len(judged), "out": len(truth.targets), "dropped": {}},
        "split": judged["split"].iloc[0],
        "judged_chose_epoch": description.validation_chose and judged is validation,
        **_numbers(truth, places_of(judged), places),
        **{f"{rank}_accuracy": table[0][f"{rank}_accuracy"] for rank in RANKS},
        "resolutions": _nested(table),
        "calibration": {"temperature": rounded(own.temperatures.all), **calibration},
        "photographs": photographs.figures_of(given, of_photographs, **resampling),
        "identifiers": compared[1],
    }
    write_json(out_metrics, metrics)


def _rows(dataset: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the split validation, and of the one that is judged: test where there is one, else the same."""
    splits = pa.array(["validation", "test"])
    schema = pa.schema([DATASET.field(name) for name in _COLUMNS])
    parts = [schema.empty_table()]
    for batch in read_batches(dataset, DATASET, _COLUMNS):
        table = pa.table(batch).cast(schema)  # texts may be dictionaries
        parts.append(table.filter(pc.is_in(table["split"], value_set=splits)))
    rows = pa.concat_tables(parts).to_pandas()
    validation, test = (rows[rows["split"] == split].reset_index(drop=True) for split in ("validation", "test"))
    return validation, test if judged_split(rows["split"]) == "test" else validation


def _check(
    validation: pd.DataFrame, judged: pd.DataFrame, description: "Description", classifier: Path, dataset: Path
) -> None:
    if judged.empty:
        raise InputError(f"{dataset}: no crop is for validation; lower dataset.validation_crops")
    unknown = sorted({*validation["label"], *judged["label"]} - set(description.labels.names))
    if unknown:
        raise InputError(f"{classifier}: does not know {unknown[0]} of {dataset}; run classifier again")
    check_dataset(classifier, description, dataset, "run classifier again")


def check_dataset(classifier: Path, description: "Description", dataset: Path, remedy: str) -> None:
    """Refuse a classifier of another dataset.

    Raises:
        InputError: with the remedy, if the dataset is not the one that the classifier was trained on.
    """
    md5 = md5_of(dataset) if dataset.is_file() else "none"
    if md5 != description.dataset_md5:
        raise InputError(
            f"{classifier}: trained on a dataset with md5 {description.dataset_md5}, {dataset} has {md5}; {remedy}"
        )


def _truth(rows: pd.DataFrame, labels: "LabelSpace") -> Truth:
    return Truth(labels, labels.targets(rows["label"]), rows["observation_id"].to_numpy(dtype=object))


def _places(rows: pd.DataFrame, description: "Description", seed: int) -> dict[str, np.ndarray]:
    """The kinds of places to judge with, each float32 (n, 2); the first is what the classifier is meant to get."""
    from instar.classifier.data import places_of

    true = places_of(rows)
    nowhere = np.full_like(true, np.nan)
    if not description.takes_place:
        return {"none": nowhere}
    return {"true": true, "none": nowhere, "wrong": wrong_places(true, rows["key"], seed=seed, least_km=WRONG_KM)}


@dataclass(frozen=True)
class _Own:
    """Answers at the resolution of training, by kind of place; with the first kind also calibrated."""

    answers: dict[str, Answers]
    calibrated: Answers
    temperatures: Temperatures
    validated: Sure  # the validation crops, calibrated


def _judge(
    predictor: "Predictor",
    crops: Path,
    validation: pd.DataFrame,
    judged: pd.DataFrame,
    places: dict[str, np.ndarray],
    scratch: Path,
) -> _Own:
    from instar.classifier.data import places_of

    main = next(iter(places))
    before = validation.iloc[:0] if judged is validation else validation
    seen = _truth(pd.concat([before, judged]), predictor.labels)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        logits = Logits(file)
        of_before = {main: places_of(before)}  # a classifier without place takes no notice
        answers_by_place(predictor, crops, before, of_before, "evaluation: temperature", logits)
        what = f"evaluation at {predictor.image_px} px"
        found = answers_by_place(predictor, crops, judged, places, what, logits)
        fitted = temperatures(predictor, logits, seen.targets, seen.observations, len(validation))
        at = np.arange(len(before), len(seen.targets))
        each = fitted.of(seen.observations[at])
        first = np.arange(len(validation))
        of_validation = answers_at(predictor, logits, first, fitted.of(seen.observations[first]))
        validated = Sure.of(of_validation, seen.of_rows(first), fitted.halves)
        return _Own(found, answers_at(predictor, logits, at, each), fitted, validated)


def _settings(
    truth: Truth,
    settings: list[tuple[int, dict[str, Answers]]],
    places: dict[str, np.ndarray],
    resampling: dict[str, int],
) -> Iterator[dict[str, Any]]:
    """The accuracies at each resolution with each kind of place; no crop without a wrong place is judged with one."""
    for image_px, by_place in settings:
        for place, found in by_place.items():
            judged = np.ones(len(truth.targets), bool)
            if place == "wrong":
                judged = ~np.isnan(places[place]).any(axis=1)
            if not judged.any():
                continue
            of_judged, given = truth.of_rows(judged), of_rows(found, judged)
            figures = {f"{rank}_accuracy": of_judged.accuracies(given, rank, **resampling) for rank in RANKS}
            yield {"image_px": image_px, "place": place, "crops": int(judged.sum()), **figures}


def _nested(table: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Crops and accuracies by resolution and kind of place; ``dvc metrics`` shows mappings, no lists."""
    found: dict[str, dict[str, Any]] = {}
    for row in table:
        figures = {name: row[name] for name in ("crops", *(f"{rank}_accuracy" for rank in RANKS))}
        found.setdefault(str(row["image_px"]), {})[row["place"]] = figures
    return found


def _numbers(truth: Truth, true_places: np.ndarray, places: dict[str, np.ndarray]) -> dict[str, int]:
    species = set(truth.of_rank("species")) - {-1}
    numbers = {
        "crops": len(truth.targets),
        "observations": len(set(truth.observations)),
        "species": len(species),
        "species_in_training_only": len(truth.labels.of_rank("species")) - len(species),
        "crops_without_place": int(np.isnan(true_places).any(axis=1).sum()),
    }
    if "wrong" in places:
        numbers["crops_without_wrong_place"] = int(np.isnan(places["wrong"]).any(axis=1).sum())
    return numbers


def _calibration(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    out_reliability: Path,
    out_rollup: Path,
) -> dict[str, Any]:
    """Write the curves; the calibration error before and after."""
    confidence, right = after
    _write_csv(out_reliability, reliability_curve(confidence[:, 0], right[:, 0]))
    curve = roll_up_curve(confidence, right, RANKS, thresholds=THRESHOLDS)
    _write_csv(out_rollup, curve)
    errors = [expected_calibration_error(sure[:, 0], hit[:, 0]) for sure, hit in (before, after)]
    ece = [None if np.isnan(error) else rounded(error) for error in errors]
    return {"expected_calibration_error": {"before": ece[0], "after": ece[1]}}


def _predictions(judged: pd.DataFrame, found: Answers, truth: Truth) -> Iterator[dict[str, Any]]:
    names = truth.labels.names
    species, genus = found["species"], found["genus"]
    columns = (judged["key"], judged["label"], judged["genus"])
    for index, (key, label, of_genus) in enumerate(zip(*columns, strict=True)):
        yield {
            "key": key,
            "label": label,
            "genus": of_genus,
            "top": [names[place] for place in species.classes[index]],
            "probability": species.probabilities[index].tolist(),
            "top_genus": [names[place] for place in genus.classes[index]],
        }


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
