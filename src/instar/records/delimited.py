"""Delimited text of any size as Arrow batches; what is wrong in it is told with file, line and column."""

import csv
import io
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.csv

from instar.errors import InputError

#: Parsed at a time. A larger block makes the look-up in the kept rows, once per block, cheaper.
BLOCK_BYTES = 32 << 20

_BROKEN = (pa.ArrowInvalid, OSError, EOFError, UnicodeError, BadZipFile, zlib.error, NotImplementedError)


@dataclass(frozen=True)
class Text:
    """A delimited text and how it is written.

    Attributes:
        name: for messages.
        open: gives its bytes from the start, each time anew.
        delimiter: one character between two fields.
        quote: the character around fields that hold delimiters or line ends, doubled inside; empty for none.
        encoding: of the bytes.
        heading: lines before the first row.
        ends_in_newline: a last line without one is taken for a cut one.
        short_lines: a line may leave out its last fields where they are empty.
    """

    name: str
    open: Callable[[], BinaryIO]
    delimiter: str = "\t"
    quote: str = ""
    encoding: str = "utf-8"
    heading: int = 1
    ends_in_newline: bool = False
    short_lines: bool = False


class _Tail:
    """A binary file that remembers the last byte it gave."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.last = b""
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.last = data[-1:] or self.last
        return data

    def close(self) -> None:
        self.closed = True
        self._file.close()


def first_row(text: Text, *, after: int) -> list[str]:
    """The fields of the first line that is not blank behind so many others; none where the text ends before.

    Raises:
        InputError: if the text cannot be read so far.
    """
    try:
        with text.open() as file:
            reader = csv.reader(_characters(text, file), **_dialect(text))
            return next((fields for fields in islice(reader, after, None) if fields), [])
    except (*_BROKEN, csv.Error) as error:
        raise InputError(f"{text.name}: line {after + 1}: {_words(error)}; download the file again") from None


def batches(text: Text, columns: Sequence[str], wanted: dict[str, int]) -> Iterator[pa.RecordBatch]:
    """The rows of a text, a block at a time.

    Args:
        text: what to read.
        columns: the name of every field of a line, for messages.
        wanted: the position of each field to return.

    Yields:
        Batches with the wanted columns as strings; an empty field is null. The order of rows is not kept.

    Raises:
        InputError: if a line has another number of fields or bytes that are not in the encoding, or the text is cut.
    """
    numbers = [str(position) for position in range(len(columns))]
    included = list(dict.fromkeys(str(position) for position in wanted.values()))
    tail = _Tail(text.open())
    short: list[str] = []

    def handle(row: pyarrow.csv.InvalidRow) -> str:
        if not text.short_lines or row.actual_columns > row.expected_columns:
            return "error"
        short.append(row.text)
        return "skip"

    try:
        reader = pyarrow.csv.open_csv(
            tail,
            read_options=pyarrow.csv.ReadOptions(
                column_names=numbers, skip_rows=text.heading, block_size=BLOCK_BYTES, encoding=text.encoding
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=text.delimiter,
                quote_char=text.quote or False,
                newlines_in_values=bool(text.quote),
                invalid_row_handler=handle,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(numbers, pa.string()),
                include_columns=included,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            taken = [batch.column(str(position)) for position in wanted.values()]
            yield pa.RecordBatch.from_arrays(taken, names=list(wanted))
            if short:
                yield _completed(text, short, wanted)
    except _BROKEN as error:
        if not _empty(error):
            raise _explained(text, columns, error) from None
    finally:
        tail.close()
    if short:
        yield _completed(text, short, wanted)
    if text.ends_in_newline and tail.last not in (b"", b"\n"):
        raise _cut(text, columns)


def _completed(text: Text, short: list[str], wanted: dict[str, int]) -> pa.RecordBatch:
    """Takes lines that end early out of ``short``; they get nulls for the fields they leave out."""
    # Arrow reads ahead on a thread of its own, which may add lines meanwhile
    lines = [short.pop() for _ in range(len(short))]
    rows = [next(csv.reader([line], **_dialect(text))) for line in lines]
    columns = [[row[at] or None if at < len(row) else None for row in rows] for at in wanted.values()]
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names=list(wanted))


def _empty(error: BaseException) -> bool:
    return isinstance(error, pa.ArrowInvalid) and str(error).startswith("Empty CSV file")


def _dialect(text: Text) -> dict[str, Any]:
    quoting = csv.QUOTE_MINIMAL if text.quote else csv.QUOTE_NONE
    return {"delimiter": text.delimiter, "quotechar": text.quote or None, "quoting": quoting}


def _characters(text: Text, file: BinaryIO) -> io.TextIOWrapper:
    # bytes outside the encoding become lone surrogates, so that the reading goes on to the column that holds them
    encoding = "utf-8-sig" if text.encoding.lower() in ("utf-8", "utf8") else text.encoding
    return io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")


def _lines(text: Text) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields, row by row: slow, for messages only."""
    with text.open() as file:
        reader = csv.reader(_characters(text, file), **_dialect(text))
        for index, fields in enumerate(reader):
            if index >= text.heading and fields:
                yield reader.line_num, fields


def _explained(text: Text, columns: Sequence[str], error: BaseException) -> InputError:
    """Read again, slowly, to find the line and the column where ``error`` came from."""
    line = text.heading
    try:
        for line, fields in _lines(text):
            if len(fields) < len(columns) and not text.short_lines:
                column = columns[len(fields) - 1]
                return InputError(
                    f"{text.name}: line {line}: ends in column {column}, with {len(fields)} of {len(columns)} fields; "
                    f"mend the line or download the file again"
                )
            if len(fields) > len(columns):
                return InputError(
                    f"{text.name}: line {line}: goes on after column {columns[-1]}, with {len(fields)} fields instead "
                    f"of {len(columns)}; mend the line or download the file again"
                )
            for column, field in zip(columns, fields, strict=False):
                if any("\udc80" <= character <= "\udcff" for character in field):
                    shown = field.encode(text.encoding, "surrogateescape")
                    return InputError(
                        f"{text.name}: line {line}, column {column}: {shown!r} is not {text.encoding}; "
                        f"mend the field or download the file again"
                    )
    except (*_BROKEN, csv.Error) as second:
        return InputError(f"{text.name}: after line {line}: {_words(second)}; download the file again")
    return InputError(f"{text.name}: {_words(error)}; mend the file or download it again")


def _cut(text: Text, columns: Sequence[str]) -> InputError:
    line, fields = deque(_lines(text), maxlen=1).pop()
    column = columns[min(len(fields), len(columns)) - 1]
    return InputError(f"{text.name}: line {line}, column {column}: the file ends inside the line; download it again")


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
