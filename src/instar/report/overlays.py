"""Patches of judged photographs with right, wrong and missed masks drawn in."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from instar.masks import Masks

#: Side of a patch, pixels of the photograph: as large as the tiles of the published benchmark.
PATCH_PX = 512
#: Green, vermillion and blue of Okabe and Ito, which colour-blind readers can tell apart.
RIGHT, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (0, 114, 178)
#: Of the colour inside an outline, so that the animal is seen through it.
FILL = 0.3


def overlay(picture: np.ndarray, found: Masks, truth: Masks, right: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """A picture with detections and missed animals drawn in: translucent inside, their outermost pixels solid.

    Args:
        picture: uint8, shape (height, width, 3), RGB.
        found: masks of the detections, in pixels of the picture; what lies outside is not drawn.
        truth: of the annotated animals, likewise.
        right: bool, shape (k,), which detections have an animal; the others are wrong.
        missed: bool, shape (n,), which animals no detection has; only these are drawn.

    Returns:
        uint8, shape (height, width, 3). Right lies over missed, and wrong over both.
    """
    drawn = picture.astype(np.float32)
    for masks, colour in ((truth.take(missed), MISSED), (found.take(right), RIGHT), (found.take(~right), WRONG)):
        for index in range(len(masks)):
            _draw(drawn, masks, index, colour)
    return drawn.round().astype(np.uint8)


def _draw(drawn: np.ndarray, masks: Masks, index: int, colour: tuple[int, int, int]) -> None:
    height, width = drawn.shape[:2]
    one = masks.take(np.array([index])).clipped(0, 0, width, height)
    if not one.areas()[0]:
        return
    x_min, y_min, x_max, y_max = (int(side) for side in one.boxes()[0])
    # a mask that the picture's border cuts has no outline there
    around = masks.bitmap(index, (x_min - 1, y_min - 1, x_max + 1, y_max + 1))
    inside = around[1:-1, 1:-1]
    core = inside & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    strength = np.where(inside & ~core, 1.0, np.where(core, FILL, 0.0))[..., None].astype(np.float32)
    part = drawn[y_min:y_max, x_min:x_max]
    part += strength * (np.array(colour, np.float32) - part)


@dataclass(frozen=True)
class Patch:
    """A part of a photograph, and how many animals and detections have their middles in it.

    Attributes:
        key: of the photograph.
        box: x_min, y_min, x_max, y_max in pixels, max exclusive.
        right: detections that have an animal.
        wrong: detections that have none.
        missed: animals that no detection has.
        animals: annotated.
    """

    key: str
    box: tuple[int, int, int, int]
    right: int
    wrong: int
    missed: int
    animals: int

    @property
    def f1(self) -> float:
        """Of the detections at the threshold; 0 where there is neither a detection nor an animal."""
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 0.0


def patches(
    key: str,
    size: tuple[int, int],
    centres: dict[str, np.ndarray],
    side: int = PATCH_PX,
) -> list[Patch]:
    """The patches of a photograph, side by side, of one size but for a pixel.

    Args:
        key: of the photograph.
        size: its width and height, pixels.
        centres: of what is ``right``, ``wrong``, ``missed`` and of all ``animals``: float, shape (n, 2), x and y.
        side: that a patch's does not exceed, pixels.
    """
    xs, ys = (np.linspace(0, length, -(-length // side) + 1).round().astype(int) for length in size)
    columns, rows = len(xs) - 1, len(ys) - 1
    counts = {}
    for name, points in centres.items():
        across, down = (
            (np.searchsorted(edges, points[:, axis], side="right") - 1).clip(0, len(edges) - 2)
            for axis, edges in enumerate((xs, ys))
        )
        counts[name] = np.bincount(down * columns + across, minlength=columns * rows)
    found = []
    for place in range(columns * rows):
        x, y = place % columns, place // columns
        box = (int(xs[x]), int(ys[y]), int(xs[x + 1]), int(ys[y + 1]))
        found.append(Patch(key, box, **{name: int(each[place]) for name, each in counts.items()}))
    return found


def chosen(found: Iterable[Patch]) -> dict[str, Patch]:
    """The most crowded patch, the one of most errors, and a typical one, by a rule and not by hand.

    The most crowded has the most annotated animals; most errors are the most wrong and missed ones together; typical is
    the one whose F1 is nearest to the median of all patches with animals. Of equals the one with more animals is taken,
    then the first by key and place; none is taken twice.

    Returns:
        By what it was chosen for; without a name for which no patch with an animal or a detection is left.
    """
    left = [patch for patch in found if patch.animals or patch.right or patch.wrong]
    median = float(np.median([patch.f1 for patch in left if patch.animals] or [0.0]))
    rules = {
        "most crowded": lambda patch: -patch.animals,
        "most errors": lambda patch: -(patch.wrong + patch.missed),
        "typical": lambda patch: abs(patch.f1 - median) if patch.animals else np.inf,
    }
    taken: dict[str, Patch] = {}
    for name, rule in rules.items():
        rest = [patch for patch in left if patch not in taken.values()]
        if rest:
            taken[name] = min(rest, key=lambda patch: (rule(patch), -patch.animals, patch.key, patch.box))
    return taken
