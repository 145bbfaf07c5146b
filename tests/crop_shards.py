"""Drawn crops in shards with their dataset, for tests of the classifier: the genus is a colour, the species a bar."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from instar.classifier.stage import classifier
from instar.shards import writing
from instar.splits import id_hash
from instar.tables import CROPS, DATASET, write_table

COLOURS = {"Rubra": (200, 60, 50), "Viridis": (60, 170, 70)}
EPITHETS = ("erecta", "stricta")  # an upright bar, a lying one
SPECIES = sorted(f"{genus} {epithet}" for genus in COLOURS for epithet in EPITHETS)

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "beta": 0.9,
    "max_weight": 10.0,
    "model": "test_resnet",
    "pretrained": False,
    "image_px": 32,
    "epochs": 6,
    "batch": 16,
    "learning_rate": 0.005,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "workers": 0,
    "loss": "marginal",
    "balance": "loss",
    "place": "none",
    "accumulate": 1,
    "layer_decay": 1.0,
    "frozen_epochs": 0,
    "cache_features": False,
    "schedule": "cosine",
    "warmup": 0.1,
    "ema": 0.0,
    "early_stop": 0,
    "keep": "last",
    "weights": "workflow/conf/classifier/none.md",
    "embedding": 0,
    "margin": 0.5,
    "scale": 16.0,
    "of_each": 0,
    "auto_augment": False,
    "place_noise_deg": 0.5,
    "place_drop": 0.5,
    "crop_scale": 0.5,
    "flip": "horizontal",
    "rotation_deg": 0.0,
    "colour": 0.0,
    "erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "precision": "auto",
    "compile": False,
    "devices": 0,
}


def drawn_crop(rng: np.random.Generator, genus: str, epithet: str) -> bytes:
    """A JPEG with a bar on a noisy ground."""
    height, width = (int(side) for side in rng.integers(40, 60, 2))
    crop = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
    upright = epithet == "erecta"
    half_width, half_height = (4, height // 2 - 6) if upright else (width // 2 - 6, 4)
    x, y = width // 2, height // 2
    crop[y - half_height : y + half_height, x - half_width : x + half_width] = COLOURS[genus]
    return cv2.imencode(".jpg", crop[..., ::-1])[1].tobytes()


def write_crops(folder: Path, *, train: int = 24, validation: int = 6, genus_level: int = 8) -> None:
    """Write ``crops`` with two shards and ``dataset.parquet``; one crop has a reason instead of a split."""
    rng = np.random.default_rng(0)
    splits: list[str | None] = [*["train"] * train, *["validation"] * validation]
    wanted = [(name, split) for name in SPECIES for split in splits]
    wanted += [("Rubra", "train")] * genus_level + [(SPECIES[0], None)]
    rows: list[dict[str, Any]] = []
    for shard in ("a", "b"):
        with writing(folder / "crops" / f"{shard}.tar") as tar:
            for number, (label, split) in list(enumerate(wanted))["ab".index(shard) :: 2]:
                genus, _, epithet = label.partition(" ")
                data = drawn_crop(rng, genus, epithet or str(rng.choice(EPITHETS)))
                member = tar.add(f"{number}.jpg", data)
                rows.append(
                    {
                        "key": f"folder-{number:04}-0",
                        "photo_key": f"folder-{number:04}",
                        "photo_id": f"{number:04}",
                        "observation_id": f"{split} {label} {number // 4}",  # up to four crops in each
                        "shard": shard,
                        "offset": member.offset,
                        "size": member.size,
                        "label": label,
                        "rank": "species" if epithet else "genus",
                        "species": label if epithet else None,
                        "genus": genus,
                        "split": split,
                        "reason": None if split else "duplicate",
                        "source": "folder",
                        "basis": "field",
                        # the two epithets live on two sides of a mountain range
                        "latitude": None if number % 7 == 3 else 40.0 + number % 5,
                        "longitude": None if number % 7 == 3 else (-80.0 if epithet == "erecta" else -120.0),
                        "licence": "cc-by" if shard == "a" else "cc0",
                        "detector": "none",
                        "sha256": sha256(data).hexdigest(),
                        "taxon_id": f"species:{label}" if epithet else f"genus:{genus}",
                        "key_hash": id_hash(f"folder-{number:04}-0"),
                        "observation_hash": id_hash(f"{split} {label} {number // 4}"),
                        "photo_phash": id_hash(f"folder-{number:04}"),
                        "box_width": 60.0,
                        "box_height": 60.0,
                    }
                )
    write_table(folder / "dataset.parquet", sorted(rows, key=lambda row: str(row["key"])), DATASET)
    for shard in ("a", "b"):
        of_shard = [{**row, "reason": None} for row in rows if row["shard"] == shard]
        write_table(folder / "crops" / f"{shard}.parquet", of_shard, CROPS)


def train(folder: Path, name: str = "trained", **settings: Any) -> Path:
    """Train on the crops below ``folder``; the folder that holds the stage's outputs."""
    out = folder / name
    classifier(
        folder / "crops",
        folder / "dataset.parquet",
        out / "classifier",
        out / "classifier.json",
        out / "curves",
        out / "work",
        **{**SETTINGS, **settings},
    )
    return out
