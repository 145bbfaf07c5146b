"""Unfinished trainings: what is kept, what goes, and one process at a time."""

import os
import platform
import time
from pathlib import Path

import pytest

from instar.detectors import Training
from instar.detectors.checkpoints import Checkpoints
from instar.errors import InputError
from instar.unfinished import KEPT_DAYS, unfinished


def training(epochs: int) -> Training:
    return Training(curve=[{"epoch": epoch, "mAP50": 0.25} for epoch in range(1, epochs + 1)], best_epoch=1, best=0.25)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").latest() is None


def test_the_latest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"1")
    checkpoints = Checkpoints(tmp_path / "kept")
    checkpoints.save(training(1), [tmp_path / "last.pt"])
    (tmp_path / "last.pt").write_bytes(b"2")
    checkpoints.save(training(10), [tmp_path / "last.pt"])
    (tmp_path / "kept/.epoch-000011.part-1").mkdir()  # of a kill while it was written
    found = checkpoints.latest()
    assert found is not None
    assert found[0] == training(10)
    assert (found[1] / "last.pt").read_bytes() == b"2"
    assert [path.name for path in tmp_path.glob("kept/epoch-*")] == ["epoch-000010"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"1")
    checkpoints = Checkpoints(tmp_path / "kept")
    checkpoints.save(training(1), [tmp_path / "last.pt"])
    with pytest.raises(FileNotFoundError):
        checkpoints.save(training(2), [tmp_path / "last.pt", tmp_path / "missing.pt"])
    found = checkpoints.latest()
    assert found is not None
    assert found[0] == training(1)


def test_an_unfinished_training_stays_and_a_finished_one_goes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="killed"), unfinished(tmp_path, "a") as folder:
        (folder / "state").touch()
        raise ValueError("killed")
    with unfinished(tmp_path, "b") as other:
        assert not list(other.iterdir())
    with unfinished(tmp_path, "a") as folder:
        assert (folder / "state").exists()
    assert not list(tmp_path.glob("*"))


def test_one_training_at_a_time(tmp_path: Path) -> None:
    with (
        unfinished(tmp_path, "a"),
        unfinished(tmp_path, "b"),
        pytest.raises(InputError, match=rf"a: process {os.getpid()} on \S+ is at the same training; wait"),
        unfinished(tmp_path, "a"),
    ):
        pass


def test_the_lock_names_the_last_process(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text("process 1234567890 on a-node-of-a-long-name")  # of one that was killed
    with unfinished(tmp_path, "a"):
        assert (tmp_path / "a.lock").read_text() == f"process {os.getpid()} on {platform.node()}"


def test_old_unfinished_trainings_go(tmp_path: Path) -> None:
    for name, days in (("old", KEPT_DAYS + 1), ("young", KEPT_DAYS - 1)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time(), time.time() - days * 86400))
    with unfinished(tmp_path, "a"):
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["a", "young"]
