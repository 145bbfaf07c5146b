"""Tests of instar.evaluation.stage."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crop_shards import SPECIES
from evaluation_study import NAMES, run, validation_rows, write_classifier, write_study

from instar.classifier.model import load, save
from instar.errors import InputError
from instar.metrics.bootstrap import cluster_bootstrap
from instar.splits import id_hash
from instar.tables import DATASET, PHOTOGRAPHS, PREDICTIONS, read_table, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("study")
    write_study(path)
    return path


@pytest.fixture(scope="module")
def fixed(folder: Path) -> Path:
    return write_classifier(folder, "fixed")


@pytest.fixture(scope="module")
def judged(fixed: Path, folder: Path) -> tuple[Path, Any]:
    """What the stage writes about the fixed answers, and its metrics."""
    return folder / "judged", run(fixed, folder, folder / "judged")


def test_figures_of_fixed_probabilities_by_hand(judged: tuple[Path, Any], folder: Path) -> None:
    # 6 validation crops of each species: Viridis erecta is always named first, its genus never
    _, figures = judged
    assert (figures["crops"], figures["observations"], figures["species"]) == (24, 8, 4)
    assert (figures["split"], figures["species_in_training_only"]) == ("validation", 0)
    assert figures["rows"] == {"in": 24, "out": 24, "dropped": {}}
    species, genus = figures["species_accuracy"], figures["genus_accuracy"]
    assert species["top1_micro"]["value"] == species["top1_macro"]["value"] == 0.25
    assert species["top5_micro"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert genus["top1_micro"]["value"] == genus["top1_macro"]["value"] == 0.5
    assert genus["top5_macro"]["value"] == 1.0  # there are two genera: top-5 is top-2
    rows = validation_rows(folder)
    hits, observations = (rows["genus"] == "Rubra").to_numpy(float), rows["observation_id"].to_numpy(object)
    low, high = cluster_bootstrap(hits, observations, resamples=200, seed=0)
    assert genus["top1_micro"] == pytest.approx({"value": 0.5, "low": low, "high": high}, abs=1e-6)
    assert figures["identifiers"] is None


def test_predictions_are_the_best_first_of_each_rank(judged: tuple[Path, Any]) -> None:
    rows = read_table(judged[0] / "predictions.parquet", PREDICTIONS).to_pylist()
    assert len(rows) == 24
    assert rows[0]["top"] == ["Viridis erecta", "Rubra stricta", "Rubra erecta", "Viridis stricta"]
    assert rows[0]["probability"] == pytest.approx([0.4, 0.12, 0.1, 0.07])
    assert rows[0]["top_genus"] == ["Rubra", "Viridis"]
    assert {row["label"] for row in rows} == set(SPECIES)


def test_classes_and_confusion(judged: tuple[Path, Any]) -> None:
    classes = pd.read_csv(judged[0] / "classes.csv").set_index("label")
    assert list(classes.columns) == ["genus", "train_crops", "held_out_crops", "top1", "top5"]
    assert tuple(classes.loc["Viridis erecta"]) == ("Viridis", 24, 6, 1.0, 1.0)
    assert tuple(classes.loc["Rubra erecta"]) == ("Rubra", 24, 6, 0.0, 1.0)
    assert tuple(classes.loc["Rubra", ["train_crops", "held_out_crops"]]) == (8, 0)
    assert classes["top1"].isna().to_dict()["Rubra"]
    confusion = pd.read_csv(judged[0] / "confusion.csv")
    assert confusion.value_counts().to_dict() == {("Rubra", "Rubra"): 12, ("Viridis", "Rubra"): 12}


def test_calibration_of_fixed_probabilities_by_hand(judged: tuple[Path, Any]) -> None:
    # 0.4 sure, right in a quarter; at any temperature there is one confidence for each half of the observations
    calibration = judged[1]["calibration"]
    errors = calibration["expected_calibration_error"]
    assert errors["before"] == pytest.approx(0.15)
    # the logits at temperature T are log(p) / T: all four species are as frequent, so nothing is told
    assert calibration["temperature"] > 3
    curve = pd.read_csv(judged[0] / "reliability.csv")
    assert list(curve.columns) == ["low", "high", "count", "confidence", "accuracy"]
    assert curve["count"].sum() == 24 and len(curve) <= 2
    gap = (curve["count"] * (curve["confidence"] - curve["accuracy"]).abs()).sum() / 24
    assert errors["after"] == pytest.approx(gap, abs=1e-5)


def test_roll_up(judged: tuple[Path, Any]) -> None:
    curve = pd.read_csv(judged[0] / "rollup.csv")
    assert tuple(curve.iloc[0]) == (0, 1, 0.25, 1, 0)  # always the species
    assert curve["coverage"].is_monotonic_decreasing
    assert np.allclose(curve["species"] + curve["genus"], curve["coverage"])
    genus_only = curve[(curve["species"] == 0) & (curve["genus"] == 1)]
    assert set(genus_only["accuracy"]) == {0.5}
    assert judged[1]["calibration"]["roll_up"] == {"wanted_accuracy": 0.95, "threshold": None, "at": None}


#: Of every crop, at each rank.
WHAT_IS_SAID = {"label": "Viridis erecta", "genus": "Rubra"}


def test_the_threshold_is_the_lowest_that_is_right_often_enough(fixed: Path, folder: Path, tmp_path: Path) -> None:
    rolled = run(fixed, folder, tmp_path, wanted_accuracy=0.5)["calibration"]["roll_up"]
    at, threshold = rolled["at"], rolled["threshold"]
    curve = pd.read_csv(tmp_path / "rollup.csv").set_index("threshold")
    assert curve.loc[threshold, "accuracy"] >= 0.5
    assert (curve["accuracy"][curve.index < threshold] < 0.5).all()
    # crosswise: always Viridis erecta, or Rubra; each half gets the species if that is right for half of the other's
    # crops, else the genus if that is, else nothing
    rows = validation_rows(folder)
    ordered = sorted(rows["observation_id"].unique(), key=id_hash)
    half = rows["observation_id"].map(ordered.index) % 2
    assert half.value_counts().to_dict() == {0: 12, 1: 12}
    erecta, rubra = (half[rows[rank] == name].value_counts() / 12 for rank, name in WHAT_IS_SAID.items())
    ranks = ["species" if erecta.get(other, 0) >= 0.5 else "genus" if rubra[other] >= 0.5 else None for other in (1, 0)]
    assert at["species"] == ranks.count("species") / 2
    assert at["genus"] == ranks.count("genus") / 2
    assert 0 < at["coverage"] == at["species"] + at["genus"]


def test_no_observation_calibrates_itself(folder: Path, tmp_path: Path) -> None:
    """Answers for one half of the observations do not depend on the labels of that half, but on the other's."""
    from instar.classifier.predict import Predictor
    from instar.evaluation.answers import Logits
    from instar.evaluation.calibrated import temperatures

    predictor = Predictor(write_classifier(folder, "half"))
    observations = np.array([f"o{number}" for number in range(20)], dtype=object)
    ordered = sorted(observations, key=id_hash)
    half = np.array([ordered.index(name) % 2 for name in observations])
    targets = np.array([2, 1] * 10)  # Viridis erecta, the likeliest, and another
    with (tmp_path / "logits").open("w+b") as file:
        logits = Logits(file)
        logits.add(np.tile(load(folder / "half")[0].state_dict()["head.bias"].numpy(), (20, 1)))
        given = temperatures(predictor, logits, targets, observations, 20)
        changed = temperatures(predictor, logits, np.where(half == 0, 2, targets), observations, 20)
        apart = temperatures(predictor, logits, targets, observations, 12)
    each, of_changed = given.of(observations), changed.of(observations)
    assert len(set(each[half == 0])) == len(set(each[half == 1])) == 1
    assert (of_changed[half == 0] == each[half == 0]).all()
    assert (of_changed[half == 1] < each[half == 1]).all()
    # with a split of its own every judged crop gets the temperature of validation
    assert apart.of(observations[12:]).tolist() == [apart.all] * 8


