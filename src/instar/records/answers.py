"""Saved answers of a web service: JSON files in a folder, each a page of results or one result."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instar.errors import InputError


def pages(folder: Path, malformed: Counter[str] | None = None) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """The results of each file below a folder, in the order of the files' paths.

    Args:
        folder: holds the answers.
        malformed: gets, under the folder's name and "results", how many of them are no mappings.

    Raises:
        InputError: if a file is no JSON, or holds neither results nor one result; if none of its results is a mapping.
    """
    for path in sorted(path for path in folder.rglob("*.json") if path.is_file()):
        try:
            answer = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            message = " ".join(str(error).split())
            raise InputError(f"{path}: not JSON ({message}); delete it and run its instar source again") from None
        results = answer.get("results", [answer]) if isinstance(answer, dict) else answer
        readable = mappings(results)
        is_error = results == [answer] and not {"id", "key", "uuid", "gbifID"} & set(answer)
        if not isinstance(results, list) or (results and not readable) or is_error:
            raise InputError(f"{path}: holds no list of results; delete it and run its instar source again")
        if malformed is not None and len(readable) < len(results):
            malformed[f"{folder.name} results"] += len(results) - len(readable)
        yield path, readable


def text(value: Any) -> str | None:
    """A scalar as a text, and None for null, an empty text, a list or a mapping."""
    if isinstance(value, bool) or value is None or isinstance(value, (list, dict)):
        return None
    return str(value).strip() or None


def mappings(value: Any) -> list[dict[str, Any]]:
    """The mappings of what should be a list of them."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, empty where there is none."""
    return value if isinstance(value, dict) else {}
