"""Drawn trays: the files of a bulk-sample study, exact masks, annotators' slips, and equal bytes for an equal seed."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from PIL import Image
from pycocotools import mask as coco_mask

from instar.errors import InputError
from instar.files import sha256_of
from instar.masks import from_bitmaps, from_polygons, from_rle, no_masks
from instar.records.solids import light_vector
from instar.records.trays import annotators, registers
from instar.records.trays.annotators import Outline
from instar.records.trays.insects import Sprite, debris, in_one_piece, individual, insect
from instar.records.trays.spec import Form, Shares, Trays, form_of, load_trays
from instar.records.trays.tray import Animal, Canvas, Photograph, draw_tray
from instar.records.trays.world import STEP_1, STEP_2, draw_trays, plan_trays

FEW = Path(__file__).parent / "world/trays.yaml"
CONF = Path(__file__).parents[1] / "workflow/conf/world"
SEED = 5
LIGHT = light_vector(from_deg=120, height=1.2)

# pycocotools' decode speaks NumPy 1's array protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Folder:
    """Drawn trays on disk, read back."""

    path: Path
    trays: Trays
    step_1: dict[str, Any]
    step_2: dict[str, Any]
    truth: dict[str, dict[str, Any]]  # by photograph
    faults: dict[str, list[int]]

    def rows(self, name: str, delimiter: str = ",") -> list[dict[str, str]]:
        with (self.path / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter=delimiter))

    def place(self, annotation: dict[str, Any]) -> tuple[str, tuple[int, int, int, int]]:
        """The photograph of an annotation, and y_min, y_max, x_min, x_max of its sub-image there."""
        (image,) = (one for one in self.step_1["images"] if one["id"] == annotation["image_id"])
        _, name, tile = image["toras_path"].split("/")
        rows = np.load(self.path / f"annotation_tiles/{name}/{name}_tile_metadata.npy")
        top, bottom, left, right = rows[int(tile.removesuffix(".jpg").rsplit("_", 1)[1])].tolist()
        return name, (top, bottom, left, right)

    def bitmaps(self, name: str) -> np.ndarray:
        """Every true mask of a photograph: bool, shape (n, height, width)."""
        encoded = [one["segmentation"] for one in self.truth[name]["insects"]]
        masks, box = from_rle(encoded), (0, 0, self.trays.width, self.trays.height)
        return np.array([masks.bitmap(i, box) for i in range(len(masks))], bool).reshape(-1, box[3], box[2])


def _read(path: Path, spec: Path) -> Folder:
    truth = {p.stem: json.loads(p.read_text()) for p in (path / "truth").glob("*.json")}
    faults = truth.pop("faults")
    step_1, step_2 = (json.loads((path / name).read_text()) for name in (STEP_1, STEP_2))
    return Folder(path, load_trays(spec), step_1, step_2, truth, faults)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = tmp_path_factory.mktemp("trays") / "out"
    draw_trays(FEW, folder, seed=SEED, processes=1)
    return _read(folder, FEW)


def _with(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The description of few trays with some of its text replaced."""
    text = FEW.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "trays.yaml"
    path.write_text(text)
    return path


def _tray(n: int, trays: Trays, *, width: int, height: int, clustered: float | None = None) -> Photograph:
    """A tray with n insects of the description's lengths."""
    rng = np.random.default_rng(3)
    species, length = registers.all_species(trays), trays.length_px
    lengths = np.clip(rng.lognormal(np.log(length.median), length.spread, n), length.least, length.most)
    picks = registers.dealt(lengths, length.median, species, registers.community(trays, species, rng), rng)
    forms = [form_of(species[pick].order, species[pick].family) for pick in picks]
    animals = [Animal(form, float(px)) for form, px in zip(forms, lengths, strict=True)]
    shares = trays.shares if clustered is None else replace(trays.shares, clustered=clustered)
    return draw_tray(animals, width=width, height=height, median_px=length.median, shares=shares, label="G", rng=rng)


# an empty tray


def test_an_empty_tray_has_a_floor_and_no_masks() -> None:
    photograph = _tray(0, load_trays(FEW), width=200, height=120)
    assert photograph.pixels.shape == (120, 200, 3)
    assert photograph.pixels.dtype == np.uint8
    assert photograph.pixels.mean() > 100
    assert (len(photograph.insects), len(photograph.debris), photograph.categories) == (0, 0, [])


