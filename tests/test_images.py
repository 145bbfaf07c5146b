"""The stage ``images``: fetching from a folder, from a mirror and from a server that misbehaves."""

import errno
import hashlib
import os
import socket
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from photo_server import Server, encoded

from instar.decode import decode_upright
from instar.errors import InputError
from instar.images import network, stage
from instar.images.stage import images
from instar.phash import phash
from instar.shards import ShardReader
from instar.tables import IMAGES, RECORDS, read_table, write_table

HOST = "m.example"
PARAMETERS: dict[str, Any] = {
    "connections": 4,
    "timeout_s": 5.0,
    "stall_s": 5.0,
    "attempts": 3,
    "max_photo_mb": 0.1,
    "requests_per_s": 1000.0,
    "gb_per_hour": 5.0,
    "gb_per_day": 24.0,
    "unlimited_hosts": [],
}
PATHS = ("records.parquet", "local", "source", "spool", "out.parquet", "out.tar")


@pytest.fixture(autouse=True)
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bytes are counted in a test: nothing is shared with other tests."""
    monkeypatch.setenv("INSTAR_STORE", str(tmp_path / "store"))
    return tmp_path / "traffic.sqlite"


def record(key: str, url: str, **changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(RECORDS.names)
    row |= {"key": key, "source": "gbif", "photo_id": key, "observation_id": key, "url": url, "basis": "field"}
    return row | {"licence": "cc0", "shard": "s0"} | changes


def run(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> dict[str, dict[str, Any]]:
    """The stage's rows by key."""
    parameters = {"shard": "s0", "mirror": True, **PARAMETERS}
    write_table(folder / "records.parquet", rows, RECORDS)
    (folder / "source/mirror").mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in PATHS]
    images(*paths, **(parameters | changes))
    found = read_table(folder / "out.parquet", IMAGES).to_pylist()
    assert [row["key"] for row in found] == sorted(row["key"] for row in rows if row["shard"] == "s0")
    return {row["key"]: row for row in found}


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    with tarfile.open(folder / "out.tar") as tar:
        return tar.getnames()


def test_a_shard_without_records(tmp_path: Path) -> None:
    assert run(tmp_path, [record("a", "https://m.example/a", shard="s1")]) == {}
    assert names(tmp_path) == []


def test_whole_photographs_are_stored_as_they_came(tmp_path: Path) -> None:
    files = {"c": encoded(), "a": encoded("PNG"), "b": encoded(orientation=6)}
    for key, data in files.items():
        put(tmp_path / f"source/mirror/{HOST}/x/{key}.jpg", data)
    rows = run(tmp_path, [record(key, f"https://{HOST}/x/{key}.jpg", latitude=1.5) for key in files])
    assert names(tmp_path) == ["a.png", "b.jpg", "c.jpg"]  # by key, ending by what is in the file
    with ShardReader(tmp_path / "out.tar") as reader:
        for key, data in files.items():
            assert reader.read(rows[key]["offset"], rows[key]["size"]) == data
            assert rows[key]["sha256"] == hashlib.sha256(data).hexdigest()
    assert [(row["width"], row["height"]) for row in rows.values()] == [(48, 24), (24, 48), (48, 24)]
    assert {row["reason"] for row in rows.values()} == {None}
    assert rows["a"]["latitude"] == 1.5


def test_what_is_no_whole_photograph_has_a_reason(tmp_path: Path) -> None:
    whole = encoded()
    files = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "html": b"<html>not here</html>",
        "large": b"x" * 100_001,
        "damaged": encoded("PNG")[:500] + b"\0" * 500 + encoded("PNG")[1000:],
    }
    for name, data in files.items():
        put(tmp_path / f"source/mirror/{HOST}/{name}", data)
    put(tmp_path / "secret", whole)
    rows = [record(name, f"https://{HOST}/{name}") for name in (*files, "gone")]
    rows.append(record("outside", "https://m.example/../../../secret"))
    rows += [record("nul", f"https://{HOST}/a%00.jpg"), record("brackets", "https://[m/a.jpg")]
    found = run(tmp_path, rows)
    assert {key: row["reason"] for key, row in found.items()} == {
        "brackets": "refused: address",
        "nul": "refused: address",
        "cut": "truncated",
        "damaged": "damaged",
        "empty": "empty file",
        "gone": "missing",
        "html": "not an image",
        "large": "too large",
        "outside": "refused: address",
    }
    assert all(row["offset"] is None and row["width"] is None for row in found.values())
    assert not (tmp_path / "out.parquet.retry").exists()
    assert names(tmp_path) == []


