"""Photographs with boxes and names drawn on them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instar.errors import InputError
from instar.files import replacing
from instar.identify.answers import Row
from instar.identify.output import NO_ANSWER, percent
from instar.photographs import jpeg

QUALITY = 90
#: By how far the answer goes.
COLOURS = {"species": (20, 140, 60), "genus": (200, 120, 0), None: (190, 40, 40)}


class Overlays:
    """A folder of drawn photographs.

    Args:
        folder: made if it is not there.
        photographs: all that will be drawn.

    Raises:
        InputError: if a photograph lies in the folder, or the folder can't be made.
    """

    def __init__(self, folder: Path, photographs: Iterable[Path]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--overlay {folder}: no folder can be made there ({error.strerror})") from None
        here = folder.resolve()
        if inside := next((path for path in photographs if path.resolve().parent == here), None):
            raise InputError(f"--overlay {folder}: holds the photograph {inside}; name another folder")
        self._folder = folder
        self._taken: set[str] = set()

    def write(self, pixels: np.ndarray, row: Row) -> Path:
        """Draw a photograph's animals.

        Args:
            pixels: uint8, shape (height, width, 3), RGB.
            row: what ``answers.told`` says of it.

        Returns:
            The picture: named as the photograph, with a number where an earlier one had that name.
        """
        path = self._folder / f"{self._name(Path(row['photograph']).stem)}.jpg"
        picture = drawn(pixels, row["animals"])
        with replacing(path) as temporary:
            temporary.write_bytes(jpeg(picture, QUALITY))
        return path

    def _name(self, stem: str) -> str:
        name, number = stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return name


def drawn(pixels: np.ndarray, animals: list[Row]) -> np.ndarray:
    """A photograph with a box and a name for each animal, uint8, shape (height, width, 3)."""
    import matplotlib

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    # Pillow's own font lacks letters of names
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", max(11, 7 * line))
    for animal in reversed(animals):  # the best on top
        _draw(draw, animal, line, font, image.size)
    return np.asarray(image)


def _draw(
    draw: ImageDraw.ImageDraw, animal: Row, line: int, font: ImageFont.FreeTypeFont, size: tuple[int, int]
) -> None:
    answer = animal["answer"]
    colour = COLOURS.get(answer["rank"] if answer else None, COLOURS[None])
    text = f"{answer['name']} {percent(answer['probability'])}" if answer else NO_ANSWER
    left, top, right, bottom = animal["box_xyxy"]
    # max exclusive: the last row and column of the box are drawn, not those behind it
    draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
    _, _, wide, high = (side + 2 * line for side in draw.textbbox((0, 0), text, font=font))
    x = max(0, min(left, size[0] - wide))
    y = top - high if top >= high else min(top, size[1] - high)
    draw.rectangle((x, y, x + wide, y + high), fill=colour)
    draw.text((x + line, y + line), text, fill="white", font=font)
