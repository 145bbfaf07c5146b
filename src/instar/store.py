"""Jobs that leave whole outputs or none, and a store that keeps what finished jobs of scattered stages made.

A job's outputs are written to a staging folder and put in place by renames, and only while the run that started the
job is still the workspace's current one: a job that outlived its run never writes over the next run's files.

The store is keyed by content. Its key is the command, with the outputs as placeholders, and path and sha256 of every
input, source modules and lock file included: no times, and nothing of what DVC or Snakemake believe. So an entry is
right wherever its key matches, and entries may be deleted at any time.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from instar.errors import InputError
from instar.files import naming_full_disk, remove, replacing, sha256_of, store_root

STATE = Path(".instar")
RUN_FILE = STATE / "run"
RUN_VARIABLE = "INSTAR_RUN"
#: Is there once a run was told that it can't link.
UNLINKED = STATE / "unlinked"
LOCK_FILE = Path("envs/requirements.lock")


class SupersededError(InputError):
    """The run that started this job is not the workspace's current one."""


def run_job(
    command: list[str],
    inputs: list[Path],
    outputs: list[Path],
    *,
    log: Path,
    keep: bool,
    scratch: Path | None = None,
) -> int:
    """Run a command that writes ``outputs``, or bring them from the store.

    Args:
        command: the words; every output must be one of them, and is replaced by its place in the staging folder.
        inputs: every file and folder that the command reads.
        outputs: files or folders that the command writes.
        log: gets what the command prints; it goes to standard error as well.
        keep: take the outputs from the store if they are there, and put them there if not.
        scratch: what the command keeps for its next run if it is stopped; deleted when the outputs are in place. The
            outputs, which must be files then, are hard-linked into the folder ``<scratch>.kept``: the next run of the
            command finds them there when code, parameters or inputs have changed and the outputs are deleted. An empty
            file ``<output>.retry`` beside one of them says that a later run may get more: then they are not kept in
            the store, and ``<scratch>.rest``, which the command may have written, takes the place of ``scratch``; if
            they can't be linked, ``scratch`` stays.

    Returns:
        The command's exit status, 0 if the outputs came from the store.

    Raises:
        InputError: if an output is no word of the command or was not written, if an input is missing or changed
            while the command ran, if the disk is full, or if the run was superseded; nothing is placed or kept then.
    """
    for path in outputs:
        if str(path) not in command:
            raise InputError(f"{path}: is no argument of its own in: {' '.join(command)}")
    _check_current()
    before = _looks(inputs)
    key = _key(command, _contents(inputs) if keep else {}, outputs)
    log.parent.mkdir(parents=True, exist_ok=True)
    if keep and _restore(key, outputs, scratch):
        log.write_text(f"finished before, taken from the store: {key}\n", encoding="utf-8")
        print(f"{log.parent.name}/{log.stem}: finished before, taken from the store", file=sys.stderr)
        _note(outputs, key, "restored")
        if scratch:
            _discard(scratch)
        return 0
    with _staging(outputs) as staged:
        # noted before it starts, so that a killed computation counts as well
        _note(outputs, key, "computed")
        status = _run([str(staged.get(Path(word), word)) for word in command], log)
        if status:
            return status
        for path, place in staged.items():
            if not place.exists():
                raise InputError(f"{path}: was not written by: {' '.join(command)}")
        if changed := [path for path, look in _looks(inputs).items() if look != before[path]]:
            raise InputError(f"{changed[0]}: changed while a job read it; start the run again")
        final = not any(place.with_name(f"{place.name}.retry").exists() for place in staged.values())
        if keep and final:
            _keep(key, outputs, staged)
        linked = _place_all(staged, scratch)
    if scratch and final:
        _discard(scratch)
    elif scratch and linked:
        _shrink(scratch)
    return 0


def _rest(scratch: Path) -> Path:
    return scratch.with_name(f"{scratch.name}.rest")


def _discard(scratch: Path) -> None:
    remove(scratch)
    remove(_rest(scratch))


def _shrink(scratch: Path) -> None:
    """The linked outputs answer for most of it: keep the rest."""
    try:
        _rest(scratch).replace(scratch)
    except FileNotFoundError:
        remove(scratch)


def begin_run() -> str:
    """Make a new run the workspace's current one and return its id; jobs of earlier runs place nothing from now on."""
    run = uuid.uuid4().hex
    STATE.mkdir(exist_ok=True)
    with RUN_FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(run)
    UNLINKED.unlink(missing_ok=True)
    return run