def test_temperature_by_hand(folder: Path, tmp_path: Path) -> None:
    from instar.classifier.predict import Predictor
    from instar.evaluation.answers import Logits
    from instar.evaluation.calibrated import temperatures

    # two outputs alone have a chance: 0.9 and 0.1, right in 3 of 4 gives temperature 2
    predictor = Predictor(write_classifier(folder, "two"))
    with (tmp_path / "logits").open("w+b") as file:
        logits = Logits(file)
        logits.add(np.tile(np.array([math.log(9), 0, -999, -999, -999, -999]), (4, 1)))
        fitted = temperatures(predictor, logits, np.array([0, 0, 0, 1]), np.array(["a"] * 4, dtype=object), 4)
    assert fitted.all == pytest.approx(2, abs=1e-3)
    # the other half holds nothing
    assert fitted.of(np.array(["a"] * 4, dtype=object)).tolist() == [1] * 4


def test_places_and_resolutions(folder: Path, tmp_path: Path) -> None:
    # known places change nothing, without one Rubra stricta is always named first; a quarter of b's crops have none
    placed = write_classifier(folder, "placed", place="late")
    figures = run(placed, folder, tmp_path, resolutions=[32, 48])
    table = pd.read_csv(tmp_path / "accuracy.csv")
    assert list(zip(table["image_px"], table["place"], strict=True)) == [
        (px, place) for px in (32, 48) for place in ("true", "none", "wrong")
    ]
    rows = validation_rows(folder)
    unplaced = rows["latitude"].isna()
    # a crop without a place has no wrong one either
    assert table["crops"].tolist() == [24, 24, 24 - unplaced.sum()] * 2
    right = np.where(unplaced, rows["label"] == "Rubra stricta", rows["label"] == "Viridis erecta")
    assert 0 < unplaced.sum() == figures["crops_without_place"] == figures["crops_without_wrong_place"]
    by_place = table.set_index(["image_px", "place"])["species_top1_micro"]
    assert by_place[32, "true"] == pytest.approx(right.mean(), abs=1e-6)
    assert by_place[32, "none"] == 0.25
    # any known place changes nothing, so what is judged with a wrong one is what is judged with its true one
    assert by_place[32, "wrong"] == pytest.approx(right[~unplaced].mean(), abs=1e-6) != by_place[32, "true"]
    assert figures["resolutions"]["32"]["wrong"]["crops"] == 24 - unplaced.sum()
    assert figures["species_accuracy"]["top1_micro"]["value"] == by_place[32, "true"]
    assert figures["resolutions"]["48"]["none"]["species_accuracy"]["top1_micro"]["value"] == by_place[48, "none"]
    genus = table.set_index(["image_px", "place"])["genus_top1_micro"]
    assert genus[32, "none"] == 0.5
    assert table.filter(like="_low").le(table.filter(like="_high").to_numpy()).all(axis=None)


