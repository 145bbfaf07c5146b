"""The section of the report on masks."""

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mask_metrics import mask_metrics
from omegaconf import OmegaConf
from PIL import Image
from project import ROOT
from test_report import Page
from test_taxa_report import write_taxa
from tray_inputs import JUDGED, write_mask_inputs

from instar.annotations import Annotated
from instar.compare import published as module
from instar.compare.mask_table import mask_row, masked_rows
from instar.compare.overlays import shown_of_presets, write_overlays, write_patches
from instar.compare.published import HELD_OUT, published_split
from instar.compared import current, keep
from instar.errors import InputError
from instar.files import sha256_of, write_json
from instar.params import load
from instar.report import tray_charts
from instar.report.compared import read_patches
from instar.report.overlays import MISSED, RIGHT, WRONG
from instar.report.stage import report
from instar.report.tray_counts import _line
from instar.report.trays import _difference, _little_elsewhere, _rate, _tiles, _zooms
from instar.tables import DETECTIONS, IMAGES, read_table, write_table


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(write_mask_inputs(tmp_path_factory.mktemp("trays")))


def written(given: dict[str, Any]) -> str:
    report(**given)
    return str(given["out"].read_text(encoding="utf-8"))


def test_without_masks_there_is_no_such_section(tmp_path: Path) -> None:
    given = write_mask_inputs(tmp_path)
    write_json(given["annotations"], {"images": [], "annotations": [], "categories": []})
    path = given["metrics"] / "detection_metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["masks"]
    write_json(path, metrics)
    text = written(given)
    assert 'id="trays"' not in text and "Mask DINO" not in text


def test_figures_with_their_intervals(whole: str) -> None:
    text = Page(whole).text
    assert "with 8 outlined animals the masks reach an AP50-95 of 42.5 % (35.0 to 50.0 %)" in text
    assert "best F1 on validation, 0.35, F1 is 80.0 % (70.0 to 90.0 %). " in text
    assert "Of the 4 photographs 95 % intervals are from resampling 2 observations, which tell little" in text
    row = "tiny, this detector 42.5 % (35.0 to 50.0 %) 83.1 % (80.0 to 86.0 %) 36.6 % 20.0 % 41.6 % –"
    assert row in text
    assert "(published)" not in text
    assert "so they are not shown beside these. CutLER and Mask DINO are in no library" in text
    assert "test 700 px (70.0 %) 200 px (20.0 %) 100 px (10.0 %)" in text


def test_the_published_ones_stand_beside_the_same_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = write_mask_inputs(tmp_path)
    named = {split: {key.rpartition("-")[2] for key, one in JUDGED.items() if one == split} for split in HELD_OUT}
    monkeypatch.setattr(module, "HELD_OUT", named)
    text = Page(written(given)).text
    assert "CutLER (published) 22.7 % 40.0 % 22.1 % 0.8 % 18.1 % 59.0 %" in text
    assert "they can be compared only with figures of the same photographs" in text


def test_photographs_of_trays_have_their_names_and_no_smear_of_scores(tmp_path: Path) -> None:
    given = write_mask_inputs(tmp_path)
    for shard in given["shards"]:
        path = given["images"] / f"{shard}.parquet"
        write_table(path, [{**row, "taxon_id": None} for row in read_table(path, IMAGES).to_pylist()], IMAGES)
    path = given["detections"] / "a.parquet"
    rows = read_table(path, DETECTIONS).to_pylist()
    [crowded] = [row for row in rows if row["key"] == "inaturalist-0-000"]
    write_table(path, [*rows, *({**crowded, "key": f"inaturalist-0-1{n:02d}"} for n in range(10))], DETECTIONS)
    page = Page(written(given | {"photographs": 12}))
    assert "no taxon given" not in page.text
    assert "inaturalist-0 · 13 boxes" in page.text and "inaturalist-4 · 3 boxes" in page.text
    text = given["out"].read_text()
    figures = {figure.count('class="box'): figure.count("<span>0.") for figure in text.split("<figure")}
    assert (figures[13], figures[3]) == (0, 3)
    assert "masks are drawn in the section Masks on trays ." in page.text