def test_the_rows_are_the_photographs_that_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_all = stage._stored

    def forgetful(*arguments: Any) -> list[dict[str, Any]]:
        return store_all(*arguments)[:-1]

    monkeypatch.setattr(stage, "_stored", forgetful)
    for key in ("a", "b"):
        put(tmp_path / f"source/mirror/{HOST}/{key}", encoded())
    with pytest.raises(RuntimeError, match=r"out\.parquet: 1 photographs .*, such as b"):
        run(tmp_path, [record(key, f"https://{HOST}/{key}") for key in ("a", "b")])
    assert not (tmp_path / "out.parquet").exists()
    assert not (tmp_path / "out.tar").exists()


def test_no_mirror(tmp_path: Path) -> None:
    write_table(tmp_path / "records.parquet", [record("a", "https://m.example/a")], RECORDS)
    (tmp_path / "source").mkdir()
    paths = [tmp_path / name for name in PATHS]
    with pytest.raises(InputError, match="source/mirror: no such folder"):
        images(*paths, shard="s0", mirror=True, **PARAMETERS)
    with pytest.raises(InputError, match=r"none.parquet: no such table"):
        images(tmp_path / "none.parquet", *paths[1:], shard="s0", mirror=True, **PARAMETERS)
    pq.write_table(pa.table({"shard": ["s0"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other.parquet: not a table of records"):
        images(tmp_path / "other.parquet", *paths[1:], shard="s0", mirror=True, **PARAMETERS)


def test_equal_files_are_stored_once(tmp_path: Path) -> None:
    files = {"a": encoded(), "b": encoded(side=30), "c": encoded(), "d": encoded()}
    for key, data in files.items():
        put(tmp_path / f"source/mirror/{HOST}/{key}", data)
    found = run(tmp_path, [record(key, f"https://{HOST}/{key}") for key in files])
    assert names(tmp_path) == ["a.jpg", "b.jpg"]
    assert len({(found[key]["offset"], found[key]["sha256"], found[key]["phash"]) for key in "acd"}) == 1
    assert found["b"]["offset"] > found["a"]["offset"]
    with ShardReader(tmp_path / "out.tar") as reader:
        for key, data in files.items():
            assert reader.read(found[key]["offset"], found[key]["size"]) == data


def test_the_hash_is_of_the_upright_photograph(tmp_path: Path) -> None:
    for orientation in (1, 6):
        put(tmp_path / f"source/mirror/{HOST}/{orientation}", encoded(side=64, orientation=orientation))
    found = run(tmp_path, [record(f"k{n}", f"https://{HOST}/{n}") for n in (1, 6)])
    for n in (1, 6):
        assert found[f"k{n}"]["phash"] == phash(decode_upright(encoded(side=64, orientation=n)))
    assert found["k1"]["phash"] != found["k6"]["phash"]


def test_photographs_of_ones_own(tmp_path: Path) -> None:
    sha256 = put(tmp_path / "local/images/a.jpg", encoded())
    rows = [record("a", "images/a.jpg", sha256=sha256), record("b", "images/b.jpg", sha256=sha256)]
    found = run(tmp_path, rows, mirror=False)
    assert (found["a"]["reason"], found["b"]["reason"]) == (None, "missing")
    put(tmp_path / "local/images/b.jpg", encoded("PNG"))
    with pytest.raises(InputError, match=r"local/images/b.jpg: changed since records.parquet was written"):
        run(tmp_path, rows)


def test_a_photograph_that_is_not_the_recorded_one(tmp_path: Path) -> None:
    put(tmp_path / f"source/mirror/{HOST}/a", encoded())
    found = run(tmp_path, [record("a", f"https://{HOST}/a", sha256="0" * 64)])
    assert found["a"]["reason"] == "other bytes than recorded"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(network, "BACKOFF_S", 0.01)
    with Server() as server:
        yield server


def test_a_server_that_misbehaves(tmp_path: Path, server: Server) -> None:
    expected = {
        "whole": (None, 1),
        "moved": (None, 1),
        "later": (None, 3),
        "later-date": (None, 3),
        "slow-once": (None, 2),
        "cut-once": (None, 2),
        "404": ("missing", 1),
        "410": ("missing", 1),
        "403": ("refused: 403", 1),
        "500": ("refused: 500", 3),
        "429": ("refused: 429", 3),
        "204": ("refused: 204", 1),
        "slow": ("stalled", 3),
        "cut": ("truncated", 3),
        "endless": ("too large", 1),
        "drip": ("timeout", 3),
        "stall": ("stalled", 3),
        "html": ("not an image", 1),
        "xml": ("not an image", 1),
        "zero": ("empty file", 1),
        "length-too-small": ("refused: answer", 1),
        "length-too-large": ("truncated", 3),
        "length-huge": ("too large", 1),
        "length-no-number": ("refused: answer", 1),
        "no-length": (None, 1),
        "half": ("truncated", 1),
        "hole": ("damaged", 1),
        "no-http": ("refused: answer", 1),
        "zipped": (None, 1),
        "zip-bomb": ("too large", 1),
        "leave": ("refused: address", 1),
        "brackets": ("refused: address", 1),
        "circle": ("refused: redirects", 6),
    }
    rows = [record(f"k-{name}", server.url(name)) for name in expected]
    found = run(tmp_path, rows, mirror=False, timeout_s=0.6, stall_s=0.4, connections=16)
    assert {
        name: (found[f"k-{name}"]["reason"], server.asked[name] - (name == "whole")) for name in expected
    } == expected
    assert all(agent.startswith("instar/") for agent in server.agents)
    with ShardReader(tmp_path / "out.tar") as reader:
        row = found["k-later"]
        assert reader.read(row["offset"], row["size"]) == encoded()


@pytest.mark.parametrize(
    ("name", "retryable"),
    [
        ("500", True),
        ("429", True),
        ("slow", True),
        ("cut", True),
        ("later", False),  # the third try succeeds
        ("slow-once", False),
        ("404", False),
        ("403", False),
        ("circle", False),
        ("endless", False),
        ("html", True),
        ("zero", True),
        ("half", True),
        ("hole", False),
    ],
)
def test_what_a_later_run_may_get_is_marked(
    tmp_path: Path, server: Server, name: str, retryable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [record("a", server.url("whole")), record("b", server.url(name)), record("c", server.url(name))]
    run(tmp_path, rows, mirror=False, timeout_s=0.3)
    marker = tmp_path / "out.parquet.retry"
    assert marker.is_file() == retryable
    told = [line for line in capsys.readouterr().err.splitlines() if "snakemake --forcerun images" in line]
    assert [line.split(" photographs")[0] for line in told] == ["shard s0: 2"] * retryable
    if retryable:
        assert marker.read_bytes() == b""


def test_a_host_that_asks_to_be_left_alone_is(tmp_path: Path, server: Server) -> None:
    """Retry-After of a day: one request, and the others are refused without asking; other hosts are asked on."""
    here = [record(f"a{n:02}", server.url("tomorrow")) for n in range(20)]
    there = [record(f"b{n:02}", server.url(f"p{n}").replace("127.0.0.1", "localhost")) for n in range(5)]
    found = run(tmp_path, here + there, mirror=False, connections=1)
    assert server.asked["tomorrow"] == 1
    assert {(row["reason"], row["retryable"]) for key, row in found.items() if key < "b"} == {("refused: 429", True)}
    assert {row["reason"] for key, row in found.items() if key > "b"} == {None}


def test_retry_after_holds_for_the_whole_host(tmp_path: Path, server: Server) -> None:
    start = time.monotonic()
    found = run(tmp_path, [record("a", server.url("pause")), record("b", server.url("p"))], mirror=False, connections=1)
    assert time.monotonic() - start > 1
    assert {row["reason"] for row in found.values()} == {None}
    assert server.asked == {"pause": 2, "p": 1}


def test_no_more_connections_than_allowed(tmp_path: Path, server: Server) -> None:
    run(tmp_path, [record(f"k{i}", server.url(f"p{i}")) for i in range(30)], mirror=False, connections=3)
    assert server.most_at_once == 3


def test_what_a_run_writes_does_not_depend_on_who_answers_first(tmp_path: Path, server: Server) -> None:
    rows = [record(f"k{i}", server.url(name)) for i, name in enumerate(["later", "a", "b", "slow-once", "c", "404"])]
    for name, connections in (("one", 1), ("many", 8)):
        server.asked.clear()
        (tmp_path / name).mkdir()
        run(tmp_path / name, rows, mirror=False, connections=connections, timeout_s=0.5)
    for file in ("out.tar", "out.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BACKOFF_S", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        with pytest.raises(InputError, match="not one server of shard s0 answers"):
            run(tmp_path, [record("a", url), record("b", url.replace("127.0.0.1", "localhost"))], mirror=False)
    assert not (tmp_path / "out.tar").exists()


def test_a_few_photographs_of_one_dead_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BACKOFF_S", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        rows = [record(f"k{n:02}", url) for n in range(21)]
        found = run(tmp_path, rows[:20], mirror=False)
        with pytest.raises(InputError, match=r"set images\.mirror to true to read .*source/mirror"):
            run(tmp_path, rows, mirror=False)
    assert {(row["reason"], row["retryable"]) for row in found.values()} == {("no connection", True)}


def test_one_server_that_does_not_answer(tmp_path: Path, server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        silent = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        found = run(tmp_path, [record("a", silent), record("b", server.url("whole"))], mirror=False)
    assert (found["a"]["reason"], found["b"]["reason"]) == ("no connection", None)
    assert (tmp_path / "out.parquet.retry").is_file()


@pytest.mark.parametrize(
    "text, seconds",
    [
        (None, 0),
        ("", 0),
        ("7", 7),
        ("soon", 0),
        ("Fri, 01 Jan 2010 00:00:00 GMT", 0),
        ("-3", 0),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999999999", 0),
    ],
)
def test_retry_after(text: str | None, seconds: float) -> None:
    assert network._seconds(text) == seconds


def test_retry_after_a_date() -> None:
    text = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert network._seconds(text) == pytest.approx(60, abs=2)


def test_the_stored_photograph_decodes_to_the_size_that_is_told(tmp_path: Path) -> None:
    put(tmp_path / f"source/mirror/{HOST}/a", encoded(orientation=8))
    row = run(tmp_path, [record("a", f"https://{HOST}/a")])["a"]
    with ShardReader(tmp_path / "out.tar") as reader:
        assert decode_upright(reader.read(row["offset"], row["size"])).shape == (row["height"], row["width"], 3)


def test_a_photograph_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = put(tmp_path / "local/a.jpg", encoded())
    (tmp_path / "local/a.jpg").chmod(0)
    if os.access(tmp_path / "local/a.jpg", os.R_OK):  # root reads everything

        def refusing(path: Path) -> bytes:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(Path, "read_bytes", refusing)
    with pytest.raises(InputError, match=r"local/a\.jpg: may not be read"):
        run(tmp_path, [record("a", "a.jpg", sha256=sha256)], mirror=False)


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server as a proxy: asked for the photograph of a host that there is not."""
    monkeypatch.setenv("http_proxy", server.url("").rstrip("/"))
    monkeypatch.setenv("no_proxy", "")
    found = run(tmp_path, [record("a", "http://photographs.invalid/p1")], mirror=False, attempts=1)
    assert found["a"]["reason"] is None
    assert server.asked == {"p1": 1}


def test_photographs_of_ones_own_behind_links(tmp_path: Path) -> None:
    sha256 = put(tmp_path / "elsewhere/a.jpg", encoded())
    put(tmp_path / "a.jpg", encoded())
    (tmp_path / "local").mkdir()
    (tmp_path / "local/images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "local/b.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    urls = ["images/a.jpg", "b.jpg", "../a.jpg", str(tmp_path / "a.jpg"), "a\0.jpg"]
    found = run(tmp_path, [record(f"k{n}", url, sha256=sha256) for n, url in enumerate(urls)], mirror=False)
    assert [row["reason"] for row in found.values()] == [None] * 2 + ["refused: address"] * 3
