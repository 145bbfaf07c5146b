"""Tests of instar.ablations."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import yaml
from crop_shards import SETTINGS as TRAINING
from crop_shards import SPECIES
from evaluation_study import add_rows, write_study
from photo_shards import encoded, write_annotations, write_images
from project import ROOT, TINY, Project
from test_dag import SOURCE, closure

from instar import dag
from instar.ablations.names import BASE, name_of
from instar.ablations.run import ablation, judged_rows, one_process
from instar.ablations.table import ablations, mean_of, questions, told_apart, verdict
from instar.ablations.variants import seeds, settings, variants
from instar.ablations.whole import (
    NO_CROP,
    NOT_JUDGED,
    NOT_LEARNT,
    TWO_LABELS,
    TWO_SPLITS,
    photograph_rows,
    whole_photographs,
)
from instar.classifier.labels import LabelSpace
from instar.errors import InputError
from instar.evaluation.photographs import HeldOut
from instar.params import Params, load
from instar.splits import CHOSE_EPOCH
from instar.study import compose
from instar.tables import ABLATION, CROPS, DATASET, read_shards, read_table, write_table


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Params]:
    monkeypatch.chdir(ROOT)
    (tmp_path / "params.yaml").write_text(compose("demo", ["seed=5"]))
    yield load(tmp_path / "params.yaml")


# variants


def test_each_variant_changes_one_thing_and_the_base_nothing(params: Params) -> None:
    found = variants(params)
    assert {name: variant.changes for name, variant in found.items()} == {
        "base": {},
        "loss_reward": {"loss": "reward"},
        "loss_flat": {"loss": "flat"},
        "balance_none": {"balance": "none"},
        "balance_loss": {"balance": "loss"},
        "place_none": {"place": "none"},
        "place_fused": {"place": "fused"},
        "view_photograph": {},
        "image_px_64": {"image_px": 64},
    }
    assert {name for name, variant in found.items() if variant.view == "photograph"} == {"view_photograph"}


def test_what_params_yaml_says_already_is_the_base(params: Params) -> None:
    params.ablations.resolutions = [96, 128]
    params.detector.family = "whole_image"
    found = variants(params)
    assert "image_px_96" not in found
    assert "image_px_128" in found
    assert "view_photograph" not in found
    assert (name_of("loss", "flat", "flat"), name_of("loss", "flat", "reward")) == (BASE, "loss_flat")


def test_a_training_has_its_own_seed_and_epochs(params: Params) -> None:
    given = {"seed": 5, "epochs": 24, "loss": "marginal"}
    flat = variants(params)["loss_flat"]
    assert seeds(params) == [5, 6, 7]
    params.ablations.epochs = 0
    assert settings(params, flat, 7, given) == {"seed": 7, "epochs": 24, "loss": "flat"}
    params.ablations.epochs = 3
    assert settings(params, flat, 7, given)["epochs"] == 3


def test_a_pair_is_two_species(params: Params, tmp_path: Path) -> None:
    for pair in ("[A b]", "[A b,A b]", "[A b,A c,A d]"):
        with pytest.raises(InputError, match=r"ablations.pair = .* it must hold two species or none"):
            compose("demo", [f"ablations.pair={pair}"])


# the table

BASIC: dict[str, Any] = {"loss": "marginal", "balance": "sampler", "place": "late", "image_px": 96}
ALL = ["base", "loss_reward", "loss_flat", "balance_none", "balance_loss", "place_none", "place_fused"]
ALL += ["view_photograph", "image_px_64"]

#: key, observation, label
JUDGED = [("k1", "o1", "A x"), ("k2", "o1", "A x"), ("k3", "o2", "A y"), ("k4", "o3", "B z")]
RIGHT = {"A x": "A x", "A y": "A y", "B z": "B z"}


def answers(said: dict[str, list[str]], **more: Any) -> list[dict[str, Any]]:
    """Rows of JUDGED: what is said of each label, or of each key."""
    rows = []
    for key, observation, label in JUDGED:
        top = said[key] if key in said else said[label]
        row = {"unit": "crop", "place": "true", "key": key, "observation_id": observation, "label": label}
        genus = top[0].split()[0] if top else None
        rows.append({**row, "top": top, "probability": [0.5] * len(top), "genus": genus, **more})
    return rows


def write_dataset(path: Path) -> None:
    """Three training crops of A x and A y, one of B z, and the judged crops."""
    labels = ["A x"] * 3 + ["A y"] * 3 + ["B z"] + [label for _, _, label in JUDGED]
    rows = []
    for number, label in enumerate(labels):
        row = {"key": f"c{number}", "photo_key": f"p{number}", "shard": "a", "offset": 0, "size": 1}
        row |= {"observation_id": f"d{number}", "label": label, "rank": "species", "species": label}
        row |= {"genus": label[0], "basis": "field", "split": "train" if number < 7 else "validation"}
        rows.append(row)
    write_table(path, rows, DATASET)


class Study:
    """Answers of two trainings of each variant, all right unless told otherwise, and the table made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_dataset(folder / "dataset.parquet")
        for name in ALL:
            for seed in (0, 1):
                self.say(name, seed, {})

    def say(self, name: str, seed: int, said: dict[str, list[str]], extra: list[dict[str, Any]] | None = None) -> None:
        given = {label: [label] for label in RIGHT} | said
        rows = answers(given, unit="photograph") if name == "view_photograph" else answers(given)
        if name == "base":
            rows += answers(given, unit="photograph")
        if name in ("base", "place_fused"):
            rows += answers(given, place="none") + answers(given, place="wrong")
        write_table(self.folder / f"{name}/{seed}.parquet", rows + (extra or []), ABLATION)

    def table(self, **given: Any) -> Any:
        wanted: dict[str, Any] = {
            "variants": ALL,
            "seeds": [0, 1],
            "base": BASIC,
            "resolutions": [64],
            "pair": ["A x", "A y"],
        }
        wanted |= {"rare_crops": 1, "bootstrap": 200, "early_stop": 0, "seed": 0, **given}
        out = self.folder / "table.csv"
        ablations(self.folder, self.folder / "dataset.parquet", out, self.folder / "table.md", **wanted)
        return pd.read_csv(out).set_index(["question", "measure"])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr("instar.ablations.table.LEAST_OBSERVATIONS", 1)  # as few as the tests of the other things have
    return Study(tmp_path)


