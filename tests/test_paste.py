import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from instar.detectors import paste
from instar.detectors.paste import masks_of, pasted, spread
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
