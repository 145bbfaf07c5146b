"""Tests of instar.dataset."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from instar.dataset.decisions import DECISIONS, HELD_OUT
from instar.dataset.engine import Engine
from instar.dataset.stage import dataset
from instar.errors import InputError
from instar.licences import LICENCES
from instar.splits import id_hash
from instar.tables import CROPS, DATASET, TAXONOMY, read_table, write_table

TAXA = {
    "1": ("Lasius niger", "species", "Lasius niger", "Lasius"),
    "2": ("Lasius flavus", "species", "Lasius flavus", "Lasius"),
    "3": ("Lasius", "genus", None, "Lasius"),
    "4": ("Formicidae", "family", None, None),
    "5": ("Lasius niger alpinus", "subspecies", "Lasius niger", "Lasius"),
    "6": ("Incertus antus", "species", "Incertus antus", None),
    "7": ("Formica", "genus", None, "Formica"),
}


def crop(key: str, taxon_id: str | None = "1", *, observation: str | None = None, box: float = 60, **other: Any) -> Any:
    photo_key, _, _ = key.rpartition("-")
    row = {
        "photo_key": photo_key,
        "key": key,
        "detector": "none",
        "score": 0.9,
        "source": "inaturalist",
        "photo_id": photo_key,
        "observation_id": observation or f"observation of {photo_key}",
        "taxon_id": taxon_id,
        "basis": "field",
        "licence": "cc-by",
        "shard": "a",
        "offset": 512,
        "size": 10,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "width": 60,
        "height": 60,
        "box_width": box,
        "box_height": 60.0,
        "photo_phash": id_hash(photo_key),
        "key_hash": id_hash(key),
        **other,
    }
    observer = row.get("observer_id")
    row["observation_hash"] = id_hash(row["observation_id"])
    return row | {"observer_hash": id_hash(observer) if observer else None}


def run(folder: Path, crops: list[Any], **parameters: Any) -> pd.DataFrame:
    """Write the crops, run the stage, and return its rows by key."""
    given = {"seed": 0, "shards": ["a", "b"], "min_crop_px": 50, "min_class_crops": 2, "validation_crops": 2}
    given |= {"licences": list(LICENCES), "near_duplicate_bits": 2, "split_by": "observation", "test_crops": 0}
    values: dict[str, Any] = {**given, "held_out_observers": 0.3, **parameters}
    decisions, earlier = folder / "decisions.csv", folder / "earlier.csv"
    folder.mkdir(exist_ok=True)
    write_csv(decisions, DECISIONS, values.pop("decisions", []))
    write_csv(earlier, HELD_OUT, values.pop("earlier", []))
    for shard in values["shards"]:
        write_table(folder / "crops" / f"{shard}.parquet", [row for row in crops if row["shard"] == shard], CROPS)
    names = ("name", "rank", "species", "genus")
    taxa = [{"taxon_id": taxon, **dict(zip(names, values, strict=True))} for taxon, values in TAXA.items()]
    write_table(folder / "taxonomy.parquet", taxa, TAXONOMY)
    paths = [folder / "crops", folder / "taxonomy.parquet", decisions, earlier, *outputs(folder)]
    dataset(*paths, **values)
    return read_table(folder / "dataset.parquet", DATASET).to_pandas().set_index("key", drop=False)


def write_csv(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False)


def outputs(folder: Path) -> list[Path]:
    return [folder / name for name in ("dataset.parquet", "held_out.csv", "dataset.json", "examples.csv")]


def metrics(folder: Path) -> Any:
    return json.loads((folder / "dataset.json").read_text())


def niger(count: int, prefix: str = "n") -> list[Any]:
    """Crops of one species, each of an observation of its own."""
    return [crop(f"{prefix}{number:03}-0") for number in range(count)]


def test_no_crop_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"crops: none of the shards holds a crop"):
        run(tmp_path, [])


def test_no_crop_left_says_which_rule_took_how_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no crop is left of 3 \(2 under 50 px, 1 above genus\)"):
        run(tmp_path, [crop("x-0", box=49), crop("x-1", box=1), crop("y-0", "4")])


def test_no_species_large_enough_for_validation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no species can give 3 crops; lower dataset\.validation_crops"):
        run(tmp_path, niger(5), validation_crops=3)


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key n001-0 stands twice"):
        run(tmp_path, [*niger(3), crop("n001-0", observation="another")])


def test_every_rule_takes_its_crops_in_order(tmp_path: Path) -> None:
    same: Any = {"photo_phash": 7 << 40}
    rows = run(
        tmp_path,
        [
            *niger(7),
            {**crop("photo-0"), "key": None, "reason": "no detection"},  # never became a crop
            crop("atom-0", box=49.9, **same),  # too small to make the others duplicates
            crop("small-1", box_height=49.9),
            crop("copy-2", observation="2", **same),
            crop("copy-1", observation="1", **same),
            crop("copy-0", "4", observation="0", **same),  # too high a taxon to make the others duplicates
            crop("family-0", "4"),
            crop("nothing-0", None),
            crop("unknown-0", "99"),
            crop("lost-0", "6"),
            crop("alone-0", "2"),
        ],
    )
    assert rows["reason"].dropna().to_dict() == {
        "atom-0": "under 50 px",
        "small-1": "under 50 px",
        "copy-0": "above genus",
        "copy-2": "near-duplicate",
        "family-0": "above genus",
        "nothing-0": "above genus",
        "unknown-0": "above genus",
        "lost-0": "above genus",
        "alone-0": "class under 2 crops",
    }
    assert rows["split"].isna().equals(rows["reason"].notna())
    figures = metrics(tmp_path)
    assert figures["rows"] == {
        "in": 17,
        "out": 8,
        "dropped": {"under 50 px": 2, "above genus": 5, "near-duplicate": 1, "class under 2 crops": 1},
    }
    assert figures["before"] == {"crops": 17, "classes": 2}
    assert figures["after"] == {"crops": 8, "classes": 1}


@pytest.mark.parametrize(
    ("taxa", "kept"),
    [
        (["1", "1"], 0),
        ([None, "1"], 1),
        (["3", "1"], 1),  # the genus's copy is the first, the species' one says more
        (["3", "1", "1"], 1),
        (["3", "3"], 0),
        (["1", "5"], 0),  # a subspecies is labelled as its species
        (["1", "2"], None),
        (["3", "1", "2"], None),
        (["7", "1"], None),  # a genus, and a species of another
        (["3", "7"], None),
        (["7", "4"], 0),
        (["1", "6"], 0),  # without a genus there is no label that could differ
    ],
)
def test_one_photograph_in_several_observations(tmp_path: Path, taxa: list[str | None], kept: int | None) -> None:
    observations = sorted(map(str, range(9)), key=id_hash)  # of the same photograph the first one keeps its crops
    copies = [
        crop(f"copy{number}-0", taxon, observation=observations[number], photo_phash=7 << 40)
        for number, taxon in enumerate(taxa)
    ]
    rows = run(tmp_path, [*niger(7), *copies], min_class_crops=1).loc[[row["key"] for row in copies]]
    assert list(rows.index[rows["reason"].isna()]) == ([] if kept is None else [f"copy{kept}-0"])
    dropped = "near-duplicate" if kept is not None else "near-duplicates with different labels"
    assert set(rows.loc[rows["label"].notna(), "reason"].dropna()) <= {dropped}


def test_labels_are_the_species_or_the_genus(tmp_path: Path) -> None:
    rows = run(tmp_path, [*niger(5), crop("sub-0", "5"), *(crop(f"g{number}-0", "3") for number in range(9))])
    columns = ["label", "rank", "species", "genus"]
    assert list(rows.loc["sub-0", columns]) == ["Lasius niger", "species", "Lasius niger", "Lasius"]
    assert tuple(rows.loc["g0-0", ["label", "rank", "genus"]]) == ("Lasius", "genus", "Lasius")
    assert "g0-0" in rows.index[rows["species"].isna()]
    assert set(rows.loc[rows["rank"] == "genus", "split"]) == {"train"}


def test_validation_holds_exactly_the_quota_of_whole_observations(tmp_path: Path) -> None:
    crops = niger(20) + [crop(f"burst{number}-{box}", "2") for number in range(9) for box in range(3)]
    rows = run(tmp_path, crops, validation_crops=6)
    sizes = rows[rows["split"] == "validation"].groupby("label").size()
    assert sizes.to_dict() == {"Lasius niger": 6, "Lasius flavus": 6}
    assert rows.groupby("observation_id")["split"].nunique().eq(1).all()
    assert metrics(tmp_path)["splits"] == {
        "train": {"crops": 35, "classes": 2},
        "validation": {"crops": 12, "classes": 2, "observations": 8},
    }
    assert metrics(tmp_path)["leakage"]["observation"]["observation"] == 0


def test_surplus_crops_of_a_validation_observation_train_nothing(tmp_path: Path) -> None:
    crops = [crop(f"burst{number}-{box}") for number in range(5) for box in range(3)]
    rows = run(tmp_path, crops, validation_crops=4)
    assert rows["split"].value_counts().to_dict() == {"train": 9, "validation": 4}
    surplus = rows[rows["reason"].notna()]
    assert list(surplus["reason"]) == ["beyond the quota of a held-out observation"] * 2
    assert surplus["observation_id"].nunique() == 1
    assert set(surplus["observation_id"]) < set(rows.loc[rows["split"] == "validation", "observation_id"])


@pytest.mark.parametrize(
    ("flavus", "validation"),
    [
        ([1, 1, 1, 1, 1], 2),  # 2 of 5 observations
        ([1, 1, 1, 1], 0),  # 2 of 4 are half, and more than half must stay
        ([1, 1, 9], 0),  # one observation may go; 1 crop is too few, and 9 would leave 2 for training
        ([2, 1, 1], 2),
        ([2, 1], 0),
    ],
)
def test_a_species_with_too_little_is_for_training_only(tmp_path: Path, flavus: list[int], validation: int) -> None:
    sizes = list(enumerate(flavus))
    crops = [crop(f"f{number}-{box}", "2") for number, size in sizes for box in range(size)]
    rows = run(tmp_path, niger(9) + crops)
    of_flavus = rows[rows["label"] == "Lasius flavus"]
    assert (of_flavus["split"] == "validation").sum() == validation
    assert metrics(tmp_path)["train_only_species"] == (validation == 0)


def test_an_observation_with_two_labels_stays_whole_in_training(tmp_path: Path) -> None:
    mixed = [crop(f"n{number:03}-1", "3") for number in range(7)]  # genus-level crops in 7 of the 16 observations
    rows = run(tmp_path, niger(16) + mixed, validation_crops=7)
    assert (rows["split"] == "validation").sum() == 7
    assert set(rows.loc[[row["key"] for row in mixed], "split"]) == {"train"}
    assert rows.groupby("observation_id")["split"].nunique().eq(1).all()


def test_split_depends_on_neither_order_nor_shards_but_on_the_seed(tmp_path: Path) -> None:
    crops = niger(40) + [crop(f"f{number}-{box}", "2") for number in range(20) for box in range(2)]
    first = run(tmp_path / "first", crops, validation_crops=8)
    moved = [{**row, "shard": "b"} if number % 3 else row for number, row in enumerate(reversed(crops))]
    second = run(tmp_path / "second", moved, validation_crops=8)
    columns = ["key", "label", "split", "reason"]
    pd.testing.assert_frame_equal(first[columns].sort_index(), second[columns].sort_index())
    other = run(tmp_path / "third", crops, validation_crops=8, seed=1)
    assert not first["split"].equals(other["split"])


def test_examples_are_kept_crops_of_every_class(tmp_path: Path) -> None:
    rows = run(tmp_path, [*niger(30), crop("g-0", "3"), crop("g-1", "3"), crop("tiny-0", box=3)])
    examples = pd.read_csv(tmp_path / "examples.csv")
    assert list(examples.columns) == ["label", "rank", "key", "shard", "offset", "size", "split"]
    assert examples["label"].value_counts().to_dict() == {"Lasius niger": 12, "Lasius": 2}
    assert examples["key"].is_unique
    assert rows.loc[examples["key"], "reason"].isna().all()


def test_outputs_are_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(tmp_path / name, niger(30))
    for first, second in zip(outputs(tmp_path / "first"), outputs(tmp_path / "second"), strict=True):
        assert first.read_bytes() == second.read_bytes()


def decision(key: str, verdict: str, **other: str) -> dict[str, str]:
    return {"key": key, "verdict": verdict, "who": "anna", "when": "2026-05-01", "why": "looked at it", **other}


def test_review_decisions_are_applied(tmp_path: Path) -> None:
    crops = [*niger(9), *(crop(f"f{number}-0", "2") for number in range(9))]
    decisions = [
        decision("n000-0", "drop"),
        decision("n001-0", "relabel", label="Lasius flavus"),
        decision("n002-0", "drop", when="2026-05-01T10:00:00+02:00"),
        decision("n002-0", "keep", when="2026-05-01T08:30:00Z"),  # half an hour later, so it counts
        decision("n003-0", "drop", sha256="0" * 64),  # another box has the key now
        decision("n004-0", "drop", sha256=hashlib.sha256(b"n004-0").hexdigest()),
        decision("gone-0", "drop"),
    ]
    rows = run(tmp_path, crops, decisions=decisions)
    assert rows["reason"].dropna().to_dict() == {"n000-0": "rejected in review", "n004-0": "rejected in review"}
    assert rows.loc["n001-0", "label"] == "Lasius flavus"
    assert metrics(tmp_path)["review"] == {
        "decisions": 6,
        "applied": 4,
        "made on another file": ["n003-0"],
        "no such crop": ["gone-0"],
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"verdict": "maybe"}, r"decisions\.csv: line 2: verdict = 'maybe' is none of keep, drop, relabel"),
        ({"verdict": "relabel", "label": "Homo"}, r"line 2: label = 'Homo' is no species or genus of this study"),
        ({"when": "in May"}, r"line 2: when = 'in May' is no date of ISO 8601"),
        ({"who": ""}, r"line 2: key or who is empty"),
    ],
)
def test_a_bad_decision(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, niger(9), decisions=[{**decision("n000-0", "keep"), **given}])


def test_licences_that_are_not_wanted(tmp_path: Path) -> None:
    rows = run(tmp_path, [*niger(9), crop("x-0", licence="cc-by-nd")], licences=["cc-by"])
    assert rows["reason"].dropna().to_dict() == {"x-0": "licence not allowed"}


def test_the_table_before_and_after_each_rule(tmp_path: Path) -> None:
    crops = [*niger(9), crop("s-0", box=3), crop("a-0", "2"), crop("c-0", "4"), crop("t-0", "7", box=3)]
    run(tmp_path, crops)
    table = {row["rule"]: (row["before"], row["after"]) for row in metrics(tmp_path)["rules"]}
    thirteen = {"crops": 13, "classes": 3}
    assert table["licence not allowed"] == (thirteen, thirteen)
    assert table["under 50 px"] == (thirteen, {"crops": 11, "classes": 2})
    assert table["above genus"] == ({"crops": 11, "classes": 2}, {"crops": 10, "classes": 2})
    assert table["class under 2 crops"] == ({"crops": 10, "classes": 2}, {"crops": 9, "classes": 1})


def flipped(photo_key: str, bits: int) -> int:
    return id_hash(photo_key) ^ ((1 << bits) - 1)


@pytest.mark.parametrize(("bits", "alone"), [(0, True), (2, False), (3, True)])
def test_observations_with_near_duplicates_are_never_held_out(tmp_path: Path, bits: int, alone: bool) -> None:
    # every photograph but those of 5 observations has a near-duplicate in an observation of genus level
    crops = niger(20) + [
        crop(f"g{number:03}-0", "3", photo_phash=flipped(f"n{number:03}", bits or 64)) for number in range(5, 20)
    ]
    rows = run(tmp_path, crops, validation_crops=5)
    held = set(rows.index[rows["split"] == "validation"])
    clean = {f"n{number:03}-0" for number in range(5)}
    assert (held == clean) == (not alone)
    assert len(held) == 5
    assert metrics(tmp_path)["leakage"]["observation"]["near_duplicate"] == 0


def test_the_leakage_report_counts_what_looser_splits_share(tmp_path: Path) -> None:
    # 3 photographs of 4 crops in each observation, which has its own observer, place and day
    crops = [
        crop(
            f"p{observation:03}{photo}-{box}",
            observation=f"o{observation}",
            observer_id=f"observer {observation % 20}",
            latitude=1.0 * (observation % 20),
            longitude=170.0,
            observed_at=86_400 * observation,
        )
        for observation in range(40)
        for photo in range(3)
        for box in range(4)
    ]
    run(tmp_path, crops, validation_crops=12)
    random, photograph, observation = (
        metrics(tmp_path)["leakage"][way] for way in ("random", "photograph", "observation")
    )
    assert observation == {
        "held_out": 12,
        "photograph": 0,
        "observation": 0,
        "near_duplicate": 0,
        "observer": 12,  # each observer has two observations
        "place_day": 0,
    }
    assert photograph["photograph"] == photograph["near_duplicate"] == 0
    assert photograph["observation"] == photograph["place_day"] == photograph["held_out"] == 12
    assert random["photograph"] == random["near_duplicate"] == random["observation"] == random["held_out"] == 12


def test_the_looser_row_of_a_report_is_that_split(tmp_path: Path) -> None:
    # of each three observations the second one's photograph differs by a bit from the first one's
    crops = [
        crop(f"p{n:03}-0", observer_id=f"observer {n % 20}", photo_phash=id_hash(str(n - (n % 3 == 1))) ^ (n % 3 == 1))
        for n in range(120)
    ]
    run(tmp_path / "a", crops, split_by="observer", validation_crops=6)
    run(tmp_path / "b", crops, split_by="observation", validation_crops=6)
    loose = metrics(tmp_path / "a")["leakage"]["observation"]
    assert loose == metrics(tmp_path / "b")["leakage"]["observation"]
    assert loose["near_duplicate"] == 0 < loose["observer"]


def test_a_split_by_observer_shares_no_observer(tmp_path: Path) -> None:
    crops = [crop(f"p{n:03}-0", observation=f"o{n}", observer_id=f"observer {n % 30}") for n in range(120)]
    rows = run(tmp_path, crops, split_by="observer", validation_crops=6)
    assert rows["split"].value_counts()["validation"] == 6
    left_out = rows["reason"] == "of a held-out observer"
    assert left_out.any()
    trained = set(rows.loc[rows["split"] == "train", "observer_id"])
    assert not trained & set(rows.loc[left_out | (rows["split"] == "validation"), "observer_id"])
    assert metrics(tmp_path)["leakage"]["observer"]["observer"] == 0


def test_a_test_split_is_made_the_same_way(tmp_path: Path) -> None:
    rows = run(tmp_path, niger(40), validation_crops=5, test_crops=4)
    without = run(tmp_path / "without", niger(40), validation_crops=5)
    assert rows["split"].value_counts().to_dict() == {"train": 31, "validation": 5, "test": 4}
    validation = [set(given.index[given["split"] == "validation"]) for given in (rows, without)]
    assert validation[0] == validation[1]
    held = pd.read_csv(tmp_path / "held_out.csv").set_index("observation_id")["split"]
    assert held.to_dict() == rows[rows["split"] != "train"].set_index("observation_id")["split"].to_dict()


def test_what_was_held_out_earlier_never_trains(tmp_path: Path) -> None:
    first = run(tmp_path / "first", niger(20), validation_crops=6)
    held = pd.read_csv(tmp_path / "first" / "held_out.csv").to_dict("records")
    was = list(first.index[first["split"] == "validation"])
    grown = [
        *niger(60),
        crop(f"{was[0][:-2]}-1", observation=first.loc[was[0], "observation_id"]),  # one more of a held-out observation
        crop("near-0", photo_phash=flipped(was[1][:-2], 2)),
    ]
    without = run(tmp_path / "without", grown, validation_crops=6)
    assert set(without.loc[was, "split"].dropna()) == {"train"} or "train" in set(without.loc[was, "split"])
    rows = run(tmp_path / "grown", grown, validation_crops=4, seed=5, earlier=held)
    assert "train" not in set(rows.loc[was, "split"].dropna())
    assert (rows["split"] == "validation").sum() == 4
    assert set(rows.index[rows["split"] == "validation"]) < {*was, f"{was[0][:-2]}-1"}
    reasons = rows["reason"].value_counts().to_dict()
    assert reasons == {"held out earlier": 3, "near-duplicate of one held out earlier": 1}
    assert rows.loc["near-0", "reason"] == "near-duplicate of one held out earlier"
    more = run(tmp_path / "more", grown, validation_crops=9, seed=5, earlier=held)
    assert set(was) < set(more.index[more["split"] == "validation"])
    assert (more["split"] == "validation").sum() == 9


def test_an_observation_held_out_in_two_splits(tmp_path: Path) -> None:
    held = [{"observation_id": "o", "split": split} for split in ("validation", "test")]
    with pytest.raises(InputError, match=r"earlier\.csv: line 3: observation o is in two splits"):
        run(tmp_path, niger(9), earlier=held)


def test_a_photograph_without_a_hash_is_near_none(tmp_path: Path) -> None:
    # hashes of one bit, as an even picture has, are as near to 0 as to each other's copies
    crops = [crop(f"n{number:03}-0", photo_phash=1 << number) for number in range(30)]
    crops += [crop(f"none{number}-0", photo_phash=None) for number in range(30)]
    run(tmp_path, crops, validation_crops=5, near_duplicate_bits=1)
    assert metrics(tmp_path)["leakage"]["observation"]["near_duplicate"] == 0


@pytest.mark.parametrize("shards", [["a"], ["a", "b"]])
def test_progress_comes_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], shards: list[str]) -> None:
    run(tmp_path, niger(9), shards=shards)
    told = capsys.readouterr().err
    for what in ("shards read", "shards cleaned", "shards compared", "shards split"):
        assert f"{what}: {len(shards)}/{len(shards)} " in told
    assert "buckets of photographs compared: 1/1 " in told


def test_work_that_a_cluster_repeats_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path / "first", niger(20), validation_crops=6)
    was = list(first.index[first["split"] == "validation"])
    crops = [*niger(30), crop("tiny-0", box=3), crop("near-0", photo_phash=flipped(was[0][:-2], 2))]
    given: Any = {"earlier": pd.read_csv(tmp_path / "first/held_out.csv").to_dict("records"), "split_by": "observer"}
    run(tmp_path / "once", crops, **given)
    fold = Engine.fold

    def twice(self: Any, what: str, function: Any, items: Any, combine: Any) -> Any:
        fold(self, what, function, items, combine)
        return fold(self, what, function, items, combine)

    monkeypatch.setattr(Engine, "fold", twice)
    run(tmp_path / "twice", crops, **given)
    for once, again in zip(outputs(tmp_path / "once"), outputs(tmp_path / "twice"), strict=True):
        assert once.read_bytes() == again.read_bytes()


def split_once(folder: Path) -> tuple[list[str], list[Any]]:
    """Keys of 8 crops of 30 that validated, and the observations that were held out, as rows of ``earlier``."""
    rows = run(folder, niger(30), validation_crops=8)
    return list(rows.index[rows["split"] == "validation"]), pd.read_csv(folder / "held_out.csv").to_dict("records")


@pytest.mark.parametrize("gone", [{}, {"licence": "cc-by-nd"}])
def test_a_photograph_held_out_earlier_never_trains_in_another_observation(tmp_path: Path, gone: Any) -> None:
    was, held = split_once(tmp_path / "first")
    crops = [{**row, **gone} if row["key"] in was else row for row in niger(30)]
    copies = [crop(f"copy{key}", photo_phash=id_hash(key[:-2])) for key in was]
    licences = ["cc-by"]
    rows = run(tmp_path / "grown", [*crops, *copies], validation_crops=8, earlier=held, licences=licences)
    if not gone:
        assert set(rows.loc[was, "split"]) == {"validation"}
    reason = "near-duplicate of one held out earlier" if gone else "near-duplicate"
    assert set(rows.loc[[row["key"] for row in copies], "reason"]) == {reason}


def test_what_was_held_out_is_remembered_over_several_splits(tmp_path: Path) -> None:
    was, held = split_once(tmp_path / "first")
    run(tmp_path / "second", niger(30), validation_crops=2, earlier=held)
    again = pd.read_csv(tmp_path / "second/held_out.csv").to_dict("records")
    assert again == held
    rows = run(tmp_path / "third", niger(30), validation_crops=2, earlier=again)
    assert "train" not in set(rows.loc[was, "split"].dropna())


def test_an_observation_without_a_name_held_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"earlier\.csv: line 2: observation_id is empty"):
        run(tmp_path, niger(9), earlier=[{"observation_id": "", "split": "test"}])


def of_observers(count: int, observers: int) -> list[Any]:
    """Crops of one species, each of an observation of its own, by so many observers in turn."""
    return [crop(f"p{n:03}-0", observation=f"o{n}", observer_id=f"observer {n % observers}") for n in range(count)]


def test_a_split_by_observer_needs_training_groups_of_others_only(tmp_path: Path) -> None:
    # about 9 of 60 observers are held out: as many as validation needs, and the other 51 train
    rows = run(tmp_path, of_observers(60, 60), split_by="observer", validation_crops=5, held_out_observers=0.15)
    assert (rows["split"] == "validation").sum() == 5
    assert (rows["split"] == "train").sum() > 45


def test_an_observer_is_in_one_split_only(tmp_path: Path) -> None:
    rows = run(tmp_path, of_observers(240, 30), split_by="observer", validation_crops=12, test_crops=6)
    assert rows["split"].value_counts()[["validation", "test"]].to_dict() == {"validation": 12, "test": 6}
    assert rows.dropna(subset="split").groupby("observer_id")["split"].nunique().max() == 1


@pytest.mark.parametrize("way", ["observer", "observation"])
def test_the_observers_of_an_earlier_split_never_train(tmp_path: Path, way: str) -> None:
    crops = of_observers(120, 30)
    first = run(tmp_path / "first", crops, split_by=way, validation_crops=6)
    held = pd.read_csv(tmp_path / "first/held_out.csv").to_dict("records")
    rows = run(tmp_path / "second", crops, split_by="observer", validation_crops=9, earlier=held, seed=3)
    assert set(first.index[first["split"] == "validation"]) < set(rows.index[rows["split"] == "validation"])
    splits = rows.dropna(subset="split").groupby("observer_id")["split"]
    assert splits.nunique().max() == 1


def test_a_photograph_with_two_labels_stays_whole_in_training(tmp_path: Path) -> None:
    mixed = [crop(f"n{number:03}-1", "3") for number in range(7)]
    rows = run(tmp_path, niger(16) + mixed, validation_crops=7, split_by="photograph")
    assert (rows["split"] == "validation").sum() == 7
    assert rows.groupby("photo_key")["split"].nunique().max() == 1


def test_half_of_the_crops_train_beside_those_held_out_earlier(tmp_path: Path) -> None:
    was, held = split_once(tmp_path / "first")
    others = [row for row in niger(30) if row["key"] not in was]
    crops = [row for row in niger(30) if row["key"] in was] + others[:10]
    rows = run(tmp_path / "second", crops, validation_crops=11, earlier=held)
    assert rows["split"].value_counts().to_dict() == {"train": 10, "validation": 8}


def test_a_species_in_the_test_is_not_for_training_only(tmp_path: Path) -> None:
    few = [crop(f"f{number}-0", "2") for number in range(5)]  # 2 observations may go, and 3 crops are wanted
    rows = run(tmp_path, niger(20) + few, validation_crops=3, test_crops=2)
    assert set(rows.loc[rows["label"] == "Lasius flavus", "split"]) == {"train", "test"}
    assert metrics(tmp_path)["train_only_species"] == 0


def test_a_species_is_searched_until_it_has_enough_groups(tmp_path: Path) -> None:
    # the first look takes the lowest sixth; 6 of 300 observations have no near-duplicate
    near = [crop(f"g{n:03}-0", "3", photo_phash=flipped(f"n{n:03}", 2)) for n in range(6, 300)]
    rows = run(tmp_path, niger(300) + near, validation_crops=5)
    held = set(rows.index[rows["split"] == "validation"])
    assert len(held) == 5
    assert held < {f"n{n:03}-0" for n in range(6)}


def test_observations_that_shared_a_photograph_are_never_held_out(tmp_path: Path) -> None:
    """One animal in two observations: the copy is dropped, the other photographs of the two look different."""
    crops = niger(12)
    for number in range(9):
        shared = id_hash(f"shared {number}")
        crops += [
            crop(f"a{number}-0", observation=f"first {number}", photo_phash=shared),
            crop(f"b{number}-0", observation=f"first {number}"),
            crop(f"c{number}-0", observation=f"second {number}", photo_phash=shared),
            crop(f"d{number}-0", observation=f"second {number}"),
        ]
    rows = run(tmp_path, crops, validation_crops=6)
    assert (rows["reason"] == "near-duplicate").sum() == 9
    held = rows[rows["split"] == "validation"]
    assert len(held) == 6
    assert held["key"].str.startswith("n").all()
