"""Tests of instar.export."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from crop_shards import drawn_crop
from evaluation_study import described, write_classifier
from handed_over import answers, evaluate, write_study
from omegaconf import OmegaConf
from photo_shards import write_annotations
from project import TINY, Project

from instar.boxes import box_with_margin
from instar.classifier.labels import LabelSpace
from instar.classifier.losses import NodeProbabilities
from instar.classifier.model import build_network, load, load_description
from instar.classifier.model import save as save_classifier
from instar.classifier.predict import Predictor
from instar.classifier.views import channels_first
from instar.detectors import DESCRIPTION
from instar.errors import InputError
from instar.export.attribution import write_attribution
from instar.export.card import Outputs, accuracies, backbone_licence, detector_rows, narrow, outputs, share
from instar.export.command import export
from instar.export.folder import check_out
from instar.export.onnx_file import Whole, batches, exported_program, write_onnx
from instar.files import write_json
from instar.identify.command import identify
from instar.identify.models import read_settings
from instar.identify.search import crop_view
from instar.photographs import jpeg, shrunk
from instar.splits import CHOSE_EPOCH
from instar.tables import CROPS, DATASET, PHOTOGRAPHS, read_table, write_table


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose detector learnt from two photographs that the classifier is judged on, and one of its training."""
    root = write_study(tmp_path_factory.mktemp("study"), place="late", epochs=2)
    data = root / "data/demo"
    for shard in ("a", "b"):  # a detector that finds the whole photograph stands for one that was trained
        rows = read_table(data / f"crops/{shard}.parquet", CROPS).to_pylist()
        write_table(data / f"crops/{shard}.parquet", [{**row, "detector": "ab"} for row in rows], CROPS)
    write_json(data / "detector" / DESCRIPTION, {"family": "whole_image", "sha256": "ab", "licence": "none"})
    splits = {"folder-0000": "train", "folder-0024": "train", "folder-0026": "validation", "x": "test"}
    write_annotations(data / "annotations.json", {key: (split, []) for key, split in splits.items()}, (10, 10))
    evaluate(root)
    return root


