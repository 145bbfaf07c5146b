"""Whether a cap of what is found on one tile hides annotated animals."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from instar.annotations import Annotated, usable
from instar.errors import InputError
from instar.tiles import tile_boxes, touching

Tiles = list[tuple[int, int, int, int]]
#: What a detector gives of a tile at most, and what to do where that is too few.
Own = tuple[int, str]


def photograph_tiles(
    photograph: Annotated, region: list[int] | None, *, tile_px: int, tile_overlap: float
) -> list[tuple[int, int, int, int]]:
    """The tiles that the stage detections cuts a photograph into; one, its region, where it is not sliced."""
    left, top, right, bottom = region or (0, 0, photograph.width, photograph.height)
    whole = (0, 0, right - left, bottom - top)
    parts = tile_boxes(whole[2], whole[3], tile_px=tile_px, overlap=tile_overlap)
    tiles = [part for part in parts if part != whole] or [whole]
    return [(left + a, top + b, left + c, top + d) for a, b, c, d in tiles]


def regions(table: pa.Table) -> dict[str, list[int] | None]:
    """The searched region of each photograph of ``tables.IMAGES``; None for all of it."""
    columns = table.select(["key", "region"]).to_pydict()
    return dict(zip(columns["key"], columns["region"], strict=True))


def crowded(photograph: Annotated, tiles: Tiles, most: int) -> int:
    """How many tiles show at least so many annotated animals."""
    return int((touching(photograph.boxes_xyxy, tiles) >= most).sum())


def check_caps(photograph: Annotated, tiles: Tiles, max_boxes: int, annotations: Path, own: Own | None = None) -> None:
    """What is kept of one tile must exceed the animals on the densest one.

    Args:
        photograph: with its animals.
        tiles: that it is searched in.
        max_boxes: ``detections.max_boxes``.
        annotations: for the message.
        own: of the detector, where it has such a limit that must not hide animals.

    Raises:
        InputError: if it does not, so that some could not be found.
    """
    most = int(touching(photograph.boxes_xyxy, tiles).max(initial=0)) if len(tiles) > 1 else len(photograph.boxes_xyxy)
    told, remedy = f"detections.max_boxes = {max_boxes} boxes of a tile are kept", "raise it above that"
    if own and own[0] < max_boxes:
        told, remedy = f"the detector gives at most {own[0]} of a tile", f"{own[1]}, or lower detections.tile_px"
    if most >= min(max_boxes, own[0] if own else max_boxes):
        where = " in one tile" if len(tiles) > 1 else ""
        raise InputError(
            f"{annotations}: photograph {photograph.key} has {most} annotated animals{where} and {told}; {remedy}"
        )


def check_all_caps(
    photographs: Iterable[Annotated],
    table: pa.Table,
    max_boxes: int,
    annotations: Path,
    own: Own | None = None,
    *,
    tile_px: int,
    tile_overlap: float,
) -> None:
    """From annotations alone, before hours of work: see ``check_caps``.

    Args:
        photographs: annotated ones; those that are to be judged and can be are looked at.
        table: rows of ``tables.IMAGES``; others than theirs, and fewer, may be in it.
        max_boxes: see ``check_caps``.
        annotations: likewise.
        own: likewise.
        tile_px: side of the tiles that they are to be searched in.
        tile_overlap: of the tiles.

    Raises:
        InputError: if some animal could not be found.
    """
    searched = regions(table)
    for one in usable([photograph for photograph in photographs if photograph.split != "train"], table)[0]:
        tiles = photograph_tiles(one, searched[one.key], tile_px=tile_px, tile_overlap=tile_overlap)
        check_caps(one, tiles, max_boxes, annotations, own)
