"""Answers for individuals of a study whose photographs are plain colours: equal ones are equal to any network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crop_shards import train
from individuals_study import photograph, write_study

from instar.classifier.model import load, save
from instar.errors import InputError
from instar.evaluation.command import evaluation
from instar.evaluation.submission import write_submission
from instar.files import md5_of
from instar.reid.gallery import open_gallery
from instar.tables import (
    CROPS,
    IDENTITY_DATASET,
    IDENTITY_PREDICTIONS,
    INDIVIDUALS,
    PHOTOGRAPHS,
    read_table,
    write_table,
)

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 40)}
#: What trains: three turtles, and two lynxes of the colours of two of them; the second lynx was seen from the left.
KNOWN = {"t0": "red", "t1": "green", "t2": "blue", "l0": "red", "l1": "green"}
#: What is held out: split, individual, colour. Yellow ones are new, and so is a lynx that looks like l0.
HELD_OUT = [
    *[("validation", name, colour) for name, colour in [("t0", "red"), ("t0", "red"), ("t1", "green")]],
    *[("validation", name, "yellow") for name in ("t8", "t8", "l8")],
    *[("validation", name, colour) for name, colour in [("l0", "red"), ("l1", "green")]],
    *[("test", name, colour) for name, colour in [("t0", "red"), ("t2", "blue"), ("t9", "yellow"), ("t9", "yellow")]],
    # once l0 looks like l1
    *[("test", name, colour) for name, colour in [("l0", "green"), ("l1", "green"), ("l9", "red"), ("l7", "yellow")]],
]
#: A known turtle, one that looks like the new one of validation, which is known to queries, and one without a crop.
QUERIES = ["red", "yellow", None]
NAMES = {"out": "predictions.parquet", "out_photographs": "photographs.parquet", "out_metrics": "evaluation.json"}
NAMES |= {"out_classes": "classes.csv", "out_confusion": "confusion.csv", "out_accuracy": "accuracy.csv"}
NAMES |= {"out_groups": "groups.csv", "out_reliability": "reliability.csv", "out_rollup": "rollup.csv"}
NAMES |= {"out_identifiers": "identifiers.csv", "out_taxa": "taxa.csv", "out_abundance": "abundance.csv"}
NAMES |= {"out_submission": "submission.csv", "out_gallery": "gallery", "out_openset": "openset.csv"}
NAMES |= {"out_cmc": "cmc.csv", "out_individuals": "figures.csv", "out_matches": "matches.csv"}
SETTINGS: dict[str, Any] = {
    "labels": ["identity"],
    "seed": 0,
    "shards": ["a"],
    "name_confidence": 85,
    "bootstrap": 50,
    "resolutions": [],
    "region_deg": 30.0,
    "wanted_accuracy": 0.95,
    "photo_boxes": 10,
    "answer_by": "nearest",
    "threshold_by": "dataset",
    "neighbours": 1,
    "flips": True,
    "sides": True,
    "local": "none",
    "local_candidates": 5,
}


def shown(n: int, split: str, name: str | None, colour: str | None, **more: Any) -> dict[str, Any]:
    """A photograph of one colour; that of a new individual has a day of its own."""
    dataset = "lynxes" if (name or "t").startswith("l") else "turtles"
    day = f"2020-{1 + n // 28:02}-{1 + n % 28:02}"
    boxes = {"boxes": ()} if colour is None else {"picture": np.full((24, 24, 3), COLOURS[colour][::-1], np.uint8)}
    told = {"part": "query" if split == "query" else "database", "dataset": dataset, "split": split, **boxes}
    return photograph(n, name, None if split == "query" else day, **{**told, **more})


def some() -> list[dict[str, Any]]:
    rows = [shown(4 * n + i, "train", name, KNOWN[name]) for n, name in enumerate(KNOWN) for i in range(4)]
    rows += [shown(20 + n, *told) for n, told in enumerate(HELD_OUT)]
    # asked for in another order than the source's
    queries = [shown(40 + n, "query", None, colour) for n, colour in enumerate(QUERIES)]
    rows += [
        row | {"submission_row": place, "submission_rows": 3} for row, place in zip(queries, (2, 0, 1), strict=True)
    ]
    for row in rows:
        if row["identity"] == "l1":
            row["orientation"] = "right" if row["split"] == "test" else "left"
    # of one encounter of t0 a photograph trains and another is judged
    first = next(row for row in rows if row["split"] == "test" and row["identity"] == "t0")
    return [row | {"encounter": rows[0]["encounter"]} if row is first else row for row in rows]


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    """The study and its dataset.parquet, with one more crop that is dropped."""
    dropped = shown(60, "dropped", "t0", "red")
    write_study(folder, [*rows, dropped])
    crops = {row["photo_key"]: row for row in read_table(folder / "crops/a.parquet", CROPS).to_pylist()}
    train = {row["identity"] for row in rows if row["split"] == "train"}
    found = []
    for row in [row for row in [*rows, dropped] if row["photo_key"] in crops]:
        told = {name: row[name] for name in ("image_id", "dataset", "orientation", "submission_row")}
        told |= {"split": row["split"], "label": row["identity"], "rank": "individual" if row["identity"] else None}
        told |= {"observed_at": row["date"], "is_new": row["identity"] not in train if row["identity"] else None}
        if row is dropped:
            told |= {"split": None, "reason": "too small", "label": None, "rank": None, "is_new": None}
        found.append(crops[row["photo_key"]] | told)
    write_table(folder / "dataset.parquet", [_only(row) for row in found], IDENTITY_DATASET)


def _only(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in IDENTITY_DATASET.names}


def run(folder: Path, out: str = "out", classifier: str = "trained/classifier", **given: Any) -> Path:
    values: dict[str, Any] = {name: folder / out / file for name, file in NAMES.items()}
    values |= dict.fromkeys(
        ("taxonomy", "annotations", "barcodes", "found", "local_weights", "other", "synonyms"), folder
    )
    values |= {"classifier": folder / classifier, "crops": folder / "crops", "dataset": folder / "dataset.parquet"}
    evaluation(individuals=folder / "individuals.parquet", **{**values, **SETTINGS, **given})
    return folder / out


def retold(folder: Path, trained: Path, weights: float | None = None) -> None:
    """The classifier, as if it had been trained on the dataset of the folder; its embedding has all weights alike."""
    network, description = load(trained)
    if weights is not None:
        for each in network.embedding.parameters():
            each.data.fill_(weights)
    (folder / "trained/classifier").mkdir(parents=True)
    told = replace(description, dataset_md5=md5_of(folder / "dataset.parquet"))
    save(folder / "trained/classifier", network, told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("individuals")
    write(path, some())
    train(path, loss="flat", balance="none", epochs=2, image_px=16, embedding=8, flip="none")
    return path


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    return run(folder)


def metrics(out: Path) -> Any:
    return json.loads((out / "evaluation.json").read_text())


def predictions(out: Path) -> pd.DataFrame:
    return read_table(out / "predictions.parquet", IDENTITY_PREDICTIONS).to_pandas()


def value(found: dict[str, Any]) -> float:
    assert found["low"] <= found["value"] <= found["high"]
    return float(found["value"])


def test_rows_add_up(out: Path) -> None:
    found = metrics(out)
    # 20 train, 16 are held out, 2 queries have a crop, one crop was dropped
    assert found["rows"] == {"in": 39, "out": 18, "dropped": {"dropped by dataset": 1, "known, compared with": 20}}
    assert (found["split"], found["photographs"], found["individuals"], found["encounters"]) == ("test", 8, 7, 8)
    assert found["known_individuals"] == 5
    assert not any(found[name] for name in ("simulated_new", "crosswise", "judged_chose_epoch"))
    assert list(found["ways"]) == ["softmax", "nearest", "centroid", "fused"]


def test_each_photograph_is_answered(out: Path) -> None:
    rows = predictions(out)
    of_test = rows[rows["split"] == "test"]
    new = "new_individual"
    assert of_test["answer"].tolist() == ["t0", "t2", new, new, "l1", "l1", "l0", new]
    of_validation = rows[rows["split"] == "validation"]
    assert of_validation["answer"].tolist() == ["t0", "t0", "t1", new, new, new, "l0", "l1"]
    # candidates are of the same data set alone
    assert {name[0] for name in of_test[of_test["dataset"] == "lynxes"]["top"].explode()} == {"l"}
    assert sorted(of_test["top"].iloc[0]) == ["t0", "t1", "t2"]
    assert of_test["score"].iloc[0] == pytest.approx(1, abs=1e-5)
    # the match is a photograph that trains
    assert of_test["match"].iloc[1] in {f"individuals-{n}-0" for n in range(8, 12)}


def test_figures_of_each_data_set_and_their_mean(out: Path) -> None:
    found = metrics(out)["ways"]["nearest"]
    turtles, lynxes = found["datasets"]["turtles"], found["datasets"]["lynxes"]
    assert [value(turtles[name]) for name in ("baks", "baus", "score")] == [1, 1, 1]
    # of l0 and l1 one is right, of the new ones l9 is taken for l0
    assert [value(lynxes[name]) for name in ("baks", "baus", "score")] == [0.5, 0.5, 0.5]
    assert [value(found[name]) for name in ("baks", "baus", "score")] == [0.75, 0.75, 0.75]
    counts = [
        {name: one[name] for name in ("photographs", "new_photographs", "known", "new")} for one in (turtles, lynxes)
    ]
    assert counts[0] == {"photographs": 4, "new_photographs": 2, "known": 2, "new": 1}
    assert counts[1] == {"photographs": 4, "new_photographs": 2, "known": 2, "new": 2}
    table = pd.read_csv(out / "figures.csv")
    row = table[(table["way"] == "nearest") & (table["dataset"] == "lynxes") & (table["figure"] == "baus")]
    assert row[["value", "low", "high"]].iloc[0].tolist() == [lynxes["baus"][name] for name in ("value", "low", "high")]


def test_the_threshold_is_the_middle_between_new_and_known_of_validation(out: Path) -> None:
    rows = predictions(out)
    rows = rows[rows["split"] == "validation"]
    for name, found in metrics(out)["ways"]["nearest"]["datasets"].items():
        of_one = rows[rows["dataset"] == name]
        is_new = of_one["is_new"].astype(bool)
        least, most = of_one["score"][~is_new].min(), of_one["score"][is_new].max()
        assert most < least
        assert found["threshold"] == pytest.approx((most + least) / 2, abs=1e-5)
    by_fused = metrics(run(out.parent, "one", threshold_by="all", answer_by="fused"))
    # its best individual of l1 is, by any way, one seen from the other side alone
    assert by_fused["opposite_side"] == metrics(out)["opposite_side"]
    one = by_fused["ways"]["nearest"]["datasets"]
    assert one["turtles"]["threshold"] == one["lynxes"]["threshold"]


def test_rankings(out: Path) -> None:
    found = metrics(out)
    reid = found["ways"]["nearest"]["reid"]
    # t0, t2 and l1 stand first, l0 second of two
    assert (reid["queries"], reid["without_match"]) == (4, 4)
    assert [value(reid[name]) for name in ("rank_1", "rank_5", "map")] == [0.75, 1.0, 0.875]
    cmc = pd.read_csv(out / "cmc.csv")
    assert cmc[cmc["way"] == "nearest"]["share"].tolist() == [0.75] + [1.0] * 19
    # among single photographs the four of l0 come fifth to eighth; l1 has none of the side that is asked for
    ranked = found["photographs_ranked"]
    own = (1 / 5 + 2 / 6 + 3 / 7 + 4 / 8) / 4
    assert (ranked["queries"], ranked["without_match"]) == (3, 5)
    assert [value(ranked[name]) for name in ("rank_1", "map")] == pytest.approx([2 / 3, (2 + own) / 3], abs=1e-5)


def test_a_leak_is_told_apart(out: Path) -> None:
    leaks = metrics(out)["leaks"]
    none = {"photographs": 0, "rank_1": None}
    # of l0 and l1 the first is taken for the other; a lynx says nothing of what a turtle's leak is worth
    lynxes = {"encounter trains": none, "encounter held out": {"photographs": 2, "rank_1": 0.5}, "no date": none}
    one = {"photographs": 1, "rank_1": 1.0}
    assert leaks == {"lynxes": lynxes, "turtles": {"encounter trains": one, "encounter held out": one, "no date": none}}


def test_without_a_date_nobody_knows_of_a_leak(folder: Path, tmp_path: Path) -> None:
    undated = {"date": None, "encounter": "alone"}
    rows = [row | undated if row["split"] == "test" and row["identity"] == "t2" else row for row in some()]
    write(tmp_path, rows)
    retold(tmp_path, folder / "trained/classifier")
    turtles = metrics(run(tmp_path))["leaks"]["turtles"]
    assert turtles["no date"] == turtles["encounter trains"] == {"photographs": 1, "rank_1": 1.0}
    assert turtles["encounter held out"] == {"photographs": 0, "rank_1": None}


def test_an_individual_seen_from_the_other_side_alone_is_told(out: Path) -> None:
    # l1 was seen from the left and one photograph of the test shows its right
    assert metrics(out)["opposite_side"] == {"validation": 0.0, "test": 0.125, "query": 0.0}


def test_calibration_tells_its_pairs(out: Path) -> None:
    # five turtles with three candidates each and three lynxes with two; t0 twice, t1, l0 and l1 have their own
    wanted = {"pairs": 21, "same": 5, "few": True}
    assert metrics(out)["calibrated_on"] == dict.fromkeys(("softmax", "nearest", "centroid"), wanted)


def test_the_sweep_ends_at_all_new(out: Path) -> None:
    sweep = pd.read_csv(out / "openset.csv")
    assert set(sweep["dataset"]) == {"all", "turtles", "lynxes"}
    of_one = sweep[(sweep["way"] == "nearest") & (sweep["dataset"] == "turtles")]
    assert of_one["threshold"].is_monotonic_increasing
    assert of_one[["baks", "baus"]].iloc[0].tolist() == [1, 0]
    assert of_one[["baks", "baus"]].iloc[-1].tolist() == [0, 1]
    assert of_one["score"].max() == 1


def test_the_submission_is_in_the_order_that_is_asked_for(out: Path) -> None:
    # to queries the turtle t8 of validation is known; the one without a crop is new
    text = (out / "submission.csv").read_text()
    assert text.splitlines()[0] == "image_id,identity"
    (yellow, first), (none, second), (red, third) = (line.split(",") for line in text.splitlines()[1:])
    assert (yellow, none, red) == ("41", "42", "40")
    assert first in ("t8", "t9") and (second, third) == ("new_individual", "t0")
    assert metrics(out)["submission"] == {"asked": 3, "new": 1, "without_crop": 1, "not_in_database": 0}


def test_the_gallery_has_all_whose_individual_is_known(out: Path) -> None:
    gallery = open_gallery(out / "gallery")
    assert len(gallery.rows) == 36
    assert set(gallery.rows["identity"]) == {*KNOWN, "t8", "t9", "l7", "l8", "l9"}
    embeddings = gallery.embeddings[np.arange(36)]
    same = (gallery.rows["identity"] == "t0").to_numpy() & (gallery.rows["dataset"] == "turtles").to_numpy()
    similar = embeddings @ embeddings[0]
    np.testing.assert_allclose(similar[same], 1, atol=1e-5)
    assert similar[(gallery.rows["identity"] == "t1").to_numpy()].max() < 0.999


def test_matches_of_each_verdict(out: Path) -> None:
    counts = pd.read_csv(out / "matches.csv")["verdict"].value_counts().to_dict()
    assert counts == {
        "known, named right": 3,
        "known, named wrong or taken for new": 1,
        "new, told so": 3,
        "new, taken for a known one": 1,
    }


def test_what_other_studies_write_is_a_header(out: Path) -> None:
    for name in (
        "classes",
        "confusion",
        "accuracy",
        "groups",
        "reliability",
        "rollup",
        "identifiers",
        "taxa",
        "abundance",
    ):
        assert len((out / f"{name}.csv").read_text().splitlines()) == 1, name
    assert read_table(out / "photographs.parquet", PHOTOGRAPHS).num_rows == 0


def test_the_same_twice(folder: Path, out: Path) -> None:
    again = run(folder, "again")
    for name in ("evaluation.json", "submission.csv", "openset.csv", "cmc.csv", "figures.csv", "matches.csv"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_without_new_ones_each_photograph_counts_a_second_time(folder: Path, tmp_path: Path) -> None:
    # as the published split has it: no test, nobody new
    rows = [row for row in some() if row["split"] != "test" and row["identity"] not in ("t8", "l8")]
    write(tmp_path, rows)
    retold(tmp_path, folder / "trained/classifier")
    found = metrics(run(tmp_path))
    assert (found["split"], found["simulated_new"], found["crosswise"]) == ("validation", ["lynxes", "turtles"], True)
    counts = {name: of["new_photographs"] for name, of in found["ways"]["nearest"]["datasets"].items()}
    assert counts == {"turtles": 3, "lynxes": 2} and found["photographs"] == 5
    # the ranking is of the five photographs alone
    assert found["ways"]["nearest"]["reid"]["queries"] == 5
    assert found["ways"]["nearest"]["reid"]["rank_1"]["value"] == 1
    assert set(predictions(tmp_path / "out")["split"]) == {"validation", "query"}


def test_a_test_alone_chooses_its_own_thresholds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [row for row in some() if row["split"] not in ("validation", "query")])
    retold(tmp_path, folder / "trained/classifier")
    found = metrics(run(tmp_path))
    assert (found["split"], found["simulated_new"], found["crosswise"]) == ("test", [], True)
    assert "no photograph is for validation; the test chooses its own thresholds, crosswise" in capsys.readouterr().err
    # nothing is asked
    assert (tmp_path / "out/submission.csv").read_text() == "image_id,identity\n"
    assert found["submission"] == dict.fromkeys(("asked", "new", "without_crop", "not_in_database"), 0)


def test_when_all_are_new_there_is_no_rank(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, [row for row in some() if row["split"] != "test" or row["identity"] in ("t9", "l7")])
    retold(tmp_path, folder / "trained/classifier")
    found = metrics(run(tmp_path))["ways"]["nearest"]
    assert found["reid"]["rank_1"] is None and found["reid"]["map"] is None
    # no known individual: BAKS and the score count as 0
    assert [value(found[name]) for name in ("baks", "baus", "score")] == [0, 1, 0]


def test_nothing_to_judge_is_told(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, [row for row in some() if row["split"] in ("train", "query")])
    retold(tmp_path, folder / "trained/classifier")
    with pytest.raises(InputError, match=r"no photograph is for validation or test; set dataset\.split_by to time"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_classifier_of_another_dataset_is_refused(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, some()[:-4])
    with pytest.raises(InputError, match=r"trained on a dataset with md5 \w+, .* has \w+; run classifier again"):
        run(tmp_path, classifier=str(folder / "trained/classifier"))


def test_missing_weights_of_local_features_are_told_before_a_crop_is_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: LightGlue: no such folder, where its weights lie"):
        run(folder, "none", local="lightglue", local_weights=tmp_path / "none", crops=tmp_path / "no crops")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, r"individuals-0-0: the classifier's embedding of it is 0, which is like none; its training diverged, or"),
        (np.nan, "individuals-0-0: what the classifier makes of it is not finite; its training diverged, or its weig"),
    ],
)
def test_what_nothing_can_be_compared_by_is_told_first(folder: Path, tmp_path: Path, value: float, told: str) -> None:
    write(tmp_path, some())
    retold(tmp_path, folder / "trained/classifier", value)
    with pytest.raises(InputError, match=told):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


# submission


def row(
    image_id: str, place: int | None, *, part: str = "query", order: int = 0, asked: int | None = None, **more: Any
) -> dict[str, Any]:
    told = {"image_id": image_id, "submission_row": place, "submission_rows": asked, "part": part, "row": order}
    return told | {"dataset": "turtles", "identity": None, **more}


def test_no_submission_is_asked_for(tmp_path: Path) -> None:
    found = write_submission(tmp_path / "s.csv", [], {})
    assert (tmp_path / "s.csv").read_text() == "image_id,identity\n"
    assert found == {"asked": 0, "new": 0, "without_crop": 0, "not_in_database": 0}


def test_without_a_sample_all_queries_are_answered_in_the_sources_order(tmp_path: Path) -> None:
    rows = [row("b", None, order=2), row("c", None, part="database", order=1, identity="x"), row("a", None, order=0)]
    found = write_submission(tmp_path / "s.csv", rows, {"b": "x", "a": "new_individual", "c": "x"})
    assert (tmp_path / "s.csv").read_text() == "image_id,identity\na,new_individual\nb,x\n"
    assert found == {"asked": 2, "new": 1, "without_crop": 0, "not_in_database": 0}


@pytest.mark.parametrize("places", [(0, 2), (1, 2), (0, 1), (None,)])
def test_a_missing_row_of_the_sample_is_refused(tmp_path: Path, places: tuple[int | None, ...]) -> None:
    rows = [row(str(place), place, order=n, asked=3) for n, place in enumerate(places)]
    with pytest.raises(InputError, match=r"asks for 3 rows and photographs of [02] are there"):
        write_submission(tmp_path / "s.csv", rows, {})
    assert not (tmp_path / "s.csv").exists()


def test_only_names_of_the_database_are_submitted(tmp_path: Path) -> None:
    known = [row("d", None, part="database", identity="turtles/t1"), row("e", None, part="database", identity="t2")]
    known += [row("f", None, part="database", identity="l1", dataset="lynxes")]
    # a name that two data sets have, one of a lynx, and three of a review's own
    names = ["turtles/t1", "t2", "l1", "turtles/mine", "turtles/t2", "mine"]
    queries = [row(str(n), n, asked=len(names)) for n in range(len(names))]
    answers = {str(n): name for n, name in enumerate(names)} | {"d": "mine"}
    found = write_submission(tmp_path / "s.csv", [*known, *queries], answers)
    written = [line.split(",")[1] for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    assert written == ["t1", "t2", *["new_individual"] * 4]
    assert found == {"asked": 6, "new": 4, "without_crop": 0, "not_in_database": 4}


def test_a_query_that_a_review_named(folder: Path, tmp_path: Path) -> None:
    # 40 is red like t0, 41 yellow; a reviewer knows both, and 41 and its like by a name of his own
    rows = [{**one, "split": "train", "identity": "t1"} if one["image_id"] == "40" else one for one in some()]
    rows = [{**one, "split": "train", "identity": "mine"} if one["image_id"] == "41" else one for one in rows]
    write(tmp_path, rows)
    own = [{**one, "identity": None} if one["image_id"] in ("40", "41") else one for one in some()]
    write_table(tmp_path / "individuals.parquet", [{k: r[k] for k in INDIVIDUALS.names} for r in own], INDIVIDUALS)
    retold(tmp_path, folder / "trained/classifier")
    found = metrics(run(tmp_path))["submission"]
    lines = (tmp_path / "out/submission.csv").read_text().splitlines()
    assert lines[1:] == ["41,new_individual", "42,new_individual", "40,t1"]
    assert found == {"asked": 3, "new": 2, "without_crop": 1, "not_in_database": 1}
