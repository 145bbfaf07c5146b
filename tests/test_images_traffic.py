"""What hosts were asked for: rates and bytes, over jobs and over kills."""

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from photo_server import Server, picture_of
from test_images import record, run
from test_images_resume import prepared, start, until

from instar.errors import InputError
from instar.images import network
from instar.images.traffic import Permit, Traffic, Wait

#: A Unix time at the start of a minute.
NOON = 29_000_000 * 60


def account(path: Path, requests_per_s: float = 1000, hour: int = 1000, day: int = 2000) -> Traffic:
    return Traffic(path, requests_per_s=requests_per_s, bytes_per_hour=hour, bytes_per_day=day)


def given(traffic: Traffic, size: int, now: float, url: str = "u") -> Permit:
    permit = traffic.reserve("h", url, size, now)
    assert isinstance(permit, Permit)
    return permit


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account forgets what is older than a day when it is opened: let it be noon then."""
    monkeypatch.setattr("instar.images.traffic.time.time", lambda: NOON)


def test_an_empty_account(tmp_path: Path) -> None:
    traffic = account(tmp_path / "a")
    assert traffic.used("h", 3600, NOON) == 0
    assert given(traffic, 10, NOON).start == NOON


def test_bytes_are_reserved_then_settled(tmp_path: Path) -> None:
    traffic = account(tmp_path / "a")
    permit = given(traffic, 400, NOON)
    assert traffic.used("h", 3600, NOON) == 400
    traffic.settle(permit, 30, whole=True)
    traffic.settle(permit, 30, whole=True)  # a second time counts nothing
    assert traffic.used("h", 3600, NOON) == 30
    assert traffic.used("other", 3600, NOON) == 0


def test_the_hour_is_used_up(tmp_path: Path) -> None:
    traffic = account(tmp_path / "a")
    for minute, size in ((0, 500), (10, 450)):
        traffic.settle(given(traffic, size, NOON + 60 * minute), size, whole=True)
    now = NOON + 11 * 60
    given(traffic, 50, now, "v")  # 1,000 of 1,000
    assert isinstance(account(tmp_path / "a").reserve("h", "w", 1, now), Wait)  # as another job sees it
    assert traffic.reserve("h", "w", 60, now) == Wait(NOON + 60 + 3600, "hour")  # when the first 500 are an hour old
    assert traffic.reserve("h", "w", 600, now) == Wait(NOON + 11 * 60 + 3600, "hour")  # and the 450 too
    assert isinstance(traffic.reserve("other", "w", 600, now), Permit)
    assert given(traffic, 60, NOON + 60 + 3600, "w")


def test_the_day_is_used_up(tmp_path: Path) -> None:
    traffic = account(tmp_path / "a")
    for hour in (0, 2):
        traffic.settle(given(traffic, 1000, NOON + 3600 * hour), 1000, whole=True)
    now = NOON + 5 * 3600
    assert traffic.reserve("h", "u", 10, now) == Wait(NOON + 60 + 86400, "day")
    assert given(traffic, 10, NOON + 60 + 86400)


def test_requests_under_way_hold_their_bytes_for_a_moment(tmp_path: Path) -> None:
    traffic = account(tmp_path / "a")
    first = given(traffic, 800, NOON, "u")
    assert traffic.reserve("h", "v", 800, NOON) == Wait(NOON + 1, None)
    traffic.settle(first, 100, whole=True)
    assert given(traffic, 800, NOON, "v")


def test_a_size_above_the_limit_counts_as_the_limit(tmp_path: Path) -> None:
    traffic = account(tmp_path / "a")
    given(traffic, 10**9, NOON)
    assert traffic.used("h", 3600, NOON) == 1000


def test_requests_keep_their_distance_over_jobs(tmp_path: Path) -> None:
    jobs = [account(tmp_path / "a", requests_per_s=4) for _ in range(2)]
    starts = [given(jobs[n % 2], 1, NOON).start - NOON for n in range(4)]
    assert starts == [0, 0.25, 0.5, 0.75]
    assert given(jobs[0], 1, NOON + 100).start == NOON + 100


def test_what_a_killed_job_reserved_is_settled_when_the_address_is_fetched(tmp_path: Path) -> None:
    given(account(tmp_path / "a"), 400, NOON)  # and no more is heard of it
    traffic = account(tmp_path / "a")
    again = given(traffic, 400, NOON + 60)
    assert traffic.used("h", 3600, NOON + 60) == 800
    traffic.settle(again, 7, whole=False)  # a refusal tells nothing of the first request
    assert traffic.used("h", 3600, NOON + 60) == 407
    traffic.settle(given(traffic, 400, NOON + 120), 30, whole=True)
    assert traffic.used("h", 3600, NOON + 120) == 67


def test_what_is_older_than_a_day_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = account(tmp_path / "a")
    traffic.settle(given(traffic, 10, NOON), 10, whole=True)
    given(traffic, 10, NOON)
    monkeypatch.setattr("instar.images.traffic.time.time", lambda: NOON + 86400 + 60)
    account(tmp_path / "a")
    with sqlite3.connect(tmp_path / "a") as database:
        assert database.execute("SELECT (SELECT count(*) FROM used), (SELECT count(*) FROM open)").fetchone() == (0, 0)
    database.close()


def test_a_file_that_is_no_account(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    with pytest.raises(InputError, match=r"a: the account of bytes fetched can't be used"):
        account(tmp_path / "a")


def _spend(path: Path) -> None:
    traffic = account(path, requests_per_s=1e6, hour=10**9, day=10**9)
    n = 0
    while True:
        n += 1
        permit = given(traffic, 100, NOON, f"{os.getpid()}-{n}")
        with path.with_name(f"sent-{os.getpid()}").open("ab", buffering=0) as file:
            file.write(b"x")
        traffic.settle(permit, 10, whole=True)


def test_kills_of_jobs_that_share_an_account(tmp_path: Path) -> None:
    """Never below what was asked for; above it by the one reservation that each killed job had open."""
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_spend, args=(tmp_path / "a",)) for _ in range(3)]
    for job in jobs:
        job.start()
    time.sleep(1)
    for job in jobs:
        assert job.pid
        os.kill(job.pid, signal.SIGKILL)
        job.join()
    sent = sum(path.stat().st_size for path in tmp_path.glob("sent-*"))
    assert sent > 30
    used = account(tmp_path / "a").used("h", 3600, NOON)
    assert 10 * sent <= used <= 10 * sent + 3 * 100


def test_the_stage_counts_its_bytes_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(network, "LOOK_S", 0.05)
    names = [f"p{n}" for n in range(10)]
    total = sum(len(picture_of(name)) for name in names)
    path = tmp_path / "traffic.sqlite"
    with Server() as server:
        rows = [record(f"k{name}", server.url(name)) for name in names]
        run(tmp_path, rows, mirror=False)
        traffic = account(path)
        assert traffic.used("127.0.0.1", 3600, time.time()) == total
        (tmp_path / "spool").unlink()
        with sqlite3.connect(path) as database:
            database.execute("UPDATE used SET bytes = 2000000")
        asked = server.asked.total()
        seen: list[int] = []

        def free() -> None:
            seen.append(server.asked.total())
            with sqlite3.connect(path) as database:
                database.execute("DELETE FROM used")
            database.close()

        timer = threading.Timer(1.0, free)
        timer.start()
        run(tmp_path, rows, mirror=False, gb_per_hour=0.002)
        timer.join()
    assert seen == [asked]  # no request while the hour was used up
    told = [line for line in capsys.readouterr().err.splitlines() if "waiting until" in line]
    assert len(told) == 1
    assert told[0].startswith("127.0.0.1: the 0.002 GB of this hour are used up (images.gb_per_hour); waiting until 20")
    assert server.asked.total() == 20
    assert traffic.used("127.0.0.1", 3600, time.time()) == total
    traffic.close()
    database.close()


def test_an_unlimited_host_has_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    with Server() as server:
        run(tmp_path, [record("k", server.url("p1"))], mirror=False, unlimited_hosts=["127.0.0.1"])
    assert not (tmp_path / "traffic.sqlite").exists()


def test_requests_per_second_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    with Server() as server:
        start = time.monotonic()
        run(tmp_path, [record(f"k{n}", server.url(f"p{n}")) for n in range(6)], mirror=False, requests_per_s=5.0)
    assert time.monotonic() - start > 1.0  # five intervals of 0.2 s


def test_what_killed_jobs_reserved_does_not_hold_up_the_next(tmp_path: Path) -> None:
    """All of 100 MB is reserved by two processes that are killed; the next request need not wait for an hour."""

    def reserve() -> None:
        given(account(tmp_path / "a", hour=10**8, day=10**9), 50_000_000, NOON)
        os.kill(os.getpid(), signal.SIGKILL)

    context = multiprocessing.get_context("fork")
    for _ in range(2):
        job = context.Process(target=reserve)
        job.start()
        job.join()
    traffic = account(tmp_path / "a", hour=10**8, day=10**9)
    assert given(traffic, 50_000_000, NOON)
    assert traffic.used("h", 3600, NOON) == 50_000_000 + 2 * 2_000_000


def test_sigterm_leaves_nothing_reserved(tmp_path: Path) -> None:
    with Server() as server:
        prepared(tmp_path, server)
        server.hold_after = 5
        process = start(tmp_path, unlimited_hosts=[])
        until(lambda: server.held == 4)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    with sqlite3.connect(tmp_path / "traffic.sqlite") as database:
        assert database.execute("SELECT count(*) FROM open").fetchone() == (0,)
    database.close()


def test_a_long_wait_for_requests_of_others_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(network, "HELD_S", -5.0)
    other = account(tmp_path / "traffic.sqlite", hour=10**5)
    permit = other.reserve("127.0.0.1", "u", 10**5, time.time())
    assert isinstance(permit, Permit)
    other.close()

    def free() -> None:
        again = account(tmp_path / "traffic.sqlite", hour=10**5)
        again.settle(permit, 0, whole=False)
        again.close()

    timer = threading.Timer(1.0, free)
    timer.start()
    with Server() as server:
        run(tmp_path, [record("k", server.url("p1"))], mirror=False, gb_per_hour=1e-4)
    timer.join()
    assert capsys.readouterr().err.count("127.0.0.1: waiting for bytes that requests of other jobs hold") == 1
