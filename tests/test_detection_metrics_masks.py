"""The stage over two sliced photographs of a split, every figure worked out by hand."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_shards import write_images
from project import ROOT
from test_detection_metrics import run_stage

from instar.annotations import Annotated
from instar.caps import check_caps, photograph_tiles
from instar.detection_metrics.counting import agreements, classes_of_taxa, count_rows, resampled_agreement
from instar.detection_metrics.instances import matched_instances
from instar.detection_metrics.judged import Judged
from instar.detection_metrics.resampling import intervals, ratios, widths
from instar.detection_metrics.specimens import Specimens, read_specimens
from instar.detectors import DESCRIPTION
from instar.errors import InputError
from instar.files import write_json
from instar.mask_figures import resampled
from instar.masks import Masks, from_bitmaps
from instar.metrics.coco import area_ranges, figures
from instar.params import load
from instar.tables import DETECTIONS, TAXONOMY, write_table

WIDTH, HEIGHT = 400, 100
#: The tiles (0, 0, 250, 100) and (150, 0, 400, 100): inner edges at x 150 and 250.
OPTIONS: dict[str, Any] = {
    "shards": ["s0"],
    "areas_px": [100, 400],
    "seam_px": 5.0,
    "tile_px": 250,
    "tile_overlap": 0.2,
}
OPTIONS |= {"count_classes": ["Insecta", "Arachnida"]}
Rectangle = tuple[int, int, int, int]

SMALL: Rectangle = (10, 10, 19, 20)  # 90 pixels
MEDIUM: Rectangle = (145, 10, 165, 20)  # 200, at the seam
LIMIT: Rectangle = (300, 10, 310, 20)  # 100, where medium begins
LARGE: Rectangle = (190, 0, 230, 50)  # 2,000
FIRST, SECOND = (10, 10, 30, 20), (60, 10, 80, 20)
#: split, animals and their taxa
ANIMALS: dict[str, tuple[str, list[tuple[Rectangle, str | None]]]] = {
    "r-1": ("train", [((10, 10, 20, 20), None)]),
    "v-0": ("validation", [(FIRST, None), (SECOND, None)]),
    "t-2": ("test", [(SMALL, "flies"), (MEDIUM, "flies"), (LIMIT, "spiders")]),
    "t-3": ("test", [(LARGE, "springtails")]),
}
#: mask, score, whether it was cut; boxes are those of the masks but one
FOUND: dict[str, list[tuple[Rectangle, float, bool]]] = {
    "v-0": [
        (FIRST, 0.8, False),
        ((100, 50, 120, 60), 0.7, False),
        (SECOND, 0.6, False),
        ((200, 50, 220, 60), 0.5, False),
    ],
    "t-2": [
        (SMALL, 0.9, False),
        ((145, 10, 155, 20), 0.8, True),  # half of MEDIUM
        ((155, 10, 165, 20), 0.7, True),  # its other half
        ((320, 60, 330, 80), 0.65, False),
        (LIMIT, 0.3, False),
    ],
    "t-3": [(LARGE, 0.95, False)],
}
ONE_SAMPLE = {key: {"observation_id": "tray"} for key in ANIMALS}
BOXES = {LARGE: (190, 0, 230, 80)}  # IoU 0.625


def masks_of(rectangles: list[Rectangle]) -> Masks:
    sizes = [(bottom - top, right - left) for left, top, right, bottom in rectangles]
    return from_bitmaps([np.ones(size, bool) for size in sizes], [one[:2] for one in rectangles])


def write_study(folder: Path, found: dict[str, list[tuple[Rectangle, float, bool]]] = FOUND) -> None:
    """Annotations, photographs, detections and taxa of the study above."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for key, (split, animals) in ANIMALS.items():
        images.append({"id": key, "file_name": key, "width": WIDTH, "height": HEIGHT, "split": split})
        encoded = masks_of([one for one, _ in animals]).rle(HEIGHT, WIDTH)
        for ((left, top, right, bottom), taxon), counts in zip(animals, encoded, strict=True):
            outline = {"size": [HEIGHT, WIDTH], "counts": counts.decode()}
            animal = {"id": len(annotations), "image_id": key, "category_id": 1, "segmentation": outline}
            annotations.append({**animal, "bbox": [left, top, right - left, bottom - top], "taxon": taxon})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "b"}]}
    (folder / "a.json").write_text(json.dumps(coco))
    facts = {key: {"observation_id": f"tray {key}"} for key in ANIMALS}
    write_images(folder / "images", "s0", dict.fromkeys(ANIMALS, b""), (WIDTH, HEIGHT), facts)
    rows = [row for key, given in found.items() for row in detection_rows(key, given)]
    write_table(folder / "found/s0.parquet", rows, DETECTIONS)
    names = {"animals": "kingdom", "Insecta": "class", "Arachnida": "class", "Collembola": "class"}
    names |= {"flies": "order", "spiders": "order", "springtails": "order"}
    above = {"flies": "Insecta", "spiders": "Arachnida", "springtails": "Collembola"}
    taxa = [
        {"taxon_id": name, "name": name, "rank": rank, "parent_id": above.get(name, "animals")}
        for name, rank in names.items()
    ]
    write_table(folder / "taxonomy.parquet", taxa, TAXONOMY)
    specimens = [
        "photo_key,sample,specimens,specimens_insecta_arachnida",
        "t-2,A,5,4",
        "t-3,B,2,",
        "r-1,C,4,4",
        "z-9,D,7,7",
    ]
    (folder / "specimens.csv").write_text("\n".join(specimens) + "\n")