def test_few_observations_get_no_verdict(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for seed in (0, 1):
        study.say("loss_flat", seed, {label: ["B q"] for label in RIGHT})
    found = study.table()
    flat = found.loc[("loss marginal or flat", "species, top 1")]
    assert (flat["low"], flat["high"], flat["observations"], flat["verdict"]) == (1, 1, 3, "too few observations")
    assert set(found["verdict"]) == {"too few observations"}
    text = (tmp_path / "table.md").read_text()
    assert "| +1.000 (+1.000 to +1.000) | too few observations | 4 of 3 observations" in text
    assert "fewer than 10 observations get no verdict" in text


def test_the_note_says_what_the_intervals_are_worth(study: Study) -> None:
    assert len(study.table()) == 25
    text = (study.folder / "table.md").read_text()
    assert "The table has 25 lines and no interval is corrected for their number" in text
    assert (
        "By simulation of normal effects with three trainings and 5, 14, 43 observations they hold the truth in "
        "86%, 93%, 94% where only observations differ; 89%, 91%, 92% where trainings differ as much; "
        "81%, 81%, 81% where only trainings differ." in text
    )


def test_equal_variants_are_not_told_apart(study: Study) -> None:
    table = study.table()
    assert len(table) == 25
    told = table.drop(index=[index for index in table.index if index[0].endswith("a coin")])
    assert set(told["verdict"]) == {"not told apart"}
    assert set(told["difference"]) == {0}
    assert set(table.loc["loss reward or flat", "judged"]) == {4}
    assert set(table.loc["loss reward or flat", "observations"]) == {3}
    assert set(table["trainings"]) == {2}


def test_values_and_difference_by_hand(study: Study) -> None:
    # reward takes both A x for A y in one of two trainings, and B z for A x in the other
    study.say("loss_reward", 0, {"A x": ["A y", "A x"]})
    study.say("loss_reward", 1, {"B z": ["A x"]})
    table = study.table(bootstrap=40000, seed=1)
    species = table.loc[("loss reward or flat", "species, top 1")]
    assert species["first_value"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert species["second_value"] == 1
    assert species["difference"] == pytest.approx(-3 / 8)
    genus = table.loc[("loss reward or flat", "genus, top 1")]
    assert genus["first_value"] == pytest.approx((1 + 3 / 4) / 2)
    assert genus["difference"] == pytest.approx(-1 / 8)
    # all of it is one training and k4, of o3. A draw gives that training 1/2 ± √½ of the weight with 1/4 each, and k4
    # all crops with 1/9 (o3 twice, of two draws): so 1/36, more than 1/40, on either side
    assert genus["low"] == pytest.approx(-(1 / 2 + np.sqrt(1 / 2)), abs=1e-5)
    assert genus["high"] == pytest.approx(-(1 / 2 - np.sqrt(1 / 2)), abs=1e-5)


def test_a_variant_that_is_always_worse_is_told_so(study: Study) -> None:
    for seed in (0, 1):
        study.say("loss_flat", seed, {label: ["B q"] for label in RIGHT})
    table = study.table()
    flat = table.loc[("loss marginal or flat", "species, top 1")]
    assert (flat["first_value"], flat["second_value"], flat["low"], flat["high"]) == (1, 0, 1, 1)
    assert flat["verdict"] == "better"
    text = (study.folder / "table.md").read_text()
    assert (
        "| loss marginal or flat | species, top 1 | 1.000 | 0.000 | +1.000 (+1.000 to +1.000) | better | 4 of" in text
    )
    assert "But for what a line compares: loss marginal, balance sampler, place late, image_px 96." in text
    assert "resample observations and trainings, the variance of n of either times n / (n - 1)." in text
    assert "One training and fewer than" in text


def test_the_note_tells_where_the_judged_crops_chose_the_weights(study: Study) -> None:
    study.table(early_stop=5)
    assert f"\n\n{CHOSE_EPOCH}\n" in (study.folder / "table.md").read_text()
    study.table(early_stop=0)
    assert CHOSE_EPOCH not in (study.folder / "table.md").read_text()
    rows = read_table(study.folder / "dataset.parquet", DATASET).to_pylist()
    rows = [{**row, "split": "test"} if row["split"] == "validation" else row for row in rows]
    write_table(study.folder / "dataset.parquet", rows, DATASET)
    study.table(early_stop=5)
    assert CHOSE_EPOCH not in (study.folder / "table.md").read_text()


def test_one_training_gets_no_verdict(study: Study) -> None:
    study.say("loss_flat", 0, {label: ["B q"] for label in RIGHT})
    table = study.table(seeds=[0])
    flat = table.loc[("loss marginal or flat", "species, top 1")]
    assert (flat["difference"], flat["low"], flat["high"], flat["trainings"]) == (1, 1, 1, 1)
    assert set(table["verdict"]) == {"one training"}
    assert "| +1.000 (+1.000 to +1.000) | one training | 4 of" in (study.folder / "table.md").read_text()


def test_rare_species_are_a_mean_over_species_and_the_others_apart(study: Study) -> None:
    for seed in (0, 1):
        study.say("balance_none", seed, {"k1": ["B z"]})
    table = study.table(rare_crops=3)  # all are rare: A x is right in 1 of 2
    rare = table.loc[("balance by sampler or none", "rare species, top 1, mean over species")]
    assert rare["second_value"] == pytest.approx((1 / 2 + 1 + 1) / 3, abs=1e-6)
    assert rare["difference"] == pytest.approx(1 / 6, abs=1e-6)
    common = table.loc[("balance by sampler or none", "other species, top 1")]
    assert common["verdict"] == "nothing to judge"
    assert common["judged"] == 0
    assert np.isnan(common["difference"])
    table = study.table(rare_crops=1)
    assert table.loc[("balance by sampler or none", "rare species, top 1, mean over species"), "judged"] == 1
    assert table.loc[("balance by sampler or none", "other species, top 1"), "second_value"] == pytest.approx(
        2 / 3, abs=1e-6
    )


def test_a_pair_is_told_apart_by_which_comes_first() -> None:
    pair = ("A x", "A y")
    assert told_apart(["B z", "A x", "A y"], "A x", pair) == 1
    assert told_apart(["B z", "A x", "A y"], "A y", pair) == 0
    assert told_apart(["B z", "A y"], "A y", pair) == 1
    assert told_apart(["B z"], "A x", pair) == 0.5
    assert told_apart([], "A x", pair) == 0.5


def test_the_pair_with_and_without_a_place(study: Study) -> None:
    for seed in (0, 1):
        # always A y first, which is right for one of three crops and for one of the two species
        study.say("place_none", seed, {"A x": ["B z", "A y", "A x"], "A y": ["A y", "A x"]})
    table = study.table().droplevel("measure")
    assert table.loc["look-alikes, place late or no place", "first_value"] == 1
    assert table.loc["look-alikes, place late or no place", "second_value"] == 0.5
    assert table.loc["look-alikes, no place, or a coin", "second_value"] == 0.5
    assert table.loc["look-alikes, no place, or a coin", "difference"] == 0
    assert table.loc["look-alikes, no place, or a coin", "first"] == "place_none, none place"
    assert table.loc["look-alikes, place late, none given, or a coin", "verdict"] == "better"


def test_a_photograph_without_an_answer_is_missed(study: Study) -> None:
    for seed in (0, 1):
        study.say("base", seed, {"k4": []})
    table = study.table()
    for measure in ("species", "genus"):
        row = table.loc[("whole photographs or crops", f"{measure}, top 1, of photographs")]
        assert (row["first_value"], row["second_value"]) == (1, 0.75)


def test_only_crops_with_a_wrong_place_are_compared_there(study: Study) -> None:
    for seed in (0, 1):
        rows = answers({label: [label] for label in RIGHT})
        rows += answers({label: [label] for label in RIGHT} | {"k4": ["A x"]}, place="none")
        rows += answers({label: ["B z"] for label in RIGHT}, place="wrong")[:3]
        rows += answers({label: [label] for label in RIGHT}, unit="photograph")
        write_table(study.folder / f"base/{seed}.parquet", rows, ABLATION)
        write_table(study.folder / f"place_fused/{seed}.parquet", rows, ABLATION)
    row = study.table().droplevel("measure").loc["place late, a wrong one or none given"]
    assert (row["judged"], row["first_value"], row["second_value"], row["verdict"]) == (3, 0, 1, "worse")
    assert row["left_out"] == 1


def test_where_no_crop_has_a_wrong_place_nothing_is_judged(study: Study) -> None:
    for path in (study.folder / f"{name}/{seed}.parquet" for name in (BASE, "place_fused") for seed in (0, 1)):
        write_table(path, [row for row in read_table(path, ABLATION).to_pylist() if row["place"] != "wrong"], ABLATION)
    row = study.table().droplevel("measure").loc["place late, a wrong one or none given"]
    assert (row["judged"], row["left_out"], row["verdict"]) == (0, 4, "nothing to judge")


def test_judged_are_the_rows_of_the_test_where_there_are_any() -> None:
    rows = pd.DataFrame({"split": ["train", "validation", "test", None]})
    assert list(judged_rows(rows)["split"]) == ["test"]
    assert list(judged_rows(rows[:2])["split"]) == ["validation"]


def test_photographs_that_cannot_be_shown_whole_are_left_out_on_both_sides(study: Study) -> None:
    for seed in (0, 1):
        study.say("base", seed, {"k1": ["B z"], "k4": []})
        path = study.folder / f"view_photograph/{seed}.parquet"
        write_table(path, [row for row in read_table(path, ABLATION).to_pylist() if row["key"] != "k1"], ABLATION)
    table = study.table()
    row = table.loc[("whole photographs or crops", "species, top 1, of photographs")]
    assert (row["judged"], row["left_out"], row["observations"]) == (3, 1, 3)
    assert (row["first_value"], row["second_value"]) == (1, pytest.approx(2 / 3, abs=1e-6))
    assert table.loc[("loss reward or flat", "species, top 1"), "left_out"] == 0
    text = (study.folder / "table.md").read_text()
    assert text.count("| 3 of 3 observations × 2, 1 left out |") == 2
    assert text.count("left out") == 2


def test_a_whole_photograph_that_the_crops_have_none_of_is_refused(study: Study) -> None:
    for seed in (0, 1):
        path = study.folder / f"base/{seed}.parquet"
        rows = read_table(path, ABLATION).to_pylist()
        write_table(path, [row for row in rows if (row["unit"], row["key"]) != ("photograph", "k1")], ABLATION)
    with pytest.raises(InputError, match=r"view_photograph and .* were not judged on the same"):
        study.table()


def test_what_is_not_of_these_variants_does_not_count(study: Study) -> None:
    before = study.table()
    (study.folder / "loss_old").mkdir()
    (study.folder / "loss_old/0.parquet").write_text("stale")
    (study.folder / "loss_flat/9.parquet").write_text("stale")
    pd.testing.assert_frame_equal(study.table(), before)


def test_variants_that_were_judged_on_other_crops_are_refused(study: Study) -> None:
    path = study.folder / "loss_flat/1.parquet"
    rows = read_table(path, ABLATION).to_pylist()
    write_table(path, rows[1:], ABLATION)
    with pytest.raises(InputError, match="loss_flat: its trainings were not judged on the same"):
        study.table()
    write_table(study.folder / "loss_flat/0.parquet", rows[1:], ABLATION)
    with pytest.raises(InputError, match="were not judged on the same"):
        study.table()


def test_a_pair_that_is_not_learnt_is_refused(study: Study) -> None:
    with pytest.raises(InputError, match=r"ablations.pair: A q has no training crop in .*; name two species"):
        study.table(pair=["A x", "A q"])


def test_questions_follow_the_variants_there_are() -> None:
    found = questions({BASE, "loss_flat"}, BASIC | {"loss": "reward"}, [], pair=False)
    assert {question.text for question in found} == {
        "loss reward or flat",
        "place late, a wrong one or none given",
    }


def test_verdicts() -> None:
    bounds = [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0.0, 0.1), (1e-17, 0.1), (-0.1, -1e-17)]
    found = [verdict(*pair, trainings=2, observations=10) for pair in bounds]
    assert found == ["better", "worse", *["not told apart"] * 4]
    assert {verdict(*pair, trainings=1, observations=10) for pair in bounds} == {"one training"}
    assert {verdict(*pair, trainings=2, observations=9) for pair in bounds} == {"too few observations"}


def test_means() -> None:
    values = np.array([[1.0, 1, 0], [0, 1, 0]])
    assert mean_of(values, None) == pytest.approx(0.5)
    assert mean_of(values, np.array(["a", "a", "b"])) == pytest.approx((0.75 + 0) / 2)


# one training


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("drawn")
    write_study(folder)
    # one more photograph of a held-out observation, on which nothing was found
    missed = {"photo_key": "folder-9999", "observation_id": f"validation {SPECIES[0]} 6", "reason": "no animal found"}
    add_rows(folder, "a", [{**missed, "taxon_id": f"species:{SPECIES[0]}"}])
    return folder


def run(folder: Path, out: Path, **given: Any) -> Any:
    training = {**TRAINING, "epochs": 1, **given}
    wanted: dict[str, Any] = {"view": "crop", "seed": 0, "shards": ["a", "b"], "photo_boxes": 10, "threads": 1}
    tables = (folder / name for name in ("dataset.parquet", "taxonomy.parquet", "annotations.json"))
    paths = (folder / "crops", *tables, out, folder / "work")
    ablation(*paths, **wanted, classifier=training)
    return read_table(out, ABLATION).to_pandas()


def test_a_training_answers_for_every_held_out_crop_and_photograph(drawn: Path, tmp_path: Path) -> None:
    found = run(drawn, tmp_path / "variant/0.parquet", place="late")
    judged = judged_rows(read_table(drawn / "dataset.parquet", DATASET).to_pandas())
    known = judged["latitude"].notna().sum()
    sizes = found.groupby(["unit", "place"]).size().to_dict()
    assert sizes == {
        ("crop", "true"): len(judged),
        ("crop", "none"): len(judged),
        ("crop", "wrong"): known,
        ("photograph", "true"): len(judged) + 1,  # each crop has a photograph of its own
    }
    crops = found[found["unit"] == "crop"]
    assert set(crops["key"]) == set(judged["key"])
    missed = found[found["key"] == "folder-9999"].iloc[0]
    assert (list(missed["top"]), pd.isna(missed["genus"]), missed["label"]) == ([], True, SPECIES[0])
    assert set(crops.iloc[0]["top"]) == set(SPECIES)
    # a photograph of one crop is answered as the crop is
    first = crops[crops["place"] == "true"].iloc[0]
    same = found[found["key"] == first["key"].rpartition("-")[0]].iloc[0]
    assert list(same["top"]) == list(first["top"])
    np.testing.assert_allclose(same["probability"], first["probability"], atol=1e-5)
    assert {path.name for path in (tmp_path / "variant").iterdir()} == {"0.parquet"}


def test_without_place_there_is_one_answer_and_of_a_photograph_no_sum(drawn: Path, tmp_path: Path) -> None:
    found = run(drawn, tmp_path / "0.parquet", place="none")
    assert set(found["place"]) == {"true"}


def test_a_training_runs_in_one_process_whatever_the_study_trains_on(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would run the whole command, which is no training, once more; a step has the crops of two batches still."""
    trainer, seen = lightning.Trainer, []

    def watched(**given: Any) -> lightning.Trainer:
        seen.append((given["devices"], given["accumulate_grad_batches"]))
        assert given["devices"] == 1
        return trainer(**given)

    monkeypatch.setattr(lightning, "Trainer", watched)
    run(drawn, tmp_path / "0.parquet", place="none", devices=2, accumulate=3)
    assert seen == [(1, 6)]
    assert one_process({"devices": 0, "accumulate": 3}) == {"devices": 1, "accumulate": 3}


def test_a_view_that_there_is_not_is_refused(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="view = x is not allowed; it must be crop or photograph"):
        ablation(
            *(drawn, drawn, drawn, drawn, tmp_path / "0.parquet", tmp_path),
            view="x",
            seed=0,
            shards=[],
            photo_boxes=1,
            threads=1,
            classifier={},
        )


# whole photographs

LABELS = LabelSpace(("A x", "A y", "A"), ("species", "species", "genus"), (2, 2, -1))


def held_out(photographs: list[tuple[str, str]], keys: set[str]) -> HeldOut:
    table = pd.DataFrame(photographs, columns=["photo_key", "label"]).assign(observation_id="o")
    return HeldOut(table, pd.DataFrame({"photograph": []}), {}, frozenset(keys), LABELS)


def test_photographs_get_label_and_split_of_their_crops() -> None:
    columns = ["photo_key", "label", "rank", "species", "genus", "split"]
    rows = pd.DataFrame(
        [
            ("t1", "A x", "species", "A x", "A", "train"),
            ("t1", "A x", "species", "A x", "A", "train"),
            ("t1", None, None, None, None, None),  # dropped for itself
            ("t2", "A x", "species", "A x", "A", "train"),
            ("t2", "A y", "species", "A y", "A", "train"),
            ("t3", "A x", "species", "A x", "A", "train"),
            ("t3", "A x", "species", "A x", "A", "validation"),
            ("t4", "A", "genus", None, "A", "train"),
            ("t5", "A x", "species", "A x", "A", None),
            ("v1", "A y", "species", "A y", "A", "test"),
            ("v3", "A y", "species", "A y", "A", None),
        ],
        columns=columns,
    )
    # v2 has no crop, v3 can't be judged
    found, dropped = photograph_rows(rows, held_out([("v1", "A y"), ("v2", "A")], {"v1", "v2", "v3"}), split="test")
    found = found.mask(found.isna(), "")
    assert {key: tuple(row) for key, row in zip(found.index, found.to_numpy(), strict=True)} == {
        "v1": ("A y", "species", "A y", "A", "test"),
        "v2": ("A", "genus", "", "A", "test"),
        "t1": ("A x", "species", "A x", "A", "train"),
        "t4": ("A", "genus", "", "A", "train"),
    }
    assert dropped == {TWO_LABELS: 1, TWO_SPLITS: 1, NO_CROP: 1, NOT_JUDGED: 1}


def test_whole_photographs_of_the_detector_are_not_judged(drawn: Path, tmp_path: Path) -> None:
    """Nor are they trained on; a photograph of the classifier's training is, whatever the detector made of it."""
    rows = read_table(drawn / "dataset.parquet", DATASET).to_pandas()
    judged, trained = (rows.loc[rows["split"] == split, "photo_key"].tolist() for split in ("validation", "train"))
    splits = {judged[0]: "train", judged[1]: "validation", judged[2]: "test", trained[0]: "train"}
    write_annotations(tmp_path / "annotations.json", {key: (split, []) for key, split in splits.items()}, (64, 48))
    told = make_whole(drawn, tmp_path, annotations=tmp_path / "annotations.json")
    dropped = {"annotated to train a detector": 1, "annotated to choose a detector's weights": 1, NO_CROP: 1}
    assert told["rows"] == {"in": 130, "out": 127, "dropped": dropped}
    table = read_table(tmp_path / "whole/dataset.parquet", DATASET).to_pandas()
    assert {judged[0], judged[1]}.isdisjoint(table["photo_key"])
    assert {judged[2], trained[0]} < set(table["photo_key"])


def test_no_whole_photograph_is_left_to_judge(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = read_shards(drawn / "crops", ["a", "b"], CROPS)["photo_key"].to_pylist()
    write_annotations(tmp_path / "annotations.json", {key: ("train", []) for key in keys}, (64, 48))
    told = make_whole(drawn, tmp_path, annotations=tmp_path / "annotations.json")
    assert told["rows"] == {"in": 130, "out": 104, "dropped": {"annotated to train a detector": 25, NO_CROP: 1}}
    assert "no whole photograph can be judged: 25 annotated to train a detector\n" in capsys.readouterr().err
    paths = (tmp_path / "whole/crops", tmp_path / "whole/dataset.parquet", drawn / "taxonomy.parquet", drawn)
    wanted: dict[str, Any] = {"seed": 0, "shards": ["a", "b"], "photo_boxes": 10, "threads": 1}
    ablation(*paths, tmp_path / "0.parquet", tmp_path / "work", view="photograph", **wanted, classifier=TRAINING)
    assert len(read_table(tmp_path / "0.parquet", ABLATION)) == 0
    assert "no whole photograph to judge, so nothing is trained on them" in capsys.readouterr().err


def make_whole(
    study: Path, out: Path, gone: frozenset[str] = frozenset(), annotations: Path | None = None
) -> dict[str, Any]:
    """Whole photographs of a drawn study, some of which can't be read; what became of them."""
    rng = np.random.default_rng(0)
    (out / "images").mkdir()
    for shard in ("a", "b"):
        crops = read_table(study / f"crops/{shard}.parquet", CROPS).to_pylist()
        keys = dict.fromkeys(row["photo_key"] for row in crops)
        drawn = {key: encoded(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for key in keys}
        pictures: dict[str, bytes | str] = {key: b"no picture" if key in gone else data for key, data in drawn.items()}
        facts = {row["photo_key"]: {"observation_id": row["observation_id"]} for row in crops}
        facts["folder-9998"] = {}
        write_images(out / "images", shard, {**pictures, "folder-9998": "gone"}, (64, 48), facts)
    whole_photographs(
        out / "images",
        study / "crops",
        study / "dataset.parquet",
        study / "taxonomy.parquet",
        annotations or study / "annotations.json",
        out / "whole",
        out / "whole.json",
        seed=0,
        shards=["a", "b"],
        photo_boxes=10,
        max_px=32,
        jpeg_quality=90,
        workers=1,
    )
    told: dict[str, Any] = json.loads((out / "whole.json").read_text())
    return told


def test_whole_photographs_are_stored_and_judged(drawn: Path, tmp_path: Path) -> None:
    """The variant view_photograph from its photographs to its answers, on the same photographs as the crops'."""
    rows = make_whole(drawn, tmp_path)["rows"]
    assert rows == {"in": 130, "out": 129, "dropped": {NO_CROP: 1}}
    table = read_table(tmp_path / "whole/dataset.parquet", DATASET).to_pandas()
    assert table["split"].value_counts().to_dict() == {"train": 104, "validation": 25}
    stored = read_table(tmp_path / "whole/crops/a.parquet", CROPS).to_pylist()
    assert {(row["width"], row["height"]) for row in stored} == {(32, 24)}
    (tmp_path / "whole/taxonomy.parquet").symlink_to(drawn / "taxonomy.parquet")
    training = {**TRAINING, "epochs": 1}
    own = (tmp_path / "whole/crops", tmp_path / "whole/dataset.parquet")
    paths = (*own, drawn / "taxonomy.parquet", drawn / "annotations.json")
    out = tmp_path / "view/0.parquet"
    wanted: dict[str, Any] = {"seed": 0, "shards": ["a", "b"], "photo_boxes": 10, "threads": 1}
    ablation(*paths, out, tmp_path / "work", view="photograph", **wanted, classifier=training)
    found = read_table(out, ABLATION).to_pandas()
    assert set(found["unit"]) == {"photograph"}
    assert set(found["key"]) == set(table[table["split"] == "validation"]["photo_key"])
    assert "folder-9999" in set(found["key"])


def test_photographs_of_a_species_that_cannot_be_learnt_are_not_judged(drawn: Path, tmp_path: Path) -> None:
    rows = read_table(drawn / "dataset.parquet", DATASET).to_pandas()
    of_species = rows[rows["label"] == SPECIES[1]]
    split = of_species["split"].value_counts()
    train = frozenset(of_species.loc[of_species["split"] == "train", "photo_key"])
    told = make_whole(drawn, tmp_path, train)
    assert told["rows"]["dropped"] == {NO_CROP: 1, "unreadable": split["train"], NOT_LEARNT: split["validation"]}
    assert told["rows"]["out"] == 129 - len(of_species)
    table = read_table(tmp_path / "whole/dataset.parquet", DATASET).to_pandas()
    assert set(table["label"]) == set(rows["label"].dropna()) - {SPECIES[1]}
    assert {"train", "validation"} == set(table["split"])


# the rules


def test_the_rules_depend_on_what_the_commands_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    graph = dag.read()
    stages = {path for stage in ("classifier", "evaluation") for path in graph.inputs(stage)["code"]}
    own = {f"src/instar/ablations/{name}.py" for name in ("__init__", "run")}
    assert _imported("instar.ablations.run") <= stages | own
    crops = set(graph.inputs("crops")["code"]) | {"src/instar/detectors/whole_image.py"}
    # the other detectors' modules are named for their types or loaded for a family
    whole = {path for path in _imported("instar.ablations.whole") if "/detectors/" not in path}
    assert whole <= stages | own | crops | {"src/instar/ablations/whole.py"}


def _imported(module: str) -> set[str]:
    return {path.relative_to(SOURCE.parent).as_posix() for path in closure(module)}


def test_one_command_plans_every_variant_and_training(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [*TINY, "ablations.seeds=2"])
    due = project.due("ablations")
    assert {name: due.count(name) for name in ("ablation", "whole_photographs", "ablations")} == {
        "ablation": 18,
        "whole_photographs": 1,
        "ablations": 1,
    }
    assert "ablation" not in project.due("all")
    command = project.run("snakemake", "-n", "-p", "data/demo/ablations/loss_flat/1.parquet")
    assert '"loss": "flat"' in command
    assert '"seed": 1' in command


def test_as_many_trainings_run_at_once_as_their_threads_allow(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [*TINY, "ablations.threads=3"])
    path = "data/demo/ablations/base/0.parquet"
    assert "--threads 3" in project.run("snakemake", "-n", "-p", "--cores", "8", path)
    # a cluster's profile says it for its nodes, and leaves the number of cores open
    assert re.search(r"ablation +1\n", project.run("snakemake", "--profile", "slurm", "-n", path))
    assert "--threads 8" in project.run("snakemake", "--profile", "slurm", "--cores", "8", "-n", "-p", path)


def test_a_training_has_the_threads_of_the_classifier_unless_the_study_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    rule = (ROOT / "workflow/rules/classifier.smk").read_text()
    threads = int(re.findall(r"threads: (\d+)", rule)[0])
    assert yaml.safe_load(compose("ants", []))["ablations"]["threads"] == threads
    assert yaml.safe_load(compose("demo", []))["ablations"]["threads"] == 1


def test_the_profile_of_the_cluster_knows_the_rules() -> None:
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["set-resources"]["ablation"]["gpu"] == 1
    assert profile["set-threads"]["ablation"] == 8
