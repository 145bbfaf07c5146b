"""Photographs over HTTP: a limited number at a time, tried again where that may help, within each host's limits."""

import asyncio
import errno
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import instar
from instar.files import traffic_account
from instar.images.spool import Row, Spool
from instar.images.traffic import Permit, Traffic, Wait

T = TypeVar("T")

#: Before the second try, seconds; doubled before each further one.
BACKOFF_S = 1.0
#: A host that asks by Retry-After for a longer pause is left alone for the rest of the run, seconds.
LONGEST_WAIT_S = 120.0
#: Between two looks at a used-up account, seconds: another job may have settled what it had reserved.
LOOK_S = 60.0
#: Longer than a request may take by this, seconds, a wait for those of other jobs is told.
HELD_S = 60.0
#: From one address to another, at most.
REDIRECTS = 5
#: Between two times that the disk is made to hold what was fetched, seconds.
SYNC_S = 5.0
USER_AGENT = f"instar/{instar.__version__} (biodiversity photographs for research)"
NO_CONNECTION = "no connection"


class NotFetchedError(Exception):
    """There is no photograph; ``str()`` is the reason. ``retryable`` where another try may go better.

    ``wait_s`` is how long the server asks to wait before it, ``size`` the bytes that came all the same.
    """

    def __init__(self, reason: str, *, retryable: bool = False, wait_s: float = 0.0, size: int = 0) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.wait_s = wait_s
        self.size = size


@dataclass(frozen=True)
class Limits:
    """What one run may ask for; the last four hold for each host and over all runs, but not for ``unlimited_hosts``."""

    connections: int
    timeout_s: float
    stall_s: float
    attempts: int
    max_bytes: int
    requests_per_s: float
    bytes_per_hour: int
    bytes_per_day: int
    unlimited_hosts: frozenset[str]


async def fetch_all(
    rows: list[Row], spool: Spool, limits: Limits, arrived: Callable[[Row, NotFetchedError | None], None]
) -> None:
    """Ask the network for the photographs that the spool lacks and put what it answers there.

    Args:
        rows: rows of ``tables.RECORDS`` with addresses that have a host.
        spool: gets photographs and final refusals; what may come at another time is not written.
        limits: of this run and of each host.
        arrived: called once for each row, with why there is no photograph or None.

    Raises:
        InputError: if the account of bytes can't be used.
        OSError: if the disk of the spool is full; checked before each request, so that nothing is fetched in vain.
    """

    async def work(todo: Iterator[Row], network: "Network") -> None:
        for row in todo:
            arrived(row, await _fetched(row, spool, network))

    async with Network(limits, spool) as network, asyncio.TaskGroup() as group:
        # each host has its own queue, so that one that pauses or is silent holds up no other
        hosts = [iter(host_rows) for host_rows in _by_host(rows)]
        workers = [group.create_task(work(todo, network)) for todo in hosts for _ in range(limits.connections)]
        syncing = group.create_task(_sync(spool))
        await asyncio.wait(workers)
        syncing.cancel()


async def _fetched(row: Row, spool: Spool, network: "Network") -> NotFetchedError | None:
    try:
        await network.fetch(row)
    except NotFetchedError as error:
        if not error.retryable:
            spool.add(row, b"", str(error))
        return error
    except OSError:
        await network.drained()
        raise
    return None


async def _sync(spool: Spool) -> None:
    while True:
        await asyncio.sleep(SYNC_S)
        await asyncio.to_thread(spool.sync)


