"""Counting what became of the rows of a scattered stage."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from instar.errors import InputError
from instar.tally import tally


def counts(folder: Path, shards: list[str]) -> dict[str, Any]:
    tally(folder, folder / "out.json", shards=shards)
    return dict(json.loads((folder / "out.json").read_text()))


def write(path: Path, **columns: list[Any]) -> None:
    types = {"size": pa.int64()}
    arrays = {name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)


def test_empty_shards(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", key=[], reason=[], size=[])
    expected = {"rows": {"in": 0, "out": 0, "dropped": {}}, "photographs": 0, "photographs_out": 0, "bytes": 0}
    assert counts(tmp_path, ["a"]) == expected


def test_photographs(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", key=["1", "2", "3"], reason=[None, "missing", None], size=[10, None, 5])
    write(tmp_path / "b.parquet", key=["4", "5"], reason=["missing", "damaged"], size=[None, None])
    write(tmp_path / "old.parquet", key=["6"], reason=[None], size=[100])
    assert counts(tmp_path, ["a", "b"]) == {
        "rows": {"in": 5, "out": 2, "dropped": {"damaged": 1, "missing": 2}},
        "photographs": 5,
        "photographs_out": 2,
        "bytes": 15,
    }


def test_boxes(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", photo_key=["1", "1", "2"], key=["1-0", "1-1", None], reason=[None, None, "no box"])
    assert counts(tmp_path, ["a"]) == {
        "rows": {"in": 3, "out": 2, "dropped": {"no box": 1}},
        "photographs": 2,
        "photographs_out": 1,
    }


def test_duplicates_within_and_over_shards(tmp_path: Path) -> None:
    """Five files, of three kinds; the shard a has stored its two equal ones once."""
    kinds = ["a" * 64, "b" * 64, "a" * 15 + "0" * 49]
    sha256 = [kinds[0], kinds[0], None, kinds[1]]
    reason = [None, None, "missing", None]
    write(
        tmp_path / "a.parquet",
        key=list("1234"),
        reason=reason,
        size=[10, 10, None, 5],
        offset=["512", "512", None, "2048"],
        sha256=sha256,
    )
    write(tmp_path / "b.parquet", key=["5"], reason=[None], size=[10], offset=["512"], sha256=kinds[:1])
    write(tmp_path / "c.parquet", key=["6"], reason=[None], size=[1], offset=["512"], sha256=kinds[2:])
    found = counts(tmp_path, ["a", "b", "c"])
    assert (found["duplicates"], found["bytes"]) == (2, 26)
    assert counts(tmp_path, ["b"])["duplicates"] == 0


def test_a_shard_of_refusals_has_no_duplicates(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", key=["1"], reason=["missing"], size=[None], sha256=[None])
    assert counts(tmp_path, ["a"])["duplicates"] == 0


def test_broken_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.parquet: no such table"):
        counts(tmp_path, ["a"])
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"a.parquet: not a readable parquet table"):
        counts(tmp_path, ["a"])
    write(tmp_path / "a.parquet", key=["1"])
    with pytest.raises(InputError, match=r"a.parquet: column reason is missing"):
        counts(tmp_path, ["a"])