def test_what_is_searched_of_annotated_trays_is_told(whole: str, tmp_path: Path) -> None:
    assert "tray_margin_px):" not in Page(whole).text
    given = write_mask_inputs(tmp_path)
    params = OmegaConf.load(given["params"])
    params.records.update({"kind": "trays", "tray_margin_px": 1200})
    OmegaConf.save(params, given["params"])
    told = "those of test, too, are searched only in the box around all their annotated animals and 1,200 pixels beyond"
    assert told in Page(written(given)).text


def test_figures_of_boxes_are_told_from_those_of_masks(whole: str, tmp_path: Path) -> None:
    text = Page(whole).text
    assert "the detector finds 56 % (48–63 %) of the annotated animals by box" in text
    assert "of the animals found with a score of at least 0.3 by box" in text
    assert "4 held-out photographs with 8 annotated animals; by boxes, figures of masks stand below" in text
    given = write_taxa(tmp_path, [], {})
    path = given["metrics"] / "detection_metrics.json"
    write_json(path, {**json.loads(path.read_text()), "masks": mask_metrics()})
    assert "and the confidence of the crops, by size and by masks" in Page(written(given)).text


def test_charts_have_their_sentences(whole: str) -> None:
    text = Page(whole).text
    assert "a precision of 75.0 % (70.0 to 80.0 %) and a recall of 85.7 % (80.0 to 90.0 %)" in text
    told = "18 outlined animals, 7 of them on test, where there are 8 detections, 6 right and 2 wrong: the dashed"
    assert told in text and "found, test" not in text
    assert "6 photographs of test: 0.90 (0.80 to 1.00) for each one annotated, beginning at 1.5, R² 0.980; " in text
    assert "on average -0.5 animals off, 1.5 either way, 12.5 % (10.0 to 15.0 %) of those annotated." in text
    assert "6 samples, annotated animals: 0.70 for each one sorted" in text
    assert "12.5 % of those sorted. Only photographs whose specimens were counted are in it." in text
    assert "highest at zoom 2: 40.0 % (30.0 to 50.0 %)" in text
    for title in ("Areas of masks", "Counts of each photograph: all taxa", "Counts of each photograph: Insecta, Arach"):
        assert title in text
    assert "Not shown" not in text
    assert "mathdefault" not in whole
    assert "AP medium 40.0 % AP50-95 of animals whose masks have from 144 to under 1,024 pixels" in text


def test_no_line_is_fitted_to_few_points() -> None:
    few = mask_metrics()["counts"]["all"]["test"] | {"n": 4}
    told = _line(few, "annotated", "photographs", {"count_slope": [0.9, 0.9]}, "count")
    assert told.startswith("4 photographs: no line is fitted to fewer than 5; on average -0.5 animals off, 1.5 either")
    told = _line({**few, "n": 5}, "annotated", "photographs", {"count_slope": [0.9, 0.9]}, "count")
    assert told.startswith("5 photographs: 0.90 for each one annotated")  # an interval without width is none


def test_a_split_has_one_colour_on_all_charts() -> None:
    lines = {split: {"slope": 1.0, "intercept": 0.0} for split in ("validation", "test")}
    rows = pd.DataFrame({"series": ["validation"] * 5 + ["test"] * 4, "known": range(1, 10), "counted": range(1, 10)})
    fitted = re.compile(r"fill: none; stroke: var\(--(\w+)\); stroke-width: 1.1")
    for part, colours, lined in (
        (rows, {"orange", "blue"}, ["orange"]),  # a line through five points, none through four
        (rows[::-1], {"orange", "blue"}, ["orange"]),
        (rows[:5], {"orange"}, ["orange"]),
        (rows[5:], {"blue"}, []),
    ):
        drawn = str(tray_charts.counts("c", "", part, lines, ("x", "y")))
        assert set(re.findall(r"stroke: var\(--(orange|blue|green)\)", drawn)) == colours
        assert fitted.findall(drawn) == lined


def test_seams(whole: str) -> None:
    text = Page(whole).text
    assert "all, near 4 4 250.0 250.0 0.0" in text
    assert "all, elsewhere 1,200 1,100 166.7 (10.0 to 300.0) 83.3 (10.0 to 300.0)" in text
    assert "+50.0 missed (-20.0 to +130.0), +50.0 wrong" in text


