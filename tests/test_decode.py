"""Photographs to pixels: upright, 8 bit, RGB, or a reason."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from project import REALDATA

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


def exif_block(*tags: tuple[int, int, int, int]) -> bytes:
    """An EXIF block with these tags: number, type, count and value of at most four bytes."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("odd", [0x011A, 0x0128, 0x011B, 0x8769])  # resolutions, their unit, a further block
def test_an_odd_tag_beside_the_orientation_harms_nothing(kind: str, odd: int) -> None:
    ascii_type, short = 2, 3
    block = exif_block((0x0112, short, 1, 6), (odd, ascii_type, 2, ord("x")))
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = decode_upright(encode(Image.fromarray(picture()), kind, **options))
    turned = decode_upright(encode(Image.fromarray(picture()), kind, exif=block, **options))
    assert np.array_equal(turned, np.rot90(plain, -1))  # 6: the camera's right is the top


def test_tags_of_a_tiff_that_are_of_a_wrong_type() -> None:
    data = encode(Image.fromarray(picture()), "TIFF")
    for number in (0x0100, 0x0102, 0x0103, 0x0106, 0x0111, 0x0115, 0x0116, 0x0117):  # sizes, samples, strips
        for kind in range(1, 14):
            place = data.index(struct.pack("<H", number), 8)
            with suppress(UndecodableError):
                decode_upright(data[: place + 2] + struct.pack("<H", kind) + data[place + 4 :])


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
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "not an image",
        ),  # Pillow runs Ghostscript
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


def png(width: int, height: int) -> bytes:
    """The header of a PNG file that tells this size and holds next to nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(width: int, height: int) -> bytes:
    """A JPEG file whose frame header (SOF0) tells another size than it has."""
    data = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif(width: int, height: int) -> bytes:
    data = encode(Image.new("P", (8, 8)), "GIF")
    place = data.index(b",") + 5  # the image descriptor holds the size of the frame
    return (
        data[:6]
        + struct.pack("<HH", width, height)
        + data[10:place]
        + struct.pack("<HH", width, height)
        + data[place + 4 :]
    )


def webp(side: int) -> bytes:
    """An extended WebP file (VP8X) with a canvas of side by side pixels."""
    size = struct.pack("<I", side - 1)[:3]
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + size + size
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize(
    "data", [png(100_000, 100_000), gif(65_535, 65_535), jpeg(65_500, 65_500), png(15_000, 10_001)]
)
def test_a_file_that_tells_too_many_pixels(data: bytes) -> None:
    with pytest.raises(UndecodableError, match="too many pixels"):
        decode_upright(data)


@pytest.mark.parametrize("data", [png(0, 0), png(0, 5), gif(0, 0), jpeg(0, 8), jpeg(8, 0), webp(16_384)])
def test_a_file_of_no_size_or_without_pixels(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        decode_upright(data)


def test_a_small_file_that_expands() -> None:
    with pytest.raises(UndecodableError, match="too many pixels"):
        decode_upright(encode(Image.new("1", (15_000, 10_001))))  # 20 kB


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_every_animated_format(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert np.array_equal(np.unique(decode_upright(data).reshape(-1, 3), axis=0), [[255, 0, 0]])


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_of_three_channels(ending: str) -> None:
    bgr = np.zeros((4, 4, 3), np.uint16)
    bgr[...] = 257 * np.array([10, 128, 250], np.uint16)
    assert decode_upright(cv2.imencode(ending, bgr)[1].tobytes())[0, 0].tolist() == [250, 128, 10]


def test_floating_point_samples_are_refused() -> None:
    with pytest.raises(UndecodableError, match="floating-point samples"):
        decode_upright(encode(Image.new("F", (4, 4)), "TIFF"))


def test_cmyk_of_a_jpeg_file_is_not_inverted() -> None:
    """Adobe's programs, and Pillow, store the complement."""
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = decode_upright(encode(image, "JPEG", quality=95))[0, 0].astype(int)
    assert np.abs(red - [255, 0, 0]).max() <= 4


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert decode_upright(encode(image, kind, transparency=0)).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_grey_jpeg() -> None:
    assert np.abs(decode_upright(encode(Image.new("L", (9, 7), 100), "JPEG")).astype(int) - 100).max() <= 1


