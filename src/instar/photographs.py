"""Photographs of a shard as pixels, decoded on threads ahead of whoever uses them, and pixels as files again."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from instar.decode import UndecodableError, decode_upright
from instar.shards import ShardReader

#: Pillow lets go of the interpreter's lock while it decodes; more than this waits for whoever has one core.
THREADS = 2
#: Decoded photographs that wait, at most, for each thread. A tray of 45 megapixels takes 135 MB.
AHEAD = 2

Row = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")


def decoded(
    rows: Iterable[Row], reader: ShardReader, *, threads: int = THREADS
) -> Iterator[tuple[Row, np.ndarray | str]]:
    """The pixels of photographs, in the order of the rows.

    Args:
        rows: with ``offset`` and ``size`` in bytes into the shard's tar.
        reader: of that tar.
        threads: that decode; each keeps ``AHEAD`` photographs waiting.

    Yields:
        The row, and its photograph as uint8 of shape (height, width, 3), upright RGB, or the reason why it has none.
    """
    yield from in_order(partial(_decoded, reader), rows, threads=threads, ahead=AHEAD * threads)


def in_order(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[tuple[T, R]]:
    """Items with what a function makes of them, on threads and yet in the items' order.

    Args:
        function: safe to call from several threads; what it raises is raised here.
        items: read only as far as needed.
        threads: calls at the same time, at least 1.
        ahead: results that wait, finished or not, at most.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decoded(reader: ShardReader, row: Row) -> np.ndarray | str:
    try:
        return decode_upright(reader.read(row["offset"], row["size"]))
    except UndecodableError as error:
        return str(error)


def shrunk(picture: np.ndarray, max_px: int) -> np.ndarray:
    """A picture whose longer side is at most ``max_px``, by averaging areas; a smaller one stays as it is.

    Args:
        picture: uint8, shape (height, width, 3).
        max_px: at least 1.

    Returns:
        uint8, shape (height, width, 3), each side at least 1, in the same proportion as near as whole pixels allow.
    """
    if max(picture.shape[:2]) <= max_px:
        return picture
    return np.asarray(shrunk_image(Image.fromarray(picture), max_px))


def shrunk_image(image: Image.Image, max_px: int) -> Image.Image:
    """``shrunk`` for an image of Pillow's."""
    longer = max(image.size)
    if longer <= max_px:
        return image
    width, height = (max(1, round(side * max_px / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """An RGB picture, uint8 of shape (height, width, 3), as JPEG without EXIF or colour profile, which means sRGB."""
    return jpeg_of(Image.fromarray(picture), quality)


def jpeg_of(image: Image.Image, quality: int) -> bytes:
    """``jpeg`` for an RGB image of Pillow's that carries nothing else."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
