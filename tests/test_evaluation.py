"""Tests of instar.evaluation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from crop_shards import SPECIES, train, write_crops

from instar.classifier.model import build_model, load, save
from instar.errors import InputError
from instar.evaluation import evaluation
from instar.files import sha256_of
from instar.metrics.bootstrap import cluster_bootstrap
from instar.tables import DATASET, PREDICTIONS, read_table, write_table

#: Probabilities of the four species and of the genus-level class Rubra. Rubra's sum is 0.52, Viridis's 0.48.
FIXED = {"Rubra erecta": 0.1, "Rubra stricta": 0.12, "Viridis erecta": 0.4, "Viridis stricta": 0.08, "Rubra": 0.3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("study")
    write_crops(path)
    train(path)
    return path


@pytest.fixture(scope="module")
def fixed(folder: Path) -> Path:
    """A classifier whose answer is always ``FIXED``: its head has no weights, only biases."""
    _, description = load(folder / "trained" / "classifier")
    network = build_model("test_resnet", pretrained=False, image_px=32, classes=5)
    head: Any = network.fc
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([FIXED[name] for name in description.labels.names]).log())
    out = folder / "fixed"
    out.mkdir()
    save(out, network, description)
    return out


def run(classifier: Path, folder: Path, out: Path, dataset: str = "dataset.parquet") -> Any:
    """Run the stage; its metrics."""
    names = ("predictions.parquet", "evaluation.json", "classes.csv", "confusion.csv")
    paths = [out / name for name in names]
    evaluation(classifier, folder / "crops", folder / dataset, *paths, seed=0, bootstrap=200)
    return json.loads(paths[1].read_text())


def test_figures_of_fixed_probabilities_by_hand(fixed: Path, folder: Path, tmp_path: Path) -> None:
    # 6 validation crops of each species: Viridis erecta is always named first, its genus never
    figures = run(fixed, folder, tmp_path)
    assert (figures["crops"], figures["observations"], figures["species"]) == (24, 8, 4)
    assert figures["rows"] == {"in": 24, "out": 24, "dropped": {}}
    species, genus = figures["species_accuracy"], figures["genus_accuracy"]
    assert species["top1_micro"]["value"] == species["top1_macro"]["value"] == 0.25
    assert species["top5_micro"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert genus["top1_micro"]["value"] == genus["top1_macro"]["value"] == 0.5
    assert genus["top5_macro"]["value"] == 1.0  # there are two genera: top-5 is top-2
    rows = read_table(folder / "dataset.parquet", DATASET).to_pandas()
    rows = rows[rows["split"] == "validation"]
    hits, observations = (rows["genus"] == "Rubra").to_numpy(float), rows["observation_id"].to_numpy(object)
    low, high = cluster_bootstrap(hits, observations, resamples=200, seed=0)
    assert genus["top1_micro"] == pytest.approx({"value": 0.5, "low": low, "high": high}, abs=1e-6)


def test_predictions_are_the_best_first(fixed: Path, folder: Path, tmp_path: Path) -> None:
    run(fixed, folder, tmp_path)
    rows = read_table(tmp_path / "predictions.parquet", PREDICTIONS).to_pylist()
    assert len(rows) == 24
    assert rows[0]["top"] == ["Viridis erecta", "Rubra", "Rubra stricta", "Rubra erecta", "Viridis stricta"]
    assert rows[0]["probability"] == pytest.approx([0.4, 0.3, 0.12, 0.1, 0.08])
    assert rows[0]["top_genus"] == ["Rubra", "Viridis"]
    assert {row["label"] for row in rows} == set(SPECIES)


def test_classes_and_confusion(fixed: Path, folder: Path, tmp_path: Path) -> None:
    run(fixed, folder, tmp_path)
    classes = pd.read_csv(tmp_path / "classes.csv").set_index("label")
    assert list(classes.columns) == ["genus", "train_crops", "validation_crops", "top1", "top5"]
    assert tuple(classes.loc["Viridis erecta"]) == ("Viridis", 24, 6, 1.0, 1.0)
    assert tuple(classes.loc["Rubra erecta"]) == ("Rubra", 24, 6, 0.0, 1.0)
    assert tuple(classes.loc["Rubra", ["train_crops", "validation_crops"]]) == (8, 0)
    assert classes["top1"].isna().to_dict()["Rubra"]
    confusion = pd.read_csv(tmp_path / "confusion.csv")
    assert confusion.value_counts().to_dict() == {("Rubra", "Rubra"): 12, ("Viridis", "Rubra"): 12}


def test_macro_counts_each_class_alike(fixed: Path, folder: Path, tmp_path: Path) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    left_out = [row["key"] for row in rows if row["split"] == "validation" and row["label"] == "Rubra erecta"][1:]
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["key"] not in left_out], DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    network, description = load(fixed)
    (tmp_path / "own").mkdir()
    save(tmp_path / "own", network, replace(description, dataset_sha256=sha256_of(tmp_path / "dataset.parquet")))
    figures = run(tmp_path / "own", tmp_path, tmp_path / "out")
    assert figures["species_accuracy"]["top1_micro"]["value"] == pytest.approx(6 / 19, abs=1e-6)
    assert figures["species_accuracy"]["top1_macro"]["value"] == 0.25
    assert figures["genus_accuracy"]["top1_micro"]["value"] == pytest.approx(7 / 19, abs=1e-6)


def test_a_trained_classifier_gets_what_its_training_measured(folder: Path, tmp_path: Path) -> None:
    figures = run(folder / "trained" / "classifier", folder, tmp_path)
    measured = json.loads((folder / "trained" / "classifier.json").read_text())["validation_top1"]
    assert figures["species_accuracy"]["top1_micro"]["value"] == pytest.approx(measured)
    assert figures["genus_accuracy"]["top1_micro"]["value"] >= measured
    again = run(folder / "trained" / "classifier", folder, tmp_path / "again")
    assert again == figures


def test_no_validation_crop(fixed: Path, folder: Path, tmp_path: Path) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["split"] != "validation"], DATASET)
    with pytest.raises(InputError, match=r"dataset\.parquet: no crop is for validation"):
        run(fixed, tmp_path, tmp_path / "out")


def test_a_classifier_of_another_split(fixed: Path, folder: Path, tmp_path: Path) -> None:
    """The labels are the same, but what is validated on may have been trained on."""
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    swapped = {"train": "validation", "validation": "train"}
    rows = [{**row, "split": swapped.get(row["split"], row["split"])} for row in rows]
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    with pytest.raises(InputError, match=r"fixed: trained on a dataset with sha256 .*; run classifier again"):
        run(fixed, tmp_path, tmp_path / "out")


def test_a_classifier_of_another_dataset(fixed: Path, folder: Path, tmp_path: Path) -> None:
    network, description = load(fixed)
    names = ("Rubra other", *description.labels.names[1:])
    (tmp_path / "other").mkdir()
    save(tmp_path / "other", network, replace(description, labels=replace(description.labels, names=names)))
    with pytest.raises(InputError, match=r"other: does not know Rubra erecta of .*; run classifier again"):
        run(tmp_path / "other", folder, tmp_path / "out")
