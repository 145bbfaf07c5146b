from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from one_by_one import OneByOne, boxes_of
from photo_shards import SLICING, encoded, write_images

from instar import detections as module
from instar import tables
from instar.boxes import NO_ANIMAL
from instar.detections import Limits, Photograph, Slicing, detections, searched
from instar.detectors import Boxes
from instar.errors import InputError
from instar.files import write_json
from instar.tables import DETECTIONS, read_table

OPTIONS: dict[str, Any] = {
    "floor": 0.01,
    **SLICING,
    "nms_iou": 0.6,
    "max_boxes": 10,
    "workers": 2,
}
LIMITS = Limits(floor=0.01, nms_iou=0.6, max_boxes=10)


class Bright(OneByOne):
    """Finds connected white pixels; the score is the share of the picture that they fill, at most 1."""

    name = "bright"
    tiled = True

    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes:
        stats = cv2.connectedComponentsWithStats(np.ascontiguousarray(picture[..., 0] // 255))[2][1:]
        boxes = boxes_of(stats)
        scores = stats[:, 4] / (picture.shape[0] * picture.shape[1])
        best = [n for n in np.argsort(-scores) if scores[n] >= floor][:max_boxes]
        return Boxes(boxes[best].astype(np.float32), scores[best].astype(np.float32))


def scene(size: tuple[int, int], *squares: tuple[int, int, int, int]) -> np.ndarray:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for left, top, right, bottom in squares:
        picture[top:bottom, left:right] = 255
    return picture


def pictures(*scenes: np.ndarray | str) -> Iterator[tuple[dict[str, Any], np.ndarray | str]]:
    yield from (({"key": f"p{n}"}, one) for n, one in enumerate(scenes))


def slicing(**given: Any) -> Slicing:
    return Slicing(**{**SLICING, **given})


def test_searched_nothing() -> None:
    assert list(searched(Bright(), pictures(), slicing(), LIMITS)) == []


def test_searched_by_hand() -> None:
    # tiles of the first: x 0-100, 80-180, 150-250; the second square lies on the border of two of them
    squares = [(10, 10, 30, 30), (85, 40, 105, 60), (230, 70, 250, 90)]
    found = list(searched(Bright(), pictures(scene((250, 90), *squares), scene((80, 80))), slicing(), LIMITS))
    assert sorted(found[0].boxes.boxes_xyxy.tolist()) == [list(square) for square in squares]
    assert found[0].reason is None
    assert (found[1].key, found[1].reason, len(found[1].boxes)) == ("p1", NO_ANIMAL, 0)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_searched_fills_batches_across_photographs(batch: int) -> None:
    scenes: list[np.ndarray | str] = [
        scene((250, 90), (10, 10, 30, 30)),
        scene((60, 50), (0, 0, 60, 50)),
        "damaged",
        scene((90, 250)),
    ]
    model = Bright()
    found = list(searched(model, pictures(*scenes), slicing(batch=batch), LIMITS))
    assert [one.key for one in found] == ["p0", "p1", "p2", "p3"]
    assert [one.reason for one in found] == [None, None, "damaged", NO_ANIMAL]
    assert sum(model.batches) == 4 + 1 + 4
    assert set(model.batches[:-1]) <= {batch}
    assert max(model.batches) <= batch
    assert found[0].boxes.boxes_xyxy.tolist() == [[10, 10, 30, 30]]
    assert found[1].boxes.boxes_xyxy.tolist() == [[0, 0, 60, 50]]


def test_searched_warns_of_a_full_tile(capsys: pytest.CaptureFixture[str]) -> None:
    picture = scene((60, 60), (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    list(searched(Bright(), pictures(picture), slicing(), Limits(0.01, 0.6, max_boxes=3)))
    assert "p0" in capsys.readouterr().err
    list(searched(Bright(), pictures(picture), slicing(), LIMITS))
    assert capsys.readouterr().err == ""


class Full(Bright):
    """Says of every picture that it can give no more."""

    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes:
        return replace(super()._one(picture, floor, max_boxes), full=True)


def test_searched_warns_of_a_full_detector(capsys: pytest.CaptureFixture[str]) -> None:
    list(searched(Full(), pictures(scene((60, 60), (0, 0, 10, 10))), slicing(), LIMITS))
    assert "p0: the tile at x 0, y 0 holds as many boxes as the detector can give; lower tile_px" in (
        capsys.readouterr().err
    )


def test_searched_warns_once_of_a_photograph(capsys: pytest.CaptureFixture[str]) -> None:
    """Four tiles of 40 pixels."""
    list(searched(Full(), pictures(scene((70, 70), (0, 0, 10, 10))), slicing(tile_px=40, whole=False), LIMITS))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(told) == 2 and told[1] == "warning: p0: 3 more of its tiles are full"


class Empty(Bright):
    """Has left out two predictions whose masks were empty."""

    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes:
        return replace(super()._one(picture, floor, max_boxes), empty=2)


def test_a_cap_is_told_also_where_empty_masks_were_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    list(searched(Empty(), pictures(scene((60, 60), (0, 0, 10, 10))), slicing(), Limits(0.01, 0.6, max_boxes=3)))
    assert "reached max_boxes = 3; raise it" in capsys.readouterr().err


class Astray(Bright):
    """Answers with boxes beyond the picture's borders."""

    def _one(self, picture: np.ndarray, floor: float, max_boxes: int) -> Boxes:
        boxes = np.array([[-5, 5, 10, 20], [30, 30, 30, 40], [55, 55, 70, 70], [80, 80, 90, 90]], np.float32)
        return Boxes(boxes, np.array([0.5, 0.9, 0.7, 0.8], np.float32))


def test_searched_clips_boxes_and_removes_empty_ones() -> None:
    found = next(searched(Astray(), pictures(scene((60, 60))), slicing(), LIMITS))
    assert found.boxes.boxes_xyxy.tolist() == [[55, 55, 60, 60], [0, 5, 10, 20]]


@pytest.fixture
def whole_image(tmp_path: Path) -> Path:
    write_json(tmp_path / "detector/detector.json", {"family": "whole_image"})
    return tmp_path / "detector"


def test_detections_of_whole_image(tmp_path: Path, whole_image: Path) -> None:
    photograph = encoded(scene((250, 90)))
    files: dict[str, bytes | str] = {"a-1": photograph, "a-2": "not found", "a-3": b"no picture", "a-4": photograph}
    write_images(tmp_path, "s0", files, (250, 90))
    detections(whole_image, tmp_path / "s0.parquet", tmp_path / "s0.tar", tmp_path / "out.parquet", **OPTIONS)
    rows = read_table(tmp_path / "out.parquet", DETECTIONS).to_pylist()
    box = {"x_min": 0, "y_min": 0, "x_max": 250, "y_max": 90, "score": 1, "detector": "whole_image", "reason": None}
    assert rows[0] == {**dict.fromkeys(DETECTIONS.names), "photo_key": "a-1", "key": "a-1-000", **box}
    assert rows[1] == {
        **dict.fromkeys(DETECTIONS.names),
        "photo_key": "a-3",
        "reason": "not an image",
        "detector": "whole_image",
    }
    assert [row["photo_key"] for row in rows] == ["a-1", "a-3", "a-4"]  # a-2 ended in the images


def test_photographs_are_written_one_by_one(tmp_path: Path, whole_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 1)
    write_images(tmp_path, "s0", dict.fromkeys(("a-1", "a-2", "a-3"), encoded(scene((50, 50)))), (50, 50))
    written: list[int] = []

    def watched(*arguments: Any) -> Iterator[Photograph]:
        for photograph in searched(*arguments):
            written.append(sum(path.stat().st_size for path in tmp_path.glob(".out.parquet*")))
            yield photograph

    monkeypatch.setattr(module, "searched", watched)
    detections(whole_image, tmp_path / "s0.parquet", tmp_path / "s0.tar", tmp_path / "out.parquet", **OPTIONS)
    assert written[0] < written[1] < written[2]
    assert read_table(tmp_path / "out.parquet", DETECTIONS)["photo_key"].to_pylist() == ["a-1", "a-2", "a-3"]


@pytest.mark.parametrize("key", [None, "a-9"])
def test_detections_writes_the_photographs_it_was_given(
    tmp_path: Path, whole_image: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    def astray(*arguments: Any) -> Iterator[Photograph]:
        """Loses the last photograph, or adds one."""
        found = list(searched(*arguments))
        yield from found[:-1] if key is None else [*found, Photograph(key, NO_ANIMAL)]

    monkeypatch.setattr(module, "searched", astray)
    photograph = encoded(scene((50, 50)))
    write_images(tmp_path, "s0", {"a-1": photograph, "a-2": photograph}, (50, 50))
    with pytest.raises(RuntimeError, match=rf"out\.parquet: 1 photographs .*, such as {key or 'a-2'}"):
        detections(whole_image, tmp_path / "s0.parquet", tmp_path / "s0.tar", tmp_path / "out.parquet", **OPTIONS)
    assert not (tmp_path / "out.parquet").exists()


def test_detections_of_an_empty_shard(tmp_path: Path, whole_image: Path) -> None:
    write_images(tmp_path, "s0", {}, (1, 1))
    detections(whole_image, tmp_path / "s0.parquet", tmp_path / "s0.tar", tmp_path / "out.parquet", **OPTIONS)
    assert read_table(tmp_path / "out.parquet", DETECTIONS).num_rows == 0


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"family": "cascade"}'])
def test_detections_needs_a_known_detector(tmp_path: Path, text: str | None) -> None:
    write_images(tmp_path, "s0", {}, (1, 1))
    if text is not None:
        (tmp_path / "detector.json").write_text(text)
    with pytest.raises(InputError, match=r"detector\.json"):
        detections(tmp_path, tmp_path / "s0.parquet", tmp_path / "s0.tar", tmp_path / "out.parquet", **OPTIONS)
