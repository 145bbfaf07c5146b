"""A shard's spool: what the network has answered so far, on disk, so that a stopped run asks for nothing twice.

One file, appended to. A record is a line of JSON, the photograph's bytes and a newline. A record that a kill or a full
disk has cut is found by its checksum and dropped when the file is opened again.

Beside it, in the folder ``<spool>.kept``, lies the shard as it was stored last, linked there by ``instar job``. It
answers as well, so that changed code, a changed parameter or deleted outputs ask the network for nothing again. Once it
is linked the spool need only hold what it does not answer, the bytes that were refused, such as damaged files: that is
the file ``<spool>.rest``, which `instar job` puts in the spool's place.
"""

import fcntl
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from instar.errors import InputError
from instar.files import remove, replacing
from instar.progress import progress
from instar.shards import ShardReader

Row = dict[str, Any]

#: Metadata of an index whose photographs came from the network: a mirror may hold other ones.
FROM_NETWORK = {b"instar.images": b"from the network"}

#: Written to the spool as the reason of an answer that counts no more.
FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Answer:
    """What is known of a photograph: where its bytes lie, or the final reason why there are none.

    ``offset`` and ``size`` are in bytes, into the spool or the tar that is ``kept``, and 0 where there is a reason.
    """

    offset: int
    size: int
    sha256: str
    reason: str | None
    kept: ShardReader | None = None


Answers = dict[tuple[str, str], Answer]


class Spool:
    """The answers of one shard; holds the file's lock, so that a second run of the same shard waits.

    Answers are by the photograph's key and address: where a record has got another address, it is fetched again. A
    photograph of more than ``max_bytes`` is not taken from the shard as it was stored last.
    """

    def __init__(self, path: Path, max_bytes: int = sys.maxsize) -> None:
        self.path = path
        self._descriptor = _locked(path)
        self._kept: Answers = {}
        self._tar: ShardReader | None = None
        try:
            self._answers, self._end = _read(self._descriptor)
            self._cut(self._end)
            self._tar = _kept_tar(path.with_name(f"{path.name}.kept"))
            if self._tar:
                self._kept = _kept_answers(self._tar, max_bytes)
        except BaseException:
            self._close()
            raise

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, row: Row) -> Answer | None:
        """What the network answered for a row of ``records``; None where it has to be asked."""
        name = (row["key"], row["url"])
        if name in self._answers:
            return self._answers[name]
        kept = self._kept.get(name)
        # a source that now tells another checksum may have another photograph at the same address
        changed = kept and kept.reason is None and row.get("sha256") not in (None, kept.sha256)
        return None if changed else kept

    def add(self, row: Row, data: bytes, reason: str | None = None) -> None:
        """Append a photograph, or a final reason with no bytes.

        Raises:
            OSError: if the disk is full; the spool keeps what it held before.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        head = {"key": row["key"], "url": row["url"], "size": len(data), "sha256": sha256, "reason": reason}
        line = json.dumps(head).encode() + b"\n"
        try:
            _write(self._descriptor, b"".join((line, data, b"\n")))
        except OSError as error:
            self._cut(self._end)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._answers[row["key"], row["url"]] = Answer(self._end + len(line), len(data), sha256, reason)
        self._end += len(line) + len(data) + 1

    def forget(self, row: Row) -> None:
        """A later run asks for it again; nothing happens where the spool holds no answer.

        Raises:
            OSError: if the disk is full.
        """
        if (row["key"], row["url"]) in self._answers:
            self.add(row, b"", FORGOTTEN)
            del self._answers[row["key"], row["url"]]

    def leave(self, rows: list[Row]) -> None:
        """Write the file ``<spool>.rest`` with the bytes that answer these rows; there is none if they have none.

        Reasons are left out: a photograph that was too large is asked for again, since the limit may be another one.

        Raises:
            InputError: if the disk is full.
        """
        rest = self.path.with_name(f"{self.path.name}.rest")
        remove(rest)
        if answers := [(row, answer) for row in rows if (answer := self.answer(row)) and not answer.reason]:
            with replacing(rest) as temporary, Spool(temporary) as spool:
                for row, answer in answers:
                    spool.add(row, self.read(answer))

    def read(self, answer: Answer) -> bytes:
        """The bytes of a photograph; any thread may."""
        if answer.kept:
            return answer.kept.read(answer.offset, answer.size)
        return os.pread(self._descriptor, answer.size, answer.offset)

    def sync(self) -> None:
        """Have the disk hold all answers; any thread may."""
        os.fdatasync(self._descriptor)

    def free_bytes(self) -> int:
        """What the file system of the spool has left."""
        disk = os.fstatvfs(self._descriptor)
        return disk.f_bavail * disk.f_frsize

    def _cut(self, end: int) -> None:
        os.ftruncate(self._descriptor, end)
        os.lseek(self._descriptor, end, os.SEEK_SET)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._tar:
            self._tar.close()
        os.close(self._descriptor)


def _locked(path: Path) -> int:
    """Open the file and take its lock; who held it before may have deleted it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path}: another run fetches this shard; waiting for it to end", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)


