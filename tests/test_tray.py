"""The page of a photograph to zoom into: its parts, the page, the command, and what a browser makes of it."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from tray_inputs import FOUND, HEIGHT, SCORES, TRUTH, WIDTH, write_mask_inputs

from instar.errors import InputError
from instar.files import write_json
from instar.masks import from_bitmaps, no_masks
from instar.tray.command import read_tray, tray
from instar.tray.page import Tray, page
from instar.tray.pyramid import pyramid
from instar.tray.shapes import _leb128, frames, outlines, packed

NOISE = np.random.default_rng(1).integers(0, 256, (300, 700, 3), dtype=np.uint8)


def numbers(data: bytes) -> list[int]:
    """LEB128, read one by one."""
    found, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(number)
            number = shift = 0
    return found


def rings(data: bytes) -> list[list[list[tuple[int, int]]]]:
    """Corners of each ring of each shape, as ``packed`` describes them."""
    given, shapes = numbers(data), []
    while given:
        shape = []
        for _ in range(given.pop(0)):
            x, y, ring = 0, 0, []
            for _ in range(given.pop(0)):
                steps = [given.pop(0) for _ in range(2)]
                dx, dy = (-(step + 1) // 2 if step % 2 else step // 2 for step in steps)
                x, y = x + dx, y + dy
                ring.append((x, y))
            shape.append(ring)
        shapes.append(shape)
    return shapes


def test_numbers_take_as_many_bytes_as_they_need() -> None:
    assert _leb128(np.zeros(0, np.int64)) == b""
    assert _leb128(np.array([0, 127, 128, 300])) == bytes([0, 127, 128, 1, 172, 2])
    some = [0, 1, 2**14 - 1, 2**14, 2**21, 2**34]
    assert numbers(_leb128(np.array(some))) == some


def test_outlines_of_nothing() -> None:
    assert outlines(no_masks()) == []
    assert frames(np.zeros((0, 4))) == []
    assert packed([]) == b""
    assert rings(packed(outlines(no_masks(2)))) == [[], []]


def test_outlines_run_along_the_pixels_edges() -> None:
    corner = np.array([[1, 1], [1, 0]], bool)
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    masks = from_bitmaps([corner, ring], [(10, 20), (0, 0)])
    shapes = rings(packed(outlines(masks)))
    assert {tuple(point) for point in shapes[0][0]} == {(10, 20), (12, 20), (12, 21), (11, 21), (11, 22), (10, 22)}
    assert len(shapes[0][0]) == 6
    outer, hole = shapes[1]
    assert set(outer) == {(0, 0), (3, 0), (3, 3), (0, 3)} and set(hole) == {(1, 1), (2, 1), (2, 2), (1, 2)}
    # a hole is turned against its outline
    assert shapely.LinearRing(outer).is_ccw != shapely.LinearRing(hole).is_ccw


def test_outlines_hold_exactly_the_pixels() -> None:
    pictures = [np.random.default_rng(seed).random((12, 9)) < 0.5 for seed in range(8)]
    polygons = outlines(from_bitmaps(pictures))
    ys, xs = np.mgrid[0:12, 0:9] + 0.5
    for picture, polygon in zip(pictures, polygons, strict=True):
        assert (shapely.contains_xy(polygon, xs, ys) == picture).all()


def test_pyramid_of_tiles() -> None:
    levels = pyramid(NOISE, max_bytes=10**7, tile_px=256)
    assert [(level.width, level.height, len(level.tiles)) for level in levels] == [
        (700, 300, 6),
        (350, 150, 2),
        (175, 75, 1),
    ]
    sizes = [Image.open(io.BytesIO(tile)).size for tile in levels[0].tiles]
    assert sizes == [(256, 256), (256, 256), (188, 256), (256, 44), (256, 44), (188, 44)]
    assert len(pyramid(NOISE[:1, :1], max_bytes=10**4)) == 1


def test_quality_falls_until_the_tiles_fit() -> None:
    best = sum(len(tile) for level in pyramid(NOISE, max_bytes=10**7) for tile in level.tiles)
    fitting = sum(len(tile) for level in pyramid(NOISE, max_bytes=best // 2) for tile in level.tiles)
    assert best / 10 < fitting <= best // 2
    with pytest.raises(InputError, match=r"700×300 pixels takes \S+ MB at JPEG quality 40 and 0\.0 MB are left"):
        pyramid(NOISE, max_bytes=1000)


class Parsed(HTMLParser):
    """Tags and their attributes; texts of the scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.setdefault(self.tags[-1][1].get("id"), data)