def _by_host(rows: Iterable[Row]) -> list[list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(host_of(row["url"]), []).append(row)
    return list(found.values())


@lru_cache(1 << 14)  # each address is asked for its host again and again
def host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


class Network:
    """Fetches photographs; the one door to aiohttp."""

    def __init__(self, limits: Limits, spool: Spool) -> None:
        self._limits = limits
        self._spool = spool
        self._paused: dict[str, tuple[float, str]] = {}  # until when, in Unix time, and why
        self._under_way = 0
        self._full = False
        self._told: set[tuple[str, float]] = set()
        self._traffic: Traffic | None = None

    async def __aenter__(self) -> "Network":
        import aiohttp  # only here: a third of a second that the command line's help need not wait for

        self._http = aiohttp
        self._slots = asyncio.Semaphore(self._limits.connections)
        self._accountant = ThreadPoolExecutor(1)  # waits for other jobs without holding up the connections
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s, sock_read=self._limits.stall_s),
            # as many connections as slots, so that waiting for a slot takes none of the timeout
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=600),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,  # HTTPS_PROXY and NO_PROXY, as every other client on a cluster
            headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()
        if self._traffic:
            await self._account(self._traffic.close)
        self._accountant.shutdown()

    async def fetch(self, row: Row) -> None:
        """Fetch a photograph into the spool.

        Raises:
            NotFetchedError: if the last try failed, or one after which another makes no sense.
            OSError: if the disk is full.
        """
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return await self._follow(row)
            except NotFetchedError as error:
                if not error.retryable or attempt == self._limits.attempts or error.wait_s > LONGEST_WAIT_S:
                    raise
                # the jitter keeps many jobs from coming back at the same moment; it decides nothing but time
                await asyncio.sleep(BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("attempts is at least 1")

    async def drained(self) -> None:
        """Wait for the photographs that are under way: there is room for them, and they are not to be fetched again."""
        while self._under_way:
            await asyncio.sleep(0.05)

    async def _follow(self, row: Row) -> None:
        """Ask at the address, and where it redirects to; each host on the way within its limits."""
        url = row["url"]
        for _ in range(REDIRECTS + 1):
            location = await self._ask(url, row)
            if location is None:
                return
            try:
                url = urljoin(url, location)
            except ValueError:  # brackets that hold no address
                raise NotFetchedError("refused: address") from None
            if urlsplit(url).scheme not in ("http", "https"):
                raise NotFetchedError("refused: address")
        raise NotFetchedError("refused: redirects")

    async def _ask(self, url: str, row: Row) -> str | None:
        """One request; returns the address that it redirects to, None where the photograph came."""
        host = host_of(url)
        await self._pause(host)
        permit = None if host in self._limits.unlimited_hosts else await self._permit(host, url)
        size, whole = 0, False
        try:
            async with self._slots:
                location = await self._get(url, row)
            if location is None and (answer := self._spool.answer(row)):
                size, whole = answer.size, True
            return location
        except NotFetchedError as error:
            size = error.size
            if error.wait_s:
                self._paused[host] = max(self._paused.get(host, (0, "")), (time.time() + error.wait_s, str(error)))
            raise
        finally:
            if permit:
                assert self._traffic is not None
                settle = self._traffic.settle
                await asyncio.shield(self._account(lambda: settle(permit, size, whole=whole)))

    async def _get(self, url: str, row: Row) -> str | None:
        size = 0
        self._check_disk()
        self._under_way += 1
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status in (301, 302, 303, 307, 308) and "Location" in answer.headers:
                    return answer.headers["Location"]
                _check(answer.status, answer.headers.get("Retry-After"))
                if (answer.content_length or 0) > self._limits.max_bytes:
                    raise NotFetchedError("too large")
                parts = []
                while part := await answer.content.readany():
                    parts.append(part)
                    size += len(part)
                    if size > self._limits.max_bytes:
                        raise NotFetchedError("too large", size=size)
                # at once, before anything else can happen to this process
                self._spool.add(row, b"".join(parts))
                return None
        except self._http.SocketTimeoutError:
            raise NotFetchedError("stalled", retryable=True, size=size) from None
        except TimeoutError:
            raise NotFetchedError("timeout", retryable=True, size=size) from None
        except self._http.ClientPayloadError:
            raise NotFetchedError("truncated", retryable=True, size=size) from None
        except self._http.ClientConnectionError:
            raise NotFetchedError(NO_CONNECTION, retryable=True, size=size) from None
        except self._http.InvalidURL:
            raise NotFetchedError("refused: address") from None
        except (self._http.ClientError, ValueError):  # an answer that is no HTTP
            raise NotFetchedError("refused: answer", size=size) from None
        finally:
            self._under_way -= 1

    def _check_disk(self) -> None:
        """Room for all that is under way: what the disk can't take must not be fetched."""
        if self._full or self._spool.free_bytes() < (self._under_way + 1) * self._limits.max_bytes:
            self._full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._spool.path))

    async def _pause(self, host: str) -> None:
        """Wait as long as the host asked by Retry-After, whichever photograph it said it for."""
        while (wait_s := self._paused.get(host, (0, ""))[0] - time.time()) > 0:
            if wait_s > LONGEST_WAIT_S:
                raise NotFetchedError(self._paused[host][1], retryable=True, wait_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _permit(self, host: str, url: str) -> Permit:
        began = time.monotonic()
        while True:
            given = await self._account(
                lambda: self._open_account().reserve(host, url, self._limits.max_bytes, time.time())
            )
            if isinstance(given, Permit):
                await asyncio.sleep(max(0, given.start - time.time()))
                return given
            if given.window and (host, given.until) not in self._told:
                self._told.add((host, given.until))
                print(_message(host, given, self._limits), file=sys.stderr, flush=True)
            held = not given.window and time.monotonic() - began > self._limits.timeout_s + HELD_S
            if held and (host, 0.0) not in self._told:
                self._told.add((host, 0.0))
                print(_held_message(host), file=sys.stderr, flush=True)
            await asyncio.sleep(min(given.until - time.time(), LOOK_S))

    def _open_account(self) -> Traffic:
        if not self._traffic:
            self._traffic = Traffic(
                traffic_account(),
                requests_per_s=self._limits.requests_per_s,
                bytes_per_hour=self._limits.bytes_per_hour,
                bytes_per_day=self._limits.bytes_per_day,
            )
        return self._traffic

    async def _account(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._accountant, call)


def _message(host: str, wait: Wait, limits: Limits) -> str:
    size = limits.bytes_per_hour if wait.window == "hour" else limits.bytes_per_day
    until = datetime.fromtimestamp(wait.until, UTC)
    return (
        f"{host}: the {size / 1e9:g} GB of this {wait.window} are used up (images.gb_per_{wait.window}); "
        f"waiting until {until:%Y-%m-%d %H:%M} UTC"
    )


def _held_message(host: str) -> str:
    return (
        f"{host}: waiting for bytes that requests of other jobs hold, or of jobs killed on other machines, at most "
        f"for a day; where no other job runs, delete {traffic_account()}"
    )


def _check(status: int, retry_after: str | None) -> None:
    if status in (404, 410):
        raise NotFetchedError("missing")
    if status in (408, 425, 429) or status >= 500:
        raise NotFetchedError(f"refused: {status}", retryable=True, wait_s=_seconds(retry_after))
    if status != 200:
        raise NotFetchedError(f"refused: {status}")


def _seconds(retry_after: str | None) -> float:
    """How long a Retry-After header, seconds or a date, asks to wait; 0 where it does not say."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or a time zone beyond all others
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
