"""How often the classifier is right about species and genus, and how sure that figure is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instar.errors import InputError
from instar.files import md5_of, replacing, write_json
from instar.metrics.bootstrap import cluster_bootstrap
from instar.metrics.topk import top_hits, top_indices
from instar.progress import progress
from instar.tables import DATASET, PREDICTIONS, read_table, write_table

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace
    from instar.classifier.model import Description
    from instar.classifier.predict import Predictor

TOP = 5
#: Crops through the network at a time.
BATCH = 64


def evaluation(
    classifier: Path,
    crops: Path,
    dataset: Path,
    out: Path,
    out_metrics: Path,
    out_classes: Path,
    out_confusion: Path,
    *,
    seed: int,
    bootstrap: int,
) -> None:
    """Classify the crops of the validation split and count how often species and genus are among the first.

    A genus's probability is the sum over its species and its own genus-level class. Intervals are of 95 %, by
    resampling observations.

    Args:
        classifier: folder with the trained weights and their description.
        crops: folder of ``<shard>.tar`` with the crops.
        dataset: table of their labels and splits.
        out: gets the five best labels and genera of each validation crop.
        out_metrics: gets top-1 and top-5 over crops (micro) and over classes (macro), as JSON.
        out_classes: gets the figures of each class, as CSV.
        out_confusion: gets the true and the predicted genus of each crop, as CSV.
        seed: of the resampling.
        bootstrap: number of resamples.

    Raises:
        InputError: if the classifier is missing or damaged, a crop can't be read, there is no validation crop, or the
            classifier was trained on another dataset.
    """
    from instar.classifier.predict import Predictor

    predictor = Predictor(classifier)
    description = predictor.description
    rows = read_table(dataset, DATASET).to_pandas()
    validation = rows[rows["split"] == "validation"].reset_index(drop=True)
    _check(validation, description, classifier, dataset)
    top = _Top.of(_probabilities(predictor, crops, validation), description.labels)
    species = description.labels.targets(validation["label"])
    genus = description.labels.ancestors("genus")[species]
    write_table(out, _predictions(validation, top, description.labels), PREDICTIONS)
    _write_csv(out_classes, _classes(description, species, top))
    genera = np.array(description.labels.names, dtype=object)
    _write_csv(out_confusion, pd.DataFrame({"actual": genera[genus], "predicted": genera[top.genera[:, 0]]}))
    observations = validation["observation_id"].to_numpy(dtype=object)
    metrics = {
        "rows": {"in": len(validation), "out": len(top.labels), "dropped": {}},
        "crops": len(validation),
        "observations": len(set(observations)),
        "species": len(set(species)),
        "species_in_training_only": description.labels.ranks.count("species") - len(set(species)),
        "species_accuracy": _accuracies(top.labels, species, observations, bootstrap, seed),
        "genus_accuracy": _accuracies(top.genera, genus, observations, bootstrap, seed),
    }
    write_json(out_metrics, metrics)


@dataclass(frozen=True)
class _Top:
    """The best classes and genera of each crop, best first, at most ``TOP``."""

    labels: np.ndarray  # int64, shape (n, k)
    probabilities: np.ndarray  # float32, shape (n, k)
    genera: np.ndarray  # int64, shape (n, k)

    @classmethod
    def of(cls, batches: Iterator[np.ndarray], labels: "LabelSpace") -> "_Top":
        """Keep the best of each batch (n, n_classes), so that many classes of many crops need no memory."""
        parts: list[tuple[np.ndarray, ...]] = []
        for probabilities in batches:
            best, genera = (
                labels.of_rank(rank)[top_indices(probabilities[:, labels.of_rank(rank)], TOP)]
                for rank in ("species", "genus")
            )
            parts.append((best, np.take_along_axis(probabilities, best, axis=1), genera))
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _check(validation: pd.DataFrame, description: "Description", classifier: Path, dataset: Path) -> None:
    if validation.empty:
        raise InputError(f"{dataset}: no crop is for validation; lower dataset.validation_crops")
    unknown = sorted(set(validation["label"]) - set(description.labels.names))
    if unknown:
        raise InputError(f"{classifier}: does not know {unknown[0]} of {dataset}; run classifier again")
    md5 = md5_of(dataset)
    if description.dataset_md5 != md5:
        raise InputError(
            f"{classifier}: trained on a dataset with md5 {description.dataset_md5}, {dataset} has {md5}; "
            "run classifier again"
        )


def _probabilities(predictor: "Predictor", crops: Path, validation: pd.DataFrame) -> Iterator[np.ndarray]:
    """Batches of float32 (n, n_classes) in the order of the rows."""
    from instar.classifier.data import CropReader, Views, batches, places_of

    targets = predictor.labels.targets(validation["label"])
    views = Views(CropReader(crops, validation), targets, places_of(validation), predictor.image_px, shown=None)
    count = -(-len(views) // BATCH)
    for pixels, places, _ in progress(batches(views, batch=BATCH), f"evaluation: batches of {BATCH} crops", count):
        yield predictor.probabilities(pixels, places).cpu().numpy()


def _predictions(validation: pd.DataFrame, top: _Top, labels: "LabelSpace") -> Iterator[dict[str, Any]]:
    columns = (validation["key"], validation["label"], validation["genus"])
    for index, (key, label, genus) in enumerate(zip(*columns, strict=True)):
        yield {
            "key": key,
            "label": label,
            "genus": genus,
            "top": [labels.names[i] for i in top.labels[index]],
            "probability": top.probabilities[index].tolist(),
            "top_genus": [labels.names[i] for i in top.genera[index]],
        }


def _classes(description: "Description", targets: np.ndarray, top: _Top) -> pd.DataFrame:
    """One row per class; its figures are empty where it has no validation crop."""
    labels = description.labels
    counts = np.bincount(targets, minlength=len(labels))
    shares = {}
    for k in (1, TOP):
        hits = np.bincount(targets, top_hits(top.labels, targets, k), minlength=len(labels))
        shares[f"top{k}"] = np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
    genus = [labels.names[node] for node in labels.ancestors("genus")]
    columns = {"label": labels.names, "genus": genus, "train_crops": description.train_crops}
    return pd.DataFrame({**columns, "validation_crops": counts, **shares})


def _accuracies(top: np.ndarray, targets: np.ndarray, observations: np.ndarray, resamples: int, seed: int) -> Any:
    """Top-1 and top-k, over crops and over classes; k is capped at the number of classes by ``top`` itself."""
    found: dict[str, Any] = {}
    for k in (1, TOP):
        hits = top_hits(top, targets, k).astype(float)
        for name, groups in (("micro", None), ("macro", targets)):
            value = hits.mean() if groups is None else pd.Series(hits).groupby(groups).mean().mean()
            low, high = cluster_bootstrap(hits, observations, resamples=resamples, seed=seed, groups=groups)
            figures = {"value": value, "low": low, "high": high}
            found[f"top{k}_{name}"] = {name: float(f"{figure:.6g}") for name, figure in figures.items()}
    return found


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
