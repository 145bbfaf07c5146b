"""The section of the report on masks."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mask_metrics import mask_metrics
from PIL import Image
from project import ROOT
from test_report import Page
from tray_inputs import JUDGED, write_mask_inputs

from instar.annotations import Annotated
from instar.compare import published as module
from instar.compare.mask_table import mask_row, masked_rows
from instar.compare.overlays import shown_of_presets, write_overlays, write_patches
from instar.compare.published import HELD_OUT, published_split
from instar.compared import current, keep
from instar.errors import InputError
from instar.files import sha256_of, write_json
from instar.report.compared import read_patches
from instar.report.overlays import MISSED, RIGHT, WRONG
from instar.report.stage import report
from instar.report.trays import _tiles


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
    assert "best F1 on validation, 0.35, F1 is 80.0 % (70.0 to 90.0 %). Intervals" in text
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


def test_charts_have_their_sentences(whole: str) -> None:
    text = Page(whole).text
    assert "a precision of 75.0 % (70.0 to 80.0 %) and a recall of 85.7 % (80.0 to 90.0 %)" in text
    assert "18 outlined animals, 7 of them on test, where 6 were found" in text
    assert "2 photographs of test: 0.90 (0.80 to 1.00) for each one annotated, beginning at 1.5, R² 0.980; " in text
    assert "on average -0.5 animals off, 1.5 either way, 12.5 % (10.0 to 15.0 %) of those annotated." in text
    assert "2 samples, annotated animals: 0.70 for each one sorted" in text
    assert "highest at zoom 2: 40.0 % (30.0 to 50.0 %)" in text
    for title in ("Areas of masks", "Counts of each photograph: all taxa", "Counts of each photograph: Insecta, Arach"):
        assert title in text
    assert "Not shown" not in text
    assert "mathdefault" not in whole
    assert "AP medium 40.0 % AP50-95 of animals whose masks have from 144 to under 1,024 pixels" in text


def test_seams(whole: str) -> None:
    text = Page(whole).text
    assert "all, near 4 4 250.0 250.0 0.0" in text
    assert "all, elsewhere 1,200 1,100 166.7 (10.0 to 300.0) 83.3 (10.0 to 300.0)" in text
    assert "+50.0 missed (-20.0 to +130.0), +50.0 wrong" in text


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
    assert "maskrcnn, from instar compare most crowded: 2 right, 1 wrong, 0 missed inaturalist-0 at x 0" in page.text
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
    masks["interval_95"] = {"photographs": 1, "resamples": 100}
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
