"""The report's section on individuals."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from report_inputs import HOSTILE, write_inputs
from test_report import Page

from instar.errors import InputError
from instar.evaluation.individuals import CMC, MATCHES, SWEEP
from instar.files import write_json
from instar.report.individuals import individuals
from instar.report.inputs import read_inputs
from instar.report.stage import report

SCORE = {"value": 0.5, "low": 0.25, "high": 0.75}
NONE = {"value": 0.0, "low": 0.0, "high": 0.0}
RIGHT = {"value": 0.625, "low": 0.5, "high": 1.0}
#: May be shown: 0, 4 and 6; 2 and 5 may not.
SHOWN = [("known, named right", "inaturalist-0-000", "inaturalist-4-000", "Ada", "Ada", "Ada", 0.91)]
SHOWN += [("new, told so", "inaturalist-4-000", "inaturalist-6-000", HOSTILE, "Bo", "new_individual", 0.125)]
HIDDEN = [("new, told so", "inaturalist-2-000", "inaturalist-0-000", "Cy", "Bo", "new_individual", 0.125)]
HIDDEN += [("known, named right", "inaturalist-0-000", "inaturalist-5-000", "Di", "Di", "Di", 0.9)]


def way(datasets: dict[str, float | None], rank_1: dict[str, float] | None = RIGHT, *, new: int = 2) -> dict[str, Any]:
    """Figures of one way; of each data set the threshold."""
    measured = {"score": SCORE, "baks": SCORE, "baus": SCORE if new else NONE}
    counts = {"photographs": 1200, "new_photographs": 2 * new, "known": 7, "new": new}
    of_each = {name: {**measured, **counts, "threshold": threshold} for name, threshold in datasets.items()}
    reid = {"queries": 10, "without_match": 0, "rank_1": rank_1, "rank_5": rank_1, "map": rank_1}
    return {**measured, "datasets": of_each, "reid": reid}


def trained(accuracies: list[float | None]) -> dict[str, Any]:
    """Figures of a classifier with 4 photographs for validation and 8 classes; of each epoch the accuracy."""
    rows = [
        {"epoch": n, "train_loss": 2.5, "validation_loss": one, "validation_accuracy": one, "learning_rate": 5e-5}
        for n, one in enumerate(accuracies, 1)
    ]
    counts = {"train_crops": 10, "validation_crops": 4, "classes": 8, "epochs": len(rows), "steps": 1500}
    return {**counts, "best_epoch": 2, "table": rows}


def write_individuals(
    root: Path, ways: dict[str, Any], matches: list[tuple[Any, ...]], **judged: Any
) -> dict[str, Any]:
    """What ``report`` reads of a study of individuals; returns its keyword arguments."""
    given = write_inputs(root, labels=False)
    params = OmegaConf.load(given["params"])
    params.update({"labels": ["identity"], "loss": "flat"})
    params.records.kind = "individuals"
    params.dataset.split_by = "time"
    params.place = "none"
    OmegaConf.save(params, given["params"])
    split = {"photographs": 9, "individuals": 4, "new_individuals": 1, "encounters": 5, "without_date": 2}
    leak = {"photographs": 1200, "encounter": 3, "near_duplicate": 2}
    made = {"rows": {"in": 15, "out": 13, "dropped": {"no identity": 2}}, "individuals": 40, "seen_once": 6}
    of_splits = {"train": split, "query": dict.fromkeys(split, 0)}
    made |= {"split_by": "time", "leakage": {"test": leak}, "datasets": {"turtles": of_splits}}
    write_json(given["metrics"] / "dataset.json", made)
    write_json(given["metrics"] / "classifier.json", trained([None]))
    leaks = {"turtles": leak_of(None, 0.5)}
    found = {"split": "test", "photographs": 1200, "individuals": 9, "encounters": 11, "known_individuals": 34}
    found |= {"answer_by": next(iter(ways)), "ways": ways, "leaks": leaks, "simulated_new": [], "crosswise": False}
    found |= {
        "threshold_by": "dataset",
        "judged_chose_epoch": False,
        "submission": {"asked": 0, "new": 0, "without_crop": 0, "not_in_database": 0},
    }
    found |= {"photographs_ranked": next(iter(ways.values()))["reid"], **judged}
    write_json(given["metrics"] / "evaluation.json", found)
    datasets = next(iter(ways.values()))["datasets"]
    sweep = [(name, one, at, 1 - at, at, 0.4) for name in ways for one in ("all", *datasets) for at in (0.25, 0.75)]
    cmc = [(name, rank, rank / 20) for name in ways for rank in range(1, 21)]
    for file, columns, rows in (("openset", SWEEP, sweep), ("cmc", CMC, cmc), ("matches", MATCHES, matches)):
        pd.DataFrame(rows, columns=list(columns)).to_csv(given["plots"] / f"{file}.csv", index=False)
    return given


def leak_of(trains: float | None, held_out: float | None, undated: int = 0) -> dict[str, Any]:
    """Rank-1 within a data set by whether the encounter trains."""
    groups = (("encounter trains", 9, trains), ("encounter held out", 9, held_out), ("no date", undated, None))
    return {name: {"photographs": count, "rank_1": rank_1} for name, count, rank_1 in groups}


def section(given: dict[str, Any]) -> Page:
    """The section alone."""
    report(**given)
    page = given["out"].read_text()
    start = page.index('<section id="individuals">')
    return Page(page[start : page.index("</section>", start)])


def told(given: dict[str, Any]) -> str:
    """Texts and charts of the section, without the page."""
    names = ("records", "taxonomy", "images", "detections", "crops", "metrics", "plots", "params")
    inputs = read_inputs(*(given[name] for name in names), shards=given["shards"], confidence=given["confidence"])
    found = individuals(inputs, given["crops"])
    texts = [text for one in found.charts for text in (one.title, one.svg, one.sentence)]
    texts += [match.text for matches in found.matches.values() for match in matches]
    return " ".join([*found.sentences, *(table.sentence for table in found.tables), *texts]).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def pictures(page: Page) -> list[str]:
    return [uri for tag, uri in page.values("src") if tag == "img"]


def test_nothing_was_told_right_and_all_are_new(tmp_path: Path) -> None:
    page = section(write_individuals(tmp_path, {"nearest": way({"turtles": None}, None)}, []))
    assert "nearest photograph (answers) 50 % (25–75 %)" in page.text
    # the threshold and the ranks of no known individual
    assert "turtles 7 1,196 2 4 – 50 % (25–75 %)" in page.text
    assert "among single photographs – – – – – –" in page.text
    assert "1 2.5000 – – 5.00e-05" in page.text
    assert "No photograph of a known individual is for validation." in page.text
    assert not pictures(page) and "what they were compared with" not in page.text
    assert "the best known individual is right" not in unescape((tmp_path / "report.html").read_text())


def test_what_was_judged_and_how(tmp_path: Path) -> None:
    ways = {"fused": way({"turtles": 0.5}), "softmax": way({"turtles": 0.25})}
    submission = {"asked": 1100, "new": 30, "without_crop": 2, "not_in_database": 1}
    given = write_individuals(tmp_path, ways, SHOWN, submission=submission)
    page = section(given)
    assert "40 individuals, 6 of them seen once. By dataset.split_by = time, of each individual its last" in page.text
    assert (
        "34 individuals are known: the classifier learnt them, and what is judged is compared with their 9" in page.text
    )
    assert "1,200 photographs of 9 individuals in 11 encounters of the split test: 1,196 photographs of 7" in page.text
    assert "known individuals and 4 photographs of 2 new ones." in page.text
    assert "Rank 1 and 5 are shares of 10 photographs of known individuals" in page.text
    assert "The last line ranks single photographs" in page.text
    assert "Of the 1,200 judged photographs 3 are of an encounter that also trains, and 2 look nearly" in page.text
    assert "Of 1,100 queries, photographs whose individual nobody told, 30 are answered as new; 2 have no" in page.text
    assert "are among these; 1 were named by a review as no individual of the database of their data" in page.text
    assert "all of these, calibrated and fused (answers)" in page.text and "softmax of the classifier" in page.text
    assert "turtles 7 1,196 2 4 0.5 50 %" in page.text
    assert "mean over data sets" not in page.text  # there is one
    assert "turtles, train 9 4 1 5 2" in page.text and "turtles, query" not in page.text
    assert "instar pairs writes a page of the pairs" in page.text
    assert "0.44326" not in page.text  # of other animals
    for told in ("a stand-in", "each half of the individuals", "also chose the epoch", "what the leak is worth,"):
        assert told not in page.text
    whole = " ".join(unescape(given["out"].read_text()).split())
    assert "; 34 individuals are known, and on 1,200 photographs of known and new ones the score is 50 %" in whole
    assert "the best known individual is right for 62 % (50–100 %) of 10 photographs of known ones." in whole


def test_published_scores_stand_beside_those_of_the_same_animals(tmp_path: Path) -> None:
    page = section(write_individuals(tmp_path, {"fused": way({"SeaTurtleID2022": 0.5})}, SHOWN))
    for score in ("0.44326", "0.44363", "0.71389"):
        assert score in page.text
    assert "Figures of new ones rest on 2 individuals: too few to rely on." in page.text


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"simulated_new": ["turtles"]}, "in turtles, so each photograph there counts a second time as new"),
        (
            {"crosswise": True},
            "Thresholds and calibrations are of the same photographs, of each half of the individuals by the other",
        ),
        ({"judged_chose_epoch": True}, "These photographs also chose the epoch whose weights were kept"),
        # of lynxes only one group is there, and they are left out; of the others the leak is worth 50 and 10
        (
            {"leaks": {"turtles": leak_of(1.0, 0.5), "newts": leak_of(0.9, 0.8), "lynxes": leak_of(0.1, None)}},
            "right for 30.0 percentage points more of the first than of photographs of the same data set whose "
            "encounter is held out: what the leak is worth, mean over 2 of 3 data sets.",
        ),
        (
            {"leaks": {"turtles": leak_of(0.9, None, 40), "lynxes": leak_of(None, 0.3)}},
            "What the leak is worth can't be told: no data set has photographs of known individuals both with "
            "and without their encounter in training. 40 photographs without date are in neither group.",
        ),
    ],
)
def test_what_flatters_is_said(tmp_path: Path, told: dict[str, Any], says: str) -> None:
    page = section(write_individuals(tmp_path, {"fused": way({"turtles": 0.5}, new=0)}, SHOWN, **told))
    assert says in page.text
    # none is new: BAUS counts as 0
    assert "turtles 7 1,200 0 0 0.5 50 % (25–75 %) 50 % (25–75 %) 0 %" in page.text


def test_a_curve_for_each_data_set(tmp_path: Path) -> None:
    names = ["lynxes", "salamanders", HOSTILE]
    given = write_individuals(tmp_path, {"fused": way(dict.fromkeys(names, 0.5))}, SHOWN)
    page = section(given)
    charts = [label for tag, label in page.values("aria-label") if tag == "svg"]
    assert "mean over data sets – – – – – 50 % (25–75 %)" in page.text
    assert len(charts) == 4 and charts[1:] == [f"BAKS, BAUS and score of {name} over the threshold" for name in names]
    assert f"{HOSTILE}: where to draw the line" in page.text
    assert HOSTILE not in given["out"].read_text()
    ids = [value for _, value in page.values("id")]
    assert len(ids) == len(set(ids))


def test_a_common_threshold_has_the_curve_of_the_mean(tmp_path: Path) -> None:
    ways = {"fused": way({"lynxes": 0.5, "turtles": 0.5})}
    text = told(write_individuals(tmp_path, ways, SHOWN, threshold_by="all"))
    titles = [f"{name}: where to draw the line" for name in ("mean over data sets", "lynxes", "turtles")]
    assert all(title in text for title in titles)
    assert "dashed is the threshold in use, the best for the mean over data sets." in text


@pytest.mark.parametrize(
    ("individuals", "last", "candidates"),
    [(4, 4, "4 candidates"), (300, 20, "300 candidates")],
)
def test_how_far_the_ranks_go(tmp_path: Path, individuals: int, last: int, candidates: str) -> None:
    given = write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, SHOWN)
    path = given["metrics"] / "dataset.json"
    made = json.loads(path.read_text())
    made["datasets"]["turtles"]["train"]["individuals"] = individuals
    write_json(path, made)
    assert f"of 10 photographs of known individuals, to rank {last}. A photograph has {candidates}" in told(given)


def test_each_way_has_a_curve(tmp_path: Path) -> None:
    names = ["fused", "softmax", "nearest", "centroid", "local", "fused without local"]
    whole = told(write_individuals(tmp_path, {name: way({"turtles": 0.5}) for name in names}, SHOWN))
    assert all(re.search(rf"<text[^>]*>{name}</text>", whole) for name in names)


@pytest.mark.parametrize(
    ("accuracies", "keep", "kept", "too_little"),
    [([0.0, 0.125], "last", 2, True), ([0.0, 0.25, 0.0], "best_top1", 2, False), ([0.25, 0.0, 0.0], "last", 3, False)],
)
def test_what_validation_of_the_training_means(
    tmp_path: Path, accuracies: list[float | None], keep: str, kept: int, too_little: bool
) -> None:
    given = write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, SHOWN)
    params = OmegaConf.load(given["params"])
    params.classifier.keep = keep
    OmegaConf.save(params, given["params"])
    write_json(given["metrics"] / "classifier.json", trained(accuracies))
    text = told(given)
    assert f"The weights of epoch {kept} are kept (classifier.keep = {keep})." in text
    assert "the share of 4 validation photographs of known individuals" in text
    assert "Guessing is right for 12.5 %, at a loss of 2.08." in text
    assert ("No epoch is better than that: in 1,500 steps" in text) == too_little


def test_each_answer_is_told(tmp_path: Path) -> None:
    wrong = "known, named wrong or taken for new"
    keys = ("inaturalist-0-000", "inaturalist-4-000")
    matches = [(wrong, *keys, "Ada", "Bo", answer, 0.5) for answer in ("Bo", "new_individual")]
    text = told(write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, matches))
    assert "Ada, named Bo; most like Bo (0.50)" in text
    assert "Ada, told to be new; most like Bo (0.50)" in text


def test_pictures_side_by_side_with_their_credits(tmp_path: Path) -> None:
    page = section(write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, [*SHOWN, *HIDDEN]))
    assert (
        "Ada, named right; most like Ada (0.91)" in page.text
        and f"{HOSTILE}, told to be new; most like Bo (0.12)" in page.text
    )
    # those of which one may not be shown are not
    first, second, *others = pictures(page)
    assert len(others) == 2 and first != second
    assert "Cy, " not in page.text and "Di, " not in page.text
    # of both pictures of the second pair
    assert "Holder 4" in page.text and "Holder 6" in page.text


def test_the_judged_one_is_on_the_left(tmp_path: Path) -> None:
    (verdict, key, match, *more), _ = SHOWN
    pairs = [
        pictures(
            section(write_individuals(tmp_path / name, {"fused": way({"turtles": 0.5})}, [(verdict, *keys, *more)]))
        )
        for name, keys in (("as it is", (key, match)), ("swapped", (match, key)))
    ]
    assert pairs[0] == pairs[1][::-1]


def test_no_picture_may_be_shown(tmp_path: Path) -> None:
    page = section(write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, HIDDEN))
    assert not pictures(page) and "what they were compared with" not in page.text


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    given = write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, SHOWN)
    page = section(given)
    assert all(uri.startswith("data:image/") for uri in pictures(page))
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.tags)
    first = given["out"].read_bytes()
    report(**given)
    assert given["out"].read_bytes() == first


def test_a_missing_curve_is_told(tmp_path: Path) -> None:
    given = write_individuals(tmp_path, {"fused": way({"turtles": 0.5})}, SHOWN)
    (given["plots"] / "openset.csv").unlink()
    with pytest.raises(InputError, match=r"openset\.csv: no such file"):
        report(**given)
    assert not given["out"].exists()


@pytest.mark.parametrize("labels", [True, False])
def test_other_studies_have_no_such_section(tmp_path: Path, labels: bool) -> None:
    given = write_inputs(tmp_path, labels=labels)
    report(**given)
    assert 'id="individuals"' not in given["out"].read_text()
