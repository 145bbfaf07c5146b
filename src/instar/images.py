"""The stage ``images``: the photographs of a shard, fetched, checked and stored as they came."""

import asyncio
import hashlib
import io
import random
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import instar
from instar.decode import UndecodableError, decode_upright
from instar.errors import InputError
from instar.progress import progress
from instar.shards import ShardWriter, writing
from instar.tables import IMAGES, RECORDS, write_table

#: Pillow lets go of the interpreter's lock while it decodes.
DECODERS = 2
#: Before the second try, seconds; doubled before each further one.
BACKOFF_S = 1.0
#: No wait between two tries is longer, whatever Retry-After asks for.
LONGEST_WAIT_S = 120.0
USER_AGENT = f"instar/{instar.__version__} (biodiversity photographs for research)"

_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
_NO_CONNECTION = "no connection"

Row = dict[str, Any]
Fetch = Callable[[Row], Awaitable[bytes]]


class NotFetchedError(Exception):
    """There is no photograph; ``str()`` is the reason. ``wait_s`` is not None where another try may go better."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Photograph:
    """The bytes of a photograph and what decoding them gave: the upright size in pixels and the format's ending."""

    data: bytes
    width: int
    height: int
    ending: str


def images(
    records: Path,
    local: Path,
    mirror_root: Path,
    out: Path,
    out_tar: Path,
    *,
    shard: str,
    mirror: bool,
    connections: int,
    timeout_s: float,
    attempts: int,
    max_photo_mb: float,
) -> None:
    """Fetch the photographs of one shard, decode each of them and store those that are whole, byte for byte.

    A photograph that cannot be had or decoded is a row with the reason. Where a later run may get one, an empty file
    ``<out>.retry`` tells the store not to keep this shard.

    Args:
        records: ``records.parquet``.
        local: folder that a record's address is relative to where it has no host: one's own photographs.
        mirror_root: folder whose ``mirror/<host>/<path>`` is read instead of ``https://<host>/<path>``.
        out: gets one row per record of the shard, ordered by key.
        out_tar: gets the photographs.
        shard: name of the shard.
        mirror: read ``mirror_root`` and not the network.
        connections: photographs fetched at the same time.
        timeout_s: for one try to fetch one photograph.
        attempts: tries for one photograph where the answer may get better.
        max_photo_mb: a larger photograph is refused, in 10⁶ bytes.

    Raises:
        InputError: if one's own photograph has changed since its record was made, there is no mirror, or not one server
            of the shard answers.
    """
    rows = _rows(records, shard)
    limit = int(max_photo_mb * 1e6)
    if mirror and not (mirror_root / "mirror").is_dir() and any("://" in row["url"] for row in rows):
        raise InputError(
            f"{mirror_root / 'mirror'}: no such folder; run the stage records or set images.mirror to false"
        )
    disk = _Disk(local, mirror_root / "mirror" if mirror else None, limit)
    network = _Network(connections, timeout_s, attempts, limit)
    with writing(out_tar) as tar:
        done = asyncio.run(_all(rows, disk, network, tar, ahead=2 * connections))
        if other := {row["key"] for row in rows} ^ {row["key"] for row in done}:
            raise RuntimeError(f"{out}: {len(other)} photographs are not both given and written, such as {min(other)}")
        if done and all(row["reason"] == _NO_CONNECTION for row in done):
            raise InputError(
                f"{records}: not one server of shard {shard} answers; is there a network? else set images.mirror"
            )
    write_table(out, done, IMAGES)
    if network.retryable:
        out.with_name(f"{out.name}.retry").touch()
        print(
            f"shard {shard}: {network.retryable} photographs may come at another time; "
            "`snakemake --forcerun images` later tries them again",
            file=sys.stderr,
        )


def _rows(records: Path, shard: str) -> list[Row]:
    """The records of a shard by key; records of other shards are hardly read, since each shard's stand together."""
    if not records.is_file():
        raise InputError(f"{records}: no such table; run the stage records")
    try:
        table = pq.read_table(records, columns=RECORDS.names, filters=[("shard", "==", shard)])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{records}: not a table of records ({error}); delete it and run the stage records") from None
    rows: list[Row] = table.cast(RECORDS).sort_by("key").to_pylist()
    return rows


async def _all(rows: list[Row], disk: "_Disk", network: "_Network", tar: ShardWriter, *, ahead: int) -> list[Row]:
    """Fetch, check and store all rows, as rows of ``tables.IMAGES``."""
    done = []
    async with network:
        with ThreadPoolExecutor(DECODERS) as pool:

            async def fetch(row: Row) -> bytes:
                if "://" in row["url"] and disk.mirror is None:
                    return await network.fetch(row)
                return await asyncio.get_running_loop().run_in_executor(pool, disk.fetch, row)

            async with aclosing(_in_order(rows, fetch, pool, ahead)) as stream:
                for row in progress(rows, "photographs", len(rows)):
                    done.append(_stored(row, await anext(stream), tar))
    return done


