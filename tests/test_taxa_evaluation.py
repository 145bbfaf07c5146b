"""The stages classifier and evaluation of a study of taxa, and how their answers are judged."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crop_shards import SETTINGS
from PIL import Image
from taxa_study import animal, detection, square, write_annotations, write_barcodes, write_detections, write_taxonomy
from test_taxa_dataset import HEADING, Rows, run, write_specimens

from instar.annotations import Annotated
from instar.classifier.labels import LabelSpace
from instar.classifier.model import load_description
from instar.classifier.stage import classifier
from instar.errors import InputError
from instar.evaluation.abundance import Finding
from instar.evaluation.answered import Answered
from instar.evaluation.command import evaluation
from instar.evaluation.counted import ABUNDANCE, Sizes, counted, truths_of
from instar.evaluation.taxa import ALL, BARCODED, COMMON, DIFFERENCE, GAIN, _accuracies, _classes, _nested, trained_of
from instar.export.command import export
from instar.identify.command import identify
from instar.lineages import read_lineages
from instar.study import compose
from instar.tables import CROPS, TAXA_PREDICTIONS, read_table, write_table

TABLES = ("classes", "confusion", "accuracy", "groups", "reliability", "rollup", "identifiers", "taxa", "abundance")

SPACE = LabelSpace(("Chironomidae", "Diptera", "Hemiptera"), ("family", "order", "order"), (1, -1, -1))
#: Of Chironomidae and so of Diptera, and of Hemiptera.
NODES = np.array([[0.4, 0.4, 0.6], [0.9, 0.9, 0.1], [0.2, 0.2, 0.8]], np.float32)
RESTRICTED = np.array([[1.0, 1.0, 0.0], [0.9, 0.9, 0.1], [0.2, 0.2, 0.8]], np.float32)
ANSWERED = Answered(SPACE, NODES, RESTRICTED, RESTRICTED[:, [0, 2]], np.array([0, 2]), np.array([True, False, False]))
#: The family of the last one is no class of the classifier.
JUDGED = pd.DataFrame(
    {
        "family": ["Chironomidae", None, "Aphididae"],
        "order": ["Diptera", "Hemiptera", "Hemiptera"],
        "class": [None, None, None],
        "photo_key": ["a", "a", "b"],
    }
)
TRAINED = {"family": Counter({"Chironomidae": 1}), "order": Counter(Hemiptera=7, Diptera=7), "class": Counter[str]()}


def test_nothing_judged_nothing_told() -> None:
    assert list(_accuracies(JUDGED, ANSWERED, np.zeros(3, bool), TRAINED, resamples=100, seed=0)) == []


def test_accuracies_with_and_without_barcodes_by_hand() -> None:
    rows = list(_accuracies(JUDGED, ANSWERED, np.ones(3, bool), TRAINED, resamples=500, seed=0))
    found = {(row["rank"], row["prediction"]): row for row in rows}
    assert {rank for rank, _ in found} == {"family", "order"}
    # order: Hemiptera for Diptera, Diptera for Hemiptera, Hemiptera right; barcodes mend the first
    values = {way: found["order", way]["value"] for way in (ALL, BARCODED, DIFFERENCE)}
    assert values == pytest.approx({ALL: 1 / 3, BARCODED: 2 / 3, DIFFERENCE: 1 / 3}, abs=1e-6)
    # photograph a alone: 0 and 1/2; b alone: 1 and 1
    assert (found["order", ALL]["low"], found["order", ALL]["high"]) == (0, 1)
    assert (found["order", DIFFERENCE]["low"], found["order", DIFFERENCE]["high"]) == (0, 0.5)
    # one family is a class: the first is of it where barcodes leave its order, wrong for the Aphididae
    assert found["family", BARCODED]["value"] == 0.5
    assert found["family", ALL]["value"] == 0  # of Hemiptera no family is known
    # of orders, equally common in training, the first by name: right for the first crop; each order weighs a half
    assert found["order", COMMON]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["order", GAIN]["value"] == pytest.approx(1 / 3, abs=1e-6)
    balanced = {way: found["order", way]["mean_over_taxa"] for way in (ALL, BARCODED, COMMON, GAIN)}
    assert balanced == {ALL: 0.25, BARCODED: 0.75, COMMON: 0.5, GAIN: 0.25}
    assert (found["family", ALL]["crops"], found["family", ALL]["photographs"]) == (2, 2)


def test_nothing_is_most_common_where_no_class_is() -> None:
    trained = {**TRAINED, "order": Counter[str]()}
    rows = list(_accuracies(JUDGED, ANSWERED, np.ones(3, bool), trained, resamples=100, seed=0))
    assert [row["prediction"] for row in rows if row["rank"] == "order"] == [ALL, BARCODED, DIFFERENCE]
    order = _nested(rows, trained)["order"]
    assert order["most_common"] is None and COMMON not in order


def test_what_trained_is_told_of_classes_alone() -> None:
    lineages = {"family": ["Aphididae"] * 3 + ["Chironomidae"] * 2, "order": ["Hemiptera"] * 3 + ["Diptera"] * 2}
    rows = pd.DataFrame({**lineages, "class": [None] * 5, "split": ["train"] * 4 + ["test"]})
    assert trained_of(rows, SPACE) == {
        "family": {"Chironomidae": 1},  # nothing can be told to be Aphididae
        "order": {"Hemiptera": 3, "Diptera": 1},
        "class": {},
    }


def test_figures_of_each_class_by_hand() -> None:
    rows = {row["label"]: row for row in _classes(JUDGED, ANSWERED, np.ones(3, bool), TRAINED)}
    told = {name: (row["held_out_crops"], row["top1"], row["top1_barcoded"]) for name, row in rows.items()}
    assert told == {"Chironomidae": (1, 0, 1), "Diptera": (1, 0, 1), "Hemiptera": (2, 0.5, 0.5)}
    taken = {name: (row["train_crops"], row["taken_for"], row["taken_for_crops"]) for name, row in rows.items()}
    assert taken == {"Chironomidae": (1, None, 0), "Diptera": (7, None, 0), "Hemiptera": (7, "Diptera", 1)}


def test_the_answers_of_ranks_do_not_contradict_each_other() -> None:
    names = ("Linyphiidae", "Xidae", "Araneae", "Diptera", "Hemiptera", "Arachnida", "Insecta")
    ranks = ("family",) * 2 + ("order",) * 3 + ("class",) * 2
    space = LabelSpace(names, ranks, (2, 6, 5, 6, 6, -1, -1))
    nodes = np.array(
        [
            [0.3, 0.2, 0.3, 0.25, 0.25, 0.3, 0.7],  # Araneae is the likeliest order, but Insecta the likeliest class
            [0.1, 0.5, 0.1, 0.2, 0.2, 0.1, 0.9],  # of Xidae no order is known
            [0.8, 0.0, 0.8, 0.2, 0.0, 0.8, 0.2],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],  # barcodes left nothing below
        ],
        np.float32,
    )
    outputs = np.array([0, 1, 3, 4, 6])
    answered = Answered(space, nodes, nodes, nodes[:, outputs], outputs, np.zeros(4, bool))
    told = {rank: answered.best(rank, restricted=False) for rank in ("class", "order", "family")}
    said = {rank: [names[place] if place >= 0 else None for place in best] for rank, (best, _) in told.items()}
    assert said == {
        "class": ["Insecta", "Insecta", "Arachnida", "Insecta"],
        "order": ["Diptera", None, "Araneae", None],
        "family": [None, "Xidae", "Linyphiidae", None],
    }
    assert told["order"][1] == pytest.approx([0.25, 0, 0.8, 0])
    # the abundances count the same answers
    rows = pd.DataFrame({"observation_id": ["s"] * 4, "area": [10] * 4})
    sizes = Sizes(Finding(*(np.array([9]) for _ in range(4))), np.array([], np.int64))
    table = counted(rows, answered, sizes, {"s": {"p"}}, {}, {}, draws=9, seed=0)
    assert {row["taxon"]: row["detections"] for row in table if row["detections"]} == {
        None: 4,
        "Insecta": 3,
        "Arachnida": 1,
        "Diptera": 1,
        "Araneae": 1,
        "Xidae": 1,
        "Linyphiidae": 1,
    }


def test_sums_over_samples_and_what_was_annotated(tmp_path: Path) -> None:
    """Sample s has two Diptera and a Hemiptera, t a Diptera; all that is detected is told to be what is likely."""
    write_taxonomy(tmp_path / "taxonomy.parquet")
    boxes = np.array([square(0, 0), square(30, 0), square(60, 0)], float)
    taxa = ("family:Chironomidae", "order:Hemiptera", None)
    annotated = [Annotated("p", "test", 100, 100, boxes, False, taxa=taxa)]
    annotated += [Annotated(key, "test", 100, 100, boxes[:1], key == "r", taxa=("order:Diptera",)) for key in "qr"]
    truths = truths_of(annotated, read_lineages(tmp_path / "taxonomy.parquet"))
    assert truths.keys() == {"p", "q"}  # of a crowd the number is not known
    assert truths["p"] == {
        (None, None): 3,
        ("class", "Insecta"): 2,
        ("order", "Diptera"): 1,
        ("family", "Chironomidae"): 1,
        ("order", "Hemiptera"): 1,
    }
    rows = pd.DataFrame({"observation_id": ["s", "s", "t"], "area": [10] * 3})
    # next to all is found and right, so that draws are the detections
    sizes = Sizes(Finding(*(np.array([10**9]) for _ in range(4))), np.array([], np.int64))
    samples, splits = {"s": {"p"}, "t": {"q"}, "u": {"r"}}, {"p": "test", "q": "test", "r": "validation"}
    sure = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], np.float32)
    answered = Answered(SPACE, sure, sure, sure[:, [0, 2]], np.array([0, 2]), np.zeros(3, bool))
    table = counted(rows, answered, sizes, samples, splits, truths, draws=9, seed=0)
    found = {(row["sample"], row["taxon"]): [row[name] for name in ABUNDANCE[-5:]] for row in table}
    assert found["s", None] == [2, 2, 2, 2, 3]
    assert found["t", "Diptera"] == [1, 1, 1, 1, 1]
    assert found["u", None] == [0, 0, 0, 0, None]
    assert found["samples of test", None] == [3, 3, 3, 3, 4]
    assert found["samples of test", "Diptera"] == [2, 2, 2, 2, 2]
    assert found["all samples", "Hemiptera"] == [1, 1, 1, 1, None]


def write_study(folder: Path) -> Rows:
    """Three photographs with eight crops each: four Diptera, of which two may be Chironomidae, and four Hemiptera."""
    return write_trays(folder, [], ())


def write_trays(folder: Path, more: list[str], searched: tuple[str, ...]) -> Rows:
    """The study with further animals of some taxa on test, and photographs on which nothing was found."""
    photographs = {"trays-1": "train", "trays-2": "validation", "trays-3": "test"}
    animals, found = [], []
    for image, key in enumerate(photographs, 1):
        for n in range(8):
            taxon = "order:Hemiptera" if n % 2 else "order:Diptera"
            low = ["family:Chironomidae"] if n in (0, 4) else []
            animals.append(animal(100 * image + n, image, square(22 * n, 0), taxon, low))
            found.append(detection(key, n, square(22 * n, 0)))
    for n, taxon in enumerate(more, 8):
        animals.append(animal(300 + n, 3, square(22 * (n - 8), 40), taxon, []))
        found.append(detection("trays-3", n, square(22 * (n - 8), 40)))
    write_annotations(folder / "annotations.json", photographs, animals)
    write_detections(folder, found, searched)
    write_barcodes(folder / "barcodes.parquet", {"sample of trays-3": ["family:Aphididae"]})
    (folder / "other.csv").write_text("photo_key,top1,top2,top3,top4,top5\n")
    (folder / "synonyms.csv").write_text("name,accepted\n")
    return run(folder)


def train(folder: Path, **given: Any) -> None:
    paths = [folder / name for name in ("crops", "dataset.parquet", "classifier", "trained.json", "curves", "work")]
    values: dict[str, Any] = {**SETTINGS, "epochs": 1, **given}
    classifier(*paths, **values)


def judge(folder: Path) -> Any:
    names = ["classifier", "crops", "dataset.parquet", "taxonomy.parquet", "annotations.json", "barcodes.parquet"]
    names += ["found.csv", "individuals.parquet", "none", "other.csv", "synonyms.csv"]
    names += ["predictions.parquet", "photographs.parquet", "evaluation.json", *(f"{table}.csv" for table in TABLES)]
    names += ["submission.csv", "gallery", "openset.csv", "cmc.csv", "individuals.csv", "matches.csv"]
    paths = [folder / name for name in names]
    values: dict[str, Any] = {"seed": 0, "shards": ["a"], "name_confidence": 85, "bootstrap": 100, "resolutions": []}
    values |= {"region_deg": 30.0, "wanted_accuracy": 0.95, "photo_boxes": 10, "labels": ["taxon"]}
    values |= {"answer_by": "fused", "threshold_by": "all", "neighbours": 1, "flips": False, "sides": True}
    values |= {"local": "none", "local_candidates": 1}
    evaluation(*paths, **values)
    return json.loads((folder / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taxa")
    write_study(folder)
    train(folder)
    return folder


def test_the_classifier_knows_families_that_no_crop_is_sure_to_be_of(study: Path) -> None:
    labels = load_description(study / "classifier").labels
    assert labels.names == ("Chironomidae", "Diptera", "Hemiptera", "Insecta")
    assert labels.parents == (1, 3, 3, -1)
    assert load_description(study / "classifier").train_crops == (0, 4, 4, 0)


def test_the_stage_judges_restricts_and_counts(study: Path) -> None:
    metrics = judge(study)
    assert (metrics["split"], metrics["crops"], metrics["photographs"]) == ("test", 8, 1)
    assert metrics["rows"] == {"in": 24, "out": 8, "dropped": {"not held out": 16}}
    assert metrics["samples"] == {"samples": 3, "with_barcodes": 1, "restricted": 1}
    order = metrics["accuracy"]["order"]
    assert order[BARCODED]["value"] == 0.5  # all are told to be Hemiptera
    # of each order four trained; always Diptera is as good
    assert (order["most_common"], order[COMMON]["value"], order[GAIN]["value"]) == ("Diptera", 0.5, 0)
    rows = read_table(study / "predictions.parquet", TAXA_PREDICTIONS).to_pylist()
    of_test = [row for row in rows if row["split"] == "test"]
    assert {(row["family"], row["order"], row["restricted"]) for row in of_test} == {(None, "Hemiptera", True)}
    assert [row["order_probability"] for row in of_test] == pytest.approx([1.0] * 8)
    with (study / "abundance.csv").open() as file:
        counted = [row for row in csv.DictReader(file) if row["sample"] == "sample of trays-3"]
    assert [tuple(row[name] for name in ("rank", "taxon", "detections", "annotated")) for row in counted] == [
        ("", "", "8", "8"),
        ("class", "Insecta", "8", "8"),
        ("order", "Diptera", "0", "4"),
        ("order", "Hemiptera", "8", "4"),
    ]
    with (study / "abundance.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if not row["rank"]]
    # no sum of the one sample of test
    assert [(row["sample"], row["detections"], row["trained_on"], row["validated_on"]) for row in rows] == [
        ("sample of trays-1", "8", "1", "0"),
        ("sample of trays-2", "8", "0", "1"),
        ("sample of trays-3", "8", "0", "0"),
        ("all samples", "24", "1", "1"),
    ]
    # on validation all 8 were found and all 8 crops are right: a few more or fewer are possible
    assert float(counted[0]["low"]) <= 8 <= float(counted[0]["high"])
    assert (study / "groups.csv").read_text() == "by,group,crops\n"


def test_animals_of_no_class_are_wrong_and_photographs_without_detections_counted(tmp_path: Path) -> None:
    """To the study: two Araneae on the tray of test, of which none trained, and two trays in vain."""
    animals = write_trays(tmp_path, ["order:Araneae"] * 2, ("trays-4", "trays-5"))
    crops = read_table(tmp_path / "crops/a.parquet", CROPS).to_pylist()
    of_test = next(row for row in crops if row["photo_key"] == "trays-3")
    for row in crops:
        if row["photo_key"] == "trays-4":
            row["observation_id"] = of_test["observation_id"]
    write_table(tmp_path / "crops/a.parquet", crops, CROPS)
    assert animals["trays-3-8"]["reason"] == "taxon under 1 crops"
    train(tmp_path)
    metrics = judge(tmp_path)
    assert (metrics["rows"]["out"], metrics["crops"], metrics["of_no_class"]) == (10, 10, 2)
    assert metrics["accuracy"]["class"]["crops"] == 10
    assert metrics["accuracy"]["class"][ALL]["value"] == 0.8  # all are told to be Insecta, as they must
    assert metrics["samples"]["samples"] == 4
    with (tmp_path / "abundance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["photographs"] for row in rows if row["sample"] == "sample of trays-3"} == {"2"}
    assert [list(row.values()) for row in rows if row["sample"] == "sample of trays-5"] == [
        ["sample of trays-5", "1", "0", "0", "False", "", "", "0", "0", "0", "0", ""]
    ]


def test_specimens_train_and_are_neither_judged_nor_counted(tmp_path: Path) -> None:
    write_specimens(tmp_path, f"{HEADING}P1\t\tInsecta\tDiptera\tPhoridae\tCC BY-NC\tSomeone\n", "P1.jpg")
    write_study(tmp_path)
    train(tmp_path)
    description = load_description(tmp_path / "classifier")
    assert description.train_crops[description.labels.names.index("Phoridae")] == 1
    assert description.licences == {"cc-by": 8, "cc-by-nc": 1}
    assert judge(tmp_path)["rows"]["in"] == 24
    assert len(read_table(tmp_path / "predictions.parquet", TAXA_PREDICTIONS)) == 24


def test_it_is_neither_exported_nor_asked(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(compose("trays_drawn", ["labels=[taxon]", "study=demo"]))
    (tmp_path / "data/demo/detector").mkdir(parents=True)
    (tmp_path / "data/demo/classifier").symlink_to(study / "classifier")
    Image.new("RGB", (40, 30)).save(tmp_path / "one.jpg")
    monkeypatch.chdir(tmp_path)
    told = r"data/demo/classifier: tells taxa \(family to class\), which need .*; identify and export take "
    with pytest.raises(InputError, match=told):
        identify(["one.jpg"])
    assert "not calibrated" not in capsys.readouterr().err
    with pytest.raises(InputError, match=told):
        export(["--out", "handed", "--no-onnx"])
    assert not Path("handed").exists()


def test_another_dataset_is_refused(study: Path, tmp_path: Path) -> None:
    write_study(tmp_path)
    run(tmp_path, low_share=0.5)
    (tmp_path / "classifier").symlink_to(study / "classifier")
    with pytest.raises(InputError, match="run classifier again"):
        judge(tmp_path)
