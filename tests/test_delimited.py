"""Delimited text: rows with bytes that are not in the encoding, wherever they stand."""

import io
from typing import Any

import pytest

from instar.errors import InputError
from instar.records import delimited
from instar.records.delimited import Malformed, Text, batches, first_row

COLUMNS = ["id", "name", "place"]


def read(data: bytes, malformed: Malformed | None, **more: Any) -> list[list[str | None]]:
    text = Text("table.csv", lambda: io.BytesIO(data), **more)
    wanted = {"id": 0, "name": 1}
    found = [batch.to_pylist() for batch in batches(text, COLUMNS, wanted, malformed)]
    return sorted(list(row.values()) for rows in found for row in rows)


def test_a_heading_alone_gives_nothing() -> None:
    assert read(b"id\tname\tplace\n", Malformed(0)) == []


def test_what_is_no_text() -> None:
    with pytest.raises(InputError, match=r"table.csv: line 2: a NUL byte"):
        first_row(Text("table.csv", lambda: io.BytesIO(b"PK\3\4\n\0\0\n")), after=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("short_lines", [False, True])
@pytest.mark.parametrize("row", [b"2\t\xff", b"2\t\xff\tp\tq", b"2\t\xff\tp"])
def test_a_wrong_byte_counts_once_whatever_the_number_of_fields(
    row: bytes, short_lines: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    data = b"id\tname\tplace\n1\tx\tp\n" + row + b"\n3\t\xc3\xa9\tp\n"
    malformed = Malformed(0)
    assert read(data, malformed, short_lines=short_lines) == [["1", "x"], ["3", "é"]]
    assert (malformed.rows, malformed.ids) == (1, ["2"])
    with pytest.raises(InputError, match=r"table.csv: line 3"):
        read(data, None, short_lines=short_lines)
    told = capfd.readouterr().err
    assert told == f"table.csv: 1 malformed rows are left out, such as {malformed.examples[0]}\n"


def test_a_wrong_byte_in_a_column_that_no_one_wants() -> None:
    malformed = Malformed(0)
    assert read(b"id\tname\tplace\n1\tx\t\xff\n", malformed) == [["1", "x"]]
    assert malformed.rows == 0


@pytest.mark.parametrize("block_bytes", [18, 19, 20, 21, 22, 23, 24, 25])
def test_characters_that_two_blocks_share(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block_bytes)
    names = ["é", "日本", "🐜", "aé日🐜"]
    rows = [[f"{i:02}", names[i % 4]] for i in range(40)]
    text = "id\tname\tplace\n" + "".join(f"{i}\t{name}\tp\n" for i, name in rows)
    malformed = Malformed(0)
    assert read(text.encode(), malformed) == rows
    assert malformed.rows == 0


@pytest.mark.parametrize("end", [b"\xf0\x9f\x90", b"\xe6", b"\x80\x80\x80\x80"])
def test_a_file_that_ends_inside_a_character(end: bytes) -> None:
    malformed = Malformed(0)
    assert read(b"id\tname\tplace\n1\tx\tp\n2\t" + end + b"\tp", malformed) == [["1", "x"]]
    assert malformed.ids == ["2"]
    assert read(b"id\tname\tplace\n1\tx\tp" + end, Malformed(0)) == [["1", "x"]]
    with pytest.raises(InputError, match="the file ends inside the line"):
        read(b"id\tname\tplace\n1\tx\tp" + end, Malformed(0), ends_in_newline=True)
