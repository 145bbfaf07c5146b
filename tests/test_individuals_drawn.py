"""The study of individuals from records to report: drawn ones, and the smallest real set."""

import csv
import inspect
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from project import REALDATA, Project

from instar import dag
from instar.crops import crops
from instar.dataset.command import dataset as identified
from instar.detections import detections
from instar.detector import detector
from instar.images.stage import images
from instar.records.stage import records
from instar.study import compose
from instar.tables import CROPS, IDENTITY_DATASET, IDENTITY_PREDICTIONS, INDIVIDUALS, read_table

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


def to_dataset(folder: Path, study: str, overrides: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run the stages from records to dataset of a study in one shard; its crops and the data set's rows."""
    params = folder / "params.yaml"
    params.write_text(compose(study, overrides))
    graph = dag.read(params)

    def given(stage: Callable[..., None]) -> dict[str, Any]:
        values = graph.values(stage.__name__)
        own = inspect.signature(stage).parameters.values()
        return {one.name: values[one.name] for one in own if one.kind is one.KEYWORD_ONLY and one.name in values}

    out, source = folder / "data", Path(graph.params.records.source)
    tables = [out / f"{name}.parquet" for name in ("records", "records_dropped", "taxonomy")]
    names = ["annotations.json", "metrics.json", "barcodes.parquet", "specimens.csv", "outlines.csv"]
    paths = [*tables, *(out / name for name in [*names, "individuals.parquet"])]
    partition = Path(graph.params.records.partition)
    records(source, out / "source", *paths, **(given(records) | {"partition": partition}))
    for stage in ("images", "detections", "crops"):
        (out / stage).mkdir()
    photographs, found, cut = (out / stage / "s00.parquet" for stage in ("images", "detections", "crops"))
    tar = photographs.with_suffix(".tar")
    local = out / "source" if source.is_file() else source
    images(tables[0], local, out / "source", out / "spool", photographs, tar, shard="s00", **given(images))
    files = [out / name for name in ("detector", "detector.json", "curve.csv", "checkpoints")]
    detector(out / "annotations.json", out / "images", *files, **given(detector))
    detections(files[0], photographs, tar, found, **given(detections))
    crops(photographs, tar, found, cut, cut.with_suffix(".tar"), **given(crops))
    chosen = graph.params.dataset
    names = ["annotations.json", "detections", "individuals.parquet"]
    read = [out / "crops", tables[2], *(out / name for name in names)]
    read += [Path(path) for path in (chosen.decisions, chosen.earlier, chosen.specimens)]
    names = ["dataset.parquet", "held_out.csv", "specimen_crops", "dataset.json", "examples.csv", "found.csv"]
    identified(*read, *(out / name for name in names), **given(identified))
    return read_table(cut, CROPS).to_pylist(), read_table(out / "dataset.parquet", IDENTITY_DATASET).to_pylist()


def test_a_detectors_crop_stands_before_the_individual(tmp_path: Path) -> None:
    made, rows = to_dataset(tmp_path, "individuals_drawn", [*TINY, "detector=watershed"])
    assert {row["detector"].partition("-")[0] for row in made} == {"watershed"}
    boxes = [row for row in made if row["reason"] is None]
    assert all(row["box_width"] * row["box_height"] < 96 * 72 for row in boxes)  # parts of the photographs
    several = [key for key, n in Counter(row["photo_key"] for row in boxes).items() if n > 1]
    assert several
    kept = [row for row in rows if row["split"]]
    assert len(kept) == len({row["photo_key"] for row in kept}) == len({row["photo_key"] for row in boxes})
    assert {row["split"] for row in kept} == {"train", "validation", "test", "query"}
    best = {row["photo_key"]: row["key"] for row in sorted(boxes, key=lambda row: (row["score"], row["area"]))}
    assert {row["key"] for row in kept} == set(best.values())


def test_two_individuals_on_one_photograph(tmp_path: Path) -> None:
    lines = ["image_id,identity,path,date,bbox"]
    for day in (1, 2):
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[:, :24], picture[:, 24:] = (200, 0, day), (0, 200, day)
        path = tmp_path / f"given/images/{day}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        lines += [f'r{day},red,{day}.png,2020-01-0{day},"[4, 8, 20, 32]"']
        lines += [f'g{day},green,{day}.png,2020-01-0{day},"[24.0, 0.0, 36.0, 30.0]"']
    (tmp_path / "given/metadata.csv").write_text("\n".join(lines))
    source = [f"records.source={tmp_path / 'given'}", "shards=[s00]", "dataset.split_by=time"]
    made, rows = to_dataset(tmp_path, "individuals", source)
    boxes = {row["photo_id"]: [row[name] for name in ("x_min", "y_min", "x_max", "y_max")] for row in made}
    red, green = [4, 8, 24, 40], [24, 0, 60, 30]
    assert boxes == {"r1": red, "g1": green, "r2": red, "g2": green}
    with (tmp_path / "data/crops/s00.tar").open("rb") as tar:
        for row in made:
            tar.seek(row["offset"])
            picture = np.asarray(Image.open(io.BytesIO(tar.read(row["size"]))))
            assert picture.shape == ((32, 20, 3) if row["photo_id"][0] == "r" else (30, 36, 3))
            assert picture.mean((0, 1))[:2].argmax() == (row["photo_id"][0] == "g")
    assert {(row["image_id"], row["label"]) for row in rows if row["split"]} == {
        *(("r1", "red"), ("r2", "red")),
        *(("g1", "green"), ("g2", "green")),
    }


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
    (project.root / "params.yaml").write_text(only_real(**{"dataset.split_by": "time"}))
    project.run("snakemake", "all")
    data = project.root / "data/individuals"
    told = json.loads((data / "metrics/dataset.json").read_text())
    assert (told["rows"]["in"], told["individuals"]) == (4, 2)
    assert "2 individuals" in (data / "report.html").read_text()
