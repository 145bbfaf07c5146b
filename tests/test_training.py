"""Ways to train: frozen at first, from cached features, on several processes, stopped early, short of memory."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from crop_shards import SETTINGS, train, write_crops
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel

from instar.classifier.data import CropReader, Views, batches, places_of
from instar.classifier.fit import _stopping, averaging
from instar.classifier.model import WEIGHTS, load_description
from instar.classifier.predict import Predictor
from instar.classifier.stage import JUDGED_CHOOSE
from instar.errors import InputError
from instar.tables import DATASET, read_table, write_table


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


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_early_stop_keeps_the_weights_that_were_best(folder: Path, ema: float) -> None:
    out = train(folder, f"early-{ema}", epochs=30, early_stop=1, keep="best_top1", ema=ema)
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


def test_early_stop_without_validation_changes_nothing(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["split"] == "train"], DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    assert metrics(train(tmp_path, epochs=3, early_stop=1, keep="best_top1"))["epochs"] == 3
    assert "no crop is for validation, so early_stop has no effect" in capfd.readouterr().err


def test_early_stop_on_what_is_judged_is_told(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = train(folder, "told", epochs=1, early_stop=1, keep="best_top1")
    assert capfd.readouterr().err.count(JUDGED_CHOOSE) == 1
    assert load_description(out / "classifier").early_stop == 1
    train(folder, "untold", epochs=1)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    held_out = [row for row in rows if row["split"] == "validation"]
    held_out[0]["split"] = "test"
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    train(tmp_path, epochs=1, early_stop=1, keep="best_top1")
    assert JUDGED_CHOOSE not in capfd.readouterr().err


def test_averaging_of_a_network_that_does_not_learn_changes_nothing(folder: Path) -> None:
    still: dict[str, Any] = {"epochs": 2, "frozen_epochs": 2, "learning_rate": 1e-12}
    plain, averaged = (metrics(train(folder, f"still-{ema}", **still, ema=ema)) for ema in (0.0, 0.9))
    assert averaged == plain


def averages(decay: float, values: list[float], *, stop: int) -> list[float]:
    """After each value; behind the first ``stop`` of them the state goes through a checkpoint."""

    def scalar(value: float) -> torch.nn.Module:
        return torch.nn.ParameterList([torch.tensor(value)])

    model, found = AveragedModel(scalar(0.0), multi_avg_fn=averaging(decay)), []
    for number, value in enumerate(values):
        if number == stop:
            state, model = model.state_dict(), AveragedModel(scalar(0.0), multi_avg_fn=averaging(decay))
            model.load_state_dict(state)
        model.update_parameters(scalar(value))
        found.append(next(model.module.parameters()).item())
    return found


def test_the_average_forgets_its_first_weights() -> None:
    # the first is copied; then 2/11·1 + 9/11·12 = 10, 3/12·10 + 9/12·2 = 4, 4/13·4 + 9/13·17 = 13
    values = [1.0, 12.0, 2.0, 17.0]
    for stop in range(4):
        assert averages(0.999, values, stop=stop) == pytest.approx([1.0, 10.0, 4.0, 13.0])
    # 2/11 is below 0.2, the others are not: 0.2·10 + 0.8·2 = 3.6
    assert averages(0.2, values, stop=4) == pytest.approx([1.0, 10.0, 3.6, 14.32])


def test_the_average_of_a_short_training_has_learnt(folder: Path) -> None:
    plain, averaged = (metrics(train(folder, f"short-{ema}", epochs=8, ema=ema)) for ema in (0.0, 0.999))
    assert averaged["steps"] == 48
    assert averaged["validation_loss"] < 0.7 * math.log(4)  # of guessing among four species
    assert averaged["validation_top1"] >= plain["validation_top1"] - 0.1


def test_a_held_out_species_that_training_lacks(folder: Path, tmp_path: Path) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    kept = [row for row in rows if row["split"] != "train" or row["label"] != "Rubra erecta"]
    write_table(tmp_path / "dataset.parquet", kept, DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    with pytest.raises(InputError, match="Rubra erecta is held out and has no training crop"):
        train(tmp_path, epochs=1)


def test_sampler_and_loss_balance_in_their_own_ways(folder: Path) -> None:
    losses = {
        way: metrics(train(folder, way, epochs=1, balance=way))["train_loss"] for way in ("none", "sampler", "loss")
    }
    assert len(set(losses.values())) == 3


#: With a frozen backbone, since batch statistics are of each process's part.
TOGETHER: dict[str, Any] = {
    "epochs": 3,
    "frozen_epochs": 3,
    "balance": "sampler",
    "place": "late",
    "accumulate": 2,
    "ema": 0.99,
}
#: The command ``instar``, whose first process gets SIGTERM when it has read so many crops.
STOPPED = """
import os, signal, sys
from instar.classifier.data import CropReader
from instar.cli import main

reads, whole = 0, CropReader.read

def counting(self, index):
    global reads
    reads += 1
    if reads == int(os.environ["STOP_AT"]) and "LOCAL_RANK" not in given:
        os.kill(os.getpid(), signal.SIGTERM)
    return whole(self, index)

given = set(os.environ)
CropReader.read = counting
sys.exit(main())
"""


def two_processes(folder: Path, out: Path, stop_at: int) -> subprocess.Popen[str]:
    settings = {**SETTINGS, **TOGETHER, "batch": 4, "devices": 2}
    paths = {"crops": folder / "crops", "dataset": folder / "dataset.parquet", "out": out / "classifier"}
    paths |= {"out_metrics": out / "classifier.json", "out_curves": out / "curves", "work": out / "work"}
    words = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]
    words += [f"--{name}={path}" for name, path in paths.items()]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    environment["STOP_AT"] = str(stop_at)
    script = folder / "stopped.py"
    script.write_text(STOPPED)
    command = [sys.executable, str(script), "classifier", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


# each reads 52 crops in 13 batches that train and 12 that validate: amid epoch 2's second accumulation, in a validation
@pytest.mark.parametrize(("stop_at", "epoch"), [(64 + 9, 2), (60, 2)])
def test_two_processes_learn_what_one_does_also_when_stopped(folder: Path, stop_at: int, epoch: int) -> None:
    out = folder / f"together-{stop_at}"
    first = two_processes(folder, out, stop_at)
    _, told = first.communicate(timeout=300)
    assert first.returncode != 0, told
    assert "stopped by SIGTERM; the next run goes on" in told
    assert not (out / "classifier").exists()
    again = two_processes(folder, out, 0)
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert [line.split(",")[0][-3:] for line in told.splitlines() if "classifier: epoch" in line] == [
        f"{done}/3" for done in range(epoch, 4)
    ]
    alone = train(folder, "alone", **TOGETHER, batch=8)
    one, two = weights(alone), weights(out)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    figures, expected = metrics(out), metrics(alone)
    assert figures["steps"] == expected["steps"]
    assert figures["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-4)
    assert losses(out) == pytest.approx(losses(alone), rel=1e-4)


def losses(out: Path) -> list[float]:
    lines = (out / "curves/train/loss.tsv").read_text().splitlines()
    assert len(lines) == 4
    return [float(line.split("\t")[1]) for line in lines[1:]]


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
