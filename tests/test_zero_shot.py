"""Detectors from published models, with the real classes of transformers in tiny, and what they share by hand."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_models
import torch
from omegaconf import OmegaConf
from photo_shards import encoded, write_annotations, write_images
from project import ROOT

from instar import dag
from instar.detections import detections
from instar.detector import detector
from instar.detectors import RANDOM, Boxes, family, load, needs_training, sam
from instar.detectors.zero_shot import BoxPrompted, Kind, Number, Prompts, Score, Text, checked, model_folder, tidy
from instar.errors import InputError
from instar.study import compose, names

LIMITS: dict[str, Any] = {"floor": 0.01, "nms_iou": 0.5, "max_boxes": 50}
UNTRAINED = ["grounding_dino_sam", "florence2_sam", "gemini_sam", "watershed"]
PARTS: dict[str, Callable[[Path], Path]] = {
    "grounding_dino_sam": tiny_models.grounding_dino,
    "florence2_sam": tiny_models.florence2,
}


def options(preset: str) -> dict[str, Any]:
    """The section of a preset."""
    found: Any = OmegaConf.to_container(OmegaConf.create(compose("ants", [f"detector={preset}"])).detector)
    return dict(found)


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models, by name."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.sam(folder / "sam")
    for preset, made in PARTS.items():
        made(folder / preset)
    return folder


def stage(folder: Path, preset: str, models: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Run the stage detector with a preset whose models are the tiny ones; what detector.json says."""
    section = options(preset)
    if models is not None:
        section |= {"weights": str(models / preset), "sam": str(models / "sam")}
    section["options"] |= changes.pop("options", {})
    paths = [folder / name for name in ("detector", "detector.metrics.json", "detector.csv", "checkpoints")]
    detector(folder / "a.json", folder / "images", *paths, seed=0, shards=["s0"], **{**section, **changes})
    told: dict[str, Any] = json.loads((folder / "detector/detector.json").read_text())
    return told


def drawn(n: int = 0, height: int = 90, width: int = 150) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (height, width, 3), np.uint8)


def whole(found: Boxes, height: int, width: int) -> None:
    """The promises of ``Detector.predict`` and that boxes are those around the masks."""
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert found.masks is not None
    assert len(found.masks) == len(found) == len(found.boxes_xyxy)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.masks.boxes().tolist() == found.boxes_xyxy.tolist()
    assert (found.masks.areas() > 0).all()
    assert len(found.masks.rle(height, width)) == len(found)  # which refuses what reaches outside


def test_every_preset_without_training_is_known_here() -> None:
    assert [name for name in names("detector") if not needs_training(options(name)["family"])] == sorted(
        [*UNTRAINED, "whole_image"]
    )


def test_grounding_dino_finds_by_its_own_scores(tmp_path: Path, models: Path) -> None:
    told = stage(tmp_path, "grounding_dino_sam", models, image_px=160, options={"box_threshold": 0.5})
    assert told["licence"] == "Apache-2.0 (Grounding DINO), Apache-2.0 (SAM 2.1)"
    assert told["models"]["boxes"]["model"] == "IDEA-Research/grounding-dino-base"
    assert json.loads((tmp_path / "detector.metrics.json").read_text())["rows"] == {"in": 0, "out": 0, "dropped": {}}
    model = load(tmp_path / "detector")
    assert model.tiled
    assert model.predict([], **LIMITS) == []
    pictures = [drawn(0), drawn(1, 120, 70), drawn(2)]
    together = model.predict(pictures, **LIMITS)
    for picture, found in zip(pictures, together, strict=True):
        assert len(found) > 2
        whole(found, *picture.shape[:2])
        assert (found.scores > 0.5).all()
        (again,) = load(tmp_path / "detector").predict([picture], **LIMITS)
        assert again.scores.tolist() == pytest.approx(found.scores.tolist(), abs=1e-4)
    (limited,) = model.predict(pictures[:1], **{**LIMITS, "max_boxes": 2})
    assert limited.full
    assert limited.scores.tolist() == pytest.approx(together[0].scores.tolist()[:2])
    (strict,) = model.predict(pictures[:1], **{**LIMITS, "floor": 0.9999})
    assert 0 < len(strict) < len(together[0])


