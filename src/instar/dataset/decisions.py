"""Two small tables in git: what people decided about crops, and which observations an earlier split held out."""

import csv
from datetime import UTC, datetime
from pathlib import Path

from instar.dataset.choice import SPLITS, TRAIN
from instar.dataset.rows import Classes
from instar.dataset.rules import Rules
from instar.errors import InputError
from instar.splits import id_hash
from instar.tables import csv_rows

#: ``verdict`` is keep, drop or relabel; ``label`` the species or genus to relabel to; ``when`` in ISO 8601; ``sha256``
#: of the crop that was looked at, since another run of the detector may give its key to another box; empty for any.
DECISIONS = ("key", "verdict", "label", "who", "when", "why", "sha256")
VERDICTS = ("keep", "drop", "relabel")

HELD_OUT = ("observation_id", "split")
#: Of individuals: two data sets may have had an individual of one name, or one of them have got it since.
HOMES = (*HELD_OUT, "dataset")


def read_decisions(path: Path) -> dict[str, dict[str, str]]:
    """The decisions of a review by the keys of their crops; of several about a crop the latest counts.

    Raises:
        InputError: naming line and value, if a column is missing or a value is not allowed.
    """
    latest: dict[str, tuple[datetime, dict[str, str]]] = {}
    for line, row in csv_rows(path, DECISIONS):
        if row["verdict"] not in VERDICTS:
            raise InputError(f"{path}: line {line}: verdict = {row['verdict']!r} is none of {', '.join(VERDICTS)}")
        if row["verdict"] == "relabel" and not row["label"]:
            raise InputError(f"{path}: line {line}: label is empty; say what the crop is relabelled to")
        if not row["key"] or not row["who"]:
            raise InputError(f"{path}: line {line}: key or who is empty; say which crop and who decided")
        moment = _time(path, line, row["when"])
        if row["key"] not in latest or latest[row["key"]][0] <= moment:
            latest[row["key"]] = (moment, {**row, "line": str(line)})
    return {key: row for key, (_, row) in latest.items()}


def read_rules(path: Path, classes: Classes, *, licences: list[str], min_crop_px: int) -> tuple[Rules, dict[int, str]]:
    """The rules of single crops with the decisions of a review.

    Returns:
        The rules, and the key of each decided crop by its hash.

    Raises:
        InputError: as ``read_decisions``, or if a label is none of the classes.
    """
    places = {name: place for place, name in enumerate(classes.names)}
    decisions = read_decisions(path)
    for row in decisions.values():
        if row["verdict"] == "relabel" and row["label"] not in places:
            told = f"line {row['line']}: label = {row['label']!r}"
            raise InputError(f"{path}: {told} is no species or genus of this study")
    decided = {id_hash(key): row for key, row in decisions.items()}
    rules = Rules(
        licences=tuple(licences),
        min_crop_px=min_crop_px,
        kept=frozenset(key for key, row in decided.items() if row["verdict"] == "keep"),
        rejected=frozenset(key for key, row in decided.items() if row["verdict"] == "drop"),
        relabelled={key: places[row["label"]] for key, row in decided.items() if row["verdict"] == "relabel"},
        decided_files={key: row["sha256"].lower() for key, row in decided.items() if row["sha256"]},
    )
    return rules, {key: row["key"] for key, row in decided.items()}


def read_held_out(path: Path) -> dict[str, str]:
    """The split of each observation that an earlier run held out, by its id.

    Raises:
        InputError: naming line and value, if a column is missing, a split is unknown, or an observation is empty or in
            two splits.
    """
    found: dict[str, str] = {}
    for line, row in csv_rows(path, HELD_OUT):
        if row["split"] not in SPLITS or row["split"] == TRAIN:
            raise InputError(f"{path}: line {line}: split = {row['split']!r} is neither validation nor test")
        if not row["observation_id"]:
            raise InputError(f"{path}: line {line}: observation_id is empty; remove the line")
        if found.setdefault(row["observation_id"], row["split"]) != row["split"]:
            raise InputError(
                f"{path}: line {line}: observation {row['observation_id']} is in two splits; remove one line"
            )
    return found


def read_homes(path: Path) -> dict[str, str]:
    """The data set of each encounter of individuals that an earlier run held out; empty where the table tells none.

    Raises:
        InputError: as ``read_held_out``.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        told = "dataset" in next(csv.reader(file), ())
    return {row["observation_id"]: row["dataset"] for _, row in csv_rows(path, HOMES)} if told else {}


def _time(path: Path, line: int, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{path}: line {line}: when = {text!r} is no date of ISO 8601, such as 2026-05-01") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
