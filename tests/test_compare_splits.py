"""The comparison of splits: the same crops and classifier, each way trained once."""

import csv
from pathlib import Path
from typing import Any

import lightning
import pytest
from crop_shards import SETTINGS, SPECIES, write_crops
from photo_shards import write_annotations
from project import ROOT

from instar.compare.command import compare
from instar.compare.splits import COLUMNS, table_text
from instar.errors import InputError
from instar.study import compose
from instar.tables import TAXONOMY, write_table


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with the demo's parameters made small, and drawn crops."""
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, "epochs": 1, "beta": 0, "devices": 2}
    swept = ("seed", "beta", "max_weight", "loss", "balance", "place")
    classifier = [f"classifier.{name}={value}" for name, value in settings.items() if name not in swept]
    dataset = ["dataset.min_crop_px=1", "dataset.min_class_crops=2", "dataset.validation_crops=6"]
    overrides = ["shards=[a,b]", "evaluation.bootstrap=100", *classifier, *dataset]
    (tmp_path / "params.yaml").write_text(compose("demo", overrides))
    data = tmp_path / "data/demo"
    write_crops(data)
    taxa: list[dict[str, str | None]] = [
        {"taxon_id": f"species:{name}", "name": name, "rank": "species", "species": name, "genus": name.split()[0]}
        for name in SPECIES
    ]
    taxa.append({"taxon_id": "genus:Rubra", "name": "Rubra", "rank": "genus", "species": None, "genus": "Rubra"})
    write_table(data / "taxonomy.parquet", taxa, TAXONOMY)
    write_annotations(data / "annotations.json", {}, (64, 48))
    return data


def test_compare_two_splits(study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, devices = lightning.Trainer, []

    def watched(**given: Any) -> lightning.Trainer:
        devices.append(given["devices"])
        assert given["devices"] == 1  # two processes would run the comparison once more
        return trainer(**given)

    monkeypatch.setattr(lightning, "Trainer", watched)
    assert compare(["splits", "random", "observation"]) == 0
    told = capsys.readouterr()
    with (study / "comparison/splits.csv").open() as file:
        random, observation = csv.DictReader(file)
    assert list(random) == COLUMNS
    assert random["held_out"] == observation["held_out"] == "24"
    assert observation["observation"] == "0" < random["observation"]
    for row in (random, observation):
        assert 0 <= float(row["low"]) <= float(row["species_top1"]) <= float(row["high"]) <= 1
    assert told.out.splitlines()[2].startswith("| random | 24 | ")
    assert "epoch" in told.err
    assert devices == [1, 1]
    assert compare(["splits", "observation"]) == 0
    assert "epoch" not in capsys.readouterr().err  # not trained again


def test_an_unknown_split(study: Path) -> None:
    with pytest.raises(
        InputError, match="camera: no way to split; there are random, photograph, observation, observer"
    ):
        compare(["splits", "camera"])


def test_a_study_without_labels(study: Path) -> None:
    Path("params.yaml").write_text(compose("demo", ["labels=[]"]))
    with pytest.raises(InputError, match="study demo has no labels"):
        compare(["splits"])


def test_table_of_nothing() -> None:
    assert table_text([]).splitlines()[0].startswith("| split by | held-out crops | share a photograph | ")