def test_florence2_reads_what_the_model_writes(tmp_path: Path, models: Path) -> None:
    stage(tmp_path, "florence2_sam", models, options={"max_tokens": 12})
    model: Any = load(tmp_path / "detector")
    assert {parameter.dtype for parameter in model._model.parameters()} == {torch.float32}
    assert model.predict([], **LIMITS) == []
    pictures = [drawn(0), drawn(1, 70, 100)]
    found = model.predict(pictures, **LIMITS)
    for picture, one in zip(pictures, found, strict=True):
        whole(one, *picture.shape[:2])
    # random weights write no boxes; what they would write is read by the same processor
    places = "<loc_100><loc_200><loc_500><loc_600>"
    prompts = model._read(f"</s><s>insect{places}insect<loc_0><loc_0><loc_999><loc_999></s>", False, (100, 200))
    assert prompts.boxes_xyxy == pytest.approx(np.array([[20, 20, 100, 60], [0, 0, 200, 100]]), abs=1)
    assert (prompts.scores, prompts.full) == (None, False)
    outline = "<poly><loc_100><loc_200><loc_500><loc_300><loc_300><loc_600></poly>"
    (box,) = model._read(f"</s><s>insect{outline}</s>", True, (100, 200)).boxes_xyxy
    assert box == pytest.approx(np.array([20, 20, 100, 60]), abs=1)
    nothing = model._read("</s><s>no insect</s>", False, (100, 200))
    assert nothing.boxes_xyxy.shape == (0, 4)


def test_florence2_says_where_its_answer_ended_too_early(tmp_path: Path, models: Path) -> None:
    stage(tmp_path, "florence2_sam", models, options={"max_tokens": 8})
    model: Any = load(tmp_path / "detector")
    assert [one.full for one in model._prompts([drawn(0)], 0.01)] == [True]
    ending = model._model.config.text_config.eos_token_id
    others = set(range(model._model.config.text_config.vocab_size)) - {ending}
    model._model.generation_config.suppress_tokens = sorted(others)
    assert [one.full for one in model._prompts([drawn(0)], 0.01)] == [False]


class Fixed(BoxPrompted):
    """Prompts that a test gives; the rest is what ships."""

    given: Any = None

    def _prompts(self, pictures: list[np.ndarray], floor: float) -> list[Any]:
        return [self.given for _ in pictures]


def prompted(folder: Path, boxes: list[list[float]], scores: list[float] | None = None) -> Fixed:
    model = Fixed(json.loads((folder / "detector/detector.json").read_text()))
    model.given = Prompts(np.array(boxes, float).reshape(-1, 4), None if scores is None else np.array(scores))
    return model


def test_boxes_without_a_score_get_the_constant_or_what_sam_predicts(tmp_path: Path, models: Path) -> None:
    boxes: list[list[float]] = [[10, 10, 40, 40], [60, 20, 100, 70], [0, 0, 140, 85], [5, 5, 5, 9]]
    stage(tmp_path, "florence2_sam", models)
    model = prompted(tmp_path, boxes)
    (found,) = model.predict([drawn()], **LIMITS)
    whole(found, 90, 150)
    empty = model.counts["mask empty or its score below the floor"]
    assert found.scores == pytest.approx([0.9] * (2 - empty))
    assert model.counts["box over too much of the picture"] == 1
    assert model.counts["box empty or outside the picture"] == 1
    stage(tmp_path, "florence2_sam", models, options={"score": "sam_iou"})
    (found,) = prompted(tmp_path, boxes).predict([drawn()], **LIMITS)
    masks, ious = model._sam.masks(drawn(), np.array(boxes[:2]))
    assert sorted(found.scores.tolist()) == sorted(ious[masks.areas() > 0].tolist())
    (nothing,) = prompted(tmp_path, []).predict([drawn()], **LIMITS)
    whole(nothing, 90, 150)