def drawn(**changes: Any) -> Tray:
    picture = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    values: dict[str, Any] = {"key": "tray-1", "picture": picture, "found_xyxy": FOUND.boxes(), "found": FOUND}
    values |= {"scores": np.array(SCORES), "truth_xyxy": TRUTH.boxes(), "truth": TRUTH, "floor": 0.05}
    values |= {"taxa": ["Diptera (order)", "", "</script><b>"], "confidence": 0.35}
    return Tray(**{**values, **changes})


def test_page_holds_all_of_it_and_asks_for_nothing() -> None:
    text = page(drawn(region=[10, 10, 600, 400], facts={"Licence": "<CC BY>"}), max_bytes=10**7)
    parsed = Parsed(text)
    data = json.loads(parsed.scripts["data"])
    # 0.9 is right, 0.8 covers too little, 0.7 covers nothing, 0.2 comes after 0.9
    assert data["animal"] == [0, -1, -1, -1] and data["finder"] == [0, -1, -1]
    assert data["sizes"] == [*FOUND.areas().tolist(), *TRUTH.areas().tolist()]
    assert data["taxa"][2] == "</script><b>" and "</script><b>" not in text
    assert len(rings(base64.b64decode(data["shapes"]))) == 7
    tiles = json.loads(parsed.scripts["tiles"])
    assert [len(level) for level in tiles["jpeg"]] == [2, 1]
    assert "3 annotated animals: 1 found and 2 missed with a score of at least 0.35. 2 wrong detections beside" in text
    assert "Only the part in the pink frame was searched. It was drawn around the annotated animals" in text
    assert "&lt;CC BY&gt;" in text and 'id="region"' in text
    for tag, attributes in parsed.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)


def test_what_people_use_has_a_name_and_is_reached_by_keys() -> None:
    parsed = Parsed(page(drawn(), max_bytes=10**7))
    canvas = next(attributes for tag, attributes in parsed.tags if tag == "canvas")
    assert canvas["tabindex"] == "0" and canvas["role"] == "application"
    assert "640 by 480 pixels, with masks" in str(canvas["aria-label"])
    assert canvas["aria-describedby"] == "told keys"
    assert {attributes.get("id") for _, attributes in parsed.tags} >= {"told", "keys", "score", "zoom"}


def test_without_annotations_colours_tell_scores() -> None:
    text = page(drawn(truth_xyxy=None, truth=None, taxa=[]), max_bytes=10**7)
    assert "3 detections with a score of at least 0.35. Nobody annotated this photograph" in text
    assert json.loads(Parsed(text).scripts["data"])["judged"] is False
    assert "next missed" not in text and "pink" not in text
    text = page(drawn(truth_xyxy=None, truth=None, taxa=[], confidence=0.85, region=[1, 1, 9, 9]), max_bytes=10**7)
    assert "1 detection with a score of at least 0.85." in text and "pink frame was searched.</p>" in text


def test_boxes_without_masks_and_nothing_at_all() -> None:
    text = page(drawn(found=None), max_bytes=10**7)
    data = json.loads(Parsed(text).scripts["data"])
    assert data["animal"] == [0, -1, -1, -1] and data["masks"] == [False, True]
    assert "at IoU 0.5, by boxes" in text
    empty = drawn(found_xyxy=np.zeros((0, 4)), found=None, scores=np.zeros(0), truth_xyxy=np.zeros((0, 4)))
    empty = drawn(**{**vars(empty), "truth": None, "taxa": []})
    assert "0 annotated animals" in page(empty, max_bytes=10**7)


