"""A finished shard is not fetched again when its job runs again: not for changed code, nor for changed parameters."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from photo_server import Server, encoded
from test_images import PATHS, put, record
from test_images_resume import FAST, check

from instar.images.spool import Spool
from instar.job import job
from instar.store import begin_run, prune
from instar.tables import IMAGES, RECORDS, read_table, write_table

NAMES = [f"p{n}" for n in range(5)]
SPOOL = ".instar/spool/study/s0"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with records of photographs of the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    (tmp_path / "code.py").write_text("# one")
    write(tmp_path, [record(f"k-{name}", server.url(name)) for name in NAMES])
    return tmp_path


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_table(folder / "records.parquet", rows, RECORDS)


def words(spool: str = SPOOL, **changes: Any) -> list[str]:
    """Those of the command ``instar job`` for the shard."""
    flags = ["--records", "--local", "--mirror_root", "--spool", "--out", "--out_tar"]
    places = [*PATHS[:3], spool, *PATHS[4:]]
    stage = [word for pair in zip(flags, places, strict=True) for word in pair]
    stage += [f"--{name}={value}" for name, value in (FAST | changes).items()]
    inputs = ["--inputs", "records.parquet", "code.py", "--outputs", *PATHS[4:], "--log", "log", "--keep"]
    return [*inputs, "--scratch", spool, "--", sys.executable, "-m", "instar", "images", *stage]


def run(folder: Path, **changes: Any) -> None:
    """Delete the outputs, as Snakemake does, and run the job of the shard."""
    for name in PATHS[4:]:
        (folder / name).unlink(missing_ok=True)
    assert job(words(**changes)) == 0, (folder / "log").read_text()


def asked_again(folder: Path, server: Server, **changes: Any) -> list[str]:
    """What another run of the job, which computes, asks the server for."""
    before = server.asked.copy()
    run(folder, timeout_s=30.0, **changes)
    assert history(folder)[-1] == "computed"
    return sorted((server.asked - before).elements())


def history(folder: Path) -> list[str]:
    noted = [json.loads(line)["what"] for line in (folder / ".instar/jobs.jsonl").read_text().splitlines()]
    return [what for what in noted if what != "kept"]


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in read_table(folder / "out.parquet", IMAGES).to_pylist()}


def linked(folder: Path) -> bool:
    kept = folder / f"{SPOOL}.kept"
    return all((kept / name).samefile(folder / name) for name in PATHS[4:])


def test_code_parameters_and_lock_ask_for_nothing_again(folder: Path, server: Server) -> None:
    run(folder)
    assert server.asked == dict.fromkeys(NAMES, 1)
    assert linked(folder)
    assert not (folder / SPOOL).exists()
    run(folder, timeout_s=30.0)
    (folder / "code.py").write_text("# two")
    run(folder, timeout_s=30.0)
    put(folder / "envs/requirements.lock", b"numpy==1")
    run(folder, timeout_s=30.0)
    assert "kept photographs: 5/5" in (folder / "log").read_text()
    assert history(folder) == ["computed"] * 4
    assert server.asked == dict.fromkeys(NAMES, 1)
    check(folder, NAMES)
    assert linked(folder)
    assert [path.name for path in (folder / SPOOL).parent.iterdir()] == ["s0.kept"]


def test_a_shard_from_the_store_is_linked(folder: Path, server: Server) -> None:
    run(folder)
    shutil.rmtree(folder / ".instar")
    run(folder)
    assert history(folder) == ["restored"]
    assert linked(folder)
    assert asked_again(folder, server) == []
    check(folder, NAMES)


def test_of_a_damaged_shard_only_the_damaged_is_asked_for(folder: Path, server: Server) -> None:
    run(folder)
    tar = folder / f"{SPOOL}.kept/out.tar"
    data = bytearray(tar.read_bytes())
    data[rows_of(folder)["k-p2"]["offset"] + 100] ^= 1
    tar.write_bytes(data)
    assert asked_again(folder, server) == ["p2"]
    assert "1 photographs are damaged and fetched again" in (folder / "log").read_text()
    check(folder, NAMES)
    last = rows_of(folder)["k-p4"]["offset"]
    os.truncate(tar, last + 10)
    assert asked_again(folder, server, attempts=2) == ["p4"]
    check(folder, NAMES)


@pytest.mark.parametrize("damage", ["cut", "gone", "no tar"])
def test_a_shard_that_can_not_be_read_is_fetched(folder: Path, server: Server, damage: str) -> None:
    run(folder)
    index = folder / f"{SPOOL}.kept/out.parquet"
    if damage == "cut":
        os.truncate(index, index.stat().st_size // 2)
    elif damage == "gone":
        index.unlink()
    else:
        index.with_suffix(".tar").unlink()
    assert asked_again(folder, server) == NAMES
    assert ("out.parquet: not readable (" in (folder / "log").read_text()) == (damage != "no tar")
    check(folder, NAMES)


def test_another_address_or_checksum_is_asked_for(folder: Path, server: Server) -> None:
    run(folder)
    rows = [record(f"k-{name}", server.url(name)) for name in NAMES]
    rows[1]["url"] = server.url("p1?size=large")
    rows[2]["sha256"] = rows_of(folder)["k-p2"]["sha256"]
    rows[3]["sha256"] = "0" * 64
    write(folder, rows)
    assert asked_again(folder, server) == ["p1", "p3"]
    assert rows_of(folder)["k-p3"]["reason"] == "other bytes than recorded"


def test_refusals_of_the_network_stand_and_our_own_do_not(folder: Path, server: Server) -> None:
    names = ["p1", "404", "403", "html", "large"]
    write(folder, [record(f"k-{name}", server.url(name.replace("large", "endless"))) for name in names])
    run(folder)
    first = {key: row["reason"] for key, row in rows_of(folder).items()}
    assert first == {
        "k-p1": None,
        "k-404": "missing",
        "k-403": "refused: 403",
        "k-html": "not an image",
        "k-large": "too large",
    }
    assert asked_again(folder, server) == ["endless", "html"]
    assert {key: row["reason"] for key, row in rows_of(folder).items()} == first


def test_of_a_shard_with_retryable_refusals_the_spool_keeps_the_rest(folder: Path, server: Server) -> None:
    write(folder, [record(f"k-{name}", server.url(name)) for name in ["p1", "p2", "500", "html", "hole"]])
    run(folder)
    assert linked(folder)
    for _ in range(2):
        with Spool(folder / SPOOL) as spool:
            assert len(spool) == 1  # the damaged file
        assert (folder / SPOOL).stat().st_size < 2 * len(encoded("PNG"))
        assert asked_again(folder, server) == ["500", "html"]
    assert sorted(path.name for path in (folder / SPOOL).parent.iterdir()) == ["s0", "s0.kept"]


def test_a_shard_with_retryable_refusals_takes_no_second_space(folder: Path, server: Server) -> None:
    write(folder, [record(f"k-{name}", server.url(name)) for name in ["p1", "p2", "500"]])
    run(folder)
    assert linked(folder)
    assert [path.name for path in (folder / SPOOL).parent.iterdir()] == ["s0.kept"]
    assert asked_again(folder, server) == ["500"]


def test_a_page_instead_of_a_photograph_is_no_final_answer(folder: Path, server: Server) -> None:
    write(folder, [record(f"k-{name}", server.url(name)) for name in ["p1", "page-once"]])
    run(folder)
    assert {key: row["retryable"] for key, row in rows_of(folder).items()} == {"k-p1": None, "k-page-once": True}
    run(folder)  # the same job, and the store does not answer
    assert history(folder) == ["computed", "computed"]
    assert server.asked == {"p1": 1, "page-once": 2}
    assert {row["reason"] for row in rows_of(folder).values()} == {None}
    assert asked_again(folder, server) == []


def test_killed_before_the_rest_takes_the_place_of_the_spool(folder: Path, server: Server) -> None:
    write(folder, [record(f"k-{name}", server.url(name)) for name in ["p1", "500", "hole"]])
    script = "import os, signal\nfrom instar import cli, store\n"
    script += "store._shrink = lambda _: os.kill(os.getpid(), signal.SIGKILL)\ncli.main()"
    killed = subprocess.run([sys.executable, "-c", script, "job", *words()], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert linked(folder)
    assert asked_again(folder, server) == ["500"]
    assert sorted(path.name for path in (folder / SPOOL).parent.iterdir()) == ["s0", "s0.kept"]
    assert asked_again(folder, server, attempts=2) == ["500", "500"]


def test_a_mirror_does_not_answer_for_the_network(folder: Path, server: Server) -> None:
    put(folder / f"source/mirror/127.0.0.1:{server.port}/p0", encoded())
    run(folder, mirror=True)
    assert {row["reason"] for row in rows_of(folder).values()} == {None, "missing"}
    assert server.asked == {}
    assert asked_again(folder, server) == NAMES
    check(folder, NAMES)


def test_a_lower_limit_of_size_holds(folder: Path, server: Server) -> None:
    run(folder)
    assert asked_again(folder, server, max_photo_mb=1e-4) == NAMES
    assert {row["reason"] for row in rows_of(folder).values()} == {"too large"}


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("before", [False, True])
def test_killed_while_a_shard_is_linked(folder: Path, server: Server, nth: int, before: bool) -> None:
    """Between placing and linking, or between two links; with an earlier shard and without."""
    if before:
        run(folder, attempts=2)
        write(folder, [record(f"k-{name}", server.url(name)) for name in [*NAMES, "p5"]])
    script = f"""