def sweep(days: float = 7) -> None:
    """Delete what killed jobs left in the staging folder; no job runs as long as that."""
    for folder in (STATE / "staging").glob("*"):
        if _unused(folder, days):
            shutil.rmtree(folder, ignore_errors=True)


def prune(days: float) -> tuple[int, int]:
    """Delete what the store keeps of finished jobs, and this folder's kept shards and spools of photographs, if unused.

    A kept shard is a second name of its files, which spares fetching them again when code or parameters change. As long
    as data/ has them as well it takes no space and stays. So to free the space of a study: delete its data, then prune.
    A spool holds what a stopped job had fetched.

    Args:
        days: an entry, a shard or a spool that was used within them stays, and a shard that data/ still has.

    Returns:
        How many entries of the store were deleted and how many stay.
    """
    deleted = kept = 0
    for entry in store_root().glob("??/*"):
        if _unused(entry, days):
            shutil.rmtree(entry, ignore_errors=True)
            deleted += 1
        else:
            kept += 1
    print(f"{store_root()}: {deleted} entries deleted, {kept} kept")
    _prune_kept_shards(days)
    _prune_spools(days)
    return deleted, kept


def _prune_kept_shards(days: float) -> None:
    deleted = kept = free = 0
    with _placing() if STATE.is_dir() else nullcontext():  # a job that ends meanwhile renews its shard
        for shard in STATE.glob("spool/*/*.kept"):
            if any(file.stat().st_nlink > 1 for file in shard.iterdir()):
                free += 1
            elif _unused(shard, days):
                shutil.rmtree(shard, ignore_errors=True)
                deleted += 1
            else:
                kept += 1
    where = STATE / "spool"
    print(f"{where}: {deleted} kept shards of photographs deleted, {kept} kept, {free} kept that data/ has as well")


def _prune_spools(days: float) -> None:
    deleted = kept = 0
    for spool in STATE.glob("spool/*/*"):
        if not spool.is_file():
            continue
        if _unused(spool, days) and _deleted(spool):
            deleted += 1
        else:
            kept += 1
    print(f"{STATE / 'spool' / '*'}: {deleted} spools of stopped or incomplete jobs deleted, {kept} kept")


def _deleted(spool: Path) -> bool:
    """Delete a spool that no job holds; one that another process has just deleted counts as well."""
    with suppress(FileNotFoundError), spool.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        spool.unlink(missing_ok=True)
    return True


def _unused(folder: Path, days: float) -> bool:
    """Whether a folder is older than that; one that another process has just deleted is not."""
    try:
        return folder.stat().st_mtime < time.time() - days * 86400
    except FileNotFoundError:
        return False


def _check_current() -> None:
    mine = os.environ.get(RUN_VARIABLE)
    if mine and RUN_FILE.is_file() and RUN_FILE.read_text() != mine:
        raise SupersededError("a newer run has started in this folder; this job's outputs are not placed")


@contextmanager
def _placing() -> Iterator[None]:
    """While outputs are renamed into place no new run can begin, and none has begun since the job's own.

    Nor does another job place its own then: of two that were started by hand for one shard, one's tar would lie beside
    the other's index.
    """
    STATE.mkdir(exist_ok=True)
    with RUN_FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _check_current()
        yield


@contextmanager
def _staging(outputs: list[Path]) -> Iterator[dict[Path, Path]]:
    """A fresh folder with a place for each output, removed at the end."""
    folder = STATE / "staging" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        places = {}
        for index, path in enumerate(outputs):
            (folder / str(index)).mkdir()
            places[path] = folder / str(index) / path.name
        yield places
    finally:
        remove(folder)


def _run(command: list[str], log: Path) -> int:
    """Run the command; what it prints goes to its log, and to standard error behind the log's name."""
    name = f"{log.parent.name}/{log.stem}: ".encode()
    with (
        naming_full_disk(log),
        log.open("wb") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                # first, since the line may say that the disk is full, which the log is on as well
                sys.stderr.buffer.write(name + line)
                sys.stderr.buffer.flush()
                file.write(line)
                file.flush()
        except BaseException:
            process.terminate()
            # until it ends, since what it prints as it writes its last checkpoint would break it with nobody to read
            for line in process.stdout:
                file.write(line)
            raise
        return process.wait()


def _looks(inputs: list[Path]) -> dict[str, list[tuple[str, int, int]]]:
    """Name, size and time of every file of each input: whether one was written to, without reading terabytes again."""
    found = {}
    for path in [*inputs, *filter(Path.exists, [LOCK_FILE])]:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        try:
            stats = [(str(file), file.stat()) for file in files]
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename}: an input of this job is missing; run the stage that writes it"
            ) from None
        found[path.as_posix()] = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return found


