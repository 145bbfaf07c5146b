"""From rows of the dataset and shards of crops to batches of pixels."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import simplejpeg
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from instar.classifier.augment import AutoAugmented
from instar.classifier.place import jitter
from instar.classifier.views import channels_first, random_view, render, whole_window
from instar.errors import InputError
from instar.shards import ShardReader


@dataclass(frozen=True)
class Shown:
    """How training shows a crop and its place; the fields are keys of the section ``classifier``, and the seed."""

    seed: int
    crop_scale: float
    flip: str
    rotation_deg: float
    place_noise_deg: float
    place_drop: float
    auto_augment: bool


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
        try:
            # the same libjpeg-turbo as OpenCV's, in nine tenths of the time
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
        except ValueError:
            raise InputError(
                f"{self._open[code].path}: crop {self._keys[index]} is no image; run crops again"
            ) from None


#: Pixels uint8 (3, px, px) or features float32 (width,), place float32 (2,) in degrees, place of the class.
Item = tuple[torch.Tensor, torch.Tensor, int]


class Views(Dataset[Item]):
    """Square views of crops with their places and targets: random ones for training, whole crops otherwise.

    An item is asked for by its index and the number of the draw; the seed and these alone decide what a random view
    shows, whichever process makes it.

    Args:
        reader: of the crops.
        targets: int64, shape (n,).
        places: float32, shape (n, 2), latitude and longitude in degrees, NaN where unknown.
        image_px: side of a view.
        shown: None for whole crops where they were taken.
    """

    def __init__(
        self, reader: CropReader, targets: np.ndarray, places: np.ndarray, image_px: int, *, shown: Shown | None
    ) -> None:
        self._reader, self._targets, self._places = reader, targets, places
        self._image_px, self._shown = image_px, shown
        self._changed = AutoAugmented() if shown is not None and shown.auto_augment else None

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, item: tuple[int, int]) -> Item:
        index, draw = item
        crop, place, shown = self._reader.read(index), self._places[index], self._shown
        if shown is None:
            view = render(crop, whole_window(*crop.shape[:2]), self._image_px)
        else:
            rng = np.random.default_rng((shown.seed, draw))
            view = random_view(
                rng,
                crop,
                self._image_px,
                crop_scale=shown.crop_scale,
                flip=shown.flip,
                rotation_deg=shown.rotation_deg,
            )
            if self._changed is not None:
                view = self._changed(rng, view)
            place = jitter(rng, place, noise_deg=shown.place_noise_deg, drop=shown.place_drop)
        return torch.from_numpy(channels_first(view)), torch.from_numpy(place), int(self._targets[index])


class Draws(Sampler[tuple[int, int]]):
    """(index, number of the draw) for one process of several, as many an epoch as there are crops.

    Every epoch's order is drawn from the seed and the epoch alone, for all processes together, of which each takes
    every ``world``-th: what is drawn does not depend on their number. With weights a crop is drawn with replacement.

    Args:
        count: crops.
        seed: None for ascending order, each once.
        weights: float64, shape (count,), proportional to how often each crop comes; None for each once.
        rank: of this process.
        world: number of processes.
        even: leave out the rest that does not fill a round of all processes.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int | None,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
        even: bool = False,
    ) -> None:
        self._count, self._seed, self._rank, self._world = count, seed, rank, world
        self._cumulated = None if weights is None else np.cumsum(weights / weights.sum())
        self._drawn = count - count % world if even else count
        self._epoch = 0
        self._skipped = {0: 0}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next."""
        self._epoch = epoch

    def skip(self, items: int, *, epoch: int) -> None:
        """Leave out this process's first items of one epoch: an interrupted one goes on."""
        self._skipped = {epoch: items}

    def __len__(self) -> int:
        return len(range(self._rank, self._drawn, self._world))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order, first = self._order(), self._epoch * self._count
        start = self._rank + self._skipped.get(self._epoch, 0) * self._world
        for place in range(start, self._drawn, self._world):
            yield int(order[place]), first + place

    def _order(self) -> np.ndarray:
        if self._seed is None:
            return np.arange(self._count)
        rng = np.random.default_rng((self._seed, self._epoch))
        if self._cumulated is None:
            return rng.permutation(self._count)
        # rounding may leave the last sum a little below 1
        return np.minimum(np.searchsorted(self._cumulated, rng.random(self._count), side="right"), self._count - 1)