def test_intervals_without_width_are_not_told() -> None:
    assert (_rate(0.0, 0.0, 0.0), _rate(5.0, 0.0, 10.0)) == ("0.0", "5.0 (0.0 to 10.0)")
    rate = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "animals of any size: +0.0 missed. An interval" in _difference({"missed": rate})
    records = load(ROOT / "params.yaml").records
    for interval, banded, groups in ((None, False, 1), ([0.4, 0.4], False, 1), ([0.3, 0.5], True, 2)):
        row = {"zoom": 2.0, "AP50-95": 0.4, "AP50": 0.5, "interval_95": {"AP50-95": interval}, "groups": groups}
        [drawn] = _zooms([row], records)
        assert ("Bands are 95 % intervals" in drawn.sentence) == banded == ("2 observations" in drawn.sentence)
        assert ("all photographs are of one observation" in drawn.sentence) != banded


@pytest.mark.parametrize(("near", "elsewhere", "warned"), [(80, 20, False), (119, 18, True), (1, 99, True)])
def test_seams_that_nearly_all_animals_are_near_say_nothing(near: int, elsewhere: int, warned: bool) -> None:
    told = _little_elsewhere({"near": {"animals": near}, "elsewhere": {"animals": elsewhere}}, 128)
    expected = f" But {near} of {near + elsewhere} animals are near a seam of tiles of 128 pixels: with so few on one"
    assert told.startswith(expected) if warned else told == ""


def test_patches_of_photographs_that_may_be_shown(whole: str) -> None:
    """At the best F1's confidence of 0.35: one right, two wrong and two missed on each photograph, in two patches."""
    page = Page(whole)
    shown = [attributes for tag, attributes in page.tags if tag == "img" and "masks" in (attributes["alt"] or "")]
    alts = [attributes["alt"] for attributes in shown]
    assert alts[0] == "patch with 1 right, 1 wrong and 1 missed masks"
    assert len(alts) == 3 + 1  # one of another detector
    assert "most crowded: 1 right, 1 wrong, 1 missed inaturalist-0 at x 0, y 0" in page.text
    assert "inaturalist-2 at x" not in page.text  # all rights reserved
    assert "instar tray inaturalist-0 --out tray.html" in page.text
    pixels = picture(shown[0])
    assert pixels.shape == (480, 320, 3)
    colours = np.array([RIGHT, WRONG, MISSED])
    for nearest, (x, y) in enumerate([(81, 60), (169, 60), (180, 60)]):  # JPEG blurs a line of one pixel
        assert np.abs(pixels[y, x].astype(int) - colours).sum(axis=1).argmin() == nearest


