"""Masks of a network at a picture's own resolution, in pieces of bounded size, straight into runs. Imports torch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import grid_sample, pad

from instar.masks import Masks, joined_masks, no_masks

#: Pixels that are worked out at a time; four bytes each, some of them twice.
BUDGET = 2**24
#: Pixels inside boxes that ``summed`` works out at a time, some 100 bytes each.
INSIDE = 2**19


def masks_of(bitmaps: torch.Tensor, lefts: torch.Tensor | None = None, tops: torch.Tensor | None = None) -> Masks:
    """Runs of a stack of masks, found where the stack lies, so that only they leave a GPU.

    Args:
        bitmaps: bool or uint8 of 0 and 1, shape (n, height, width).
        lefts: int64, shape (n,), x of each one's upper left pixel; None for 0.
        tops: likewise y.
    """
    steps = pad(bitmaps.transpose(1, 2).to(torch.int8), (1, 1)).diff(dim=2)
    starts, ends = (steps == 1).nonzero(), (steps == -1).nonzero()
    owners = starts[:, 0]
    left = 0 if lefts is None else lefts[owners]
    top = 0 if tops is None else tops[owners]
    counts = torch.bincount(owners, minlength=len(bitmaps)).cpu().numpy()
    columns, firsts, lasts = (
        part.to(torch.int32).cpu().numpy() for part in (starts[:, 1] + left, starts[:, 2] + top, ends[:, 2] + top)
    )
    return Masks(columns, firsts, lasts, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def pasted(shares: torch.Tensor, boxes_xyxy: torch.Tensor, height: int, width: int) -> Masks:
    """Masks of at least 0.5 from small squares of probabilities, each stretched over its box.

    A pixel has the square's value at its centre, bilinear between the centres of the square's cells and 0 beyond the
    square, as Detectron2's ``paste_masks_in_image`` reads it. Only the box is worked out, never the picture.

    Args:
        shares: float32, shape (n, m, m), in [0, 1].
        boxes_xyxy: float32, shape (n, 4), pixels of the picture.
        height: of the picture, pixels.
        width: likewise.

    Returns:
        Masks in the order of the boxes; one whose box holds no pixel's centre, or no such value, is empty.
    """
    limits = torch.tensor([width, height, width, height], device=boxes_xyxy.device)
    clipped = boxes_xyxy.clamp(min=0).minimum(limits)
    corners, ends = clipped[:, :2].floor().long(), clipped[:, 2:].ceil().long()
    sides = (ends - corners).clamp(min=0)
    order = torch.argsort(sides.amax(dim=1), stable=True) if len(sides) else torch.zeros(0, dtype=torch.int64)
    parts = []
    for chosen in _pieces(order, sides[order].cpu().numpy()):
        (w, h), low = sides[chosen].amax(dim=0).tolist(), corners[chosen]
        box = boxes_xyxy[chosen]
        rows = _weights(box[:, 1], box[:, 3], low[:, 1], h, shares.shape[1])
        columns = _weights(box[:, 0], box[:, 2], low[:, 0], w, shares.shape[2])
        inside = rows @ shares[chosen].float() @ columns.transpose(1, 2) >= 0.5
        inside &= (torch.arange(h, device=low.device) < sides[chosen, 1, None])[:, :, None]
        inside &= (torch.arange(w, device=low.device) < sides[chosen, 0, None])[:, None, :]
        parts.append(masks_of(inside, low[:, 0], low[:, 1]))
    back = np.empty(len(order), np.int64)
    back[order.cpu().numpy()] = np.arange(len(order))
    return joined_masks(parts).take(back)


def _pieces(order: torch.Tensor, sides: np.ndarray) -> Iterator[torch.Tensor]:
    """Indices in pieces, each of which needs at most ``BUDGET`` pixels where one alone does not need more."""
    start, widest = 0, np.zeros(2, np.int64)
    for n, side in enumerate(sides):
        wider = np.maximum(widest, side)
        if n > start and (n + 1 - start) * int(wider.prod()) > BUDGET:
            yield order[start:n]
            start, wider = n, side
        widest = wider
    if start < len(order):
        yield order[start:]


def _weights(low: torch.Tensor, high: torch.Tensor, first: torch.Tensor, count: int, cells: int) -> torch.Tensor:
    """Share of each cell in each pixel's value: float32, shape (n, count, cells), from floats of shape (n,)."""
    centres = first[:, None] + torch.arange(count, device=low.device) + 0.5
    places = (centres - low[:, None]) / (high - low).clamp(min=1e-6)[:, None] * cells - 0.5
    return (1 - (places[:, :, None] - torch.arange(cells, device=low.device)).abs()).clamp(min=0)


