"""Tables: exactly the columns of their schema, or an error that names the column."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from instar.errors import InputError
from instar.tables import RECORDS_DROPPED, read_batches, read_shards, read_table, write_stream, write_table

ROW = {"source": "gbif", "photo_id": None, "reason": "no taxon"}


def test_no_rows_have_the_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", [], RECORDS_DROPPED)
    assert read_table(tmp_path / "t.parquet", RECORDS_DROPPED).to_pylist() == []


def test_rows_come_back(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", [ROW], RECORDS_DROPPED)
    assert read_table(tmp_path / "t.parquet", RECORDS_DROPPED).to_pylist() == [ROW]


def test_a_null_where_none_may_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column reason holds 1 nulls"):
        write_table(tmp_path / "t.parquet", [{**ROW, "reason": None}], RECORDS_DROPPED)
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"source": ["gbif"], "photo_id": ["1"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t.parquet: column reason is missing"):
        read_table(tmp_path / "t.parquet", RECORDS_DROPPED)


def test_a_damaged_and_a_missing_table_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"t\.parquet: not a readable parquet table"):
        read_table(tmp_path / "t.parquet", RECORDS_DROPPED)
    with pytest.raises(InputError, match="no such table"):
        read_table(tmp_path / "none.parquet", RECORDS_DROPPED)


def test_only_the_named_shards_are_read(tmp_path: Path) -> None:
    for shard in ("a", "b", "orphan"):
        write_table(tmp_path / f"{shard}.parquet", [{**ROW, "reason": shard}], RECORDS_DROPPED)
    assert read_shards(tmp_path, ["b", "a"], RECORDS_DROPPED)["reason"].to_pylist() == ["b", "a"]


def stream(*sizes: int) -> list[pa.Table]:
    rows = [{"source": "gbif", "photo_id": str(at), "reason": "no taxon"} for at in range(sum(sizes))]
    whole = pa.Table.from_pylist(rows, RECORDS_DROPPED)
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    return [whole.slice(start, size) for start, size in zip(starts, sizes, strict=True)]


def test_an_empty_stream(tmp_path: Path) -> None:
    write_stream(tmp_path / "t.parquet", [], RECORDS_DROPPED)
    assert read_table(tmp_path / "t.parquet", RECORDS_DROPPED).num_rows == 0


@pytest.mark.parametrize("sizes", [(10,), (1, 0, 9), (4, 4, 2), (3, 7)])
def test_the_parts_of_a_stream_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    monkeypatch.setattr("instar.tables.ROW_GROUP_ROWS", 4)
    write_stream(tmp_path / "t.parquet", stream(*sizes), RECORDS_DROPPED)
    write_stream(tmp_path / "whole.parquet", stream(10), RECORDS_DROPPED)
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] == [4, 4, 2]
    assert file.read()["photo_id"].to_pylist() == [str(at) for at in range(10)]


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{**ROW, "reason": None}])
    with pytest.raises(ValueError, match="reason"):
        write_stream(tmp_path / "t.parquet", [*stream(3), table], RECORDS_DROPPED)
    assert not list(tmp_path.iterdir())


def test_a_table_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    rows = [{"source": "gbif", "photo_id": str(number), "reason": "licence"} for number in range(100_000)]
    write_table(path, rows, RECORDS_DROPPED)
    data = path.read_bytes()
    path.write_bytes(data[:1000] + bytes(3000) + data[4000:])  # the columns' list at its end is whole
    with pytest.raises(InputError, match=r"table\.parquet: not a readable parquet table .*delete it"):
        read_table(path, RECORDS_DROPPED)
    with pytest.raises(InputError, match=r"table\.parquet: not a readable parquet table .*delete it"):
        list(read_batches(path, RECORDS_DROPPED, ["photo_id"]))


def test_a_column_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({name: [["gbif"]] for name in RECORDS_DROPPED.names}), path)
    with pytest.raises(InputError, match=r"table\.parquet: not a readable parquet table"):
        read_table(path, RECORDS_DROPPED)
