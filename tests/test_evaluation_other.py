"""Tests of instar.evaluation.other."""

import json
from pathlib import Path

import pandas as pd
import pytest
from evaluation_study import taxon

from instar.errors import InputError
from instar.evaluation.other import Accepted, against, read_other
from instar.metrics.scoring import Name
from instar.tables import TAXONOMY, write_table

HEADER = "photo_key,top1,top2,top3,top4,top5\n"
PHOTOGRAPHS = pd.DataFrame(
    {"photo_key": ["p1", "p2"], "observation_id": ["o1", "o2"], "label": ["Lasius niger", "Formica rufa"]}
)


@pytest.fixture
def taxonomy(tmp_path: Path) -> Path:
    path = tmp_path / "taxonomy.parquet"
    rows = [taxon("species", name) for name in ("Lasius niger", "Formica rufa")]
    write_table(path, [*rows, {**taxon("species", "Aberrans moved"), "genus": "Lasius"}], TAXONOMY)
    return path


def accepted(tmp_path: Path, taxonomy: Path, rows: str = "") -> Accepted:
    path = tmp_path / "synonyms.csv"
    path.write_text("name,accepted\n" + rows)
    return Accepted(path, taxonomy, name_confidence=85)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Name(None, None)),
        ("no ant", Name(None, None)),
        ("Lasius niger", Name("Lasius niger", "Lasius")),
        ("LASIUS NIGER", Name("Lasius niger", "Lasius")),
        ("Lasius niger (Linnaeus, 1758)", Name("Lasius niger", "Lasius")),
        ("Lasius sp.", Name(None, "Lasius")),
        ("Lasius cf. niger", Name(None, "Lasius")),
        ("Lasius", Name(None, "Lasius")),
        ("Aberrans moved", Name("Aberrans moved", "Lasius")),  # the taxonomy tells the genus
        ("Unheard offa", Name("Unheard offa", "Unheard")),
        ("Acanthomyops niger Latreille", Name("Lasius niger", "Lasius")),
        ("Older niger", Name("Lasius niger", "Lasius")),
        ("Acanthomyops", Name(None, "Lasius")),
    ],
)
def test_names(tmp_path: Path, taxonomy: Path, text: str, expected: Name) -> None:
    rows = "Acanthomyops niger,Lasius niger\nOlder niger L.,Acanthomyops niger\nAcanthomyops,Lasius\n"
    assert accepted(tmp_path, taxonomy, rows).name(text) == expected


def test_names_by_the_answers_of_the_backbone(tmp_path: Path, taxonomy: Path) -> None:
    answer = {
        "matchType": "EXACT",
        "confidence": 97,
        "genus": "Lasius",
        "species": "Lasius niger",
        "family": "Formicidae",
    }
    unsure = {**answer, "confidence": 50}
    path = tmp_path / "backbone.jsonl"
    entries = [{"name": "Acanthomyops niger", "answer": answer}, {"name": "Formica cinerea", "answer": unsure}]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    names = Accepted(path, taxonomy, name_confidence=85)
    assert names.name("Acanthomyops niger") == Name("Lasius niger", "Lasius")
    assert names.name("Formica cinerea") == Name("Formica cinerea", "Formica")
    assert names.name("Formica rufa") == Name("Formica rufa", "Formica")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("Lasius niger,\n", r"line 2: accepted = '' is no name of a species or genus"),
        ("3,Lasius niger\n", r"line 2: name = '3' is no name of a species or genus"),
        ("Aa bb,Aa cc\nAa bb,Aa dd\n", r"line 3: Aa bb has two accepted names"),
        ("Aa bb,Aa cc\nAa cc,Aa dd\nAa dd,Aa cc\n", r"leads back to itself"),
        ("Aa bb\n", r"line 2: not 2 fields"),
    ],
)
def test_synonyms_that_cannot_be_right(tmp_path: Path, taxonomy: Path, rows: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        accepted(tmp_path, taxonomy, rows)


def test_a_table_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(HEADER)
    assert read_other(tmp_path / "other.csv") == {}


def test_answers_are_read_best_first(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(HEADER + "p1, Lasius niger ,Lasius,,,\np2,,,,,\n")
    assert read_other(tmp_path / "other.csv") == {"p1": ["Lasius niger", "Lasius"], "p2": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "photo_key,top1,top2,top3,top4\n",
            r"column top5 is missing among photo_key, top1, top2, top3, top4; it needs photo_key, top1,",
        ),
        (HEADER + "p1,a,b,c,d,e\np1,a,b,c,d,e\n", "line 3: photo_key = 'p1' is empty or stands twice"),
        (HEADER + ",a,b,c,d,e\n", "line 2: photo_key = '' is empty or stands twice"),
        (HEADER + "p1,a,,c,,\n", "line 2: an answer stands behind an empty one"),
        (HEADER + "p1,a\n", "line 2: not 6 fields"),
    ],
)
def test_a_damaged_table(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_other(tmp_path / "other.csv")


def test_points_of_both(tmp_path: Path, taxonomy: Path) -> None:
    names = accepted(tmp_path, taxonomy, "Formica major,Formica rufa\n")
    ours = [["Lasius flavus", "Lasius niger"], []]
    # p3 is not judged, and p4, for which there is a line without an answer, is worth nothing to the other
    other = {"p2": ["Formica major", "??"], "p3": ["Lasius"], "p4": []}
    fourth = pd.DataFrame({"photo_key": ["p4"], "observation_id": ["o4"], "label": ["Formica rufa"]})
    photographs, ours = pd.concat([PHOTOGRAPHS, fourth], ignore_index=True), [*ours, ["Formica rufa"]]
    table, figures = against(
        photographs, ours, other, tmp_path, names, known=frozenset({"p2", "p3", "p4"}), resamples=100, seed=0
    )
    assert table["photo_key"].tolist() == ["p2", "p4"]  # the other was not asked about p1
    assert table["ours_points"].tolist() == [0, 10] and table["other_points"].tolist() == [10, 0]
    assert table["other_1"].tolist() == ["Formica rufa", ""]
    counts = ("without_answer", "photographs_not_judged", "answers_not_understood")
    assert [figures[name] for name in counts] == [1, 1, 1]
    assert figures["difference"] == {"value": 0, "low": -10, "high": 10}


def test_names_that_the_study_does_not_have(tmp_path: Path, taxonomy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = accepted(tmp_path, taxonomy)

    def unknown(*given: str) -> int:
        figures = against(
            PHOTOGRAPHS, [[], []], {"p2": [*given]}, tmp_path, names, known=frozenset({"p2"}), resamples=100, seed=0
        )[1]
        return int(figures["answers_not_in_taxonomy"])

    assert unknown("Formica rufa", "Lasius", "Lasius nigerr") == 1
    assert unknown() == 0
    assert capsys.readouterr().err == ""
    assert unknown("Formica rufa", "Lasius nigerr", "Lasius flavvus") == 2
    assert "2 of 3 answers are names that the study's taxonomy does not have, such as 'Lasius nigerr'" in (
        capsys.readouterr().err
    )


def test_a_photograph_that_nobody_knows(tmp_path: Path, taxonomy: Path) -> None:
    names = accepted(tmp_path, taxonomy)
    with pytest.raises(InputError, match="photo_key = 'p9' is no photograph of this study"):
        against(PHOTOGRAPHS, [[], []], {"p9": []}, tmp_path, names, known=frozenset({"p1"}), resamples=100, seed=0)
