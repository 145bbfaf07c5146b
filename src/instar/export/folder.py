"""The exported folder: what is in it, and what is checked before."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instar.detectors import read_description
from instar.errors import InputError
from instar.evaluation.stage import check_dataset
from instar.export.attribution import write_attribution
from instar.export.card import Facts, card, read_figures
from instar.files import replacing
from instar.identify.models import (
    DETECTOR,
    SETTINGS,
    Calibration,
    calibration_of,
    check_of_species,
    settings_of,
    write_settings,
)
from instar.params import Params
from instar.tables import DATASET, PREDICTIONS, read_table

if TYPE_CHECKING:
    import torch

    from instar.classifier.model import Description

ONNX, LABELS, CARD, ATTRIBUTION = "classifier.onnx", "labels.csv", "README.md", "attribution.csv"
#: Held-out crops by which a classifier is known again, and by which ONNX is checked.
SAMPLE = 8
#: Probabilities of the classifier that was evaluated differ by less, on whatever device each was worked out.
SAME = 0.02


@dataclass(frozen=True)
class Sample:
    """Held-out crops: pixels uint8 (n, 3, px, px), places float32 (n, 2), and what evaluation wrote of them."""

    pixels: "torch.Tensor"
    places: "torch.Tensor"
    predictions: pd.DataFrame


def write_folder(root: Path, study: Params, out: Path, *, onnx: bool) -> None:
    """Export the models of a study.

    Args:
        root: data/<study>.
        study: its parameters.
        out: folder to write; an earlier export is replaced.
        onnx: write ONNX, too.

    Raises:
        InputError: if something is missing or of another run than the rest, ``out`` holds something else, or ONNX and
            torch differ.
    """
    from instar.classifier.model import DESCRIPTION, WEIGHTS, load_description, quiet_timm
    from instar.export.onnx_file import write_onnx

    quiet_timm()
    check_out(out)
    description = load_description(root / "classifier")
    check_of_species(root / "classifier", description.labels)
    detector = read_description(root / DETECTOR / "detector.json")
    calibration = _calibration(root)
    temperature = calibration.temperature
    sample = checked_sample(root, description)
    with replacing(out) as folder:
        folder.mkdir()
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(root / "classifier" / name, folder / name)
        shutil.copytree(root / DETECTOR, folder / DETECTOR, ignore=shutil.ignore_patterns(".*"))
        write_settings(folder / SETTINGS, settings_of(study, calibration))
        difference = None
        if onnx:
            print("export: writing and checking ONNX", file=sys.stderr, flush=True)
            inputs = sample.pixels, sample.places
            difference = write_onnx(folder, folder / ONNX, *inputs, temperature=temperature)
        labels_table(description).to_csv(folder / LABELS, index=False, lineterminator="\n")
        chosen = description.validation_chose
        photographs = write_attribution(
            root,
            study.shards,
            detector,
            folder / ATTRIBUTION,
            adopted=study.detector.epochs == 0,
            early_stop=chosen,
        )
        facts = Facts(study, description, detector, read_figures(root), photographs, temperature, difference)
        (folder / CARD).write_text(card(facts), encoding="utf-8")


def check_out(out: Path) -> None:
    """Refuse to replace what is no earlier export."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() and not (out / SETTINGS).is_file():
        raise InputError(f"--out {out}: holds something that is no exported model; name a new folder")


def _calibration(root: Path) -> Calibration:
    path = root / "metrics" / "evaluation.json"
    found = calibration_of(path)
    if found is None:
        raise InputError(f"{path}: tells no temperature; run evaluation")
    return found


def labels_table(description: "Description") -> pd.DataFrame:
    """``index`` (column of the outputs), ``name``, ``rank``, ``parent`` and ``train_crops`` of each class."""
    labels = description.labels
    parents = [labels.names[parent] if parent >= 0 else None for parent in labels.parents]
    columns: dict[str, Any] = {"index": range(len(labels)), "name": labels.names, "rank": labels.ranks}
    return pd.DataFrame({**columns, "parent": parents, "train_crops": description.train_crops})


def checked_sample(root: Path, description: "Description") -> Sample:
    """Some held-out crops, after the classifier says of them what the stage ``evaluation`` wrote.

    Raises:
        InputError: if the classifier was trained on another dataset than the one that is there, or another classifier
            was evaluated.
    """
    classifier, dataset, predictions = root / "classifier", root / "dataset.parquet", root / "predictions.parquet"
    check_dataset(classifier, description, dataset, "run classifier and evaluation again")
    sample = _sample(root, description)
    if not _same(sample, classifier):
        raise InputError(f"{predictions}: not the answers of {classifier}; run evaluation again")
    return sample


def _sample(root: Path, description: "Description") -> Sample:
    """Held-out crops, evenly spread over the table of predictions."""
    from torch import from_numpy

    from instar.classifier.data import CropReader, Views, batches, places_of

    predictions = read_table(root / "predictions.parquet", PREDICTIONS).to_pandas()
    rows = read_table(root / "dataset.parquet", DATASET).to_pandas().set_index("key", drop=False)
    chosen = predictions.iloc[np.unique(np.linspace(0, len(predictions) - 1, SAMPLE).astype(int))]
    unknown = sorted({*chosen["key"]} - {*rows.index[rows["split"].notna()]})
    if chosen.empty or unknown:
        what = unknown[0] if unknown else "no crop"
        raise InputError(f"{root}/predictions.parquet: {what} is not of this dataset; run evaluation again")
    held = rows.loc[chosen["key"]].reset_index(drop=True)
    targets, places = np.zeros(len(held), np.int64), places_of(held)
    views = Views(CropReader(root / "crops", held), targets, places, description.image_px, shown=None)
    ((pixels, _, _),) = batches(views, batch=len(held))
    return Sample(pixels, from_numpy(places), chosen.reset_index(drop=True))


def _same(sample: Sample, classifier: Path) -> bool:
    """Whether the classifier gives the probabilities of the predictions."""
    from instar.classifier.predict import Predictor

    predictor = Predictor(classifier)
    column = {name: index for index, name in enumerate(predictor.labels.names)}
    nodes = predictor.probabilities(sample.pixels, sample.places).cpu().numpy()
    told = zip(nodes, sample.predictions["top"], sample.predictions["probability"], strict=True)
    return all(
        set(names) <= column.keys() and np.allclose(row[[column[name] for name in names]], wanted, rtol=0, atol=SAME)
        for row, names, wanted in told
    )
