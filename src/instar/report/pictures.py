"""Thumbnails for the page: which photographs and crops are shown, their boxes, and whom they belong to."""

import base64
import io
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from instar.decode import UndecodableError, decode_upright
from instar.errors import InputError
from instar.report.names import Taxon
from instar.shards import ShardReader
from instar.splits import hash_order

PHOTOGRAPH_PX, CROP_PX = 480, 120
#: On the whole page, so that it can be mailed: 900 crops of 120 pixels take about 3.5 MB.
MAX_CROPS = 900


@dataclass(frozen=True)
class Picture:
    """A thumbnail and its attribution."""

    uri: str
    width: int  # pixels of the thumbnail
    height: int
    taxon: Taxon | None
    licence: str
    holder: str  # empty where nobody is named
    link: str  # empty where the record has none that begins with http

    @property
    def credit(self) -> str:
        """Rights holder and licence, or the licence alone."""
        return f"{self.holder}, {self.licence}" if self.holder else self.licence


@dataclass(frozen=True)
class Box:
    """A detection, in per cent of the photograph's width and height."""

    x: float
    y: float
    width: float
    height: float
    score: float


@dataclass(frozen=True)
class Photograph:
    """A photograph with the boxes above the confidence threshold, the best first."""

    key: str
    picture: Picture
    boxes: list[Box]


def may_be_shown(licence: str) -> bool:
    """Whether a thumbnail, which is a changed copy, may be passed on under a licence of ``licences.LICENCES``."""
    return not licence.endswith("-nd") and licence not in ("all-rights-reserved", "unknown")


def showable(rows: pd.DataFrame, *, own: Sequence[str] = ("folder",)) -> pd.DataFrame:
    """The rows whose licence lets them be shown, and one's own photographs that carry none.

    Args:
        rows: columns source and licence.
        own: sources of one's own photographs.
    """
    unsaid = rows["source"].isin(own) & (rows["licence"] == "unknown")
    return rows[rows["licence"].map(may_be_shown).astype(bool) | unsaid]


def sample(keys: Iterable[str], with_boxes: set[str], size: int) -> list[str]:
    """A sample in which one in four photographs, but at least one, has no box; fewer where there are no more.

    Returns:
        Keys, those with boxes first.
    """
    ordered = hash_order(0, keys)
    boxed = [key for key in ordered if key in with_boxes]
    empty = [key for key in ordered if key not in with_boxes]
    n_empty = min(len(empty), max(size - len(boxed), -(-size // 4)))
    return boxed[: size - n_empty] + empty[:n_empty]


def sampled_photographs(
    images: pd.DataFrame, boxes: pd.DataFrame, folder: Path, taxa: dict[str, Taxon], size: int
) -> list[Photograph]:
    """A sample of the photographs that may be shown.

    Args:
        images: rows of images/<shard>.parquet whose photograph is in its tar.
        boxes: rows of detections/<shard>.parquet that hold a box above the confidence threshold.
        folder: of the tars of the photographs.
        taxa: by taxon id.
        size: how many photographs.
    """
    allowed = showable(images).set_index("key")
    keys = sample(allowed.index, set(boxes["photo_key"]), size)
    rows = allowed.loc[keys].reset_index()
    of_photograph = boxes[boxes["photo_key"].isin(keys)].groupby("photo_key")
    pictures = thumbnails(rows, folder, taxa, PHOTOGRAPH_PX)
    return [
        Photograph(
            str(row.key),
            picture,
            _boxes(of_photograph.get_group(row.key), row) if row.key in of_photograph.groups else [],
        )
        for picture, row in zip(pictures, rows.itertuples(), strict=True)
    ]


def _boxes(boxes: pd.DataFrame, photograph: Any) -> list[Box]:
    best = boxes.sort_values("score", ascending=False, kind="stable")
    sides = [photograph.width, photograph.height]
    corners = best[["x_min", "y_min"]].to_numpy(float)
    sizes = best[["x_max", "y_max"]].to_numpy(float) - corners
    shares = (100 * np.hstack([corners / sides, sizes / sides])).round(2)
    return [Box(x, y, w, h, score) for (x, y, w, h), score in zip(shares.tolist(), best["score"].tolist(), strict=True)]


def thumbnails(rows: pd.DataFrame, folder: Path, taxa: dict[str, Taxon], longest_px: int) -> list[Picture]:
    """Thumbnails of files in tars, in the order of the rows.

    Args:
        rows: columns key, shard, offset, size, taxon_id, licence, rights_holder and reference.
        folder: of the tars.
        taxa: by taxon id.
        longest_px: longer side of a thumbnail; smaller pictures are not enlarged.

    Raises:
        InputError: if a tar is missing or a file in it is not an image.
    """
    with ExitStack() as stack:
        names = sorted(rows["shard"].unique())
        tars = {name: stack.enter_context(ShardReader(folder / f"{name}.tar")) for name in names}
        return [_picture(row, tars[row.shard], taxa, longest_px) for row in rows.itertuples()]


def _picture(row: Any, tar: ShardReader, taxa: dict[str, Taxon], longest_px: int) -> Picture:
    try:
        pixels = decode_upright(tar.read(int(row.offset), int(row.size)))
    except UndecodableError as error:
        raise InputError(f"{tar.path}: {row.key} is {error}; delete the shard and run its stage again") from None
    image = Image.fromarray(pixels)
    image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return _attributed(image, row, taxa, quality=80)


def attributed(pixels: np.ndarray, row: Any, taxa: dict[str, Taxon]) -> Picture:
    """A picture at its own size, uint8 of shape (height, width, 3), with what the row says of its photograph."""
    # colours at full resolution: a coloured line of one pixel would turn grey
    return _attributed(Image.fromarray(pixels), row, taxa, quality=90, subsampling=0)


def _attributed(image: Image.Image, row: Any, taxa: dict[str, Taxon], **options: int) -> Picture:
    with io.BytesIO() as file:
        image.save(file, "JPEG", optimize=True, **options)
        uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    link = row.reference if isinstance(row.reference, str) and row.reference.startswith(("https://", "http://")) else ""
    holder = row.rights_holder if isinstance(row.rights_holder, str) and row.rights_holder.strip() else ""
    taxon = taxa.get(row.taxon_id) if isinstance(row.taxon_id, str) else None
    return Picture(uri, image.width, image.height, taxon, licence_name(row.licence), holder, link)


def licence_name(licence: str) -> str:
    """How people write a licence of ``licences.LICENCES``: ``CC BY-NC`` for ``cc-by-nc``."""
    if licence.startswith("cc-"):
        return "CC " + licence.removeprefix("cc-").upper()
    return {"cc0": "CC0", "unknown": "licence unknown"}.get(licence, licence.replace("-", " "))