def test_no_crop_has_a_wrong_place(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    rows = [{**row, "latitude": 45.0, "longitude": -100.0} for row in rows]
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    figures = run(write_classifier(tmp_path, "own", place="late"), tmp_path, tmp_path / "out")
    assert pd.read_csv(tmp_path / "out/accuracy.csv")["place"].tolist() == ["true", "none"]
    assert set(figures["resolutions"]["32"]) == {"true", "none"}
    assert figures["crops_without_wrong_place"] == 24


def test_a_classifier_without_place_is_judged_without(judged: tuple[Path, Any]) -> None:
    assert pd.read_csv(judged[0] / "accuracy.csv")["place"].tolist() == ["none"]
    assert "crops_without_wrong_place" not in judged[1]


def test_groups_sum_to_all_crops(judged: tuple[Path, Any], folder: Path) -> None:
    groups = pd.read_csv(judged[0] / "groups.csv")
    assert groups.groupby("by")["crops"].sum().to_dict() == {"class size": 24, "source": 24, "region": 24}
    assert groups[groups["by"] == "class size"]["group"].tolist() == ["10 to 29"]
    rows = validation_rows(folder)
    specimens = groups.set_index("group").loc["specimen"]
    assert specimens["crops"] == (rows["basis"] == "specimen").sum()
    inside = rows[rows["basis"] == "specimen"]
    assert specimens["species_top1"] == pytest.approx((inside["label"] == "Viridis erecta").mean(), abs=1e-6)
    regions = groups[groups["by"] == "region"].set_index("group")
    assert regions.loc["30 to 60 N, -120 to -90 E", "genus_top1"] == 1  # Rubra lives there
    assert regions.loc["-30 to 0 N, 0 to 30 E", "genus_top1"] == 0
    within = rows[rows["latitude"] > 0]
    assert regions.loc["30 to 60 N, -120 to -90 E", "observations"] == within["observation_id"].nunique()
    assert regions.loc["unknown", "crops"] == rows["latitude"].isna().sum()


def test_macro_counts_each_class_alike(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    left_out = [row["key"] for row in rows if row["split"] == "validation" and row["label"] == "Rubra erecta"][1:]
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["key"] not in left_out], DATASET)
    figures = run(write_classifier(tmp_path, "own"), tmp_path, tmp_path / "out")
    assert figures["species_accuracy"]["top1_micro"]["value"] == pytest.approx(6 / 19, abs=1e-6)
    assert figures["species_accuracy"]["top1_macro"]["value"] == 0.25
    assert figures["genus_accuracy"]["top1_micro"]["value"] == pytest.approx(7 / 19, abs=1e-6)