def test_a_page_that_does_not_fit_names_the_photograph() -> None:
    with pytest.raises(InputError, match=r"^tray-1: a photograph of 640×480 pixels .* raise --max-mb$"):
        page(drawn(), max_bytes=60_000)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder whose study has masks."""
    data = tmp_path / "data/tiny"
    data.mkdir(parents=True)
    given = write_mask_inputs(data)
    given["params"].rename(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return data


def test_the_command_takes_the_fullest_judged_photograph(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tray([]) == 0
    assert capsys.readouterr().out.startswith("tray.html: inaturalist-0, 0.")
    data = json.loads(Parsed(Path("tray.html").read_text()).scripts["data"])
    assert data["taxa"] == ["Velomyrma rubicola (species)", "", "Velomyrma (genus)"]
    assert data["confidence"] == 0.35  # of the best F1
    assert len(data["scores"]) == 4
    assert tray(["inaturalist-5", "--out", "other/page.html", "--floor", "0.5"]) == 0
    told = capsys.readouterr()
    assert "all-rights-reserved" in told.err and "keep the page to yourself" in told.err
    data = json.loads(Parsed(Path("other/page.html").read_text()).scripts["data"])
    assert data["judged"] is False and data["masks"] == [False, False] and data["confidence"] == 0.5
    assert data["scores"] == [0.91]  # the other one has 0.15


def test_without_annotations_the_photograph_with_most_detections(study: Path) -> None:
    write_json(study / "annotations.json", {"images": [], "annotations": [], "categories": []})
    (study / "metrics/detection_metrics.json").unlink()
    found = read_tray(study, ["a", "b"], None, floor=0.05, crops_confidence=0.3)
    assert (found.key, found.truth_xyxy, found.confidence) == ("inaturalist-0", None, 0.3)
    assert found.found is not None and found.found.areas().tolist() == FOUND.areas().tolist()


def test_a_photograph_that_was_not_fetched_is_not_chosen(study: Path) -> None:
    path = study / "annotations.json"
    coco = json.loads(path.read_text())
    coco["images"][0]["file_name"] = "inaturalist-900"
    coco["annotations"][3]["image_id"] = 0  # so that it has more animals than any other
    coco["images"][2]["file_name"] = "inaturalist-0000"  # in no table
    write_json(path, coco)
    assert read_tray(study, ["a", "b"], None, floor=0, crops_confidence=0.3).key == "inaturalist-4"


def test_annotations_of_another_size_are_left_out(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study / "annotations.json"
    coco = json.loads(path.read_text())
    coco["images"][0] |= {"width": 1280}
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"]]
    write_json(path, coco)
    assert read_tray(study, ["a", "b"], "inaturalist-0", floor=0, crops_confidence=0.3).truth_xyxy is None
    assert "annotated at another size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nobody"], "nobody: no photograph of data/tiny has this key"),
        (["inaturalist-900"], "inaturalist-900: the photograph is not there \\(truncated\\)"),
        (["--floor", "1.5"], "--floor 1.5: scores lie between 0 and 1"),
        (["--max-mb", "0"], "--max-mb 0: must be above 0"),
    ],
)
def test_the_command_names_what_is_wrong(study: Path, words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        tray(words)
    assert not Path("tray.html").exists()


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_draws_it_and_tells_what_is_in_view(tmp_path: Path) -> None:
    path = tmp_path / "tray.html"
    path.write_text(page(drawn(), max_bytes=10**7), encoding="utf-8")

    def texts(fragment: str) -> tuple[str, dict[str, str]]:
        command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += [
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1200,800",
            "--virtual-time-budget=4000",
            "--dump-dom",
        ]
        made = subprocess.run(
            [*command, f"file://{path}{fragment}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        here = re.search(r'<p id="here">([^<]*)', made.stdout)
        counts = re.findall(r'<span class="count" id="count_(\w+)">([^<]*)', made.stdout)
        assert here is not None, made.stderr[-2000:]
        return here[1], dict(counts)

    here, counts = texts("")
    assert here == "In view: 2 wrong, 1 right, 2 missed. Middle at x 320, y 240."
    assert counts == {"wrong": "2", "right": "1", "missed": "2", "known": "1"}
    # a place and a score of one's own: above 0.85 only the right one is left
    here, counts = texts("#x=60&y=60&z=8&s=0.85")
    assert here == "In view: 0 wrong, 1 right, 0 missed. Middle at x 60, y 60."
    assert counts == {"wrong": "0", "right": "1", "missed": "2", "known": "1"}
    path.write_text(page(drawn(truth_xyxy=None, truth=None, taxa=[]), max_bytes=10**7), encoding="utf-8")
    # scores of 0.9, 0.8 and 0.7
    assert texts("")[0] == "In view: 2 detections with a score from 0.8, 1 from 0.6. Middle at x 320, y 240."
    assert texts("#s=0.95")[0] == "In view: no detection. Middle at x 320, y 240."