def test_the_pixels_of_a_jpeg_are_pillows() -> None:
    image = Image.fromarray(picture())
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}):
        data = encode(image, "JPEG", **options)
        assert np.array_equal(decode_upright(data), np.asarray(Image.open(io.BytesIO(data))))


def noise() -> bytes:
    return encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)), "JPEG")


def test_a_jpeg_damaged_in_the_middle() -> None:
    data = noise()
    middle = len(data) // 2
    damaged = data[:middle] + data[middle + 2000 :]  # a hole, as a proxy or a broken disk leaves it
    Image.open(io.BytesIO(damaged)).load()  # Pillow alone passes it
    with pytest.raises(UndecodableError, match="damaged"):
        decode_upright(damaged)


def test_bytes_before_the_end_marker_harm_nothing() -> None:
    data = noise()
    assert np.array_equal(decode_upright(data[:-2] + b"camera" + data[-2:]), decode_upright(data))
    assert np.array_equal(decode_upright(data + b"camera"), decode_upright(data))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_a_file_cut_anywhere(kind: str, share: float) -> None:
    data = encode(Image.effect_noise((200, 200), 90).convert("RGB"), kind)
    with pytest.raises(UndecodableError):
        decode_upright(data[: int(share * len(data))])


def icc(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], space: bytes = b"RGB ") -> bytes:
    """A display profile (ICC.1:2001-04) with these primaries as XYZ and linear light."""
    xyz = {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, b"wtpt": (0.9642, 1.0, 0.8249)}
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in value)) for name, value in xyz.items()
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), b"curv" + bytes(8))
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78 + 1)
    place, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", place + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


SRGB = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))  # sRGB's primaries under D50


def test_colours_are_turned_to_srgb() -> None:
    """A profile with red and blue exchanged: what it calls red is blue; linear 0.2140 is 127.5 in sRGB."""
    profile = icc(SRGB[2], SRGB[1], SRGB[0])
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    assert np.abs(decode_upright(encode(image, icc_profile=profile))[0, 0].astype(int) - [0, 0, 255]).max() <= 2
    grey = Image.new("RGB", (16, 16), (55, 55, 55))
    jpeg = encode(grey, "JPEG", icc_profile=profile, quality=95)
    assert np.abs(decode_upright(jpeg)[0, 0].astype(int) - 128).max() <= 2


@pytest.mark.parametrize("profile", [b"no profile", icc(*SRGB[::-1], space=b"CMYK"), icc(*SRGB[::-1])[:200]])
def test_a_profile_that_says_nothing(profile: bytes) -> None:
    data = encode(Image.fromarray(picture()), icc_profile=profile)
    assert np.array_equal(decode_upright(data), picture())


def test_the_profile_of_srgb_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_upright(encode(Image.fromarray(picture()), icc_profile=profile)), picture())


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_a_profile_beside_every_mode(mode: str) -> None:
    data = encode(Image.fromarray(picture()).convert(mode), icc_profile=icc(*SRGB))
    assert decode_upright(data)[-1, -1].tolist() == [255, 255, 255]


def test_real_photographs() -> None:
    files = sorted(Path(REALDATA).glob("*/**/*.jpg"))
    if not files:
        pytest.skip(f"{REALDATA}: no photographs there")
    for path in files[:20]:
        with Image.open(path) as image:
            assert np.array_equal(decode_upright(path.read_bytes()), np.asarray(image.convert("RGB"))), path


def test_a_damaged_avif_file() -> None:
    data = encode(Image.new("RGB", (40, 24), "red"), "AVIF")
    for end in range(len(data) - 1, 0, -7):
        with pytest.raises(UndecodableError):
            decode_upright(data[:end])
    with pytest.raises(UndecodableError, match="damaged"):
        decode_upright(data.replace(b"pitm", b"pitx"))
