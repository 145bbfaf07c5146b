"""Jobs through the store: whole outputs or none, and nothing restored that is not the very same."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from instar.errors import InputError
from instar.store import SupersededError, begin_run, prune, run_job

COPY = "import sys; open(sys.argv[2], 'w').write(sys.argv[3] + open(sys.argv[1]).read())"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("INSTAR_RUN", raising=False)
    Path("in.txt").write_text("one")
    return tmp_path


def copy(prefix: str = "a ", output: str = "out.txt", keep: bool = True) -> int:
    command = [sys.executable, "-c", COPY, "in.txt", output, prefix]
    return run_job(command, [Path("in.txt")], [Path(output)], log=Path("log.txt"), keep=keep)


def spooled(final: bool) -> None:
    """A job with a scratch file, whose output is final or may be bettered by a later run."""
    Path("spool").write_text("answers")
    code = "import sys; out, final = sys.argv[1:]; open(out, 'w'); open('spool.rest', 'w').write('rest')"
    code += "\nif final == 'no': open(out + '.retry', 'w')"
    command = [sys.executable, "-c", code, "out.txt", "yes" if final else "no"]
    run_job(command, [Path("in.txt")], [Path("out.txt")], log=Path("log.txt"), keep=True, scratch=Path("spool"))


@pytest.mark.parametrize("final", [True, False])
def test_a_scratch_file_goes_when_the_outputs_are_final(workspace: Path, final: bool) -> None:
    spooled(final)
    assert Path("out.txt").is_file()
    assert Path("spool").exists() != final
    spooled(final)  # restored from the store, or made again
    assert Path("spool").exists() != final
    assert final or Path("spool").read_text() == "rest"
    assert not Path("spool.rest").exists()


def test_a_scratch_file_stays_when_the_job_fails(workspace: Path) -> None:
    Path("spool").write_text("answers")
    command = [sys.executable, "-c", "import sys; sys.exit(3)", "out.txt"]
    assert run_job(command, [], [Path("out.txt")], log=Path("log.txt"), keep=True, scratch=Path("spool")) == 3
    assert Path("spool").exists()


def history() -> list[str]:
    noted = [json.loads(line)["what"] for line in Path(".instar/jobs.jsonl").read_text().splitlines()]
    return [what for what in noted if what != "kept"]


def test_the_same_job_is_computed_once(workspace: Path) -> None:
    copy()
    Path("out.txt").unlink()
    copy()
    assert Path("out.txt").read_text() == "a one"
    assert history() == ["computed", "restored"]


@pytest.mark.parametrize("change", ["input", "parameter", "lock", "name"])
def test_another_job_is_computed_again(workspace: Path, change: str) -> None:
    Path("envs").mkdir()
    Path("envs/requirements.lock").write_text("numpy==1")
    copy()
    if change == "input":
        Path("in.txt").write_text("two")
    if change == "lock":
        Path("envs/requirements.lock").write_text("numpy==2")
    output = "other.txt" if change == "name" else "out.txt"
    copy("b " if change == "parameter" else "a ", output)
    assert history() == ["computed", "computed"]
    assert Path(output).read_text() == {"input": "a two", "parameter": "b one"}.get(change, "a one")


def test_without_keep_every_run_computes(workspace: Path) -> None:
    copy(keep=False)
    copy(keep=False)
    assert history() == ["computed", "computed"]
    assert not (workspace / "store").exists()


@pytest.mark.parametrize("damage", ["content", "missing file", "checksums"])
def test_a_damaged_entry_is_computed_again(workspace: Path, damage: str) -> None:
    copy()
    (entry,) = (workspace / "store").glob("??/*")
    if damage == "content":
        (entry / "0").write_text("a lie")
    elif damage == "missing file":
        (entry / "0").unlink()
    else:
        (entry / "sha256.json").write_text("{")
    copy()
    assert history() == ["computed", "computed"]
    assert Path("out.txt").read_text() == "a one"


def test_a_failed_command_leaves_the_old_output_and_keeps_nothing(workspace: Path) -> None:
    copy()
    failing = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write('half'); sys.exit(3)", "out.txt"]
    assert run_job(failing, [Path("in.txt")], [Path("out.txt")], log=Path("log.txt"), keep=True) == 3
    assert Path("out.txt").read_text() == "a one"
    assert len(list((workspace / "store").glob("??/*"))) == 1
    assert not list(Path(".instar/staging").iterdir())


def test_an_input_that_changes_meanwhile_keeps_nothing(workspace: Path) -> None:
    meddling = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w'); open('in.txt', 'w').write('new')", "out.txt"]
    with pytest.raises(InputError, match=r"in\.txt: changed while a job read it"):
        run_job(meddling, [Path("in.txt")], [Path("out.txt")], log=Path("log.txt"), keep=True)
    assert not Path("out.txt").exists()
    assert not list((workspace / "store").glob("??/*"))


def test_an_output_must_be_an_argument_and_be_written(workspace: Path) -> None:
    with pytest.raises(InputError, match="no argument of its own"):
        run_job(["true"], [], [Path("out.txt")], log=Path("log.txt"), keep=True)
    with pytest.raises(InputError, match="was not written"):
        run_job(["true", "out.txt"], [], [Path("out.txt")], log=Path("log.txt"), keep=True)


def test_folders_are_placed_whole(workspace: Path) -> None:
    Path("out").mkdir()
    Path("out/old").write_text("old")
    making = [sys.executable, "-c", "import sys, os; os.mkdir(sys.argv[1]); open(sys.argv[1] + '/new', 'w')", "out"]
    for _ in range(2):
        run_job(making, [Path("in.txt")], [Path("out")], log=Path("log.txt"), keep=True)
        assert [path.name for path in Path("out").iterdir()] == ["new"]
    assert history() == ["computed", "restored"]


def test_a_job_of_an_earlier_run_keeps_its_result_and_places_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTAR_RUN", begin_run())
    script = textwrap.dedent(
        """
        import sys, time
        open("started", "w")
        time.sleep(1)
        open(sys.argv[1], "w").write("late")
        """
    )
    words = [sys.executable, "-m", "instar", "job", "--inputs", "in.txt", "--outputs", "out.txt", "--log", "log.txt"]
    late = subprocess.Popen([*words, "--keep", "--", sys.executable, "-c", script, "out.txt"], env={**os.environ})
    while not Path("started").exists():
        time.sleep(0.02)
    begin_run()
    assert late.wait() == 2
    assert not Path("out.txt").exists()
    assert len(list((workspace / "store").glob("??/*"))) == 1
    with pytest.raises(SupersededError):
        copy()


def test_prune_deletes_what_was_not_used_for_long(workspace: Path) -> None:
    copy()
    copy("b ")
    old = min((workspace / "store").glob("??/*"))
    os.utime(old, (0, 0))
    assert prune(days=30) == (1, 1)
    assert not old.exists()


def test_what_a_job_prints_is_logged_and_shown_with_its_name(
    workspace: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    script = "import sys; print('half done', flush=True); print('oh', file=sys.stderr); open(sys.argv[1], 'w')"
    run_job([sys.executable, "-c", script, "out.txt"], [], [Path("out.txt")], log=Path("crops/s00.log"), keep=False)
    assert Path("crops/s00.log").read_text() == "half done\noh\n"
    assert capfdbinary.readouterr().err == b"crops/s00: half done\ncrops/s00: oh\n"


#: Writes a folder of many files, which takes long to replace, and a file; ends when the other one has as well.
PAIR = """
import os, sys, time
folder, file, who = sys.argv[1:]
os.mkdir(folder)
for n in range(3000):
    open(f"{folder}/{n}", "w").close()
