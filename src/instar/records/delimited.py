"""Delimited text of any size as Arrow batches; what is wrong in it is told with file, line and column."""

import codecs
import csv
import io
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from instar.errors import InputError

#: Parsed at a time.
BLOCK_BYTES = 8 << 20
csv.field_size_limit(1 << 20)  # Python's own is 128 KiB, and museums put whole pages into a field

#: Unicode's character for one that cannot be read; it takes one byte, as what it stands for.
SUBSTITUTE = "\x1a"

_SUBSTITUTING = "instar-substitute"
_BEGUN_BYTES = 3

_EXAMPLES = 3
_HEAD_BYTES = 4 << 20
_EXAMPLE_LENGTH = 200

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


@dataclass
class Malformed:
    """Rows that could not be read: with another number of fields, or with bytes that are not in the encoding.

    Attributes:
        id_position: of the field that says which row it is; None where that is not asked.
        rows: how many.
        ids: their ids since they were last asked for.
        examples: the first few of them, cut to a readable length.
    """

    id_position: int | None = None
    rows: int = 0
    ids: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def add(self, text: str, fields: dict[int, str]) -> None:
        """Count a row that looks like ``text`` and has fields at these positions."""
        self.rows += 1
        if self.id_position is not None and fields.get(self.id_position):
            self.ids.append(fields[self.id_position])
        if len(self.examples) < _EXAMPLES:
            self.examples.append(repr(text[:_EXAMPLE_LENGTH]))

    def taken_ids(self) -> list[str]:
        """Takes the ids out."""
        # Arrow reads ahead on a thread of its own, which may add some meanwhile
        return [self.ids.pop() for _ in range(len(self.ids))]


class _Head(io.RawIOBase):
    """The first bytes of a binary file: a line without an end must not fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, _HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def _substituted(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return SUBSTITUTE * (error.end - error.start), error.end


codecs.register_error(_SUBSTITUTING, _substituted)


class _Tail:
    """A binary file that remembers the last byte it gave.

    Where the file should be UTF-8, ``SUBSTITUTE`` stands for each byte that is not: Arrow gives no row with such bytes
    to the handler of rows with a wrong number of fields, but ends there.

    Attributes:
        last: the last byte, or none.
        is_damaged: whether a byte was replaced.
    """

    def __init__(self, file: BinaryIO, *, is_utf8: bool) -> None:
        self._file = file
        self._is_utf8 = is_utf8
        self._begun = b""  # the first bytes of a character whose others come with the next block
        self.last = b""
        self.is_damaged = False
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while True:
            data = self._file.read(max(size - _BEGUN_BYTES, 1) if size > 0 else size)
            self.last = data[-1:] or self.last
            if not self._is_utf8:
                return data
            whole = self._begun + data
            end = _last_whole(whole) if data else len(whole)
            whole, self._begun = whole[:end], whole[end:]
            if whole or not data:
                return self._mended(whole)

    def _mended(self, data: bytes) -> bytes:
        offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
        try:
            # without a copy, where decoding would make one
            pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)]).cast(pa.large_string())
        except pa.ArrowInvalid:
            self.is_damaged = True
            return data.decode("utf-8", _SUBSTITUTING).encode()
        return data

    def close(self) -> None:
        self.closed = True
        self._file.close()


def _last_whole(data: bytes) -> int:
    """Where the last character of UTF-8 ends whose bytes are all there."""
    for back in range(1, min(_BEGUN_BYTES, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            return len(data) - back if length > back else len(data)
    return len(data)


def first_row(text: Text, *, after: int) -> list[str]:
    """The fields of the first line that is not blank behind so many others; none where the text ends before.

    Raises:
        InputError: if the text cannot be read so far.
    """
    try:
        with text.open() as file:
            head = io.BufferedReader(_Head(file))
            reader = csv.reader(_characters(text, head), **_dialect(text))
            for index, fields in enumerate(reader):
                if any("\0" in field for field in fields):
                    raise csv.Error("a NUL byte, as no text has")
                if index >= after and fields:
                    return fields
            return []
    except (*_BROKEN, csv.Error) as error:
        raise InputError(f"{text.name}: line {after + 1}: {_words(error)}; download the file again") from None


def batches(
    text: Text, columns: Sequence[str], wanted: dict[str, int], malformed: Malformed | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a text, a block at a time.

    Args:
        text: what to read.
        columns: the name of every field of a line, for messages.
        wanted: the position of each field to return.
        malformed: gets the rows with another number of fields, or with bytes in the wanted fields that are not UTF-8;
            they are told on standard error. Without it the first such row is an error.

    Yields:
        Batches with the wanted columns as strings; an empty field is null. The order of rows is not kept.

    Raises:
        InputError: if a row is malformed and there is no ``malformed``, or more rows are than are not; if the text is
            cut, or has bytes that are not in another encoding than UTF-8.
    """
    tail = _Tail(text.open(), is_utf8=_is_utf8(text))
    short: list[str] = []
    well, before = 0, malformed.rows if malformed else 0

    def handle(row: pyarrow.csv.InvalidRow) -> str:
        is_readable = not (tail.is_damaged and SUBSTITUTE in row.text)
        if text.short_lines and row.actual_columns <= row.expected_columns and is_readable:
            short.append(row.text)
        elif malformed:
            malformed.add(row.text, dict(enumerate(row.text.split(text.delimiter))))
        else:
            return "error"
        return "skip"

    try:
        for batch in _parsed(tail, text, columns, wanted, handle):
            taken = pa.RecordBatch.from_arrays([batch.column(str(at)) for at in wanted.values()], names=list(wanted))
            if tail.is_damaged:
                taken = _readable(taken, list(wanted.values()), malformed)
            well += taken.num_rows
            yield taken
            if short:
                completed = _completed(text, short, wanted)
                well += completed.num_rows
                yield completed
    except _BROKEN as error:
        if "straddling object" in str(error):
            raise InputError(f"{text.name}: a line of more than {BLOCK_BYTES} bytes; download the file again") from None
        if not _empty(error):
            raise _explained(text, columns, error) from None
    finally:
        tail.close()
    if short:
        completed = _completed(text, short, wanted)
        well += completed.num_rows
        yield completed
    if malformed and malformed.rows - before > well:
        raise _explained(text, columns, ValueError("most of its rows cannot be read"))
    if text.ends_in_newline and tail.last not in (b"", b"\n"):
        raise _cut(text, columns)
    if malformed and malformed.rows > before:
        _tell(text, malformed, before)


