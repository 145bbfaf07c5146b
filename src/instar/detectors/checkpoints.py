"""What an unfinished training leaves, so that the same training goes on from its last whole epoch."""

import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from instar.detectors import Training
from instar.errors import InputError
from instar.files import remove, replacing

#: A training that nobody went on with for so long is deleted.
KEPT_DAYS = 30
STATE = "training.json"


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


class Checkpoints:
    """Whole states of one training, one folder for each epoch, of which the last is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, training: Training, files: list[Path]) -> None:
        """Keep copies of the library's files together with the curve so far; it appears by one rename."""
        epoch = int(training.curve[-1]["epoch"])
        with replacing(self.folder / f"epoch-{epoch:06d}") as temporary:
            temporary.mkdir()
            for path in files:
                shutil.copyfile(path, temporary / path.name)
            (temporary / STATE).write_text(json.dumps(asdict(training)), encoding="utf-8")
        for older in self._epochs()[:-1]:
            remove(older)

    def latest(self) -> tuple[Training, Path] | None:
        """The training up to the last whole epoch and the folder of its files; None where there is none."""
        epochs = self._epochs()
        if not epochs:
            return None
        return Training(**json.loads((epochs[-1] / STATE).read_text(encoding="utf-8"))), epochs[-1]

    def _epochs(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*"))
