"""Tests of instar.reid.gallery."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from instar.errors import InputError
from instar.reid import gallery as module
from instar.reid.gallery import GALLERY, Source, grow_gallery, open_gallery, write_gallery
from instar.reid.photographs import Photographs
from instar.reid.scores import Rules, nearest, unit

SOURCE = Source("5" * 64, 224)


def rows(keys: str, identity: str = "a") -> pd.DataFrame:
    found = pd.DataFrame({"key": [f"c-{key}" for key in keys], "photo_key": list(keys)}, dtype=object)
    return found.assign(
        identity=identity, dataset="L", species=None, orientation="left", encounter="e", sha256="0" * 64
    )[GALLERY.names]


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, 4)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs of a."""
    found = tmp_path / "gallery"
    write_gallery(found, SOURCE, rows("123"), vectors(3))
    return found


def test_an_empty_gallery(tmp_path: Path) -> None:
    write_gallery(tmp_path / "g", SOURCE, rows(""), vectors(0))
    found = open_gallery(tmp_path / "g")
    assert (len(found.rows), len(found.embeddings), len(found.known)) == (0, 0, 0)
    assert found.embeddings[np.zeros(0, np.int64)].shape == (0, 4)
    grow_gallery(tmp_path / "g", SOURCE, rows("1"), vectors(1))
    assert len(open_gallery(tmp_path / "g").rows) == 1


def test_reads_what_was_written(folder: Path) -> None:
    found = open_gallery(folder)
    assert found.source == SOURCE
    assert pa.Table.from_pandas(found.rows, GALLERY).equals(pa.Table.from_pandas(rows("123"), GALLERY))
    assert np.array_equal(found.embeddings[np.array([2, 0])], vectors(3)[[2, 0]])
    assert sorted(path.name for path in folder.iterdir()) == ["000000.npy", "000000.parquet", "gallery.json"]
    assert isinstance(found.embeddings._parts[0], np.memmap)


def test_equal_content_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    write_gallery(tmp_path / "again", SOURCE, rows("123"), vectors(3))
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_grows_by_known_and_new_individuals(folder: Path) -> None:
    before = (folder / "000000.npy").stat().st_mtime_ns
    grow_gallery(folder, SOURCE, rows("4", "b"), vectors(1, 1))
    grow_gallery(folder, SOURCE, rows("56"), vectors(2, 2))
    found = open_gallery(folder)
    assert found.rows["photo_key"].tolist() == list("123456")
    assert found.known.identity.tolist() == ["a", "b"]
    whole = np.concatenate([vectors(3), vectors(1, 1), vectors(2, 2)])
    order = np.array([5, 3, 0, 4, 1, 2])
    assert np.array_equal(found.embeddings[order], whole[order])
    assert (folder / "000000.npy").stat().st_mtime_ns == before  # what is there is not written again
    query = Photographs.of(
        pd.DataFrame([("q", "L", "q", None)], columns=["photo_key", "dataset", "encounter", "orientation"])
    )
    scored = nearest(
        vectors(1, 1), query, found.embeddings, found.photographs, found.known,
        neighbours=1, weights="equal", rules=Rules(),
    )  # fmt: skip
    assert scored.values[0, 1] == pytest.approx(1)


def test_refused_and_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("0*")}
    for source, given, embeddings, message in (
        (Source("6" * 64, 224), rows("4"), vectors(1), "of classifier 555555555555 at 224 px.*666666666666"),
        (Source("5" * 64, 448), rows("4"), vectors(1), "at 448 px"),
        (SOURCE, rows("4"), unit(np.ones((1, 5))), "4 values.* 5;"),
        (SOURCE, rows("34"), vectors(2), "c-3 is in it already"),
        (SOURCE, rows("44"), vectors(2), "c-4 is in it already or is given twice"),
    ):
        with pytest.raises(InputError, match=message):
            grow_gallery(folder, source, given, embeddings)
    for given, embeddings in ((rows("45"), vectors(1)), (rows("4"), 2 * vectors(1)), (rows("4"), np.zeros((1, 4)))):
        with pytest.raises(ValueError, match="embedding"):
            grow_gallery(folder, SOURCE, given, embeddings)
    assert {path.name: path.read_bytes() for path in folder.glob("0*")} == before
    with pytest.raises(InputError, match="no gallery"):
        grow_gallery(tmp_path / "none", SOURCE, rows("4"), vectors(1))
    with pytest.raises(InputError, match="given twice"):
        write_gallery(tmp_path / "twice", SOURCE, rows("44"), vectors(2))
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize("dies_at", ["000001.parquet", "000001.npy", "gallery.json"])
def test_a_kill_leaves_the_gallery_as_it_was_and_it_grows_again(folder: Path, dies_at: str) -> None:
    script = f"""
import os, pathlib, sys
import test_gallery as given
real = pathlib.Path.replace
def replace(self, target):  # ends, without any tidying, just before the file gets its name
    return os._exit(9) if pathlib.Path(target).name == {dies_at!r} else real(self, target)
pathlib.Path.replace = replace
given.grow_gallery(pathlib.Path({str(folder)!r}), given.SOURCE, given.rows("45"), given.vectors(2, 1))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert open_gallery(folder).rows["photo_key"].tolist() == list("123")
    grow_gallery(folder, SOURCE, rows("6"), vectors(1, 2))
    found = open_gallery(folder)
    assert found.rows["photo_key"].tolist() == list("1236")
    assert np.array_equal(found.embeddings[np.array([3])], vectors(1, 2))


def test_damage_is_told(folder: Path) -> None:
    path = folder / "000000.npy"
    whole = path.read_bytes()
    for damaged in (whole[:-8], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"000000\.npy: no readable embeddings"):
            open_gallery(folder)
    np.save(path, vectors(2))
    with pytest.raises(InputError, match=r"shape \(2, 4\) beside 3 rows.*make the gallery again"):
        open_gallery(folder)
    path.write_bytes(whole)
    manifest = json.loads((folder / module.MANIFEST).read_text())
    for wrong in ("{", "[]", json.dumps(manifest | {"parts": [{}]})):
        (folder / module.MANIFEST).write_text(wrong)
        with pytest.raises(InputError, match="not a gallery's list of parts"):
            open_gallery(folder)
