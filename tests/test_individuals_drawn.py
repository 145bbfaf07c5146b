"""The study of individuals from records to report: drawn ones, and the smallest real set."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from project import REALDATA, Project

from instar.study import compose
from instar.tables import IDENTITY_PREDICTIONS, INDIVIDUALS, read_table

NEW = "new_individual"
REAL = REALDATA / "wildlife_reid" / "TestDataset"
TINY = [
    "records.source=tests/world/individuals.yaml",
    "shards=[s00]",
    "crops.max_px=96",
    "classifier.image_px=32",
    "classifier.epochs=1",
    "evaluation.bootstrap=100",
    "report.photographs=3",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("individuals") / "project", TINY, "individuals_drawn")


def organisers(rows: Iterable[tuple[str, str, bool, str]]) -> tuple[float, float, float]:
    """BAKS, BAUS and their geometric mean of data set, individual, whether it is new and answer; means over data sets.

    As the page of AnimalCLEF25 says it, in plain sums.
    """
    shares: dict[str, dict[bool, dict[str, list[bool]]]] = defaultdict(lambda: {True: {}, False: {}})
    for dataset, individual, is_new, answer in rows:
        right = answer == (NEW if is_new else individual)
        shares[dataset][is_new].setdefault(individual, []).append(right)
    found = []
    for of_one in shares.values():
        means = [
            sum(sum(right) / len(right) for right in of_one[is_new].values()) / max(len(of_one[is_new]), 1)
            for is_new in (False, True)
        ]
        found.append((*means, sqrt(means[0] * means[1])))
    baks, baus, score = (sum(column) / len(found) for column in zip(*found, strict=True))
    return baks, baus, score


def test_the_formula_by_hand() -> None:
    rows = [("a", "x", False, "x"), ("a", "x", False, NEW), ("a", "y", False, "y"), ("a", "n", True, NEW)]
    assert organisers(rows) == (0.75, 1, sqrt(0.75))
    # no new individual in b: its BAUS and score are 0
    assert organisers([*rows, ("b", "z", False, "z")]) == (0.875, 0.5, sqrt(0.75) / 2)


def csv_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.xdist_group("individuals_study")
def test_drawn_individuals_from_records_to_report(project: Project) -> None:
    project.run("snakemake", "all")
    assert project.due() == []
    data = project.root / "data/individuals_drawn"
    figures = {stage: json.loads((data / f"metrics/{stage}.json").read_text()) for stage in ("dataset", "evaluation")}
    judged = figures["evaluation"]
    assert judged["rows"]["in"] == figures["dataset"]["rows"]["out"]
    assert (judged["split"], judged["simulated_new"], judged["crosswise"]) == ("test", [], False)
    assert list(judged["ways"]) == ["softmax", "nearest", "centroid", "local", "fused", "fused without local"]
    predictions = read_table(data / "predictions.parquet", IDENTITY_PREDICTIONS).to_pylist()
    of_test = [row for row in predictions if row["split"] == "test"]
    wanted = organisers((row["dataset"], row["label"], row["is_new"], row["answer"]) for row in of_test)
    found = judged["ways"][judged["answer_by"]]
    assert tuple(found[name]["value"] for name in ("baks", "baus", "score")) == pytest.approx(wanted, abs=1e-5)

    # the submission answers what is asked, with names that may be, and the solution is of the same images
    submission = csv_of(data / "submission.csv")
    asked, solution = csv_of(data / "source/sample_submission.csv"), csv_of(data / "source/truth/solution.csv")
    assert [row["image_id"] for row in submission] == [row["image_id"] for row in asked]
    told = {row["image_id"]: row for row in read_table(data / "individuals.parquet", INDIVIDUALS).to_pylist()}
    known = {(row["dataset"], row["identity"]) for row in told.values()}
    datasets = {row["image_id"]: told[row["image_id"]]["dataset"] for row in submission}
    assert all(row["identity"] == NEW or (datasets[row["image_id"]], row["identity"]) in known for row in submission)
    answers = {row["image_id"]: row["identity"] for row in submission}
    assert answers == {row["image_id"]: row["answer"] for row in predictions if row["split"] == "query"}
    assert {row["image_id"] for row in solution} == answers.keys()
    rows = [
        (datasets[i], row["individual"], row["identity"] == NEW, answers[i])
        for row in solution
        for i in [row["image_id"]]
    ]
    assert any(is_new for _, _, is_new, _ in rows) and not all(is_new for _, _, is_new, _ in rows)
    assert 0 < organisers(rows)[0] <= 1  # who was met before is found again more often than never

    page = (data / "report.html").read_text()
    for words in ("Ways to compare photographs", "local features", "where to draw the line", "LynxDrawn"):
        assert words in page
    assert "0.71389" not in page  # the published scores are of other animals
    # drawn pictures may be shown
    assert "Photographs and what they were compared with" in page


def only_real(**changes: Any) -> str:
    keys = ["shards=[s00]", "classifier=test_resnet", "classifier.image_px=32", "classifier.epochs=1"]
    keys += ["classifier.workers=0", "classifier.batch=2", "classifier.flip=none", "evaluation.bootstrap=100"]
    return compose("individuals", [*keys, f"records.source={REAL}", *(f"{k}={v}" for k, v in changes.items())])


@pytest.mark.xdist_group("individuals_study")
@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_four_real_photographs(project: Project) -> None:
    # neither dates nor enough of each: what the published split says, and what it takes
    (project.root / "params.yaml").write_text(only_real(**{"dataset.split_by": "published"}))
    printed = project.run("snakemake", "dataset", check=False)
    assert "set dataset.split_by to time" in printed
    (project.root / "params.yaml").write_text(only_real(**{"dataset.split_by": "time", "dataset.test_crops": 1}))
    project.run("snakemake", "all")
    data = project.root / "data/individuals"
    told = json.loads((data / "metrics/dataset.json").read_text())
    assert (told["rows"]["in"], told["individuals"]) == (4, 2)
    assert "2 individuals" in (data / "report.html").read_text()
