"""Tiles on disk and what a network is fed of them, for the segmenting detectors of ``segment``."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from instar.boxes import non_empty
from instar.decode import decode_upright
from instar.detectors import Example, Recipe
from instar.detectors.augment import Augmentation, View
from instar.errors import InputError
from instar.files import remove
from instar.masks import from_rle
from instar.photographs import jpeg, shrunk

SPLITS = ("train", "validation")

#: Of the photographs that training reads; high, since it adds to the compression that they have already.
_QUALITY = 95
#: ImageNet's, which all published weights of these families were trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Item:
    """A tile as a network sees it.

    Attributes:
        index: of the tile in its split.
        size: height and width of the tile, pixels.
        content: height and width of the part of the input that the tile fills, from the upper left; pixels.
        pixels: uint8, shape (3, side, side), RGB; 0 beyond the tile.
        boxes_xyxy: float32, shape (n, 4), pixels of the input.
        bitmaps: uint8, shape (n, mask_px, mask_px), the masks over the whole input.
    """

    index: int
    size: tuple[int, int]
    content: tuple[int, int]
    pixels: torch.Tensor
    boxes_xyxy: torch.Tensor
    bitmaps: torch.Tensor


def write_tiles(examples: Iterable[Example], root: Path, *, max_px: int) -> None:
    """Tiles as ``<split>/<name>.jpg`` and, a line for each, ``<split>/tiles.jsonl``: name, size, RLE of its masks.

    A picture is shrunk to ``max_px``; a mask that keeps no pixel then is left out.

    Raises:
        InputError: if an example has boxes only.
    """
    remove(root)
    with contextlib.ExitStack() as stack:
        tables = {}
        for split in SPLITS:
            (root / split).mkdir(parents=True)
            tables[split] = stack.enter_context((root / split / "tiles.jsonl").open("w", encoding="utf-8"))
        for example in examples:
            if example.masks is None:
                raise InputError(
                    f"annotations of {example.name}: boxes without masks; a segmenting detector needs masks, so "
                    "annotate them or take a model that finds boxes"
                )
            picture = shrunk(example.picture, max_px)
            masks = example.masks.resized(example.picture.shape[:2], picture.shape[:2])
            height, width = picture.shape[:2]
            counts = [one.decode("ascii") for one in masks.take(masks.areas() > 0).rle(height, width)]
            (root / example.split / f"{example.name}.jpg").write_bytes(jpeg(picture, _QUALITY))
            row = {"name": example.name, "height": height, "width": width, "counts": counts}
            tables[example.split].write(json.dumps(row) + "\n")


class Tiles(Dataset[Item]):
    """The tiles of one split; what is held in memory is where each one's line begins.

    Args:
        root: folder that ``write_tiles`` wrote.
        image_px: side of the network's input.
        mask_px: of the masks over it.
        augmentation: of a tile that is to be learnt from; None to take it as it is.
        seed: of the augmentation.
    """

    def __init__(
        self, root: Path, image_px: int, mask_px: int, augmentation: Augmentation | None = None, seed: int = 0
    ) -> None:
        self._root, self._image_px, self._mask_px = root, image_px, mask_px
        self._augmentation, self._seed = augmentation, seed
        with (root / "tiles.jsonl").open("rb") as file:
            lines = np.array([len(line) for line in file], np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(lines)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def row(self, index: int) -> dict[str, Any]:
        """The line of a tile."""
        with (self._root / "tiles.jsonl").open("rb") as file:
            file.seek(int(self._offsets[index]))
            row: dict[str, Any] = json.loads(file.readline())
        return row

    def all(self) -> Iterator[dict[str, Any]]:
        """The lines of all tiles, one after the other."""
        with (self._root / "tiles.jsonl").open("rb") as file:
            for line in file:
                yield json.loads(line)

    def learning(self, augmentation: Augmentation, seed: int) -> "Tiles":
        """The same tiles, each time another view of them."""
        return Tiles(self._root, self._image_px, self._mask_px, augmentation, seed)

    def __getitem__(self, place: tuple[int, int]) -> Item:
        """A tile by the epoch and its index."""
        epoch, index = place
        row = self.row(index)
        view = _view(decode_upright((self._root / f"{row['name']}.jpg").read_bytes()), row)
        if self._augmentation is not None:
            view = self._augmentation(view, np.random.default_rng([self._seed, epoch, index]))
        return item_of(index, view, self._image_px, self._mask_px)


def _view(picture: np.ndarray, row: dict[str, Any]) -> View:
    size = (row["height"], row["width"])
    masks = from_rle({"size": size, "counts": counts} for counts in row["counts"])
    return View(picture, np.moveaxis(masks.bitmaps(*size), 0, 2), masks.boxes().astype(np.float64))


def item_of(index: int, view: View, image_px: int, mask_px: int) -> Item:
    """The view enlarged or shrunk until its longer side fills the input, by bilinear interpolation."""
    height, width = view.picture.shape[:2]
    scale = image_px / max(height, width)
    content = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = np.zeros((image_px, image_px, 3), np.uint8)
    resized = cv2.resize(np.ascontiguousarray(view.picture), content[::-1], interpolation=cv2.INTER_LINEAR)
    pixels[: content[0], : content[1]] = resized
    share = mask_px / image_px
    inner = (max(1, round(content[0] * share)), max(1, round(content[1] * share)))
    bitmaps = np.zeros((view.bitmaps.shape[2], mask_px, mask_px), np.uint8)
    for n, bitmap in enumerate(bitmaps):
        mask = np.ascontiguousarray(view.bitmaps[:, :, n])
        bitmap[: inner[0], : inner[1]] = cv2.resize(mask, inner[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    kept = bitmaps.any(axis=(1, 2)) & non_empty(view.boxes_xyxy)
    factors = np.tile([content[1] / width, content[0] / height], 2)
    boxes = (view.boxes_xyxy * factors)[kept].astype(np.float32)
    tensors = (torch.from_numpy(array) for array in (pixels.transpose(2, 0, 1).copy(), boxes, bitmaps[kept]))
    return Item(index, (height, width), content, *tensors)


class Places(Sampler[tuple[int, int]]):
    """Epoch and index of every tile, in another order in each epoch, or always in the same."""

    def __init__(self, count: int, seed: int | None) -> None:
        self._count, self._seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        return ((self.epoch, int(index)) for index in order)


def loader(tiles: Tiles, recipe: Recipe, *, seed: int | None) -> DataLoader[Item]:
    """Batches of tiles, in an order of the seed and the epoch, or always in the same one where there is no seed."""
    return DataLoader(
        tiles,
        batch_size=recipe.batch,
        sampler=Places(len(tiles), seed),
        num_workers=recipe.workers,
        # a rest that fills no batch is left out: batch normalisation fails on a single tile
        drop_last=seed is not None and len(tiles) >= recipe.batch,
        collate_fn=list,
        persistent_workers=False,
    )


def normalised(items: list[Item], device: torch.device) -> torch.Tensor:
    """Pictures of several items on a device, float32, shape (b, 3, side, side), less the mean, by the deviation."""
    pixels = torch.stack([item.pixels for item in items]).to(device, non_blocking=True).float() / 255
    mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (pixels - mean) / deviation
