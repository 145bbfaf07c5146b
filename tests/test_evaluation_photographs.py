"""Tests of instar.evaluation.photographs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_study import add_rows, run, taxon, validation_rows, write_classifier, write_study
from photo_shards import write_annotations

from instar.classifier.data import CropReader, places_of, render, whole_window
from instar.classifier.predict import Predictor
from instar.dataset.rules import reasons
from instar.detectors import UNTRAINED
from instar.detectors.whole_image import WholeImage
from instar.errors import InputError
from instar.evaluation import photographs
from instar.splits import id_hash
from instar.tables import CROPS, DATASET, PHOTOGRAPHS, read_shards, read_table, write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The drawn study, in which each observation is one photograph of up to four crops."""
    write_study(tmp_path)
    change(tmp_path, lambda row: {**row, "photo_key": "p " + row["observation_id"]})
    return tmp_path


def change(folder: Path, change: Any) -> None:
    """Change every row of the dataset and of the crops."""
    for path, schema in [
        (folder / "dataset.parquet", DATASET),
        *((folder / f"crops/{s}.parquet", CROPS) for s in "ab"),
    ]:
        write_table(path, [change(row) for row in read_table(path, schema).to_pylist()], schema)


def held_out(folder: Path, predictor: Predictor, boxes: int = 10, seed: int = 0) -> photographs.HeldOut:
    observations = set(validation_rows(folder)["observation_id"])
    tables = (folder / "crops", folder / "dataset.parquet", folder / "taxonomy.parquet", folder / "annotations.json")
    return photographs.held_out(*tables, observations, predictor.labels, shards=["a", "b"], seed=seed, boxes=boxes)


def test_sums_by_hand(folder: Path) -> None:
    """Against node probabilities of single crops, added up one after the other."""
    predictor = Predictor(write_classifier(folder, "random", fixed=False))
    given = held_out(folder, predictor)
    found = photographs.answers_of(predictor, folder / "crops", given)
    rows = validation_rows(folder)
    assert given.crops_used.tolist() == rows.groupby("photo_key")["key"].count().tolist()
    assert len(given.photographs) == 8 and given.crops_used.max() > 1
    table = read_shards(folder / "crops", ["a", "b"], CROPS).to_pandas()
    species = predictor.labels.of_rank("species")
    for index, key in enumerate(given.photographs["photo_key"]):
        rows = table[table["photo_key"] == key]
        reader = CropReader(folder / "crops", rows)
        crops = [reader.read(number) for number in range(len(rows))]
        views = np.stack([render(crop, whole_window(*crop.shape[:2]), 32) for crop in crops])
        pixels = torch.from_numpy(views).permute(0, 3, 1, 2)
        mean = predictor.probabilities(pixels, torch.from_numpy(places_of(rows))).numpy().mean(0)
        best = species[np.argsort(-mean[species])]
        assert found["species"].classes[index].tolist() == best.tolist()
        assert found["species"].probabilities[index] == pytest.approx(mean[best], abs=1e-5)


def test_only_the_best_crops_count(folder: Path) -> None:
    predictor = Predictor(write_classifier(folder, "fixed"))
    change(folder, lambda row: {**row, "score": 1 - int(row["key"][7:11]) / 1000})
    given = held_out(folder, predictor, boxes=2)
    assert given.crops_used.tolist() == [2] * 8
    table = read_shards(folder / "crops", ["a", "b"], CROPS).to_pandas()
    first = given.photographs["photo_key"][0]
    best = table[table["photo_key"] == first].sort_values("key")["key"].iloc[:2].tolist()
    assert given.crops[given.crops["photograph"] == 0]["key"].tolist() == best


def test_a_photograph_without_a_crop_is_missed_and_not_absent(folder: Path) -> None:
    observation = validation_rows(folder).set_index("label")["observation_id"]["Viridis erecta"].iloc[0]
    missed: dict[str, Any] = {"observation_id": observation, "taxon_id": "species:Viridis erecta"}
    rows = [
        {**missed, "photo_key": "q1", "reason": "no animal found"},
        {**missed, "photo_key": "q2", "key": "q2-000", "reason": "below confidence", "score": 0.1},
    ]
    classifier = write_classifier(folder, "fixed")
    before = run(classifier, folder, folder / "before")["photographs"]
    add_rows(folder, "a", rows)
    figures = run(classifier, folder, folder / "out")["photographs"]
    assert (before["missed"], figures["missed"]) == (0, 2)
    assert figures["rows"] == {"in": 10, "out": 10, "dropped": {}}
    # both photographs of Viridis erecta were named right; with two missed ones it is two of ten, and five of ten genera
    assert before["species_accuracy"]["top1_micro"]["value"] == 2 / 8
    assert figures["species_accuracy"]["top1_micro"]["value"] == 2 / 10
    assert figures["species_accuracy"]["top5_micro"]["value"] == 8 / 10
    assert figures["genus_accuracy"]["top5_micro"]["value"] == 8 / 10
    table = {row["key"]: row for row in read_table(folder / "out/photographs.parquet", PHOTOGRAPHS).to_pylist()}
    assert table["q1"]["label"] == "Viridis erecta" and table["q1"]["genus"] == "Viridis"
    assert (table["q1"]["crops"], table["q1"]["top"], table["q1"]["top_genus"]) == (0, [], [])


