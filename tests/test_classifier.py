"""Tests of instar.classifier: model, training and stage."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from crop_shards import SPECIES, train, write_crops
from safetensors.torch import load_file, save_file

from instar.classifier import fit
from instar.classifier.fit import write_curves
from instar.classifier.labels import LabelSpace
from instar.classifier.model import DESCRIPTION, WEIGHTS, Description, build_network, check_model, load, normalisation
from instar.classifier.train import Epoch, learning_rate_share
from instar.errors import InputError
from instar.tables import DATASET, read_table, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("study")
    write_crops(path)
    return path


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return train(folder)


def metrics(out: Path) -> Any:
    return json.loads((out / "classifier.json").read_text())


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_small_model_learns_the_drawn_crops(trained: Path) -> None:
    figures = metrics(trained)
    assert figures["validation_top1"] >= 0.75
    assert figures["rows"] == {"in": 129, "out": 128, "dropped": {"dropped by dataset": 1}}
    assert (figures["train_crops"], figures["validation_crops"]) == (104, 24)
    assert (figures["classes"], figures["epochs"], figures["steps"]) == (6, 6, 36)
    assert figures["best_validation_top1"] >= figures["validation_top1"]


def test_outputs_are_these_files_and_no_other(trained: Path) -> None:
    tables = {"train/loss", "train/learning_rate", "validation/loss", "validation/top1"}
    assert tree(trained) == {
        "classifier.json",
        f"classifier/{WEIGHTS}",
        f"classifier/{DESCRIPTION}",
        *(f"curves/{name}.tsv" for name in tables),
    }
    curve = pd.read_csv(trained / "curves" / "validation" / "top1.tsv", sep="\t")
    assert list(curve.columns) == ["step", "top1"]
    assert curve["step"].tolist() == [6, 12, 18, 24, 30, 36]
    assert curve["top1"].iloc[-1] == pytest.approx(metrics(trained)["validation_top1"])


def test_description_says_what_it_was_made_from(folder: Path, trained: Path) -> None:
    fields = json.loads((trained / "classifier" / DESCRIPTION).read_text())
    assert [label["name"] for label in fields["labels"]] == [*SPECIES, "Rubra", "Viridis"]
    assert fields["labels"][0] == {"name": SPECIES[0], "rank": "species", "parent": "Rubra", "train_crops": 24}
    assert fields["labels"][4] == {"name": "Rubra", "rank": "genus", "parent": None, "train_crops": 8}
    assert fields["labels"][5] == {"name": "Viridis", "rank": "genus", "parent": None, "train_crops": 0}
    assert fields["dataset_md5"] == hashlib.md5((folder / "dataset.parquet").read_bytes()).hexdigest()
    assert fields["licences"] == {"cc-by": 52, "cc0": 52}
    assert str(folder) not in (trained / "classifier" / DESCRIPTION).read_text()


def test_loading_gives_the_trained_network(trained: Path) -> None:
    network, description = load(trained / "classifier")
    assert not network.training
    weights = load_file(trained / "classifier" / WEIGHTS)
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    pixels = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    expected = [(1 - mean) / std for mean, std in zip(description.mean, description.std, strict=True)]
    assert description.normalise(pixels)[0, :, 0, 0].tolist() == pytest.approx(expected)
    assert network(description.normalise(pixels), torch.zeros(1, 2)).shape == (1, 4)


def test_same_seed_gives_the_same_weights_whatever_the_workers(folder: Path) -> None:
    runs = [train(folder, f"again-{workers}", epochs=2, workers=workers) for workers in (0, 2)]
    first, second = (load_file(run / "classifier" / WEIGHTS) for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert metrics(runs[0]) == metrics(runs[1])
    other = metrics(train(folder, "other", epochs=2, seed=1))
    assert other["train_loss"] != metrics(runs[0])["train_loss"]


def described(model: str, image_px: int, *, pretrained: bool = False) -> Description:
    """A classifier of three species without a genus."""
    labels = LabelSpace(("a", "b", "c"), ("species",) * 3, (-1,) * 3)
    numbers: Any = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "train_crops": (1, 1, 1), "licences": {}}
    numbers |= {"early_stop": 0, "train_crops_with_place": 0, "train_box": None}
    made: Any = {"dataset_md5": "", "code_sha256": "", "instar": ""}
    return Description(model, pretrained, image_px, labels=labels, loss="flat", place="none", **numbers, **made)


def test_class_weights_follow_beta(folder: Path) -> None:
    plain, balanced = (metrics(train(folder, f"beta-{beta}", epochs=1, beta=beta)) for beta in (0.0, 0.99))
    assert plain["train_loss"] != balanced["train_loss"]


def test_progress_is_a_line_per_epoch_and_nothing_else(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(folder, "lines", epochs=2)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("classifier: epoch 2/2, loss ")
    assert lines[1].endswith(" 0 s left")


def test_nothing_is_left_in_the_working_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(folder, "elsewhere", epochs=1)
    assert tree(tmp_path) == set()


def test_without_validation_crops(folder: Path, tmp_path: Path) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["split"] == "train"], DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    out = train(tmp_path, epochs=1)
    assert "validation_top1" not in metrics(out)
    assert tree(out / "curves") == {"train/loss.tsv", "train/learning_rate.tsv"}


def test_a_lost_loss_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^the loss is nan in epoch 1 at .*; lower classifier\.learning_rate$"):
        train(folder, "lost", epochs=1, learning_rate=1e30)
    assert not (folder / "lost" / "classifier").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_crop_is_told_in_one_line(folder: Path, tmp_path: Path, workers: int) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    write_table(tmp_path / "dataset.parquet", [{**row, "offset": row["offset"] + 9} for row in rows], DATASET)
    (tmp_path / "crops").symlink_to(folder / "crops")
    with pytest.raises(InputError, match=r"^\S+\.tar: crop folder-\d+-0 is no image; run crops again$"):
        train(tmp_path, epochs=1, workers=workers)


def test_one_class_is_too_few(folder: Path, tmp_path: Path) -> None:
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["label"] == SPECIES[0]], DATASET)
    with pytest.raises(InputError, match=r"dataset\.parquet: classes: 1, a classifier needs two"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10", r"classifier\.model = resnet10: .* close to it are resnet10t"),
        ("resnet10t.c9_in1k", r"close to it are resnet10t\.c3_in1k"),
        ("hf-hub:someone/model", r"timm has no such model"),
    ],
)
def test_an_unknown_model_is_refused_with_close_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_model(name)


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224", "vit_large_patch16_dinov3.lvd1689m"])
def test_models_of_every_kind_take_our_size(name: str) -> None:
    with torch.device("meta"):
        network = build_network(described(name, 64))
        assert network(torch.rand(2, 3, 64, 64), torch.zeros(2, 2)).shape == (2, 3)


def test_normalisation_is_the_models_own() -> None:
    assert normalisation("vit_tiny_patch16_224") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation("resnet18") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_weights_that_no_hub_supplies_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"classifier\.model = test_resnet .*set classifier\.pretrained to false$"):
        build_network(described("test_resnet", 32, pretrained=True))


def test_published_weights_are_loaded_without_their_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    published = timm.create_model("test_resnet").state_dict()
    repository = tmp_path / "models--timm--test_resnet.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(published, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = build_network(described("test_resnet", 32, pretrained=True)).backbone.state_dict()
    assert set(published) - set(found) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(found[name], published[name]) for name in found)


def test_a_damaged_classifier_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classifier\.json: no such file; run classifier"):
        load(tmp_path)
    text = (trained / "classifier" / DESCRIPTION).read_text()
    (tmp_path / DESCRIPTION).write_text(text[:50])
    with pytest.raises(InputError, match=r"classifier\.json: no description of a classifier"):
        load(tmp_path)
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(InputError, match=r"weights\.safetensors: no such file"):
        load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((trained / "classifier" / WEIGHTS).read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"weights\.safetensors: no weights of test_resnet"):
        load(tmp_path)


class Harmful:
    """A pickle of it writes a file where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_loading_runs_nothing_that_a_file_says(trained: Path, folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    shutil.copy(trained / "classifier" / DESCRIPTION, tmp_path)
    torch.save({"head.weight": Harmful(trace)}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"weights\.safetensors: no weights of test_resnet"):
        load(tmp_path)
    assert not trace.exists()
    # a checkpoint in the place of a stopped training's
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "CHECKPOINT_INTERVAL_S", 0.0)
        patch.setattr(fit.Lines, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(folder, "harmed", epochs=2)
    (checkpoint,) = (folder / "harmed" / "work").rglob(fit.CHECKPOINT)
    torch.save({"state_dict": Harmful(trace)}, checkpoint)
    with pytest.raises(InputError, match=r"last\.ckpt: no checkpoint of ours"):
        train(folder, "harmed", epochs=2)
    assert not trace.exists()


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def share(step: int, *, start: int = 0, steps: int = 20, schedule: str = "cosine") -> float:
    return learning_rate_share(step, start=start, steps=steps, warmup=0.1, schedule=schedule)


def test_learning_rate_rises_then_falls() -> None:
    shares = [share(step) for step in range(20)]
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares[11] == pytest.approx(0.5)  # half of the 18 steps after the warm-up
    assert all(np.diff(shares[2:]) < 0)
    assert share(20) == pytest.approx(0)
    assert share(0, steps=1) == 1.0


def test_learning_rate_falls_in_a_line() -> None:
    assert [share(step, schedule="linear") for step in (2, 11, 20)] == [1.0, 0.5, 0.0]


def test_a_frozen_part_begins_later_with_a_warm_up_of_its_own() -> None:
    assert [share(step, start=10, steps=30) for step in (0, 9, 10, 11, 12)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert share(21, start=10, steps=30) == pytest.approx(0.5)


def test_curves_in_a_repository_of_dvc_touch_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "start"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    write_curves(Path("curves"), [Epoch(7, 2.0, 0.1, 1.5, 0.25), Epoch(14, 1.0, 0.0, 1.25, 0.5)])
    names = {"train/loss", "train/learning_rate", "validation/loss", "validation/top1"}
    assert tree(tmp_path) - before == {f"curves/{name}.tsv" for name in names}
    assert before <= tree(tmp_path)
    assert Path("curves/train/loss.tsv").read_text() == "step\tloss\n7\t2.0\n14\t1.0\n"
