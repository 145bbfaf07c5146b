"""The drawn world: upstream formats, exact truth, every defect, and equal bytes for an equal seed."""

import csv
import gzip
import hashlib
import io
import json
import xml.etree.ElementTree as ElementTree
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from instar.decode import UndecodableError, decode_upright
from instar.errors import InputError
from instar.files import sha256_of
from instar.records.scenes import Scene, draw_scene, encoded, spoiled
from instar.records.solids import Ellipsoid, Material, light_vector, render, view_matrix
from instar.records.world import draw_world
from instar.records.world_plan import BUCKET, Plan, chosen, plan_world
from instar.records.world_spec import Look, Range, World, load_world, look_of

TINY = Path(__file__).parent / "world/tiny.yaml"
DEMO = Path(__file__).parents[1] / "workflow/conf/world/demo.yaml"
REAL = Path(__file__).parents[2] / "shared/realdata"
SEED = 3

# pycocotools' decode speaks NumPy 1's array protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Drawn:
    """A world on disk, read back."""

    out: Path
    photographs: list[dict[str, Any]]
    ants: list[dict[str, Any]]
    coco: dict[str, Any]

    def table(self, name: str) -> list[dict[str, str]]:
        return _tab_separated(gzip.decompress((self.out / f"inaturalist-open-data/{name}.csv.gz").read_bytes()))

    def gbif(self, name: str) -> bytes:
        with zipfile.ZipFile(self.out / "gbif.zip") as archive:
            return archive.read(name)

    def path(self, key: str) -> Path:
        source, photo_id = key.split("-", 1)
        if source == "inaturalist":
            (extension,) = (row["extension"] for row in self.table("photos") if row["photo_id"] == photo_id)
            return self.out / f"mirror/{BUCKET}/photos/{photo_id}/original.{extension}"
        urls = [row["identifier"] for row in _tab_separated(self.gbif("multimedia.txt"))]
        (url,) = (url for url in urls if _gbif_key(url) == key)
        return self.out / "mirror" / url.removeprefix("https://")


def _gbif_key(url: str) -> str:
    return f"gbif-{hashlib.sha1(url.encode()).hexdigest()[:16]}"


def _tab_separated(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode()), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("world")
    draw_world(TINY, folder / "out", seed=SEED, truth=folder / "truth", processes=2)
    photographs, ants = (pq.read_table(folder / f"truth/{n}.parquet").to_pylist() for n in ("photographs", "ants"))
    coco = json.loads((folder / "out/annotations.json").read_text())
    return Drawn(folder / "out", photographs, ants, coco)


@pytest.fixture(scope="module")
def demo() -> World:
    return load_world(DEMO)


@pytest.fixture(scope="module")
def demo_plan(demo: World) -> Plan:
    return plan_world(demo, SEED)


def _mask(ant: dict[str, Any], height: int, width: int) -> np.ndarray:
    return coco_mask.decode({"size": [height, width], "counts": ant["mask"].encode()}).astype(bool)


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


# formats


@pytest.mark.parametrize("name", ["photos", "observations", "taxa", "observers"])
def test_inaturalist_tables_have_the_real_columns(drawn: Drawn, name: str) -> None:
    real = REAL / f"inaturalist_open_data/{name}.csv"
    if not real.is_file():
        pytest.skip(f"{real} is not here: a sample of iNaturalist's open data to compare with")
    text = gzip.decompress((drawn.out / f"inaturalist-open-data/{name}.csv.gz").read_bytes()).decode()
    assert text.splitlines()[0] == real.read_text().splitlines()[0]


def test_inaturalist_tables_refer_to_each_other(drawn: Drawn) -> None:
    observations = {row["observation_uuid"]: row for row in drawn.table("observations")}
    taxa = {row["taxon_id"]: row for row in drawn.table("taxa")}
    assert {row["observation_uuid"] for row in drawn.table("photos")} == set(observations)
    assert {row["taxon_id"] for row in observations.values()} <= set(taxa)
    assert {row["observer_id"] for row in observations.values()} <= {r["observer_id"] for r in drawn.table("observers")}
    for row in taxa.values():
        ancestors = row["ancestry"].split("/") if row["ancestry"] else []
        assert all(ancestor in taxa for ancestor in ancestors)
        assert [int(taxa[a]["rank_level"]) for a in ancestors] == sorted(
            (int(taxa[a]["rank_level"]) for a in ancestors), reverse=True
        )


def test_taxa_hold_an_inactive_name_and_insects_that_are_no_ants(drawn: Drawn) -> None:
    taxa = {row["name"]: row for row in drawn.table("taxa")}
    assert taxa["Velomyrma atrata"]["active"] == "false"
    formicidae = taxa["Formicidae"]["taxon_id"]
    assert formicidae in taxa["Velomyrma rubicola"]["ancestry"].split("/")
    assert formicidae not in taxa["Scutobius viridis"]["ancestry"].split("/")
    used = {row["taxon_id"] for row in drawn.table("observations")}
    assert {taxa[name]["taxon_id"] for name in ("Velomyrma atrata", "Scutobius viridis", "Velomyrma")} <= used


