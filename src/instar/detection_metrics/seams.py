"""Missed animals, wrong detections and duplicates near the seams of tiles against those elsewhere."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from instar.detection_metrics.instances import Instances
from instar.detection_metrics.resampling import intervals, ratios
from instar.metrics.coco import Range
from instar.metrics.seams import Tiles, duplicates, inner_edges, near_edges

#: From this share of the smaller of both a detection shows an animal that another one is matched with.
DUPLICATE = 0.5
WHERE = ("near", "elsewhere")
#: Counted of each photograph. Wrong detections have no animal of their own; duplicates are some of them.
COUNTED = ("animals", "missed", "detections", "wrong", "duplicates")
RATES = ("missed", "wrong", "duplicates")
COLUMNS = ["size", "where", *COUNTED]
COLUMNS += [f"{rate}_per_1000{end}" for rate in RATES for end in ("", "_low", "_high")]
Counts = dict[tuple[str, str], np.ndarray]


def seam_counts(
    instances: Instances,
    tiles: list[Tiles],
    confidence: float | None,
    *,
    seam_px: float,
    areas: Mapping[str, Range],
) -> tuple[Counts, dict[str, dict[str, int]]]:
    """What became of animals and detections of sliced photographs, by size and place.

    Args:
        instances: the photographs.
        tiles: of each photograph; one that has a single tile has no seams and is left out.
        confidence: from which detections count; None for none.
        seam_px: an animal or a detection is near a seam if a tile's inner edge runs through its box or passes it at
            most so many pixels away.
        areas: ranges of area by name.

    Returns:
        ``COUNTED`` of each photograph by size and place, int64, shape (p, 5); detections that every tile cut off and
        whole ones, and how many of each are wrong and duplicates.
    """
    counts = {(size, where): np.zeros((len(tiles), len(COUNTED)), np.int64) for size in areas for where in WHERE}
    kinds = {kind: dict.fromkeys(COUNTED[2:], 0) for kind in ("cut", "whole")}
    for n, parts in enumerate(tiles):
        if len(parts) < 2:
            continue
        found, truth = instances.masks(n)
        edges, overlaps = inner_edges(parts), instances.overlaps[n]
        animal, kept = instances.found.animals_of(n), instances.kept(n, confidence)
        missed = np.ones(len(truth), bool)
        missed[animal[kept & (animal >= 0)]] = False
        wrong = kept & (animal < 0)
        double = duplicates(overlaps, animal, kept, threshold=DUPLICATE)
        near_truth, near_found = (near_edges(part.boxes(), edges, seam_px) for part in (truth, found))
        for size, (low, high) in areas.items():
            large = (overlaps.truth_areas >= low) & (overlaps.truth_areas <= high)
            fitting = (overlaps.found_areas >= low) & (overlaps.found_areas <= high)
            for where, ours, others in (("near", near_truth, near_found), ("elsewhere", ~near_truth, ~near_found)):
                here, there = large & ours, fitting & others
                parts_of = (here, here & missed, there & kept, there & wrong, there & double)
                counts[size, where][n] = [int(part.sum()) for part in parts_of]
        cut = instances.judged[n].cut
        for kind, chosen in (("cut", cut), ("whole", ~cut)):
            for name, part in zip(COUNTED[2:], (kept, wrong, double), strict=True):
                kinds[kind][name] += int((part & chosen).sum())
    return counts, kinds


def seam_rows(counts: Counts, weights: np.ndarray) -> list[dict[str, Any]]:
    """A row for each size and place: sums, and errors per 1,000 animals there with their intervals of 95 %.

    Args:
        counts: see ``seam_counts``.
        weights: shape (bootstrap, p), how often each photograph counts in each resample.
    """
    rows = []
    for (size, where), each in counts.items():
        totals = dict(zip(COUNTED, each.sum(axis=0).tolist(), strict=True))
        row: dict[str, Any] = {"size": size, "where": where, **totals}
        for rate in RATES:
            samples = _rates(each, rate, weights)
            low, high = intervals(samples[:, None], ["rate"])["rate"] or (None, None)
            value = 1000 * totals[rate] / totals["animals"] if totals["animals"] else None
            row |= {f"{rate}_per_1000": value, f"{rate}_per_1000_low": low, f"{rate}_per_1000_high": high}
        rows.append(row)
    return rows


def _rates(each: np.ndarray, rate: str, weights: np.ndarray) -> np.ndarray:
    """Errors per 1,000 animals in each resample."""
    return 1000 * ratios(each[:, COUNTED.index(rate)], each[:, 0], weights)


def seam_figures(
    counts: Counts, kinds: dict[str, dict[str, int]], weights: np.ndarray, seam_px: float
) -> dict[str, Any] | None:
    """What the seams cost, of animals of any size; None where no photograph is sliced.

    The difference is near less elsewhere. Larger animals are nearer to seams, so it is also told for each size.
    """
    if not sum(int(each.sum()) for each in counts.values()):
        return None
    rows = {(row["size"], row["where"]): row for row in seam_rows(counts, weights)}
    told: dict[str, Any] = {"within_px": seam_px}
    for where in WHERE:
        told[where] = {name: value for name, value in rows["all", where].items() if name not in ("size", "where")}
    told["difference_per_1000"] = {}
    for size in dict.fromkeys(size for size, _ in counts):
        here, there = rows[size, "near"], rows[size, "elsewhere"]
        told["difference_per_1000"][size] = {
            rate: _difference(here[f"{rate}_per_1000"], there[f"{rate}_per_1000"], counts, (size, rate), weights)
            for rate in RATES
        }
    return {**told, "detections": kinds}


def _difference(
    here: float | None, there: float | None, counts: Counts, what: tuple[str, str], weights: np.ndarray
) -> dict[str, float | None]:
    if here is None or there is None:
        return {"value": None, "low": None, "high": None}
    size, rate = what
    samples = _rates(counts[size, "near"], rate, weights) - _rates(counts[size, "elsewhere"], rate, weights)
    low, high = intervals(samples[:, None], ["difference"])["difference"] or (None, None)
    return {"value": here - there, "low": low, "high": high}
