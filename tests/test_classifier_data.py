"""Tests of instar.classifier.data."""

import multiprocessing
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from crop_shards import write_crops

from instar.classifier.data import CropReader, Draws, Shown, Views, batches, loader, places_of
from instar.errors import InputError
from instar.tables import DATASET, read_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("crops")
    write_crops(path, train=4, validation=2, genus_level=2)
    return path


@pytest.fixture
def rows(folder: Path) -> pd.DataFrame:
    found: pd.DataFrame = read_table(folder / "dataset.parquet", DATASET).to_pandas()
    return found


def test_crops_are_read_as_rgb(folder: Path, rows: pd.DataFrame) -> None:
    red = rows[rows["label"] == "Rubra erecta"].reset_index(drop=True)
    crop = CropReader(folder / "crops", red).read(0)
    height, width, _ = crop.shape
    np.testing.assert_allclose(crop[height // 2, width // 2], (200, 60, 50), atol=25)


def test_crops_are_read_as_opencv_reads_them(folder: Path, rows: pd.DataFrame) -> None:
    tar = (folder / "crops" / f"{rows['shard'][0]}.tar").read_bytes()
    data = tar[rows["offset"][0] : rows["offset"][0] + rows["size"][0]]
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(CropReader(folder / "crops", rows).read(0), expected)


def test_a_crop_that_is_no_image_is_named(folder: Path, rows: pd.DataFrame) -> None:
    broken = rows.assign(offset=0)
    with pytest.raises(InputError, match=r"a\.tar: crop folder-0000-0 is no image; run crops again"):
        CropReader(folder / "crops", broken).read(0)


#: Training shows random views and drops half of the places.
SHOWN = Shown(
    seed=3,
    crop_scale=0.5,
    flip="horizontal",
    rotation_deg=0.0,
    place_noise_deg=0.5,
    place_drop=0.5,
    auto_augment=False,
)


def views_of(folder: Path, rows: pd.DataFrame, shown: Shown | None) -> Views:
    reader = CropReader(folder / "crops", rows)
    return Views(reader, np.arange(len(rows)), places_of(rows), 16, shown=shown)


def test_places_of_rows_are_whole_or_unknown() -> None:
    rows = pd.DataFrame({"latitude": [1.5, None, 3.0], "longitude": [10.0, 20.0, None]})
    np.testing.assert_array_equal(places_of(rows), [[1.5, 10.0], [np.nan, np.nan], [np.nan, np.nan]])
    assert places_of(rows[:0]).shape == (0, 2)


def test_views_depend_on_seed_draw_and_index_alone(folder: Path, rows: pd.DataFrame) -> None:
    first, second = (views_of(folder, rows, SHOWN) for _ in range(2))
    for index in (5, 0):
        assert torch.equal(first[index, 7][0], second[index, 7][0])
        assert not torch.equal(first[index, 7][0], first[index, 8][0])
    assert first[5, 0][2] == 5
    whole = views_of(folder, rows, None)
    assert torch.equal(whole[5, 0][0], whole[5, 1][0])
    assert whole[5, 0][1].tolist() == places_of(rows)[5].tolist()


def test_training_drops_half_of_the_places(folder: Path, rows: pd.DataFrame) -> None:
    views = views_of(folder, rows.assign(latitude=10.0, longitude=20.0), SHOWN)
    places = torch.stack([views[0, draw][1] for draw in range(200)])
    unknown = places.isnan().all(1)
    assert 70 < unknown.sum() < 130
    moved = places[~unknown] - torch.tensor([10.0, 20.0])
    assert moved.abs().max() <= 0.5
    assert len(moved.unique(dim=0)) == len(moved)


def test_draws_are_every_crop_once_in_another_order_each_epoch() -> None:
    draws = Draws(30, seed=0)
    first = list(draws)
    draws.set_epoch(1)
    second = list(draws)
    assert sorted(index for index, _ in first) == list(range(30))
    assert sorted(index for index, _ in second) == list(range(30))
    assert [draw for _, draw in first + second] == list(range(60))
    assert [index for index, _ in first] != [index for index, _ in second]
    assert list(Draws(3, seed=None)) == [(0, 0), (1, 1), (2, 2)]
    assert list(Draws(0, seed=1)) == []


@pytest.mark.parametrize("weights", [None, np.arange(10.0)])
def test_draws_of_several_processes_are_those_of_one(weights: np.ndarray | None) -> None:
    alone = list(Draws(10, seed=1, weights=weights))
    parts = [Draws(10, seed=1, weights=weights, rank=rank, world=3) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(draw for part in parts for draw in part) == sorted(alone)
    even = [Draws(10, seed=1, rank=rank, world=3, even=True) for rank in range(3)]
    assert [len(list(part)) for part in even] == [3, 3, 3]


def test_draws_go_on_in_the_middle_of_an_epoch() -> None:
    for rank in range(2):
        whole, rest = (Draws(11, seed=1, weights=np.ones(11), rank=rank, world=2) for _ in range(2))
        rest.skip(3, epoch=1)
        assert list(rest) == list(whole)
        whole.set_epoch(1)
        rest.set_epoch(1)
        assert list(rest) == list(whole)[3:]


def test_weights_say_how_often_a_crop_comes() -> None:
    draws = Draws(4000, seed=0, weights=np.repeat([1.0, 0.0, 3.0, 0.0], 1000))
    found = np.bincount([index // 1000 for index, _ in draws], minlength=4)
    assert found[1] == found[3] == 0
    assert found[2] / 4000 == pytest.approx(0.75, abs=0.03)


def test_loader_gives_the_same_whatever_the_workers(folder: Path, rows: pd.DataFrame) -> None:
    def first_batch(workers: int) -> list[torch.Tensor]:
        views, draws = views_of(folder, rows, SHOWN), Draws(len(rows), seed=3)
        return list(next(iter(loader(views, draws, batch=8, workers=workers, drop_last=True))))

    alone, together = first_batch(0), first_batch(2)
    assert [part.dtype for part in alone] == [torch.uint8, torch.float32, torch.int64]
    assert [tuple(part.shape) for part in alone] == [(8, 3, 16, 16), (8, 2), (8,)]
    assert all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(alone, together, strict=True))


def test_batches_are_in_the_order_of_the_rows(folder: Path, rows: pd.DataFrame) -> None:
    views = views_of(folder, rows, None)
    found = [torch.cat(parts) for parts in zip(*batches(views, batch=10), strict=True)]
    assert torch.equal(found[0], torch.stack([views[index, 0][0] for index in range(len(rows))]))
    assert found[2].tolist() == list(range(len(rows)))
    assert list(batches(views_of(folder, rows[:0], None), batch=10)) == []


def test_a_loading_process_outlives_sigterm(folder: Path, rows: pd.DataFrame) -> None:
    """SLURM sends it to all processes of a job, of which the training one goes on until its next checkpoint."""
    views = Views(CropReader(folder / "crops", rows), np.zeros(len(rows), np.int64), places_of(rows), 8, shown=None)
    given = iter(loader(views, Draws(len(rows), seed=0), batch=1, workers=1, drop_last=False))
    next(given)
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
    assert sum(1 for _ in given) == len(rows) - 1
