"""What went in and what was dropped: the accounts of the stages as one table."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from instar.errors import InputError

#: What each stage does, and what it counts: what comes in, what goes on.
STEPS = {
    "records": ("read and filtered", "photographs", "photographs"),
    "images": ("fetched and checked", "photographs", "photographs"),
    "detections": ("searched for animals", "photographs", "photographs"),
    "crops": ("cut out", "boxes", "crops"),
    "dataset": ("cleaned and labelled", "crops", "crops"),
}


@dataclass(frozen=True)
class Account:
    """Rows in, rows out, and rows dropped by reason; the first is the sum of the others."""

    rows_in: int
    rows_out: int
    dropped: Counter[str]


@dataclass(frozen=True)
class Step:
    """The account of one stage as it is shown: the drops by falling count, a bar."""

    stage: str
    does: str
    unit_in: str
    unit_out: str
    rows_in: int
    rows_out: int
    drops: list[tuple[str, int]]
    width: float  # of the bar, per cent of the widest
    kept: float  # per cent of the bar


def steps(metrics: Mapping[str, Any]) -> list[Step]:
    """The accounts in the order of the stages.

    A table of detections has a row for each box and one for each photograph without any, and the table of crops has
    all of these again. Here photographs and boxes are told apart, so that every line goes on where the last one ended.

    Args:
        metrics: figures by stage; stages without ``rows`` are left out.

    Raises:
        InputError: if the rows of a stage, or of two stages, do not add up.
    """
    accounts = {stage: _account(stage, metrics[stage]["rows"]) for stage in STEPS if stage in metrics}
    boxes, cut = accounts["detections"], accounts["crops"]
    searched = metrics["detections"]
    accounts["detections"] = Account(searched["photographs"], searched["photographs_out"], boxes.dropped)
    accounts["crops"] = Account(boxes.rows_out, cut.rows_out, cut.dropped - boxes.dropped)
    for stage, account in accounts.items():
        if account.rows_in != account.rows_out + account.dropped.total():
            text = f"{account.rows_in} in are not {account.rows_out} out and {account.dropped.total()} dropped"
            raise InputError(f"metrics/{stage}.json: {text}; run the stages images to {stage} again")
    for (stage, account), (following, after) in pairwise(accounts.items()):
        unit = STEPS[stage][2]
        # what detections gives on are photographs, what crops takes are boxes; they were compared above
        if unit == STEPS[following][1] and account.rows_out != after.rows_in:
            text = f"{account.rows_out} {unit} out of {stage} are not {after.rows_in} in"
            raise InputError(f"metrics/{following}.json: {text}; run the stages {stage} and {following} again")
    widest = max(account.rows_in for account in accounts.values())
    return [_step(stage, account, widest) for stage, account in accounts.items()]


def _account(stage: str, rows: Mapping[str, Any]) -> Account:
    account = Account(rows["in"], rows["out"], Counter(rows["dropped"]))
    if account.rows_in != account.rows_out + account.dropped.total():
        text = f"{account.rows_in} rows in are not {account.rows_out} out and {account.dropped.total()} dropped"
        raise InputError(f"metrics/{stage}.json: {text}; run the stage {stage} again")
    return account


def _step(stage: str, account: Account, widest: int) -> Step:
    drops = sorted((+account.dropped).items(), key=lambda item: (-item[1], item[0]))
    width = 100 * account.rows_in / max(1, widest)
    kept = 100 * account.rows_out / max(1, account.rows_in)
    return Step(stage, *STEPS[stage], account.rows_in, account.rows_out, drops, round(width, 2), round(kept, 2))
