"""Tests of instar.identify."""

import csv
import io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crop_shards import drawn_crop
from handed_over import GROUND, Blobs, answers, photograph, write_study
from photo_shards import SLICING, encoded, write_images
from PIL import ExifTags, Image

from instar import detectors, params
from instar.classifier.data import CropReader, Views, batches, places_of
from instar.classifier.labels import LabelSpace
from instar.classifier.predict import Predictor
from instar.crops import Cut, crops
from instar.detections import detections
from instar.detectors import Boxes
from instar.errors import InputError
from instar.files import write_json
from instar.identify.answers import best_of_rank, sure_answer, told
from instar.identify.asked import FEW, Asked
from instar.identify.command import identify
from instar.identify.identifier import Found, Identifier
from instar.identify.inputs import NOWHERE, Picture, exif_place, paths_of, read_picture
from instar.identify.models import (
    Calibration,
    Models,
    Settings,
    calibration_of,
    read_settings,
    settings_of,
    write_settings,
)
from instar.identify.output import Json, percent
from instar.identify.overlay import COLOURS, Overlays, drawn
from instar.tables import CROPS, read_table

LABELS = LabelSpace(("Aa x", "Aa y", "Bb z", "Aa", "Bb"), ("species",) * 3 + ("genus",) * 2, (3, 3, 4, -1, -1))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), place="late")