def test_a_test_split_is_judged_and_validation_calibrates(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    held = [row for row in rows if row["split"] == "validation"]
    for row in held:
        row["split"] = "test" if row["genus"] == "Viridis" else "validation"
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    figures = run(write_classifier(tmp_path, "own"), tmp_path, tmp_path / "out")
    assert (figures["split"], figures["crops"], figures["species"]) == ("test", 12, 2)
    assert figures["species_accuracy"]["top1_micro"]["value"] == 0.5
    assert figures["photographs"]["rows"]["in"] == 12
    # validation, all Rubra, is never Viridis erecta, which is said at 0.4: the answers get less sure
    assert figures["calibration"]["temperature"] > 1
    assert len(pd.read_csv(tmp_path / "out" / "reliability.csv")) == 1
    # so are those of photographs: logits log(p) / T make p^(1/T)
    scaled = np.array([0.4, 0.12, 0.1, 0.07, 0.3, 0.01]) ** (1 / figures["calibration"]["temperature"])
    photograph = read_table(tmp_path / "out/photographs.parquet", PHOTOGRAPHS).to_pylist()[0]
    assert photograph["probability"] == pytest.approx(scaled[:4] / scaled.sum(), rel=1e-4)


def test_it_is_told_where_the_judged_crops_chose_the_weights(
    judged: tuple[Path, Any], folder: Path, tmp_path: Path
) -> None:
    """By what the classifier says of its training, and not where the split test is judged."""
    assert judged[1]["judged_chose_epoch"] is False
    stopped = write_classifier(folder, "stopped", early_stop=5)
    assert run(stopped, folder, tmp_path / "validation")["judged_chose_epoch"] is True
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    for row in rows:
        row["split"] = "test" if row["split"] == "validation" and row["genus"] == "Viridis" else row["split"]
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    stopped = write_classifier(tmp_path, "stopped", early_stop=5)
    assert run(stopped, tmp_path, tmp_path / "test")["judged_chose_epoch"] is False


def test_answers_named_to_genus_count_for_the_genus_alone(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    named = [row for row in rows if row["label"] == "Rubra"]
    for row in named[:2]:
        row["split"] = "validation"
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    figures = run(write_classifier(tmp_path, "own"), tmp_path, tmp_path / "out")
    assert (figures["crops"], figures["species"]) == (26, 4)
    assert figures["species_accuracy"]["top1_micro"]["value"] == 0.25
    assert figures["genus_accuracy"]["top1_micro"]["value"] == pytest.approx(14 / 26, abs=1e-6)
    classes = pd.read_csv(tmp_path / "out/classes.csv").set_index("label")
    assert tuple(classes.loc["Rubra", ["held_out_crops", "top1"]]) == (2, 1)
    assert pd.read_csv(tmp_path / "out/reliability.csv")["count"].sum() == 24


def test_a_study_whose_labels_are_all_genera(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    rows = [{**row, "label": row["genus"], "rank": "genus", "species": None} for row in rows]
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    figures = run(write_classifier(tmp_path, "own", fixed=False), tmp_path, tmp_path / "out")
    assert (figures["crops"], figures["species"], figures["species_accuracy"]) == (24, 0, None)
    assert 0 <= figures["genus_accuracy"]["top1_micro"]["value"] <= 1
    assert figures["genus_accuracy"]["top5_micro"]["value"] == 1
    assert figures["calibration"]["expected_calibration_error"] == {"before": None, "after": None}
    assert figures["calibration"]["roll_up"]["at"] is None
    predictions = read_table(tmp_path / "out/predictions.parquet", PREDICTIONS).to_pylist()
    assert all(row["top"] == [] and len(row["top_genus"]) == 2 for row in predictions)


def test_no_class_of_a_rank_is_confidence_0() -> None:
    from instar.classifier.labels import LabelSpace
    from instar.evaluation.answers import Ranked, Truth
    from instar.evaluation.calibrated import sureness

    labels = LabelSpace(("Aa bb", "Aa"), ("species", "genus"), (1, -1))
    truth = Truth(labels, np.array([0, 0]), np.array(["o", "p"], dtype=object))
    none = Ranked(np.empty((2, 0), np.int64), np.empty((2, 0), np.float32))
    found = {"species": none, "genus": Ranked(np.ones((2, 1), np.int64), np.full((2, 1), 0.5, np.float32))}
    confidence, right = sureness(found, truth)
    assert confidence.tolist() == [[0, 0.5], [0, 0.5]]
    assert right.tolist() == [[False, True], [False, True]]


def test_equal_runs_write_equal_bytes(fixed: Path, folder: Path, tmp_path: Path, judged: tuple[Path, Any]) -> None:
    run(fixed, folder, tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (judged[0] / name).read_bytes(), name
    assert not [path for path in tmp_path.iterdir() if path.name not in NAMES]


def test_another_identifier(fixed: Path, folder: Path, tmp_path: Path) -> None:
    rows = validation_rows(folder).sort_values("photo_key")
    by_label = rows.groupby("label")["photo_key"].first()
    right, genus = by_label["Viridis erecta"], by_label["Rubra erecta"]
    table = f"photo_key,top1,top2,top3,top4,top5\n{right},Viridis recta,,,,\n{genus},Rubra sp.,,,,\n"
    (tmp_path / "other.csv").write_text(table)
    (tmp_path / "synonyms.csv").write_text("name,accepted\nViridis recta,Viridis erecta\n")
    given = {name: tmp_path / f"{name}.csv" for name in ("other", "synonyms")}
    figures = run(fixed, folder, tmp_path / "out", **given)["identifiers"]
    # ours: Viridis erecta first (10), Rubra erecta among the five (5); the other was asked about no more
    assert (figures["photographs"], figures["both_right"], figures["without_answer"]) == (1, 1, 0)
    assert figures["points"] == {"ours": 5, "other": 3}
    sheet = pd.read_csv(tmp_path / "out/identifiers.csv", keep_default_na=False).set_index("photo_key")
    assert len(sheet) == 2
    assert tuple(sheet.loc[right, ["other_1", "ours_points", "other_points"]]) == ("Viridis erecta", 10, 10)
    assert tuple(sheet.loc[genus, ["other_1", "ours_points", "other_points"]]) == ("Rubra", 5, 3)


def test_photographs_of_the_demo_shape(judged: tuple[Path, Any]) -> None:
    # each crop is a photograph of its own
    figures = judged[1]["photographs"]
    assert figures["rows"] == {"in": 24, "out": 24, "dropped": {}}
    assert (figures["missed"], figures["crops"], figures["observations"]) == (0, 24, 8)
    assert figures["species_accuracy"]["top1_micro"] == judged[1]["species_accuracy"]["top1_micro"]
    rows = read_table(judged[0] / "photographs.parquet", PHOTOGRAPHS).to_pylist()
    # at the temperature of the other half of the observations, as the crops' calibrated answers
    curve = pd.read_csv(judged[0] / "reliability.csv")
    sure = [row["probability"][0] for row in rows]
    assert len(rows) == 24 and np.mean(sure) < 0.3
    assert np.mean(sure) == pytest.approx(np.average(curve["confidence"], weights=curve["count"]), abs=1e-5)


def test_no_validation_crop(fixed: Path, folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    write_table(tmp_path / "dataset.parquet", [row for row in rows if row["split"] != "validation"], DATASET)
    with pytest.raises(InputError, match=r"dataset\.parquet: no crop is for validation"):
        run(fixed, tmp_path, tmp_path / "out")


def test_a_classifier_of_another_split(fixed: Path, folder: Path, tmp_path: Path) -> None:
    """The labels are the same, but what is validated on may have been trained on."""
    copied(folder, tmp_path)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    swapped = {"train": "validation", "validation": "train"}
    rows = [{**row, "split": swapped.get(row["split"], row["split"])} for row in rows]
    write_table(tmp_path / "dataset.parquet", rows, DATASET)
    with pytest.raises(InputError, match=r"fixed: trained on a dataset with md5 .*; run classifier again"):
        run(fixed, tmp_path, tmp_path / "out")


def test_a_classifier_of_another_dataset(fixed: Path, folder: Path, tmp_path: Path) -> None:
    network, _ = load(fixed)
    description = json.loads((fixed / "classifier.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    save(other, network, load(fixed)[1])
    description["labels"][0]["name"] = "Rubra other"
    (other / "classifier.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"other: does not know Rubra erecta of .*; run classifier again"):
        run(other, folder, tmp_path / "out")


def copied(folder: Path, to: Path) -> None:
    """The study without its dataset."""
    (to / "crops").symlink_to(folder / "crops")
    for name in ("taxonomy.parquet", "annotations.json", "other.csv", "synonyms.csv"):
        (to / name).symlink_to(folder / name)


def test_a_single_observation_has_no_interval() -> None:
    from instar.classifier.labels import LabelSpace
    from instar.evaluation.answers import Ranked, Truth
    from instar.evaluation.groups import group_table

    labels = LabelSpace(("Aa bb", "Aa cc", "Aa"), ("species", "species", "genus"), (2, 2, -1))
    truth = Truth(labels, np.array([0, 0, 1]), np.array(["o", "o", "p"], dtype=object))
    of_rank = {"species": np.array([[0], [1], [1]]), "genus": np.array([[2], [2], [2]])}
    found = {rank: Ranked(classes, np.ones((3, 1), np.float32)) for rank, classes in of_rank.items()}
    rows = pd.DataFrame({"basis": ["field", "field", "specimen"]})
    nowhere = np.full((3, 2), np.nan, np.float32)
    settings: dict[str, Any] = {"region_deg": 30.0, "resamples": 100, "seed": 0}
    table = group_table(truth, found, rows, nowhere, (5, 1000, 0), **settings).set_index("group")
    assert list(table.index) == ["1 to 9", "1000 or more", "field", "specimen", "unknown"]
    assert table["observations"].tolist() == [1, 1, 1, 1, 2]
    assert table["species_top1"].tolist() == [0.5, 1, 0.5, 1, pytest.approx(2 / 3, abs=1e-6)]
    assert table["species_low"].isna().tolist() == [True, True, True, True, False]
    assert table[["species_low", "species_high"]].iloc[4].tolist() == [0.5, 1]


def test_neither_the_batch_nor_the_block_matters(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instar.evaluation import answers, photographs

    classifier = write_classifier(folder, "batched", place="late")
    run(classifier, folder, tmp_path / "whole")
    monkeypatch.setattr(answers, "BATCH", 5)
    monkeypatch.setattr(photographs, "BATCH", 3)
    monkeypatch.setattr(answers, "BLOCK", 40)  # logits of six crops
    run(classifier, folder, tmp_path / "parts")
    for name in NAMES:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_no_answer_is_no_hit_where_there_is_no_species() -> None:
    from instar.classifier.labels import LabelSpace
    from instar.evaluation.answers import Ranked, Truth

    labels = LabelSpace(("Aa bb", "Aa"), ("species", "genus"), (1, -1))
    truth = Truth(labels, np.array([1, 0, 0]), np.array(["o", "p", "q"], dtype=object))
    found = {"species": Ranked(np.array([[-1], [-1], [0]]), np.zeros((3, 1), np.float32))}
    assert truth.hits(found, "species", 1).tolist() == [False, False, True]