async def _in_order(
    rows: list[Row], fetch: Fetch, pool: ThreadPoolExecutor, ahead: int
) -> AsyncGenerator[Photograph | str, None]:
    """Photographs or reasons in the order of the rows, while up to ``ahead`` of the next ones are on their way."""
    waiting: deque[asyncio.Task[Photograph | str]] = deque()
    todo = iter(rows)
    try:
        while True:
            while len(waiting) < ahead and (row := next(todo, None)) is not None:
                waiting.append(asyncio.create_task(_photograph(row, fetch, pool)))
            if not waiting:
                return
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _photograph(row: Row, fetch: Fetch, pool: ThreadPoolExecutor) -> Photograph | str:
    try:
        data = await fetch(row)
        photograph = await asyncio.get_running_loop().run_in_executor(pool, _decoded, data)
    except (NotFetchedError, UndecodableError) as error:
        return str(error)
    if row["sha256"] and hashlib.sha256(data).hexdigest() != row["sha256"]:
        return "other bytes than recorded"
    return photograph


def _decoded(data: bytes) -> Photograph:
    height, width = decode_upright(data).shape[:2]
    with Image.open(io.BytesIO(data)) as image:
        kind = str(image.format)
    return Photograph(data, width, height, _ENDINGS.get(kind, kind.lower()))


def _stored(row: Row, found: Photograph | str, tar: ShardWriter) -> Row:
    """A row of ``tables.IMAGES``."""
    if isinstance(found, str):
        nothing = dict.fromkeys(("offset", "size", "sha256", "width", "height"))
        return {**row, **nothing, "reason": found}
    member = tar.add(f"{row['key']}.{found.ending}", found.data)
    place = {"offset": member.offset, "size": member.size, "sha256": member.sha256}
    return {**row, **place, "width": found.width, "height": found.height, "reason": None}


class _Disk:
    """Photographs of one's own, and those of a mirror."""

    def __init__(self, local: Path, mirror: Path | None, limit: int) -> None:
        self.local = local
        self.mirror = mirror
        self._limit = limit

    def fetch(self, row: Row) -> bytes:
        """The bytes of a photograph.

        Raises:
            NotFetchedError: if there is none or it is too large.
            InputError: if one's own photograph has other bytes than recorded.
        """
        own = "://" not in row["url"]
        parts = urlsplit(row["url"])
        root = self.local if own or self.mirror is None else self.mirror
        path = root / (row["url"] if own else f"{parts.netloc}{unquote(parts.path)}")
        if not path.resolve().is_relative_to(root.resolve()):
            raise NotFetchedError("refused: address")
        if not path.is_file():
            raise NotFetchedError("missing")
        if path.stat().st_size > self._limit:
            raise NotFetchedError("too large")
        data = path.read_bytes()
        if own and hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise InputError(f"{path}: changed since records.parquet was written; run the stage records again")
        return data


class _Network:
    """Fetches photographs over HTTP, a limited number at a time, and tries again where that may help.

    Attributes:
        retryable: photographs whose last try failed in a way that may pass.
    """

    def __init__(self, connections: int, timeout_s: float, attempts: int, limit: int) -> None:
        self._connections = connections
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._limit = limit
        self.retryable = 0

    async def __aenter__(self) -> "_Network":
        import aiohttp  # only here: a third of a second that the command line's help need not wait for

        self._http = aiohttp
        self._slots = asyncio.Semaphore(self._connections)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            connector=aiohttp.TCPConnector(limit=0),  # by the slots, so that waiting for one takes none of the timeout
            headers={"User-Agent": USER_AGENT, "Accept": "image/*"},
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def fetch(self, row: Row) -> bytes:
        """The bytes of a photograph.

        Raises:
            NotFetchedError: if the last try failed, or one after which another makes no sense.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                async with self._slots:
                    return await self._get(row["url"])
            except NotFetchedError as error:
                if error.wait_s is None:
                    raise
                if attempt == self._attempts:
                    self.retryable += 1
                    raise
                # the jitter keeps many jobs from coming back at the same moment; it decides nothing but time
                backoff_s = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                await asyncio.sleep(min(max(error.wait_s, backoff_s), LONGEST_WAIT_S))
        raise AssertionError("attempts is at least 1")

    async def _get(self, url: str) -> bytes:
        data = bytearray()
        try:
            async with self._session.get(url) as answer:
                _check(answer.status, answer.headers.get("Retry-After"))
                if (answer.content_length or 0) > self._limit:
                    raise NotFetchedError("too large")
                async for chunk in answer.content.iter_chunked(1 << 16):
                    data += chunk
                    if len(data) > self._limit:
                        raise NotFetchedError("too large")
        except TimeoutError:
            raise NotFetchedError("timeout", 0) from None
        except self._http.ClientPayloadError:
            raise NotFetchedError("truncated", 0) from None
        except self._http.ClientConnectionError:
            raise NotFetchedError(_NO_CONNECTION, 0) from None
        except (self._http.ClientError, ValueError):  # a redirect in circles, an answer that is no HTTP, no address
            raise NotFetchedError("refused: answer") from None
        return bytes(data)


def _check(status: int, retry_after: str | None) -> None:
    if status in (404, 410):
        raise NotFetchedError("missing")
    if status in (408, 425, 429) or status >= 500:
        raise NotFetchedError(f"refused: {status}", _seconds(retry_after))
    if status != 200:
        raise NotFetchedError(f"refused: {status}")


def _seconds(retry_after: str | None) -> float:
    """How long a Retry-After header, seconds or a date, asks to wait; 0 where it does not say."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