def picture(attributes: dict[str, str | None]) -> np.ndarray:
    data = base64.b64decode(str(attributes["src"]).partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("plots/mask_pr.csv", "precision and recall of masks: plots/mask_pr.csv is not there; run the stage"),
        ("plots/mask_areas.csv", "areas of masks: plots/mask_areas.csv is not there"),
        ("plots/counts.csv", "counts: plots/counts.csv is not there"),
        ("plots/seams.csv", "errors near the seams of tiles: plots/seams.csv is not there"),
        ("plots/compared/zooms.json", "the zoom sweep: instar compare zooms makes it"),
        ("plots/compared/detectors.json", "other detectors beside this one: instar compare detectors makes it"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, gone: str, told: str) -> None:
    given = write_mask_inputs(tmp_path)
    (tmp_path / gone).unlink()
    assert told in Page(written(given)).text


def test_other_detectors_stand_beside_this_one(whole: str) -> None:
    page = Page(whole)
    name = "maskrcnn (instar compare; trained: 7 epochs from random weights)"
    assert f"{name} 42.5 % (35.0 to 50.0 %) 83.1 % (80.0 to 86.0 %) 36.6 % 20.0 %" in page.text
    assert "test, maskrcnn (instar compare) 700 px (70.0 %) 200 px (20.0 %) 100 px (10.0 %)" in page.text
    for one in ("this detector", "maskrcnn (instar compare)"):
        assert f"{one} 0.90 (0.80 to 1.00) 1.50 (1.00 to 2.00) 12.5 % (10.0 to 15.0 %)" in page.text
    told = "At its own confidence; the first detector of the comparison chose the places."
    assert f"maskrcnn, from instar compare {told} 2 right, 1 wrong, 0 missed inaturalist-0 at x 0" in page.text
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert alts.count("patch with 2 right, 1 wrong and 0 missed masks") == 1  # inaturalist-2 may not be shown


def test_what_was_made_of_something_else_is_named_and_not_shown(tmp_path: Path) -> None:
    given = write_mask_inputs(tmp_path)
    path = given["plots"] / "compared/zooms.json"
    rows = json.loads(path.read_text())
    rows[1]["made_of"]["detector"] = "an earlier one"
    write_json(path, rows)
    told = "were made of other data, another detector or other settings; run instar compare"
    text = Page(written(given)).text
    assert f"the zoom sweep: 2 {told} zooms 2 again" in text
    assert "highest at zoom 4: 30.0 % (20.0 to 40.0 %)" in text
    given["annotations"].write_text(given["annotations"].read_text() + " ")
    text = Page(written(given)).text
    assert f"the zoom sweep: 1, 2, 4 {told} zooms 1 2 4 again; " in text and "highest at zoom" not in text
    assert f"beside this one: maskrcnn {told} detectors maskrcnn again" in text and "(instar compare)" not in text
    path.write_text("[")
    with pytest.raises(InputError, match=r"zooms\.json: not JSON .*delete it"):
        written(given)


def test_a_study_with_little_to_tell(tmp_path: Path) -> None:
    """Nothing found, nothing sliced, no taxa, no specimens, tables with a header alone."""
    given = write_mask_inputs(tmp_path)
    masks = mask_metrics()
    nothing = {"n": 0, "slope": None, "intercept": None, "r2": None, "bias": None, "mae": None, "mape": None}
    masks["counts"] = {"all": dict.fromkeys(masks["counts"]["all"], nothing)}
    masks["counts"]["all"]["specimens_and_counts"] = {"annotated": [], "detected_on_test": []}
    masks["seams"] = None
    masks["best_f1"] |= {"confidence": None, "test_precision": None}
    masks["interval_95"] = {"photographs": 1, "groups": 1, "resamples": 0, "AP50-95": [0.425, 0.425]}
    masks["areas"]["test"] |= dict.fromkeys(("true_positive_share", "false_positive_share", "false_negative_share"))
    path = given["metrics"] / "detection_metrics.json"
    write_json(path, {**json.loads(path.read_text()), "masks": masks})
    for name in ("mask_pr.csv", "mask_areas.csv", "seams.csv"):
        table = given["plots"] / name
        table.write_text(table.read_text().splitlines()[0] + "\n")
    counts = given["plots"] / "counts.csv"
    header, *rows = counts.read_text().splitlines()
    counts.write_text("\n".join([header, *(f"{row.rsplit(',', 2)[0]},," for row in rows)]) + "\n")
    text = Page(written(given)).text
    assert "precision and recall of masks: plots/mask_pr.csv is empty" in text
    assert "there are no intervals, since all photographs are of one observation." in text
    assert "42.5 % (42.5" not in text
    assert "errors near the seams of tiles: no held-out photograph was sliced" in text
    assert "sorted by hand, all taxa: the study has none" in text
    assert "counts of single classes: no animal carries a taxon" in text
    assert "test 700 px (–)" in text


def test_ids_stay_unique_and_equal_inputs_give_equal_bytes(whole: str, tmp_path: Path) -> None:
    ids = [value for _, value in Page(whole).values("id")]
    assert len(ids) == len(set(ids))
    assert written(write_mask_inputs(tmp_path)) == whole


def test_overlays_of_several_detectors_show_the_same_places(tmp_path: Path) -> None:
    given = write_mask_inputs(tmp_path)
    for preset in ("one", "other"):
        shutil.copytree(given["detections"], tmp_path / "comparison" / preset / "detections")
    out = tmp_path / "comparison"
    assert write_overlays(out, shown_of_presets(out, tmp_path, given["shards"], {})) == ""
    # from 0.85 up the other has nothing but the right ones, and its own most errors would lie elsewhere
    shown = shown_of_presets(out, tmp_path, given["shards"], {"one": 0.35, "other": 0.85})
    lines = write_overlays(out, shown).splitlines()
    assert lines[2].startswith("| preset | most crowded (inaturalist-0, x 0, y 0) | most errors (inaturalist-4, x 0")
    assert lines[4].startswith("| one | ![1 right, 1 wrong, 1 missed](overlays/one-most-crowded.jpg) |")
    assert lines[5].startswith("| other | ![1 right, 0 wrong, 1 missed](overlays/other-most-crowded.jpg) |")
    names = [f"{preset}-{reason}.jpg" for preset in ("one", "other") for reason in ("most-crowded", "most-errors")]
    assert {path.name for path in (out / "overlays").iterdir()} >= set(names)
    with Image.open(out / "overlays" / names[0]) as drawn:
        assert drawn.size == (320, 480)
    # and the report gets them back as they were, from a file that its row tells the sha256 of
    told = write_patches(out / "one/patches.json", shown["one"])
    rows: list[dict[str, Any]] = [{"preset": "boxes"}, {"preset": "one", **mask_row({"masks": mask_metrics()})}]
    keep(out / "left.json", "preset", masked_rows(rows, {"one": told}), {"a": 1})
    [row], stale = current(out / "left.json", "preset", {"a": 1})
    assert row["patches"] == sha256_of(out / "one/patches.json") and not stale
    assert "base64" not in (out / "left.json").read_text()
    assert read_patches(out / "one/patches.json", {"inaturalist-0", "inaturalist-4"}) == shown["one"]
    assert read_patches(out / "one/patches.json", set()) == []
    assert current(out / "left.json", "preset", {"a": 2}) == ([], ["one"])


@pytest.mark.parametrize("change", ["detections", "detection_metrics", "seed", "images", "confidence"])
def test_rows_of_other_settings_are_not_shown(tmp_path: Path, change: str) -> None:
    """By the very settings that a row was made of besides the annotations."""
    given = write_mask_inputs(tmp_path)
    path = given["plots"] / "compared/detectors.json"
    [row] = json.loads(path.read_text())
    row["made_of"][change] = "another"
    write_json(path, [row])
    text = Page(written(given)).text
    assert "beside this one: maskrcnn were made of other data" in text and "(instar compare;" not in text


@pytest.mark.parametrize("change", [None, "other"])
def test_pictures_that_are_not_there_or_others_are_told(tmp_path: Path, change: str | None) -> None:
    given = write_mask_inputs(tmp_path)
    path = tmp_path / "comparison/maskrcnn/patches.json"
    path.write_text(change) if change else path.unlink()
    text = Page(written(given)).text
    assert "patches of maskrcnn: instar compare detectors maskrcnn makes them" in text
    assert "maskrcnn (instar compare; trained" in text and "maskrcnn, from instar compare" not in text


def test_what_began_with_random_weights_is_called_so(tmp_path: Path) -> None:
    given = write_mask_inputs(tmp_path)
    path = given["metrics"] / "detector.json"
    write_json(path, {**json.loads(path.read_text()), "weights": None})
    assert "tiny, this detector, from random weights 42.5 %" in Page(written(given)).text


def test_the_published_photographs_are_known_by_their_names() -> None:
    with (ROOT / "workflow/conf/trays/partition.csv").open() as file:
        rows = [(row["photo"], row["split"]) for row in csv.DictReader(file)]
    boxes = np.zeros((0, 4))
    photographs = [Annotated(f"trays-{name}", split, 9, 9, boxes, False) for name, split in [*rows, ("A", "train")]]
    assert published_split(photographs)
    assert not published_split(photographs[1:])
    assert not published_split([Annotated("trays-A", "test", 9, 9, boxes, False), *photographs])
    assert not published_split([])


@pytest.mark.parametrize("same", [True, False])
def test_tiles_stand_beside_the_published_ones_of_the_same_photographs(same: bool) -> None:
    assert _tiles({}, same) == []
    counts = {"tiles": 17_000, "tiles without an animal": 9_000, "animals": 110_000}
    (table,) = _tiles({"train": counts, "test": {**counts, "tiles": 1_600}}, same)
    assert table.columns[:4] == ["split", *counts]
    published = [["17,062", "110,520"], ["1,586", "6,241"]] if same else [[], []]
    assert [line[4:] for line in table.lines] == published
    assert table.lines[1][:4] == ["test", "1,600", "9,000", "110,000"]
    assert len(table.columns) == len(table.lines[0])
