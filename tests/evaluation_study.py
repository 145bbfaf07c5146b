"""A drawn study for tests of the stage ``evaluation``: crops with places, photographs without crops, a classifier."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from crop_shards import SPECIES, write_crops
from photo_shards import write_annotations

from instar.classifier.data import places_of
from instar.classifier.labels import label_space, targets_of
from instar.classifier.model import Description, build_network, save
from instar.classifier.place import bounding_box
from instar.evaluation.stage import evaluation
from instar.files import md5_of
from instar.splits import id_hash
from instar.tables import CROPS, DATASET, TAXONOMY, read_table, write_table

#: Probabilities of the outputs of the loss flat. Rubra and its species sum to 0.52, Viridis to 0.48.
FIXED = {"Rubra erecta": 0.1, "Rubra stricta": 0.12, "Viridis erecta": 0.4, "Viridis stricta": 0.07}
FIXED |= {"Rubra": 0.3, "Viridis": 0.01}
#: Where the genera live: 12,000 km apart.
PLACES = {"Rubra": (45.0, -100.0), "Viridis": (-30.0, 20.0)}
NAMES = ["predictions.parquet", "photographs.parquet", "evaluation.json", "classes.csv", "confusion.csv"]
NAMES += ["accuracy.csv", "groups.csv", "reliability.csv", "rollup.csv", "identifiers.csv"]
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "shards": ["a", "b"],
    "name_confidence": 85,
    "bootstrap": 200,
    "resolutions": [],
    "region_deg": 30.0,
    "wanted_accuracy": 0.95,
    "photo_boxes": 10,
}


def write_study(folder: Path) -> None:
    """Crops, dataset and taxonomy; of the shard b every fourth crop has no place."""
    write_crops(folder)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pylist()
    placed = {row["key"]: _placed(row, number) for number, row in enumerate(rows)}
    write_table(folder / "dataset.parquet", list(placed.values()), DATASET)
    for shard in ("a", "b"):
        crops = read_table(folder / f"crops/{shard}.parquet", CROPS).to_pylist()
        keys = ("latitude", "longitude")
        crops = [{**crop, **{key: placed[crop["key"]][key] for key in keys}, "score": 0.9} for crop in crops]
        write_table(folder / f"crops/{shard}.parquet", crops, CROPS)
    taxa = [taxon("species", name) for name in SPECIES] + [taxon("genus", name) for name in PLACES]
    write_table(folder / "taxonomy.parquet", taxa, TAXONOMY)
    write_annotations(folder / "annotations.json", {}, (64, 48))
    (folder / "other.csv").write_text("photo_key,top1,top2,top3,top4,top5\n")
    (folder / "synonyms.csv").write_text("name,accepted\n")


def _placed(row: dict[str, Any], number: int) -> dict[str, Any]:
    latitude, longitude = PLACES[row["genus"]]
    row = row if row["split"] else {**row, "reason": "held out earlier"}  # never drawn
    if row["shard"] == "b" and number % 4 == 3:
        return {**row, "latitude": None, "longitude": None}
    return {**row, "latitude": latitude + number / 100, "longitude": longitude, "basis": "specimen"}


def taxon(rank: str, name: str) -> dict[str, Any]:
    """A row of the taxonomy."""
    lineage = {"species": name if rank == "species" else None, "genus": name.split()[0], "family": "Formicidae"}
    return {"taxon_id": f"{rank}:{name}", "name": name, "rank": rank, "parent_id": None, **lineage}


def add_rows(folder: Path, shard: str, rows: list[dict[str, Any]]) -> None:
    """Rows of photographs without a crop: photo_key, observation_id and reason, and a taxon_id."""
    path = folder / f"crops/{shard}.parquet"
    table = read_table(path, CROPS)
    common = {"photo_id": "0", "source": "folder", "basis": "field", "licence": "cc0", "detector": "none"}
    filled = [{**common, "shard": shard, "observation_hash": id_hash(row["observation_id"]), **row} for row in rows]
    write_table(path, pa.concat_tables([table, pa.Table.from_pylist(filled, schema=CROPS)]), CROPS)


def described(folder: Path, **fields: Any) -> Description:
    """What a classifier trained on the study would say of itself."""
    rows = read_table(folder / "dataset.parquet", DATASET).to_pandas()
    train = rows[rows["split"] == "train"]
    labels = label_space(train)
    counts = train["label"].value_counts()
    about: dict[str, Any] = {
        "model": "test_resnet",
        "pretrained": False,
        "image_px": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "loss": "flat",
        "place": "none",
        "labels": labels,
        "train_crops": tuple(int(counts.get(name, 0)) for name in labels.names),
        **places_told(train),
        "early_stop": 0,
        "licences": {},
        "dataset_md5": md5_of(folder / "dataset.parquet"),
        "code_sha256": "0",
        "instar": "0",
    }
    return Description(**{**about, **fields})


def places_told(train: pd.DataFrame) -> dict[str, Any]:
    """What a description says of the places of training crops."""
    places = places_of(train)
    known = ~np.isnan(places).any(axis=1)
    return {"train_crops_with_place": int(known.sum()), "train_box": bounding_box(places)}


def write_classifier(folder: Path, name: str, *, fixed: bool = True, **fields: Any) -> Path:
    """A classifier whose answer is always ``FIXED``, or one of random weights; with place, an unknown one favours
    Rubra stricta and any known one changes nothing."""
    description = described(folder, **fields)
    torch.manual_seed(0)
    network: Any = build_network(description)
    outputs = [description.labels.names[place] for place in targets_of(description.labels, description.loss).outputs]
    with torch.no_grad():
        if fixed:
            network.head.weight.zero_()
            network.head.bias.copy_(torch.tensor([FIXED[output] for output in outputs]).log())
        if description.place != "none":
            for parameter in network.encoder.layers.parameters():
                parameter.zero_()
            network.encoder.unknown.fill_(1)
            network.effect.weight[outputs.index("Rubra stricta")] = 0.1
    out = folder / name
    out.mkdir()
    save(out, network, replace(description, pretrained=False))
    return out


def run(classifier: Path, folder: Path, out: Path, **settings: Any) -> Any:
    """Run the stage; its metrics."""
    given = {name: settings.pop(name, folder / f"{name}.csv") for name in ("other", "synonyms")}
    tables = ("dataset.parquet", "taxonomy.parquet", "annotations.json")
    inputs = [folder / "crops", *(folder / name for name in tables), *given.values()]
    evaluation(classifier, *inputs, *(out / name for name in NAMES), **{**SETTINGS, **settings})
    return json.loads((out / "evaluation.json").read_text())


def validation_rows(folder: Path) -> pd.DataFrame:
    """Rows of the dataset that are judged."""
    rows = read_table(folder / "dataset.parquet", DATASET).to_pandas()
    return rows[rows["split"] == "validation"].reset_index(drop=True)
