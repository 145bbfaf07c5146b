"""Answers about individuals as lines to read, as CSV and as JSON, each written as the answers come."""

import csv
from typing import IO

from instar.identify.who import Row


class Lines:
    """A line for each photograph.

    Args:
        file: to write to.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, row: Row) -> None:
        if row["problem"]:
            return  # a line on standard error tells it
        print(f"{row['photograph']}: {self._said(row)}", file=self._file, flush=True)

    def _said(self, row: Row) -> str:
        if row["answer"] is None:
            return str(row["reason"])
        if not row["top"]:
            return f"{row['answer']} (nothing to compare with)"
        threshold = "none" if row["threshold"] is None else f"{row['threshold']:.3f}"
        others = ", ".join(f"{one['identity']} {one['score']:.3f}" for one in row["top"])
        told = f"{row['dataset']}, {row['score']:.3f}, threshold {threshold}"
        return f"{row['answer']} ({told}), most like {row['match']}; best: {others}"

    def close(self) -> None:
        pass


class Csv:
    """A row for each photograph.

    Args:
        file: to write to.
        top: candidates that have columns.
    """

    def __init__(self, file: IO[str], top: int) -> None:
        self._file = file
        best = [f"top_{n}{what}" for n in range(1, top + 1) for what in ("", "_dataset", "_score", "_threshold")]
        columns = ["photograph", "problem", "answer", "dataset", "score", "threshold", "match"]
        columns += ["x_min", "y_min", "x_max", "y_max", *best]
        self._writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        self._writer.writeheader()

    def add(self, row: Row) -> None:
        names = ("photograph", "answer", "dataset", "score", "threshold", "match")
        found = {**{name: row[name] for name in names}, "problem": row["problem"] or row["reason"]}
        if row["box_xyxy"]:
            found |= dict(zip(("x_min", "y_min", "x_max", "y_max"), row["box_xyxy"], strict=True))
        for n, one in enumerate(row["top"], start=1):
            found |= {f"top_{n}": one["identity"]}
            found |= {f"top_{n}_{name}": one[name] for name in ("dataset", "score", "threshold")}
        self._writer.writerow(found)
        self._file.flush()

    def close(self) -> None:
        pass
