"""A photograph as JPEG tiles at falling resolutions, so that a page shows any part of it at once."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from instar.errors import InputError
from instar.photographs import jpeg_of

TILE_PX = 512
#: Of JPEG, tried in turn until the tiles are small enough.
QUALITIES = (90, 80, 70, 55, 40)


@dataclass(frozen=True)
class Level:
    """The photograph at one resolution.

    Attributes:
        width: pixels.
        height: likewise.
        tiles: JPEG files row by row; those at the right and lower borders may be smaller.
    """

    width: int
    height: int
    tiles: list[bytes]


def pyramid(picture: np.ndarray, *, max_bytes: int, tile_px: int = TILE_PX) -> list[Level]:
    """The photograph at its own resolution, then each level of half the sides, until one tile holds it.

    Args:
        picture: uint8, shape (height, width, 3), RGB.
        max_bytes: of all tiles together.
        tile_px: side of a tile, pixels.

    Raises:
        InputError: if the tiles are larger even at the lowest quality.
    """
    images = [Image.fromarray(picture)]
    while max(images[-1].size) > tile_px:
        images.append(images[-1].reduce(2))
    for quality in QUALITIES:
        levels = [Level(*image.size, _tiles(image, quality, tile_px)) for image in images]
        size = sum(len(tile) for level in levels for tile in level.tiles)
        if size <= max_bytes:
            return levels
    raise InputError(
        f"a photograph of {images[0].width}×{images[0].height} pixels takes {size / 1e6:.1f} MB at JPEG quality "
        f"{QUALITIES[-1]} and {max_bytes / 1e6:.1f} MB are left for it; raise --max-mb"
    )


def _tiles(image: Image.Image, quality: int, tile_px: int) -> list[bytes]:
    width, height = image.size
    corners = [(x, y) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    boxes = [(x, y, min(x + tile_px, width), min(y + tile_px, height)) for x, y in corners]
    return [jpeg_of(image.crop(box), quality) for box in boxes]