def test_observations_without_any_crop_are_drawn_like_the_others(folder: Path) -> None:
    # of Viridis erecta's 8 observations with a crop 2 are held out, of an unknown species none
    found: dict[str, Any] = {"taxon_id": "species:Viridis erecta", "reason": "no animal found"}
    rows = [{**found, "photo_key": f"q{n}", "observation_id": f"empty {n}"} for n in range(2000)]
    rows += [{**found, "photo_key": f"r{n}", "observation_id": "trained", "taxon_id": None} for n in range(5)]
    add_rows(folder, "b", rows)
    predictor = Predictor(write_classifier(folder, "fixed"))
    given = held_out(folder, predictor)
    drawn = set(given.photographs["photo_key"]) - set(
        read_shards(folder / "crops", ["a"], CROPS)["photo_key"].to_pylist()
    )
    assert all(key.startswith("q") for key in drawn)
    with_crop = read_shards(folder / "crops", ["a", "b"], CROPS).to_pandas().dropna(subset=["offset"])
    observations = with_crop[with_crop["taxon_id"] == "species:Viridis erecta"]["observation_id"].unique()
    share = sum(name.startswith("validation") for name in observations) / len(observations)
    assert len(drawn) == pytest.approx(2000 * share, abs=60)
    assert drawn == set(held_out(folder, predictor).photographs["photo_key"]) & drawn
    assert drawn != set(held_out(folder, predictor, seed=1).photographs["photo_key"]) & {
        row["photo_key"] for row in rows
    }


def test_observations_whose_crops_were_all_dropped_are_drawn(folder: Path) -> None:
    """As those without a crop; those that were set aside as a whole are not."""
    path = folder / "dataset.parquet"
    table = read_table(path, DATASET).to_pylist()
    one = next(row for row in table if row["label"] == "Viridis erecta")
    reasons = ["under 50 px", "near-duplicate", "held out earlier", "of a held-out observer"]
    dropped = [
        {"key": f"{reason} {n}-0", "photo_key": f"{reason} {n}", "observation_id": f"{reason} {n}", "reason": reason}
        for reason in reasons
        for n in range(500)
    ]
    write_table(path, [*table, *({**one, **row, "split": None} for row in dropped)], DATASET)
    place = {name: one[name] for name in ("offset", "size")}
    cut = [{**row, **place, "reason": None, "score": 0.5, "taxon_id": "species:Viridis erecta"} for row in dropped]
    add_rows(folder, one["shard"], cut)
    given = held_out(folder, Predictor(write_classifier(folder, "fixed")))
    drawn = {reason: sum(key.startswith(reason + " ") for key in given.keys) for reason in reasons}
    # 2 of 8 observations of the species are held out
    assert drawn["under 50 px"] == pytest.approx(125, abs=35) and drawn["near-duplicate"] == pytest.approx(125, abs=35)
    assert drawn["held out earlier"] == drawn["of a held-out observer"] == 0
    assert given.dropped == {"near-duplicate": drawn["near-duplicate"]}


