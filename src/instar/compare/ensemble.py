"""The scores of several classifiers as one: calibrated on validation, averaged, and judged as each of them is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.evaluation.judging import HELD_OUT, Parts, judge
from instar.evaluation.scored import read_scores
from instar.evaluation.submission import write_submission
from instar.evaluation.ways import Single
from instar.tables import IDENTITY_DATASET, INDIVIDUALS, read_table

#: The one way that the ensemble answers by.
WAY = "fused"


def fused_figures(
    scores: Mapping[str, Path],
    dataset: Path,
    table: Path,
    out_submission: Path,
    *,
    seed: int,
    bootstrap: int,
    threshold_by: str,
) -> dict[str, Any]:
    """Judge the mean probability over all classifiers and all their ways to compare, and answer the queries by it.

    Args:
        scores: by classifier, what ``scored.write_scores`` wrote of it.
        dataset: table of ``tables.IDENTITY_DATASET``.
        table: of ``tables.INDIVIDUALS``.
        out_submission: gets the answers for the queries.
        seed: of the resampling.
        bootstrap: number of resamples, of encounters.
        threshold_by: all: one threshold; dataset: one for each data set.

    Returns:
        ``split`` that is judged, ``simulated_new``, ``crosswise``, ``figures`` of it as metrics/evaluation.json has
        them of a way, and ``submission``.

    Raises:
        InputError: if scores are missing or damaged, or the sample submission asks for what is not there.
    """
    parts = Parts.of(read_table(dataset, IDENTITY_DATASET).to_pandas())
    singles = _joined({name: read_scores(path, parts) for name, path in scores.items()})
    fusion = singles[parts.chooser].calibrations(parts.rows)
    at = {}
    for split, single in singles.items():
        half = parts.half if split == parts.judged else None
        at[split] = {WAY: single.fused(parts.rows, single.left_out(parts.rows), fusion, half)}
    held_out = {split: ways for split, ways in at.items() if split in HELD_OUT}
    found = judge(parts, held_out, threshold_by=threshold_by, bootstrap=bootstrap, seed=seed)
    queries = (
        at["query"][WAY].answers(parts.rows, parts.part["query"], found.thresholds[WAY]) if "query" in at else None
    )
    asked = read_table(table, INDIVIDUALS).to_pylist()
    return {
        "split": parts.judged,
        "simulated_new": found.simulated_new,
        "crosswise": found.crosswise,
        "figures": found.ways[WAY],
        "submission": write_submission(out_submission, asked, parts.answers(queries)),
    }


def _joined(singles: Mapping[str, Mapping[str, Single]]) -> dict[str, Single]:
    """Of each split the ways of all classifiers side by side."""
    first = next(iter(singles.values()))
    return {
        split: Single(
            of_first.part,
            of_first.gallery,
            of_first.known,
            {f"{name} {way}": one for name, of in singles.items() for way, one in of[split].found.items()},
        )
        for split, of_first in first.items()
    }
