"""A gallery: the embeddings of all photographs of known individuals, in a folder that grows.

Each growth adds a part, ``<n>.npy`` and ``<n>.parquet``, and only then names it in ``gallery.json``, which is replaced
in one rename: a kill at any moment leaves the gallery as it was, and what is not named there does not count.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from instar.errors import InputError
from instar.files import replacing, write_json
from instar.reid.photographs import Known, Photographs
from instar.tables import read_table, write_table

MANIFEST = "gallery.json"
#: How far the length of an embedding may be from 1.
ROUNDING = 1e-3

#: <n>.parquet: one row per crop of a photograph of a known individual, in the order of its part's embeddings.
GALLERY = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # of the crop, unique
        pa.field("photo_key", pa.string(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("species", pa.string()),
        pa.field("orientation", pa.string()),
        pa.field("encounter", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),  # of the photograph
    ]
)


@dataclass(frozen=True)
class Source:
    """What made the embeddings: only those of one source can be compared.

    Attributes:
        classifier: sha256 of its weights.
        image_px: side of the views that it was shown.
    """

    classifier: str
    image_px: int


class Parts:
    """Embeddings in several memory-mapped files as one array, float32, shape (n, width); see ``scores.Embeddings``."""

    def __init__(self, parts: list[np.ndarray], width: int) -> None:
        self._parts, self.width = parts, width
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """The embeddings of some rows, int64, shape (m,), in memory."""
        found = np.empty((len(rows), self.width), np.float32)
        of_row = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(of_row):
            mine = of_row == number
            start = self._ends[number - 1] if number else 0
            found[mine] = self._parts[number][rows[mine] - start]
        return found


@dataclass(frozen=True)
class Gallery:
    """An open gallery.

    Attributes:
        source: what made its embeddings.
        rows: of ``GALLERY``.
        embeddings: of the rows.
    """

    source: Source
    rows: pd.DataFrame
    embeddings: Parts

    @property
    def photographs(self) -> Photographs:
        """What is known of its photographs."""
        return Photographs.of(self.rows)

    @property
    def known(self) -> Known:
        """Its individuals."""
        return Known.of(self.rows["identity"], self.rows["dataset"])


def write_gallery(
    folder: Path,
    source: Source,
    rows: pd.DataFrame,
    embeddings: np.ndarray,
    *,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Write a gallery anew, in one rename; what was there is gone.

    Args:
        folder: that it becomes.
        source: of the embeddings.
        rows: with the columns of ``GALLERY``.
        embeddings: float32, shape (n, width), of length 1, see ``scores.unit``.
        beside: JSON files that lie in the folder, too, by their names.

    Raises:
        InputError: if a key comes twice.
        ValueError: if the embeddings do not fit the rows or are not of length 1.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / MANIFEST, _manifest(source, embeddings.shape[1], []))
        grow_gallery(temporary, source, rows, embeddings)
        for name, data in (beside or {}).items():
            write_json(temporary / name, data)
    # its place among the others of a folder that is put under version control would be chance
    (folder / ".lock").unlink(missing_ok=True)


def grow_gallery(folder: Path, source: Source, rows: pd.DataFrame, embeddings: np.ndarray) -> None:
    """Add photographs to a gallery; the individuals may be new or known. A second growth at the same time waits.

    The first arguments are as those of ``write_gallery``.

    Raises:
        InputError: if there is no gallery, it is damaged, it was made by another classifier or at another size, or a
            key is there already or comes twice. The gallery is as it was then.
        ValueError: if the embeddings do not fit the rows or are not of length 1.
    """
    if embeddings.ndim != 2 or len(embeddings) != len(rows):
        raise ValueError(f"embeddings of shape {embeddings.shape} for {len(rows)} photographs")
    if not (np.abs(np.linalg.norm(embeddings, axis=1) - 1) < ROUNDING).all():
        raise ValueError("an embedding is not of length 1; see scores.unit")
    with _locked(folder):
        there = open_gallery(folder)
        _check(folder, there, source, rows, embeddings)
        manifest = _read_manifest(folder)
        name = f"{len(manifest['parts']):06d}"
        write_table(folder / f"{name}.parquet", pa.Table.from_pandas(rows, GALLERY, preserve_index=False), GALLERY)
        with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.ascontiguousarray(embeddings, np.float32))
        part = {"name": name, "photographs": len(rows)}
        write_json(folder / MANIFEST, _manifest(source, embeddings.shape[1], [*manifest["parts"], part]))


def open_gallery(folder: Path) -> Gallery:
    """Open a gallery; its embeddings stay on the disk until they are read.

    Raises:
        InputError: if there is none, or a file of it is missing, damaged or not of the number of rows that is told.
    """
    manifest = _read_manifest(folder)
    width, tables, parts = manifest["width"], [GALLERY.empty_table()], []
    for part in manifest["parts"]:
        path = folder / f"{part['name']}.npy"
        tables.append(read_table(path.with_suffix(".parquet"), GALLERY))
        try:
            mapped = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: no readable embeddings ({error}); make the gallery again") from None
        expected = (part["photographs"], width)
        if mapped.shape != expected or mapped.dtype != np.float32 or tables[-1].num_rows != expected[0]:
            raise InputError(
                f"{path}: {mapped.dtype} of shape {mapped.shape} beside {tables[-1].num_rows} rows, where "
                f"{MANIFEST} says {expected}; make the gallery again"
            )
        parts.append(mapped)
    rows = pa.concat_tables(tables).to_pandas()
    return Gallery(Source(manifest["classifier"], manifest["image_px"]), rows, Parts(parts, width))


def _check(folder: Path, there: Gallery, source: Source, rows: pd.DataFrame, embeddings: np.ndarray) -> None:
    if there.source != source or there.embeddings.width != embeddings.shape[1]:
        raise InputError(
            f"{folder}: its embeddings are of classifier {there.source.classifier[:12]} at {there.source.image_px} px "
            f"and {there.embeddings.width} values, those given of {source.classifier[:12]} at {source.image_px} px and "
            f"{embeddings.shape[1]}; use the same classifier, or make the gallery again"
        )
    keys = pd.concat([there.rows["key"], rows["key"]])
    if (twice := keys[keys.duplicated()]).size:
        raise InputError(f"{folder}: {twice.iloc[0]} is in it already or is given twice; leave it out")


def _manifest(source: Source, width: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"classifier": source.classifier, "image_px": source.image_px, "width": width, "parts": parts}


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no gallery ({MANIFEST} is not there); run the stage evaluation, which makes one")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = manifest["classifier"], manifest["image_px"], manifest["width"]
        _ = [(part["name"], part["photographs"]) for part in manifest["parts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a gallery's list of parts ({error!r}); make the gallery again") from None
    return manifest


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    _read_manifest(folder)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
