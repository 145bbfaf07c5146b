"""Tests of instar.dataset."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from instar.dataset.decisions import DECISIONS, HELD_OUT
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