import os, signal
from instar import cli
link, calls = os.link, []
def dying(*words):
    calls.append(words)
    if len(calls) == {nth}:
        os.kill(os.getpid(), signal.SIGKILL)
    link(*words)
os.link = dying
cli.main()
"""
    killed = subprocess.run([sys.executable, "-c", script, "job", *words()], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    names = [*NAMES, "p5"] if before else NAMES
    check(folder, names)
    assert (folder / SPOOL).exists()
    assert asked_again(folder, server) == []
    check(folder, names)
    assert linked(folder)
    assert [path.name for path in (folder / SPOOL).parent.iterdir()] == ["s0.kept"]
    assert server.asked == dict.fromkeys(names, 1)


def test_where_links_are_impossible_it_is_told_once_in_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        message = f"{other}/s0.kept: can't link . there ("
        run(folder, spool=f"{other}/s0")
        assert message in capsys.readouterr().err
        assert list(Path(other).iterdir()) == []
        run(folder, spool=f"{other}/s0", attempts=2)
        assert message not in capsys.readouterr().err
        begin_run()
        run(folder, spool=f"{other}/s0", attempts=3)
        assert message in capsys.readouterr().err
    check(folder, NAMES)


def test_prune_frees_the_space_of_shards_without_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prune(days=30)
    assert not (folder / ".instar").exists()
    run(folder)
    kept = folder / f"{SPOOL}.kept"
    os.utime(kept, (0, 0))
    prune(days=30)
    assert linked(folder)
    for name in PATHS[4:]:
        (folder / name).unlink()
    os.utime(kept)
    prune(days=30)
    assert kept.exists()
    os.utime(kept, (0, 0))
    capsys.readouterr()
    prune(days=30)
    assert not kept.exists()
    told = re.findall(r"\.instar/spool: (.*)", capsys.readouterr().out)
    assert told == ["1 kept shards of photographs deleted, 0 kept, 0 kept that data/ has as well"]


def test_prune_deletes_spools_that_no_job_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, held, new, rest = (
        (folder / SPOOL).parent / "old",
        folder / SPOOL,
        folder / f"{SPOOL}1",
        folder / f"{SPOOL}.rest",
    )
    for path in (old, held, new, rest):
        with Spool(path) as spool:
            spool.add({"key": "k", "url": "u"}, b"bytes")
    for path in (old, held, rest):
        os.utime(path, (0, 0))
    with Spool(held):
        os.utime(held, (0, 0))
        prune(days=30)
    assert sorted(path.name for path in old.parent.iterdir()) == ["s0", "s01"]
    assert "2 spools of stopped or incomplete jobs deleted, 2 kept" in capsys.readouterr().out
