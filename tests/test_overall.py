"""How far a stage is over all its shards."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from instar.overall import told


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shard(name: str, *reasons: str | None) -> Path:
    path = Path(f"data/ants/images/{name}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"reason": pa.array(reasons, pa.string())}), path)
    return path


def test_the_only_shard() -> None:
    assert told(shard("s0"), 1, time.time()) == "1 of 1 shards; 0 photographs, 0 refused"


def test_rate_remaining_time_and_refusals_of_all_shards() -> None:
    start = time.time()
    told(shard("s0", None, "missing"), 5, start - 60)
    text = told(shard("s1", None, None, "timeout"), 5, start - 30)
    assert text == "2 of 5 shards, 2.0 a minute, 01:30 left; 5 photographs, 2 refused"


def test_shards_of_an_earlier_run_count_but_not_for_the_rate() -> None:
    shard("s0", "missing")  # pulled: nobody noted it
    start = time.time()
    told(shard("s1", None), 4, start - 9000)
    Path(".instar/run").write_text("a run that began now")
    text = told(shard("s2", None), 4, time.time() + 1e-3)
    assert text.startswith("3 of 4 shards")
    assert text.endswith("; 3 photographs, 1 refused")
    assert "0.0 a minute" not in text


def test_a_shard_made_again_counts_once_and_one_that_is_gone_does_not() -> None:
    told(shard("s0", "timeout"), 3, time.time())
    told(shard("s1", None, "missing"), 3, time.time())
    told(shard("s0", None), 3, time.time())
    Path("data/ants/images/s1.parquet").unlink()
    assert told(shard("s2", None), 3, time.time()).endswith("; 2 photographs, 0 refused")


def test_a_line_that_was_cut(tmp_path: Path) -> None:
    told(shard("s0", None), 3, time.time())
    notes = tmp_path / ".instar/finished/ants/images.jsonl"
    notes.write_text(json.dumps({"shard": "s0"})[:-3] + "\n")
    assert told(shard("s1", None), 3, time.time()).startswith("2 of 3 shards")
