"""The folder of an unfinished training, so that the same training goes on."""

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instar.errors import InputError
from instar.files import remove

#: A training that nobody went on with for so long is deleted.
KEPT_DAYS = 30


@contextmanager
def unfinished(root: Path, key: str) -> Iterator[Path]:
    """The folder of one training, kept when the block is left by an error or a kill and removed when it ends well.

    Args:
        root: of all unfinished trainings; those that are ``KEPT_DAYS`` old are deleted.
        key: stands for everything that the training depends on, so that no training goes on from another's state.

    Raises:
        InputError: if another process is at the same training; its id is told, also of one that a killed
            Snakemake left behind.
    """
    folder = root / key
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    with (root / f"{key}.lock").open("a+") as lock:  # let go by the system when the process ends, however it ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            other = lock.read() or "another process"  # nothing for a moment after it took the lock
            raise InputError(f"{folder}: {other} is at the same training; wait for it or stop it") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        folder.mkdir(exist_ok=True)
        yield folder
        remove(folder)
        Path(lock.name).unlink(missing_ok=True)


def _sweep(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir() and path.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            remove(path)
