"""Answers as a table to read, as CSV and as JSON, each written as the answers come."""

import csv
import json
from typing import IO, Any, Protocol

from instar.boxes import NO_ANIMAL
from instar.classifier.labels import RANKS, LabelSpace
from instar.identify.answers import Row

NO_ANSWER = "no answer"


class Output(Protocol):
    """Takes the answers for one photograph after the other."""

    def add(self, row: Row) -> None:
        """Write what ``answers.told`` says of a photograph."""
        ...

    def close(self) -> None:
        """Write what comes at the end."""
        ...


class Table:
    """Lines to read: one for each photograph, and one for each of its animals.

    Args:
        file: to write to.
        labels: the classes.
        places: whether the classifier goes by places.
    """

    def __init__(self, file: IO[str], labels: LabelSpace, *, places: bool) -> None:
        self._file, self._places = file, places
        self._wide = max(map(len, [*labels.names, NO_ANSWER]))

    def add(self, row: Row) -> None:
        if row["problem"]:
            return  # a line on standard error tells it
        animals = row["animals"]
        if not animals:
            print(f"{row['photograph']}: {NO_ANIMAL}", file=self._file, flush=True)
            return
        several = f", {len(animals)} animals" if len(animals) > 1 else ""
        if len(animals) > row["animals_counted"]:
            several += f", the answer is from the best {row['animals_counted']}"
        print(f"{row['photograph']}: {_words(row)}{several}{self._place(row)}", file=self._file)
        for number, animal in enumerate(animals, start=1):
            print(self._animal(number, animal), file=self._file)
        self._file.flush()

    def _place(self, row: Row) -> str:
        """Of a classifier that goes by places, whether it had one."""
        if not self._places:
            return ""
        if row["latitude"] is None:
            return ", without a place"
        return f", at {row['latitude']:.3f}, {row['longitude']:.3f}"

    def _animal(self, number: int, animal: Row) -> str:
        answer = animal["answer"] or {"name": NO_ANSWER, "rank": "", "probability": None}
        sure = "" if answer["probability"] is None else percent(answer["probability"])
        left, top, right, bottom = (round(side) for side in animal["box_xyxy"])
        box = f"x {left}–{right}, y {top}–{bottom}"
        others = ", ".join(f"{one['name']} {percent(one['probability'])}" for one in animal[RANKS[0]])
        return (
            f"  {number:>3}  {answer['name']:<{self._wide}}  {answer['rank']:<7}  {sure:>5}  {box:<26}  best: {others}"
        )

    def close(self) -> None:
        pass


def _words(row: Row) -> str:
    answer = row["answer"]
    if answer is None:
        best = row[RANKS[-1]] or row[RANKS[0]]
        return f"{NO_ANSWER} (likeliest {best[0]['name']}, {percent(best[0]['probability'])})"
    return f"{answer['name']} ({answer['rank']}, {percent(answer['probability'])})"


def percent(share: float) -> str:
    """``93 %``; never 100 % for less than 1, nor 0 % for more than 0."""
    if 0 < share < 0.01:
        return "<1 %"
    return f"{min(round(100 * share), 100 if share >= 1 else 99)} %"


class Csv:
    """A row for each photograph, whose ``animal`` is empty, followed by one for each of its animals."""

    def __init__(self, file: IO[str], top: int) -> None:
        self._file, self._top = file, top
        best = [f"{rank}_{n}{what}" for rank in RANKS for n in range(1, top + 1) for what in ("", "_probability")]
        columns = ["photograph", "animal", "animals", "problem", "answer", "rank", "probability"]
        columns += ["x_min", "y_min", "x_max", "y_max", "score", "latitude", "longitude", *best]
        self._writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        self._writer.writeheader()

    def add(self, row: Row) -> None:
        place = {name: row[name] for name in ("photograph", "latitude", "longitude")}
        animals = row["animals"]
        problem = row["problem"] or (None if animals else NO_ANIMAL)
        self._writer.writerow({**place, "animals": len(animals), "problem": problem, **self._named(row)})
        for number, animal in enumerate(animals, start=1):
            box = dict(zip(("x_min", "y_min", "x_max", "y_max"), animal["box_xyxy"], strict=True))
            self._writer.writerow({**place, "animal": number, **box, "score": animal["score"], **self._named(animal)})
        self._file.flush()

    def _named(self, row: Row) -> dict[str, Any]:
        answer = row["answer"] or {"name": "", "rank": "", "probability": ""}
        found = {"answer": answer["name"], "rank": answer["rank"], "probability": answer["probability"]}
        for rank in RANKS:
            for n, one in enumerate(row[rank], start=1):
                found |= {f"{rank}_{n}": one["name"], f"{rank}_{n}_probability": one["probability"]}
        return found

    def close(self) -> None:
        pass


class Json:
    """One document: what answered, then ``photographs``."""

    def __init__(self, file: IO[str], head: Row) -> None:
        self._file, self._head = file, head
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def close(self) -> None:
        document = {**self._head, "photographs": self._rows}
        print(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False), file=self._file)
