"""A study of individuals small enough to work out by hand: crops, and what their source tells of them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from instar.shards import writing
from instar.splits import encounter_of, id_hash
from instar.tables import CROPS, INDIVIDUALS, write_table


def photograph(
    n: int, identity: str | None, date: str | None = None, *, part: str = "database", **more: Any
) -> dict[str, Any]:
    """What the source tells of photograph ``n``; ``date`` as 2020-05-31. ``shade``, ``licence`` and ``boxes`` are the
    crop's.
    """
    when = None if date is None else datetime.fromisoformat(date).replace(tzinfo=UTC)
    key = f"individuals-{n}"
    found: dict[str, Any] = {"photo_key": key, "image_id": str(n), "identity": identity, "part": part}
    found |= {"dataset": "turtles", "species": "turtle", "orientation": None, "date": when, "row": n}
    return found | {
        "encounter": encounter_of(identity, when, key),
        "submission_row": None,
        "submission_rows": None,
        **more,
    }


def write_study(folder: Path, photographs: list[dict[str, Any]]) -> None:
    """``individuals.parquet``, and ``crops/a.*`` with a crop for each of the boxes' scores (one, 1.0) of each."""
    own = [{name: row[name] for name in INDIVIDUALS.names} for row in photographs]
    write_table(folder / "individuals.parquet", own, INDIVIDUALS)
    rows = []
    with writing(folder / "crops/a.tar") as tar:
        for row in photographs:
            for n, score in enumerate(row.get("boxes", (1.0,))):
                picture = row.get("picture", np.full((24, 24, 3), id_hash(row["photo_key"]) % 200, np.uint8))
                data = row.get("data") or cv2.imencode(".jpg", picture)[1].tobytes()
                rows.append(_crop(row, n, score, tar.add(f"{row['photo_key']}-{n}.jpg", data)))
    write_table(folder / "crops/a.parquet", rows, CROPS)


def _crop(row: dict[str, Any], n: int, score: float, member: Any) -> dict[str, Any]:
    side = float(row.get("side", 24))
    key = f"{row['photo_key']}-{n}"
    about = {"source": "individuals", "photo_id": row["image_id"], "observation_id": row["encounter"]}
    about |= {"basis": "field", "licence": row.get("licence", "cc-by"), "shard": "a", "photo_key": row["photo_key"]}
    box = {"x_min": 0.0, "y_min": 0.0, "x_max": side, "y_max": side, "box_width": side, "box_height": side}
    stored = {"offset": member.offset, "size": member.size, "sha256": member.sha256, "width": 24, "height": 24}
    told = {"key": key, "key_hash": id_hash(key), "score": score, "detector": "none", "photo_phash": row.get("phash")}
    told["photo_sha256"] = row.get("sha256") or member.sha256
    return {**about, **box, **stored, **told}