def spread(
    logits: torch.Tensor, height: int, width: int, *, content: tuple[float, float]
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Logits of masks over the whole input, bilinear at the centres of the picture's pixels, some masks at a time.

    Args:
        logits: float, shape (n, rows, columns), of an input whose upper left part the picture fills.
        height: of the picture, pixels.
        width: likewise.
        content: height and width of that part, as shares of the input.

    Yields:
        Which masks, and float32, shape (k, height, width).
    """
    y = (torch.arange(height, device=logits.device) + 0.5) / height * content[0] * 2 - 1
    x = (torch.arange(width, device=logits.device) + 0.5) / width * content[1] * 2 - 1
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=2)[None]
    step = max(1, BUDGET // (height * width))
    for start in range(0, len(logits), step):
        part = logits[None, start : start + step].float()
        yield slice(start, start + step), grid_sample(part, grid, padding_mode="border", align_corners=False)[0]


def summed(
    layers: torch.Tensor,
    coefficients: torch.Tensor,
    pictures: torch.Tensor,
    boxes_xyxy: torch.Tensor,
    height: int,
    width: int,
) -> Masks:
    """Masks that are weighted sums of a picture's layers: above 0 inside their boxes, which alone are worked out.

    A pixel's value is bilinear between the layers' cells, as torch's ``interpolate`` has it, and a pixel is inside a
    box whose corners it lies between, as in ultralytics' ``process_mask_native``.

    Args:
        layers: float, shape (b, c, rows, columns), of pictures of one size.
        coefficients: float, shape (n, c).
        pictures: int64, shape (n,), in [0, b), the picture of each mask; they stand together.
        boxes_xyxy: float32, shape (n, 4), pixels of the picture.
        height: of the pictures, pixels.
        width: likewise.

    Returns:
        n masks, some of which may be empty.
    """
    limits = torch.tensor([width, height, width, height], device=boxes_xyxy.device)
    edges = boxes_xyxy.ceil().clamp(min=0).minimum(limits).long()
    if layers.device.type == "cpu":
        return _summed_one_by_one(layers.float(), coefficients.float(), pictures.tolist(), edges.numpy(), height, width)
    return _summed_together(layers, coefficients, pictures.tolist(), edges, height, width)


def _summed_one_by_one(
    layers: torch.Tensor, coefficients: torch.Tensor, owners: list[int], edges: np.ndarray, height: int, width: int
) -> Masks:
    """Box by box, of the cells around it alone, as is cheapest on a CPU.

    Args:
        layers: float32, shape (b, c, rows, columns).
        coefficients: float32, shape (n, c).
        owners: of each mask its picture.
        edges: int64, shape (n, 4), the boxes in whole pixels, max exclusive.
        height: of the pictures, pixels.
        width: likewise.
    """
    rows, columns = layers.shape[2:]
    (above, down), (before, across) = _weights_of_cells(rows, height), _weights_of_cells(columns, width)
    down = down.T.contiguous()
    sides = np.maximum(edges[:, 2:] - edges[:, :2], 0)
    parts, start = [no_masks()], 0
    for end in _ends(sides.prod(axis=1).tolist(), 1):
        inside = []
        for n in range(start, end):
            left, top, right, bottom = edges[n].tolist()
            if right <= left or bottom <= top:
                inside.append(np.zeros((0, 1), bool))
                continue
            y, x = slice(above[top], above[bottom - 1] + 2), slice(before[left], before[right - 1] + 2)
            block = layers[owners[n], :, y, x]
            # torch's products: NumPy's own threads wait for each other over such small ones
            cells = torch.mv(block.flatten(1).T, coefficients[n]).view(block.shape[1:])
            # a column of pixels after the other, a pixel that is never inside at the end of each
            picture = np.zeros((right - left, bottom - top + 1), bool)
            values = torch.mm(torch.mm(across[left:right, x], cells.T), down[y, top:bottom])
            np.greater(values.numpy(), 0, out=picture[:, :-1])
            inside.append(picture)
        parts.append(_runs_of(inside, edges[start:end]))
        start = end
    return joined_masks(parts)


def _weights_of_cells(cells: int, pixels: int) -> tuple[list[int], torch.Tensor]:
    """Of each pixel of a side the cell before its centre, and all cells' shares: float32, shape (pixels, cells)."""
    before, share = _between(cells, pixels, torch.device("cpu"))
    weights = torch.zeros((pixels, cells))
    weights.scatter_add_(1, before[:, None], 1 - share[:, None])
    weights.scatter_add_(1, (before + 1).clamp(max=cells - 1)[:, None], share[:, None])
    return before.tolist(), weights


def _runs_of(pictures: list[np.ndarray], edges: np.ndarray) -> Masks:
    """Runs of masks, bool, shape (width, height + 1) each, whose last pixels are False; and where each begins."""
    flat = np.concatenate([np.zeros(1, bool), *(picture.ravel() for picture in pictures)])
    steps = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = steps[::2], steps[1::2]
    begins = np.cumsum([0, *(picture.size for picture in pictures)])
    owners = np.searchsorted(begins, starts, side="right") - 1
    heights = np.array([picture.shape[1] for picture in pictures], np.int64)[owners]
    columns, tops = np.divmod(starts - begins[owners], heights)
    columns, tops = (columns + edges[owners, 0]).astype(np.int32), (tops + edges[owners, 1]).astype(np.int32)
    offsets = np.searchsorted(owners, np.arange(len(pictures) + 1))
    return Masks(columns, tops, tops + (ends - starts).astype(np.int32), offsets.astype(np.int64))


def _summed_together(
    layers: torch.Tensor, coefficients: torch.Tensor, owners: list[int], edges: torch.Tensor, height: int, width: int
) -> Masks:
    """All boxes in a few calls, as a GPU wants them."""
    sides = (edges[:, 2:] - edges[:, :2]).clamp(min=0)
    parts, start = [no_masks()], 0
    pixels = sides.prod(dim=1).tolist()
    for end in _ends(pixels, layers.shape[2] * layers.shape[3]):
        cells = torch.empty((end - start, *layers.shape[2:]), device=layers.device)
        for first, last in _stretches(owners, start, end):
            out = cells[first - start : last - start].flatten(1)
            torch.mm(coefficients[first:last].float(), layers[owners[first]].float().flatten(1), out=out)
        parts.append(_above(cells, edges[start:end], sides[start:end], height, width))
        start = end
    return joined_masks(parts)


def _ends(pixels: list[int], cells: int) -> Iterator[int]:
    """Where to cut a list of masks, so that each piece has at most ``INSIDE`` pixels or one mask."""
    total = 0
    for n, some in enumerate(pixels):
        total += max(some, cells)
        if n and total > INSIDE:
            yield n
            total = max(some, cells)
    if pixels:
        yield len(pixels)


def _stretches(values: list[int], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where equal values that stand together begin and end."""
    first = start
    for n in range(start + 1, end + 1):
        if n == end or values[n] != values[first]:
            yield first, n
            first = n


def _above(cells: torch.Tensor, edges: torch.Tensor, sides: torch.Tensor, height: int, width: int) -> Masks:
    """The pixels in boxes whose value is above 0, box by box, down the columns.

    Args:
        cells: float32, shape (n, rows, columns), of the whole picture each.
        edges: int64, shape (n, 4), the boxes' in whole pixels, max exclusive.
        sides: int64, shape (n, 2), their widths and heights, at least 0.
        height: of the picture, pixels.
        width: likewise.
    """
    n, rows, columns = cells.shape
    before, down = _between(rows, height, cells.device)
    left, across = _between(columns, width, cells.device)
    right = (left + 1).clamp(max=columns - 1)
    # of every column of pixels the values at the cells' rows, those before and after the pixels' centres
    owners, xs = _counted(sides[:, 0] * (sides[:, 1] > 0), edges[:, 0])
    tops, bottoms = edges[owners, 1], edges[owners, 3]
    first = before[tops]
    reach = before[bottoms - 1] + 2 - first
    lines, at = _counted(reach, first)
    x = xs.index_select(0, lines)
    places = (owners * rows).index_select(0, lines).add_(at.clamp_(max=rows - 1)).mul_(columns)
    flat, share = cells.flatten(), across.index_select(0, x)
    crossed = flat.index_select(0, places + left.index_select(0, x)).mul_(1 - share)
    crossed += flat.index_select(0, places + right.index_select(0, x)).mul_(share)
    # between those rows, of every pixel
    begins = torch.cumsum(reach, 0) - reach - first
    lines, y = _counted(bottoms - tops, tops)
    places, share = begins.index_select(0, lines).add_(before.index_select(0, y)), down.index_select(0, y)
    values = crossed.index_select(0, places).mul_(1 - share)
    values += crossed.index_select(0, places.add_(1)).mul_(share)
    return _runs(values > 0, lines, y, owners, xs, n)


def _runs(
    inside: torch.Tensor, lines: torch.Tensor, y: torch.Tensor, owners: torch.Tensor, xs: torch.Tensor, n: int
) -> Masks:
    """Runs from pixels that stand column by column: of each pixel its column and y, of each column its mask and x."""
    same = lines[1:] == lines[:-1]
    on, going = inside.clone(), inside.clone()
    on[1:] &= ~(inside[:-1] & same)
    going[:-1] &= ~(inside[1:] & same)
    starts, ends = on.nonzero()[:, 0], going.nonzero()[:, 0]
    where = lines[starts]
    counts = torch.bincount(owners[where], minlength=n).cpu().numpy()
    columns, tops, bottoms = (part.to(torch.int32).cpu().numpy() for part in (xs[where], y[starts], y[ends] + 1))
    return Masks(columns, tops, bottoms, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _counted(counts: torch.Tensor, firsts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of several ranges, given how long they are and where they begin: whose each number is, and the numbers."""
    owners = torch.repeat_interleave(counts)
    begins = torch.cumsum(counts, 0) - counts - firsts
    return owners, torch.arange(len(owners), device=counts.device).sub_(begins.index_select(0, owners))


def _between(cells: int, pixels: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each pixel of a side the cell before its centre, and how far it is on its way to the next one."""
    place = ((torch.arange(pixels, device=device) + 0.5) * (cells / pixels) - 0.5).clamp(min=0)
    before = place.long()
    return before, place - before