@pytest.fixture
def root(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study, to be spoilt."""
    shutil.copytree(study, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def exported(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        export(["--out", str(out), "--no-onnx"])
    return out


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def attribution(out: Path) -> dict[str, dict[str, str]]:
    with out.open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def test_the_folder_holds_these_files_and_no_other(exported: Path) -> None:
    names = {"README.md", "attribution.csv", "classifier.json", "identify.json", "labels.csv", "weights.safetensors"}
    assert tree(exported) == names | {"detector/detector.json"}
    assert [path.name for path in exported.parent.iterdir()] == ["model"]


def test_labels_are_in_the_order_of_the_probabilities(exported: Path) -> None:
    lines = (exported / "labels.csv").read_text().splitlines()
    assert lines[0] == "index,name,rank,parent,train_crops"
    assert lines[1] == "0,Rubra erecta,species,Rubra,24"
    assert lines[5:] == ["4,Rubra,genus,,8", "5,Viridis,genus,,0"]
    assert [line.split(",")[1] for line in lines[1:]] == list(load_description(exported).labels.names)


def test_attribution_names_each_training_photograph(exported: Path, study: Path) -> None:
    rows = attribution(exported / "attribution.csv")
    assert len(rows) == 106
    assert rows["folder-0002"] == {
        "key": "folder-0002",
        "source": "folder",
        "photo_id": "0002",
        "creator": "",
        "rights_holder": "",
        "licence": "cc-by",
        "reference": "",
        "used_for": "classifier",
    }
    assert str(study) not in (exported / "attribution.csv").read_text()


def test_the_card_tells_what_was_measured(exported: Path, study: Path) -> None:
    card = (exported / "README.md").read_text()
    figures = json.loads((study / "data/demo/metrics/evaluation.json").read_text())
    top1 = figures["resolutions"]["32"]["true"]["species_accuracy"]["top1_micro"]
    without = figures["crops_without_place"]
    place = f"the true place, where known ({24 - without} of 24 crops)"
    assert f"| 32 | {place} | 24 | species | each crop counts once | {share(top1)} |  |" in card
    far = figures["resolutions"]["32"]["wrong"]["crops"]
    assert f"| 32 | a wrong place, 1,000 km away or more | {far} | species | each crop" in card
    assert without > 0 and far == 24 - without
    assert "No top 5 is given for a rank of at most five classes (species, genus)" in card
    assert f"temperature {figures['calibration']['temperature']:.3f}" in card
    assert "| Rubra erecta | species | Rubra | 24 | 6 |" in card
    assert "| cc-by | 54 |" in card  # 52 of the classifier's training and two of the detector's
    assert "Training started from random weights" in card
    # of the 24 held-out photographs one trained the detector and one chose its weights: they are attributed, not judged
    assert figures["photographs"]["rows"]["out"] == 22
    assert "22 were judged" in card
    assert (
        "Left out of these photographs: 1 annotated to choose a detector's weights, 1 annotated to train a detector."
        in card
    )
    for word in ("nan %", "None", "{{", "{%", "Undefined", "classifier.onnx", str(study)):
        assert word not in card, word
    for title in ("Intended use", "Training data", "Licences", "How good it is", "Limits", "Classes"):
        assert f"## {title}\n" in card


@pytest.mark.parametrize(
    ("rolled", "told"),
    [
        ({"threshold": None, "at": None}, "At no threshold were 95.0 % of the answers right."),
        (
            {"threshold": 0.6, "at": None},
            "no held-out crop has an answer, so how often answers for other\nobservations",
        ),
        (
            {"threshold": 0.6, "at": {"coverage": 0.5, "accuracy": 0.75}},
            "50.0 % of the held-out crops get an\nanswer and",
        ),
    ],
)
def test_the_card_tells_a_threshold_from_what_confirms_it(root: Path, rolled: dict[str, Any], told: str) -> None:
    path = root / "data/demo/metrics/evaluation.json"
    figures = json.loads(path.read_text())
    figures["calibration"]["roll_up"] = {"wanted_accuracy": 0.95, **rolled}
    write_json(path, figures)
    export(["--out", "model", "--no-onnx"])
    card = (root / "model/README.md").read_text()
    assert told in card
    itself = "takes the wanted\naccuracy itself, 0.95, as its threshold"
    assert (itself in card) == (rolled["threshold"] is None)
    assert ("reaches 0.60, the lowest threshold at which 95.0 % of" in card) == (rolled["threshold"] is not None)
    assert json.loads((root / "model/identify.json").read_text())["threshold"] == (rolled["threshold"] or 0.95)


def test_the_weights_tell_whether_validation_chose_them(root: Path) -> None:
    """Whatever params.yaml says by now; the photographs of validation are attributed, too."""
    export(["--out", "model", "--no-onnx"])
    assert CHOSE_EPOCH not in (root / "model/README.md").read_text()
    assert len(attribution(root / "model/attribution.csv")) == 106
    folder, path = root / "data/demo/classifier", root / "data/demo/metrics/evaluation.json"
    network, description = load(folder)
    save_classifier(folder, network, replace(description, early_stop=5))
    write_json(path, {**json.loads(path.read_text()), "judged_chose_epoch": True})
    export(["--out", "model", "--no-onnx"])
    assert CHOSE_EPOCH in (root / "model/README.md").read_text()
    assert len(attribution(root / "model/attribution.csv")) == 104 + 24


def test_identify_takes_the_folder(exported: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "a.jpg").write_bytes(drawn_crop(np.random.default_rng(1), "Rubra", "erecta"))
    assert identify(["a.jpg", "--json"]) == 0
    own = capsys.readouterr().out
    (root / "data").rename(root / "gone")
    (root / "params.yaml").unlink()
    assert identify(["a.jpg", "--json", "--model", str(exported)]) == 0
    assert answers(capsys.readouterr().out) == answers(own)


def test_an_earlier_export_is_replaced(root: Path) -> None:
    export(["--out", "model", "--no-onnx"])
    (root / "model" / "old.txt").touch()
    export(["--out", "model", "--no-onnx"])
    assert not (root / "model" / "old.txt").exists()


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    check_out(tmp_path / "new")
    check_out(tmp_path)
    (tmp_path / "letter.txt").touch()
    with pytest.raises(InputError, match="holds something that is no exported model"):
        check_out(tmp_path)
    with pytest.raises(InputError, match="holds something that is no exported model"):
        check_out(tmp_path / "letter.txt")


def test_nothing_is_exported_while_something_is_due(tmp_path: Path) -> None:
    """The settings come from params.yaml, so the data must have been made with it."""
    project = Project(tmp_path / "project", TINY)
    assert "instar export: study demo: something is due; run 'snakemake all' first" in exporting(project)
    targets = project.run(sys.executable, "-c", TARGETS).splitlines()
    for path in (project.root / target for target in targets):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    project.run("snakemake", "--touch", "--forceall", "--cores", "1", "all")
    assert "classifier.json: no such file" in exporting(project)  # empty folders, but as Snakemake wants them
    project.set("margin_percent: 10", "margin_percent: 11")
    assert "instar export: study demo: something is due; run 'snakemake all' first" in exporting(project)
    assert not (project.root / "model").exists()


#: Prints the outputs of every stage.
TARGETS = (
    "from instar import dag; graph = dag.read(); print(*(t for s in graph.stages for t in graph.targets(s)), sep='\\n')"
)


def exporting(project: Project) -> str:
    return project.run("instar", "export", "--out", "model", check=False)


def refused(message: str) -> None:
    with pytest.raises(InputError, match=message):
        export(["--out", "model", "--no-onnx"])
    assert not [path.name for path in Path().iterdir() if "model" in path.name]


def test_a_classifier_of_another_dataset_is_refused(root: Path) -> None:
    folder = root / "data/demo/classifier"
    network, description = load(folder)
    save_classifier(folder, network, replace(description, dataset_md5="0" * 32))
    refused(r"classifier: trained on a dataset with md5 0+, .* run classifier and evaluation again")


def test_another_classifier_than_the_evaluated_one_is_refused(root: Path) -> None:
    folder = root / "data/demo/classifier"
    network, description = load(folder)
    with torch.no_grad():
        network.head.bias[0] += 0.5
    save_classifier(folder, network, description)
    refused(r"predictions.parquet: not the answers of data/demo/classifier; run evaluation again")


def test_crops_of_another_detector_are_refused(root: Path) -> None:
    write_json(root / "data/demo/detector" / DESCRIPTION, {"family": "whole_image", "sha256": "cd"})
    refused(r"a.parquet: crops of the detector ab, but detector.json is of cd; run detections and crops again")


def test_a_photograph_that_nobody_can_be_named_for(root: Path) -> None:
    path = root / "data/demo/crops/b.parquet"
    rows = read_table(path, CROPS).to_pylist()
    write_table(path, rows[1:], CROPS)
    refused(r"crops: photograph folder-0001 of the dataset is in no shard; run crops again")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("metrics/evaluation.json", r"evaluation.json: tells no temperature; run evaluation"),
        ("metrics/dataset.json", r"dataset.json: no such file; run dataset"),
        ("plots/classes.csv", r"classes.csv: no such file; run evaluation"),
        ("predictions.parquet", r"predictions.parquet: no such table; run the stage that writes it"),
        ("classifier/classifier.json", r"classifier.json: no such file; run classifier"),
        ("detector/detector.json", r"detector.json: no such file; run the stage detector"),
        ("dataset.parquet", r"dataset.parquet has none; run classifier and evaluation again"),
    ],
)
def test_what_is_missing_is_named(root: Path, name: str, message: str) -> None:
    (root / "data/demo" / name).unlink()
    refused(message)


def test_photographs_of_the_detector_are_attributed(root: Path) -> None:
    data = root / "data/demo"
    detector = {"family": "yolo", "sha256": "ab"}
    found = write_attribution(data, ["a", "b"], detector, root / "out.csv", adopted=False, early_stop=False)
    rows = attribution(root / "out.csv")
    assert rows["folder-0000"]["used_for"] == "classifier detector"
    # the classifier is judged on their crops, which the detector's learning does not touch; they are not judged whole
    assert rows["folder-0024"]["used_for"] == rows["folder-0026"]["used_for"] == "detector"
    judged = set(read_table(data / "photographs.parquet", PHOTOGRAPHS)["key"].to_pylist())
    assert judged.isdisjoint({"folder-0024", "folder-0026"}) and len(judged) == 22
    assert found.by_use == {"classifier": 103, "classifier detector": 1, "detector": 2}
    assert found.by_licence == {"cc-by": 54, "cc0": 52}
    # early stopping: validation chose the classifier's weights, too
    found = write_attribution(data, ["a", "b"], detector, root / "out.csv", adopted=False, early_stop=True)
    assert attribution(root / "out.csv")["folder-0026"]["used_for"] == "classifier detector"
    assert found.by_use == {"classifier": 125, "classifier detector": 3}
    # a detector that was trained elsewhere learnt from nothing here
    found = write_attribution(data, ["a", "b"], detector, root / "out.csv", adopted=True, early_stop=False)
    assert found.by_use == {"classifier": 104}


def test_a_detector_that_learns_nothing_learnt_from_no_photograph(root: Path) -> None:
    data = root / "data/demo"
    for shard in ("a", "b"):
        rows = read_table(data / f"crops/{shard}.parquet", CROPS).to_pylist()
        write_table(data / f"crops/{shard}.parquet", [{**row, "detector": "whole_image"} for row in rows], CROPS)
    found = write_attribution(
        data, ["a", "b"], {"family": "whole_image"}, root / "out.csv", adopted=False, early_stop=False
    )
    assert found.by_use == {"classifier": 104}


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (0.5, "50.0 %"),
        ({"value": 0.7125, "low": 0.64, "high": 0.7811}, "71.2 % (64.0–78.1 %)"),
        ({"value": 1.0, "low": None, "high": None}, "100.0 %"),
        ({"value": 0.5, "low": 0.5, "high": 0.5}, "50.0 %"),
        ({"value": 1.0, "low": 0.5, "high": 1.0}, "100.0 % (50.0–100.0 %)"),
    ],
)
def test_share(figure: Any, text: str) -> None:
    assert share(figure) == text


def test_accuracies_of_nothing() -> None:
    assert list(accuracies({"resolutions": {}})) == []
    empty = {"species_accuracy": None, "genus_accuracy": None}
    assert list(accuracies({"resolutions": {"32": {"none": empty}}})) == []


def test_detector_rows_by_hand() -> None:
    assert detector_rows({"rows": {}}) == []
    test = {"AP50-95": 0.25, "AP50": None}
    at = {"confidence": 0.3, "test_recall": 0.5, "test_precision": 0.75}
    given = {"test": test, "at_crops_confidence": at, "interval_95": {"AP50-95": [0.2, 0.3]}}
    assert [(name, share(figure)) for name, figure in detector_rows(given)] == [
        ("AP50-95", "25.0 % (20.0–30.0 %)"),
        ("recall at the confidence 0.3", "50.0 %"),
        ("precision at the confidence 0.3", "75.0 %"),
    ]


def test_what_licences_forbid() -> None:
    assert narrow({"cc0": 5, "cc-by": 2}) == []
    assert narrow({"cc-by-nc": 2, "cc-by-nc-sa": 3, "unknown": 1}) == [
        "commercial use (5 photographs)",
        "another licence for derived works (3 photographs)",
        "any use that the author has not allowed (1 photographs)",
    ]


def test_licences_of_weights() -> None:
    assert "DINOv3 License" in backbone_licence("vit_base_patch16_dinov3.lvd1689m", pretrained=True)
    assert "random weights" in backbone_licence("vit_base_patch16_dinov3.lvd1689m", pretrained=False)
    assert "not known here" in backbone_licence("vit_tiny_patch16_224", pretrained=True)


@pytest.mark.parametrize("place", ["none", "late", "fused"])
@pytest.mark.parametrize("loss", ["reward", "marginal", "flat"])
def test_the_graph_takes_any_number_of_crops(study: Path, tmp_path: Path, place: str, loss: str) -> None:
    """The graph that becomes ONNX, against the predictor of the same folder; needs no package of ONNX."""
    torch.manual_seed(1)
    description = described(study / "data/demo", place=place, loss=loss)
    network = build_network(description)
    if place != "none":
        torch.nn.init.normal_(network.effect.weight)
    save_classifier(tmp_path, network.eval(), description)
    program = exported_program(Whole(network, description, temperature=1.5).eval(), 32).module()
    predictor = Predictor(tmp_path)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    places = torch.tensor([[45.0, -100.0], [torch.nan, torch.nan], [-30.0, 20.0], [0.0, 180.0], [90.0, 0.0]])
    for some, where in batches(pixels, places):
        with torch.no_grad():
            probabilities, logits = program(some, where)
        np.testing.assert_allclose(logits, predictor.logits(some, where), atol=1e-5)
        wanted = predictor.probabilities(some, where, temperature=1.5)
        np.testing.assert_allclose(probabilities, wanted, atol=1e-5)


def test_batches_are_of_one_three_and_all() -> None:
    pixels, places = torch.zeros(2, 3, 4, 4), torch.tensor([[torch.nan, torch.nan], [1.0, 2.0]])
    given = batches(pixels, places)
    assert [len(some) for some, _ in given] == [1, 1, 1, 3, 3, 3, 2, 2, 2]
    assert given[-1][1].isnan().all()
    assert not given[-2][1].isnan().any()
    assert given[-3][1][1].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("place", ["none", "late", "fused"])
def test_onnx_says_what_torch_says(study: Path, tmp_path: Path, place: str) -> None:
    folder = write_classifier(study / "data/demo", f"onnx-{place}", fixed=False, place=place)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8))
    places = torch.tensor([[45.0, -100.0], [torch.nan, torch.nan], [-30.0, 20.0], [0.0, 180.0]])
    assert write_onnx(folder, tmp_path / "one.onnx", pixels, places, temperature=1.5) < 1e-4
    written = onnx.load(tmp_path / "one.onnx")
    for tensor in (*written.graph.input, *written.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "n", tensor.name
    told = {prop.key: prop.value for prop in written.metadata_props}
    names = load_description(folder).labels.names
    md5 = load_description(folder).dataset_md5
    assert (told["instar"], told["dataset_md5"], told["temperature"]) == ("0", md5, "1.5")
    assert json.loads(told["labels"]) == json.loads(told["logits"]) == list(names)


def test_onnx_that_differs_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.export.onnx_file.TOLERANCE", 0.0)
    with pytest.raises(InputError, match=r"ONNX differs from torch by .*; use --no-onnx and report it"):
        export(["--out", "model"])
    assert not (root / "model").exists()


def test_the_folder_holds_onnx(root: Path) -> None:
    export(["--out", "model"])
    assert (root / "model" / "classifier.onnx").stat().st_size > 100_000
    assert "`classifier.onnx` takes `pixels`, uint8 (n, 3, 32, 32)" in (root / "model" / "README.md").read_text()


def set_params(root: Path, *words: str) -> None:
    """Change values in params.yaml."""
    path = root / "params.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(words))), path)


def evaluate_again(root: Path) -> None:
    shutil.rmtree(root / "data/demo/plots")
    shutil.rmtree(root / "data/demo/judged")
    evaluate(root)


def test_the_code_on_the_card_does_what_identify_does(root: Path) -> None:
    """A crop as the stage stores it, wide and large, and a small one: the card's own lines, against identify's view."""
    export(["--out", "model"])
    card = (root / "model/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    settings = read_settings(root / "model/identify.json")
    predictor = Predictor(root / "model")
    noise = cv2.resize(np.random.default_rng(5).integers(0, 256, (40, 70, 3), dtype=np.uint8), (900, 401))
    for box in ((100.0, 50.0, 800.0, 350.0), (10.5, 20.0, 31.0, 80.25), (300.0, 100.0, 304.0, 390.0)):
        margin = settings.cut.margin_percent
        left, top, right, bottom = box_with_margin(box, margin_percent=margin, width=900, height=401)
        stored = jpeg(shrunk(noise[top:bottom, left:right], settings.cut.max_px), settings.cut.jpeg_quality)
        (root / "model/crop.jpg").write_bytes(stored)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root / "model")
            done: dict[str, Any] = {}
            exec(code, done)
        view = crop_view(noise, np.array(box, np.float32), settings.cut, 32)
        np.testing.assert_array_equal(done["square"], view)
        pixels = torch.from_numpy(channels_first(view)[None])
        wanted = predictor.probabilities(pixels, torch.full((1, 2), torch.nan), temperature=settings.temperature)
        np.testing.assert_allclose(done["probabilities"], wanted, atol=1e-3)
        np.testing.assert_allclose(done["logits"], predictor.logits(pixels, torch.full((1, 2), torch.nan)), atol=1e-3)


def test_the_card_tells_how_a_crop_is_made(root: Path) -> None:
    set_params(root, "crops.margin_percent=12.5", "crops.max_px=77", "crops.jpeg_quality=83")
    write_json(root / "data/demo/detector" / DESCRIPTION, {"family": "yolo", "sha256": "ab", "licence": "none"})
    export(["--out", "model", "--no-onnx"])
    card = " ".join((root / "model/README.md").read_text().split())
    assert "is grown on each side by 12.5 % of its own width or height, out to whole pixels" in card
    assert "If its longer side exceeds 77 pixels it is shrunk to 77 by averaging areas" in card
    assert "JPEG of quality 83" in card
    assert "its longer side is 32 pixels" in card
    assert "in the middle of a square of 32×32 pixels, which is filled with RGB (124, 116, 104)" in card
    assert "classifier.onnx" not in card


@pytest.mark.parametrize("loss", ["reward", "marginal", "flat"])
def test_what_the_outputs_are(study: Path, loss: str) -> None:
    """What the card says of sums and of the logits' order, against probabilities of random logits."""
    description = described(study / "data/demo", loss=loss)
    told, labels = outputs(description), description.labels
    nodes = NodeProbabilities(labels, loss)(torch.randn(3, len(told.logits), generator=torch.manual_seed(0)))
    sums = {rank: nodes[:, torch.from_numpy(labels.of_rank(rank))].sum(1) for rank in ("species", "genus")}
    assert told.genera_sum and torch.allclose(sums["genus"], torch.ones(3))
    assert told.species_sum == torch.allclose(sums["species"], torch.ones(3)) == (loss == "marginal")
    assert told.logits == list(labels.names[:4] if loss == "marginal" else labels.names)
    assert told.every == (loss != "marginal")


def test_species_and_genera_that_do_not_sum_to_one(study: Path) -> None:
    """A species without a genus, a genus without a species."""
    labels = LabelSpace(("Aa x", "b", "Aa", "Cc"), ("species", "species", "genus", "genus"), (2, -1, -1, -1))
    about = replace(described(study / "data/demo", loss="marginal"), labels=labels)
    assert outputs(about) == Outputs(["Aa x", "b", "Cc"], False, False, False)


def test_a_study_without_places(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A classifier that could have gone by places, but saw none: no place changes what it says."""
    folder = root / "data/demo/classifier"
    network, description = load(folder)
    torch.nn.init.normal_(network.effect.weight)
    save_classifier(folder, network, replace(description, train_crops_with_place=0, train_box=None))
    evaluate_again(root)
    figures = json.loads((root / "data/demo/metrics/evaluation.json").read_text())
    assert list(figures["resolutions"]["32"]) == ["none"]
    export(["--out", "model"])  # ONNX, too, takes no notice
    card = (root / "model/README.md").read_text()
    assert "the true place" not in card and "trained with places" not in card
    assert "It takes no place into account" in card and "they change nothing here" in card
    assert "No training crop has a known place" in card
    (root / "a.jpg").write_bytes(drawn_crop(np.random.default_rng(1), "Rubra", "erecta"))
    capsys.readouterr()
    told = []
    for words in ([], ["--lat", "40", "--lon", "-80"]):
        assert identify(["a.jpg", "--json", "--model", "model", *words]) == 0
        printed = capsys.readouterr()
        told.append(answers(printed.out)["a.jpg"]["animals"])
        ignored = "--lat and --lon are ignored: the classifier was trained without places"
        assert printed.err.count(ignored) == bool(words)
    assert told[0] == told[1]


def test_the_card_tells_where_the_data_come_from(exported: Path, study: Path) -> None:
    card = " ".join((exported / "README.md").read_text().split())
    about = load_description(exported)
    assert about.train_box is not None
    south, west, north, east = about.train_box
    assert f"{about.train_crops_with_place} of the 104 training crops have a known place." in card
    assert f"in latitude {south:.1f} to {north:.1f}, longitude {west:.1f} to {east:.1f}." in card
    groups = pd.read_csv(study / "data/demo/plots/groups.csv").query("by == 'region'")
    assert len(groups) > 1
    for name, crops, top1 in zip(groups["group"], groups["crops"], groups["species_top1"], strict=True):
        assert f"| {name} | {crops} | {100 * top1:.1f} %" in card
    assert "The world of this study is drawn" in card and "nothing on it exists" in card


def test_the_card_without_a_drawn_world_and_with_many_regions(root: Path) -> None:
    set_params(root, "records.kind=tables", "records.source=elsewhere")
    crops = root / "data/demo/crops/a.parquet"
    rows = read_table(crops, CROPS).to_pylist()
    write_table(crops, [{**row, "licence": "cc-by-nc"} for row in rows], CROPS)
    path = root / "data/demo/plots/groups.csv"
    groups = pd.read_csv(path)
    some = groups[groups["by"] == "region"].iloc[:1]
    many = [some.assign(group=f"region {number:02}", crops=100 - number) for number in range(22)]
    pd.concat([groups[groups["by"] != "region"], *many]).to_csv(path, index=False)
    export(["--out", "model", "--no-onnx"])
    card = (root / "model/README.md").read_text()
    assert "drawn" not in card
    told = " ".join(card.split())
    assert "Licences of some photographs do not allow commercial use (54 photographs)." in told
    assert "| region 19 | 81 |" in card and "region 20" not in card
    assert "2 regions with fewer crops are left out." in card


def test_the_card_of_a_study_without_a_detector(exported: Path) -> None:
    card = " ".join((exported / "README.md").read_text().split())
    assert "A classifier that names animals: 4 species in 2 genera. Nothing looks for animals" in card
    assert "says that there is no detector" in card
    assert "Whole photographs: 22 were judged. The species" in card
    for word in ("The detector", "the detector found", "Both were trained", "Detector:"):
        assert word not in card, word


@pytest.mark.parametrize(("epochs", "told"), [(36, "Both were trained by instar"), (0, "the detector was not trained")])
def test_the_card_tells_whether_the_detector_was_trained(root: Path, epochs: int, told: str) -> None:
    set_params(root, f"detector.epochs={epochs}")
    write_json(root / "data/demo/detector" / DESCRIPTION, {"family": "yolo", "sha256": "ab", "licence": "none"})
    path = root / "data/demo/metrics/detection_metrics.json"
    at = {"confidence": 0.3, "test_recall": 0.5, "test_precision": 0.75}
    write_json(path, {**json.loads(path.read_text()), "test": {"AP50": 0.5}, "at_crops_confidence": at})
    export(["--out", "model", "--no-onnx"])
    card = " ".join((root / "model/README.md").read_text().split())
    assert told in card and "the detector (yolo)" in card
    assert "A detector that finds animals on photographs and a classifier" in card
    assert ("what it learnt from elsewhere is not in" in card) == (epochs == 0)
    assert "on 0 of them the detector found nothing" in card


@pytest.mark.parametrize(("after", "worse"), [(0.1, False), (0.2, False), (0.3, True)])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_card_tells_whether_calibration_helped(root: Path, after: float, worse: bool, split: str) -> None:
    path = root / "data/demo/metrics/evaluation.json"
    figures = json.loads(path.read_text())
    figures["calibration"]["expected_calibration_error"] = {"before": 0.2, "after": after}
    write_json(path, {**figures, "split": split})
    export(["--out", "model", "--no-onnx"])
    card = " ".join((root / "model/README.md").read_text().split())
    assert "The logits are divided by the temperature" in card
    assert f"is 20.0 % before and {100 * after:.1f} % after, measured on" in card
    assert ("each half of the validation observations at the temperature of the other" in card) == (split != "test")
    assert ("Calibration made it worse here" in card) == worse


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_crops_with_place": -1},
        {"train_crops_with_place": 10**6},
        {"train_crops_with_place": True},
        {"train_crops_with_place": 0},
        {"train_box": None},
        {"train_box": [1.0, 2.0, 3.0]},
        {"train_box": [5.0, 2.0, 3.0, 4.0]},
    ],
)
def test_a_description_whose_places_do_not_fit_is_refused(exported: Path, tmp_path: Path, wrong: Any) -> None:
    about = json.loads((exported / "classifier.json").read_text())
    write_json(tmp_path / "classifier.json", about)
    assert load_description(tmp_path).train_crops_with_place > 0
    write_json(tmp_path / "classifier.json", {**about, **wrong})
    with pytest.raises(InputError, match=r"no description of a classifier .*; run classifier again"):
        load_description(tmp_path)


def test_training_counts_its_places(exported: Path, study: Path) -> None:
    rows = read_table(study / "data/demo/dataset.parquet", DATASET).to_pandas()
    train = rows[rows["split"] == "train"].dropna(subset=["latitude", "longitude"])
    about = load_description(exported)
    assert 0 < about.train_crops_with_place == len(train) < 104
    south, west, north, east = (train["latitude"].min(), -100.0, train["latitude"].max(), 20.0)
    assert about.train_box == pytest.approx((south, west, north, east), abs=1e-4)