def test_observations_without_coordinates_are_casual_and_empty(drawn: Drawn) -> None:
    rows = drawn.table("observations")
    without = [row for row in rows if row["latitude"] == ""]
    assert without
    assert all(row["longitude"] == "" and row["quality_grade"] == "casual" for row in without)
    assert {row["quality_grade"] for row in rows} == {"research", "needs_id", "casual"}


def test_gbif_archive_describes_its_own_columns(drawn: Drawn) -> None:
    meta = ElementTree.fromstring(drawn.gbif("meta.xml"))
    space = "{http://rs.tdwg.org/dwc/text/}"
    for element in meta:
        location = element.find(f"{space}files/{space}location")
        assert location is not None and location.text
        header = drawn.gbif(location.text).decode().splitlines()[0].split("\t")
        for declared in element.findall(f"{space}field"):
            assert declared.attrib["term"].rsplit("/", 1)[1] == header[int(declared.attrib["index"])]


def test_gbif_archive_is_of_the_form_of_a_real_one(drawn: Drawn) -> None:
    real = REAL / "dwca/archive-occ.zip"
    if not real.is_file():
        pytest.skip(f"{real} is not here: a Darwin Core Archive to compare with")
    with zipfile.ZipFile(real) as archive:
        expected = ElementTree.fromstring(archive.read("archive-occ/meta.xml"))
    found = ElementTree.fromstring(drawn.gbif("meta.xml"))
    assert found.tag == expected.tag
    assert found[0].tag == expected[0].tag
    assert {child.tag for child in expected[0]} == {child.tag for child in found[0]}
    assert "10.15468/dl." in drawn.gbif("metadata.xml").decode()


def test_gbif_holds_specimens_and_some_observations(drawn: Drawn) -> None:
    occurrences = {row["gbifID"]: row for row in _tab_separated(drawn.gbif("occurrence.txt"))}
    media = _tab_separated(drawn.gbif("multimedia.txt"))
    assert {row["gbifID"] for row in media} == set(occurrences)
    assert {row["basisOfRecord"] for row in occurrences.values()} == {"PRESERVED_SPECIMEN", "HUMAN_OBSERVATION"}
    specimens = [row for row in occurrences.values() if row["basisOfRecord"] == "PRESERVED_SPECIMEN"]
    assert any(row["decimalLatitude"] == "" for row in specimens)
    synonym = next(row for row in specimens if row["taxonomicStatus"] == "SYNONYM")
    assert (synonym["scientificName"], synonym["species"]) == ("Velomyrma atrata Pictor, 1901", "Velomyrma rubicola")
    republished = [row for row in media if "inaturalist" in row["identifier"]]
    assert {row["references"].rsplit("/", 1)[1] for row in republished} <= {
        r["photo_id"] for r in drawn.table("photos")
    }


def test_republished_photographs_are_a_third_of_research_grade(drawn: Drawn) -> None:
    research = {r["observation_uuid"] for r in drawn.table("observations") if r["quality_grade"] == "research"}
    photographs = [row for row in drawn.table("photos") if row["observation_uuid"] in research]
    republished = [row for row in _tab_separated(drawn.gbif("multimedia.txt")) if "inaturalist" in row["identifier"]]
    assert len(republished) / len(photographs) == pytest.approx(0.34, abs=0.06)


def test_annotations_are_the_truth(drawn: Drawn) -> None:
    truth = {photograph["key"]: photograph for photograph in drawn.photographs}
    images = {image["id"]: image for image in drawn.coco["images"]}
    assert len(images) == pytest.approx(0.5 * len(truth), abs=6)
    boxes: dict[str, list[list[int]]] = {image["file_name"].removesuffix(".jpg"): [] for image in images.values()}
    for annotation in drawn.coco["annotations"]:
        mask = coco_mask.decode(annotation["segmentation"])
        x, y, width, height = annotation["bbox"]
        assert _bounds(mask) == (x, y, x + width, y + height)
        assert annotation["area"] == mask.sum()
        boxes[images[annotation["image_id"]]["file_name"].removesuffix(".jpg")].append([x, y, x + width, y + height])
    for key, found in boxes.items():
        assert found == [[a[n] for n in ("x_min", "y_min", "x_max", "y_max")] for a in drawn.ants if a["key"] == key]
    assert any(not found for found in boxes.values())
    assert any(key.startswith("gbif-") for key in boxes)


# truth


