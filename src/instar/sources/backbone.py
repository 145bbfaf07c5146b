"""`instar source backbone`: GBIF's species match for every name of a study's sources.

https://techdocs.gbif.org/en/openapi/v1/species; the answers are kept, so that a later run asks for new names only.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from requests import Session

from instar.errors import InputError
from instar.files import replacing
from instar.progress import progress
from instar.records import folder, gbif, gbif_search, inaturalist, inaturalist_api
from instar.records.names import FILE, Names, entries
from instar.sources import web

URL = "https://api.gbif.org/v1"
#: GBIF's key of the backbone among its data sets.
DATASET = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"
#: Answers between two times that the file is written.
BATCH = 200


def backbone(
    source: Path,
    *,
    taxon: str,
    kind: str,
    refresh: bool = False,
    connections: int = 4,
    per_second: float = 10.0,
    url: str = URL,
) -> int:
    """Ask GBIF's backbone for the accepted taxon of every name in a study's sources.

    The answers lie in the source folder's ``backbone.jsonl``, one a line and sorted by name, with the day and, where
    GBIF tells it, the backbone's version. Names that have an answer there are not asked for again.

    Args:
        source: the study's source folder, as the stage records reads it.
        taxon: name of the taxon whose descendants are taken; empty for all.
        kind: tables or folder.
        refresh: ask for all names again.
        connections: questions at the same time.
        per_second: questions that are started.
        url: of the API.

    Raises:
        InputError: if a source is damaged or GBIF gives no answer; the answers so far are kept.
    """
    path = source / FILE
    known = {} if refresh else {one["name"]: one for one in entries(path)}
    asked = queries(source, taxon=taxon, kind=kind)
    if not asked and not known:
        raise InputError(
            f"{source}: holds no name to ask for; put the study's tables, archives or photographs there first"
        )
    wanted = sorted(asked - known.keys())
    client, pace = web.session(), web.Pace(per_second)
    hints = _hints(client, taxon, url) if wanted else {}
    stamp = {"date": datetime.now(UTC).date().isoformat(), "version": _version(client, url) if wanted else None}
    ask = partial(_answer, pace=pace, hints=hints, url=url)
    with ThreadPoolExecutor(connections) as pool:
        for start in progress(range(0, len(wanted), BATCH), f"times {BATCH} names"):
            names = wanted[start : start + BATCH]
            try:
                for name, answer in zip(names, pool.map(ask, names), strict=True):
                    known[name] = {"name": name, **hints, **stamp, "answer": answer}
            finally:
                _write(path, known)
    return 0


def queries(source: Path, *, taxon: str, kind: str) -> set[str]:
    """What is to be asked for the names in a study's sources."""
    names = Names()
    for read in _readers(source, taxon=taxon, kind=kind):
        read(names=names)
    return names.queries


def _readers(source: Path, *, taxon: str, kind: str) -> Iterator[Any]:
    if kind == "folder":
        yield partial(folder.names_in, source)
        return
    for module in (inaturalist, inaturalist_api, gbif_search):
        if (source / module.FOLDER).is_dir():
            yield partial(module.names_in, source / module.FOLDER, taxon=taxon)
    for path in gbif.archives(source):
        yield partial(gbif.names_in, path, taxon=taxon)


def _answer(name: str, *, pace: web.Pace, hints: dict[str, str], url: str) -> Any:
    pace.wait()
    with web.session() as client:
        return web.ask(client, f"{url}/species/match", read=_match, params={"name": name, **hints})


def _match(response: Any) -> dict[str, Any]:
    answer = web.as_json(response)
    if "matchType" not in answer:
        raise ValueError("no matchType in it")
    return answer


def _hints(client: Session, taxon: str, url: str) -> dict[str, str]:
    """The taxon's kingdom, so that of a beetle's and a moss's name the beetle's is matched."""
    if not taxon:
        return {}
    answer = web.ask(client, f"{url}/species/match", read=_match, params={"name": taxon})
    return {"kingdom": answer["kingdom"]} if answer.get("kingdom") else {}


def _version(client: Session, url: str) -> str | None:
    missing: dict[str, Any] = {}
    about = web.ask(client, f"{url}/dataset/{DATASET}", read=web.as_json, missing=missing)
    return about.get("version") or about.get("pubDate")


def _write(path: Path, known: dict[str, dict[str, Any]]) -> None:
    if known:
        with replacing(path) as temporary:
            lines = (json.dumps(known[name], ensure_ascii=False, sort_keys=True) for name in sorted(known))
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
