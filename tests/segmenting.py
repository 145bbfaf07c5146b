"""Drawn tiles with masks for the tests of detectors that segment."""

from collections.abc import Iterator

import cv2
import numpy as np
from project import ROOT

from instar.detectors import Boxes, Example, Recipe
from instar.masks import Masks, from_bitmaps, no_masks

RANDOM = str(ROOT / "workflow/conf/detector/random.md")
SIDE = 96


def recipe(model: str, **changes: object) -> Recipe:
    """A training that takes seconds on a CPU."""
    common = {"weights": RANDOM, "image_px": 96, "batch": 4, "plain_epochs": 0, "workers": 0, "seed": 0, "options": {}}
    return Recipe(model, **{**common, "epochs": 3, "learning_rate": 0.003, **changes})  # type: ignore[arg-type]


def tile(seed: int) -> tuple[np.ndarray, Masks]:
    """A noisy picture of 96×96 pixels with one to three dark ellipses, and their masks."""
    generator = np.random.default_rng(seed)
    picture = generator.integers(150, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    bitmaps = []
    for _ in range(int(generator.integers(1, 4))):
        bitmap = np.zeros((SIDE, SIDE), np.uint8)
        centre, axes = generator.integers(15, SIDE - 15, 2).tolist(), generator.integers(6, 14, 2).tolist()
        cv2.ellipse(bitmap, centre, axes, float(generator.integers(180)), 0, 360, 1, -1)
        picture[bitmap > 0] //= 8
        bitmaps.append(bitmap)
    return picture, from_bitmaps(bitmaps)


def examples(n: int = 16) -> Iterator[Example]:
    """Tiles, the last four for validation and the second without an animal."""
    for seed in range(n):
        picture, masks = tile(seed)
        if seed == 1:
            picture, masks = np.full_like(picture, 200), no_masks()
        split = "train" if seed < n - 4 else "validation"
        yield Example(f"t-{seed}", split, picture, masks.boxes().astype(np.float64), masks)


def check_promises(found: Boxes, picture: np.ndarray) -> None:
    """What ``Detector.predict`` promises of one picture, masks included."""
    height, width = picture.shape[:2]
    assert found.boxes_xyxy.shape == (len(found), 4)
    assert (found.boxes_xyxy.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [width, height, width, height]).all()
    assert found.masks is not None
    assert len(found.masks) == len(found)
    assert (found.masks.areas() > 0).all()
    found.masks.rle(height, width)  # raises where one reaches outside
