"""Running Snakemake and DVC in one workspace: the lock, the run's id, file times, one stage for ``dvc repro``."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from instar import dag
from instar.errors import InputError
from instar.files import remove, write_json
from instar.store import RUN_FILE, RUN_VARIABLE, STATE, begin_run, sweep

_DVC_LOCK = Path("dvc.lock")
_SETTLED = STATE / "settled"
_SETTLING_VARIABLE = "INSTAR_SETTLING"
_DVC = [sys.executable, "-m", "dvc"]
_held: list[Any] = []


def run(stage: str) -> int:
    """Run one stage through Snakemake, from scratch: what each command of dvc.yaml does.

    Reads the stage's inputs below data/<study> and writes its outputs there. The stage's earlier outputs are removed
    first, as DVC does, since file times tell nothing after a pull; finished shards come back from the store. Cores and
    cluster are Snakemake's to know: set SNAKEMAKE_PROFILE, for example to workflow/profiles/slurm.

    Args:
        stage: name of a stage of dvc.yaml.

    Returns:
        Snakemake's exit status.

    Raises:
        InputError: if params.yaml is not valid, the study has no such stage, or another run works in this folder.
    """
    graph = dag.read()
    if stage not in graph.stages:
        raise InputError(f"{stage}: not a stage of study {graph.params.study}; it has {', '.join(graph.stages)}")
    begin(graph)
    for path in graph.stages[stage].products:
        remove(Path(path))
    rules = [stage, *(["tally"] if graph.stages[stage].scatter else []), f"stage_{stage}"]
    return _snakemake("--allowed-rules", *rules, "--", f"stage_{stage}").returncode


def sync() -> int:
    """Bring the outputs of dvc.lock from the DVC remote, and tell Snakemake that nothing is to be done.

    Reads dvc.lock and the remote, writes data/<study>. The same holds for `dvc pull` or `dvc checkout` by hand: the
    next Snakemake start sees it.

    Returns:
        Exit status: 0 when both tools have nothing to do, 1 when data and dvc.lock differ.
    """
    if status := subprocess.run([*_DVC, "pull"]).returncode:
        return status
    if settle():
        print("instar sync: data, parameters and sources are those of dvc.lock; nothing is to be done")
        return 0
    print("instar sync: something differs from dvc.lock; 'dvc status' says what, 'snakemake -n all' what would run")
    return 1


def record() -> int:
    """Record in dvc.lock and in DVC's cache what `snakemake all` made; runs nothing.

    A bare `dvc commit --force` believes that the data were made from the parameters and sources as they are now. Here
    Snakemake is asked first.

    Returns:
        DVC's exit status.

    Raises:
        InputError: if Snakemake would run something, so that data and parameters do not belong together.
    """
    graph = dag.read()
    check_made(graph, "all")
    status = subprocess.run([*_DVC, "commit", "--force"], stdout=subprocess.DEVNULL).returncode
    # DVC has put links to its cache in the files' places, so their times say nothing any more. The next Snakemake start
    # would mend that, but not once a parameter is changed before it.
    _held.pop().close()  # Snakemake takes the workspace itself
    settle()
    return status


def check_made(graph: dag.Dag, *targets: str) -> None:
    """Take the workspace, and refuse to go on with what was made from other parameters, sources or code.

    Args:
        graph: of the study.
        targets: of the Snakefile; ``stage_<stage>`` are the outputs of a stage.

    Raises:
        InputError: if Snakemake would run something for a target, or another run holds the workspace.
    """
    settle()
    take()
    due = _snakemake("--dry-run", "--", *targets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if due.returncode or b"Nothing to be done" not in due.stdout:
        raise InputError(
            f"study {graph.params.study}: something is due; run 'snakemake all' first ('snakemake -n' lists it)"
        )


def begin(graph: dag.Dag) -> None:
    """Take the workspace for this process until it ends, make it the current run and delete shards of no parameter.

    Raises:
        InputError: if another run holds the workspace.
    """
    if os.environ.get(RUN_VARIABLE):  # a Snakemake that `instar run` started: its parent holds the lock
        return
    take()
    _hold_dvc()
    os.environ[RUN_VARIABLE] = begin_run()
    sweep()
    for path in graph.orphans():
        print(f"instar: {path} belongs to no shard in params.yaml, deleted", file=sys.stderr)
        remove(path)
    spools = STATE / "spool" / graph.params.study
    if left := [kept for kept in spools.glob("*.kept") if kept.stem not in graph.params.shards]:
        print(
            f"instar: {spools} keeps the photographs of {len(left)} shards that are not in params.yaml; "
            "'instar prune' frees their space",
            file=sys.stderr,
        )


def tell_errors(graph: dag.Dag) -> None:
    """Say again, behind all that Snakemake tells of a failed job, what the jobs of this run ended with."""
    logs = Path("logs") / graph.params.study
    began = RUN_FILE.stat().st_mtime if RUN_FILE.is_file() else 0.0
    for log in sorted(log for log in logs.rglob("*.log") if log.stat().st_mtime >= began):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines and lines[-1].startswith("instar "):
            print(lines[-1], file=sys.stderr)


def tell_dropped(graph: dag.Dag) -> None:
    """Say, behind all that Snakemake tells, which photographs this run could not have, which is no error."""
    from instar.tables import IMAGES, read_table  # only here, since every job loads this module

    path = Path(graph.stages["images"].metrics[0])
    began = RUN_FILE.stat().st_mtime if RUN_FILE.is_file() else 0.0
    # snakemake --touch dates files anew, and those of a folder that was never run are empty
    if not path.is_file() or path.stat().st_mtime < began or not path.stat().st_size:
        return
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in rows["dropped"].items())
    told = f"images: {sum(rows['dropped'].values()):,} of {rows['in']:,} photographs are left out ({reasons})"
    for shard in graph.params.shards if rows["dropped"] else []:
        table = read_table(Path(graph.stages["images"].outs[0]) / f"{shard}.parquet", IMAGES)
        if dropped := table.filter(table["reason"].is_valid())["key"].to_pylist():
            print(f"{told}, such as {dropped[0]}", file=sys.stderr)
            return


def prefer_own_tools() -> None:
    """Put this interpreter's tools first on the PATH: jobs find `instar` also where no environment was activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def take() -> None:
    """Lock the workspace until this process ends.

    Raises:
        InputError: if another run holds it.
    """
    STATE.mkdir(exist_ok=True)
    file = (STATE / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read() or "unknown"
        raise InputError(f"another run works in this folder (process {holder}); wait for it or end it") from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    _held.append(file)  # the kernel frees the lock when this process ends, however it ends


def _hold_dvc() -> None:
    """Hold DVC's own lock as well: `dvc repro` deletes a stage's outputs before it runs the command that would ask us.

    DVC lets go of it while a stage's command runs, so `instar run` gets it too.
    """
    if not Path(".dvc").is_dir():
        return
    from zc.lockfile import LockError, LockFile

    Path(".dvc/tmp").mkdir(exist_ok=True)
    try:
        _held.append(LockFile(".dvc/tmp/lock"))
    except LockError:
        raise InputError("a DVC command works in this folder; wait for it or end it") from None


def settle() -> bool:
    """Make Snakemake believe what DVC proves: if data, parameters and sources are those of dvc.lock, touch all outputs.

    Snakemake goes by file times, and those are random after `git clone`, `dvc pull` or `dvc checkout`. DVC compares
    contents, so a clean `dvc status` proves that every output was made from the inputs that lie here. It is asked only
    when something moved since it was last asked.

    Returns:
        Whether everything is as dvc.lock says; False also where it was not asked again.
    """
    if not _DVC_LOCK.is_file() or os.environ.get(RUN_VARIABLE) or os.environ.get(_SETTLING_VARIABLE):
        return False
    graph = dag.read(look=False)
    seen = _look(graph)
    try:
        last = json.loads(_SETTLED.read_text())
    except (OSError, ValueError):  # never asked, or killed while it was written
        last = [None, False]
    if last[0] == seen:
        return bool(last[1])
    clean = all(Path(path).exists() for stage in graph.stages.values() for path in stage.products)
    clean = clean and subprocess.run([*_DVC, "status", "--quiet"], capture_output=True).returncode == 0
    if clean:
        os.environ[_SETTLING_VARIABLE] = "1"
        done = _snakemake("--touch", "--forceall", "--quiet", "all", "--profile", "none", "--cores", "1", "--", "all")
        del os.environ[_SETTLING_VARIABLE]
        clean = done.returncode == 0
    write_json(_SETTLED, [_look(graph), clean])
    return clean


def _look(graph: dag.Dag) -> str:
    """What a pull, a checkout, an edit or a run changes: dvc.lock, and times of parameters, code and outputs."""
    digest = hashlib.sha256(_DVC_LOCK.read_bytes())
    code = {path for name in graph.stages for path in graph.inputs(name)["code"]}
    products = {path for name in graph.stages for path in graph.targets(name)}
    for path in sorted({"params.yaml", "dvc.yaml", *code, *products}):
        time = Path(path).stat().st_mtime_ns if Path(path).exists() else 0
        digest.update(f"{path}\0{time}\n".encode())
    return digest.hexdigest()


def _snakemake(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "snakemake", "--nolock", "--rerun-incomplete", *words], **options)