def _parsed(
    file: _Tail, text: Text, columns: Sequence[str], wanted: dict[str, int], handle: Callable[[Any], str]
) -> Iterator[pa.RecordBatch]:
    """Blocks of the wanted fields as strings, each column named by its position."""
    numbers = [str(position) for position in range(len(columns))]
    return pyarrow.csv.open_csv(
        file,
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
            include_columns=list(dict.fromkeys(str(position) for position in wanted.values())),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _is_utf8(text: Text) -> bool:
    return text.encoding.lower() in ("utf-8", "utf8")


def _readable(batch: pa.RecordBatch, positions: list[int], malformed: Malformed | None) -> pa.RecordBatch:
    """The rows without a substitute; the others go to ``malformed``."""
    wrong = np.zeros(batch.num_rows, bool)
    for column in batch.columns:
        wrong |= pc.fill_null(pc.match_substring(column, SUBSTITUTE), False).to_numpy(zero_copy_only=False)
    if not wrong.any():
        return batch
    if malformed is None:
        raise UnicodeError("bytes that are not UTF-8")
    for row in batch.filter(pa.array(wrong)).to_pylist():
        fields = [value or "" for value in row.values()]
        malformed.add(" ".join(fields), dict(zip(positions, fields, strict=True)))
    return batch.filter(pa.array(~wrong))


def _tell(text: Text, malformed: Malformed, before: int) -> None:
    examples = "; ".join(malformed.examples)
    print(f"{text.name}: {malformed.rows - before} malformed rows are left out, such as {examples}", file=sys.stderr)


def _completed(text: Text, short: list[str], wanted: dict[str, int]) -> pa.RecordBatch:
    """Takes lines that end early out of ``short``; they get nulls for the fields they leave out."""
    # Arrow reads ahead on a thread of its own, which may add lines meanwhile
    lines = [short.pop() for _ in range(len(short))]
    try:
        rows = [next(csv.reader([line], **_dialect(text))) for line in lines]
    except csv.Error as error:
        raise InputError(f"{text.name}: {_words(error)}; mend the file or download it again") from None
    columns = [[row[at] or None if at < len(row) else None for row in rows] for at in wanted.values()]
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names=list(wanted))


def _empty(error: BaseException) -> bool:
    return isinstance(error, pa.ArrowInvalid) and str(error).startswith("Empty CSV file")


def _dialect(text: Text) -> dict[str, Any]:
    quoting = csv.QUOTE_MINIMAL if text.quote else csv.QUOTE_NONE
    return {"delimiter": text.delimiter, "quotechar": text.quote or None, "quoting": quoting}


def _characters(text: Text, file: BinaryIO | io.BufferedReader) -> io.TextIOWrapper:
    # bytes outside the encoding become lone surrogates, so that the reading goes on to the column that holds them
    encoding = "utf-8-sig" if _is_utf8(text) else text.encoding
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
