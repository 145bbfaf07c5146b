"""Which crops the classifier learns from and is measured on, and why the others are neither."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from instar.errors import InputError
from instar.files import replacing, write_json
from instar.splits import hash_order, stable_hash, whole_groups
from instar.tables import CROPS, DATASET, TAXONOMY, read_shards, read_table, write_table

#: Kept crops of each class in the table of examples.
EXAMPLES = 12


def dataset(
    crops: Path,
    taxonomy: Path,
    out: Path,
    out_metrics: Path,
    out_examples: Path,
    *,
    seed: int,
    shards: list[str],
    min_crop_px: int,
    min_class_crops: int,
    validation_crops: int,
) -> None:
    """Clean the crops, label them with their species or genus, and split them by observation.

    A crop is dropped by the first of these that holds: its box is too small, its taxon names neither species nor genus,
    an equal file is of another species or genus, an equal file names the species where this one names its genus or else
    has a lower key, its class is too small. Genus-level crops are for training only. A species gives
    ``validation_crops`` crops of whole observations to validation, unless less than half of its observations hold so
    many or training would be left with fewer crops than they hold.

    Args:
        crops: folder of ``<shard>.parquet`` with the crops and their ancestry.
        taxonomy: table of the taxa that the crops carry.
        out: gets one row per crop, by key: its label and split, or the reason it was dropped.
        out_metrics: gets the counts before and after, by split, and the check for leaks between the splits, as JSON.
        out_examples: gets where up to 12 crops of each class lie, as CSV.
        seed: of the split.
        shards: names of the shards.
        min_crop_px: a box narrower or lower than this is dropped.
        min_class_crops: a class with fewer crops is dropped.
        validation_crops: of each species, where it has enough observations.

    Raises:
        InputError: if a table is missing, a key stands twice, no crop is left, or none could go to validation.
    """
    rows = _labelled_crops(crops, taxonomy, shards)
    before = _size(rows)
    _clean(rows, min_crop_px, min_class_crops)
    if rows["reason"].notna().all():
        counts = ", ".join(f"{count} {reason}" for reason, count in _reasons(rows).items())
        raise InputError(f"{crops}: no crop is left of {len(rows)} ({counts}); lower the key of dataset that took most")
    train_only = _split(rows, seed, validation_crops)
    if not (rows["split"] == "validation").any():
        raise InputError(f"{crops}: no species can give {validation_crops} crops; lower dataset.validation_crops")
    write_table(out, pa.Table.from_pandas(rows[DATASET.names], preserve_index=False), DATASET)
    _write_examples(out_examples, rows, seed)
    write_json(out_metrics, {**_figures(rows, before), "train_only_species": train_only})


def _labelled_crops(crops: Path, taxonomy: Path, shards: list[str]) -> pd.DataFrame:
    """Every crop that exists, by key, with the names of its taxon and empty columns ``split`` and ``reason``."""
    table = read_shards(crops, shards, CROPS)
    rows = table.filter(pc.is_null(table["reason"])).drop_columns(["reason"]).to_pandas()
    if rows.empty:
        raise InputError(f"{crops}: none of the shards holds a crop; lower crops.confidence")
    if rows["key"].duplicated().any():
        key = rows.loc[rows["key"].duplicated(), "key"].iloc[0]
        raise InputError(f"{crops}: key {key} stands twice; delete the folder and run crops again")
    names = read_table(taxonomy, TAXONOMY).to_pandas().set_index("taxon_id")[["species", "genus"]]
    rows = rows.join(names, on="taxon_id").sort_values("key", ignore_index=True)
    rows["label"] = rows["species"].fillna(rows["genus"])
    # a species' name without a genus is a hole in the taxonomy; the hierarchy can't place it
    rows["label"] = rows["label"].where(rows["genus"].notna())
    rows["rank"] = pd.Series("species", rows.index).where(rows["species"].notna(), "genus").where(rows["label"].notna())
    rows[["split", "reason"]] = None
    return rows


def _clean(rows: pd.DataFrame, min_crop_px: int, min_class_crops: int) -> None:
    """Write the reason of every row that a rule drops; each rule looks only at what those before it left."""
    _drop(rows, rows[["box_width", "box_height"]].min(axis=1) < min_crop_px, f"under {min_crop_px} px")
    _drop(rows, rows["label"].isna(), "no label")
    # nulls do not count, so that a species and its own genus agree
    names = _kept(rows).groupby("sha256")[["species", "genus"]].nunique()
    differing = names.index[(names > 1).any(axis=1)]
    _drop(rows, rows["sha256"].isin(differing), "identical crops with different labels")
    species_first = _kept(rows).sort_values(["rank", "key"], ascending=[False, True])
    _drop(rows, species_first["sha256"].duplicated(), "duplicate")
    sizes = _kept(rows)["label"].value_counts()
    _drop(rows, rows["label"].isin(sizes.index[sizes < min_class_crops]), f"class under {min_class_crops} crops")


def _drop(rows: pd.DataFrame, hit: pd.Series, reason: str) -> None:
    rows.loc[rows["reason"].isna() & hit.reindex(rows.index, fill_value=False), "reason"] = reason


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["reason"].isna()]


def _split(rows: pd.DataFrame, seed: int, wanted: int) -> int:
    """Write the split of every kept row; returns how many species are in training only.

    An observation with crops of two labels stays in training as a whole, since one of them may be a genus.
    """
    kept = _kept(rows)
    labels = kept.groupby("observation_id")["label"].nunique()
    mixed = set(labels.index[labels > 1])
    validation: list[int] = []
    surplus: list[int] = []
    train_only = 0
    for _, species in kept[kept["rank"] == "species"].groupby("label"):
        chosen = _validation_observations(species, mixed, seed, wanted)
        train_only += not chosen
        taken = _by_hash(species[species["observation_id"].isin(chosen)], chosen, seed)
        validation += taken[:wanted]
        surplus += taken[wanted:]
    rows.loc[surplus, "reason"] = "beyond the validation quota"
    rows.loc[kept.index.difference(surplus), "split"] = "train"
    rows.loc[validation, "split"] = "validation"
    return train_only


def _validation_observations(species: pd.DataFrame, mixed: set[str], seed: int, wanted: int) -> list[str]:
    """Observations that one species gives to validation; none where too little would be left for training."""
    sizes = {str(name): int(size) for name, size in species["observation_id"].value_counts().items()}
    names = hash_order(seed, (name for name in sizes if name not in mixed))
    # most of the observations stay in training, whatever their sizes
    chosen = whole_groups([sizes[name] for name in names], wanted=wanted, most=(len(sizes) - 1) // 2)
    taken = sum(sizes[names[i]] for i in chosen)
    return [names[i] for i in chosen] if len(species) - taken >= taken else []


def _by_hash(crops: pd.DataFrame, observations: list[str], seed: int) -> list[int]:
    """Index of the crops in the order of their observations, and within one by a hash of their keys."""
    place = {name: number for number, name in enumerate(observations)}
    columns = zip(crops["observation_id"], crops["key"], crops.index, strict=True)
    order = sorted((place[observation], stable_hash(seed, key), index) for observation, key, index in columns)
    return [index for _, _, index in order]


def _figures(rows: pd.DataFrame, before: dict[str, int]) -> dict[str, Any]:
    kept = _kept(rows)
    dropped = _reasons(rows)
    if len(rows) != len(kept) + sum(dropped.values()):
        raise RuntimeError(f"{len(rows)} rows are not {len(kept)} kept and {sum(dropped.values())} dropped")
    leaks = {
        "observations": _in_two_splits(kept, "observation_id"),
        "photographs": _in_two_splits(kept, "photo_key"),
    }
    if any(leaks.values()):
        raise RuntimeError(f"the split leaks: {leaks} stand in two splits")
    return {
        "rows": {"in": len(rows), "out": len(kept), "dropped": dropped},
        "before": before,
        "after": _size(kept),
        "splits": {
            split: {**_size(part), "observations": part["observation_id"].nunique()}
            for split, part in ((split, kept[kept["split"] == split]) for split in ("train", "validation"))
        },
        "in_two_splits": leaks,
    }


def _size(rows: pd.DataFrame) -> dict[str, int]:
    return {"crops": len(rows), "classes": rows["label"].nunique()}


def _reasons(rows: pd.DataFrame) -> dict[str, int]:
    return {str(reason): int(count) for reason, count in rows["reason"].value_counts().sort_index().items()}


def _in_two_splits(kept: pd.DataFrame, column: str) -> int:
    return int((kept.groupby(column)["split"].nunique() > 1).sum())


def _write_examples(path: Path, rows: pd.DataFrame, seed: int) -> None:
    """Up to ``EXAMPLES`` kept crops of each class, drawn by a hash of their keys."""
    chosen = [
        part.set_index("key", drop=False).loc[hash_order(seed, part["key"])[:EXAMPLES]]
        for _, part in _kept(rows).groupby("label")
    ]
    columns = ["label", "rank", "key", "shard", "offset", "size", "split"]
    with replacing(path) as temporary:
        pd.concat(chosen)[columns].to_csv(temporary, index=False, lineterminator="\n")