def detection_rows(key: str, found: list[tuple[Rectangle, float, bool]]) -> list[dict[str, Any]]:
    common = {"photo_key": key, "detector": "by hand"}
    masks = masks_of([one for one, _, _ in found])
    rows: list[dict[str, Any]] = []
    for (rectangle, score, cut), counts, area in zip(found, masks.rle(HEIGHT, WIDTH), masks.areas(), strict=True):
        box = dict(zip(["x_min", "y_min", "x_max", "y_max"], BOXES.get(rectangle, rectangle), strict=True))
        place = {"key": f"{key}-{len(rows):03d}", "score": score, "mask": counts, "area": area, "cut": cut}
        rows.append({**common, **box, **place})
    return rows or [{**common, "reason": "no animal found"}]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks")
    write_study(path)
    run_stage(path, **OPTIONS)
    return path


@pytest.fixture
def result(folder: Path) -> Any:
    return json.loads((folder / "out.json").read_text())


def test_average_precision_of_masks(result: Any) -> None:
    test = result["masks"]["test"]
    # right, right, right, wrong, wrong, right of 4 animals; above an IoU of 0.5 the half is wrong, too
    loose, strict = (76 + 25 * 4 / 6) / 101, (51 + 25 * 3 / 6) / 101
    assert (test["AP50"], test["AP75"]) == pytest.approx((loose, strict), abs=1e-6)
    assert test["AP50-95"] == pytest.approx((loose + 9 * strict) / 10, abs=1e-6)
    # the animal of 100 pixels is medium, not small: right, wrong, wrong, right of 2, or wrong, wrong, wrong, right
    medium = ((51 + 50 * 2 / 4) / 101 + 9 * (51 * 1 / 4) / 101) / 10
    sizes = [test[f"AP_{size}"] for size in ("small", "medium", "large")]
    assert sizes == pytest.approx([1, medium, 1], abs=1e-6)
    assert test["AR"] == pytest.approx((4 + 9 * 3) / 40, abs=1e-6)


def test_average_precision_of_boxes_by_the_size_of_masks(result: Any) -> None:
    # the large animal's box is right up to an IoU of 0.6
    assert result["test"]["AP_large"] == pytest.approx(0.3)
    assert result["test"]["AP_small"] == 1
    assert result["test"]["AP50"] == result["masks"]["test"]["AP50"]


def test_the_confidence_of_the_best_f1(result: Any) -> None:
    expected = {"confidence": 0.6, "validation_f1": 0.8, "validation_precision": 2 / 3, "validation_recall": 1}
    expected |= {"validation_true_positives": 2, "validation_false_positives": 1, "validation_false_negatives": 0}
    expected |= {"test_f1": 2 / 3, "test_precision": 0.6, "test_recall": 0.75}
    expected |= {"test_true_positives": 3, "test_false_positives": 2, "test_false_negatives": 1}
    assert result["masks"]["best_f1"] == pytest.approx(expected, abs=1e-6)


