"""Writing files so that a kill at any moment leaves nothing that looks whole and is not."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instar.errors import InputError


def store_root() -> Path:
    """Where the store lies: ``$INSTAR_STORE``, or the user's cache; outside the workspace, so experiments share it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("INSTAR_STORE") or cache / "instar" / "store")


def traffic_account() -> Path:
    """Where the bytes are counted that each host gave: beside the store, so that all workspaces share the account."""
    return store_root().with_name("traffic.sqlite")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place by one rename when the block ends well.

    Works for a file and for a folder; an existing folder at ``path`` is removed just before the rename. If the block
    raises, the temporary is removed and ``path`` keeps what it held.

    Raises:
        InputError: if the disk is full.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part-{os.getpid()}")
        remove(temporary)
        try:
            yield temporary
            if temporary.is_file():
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            if path.is_dir():
                remove(path)
            temporary.replace(path)
        except BaseException:
            remove(temporary)
            raise


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a small table in one rename."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """What writes below here writes ``path``; a full disk or quota is told in one line.

    Raises:
        InputError: if the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{path}: no space left on the disk; free some and start again, what is finished is kept"
        ) from None


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as indented JSON with a final newline; a NaN is refused, since JSON has none."""
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def md5_of(path: Path) -> str:
    """md5 of a file's bytes, by which DVC names its version."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, or of the sorted relative names and hashes of all files below a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file_path.relative_to(path).as_posix()}\0{sha256_of(file_path)}\n".encode())
    return digest.hexdigest()
