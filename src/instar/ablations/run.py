"""The command ``instar ablation``: one training of one variant, and what it answers for held-out crops."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instar.classifier.stage import classifier as train
from instar.errors import InputError
from instar.evaluation import photographs
from instar.evaluation.answers import Answers, answers_by_place
from instar.evaluation.places import WRONG_KM, wrong_places
from instar.splits import judged_split
from instar.tables import ABLATION, DATASET, read_table, write_table

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.predict import Predictor


def ablation(
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    out: Path,
    work: Path,
    *,
    view: str,
    seed: int,
    shards: list[str],
    photo_boxes: int,
    threads: int,
    classifier: dict[str, Any],
) -> None:
    """Train a classifier and write what it answers for the held-out crops, or photographs, one row for each.

    The split test is judged where there is one, else validation. A classifier that takes a place answers with the true
    one, with none, and with the place of another crop at least 1,000 km away. Photographs are judged with the true
    place only.

    Args:
        crops: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the crops or whole photographs.
        dataset: table of their labels and splits.
        taxonomy: table of the photographs' taxa.
        annotations: COCO JSON; photographs that trained the detector or chose its weights are not judged.
        out: table to write.
        work: folder of unfinished trainings, from which a killed one goes on.
        view: what a crop shows; of a crop, those of each held-out photograph are summed and its sum is judged, too.
        seed: of the wrong places and the draw of photographs without a crop; the study's, whatever the training's is.
        shards: names of the shards.
        photo_boxes: crops of a photograph that are summed, those with the highest scores.
        threads: cores that the job has; all but one may load crops.
        classifier: the keyword arguments of the stage classifier.

    Raises:
        InputError: if the stage classifier raises it, a crop can't be read, there is no crop to judge, or ``view`` is
            neither crop nor photograph.
    """
    import cv2
    import torch

    from instar.classifier.predict import Predictor

    if view not in ("crop", "photograph"):
        raise InputError(f"view = {view} is not allowed; it must be crop or photograph")
    judged = judged_rows(read_table(dataset, DATASET).to_pandas())
    if judged.empty and view == "photograph":  # whole_photographs has told why
        print(f"ablation: {dataset}: no whole photograph to judge, so nothing is trained on them", file=sys.stderr)
        write_table(out, [], ABLATION)
        return
    if judged.empty:
        raise InputError(f"{dataset}: no crop is for validation; lower dataset.validation_crops")
    torch.set_num_threads(threads)
    if threads == 1:
        cv2.setNumThreads(1)  # views are made by this process itself
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as scratch:
        folder = Path(scratch)
        # no view depends on which process makes it
        given = {**one_process(classifier), "workers": min(classifier["workers"], threads - 1)}
        train(crops, dataset, folder / "trained", folder / "metrics.json", folder / "curves", work, **given)
        predictor = Predictor(folder / "trained")
        rows = list(_answers(predictor, crops, judged, view, seed))
        if view == "crop":
            observations = set(judged["observation_id"])
            held_out = photographs.held_out(
                crops,
                dataset,
                taxonomy,
                annotations,
                observations,
                predictor.labels,
                shards=shards,
                seed=seed,
                boxes=photo_boxes,
            )
            found = photographs.answers_of(predictor, crops, held_out)
            rows += _rows(held_out.photographs, found, predictor.labels, unit="photograph", place="true")
    write_table(out, rows, ABLATION)


def one_process(classifier: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training inside another command, which more processes would start anew.

    What the other devices would have added to a step, gradients of more batches do.
    """
    return {**classifier, "devices": 1, "accumulate": classifier["accumulate"] * max(classifier["devices"], 1)}


def judged_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the dataset that are judged: those of the split test where it has any, else validation."""
    return rows[rows["split"] == judged_split(rows["split"])].reset_index(drop=True)


def _answers(
    predictor: "Predictor", crops: Path, judged: pd.DataFrame, view: str, seed: int
) -> Iterator[dict[str, Any]]:
    from instar.classifier.data import places_of

    places = {"true": places_of(judged)}
    if view == "crop" and predictor.description.place != "none":
        places["none"] = np.full_like(places["true"], np.nan)
        places["wrong"] = wrong_places(places["true"], judged["key"], seed=seed, least_km=WRONG_KM)
    by_place = answers_by_place(predictor, crops, judged, places, "ablation")
    for place, found in by_place.items():
        told = _rows(judged, found, predictor.labels, unit=view, place=place)
        known = ~np.isnan(places[place]).any(axis=1)
        # without a place that is wrong a crop would be judged without any
        yield from (row for row, has in zip(told, known, strict=True) if has or place != "wrong")


def _rows(
    judged: pd.DataFrame, found: Answers, labels: "LabelSpace", *, unit: str, place: str
) -> Iterator[dict[str, Any]]:
    """Rows of ``tables.ABLATION``."""
    names, species, genus = labels.names, found["species"], found["genus"]
    keys = judged["photo_key"] if unit == "photograph" else judged["key"]
    for index, key in enumerate(keys):
        kept = species.classes[index] >= 0
        first = genus.classes[index, 0]
        yield {
            "unit": unit,
            "place": place,
            "key": key,
            "observation_id": judged["observation_id"].iloc[index],
            "label": judged["label"].iloc[index],
            "top": [names[node] for node in species.classes[index][kept]],
            "probability": species.probabilities[index][kept].tolist(),
            "genus": names[first] if first >= 0 else None,
        }