def test_a_folder_of_empty_trays_is_whole(tmp_path: Path) -> None:
    spec = _with(
        tmp_path,
        ("[12, 30]", "[0, 0]"),
        ("photographs: 6", "photographs: 1"),
        ("doubles: 2", "doubles: 0"),
        ("unannotated: 1", "unannotated: 0"),
        ("validation: 1, test: 2", "validation: 0, test: 0"),
        ("hand_counted: 0.8", "hand_counted: 1.0"),
    )
    draw_trays(spec, tmp_path / "out", seed=SEED, processes=1)
    empty = _read(tmp_path / "out", spec)
    assert len(empty.step_1["images"]) == 9
    assert empty.step_1["annotations"] == empty.step_2["annotations"] == []
    assert [row["specimens"] for row in empty.rows("metadata.csv")] == ["0"]
    assert [one["insects"] for one in empty.truth.values()] == [[]]


# the folder


def test_equal_seed_gives_equal_bytes(drawn: Folder, tmp_path: Path) -> None:
    draw_trays(FEW, tmp_path / "again", seed=SEED, processes=2)
    assert sha256_of(tmp_path / "again") == sha256_of(drawn.path)


def test_another_seed_draws_other_trays() -> None:
    trays = load_trays(FEW)
    species = registers.all_species(trays)
    assert plan_trays(trays, species, SEED) == plan_trays(trays, species, SEED)
    assert plan_trays(trays, species, SEED) != plan_trays(trays, species, SEED + 1)


def test_every_file_is_there(drawn: Folder) -> None:
    top = {"edited", "annotation_tiles", STEP_1, STEP_2, "truth"}
    tables = {"metadata.csv", "partition.csv", "bold.tsv", "dyntaxa.csv", "barcodes.csv"}
    assert {path.name for path in drawn.path.iterdir()} == top | tables
    assert len(drawn.truth) == 6
    for name in drawn.truth:
        with Image.open(drawn.path / f"edited/{name}.jpg") as photograph:
            assert (photograph.size, photograph.mode) == ((360, 270), "RGB")
        rows = np.load(drawn.path / f"annotation_tiles/{name}/{name}_tile_metadata.npy")
        assert rows.shape == (9, 4)
        assert np.issubdtype(rows.dtype, np.integer)
        for i, (top_px, bottom, left, right) in enumerate(rows.tolist()):
            with Image.open(drawn.path / f"annotation_tiles/{name}/{name}_tile_{i}.jpg") as tile:
                assert tile.size == (right - left, bottom - top_px)


def test_images_are_the_sub_images_of_the_annotated_photographs(drawn: Folder) -> None:
    names = {row["photo"] for row in drawn.rows("partition.csv")}
    assert len(names) == 5  # one is not annotated
    expected = {f"batch-1/{name}/{name}_tile_{i}.jpg" for name in names for i in range(9)}
    assert {image["toras_path"] for image in drawn.step_1["images"]} == expected
    assert drawn.step_2["images"] == drawn.step_1["images"]
    ids = [annotation["id"] for annotation in drawn.step_1["annotations"]]
    assert len(set(ids)) == len(ids)


def test_the_description_of_the_study_gives_the_same_layout() -> None:
    trays, full = load_trays(CONF / "trays.yaml"), load_trays(CONF / "trays_full.yaml")
    plans = plan_trays(full, registers.all_species(full), SEED)
    counts = [len(plan.species) for plan in plans]
    assert (full.width, full.height, len(plans)) == (8192, 5464, 49)
    assert min(counts) >= 200
    assert 2000 < max(counts) <= 3000
    assert len({plan.sample for plan in plans}) == 45
    assert 10 <= trays.photographs <= 14
    assert {"Diptera", "Araneae"} < {order.name for order in trays.orders}


# masks


def test_true_masks_do_not_overlap(drawn: Folder) -> None:
    for name, one in drawn.truth.items():
        bitmaps = drawn.bitmaps(name)
        assert bitmaps.shape[1:] == (270, 360)
        assert bitmaps.sum(axis=0).max() == 1
        assert bitmaps.sum(axis=(1, 2)).tolist() == [insect["area"] for insect in one["insects"]]
        assert len(bitmaps) <= one["drawn"]


