"""Tests of instar.pairs: which pairs, the page in a browser, and its decisions in the stage dataset."""

import csv
import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_study import STUDY, make_dataset, write_study

from instar.dataset.decisions import read_decisions
from instar.errors import InputError
from instar.pairs.candidates import candidates
from instar.pairs.command import pairs
from instar.reid.answering import Answering
from instar.reid.fusion import Calibration
from instar.reid.gallery import GALLERY, Gallery, Parts, Source
from instar.reid.pairs import COLUMNS
from instar.report.pictures import showable
from instar.tables import CROPS, IDENTITY_DATASET, IDENTITY_PREDICTIONS, read_table, write_table

CHROMIUM = shutil.which("chromium")
STRAIGHT = Calibration([0.0, 1.0], [0.0, 1.0], pairs=9, same=3)
ASKED = Answering("nearest", 1, False, True, {}, {"nearest": STRAIGHT}, {})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def root(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(study)
    return study


def gallery(*rows: tuple[str, str, tuple[float, float]]) -> Gallery:
    """Individual, encounter and embedding of photographs of one data set."""
    told = [(f"c{n}", f"p{n}", name, "L", None, None, met, "0" * 64) for n, (name, met, _) in enumerate(rows)]
    vectors = np.array([vector for *_, vector in rows], np.float32).reshape(-1, 2)
    return Gallery(Source("5" * 64, 32), pd.DataFrame(told, columns=GALLERY.names, dtype=object), Parts([vectors], 2))


def predicted(*rows: tuple[str, str, str | None, float]) -> pd.DataFrame:
    """Key of the crop, split, match and score."""
    told = [(key, f"p{key[1:]}", "L", split, match, score) for key, split, match, score in rows]
    return pd.DataFrame(told, columns=["key", "photo_key", "dataset", "split", "match", "score"], dtype=object)


def test_no_photograph_makes_no_pair() -> None:
    found = candidates(predicted(), gallery(), ASKED)
    assert len(found) == 0
    assert {"key", "other_key", "photo_key", "probability"} <= set(found.columns)


def test_the_pairs_of_held_out_photographs_and_queries_by_hand() -> None:
    # c0 is held out; c1 is of its own encounter; c2 is of its individual, c3 and c4 of b
    rows = [("a", "e0", (1.0, 0.0)), ("a", "e0", (1.0, 0.0)), ("a", "e1", (0.6, 0.8))]
    rows += [("b", "e2", (0.8, 0.6)), ("b", "e3", (0.0, 1.0))]
    asked = predicted(("c0", "test", "c2", 0.6), ("c9", "query", "c3", 0.25), ("c8", "query", None, -np.inf))
    found = candidates(asked, gallery(*rows), ASKED).set_index(["key", "other_key"])
    assert found["probability"].to_dict() == {
        ("c9", "c3"): pytest.approx(0.25),
        ("c0", "c3"): pytest.approx(0.8),
        ("c0", "c2"): pytest.approx(0.6),
    }
    assert found["identity"].tolist() == [None, "a", "a"]
    assert found["other_identity"].tolist() == ["b", "b", "a"]


def test_a_gallery_that_is_not_there(root: Path) -> None:
    with pytest.raises(InputError, match="--gallery nowhere: no gallery at this path; 'instar enroll FOLDER --gallery"):
        pairs(["--gallery", "nowhere"])


def test_without_a_calibration_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(InputError, match="no calibration of nearest; run the stage evaluation again"):
        candidates(predicted(), gallery(), Answering("nearest", 1, False, True, {}, {}, {}))


def test_ones_own_photographs_without_a_licence() -> None:
    rows = pd.DataFrame(
        {"source": ["folder", "individuals", "gbif", "gbif"], "licence": ["unknown", "unknown", "unknown", "cc-by"]}
    )
    assert showable(rows).index.tolist() == [0, 3]
    assert showable(rows, own=("folder", "individuals")).index.tolist() == [0, 1, 3]


def test_page_and_table(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs.html"
    assert pairs(["--out", str(out), "--pairs", "7"]) == 0
    assert "7 pairs; open it in a browser" in capsys.readouterr().out
    with (tmp_path / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["key", "other_key", *COLUMNS]
    values = [float(row["value"]) for row in rows]
    assert len(rows) == 7 and values == sorted(values, reverse=True)
    assert all(row["key"] == f"{row['photo_key']}-0" for row in rows)
    text = out.read_text()
    assert text.count('"uri":"data:image/jpeg;base64,') == len(
        {row[name] for row in rows for name in ("key", "other_key")}
    )
    assert "src=http" not in text and "licence unknown" in text
    assert pairs(["--out", str(out), "--pairs", "7"]) == 0
    assert out.read_text() == text


def test_what_may_not_be_shown_is_not(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    path = Path("data") / STUDY / "crops/a.parquet"
    rows = read_table(path, CROPS).to_pylist()
    write_table(path, [{**row, "licence": "cc-by-nd" if row["photo_id"] == "103" else "cc-by"} for row in rows], CROPS)
    assert pairs([]) == 0
    assert "1 of " in capsys.readouterr().err
    assert "individuals-103" not in Path("pairs.html").read_text()
    write_table(path, [{**row, "licence": "all-rights-reserved"} for row in rows], CROPS)
    assert pairs([]) == 0
    assert "There is no pair to compare." in Path("pairs.html").read_text()
    assert len(Path("pairs.csv").read_text().splitlines()) == 1


def in_browser(out: Path, keys: list[str]) -> tuple[str, dict[str, dict[str, str]], Path]:
    """The page after these keys, and the decisions that it gives, also as a file."""
    script = "element('who').value = 'Ann, \"A\"';"
    script += "".join(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}));" for key in keys)
    script += "element('state').dataset.csv = decisionsCsv();"
    page = out.parent / "answered.html"
    page.write_text(out.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"]
    command += [f"--user-data-dir={out.parent / 'profile'}", "--virtual-time-budget=2000", f"file://{page}"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'data-csv="([^"]*)"', made.stdout)
    assert found is not None, made.stderr[-2000:]
    decisions = out.parent / "decisions.csv"
    decisions.write_text(html.unescape(found[1]))
    return made.stdout, read_decisions(decisions), decisions


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_merging_gives_all_photographs_of_an_individual_the_other_name(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.html"
    assert pairs(["--out", str(out)]) == 0
    with (tmp_path / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    two = [(n, row) for n, row in enumerate(rows) if row["identity"] not in ("", row["other_identity"])]
    # one individual becomes another, and that a third; beside it "same" of a pair of two names moves one alone
    first, a, second, b = next(
        (n, one, m, other)
        for n, one in two
        for m, other in two
        if one["other_identity"] == other["identity"] and other["other_identity"] != one["identity"]
    )
    theirs = {a["identity"], a["other_identity"], b["other_identity"]}
    third, c = next((n, row) for n, row in two if row["identity"] not in theirs)
    unnamed = next(n for n, row in enumerate(rows) if row["identity"] == "")
    keys = ["ArrowRight"] * len(rows)
    keys[first] = keys[second] = "m"
    keys[third] = "s"
    # of a query there is nothing to merge, and the page stays where it is
    keys[unnamed] = "m"
    keys.insert(unnamed + 1, "ArrowRight")
    shown, told, decisions = in_browser(out, keys)
    assert "3 answered, " in shown and f"Pair {len(rows)} of {len(rows)}" in shown
    before = read_table(Path("data") / STUDY / "dataset.parquet", IDENTITY_DATASET).to_pylist()
    label = {row["key"]: row["label"] for row in before}
    moved = {key for key, name in label.items() if name in (a["identity"], a["other_identity"])}
    assert {key for key, row in told.items() if row["verdict"] == "relabel"} == {*moved, c["key"]}
    after = {
        row["key"]: row["label"]
        for row in read_table(make_dataset(root, decisions, "merged.parquet"), IDENTITY_DATASET).to_pylist()
    }
    expected = {key: b["other_identity"] if key in moved else name for key, name in label.items()}
    assert after == expected | {c["key"]: c["other_identity"]}
    # and the page says so beforehand
    assert "“same” calls this photograph" in out.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_of_two_names_for_a_photograph_the_later_answer_counts(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.html"
    assert pairs(["--out", str(out)]) == 0
    with (tmp_path / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    two = [(n, row) for n, row in enumerate(rows) if row["identity"] not in ("", row["other_identity"])]
    first, a, second, b = next(
        (n, one, m, other)
        for n, one in two
        for m, other in two
        if n < m and one["key"] == other["key"] and one["other_identity"] != other["other_identity"]
    )
    keys = ["ArrowRight"] * len(rows)
    keys[first], keys[second] = "m", "s"
    shown, told, _ = in_browser(out, keys)
    rule = "the later answer counts, and merging counts more than “different”"
    assert f"1 photographs were said to be of two individuals: {rule}" in shown
    others = {row["label"] for key, row in told.items() if key != a["key"]}
    assert (told[a["key"]]["label"], others) == (b["other_identity"], {a["other_identity"]})
    # and "different" of the names that were merged changes nothing
    merged = {a["identity"], a["other_identity"]}
    again = next(n for n, row in two if {row["identity"], row["other_identity"]} == merged and n != first)
    keys[second], keys[again] = "u", "d"
    shown, after, _ = in_browser(out, keys)
    assert f"1 photographs were said to be of two individuals: {rule}" in shown
    relabelled = {key: row["label"] for key, row in after.items() if row["verdict"] == "relabel"}
    assert relabelled == dict.fromkeys(told, a["other_identity"])


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_answers_in_a_browser_become_decisions_of_the_dataset(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.html"
    assert pairs(["--out", str(out)]) == 0
    with (tmp_path / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    asked = {row["key"]: n for n, row in enumerate(rows) if row["key"] in ("individuals-100-0", "individuals-102-0")}
    own = next(n for n, row in enumerate(rows) if row["identity"] == row["other_identity"])
    other = next(n for n, row in enumerate(rows) if row["identity"] not in ("", row["other_identity"]))
    keys = dict.fromkeys(range(len(rows)), "ArrowRight")
    keys |= {asked["individuals-100-0"]: "s", asked["individuals-102-0"]: "u", own: "d", other: "d"}
    shown, told, decisions = in_browser(out, list(keys.values()))
    assert "4 answered, " in shown and f"Pair {len(rows)} of {len(rows)}" in shown
    assert re.search(r"calibrated score [01]\.\d\d of 1\b", shown)

    named = rows[asked["individuals-100-0"]]["other_identity"]
    assert (told["individuals-100-0"]["verdict"], told["individuals-100-0"]["label"]) == ("relabel", named)
    assert told["individuals-100-0"]["who"] == 'Ann, "A"'
    assert told[rows[own]["key"]]["verdict"] == "drop"
    if rows[other]["key"] != rows[own]["key"]:
        assert told[rows[other]["key"]]["verdict"] == "keep"
    assert "individuals-102-0" not in told
    made_again = read_table(make_dataset(root, decisions, "again.parquet"), IDENTITY_DATASET).to_pylist()
    after = {row["key"]: row for row in made_again}
    assert after["individuals-100-0"]["label"] == named and after["individuals-100-0"]["split"] != "query"
    assert after[rows[own]["key"]]["reason"] == "dropped by a review"
    assert after["individuals-102-0"]["split"] == "query"
    crops = {row["key"]: row for row in read_table(Path("data") / STUDY / "crops/a.parquet", CROPS).to_pylist()}
    assert all(row["sha256"] == crops[key]["sha256"] for key, row in told.items())


def test_predictions_are_needed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile("params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"predictions\.parquet: no such table"):
        pairs([])
    assert not list(tmp_path.glob("pairs.*"))
    write_table(Path("data") / STUDY / "predictions.parquet", [], IDENTITY_PREDICTIONS)
    with pytest.raises(InputError, match="no gallery"):
        pairs([])
