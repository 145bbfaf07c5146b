"""A full disk: one line that names the file, nothing that looks whole, and a second run that goes on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from photo_shards import encoded, write_detections, write_images

from instar.errors import InputError
from instar.shards import writing
from instar.tables import CROPS, DETECTIONS, read_table, write_table

TOLD = "no space left on the disk; free some and start again, what is finished is kept"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "instar-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root, and not in every container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes."""
    stat = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"\0" * (stat.f_bavail * stat.f_frsize - left))
    return filler


def test_a_table_on_a_full_disk(small_disk: Path) -> None:
    rows = [{"photo_key": os.urandom(2000).hex(), "detector": "none"} for _ in range(500)]
    path = small_disk / "table.parquet"
    write_table(path, rows[:1], DETECTIONS)
    with pytest.raises(InputError, match=rf"table\.parquet: {TOLD}"):
        write_table(path, rows, DETECTIONS)
    assert read_table(path, DETECTIONS).num_rows == 1
    assert [entry.name for entry in small_disk.iterdir()] == ["table.parquet"]


def test_a_shard_on_a_full_disk(small_disk: Path) -> None:
    with pytest.raises(InputError, match=rf"s0\.tar: {TOLD}"), writing(small_disk / "s0.tar") as tar:
        for n in range(20):
            tar.add(f"{n}.jpg", os.urandom(100_000))
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("left", [0, 8_000, 120_000])
def test_a_job_on_a_full_disk_and_again_after_freeing(small_disk: Path, tmp_path: Path, left: int) -> None:
    """Without a byte, without room for the log and the crops, and in the middle of the crops."""
    rng = np.random.default_rng(0)
    photographs = {f"a-{n}": encoded(rng.integers(0, 255, (100, 100, 3), np.uint8)) for n in range(20)}
    write_images(tmp_path, "s0", {**photographs}, (100, 100))
    write_detections(tmp_path / "found.parquet", {key: [(0, 0, 100, 100, 0.9)] for key in photographs})
    inputs = [str(tmp_path / name) for name in ("s0.parquet", "s0.tar", "found.parquet")]
    outputs = ["crops/s0.parquet", "crops/s0.tar"]
    command = [sys.executable, "-m", "instar", "job", "--inputs", *inputs, "--outputs", *outputs]
    command += ["--keep", "--log", "logs/crops/s0.log", "--", sys.executable, "-m", "instar", "crops"]
    names = ["images", "images_tar", "detections", "out", "out_tar"]
    command += [word for name, path in zip(names, inputs + outputs, strict=True) for word in (f"--{name}", path)]
    command += ["--confidence=0.5", "--margin_percent=0", "--max_px=100", "--jpeg_quality=95", "--workers=2"]
    environment = {**os.environ, "INSTAR_STORE": str(tmp_path / "store")}
    filler = fill(small_disk, left)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=small_disk, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 2
    assert TOLD in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(small_disk.glob("crops/*"))
    assert not list((tmp_path / "store").glob("??/*"))
    assert not list(small_disk.glob(".instar/staging/*"))
    filler.unlink()
    assert run().returncode == 0
    assert read_table(small_disk / "crops/s0.parquet", CROPS)["reason"].null_count == 20
    assert len(list((tmp_path / "store").glob("??/*"))) == 1
