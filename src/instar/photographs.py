"""Photographs of a shard as pixels, decoded on threads ahead of whoever uses them, and pixels as files again."""

import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from instar.decode import UndecodableError, decode_upright
from instar.shards import ShardReader

#: Pillow lets go of the interpreter's lock while it decodes; more than this waits for whoever has one core.
THREADS = 2
#: Decoded photographs that wait, at most, for each thread. A tray of 45 megapixels takes 135 MB.
AHEAD = 2

Row = dict[str, Any]


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
    waiting: deque[tuple[Row, Future[np.ndarray | str]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for row in rows:
                waiting.append((row, pool.submit(_decoded, reader, row)))
                if len(waiting) > AHEAD * threads:
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
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= max_px:
        return picture
    size = (max(1, round(width * max_px / longer)), max(1, round(height * max_px / longer)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """An RGB picture, uint8 of shape (height, width, 3), as JPEG without EXIF or colour profile, which means sRGB."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
