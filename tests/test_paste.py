import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from instar.detectors import paste
from instar.detectors.paste import _summed_together, masks_of, pasted, spread, summed
from instar.detectors.yolo import _content, _prepare
from instar.masks import Masks, from_bitmaps


def same(first: Masks, second: Masks) -> bool:
    names = ("columns", "tops", "bottoms", "offsets")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_masks_of() -> None:
    assert len(masks_of(torch.zeros((0, 4, 4), dtype=torch.bool))) == 0
    assert masks_of(torch.zeros((2, 4, 4), dtype=torch.bool)).areas().tolist() == [0, 0]
    bitmaps = np.random.default_rng(0).random((5, 30, 20)) > 0.5
    assert same(masks_of(torch.from_numpy(bitmaps)), from_bitmaps(bitmaps))
    lefts, tops = torch.arange(5), torch.arange(5) * 2
    moved = masks_of(torch.from_numpy(bitmaps), lefts, tops)
    assert same(moved, from_bitmaps(bitmaps, [(n, 2 * n) for n in range(5)]))


def test_pasted_by_hand() -> None:
    assert len(pasted(torch.zeros((0, 28, 28)), torch.zeros((0, 4)), 9, 9)) == 0
    # all of a box; one that lies outside; one between two pixels' centres; the left one of two cells
    boxes = torch.tensor([[2, 1, 6, 4], [-9, -9, -1, -1], [1.6, 1.6, 2.4, 2.4], [0, 0, 8, 4]])
    shares = torch.ones((4, 2, 2))
    shares[3, :, 1] = 0
    found = pasted(shares, boxes, 5, 8)
    assert found.areas().tolist() == [12, 0, 0, 12]
    assert found.boxes().tolist()[0] == [2, 1, 6, 4]
    # along x the cells' centres are at 2 and 6: shares 0.625, 0.875, 0.875, 0.625, and less than 0.5 from 4 on; along y
    # 0.75, 1, 1, 0.75, so the corners have 0.47
    assert found.bitmap(3, (0, 0, 5, 4)).astype(int).tolist() == [
        *([0, 1, 1, 0, 0], [1, 1, 1, 1, 0]),
        *([1, 1, 1, 1, 0], [0, 1, 1, 0, 0]),
    ]


def whole_pictures(shares: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Detectron2's ``_do_paste_mask`` without its skipping of empty parts."""
    x_min, y_min, x_max, y_max = boxes.split(1, dim=1)
    y = (torch.arange(height) + 0.5 - y_min) / (y_max - y_min) * 2 - 1
    x = (torch.arange(width) + 0.5 - x_min) / (x_max - x_min) * 2 - 1
    sizes = (len(boxes), height, width)
    grid = torch.stack([x[:, None, :].expand(sizes), y[:, :, None].expand(sizes)], dim=3)
    return grid_sample(shares[:, None], grid, align_corners=False)[:, 0] >= 0.5


@pytest.mark.parametrize("budget", [2**24, 500])
def test_pasted_equals_detectron2s(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "BUDGET", budget)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((200, 2, 2), generator=generator) * 110 - 10
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    shares = torch.rand((200, 28, 28), generator=generator)
    assert same(pasted(shares, boxes, 80, 90), masks_of(whole_pictures(shares, boxes, 80, 90)))


@pytest.mark.parametrize("budget", [2**24, 7000])
def test_spread(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "BUDGET", budget)
    assert list(spread(torch.zeros((0, 8, 8)), 9, 9, content=(1, 1))) == []
    logits = torch.rand((7, 16, 16), generator=torch.Generator().manual_seed(0)) - 0.5
    parts = list(spread(logits, 60, 50, content=(1, 1)))
    assert len(parts) == (1 if budget > 60 * 50 * 7 else 4)
    whole = torch.cat([part for _, part in parts])
    assert torch.allclose(whole, interpolate(logits[None], (60, 50), mode="bilinear")[0], atol=1e-5)
    # a picture that fills the upper half is read from there
    ((_, half),) = spread(torch.arange(4.0)[:, None].expand(1, 4, 4), 2, 4, content=(0.5, 1))
    assert half[0, :, 0].tolist() == [0, 1]


def test_summed_by_hand() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert len(summed(torch.zeros((1, 3, 2, 2)), torch.zeros((0, 3)), none, torch.zeros((0, 4)), 4, 4)) == 0
    # two layers of 2×1 cells for a picture of 4×3 pixels: down the columns they go 0, 0.25, 0.75, 1 and 1, 0.75, …
    layers = torch.tensor([[[[0.0], [1.0]], [[1.0], [0.0]]]])
    boxes = torch.tensor([[0, 0, 3, 4], [0.5, 0, 2, 2.5], [2, 2, 2, 4], [-9, -9, 9, 9], [1, 1, 2, 4]])
    # the first layer less half the second is above 0 from the third row on; none; an empty box; all; minus
    coefficients = torch.tensor([[1, -0.5], [1, -0.5], [1, 1], [1, 1], [-1, -1]])
    found = summed(layers, coefficients, torch.zeros(5, dtype=torch.int64), boxes, 4, 3)
    assert found.areas().tolist() == [6, 1, 0, 12, 0]
    assert found.boxes().tolist() == [[0, 2, 3, 4], [1, 2, 2, 3], [0, 0, 0, 0], [0, 0, 3, 4], [0, 0, 0, 0]]


@pytest.mark.parametrize("inside", [2**19, 1])
@pytest.mark.parametrize("size", [(96, 96), (160, 160), (50, 50), (96, 48), (48, 96), (7, 7)])
def test_summed_equals_ultralytics(size: tuple[int, int], inside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _prepare()
    from ultralytics.utils.ops import process_mask_native

    monkeypatch.setattr(paste, "INSIDE", inside)
    height, width = size
    generator = torch.Generator().manual_seed(0)
    layers = torch.randn((2, 8, 24, 24), generator=generator)
    pictures = torch.tensor([0] * 15 + [1] * 25)
    coefficients = torch.randn((40, 8), generator=generator)
    limits = torch.tensor([width, height, width, height])
    corners = torch.rand((40, 2, 2), generator=generator)
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1) * limits
    boxes[:3] = torch.stack([limits * 0, limits * torch.tensor([0, 0, 1, 1]), boxes[0].round()])
    content = _content(height, width, 24, 24)
    assert content is not None
    top, left, bottom, right = content
    layers_of_content = layers[:, :, top:bottom, left:right]
    found = summed(layers_of_content, coefficients, pictures, boxes, height, width)
    edges = boxes.ceil().clamp(min=0).minimum(limits).long()
    # what a GPU takes
    assert same(found, _summed_together(layers_of_content, coefficients, pictures.tolist(), edges, height, width))
    parts = [process_mask_native(layers[n], coefficients[pictures == n], boxes[pictures == n], size) for n in range(2)]
    assert same(found, masks_of(torch.cat(parts)))
    assert (found.areas() > 0).sum() > 20


def test_content() -> None:
    assert _content(512, 512, 128, 128) == (0, 0, 128, 128)
    assert _content(512, 256, 128, 128) == (0, 32, 128, 96)  # 256 of 512 pixels are filled up, half of them before
    assert _content(10, 20, 4, 4) == (1, 0, 3, 4)
    assert _content(11, 20, 4, 4) is None  # 16×9 pixels in an input of 16×16