def _read(descriptor: int) -> tuple[Answers, int]:
    """All whole answers, and the byte behind the last one."""
    answers: Answers = {}
    end = 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        while line := file.readline():
            try:
                head = json.loads(line)
                data = file.read(head["size"] + 1)
                whole = data[-1:] == b"\n" and hashlib.sha256(data[:-1]).hexdigest() == head["sha256"]
                if not whole or len(data) != head["size"] + 1:
                    break
            except (ValueError, KeyError, TypeError):
                break
            place = end + len(line)
            answers[head["key"], head["url"]] = Answer(place, head["size"], head["sha256"], head["reason"])
            if head["reason"] == FORGOTTEN:
                del answers[head["key"], head["url"]]
            end = place + len(data)
    return answers, end


def _kept_tar(folder: Path) -> ShardReader | None:
    """The photographs of the shard as it was stored last; None where there is none."""
    tars = sorted(folder.glob("*.tar"))
    try:
        return ShardReader(tars[0]) if tars else None
    except (InputError, FileNotFoundError):  # `instar prune` has just deleted it
        return None


def _kept_answers(tar: ShardReader, max_bytes: int) -> Answers:
    """What the index beside a tar says that the network answered, each photograph compared with its checksum.

    Of the reasons only the network's own count: what this package refused it may take after a change.
    """
    index = tar.path.with_suffix(".parquet")
    try:
        if not FROM_NETWORK.items() <= (pq.read_schema(index).metadata or {}).items():
            return {}
        columns = ["key", "url", "reason", "retryable", "offset", "size", "sha256"]
        rows = pq.read_table(index, columns=columns).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        print(f"{index}: not readable ({error}); this shard is fetched again", file=sys.stderr)
        return {}
    rows = [row for row in rows if "://" in row["url"] and (stands(row) if row["reason"] else row["size"] <= max_bytes)]
    answers = {}
    for row in progress(rows, "kept photographs", len(rows)):
        if row["reason"]:
            answers[row["key"], row["url"]] = Answer(0, 0, "", row["reason"])
        elif _whole(tar, row):
            answers[row["key"], row["url"]] = Answer(row["offset"], row["size"], row["sha256"], None, tar)
    if damaged := len(rows) - len(answers):
        print(f"{tar.path}: {damaged} photographs are damaged and fetched again", file=sys.stderr)
    return answers


def stands(row: Row) -> bool:
    """Whether the network gave the reason and gives it again."""
    return not row["retryable"] and (row["reason"] == "missing" or row["reason"].startswith("refused: "))


def _whole(tar: ShardReader, row: Row) -> bool:
    try:
        data = tar.read(row["offset"], row["size"])
    except (InputError, OSError):
        return False
    return hashlib.sha256(data).hexdigest() == row["sha256"]


def _write(descriptor: int, data: bytes) -> None:
    """Write all bytes; a disk that fills up takes a part of them before it says so."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
