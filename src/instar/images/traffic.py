"""How much each host has been asked: requests per second, bytes per hour and per day, over all jobs and nodes.

The account is an SQLite file beside the store, so that it outlives jobs and is shared by every workspace of its user.
Bytes are reserved before a request at the most that it may bring, and settled at what came, or at nothing where a run
was stopped meanwhile. What a killed job had reserved is held until the next request to that host from the same machine,
which settles it at ``LEFT_BYTES``, a generous photograph's size; that of a job killed on another machine is held until
the same address is fetched again, when it is settled at that size, or until it is older than a day.
"""

import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from instar.errors import InputError

HOUR_S = 3600
DAY_S = 86400
#: How long a transaction waits for those of other jobs, seconds.
BUSY_S = 60.0
#: Until the next look where only requests that are under way hold the bytes, seconds.
LOOK_AGAIN_S = 1.0
#: What a request of a killed job counts as: a photograph of 1024 pixels has some 300 kB, an original a few times that.
LEFT_BYTES = 2_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS used (host TEXT, minute INTEGER, bytes INTEGER, PRIMARY KEY (host, minute)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open (id INTEGER PRIMARY KEY, host TEXT, url TEXT, minute INTEGER, bytes INTEGER,
  owner TEXT);
CREATE INDEX IF NOT EXISTS open_host ON open (host, minute);
CREATE TABLE IF NOT EXISTS next (host TEXT PRIMARY KEY, at REAL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Permit:
    """One request may start at ``start``, in Unix time, seconds."""

    id: int
    start: float


@dataclass(frozen=True)
class Wait:
    """No request may start before ``until``, in Unix time, seconds.

    ``window`` is "hour" or "day" where its bytes are used up, None where requests under way hold them.
    """

    until: float
    window: str | None


class Traffic:
    """The account of all hosts. Belongs to the thread that made it.

    Args:
        path: the SQLite file; made where there is none.
        requests_per_s: to one host, above 0.
        bytes_per_hour: from one host, at least 1.
        bytes_per_day: from one host, at least 1.

    Raises:
        InputError: if the file is no such account.
    """

    def __init__(self, path: Path, *, requests_per_s: float, bytes_per_hour: int, bytes_per_day: int) -> None:
        self._path = path
        self._owner = _owner(os.getpid())
        self._interval_s = 1 / requests_per_s
        self._limits = (("hour", HOUR_S, bytes_per_hour), ("day", DAY_S, bytes_per_day))
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors_told():
            self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            # A killed process harms nothing; to sync at each of two transactions per photograph would cost 20 ms. The
            # write-ahead log, which would do both, is not for file systems that several nodes share.
            self._database.execute("PRAGMA synchronous = OFF")
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            columns = {name for _, name, *_ in self._all("PRAGMA table_info(open)")}
            if "owner" not in columns:  # an account of an earlier version
                self._database.execute("ALTER TABLE open ADD COLUMN owner TEXT")
            oldest = _minute(time.time() - DAY_S)
            self._database.execute("DELETE FROM used WHERE minute < ?", (oldest,))
            self._database.execute("DELETE FROM open WHERE minute < ?", (oldest,))

    def reserve(self, host: str, url: str, size: int, now: float) -> Permit | Wait:
        """Ask for one request that brings at most ``size`` bytes; a size above a limit counts as the limit."""
        size = min([size, *(limit for _, _, limit in self._limits)])
        with self._transaction():
            self._settle_dead(host)
            for window, seconds, limit in self._limits:
                if wait := self._wait(host, size, now, window, seconds, limit):
                    return wait
            start = max(now, *(at for (at,) in self._all("SELECT at FROM next WHERE host = ?", host)), 0)
            self._database.execute("REPLACE INTO next VALUES (?, ?)", (host, start + self._interval_s))
            row = self._database.execute(
                "INSERT INTO open (host, url, minute, bytes, owner) VALUES (?, ?, ?, ?, ?)",
                (host, url, _minute(start), size, self._owner),
            )
            assert row.lastrowid is not None
            return Permit(row.lastrowid, start)

    def settle(self, permit: Permit, size: int, *, whole: bool) -> None:
        """A request is over and brought ``size`` bytes.

        Where it brought the ``whole`` photograph, requests for the same address that were never settled count as much.
        """
        with self._transaction():
            for host, url in self._all("SELECT host, url FROM open WHERE id = ?", permit.id):
                others = "host = ? AND url = ? AND id <= ?" if whole else "host = ? AND url = ? AND id = ?"
                for (minute,) in self._all(f"SELECT minute FROM open WHERE {others}", host, url, permit.id):
                    self._count(host, minute, size)
                self._database.execute(f"DELETE FROM open WHERE {others}", (host, url, permit.id))

    def used(self, host: str, seconds: float, now: float) -> int:
        """Bytes that a host gave in the last seconds, with those reserved."""
        return sum(size for _, size in self._minutes("used", host, seconds, now)) + sum(
            size for _, size in self._minutes("open", host, seconds, now)
        )

    def close(self) -> None:
        self._database.close()

    def _settle_dead(self, host: str) -> None:
        """Requests of processes of this machine that are no more hold no bytes back."""
        here = f"{socket.gethostname()} "
        others = self._all("SELECT DISTINCT owner FROM open WHERE host = ? AND owner <> ?", host, self._owner)
        for (owner,) in others:  # none of an account of an earlier version, whose owners are not told
            if not owner.startswith(here) or _owner(int(owner.split()[1])) == owner:
                continue
            query = "SELECT minute, bytes FROM open WHERE host = ? AND owner = ?"
            for minute, size in self._all(query, host, owner):
                self._count(host, minute, min(size, LEFT_BYTES))
            self._database.execute("DELETE FROM open WHERE host = ? AND owner = ?", (host, owner))

    def _count(self, host: str, minute: int, size: int) -> None:
        self._database.execute(
            "INSERT INTO used VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
            (host, minute, size),
        )

    def _wait(self, host: str, size: int, now: float, window: str, seconds: int, limit: int) -> Wait | None:
        used = self._minutes("used", host, seconds, now)
        over = sum(n for _, n in used) + size - limit
        until = now
        for minute, n in used:
            if over > 0:
                over -= n
                until = (minute + 1) * 60 + seconds
        if until > now:
            return Wait(until, window)
        held = sum(n for _, n in self._minutes("open", host, seconds, now))
        return Wait(now + LOOK_AGAIN_S, None) if over + held > 0 else None

    def _minutes(self, table: str, host: str, seconds: float, now: float) -> list[tuple[int, int]]:
        """Minutes of a window and their bytes, the oldest first; the minute that it begins in counts whole."""
        query = f"SELECT minute, bytes FROM {table} WHERE host = ? AND minute >= ? ORDER BY minute"
        return self._all(query, host, _minute(now - seconds))

    def _all(self, query: str, *values: object) -> list[tuple]:
        return self._database.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors_told():
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                yield

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self._path}: the account of bytes fetched can't be used ({error}); free the disk or delete the file"
            ) from None


def _minute(moment: float) -> int:
    return int(moment // 60)


def _owner(process: int) -> str:
    """Machine, process and when that process began, since numbers come again; no time where there is no process."""
    try:
        began = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        # where there is no /proc the process itself must still be found: its number alone stands for it
        began = "0" if not Path("/proc/self/stat").exists() and _alive(process) else ""
    return f"{socket.gethostname()} {process} {began}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
