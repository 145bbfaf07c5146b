"""Detected animals of each photograph against annotated ones, and of each sample against specimens sorted by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instar.annotations import Annotated
from instar.detection_metrics.judged import Judged
from instar.detection_metrics.resampling import ratios
from instar.detection_metrics.specimens import Specimens
from instar.metrics.coco import Matches
from instar.metrics.counts import count_agreement
from instar.tables import TAXONOMY, read_table

COLUMNS = ["photo_key", "sample", "split", "classes", "annotated", "detected", "specimens"]
ALL = "all"
#: Whose specimens the sample table counts apart.
SORTED_CLASSES = {"Insecta", "Arachnida"}
Row = dict[str, Any]


def classes_of_taxa(taxonomy: Path) -> dict[str, str]:
    """The name of the class that each taxon at or below that rank belongs to, by taxon_id."""
    columns = read_table(taxonomy, TAXONOMY).select(["taxon_id", "name", "rank", "parent_id"]).to_pydict()
    facts = {key: fact for key, *fact in zip(*columns.values(), strict=True)}
    found: dict[str, str] = {}
    for taxon in facts:
        seen: set[str | None] = set()
        above: str | None = taxon
        while above in facts and above not in seen and facts[above][1] != "class":
            seen.add(above)
            above = facts[above][2]
        if above in facts and facts[above][1] == "class":
            found[taxon] = facts[above][0]
    return found


def of_classes(photograph: Annotated, classes: Mapping[str, str], wanted: Sequence[str]) -> np.ndarray:
    """Which animals of a photograph are of the wanted classes: bool, shape (n,); one of no known class is not."""
    return np.array([classes.get(taxon or "") in wanted for taxon in photograph.taxa], bool)


def detected_counts(
    judged: list[Judged], found: Matches, confidence: float | None, chosen: list[np.ndarray] | None
) -> np.ndarray:
    """Detections of each photograph from a confidence up: int64, shape (p,).

    Args:
        judged: the photographs.
        found: their detections, matched at the first IoU threshold.
        confidence: None for nothing.
        chosen: animals of each photograph that are to be counted, bool, shape (n,). A detection has no class but its
            animal's, so those matched with others are left out and those without an animal are counted.
    """
    kept = found.scores >= (np.inf if confidence is None else confidence)
    if chosen is not None:
        firsts = np.cumsum([0, *(len(part) for part in chosen)])
        every = np.concatenate([*chosen, [True]])  # the last one stands for no animal
        animal = np.where(found.animal[0] >= 0, firsts[found.photograph] + found.animal[0], len(every) - 1)
        kept &= every[animal]
    return np.bincount(found.photograph[kept], minlength=len(judged))


def count_rows(
    photographs: list[Annotated],
    observations: Mapping[str, str],
    specimens: Mapping[str, Specimens],
    annotated: Mapping[str, Mapping[str, int]],
    detected: Mapping[str, Mapping[str, int]],
) -> list[Row]:
    """A row for each photograph and group of classes, with empty cells for what is not known.

    Args:
        photographs: all annotated ones, also those trained on.
        observations: of each photograph, the sample where the sample table has none.
        specimens: the sample table.
        annotated: animals by name of the group and photograph's key.
        detected: detections likewise, of judged photographs.
    """
    rows = []
    for group, counts in annotated.items():
        for photograph in sorted(photographs, key=lambda one: one.key):
            told = specimens.get(photograph.key)
            rows.append(
                {
                    "photo_key": photograph.key,
                    "sample": told.sample if told else observations[photograph.key],
                    "split": photograph.split,
                    "classes": group,
                    "annotated": counts[photograph.key],
                    "detected": detected[group].get(photograph.key),
                    "specimens": None if told is None else _by_hand(told, group),
                }
            )
    return rows


def _by_hand(told: Specimens, group: str) -> int | None:
    if group == ALL:
        return told.specimens
    # nobody sorted others
    return told.of_classes if set(group.split(", ")) == SORTED_CLASSES else None


def agreements(rows: list[Row], specimens: Mapping[str, Specimens]) -> dict[str, Any]:
    """How counts agree, for each group of classes: detected with annotated ones by photograph, and both with specimens.

    Specimens are compared by sample: with the annotated animals of those photographs of it whose specimens were
    counted, and with the detected ones where all of these are on the split test. A sample of which such a photograph is
    missing is left out; those that are not stand in ``specimens_and_counts``.
    """
    found: dict[str, Any] = {}
    for group in dict.fromkeys(row["classes"] for row in rows):
        of_group = [row for row in rows if row["classes"] == group]
        told = {}
        for split in ("validation", "test"):
            both = [(row["annotated"], row["detected"]) for row in of_group if row["split"] == split]
            both = [pair for pair in both if pair[1] is not None]
            told[split] = count_agreement(*np.array(both, np.float64).reshape(-1, 2).T)
        test = [row for row in of_group if row["split"] == "test"]
        known = {key: one.sample for key, one in specimens.items() if _by_hand(one, group) is not None}
        pairs = {"annotated": _pairs(of_group, known, "annotated")}
        pairs["detected_on_test"] = _pairs(test, known, "detected")
        for what, values in pairs.items():
            told[f"specimens_{what}"] = count_agreement(*np.array(values, np.float64).reshape(-1, 2).T)
        found[group] = {**told, "specimens_and_counts": pairs}
    return found


def _pairs(rows: list[Row], known: Mapping[str, str], what: str) -> list[list[int]]:
    """Specimens and counted animals of each sample; ``known`` are samples of photographs whose specimens are known."""
    by_key = {row["photo_key"]: row for row in rows if row[what] is not None}
    samples: dict[str, list[str]] = {}
    for key, sample in known.items():
        samples.setdefault(sample, []).append(key)
    return [
        [sum(by_key[key]["specimens"] for key in keys), sum(by_key[key][what] for key in keys)]
        for keys in samples.values()
        if all(key in by_key for key in keys)
    ]


def resampled_agreement(annotated: np.ndarray, detected: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Slope, bias, MAE and MAPE of ``count_agreement`` in each resample: float64, shape (bootstrap,) each.

    Args:
        annotated: shape (p,), of each photograph.
        detected: likewise.
        weights: shape (bootstrap, p), how often each photograph counts.
    """
    known, counted = annotated.astype(np.float64), detected.astype(np.float64)
    error, one, some = counted - known, np.ones(len(known)), known > 0
    # around the mean of all, so that large counts lose no digits
    x, y = known - known.mean(), counted - counted.mean()
    n, sum_x, sum_y, sum_xx, sum_xy = (weights @ values for values in (one, x, y, x * x, x * y))
    across = n * sum_xx - sum_x**2
    slope = np.divide(n * sum_xy - sum_x * sum_y, across, out=np.full(len(n), np.nan), where=across > 1e-9)
    relative = np.divide(np.abs(error), known, out=np.zeros(len(known)), where=some)
    return {
        "slope": slope,
        "bias": ratios(error, one, weights),
        "mae": ratios(np.abs(error), one, weights),
        "mape": ratios(relative, some, weights),
    }
