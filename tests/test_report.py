import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from report_inputs import CLASSES, HOSTILE, write_inputs

from instar.detectors import UNTRAINED, family
from instar.errors import InputError
from instar.files import write_json
from instar.params import load
from instar.report import flow, pictures
from instar.report.classifier import curves
from instar.report.figures import class_sizes, confusion, label_places, training_curve
from instar.report.flow import steps
from instar.report.maps import maps
from instar.report.measures import Measure
from instar.report.names import taxa_by_id
from instar.report.pictures import licence_name, may_be_shown, sample, showable
from instar.report.provenance import licence_counts, weights_licences
from instar.report.stage import report
from instar.splits import CHOSE_EPOCH

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of <style>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def values(self, name: str) -> Iterator[tuple[str, str]]:
        """Tag and value of every attribute of a name."""
        return ((tag, value) for tag, attributes in self.tags if (value := attributes.get(name)) is not None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    given = write_inputs(tmp_path_factory.mktemp("whole"))
    report(**given)
    return str(given["out"].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    given = write_inputs(tmp_path_factory.mktemp("unlabelled"), labels=False)
    report(**given)
    return str(given["out"].read_text(encoding="utf-8"))


def written(given: dict[str, Any]) -> Page:
    report(**given)
    return Page(given["out"].read_text(encoding="utf-8"))


def test_page_opens_with_the_results(whole: str) -> None:
    text = Page(whole).text
    # 2 species are measured, 1 is not
    assert "14 photographs gave 15 crops, 15 of them used for 3 species; " in text
    # as measured at a confidence of 0.3, where the thinned curve stands at a recall of 0.5
    assert "the detector finds 56 % (48–63 %) of the annotated animals; " in text
    assert "56.0 % of the animals found with a score of at least 0.3" in text
    assert re.search(r"precision at 0.3 77.0 % 70.0 to 84.0 %", text)
    assert "the classifier names the right species for 71 % (64–78 %) of the held-out crops." in text


def test_what_the_classifier_does_where(whole: str) -> None:
    text = Page(whole).text
    assert "96 px true 10 71 % (64–78 %)" in text
    assert "96 px none given 10 61 % (54–68 %)" in text
    assert "source field 7 50 % 100 % region" in text
    assert f"region {HOSTILE} 3 25 % " in text  # no species among them
    assert "crops species, top 1 genus, top 1 96 px" in text
    assert "No top 5 is given for a rank of at most five classes (species, genus)" in text and "top 5," not in text
    assert "a temperature of 1.25" in text
    assert "misses its accuracy by 4.5 % on average; before it was 12.3 %." in text
    lowest = "The lowest threshold at which 95 % of the answers for the validation crops are right is 0.6. "
    assert f"{lowest}With each crop's threshold chosen on crops of other observations, 80 % of the crops" in text
    assert "80 % of the crops have an answer, 50 % a species and 30 % a genus, and " in text
    assert "On 7 whole photographs, 1 of them without a crop, which count as wrong; 2 are left out (2 near-dup" in text
    assert "the first guess is the species; every photograph counts once" in text
    assert "33 points to 21, +2.00 a photograph (95 % interval -0.50 to +4.25)" in text
    assert "The other has no answer for 2 of them." in text
    assert {"Reliability; a larger dot is more crops", "Answers at the lowest sure rank"} <= set(Page(whole).words)


def test_without_another_identifier_none_is_mentioned(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    path = given["metrics"] / "evaluation.json"
    metrics = json.loads(path.read_text())
    metrics["identifiers"] = None
    metrics["calibration"]["roll_up"] |= {"threshold": None, "at": None}
    write_json(path, metrics)
    text = written(given).text
    assert "Against another identifier" not in text
    assert "At no threshold are answers at the lowest sure rank right for 95 % of the crops." in text
    assert "Then instar identify takes 0.95 itself as its threshold." in text


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("after", "worse"), [(0.123, False), (0.2, True)])
def test_calibration_that_made_it_worse(tmp_path: Path, split: str, after: float, worse: bool) -> None:
    given = write_inputs(tmp_path)
    path = given["metrics"] / "evaluation.json"
    metrics = json.loads(path.read_text())
    metrics["calibration"]["expected_calibration_error"]["after"] = after
    write_json(path, {**metrics, "split": split, "crops_without_place": 3})
    text = written(given).text
    assert ("calibration made it worse here" in text) == worse
    assert ("each half of the observations at the temperature of the other" in text) == (split == "validation")
    assert "96 px true, where known (7 of 10 crops) 10" in text


def test_a_rank_of_six_classes_has_a_top_5(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    path = given["plots"] / "classes.csv"
    with path.open("a") as file:
        file.writelines(f"Velomyrma s{number},Velomyrma,2,0,,\n" for number in range(3))
    text = written(given).text
    assert "crops species, top 1 species, top 5 genus, top 1 96 px" in text
    assert "at most five classes (genus)" in text
    assert "the species is among the first five guesses" in text


def test_a_detector_that_was_taken_as_it_was(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    write_json(given["metrics"] / "detector.json", {"family": "yolo", "parameters": 0})
    text = written(given).text
    assert "Nothing was trained: the detector (yolo) was taken as it was." in text
    assert "every photograph is one box" not in text


def test_a_threshold_that_no_other_observation_confirms(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    path = given["metrics"] / "evaluation.json"
    metrics = json.loads(path.read_text())
    metrics["calibration"]["roll_up"]["at"] = None
    write_json(path, metrics)
    text = written(given).text
    assert "crops are right is 0.6. At thresholds that crops of other observations chose no crop has an answer" in text
    assert "At no threshold" not in text


def test_figures_of_the_crops_that_chose_the_weights_are_told_to_be_too_good(whole: str, tmp_path: Path) -> None:
    assert CHOSE_EPOCH not in Page(whole).text
    given = write_inputs(tmp_path)
    path = given["metrics"] / "evaluation.json"
    metrics = json.loads(path.read_text())
    write_json(path, {**metrics, "judged_chose_epoch": True})
    assert f"Intervals are from resampling observations. {CHOSE_EPOCH}" in written(given).text


def test_no_whole_photograph_is_judged(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    path = given["metrics"] / "evaluation.json"
    metrics = json.loads(path.read_text())
    left = {"in": 9, "out": 0, "dropped": {"annotated to train a detector": 7, "near-duplicate": 2}}
    metrics["photographs"] |= {"rows": left, "missed": 0, "species_accuracy": None, "genus_accuracy": None}
    write_json(path, metrics)
    assert "No whole photograph can be judged: 7 annotated to train a detector, 2 near-duplicate" in written(given).text


def test_equal_inputs_give_equal_bytes(whole: str, tmp_path: Path) -> None:
    given = write_inputs(tmp_path / "elsewhere")
    report(**given)
    assert given["out"].read_text(encoding="utf-8") == whole


def test_page_asks_for_nothing_else(whole: str) -> None:
    page = Page(whole)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "base", "form"})
    assert all(value.startswith("data:image/jpeg;base64,") for _, value in page.values("src"))
    for name in ("href", "xlink:href"):
        for tag, value in page.values(name):
            assert value.startswith(("#", "https://") if tag == "a" else ("#", "data:")), (tag, value)
    assert not re.search(r"@import|url\((?!#)", whole)


def test_hostile_texts_are_only_texts(whole: str) -> None:
    assert HOSTILE not in whole
    assert HOSTILE in Page(whole).text  # once decoded
    assert "javascript:" not in whole


def test_ids_are_unique_and_links_lead_somewhere(whole: str) -> None:
    page = Page(whole)
    ids = Counter(value for _, value in page.values("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    targets = [value[1:] for name in ("href", "xlink:href") for _, value in page.values(name) if value.startswith("#")]
    targets += re.findall(r"url\(#([^)]+)\)", whole)
    assert len(targets) > 7
    assert set(targets) <= set(ids)


def test_every_picture_and_chart_is_described(whole: str) -> None:
    page = Page(whole)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")


def test_pictures_that_may_not_be_shown_are_not(whole: str) -> None:
    text = Page(whole).text
    assert "Holder 6" in text
    for number in (2, 5, 8, 11):  # no derivatives, and all rights reserved
        assert not re.search(rf"Holder {number}\b", whole)
    assert "are not shown (4 of 12)" in text
    assert "no crop that may be shown" in text  # all crops of Cordomyrma bicolor are of these


def test_photographs_carry_boxes_and_attribution(whole: str) -> None:
    boxes = [attributes for tag, attributes in Page(whole).tags if str(attributes.get("class", "")).startswith("box")]
    # the box x 64–320, y 48–240 of a photograph of 640 × 480 pixels
    assert {attributes["style"] for attributes in boxes} == {"left:10.0%;top:10.0%;width:40.0%;height:40.0%"}
    # sample() takes 4 photographs with boxes: of 0, 4, 6, 10 two boxes above the confidence each, of 1, 9 one
    assert 6 <= len(boxes) <= 8
    assert Page(whole).text.count("no box") == 2
    scores = re.findall(r"<span>(0\.\d\d)</span>", whole)
    assert len(scores) == len(boxes)
    assert set(scores) <= {"0.91", "0.87", "0.42"}  # not 0.15, which is below the confidence


def test_sheet_counts_and_order(whole: str) -> None:
    text = Page(whole).text
    lines = [
        "Cordomyrma bicolor 12 training, 5 held out",
        "Velomyrma pallipes 4 training",
        "Velomyrma rubicola 40 training",
    ]
    places = [text.index(line) for line in [*lines, "Velomyrma sp. 2 training"]]
    assert places == sorted(places)
    crops = [value for tag, value in Page(whole).values("alt") if value.startswith("crop of")]
    assert Counter(crops) == {"crop of Velomyrma rubicola": 3, "crop of Velomyrma pallipes": 3, "crop of Velomyrma": 2}


def test_study_without_labels_has_no_classifier(unlabelled: str) -> None:
    page = Page(unlabelled)
    assert "This study ends after the crops" in page.text
    anchors = {value for tag, value in page.values("id") if tag == "section"}
    assert anchors == {"flow", "photographs", "crops", "detector", "map", "making"}
    shown = [value for tag, value in page.values("alt") if value.startswith("crop of")]
    # two of photograph 2, one of 5 and two of 8 may not be shown
    assert len(shown) == 10 and "A random sample: 10 of 15 crops." in page.text
    assert "label_smoothing" not in page.text


def test_a_licence_without_a_rights_holder_stands_alone(unlabelled: str) -> None:
    text = Page(unlabelled).text
    assert text.count("rights holder not named") == 1  # in the list of credits
    assert "rights holder not named: CC0" in text and "Holder 4: CC BY (2)" in text
    assert "Without a named rights holder: 1 of 12 photographs; beside these stands the licence alone." in text
    titles = [value for tag, value in Page(unlabelled).values("title") if tag == "img"]
    assert "CC0" in titles and "Holder 4, CC BY" in titles


def test_nothing_to_show(tmp_path: Path) -> None:
    given = write_inputs(tmp_path, labels=False)
    page = written({**given, "photographs": 0, "crops_per_class": 0, "confidence": 0.95})
    assert {value for tag, value in page.values("id") if tag == "section"} == {"flow", "detector", "map", "making"}
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_detector_that_needs_no_training(tmp_path: Path) -> None:
    given = write_inputs(tmp_path, labels=False)
    write_json(given["metrics"] / "detector.json", {"family": "whole_image", "parameters": 0})
    (given["plots"] / "detector.csv").write_text("epoch,mAP50,mAP50-95,recall,precision\n")
    (given["plots"] / "detection_pr.csv").write_text("recall,precision,confidence\n")
    path = given["metrics"] / "detection_metrics.json"
    figures = json.loads(path.read_text())
    figures["at_crops_confidence"] |= {"test_precision": None, "test_recall": 0.0}
    figures["interval_95"] |= {"precision_at_crops_confidence": None, "recall_at_crops_confidence": [0.0, 0.0]}
    write_json(path, figures)
    page = written(given)
    assert "Nothing was trained" in page.text
    # of boxes that are the photographs there is nothing to draw
    assert not [value for _, value in page.values("class") if value.startswith("box")]
    assert "no box" not in page.text and "Boxes have" not in page.text
    assert "the detector finds 0 % of the annotated animals" in page.text


def test_study_without_annotations(tmp_path: Path) -> None:
    given = write_inputs(tmp_path, labels=False)
    write_json(given["metrics"] / "detector.json", {"family": "whole_image", "parameters": 0})
    (given["plots"] / "detector.csv").write_text("epoch,mAP50,mAP50-95,recall,precision\n")
    (given["plots"] / "detection_pr.csv").write_text("recall,precision,confidence\n")
    rows = {"in": 0, "out": 0, "dropped": {}}
    write_json(given["metrics"] / "detection_metrics.json", {"rows": rows, "annotations": 0})
    page = written(given)
    assert "No photograph is annotated, so nothing is known of the detector." in page.text
    assert "annotated animals" not in page.text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("metrics/crops.json", "run the stage crops"),
        ("metrics/evaluation.json", "run the stage evaluation"),
        ("plots/classes.csv", "no such file"),
        ("images/b.tar", "no such shard"),
        ("taxonomy.parquet", "no such table"),
    ],
)
def test_missing_inputs_are_named(tmp_path: Path, missing: str, said: str) -> None:
    given = write_inputs(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path / missing))}.*{said}"):
        report(**given)
    assert not given["out"].exists()


def test_damaged_inputs_are_named(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    (given["plots"] / "classes.csv").write_text("label,genus\n")
    with pytest.raises(InputError, match=r"classes\.csv: column train_crops is missing"):
        report(**given)
    (given["plots"] / "classes.csv").write_text("label,genus,train_crops,held_out_crops,top1,top5\n")
    with pytest.raises(InputError, match=r"classes\.csv: class Cordomyrma bicolor is missing"):
        report(**given)
    shutil.copy(given["metrics"] / "crops.json", tmp_path / "kept.json")
    (given["metrics"] / "crops.json").write_text("{")
    with pytest.raises(InputError, match=r"crops\.json: not JSON"):
        report(**given)


def tallied(rows_in: int, rows_out: int, **dropped: int) -> dict[str, Any]:
    return {"rows": {"in": rows_in, "out": rows_out, "dropped": dropped}}


def accounts() -> dict[str, Any]:
    """8 photographs, of which 5 are taken and 4 fetched; on 3 of these are 7 boxes, 5 of them good enough."""
    return {
        "records": tallied(8, 5, casual=1, other=2),
        "images": tallied(5, 4, truncated=1),
        "detections": {**tallied(8, 7, empty=1), "photographs": 4, "photographs_out": 3},
        "crops": tallied(8, 5, empty=1, low=2),
    }


def test_every_step_goes_on_where_the_last_one_ended() -> None:
    found = steps(accounts())
    assert [(step.stage, step.rows_in, step.rows_out) for step in found] == [
        ("records", 8, 5),
        ("images", 5, 4),
        ("detections", 4, 3),
        ("crops", 7, 5),
    ]
    assert [step.drops for step in found] == [
        [("other", 2), ("casual", 1)],
        [("truncated", 1)],
        [("empty", 1)],
        [("low", 2)],
    ]
    assert [(step.width, step.kept) for step in found][2:] == [(50.0, 75.0), (87.5, 71.43)]


@pytest.mark.parametrize("stage", sorted(flow.STEPS.keys() - {"dataset"}))
def test_accounts_that_do_not_add_up(stage: str) -> None:
    metrics = accounts()
    metrics[stage]["rows"]["out"] -= 1
    with pytest.raises(InputError, match=rf"metrics/{stage}\.json: .* rows in are not"):
        steps(metrics)


def test_boxes_that_crops_did_not_see() -> None:
    metrics = accounts()
    metrics["crops"] = tallied(7, 5, empty=1, low=1)
    with pytest.raises(InputError, match=r"metrics/crops\.json: 7 in are not 5 out and 1 dropped"):
        steps(metrics)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("images", "5 photographs out of records are not 4 in; run the stages records and images again"),
        ("detections", "4 photographs out of images are not 3 in; run the stages images and detections again"),
        ("dataset", "5 crops out of crops are not 4 in; run the stages crops and dataset again"),
    ],
)
def test_a_stage_that_did_not_see_all_of_the_one_before(stage: str, said: str) -> None:
    metrics = {**accounts(), "dataset": tallied(5, 4, small=1)}
    assert len(steps(metrics)) == len(flow.STEPS)
    # each account still adds up in itself
    metrics |= {
        "images": {"images": tallied(4, 4)},
        "detections": {
            "detections": {**tallied(7, 7), "photographs": 3, "photographs_out": 3},
            "crops": tallied(7, 5, low=2),
        },
        "dataset": {"dataset": tallied(4, 4)},
    }[stage]
    with pytest.raises(InputError, match=rf"metrics/{stage}\.json: {said}"):
        steps(metrics)


def test_no_photograph_at_all() -> None:
    metrics = dict.fromkeys(("records", "images", "crops"), tallied(0, 0))
    found = steps({**metrics, "detections": {**tallied(0, 0), "photographs": 0, "photographs_out": 0}})
    assert {(step.rows_in, step.width, step.kept) for step in found} == {(0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("boxed", "empty", "size", "expected"),
    [
        (0, 0, 4, (0, 0)),
        (9, 0, 4, (4, 0)),
        (0, 9, 4, (0, 4)),
        (9, 9, 4, (3, 1)),
        (9, 9, 5, (3, 2)),
        (1, 9, 4, (1, 3)),
        (9, 9, 0, (0, 0)),
    ],
)
def test_sample_has_one_in_four_without_box(boxed: int, empty: int, size: int, expected: tuple[int, int]) -> None:
    with_boxes = {f"b{number}" for number in range(boxed)}
    keys = [*sorted(with_boxes), *(f"e{number}" for number in range(empty))]
    found = sample(keys, with_boxes, size)
    assert found == sample(reversed(keys), with_boxes, size)
    assert [key[0] for key in found] == ["b"] * expected[0] + ["e"] * expected[1]


def test_which_licences_let_a_thumbnail_be_passed_on() -> None:
    allowed = {"cc0": "CC0", "public-domain": "public domain", "cc-by": "CC BY", "cc-by-nc-sa": "CC BY-NC-SA"}
    assert all(may_be_shown(name) for name in allowed)
    assert [licence_name(name) for name in allowed] == list(allowed.values())
    assert not any(may_be_shown(name) for name in ("cc-by-nd", "cc-by-nc-nd", "all-rights-reserved", "unknown"))


def test_own_photographs_are_shown_without_a_licence() -> None:
    rows = pd.DataFrame(
        {"source": ["folder", "gbif", "folder", "gbif"], "licence": ["unknown"] * 2 + ["cc-by-nd", "cc0"]}
    )
    assert list(showable(rows).index) == [0, 3]
    assert showable(rows.iloc[:0]).empty
    counts = licence_counts(rows, rows.iloc[1:])
    assert [(row.name, row.photographs, row.crops, row.shown) for row in counts] == [
        ("licence unknown", 2, 1, True),
        ("CC BY-ND", 1, 1, False),
        ("CC0", 1, 1, True),
    ]


def test_crops_are_fewer_where_classes_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = write_inputs(tmp_path)
    monkeypatch.setattr("instar.report.sheet.MAX_CROPS", 3)
    text = written(given).text
    assert "Up to 1 crops of each species" in text
    assert "The 1 smallest classes are left out" in text
    assert "Velomyrma sp." not in text


def test_thumbnails_are_small(whole: str) -> None:
    sizes = {
        attributes["alt"].split()[0]: max(int(attributes["width"] or 0), int(attributes["height"] or 0))
        for tag, attributes in Page(whole).tags
        if tag == "img" and attributes["alt"]
    }
    assert sizes == {"photograph": pictures.PHOTOGRAPH_PX, "crop": pictures.CROP_PX}


def test_labels_without_room_are_left_out() -> None:
    assert label_places(np.zeros((0, 2)), [], 100.0) == []
    apart = label_places(np.array([[50.0, 50.0], [50.0, 100.0]]), ["one", "two"], 100.0)
    assert apart == [(0, 6.0, 0.0), (1, 6.0, 0.0)]
    # the second dot stands where the first one's label would begin, so that goes to the left
    beside = label_places(np.array([[50.0, 50.0], [60.0, 50.0]]), ["one", "two"], 100.0)
    assert [(index, dx < 0) for index, dx, _ in beside] == [(0, True), (1, False)]
    at_edges = label_places(np.array([[0.0, 50.0], [100.0, 100.0]]), ["one", "two"], 100.0)
    assert [(index, dx < 0) for index, dx, _ in at_edges] == [(0, False), (1, True)]
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=2).reshape(-1, 2)
    assert len(label_places(50 + 8 * grid, ["a long name"] * 81, 500.0)) < 20


def test_scientific_names_alone_are_italic() -> None:
    given = [("1", "Lynx lynx", "species"), ("2", "lynx", "species"), ("3", "Felidae", "family"), ("4", "", "genus")]
    table = pd.DataFrame([(*row, None) for row in given], columns=["taxon_id", "name", "rank", "genus"])
    assert [taxon.italic for taxon in taxa_by_id(table).values()] == [True, False, False, False]


def test_maps_of_nothing() -> None:
    places = pd.DataFrame({"latitude": [np.nan], "longitude": [np.nan], "genus": [None]})
    assert (maps(places).panels, maps(places).without_coordinates) == ([], 1)
    assert maps(places.iloc[:0]).panels == []


def test_maps_by_genus() -> None:
    genera = ["a"] * 3 + ["b"] * 2 + [None]
    places = pd.DataFrame({"latitude": [1.0, 2, 3, 4, np.nan, 6], "longitude": 5.0, "genus": genera})
    found = maps(places)
    assert [(panel.title, panel.is_taxon, panel.records) for panel in found.panels] == [
        ("all records", False, 5),
        ("a", True, 3),
        ("b", True, 1),
    ]
    assert (found.without_coordinates, found.more_genera, found.cell_deg) == (1, 0, 0.1)


def test_many_records_are_gathered_into_few_dots() -> None:
    generator = np.random.default_rng(0)
    columns = {"latitude": generator.uniform(-60, 60, 20_000), "longitude": generator.uniform(-180, 180, 20_000)}
    found = maps(pd.DataFrame(columns).assign(genus=[f"g{number % 12}" for number in range(20_000)]))
    assert found.cell_deg == 10.0
    assert (len(found.panels), found.more_genera) == (9, 4)
    assert sum(len(panel.svg) for panel in found.panels) < 600_000


def test_large_tables_fit_into_charts() -> None:
    genera = [f"Genus with a long name {number:02d} <&$x$>" for number in range(25)]
    pairs = pd.DataFrame({"actual": genera * 2, "predicted": genera + genera[::-1]})
    svg = confusion(pairs)
    assert "another" in svg
    assert svg.count("Genus with a long name") == 2 * 20
    assert "<&" not in svg
    classes = pd.DataFrame(CLASSES, columns=["label", "genus", "train_crops", "held_out_crops", "top1", "top5"])
    assert "C. bicolor" in class_sizes(classes)
    assert "V. pallipes" not in class_sizes(classes)  # has no held-out crop


def test_validation_is_dashed_in_the_colour_of_training() -> None:
    table = pd.DataFrame({"loss": [2.0, 1.0], "validation loss": [3.0, 2.0]}, index=[1, 2])
    both = str(training_curve("t", "", table, "epoch", shares=False))
    assert "stroke-dasharray" in both
    assert "var(--orange)" not in both
    assert "stroke-dasharray" not in str(training_curve("t", "", table[["validation loss"]], "epoch", shares=False))


def test_many_training_curves_can_be_told_apart() -> None:
    def strokes(columns: list[str]) -> list[tuple[str, bool]]:
        table = pd.DataFrame({name: [1.0, 0.5] for name in columns}, index=[1, 2])
        drawn = str(training_curve("t", "", table, "epoch", shares=True))
        axes = drawn[drawn.index('id="t-axes_1"') : drawn.index('id="t-legend_1"')]
        lines = re.findall(
            r'clip-path="[^"]*" style="fill: none; (stroke-dasharray[^;]*; [^;]*; )?stroke: ([^;]+)', axes
        )
        return [(colour, bool(dashes)) for dashes, colour in lines if colour != "var(--faint)"]

    figures = ["mAP50", "mAP50-95", "recall", "precision"]
    found = strokes([f"box {name}" for name in figures] + figures)
    assert found[:4] == [(colour, True) for colour, _ in found[4:]]  # dotted, in the same colours
    assert len(set(found)) == 8
    losses = [f"{name} loss" for name in ("box", "seg", "cls", "dfl", "sem")]
    found = strokes([*losses, *(f"validation {name}" for name in losses)])
    assert len(set(found)) == 10


def test_curves_of_dvclive(tmp_path: Path) -> None:
    assert curves(tmp_path) == {}
    tables = {"train/loss": "10\t2.0\n20\t1.0\n", "validation/loss": "20\t1.5\n", "validation/top1": "20\t0.5\n"}
    for name, lines in tables.items():
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"step\t{path.stem}\n{lines}")
    found = curves(tmp_path)
    assert list(found) == ["loss", "top1"]
    assert found["loss"]["loss"].to_dict() == {10: 2.0, 20: 1.0}
    assert found["loss"]["validation loss"].dropna().to_dict() == {20: 1.5}
    assert found["top1"].to_dict() == {"validation top1": {20: 0.5}}


