from pathlib import Path

import numpy as np
import pytest
from photo_shards import encoded, write_images

from instar.photographs import AHEAD, decoded, shrunk
from instar.shards import ShardReader
from instar.tables import IMAGES, read_table


def test_decoded_keeps_the_order_and_tells_reasons(tmp_path: Path) -> None:
    pictures = [np.full((3, 2, 3), n, np.uint8) for n in range(6 * AHEAD)]
    files: dict[str, bytes | str] = {f"a-{n:02d}": encoded(picture) for n, picture in enumerate(pictures)}
    files["a-05"] = b"damaged"
    write_images(tmp_path, "s0", files, (2, 3))
    rows = read_table(tmp_path / "s0.parquet", IMAGES).to_pylist()
    with ShardReader(tmp_path / "s0.tar") as reader:
        assert list(decoded([], reader)) == []
        found = list(decoded(rows, reader))
    assert [row["key"] for row, _ in found] == list(files)
    assert found[5][1] == "not an image"
    for n, (_, picture) in enumerate(found):
        assert n == 5 or np.array_equal(picture, pictures[n])


@pytest.mark.parametrize(
    ("size", "max_px", "expected"),
    [
        ((4, 2), 4, (4, 2)),
        ((4, 2), 100, (4, 2)),
        ((4, 2), 2, (2, 1)),
        ((1000, 3), 10, (10, 1)),
        ((30, 40), 20, (15, 20)),
    ],
)
def test_shrunk_sizes(size: tuple[int, int], max_px: int, expected: tuple[int, int]) -> None:
    width, height = size
    assert shrunk(np.zeros((height, width, 3), np.uint8), max_px).shape == (expected[1], expected[0], 3)


def test_shrunk_averages_areas() -> None:
    picture = np.zeros((2, 4, 3), np.uint8)
    picture[:, ::2] = 200  # stripes of one pixel, which picking pixels would make white or black
    assert shrunk(picture, 2).tolist() == [[[100] * 3, [100] * 3]]