def test_boxes_are_the_bounds_of_their_masks(drawn: Drawn) -> None:
    size = {photograph["key"]: (photograph["height"], photograph["width"]) for photograph in drawn.photographs}
    for ant in drawn.ants:
        mask = _mask(ant, *size[ant["key"]])
        assert _bounds(mask) == (ant["x_min"], ant["y_min"], ant["x_max"], ant["y_max"])
        assert mask.sum() == ant["area"]


def test_every_readable_photograph_is_upright_in_the_size_that_the_tables_give(drawn: Drawn) -> None:
    listed = {row["photo_id"]: row for row in drawn.table("photos")}
    for photograph in drawn.photographs:
        if photograph["defect"]:
            continue
        pixels = decode_upright(drawn.path(photograph["key"]).read_bytes())
        assert pixels.shape == (photograph["height"], photograph["width"], 3)
        if row := listed.get(photograph["key"].removeprefix("inaturalist-")):
            assert (int(row["width"]), int(row["height"])) == (photograph["width"], photograph["height"])


def test_rotated_files_are_stored_turned(drawn: Drawn) -> None:
    rotated = [photograph for photograph in drawn.photographs if photograph["orientation"] != 1]
    assert {photograph["orientation"] for photograph in rotated} == {2, 3, 6, 8}
    for photograph in rotated:
        with Image.open(drawn.path(photograph["key"])) as image:
            assert image.getexif()[0x0112] == photograph["orientation"]
            stored = image.size if photograph["orientation"] in (2, 3) else image.size[::-1]
        assert stored == (photograph["width"], photograph["height"])


def test_every_defect_is_there(drawn: Drawn) -> None:
    files = {p["defect"]: drawn.path(p["key"]) for p in drawn.photographs if p["defect"]}
    assert set(files) == {"truncated", "corrupt_middle", "corrupt_header", "empty", "html", "missing"}
    assert not files["missing"].exists()
    assert files["empty"].stat().st_size == 0
    assert files["html"].read_bytes().startswith(b"<!DOCTYPE html>")
    for kind in ("truncated", "corrupt_header", "empty", "html"):
        with pytest.raises(UndecodableError):
            decode_upright(files[kind].read_bytes())


def test_some_ants_are_too_small_and_no_others_nearly_so(drawn: Drawn) -> None:
    long_sides = np.array([max(ant["x_max"] - ant["x_min"], ant["y_max"] - ant["y_min"]) for ant in drawn.ants])
    assert (long_sides < 50).any()
    assert not ((long_sides >= 50) & (long_sides < 78)).any()
    assert long_sides.max() <= 350


def test_wrong_labels_are_marked(drawn: Drawn) -> None:
    wrong = {photograph["key"] for photograph in drawn.photographs if photograph["wrong_label"]}
    names = {row["taxon_id"]: row["name"] for row in drawn.table("taxa")}
    labels = {row["observation_uuid"]: names[row["taxon_id"]] for row in drawn.table("observations")}
    shown = {f"inaturalist-{row['photo_id']}": labels[row["observation_uuid"]] for row in drawn.table("photos")}
    true = {photograph["key"]: photograph["species"] for photograph in drawn.photographs}
    allowed = {key: (true[key], true[key].split()[0], "Velomyrma atrata") for key in shown}
    assert wrong == {key for key, label in shown.items() if label not in allowed[key]} != set()


def test_bursts_are_nearly_the_same_picture(drawn: Drawn) -> None:
    bursts: dict[str, list[str]] = {}
    for photograph in drawn.photographs:
        if photograph["burst"] and not photograph["defect"]:
            bursts.setdefault(photograph["burst"], []).append(photograph["key"])
    pairs = [keys[:2] for keys in bursts.values() if len(keys) > 1]
    assert pairs
    for pair in pairs:
        first, second = (Image.fromarray(decode_upright(drawn.path(key).read_bytes())) for key in pair)
        small = [np.asarray(image.convert("L").resize((16, 12)), float) for image in (first, second)]
        assert np.abs(small[0] - small[1]).mean() < 20
        assert drawn.path(pair[0]).read_bytes() != drawn.path(pair[1]).read_bytes()


def test_equal_seeds_give_equal_bytes_whatever_the_number_of_processes(drawn: Drawn, tmp_path: Path) -> None:
    draw_world(TINY, tmp_path / "again", seed=SEED, processes=1)
    assert sha256_of(tmp_path / "again") == sha256_of(drawn.out)


def test_another_seed_is_another_world() -> None:
    world = load_world(TINY)
    first, second = plan_world(world, 1), plan_world(world, 2)
    assert {p.scene.seed for p in first.photographs}.isdisjoint(p.scene.seed for p in second.photographs)


# the demo world, from its description


def test_demo_has_a_long_tail(demo: World) -> None:
    counts = [species.photographs for _, species in demo.species()]
    assert max(counts) >= 30 * min(counts)
    assert sum(count < 10 for count in counts) >= 3
    assert len(counts) >= 12 and len(demo.ants.genera) == 4


