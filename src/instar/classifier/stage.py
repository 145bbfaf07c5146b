"""The stage ``classifier``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import instar
from instar.balance import effective_number_weights
from instar.errors import InputError
from instar.files import replacing, sha256_of, write_json
from instar.tables import CROPS, DATASET, read_shards, read_table

if TYPE_CHECKING:
    from instar.classifier.train import Epoch


def classifier(
    crops: Path,
    dataset: Path,
    out: Path,
    out_metrics: Path,
    out_curves: Path,
    *,
    seed: int,
    beta: float,
    max_weight: float,
    model: str,
    pretrained: bool,
    image_px: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    workers: int,
) -> None:
    """Train a classifier of species, and of genera for crops that carry no species, on the crops of the training split.

    Every class weighs by its effective number of samples. The weights of the last epoch are kept.

    Args:
        crops: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the crops.
        dataset: table of their labels and splits.
        out: folder; gets ``weights.safetensors`` and ``classifier.json``, which says how to use them.
        out_metrics: gets the losses, the top-1 on validation and the sizes, as JSON.
        out_curves: folder; gets the curves of training for ``dvc plots``.
        seed: of the weights, the order of the crops and their views.
        beta: of the effective number of samples; 0 gives equal class weights.
        max_weight: no class weighs more than this multiple of the lightest.
        model: name of a timm model.
        pretrained: start from the published weights.
        image_px: side of the network's input.
        epochs: passes over the training crops.
        batch: crops in a step.
        learning_rate: of AdamW at its height.
        weight_decay: of AdamW.
        label_smoothing: of the targets.
        workers: processes that load crops.

    Raises:
        InputError: if timm does not know the model, its weights can't be had, fewer than two classes are to be learnt,
            a crop can't be read, or the loss stops being a number.
    """
    from lightning import seed_everything
    from torch import from_numpy

    from instar.classifier.data import CropReader, Views, label_space, loader
    from instar.classifier.model import Description, build_model, check_model, normalisation, quiet_timm, save
    from instar.classifier.train import Learner, fit, write_curves

    quiet_timm()
    check_model(model)
    rows = read_table(dataset, DATASET).to_pandas()
    train, validation = (rows[rows["split"] == split] for split in ("train", "validation"))
    labels = label_space(train)
    if len(labels) < 2:
        raise InputError(f"{dataset}: classes: {len(labels)}, a classifier needs two; lower dataset.min_class_crops")
    counts = np.bincount(labels.targets(train["label"]), minlength=len(labels))
    mean, std = normalisation(model)
    description = Description(
        model=model,
        pretrained=pretrained,
        image_px=image_px,
        mean=mean,
        std=std,
        labels=labels,
        train_crops=tuple(int(count) for count in counts),
        licences=_licences(crops, train),
        dataset_sha256=sha256_of(dataset),
        instar=instar.__version__,
    )

    def load(part: pd.DataFrame, part_seed: int | None) -> Any:
        views = Views(CropReader(crops, part), labels.targets(part["label"]), image_px, seed=part_seed)
        return loader(views, batch=batch, workers=workers, seed=part_seed)

    seed_everything(seed, verbose=False)
    network = build_model(model, pretrained=pretrained, image_px=image_px, classes=len(labels))
    weights = effective_number_weights(counts, beta=beta, max_weight=max_weight)
    learner = Learner(
        network,
        description,
        from_numpy(weights),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
    )
    history = fit(learner, load(train, seed), load(validation, None) if len(validation) else None, epochs=epochs)
    with replacing(out) as folder:
        folder.mkdir()
        save(folder, network, description)
    write_curves(out_curves, history)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    write_json(out_metrics, {**_rows(rows), **_figures(history), "classes": len(labels), "parameters": parameters})


def _licences(crops: Path, train: pd.DataFrame) -> dict[str, int]:
    """How many training crops are from photographs under each licence."""
    table = read_shards(crops, sorted(set(train["shard"])), CROPS).select(["key", "licence"]).to_pandas()
    counts = table.loc[table["key"].isin(train["key"]), "licence"].value_counts().sort_index()
    return {str(licence): int(count) for licence, count in counts.items()}


def _rows(rows: pd.DataFrame) -> dict[str, Any]:
    splits = rows["split"].value_counts()
    taken = int(splits.sum())
    return {
        "rows": {"in": len(rows), "out": taken, "dropped": {"dropped by dataset": len(rows) - taken}},
        "train_crops": int(splits.get("train", 0)),
        "validation_crops": int(splits.get("validation", 0)),
    }


def _figures(history: list["Epoch"]) -> dict[str, Any]:
    last = history[-1]
    figures: dict[str, Any] = {"epochs": len(history), "steps": last.step, "train_loss": _rounded(last.train_loss)}
    if last.validation_loss is None or last.validation_top1 is None:
        return figures
    best = max(range(len(history)), key=lambda index: history[index].validation_top1 or 0.0)
    return {
        **figures,
        "validation_loss": _rounded(last.validation_loss),
        "validation_top1": _rounded(last.validation_top1),
        "best_epoch": best + 1,
        "best_validation_top1": _rounded(history[best].validation_top1 or 0.0),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
