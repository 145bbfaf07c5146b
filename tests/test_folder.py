"""Photographs of one's own with boxes in YOLO's layout."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from instar.decode import decode_upright
from instar.errors import InputError
from instar.files import sha256_of
from instar.records.annotated import annotations
from instar.records.annotations import Annotations
from instar.records.folder import gather, upright_size

REAL = Path(__file__).parents[1] / "../shared/realdata/beesense"


def photograph(path: Path, width: int = 40, height: int = 20, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path, exif=exif)


def label(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(source: Path) -> Annotations:
    found = gather(source).found
    urls = dict(zip(found["key"].to_pylist(), found["url"].to_pylist(), strict=True))
    return annotations(source, urls, category="ant")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder 'images'"):
        gather(tmp_path)
    (tmp_path / "images").mkdir()
    assert gather(tmp_path).found.num_rows == 0
    assert read(tmp_path).photographs == {}


def test_rows(tmp_path: Path) -> None:
    photograph(tmp_path / "images/train/20251225104830_a.jpg")
    photograph(tmp_path / "images/b.PNG")
    photograph(tmp_path / "images/20251325104830.jpg")
    (tmp_path / "images/notes.txt").write_text("")
    (tmp_path / "images/.hidden.jpg").write_text("")
    gathering = gather(tmp_path)
    rows = {row["photo_id"]: row for row in gathering.found.to_pylist()}
    assert set(rows) == {"train-20251225104830_a", "b", "20251325104830"}
    first = rows["train-20251225104830_a"]
    assert (first["key"], first["observation_id"]) == ("folder-train-20251225104830_a",) * 2
    assert first["url"] == "images/train/20251225104830_a.jpg"
    assert first["sha256"] == sha256_of(tmp_path / first["url"])
    assert first["observed_at"].isoformat() == "2025-12-25T10:48:30+00:00"
    assert rows["20251325104830"]["observed_at"] is None  # there is no month 13
    assert (first["licence"], first["basis"], first["taxon_id"], first["latitude"]) == ("unknown", "field", None, None)
    assert gathering.dropped.to_pylist() == [{"source": "folder", "photo_id": "notes", "reason": "no photograph"}]


def test_names_are_safe_and_differ(tmp_path: Path) -> None:
    for name in ("Ü.jpg", "Ö.jpg", "a b/c.jpg", f"{'x' * 120}.jpg"):
        photograph(tmp_path / "images" / name)
    ids = gather(tmp_path).found["photo_id"].to_pylist()
    assert len(set(ids)) == 4
    assert all(len(name) <= 80 and name.isascii() and " " not in name for name in ids)
    photograph(tmp_path / "images/a.jpg")
    photograph(tmp_path / "images/a.png")
    with pytest.raises(InputError, match=r"a.png: gets the key of .*a.jpg, too"):
        gather(tmp_path)


@pytest.mark.parametrize(
    "orientation, expected", [(1, (40, 20)), (3, (40, 20)), (5, (20, 40)), (6, (20, 40)), (8, (20, 40))]
)
def test_sizes_are_upright(tmp_path: Path, orientation: int, expected: tuple[int, int]) -> None:
    photograph(tmp_path / "a.jpg", orientation=orientation)
    assert upright_size(tmp_path / "a.jpg") == expected


def test_boxes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        photograph(tmp_path / f"images/{name}.jpg")
    (tmp_path / "images/d.jpg").write_bytes(b"no photograph")
    label(tmp_path / "labels/a.txt", "0 0.5 0.5 0.25 0.5\n\n0 0.0 0.5 0.04 0.1\n")
    label(tmp_path / "labels/b.txt", "")
    label(tmp_path / "labels/d.txt", "0 0.5 0.5 0.25 0.5\n")
    label(tmp_path / "labels/gone.txt", "anything")
    label(tmp_path / "labels/classes.txt", "ant")
    found = read(tmp_path)
    assert set(found.photographs) == {"folder-a", "folder-b"}  # c has no label file
    assert [one.bbox for one in found.photographs["folder-a"].boxes] == [
        [15, 5, 10, 10],
        [0, 9, 0.8, 2],  # reached 0.8 pixels outside and is cut
    ]
    assert found.photographs["folder-b"].boxes == []
    assert found.left_out == {"not among the records": 1, "no readable photograph": 1}


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 0.5 0.5 0.25", "line 2: 4 columns"),
        ("0 0.5 0.5 0.25 0.5 0.9", "line 2: 6 columns"),
        ("1 0.5 0.5 0.25 0.5", "line 2: class '1' is unknown"),
        ("0 0.5 0.5 0.25 half", "line 2: .* are not four numbers"),
        ("0 0.5 0.5 0.25 nan", "line 2: .* is outside the photograph"),
        ("0 0.0 0.5 0.06 0.1", "line 2: box -1.2, 9, 1.2, 11 is outside the photograph of 40×20 pixels"),
        ("0 0.5 0.5 0 0.1", "line 2: a box of 0×2 pixels has no area"),
        ("0 0.5 0.5 -0.1 0.1", "line 2: a box of -4×2 pixels has no area"),
    ],
)
def test_broken_labels(tmp_path: Path, line: str, message: str) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "labels/a.txt", f"0 0.5 0.5 0.25 0.5\n{line}\n")
    with pytest.raises(InputError, match=f"a.txt: {message}"):
        read(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/realdata/beesense")
def test_bees() -> None:
    found = gather(REAL).found
    assert found.num_rows == 100
    assert found["observed_at"].null_count == 0
    boxes = read(REAL)
    assert sum(len(one.boxes) for one in boxes.photographs.values()) == 200
    assert {(one.width, one.height) for one in boxes.photographs.values()} == {(320, 240), (224, 224)}
    assert not boxes.left_out
    assert pa.types.is_timestamp(found["observed_at"].type)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_that_of_the_decoded_photograph(tmp_path: Path, ending: str, orientation: int) -> None:
    path = tmp_path / f"a.{ending}"
    photograph(path, 40, 20, orientation)
    height, width = decode_upright(path.read_bytes()).shape[:2]
    assert upright_size(path) == (width, height) == ((20, 40) if orientation >= 5 else (40, 20))


def test_a_label_with_a_byte_order_mark(tmp_path: Path) -> None:
    photograph(tmp_path / "images/a.jpg")
    label(tmp_path / "labels/a.txt", "\ufeff0 0.5 0.5 0.5 0.5\r\n")
    assert [one.bbox for one in read(tmp_path).photographs["folder-a"].boxes] == [[10, 5, 20, 10]]