class GroupedDraws(Draws):
    """As ``Draws``, in batches of ``of_each`` photographs of each of several individuals (Hermans et al. 2017).

    Individuals come in the order of one permutation after the other, so that all come equally often and none twice in
    the batch that all processes make together; which of its photographs come is drawn, and where it has too few they
    come again. An epoch has as many whole batches as the crops would fill, at least one.

    Args:
        groups: int64, shape (n,), the individual of each crop.
        of_each: photographs of one individual in a batch; divides ``batch``.
        batch: crops in a step of one process.
        seed: of the order.
        rank: of this process.
        world: number of processes.

    Raises:
        InputError: if there are fewer individuals than all processes' batch together holds.
    """

    def __init__(
        self, groups: np.ndarray, *, of_each: int, batch: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(len(groups), seed=seed, rank=rank, world=world)
        codes, individuals = pd.factorize(groups)
        order = np.argsort(codes, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
        self._of_each, self._individuals = of_each, batch * world // of_each
        if len(individuals) < self._individuals:
            raise InputError(
                f"classifier.batch = {batch} on {world} devices with classifier.of_each = {of_each} asks for "
                f"{self._individuals} individuals in a step and {len(individuals)} are to be learnt; lower the batch"
            )
        self._drawn = max(1, len(groups) // (batch * world)) * batch * world

    def __len__(self) -> int:
        return self._drawn // self._world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order, first, each = self._order(), self._epoch * self._drawn, self._of_each
        skipped = self._skipped.get(self._epoch, 0) // each
        for group in range(self._rank + skipped * self._world, self._drawn // each, self._world):
            for place in range(group * each, (group + 1) * each):
                yield int(order[place]), first + place

    def _order(self) -> np.ndarray:
        rng = np.random.default_rng((self._seed or 0, self._epoch))
        members, taken = self._members, len(self._members) - len(self._members) % self._individuals
        chosen: list[int] = []
        while len(chosen) * self._of_each < self._drawn:
            chosen += rng.permutation(len(members))[:taken].tolist()
        wanted = chosen[: self._drawn // self._of_each]
        return np.concatenate([np.resize(rng.permutation(members[one]), self._of_each) for one in wanted])


def loader(views: Dataset[Item], draws: Draws, *, batch: int, workers: int, drop_last: bool) -> DataLoader[Item]:
    """Batches of views: uint8 (n, 3, px, px), places float32 (n, 2) and targets int64 (n,)."""
    return DataLoader(
        views,
        batch_size=batch,
        sampler=draws,
        num_workers=workers,
        drop_last=drop_last,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_begin,
    )


def _begin(_: int) -> None:
    """Of a process that loads."""
    cv2.setNumThreads(0)  # the processes share the cores already
    # SLURM sends it to all processes of a job, and training takes batches until the next checkpoint
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def batches(views: Views, *, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches as those of ``loader``, in the order of the rows, decoded by threads of this process."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(views), batch):
            indices = range(start, min(start + batch, len(views)))
            yield default_collate(list(pool.map(lambda index: views[index, 0], indices)))


def places_of(rows: pd.DataFrame) -> np.ndarray:
    """float32, shape (n, 2): ``latitude`` and ``longitude`` of rows in degrees, both NaN where one is missing."""
    places = rows[["latitude", "longitude"]].to_numpy(np.float32, na_value=np.nan).copy()
    places[np.isnan(places).any(1)] = np.nan
    return places