def test_figures_are_worded() -> None:
    measure = Measure("recall", 0.7149, 0.64, 0.78, "")
    assert measure.value_text == "71.5\xa0%"
    assert measure.interval_text == "64.0 to 78.0\xa0%"
    assert measure.short == "71\xa0% (64–78\xa0%)"
    assert Measure("recall", 1.0, None, None, "").short == "100\xa0%"
    of_no_width = Measure("recall", 0.5, 0.5, 0.5, "")
    assert (of_no_width.short, of_no_width.interval_text, of_no_width.low) == ("50\xa0%", "", None)
    assert Measure("recall", 1.0, 0.5, 1.0, "").short == "100\xa0% (50–100\xa0%)"


def test_licences_of_weights(tmp_path: Path) -> None:
    given = OmegaConf.load(ROOT / "params.yaml")
    given.update({"detector": {**given.detector, "family": "yolo"}})
    given.classifier.update({"model": "convnextv2_base.fcmae_ft_in22k_in1k_384", "pretrained": True})
    OmegaConf.save(given, tmp_path / "params.yaml")
    found = weights_licences(load(tmp_path / "params.yaml"))
    assert "AGPL-3.0" in found["Detector"]
    assert "under CC-BY-NC-4.0" in found["Classifier"]


@pytest.mark.parametrize("name", ["yolo", "rfdetr", "maskrcnn", "mask2former", *UNTRAINED])
def test_what_is_told_of_a_detectors_weights(name: str) -> None:
    """Every family has a text of its own, with the licence that its module tells."""
    params = load(ROOT / "params.yaml")
    told = weights_licences(replace(params, detector=replace(params.detector, family=name)))["Detector"]
    assert getattr(family(name), "LICENCE", "no weights").partition(":")[0] in told
    assert ("every photograph is one box" in told) == (name == "whole_image")
    assert ("trained here" in told) == (name not in UNTRAINED)


def test_template_is_in_the_package() -> None:
    assert files("instar.report").joinpath("template.html.jinja").is_file()
    assert files("instar.report").joinpath("style.css").is_file()