def test_insects_differ_from_the_floor_where_their_masks_are(drawn: Folder) -> None:
    for name in drawn.truth:
        grey = np.asarray(Image.open(drawn.path / f"edited/{name}.jpg").convert("L"))
        own = drawn.bitmaps(name).any(axis=0)
        around = cv2.dilate(own.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~own
        assert grey[own].mean() < grey[around].mean() - 20


def test_debris_and_insects_have_pixels_of_their_own() -> None:
    photograph = _tray(40, load_trays(FEW), width=320, height=240, clustered=1.0)
    box = (0, 0, 320, 240)
    total = sum(
        masks.bitmap(i, box).astype(int) for masks in (photograph.insects, photograph.debris) for i in range(len(masks))
    )
    assert np.max(total) == 1
    assert len(photograph.debris) == len(photograph.categories) == 28  # 0.7 for each insect
    assert set(photograph.categories) <= {"d", "e", "u"}


def _square(side: int, alpha: int = 255) -> Sprite:
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., 3] = alpha
    return Sprite(rgba, np.ones((side, side), bool))


def test_what_lies_on_top_hides_what_is_below() -> None:
    canvas = Canvas(np.full((40, 50, 3), 200, np.uint8), LIGHT)
    canvas.put(_square(10), 5, 5, 1)
    canvas.put(_square(10, alpha=51), 10, 5, 2)  # a fifth
    canvas.put(_square(4), 46, 30, 3)
    canvas.put(_square(4), 46, 30)  # a label belongs to nobody
    canvas.put(_square(2), 5, 5)
    masks = canvas.masks(1, [(5, 5, 15, 15), (10, 5, 20, 15), (46, 30, 50, 34)])
    assert masks.areas().tolist() == [46, 100, 0]
    assert masks.boxes()[:2].tolist() == [[5, 5, 10, 15], [10, 5, 20, 15]]
    assert canvas.pixels[10, [3, 7, 12, 17], 0].tolist() == [200, 0, 0, 160]


def test_crumbs_of_a_hidden_insect_are_not_its_mask() -> None:
    canvas = Canvas(np.full((40, 50, 3), 200, np.uint8), LIGHT)
    canvas.put(_square(20), 0, 0, 1)
    canvas.put(_square(12), 1, 0, 2)
    canvas.put(_square(12), 1, 8, 2)  # leaves column 0, 20 pixels, and columns 13 to 19
    assert canvas.masks(1, [(0, 0, 20, 20)]).areas().tolist() == [160]
    canvas.put(_square(20), 0, 0, 1)
    canvas.put(_square(20), 1, 0, 2)
    canvas.put(_square(1), 0, 1, 2)  # leaves 1 and 18 pixels
    assert canvas.masks(1, [(0, 0, 20, 20)]).areas().tolist() == [18]


def test_areas_are_distributed_as_on_real_trays() -> None:
    """Published: median 343 pixels, 76.5 % below 32²; 15 to 83,182 pixels."""
    areas = _tray(300, load_trays(CONF / "trays_full.yaml"), width=2400, height=1600).insects.areas()
    seen = areas[areas > 0]
    assert len(seen) >= 0.95 * len(areas)
    assert np.median(seen) == pytest.approx(343, rel=0.25)
    assert (seen < 32**2).mean() == pytest.approx(0.765, abs=0.06)
    assert seen.min() < 30
    assert seen.max() > 10_000


# insects


@pytest.mark.parametrize("order", [order.name for order in load_trays(FEW).orders])
def test_every_order_can_be_drawn(order: str) -> None:
    rng = np.random.default_rng(1)
    forms = [form_of(one, family) for one, family in load_trays(FEW).taxa() if one.name == order]
    for form in forms:
        for length in (4.0, 40.0):
            sprite = insect(individual(form, rng, pale=False), length_px=length, light=LIGHT, rng=rng)
            assert sprite.rgba.shape[:2] == sprite.cover.shape
            assert sprite.rgba[..., 3].max() > 100
            assert 0.04 * length**2 < max(sprite.cover.sum(), 1) < 4 * length**2