def test_pixel_areas_at_that_confidence(result: Any) -> None:
    pixels = {"true_positive_px": 90 + 200 + 2000, "false_positive_px": 200, "false_negative_px": 100}
    total = sum(pixels.values())
    expected = pixels | {f"{name.removesuffix('_px')}_share": value / total for name, value in pixels.items()}
    assert result["masks"]["areas"]["test"] == pytest.approx(expected, abs=1e-6)


def test_counts_of_photographs_and_samples(result: Any, folder: Path) -> None:
    counts = result["masks"]["counts"]
    everything, insects = counts["all"], counts["Insecta, Arachnida"]
    # 3 annotated and 4 detected, 1 and 1
    line = {"n": 2, "slope": 1.5, "intercept": -0.5, "r2": 1, "bias": 0.5, "mae": 0.5, "mape": 1 / 6}
    assert everything["test"] == pytest.approx(line, abs=1e-6)
    assert (everything["validation"]["n"], everything["validation"]["bias"]) == (1, 1)
    # the springtail is counted on neither side: 3 and 4, 0 and 0
    assert (insects["test"]["slope"], insects["test"]["mape"]) == pytest.approx((4 / 3, 1 / 3), abs=1e-5)
    # samples A, B and C with 5, 2 and 4 specimens; D's photograph is not annotated
    assert (everything["specimens_annotated"]["n"], everything["specimens_annotated"]["bias"]) == (3, -2)
    assert everything["specimens_detected_on_test"] == pytest.approx(
        {"n": 2, "slope": 1, "intercept": -1, "r2": 1, "bias": -1, "mae": 1, "mape": (1 / 5 + 1 / 2) / 2}, abs=1e-6
    )
    assert insects["specimens_detected_on_test"]["n"] == 1
    rows = table(folder / "counts.csv")
    assert rows[1] == {
        "photo_key": "t-2",
        "sample": "A",
        "split": "test",
        "classes": "all",
        "annotated": "3",
        "detected": "4",
        "specimens": "5",
    }
    told = [(row["photo_key"], row["annotated"], row["detected"], row["specimens"]) for row in rows]
    assert told[0] == ("r-1", "1", "", "4")
    assert told[3:] == [
        ("v-0", "2", "3", ""),
        ("r-1", "0", "", "4"),
        ("t-2", "3", "4", "4"),
        ("t-3", "0", "0", ""),
        ("v-0", "0", "1", ""),
    ]


def test_errors_near_seams(result: Any, folder: Path) -> None:
    seams = result["masks"]["seams"]
    near, elsewhere = seams["near"], seams["elsewhere"]
    names = ("animals", "missed", "detections", "wrong", "duplicates")
    # the half at the seam is right and the other half, which it touches, its duplicate
    assert [near[name] for name in names] == [1, 0, 2, 1, 1]
    assert [elsewhere[name] for name in names] == [3, 1, 3, 1, 0]
    assert (near["duplicates_per_1000"], elsewhere["missed_per_1000"]) == (1000, pytest.approx(1000 / 3, abs=1e-3))
    assert seams["difference_per_1000"]["all"]["wrong"]["value"] == pytest.approx(2000 / 3, abs=1e-3)
    assert seams["difference_per_1000"]["large"]["wrong"]["value"] is None
    assert seams["detections"] == {
        "cut": {"detections": 2, "wrong": 1, "duplicates": 1},
        "whole": {"detections": 3, "wrong": 1, "duplicates": 0},
    }
    rows = {(row["size"], row["where"]): row for row in table(folder / "seams.csv")}
    assert len(rows) == 8
    assert [rows["medium", "elsewhere"][name] for name in names] == ["1", "1", "1", "1", "0"]
    assert rows["small", "near"]["missed_per_1000"] == ""


