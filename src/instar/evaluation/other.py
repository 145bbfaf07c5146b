"""Another identifier's answers for the same photographs, and names that mean the same species."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instar.errors import InputError
from instar.metrics.scoring import ANSWERS, Name, compared, sheet
from instar.records.names import Names, parse, read_backbone
from instar.records.taxonomy import Lineage
from instar.tables import TAXONOMY, csv_rows, read_table

TOPS = tuple(f"top{place}" for place in range(1, ANSWERS + 1))
_UNKNOWN, _NOTHING = Lineage(None, None, None), Name(None, None)


class Accepted:
    """Turns names as people and programs write them into accepted ones.

    Args:
        synonyms: CSV with the columns name and accepted, or the ``backbone.jsonl`` of a study's source folder, GBIF's
            own answers.
        taxonomy: tells the genus of species.
        name_confidence: of an answer of the backbone, percent; one with less is no match.

    Raises:
        InputError: if a column is missing, a name is empty, has two accepted names, or leads back to itself.
    """

    def __init__(self, synonyms: Path, taxonomy: Path, *, name_confidence: int) -> None:
        is_backbone = synonyms.suffix == ".jsonl"
        self._names = Names(read_backbone(synonyms) if is_backbone else None, confidence=name_confidence)
        self._accepted = {} if is_backbone else _synonyms(synonyms)
        taxa = read_table(taxonomy, TAXONOMY).to_pandas()
        self._genera = taxa[taxa["rank"] == "species"].set_index("name")["genus"].to_dict()
        self._known = frozenset([*self._genera, *self._genera.values()])

    def name(self, text: str | None) -> Name:
        """The accepted name; an empty text, or one that is no name of a species or genus, names nothing."""
        found = self._names.place(text, _UNKNOWN, trusted=True).lineage
        while (key := found.species or found.genus or "") in self._accepted:
            found = self._names.place(self._accepted[key], _UNKNOWN, trusted=True).lineage
        return Name(found.species, self._genera.get(found.species or "", found.genus))

    def knows(self, name: Name) -> bool:
        """Whether the study's taxonomy has the species, or the genus that is named alone."""
        return (name.species or name.genus) in self._known


def _synonyms(path: Path) -> dict[str, str]:
    """Accepted names by the species or genus that each line's name is read as."""
    found: dict[str, str] = {}
    for line, row in csv_rows(path, ("name", "accepted")):
        for column, text in row.items():
            if not (parse(text).species or parse(text).genus):
                raise InputError(f"{path}: line {line}: {column} = {text!r} is no name of a species or genus")
        name, accepted = (parse(row[column]).species or parse(row[column]).genus for column in ("name", "accepted"))
        assert name and accepted
        if name != accepted and found.setdefault(name, accepted) != accepted:
            raise InputError(f"{path}: line {line}: {name} has two accepted names; remove one line")
    for name in found:
        seen, current = {name}, found[name]
        while current in found:
            if current in seen:
                raise InputError(f"{path}: {name} leads back to itself; remove one of its lines")
            seen.add(current)
            current = found[current]
    return found


def read_other(path: Path) -> dict[str, list[str]]:
    """The answers of another identifier by photograph, best first, at most five.

    Raises:
        InputError: naming line and value, if a column is missing, a key is empty or stands twice, or an answer stands
            behind an empty one.
    """
    found: dict[str, list[str]] = {}
    for line, row in csv_rows(path, ("photo_key", *TOPS)):
        key, given = row["photo_key"], [row[column] for column in TOPS]
        if not key or key in found:
            raise InputError(f"{path}: line {line}: photo_key = {key!r} is empty or stands twice; keep one line of it")
        said = [text for text in given if text]
        if given[: len(said)] != said:
            raise InputError(f"{path}: line {line}: an answer stands behind an empty one; close the gap")
        found[key] = said
    return found


def against(
    photographs: pd.DataFrame,
    ours: list[list[str]],
    other: Mapping[str, list[str]],
    path: Path,
    accepted: Accepted,
    *,
    known: frozenset[str],
    resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score both identifiers on the photographs that the other was asked about, those with a line in its table.

    A line without an answer is worth 0 points to it. Of a species that is no class of ours we name others, which are
    worth points where they are of its genus.

    Args:
        photographs: ``photo_key``, ``observation_id`` and ``label`` of each.
        ours: our answers for each, best first.
        other: the other's answers by photograph.
        path: of the other's answers, for messages.
        accepted: turns names into accepted ones.
        known: those of the other's keys that are photographs of the study.
        resamples: for the interval.
        seed: of the resampling.

    Returns:
        The sheet of ``scoring.sheet`` and the figures of ``scoring.compared``, with the numbers of photographs
        ``without_answer`` of the other, of its ``photographs_not_judged``, which are not held out or have no label, and
        of its ``answers_not_understood``, which name no species or genus, and ``answers_not_in_taxonomy``, which name
        one that the study's taxonomy does not have. Where more than half are so, a line says it: perhaps they are
        other names for the same.

    Raises:
        InputError: if a key of the other is not among ``known``.
    """
    if strange := [key for key in other if key not in known]:
        raise InputError(
            f"{path}: photo_key = {strange[0]!r} is no photograph of this study ({len(strange)} of "
            f"{len(other)} lines name none); keys are those in photographs.parquet: remove such lines"
        )
    asked = photographs["photo_key"].isin(other.keys()).to_numpy()
    photographs, ours = photographs[asked], [given for given, at in zip(ours, asked, strict=True) if at]
    keys = photographs["photo_key"].tolist()
    answers = [other[key] for key in keys]
    named = [[accepted.name(text) for text in given] for given in answers]
    table = sheet(
        keys,
        [accepted.name(text) for text in photographs["label"]],
        [[accepted.name(text) for text in given] for given in ours],
        named,
    )
    first, second = (table[f"{who}_points"].to_numpy(np.int64) for who in ("ours", "other"))
    observations = photographs["observation_id"].to_numpy(dtype=object)
    understood = [
        (name, text)
        for names, texts in zip(named, answers, strict=True)
        for name, text in zip(names, texts, strict=True)
        if name != _NOTHING
    ]
    foreign = [text for name, text in understood if not accepted.knows(name)]
    if 2 * len(foreign) > len(understood):
        print(
            f"evaluation: {path}: {len(foreign)} of {len(understood)} answers are names that the study's taxonomy does "
            f"not have, such as {foreign[0]!r}, and count as wrong; evaluation.synonyms tells which mean the same",
            file=sys.stderr,
        )
    return table, {
        **compared(first, second, observations, resamples=resamples, seed=seed),
        "without_answer": sum(not given for given in answers),
        "photographs_not_judged": len(set(other) - set(keys)),
        "answers_not_understood": sum(name == _NOTHING for given in named for name in given),
        "answers_not_in_taxonomy": len(foreign),
    }
