"""A shard's spool: what the network has answered so far, on disk, so that a stopped run asks for nothing twice.

One file, appended to. A record is a line of JSON, the photograph's bytes and a newline. A record that a kill or a full
disk has cut is found by its checksum and dropped when the file is opened again.
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

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What is known of a photograph: where its bytes lie in the spool, or the final reason why there are none.

    ``offset`` and ``size`` are in bytes and 0 where there is a reason.
    """

    offset: int
    size: int
    sha256: str
    reason: str | None


class Spool:
    """The answers of one shard; holds the file's lock, so that a second run of the same shard waits.

    Answers are by the photograph's key and address: where a record has got another address, it is fetched again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _locked(path)
        try:
            self._answers, self._end = _read(self._descriptor)
            self._cut(self._end)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, row: Row) -> Answer | None:
        """What the network answered for a row of ``records``; None where it has to be asked."""
        return self._answers.get((row["key"], row["url"]))

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

    def read(self, answer: Answer) -> bytes:
        """The bytes of a photograph; any thread may."""
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


def _read(descriptor: int) -> tuple[dict[tuple[str, str], Answer], int]:
    """All whole answers, and the byte behind the last one."""
    answers: dict[tuple[str, str], Answer] = {}
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
            end = place + len(data)
    return answers, end


def _write(descriptor: int, data: bytes) -> None:
    """Write all bytes; a disk that fills up takes a part of them before it says so."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
