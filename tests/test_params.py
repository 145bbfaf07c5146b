"""params.yaml: what is valid, and the one line that says what is not."""

from pathlib import Path

import pytest
from project import ROOT

from instar import params
from instar.errors import InputError

GOOD = (ROOT / "params.yaml").read_text()


def message(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        params.load(path)
    told = str(caught.value)
    assert "\n" not in told
    return told.replace(str(path), "params.yaml")


def test_the_committed_file_is_valid() -> None:
    assert params.load(ROOT / "params.yaml").study == "demo"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("beta: 0.9999", "beta: 1.0", "beta = 1.0 is not allowed; it must be at least 0 and below 1"),
        ("beta: 0.9999", "beta: .nan", "beta = nan is not allowed"),
        (
            "  - 1024\n  - 9216",
            "  - 1024\n  - 1024",
            "detection_metrics.areas_px = [1024, 1024] is not allowed; it must hold two areas, the smaller one first",
        ),
        (
            "beta: 0.9999",
            "beta: much",
            "beta: Value 'much' of type 'str' could not be converted to Float; it must be float",
        ),
        ("beta: 0.9999", "betta: 0.999", "unknown key betta; the top level has ablations, balance, beta, classifier"),
        ("  floor: 0.01", "  flor: 0.01", "unknown key detections.flor; detections has batch, floor"),
        ("max_weight: 1000.0\n", "", "key max_weight is missing (no class weighs more"),
        ("labels:\n- species", "labels:\n- colour", "labels = 'colour' is not allowed; it must be one of species"),
        ("labels:\n- species", "labels:\n- species\n- species", "it must hold one name or none"),
        ("- s00\n", "- s01\n", "it must hold at least one name and none twice"),
        ("- s00\n", "- ../s00\n", "shards = '../s00' is not allowed; it must be made of letters"),
        ("  bbox: []", "  bbox: [1, 2, 3]", "records.bbox = [1, 2, 3] is not allowed; give west, south, east"),
        ("  bbox: []", "  bbox: [a]", "it must be list of float (west, south, east, north in degrees"),
        ("  observed_from: ''", "  observed_from: '2011'", "records.observed_from = '2011' is not allowed; give a day"),
        ("  max_per_species: 0", "  max_per_species: -1", "records.max_per_species = -1 is not allowed; it must be at"),
        ("  - needs_id\n", "  - good\n", "records.quality_grades = 'good' is not allowed; it must be one of research"),
        ("study: demo", "study: [demo", "not YAML"),
        ("study: demo", "study: a/b", "study = 'a/b' is not allowed"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert GOOD.count(old) == 1
    assert told in message(tmp_path, GOOD.replace(old, new))


def test_image_side_must_suit_the_network(tmp_path: Path) -> None:
    text = GOOD.replace("epochs:", "epochs:")
    side = params.load(ROOT / "params.yaml").detector.image_px
    changed = text.replace(f"image_px: {side}\n", f"image_px: {side + 1}\n", 1)
    assert f"detector.image_px = {side + 1}" in message(tmp_path, changed)


def test_no_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="instar study demo"):
        params.load(tmp_path / "params.yaml")


def test_no_mapping(tmp_path: Path) -> None:
    assert "top level" in message(tmp_path, "- demo\n")