def test_tables(folder: Path) -> None:
    rows = [list(row.values()) for row in table(folder / "mask_areas.csv")]
    assert rows == [
        ["64", "128", "3", "2", "3"],
        ["128", "256", "3", "1", "1"],
        ["256", "512", "0", "0", "0"],
        ["512", "1024", "0", "0", "0"],
        ["1024", "2048", "1", "1", "1"],
    ]
    sizes = {(row["split"], row["kind"], row["size"]): row for row in table(folder / "sizes.csv")}
    assert len(sizes) == 16
    medium = sizes["test", "mask", "medium"]
    assert (medium["from_px"], medium["below_px"], medium["animals"]) == ("100", "400", "2")
    large = sizes["test", "box", "large"]
    assert (large["from_px"], large["below_px"], large["AP50"], large["AP75"]) == ("400", "", "1.0", "0.0")
    assert sizes["validation", "mask", "small"]["AP50"] == ""
    curves = table(folder / "mask_pr.csv")
    assert [row["split"] for row in curves] == ["validation"] * 4 + ["test"] * 6
    assert list(curves[2].values()) == ["validation", "1", "0.666667", "0.6"]


def test_intervals_of_two_photographs(result: Any) -> None:
    told = result["masks"]["interval_95"]
    assert (told["resamples"], told["photographs"], told["groups"]) == (100, 2, 2)
    # only the one photograph, or only the other
    assert told["test_f1"] == pytest.approx([4 / (4 + 2 + 1), 1], abs=1e-6)
    assert told["count_bias"] == [0, 1]
    assert told["width"]["test_f1"] == pytest.approx(3 / 7, abs=1e-6)
    assert told["AP50"][0] < result["masks"]["test"]["AP50"] < told["AP50"][1] == 1
    assert told["count_of_classes_mape"] == pytest.approx([1 / 3, 1 / 3], abs=1e-6)  # without a spider no share


def test_photographs_of_one_sample_give_no_interval(tmp_path: Path) -> None:
    write_study(tmp_path)
    write_images(tmp_path / "images", "s0", dict.fromkeys(ANIMALS, b""), (WIDTH, HEIGHT), ONE_SAMPLE)
    result = run_stage(tmp_path, **OPTIONS)
    told = result["masks"]["interval_95"]
    assert (told["resamples"], told["photographs"], told["groups"]) == (0, 2, 1)
    assert not [name for name, value in told.items() if isinstance(value, list)]
    assert told["AP50"] is told["count_bias"] is told["width"]["AP_small"] is result["interval_95"]["AP50"] is None
    assert result["masks"]["seams"]["elsewhere"]["missed_per_1000_low"] is None


def test_what_is_resampled_is_named() -> None:
    records = load(ROOT / "params.yaml").records
    assert resampled(1, records) == "there are no intervals, since all photographs are of one observation"
    assert resampled(6, replace(records, kind="trays")) == "95 % intervals are from resampling 6 samples"
    blocks = replace(records, kind="trays", annotation_split="time_block")
    assert resampled(2, blocks) == "95 % intervals are from resampling 2 stretches of time"


def test_nothing_detected(tmp_path: Path) -> None:
    write_study(tmp_path, {key: [] for key in FOUND})
    masks = run_stage(tmp_path, **OPTIONS)["masks"]
    assert masks["best_f1"]["confidence"] is None
    assert (masks["best_f1"]["test_f1"], masks["best_f1"]["test_precision"]) == (0, None)
    assert masks["areas"]["test"]["false_negative_share"] == 1
    assert masks["seams"]["elsewhere"]["missed_per_1000"] == 1000
    assert masks["interval_95"]["test_precision"] is None


def test_photographs_that_are_not_sliced_have_no_seams(tmp_path: Path) -> None:
    write_study(tmp_path)
    assert run_stage(tmp_path, **{**OPTIONS, "tile_px": 400})["masks"]["seams"] is None
    assert table(tmp_path / "seams.csv") == []