def test_sam_in_chunks_gives_the_same(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sam.Sam(models / "sam")
    boxes = np.random.default_rng(0).uniform(0, 60, (7, 4))
    boxes[:, 2:] += boxes[:, :2] + 5
    masks, ious = model.masks(drawn(), boxes)
    assert (len(masks), ious.shape, ious.dtype) == (7, (7,), np.float32)
    monkeypatch.setattr(sam, "_CHUNK", 3)
    chunked, chunked_ious = model.masks(drawn(), boxes)
    assert chunked_ious == pytest.approx(ious, abs=1e-5)
    assert chunked.areas() == pytest.approx(masks.areas(), abs=2)
    none, no_ious = model.masks(drawn(), np.zeros((0, 4)))
    assert (len(none), len(no_ious)) == (0, 0)


def test_masks_lie_where_they_are_drawn() -> None:
    pictures = np.zeros((3, 6, 8), bool)
    pictures[0, 1:3, 2:7] = True
    pictures[2, 5, 7] = True
    found = sam._masks(pictures)
    assert found.boxes().tolist() == [[2, 1, 7, 3], [0] * 4, [7, 5, 8, 6]]
    assert [found.bitmap(n, (0, 0, 8, 6)).tolist() for n in range(3)] == pictures.tolist()


def kept(boxes: list[list[float]], scores: list[float], **changes: Any) -> tuple[list[int], dict[str, int]]:
    limits = {"width": 100, "height": 50, "largest_share": 0.4, **LIMITS, **changes}
    order, dropped = tidy(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), **limits)
    return order.tolist(), dict(dropped)


def test_tidy_by_hand() -> None:
    assert kept([], []) == ([], {})
    boxes: list[list[float]] = [
        [0, 0, 10, 10],
        [0, 0, 10, 6],  # IoU 0.6 with the first
        [0, 0, 10, 5],  # 0.5, and 0.83 with the second, which is out
        [20, 0, 30, 10],
        [20, 0, 30, 10],  # the same again
        [-50, -50, 150, 30],  # 60 % of the picture
        [0, 0, 100, 20],  # 40 %
        [110, 0, 120, 10],
        [30, 10, 20, 0],
        [float("nan"), 0, 10, 10],
    ]
    scores = [0.9, 0.8, 0.7, 0.5, 0.5, 0.99, 0.3, 0.6, 0.6, 0.6]
    found, dropped = kept(boxes, scores)
    assert found == [0, 2, 3, 6]
    assert dropped == {
        "box empty or outside the picture": 3,
        "box over too much of the picture": 1,
        "overlaps a better box": 2,
    }
    assert kept(boxes, scores, floor=0.6)[0] == [0, 2]
    found, dropped = kept(boxes, scores, max_boxes=2)
    assert (found, dropped["more than max_boxes"]) == ([0, 2], 2)
    assert kept(boxes, scores, largest_share=0.2)[0] == [0, 2, 3]


def test_a_model_that_is_not_there_is_named_with_how_to_fetch_it(tmp_path: Path, models: Path) -> None:
    fetch = "hf download IDEA-Research/grounding-dino-base --local-dir models/none"
    with pytest.raises(InputError, match=rf"^detector\.weights = models/none: no such folder; .*{fetch}$"):
        stage(tmp_path, "grounding_dino_sam", models, weights="models/none")
    with pytest.raises(InputError, match=r"random\.md: random weights find nothing without training; name the model's"):
        stage(tmp_path, "grounding_dino_sam", models, weights=f"workflow/conf/detector/{RANDOM}")
    with pytest.raises(
        InputError, match=r"^detector\.sam = models/none: no such folder; .*hf download facebook/sam2\.1"
    ):
        stage(tmp_path, "florence2_sam", models, sam="models/none")
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(InputError, match=rf"detector\.weights = .*bare: no {name} in it; .*hf download a/b"):
            model_folder("detector.weights", str(tmp_path / "bare"), "a/b")
        (tmp_path / "bare" / name).touch()
    assert not (tmp_path / "detector").exists()


def test_another_model_than_described_is_refused(tmp_path: Path, models: Path) -> None:
    copied = Path(shutil.copytree(models, tmp_path / "models"))
    stage(tmp_path, "grounding_dino_sam", copied)
    (copied / "sam/README.md").write_text("a page about it")  # decides nothing
    load(tmp_path / "detector")
    config = copied / "sam/config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(InputError, match=r"sam: is another model than when the stage detector ran; run it again"):
        load(tmp_path / "detector")
    shutil.rmtree(copied / "sam")
    with pytest.raises(InputError, match=r"sam: no such folder, .*hf download facebook/sam2\.1-hiera-large"):
        load(tmp_path / "detector")


