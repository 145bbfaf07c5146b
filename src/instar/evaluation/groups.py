"""The tables of the stage ``evaluation``: by setting, by class, and by groups of crops."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from instar.classifier.labels import RANKS
from instar.evaluation.answers import TOP, Answers, Truth, interval
from instar.evaluation.places import regions

#: Training crops of the label, from and to.
CLASS_SIZES = ((0, 0), (1, 9), (10, 29), (30, 99), (100, 999), (1000, None))
FIGURES = tuple(f"top{k}_{mean}" for k in (1, TOP) for mean in ("micro", "macro"))


def accuracy_row(setting: dict[str, Any]) -> dict[str, Any]:
    """One line of the table of accuracies: the setting, then each figure of each rank with its interval."""
    row = {name: setting[name] for name in ("image_px", "place", "crops")}
    for rank in RANKS:
        for name in FIGURES:
            found = (setting[f"{rank}_accuracy"] or {}).get(name, {})
            row[f"{rank}_{name}"] = found.get("value")
            row |= {f"{rank}_{name}_{end}": found.get(end) for end in ("low", "high")}
    return row


def class_table(truth: Truth, found: Answers, train_crops: tuple[int, ...]) -> pd.DataFrame:
    """One row per class; its figures, of its own rank, are empty where no crop of it is judged."""
    labels = truth.labels
    genera = labels.ancestors("genus")
    counts = np.bincount(truth.targets, minlength=len(labels))
    shares = {}
    for k in (1, TOP):
        right = own_hits(truth, found, k)
        hits = np.bincount(truth.targets, right, minlength=len(labels))
        shares[f"top{k}"] = np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
    genus = [labels.names[place] if place >= 0 else None for place in genera]
    columns = {"label": labels.names, "genus": genus, "train_crops": train_crops}
    return pd.DataFrame({**columns, "held_out_crops": counts, **shares})


def own_hits(truth: Truth, found: Answers, k: int) -> np.ndarray:
    """bool, shape (n,): whether the label is among the first k answers of its own rank."""
    is_species = truth.of_rank("species") == truth.targets
    return np.where(is_species, truth.hits(found, "species", k), truth.hits(found, "genus", k))


def genus_pairs(truth: Truth, found: Answers) -> pd.DataFrame:
    """Columns ``actual`` and ``predicted``: the true and the first genus of each crop."""
    names = np.array([*truth.labels.names, None], dtype=object)  # -1 is the last
    pairs = {"actual": names[truth.of_rank("genus")], "predicted": names[found["genus"].classes[:, 0]]}
    return pd.DataFrame(pairs).dropna()


def group_table(
    truth: Truth,
    found: Answers,
    rows: pd.DataFrame,
    places: np.ndarray,
    train_crops: tuple[int, ...],
    *,
    region_deg: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Species and genus top-1 by class size, by source and by region; each crop is in one group of each kind.

    Args:
        truth: of the crops.
        found: answers for them.
        rows: of the dataset, in the same order.
        places: float32, shape (n, 2), latitude and longitude in degrees.
        train_crops: of each class.
        region_deg: side of a region.
        resamples: for the intervals.
        seed: of the resampling.

    Returns:
        ``by``, ``group``, ``crops``, ``observations``, and of each rank ``<rank>_top1`` with ``<rank>_low`` and
        ``<rank>_high``, which are empty for a single observation.
    """
    sizes = np.array(train_crops, dtype=np.int64)[truth.targets]
    kinds = {
        "class size": list(_sizes(sizes)),
        "source": [(name, rows["basis"].to_numpy() == name) for name in sorted(rows["basis"].unique())],
        "region": list(_regions(places, region_deg)),
    }
    found_rows = [
        {"by": kind, "group": name, "crops": int(inside.sum()), "observations": len(set(truth.observations[inside]))}
        | _top1(truth, found, inside, resamples=resamples, seed=seed)
        for kind, groups in kinds.items()
        for name, inside in groups
    ]
    return pd.DataFrame(found_rows)


def _sizes(train_crops: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for low, high in CLASS_SIZES:
        inside = (train_crops >= low) & (True if high is None else train_crops <= high)
        if inside.any():
            yield f"{low} or more" if high is None else f"{low} to {high}" if high else "0", inside


def _regions(places: np.ndarray, region_deg: float) -> Iterator[tuple[str, np.ndarray]]:
    names = regions(places, cell_deg=region_deg)
    for name in sorted(set(names)):
        yield name, names == name


def _top1(truth: Truth, found: Answers, inside: np.ndarray, *, resamples: int, seed: int) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for rank in RANKS:
        said = inside & (truth.of_rank(rank) >= 0)
        hits = truth.hits(found, rank, 1)[said].astype(float)
        figures: dict[str, Any] = {}
        if said.any():
            figures = interval(hits, truth.observations[said], None, resamples=resamples, seed=seed)
        row[f"{rank}_top1"] = figures.get("value")
        # resamples of a single observation are all alike and say nothing of others
        several = len(set(truth.observations[said])) > 1
        row |= {f"{rank}_{end}": figures.get(end) if several else None for end in ("low", "high")}
    return row
