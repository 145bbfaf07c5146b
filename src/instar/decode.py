"""Bytes of a photograph to pixels: upright, 8 bit, sRGB, or a reason why not."""

import io
import struct
import warnings

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from instar.formats import FORMATS

#: Above this a decoded photograph is taken for a decompression bomb (a 45-megapixel tray is the largest we know).
MAX_PIXELS = 150_000_000

#: Modes of pixels that an ICC profile may describe.
_PROFILED = ("RGB", "L", "CMYK")

#: What turns stored pixels upright, by the EXIF orientation (EXIF 2.32, tag 0x0112).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: What Pillow raises over damaged files; the RuntimeError is for AVIF.
_DAMAGED: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError)
_DAMAGED += (LookupError, AttributeError, ArithmeticError, AssertionError, struct.error)


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

    A JPEG file whose damage libjpeg notices is refused. Damage that is valid code for other pixels, about half of all,
    can't be told by any decoder.

    Args:
        data: the file's bytes, in one of ``formats.FORMATS``; of an animation the first frame is taken.

    Returns:
        Of mode RGB and without what else the file held. 16-bit samples are scaled to 8 bit, transparency lies on white,
        and colours with an ICC profile are turned to sRGB.

    Raises:
        UndecodableError: if the bytes are not an image, or a truncated or damaged one, or too large.
    """
    if not data:
        raise UndecodableError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF blocks warn and decode all the same
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UndecodableError("too many pixels")
                if image.width * image.height == 0:
                    raise UndecodableError("no pixels")
                pixels = _jpeg_pixels(image, data) or image
                picture = _rgb(_turned(pixels))
                picture.info.clear()
                return picture
    except UnidentifiedImageError:
        raise UndecodableError("not an image") from None
    except Image.DecompressionBombError:
        raise UndecodableError("too many pixels") from None
    except _DAMAGED as error:
        raise UndecodableError("truncated" if "truncated" in str(error) else "damaged") from None


def _jpeg_pixels(image: Image.Image, data: bytes) -> Image.Image | None:
    """The pixels of a JPEG file with 1 or 3 channels; None where Pillow has to decode it and to judge it.

    Pillow passes over the warnings of libjpeg, simplejpeg tells them; its pixels are the same.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    try:
        samples = simplejpeg.decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB")
    except ValueError as error:
        # cameras write some bytes before the end marker (0xd9), and wrong ICC markers harm no pixel
        if str(error).startswith("Corrupt JPEG data") and not str(error).endswith(("marker 0xd9", "bad ICC marker")):
            raise UndecodableError("damaged") from None
        return None
    pixels = Image.fromarray(samples[..., 0] if image.mode == "L" else samples)
    pixels.info = dict(image.info)
    return pixels


def _turned(image: Image.Image) -> Image.Image:
    """Apply the orientation and touch no other tag: exif_transpose writes all of them anew, and fails over odd ones."""
    image.load()  # first, since a TIFF file is turned by it
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise UndecodableError("floating-point samples")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode not in _PROFILED:
        image = image.convert("RGB")
    image = _srgb(image, profile) if profile else image
    return image if image.mode == "RGB" else image.convert("RGB")


def _srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Turn colours to sRGB; a profile that is damaged or is of other pixels than these says nothing."""
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in (given.profile.profile_description or ""):
            return image
        turned = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    assert turned is not None
    return turned
