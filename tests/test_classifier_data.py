"""Tests of instar.classifier.data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from crop_shards import write_crops

from instar.classifier.data import (
    PADDING_RGB,
    CropReader,
    Draws,
    LabelSpace,
    Views,
    batches,
    label_space,
    loader,
    random_window,
    render,
    whole_window,
)
from instar.errors import InputError
from instar.tables import DATASET, read_table

SPACE = LabelSpace(
    names=("Lasius niger", "Myrmica rubra", "Myrmica"),
    ranks=("species", "species", "genus"),
    genus_of=("Lasius", "Myrmica", "Myrmica"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("crops")
    write_crops(path, train=4, validation=2, genus_level=2)
    return path


@pytest.fixture
def rows(folder: Path) -> pd.DataFrame:
    found: pd.DataFrame = read_table(folder / "dataset.parquet", DATASET).to_pandas()
    return found


def test_label_space_holds_species_first_then_genera() -> None:
    rows = pd.DataFrame(
        {
            "label": ["Myrmica", "Myrmica rubra", "Lasius niger", "Myrmica rubra"],
            "rank": ["genus", "species", "species", "species"],
            "genus": ["Myrmica", "Myrmica", "Lasius", "Myrmica"],
        }
    )
    assert label_space(rows) == SPACE
    assert len(label_space(rows[:0])) == 0


def test_label_space_knows_genera_and_targets() -> None:
    assert SPACE.genera == ("Lasius", "Myrmica")
    assert SPACE.genus_index.tolist() == [0, 1, 1]
    assert SPACE.targets(["Myrmica", "Lasius niger"]).tolist() == [2, 0]
    with pytest.raises(KeyError, match="Formica"):
        SPACE.targets(["Formica"])


def test_crops_are_read_as_rgb(folder: Path, rows: pd.DataFrame) -> None:
    red = rows[rows["label"] == "Rubra erecta"].reset_index(drop=True)
    crop = CropReader(folder / "crops", red).read(0)
    height, width, _ = crop.shape
    np.testing.assert_allclose(crop[height // 2, width // 2], (200, 60, 50), atol=25)


def test_a_crop_that_is_no_image_is_named(folder: Path, rows: pd.DataFrame) -> None:
    broken = rows.assign(offset=0)
    with pytest.raises(InputError, match=r"a\.tar: crop folder-0000-0 is no image; run crops again"):
        CropReader(folder / "crops", broken).read(0)


def test_windows_of_a_wide_crop() -> None:
    assert whole_window(20, 60) == (0.0, -20.0, 60.0, 40.0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        x_min, y_min, x_max, y_max = random_window(rng, 20, 60)
        assert 0 <= x_min < 30 < x_max <= 60
        assert -20 <= y_min < 10 < y_max <= 40
        assert 0.49 * 3600 <= (x_max - x_min) * (y_max - y_min) <= 3600


def test_render_pads_what_lies_beyond_the_crop() -> None:
    crop = np.full((2, 4, 3), 10, dtype=np.uint8)
    crop[:, 2:] = 200
    view = render(crop, whole_window(2, 4), 8)
    assert view.shape == (8, 8, 3)
    np.testing.assert_array_equal(view[:2], np.broadcast_to(PADDING_RGB, (2, 8, 3)))
    np.testing.assert_array_equal(view[6:], np.broadcast_to(PADDING_RGB, (2, 8, 3)))
    assert (view[2:6, :3] == 10).all()
    assert (view[2:6, 5:] == 200).all()


def test_render_of_a_part_by_hand() -> None:
    crop = np.arange(0, 32, 2, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)
    assert render(crop, (1.0, 2.0, 3.0, 4.0), 2)[..., 0].tolist() == [[18, 20], [26, 28]]
    # each pixel of a quarter-size view is the mean of four
    assert render(crop, (0.0, 0.0, 4.0, 4.0), 2)[..., 0].tolist() == [[5, 9], [21, 25]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_render_of_a_thin_crop(shape: tuple[int, int]) -> None:
    crop = np.full((*shape, 3), 7, dtype=np.uint8)
    view = render(crop, whole_window(*shape), 16)
    assert (view == 7).all(axis=2).sum() in (16, 256)


def test_views_depend_on_seed_epoch_and_index_alone(folder: Path, rows: pd.DataFrame) -> None:
    targets = np.arange(len(rows))
    first, second = (Views(CropReader(folder / "crops", rows), targets, 16, seed=3) for _ in range(2))
    for index in (5, 0):
        assert torch.equal(first[index, 0][0], second[index, 0][0])
        assert not torch.equal(first[index, 0][0], first[index, 1][0])
    assert first[5, 0][1] == 5
    whole = Views(CropReader(folder / "crops", rows), targets, 16, seed=None)
    assert torch.equal(whole[5, 0][0], whole[5, 1][0])


def test_draws_are_every_crop_once_in_another_order_each_epoch() -> None:
    draws = Draws(30, seed=0)
    first = list(draws)
    draws.set_epoch(1)
    second = list(draws)
    assert sorted(first) == [(index, 0) for index in range(30)]
    assert sorted(second) == [(index, 1) for index in range(30)]
    assert [index for index, _ in first] != [index for index, _ in second]
    assert list(Draws(3, seed=None)) == [(0, 0), (1, 0), (2, 0)]


def test_loader_gives_the_same_whatever_the_workers(folder: Path, rows: pd.DataFrame) -> None:
    def first_batch(workers: int) -> list[torch.Tensor]:
        views = Views(CropReader(folder / "crops", rows), np.arange(len(rows)), 16, seed=3)
        pixels, targets = next(iter(loader(views, batch=8, workers=workers, seed=3)))
        return [pixels, targets]

    alone, together = first_batch(0), first_batch(2)
    assert alone[0].dtype == torch.uint8
    assert alone[0].shape == (8, 3, 16, 16)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize(("batch", "seed", "count"), [(8, 3, 3), (8, None, 4), (99, 3, 1)])
def test_training_leaves_out_a_batch_that_is_not_full(
    folder: Path, rows: pd.DataFrame, batch: int, seed: int | None, count: int
) -> None:
    views = Views(CropReader(folder / "crops", rows), np.arange(len(rows)), 16, seed=seed)
    assert len(rows) == 27
    assert len(list(loader(views, batch=batch, workers=0, seed=seed))) == count


def test_batches_are_in_the_order_of_the_rows(folder: Path, rows: pd.DataFrame) -> None:
    views = Views(CropReader(folder / "crops", rows), np.arange(len(rows)), 16, seed=None)
    found = torch.cat(list(batches(views, batch=10)))
    assert torch.equal(found, torch.stack([views[index, 0][0] for index in range(len(rows))]))
    empty = Views(CropReader(folder / "crops", rows[:0]), np.arange(0), 16, seed=None)
    assert list(batches(empty, batch=10)) == []