@pytest.fixture
def root(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study and with photographs that show one animal each."""
    (tmp_path / "data").symlink_to(study / "data")
    (tmp_path / "params.yaml").symlink_to(study / "params.yaml")
    rng = np.random.default_rng(7)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    (tmp_path / "photos" / "upright.jpg").write_bytes(drawn_crop(rng, "Rubra", "erecta"))
    (tmp_path / "photos" / "more" / "lying.jpg").write_bytes(drawn_crop(rng, "Viridis", "stricta"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def settings(study: Path) -> Settings:
    return settings_of(params.load(study / "params.yaml"), Calibration(1.25, 0.7))


@pytest.fixture(scope="module")
def models(study: Path, settings: Settings) -> Models:
    return Models(Blobs(), Predictor(study / "data/demo/classifier"), settings)


def pictures(*scenes: np.ndarray | str) -> Iterator[Picture]:
    yield from (Picture(f"p{n}", scene, NOWHERE) for n, scene in enumerate(scenes))


def gps_photograph(**gps: Any) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS[name]: value for name, value in gps.items()})
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


SOUTH_WEST = {
    "GPSLatitude": (33.0, 30.0, 36.0),
    "GPSLatitudeRef": "S",
    "GPSLongitude": (70.0, 45.0, 0.0),
    "GPSLongitudeRef": "W",
}


def test_paths_of_nothing() -> None:
    assert paths_of([]) == ([], [])


def test_paths_of_files_and_folders(tmp_path: Path) -> None:
    for name in ("b/2.JPEG", "b/1.png", "b/c/3.jpg", "b/notes.txt", "b/.hidden.jpg", "b/.trash/4.jpg", "a.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    words = ["a.dat", "b", "b/1.png", "empty", "none.jpg"]
    found, problems = paths_of([tmp_path / word for word in words])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.dat", "b/1.png", "b/2.JPEG", "b/c/3.jpg"]
    assert problems[0].startswith(f"{tmp_path}/empty: holds no photograph")
    assert problems[1:] == [f"{tmp_path}/none.jpg: no such photograph or folder"]


def test_read_picture_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("a text")
    (tmp_path / "half.jpg").write_bytes(encoded(photograph(), "JPEG")[:-400])
    told = {name: read_picture(tmp_path / f"{name}.jpg", None).pixels for name in ("empty", "text", "half", "gone")}
    assert (told["empty"], told["text"]) == ("empty file", "not an image")
    assert isinstance(told["half"], str)
    assert told["gone"] == "can't be read (No such file or directory)"


def test_exif_place_by_hand(tmp_path: Path) -> None:
    assert exif_place(gps_photograph(**SOUTH_WEST)) == pytest.approx((-33.51, -70.75))
    (tmp_path / "a.jpg").write_bytes(gps_photograph(**SOUTH_WEST))
    assert read_picture(tmp_path / "a.jpg", None).place == pytest.approx((-33.51, -70.75))
    assert read_picture(tmp_path / "a.jpg", (1.0, 2.0)).place == (1.0, 2.0)


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {"GPSLatitude": (33.0, 30.0, 36.0), "GPSLatitudeRef": "S"},
        {**SOUTH_WEST, "GPSLatitudeRef": "?"},
        {**SOUTH_WEST, "GPSLatitude": (95.0, 0.0, 0.0)},
        {**SOUTH_WEST, "GPSLatitude": (0.0, 0.0, 0.0), "GPSLongitude": (0.0, 0.0, 0.0)},
    ],
)
def test_exif_without_a_place(gps: dict[str, Any]) -> None:
    assert all(map(math.isnan, exif_place(gps_photograph(**gps))))


@pytest.mark.parametrize(
    ("nodes", "threshold", "answer"),
    [
        ([0.1, 0.85, 0.05, 0.95, 0.05], 0.8, ("Aa y", "species", 0.85)),
        ([0.4, 0.5, 0.1, 0.9, 0.1], 0.8, ("Aa", "genus", 0.9)),
        ([0.4, 0.5, 0.1, 0.9, 0.1], 0.5, ("Aa y", "species", 0.5)),
        ([0.3, 0.3, 0.4, 0.6, 0.4], 0.8, None),
    ],
)
def test_sure_answer_by_hand(nodes: list[float], threshold: float, answer: tuple[str, str, float] | None) -> None:
    found = sure_answer(np.array(nodes, np.float32), LABELS, threshold=threshold)
    assert (found and tuple(found.values())) == (answer and pytest.approx(answer))


def test_best_of_rank_by_hand() -> None:
    nodes = np.array([0.3, 0.3, 0.4, 0.6, 0.4], np.float32)
    assert [one["name"] for one in best_of_rank(nodes, LABELS, "species", 2)] == ["Bb z", "Aa x"]
    assert best_of_rank(nodes, LABELS, "genus", 5) == [
        {"name": "Aa", "probability": 0.6},
        {"name": "Bb", "probability": 0.4},
    ]


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.004, "<1 %"), (0.126, "13 %"), (0.999, "99 %"), (1.0, "100 %")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_found_nothing(models: Models) -> None:
    assert list(Identifier(models).found(pictures())) == []


def test_found_in_order(models: Models) -> None:
    one = photograph(("Rubra", "erecta", 60, 60))
    two = photograph(("Rubra", "erecta", 60, 60), ("Viridis", "stricta", 160, 60))
    found = list(Identifier(models).found(pictures(one, photograph(), "damaged", two, one)))
    assert [photo.name for photo in found] == ["p0", "p1", "p2", "p3", "p4"]
    assert [len(photo.boxes) for photo in found] == [1, 0, 0, 2, 1]
    assert [photo.problem for photo in found] == [None, None, "damaged", None, None]
    assert found[3].boxes.boxes_xyxy.tolist() == [[56, 40, 64, 80], [140, 56, 180, 64]]
    assert found[0].animals.shape == (1, 6)
    np.testing.assert_allclose(found[3].animals[0], found[0].animals[0], atol=1e-6)
    np.testing.assert_allclose(found[4].animals[0], found[0].animals[0], atol=1e-6)
    assert found[1].whole.tolist() == [0] * 6
    assert all(photo.pixels is None for photo in found)


def test_the_whole_is_the_mean_of_the_best(models: Models) -> None:
    # scores 0.9, 0.8, 0.7 from the left; the third is not among the best two
    three = photograph(("Rubra", "erecta", 40, 60), ("Viridis", "stricta", 110, 60), ("Viridis", "erecta", 200, 60))
    few = replace(models, settings=replace(models.settings, photo_boxes=2))
    (found,) = Identifier(few).found(pictures(three))
    assert len(found.animals) == 3
    np.testing.assert_allclose(found.whole, (found.animals[0] + found.animals[1]) / 2, atol=1e-6)
    assert np.abs(found.whole - found.animals.mean(axis=0)).max() > 1e-3


def test_boxes_below_the_confidence_are_no_animals(models: Models) -> None:
    two = photograph(("Rubra", "erecta", 60, 60), ("Viridis", "stricta", 160, 60))
    sure = replace(models, settings=replace(models.settings, confidence=0.85))
    (found,) = Identifier(sure).found(pictures(two))
    assert found.boxes.scores.tolist() == pytest.approx([0.9])
    none = replace(models, settings=replace(models.settings, confidence=0.95))
    (found,) = Identifier(none).found(pictures(two))
    assert (len(found.boxes), found.problem) == (0, None)


def test_both_models_get_full_batches(models: Models) -> None:
    seen: list[int] = []

    class Counting(Predictor):
        def logits(self, pixels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            seen.append(len(pixels))
            return super().logits(pixels, places)

    counting = Counting.__new__(Counting)
    counting.__dict__ = models.predictor.__dict__
    blobs = Blobs()
    one = photograph(("Rubra", "erecta", 60, 60))
    assert len(list(Identifier(Models(blobs, counting, models.settings)).found(pictures(*[one] * 10)))) == 10
    assert (blobs.batches, seen) == ([4, 4, 2], [4, 4, 2])


def test_probabilities_are_those_of_the_stages(
    study: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Detections and crops by their stages, then the classifier on stored crops, against identify on the files."""
    noise = np.random.default_rng(3).integers(-20, 20, (120, 240, 3))
    scenes = [photograph(("Rubra", "erecta", 60, 60), ("Viridis", "stricta", 160, 60)), photograph()]
    files = {f"folder-{n}": encoded((scene + noise).astype(np.uint8), "JPEG") for n, scene in enumerate(scenes)}
    facts = {key: {"latitude": 42.0, "longitude": -120.0} for key in files}
    write_images(tmp_path, "s0", dict(files), (240, 120), facts)
    monkeypatch.setattr(detectors, "load", lambda folder: Blobs())
    cut: dict[str, Any] = {"margin_percent": 30.0, "max_px": 30, "jpeg_quality": 90}
    options: dict[str, Any] = {"floor": 0.01, "nms_iou": 0.5, "max_boxes": 300, "workers": 1}
    options |= {**SLICING, "tile_px": 1024, "batch": 2}
    images = tmp_path / "s0.parquet", tmp_path / "s0.tar"
    detections(tmp_path / "detector", *images, tmp_path / "boxes.parquet", **options)
    (tmp_path / "crops").mkdir()
    out = tmp_path / "crops/s0.parquet", tmp_path / "crops/s0.tar"
    crops(*images, tmp_path / "boxes.parquet", *out, confidence=0.3, workers=1, **cut)
    rows = read_table(out[0], CROPS).to_pandas()
    rows = rows[rows["reason"].isna()].reset_index(drop=True)
    predictor = Predictor(study / "data/demo/classifier")
    views = Views(CropReader(tmp_path / "crops", rows), np.zeros(len(rows), np.int64), places_of(rows), 32, shown=None)
    ((pixels, places, _),) = batches(views, batch=9)
    wanted = predictor.probabilities(pixels, places, temperature=1.25).numpy()

    for key, data in files.items():
        (tmp_path / f"{key}.jpg").write_bytes(data)
    identifier = Identifier(Models(Blobs(), predictor, replace(settings, cut=Cut(**cut))))
    read = [read_picture(tmp_path / f"{key}.jpg", (42.0, -120.0)) for key in files]
    found = list(identifier.found(read))
    assert len(rows) == 2
    np.testing.assert_allclose(np.concatenate([photo.animals for photo in found]), wanted, atol=1e-5)
    nowhere = list(identifier.found(replace(picture, place=NOWHERE) for picture in read))
    assert np.abs(nowhere[0].animals - wanted[0]).max() > 1e-3


def test_told_by_hand() -> None:
    animals = np.array([[0.1, 0.85, 0.05, 0.95, 0.05], [0.3, 0.3, 0.4, 0.6, 0.4]], np.float32)
    boxes = Boxes(np.array([[1, 2, 3, 4], [5, 6, 7.25, 8]], np.float32), np.array([0.5, 0.25], np.float32))
    found = Found("a.jpg", None, (1.5, math.nan), boxes, animals, animals.mean(axis=0))
    row = told(found, LABELS, threshold=0.7, top=1, counted=10)
    assert row["answer"] == {"name": "Aa", "rank": "genus", "probability": pytest.approx(0.775)}
    assert (row["latitude"], row["longitude"], row["animals_counted"]) == (1.5, None, 2)
    assert row["species"] == [{"name": "Aa y", "probability": pytest.approx(0.575)}]
    assert [animal["answer"] and animal["answer"]["name"] for animal in row["animals"]] == ["Aa y", None]
    assert (row["animals"][1]["box_xyxy"], row["animals"][1]["score"]) == ([5, 6, 7.25, 8], 0.25)


def test_a_table_to_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(["photos", "--threshold", "0.6"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("photos/upright.jpg: Rubra erecta (species, ")
    assert lines[1].split()[:4] == ["1", "Rubra", "erecta", "species"]
    assert lines[2].startswith("photos/more/lying.jpg: Viridis stricta (species, ")
    assert len(lines) == 4
    assert [lines[0].endswith(", without a place"), printed.err] == [True, ""]
    assert identify(["photos/upright.jpg", "--lat", "-3.5", "--lon", "40"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(", at -3.500, 40.000")


def test_bad_photographs_are_told_and_the_others_answered(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "photos" / "text.png").write_text("no image")
    (root / "empty").mkdir()
    assert identify(["photos", "empty", "gone.jpg", "--json"]) == 1
    printed = capsys.readouterr()
    found = answers(printed.out)
    assert found["upright.jpg"]["species"][0]["name"] == "Rubra erecta"
    assert (found["text.png"]["problem"], found["text.png"]["animals"]) == ("not an image", [])
    told = printed.err.splitlines()
    assert told[0].startswith("instar identify: empty: holds no photograph")
    assert told[1:] == [
        "instar identify: gone.jpg: no such photograph or folder",
        "instar identify: photos/text.png: not an image",
        "instar identify: 3 of the photographs and folders named could not be read",
    ]


def test_only_bad_photographs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(["gone.jpg"]) == 1
    assert capsys.readouterr().out == ""


def test_csv(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert identify(["photos/upright.jpg", "--csv", "--top", "2", "--threshold", "1", "--lat", "-3", "--lon", "4"]) == 0
    whole, animal = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (whole["animal"], whole["animals"], animal["animal"]) == ("", "1", "1")
    assert (whole["answer"], whole["latitude"], animal["longitude"]) == ("", "-3.0", "4.0")
    assert animal["species_1"] == "Rubra erecta"
    assert float(animal["species_1_probability"]) > float(animal["species_2_probability"]) > 0
    assert "species_3" not in animal
    assert animal["x_min"] == "0.0"


def test_a_place_moves_the_answer(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "exif.jpg").write_bytes(gps_photograph(**SOUTH_WEST))
    assert identify(["exif.jpg", "--json"]) == 0
    own = answers(capsys.readouterr().out)["exif.jpg"]
    assert identify(["exif.jpg", "--json", "--lat", "42", "--lon", "-120"]) == 0
    given = answers(capsys.readouterr().out)["exif.jpg"]
    assert (own["latitude"], own["longitude"]) == pytest.approx((-33.51, -70.75))
    assert given["longitude"] == -120
    assert own["species"] != given["species"]


@pytest.mark.parametrize(
    "words",
    [
        ["--lat", "3"],
        ["--lon", "3"],
        ["--lat", "91", "--lon", "3"],
        ["--threshold", "1.5"],
        ["--threshold", "nan"],
        ["--top", "0"],
        ["--batch", "0"],
        ["--json", "--csv"],
    ],
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        identify(["a.jpg", *words])
    assert stop.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_overlays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("photos/upright.jpg", "photos/more/upright.jpg")
    assert identify(["photos", "--overlay", "drawn/here", "--json"]) == 0
    assert sorted(path.name for path in (root / "drawn/here").iterdir()) == [
        "lying.jpg",
        "upright-2.jpg",
        "upright.jpg",
    ]
    assert answers(capsys.readouterr().out)["lying.jpg"]["overlay"] == "drawn/here/lying.jpg"
    with Image.open("drawn/here/upright.jpg") as after, Image.open("photos/upright.jpg") as before:
        assert after.size == before.size


def test_drawn_by_hand() -> None:
    before = np.full((200, 300, 3), GROUND, np.uint8)
    answer = {"name": "Aa", "rank": "genus", "probability": 0.9}
    after = drawn(before, [{"box_xyxy": [100.0, 80.0, 200.0, 160.0], "answer": answer}])
    assert (before == GROUND).all()
    for y, x in ((80, 150), (159, 150), (120, 100), (120, 199)):
        assert after[y, x].tolist() == list(COLOURS["genus"])
    assert (after[85:155, 105:195] == GROUND).all()
    assert (after[161:] == GROUND).all()
    assert (after[60:80, 100:140] == 255).any(), "no name above the box"


def test_overlays_never_lie_over_photographs(root: Path) -> None:
    with pytest.raises(InputError, match=r"--overlay photos/more: holds the photograph photos/more/lying.jpg"):
        identify(["photos", "--overlay", "photos/more"])


def test_overlay_where_no_folder_can_be(root: Path) -> None:
    with pytest.raises(InputError, match="no folder can be made there"):
        Overlays(root / "photos/upright.jpg", [])


def test_without_a_temperature(root: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "data").unlink()
    shutil.copytree(study / "data/demo/detector", "data/demo/detector")
    with pytest.raises(InputError, match=r"data/demo/classifier: no such folder; run the stage classifier"):
        identify(["photos/upright.jpg"])
    shutil.copytree(study / "data/demo/classifier", "data/demo/classifier")
    assert identify(["photos/upright.jpg"]) == 0
    assert "not calibrated" in capsys.readouterr().err


@pytest.mark.parametrize("found", [0, -1, "warm", None])
def test_a_wrong_temperature(tmp_path: Path, found: Any) -> None:
    write_json(tmp_path / "evaluation.json", {"calibration": {"temperature": found}})
    with pytest.raises(InputError, match="no positive number; run evaluation again"):
        calibration_of(tmp_path / "evaluation.json")


@pytest.mark.parametrize("found", [1.5, -0.1, "high", True])
def test_a_wrong_threshold(tmp_path: Path, found: Any) -> None:
    figures = {"temperature": 1.5, "roll_up": {"threshold": found, "at": None}}
    write_json(tmp_path / "evaluation.json", {"calibration": figures})
    with pytest.raises(InputError, match=r"threshold = .* is not in 0 to 1; run evaluation again"):
        calibration_of(tmp_path / "evaluation.json")


@pytest.mark.parametrize("figures", [{"temperature": 1.5}, {"temperature": 1.5, "roll_up": None}])
def test_figures_of_an_older_form(tmp_path: Path, figures: dict[str, Any]) -> None:
    write_json(tmp_path / "evaluation.json", {"calibration": figures})
    with pytest.raises(InputError, match="tells no threshold; run evaluation again"):
        calibration_of(tmp_path / "evaluation.json")


def test_the_threshold_is_what_evaluation_found(root: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "data").unlink()
    shutil.copytree(study / "data", "data")
    metrics = Path("data/demo/metrics/evaluation.json")
    figures = json.loads(metrics.read_text())
    wanted = params.load(Path("params.yaml")).evaluation.wanted_accuracy

    def used(threshold: float | None, *words: str) -> float:
        figures["calibration"]["roll_up"] = {"wanted_accuracy": wanted, "threshold": threshold, "at": None}
        metrics.write_text(json.dumps(figures))
        capsys.readouterr()
        assert identify(["photos/upright.jpg", "--json", *words]) == 0
        found: float = json.loads(capsys.readouterr().out)["threshold"]
        return found

    assert used(0.375) == 0.375
    assert used(0.375, "--threshold", "0") == 0
    assert used(None) == wanted


def test_settings_are_kept(tmp_path: Path, settings: Settings) -> None:
    write_settings(tmp_path / "identify.json", settings)
    assert read_settings(tmp_path / "identify.json") == settings
    with pytest.raises(InputError, match="name a folder that 'instar export' wrote"):
        read_settings(tmp_path / "other.json")
    (tmp_path / "damaged.json").write_text('{"temperature": 1}')
    with pytest.raises(InputError, match="export it again"):
        read_settings(tmp_path / "damaged.json")


def test_a_folder_that_was_not_exported(root: Path) -> None:
    with pytest.raises(
        InputError, match=r"photos/identify.json: no such file; name a folder that 'instar export' wrote"
    ):
        identify(["photos/upright.jpg", "--model", "photos"])


def test_a_place_far_from_training_is_told_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Places of training lie in latitude -29 to 47, longitude -100 to 20; a region is 30 degrees."""
    about = "lies 50 degrees outside those of training (latitude "
    for longitude, times in (("70", 1), ("50", 0), ("-100", 0)):
        assert identify(["photos", "--csv", "--lat", "0", "--lon", longitude]) == 0
        printed = capsys.readouterr().err
        assert printed.count(about) == printed.count("its place") == times
        assert (f"photos/upright.jpg: its place 0.000, {longitude}.000 {about}" in printed) == bool(times)
    assert identify(["photos", "--csv"]) == 0
    assert "outside" not in capsys.readouterr().err


def test_what_cannot_be_read_is_told_and_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = io.StringIO()
    assert Asked([]).answer([], Json(written, {})) == 0 and "photographs" in written.getvalue()
    paths = [tmp_path / f"{n}.jpg" for n in range(FEW + 1)]
    for path in paths:
        path.touch()
    asked = Asked([*paths, tmp_path / "none"])
    rows = [{"photograph": path.name, "problem": None if path is paths[3] else "empty file"} for path in paths]
    assert asked.answer(asked.shown(rows), Json(written, {})) == 1
    told = capsys.readouterr().err.splitlines()
    said = [line.partition("instar identify: ")[2] for line in told if line.startswith("instar identify: ")]
    assert said[0] == f"{tmp_path / 'none'}: no such photograph or folder"
    assert said[1:-1] == [f"{path.name}: empty file" for path in paths if path is not paths[3]]
    assert said[-1] == "11 of the photographs and folders named could not be read"
    assert any(line.startswith("photographs: 11/11") for line in told)
    few = Asked(paths[:FEW])
    assert few.shown(rows) is rows
