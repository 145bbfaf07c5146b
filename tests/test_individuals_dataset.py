"""The data set of a study of individuals: identity and split of each crop, or the reason why it has none."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from individuals_study import photograph, write_study

from instar.dataset.command import dataset
from instar.errors import InputError
from instar.licences import LICENCES
from instar.tables import CROPS, IDENTITY_DATASET, read_table

GIVEN: dict[str, Any] = {
    "labels": ["identity"],
    "seed": 0,
    "shards": ["a"],
    "licences": [name for name in LICENCES if name != "all-rights-reserved"],
    "min_crop_px": 10,
    "min_class_crops": 1,
    "near_duplicate_bits": 2,
    "split_by": "time",
    "held_out_observers": 0.2,
    "held_out_share": 0.2,
    "new_share": 0.2,
    "validation_crops": 1,
    "test_crops": 0,
    "low_share": 0.25,
    "areas_px": [100, 1000],
    "max_px": 40,
    "jpeg_quality": 90,
}
Rows = dict[str, dict[str, Any]]


def run(
    folder: Path,
    photographs: list[dict[str, Any]],
    decisions: tuple[str, ...] = (),
    earlier: str = "",
    columns: str = "",
    **given: Any,
) -> Rows:
    """The rows by image id, or by key where a photograph has several crops."""
    write_study(folder, photographs)
    (folder / "decisions.csv").write_text("\n".join(["key,verdict,label,who,when,why,sha256", *decisions, ""]))
    (folder / "earlier.csv").write_text(f"observation_id,split{columns}\n{earlier}")
    names = ["crops", "none", "none", "none", "individuals.parquet", "decisions.csv", "earlier.csv", "none"]
    names += ["dataset.parquet"]
    names += ["held_out.csv", "specimen_crops", "metrics.json", "examples.csv", "found.csv"]
    values: dict[str, Any] = {**GIVEN, **given}
    dataset(*(folder / name for name in names), **values)
    return {row["key"]: row for row in read_table(folder / "dataset.parquet", IDENTITY_DATASET).to_pylist()}


def of(rows: Rows, column: str) -> list[Any]:
    return [row[column] for row in rows.values()]


def metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


def some() -> list[dict[str, Any]]:
    """Two turtles on three days each, a third seen once, and a query."""
    days = [photograph(3 * n + day, f"t{n}", f"2020-01-0{day + 1}") for n in range(2) for day in range(3)]
    return [*days, photograph(6, "t9", "2020-01-01"), photograph(7, None, part="query", submission_row=0)]


def test_each_photograph_has_identity_and_split(tmp_path: Path) -> None:
    rows = run(tmp_path, some())
    assert of(rows, "label") == ["t0"] * 3 + ["t1"] * 3 + ["t9", None]
    assert [split == "train" for split in of(rows, "split")] == [True, True, False, True, True, False, True, False]
    assert of(rows, "split")[-1] == "query"
    assert of(rows, "is_new") == [False] * 7 + [None]
    assert of(rows, "submission_row") == [None] * 7 + [0]
    assert of(rows, "observation_id")[:2] == ["t0 2020-01-01", "t0 2020-01-02"]
    found = metrics(tmp_path)
    assert found["rows"] == {"in": 8, "out": 8, "dropped": {}}
    assert found["photographs"] == {"in": 8, "without_crop": {}, "left_out_by_records": 0}
    assert (found["individuals"], found["seen_once"], found["classes"]) == (3, 1, 3)
    assert found["splits"]["query"]["photographs"] == found["datasets"]["turtles"]["query"]["photographs"] == 1
    with (tmp_path / "held_out.csv").open() as file:
        assert [row["observation_id"] for row in csv.DictReader(file)] == ["t0 2020-01-03", "t1 2020-01-03"]


def test_of_several_crops_the_best_is_taken(tmp_path: Path) -> None:
    photographs = some()
    photographs[0]["boxes"] = (0.5, 0.9)
    rows = run(tmp_path, photographs)
    assert rows["individuals-0-0"]["reason"] == "not the best of its photograph"
    assert rows["individuals-0-1"]["split"] == "train"


def test_another_crop_is_taken_where_the_best_is_of_no_use(tmp_path: Path) -> None:
    photographs = some()
    photographs[0]["boxes"] = photographs[7]["boxes"] = (0.9, 0.5, 0.4)
    drop = ("individuals-0-0,drop,,me,2026-05-01,a rock,", "individuals-7-0,drop,,me,2026-05-01,a rock,")
    rows = run(tmp_path, photographs, decisions=drop)
    assert [
        (rows[f"individuals-{n}-{k}"]["split"], rows[f"individuals-{n}-{k}"]["reason"])
        for n in (0, 7)
        for k in range(3)
    ] == [
        (None, "dropped by a review"),
        ("train", None),
        (None, "not the best of its photograph"),
        (None, "dropped by a review"),
        ("query", None),
        (None, "not the best of its photograph"),
    ]


def test_what_is_dropped_has_its_reason(tmp_path: Path) -> None:
    photographs = some()
    photographs[0]["licence"] = "all-rights-reserved"
    photographs[1]["side"] = 9
    photographs.append(photograph(8, None, "2020-01-01"))
    rows = run(tmp_path, photographs, decisions=("individuals-3-0,drop,,me,2026-05-01,blurred,",))
    reasons = {"licence not allowed": 1, "under 10 px": 1, "no identity": 1, "dropped by a review": 1}
    assert metrics(tmp_path)["rows"] == {"in": 9, "out": 5, "dropped": dict(sorted(reasons.items()))}
    assert [row["image_id"] for row in rows.values() if row["reason"]] == ["0", "1", "3", "8"]
    assert metrics(tmp_path)["photographs"] == {"in": 9, "without_crop": {"database": 4}, "left_out_by_records": 0}


def test_a_review_says_who_it_is(tmp_path: Path) -> None:
    rows = run(tmp_path, some(), decisions=("individuals-6-0,relabel,t1,me,2026-05-01,same scales,",))
    assert rows["individuals-6-0"]["label"] == "t1"
    assert rows["individuals-6-0"]["observation_id"] == rows["individuals-3-0"]["observation_id"] == "t1 2020-01-01"


def shared() -> list[dict[str, Any]]:
    """t0 and t1 of turtles as ``some``, t0 of lynxes, a newt, and a query of each."""
    given = [photograph(n, "turtles/t0", f"2020-01-0{n + 1}") for n in range(3)] + some()[3:]
    lynxes = [photograph(10 + n, "lynxes/t0", f"2020-02-0{n + 1}", dataset="lynxes") for n in range(3)]
    queries = [
        photograph(20, None, part="query", dataset="lynxes"),
        photograph(21, None, part="query", dataset="newts"),
    ]
    return [*given, *lynxes, photograph(13, "n", "2020-02-01", dataset="newts"), *queries]


def test_a_review_names_individuals_of_the_photographs_data_set(tmp_path: Path) -> None:
    labels = {7: "t0", 20: "t0", 21: "t0", 6: "turtles/t1"}
    named = tuple(f"individuals-{n}-0,relabel,{label},me,2026-05-01,," for n, label in labels.items())
    rows = run(tmp_path, shared(), decisions=named)
    found = {n: rows[f"individuals-{n}-0"]["label"] for n in labels}
    # newts have no t0 of their own, so that it is a new one's name there
    assert found == {7: "turtles/t0", 20: "lynxes/t0", 21: "t0", 6: "t1"}
    assert rows["individuals-6-0"]["observation_id"] == "t1 2020-01-01"
    with pytest.raises(InputError, match="line 2: label = n is of newts, and this photograph of turtles; name an indi"):
        run(tmp_path, shared(), decisions=("individuals-7-0,relabel,n,me,2026-05-01,,",))
    # of two photographs with a name that nobody had, too
    named = tuple(f"individuals-{n}-0,relabel,x,me,2026-05-01,," for n in (7, 20))
    with pytest.raises(InputError, match="line 3: label = x is of turtles, and this photograph of lynxes"):
        run(tmp_path, shared(), decisions=named)


def test_a_decision_about_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: individuals-77-0 is no crop of this study"):
        run(tmp_path, some(), decisions=("individuals-77-0,drop,,me,2026-05-01,,",))


def test_a_decision_is_about_the_crop_that_was_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, some())
    with (tmp_path / "crops/a.tar").open("rb") as tar:
        row = read_table(tmp_path / "crops/a.parquet", CROPS).to_pylist()[1]
        tar.seek(row["offset"])
        sha256 = hashlib.sha256(tar.read(row["size"])).hexdigest()
    photographs = some()
    photographs[3]["side"] = 9
    rows = run(
        tmp_path,
        photographs,
        decisions=(
            "individuals-0-0,drop,,me,2026-05-01,,0123",
            f"individuals-1-0,drop,,me,2026-05-01,,{sha256.upper()}",
            "individuals-3-0,drop,,me,2026-05-01,,",
        ),
    )
    assert [key for key, row in rows.items() if row["reason"] == "dropped by a review"] == ["individuals-1-0"]
    assert metrics(tmp_path)["review"] == {
        "applied": 1,
        "made on another file": ["individuals-0-0"],
        "about a dropped crop": ["individuals-3-0"],
    }
    assert "1 decisions made on another file are not applied, such as individuals-0-0" in capsys.readouterr().err


def test_new_individual_is_nobody(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: label = new_individual is nobody's name"):
        run(tmp_path, some(), decisions=("individuals-7-0,relabel,new_individual,me,2026-05-01,,",))


def test_the_published_split_lets_encounters_part_and_tells_how_many(tmp_path: Path) -> None:
    photographs = [photograph(n, f"t{n // 5}", "2020-01-01", phash=(n // 5) << 40) for n in range(20)]
    rows = run(tmp_path, photographs, split_by="published")
    assert sorted(of(rows, "split")) == ["train"] * 16 + ["validation"] * 4
    leaks = metrics(tmp_path)["leakage"]["validation"]
    # the first turtle's photographs have no hash, and nothing is like those
    told = {"photographs": 4, "encounter": 4, "near_duplicate": 3, "other_individual_of_the_file": 0}
    assert leaks == told
    run(tmp_path, some())
    assert metrics(tmp_path)["leakage"]["validation"]["encounter"] == 0


def test_another_individual_of_the_file_is_no_leak(tmp_path: Path) -> None:
    def leaks(*files: str) -> list[int]:
        photographs = some()
        for n, file in zip((0, 2), files, strict=True):  # the first of t0 trains, the last is held out
            photographs[n] |= {"phash": 1 << 40, "sha256": file}
        photographs[4] |= {"phash": 1 << 40, "sha256": "b"}  # t1's trains
        run(tmp_path, photographs)
        found = metrics(tmp_path)["leakage"].values()
        return [sum(one[name] for one in found) for name in ("near_duplicate", "other_individual_of_the_file")]

    assert leaks("a", "c") == [1, 0]  # looks like two others
    assert leaks("a", "b") == [1, 1]  # like one, and is of the other's file
    assert leaks("b", "b") == [1, 1]  # twice the same individual of a file
    photographs = some()
    for n in (2, 4):
        photographs[n] |= {"phash": 1 << 40, "sha256": "b"}
    run(tmp_path, photographs)
    assert sum(one["near_duplicate"] for one in metrics(tmp_path)["leakage"].values()) == 0


def test_the_published_split_goes_by_the_sources_order(tmp_path: Path) -> None:
    photographs = [photograph(n, f"t{n // 5}") for n in range(20)]
    first = {key: row["split"] for key, row in run(tmp_path, photographs, split_by="published").items()}
    turned = run(tmp_path, photographs[::-1], split_by="published")
    assert {key: row["split"] for key, row in turned.items()} == first


def test_the_published_split_of_the_others_stays_where_some_are_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = [photograph(n, f"t{n // 5}") for n in range(40)] + [photograph(40, None, part="query")]
    first = {key: row["split"] for key, row in run(tmp_path, photographs, split_by="published").items()}
    photographs[0] |= {"boxes": ()}
    photographs[7] |= {"side": 9}
    named = ("individuals-40-0,relabel,t3,me,2026-05-01,,", "individuals-9-0,drop,,me,2026-05-01,,")
    again = run(tmp_path, photographs, decisions=named, split_by="published")
    lost = {"individuals-0-0", "individuals-7-0", "individuals-9-0", "individuals-40-0"}
    assert {key: row["split"] for key, row in again.items() if key not in lost} == {
        key: split for key, split in first.items() if key not in lost
    }
    assert again["individuals-40-0"]["split"] == "train"
    told = metrics(tmp_path)["photographs"]
    where = [first[key] for key in lost - {"individuals-40-0"}]
    assert told["without_crop"] == {split: where.count(split) for split in sorted(set(where))}
    assert "left out" not in capsys.readouterr().err
    run(tmp_path, photographs[1:], split_by="published")
    assert metrics(tmp_path)["photographs"]["left_out_by_records"] == 1
    assert "records left out 1 rows of the source's table" in capsys.readouterr().err


def test_what_was_held_out_earlier_never_trains(tmp_path: Path) -> None:
    photographs = some()
    # t0 was held out on its last day but one, and t1, which was new, on the only day it had been seen
    earlier = "t0 2020-01-02,test\nt1 2020-01-01,validation\n"
    rows = run(tmp_path, photographs, earlier=earlier)
    of_day = {row["observation_id"]: row["split"] for row in rows.values()}
    assert (of_day["t0 2020-01-01"], of_day["t0 2020-01-02"]) == ("train", "test")
    assert of_day["t0 2020-01-03"] in ("validation", "test")
    assert {split for day, split in of_day.items() if day.startswith("t1")} == {"validation"}
    assert {row["is_new"] for row in rows.values() if row["label"] == "t1"} == {True}
    with pytest.raises(InputError, match=r"has rows, which the published split does not take; set dataset\.earlier to"):
        run(tmp_path, photographs, earlier=earlier, split_by="published")


def test_what_was_held_out_earlier_is_known_by_another_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = shared()
    # turtles/t0 was t0 when there were no lynxes, and t1 stood in two data sets; t1's second day has become t9's
    earlier = "t0 2020-01-01,test\nturtles/t1 2020-01-01,validation\nt1 2020-01-02,test\n"
    moved = "individuals-4-0,relabel,t9,me,2026-05-01,,"
    rows = run(tmp_path, photographs, decisions=(moved,), earlier=earlier)
    of_day = {row["observation_id"]: row["split"] for row in rows.values()}
    days = ("turtles/t0 2020-01-01", "t1 2020-01-01", "t9 2020-01-02")
    assert [of_day[day] for day in days] == ["test", "validation", "test"]
    assert of_day["t9 2020-01-01"] == "train"
    assert metrics(tmp_path)["earlier"] == {"encounters": 3, "not_met_again": 0}
    assert "no photograph of this study" not in capsys.readouterr().err
    photographs[0]["boxes"] = ()  # a photograph without a crop is met again, and none can train
    run(tmp_path, photographs, earlier=f"{earlier}t0 1999-01-01,test\nold turtle 2020-01-01,test\n")
    assert metrics(tmp_path)["earlier"] == {"encounters": 5, "not_met_again": 2}
    told = "earlier.csv: 2 of 5 encounters are of no photograph of this study, such as old turtle 2020-01-01; where"
    assert told in capsys.readouterr().err


def test_who_trained_stays_known_where_a_held_out_individual_is_merged_into_it(tmp_path: Path) -> None:
    def splits(day: str | None, earlier: str) -> dict[str, str]:
        own = [photograph(n, "y", f"2019-07-{day}") for n, day in enumerate(("05", "09", "14"))]
        merge = ("individuals-3-0,relabel,y,me,2026-05-01,,",)
        photographs = [*own, photograph(3, "x", day), photograph(4, "z", "2019-07-01")]
        rows = run(tmp_path, photographs, merge, f"{earlier}y 2019-07-14,validation\n")
        return {key[-3]: row["split"] for key, row in rows.items()}

    known = {"0": "train", "1": "train", "2": "validation", "3": "test", "4": "train"}
    assert splits("2019-07-01", "x 2019-07-01,test\n") == known
    assert splits(None, "individuals-3,test\n") == known  # without a date it stands before all others
    # on the first day, of which the photographs of y that trained are now held out, too
    assert splits("2019-07-05", "x 2019-07-05,test\n") == known | {"0": "test"}
    # the earlier run knew of the review, and y by the photograph that it moved
    assert splits("2019-07-01", "y 2019-07-05,test\ny 2019-07-09,test\n")["3"] == "train"
    # y was new, and stays so
    days = "y 2019-07-05,test\ny 2019-07-09,test\n"
    assert set(splits("2019-07-01", f"x 2019-07-01,test\n{days}").values()) == {"train", "test", "validation"}
    assert splits("2019-07-20", days)["3"] != "train"


@pytest.mark.parametrize(("home", "held"), [("turtles", "0"), ("newts", "30"), ("bears", "0 30"), (None, "0 30")])
def test_only_the_data_set_that_had_the_name_is_held_out(tmp_path: Path, home: str | None, held: str) -> None:
    newts = [photograph(30 + n, "newts/t0", f"2020-01-0{n + 1}", dataset="newts") for n in range(3)]
    line = "t0 2020-01-01,test"
    earlier = f"{line}\n" if home is None else f"{line},{home}\n"
    rows = run(tmp_path, [*shared(), *newts], earlier=earlier, columns="" if home is None else ",dataset")
    first = [f"individuals-{n}-0" for n in (0, 30)]
    assert [key for key in first if rows[key]["split"] == "test"] == [f"individuals-{n}-0" for n in held.split()]
    with (tmp_path / "held_out.csv").open() as file:
        homes = {row["observation_id"].split("/")[0]: row["dataset"] for row in csv.DictReader(file)}
    assert homes["newts"] == "newts"


@pytest.mark.parametrize("place", [0, None])
def test_a_sample_that_asks_for_a_photograph_of_the_database_is_refused(tmp_path: Path, place: int | None) -> None:
    photographs = [one | {"submission_rows": 3} for one in some()]
    photographs[-1]["submission_row"] = place
    told = "line 3 and 1 more is no" if place == 0 else "line 2 and 2 more is no"
    with pytest.raises(
        InputError, match=rf"asks for 3 images, of which {told} query .* the split query in metadata.* or mend its bbox"
    ):
        run(tmp_path, photographs)
    run(tmp_path, [one | {"submission_rows": 1} if place == 0 else one for one in some()])


def test_new_individuals_are_marked(tmp_path: Path) -> None:
    photographs = [photograph(3 * n + day, f"t{n}", f"2020-01-0{day + 1}") for n in range(10) for day in range(3)]
    rows = run(tmp_path, photographs, split_by="open_set")
    new = {row["label"] for row in rows.values() if row["is_new"]}
    assert len(new) == 2
    assert {row["split"] for row in rows.values() if row["label"] in new} == {"validation", "test"}
    found = metrics(tmp_path)["splits"]
    assert [found[split]["photographs_of_new"] for split in ("train", "validation", "test")] == [0, 3, 3]


def test_nothing_to_hold_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of 2 crops 2 are for training and 0 are held out"):
        run(tmp_path, [photograph(0, "a", "2020-01-01"), photograph(1, "b", "2020-01-01")])
