"""Bytes of a photograph to pixels: upright, 8 bit, RGB, or a reason why not."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

#: Above this a decoded photograph is taken for a decompression bomb (a 45-megapixel tray is the largest we know).
MAX_PIXELS = 150_000_000


class UndecodableError(Exception):
    """The bytes are no whole photograph; ``str()`` is the reason, short enough to be a table's cell."""


def decode_upright(data: bytes) -> np.ndarray:
    """A photograph as pixels, with its EXIF orientation applied.

    Args:
        data: the file's bytes, see ``upright``.

    Returns:
        uint8, shape (height, width, 3), RGB.

    Raises:
        UndecodableError: if the bytes are not an image, or a truncated or damaged one, or too large.
    """
    return np.asarray(upright(data))


def upright(data: bytes) -> Image.Image:
    """Decode a photograph with its EXIF orientation applied.

    Args:
        data: the file's bytes, in any format that Pillow reads; of an animation the first frame is taken.

    Returns:
        Of mode RGB and without what else the file held. 16-bit samples are scaled to 8 bit, transparency lies on white.

    Raises:
        UndecodableError: if the bytes are not an image, or a truncated or damaged one, or too large.
    """
    if not data:
        raise UndecodableError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF blocks warn and decode all the same
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UndecodableError("too many pixels")
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                picture = _rgb(image)
                picture.info.clear()
                return picture
    except UnidentifiedImageError:
        raise UndecodableError("not an image") from None
    except Image.DecompressionBombError:
        raise UndecodableError("too many pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UndecodableError("truncated" if "truncated" in str(error) else "damaged") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")