def _contents(inputs: list[Path]) -> dict[str, str]:
    """sha256 of each input and of the lock file."""
    return {path.as_posix(): sha256_of(path) for path in [*inputs, LOCK_FILE] if path.exists()}


def _key(command: list[str], inputs: dict[str, str], outputs: list[Path]) -> str:
    places = {str(path): f"{{output {index}}}" for index, path in enumerate(outputs)}
    text = json.dumps([[places.get(word, word) for word in command], inputs, [path.name for path in outputs]])
    return hashlib.sha256(text.encode()).hexdigest()


def _entry(key: str) -> Path:
    return store_root() / key[:2] / key


def _keep(key: str, outputs: list[Path], staged: dict[Path, Path]) -> None:
    """Copy outputs into the store; the entry appears by one rename and carries their checksums.

    A store that is full or not to be written costs the entry, not the job.
    """
    entry = _entry(key)
    temporary = entry.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for index, path in enumerate(staged.values()):
            _copy(path, temporary / str(index))
        checksums = [sha256_of(temporary / str(index)) for index in range(len(staged))]
        (temporary / "sha256.json").write_text(json.dumps(checksums))
        if not entry.exists():
            temporary.rename(entry)
        _note(outputs, key, "kept")
    except (OSError, subprocess.CalledProcessError) as error:
        if not entry.exists():  # else another job of the same key was faster
            print(f"{store_root()}: could not keep {outputs[0]} ({error}); set INSTAR_STORE", file=sys.stderr)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _restore(key: str, outputs: list[Path], scratch: Path | None) -> bool:
    """Place a whole, undamaged entry; a damaged one is deleted and counts as none."""
    entry = _entry(key)
    if not entry.is_dir():
        return False
    try:
        checksums = json.loads((entry / "sha256.json").read_text())
        whole = [sha256_of(entry / str(index)) for index in range(len(outputs))] == checksums
    except (OSError, ValueError):
        whole = False
    if not whole:
        print(f"{entry}: damaged, deleted; computing again", file=sys.stderr)
        shutil.rmtree(entry, ignore_errors=True)
        return False
    with _staging(outputs) as staged:
        try:
            os.utime(entry)
            for index, place in enumerate(staged.values()):
                _copy(entry / str(index), place)
            if [sha256_of(place) for place in staged.values()] != checksums:
                return False
        except (OSError, subprocess.CalledProcessError):  # pruned meanwhile
            return False
        _place_all(staged, scratch)
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder; on a file system that can, the copy shares the blocks until one is written to."""
    subprocess.run(["cp", "--recursive", "--reflink=auto", "--", str(source), str(target)], check=True)


def _place_all(staged: dict[Path, Path], scratch: Path | None) -> bool:
    """Rename outputs into place; returns whether they are linked into ``<scratch>.kept``."""
    with _placing():
        for path, place in staged.items():
            with replacing(path) as temporary:
                shutil.move(place, temporary)
        return _link(scratch, list(staged)) if scratch else False


def _link(scratch: Path, outputs: list[Path]) -> bool:
    """Hard-link outputs into ``<scratch>.kept``, whose time is that of its last use; costs no space while they stand.

    Where that is impossible nothing is lost but the next run's time, so it is told, once in a run, and passed over.
    """
    kept = scratch.with_name(f"{scratch.name}.kept")
    try:
        for killed in kept.parent.glob(f".{kept.name}.part-*"):
            remove(killed)
        with replacing(kept) as folder:
            folder.mkdir()
            for path in outputs:
                os.link(path, folder / path.name)
        return True
    except (OSError, InputError) as error:
        with suppress(FileExistsError):
            UNLINKED.touch(exist_ok=False)
            print(
                f"{kept}: can't link {outputs[0].parent} there ({error}), so that changed code or parameters have its "
                f"files fetched again; let {STATE} and data lie on one file system that has hard links",
                file=sys.stderr,
            )
        return False


def _note(outputs: list[Path], key: str, what: str) -> None:
    """One line in .instar/jobs.jsonl: what began to be computed, what the store kept, what was taken from it."""
    append_line(STATE / "jobs.jsonl", {"outputs": [path.as_posix() for path in outputs], "key": key, "what": what})


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add a line of JSON to a file, by one write, so that lines of jobs that end at once do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(content) + "\n").encode())
    finally:
        os.close(descriptor)
