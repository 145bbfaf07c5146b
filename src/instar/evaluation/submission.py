"""The answers for queries as AnimalCLEF25 takes them, checked against what its sample asks for."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from instar.errors import InputError
from instar.files import write_csv
from instar.tables import NEW_INDIVIDUAL

COLUMNS = ("image_id", "identity")


def write_submission(
    path: Path, individuals: list[dict[str, Any]], answers: Mapping[str, str], identities: Collection[str]
) -> dict[str, int]:
    """Write image ids and answers in the order of ``sample_submission.csv``, or of the source's table without one.

    A query without an answer, since it has no crop, is answered as new.

    Args:
        path: CSV to write; a header alone where nothing is asked for.
        individuals: rows of ``tables.INDIVIDUALS``.
        answers: of queries, by image id.
        identities: those that may be answered.

    Returns:
        ``asked``, ``new`` and ``without_crop``.

    Raises:
        InputError: if the sample's rows are not all there, or an answer is no name that may be.
    """
    sampled = [row for row in individuals if row["submission_row"] is not None]
    asked = sorted(sampled, key=lambda row: row["submission_row"])
    if [row["submission_row"] for row in asked] != list(range(len(asked))):
        raise InputError(
            f"{path}: the sample asks for {asked[-1]['submission_row'] + 1} rows and photographs of {len(asked)} are "
            "there; put the missing ones below the source and run records again"
        )
    if not asked:
        asked = sorted((row for row in individuals if row["part"] == "query"), key=lambda row: row["row"])
    rows = [(row["image_id"], answers.get(row["image_id"], NEW_INDIVIDUAL)) for row in asked]
    allowed = {*identities, NEW_INDIVIDUAL}
    for image_id, answer in rows:
        if answer not in allowed:
            raise InputError(f"{path}: image {image_id} is answered by {answer}, which is no known individual")
    write_csv(path, COLUMNS, rows)
    return {
        "asked": len(rows),
        "new": sum(answer == NEW_INDIVIDUAL for _, answer in rows),
        "without_crop": sum(image_id not in answers for image_id, _ in rows),
    }
