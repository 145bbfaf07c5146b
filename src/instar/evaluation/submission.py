"""The answers for queries as AnimalCLEF25 takes them, checked against what its sample asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.errors import InputError
from instar.files import write_csv
from instar.splits import name_of
from instar.tables import NEW_INDIVIDUAL

COLUMNS = ("image_id", "identity")


def check_sample(path: Path, individuals: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the sample asks for, in its order.

    Raises:
        InputError: if they are not all there.
    """
    sampled = [row for row in individuals if row["submission_row"] is not None]
    asked = sorted(sampled, key=lambda row: row["submission_row"])
    wanted = max((row["submission_rows"] or 0 for row in individuals), default=0)
    if [row["submission_row"] for row in asked] != list(range(wanted)):
        raise InputError(
            f"{path}: the sample asks for {wanted} rows and photographs of {len(asked)} are there; put the missing "
            "ones below the source and run records again"
        )
    return asked


def write_submission(path: Path, individuals: list[dict[str, Any]], answers: Mapping[str, str]) -> dict[str, int]:
    """Write image ids and answers in the order of ``sample_submission.csv``, or of the source's table without one.

    Only names of the database can be right, so whoever a review calls otherwise is answered as new, and so is a query
    without an answer, since it has no crop.

    Args:
        path: CSV to write; a header alone where nothing is asked for.
        individuals: rows of ``tables.INDIVIDUALS``.
        answers: of queries, by image id, also of those that a review named, see ``Parts.answers``.

    Returns:
        ``asked``, ``new``, ``without_crop``, and ``not_in_database``: answers that the database of their data set
        does not have.

    Raises:
        InputError: if the sample's rows are not all there.
    """
    asked = check_sample(path, individuals)
    if not asked:
        asked = sorted((row for row in individuals if row["part"] == "query"), key=lambda row: row["row"])
    database = {(row["identity"], row["dataset"]) for row in individuals if row["part"] != "query"}
    rows, strange = [], 0
    for row in asked:
        answer = answers.get(row["image_id"], NEW_INDIVIDUAL)
        known = (answer, row["dataset"]) in database
        strange += answer != NEW_INDIVIDUAL and not known
        rows.append((row["image_id"], name_of(answer, row["dataset"]) if known else NEW_INDIVIDUAL))
    write_csv(path, COLUMNS, rows)
    return {
        "asked": len(rows),
        "new": sum(answer == NEW_INDIVIDUAL for _, answer in rows),
        "without_crop": sum(image_id not in answers for image_id, _ in rows),
        "not_in_database": strange,
    }