def test_photographs_that_cannot_be_judged_keep_their_reason(folder: Path) -> None:
    observations = validation_rows(folder)["observation_id"].unique()
    cut = {"reason": "no animal found"}
    rows = [
        {**cut, "photo_key": "q1", "observation_id": observations[0], "taxon_id": None},
        {**cut, "photo_key": "q2", "observation_id": observations[0], "taxon_id": "family:Formicidae"},
        {**cut, "photo_key": "q3", "observation_id": observations[0], "taxon_id": "species:Rubra alia"},
    ]
    add_rows(folder, "a", rows)
    taxonomy = read_table(folder / "taxonomy.parquet", photographs.TAXONOMY).to_pylist()
    common = {"parent_id": None, "species": None, "genus": None, "family": None}
    taxonomy += [{**common, "taxon_id": "family:Formicidae", "name": "Formicidae", "rank": "family"}]
    taxonomy += [{**common, "taxon_id": "species:Rubra alia", "name": "Rubra alia", "rank": "species"}]
    write_table(folder / "taxonomy.parquet", taxonomy, photographs.TAXONOMY)
    left_out = {"split": None, "reason": "near-duplicate"}
    path = folder / "dataset.parquet"
    dataset = read_table(path, DATASET).to_pylist()
    one = next(row for row in dataset if row["observation_id"] == observations[1])
    write_table(path, [row | left_out if row["key"] == one["key"] else row for row in dataset], DATASET)
    trained = next(row["photo_key"] for row in dataset if row["split"] == "train")
    lines = f"q3,Rubra alia,,,,\n{trained},Rubra alia,,,,\n"
    (folder / "other.csv").write_text("photo_key,top1,top2,top3,top4,top5\n" + lines)
    whole = run(write_classifier(folder, "fixed"), folder, folder / "out")
    figures, compared = whole["photographs"], whole["identifiers"]
    # nothing was found on the photograph, so it is worth 0 to us; one of training is not judged
    assert (compared["points"], compared["photographs_not_judged"]) == ({"ours": 0, "other": 10}, 1)
    dropped = {"named neither to species nor to genus": 2, "no class of the classifier": 1, "near-duplicate": 1}
    assert figures["rows"] == {"in": 11, "out": 7, "dropped": dropped}


def test_a_species_that_is_no_class_may_still_be_of_a_genus_that_is_named(folder: Path) -> None:
    """Our answers are Viridis erecta, Rubra stricta, Rubra erecta and Viridis stricta, in this order."""
    table = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    one = next(row for row in table if row["split"] == "validation")
    place = {name: one[name] for name in ("observation_id", "offset", "size")}
    added = {"r": "Rubra alia", "v": "Viridis alia", "c": "Caerulea alia", "w": "Viridis alia"}
    rows = [
        {**place, "key": f"{key}-0", "photo_key": key, "reason": None, "score": 0.5, "taxon_id": f"species:{name}"}
        for key, name in added.items()
    ]
    missed = {"observation_id": one["observation_id"], "reason": "no animal found", "taxon_id": "species:Viridis alia"}
    add_rows(folder, one["shard"], [*rows, {**missed, "photo_key": "m"}])
    taxonomy = read_table(folder / "taxonomy.parquet", photographs.TAXONOMY).to_pylist()
    taxonomy += [taxon("species", name) for name in sorted(set(added.values()))]
    write_table(folder / "taxonomy.parquet", taxonomy, photographs.TAXONOMY)
    lines = "r,Rubra alia,,,,\nv,Viridis recta,,,,\nc,Caerulea sp.,,,,\nm,Viridis alia,,,,\n"
    (folder / "other.csv").write_text("photo_key,top1,top2,top3,top4,top5\n" + lines)
    whole = run(write_classifier(folder, "fixed"), folder, folder / "out")
    assert whole["photographs"]["rows"] == {"in": 13, "out": 8, "dropped": {"no class of the classifier": 5}}
    sheet = pd.read_csv(folder / "out/identifiers.csv", keep_default_na=False).set_index("photo_key")
    # the genus among the five, the genus first, a genus that is no class either, nothing found; w was not asked for
    assert sheet["ours_points"].to_dict() == {"r": 1, "v": 3, "c": 0, "m": 0}
    assert sheet["other_points"].to_dict() == {"r": 10, "v": 3, "c": 3, "m": 10}
    assert sheet["ours_1"].to_dict() == {"r": "Viridis erecta", "v": "Viridis erecta", "c": "Viridis erecta", "m": ""}
    assert whole["identifiers"]["points"] == {"ours": 4, "other": 26}


def annotate(folder: Path, splits: dict[str, str]) -> None:
    write_annotations(folder / "annotations.json", {key: (split, []) for key, split in splits.items()}, (64, 48))


def test_what_the_detector_learnt_from_is_not_judged(folder: Path) -> None:
    """Of eight photographs one trained the detector and one chose its weights; the crops are judged as they were."""
    first, second, third, *_ = sorted(set(validation_rows(folder)["photo_key"]))
    trained = read_table(folder / "dataset.parquet", DATASET).to_pylist()[0]["photo_key"]
    # of no name either, which is told of those alone that could be judged otherwise
    missed = {"photo_key": "q", "observation_id": first[2:], "taxon_id": None, "reason": "no animal found"}
    add_rows(folder, "a", [missed])
    annotate(folder, {first: "train", second: "validation", third: "test", trained: "train", "q": "train"})
    figures = run(write_classifier(folder, "fixed"), folder, folder / "out")
    dropped = {"annotated to choose a detector's weights": 1, "annotated to train a detector": 2}
    assert figures["photographs"]["rows"] == {"in": 9, "out": 6, "dropped": dropped}
    assert figures["rows"] == {"in": 24, "out": 24, "dropped": {}}
    judged = {row["key"] for row in read_table(folder / "out/photographs.parquet", PHOTOGRAPHS).to_pylist()}
    assert third in judged and {first, second, "q"}.isdisjoint(judged)


