"""From rows of the dataset and shards of crops to batches of pixels."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from instar.errors import InputError
from instar.shards import ShardReader

#: What lies around a crop that is not square: ImageNet's mean, which normalisation makes about 0.
PADDING_RGB = (124, 116, 104)
#: A training view shows this share of the square around the crop, with sides in this ratio.
SCALE = (0.5, 1.0)
RATIO = (3 / 4, 4 / 3)

#: x_min, y_min, x_max, y_max in pixels of a crop; may reach beyond it
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelSpace:
    """The classes in the order of the network's outputs: species and, for genus-level crops, genera."""

    names: tuple[str, ...]
    ranks: tuple[str, ...]
    genus_of: tuple[str, ...]  # of each class; a genus is its own

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def genera(self) -> tuple[str, ...]:
        """Every genus that a class belongs to, sorted."""
        return tuple(sorted(set(self.genus_of)))

    @cached_property
    def genus_index(self) -> np.ndarray:
        """int64, shape (n_classes,): each class's place in ``genera``."""
        return np.array([self.genera.index(genus) for genus in self.genus_of], dtype=np.int64)

    def targets(self, labels: Iterable[str]) -> np.ndarray:
        """Places of labels among the classes, int64, shape (n,).

        Raises:
            KeyError: if a label is none of the classes.
        """
        place = {name: index for index, name in enumerate(self.names)}
        return np.array([place[label] for label in labels], dtype=np.int64)


def label_space(rows: pd.DataFrame) -> LabelSpace:
    """The classes that rows of the dataset (``label``, ``rank``, ``genus``) hold, species first, each rank by name."""
    classes = rows[["label", "rank", "genus"]].drop_duplicates().sort_values(["rank", "label"], ascending=[False, True])
    return LabelSpace(tuple(classes["label"]), tuple(classes["rank"]), tuple(classes["genus"]))


class CropReader:
    """Reads and decodes crops, by the columns ``key``, ``shard``, ``offset`` and ``size`` of the dataset.

    Shards are opened when first read, so that every process that loads crops opens its own.
    """

    def __init__(self, crops: Path, rows: pd.DataFrame) -> None:
        self._crops = crops
        self._keys = rows["key"].to_numpy(dtype=object)
        codes, names = pd.factorize(rows["shard"])
        self._shard_codes, self._shard_names = codes, list(names)
        self._offsets, self._sizes = rows["offset"].to_numpy(np.int64), rows["size"].to_numpy(np.int64)
        self._open: dict[int, ShardReader] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, index: int) -> np.ndarray:
        """One crop, uint8, shape (height, width, 3), RGB.

        Raises:
            InputError: if its shard is missing or holds something else there.
        """
        code = int(self._shard_codes[index])
        if code not in self._open:
            self._open[code] = ShardReader(self._crops / f"{self._shard_names[code]}.tar")
        data = self._open[code].read(int(self._offsets[index]), int(self._sizes[index]))
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise InputError(f"{self._open[code].path}: crop {self._keys[index]} is no image; run crops again")
        return np.asarray(pixels)


class Views(Dataset[tuple[torch.Tensor, int]]):
    """Square views of crops with their targets: random ones for training, whole crops otherwise.

    An item is asked for by its index and the epoch; the seed and these two alone decide what a random view shows,
    whichever process makes it.
    """

    def __init__(self, reader: CropReader, targets: np.ndarray, image_px: int, *, seed: int | None) -> None:
        self._reader, self._targets, self._image_px, self._seed = reader, targets, image_px, seed

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, int]:
        index, epoch = item
        crop = self._reader.read(index)
        if self._seed is None:
            view = render(crop, whole_window(*crop.shape[:2]), self._image_px)
        else:
            rng = np.random.default_rng((self._seed, epoch, index))
            view = render(crop, random_window(rng, *crop.shape[:2]), self._image_px)
            if rng.random() < 0.5:
                view = np.ascontiguousarray(view[:, ::-1])
        return torch.from_numpy(view).permute(2, 0, 1), int(self._targets[index])


class Draws(Sampler[tuple[int, int]]):
    """(index, epoch) of every crop once an epoch, in an order drawn from the seed and the epoch, or ascending."""

    def __init__(self, count: int, *, seed: int | None) -> None:
        self._count, self._seed, self._epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng((self._seed, self._epoch)).permutation(self._count)
        yield from ((int(index), self._epoch) for index in order)


def loader(views: Views, *, batch: int, workers: int, seed: int | None) -> DataLoader[tuple[torch.Tensor, int]]:
    """Batches of uint8 (n, 3, image_px, image_px) and int64 (n,); drawn anew each epoch where there is a seed.

    A training epoch leaves out the rest that fills no batch, since batch normalisation fails on a single crop.
    """
    return DataLoader(
        views,
        batch_size=batch,
        sampler=Draws(len(views), seed=seed),
        num_workers=workers,
        drop_last=seed is not None and len(views) >= batch,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
    )


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)  # the processes share the cores already


def batches(views: Views, *, batch: int) -> Iterator[torch.Tensor]:
    """Batches of uint8 (n, 3, image_px, image_px) in the order of the rows, decoded by threads of this process."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(views), batch):
            indices = range(start, min(start + batch, len(views)))
            yield default_collate([view for view, _ in pool.map(lambda index: views[index, 0], indices)])


def whole_window(height: int, width: int) -> Window:
    """The smallest square around a crop's centre that holds all of it."""
    side = max(height, width)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def random_window(rng: np.random.Generator, height: int, width: int) -> Window:
    """A random part of ``whole_window`` (Szegedy et al. 2015); always holds the crop's centre."""
    left, top, right, _ = whole_window(height, width)
    side = right - left
    area = rng.uniform(*SCALE)
    ratio = np.exp(rng.uniform(*np.log(RATIO)))
    window_width, window_height = side * min(np.sqrt(area * ratio), 1.0), side * min(np.sqrt(area / ratio), 1.0)
    x_min = left + rng.uniform(0, side - window_width)
    y_min = top + rng.uniform(0, side - window_height)
    return x_min, y_min, x_min + window_width, y_min + window_height


def render(crop: np.ndarray, window: Window, image_px: int) -> np.ndarray:
    """What a window shows of a crop, stretched to a square.

    Args:
        crop: uint8, shape (height, width, 3).
        window: pixels of the crop; must overlap it.
        image_px: side of the square.

    Returns:
        uint8, shape (image_px, image_px, 3); ``PADDING_RGB`` where the window lies beyond the crop.
    """
    height, width = crop.shape[:2]
    x_min, y_min, x_max, y_max = window
    x0, y0 = max(0, round(x_min)), max(0, round(y_min))
    x1, y1 = min(width, max(round(x_max), x0 + 1)), min(height, max(round(y_max), y0 + 1))
    to_x, to_y = image_px / (x_max - x_min), image_px / (y_max - y_min)
    left, top = max(0, round((x0 - x_min) * to_x)), max(0, round((y0 - y_min) * to_y))
    right = min(image_px, max(left + 1, round((x1 - x_min) * to_x)))
    bottom = min(image_px, max(top + 1, round((y1 - y_min) * to_y)))
    shrinks = right - left < x1 - x0 and bottom - top < y1 - y0
    part = cv2.resize(
        crop[y0:y1, x0:x1],
        (right - left, bottom - top),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    view = np.full((image_px, image_px, 3), PADDING_RGB, dtype=np.uint8)
    view[top:bottom, left:right] = part
    return view
