"""The spool: what was answered, read back whole whatever happened to the file."""

import threading
from pathlib import Path
from typing import Any

import pytest

from instar.images.spool import Spool

ROWS: list[dict[str, Any]] = [{"key": f"k{n}", "url": f"https://m.example/{n}"} for n in range(4)]
DATA = [b"", b"one\n", bytes(range(256)) * 10, b'{"key": "k0"}\n' * 3]


def filled(path: Path) -> int:
    """Write all; returns the size of the file before the last answer."""
    with Spool(path) as spool:
        for row, data in zip(ROWS[:-1], DATA[:-1], strict=True):
            spool.add(row, data)
        size = path.stat().st_size
        spool.add(ROWS[-1], DATA[-1])
    return size


def held(spool: Spool) -> list[bytes | None]:
    answers = [spool.answer(row) for row in ROWS]
    return [None if answer is None else spool.read(answer) for answer in answers]


def test_an_empty_spool(tmp_path: Path) -> None:
    with Spool(tmp_path / "a/b/spool") as spool:
        assert len(spool) == 0
        assert held(spool) == [None] * 4


def test_answers_come_back(tmp_path: Path) -> None:
    filled(tmp_path / "spool")
    with Spool(tmp_path / "spool") as spool:
        assert held(spool) == DATA
        spool.add({"key": "k9", "url": "u"}, b"", "missing")
    with Spool(tmp_path / "spool") as spool:
        assert held(spool) == DATA
        answer = spool.answer({"key": "k9", "url": "u"})
        assert answer and answer.reason == "missing"
        assert spool.answer({"key": "k9", "url": "other"}) is None


def test_a_spool_cut_at_any_byte(tmp_path: Path) -> None:
    """Cut inside the last answer only that one is gone, and the next is written where it was."""
    path = tmp_path / "spool"
    start = filled(path)
    whole = path.read_bytes()
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        with Spool(path) as spool:
            assert held(spool) == [*DATA[:-1], None]
            spool.add(ROWS[-1], DATA[-1])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("place", [0, 5, -1, -3])
def test_a_changed_byte(tmp_path: Path, place: int) -> None:
    """What follows a damaged answer can't be found: it is fetched again."""
    path = tmp_path / "spool"
    start = filled(path)
    data = bytearray(path.read_bytes())
    data[place if place < 0 else start + place] ^= 1
    path.write_bytes(data)
    with Spool(path) as spool:
        assert held(spool) == [*DATA[:-1], None]
    path.write_bytes(b"[]\n" + bytes(data))
    with Spool(path) as spool:
        assert held(spool) == [None] * 4
    assert path.stat().st_size == 0


def test_a_spool_that_was_deleted_while_another_run_waited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spool"

    def wait_and_add() -> None:
        with Spool(path) as second:
            second.add(ROWS[0], b"new")

    told = ""
    with Spool(path) as first:
        first.add(ROWS[1], b"old")
        thread = threading.Thread(target=wait_and_add)
        thread.start()
        while "another run fetches this shard" not in told:
            told += capsys.readouterr().err
        path.unlink()  # as `instar job` does when the outputs are in place
    thread.join()
    with Spool(path) as spool:
        assert held(spool) == [b"new", None, None, None]