def test_a_detector_of_boxes_is_judged_by_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path)
    rows = [row | {"mask": None} for key, found in FOUND.items() for row in detection_rows(key, found)]
    write_table(tmp_path / "found/s0.parquet", rows, DETECTIONS)
    assert "masks" not in run_stage(tmp_path, **OPTIONS)
    assert "on 3 of 3 photographs the detector gives boxes without masks" in capsys.readouterr().err
    rows[0]["mask"] = detection_rows("v-0", FOUND["v-0"])[0]["mask"]
    write_table(tmp_path / "found/s0.parquet", rows, DETECTIONS)
    with pytest.raises(InputError, match="v-0: 3 of 4 boxes have no mask"):
        run_stage(tmp_path, **OPTIONS)


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path)
    wrong = masks_of([FIRST]).rle(HEIGHT, WIDTH + 1)[0]
    rows = [row | {"mask": wrong} for key, found in FOUND.items() for row in detection_rows(key, found)]
    write_table(tmp_path / "found/s0.parquet", rows, DETECTIONS)
    with pytest.raises(InputError, match=r"photograph \S+: RLE of 40100 pixels for a picture of 400×100"):
        run_stage(tmp_path, **OPTIONS)


def test_the_cap_is_that_of_a_tile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path)
    # of the three animals of t-2 two lie on either tile
    caps = run_stage(tmp_path, **OPTIONS, max_boxes=3)["masks"]["caps"]
    assert caps["test"] == {"max_boxes": 3, "animals_on_densest_tile": 2, "tiles_at_max_boxes": 2}
    assert "t-2: 2 of 2 tiles hold detections.max_boxes = 3 or more detections" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"t-2 has 2 annotated animals in one tile and detections\.max_boxes = 2"):
        run_stage(tmp_path, **OPTIONS, max_boxes=2)


def test_a_detectors_own_cap_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path)
    write_json(tmp_path / "detector" / DESCRIPTION, {"family": "rfdetr", "most": 3})
    caps = run_stage(tmp_path, **OPTIONS, max_boxes=1000)["masks"]["caps"]
    assert caps["test"] == {"max_boxes": 3, "animals_on_densest_tile": 2, "tiles_at_max_boxes": 2}
    told = "t-2: 2 of 2 tiles hold the 3 that the detector gives at most or more detections; lower detections.tile_px"
    assert told in capsys.readouterr().err


def test_tiles_lie_in_the_region() -> None:
    photograph = Annotated("a", "test", WIDTH, HEIGHT, np.array([[260.0, 20, 270, 29]] * 2), False)
    tiles = photograph_tiles(photograph, [100, 10, 300, 100], tile_px=150, tile_overlap=0.5)
    assert tiles == [(100, 10, 250, 100), (150, 10, 300, 100)]
    assert photograph_tiles(photograph, None, tile_px=400, tile_overlap=0.5) == [(0, 0, 400, 100)]
    check_caps(photograph, tiles[:1] * 2, 1, Path("a.json"))
    with pytest.raises(InputError, match="a has 1 annotated animals in one tile"):
        check_caps(Annotated("a", "test", WIDTH, HEIGHT, photograph.boxes_xyxy[:1], False), tiles, 1, Path("a.json"))


def test_specimens_are_read(tmp_path: Path) -> None:
    path = tmp_path / "specimens.csv"
    head = "photo_key,sample,specimens,specimens_insecta_arachnida\n"
    path.write_text(head)
    assert read_specimens(path) == {}
    path.write_text(f"{head}a,S,12,\n")
    assert read_specimens(path) == {"a": Specimens("S", 12, None)}
    for line, told in (
        ("a,S,-1,", "line 2: specimens = '-1'"),
        ("a,S,,x", "line 2: specimens_insecta_arachnida = 'x'"),
    ):
        path.write_text(f"{head}{line}\n")
        with pytest.raises(InputError, match=told):
            read_specimens(path)
    path.write_text(f"{head}a,S,1,\na,S,2,\n")
    with pytest.raises(InputError, match="line 3: photograph a is told twice"):
        read_specimens(path)


