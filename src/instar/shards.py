"""A shard: a plain tar of encoded images with a parquet index beside it, so that it streams and reads at random."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from instar.errors import InputError
from instar.files import replacing


def shard_of(key: str, shards: list[str]) -> str:
    """The shard of a photograph, from a stable hash of its key alone: no order of rows, no count of workers."""
    digest = hashlib.sha256(f"shard\0{key}".encode()).digest()
    return shards[int.from_bytes(digest[:8], "big") % len(shards)]


@dataclass(frozen=True)
class Member:
    """Where a file lies in a tar: ``offset`` and ``size`` in bytes."""

    offset: int
    size: int
    sha256: str


class ShardWriter:
    """Appends files to a tar and says where each one lies. Use ``writing``."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, name: str, data: bytes) -> Member:
        """Append one file; the header carries no time or owner, so that equal content gives an equal tar."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return Member(offset, len(data), hashlib.sha256(data).hexdigest())

    def close(self) -> None:
        try:
            self._tar.close()
        finally:
            self._file.close()  # a full disk is told here, once more


@contextmanager
def writing(path: Path) -> Iterator[ShardWriter]:
    """A writer whose tar appears at ``path`` by one rename when the block ends well."""
    with replacing(path) as temporary:
        writer = ShardWriter(temporary)
        try:
            yield writer
        finally:
            writer.close()


class ShardReader:
    """Reads files of a tar at random by ``pread``; safe to share between threads, opened anew in each process."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such shard; run the stage that writes it")
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of one file.

        Raises:
            InputError: if the tar ends before ``offset + size``.
        """
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise InputError(f"{self.path}: ends inside a file at byte {offset + len(data)}; run its stage again")
        return data

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "ShardReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
