"""Ways to train: frozen at first, from cached features, on several processes, stopped early, short of memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from crop_shards import SETTINGS, train, write_crops
from safetensors.torch import load_file

from instar.classifier.data import CropReader, Views, batches, places_of
from instar.classifier.fit import _stopping
from instar.classifier.model import WEIGHTS
from instar.classifier.predict import Predictor
from instar.errors import InputError
from instar.tables import DATASET, read_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("study")
    write_crops(path)
    return path


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "classifier" / WEIGHTS)


def metrics(out: Path) -> Any:
    return json.loads((out / "classifier.json").read_text())


def test_a_frozen_backbone_does_not_learn(folder: Path) -> None:
    one, two = (weights(train(folder, f"frozen-{n}", epochs=n, frozen_epochs=n)) for n in (1, 2))
    backbone = [name for name in one if name.startswith("backbone.")]
    assert all(torch.equal(one[name], two[name]) for name in backbone)
    assert not torch.equal(one["head.weight"], two["head.weight"])
    thawed = weights(train(folder, "thawed", epochs=2, frozen_epochs=1))
    assert not torch.equal(
        one["backbone.conv1.weight" if "backbone.conv1.weight" in one else backbone[0]], thawed[backbone[0]]
    )


def test_features_of_a_frozen_backbone_are_worked_out_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    whole = CropReader.read

    def counted(self: CropReader, index: int) -> Any:
        reads.append(index)
        return whole(self, index)

    monkeypatch.setattr(CropReader, "read", counted)
    settings: dict[str, Any] = {"epochs": 3, "frozen_epochs": 2, "cache_features": True}
    first = train(folder, "cached", **settings)
    # once for the features, once for the epoch that is not frozen, and the validation of three
    assert len(reads) == 104 + 96 + 3 * 24
    kept = list((first / "work" / "features").glob("*.npy"))
    assert len(kept) == 1
    again = train(folder, "cached", **settings)
    assert len(reads) == 2 * (104 + 96 + 3 * 24) - 104
    assert metrics(first) == metrics(again)
    train(folder, "cached", **settings, flip="none")
    assert len(list((first / "work" / "features").glob("*.npy"))) == 2


def test_early_stop_keeps_the_best_weights(folder: Path) -> None:
    out = train(folder, "early", epochs=30, early_stop=1)
    figures = metrics(out)
    assert figures["epochs"] == figures["best_epoch"] + 1 < 30
    assert figures["validation_top1"] <= figures["best_validation_top1"]
    predictor = Predictor(out / "classifier")
    rows = read_table(folder / "dataset.parquet", DATASET).to_pandas()
    rows = rows[rows["split"] == "validation"].reset_index(drop=True)
    reader, targets = CropReader(folder / "crops", rows), predictor.labels.targets(rows["label"])
    views = Views(reader, targets, places_of(rows), predictor.image_px, shown=None)
    pixels, places, _ = next(batches(views, batch=len(rows)))
    hits = predictor.probabilities(pixels, places)[:, :4].argmax(1).numpy() == targets
    assert hits.mean() == pytest.approx(figures["best_validation_top1"])


def test_sampler_and_loss_balance_in_their_own_ways(folder: Path) -> None:
    losses = {
        way: metrics(train(folder, way, epochs=1, balance=way))["train_loss"] for way in ("none", "sampler", "loss")
    }
    assert len(set(losses.values())) == 3


def test_two_processes_learn_what_one_does(folder: Path) -> None:
    """With a frozen backbone, since batch statistics are of each process's part."""
    ways: dict[str, Any] = {"epochs": 2, "frozen_epochs": 2, "balance": "sampler", "place": "late"}
    alone = train(folder, "alone", **ways, batch=16)
    out = folder / "together"
    settings = {**SETTINGS, **ways, "batch": 8, "devices": 2}
    paths = {"crops": folder / "crops", "dataset": folder / "dataset.parquet", "out": out / "classifier"}
    paths |= {"out_metrics": out / "classifier.json", "out_curves": out / "curves", "work": out / "work"}
    words = [
        f"--{name}={json.dumps(value) if not isinstance(value, str) else value}" for name, value in settings.items()
    ]
    words += [f"--{name}={path}" for name, path in paths.items()]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    command = [sys.executable, "-m", "instar", "classifier", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1/2") == 1
    one, two = weights(alone), weights(out)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    figures, expected = metrics(out), metrics(alone)
    assert figures["steps"] == expected["steps"]
    assert figures["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-4)
    assert figures["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)


def test_short_memory_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^out of memory \(.*\); lower classifier\.batch and raise") as told,
        _stopping(tmp_path),
    ):
        torch.empty(1 << 50)
    assert "\n" not in str(told.value)


def test_another_error_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), _stopping(tmp_path):
        torch.ones(2).reshape(3)
