"""Whether bytes are a whole photograph, and what is told of it in the index."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from instar.decode import decode_upright
from instar.formats import ENDINGS, FORMATS
from instar.phash import phash


@dataclass(frozen=True)
class Photograph:
    """A whole photograph: its upright size in pixels, its hashes and the ending of its format."""

    sha256: str
    phash: int
    width: int
    height: int
    ending: str


def photograph(data: bytes) -> Photograph:
    """Decode a photograph and describe it.

    Raises:
        UndecodableError: if the bytes are no whole photograph.
    """
    pixels = decode_upright(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        kind = str(image.format)
    height, width = pixels.shape[:2]
    sha256 = hashlib.sha256(data).hexdigest()
    return Photograph(sha256, phash(pixels), width, height, ENDINGS[kind])