def test_clear_wings_are_covered_but_seen_through() -> None:
    rng = np.random.default_rng(0)
    plain = Form(legs=0, antenna_length=0, bend_deg=0)
    winged = replace(plain, wings="clear", wing_opacity=0.2, wing_length=1.5, wing_width=0.5)
    bare, flying = (insect(form, length_px=60, light=LIGHT, rng=rng) for form in (plain, winged))
    assert flying.cover.sum() > 1.5 * bare.cover.sum()
    wing = flying.cover & (flying.rgba[..., 3] < 100)
    assert wing.sum() > 0.3 * bare.cover.sum()


def test_pale_insects_are_lighter() -> None:
    dark = Form(variation=0.0)
    colours = [individual(dark, np.random.default_rng(4), pale=pale).abdomen_colour for pale in (False, True)]
    assert int(colours[1][1:3], 16) > int(colours[0][1:3], 16) + 50


def test_every_kind_of_debris_can_be_drawn() -> None:
    rng = np.random.default_rng(2)
    pieces = [debris(LIGHT, [Form(wings="fly")], 20, rng) for _ in range(60)]
    assert {category for _, category in pieces} == {"d", "e", "u"}
    assert all(sprite.rgba[..., 3].any() for sprite, _ in pieces)


def test_one_piece_is_the_largest_without_holes() -> None:
    cover = np.zeros((7, 9), bool)
    cover[1:6, 1:6], cover[3, 3], cover[2, 7] = True, False, True
    expected = np.zeros((7, 9), bool)
    expected[1:6, 1:6] = True
    assert np.array_equal(in_one_piece(cover), expected)
    assert not in_one_piece(np.zeros((3, 3), bool)).any()


# annotators


def test_sub_images_overlap_and_reach_the_edges() -> None:
    # 67 of 100: two cover 100 and share 34
    assert annotators.sub_image_rows(100, 40, 2, 0.5).tolist() == [
        [0, 27, 0, 67],
        [0, 27, 33, 100],
        [13, 40, 0, 67],
        [13, 40, 33, 100],
    ]
    assert annotators.sub_image_rows(100, 40, 1, 0.5).tolist() == [[0, 40, 0, 100]]


def test_rings_run_along_the_edges_of_pixels() -> None:
    assert annotators.rings_of(no_masks()) == []
    square = np.zeros((6, 8), bool)
    square[2:5, 3:7] = True
    ((ring,),) = annotators.rings_of(from_bitmaps([square]))
    assert sorted(map(tuple, ring.tolist())) == [(3, 2), (3, 5), (7, 2), (7, 5)]
    two = square.copy()
    two[:, 5] = False
    assert [len(rings) for rings in annotators.rings_of(from_bitmaps([two, ~two & square]))] == [2, 1]
    holed = np.ones((3, 3), bool)
    holed[1, 1] = False
    ((ring,),) = annotators.rings_of(from_bitmaps([holed]))
    assert shapely.Polygon(ring).area == 9


def test_pycocotools_fills_rings_with_the_very_mask() -> None:
    rng = np.random.default_rng(8)
    bitmaps = [cv2.blur(rng.random((40, 50)).astype(np.float32), (5, 5)) > 0.5 for _ in range(5)]
    for bitmap in map(in_one_piece, bitmaps):
        (rings,) = annotators.rings_of(from_bitmaps([bitmap]))
        filled = from_polygons([[ring.ravel().tolist() for ring in rings]], 40, 50)
        assert np.array_equal(filled.bitmap(0, (0, 0, 50, 40)), bitmap)


def test_an_insect_in_two_sub_images_is_outlined_in_both() -> None:
    insects = from_bitmaps([np.ones((4, 10), bool), np.ones((4, 4), bool)], [(28, 10), (90, 10)])
    tiles = np.array([(5, 45, 0, 36), (5, 45, 30, 100), (5, 45, 37, 100)])
    outlines = annotators.outlined("p", insects, no_masks(), [], tiles)
    found = [(one.tile, one.subject, one.area) for one in outlines]
    # the first reaches from 28 to 38: 8 of its 10 columns, 8 again, and 1, a tenth
    assert sorted(found) == [
        (0, "insect-0", 32),
        (1, "insect-0", 32),
        (1, "insect-1", 16),
        (2, "insect-0", 4),
        (2, "insect-1", 16),
    ]
    (cut,) = (one for one in outlines if (one.tile, one.subject) == (0, "insect-0"))
    assert cut.rings[0].max(axis=0).tolist() == [36, 9]


