"""The stage ``images``: the photographs of a shard, fetched, checked and stored as they came."""

import asyncio
import errno
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from instar.decode import UndecodableError
from instar.errors import InputError
from instar.images.check import Photograph, photograph
from instar.images.disk import Disk
from instar.images.network import NO_CONNECTION, Limits, NotFetchedError, fetch_all, host_of
from instar.images.spool import FROM_NETWORK, Row, Spool, stands
from instar.progress import progress
from instar.shards import Member, ShardWriter, writing
from instar.tables import IMAGES, RECORDS, write_table

#: Pillow lets go of the interpreter's lock while it decodes.
DECODERS = 2

#: A wrong answer with status 200 looks like these too: a page that says "later", or a body that broke off.
PASSING = ("truncated", "empty file", "not an image")

#: So many photographs of one host say nothing of the network.
FEW = 20

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Read = Callable[[Row], bytes]
Found = Photograph | NotFetchedError


def images(
    records: Path,
    local: Path,
    mirror_root: Path,
    spool: Path,
    out: Path,
    out_tar: Path,
    *,
    shard: str,
    mirror: bool,
    connections: int,
    timeout_s: float,
    stall_s: float,
    attempts: int,
    max_photo_mb: float,
    requests_per_s: float,
    gb_per_hour: float,
    gb_per_day: float,
    unlimited_hosts: list[str],
) -> None:
    """Fetch the photographs of one shard, decode each of them and store those that are whole, byte for byte.

    A photograph that cannot be had or decoded is a row with the reason, ``retryable`` where a later run may get it; an
    empty file ``<out>.retry`` then tells the store not to keep this shard. Equal files are stored once.

    Args:
        records: ``records.parquet``.
        local: folder that a record's address is relative to where it has no host: one's own photographs.
        mirror_root: folder whose ``mirror/<host>/<path>`` is read instead of ``https://<host>/<path>``.
        spool: file that holds what the network has answered, written as it comes and read first; whoever has put the
            outputs in place links them into ``<spool>.kept``, which is read as well, and then deletes the spool or, if
            there is ``<out>.retry``, puts ``<spool>.rest`` in its place: what the linked shard does not answer.
        out: gets one row per record of the shard, ordered by key.
        out_tar: gets the photographs.
        shard: name of the shard.
        mirror: read ``mirror_root`` and not the network.
        connections: photographs fetched at the same time.
        timeout_s: for one try to fetch one photograph.
        stall_s: without a byte, after which a try has failed.
        attempts: tries for one photograph where the answer may get better.
        max_photo_mb: a larger photograph is refused, in 10⁶ bytes.
        requests_per_s: to one host, over all jobs.
        gb_per_hour: from one host, over all jobs, in 10⁹ bytes; the job waits when they are used up.
        gb_per_day: the same for a day.
        unlimited_hosts: hosts that the last three do not hold for.

    Raises:
        InputError: if one's own photograph has changed since its record was made, there is no mirror, not one server
            of the shard answers, or the disk is full.
    """
    rows = _rows(records, shard)
    max_bytes = int(max_photo_mb * 1e6)
    if mirror and not (mirror_root / "mirror").is_dir() and any("://" in row["url"] for row in rows):
        raise InputError(
            f"{mirror_root / 'mirror'}: no such folder; run the stage records or set images.mirror to false"
        )
    disk = Disk(local, mirror_root / "mirror" if mirror else None, max_bytes)
    limits = Limits(
        connections=connections,
        timeout_s=timeout_s,
        stall_s=stall_s,
        attempts=attempts,
        max_bytes=max_bytes,
        requests_per_s=requests_per_s,
        bytes_per_hour=int(gb_per_hour * 1e9),
        bytes_per_day=int(gb_per_day * 1e9),
        unlimited_hosts=frozenset(unlimited_hosts),
    )
    with _full_disk_told(out_tar), Spool(spool, max_bytes) as answers:
        found = _run(_gather(rows, disk, answers, limits))
        hosts = {host_of(row["url"]) for row in rows}
        silent = found and all(str(refusal) == NO_CONNECTION for refusal in found.values())
        # few photographs, all of one dead host, are rows that a later run may get
        if silent and (len(found) > FEW or len(hosts) > 1):
            raise InputError(
                f"{records}: not one server of shard {shard} answers; is there a network? "
                f"or set images.mirror to true to read {mirror_root / 'mirror'}"
            )
        with writing(out_tar) as tar:
            done = _stored(rows, found, _reader(disk, answers), tar)
            _check_complete(out, rows, done)
        write_table(out, done, IMAGES if mirror else IMAGES.with_metadata(FROM_NETWORK))
        _leave_to_later_runs(answers, done)
    if retryable := sum(bool(row["retryable"]) for row in done):
        out.with_name(f"{out.name}.retry").touch()
        print(
            f"shard {shard}: {retryable} photographs may come at another time; "
            "`snakemake --forcerun images` later tries them again, and only them",
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


@contextmanager
def _full_disk_told(out_tar: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"{error.filename or out_tar}: the disk is full ({error.strerror}); free some and start again, "
            "what was fetched is kept"
        ) from None


def _run(gathering: Coroutine[None, None, dict[str, Found]]) -> dict[str, Found]:
    """Run it; of several exceptions that one failure has brought up in tasks, raise the first."""
    try:
        return asyncio.run(_ending_with_sigterm(gathering))
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _ending_with_sigterm(gathering: Coroutine[None, None, dict[str, Found]]) -> dict[str, Found]:
    """What is under way is settled in the account of bytes when SLURM or `instar job` ends this, as it is on Ctrl-C."""
    task = asyncio.current_task()
    if task and threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await gathering


async def _gather(rows: list[Row], disk: Disk, spool: Spool, limits: Limits) -> dict[str, Found]:
    """Fetch what is neither on a disk nor in the spool, and check everything as it arrives; by key."""
    loop = asyncio.get_running_loop()
    results: asyncio.Queue[tuple[Row, Found | asyncio.Future[Found]]] = asyncio.Queue()
    pool = ThreadPoolExecutor(DECODERS)
    read = _reader(disk, spool)

    def arrived(row: Row, refusal: NotFetchedError | None) -> None:
        if refusal:
            results.put_nowait((row, refusal))
            return
        # the bytes are read again from the spool, so that those that wait for a decoder take no memory
        checking = loop.run_in_executor(pool, _checked, row, read, not disk.holds(row))
        checking.add_done_callback(lambda done: results.put_nowait((row, done)))

    here = [disk.holds(row) or spool.answer(row) is not None for row in rows]
    found: dict[str, Found] = {}
    refused: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            if missing := [row for row, is_here in zip(rows, here, strict=True) if not is_here]:
                group.create_task(fetch_all(missing, spool, limits, arrived))
            for row, is_here in zip(rows, here, strict=True):
                if is_here:
                    arrived(row, None)
            for _ in progress(rows, "photographs", len(rows), note=lambda: f"{len(refused)} refused"):
                row, result = await results.get()
                found[row["key"]] = result if isinstance(result, Found) else result.result()
                if isinstance(found[row["key"]], NotFetchedError):
                    refused.append(row["key"])
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _reader(disk: Disk, spool: Spool) -> Read:
    """Reads the bytes of a photograph that lies on a disk or in the spool; raises NotFetchedError where none do."""

    def read(row: Row) -> bytes:
        if disk.holds(row):
            return disk.read(row)
        answer = spool.answer(row)
        assert answer is not None
        if answer.reason is not None:
            raise NotFetchedError(answer.reason)
        return spool.read(answer)

    return read


def _checked(row: Row, read: Read, from_network: bool) -> Found:
    try:
        found = photograph(read(row))
    except NotFetchedError as error:
        return error
    except UndecodableError as error:
        return NotFetchedError(str(error), retryable=from_network and str(error) in PASSING)
    return found if row["sha256"] in (None, found.sha256) else NotFetchedError("other bytes than recorded")


def _stored(rows: list[Row], found: dict[str, Found], read: Read, tar: ShardWriter) -> list[Row]:
    """Store the photographs by key, each file once, whoever answered first; returns rows of ``tables.IMAGES``."""
    done = []
    members: dict[str, Member] = {}
    for row in progress(rows, "stored", len(rows)):
        photo = found[row["key"]]
        if isinstance(photo, NotFetchedError):
            done.append({**row, "sha256": None, "reason": str(photo), "retryable": photo.retryable})
            continue
        if photo.sha256 not in members:
            members[photo.sha256] = tar.add(f"{row['key']}.{photo.ending}", read(row))
        member = members[photo.sha256]
        if member.sha256 != photo.sha256:
            raise InputError(f"{row['key']}: its file changed while it was read; start the stage again")
        place = {"offset": member.offset, "size": member.size, "sha256": member.sha256}
        size = {"phash": photo.phash, "width": photo.width, "height": photo.height}
        done.append({**row, **place, **size, "reason": None, "retryable": None})
    return done


def _leave_to_later_runs(answers: Spool, done: list[Row]) -> None:
    """Forget the bytes that another try may better, and write down what the stored shard will not answer."""
    for row in done:
        if row["retryable"]:
            answers.forget(row)
    answers.leave([row for row in done if row["reason"] and not row["retryable"] and not stands(row)])


def _check_complete(out: Path, rows: list[Row], done: list[Row]) -> None:
    if other := {row["key"] for row in rows} ^ {row["key"] for row in done}:
        raise RuntimeError(f"{out}: {len(other)} photographs are not both given and written, such as {min(other)}")
