"""The stage ``images`` killed, out of disk or run twice at once: nothing is fetched twice and nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from photo_server import Server, picture_of
from test_images import PARAMETERS, PATHS, record

from instar.errors import InputError
from instar.images.stage import images
from instar.shards import ShardReader
from instar.tables import IMAGES, RECORDS, read_table, write_table

COUNT = 60
FAST = PARAMETERS | {"shard": "s0", "mirror": False, "unlimited_hosts": ["127.0.0.1"], "attempts": 1}
FAST |= {"timeout_s": 60.0, "stall_s": 60.0}  # a server that holds an answer back is not asked again


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def prepared(folder: Path, server: Server, names: list[str] | None = None) -> list[str]:
    """Write the records of photographs of the server; returns their names."""
    names = names or [f"p{i:02}" for i in range(COUNT)]
    write_table(folder / "records.parquet", [record(f"k-{name}", server.url(name)) for name in names], RECORDS)
    return names


def start(folder: Path, **changes: Any) -> subprocess.Popen[bytes]:
    """The stage as its command, in a process group of its own."""
    options = [f"--{name}={value}" for name, value in (FAST | changes).items()]
    flags = ["--records", "--local", "--mirror_root", "--spool", "--out", "--out_tar"]
    paths = [word for flag, name in zip(flags, PATHS, strict=True) for word in (flag, str(folder / name))]
    command = [sys.executable, "-m", "instar", "images", *paths, *options]
    environment = os.environ | {"INSTAR_STORE": str(folder / "store")}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "did not happen in a minute"
        time.sleep(0.01)


def check(folder: Path, names: list[str]) -> None:
    """All photographs are stored, each with its own bytes."""
    rows = read_table(folder / "out.parquet", IMAGES).to_pylist()
    assert [row["key"] for row in rows] == [f"k-{name}" for name in sorted(names)]
    with ShardReader(folder / "out.tar") as reader:
        for row in rows:
            assert row["reason"] is None
            assert reader.read(row["offset"], row["size"]) == picture_of(row["key"].removeprefix("k-"))


def nothing_whole(folder: Path) -> bool:
    return not (folder / "out.parquet").exists() and not (folder / "out.tar").exists()


@pytest.mark.parametrize("answered", [0, 25, COUNT - 1])
def test_killed_while_it_fetches(tmp_path: Path, server: Server, answered: int) -> None:
    names = prepared(tmp_path, server)
    server.hold_after = answered
    process = start(tmp_path)
    spool = tmp_path / "spool"
    until(lambda: server.held == min(FAST["connections"], COUNT - answered))
    until(lambda: spool.exists() and spool.read_bytes().count(b'{"key"') == answered)
    kill(process)
    assert nothing_whole(tmp_path)
    server.release()
    assert start(tmp_path).wait() == 0
    check(tmp_path, names)
    assert server.answered == dict.fromkeys(names, 1)


def test_killed_again_and_again_at_any_moment(tmp_path: Path, server: Server) -> None:
    names = prepared(tmp_path, server)
    moments = random.Random(0)
    kills, in_flight = 0, 0
    while True:
        process = start(tmp_path)
        before = server.asked.total()
        deadline = time.monotonic() + 60
        until(lambda before=before, process=process: server.asked.total() > before or process.poll() is not None)  # type: ignore[misc]
        time.sleep(moments.uniform(0, 0.15))
        if process.poll() is not None:
            break
        assert nothing_whole(tmp_path) or (tmp_path / "out.tar").exists()
        kill(process)
        kills += 1
        in_flight += FAST["connections"]
        assert time.monotonic() < deadline
    assert process.returncode == 0
    assert kills > 2
    check(tmp_path, names)
    # an answer that was on its way to a killed process can't be known of; no other is asked for again
    assert server.answered.total() <= len(names) + in_flight
    assert set(server.answered) == set(names)


def test_killed_when_all_is_fetched(tmp_path: Path, server: Server) -> None:
    names = prepared(tmp_path, server)
    process = start(tmp_path)
    until(lambda: server.answered.total() == COUNT)
    until(lambda: (tmp_path / "spool").read_bytes().count(b'{"key"') == COUNT)
    kill(process)
    for part in tmp_path.glob(".out*"):
        part.unlink()
    (tmp_path / "out.tar").unlink(missing_ok=True)
    assert start(tmp_path).wait() == 0
    check(tmp_path, names)
    assert server.asked == dict.fromkeys(names, 1)


def test_a_later_run_asks_for_what_is_retryable_only(tmp_path: Path, server: Server) -> None:
    prepared(tmp_path, server, ["p1", "500", "404", "html", "p2", "page-once"])
    assert start(tmp_path).wait() == 0
    first = dict(server.asked)
    rows = {row["key"]: row for row in read_table(tmp_path / "out.parquet", IMAGES).to_pylist()}
    assert {key: (row["reason"], row["retryable"]) for key, row in rows.items()} == {
        "k-404": ("missing", False),
        "k-500": ("refused: 500", True),
        "k-html": ("not an image", True),
        "k-p1": (None, None),
        "k-p2": (None, None),
        "k-page-once": ("not an image", True),
    }
    assert start(tmp_path).wait() == 0
    again = {name: n - first[name] for name, n in server.asked.items()}
    assert again == {"p1": 0, "p2": 0, "404": 0, "html": 1, "500": 1, "page-once": 1}
    second = {row["key"]: row["reason"] for row in read_table(tmp_path / "out.parquet", IMAGES).to_pylist()}
    assert second == {key: row["reason"] for key, row in rows.items()} | {"k-page-once": None}


def test_another_address_is_fetched(tmp_path: Path, server: Server) -> None:
    prepared(tmp_path, server, ["p1"])
    assert start(tmp_path).wait() == 0
    write_table(tmp_path / "records.parquet", [record("k-p1", server.url("p2"))], RECORDS)
    assert start(tmp_path).wait() == 0
    assert server.asked == {"p1": 1, "p2": 1}


def test_two_runs_at_once(tmp_path: Path, server: Server) -> None:
    names = prepared(tmp_path, server)
    server.hold_after = 10
    first = start(tmp_path)
    until(lambda: server.held == FAST["connections"])
    second = start(tmp_path)
    until(lambda: "another run fetches this shard" in (tmp_path / "log").read_text())
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(2)
    assert server.held == FAST["connections"]  # the second asks for nothing
    until(lambda: (tmp_path / "spool").read_bytes().count(b'{"key"') == 10)
    kill(first)
    server.release()
    assert second.wait() == 0
    check(tmp_path, names)
    assert server.answered == dict.fromkeys(names, 1)


def in_process(folder: Path) -> None:
    images(*(folder / name for name in PATHS), **FAST)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(small_disk: Path, server: Server) -> None:
    names = prepared(small_disk, server)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    # leaves room for some of the 60 photographs beside 4 of up to 100 kB that are on their way
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 430_000))
    with pytest.raises(InputError, match=r"small/spool: the disk is full .*; free some and start again"):
        in_process(small_disk)
    assert nothing_whole(small_disk)
    assert 0 < server.asked.total() < COUNT
    ballast.unlink()
    in_process(small_disk)
    check(small_disk, names)
    assert server.answered == dict.fromkeys(names, 1)


def test_a_disk_that_is_full_when_the_shard_is_stored(
    small_disk: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = prepared(tmp_path, server)
    (small_disk / "ballast").write_bytes(bytes(980_000))
    paths = [tmp_path / name for name in PATHS[:4]] + [small_disk / name for name in PATHS[4:]]
    with pytest.raises(InputError, match=r"small/out\.tar: no space left on the disk; free some and start again"):
        images(*paths, **FAST)
    assert nothing_whole(small_disk)
    assert list(small_disk.glob(".out*")) == []
    (small_disk / "ballast").unlink()
    images(*paths, **FAST)
    check(small_disk, names)
    assert server.answered == dict.fromkeys(names, 1)