def test_less_than_a_tenth_of_an_insect_is_not_outlined() -> None:
    insects = from_bitmaps([np.ones((1, 20), bool)])
    outlines = annotators.outlined("p", insects, no_masks(), [], np.array([(0, 5, 0, 19), (0, 5, 19, 30)]))
    assert [(one.tile, one.area) for one in outlines] == [(0, 19)]


def _outlines(n: int) -> list[Outline]:
    ring = np.array([(0, 0), (12, 0), (12, 3), (8, 3), (8, 6), (0, 6)], float)
    return [Outline("p", 0, "b", f"insect-{i}", [ring + 20 * i], 60, (900, 900)) for i in range(n)]


def test_slips_are_made_at_the_stated_rates(drawn: Folder) -> None:
    shares = replace(drawn.trays.shares, self_crossing=0.3, two_parts=0.2, two_points=0.1)
    slipped, faults = annotators.with_slips(_outlines(10), shares, SEED)
    assert {kind: len(places) for kind, places in faults.items()} == {
        "self_crossing": 3,
        "two_parts": 2,
        "two_points": 1,
    }
    assert len(slipped) == 11
    for place in faults["self_crossing"]:
        assert not shapely.Polygon(slipped[place].rings[0]).is_valid
    for place in faults["two_parts"]:
        # columns 6 to 7 are left out: 6 columns of 6, 1 of 6, 4 of 3
        assert [len(slipped[place].rings), slipped[place].area] == [2, 54]
    for place in faults["two_points"]:
        assert [ring.shape for ring in slipped[place].rings] == [(2, 2)]
    assert annotators.with_slips([], shares, SEED)[0] == []


def test_only_outlines_of_insects_have_slips(drawn: Folder) -> None:
    shares = replace(drawn.trays.shares, self_crossing=1.0, two_parts=0.0, two_points=1.0)
    outlines = [replace(one, name=name) for one, name in zip(_outlines(4), "dbeb", strict=True)]
    slipped, faults = annotators.with_slips(outlines, shares, SEED)
    assert faults == {"self_crossing": [1, 4], "two_parts": [], "two_points": [2, 5]}
    assert [one.name for one in slipped] == list("dbbebb")


def test_some_debris_is_annotated(drawn: Folder) -> None:
    names = [one["name"] for one in drawn.step_1["annotations"]]
    assert {"b", "d"} < set(names) <= set(annotators.CATEGORIES)
    # 0.7 pieces for each insect, of which 0.4 are annotated
    assert sum(name != "b" for name in names) / names.count("b") == pytest.approx(0.28, abs=0.16)
    numbers = {one["name"]: one["category_id"] for one in drawn.step_1["annotations"]}
    assert {one["name"]: one["id"] for one in drawn.step_1["categories"]} == numbers == annotators.CATEGORIES


def test_faults_on_disk_are_those_that_are_listed(drawn: Folder) -> None:
    annotations = {one["id"]: one for one in drawn.step_1["annotations"]}
    assert all(drawn.faults.values())
    for number in drawn.faults["self_crossing"]:
        assert not shapely.Polygon(np.reshape(annotations[number]["segmentation"][0], (-1, 2))).is_valid
    for number in drawn.faults["two_parts"]:
        assert len(annotations[number]["segmentation"]) == 2
    short = {n for n, one in annotations.items() if any(len(ring) < 6 for ring in one["segmentation"])}
    assert short == set(drawn.faults["two_points"])


def test_outlines_on_disk_are_the_true_masks(drawn: Folder) -> None:
    """But for holes, which a ring cannot have, every outline without a slip is exact."""
    bad = {number for numbers in drawn.faults.values() for number in numbers}
    exact = total = 0
    for one in drawn.step_1["annotations"]:
        if one["name"] != "b" or one["id"] in bad:
            continue
        name, (top, bottom, left, right) = drawn.place(one)
        outline = coco_mask.decode(
            coco_mask.merge(coco_mask.frPyObjects(one["segmentation"], bottom - top, right - left))
        ).astype(bool)
        true = drawn.bitmaps(name)[:, top:bottom, left:right]
        mask = true[int(np.argmax((true & outline).sum(axis=(1, 2))))]
        assert not (mask & ~outline).any()
        extra = outline & ~mask
        assert extra.sum() <= max(1, 0.05 * outline.sum()) or (extra & true.any(axis=0)).any()
        assert one["area"] == mask.sum()
        total, exact = total + 1, exact + (not extra.any())
    assert total > 100
    assert exact >= 0.95 * total