def test_demo_plan_keeps_its_shares(demo_plan: Plan) -> None:
    photographs = demo_plan.photographs
    assert 700 <= len(photographs) <= 850
    assert len({photograph.key for photograph in photographs}) == len(photographs)
    assert 270 <= len(demo_plan.annotated) <= 330
    ants = [r for r in demo_plan.observations if not r.species.startswith("Scutobius")]
    assert sum(r.rank == "genus" for r in ants) == round(0.06 * len(ants))
    assert sum(r.wrong for r in ants) == round(0.05 * len(ants))
    assert sum(p.scene.width > 1280 for p in photographs) / len(photographs) == pytest.approx(0.05, abs=0.02)
    assert max(p.scene.insects for p in photographs) == 6


def test_demo_look_alikes_differ_by_place_only(demo: World) -> None:
    named = {species.name: (genus, species) for genus, species in demo.species()}
    west, east = named["Velomyrma occidua"], named["Velomyrma orientalis"]
    assert look_of(*west) == look_of(*east)
    assert not any(_overlap(a, b) for a in west[1].ranges for b in east[1].ranges)
    looks = [str(look_of(genus, species)) for genus, species in demo.species()]
    assert len(set(looks)) == len(looks) - 1


def _overlap(a: Range, b: Range) -> bool:
    return a.west < b.east and b.west < a.east and a.south < b.north and b.south < a.north


def test_demo_observations_lie_in_the_range_of_their_true_species(demo: World, demo_plan: Plan) -> None:
    ranges = {species.name: species.ranges for _, species in demo.species()}
    for record in demo_plan.records:
        if record.longitude is None or record.latitude is None or record.species not in ranges:
            continue
        point = Range(record.longitude, record.latitude, record.longitude + 1e-9, record.latitude + 1e-9)
        assert any(_overlap(point, box) for box in ranges[record.species])


# parts


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: tiny", "name: tiny\nsurprise: 1", "surprise"),
        ("observers: 5", "observers: many", "observers"),
        ("head_width: 0.6", "head_wdth: 0.6", "head_wdth"),
        ("name: tiny", "name: [", "mend"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    spec = tmp_path / "world.yaml"
    spec.write_text(TINY.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_world(spec)


def test_a_missing_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_world(tmp_path / "none.yaml")


def test_chosen_is_exact_and_blind_to_order() -> None:
    names = [f"n{i}" for i in range(50)]
    first = chosen(names, 7, str, SEED, "a")
    assert len(first) == 7
    assert first == chosen(names[::-1], 7, str, SEED, "a") != chosen(names, 7, str, SEED, "b")
    assert chosen([], 3, str, SEED) == set()


def test_render_of_a_ball_is_a_disc() -> None:
    ball = Ellipsoid(np.zeros(3), np.ones(3), np.array([0.5, 0.5, 0.5]), 0.0)
    material = Material(light_vector(from_deg=120, height=1))
    view = view_matrix(heading_deg=33, elevation_deg=50)
    sprite = render([ball], view, scale_px=50, material=material, rng=np.random.default_rng(0))
    mask = sprite[..., 3] > 127
    assert mask.sum() == pytest.approx(np.pi * 50**2, rel=0.01)
    left, top, right, bottom = _bounds(mask)
    assert (right - left, bottom - top) == (100, 100)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_encoded_decodes_upright(orientation: int) -> None:
    pixels = np.full((40, 60, 3), 30, np.uint8)
    pixels[:20, :20] = (220, 40, 40)
    data = encoded(pixels, extension="jpg", orientation=orientation, taken="2020-01-02T03:04:05", quality=95)
    upright = decode_upright(data)
    assert upright.shape == pixels.shape
    assert np.abs(upright[5:15, 5:15].astype(int) - (220, 40, 40)).mean() < 20


def test_empty_scene_has_no_mask() -> None:
    picture = draw_scene(Scene(Look(), 1, 0, 0, False, 320, 240, "field"))
    assert picture.masks == []
    assert picture.pixels.shape == (240, 320, 3)


def test_masks_of_ants_do_not_overlap() -> None:
    picture = draw_scene(Scene(Look(), 5, 0, 5, False, 320, 240, "field"))
    assert len(picture.masks) == 5
    assert np.sum(picture.masks, axis=0).max() == 1


def test_spoiled_keeps_what_it_should() -> None:
    data = bytes(range(256)) * 8
    assert data.startswith(spoiled(data, "truncated", 1))
    assert spoiled(data, "corrupt_header", 1)[64:] == data[64:]
    middle = spoiled(data, "corrupt_middle", 1)
    assert len(middle) == len(data) and middle[:600] == data[:600] and middle != data
    assert spoiled(data, "empty", 1) == b""
