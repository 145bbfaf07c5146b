"""The perceptual hash: imagehash's, cheaper."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from instar.phash import phash


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with structure at every scale: enlarged noise."""
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8))
    return np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_one_colour() -> None:
    """Its only frequency is the lowest: the first bit of the first row."""
    assert phash(np.full((50, 40, 3), 200, np.uint8)) == 1 << 63
    assert phash(np.full((1, 1, 3), 200, np.uint8)) == 1 << 63


@pytest.mark.parametrize("size", [(32, 32), (31, 200), (90, 61)])
def test_it_is_imagehashs(size: tuple[int, int]) -> None:
    pixels = scene(*size)
    assert phash(pixels) == int(str(imagehash.phash(Image.fromarray(pixels))), 16)


@pytest.mark.parametrize("seed", range(5))
def test_a_large_photograph_differs_by_few_bits(seed: int) -> None:
    pixels = scene(1203, 1601, seed)
    assert distance(phash(pixels), int(str(imagehash.phash(Image.fromarray(pixels))), 16)) <= 4


def test_what_looks_alike_is_near_and_what_does_not_is_far() -> None:
    pixels = scene(480, 640)
    brighter = np.clip(pixels.astype(int) + 12, 0, 255).astype(np.uint8)
    smaller = np.asarray(Image.fromarray(pixels).resize((200, 150)))
    assert distance(phash(pixels), phash(brighter)) <= 6
    assert distance(phash(pixels), phash(smaller)) <= 4
    assert distance(phash(pixels), phash(scene(480, 640, 1))) > 16
    assert distance(phash(pixels), phash(np.ascontiguousarray(pixels[:, ::-1]))) > 16