def test_every_insect_that_is_seen_is_outlined(drawn: Folder) -> None:
    covered = {name: np.zeros((270, 360), bool) for name in drawn.truth}
    for one in drawn.step_1["annotations"]:
        if one["name"] == "b" and one["area"]:
            name, (top, bottom, left, right) = drawn.place(one)
            rle = coco_mask.merge(coco_mask.frPyObjects(one["segmentation"], bottom - top, right - left))
            covered[name][top:bottom, left:right] |= coco_mask.decode(rle).astype(bool)
    for row in drawn.rows("partition.csv"):
        for mask in drawn.bitmaps(row["photo"]):
            assert (mask & covered[row["photo"]]).sum() >= 0.9 * mask.sum()


# taxa and registers


def test_labels_share_ids_and_outlines_with_the_first_step(drawn: Folder) -> None:
    first = {one["id"]: one for one in drawn.step_1["annotations"]}
    same = [one for one in drawn.step_2["annotations"] if one["id"] in first]
    assert 0.8 * len(drawn.step_2["annotations"]) < len(same) < len(drawn.step_2["annotations"])
    assert all(one["segmentation"] == first[one["id"]]["segmentation"] for one in same)
    assert all(first[one["id"]]["name"] == "b" for one in same)
    known = {registers.MICROLEPIDOPTERA}
    for one in registers.all_species(drawn.trays):
        known |= set(one.lineage().values()) | set(one.between().values())
    assert {name for one in drawn.step_2["annotations"] for name in one["name"].split("; ")} <= known


def test_larger_insects_get_finer_labels() -> None:
    species = registers.all_species(load_trays(FEW))
    fly = species[0]
    rng = np.random.default_rng(0)

    def sure(size: float) -> list[str]:
        return [registers.taxon_labels(fly, size, species, wrong=0.0, rng=rng)[0] for _ in range(200)]

    assert sum(name in ("Insecta", "Diptera") for name in sure(0.05)) > 190
    assert sum(name in ("Insecta", "Diptera") for name in sure(20.0)) < 10
    assert "Chironomidae" in sure(2.0)
    lineage = list((fly.lineage() | fly.between()).values())
    labels = registers.taxon_labels(fly, 1.0, species, wrong=0.0, rng=rng)
    assert set(labels) <= set(lineage)


def test_wrong_labels_are_other_taxa_of_the_order() -> None:
    species = registers.all_species(load_trays(FEW))
    rng = np.random.default_rng(0)
    finer = [
        name for _ in range(100) for name in registers.taxon_labels(species[0], 0.4, species, wrong=1.0, rng=rng)[1:]
    ]
    own = set((species[0].lineage() | species[0].between()).values())
    assert finer
    assert not set(finer) & own


def test_microlepidoptera_are_called_so() -> None:
    species = registers.all_species(load_trays(FEW))
    (moth, *_) = (one for one in species if one.family.micro)
    (noctuid, *_) = (one for one in species if one.family.name == "Noctuidae")
    rng = np.random.default_rng(0)
    for one, called in ((moth, True), (noctuid, False)):
        names = [name for _ in range(60) for name in registers.taxon_labels(one, 0.4, species, wrong=0.0, rng=rng)]
        assert (registers.MICROLEPIDOPTERA in names) is called


def test_metadata_counts_by_hand_lose_a_few(drawn: Folder) -> None:
    rows = drawn.rows("metadata.csv")
    columns = (
        "photo,sample,specimens,latitude,longitude,collected,trap,licence,rights_holder,specimens_insecta_arachnida"
    )
    assert list(rows[0]) == columns.split(",")
    assert {row["photo"] for row in rows} == set(drawn.truth)
    counted = [row for row in rows if row["specimens"]]
    assert 0 < len(counted) < len(rows)
    for row in counted:
        true = drawn.truth[row["photo"]]["drawn"]
        assert 0.7 * true <= int(row["specimens"]) <= true
        assert int(row["specimens_insecta_arachnida"]) <= int(row["specimens"])
    assert len({row["sample"] for row in rows}) == 4  # two samples have two photographs


