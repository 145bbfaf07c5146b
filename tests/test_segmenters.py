"""What Mask R-CNN and Mask2Former share: figures, tiles on disk, options."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytest import approx
from segmenting import examples, recipe, tile

from instar.detectors import Example, Training, family, mask2former
from instar.detectors.augment import Augmentation
from instar.detectors.paste import masks_of
from instar.detectors.segment import finished, settings, taken
from instar.detectors.segment_fit import Schedule, _Learner, mask_figures
from instar.detectors.segment_tiles import Tiles, write_tiles
from instar.errors import InputError
from instar.masks import from_bitmaps, no_masks


def squares(*corners: tuple[int, int]) -> list[bytes]:
    """RLE of squares of 10×10 pixels in a picture of 40×40."""
    return from_bitmaps([np.ones((10, 10), bool)] * len(corners), corners).rle(40, 40)


def row(*corners: tuple[int, int]) -> dict[str, object]:
    return {"height": 40, "width": 40, "counts": [one.decode() for one in squares(*corners)]}


def test_mask_figures_by_hand() -> None:
    nothing = {"mAP50": 0, "mAP50-95": 0, "recall": 0, "precision": 0}
    assert mask_figures([], []) == nothing
    assert mask_figures([row((0, 0))], [([], np.zeros(0))]) == nothing
    assert mask_figures([row()], [(squares((0, 0)), np.array([0.5]))]) == nothing
    # one of two animals is found exactly: recalls 0 to 0.5 of 101 have precision 1
    half = mask_figures([row((0, 0)), row((20, 20))], [(squares((0, 0)), np.array([0.9])), ([], np.zeros(0))])
    assert half == approx({"mAP50": 51 / 101, "mAP50-95": 51 / 101, "recall": 0.5, "precision": 1})
    # shifted by 2 of 10 columns the IoU is 80 / 120 = 0.67: right at 0.5 to 0.65, four of ten thresholds
    shifted = mask_figures([row((0, 0))], [(squares((2, 0)), np.array([0.9]))])
    assert shifted == approx({"mAP50": 1, "mAP50-95": 0.4, "recall": 1, "precision": 1})


def test_more_predictions_than_cocos_hundred_count() -> None:
    corners = [(x, y) for x in range(0, 40, 3) for y in range(0, 40, 3) if max(x, y) <= 30]
    wrong = squares(*corners * 2)  # 242 of which none but the last but so many is right
    scores = np.linspace(1, 0.5, len(wrong) + 1)
    found = [([*wrong, *squares((29, 29))], scores)]
    assert mask_figures([row((29, 29))], found)["mAP50"] > 0


def test_tiles_come_back(tmp_path: Path) -> None:
    write_tiles([], tmp_path, max_px=96)
    assert len(Tiles(tmp_path / "train", 96, 96)) == 0
    write_tiles(examples(6), tmp_path, max_px=96)
    tiles = Tiles(tmp_path / "train", 96, 48)
    assert [one["name"] for one in tiles.all()] == ["t-0", "t-1"]
    masks = tile(0)[1]
    item = tiles[0, 0]
    assert item.boxes_xyxy.numpy() == approx(masks.boxes())
    assert item.bitmaps.shape == (len(masks), 48, 48)
    assert item.bitmaps.sum(dim=(1, 2)).numpy() * 4 == approx(masks.areas(), rel=0.1)
    assert np.abs(item.pixels.numpy().transpose(1, 2, 0).astype(int) - tile(0)[0]).mean() < 20  # JPEG of noise
    assert len(tiles[0, 1].boxes_xyxy) == 0
    views = tiles.learning(Augmentation(), 0)
    assert (views[0, 0].pixels == views[0, 0].pixels).all()
    assert (views[0, 0].pixels != views[1, 0].pixels).any()
    # another epoch's view holds the animals where it shows them
    for epoch in range(5):
        one = views[epoch, 0]
        dark = one.pixels.float().mean(dim=0) < 80
        inside = Tiles(tmp_path / "train", 96, 96).learning(Augmentation(), 0)[epoch, 0].bitmaps.any(dim=0)
        assert (dark == inside).float().mean() > 0.95


def test_a_tile_is_enlarged_and_what_is_not_square_filled_up(tmp_path: Path) -> None:
    bitmap = np.zeros((40, 60), bool)
    bitmap[10:20, 30:50] = True
    masks = from_bitmaps([bitmap])
    picture = np.full((40, 60, 3), 100, np.uint8)
    example = Example("a", "train", picture, masks.boxes().astype(float), masks)
    write_tiles([example], tmp_path, max_px=120)
    item = Tiles(tmp_path / "train", 120, 120)[0, 0]
    assert (item.size, item.content) == ((40, 60), (80, 120))
    assert item.boxes_xyxy.tolist() == [[60, 20, 100, 40]]
    assert from_bitmaps(item.bitmaps.numpy()).boxes().tolist() == [[60, 20, 100, 40]]
    assert item.pixels[:, 80:].max() == 0
    write_tiles([example], tmp_path, max_px=30)  # shrunk to half
    assert Tiles(tmp_path / "train", 120, 120)[0, 0].size == (20, 30)
    assert Tiles(tmp_path / "train", 120, 120)[0, 0].boxes_xyxy.tolist() == [[60, 20, 100, 40]]


def test_options_of_the_schedule() -> None:
    assert taken(Schedule, {}) == Schedule()
    assert taken(Schedule, {"warmup": 0.5, "flip": 1.0}) == Schedule(warmup=0.5)
    options, schedule = settings(
        "mask2former", mask2former.Options, recipe("", options={"warmup": 0.5, "num_queries": 9})
    )
    assert (options.num_queries, schedule.warmup, schedule.weight_decay) == (9, 0.5, 0.05)
    for value in ("much", -1, True):
        with pytest.raises(InputError, match=r"detector\.options\.warmup = "):
            taken(Schedule, {"warmup": value})


def test_the_rate_rises_over_the_published_share_of_steps() -> None:
    """Of 17,062 tiles in whole batches of 8, seven times, 0.3: 4,477 of 14,924 steps; published are 4,500 of 15,000."""
    network: Any = SimpleNamespace(module=torch.nn.Linear(1, 1))
    steps = 17_062 // 8 * 7
    learner = _Learner(network, recipe("", learning_rate=5e-5), Schedule(), Training(), steps)
    made = learner.configure_optimizers()
    optimizer, cycle = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cycle.step()
    assert (steps, int(np.argmax(rates)) + 1) == (14_924, 4_477)
    assert max(rates) == approx(5e-5)


def test_predictions_without_a_pixel_are_left_out_and_counted() -> None:
    boxes = torch.tensor([[-1.0, 0, 4, 4], [0, 0, 2, 2], [1, 1, 9, 3]])
    bitmaps = torch.zeros((3, 4, 8), dtype=torch.bool)
    bitmaps[0, :2], bitmaps[2, 2, 3] = True, True
    found = finished(boxes, torch.tensor([0.9, 0.8, 0.7]), masks_of(bitmaps), (4, 8), full=True)
    assert found.boxes_xyxy.tolist() == [[0, 0, 4, 4], [1, 1, 8, 3]]
    assert found.scores.tolist() == approx([0.9, 0.7])
    assert (found.empty, found.full) == (1, True)
    assert found.masks is not None
    assert found.masks.areas().tolist() == [16, 1]
    none = finished(boxes[:0], torch.zeros(0), no_masks(), (4, 8), full=False)
    assert (len(none), none.empty) == (0, 0)


@pytest.mark.parametrize("name", ["maskrcnn", "mask2former"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "huge"}, r"detector\.model = huge"),
        ({"options": {"mosaic": 0.5}}, r"detector\.options\.mosaic: mask\w+ has no such option here"),
        ({"options": {"warmup": "long"}}, r"detector\.options\.warmup = long"),
        ({"weights": "missing.pth"}, r"detector\.weights = missing\.pth: no such file"),
    ],
)
def test_a_wrong_recipe_is_named_before_anything_is_read(
    tmp_path: Path, name: str, changes: dict[str, object], told: str
) -> None:
    model = {"maskrcnn": "maskrcnn_test", "mask2former": "mask2former_swin_test"}[name]

    def unread() -> Iterator[Example]:
        raise AssertionError("read")
        yield

    with pytest.raises(InputError, match=told) as caught:
        family(name).train(unread(), ["ant"], replace(recipe(model), **changes), tmp_path, tmp_path)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_boxes_alone_are_not_enough(tmp_path: Path) -> None:
    bare = [replace(example, masks=None) for example in examples(6)]
    for name, model in (("maskrcnn", "maskrcnn_test"), ("mask2former", "mask2former_swin_test")):
        with pytest.raises(InputError, match="annotations of t-0: boxes without masks"):
            family(name).train(bare, ["ant"], recipe(model), tmp_path, tmp_path)
