"""What a frozen backbone makes of crops: its file, arithmetic, batches and short memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from crop_shards import SPECIES, write_crops

from instar.classifier.data import CropReader, Views, places_of
from instar.classifier.features import cached_features
from instar.classifier.labels import LabelSpace
from instar.classifier.model import Description
from instar.errors import InputError
from instar.tables import DATASET, read_table

IMAGE_PX = 8


class Backbone(torch.nn.Module):
    """Means of the colours, doubled; notes size and arithmetic of each batch."""

    num_features = 3

    def __init__(self, limit: int = 1000) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3, bias=False)
        self.linear.weight = torch.nn.Parameter(2 * torch.eye(3))
        self.limit = limit
        self.seen: list[tuple[int, torch.dtype]] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        found: torch.Tensor = self.linear(pixels.mean((2, 3)))
        self.seen.append((len(pixels), found.dtype))
        return found


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Views:
    folder: Path = tmp_path_factory.mktemp("study")
    write_crops(folder)
    rows = read_table(folder / "dataset.parquet", DATASET).to_pandas().iloc[:20]
    return Views(CropReader(folder / "crops", rows), np.zeros(20, np.int64), places_of(rows), IMAGE_PX, shown=None)


def description() -> Description:
    labels = LabelSpace(tuple(SPECIES), ("species",) * 4, (-1,) * 4)
    half = (0.5, 0.5, 0.5)
    return Description(
        "drawn", False, IMAGE_PX, half, half, "flat", "none", labels, (5,) * 4, 0, None, 0, {}, "md5", "code", "version"
    )


def features(
    root: Path, backbone: Backbone, views: Views, *, batch: int = 8, precision: str = "32-true", flip: str = "none"
) -> np.ndarray:
    return cached_features(root, backbone, description(), views, "crops", flip=flip, batch=batch, precision=precision)


def expected(views: Views) -> np.ndarray:
    """Twice the means of the colours in [-1, 1]."""
    pixels = torch.stack([views[index, 0][0] for index in range(20)])
    return ((pixels.double().mean((2, 3)) / 255 - 0.5) / 0.5 * 2).numpy()


def test_batches_are_those_of_training(tmp_path: Path, views: Views) -> None:
    backbone = Backbone()
    found = features(tmp_path, backbone, views)
    assert backbone.seen == [(8, torch.float32), (8, torch.float32), (4, torch.float32)]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found[:, 0], expected(views), atol=2e-3)


def test_arithmetic_is_that_of_training_and_part_of_the_files_name(tmp_path: Path, views: Views) -> None:
    backbone = Backbone()
    whole = features(tmp_path, backbone, views)
    half = features(tmp_path, backbone, views, precision="bf16-mixed", batch=20)
    assert backbone.seen[-1] == (20, torch.bfloat16)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    np.testing.assert_allclose(half, whole, atol=0.02)
    assert not np.array_equal(half, whole)
    seen = len(backbone.seen)
    for precision, kept in (("32-true", whole), ("bf16-mixed", half)):
        assert np.array_equal(features(tmp_path, backbone, views, precision=precision), kept)
    assert len(backbone.seen) == seen


def test_short_memory_is_told_in_one_line(tmp_path: Path, views: Views) -> None:
    with pytest.raises(InputError, match=r"^out of memory \(.*\); lower classifier\.batch and raise") as told:
        features(tmp_path, Backbone(limit=7), views)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())
    assert len(features(tmp_path, Backbone(limit=7), views, batch=7)) == 20


def test_a_backbone_moves_where_its_weights_stay_trainable(tmp_path: Path, views: Views) -> None:
    class Moved(Backbone):
        """As on another device: a move makes new weights."""

        def to(self, *_: object, **__: object) -> "Moved":
            for parameter in self.parameters():
                parameter.data = parameter.data.clone()
            return self

    backbone = Moved()
    features(tmp_path, backbone, views)
    assert not any(parameter.is_inference() for parameter in backbone.parameters())
    backbone(torch.ones(2, 3, 4, 4)).sum().backward()