def test_a_folder_of_another_model_is_one_line(tmp_path: Path, models: Path) -> None:
    stage(tmp_path, "grounding_dino_sam", models, weights=str(models / "florence2_sam"))
    with pytest.raises(InputError, match=r"no GroundingDino.*fetch it again") as caught:
        load(tmp_path / "detector")
    assert "\n" not in str(caught.value)


def test_a_description_tells_detectors_apart(tmp_path: Path, models: Path) -> None:
    first = stage(tmp_path, "grounding_dino_sam", models)
    assert first == stage(tmp_path, "grounding_dino_sam", models)
    name = load(tmp_path / "detector").name
    assert name.startswith("grounding_dino_sam-")
    other = stage(tmp_path, "grounding_dino_sam", models, options={"prompt": "beetle."})
    assert first["name"] != other["name"]
    assert load(tmp_path / "detector").name != name


def test_options_by_hand() -> None:
    kinds: dict[str, Kind] = {"a": Number(0, 1), "b": Text(), "c": Score()}
    good = {"c": "sam_iou", "b": "x", "a": 1}
    assert checked(good, kinds, "f") == {"a": 1, "b": "x", "c": "sam_iou"}
    for wrong, told in (
        ({"a": 1.5}, r"options\.a = 1\.5 is not allowed; it must be a number from 0 to 1"),
        ({"a": "1"}, r"options\.a = 1 is not allowed"),
        ({"b": " "}, r"options\.b =   is not allowed; it must be a text"),
        ({"c": "sam"}, r"options\.c = sam is not allowed; it must be a number from 0 to 1, or sam_iou"),
        ({"d": 1}, r"options\.d: f has no such option here; it has a, b, c"),
    ):
        with pytest.raises(InputError, match=told):
            checked({**good, **wrong}, kinds, "f")


@pytest.mark.parametrize("name", ["whole_image", *UNTRAINED])
def test_families_are_found_without_their_libraries(name: str) -> None:
    assert not needs_training(name)
    assert callable(family(name).describe)


def test_watershed_goes_through_the_stages(tmp_path: Path) -> None:
    picture = np.full((60, 100, 3), 255, np.uint8)
    picture[10:22, 5:25] = 30
    write_images(tmp_path / "images", "s0", {"a-0": encoded(picture)}, (100, 60))
    write_annotations(tmp_path / "a.json", {}, (100, 60))
    stage(tmp_path, "watershed")
    section: Any = OmegaConf.create(compose("ants", [])).detections
    out = tmp_path / "out.parquet"
    detections(tmp_path / "detector", tmp_path / "images/s0.parquet", tmp_path / "images/s0.tar", out, **section)
    (row,) = pq.read_table(out).to_pylist()
    assert row["detector"] == load(tmp_path / "detector").name
    assert [row[name] for name in ("x_min", "y_min", "x_max", "y_max")] == pytest.approx([5, 10, 25, 22], abs=1)


@pytest.mark.parametrize(
    ("preset", "key", "hub"),
    [
        ("florence2_sam", "detector.weights", "florence-community/Florence-2-large-ft"),
        ("florence2_sam", "detector.sam", "facebook/sam2.1-hiera-large"),
        ("gemini_sam", "detector.sam", "facebook/sam2.1-hiera-large"),
    ],
)
def test_the_workflow_says_how_to_fetch_a_missing_model(tmp_path: Path, preset: str, key: str, hub: str) -> None:
    params = tmp_path / "params.yaml"
    there = {"detector.weights": tmp_path, "detector.sam": tmp_path} | {key: Path("models/x")}
    params.write_text(compose("demo", [f"detector={preset}", *(f"{name}={path}" for name, path in there.items())]))
    told = re.escape(f"{key} = models/x: no such file or folder; hf download {hub} --local-dir models/x, or put it")
    with pytest.raises(InputError, match=told):
        dag.read(params)


def test_all_files_of_published_models_are_inputs_of_the_stage(tmp_path: Path, models: Path) -> None:
    params = tmp_path / "params.yaml"
    given = [f"detector.weights={models / 'grounding_dino_sam'}", f"detector.sam={models / 'sam'}"]
    params.write_text(compose("demo", ["detector=grounding_dino_sam", *given]))
    inputs = dag.read(params).inputs("detector")
    assert {Path(path).name for path in inputs["sam"]} == {path.name for path in (models / "sam").iterdir()}
    assert str(models / "grounding_dino_sam/config.json") in inputs["weights"]