def test_partition_keeps_samples_together(drawn: Folder) -> None:
    sample = {row["photo"]: row["sample"] for row in drawn.rows("metadata.csv")}
    parts: dict[str, set[str]] = {}
    splits = []
    for row in drawn.rows("partition.csv"):
        parts.setdefault(sample[row["photo"]], set()).add(row["split"])
        splits.append(row["split"])
    assert all(len(one) == 1 for one in parts.values())
    assert (splits.count("validation"), splits.count("test"), splits.count("train")) == (1, 2, 2)


def test_checklists_are_trees_and_differ_in_one_genus(drawn: Folder) -> None:
    bold, dyntaxa = drawn.rows("bold.tsv", "\t"), drawn.rows("dyntaxa.csv", "\t")
    assert list(bold[0]) == ["processid", "sampleid", *registers.BOLD_RANKS, "bin_uri"]
    assert list(dyntaxa[0]) == list(registers.DYNTAXA_COLUMNS)
    by_id = {row["taxonId"]: row for row in dyntaxa}
    assert len(by_id) == len(dyntaxa)
    assert [row["scientificName"] for row in dyntaxa if not row["parentNameUsageID"]] == ["Animalia"]
    assert all(row["parentNameUsageID"] in by_id for row in dyntaxa if row["taxonRank"] != "kingdom")
    assert {row["taxonRank"] for row in dyntaxa} >= {"suborder", "infraorder", "superfamily"}
    family = {row["genus"]: row["family"] for row in bold}
    other = {
        row["scientificName"]: by_id[row["parentNameUsageID"]]["scientificName"]
        for row in dyntaxa
        if row["taxonRank"] == "genus"
    }
    assert set(other) == set(family)
    assert sum(other[genus] != family[genus] for genus in family) == 1
    assert [row["taxonomicStatus"] for row in dyntaxa].count("synonym") == 1


def test_barcodes_hold_most_of_what_lies_in_a_sample(drawn: Folder) -> None:
    there = {(one["sample"], insect["species"]) for one in drawn.truth.values() for insect in one["insects"]}
    rows = drawn.rows("barcodes.csv")
    coded = {(row["sample"], row["species"]) for row in rows}
    assert 0.6 < len(there & coded) / len(there) < 1
    assert any(not row["species"] and row["family"] for row in rows)
    assert all(int(row["reads"]) > 0 for row in rows)


def test_barcoding_misses_some_and_finds_others() -> None:
    species = registers.all_species(load_trays(FEW))
    rng, half = np.random.default_rng(0), set(range(0, len(species), 2))
    rows = [row for _ in range(100) for row in registers.barcodes("G", species, half, rng)]
    names = {species[i].name for i in half}
    right = sum(row.get("species") in names for row in rows)
    foreign = sum("species" in row for row in rows) - right
    # a tenth is told to the family only
    assert right / (100 * len(half)) == pytest.approx(0.9 * 0.92, abs=0.03)
    assert foreign / (100 * (len(species) - len(half))) == pytest.approx(0.9 * 0.04, abs=0.015)


# descriptions


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("width: 360", "widths: 360"), "widths"),
        (("doubles: 2", "doubles: 4"), "doubles: 4 samples of two among 6"),
        (("[12, 30]", "[30, 12]"), "insects: [30, 12]"),
        (("sub_image_overlap: 0.25", "sub_image_overlap: 1"), "sub_image_overlap"),
        (("median: 17", "median: many"), "length_px.median"),
        (("least: 5", "least: 90"), "length_px: 90.0 to 50.0"),
        (("validation: 1", "validation: 5"), "given: 5 + 2 of 6"),
    ],
)
def test_a_wrong_description_is_told_in_one_line(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    path = _with(tmp_path, change)
    with pytest.raises(InputError) as error:
        draw_trays(path, tmp_path / "out", seed=1)
    assert told in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_description_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_trays(tmp_path / "none.yaml")


def test_unknown_wings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "trays.yaml"
    order = "{name: Diptera, form: {wings: feathers}, families: [{name: Muscidae, weight: 1, genera: {Domimyia: [a]}}]}"
    path.write_text(f"{FEW.read_text()}\norders: [{order}]\n")
    with pytest.raises(InputError, match="feathers"):
        load_trays(path)


def test_shares_are_all_described() -> None:
    assert set(vars(load_trays(FEW).shares)) == set(Shares.__dataclass_fields__)
