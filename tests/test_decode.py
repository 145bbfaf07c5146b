"""Photographs to pixels: upright, 8 bit, RGB, or a reason."""

import io

import numpy as np
import pytest
from PIL import Image

from instar.decode import UndecodableError, decode_upright


def picture() -> np.ndarray:
    """64 by 48 pixels: red top left, green top right, blue bottom left, white bottom right, in blocks."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32], pixels[24:, 32:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    )
    return pixels


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


#: what a camera stores so that the orientation tag turns it upright (EXIF 2.32, tag 0x0112)
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](picture())))
    assert np.array_equal(decode_upright(encode(stored, exif=exif)), picture())


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(picture()).convert("RGB").convert(mode)
    decoded = decode_upright(encode(image, "TIFF" if mode in ("CMYK", "LA") else "PNG"))
    assert decoded.shape == (48, 64, 3)
    assert decoded.dtype == np.uint8
    assert tuple(decoded[-1, -1]) == (255, 255, 255)


def test_sixteen_bits_are_scaled() -> None:
    grey = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert decode_upright(encode(grey)).max() == 255
    half = Image.fromarray(np.full((4, 4), 32896, np.uint16))
    assert decode_upright(encode(half))[0, 0, 0] == 128


def test_transparency_lies_on_white() -> None:
    assert tuple(decode_upright(encode(Image.new("RGBA", (2, 2), (0, 0, 0, 0))))[0, 0]) == (255, 255, 255)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(decode_upright(data)[0, 0]) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!doctype html><title>429</title>", "not an image"),
        (encode(Image.effect_noise((200, 200), 90).convert("RGB"), "JPEG")[:3000], "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"junk" * 20, "damaged"),
    ],
)
def test_what_is_no_photograph_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError) as caught:
        decode_upright(data)
    assert str(caught.value) == reason


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.decode.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(UndecodableError, match="too many pixels"):
        decode_upright(encode(Image.fromarray(picture())))
