"""How far a scattered stage is over all its shards: rate, remaining time, and what became of the rows so far.

The shards are jobs of their own, perhaps on other machines. Each one adds a line to a file when it is done.
"""

import json
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from instar.store import RUN_FILE, STATE, append_line

#: What rows with a reason are called.
_WORDS = {"images": ("photographs", "refused")}


def told(index: Path, of: int, began: float) -> str:
    """Note that a shard is done, and tell how far its stage is.

    Rows are counted once for each shard, and those of shards without a note, such as pulled ones, now.

    Args:
        index: the shard's table, with a column ``reason``, in place.
        of: shards of the stage.
        began: when the shard's job began, Unix time.

    Returns:
        Such as "7 of 2000 shards, 3.1 a minute, 10:43:12 left; 2184 photographs, 31 refused".
    """
    folder = index.parent
    notes = STATE / "finished" / folder.parent.name / f"{folder.name}.jsonl"
    append_line(notes, _counted(index) | {"began": began})
    here = {path.stem for path in folder.glob(f"*{index.suffix}")}
    known = {note["shard"]: note for note in _read(notes) if note["shard"] in here}
    for shard in sorted(here - set(known)):
        known[shard] = _counted(folder / f"{shard}{index.suffix}")
        append_line(notes, known[shard])
    rows, without = (sum(note[name] for note in known.values()) for name in ("rows", "without"))
    what, refused = _WORDS.get(folder.name, ("rows", "without a result"))
    return f"{len(here)} of {of} shards{_rate(known, of)}; {rows} {what}, {without} {refused}"


def _rate(known: dict[str, dict[str, Any]], of: int) -> str:
    """Shards a minute since the first of this run began, and how long the others take at that rate."""
    run = RUN_FILE.stat().st_mtime if RUN_FILE.is_file() else 0.0
    mine = [note for note in known.values() if note.get("began", -1.0) >= run]
    elapsed = time.time() - min((note["began"] for note in mine), default=time.time())
    if not mine or elapsed <= 0 or len(known) >= of:
        return ""
    left = tqdm.format_interval((of - len(known)) * elapsed / len(mine))
    return f", {60 * len(mine) / elapsed:.1f} a minute, {left} left"


def _counted(index: Path) -> dict[str, Any]:
    reasons = pq.read_table(index, columns=["reason"])["reason"]
    return {"shard": index.stem, "rows": len(reasons), "without": len(reasons) - reasons.null_count}


def _read(notes: Path) -> list[dict[str, Any]]:
    """Notes in the order they came; a line that a full disk has cut is none."""
    found = []
    for line in notes.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
