"""The page that shows pairs side by side, and turns answers into decisions."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from instar.pages import script_json, template
from instar.report.pictures import Picture, thumbnails


def page(
    pairs: pd.DataFrame,
    crops: pd.DataFrame,
    sides: Mapping[str, str | None],
    individuals: Mapping[str, Sequence[tuple[str, str]]],
    folder: Path,
    *,
    longest_px: int,
) -> str:
    """One HTML file that needs no network.

    Args:
        pairs: of ``reid.pairs.informative_pairs``, with ``key`` and ``other_key``.
        crops: by key, see ``candidates.read_crops``; all must be showable.
        sides: orientation of a crop's photograph, by key.
        individuals: key and sha256 of all crops of each individual that may be another one, too, see ``doubtful``.
        folder: of the tars of the crops.
        longest_px: longer side of a photograph.
    """
    keys = sorted({*pairs["key"], *pairs["other_key"]})
    rows = crops.loc[keys]
    pictures = thumbnails(rows, folder, {}, longest_px)
    shown = {row.key: _shown(row, picture, sides) for row, picture in zip(rows.itertuples(), pictures, strict=True)}
    listed = [_told(row) for row in pairs.itertuples()]
    # answers that a browser keeps are those of this list
    name = sha256(json.dumps([[one["left"], one["right"]] for one in listed]).encode()).hexdigest()[:16]
    data = {"name": name, "pairs": listed, "photographs": shown, "individuals": individuals}
    page_of = template(Path(__file__).with_name("pairs.html.jinja"))
    return page_of.render(data=script_json(data), count=len(listed))


def doubtful(pairs: pd.DataFrame) -> set[str]:
    """Names of known individuals that are compared with other known ones."""
    both = pairs[pairs["identity"].notna() & (pairs["identity"] != pairs["other_identity"])]
    return {*both["identity"], *both["other_identity"]}


def _shown(row: Any, picture: Picture, sides: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "uri": picture.uri,
        "sha256": row.sha256,
        "date": "" if pd.isna(row.observed_at) else f"{row.observed_at:%Y-%m-%d}",
        "orientation": sides.get(row.key) or "",
        "credit": picture.credit,
    }


def _told(row: Any) -> dict[str, Any]:
    return {
        "left": row.key,
        "right": row.other_key,
        "identity": row.identity if isinstance(row.identity, str) else None,
        "other": row.other_identity,
        "dataset": row.dataset,
        "probability": round(float(row.probability), 4),
        "would": row.would,
    }