@pytest.mark.parametrize("name", [WholeImage.name, "watershed-0123456789abcdef"])
def test_a_detector_that_learns_nothing_leaves_all_photographs(folder: Path, name: str) -> None:
    assert photographs.UNTRAINED == UNTRAINED
    annotate(folder, dict.fromkeys(validation_rows(folder)["photo_key"], "train"))
    change(folder, lambda row: row if "split" in row else {**row, "detector": name})
    given = held_out(folder, Predictor(write_classifier(folder, "fixed")))
    assert (len(given.photographs), given.dropped) == (8, {})


def test_no_photograph_is_left_to_judge(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(folder, dict.fromkeys(validation_rows(folder)["photo_key"], "train"))
    figures = run(write_classifier(folder, "fixed"), folder, folder / "out")["photographs"]
    assert figures["rows"] == {"in": 8, "out": 0, "dropped": {"annotated to train a detector": 8}}
    assert (figures["missed"], figures["species_accuracy"], figures["genus_accuracy"]) == (0, None, None)
    assert "no whole photograph can be judged: 8 annotated to train a detector\n" in capsys.readouterr().err


def test_without_annotations_the_stage_that_makes_them_is_named(folder: Path) -> None:
    """Records writes them for every study, empty where nothing is annotated."""
    (folder / "annotations.json").unlink()
    with pytest.raises(InputError, match=r"annotations.json: no such file; run the stage records"):
        held_out(folder, Predictor(write_classifier(folder, "fixed")))


def test_a_review_reaches_photographs(folder: Path) -> None:
    """One photograph is relabelled, one loses a crop, one all of them, and one is of two labels since."""
    path = folder / "dataset.parquet"
    dataset = read_table(path, DATASET).to_pylist()
    counts = validation_rows(folder).groupby("photo_key")["key"].count()
    relabelled, one_less, all_less, two = counts[counts > 1].index[:4]
    first = {key: next(row["key"] for row in dataset if row["photo_key"] == key) for key in counts.index}
    for row in dataset:  # what is held out holds more photographs than the one that is rejected
        row["observation_id"] = "validation" if row["photo_key"] in (all_less, two) else row["observation_id"]
    rejected, other = {"split": None, "reason": "rejected in review"}, {"label": "Viridis stricta", "genus": "Viridis"}

    def reviewed(row: dict[str, Any]) -> dict[str, Any]:
        if row["photo_key"] == all_less or row["key"] == first[one_less]:
            return row | rejected
        return row | other if row["photo_key"] == relabelled or row["key"] == first[two] else row

    write_table(path, [reviewed(row) for row in dataset], DATASET)
    for shard in "ab":
        path = folder / f"crops/{shard}.parquet"
        crops = read_table(path, CROPS).to_pylist()
        in_both = {"observation_id": "validation", "observation_hash": id_hash("validation")}
        write_table(path, [row | (in_both if row["photo_key"] in (all_less, two) else {}) for row in crops], CROPS)
    given = held_out(folder, Predictor(write_classifier(folder, "fixed")))
    assert given.dropped == {"crops of two labels": 1, "rejected in review": 1}
    judged = given.photographs.assign(crops=given.crops_used).set_index("photo_key")
    assert {all_less, two}.isdisjoint(judged.index) and {all_less, two} <= given.keys
    assert judged.loc[relabelled, ["label", "crops"]].tolist() == ["Viridis stricta", counts[relabelled]]
    assert judged.loc[one_less, "crops"] == counts[one_less] - 1
    assert first[one_less] not in set(given.crops["key"])


def test_reasons_are_those_of_the_dataset() -> None:
    assert {*photographs.OF_PHOTOGRAPHS, *photographs.OF_OBSERVATIONS, photographs.REJECTED} < set(reasons(50, 10))


def test_nothing_but_missed_photographs(folder: Path) -> None:
    predictor = Predictor(write_classifier(folder, "fixed"))
    change(folder, lambda row: row if "split" in row else {**row, "reason": "below confidence", "offset": None})
    given = held_out(folder, predictor)
    found = photographs.answers_of(predictor, folder / "crops", given)
    assert (found["species"].classes == -1).all() and given.crops_used.tolist() == [0] * 8
    figures = photographs.figures_of(given, found, resamples=100, seed=0)
    assert figures["missed"] == 8 and figures["species_accuracy"]["top5_micro"]["value"] == 0