for path in (f"{folder}/who", file, f"ready-{who}"):
    with open(path, "w") as text:
        text.write(who)
while not (os.path.exists("ready-one") and os.path.exists("ready-two")):
    time.sleep(0.001)
"""


def test_two_jobs_of_one_shard_at_once_leave_the_outputs_of_one(workspace: Path) -> None:
    """Started by hand, say; while one places its two outputs the other one waits."""
    words = [sys.executable, "-m", "instar", "job", "--inputs", "in.txt", "--outputs", "folder", "file"]
    for _ in range(4):
        jobs = [
            subprocess.Popen([*words, "--log", f"{who}.log", "--", sys.executable, "-c", PAIR, "folder", "file", who])
            for who in ("one", "two")
        ]
        assert [job.wait() for job in jobs] == [0, 0]
        assert Path("folder/who").read_text() == Path("file").read_text()
        assert len(list(Path("folder").iterdir())) == 3001
        for who in ("one", "two"):
            Path(f"ready-{who}").unlink()
    assert not list(Path(".instar/staging").iterdir())


def test_an_input_that_changes_while_nothing_is_kept(workspace: Path) -> None:
    Path("shards").mkdir()
    Path("shards/s0.txt").write_text("one")
    meddling = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w'); open('shards/s0.txt', 'w')", "out.txt"]
    with pytest.raises(InputError, match=r"shards: changed while a job read it"):
        run_job(meddling, [Path("shards")], [Path("out.txt")], log=Path("log.txt"), keep=False)
    assert not Path("out.txt").exists()
    with pytest.raises(InputError, match=r"nowhere: an input of this job is missing"):
        run_job(meddling, [Path("nowhere")], [Path("out.txt")], log=Path("log.txt"), keep=False)


def test_a_stopped_command_may_still_print_and_write(workspace: Path) -> None:
    script = """
import signal, sys, time
def stop(*_):
    time.sleep(0.3)
    print("writing the last checkpoint", flush=True)
    open("checkpoint", "w").write("whole")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    job = [
        sys.executable,
        "-m",
        "instar",
        "job",
        "--inputs",
        "in.txt",
        "--outputs",
        "out",
        "--log",
        "stopped.log",
        "--",
    ]
    with subprocess.Popen([*job, sys.executable, "-c", script, "out"], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().endswith(b"ready\n")
        process.terminate()
        assert process.wait(30) == 143
    assert Path("checkpoint").read_text() == "whole"
    assert Path("stopped.log").read_text().splitlines()[-1] == "writing the last checkpoint"
