"""The page that shows pairs side by side, and turns answers into decisions."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    keys = sorted({*pairs["key"], *pairs["other_key"]})
    rows = crops.loc[keys]
    pictures = thumbnails(rows, folder, {}, longest_px)
    shown = {row.key: _shown(row, picture, sides) for row, picture in zip(rows.itertuples(), pictures, strict=True)}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    listed = [_told(row) for row in pairs.itertuples()]
    # answers that a browser keeps are those of this list
    name = sha256(json.dumps([[one["left"], one["right"]] for one in listed]).encode()).hexdigest()[:16]
    data = {"name": name, "pairs": listed, "photographs": shown, "individuals": individuals}
    return environment.get_template("pairs.html.jinja").render(data=_json(data), count=len(listed))


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
        "credit": f"{picture.holder}, {picture.licence}",
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


def _json(data: Any) -> str:
    """JSON that no text in it can end the script element with."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
