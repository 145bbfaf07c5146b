"""Rows on disk: more of them than fit into memory, in temporary files that have no name.

A file without a name vanishes with its process, however that ends, so a kill leaves nothing behind.
"""

import errno
import os
import tempfile
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from instar.errors import InputError

#: Rows that are held in memory before they are written.
HELD_ROWS = 1 << 17
#: Rows of a block: what is in memory of each sorted run while the runs are merged.
BLOCK_ROWS = 1 << 11


class Block(NamedTuple):
    """Where rows lie in the file, in bytes."""

    offset: int
    size: int


class Spill:
    """Record batches of one schema in a temporary file without a name."""

    def __init__(self, schema: pa.Schema, folder: Path | None = None) -> None:
        self.schema = schema
        self._folder = folder
        self._end = 0
        self._descriptor = -1

    def append(self, rows: pa.RecordBatch) -> Block:
        """Write rows.

        Raises:
            InputError: if the disk is full.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_batch(rows)
        data = memoryview(sink.getvalue())
        block = Block(self._end, len(data))
        try:
            if self._descriptor < 0:
                self._open()
            while data:
                written = os.pwrite(self._descriptor, data, self._end)
                self._end += written
                data = data[written:]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = self._folder or tempfile.gettempdir()
            raise InputError(
                f"{where}: no space left for the rows in work, {self._end} bytes so far; free some"
            ) from None
        return block

    def _open(self) -> None:
        file = tempfile.TemporaryFile(dir=self._folder, buffering=0)
        self._descriptor = file.fileno()
        weakref.finalize(self, file.close)

    def read(self, block: Block) -> pa.RecordBatch:
        """The rows of a block."""
        data = os.pread(self._descriptor, block.size, block.offset)
        with pa.ipc.open_stream(data) as reader:
            return reader.read_next_batch()


class _Held:
    """Rows in memory until there are enough of them to be written."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._tables: list[pa.Table] = []
        self.rows = 0

    def add(self, rows: pa.Table) -> bool:
        """Whether they are enough now."""
        if rows.num_rows:
            self._tables.append(rows.select(self._schema.names).cast(self._schema))
            self.rows += rows.num_rows
        return self.rows >= HELD_ROWS

    def table(self) -> pa.Table:
        return pa.concat_tables([self._schema.empty_table(), *self._tables]).combine_chunks()

    def take(self) -> pa.Table:
        held = self.table()
        self._tables, self.rows = [], 0
        return held


class Rows:
    """Rows in the order in which they came."""

    def __init__(self, schema: pa.Schema, folder: Path | None = None) -> None:
        self.schema = schema
        self._spill = Spill(schema, folder)
        self._held = _Held(schema)
        self._blocks: list[Block] = []

    def add(self, rows: pa.Table) -> None:
        """Add rows, which have the columns of the schema."""
        if self._held.add(rows):
            self._blocks += [self._spill.append(batch) for batch in self._held.take().to_batches(-(-HELD_ROWS // 4))]

    def __iter__(self) -> Iterator[pa.Table]:
        for block in self._blocks:
            yield pa.Table.from_batches([self._spill.read(block)])
        yield self._held.table()


class Buckets:
    """Rows parted by a hash: those of one hash are in one bucket, and a bucket fits into memory."""

    def __init__(self, schema: pa.Schema, count: int, folder: Path | None = None) -> None:
        self._schema = schema.append(pa.field("bucket", pa.uint16()))
        self._spill = Spill(schema, folder)
        self._held = _Held(self._schema)
        self._blocks: list[list[Block]] = [[] for _ in range(count)]

    def add(self, rows: pa.Table, hashes: np.ndarray) -> None:
        """Add rows, with a uint64 for each, shape (rows,)."""
        numbers = ((hashes >> np.uint64(48)) % np.uint64(len(self._blocks))).astype(np.uint16)
        if self._held.add(rows.append_column("bucket", pa.array(numbers))):
            self._write()

    def _write(self) -> None:
        held = self._held.take()
        numbers = held["bucket"].to_numpy()
        held = held.drop_columns("bucket").take(pa.array(np.argsort(numbers, kind="stable"))).combine_chunks()
        ends = np.cumsum(np.bincount(numbers, minlength=len(self._blocks)))
        for bucket, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            for batch in held.slice(start, end - start).to_batches():
                self._blocks[bucket].append(self._spill.append(batch))

    def __iter__(self) -> Iterator[pa.Table]:
        """The rows of each bucket in turn."""
        self._write()
        for blocks in self._blocks:
            yield pa.Table.from_batches([self._spill.read(block) for block in blocks], self._spill.schema)


class Sorter:
    """Rows in the order of some columns, nulls last: sorted runs on disk that are merged while they are read.

    Args:
        schema: of the rows.
        by: columns that the order goes by, each ascending.
        together: so many of them; rows that are equal in these come in one table.
        folder: where the temporary file lies.
    """

    def __init__(self, schema: pa.Schema, by: list[str], *, together: int, folder: Path | None = None) -> None:
        self._by = [(name, "ascending") for name in by]
        self._together = by[:together]
        self._spill = Spill(schema, folder)
        self._held = _Held(schema)
        self._runs: list[deque[Block]] = []

    def add(self, rows: pa.Table) -> None:
        """Add rows, which have the columns of the schema."""
        if self._held.add(rows):
            self._write()

    def _write(self) -> None:
        batches = self._held.take().sort_by(self._by).combine_chunks().to_batches(BLOCK_ROWS)
        self._runs.append(deque(self._spill.append(batch) for batch in batches))

    def __iter__(self) -> Iterator[pa.Table]:
        """The rows in their order; once, since the runs are used up."""
        if not self._runs:
            yield self._held.take().sort_by(self._by)
            return
        if self._held.rows:
            self._write()
        heads = [self._spill.read(run.popleft()) for run in self._runs]
        while heads:
            # a run with blocks left may go on with rows that are equal to its last one here
            lasts = [self._place(head, -1) for head, run in zip(heads, self._runs, strict=True) if run]
            bound = min(lasts, default=None)
            cuts = [self._cut(head, bound) for head in heads]
            ready = [head.slice(0, cut) for head, cut in zip(heads, cuts, strict=True)]
            yield pa.Table.from_batches(ready).combine_chunks().sort_by(self._by)
            heads = [self._rest(*each, bound) for each in zip(heads, cuts, self._runs, strict=True)]
            self._runs = [run for head, run in zip(heads, self._runs, strict=True) if head.num_rows]
            heads = [head for head in heads if head.num_rows]

    def _cut(self, head: pa.RecordBatch, bound: Any) -> int:
        """How many rows come before the bound; all where there is none."""
        if bound is None:
            return head.num_rows
        return bisect_left(range(head.num_rows), bound, key=lambda at: self._place(head, at))

    def _rest(self, head: pa.RecordBatch, cut: int, run: deque[Block], bound: Any) -> pa.RecordBatch:
        rest = head.slice(cut)
        if run and self._place(rest, -1) == bound:
            rest = pa.concat_batches([rest, self._spill.read(run.popleft())])
        return rest

    def _place(self, rows: pa.RecordBatch, at: int) -> tuple[tuple[bool, Any], ...]:
        values = (rows[name][at].as_py() for name in self._together)
        return tuple((value is None, value) for value in values)
