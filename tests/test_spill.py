"""Rows on disk: kept in order, parted by a hash, sorted in runs."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from instar.errors import InputError
from instar.records.spill import Buckets, Rows, Sorter, Spill

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.int64())])


@pytest.fixture(autouse=True)
def few_rows_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.records.spill.HELD_ROWS", 8)
    monkeypatch.setattr("instar.records.spill.BLOCK_ROWS", 2)


def table(rows: Sequence[tuple[str | None, int]]) -> pa.Table:
    return pa.Table.from_pylist([{"key": key, "value": value} for key, value in rows], SCHEMA)


def values(tables: Any) -> list[tuple[str | None, int]]:
    return [(row["key"], row["value"]) for one in tables for row in one.to_pylist()]


def test_nothing_in_gives_nothing_out() -> None:
    assert values(Rows(SCHEMA)) == []
    assert values(Sorter(SCHEMA, ["key"], together=1)) == []
    assert [one.num_rows for one in Buckets(SCHEMA, 3)] == [0, 0, 0]


def test_rows_stay_in_order_and_can_be_read_again(tmp_path: Path) -> None:
    rows = Rows(SCHEMA, tmp_path)
    given = [(str(number), number) for number in range(21)]
    for start in range(0, 21, 3):
        rows.add(table(given[start : start + 3]))
    assert values(rows) == given == values(rows)
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_a_bucket_holds_all_rows_of_a_hash() -> None:
    buckets = Buckets(SCHEMA, 4)
    given = [(str(number % 5), number) for number in range(40)]
    for start in range(0, 40, 4):
        part = given[start : start + 4]
        # the number of the bucket is made of the hash's upper 16 bits
        buckets.add(table(part), np.array([int(key or "") << 48 for key, _ in part], np.uint64))
    found = [values([one]) for one in buckets]
    assert [{key for key, _ in one} for one in found] == [{"0", "4"}, {"1"}, {"2"}, {"3"}]
    assert sorted(row for one in found for row in one) == sorted(given)


@pytest.mark.parametrize("seed", range(5))
def test_sorted_whatever_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # few keys, so that equal ones fill whole blocks of several runs
    keys = [None if number == 3 else str(number) for number in rng.integers(0, 4 + seed, 100)]
    given = [(key, int(number)) for key, number in zip(keys, rng.permutation(100), strict=True)]
    sorter = Sorter(SCHEMA, ["key", "value"], together=1)
    for start in range(0, 100, 5):
        sorter.add(table(given[start : start + 5]))
    tables = list(sorter)
    assert values(tables) == sorted(given, key=lambda row: (row[0] is None, row[0] or "", row[1]))
    seen = [set(one["key"].to_pylist()) for one in tables]
    assert sum(map(len, seen)) == len(set.union(*seen))  # equal keys came in one table


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("a file system of 64 kB cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_is_told(tiny_disk: Path) -> None:
    spill = Spill(SCHEMA, tiny_disk)
    rng = np.random.default_rng(0)
    rows = pa.record_batch([pa.array([None] * 1000, pa.string()), pa.array(rng.integers(0, 1 << 62, 1000))], SCHEMA)
    first = spill.append(rows)
    with pytest.raises(InputError, match=r"disk: no space left for the rows in work, \d+ bytes so far; free some"):
        for _ in range(20):
            spill.append(rows)
    assert spill.read(first) == rows