def test_samples_on_several_photographs() -> None:
    photographs = [Annotated(key, "test", 9, 9, np.zeros((0, 4)), False) for key in ("a", "b", "c")]
    specimens = {"a": Specimens("S", 10, None), "b": Specimens("S", None, None), "c": Specimens("T", 5, None)}
    specimens["d"] = Specimens("T", 6, None)  # which nobody annotated, so T is left out
    annotated = {"all": {"a": 4, "b": 5, "c": 1}}
    rows = count_rows(photographs, dict.fromkeys("abc", "?"), specimens, annotated, annotated)
    told = agreements(rows, specimens)["all"]
    assert (told["specimens_annotated"]["n"], told["specimens_annotated"]["bias"]) == (1, -6)
    # what charts show; b, whose specimens nobody counted, is left out on both sides
    assert told["specimens_and_counts"] == {"annotated": [[10, 4]], "detected_on_test": [[10, 4]]}
    specimens["b"] = Specimens("S", 6, None)
    rows = count_rows(photographs, dict.fromkeys("abc", "?"), specimens, annotated, annotated)
    assert agreements(rows, specimens)["all"]["specimens_and_counts"]["annotated"] == [[16, 9]]
    assert count_rows([], {}, {}, {"all": {}}, {"all": {}}) == []
    specimens = {"a": Specimens("S", 10, 7)}
    for group, by_hand in (("Arachnida, Insecta", 7), ("Insecta", None)):
        [row] = count_rows(photographs[:1], {"a": "?"}, specimens, {group: {"a": 4}}, {group: {"a": 4}})
        assert row["specimens"] == by_hand
    assert agreements([], {}) == {}


def test_classes_of_taxa(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.parquet"
    write_table(path, [], TAXONOMY)
    assert classes_of_taxa(path) == {}
    rows = [
        {"taxon_id": "1", "name": "Insecta", "rank": "class", "parent_id": None},
        {"taxon_id": "2", "name": "Diptera", "rank": "order", "parent_id": "1"},
        {"taxon_id": "3", "name": "Arthropoda", "rank": "phylum", "parent_id": None},
        {"taxon_id": "4", "name": "A", "rank": "genus", "parent_id": "5"},
        {"taxon_id": "5", "name": "B", "rank": "family", "parent_id": "4"},  # a circle
        {"taxon_id": "6", "name": "C", "rank": "genus", "parent_id": "lost"},
    ]
    write_table(path, rows, TAXONOMY)
    assert classes_of_taxa(path) == {"1": "Insecta", "2": "Insecta"}


def test_resampled_agreement_by_hand() -> None:
    annotated, detected = np.array([0, 10, 20]), np.array([2, 10, 24])
    weights = np.array([[1, 1, 1], [0, 3, 0], [0, 1, 2], [3, 0, 0]])
    told = resampled_agreement(annotated, detected, weights)
    assert told["slope"] == pytest.approx([1.1, np.nan, 1.4, np.nan], nan_ok=True)
    assert told["bias"] == pytest.approx([2, 0, 8 / 3, 2])
    assert told["mae"] == pytest.approx([2, 0, 8 / 3, 2])
    assert told["mape"] == pytest.approx([0.1, 0, 0.4 / 3, np.nan], nan_ok=True)


def test_intervals_and_widths() -> None:
    samples = np.column_stack([np.arange(41.0), np.full(41, np.nan)])
    told = intervals(samples, ["a", "b"])
    assert told == {"a": [1, 39], "b": None}
    assert widths(told) == {"a": 38, "b": None}
    assert intervals(np.zeros((0, 1)), ["a"]) == {"a": None}
    assert ratios(np.array([1, 2]), np.array([2, 0]), np.array([[1, 1], [0, 1]])).tolist()[0] == 1.5


def test_boxes_have_the_size_of_their_masks() -> None:
    bar = np.zeros((20, 20), bool)
    bar[10], bar[:, 10] = True, True  # a cross of 39 pixels in a box of 400
    masks = from_bitmaps([bar])
    photograph = Annotated("a", "test", 20, 20, masks.boxes().astype(np.float64), False, masks, (None,))
    judged = Judged(photograph, photograph.boxes_xyxy, np.ones(1), masks, np.zeros(1, bool))
    areas = area_ranges((100, 300), whole=True)
    told = figures(matched_instances([judged], areas).boxes_by_area)
    assert (told["AP_small"], told["AP_medium"], told["AP_large"]) == (1, None, None)
